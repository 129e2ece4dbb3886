//! What a worker tells the primary: how far it has come, and why it ended.

use std::fmt;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use wasmhost_config::AppId;
use wasmhost_sandbox::StackCounts;

use crate::fault_report::SentReport;
use crate::instance_fault::InstanceFault;
use crate::reported::Reported;
use crate::worker_id::WorkerId;

/// What a worker has counted, on its way to the primary.
pub type SentProfile = Reported<StackCounts>;

/// What a worker tells the primary.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The thread runs; its number in the operating system.
    Online(WorkerId, u64),
    /// It takes connections.
    Listening(WorkerId),
    /// It serves an app as it was ordered last, or serves the apps of the latest table.
    Applied(WorkerId, Applied),
    /// A request waits for an app for which it has nothing.
    Wants(WorkerId, AppId),
    /// What it was given for an app is not there any more: the app is to be loaded anew.
    Vanished(WorkerId, AppId),
    /// What it was given for an app cannot be used yet, and is tried again: what it had before goes on.
    Behind(WorkerId, AppId),
    /// It keeps nothing of an app any more, for which no request has come lately.
    Asleep(WorkerId, AppId),
    /// There is no memory for an instance of an app, and no app of this worker can make room: others may.
    LacksMemory(WorkerId, AppId),
    /// An instance of an app was given up; with a report, if one is wanted.
    Fault(WorkerId, AppId, InstanceFault, Option<SentReport>),
    /// This revision of an app faulted again and again, and the worker serves again what it had before.
    FellBack(WorkerId, AppId, u64),
    /// A worker of this group is to be given this end of a connection: requests for apps of the group are forwarded on it.
    Forward(WorkerId, String, UnixStream),
    /// It takes no more connections.
    Disconnect(WorkerId),
    /// The thread, or the process, has ended.
    Exited(WorkerId, Exit),
    /// It has ended its part in the profile of this number; with what it has counted, if that could be handed over.
    Profiled(WorkerId, u64, Option<SentProfile>),
    /// A connection has ended in a worker's process, which the primary wanted to know.
    Freed,
}

/// Which orders a worker follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// The latest table of apps.
    Table,
    /// The latest supply of an app.
    Supply(AppId),
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
