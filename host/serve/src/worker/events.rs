//! What a worker tells the primary: how far it has come, and why it ended.

use std::fmt;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::worker_id::WorkerId;

/// What a worker tells the primary.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The thread runs; its number in the operating system.
    Online(WorkerId, u64),
    /// It takes connections.
    Listening(WorkerId),
    /// It serves with the code that it was told of last.
    Swapped(WorkerId),
    /// It takes no more connections.
    Disconnect(WorkerId),
    /// The thread, or the process, has ended.
    Exited(WorkerId, Exit),
    /// A connection has ended in a worker's process, which the primary wanted to know.
    Freed,
}

/// Why a worker's thread or process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It was told to.
    Voluntary,
    /// Its event loop or its first instance could not be made, or it could not go over to a component that was loaded.
    NotStarted(String),
    /// A bug of the host.
    Panic(String),
    /// The process ended, and has not said why: by a signal, for example.
    Killed(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Voluntary => f.write_str("told to stop"),
            Self::NotStarted(reason) | Self::Killed(reason) => f.write_str(reason),
            Self::Panic(text) => write!(f, "panic: {text}"),
        }
    }
}

/// Where a worker tells of itself: to the primary of this process, or of another. The primary outlives its workers; without
/// it there is nobody to tell.
pub trait Events {
    /// Tells.
    fn tell(&self, event: WorkerEvent) -> impl Future<Output = ()>;
}

impl Events for mpsc::Sender<WorkerEvent> {
    async fn tell(&self, event: WorkerEvent) {
        let _ = self.send(event).await;
    }
}
