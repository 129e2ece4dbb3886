//! Errors of building, each with a hint.

use std::path::PathBuf;

use wasmhost_sandbox::LoadError;

/// Why a project was not built.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder holds no project of a known language.
    #[error("found no project in `{}`: {found}", folder.display())]
    NoProject {
        /// The folder that was looked into.
        folder: PathBuf,
        /// What was looked for, or what of it could not be understood.
        found: String,
    },
    /// A program or a part of it is not on this machine.
    #[error("{tool} is missing")]
    Missing {
        /// What is missing. If a part of it is installed, also what is wrong with that (`Go from 1.24 on (this is 1.21)`).
        tool: String,
        /// The one command that installs it.
        install: String,
    },
    /// The toolchain failed.
    #[error("`{command}` failed with exit code {code}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit code; if a signal ended it, 128 plus the signal's number, as in shells.
        code: u8,
        /// The end of its output; empty if the output was shown while it ran.
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
        /// The error message of the encoder.
        reason: String,
    },
    /// The native part of JavaScript could not be added to the component.
    #[error("cannot put the part for crypto.subtle into the component: {0}")]
    NoPart(String),
    /// The toolchain succeeded, but the file that it should have written does not exist.
    #[error("`{command}` succeeded, but did not write {}", expected.display())]
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
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
}

impl Error {
    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NoProject { .. } => {
                "name the project's folder (`wasmhost build DIR`), or start a project with `wasmhost new NAME`".to_owned()
            }
            Self::Missing { install, .. } => install.clone(),
            Self::Failed { .. } => "its output is above".to_owned(),
            Self::Unservable(error) => error.hint.clone(),
            Self::NoComponent { .. } => {
                "it must export `wasi:http/incoming-handler@0.2.x#handle` and import only WASI; `wasmhost new` writes an example"
                    .to_owned()
            }
            Self::NoPart(_) => "`npm install --save-dev --save-exact @bytecodealliance/componentize-js@0.23.0`".to_owned(),
            Self::NothingMade { .. } => "`wasmhost new` writes an example of a project that builds".to_owned(),
            Self::Io { .. } => "check the path, its permissions and the disk".to_owned(),
        }
    }

    /// The toolchain's output if it was kept; empty otherwise.
    pub fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            _ => "",
        }
    }

    /// The exit code of this program: the toolchain's own if it failed, else 1.
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
