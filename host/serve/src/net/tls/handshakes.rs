//! Bounds on handshakes. Their arithmetic takes a millisecond of a worker's only thread, and nobody has proven anything
//! before: at most one of them computes in a turn of the worker's loop, so that requests under way go on between two, and
//! only so many wait.

use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::sync::Semaphore;

use super::super::socket::ClientSocket;
use super::session::Session;

/// Handshakes of a worker at once; who comes then is sent away. Each waits for its client within `--header-timeout`.
const HANDSHAKES_MAX: usize = 1_024;

/// The handshakes of a worker.
pub(crate) struct Handshakes {
    places: Rc<Semaphore>,
    /// One computes.
    turn: Semaphore,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { places: Rc::new(Semaphore::new(HANDSHAKES_MAX)), turn: Semaphore::new(1) }
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
        std::future::poll_fn(|context| socket.poll_read_ready(context)).await.map_err(NoSession::Failed)?;
        let Ok(_place) = self.places.try_acquire() else { return Err(NoSession::Shed) };
        let session = Session::new(config).map_err(|error| NoSession::Failed(io::Error::other(error)))?;
        loop {
            // Without a turn, since nothing is to be computed.
            std::future::poll_fn(|context| session.poll_wait(socket, context)).await.map_err(NoSession::Failed)?;
            let turn = self.turn.acquire().await;
            let over = session.step(socket).map_err(NoSession::Failed)?;
            // The turn ends when the loop has looked at all else.
            tokio::task::yield_now().await;
            drop(turn);
            if over {
                let mut flushed = pin!(std::future::poll_fn(|context| session.poll_flush(socket, context)));
                flushed.as_mut().await.map_err(NoSession::Failed)?;
                return Ok(session);
            }
        }
    }
}
