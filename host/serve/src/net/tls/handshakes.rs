//! Bounds on handshakes. Their arithmetic takes a millisecond of a worker's only thread, and nobody has proven anything
//! before: at most one of them computes in a turn of the worker's loop, so that requests under way go on between two, and
//! only so many are under way: a client that keeps its handshake waiting gives its place to the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::sync::{Notify, Semaphore};

use super::super::socket::ClientSocket;
use super::session::Session;

/// Handshakes of a worker at once. Each waits for its client within `--header-timeout`.
const HANDSHAKES_MAX: usize = 1_024;
/// How long a handshake may last before it gives its place to a new one, while it waits for its client: an honest client
/// answers within a round trip.
const GIVES_WAY_AFTER: Duration = Duration::from_millis(500);

/// The handshakes of a worker.
pub(crate) struct Handshakes {
    /// Handshakes under way.
    count: Cell<usize>,
    /// The number of the last one.
    last: Cell<u64>,
    /// Those that wait for their clients, the oldest first.
    waiting: RefCell<BTreeMap<u64, WaitingHandshake>>,
    /// One computes.
    turn: Semaphore,
}

/// A handshake that waits for its client.
struct WaitingHandshake {
    began: Instant,
    gives_way: Rc<Notify>,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { count: Cell::new(0), last: Cell::new(0), waiting: RefCell::default(), turn: Semaphore::new(1) }
    }
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum NoSession {
    /// Too many others shake hands.
    Shed,
    /// The client did it wrong, or left.
    Failed(io::Error),
}

impl Handshakes {
    /// Shakes hands with a client. May be dropped at any moment.
    ///
    /// # Errors
    /// See [`NoSession`].
    pub(crate) async fn shake(&self, socket: &ClientSocket, config: Arc<ServerConfig>) -> Result<Session, NoSession> {
        // Who says nothing takes nobody's place.
        poll_fn(|context| socket.poll_read_ready(context)).await.map_err(NoSession::Failed)?;
        let Some(place) = self.place() else { return Err(NoSession::Shed) };
        let session = Session::new(config).map_err(|error| NoSession::Failed(io::Error::other(error)))?;
        loop {
            // Without a turn, since nothing is to be computed.
            place.wait(poll_fn(|context| session.poll_wait(socket, context))).await?;
            let turn = self.turn.acquire().await;
            let over = session.step(socket).map_err(NoSession::Failed)?;
            // The turn ends when the loop has looked at all else.
            tokio::task::yield_now().await;
            drop(turn);
            if over {
                place.wait(poll_fn(|context| session.poll_flush(socket, context))).await?;
                return Ok(session);
            }
        }
    }

    /// A place; none: all are taken, and none of them by a client that keeps its handshake waiting.
    fn place(&self) -> Option<HandshakePlace<'_>> {
        if self.count.get() >= HANDSHAKES_MAX {
            let mut waiting = self.waiting.borrow_mut();
            let oldest = waiting.first_entry().filter(|oldest| oldest.get().began.elapsed() >= GIVES_WAY_AFTER)?;
            oldest.remove().gives_way.notify_one();
        }
        self.count.set(self.count.get() + 1);
        let number = self.last.get() + 1;
        self.last.set(number);
        Some(HandshakePlace { of: self, number, began: Instant::now(), gives_way: Rc::default() })
    }
}

/// The place of a handshake, until it is dropped.
struct HandshakePlace<'a> {
    of: &'a Handshakes,
    number: u64,
    began: Instant,
    gives_way: Rc<Notify>,
}

impl HandshakePlace<'_> {
    /// Waits for the client, unless the place is needed for another one.
    async fn wait(&self, client: impl Future<Output = io::Result<()>>) -> Result<(), NoSession> {
        let waiting = WaitingHandshake { began: self.began, gives_way: Rc::clone(&self.gives_way) };
        self.of.waiting.borrow_mut().insert(self.number, waiting);
        tokio::select! {
            biased;
            () = self.gives_way.notified() => return Err(NoSession::Shed),
            outcome = client => outcome.map_err(NoSession::Failed)?,
        }
        self.of.waiting.borrow_mut().remove(&self.number);
        Ok(())
    }
}

impl Drop for HandshakePlace<'_> {
    fn drop(&mut self) {
        self.of.waiting.borrow_mut().remove(&self.number);
        self.of.count.set(self.of.count.get().saturating_sub(1));
    }
}
