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

use wasmhost_config::RequestKey;
use wasmhost_serve::first_request::FirstRequest;
use wasmhost_serve::worker::inbox::{self, Connection};

/// A connection on its way to a worker, and whose it is.
pub(super) struct Incoming {
    pub(super) connection: Connection,
    /// A number for the value in its first request; none: it goes by its address.
    pub(super) value: Option<u64>,
}

impl From<Connection> for Incoming {
    fn from(connection: Connection) -> Self {
        Self { connection, value: None }
    }
}

/// Those that wait. No more than the host may have connections, since each has its permit.
pub(super) struct FirstRequests {
    /// What is looked for; none: no connection waits.
    key: Option<Arc<RequestKey>>,
    within: Duration,
    waiting: FuturesUnordered<Pin<Box<dyn Future<Output = Option<Incoming>>>>>,
    /// Whether they wait no longer.
    is_over: watch::Sender<bool>,
    /// Of this run of the host: no client can tell which values are of one worker.
    numbers: RandomState,
}

impl FirstRequests {
    /// `key`: what is looked for, if anything; `within`: how long one waits.
    pub(super) fn new(key: Option<RequestKey>, within: Duration) -> Self {
        Self {
            key: key.map(Arc::new),
            within,
            waiting: FuturesUnordered::new(),
            is_over: watch::Sender::new(false),
            numbers: RandomState::new(),
        }
    }

    /// A connection that was accepted: back, if it need not wait.
    pub(super) fn admit(&self, connection: Connection) -> Option<Incoming> {
        let Some(key) = self.key.clone().filter(|_| !*self.is_over.borrow()) else { return Some(connection.into()) };
        let (within, is_over, numbers) = (self.within, self.is_over.subscribe(), self.numbers.clone());
        self.waiting.push(Box::pin(looked_at(connection, key, within, is_over, numbers)));
        None
    }

    /// The next whose first request has come, or that has waited long enough; never ready when none waits. May be dropped at any
    /// moment.
    pub(super) async fn next(&mut self) -> Incoming {
        loop {
            match self.waiting.next().await {
                Some(Some(incoming)) => return incoming,
                // It is gone.
                Some(None) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// One that waits, before the host stops: as it is. Those that come from now on do not wait.
    pub(super) fn next_of_rest(&mut self) -> Option<Incoming> {
        self.is_over.send_replace(true);
        while let Some(ended) = self.waiting.next().now_or_never() {
            match ended {
                Some(Some(incoming)) => return Some(incoming),
                Some(None) => {}
                None => return None,
            }
        }
        None
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
    mut is_over: watch::Receiver<bool>,
    numbers: RandomState,
) -> Option<Incoming> {
    let Connection { socket, peer, listener, permit } = connection;
    let socket = FirstRequest::new(socket).map_err(lost).ok()?;
    let value = tokio::select! {
        biased;
        _ = is_over.wait_for(|is_over| *is_over) => None,
        value = tokio::time::timeout(within, socket.value(&key)) => value.ok().flatten(),
    };
    let socket = socket.into_accepted().map_err(lost).ok()?;
    let value = value.map(|value| numbers.hash_one(value));
    Some(Incoming { connection: inbox::Connection { socket, peer, listener, permit }, value })
}

fn lost(error: std::io::Error) {
    tracing::warn!(%error, "a connection is closed: the primary could not look at its first request");
}
