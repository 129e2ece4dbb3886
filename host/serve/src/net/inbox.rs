//! How a connection reaches a worker: the listener puts it in, the worker's thread takes it out.

use tokio::sync::mpsc;

use super::listeners::ListenerId;
use super::peer::Peer;

pub use super::accepted::Accepted;
pub use super::admission::{Admission, PerClient, Permit};

/// Connections that may wait in a worker's inbox. Above a burst's size; a worker that does not take this many out is
/// passed over until it does.
pub const INBOX_MAX: usize = 1_024;

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: Accepted,
    /// The client.
    pub peer: Peer,
    /// The address that it came to; none: another worker's.
    pub listener: Option<ListenerId>,
    /// Its share of the host's capacity.
    pub permit: Permit,
}

/// The listener's end.
pub type Sender = mpsc::Sender<Connection>;
/// The worker's end.
pub type Receiver = mpsc::Receiver<Connection>;

/// A new inbox.
pub fn inbox() -> (Sender, Receiver) {
    mpsc::channel(INBOX_MAX)
}
