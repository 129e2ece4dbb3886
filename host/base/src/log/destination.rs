//! Where the log goes, for commands that show it.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, fstat, major, minor};
use serde::Serialize;

/// What standard error is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "to", rename_all = "kebab-case")]
pub enum LogDestination {
    /// A terminal.
    Terminal,
    /// A file: its path when the host started.
    File {
        /// The path.
        #[serde(serialize_with = "shown")]
        path: PathBuf,
    },
    /// The journal of systemd; `invocation`: by which it knows this run of the unit.
    Journal {
        /// `INVOCATION_ID` (systemd.exec(5)).
        invocation: Option<String>,
    },
    /// A pipe or a socket: somebody reads it, such as a container's runtime.
    Stream,
    /// `/dev/null`, or closed.
    Nowhere,
}

/// A path for people, of whatever bytes it is.
fn shown<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

impl LogDestination {
    /// What standard error of this process is. It is to be asked before the process confines itself.
    pub fn of_stderr() -> Self {
        let stderr = io::stderr();
        if stderr.is_terminal() {
            return Self::Terminal;
        }
        let Ok(found) = fstat(stderr.as_fd()) else { return Self::Nowhere };
        let variable = |name: &str| std::env::var(name).ok();
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => {
                std::fs::read_link("/proc/self/fd/2").map_or(Self::Stream, |path| Self::File { path })
            }
            FileType::CharacterDevice if (major(found.st_rdev), minor(found.st_rdev)) == (1, 3) => Self::Nowhere,
            // systemd.exec(5), "$JOURNAL_STREAM".
            FileType::Socket if variable("JOURNAL_STREAM") == Some(format!("{}:{}", found.st_dev, found.st_ino)) => {
                Self::Journal { invocation: variable("INVOCATION_ID") }
            }
            _ => Self::Stream,
        }
    }
}
