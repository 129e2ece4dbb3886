//! Why nothing was built, each with a way out.

use std::path::PathBuf;

use crate::sandbox::LoadError;

/// Why a project was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds no project of a known language.
    #[error("no project is in `{}`: {found}", folder.display())]
    NoProject {
        /// The folder that was looked into.
        folder: PathBuf,
        /// What was looked for, or what of it could not be understood.
        found: String,
    },
    /// A program or a part of it is not on this machine.
    #[error("{tool} is missing")]
    Missing {
        /// What is missing, with the reason if it is there in part (`Go from 1.24 on (this is 1.21)`).
        tool: String,
        /// The one command that installs it.
        install: String,
    },
    /// The toolchain said no, in its own words.
    #[error("`{command}` failed with exit code {code}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code; 128 and the signal's number when a signal ended it, as shells count.
        code: u8,
        /// The end of what it said; empty where that was shown as it came.
        output: String,
    },
    /// The toolchain made something that cannot be served.
    #[error(transparent)]
    Unservable(#[from] LoadError),
    /// A core module that cannot become a component.
    #[error("`{}` cannot become a component: {reason}", module.display())]
    NoComponent {
        /// The core module.
        module: PathBuf,
        /// What the encoder said.
        reason: String,
    },
    /// The toolchain ended well, but what it should have made is not there.
    #[error("`{command}` made no {}", expected.display())]
    NothingMade {
        /// The command line.
        command: String,
        /// The file that was expected.
        expected: PathBuf,
    },
    /// Reading, writing or starting failed.
    #[error("cannot {action} `{}`: {error}", file.display())]
    Io {
        /// `read`, `write`, `run`.
        action: &'static str,
        /// What was to be read, written or run.
        file: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl Error {
    /// A way out.
    pub fn hint(&self) -> String {
        match self {
            Self::NoProject { .. } => {
                "name the project's folder (`wasmhost build DIR`), or begin one with `wasmhost new NAME`".to_owned()
            }
            Self::Missing { install, .. } => install.clone(),
            Self::Failed { .. } => "what it said is above".to_owned(),
            Self::Unservable(error) => error.hint.clone(),
            Self::NoComponent { .. } => {
                "it must export `wasi:http/incoming-handler@0.2.x#handle` and import nothing but wasi; see the template of its language"
                    .to_owned()
            }
            Self::NothingMade { .. } => "the template of the language shows what makes it (`wasmhost new`)".to_owned(),
            Self::Io { .. } => "check the path, its permissions and the disk".to_owned(),
        }
    }

    /// What the toolchain said, where that was kept; empty otherwise.
    pub fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            _ => "",
        }
    }

    /// The exit code to end with: the toolchain's own where it failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Failed { code, .. } => (*code).max(1),
            _ => 1,
        }
    }

    pub(crate) fn io(action: &'static str, file: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let file = file.into();
        move |error| Self::Io { action, file, error }
    }
}
