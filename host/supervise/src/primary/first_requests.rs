//! Connections whose worker depends on their first request (`--balance-by header:NAME` and `cookie:NAME`): they wait in the primary
//! until its head has come, no longer than a head may take.

use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::watch;
use tokio::task::unconstrained;

use wasmhost_config::RequestKey;
use wasmhost_serve::first_request::FirstRequest;
use wasmhost_serve::worker::ListenerId;
use wasmhost_serve::worker::inbox::{self, Connection};

/// Most that wait at once; further ones go by their address.
const WAITING_MAX: usize = 1_024;

/// A connection on its way to a worker, and whose it is.
pub(super) struct Arrived {
    pub(super) connection: Connection,
    /// A number for the value in its first request; none: it goes by its address.
    pub(super) value: Option<u64>,
}

impl From<Connection> for Arrived {
    fn from(connection: Connection) -> Self {
        Self { connection, value: None }
    }
}

/// Those that wait.
pub(super) struct FirstRequests {
    /// What is looked for; none: no connection waits.
    key: Option<Arc<RequestKey>>,
    within: Duration,
    /// How many may wait.
    most: usize,
    /// Listeners whose clients begin with a head that can be read: without TLS, and without a balancer that names the client first.
    readable: Vec<ListenerId>,
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Option<Arrived>>>>>,
    /// Changes when those that wait are to wait no longer.
    released: watch::Sender<()>,
    /// Of this run of the host: no client can tell which values are of one worker.
    numbers: RandomState,
}

impl FirstRequests {
    /// `key`: what is looked for, if anything; `within`: how long one waits. `connections_a_worker`: as many as the
    /// descriptors of a process allow, of which this one may have less than half open for this.
    pub(super) fn new(key: Option<RequestKey>, within: Duration, connections_a_worker: usize) -> Self {
        Self {
            key: key.map(Arc::new),
            within,
            most: WAITING_MAX.min(connections_a_worker / 2),
            readable: Vec::new(),
            waiting: FuturesUnordered::new(),
            released: watch::Sender::new(()),
            numbers: RandomState::new(),
        }
    }

    /// These are the listeners whose clients begin with a head that can be read. What waits goes on to a worker as it is: workers know a
    /// listener that is given up for a while only.
    pub(super) fn follow_listeners(&mut self, readable: Vec<ListenerId>) {
        self.readable = readable;
        self.released.send_replace(());
    }

    /// A connection that was accepted: back, if it does not wait.
    pub(super) fn admit(&self, connection: Connection) -> Option<Arrived> {
        let is_readable = connection.listener.is_some_and(|listener| self.readable.contains(&listener));
        let may_wait = is_readable && self.waiting.len() < self.most;
        let Some(key) = self.key.clone().filter(|_| may_wait) else { return Some(connection.into()) };
        let (within, released, numbers) = (self.within, self.released.subscribe(), self.numbers.clone());
        // Each is looked at when something has come for it: they share no budget of a turn with those that accept.
        let looked_at = unconstrained(looked_at(connection, key, within, released, numbers));
        self.waiting.push(Box::pin(looked_at));
        None
    }

    /// The next whose first request has come, or that has waited long enough; never ready when none waits. May be dropped at any
    /// moment.
    pub(super) async fn next(&mut self) -> Arrived {
        loop {
            match self.waiting.next().await {
                Some(Some(incoming)) => return incoming,
                // It is gone.
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// One that waits, before the host stops: as it is.
    pub(super) fn next_of_rest(&mut self) -> Option<Arrived> {
        self.released.send_replace(());
        while let Some(ended) = self.waiting.next().now_or_never() {
            match ended {
                Some(Some(incoming)) => return Some(incoming),
                Some(None) => {}
                None => return None,
            }
        }
        None
    }

    /// Closes those that wait.
    pub(super) fn close(&mut self) {
        self.waiting.clear();
    }

    /// Whether any waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// Waits for the first request. None: the connection is gone.
async fn looked_at(
    connection: Connection,
    key: Arc<RequestKey>,
    within: Duration,
    mut released: watch::Receiver<()>,
    numbers: RandomState,
) -> Option<Arrived> {
    let Connection { socket, peer, listener, permit } = connection;
    let socket = FirstRequest::new(socket).map_err(lost).ok()?;
    let value = tokio::select! {
        biased;
        _ = released.changed() => None,
        value = tokio::time::timeout(within, socket.value(&key)) => value.ok().flatten(),
    };
    let socket = socket.into_accepted().map_err(lost).ok()?;
    let value = value.map(|value| numbers.hash_one(value));
    Some(Arrived { connection: inbox::Connection { socket, peer, listener, permit }, value })
}

fn lost(error: std::io::Error) {
    tracing::warn!(%error, "a connection is closed: the primary could not look at its first request");
}
