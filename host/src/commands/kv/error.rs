//! Why a command could not do with stores what it was told, and what can be done about it.

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;

use wasmhost_config::Mistake;
use wasmhost_storage::{FILE_NAME, StoreError};

use super::super::output::Unwritten;
use super::super::plain::plain;

/// Names of stores that a hint shows at most.
const NAMES_SHOWN_MAX: usize = 10;

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KvError {
    /// What was typed is wrong.
    #[error("{0}")]
    Usage(String),
    /// The file of settings is wrong.
    #[error("the file of settings has mistakes")]
    File(Vec<Mistake>),
    /// There is no file of stores.
    #[error("there are no stores in {}: {FILE_NAME} is not there", dir.display())]
    NoStores {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A host has the file, and cannot be asked.
    #[error("a host has the stores in {}, and does not answer at its socket: {error}", dir.display())]
    NoAnswer {
        /// Where.
        dir: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file cannot be opened.
    #[error("{reason}")]
    Open {
        /// Why.
        reason: String,
        /// A way out.
        hint: String,
    },
    /// The store refused it.
    #[error("{store}: {error}{}", already(*done))]
    Store {
        /// Which one.
        store: String,
        /// What it said.
        error: StoreError,
        /// Keys that the command had changed before.
        done: u64,
    },
    /// The file has no such store.
    #[error("there is no store {store:?} in {}", dir.display())]
    NoStore {
        /// Where.
        dir: PathBuf,
        /// Which one.
        store: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// There is no such key.
    #[error("there is no key {key:?} in the store `{store}`")]
    NoKey {
        /// Which store.
        store: String,
        /// Which key.
        key: String,
    },
    /// A file, or standard input or output, cannot be used.
    #[error("{what}: {error}")]
    Stream {
        /// Which one.
        what: String,
        /// What the system says.
        error: io::Error,
    },
    /// A line of an export is none.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl KvError {
    /// The same, of a command that had changed so many keys before.
    pub(super) fn after(mut self, keys: u64) -> Self {
        if let Self::Store { done, .. } = &mut self {
            *done = keys;
        }
        self
    }

    /// A way out.
    pub(crate) fn hint(&self) -> Cow<'_, str> {
        match self {
            Self::NoStore { known, .. } if known.is_empty() => {
                "it has none yet: a host makes a store when it starts with an app that is granted it".into()
            }
            Self::NoStore { known, .. } => {
                let mut names =
                    known.iter().take(NAMES_SHOWN_MAX).map(|name| plain(name)).collect::<Vec<_>>().join(", ");
                if known.len() > NAMES_SHOWN_MAX {
                    names += ", …";
                }
                format!("it has {names}; a host makes a new one when it starts with an app that is granted it").into()
            }
            other => other.plain_hint().into(),
        }
    }

    fn plain_hint(&self) -> &str {
        match self {
            Self::Usage(_) | Self::File(_) => "`wasmhost kv --help` says how stores are named and where they are",
            Self::NoStores { .. } => {
                "name the `data-dir` of the host (`--data-dir DIR`); the file is made when a host starts whose apps have stores"
            }
            Self::NoAnswer { .. } => {
                "run this as the user that the host runs as; if it has only begun to start, try again"
            }
            Self::Open { hint, .. } => hint,
            Self::Store { error: StoreError::NoSuchStore { .. }, .. } => {
                "the host that runs has the stores that its apps are granted: APP/NAME, or the NAME of a `[[store]]`; `/status` lists them"
            }
            Self::Store { error: StoreError::Unknown, .. } => "look whether it was done before you do it again",
            Self::Store { error: StoreError::KeysFull { .. } | StoreError::BytesFull { .. }, .. } => {
                "delete keys, or raise the store's quota"
            }
            Self::Store { done: 1.., .. } => "what was changed stays so; mend the cause, and run the command again",
            Self::Store { error: StoreError::Busy | StoreError::Unavailable, .. } => "try again; see the host's log",
            Self::Store { error: StoreError::Io { .. }, .. } => {
                "see how full its disk is, and what the system's log says"
            }
            Self::Store { .. } => "nothing was changed",
            // It names what there is.
            Self::NoStore { .. } => "",
            Self::NoKey { .. } => "`wasmhost kv list` prints the keys",
            Self::Stream { .. } => "check the path, its permissions and the disk",
            Self::Line { .. } => {
                "lines before it were imported; correct it and import all again, which changes nothing of these"
            }
        }
    }
}

/// What had been done before.
fn already(done: u64) -> String {
    if done == 0 { String::new() } else { format!(" (after {done} keys that were changed)") }
}

impl From<Unwritten> for KvError {
    fn from(Unwritten { file, error }: Unwritten) -> Self {
        Self::Stream { what: file.display().to_string(), error }
    }
}

/// An error of this file or stream.
pub(super) fn stream(what: impl Into<String>) -> impl FnOnce(io::Error) -> KvError {
    move |error| KvError::Stream { what: what.into(), error }
}
