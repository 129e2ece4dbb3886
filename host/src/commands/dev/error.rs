//! Errors of `wasmhost dev`, each with a hint.

use std::path::PathBuf;

use wasmhost_supervise::primary::PrimaryError;
use wasmhost_toolchain::build;

/// Why nothing is developed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    /// There is no project.
    #[error(transparent)]
    Project(#[from] build::Error),
    /// The named file is not there.
    #[error("`{}` is neither a folder nor a component's file", .0.display())]
    Nothing(PathBuf),
    /// The file names more apps than are developed at once.
    #[error("the file has {apps} apps, and `wasmhost dev` develops {max} at most")]
    TooMany {
        /// How many it has.
        apps: usize,
        /// How many it may have.
        max: usize,
    },
    /// The system refused something.
    #[error("cannot {action}: {error}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The host did not start, or gave up.
    #[error(transparent)]
    Primary(#[from] PrimaryError),
}

impl DevError {
    /// A way out.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Project(error) => error.hint().replace("wasmhost build DIR", "wasmhost dev DIR"),
            Self::Nothing(_) => "give the folder of a project, or a component that something else builds".to_owned(),
            Self::TooMany { .. } => {
                "name those that you work on in a file of their own, and give it with `-c`".to_owned()
            }
            Self::System { .. } => "check that the system has disk space, file descriptors and memory left".to_owned(),
            Self::Primary(error) => error.hint().to_owned(),
        }
    }
}
