//! PURE: what the screen hears: keys, signals, what hosts answer; and what it has hosts do.

use std::path::{Path, PathBuf};

use wasmhost_supervise::control::client::FoundHost;

use super::model::TopAnswer;

/// What the screen hears.
pub(super) enum TopNews {
    /// A key was pressed.
    Key(TopKey),
    /// The terminal has another size.
    Resized,
    /// Nobody can press a key any more.
    KeysLost,
    /// A signal came.
    Signal(TopSignal),
    /// Hosts that may run.
    Found(Vec<FoundHost>),
    /// A host has answered.
    Answered(FoundHost, TopAnswer),
    /// A host gave no answer, for this reason. `is_gone`: it is not asked again before it is found again.
    Failed { host: FoundHost, why: String, is_gone: bool },
    /// What was ordered of a host is done, or has failed.
    Done { order: TopOrder, told: String },
}

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopKey {
    Letter(char),
    Control(char),
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Tab,
    BackTab,
    Enter,
    Escape,
    Backspace,
}

/// A signal, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopSignal {
    /// To end.
    End,
    /// To stop until the shell goes on with it.
    Suspend,
    /// It goes on after a stop.
    Continue,
}

/// What a host is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TopOrder {
    /// To reload.
    Reload(PathBuf),
    /// To replace this worker, or all.
    Restart(PathBuf, Option<u16>),
    /// To have so many workers, of this group or of those that take connections.
    Scale { socket: PathBuf, group: Option<String>, workers: u16 },
}

impl TopOrder {
    /// Of which host.
    pub(super) fn socket(&self) -> &Path {
        match self {
            Self::Reload(socket) | Self::Restart(socket, _) | Self::Scale { socket, .. } => socket,
        }
    }

    /// What it does, in words.
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::Reload(_) => "reloading",
            Self::Restart(..) => "restarting",
            Self::Scale { .. } => "scaling",
        }
    }
}
