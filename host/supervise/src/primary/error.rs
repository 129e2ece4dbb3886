//! Why the host did not start or gave up, and what its user can do about it.

use wasmhost_confine::Unconfined;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::listener::BindError;
use wasmhost_serve::worker::Exit;
use wasmhost_storage::OpenError;

use crate::supervisor::RestartIntensity;
use crate::upgrade::PredecessorError;
use wasmhost_serve::worker::WorkerId;

/// Why the host did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum PrimaryError {
    /// The component cannot be served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The files of TLS cannot be used.
    #[error("cannot speak TLS: {0}")]
    Tls(String),
    /// What is to be kept cannot be.
    #[error("`data-dir`: {0}")]
    Data(String),
    /// Bundles about faults cannot be left where the settings say.
    #[error("`crash-dir`: {0}")]
    CrashDir(String),
    /// The file of stores cannot be used.
    #[error("{reason}")]
    Stores {
        /// What is wrong with it.
        reason: String,
        /// A way out.
        hint: String,
    },
    /// The system refused something.
    #[error("cannot {action}: {error}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The host that was to be taken over from goes on.
    #[error("{0}")]
    NotTakenOver(#[from] PredecessorError),
    /// This host has let go of its data for a new one, and nobody serves.
    #[error(
        "gave up: the upgrade failed after this host had let go of its data; neither program could be started again"
    )]
    Upgrade,
    /// There are too few file descriptors for the compiled code of all apps.
    #[error(
        "{needed} apps keep their compiled code open (they are `.cwasm` files, or there is no cache), and of the {limit} files that this process may open half is for other things"
    )]
    Descriptors {
        /// Apps that need one.
        needed: u64,
        /// How many files the process may open.
        limit: u64,
    },
    /// The process must be confined and cannot.
    #[error("the host {0}")]
    Confine(#[from] Unconfined),
    /// The spawner is gone, and with it the workers, which are its children.
    #[error("gave up: the spawner process has ended, and all worker processes with it")]
    SpawnerLost,
    /// Workers died more often than the restart budget allows.
    #[error("gave up: worker {worker} died ({reason}) and the restart budget of {intensity} is spent")]
    WorkerLost {
        /// The last that died.
        worker: WorkerId,
        /// Why.
        reason: Exit,
        /// The budget.
        intensity: RestartIntensity,
    },
    /// The primary itself panicked more often than the budget allows.
    #[error("gave up: accepting connections panicked ({panic}) and the restart budget of {intensity} is spent")]
    Panicked {
        /// What it said.
        panic: String,
        /// The budget.
        intensity: RestartIntensity,
    },
}

impl PrimaryError {
    /// A way out, for the user.
    pub fn hint(&self) -> &str {
        match self {
            Self::Load(error) => &error.hint,
            Self::Bind(error) => &error.hint,
            Self::Confine(error) => error.hint(),
            Self::Descriptors { .. } => {
                "raise the limit on file descriptors (ulimit -n, LimitNOFILE=), or serve components with a cache (--cache-dir)"
            }
            Self::NotTakenOver(_) => "see what `wasmhost upgrade` says",
            Self::Upgrade => "see the log lines above; start the host again",
            Self::Tls(_) => "`wasmhost config check` reads the same files and says all that is wrong with them",
            Self::Stores { hint, .. } => hint,
            Self::Data(_) => "name a directory of the host's own with `data-dir` (`--data-dir`)",
            Self::CrashDir(_) => "name a directory of the host's own with `crash-dir` (`--crash-dir`)",
            Self::SpawnerLost => "find out what ended it: the kernel log (dmesg) shows out-of-memory kills and crashes",
            Self::System { .. } => "check that the system has file descriptors, threads and memory left",
            Self::Panicked { .. } | Self::WorkerLost { reason: Exit::Panic(_) | Exit::Voluntary, .. } => {
                "this is a bug in wasmhost: please report it with the log lines above"
            }
            Self::WorkerLost { reason: Exit::NotStarted(_), .. } => {
                "check that the system has file descriptors (ulimit -n), threads and memory left"
            }
            Self::WorkerLost { reason: Exit::Killed(_), .. } => {
                "find out what ended the processes: the kernel log (dmesg) shows out-of-memory kills and crashes"
            }
        }
    }
}

impl From<OpenError> for PrimaryError {
    fn from(error: OpenError) -> Self {
        let text = error.to_string();
        let (reason, hint) =
            text.split_once("; hint: ").unwrap_or((&text, "look at the data directory (`--data-dir`)"));
        Self::Stores { reason: reason.to_owned(), hint: hint.to_owned() }
    }
}

pub(super) fn system(action: &'static str) -> impl Fn(std::io::Error) -> PrimaryError {
    move |error| PrimaryError::System { action, error }
}
