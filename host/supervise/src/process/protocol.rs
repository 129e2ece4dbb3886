//! The messages between the primary and a worker process, on a line of [`wasmhost_base::wire`]. "With" means descriptors that go
//! with the message, by the names of [`wasmhost_base::wire::Descriptor`].

use serde::{Deserialize, Serialize};

use wasmhost_serve::clients::Client;
use wasmhost_serve::worker::{Exit, Peer};

/// Most clients of a message; the longest takes some 45 bytes.
pub(super) const ENDED_MAX: usize = 200;

/// What the primary says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// Load the component and try it, tell of it, and end. With the vitals of this process and of the host.
    Load {
        /// What of its confinement the primary lacks, and has told.
        missing: Vec<String>,
    },
    /// Be a worker. With the code, the vitals of the worker and of the host, and, if it has a share, a listener.
    Start {
        id: u16,
        /// Stands for the authority where a client names none.
        authority: String,
        /// Its part of the connections, with a listener of its own.
        share: Option<Share>,
        /// What of its confinement the primary lacks, and has told.
        missing: Vec<String>,
    },
    /// Serve this client. With its socket.
    Connection(Peer),
    /// Serve with other code from now on. With the code.
    Swap,
    /// Give a sign of life.
    Call,
    /// Finish what is in flight and end.
    Drain,
    /// End at once.
    Stop,
}

/// What a worker, or the loading process, says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    Online {
        thread: u64,
    },
    Listening,
    Swapped,
    Disconnect,
    Exited(Exit),
    /// A connection has ended, which the primary wanted to know.
    Freed,
    /// Connections of these clients have ended, [`ENDED_MAX`] at most.
    Ended(Vec<Client>),
    /// The component was loaded and tried. With its code.
    Loaded {
        wasi: String,
        isolation: String,
    },
    /// It was not.
    Failed {
        reason: String,
        hint: String,
    },
}

/// A worker's part of the connections, where it accepts them itself and does not see the others'.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Share {
    /// At once.
    pub connections: usize,
    /// Of one client.
    pub per_client: Option<usize>,
}
