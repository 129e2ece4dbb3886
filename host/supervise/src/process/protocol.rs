//! The messages between the primary and a worker process, on a line of [`wasmhost_base::wire`]. "With" means descriptors that go
//! with the message, by the names of [`wasmhost_base::wire::Descriptor`].

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmhost_base::log::LogNow;
use wasmhost_base::trace::TracedSpans;
use wasmhost_config::AppId;
use wasmhost_sandbox::StoredCode;
use wasmhost_serve::clients::Client;
use wasmhost_serve::worker::{Applied, Exit, InstanceFault, ListenerId, ListenerRow, Peer, ProfileOrder, RevisionTag};

use crate::loader::Tried;

/// Most clients of a message; the longest takes some 45 bytes.
pub(super) const ENDED_MAX: usize = 200;

/// What the primary says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// Load the only app of the table and try it, tell of it, and end. With the table, the app's open component, and the
    /// scoreboard of this process and of the host.
    Load {
        /// What of its confinement the primary lacks, and has told.
        missing: Vec<String>,
        /// What its log shows.
        log: LogNow,
    },
    /// Be a worker. With the table of apps, the scoreboard of the worker and of the host, its listeners, the code of the
    /// first app where that is not stored, and a line to the stores, where the host has some.
    Start {
        id: u16,
        /// The group whose apps it serves; none: it takes clients' connections.
        group: Option<Arc<str>>,
        /// Stands for the authority where a client names none.
        authority: String,
        /// How connections begin that come to the host's addresses. With what is needed for TLS, where one speaks it.
        listeners: Vec<ListenerRow>,
        /// The addresses of the listeners of its own.
        own_listeners: Vec<ListenerId>,
        /// Its part of the connections, with listeners of its own.
        share: Option<Share>,
        /// What of its confinement the primary lacks, and has told.
        missing: Vec<String>,
        /// What its log shows.
        log: LogNow,
        /// The app that it has from its beginning.
        first: Option<Code>,
    },
    /// Serve this client, which came to this address (none: another worker of this host). `counts`: it is counted with clients'
    /// connections. With its socket.
    Connection { peer: Peer, listener: Option<ListenerId>, counts: bool },
    /// How connections begin from now on that come to the host's addresses. With what is needed for TLS, where one speaks it.
    Listeners(Vec<ListenerRow>),
    /// Show this in the log from now on.
    Log(LogNow),
    /// Serve these apps from now on. With the table.
    Table,
    /// Serve an app with this code from now on. With the code where that is not stored.
    Supply(Code),
    /// There is nothing to serve this app with, for this reason.
    Unavailable { app: AppId, reason: Arc<str> },
    /// Put an app to sleep that nobody uses: this one lacks memory on another worker.
    MakeRoom(AppId),
    /// Whether the clients of the first claims that were not answered may have one more connection.
    Claimed(Vec<bool>),
    /// What to do for a profile of the host.
    Profile(ProfileOrder),
    /// Give a sign of life.
    Call,
    /// Take no more connections, and end when those that there are have ended.
    Leave,
    /// Finish what is in flight and end.
    Drain,
    /// End at once.
    Stop,
}

/// The code of an app.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Code {
    pub(super) app: AppId,
    /// Where it is in the cache; none: it is in a file that comes with the message.
    pub(super) stored: Option<StoredCode>,
    /// The app was tried with it.
    pub(super) is_tried: bool,
    /// Which revision of the app it is.
    pub(super) tag: RevisionTag,
}

/// What a worker, or the loading process, says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    Online {
        thread: u64,
    },
    Listening,
    Applied(Applied),
    Wants(AppId),
    Asleep(AppId),
    /// The code that it was to serve this app with is not there any more.
    Vanished(AppId),
    /// The code that it was to serve this app with cannot be linked yet. What it had before goes on.
    Behind(AppId),
    /// There is no memory for an instance of an app, and no app of this worker can make room.
    LacksMemory(AppId),
    /// This revision of an app faulted again and again, and what the worker had before is served again.
    FellBack(AppId, u64),
    /// An instance of an app was given up. With a report, if one is wanted.
    Fault(AppId, InstanceFault),
    /// A worker of this group is to be given this connection. With its socket.
    Forward(String),
    /// Its part in the profile of this number has ended. With what it has counted, if that could be put into a file.
    Profiled(u64),
    Disconnect,
    /// Spans of a request.
    Spans(TracedSpans),
    Exited(Exit),
    /// A connection has ended, which the primary wanted to know.
    Freed,
    /// Connections of these clients have ended, [`ENDED_MAX`] at most.
    Ended(Vec<Client>),
    /// Connections that it has are these clients', [`ENDED_MAX`] at most. [`ToWorker::Claimed`] answers.
    Claims(Vec<Client>),
    /// The app was loaded and tried. With its code where that is not stored.
    Loaded {
        tried: Tried,
        stored: Option<StoredCode>,
    },
    /// It was not.
    Failed {
        reason: String,
        hint: String,
    },
}

/// A worker's part of the connections, where it accepts them itself and does not see the others'.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Share {
    /// At once.
    pub(super) connections: usize,
    /// Of one client.
    pub(super) per_client: Option<usize>,
}
