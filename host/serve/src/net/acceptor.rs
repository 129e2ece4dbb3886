//! Accepting connections, in the primary or, with `--balance kernel`, in each worker: no more than the limits allow, with a
//! pause when the system is short of something, and a line in the log for both.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use wasmhost_base::throttle::Throttle;

use super::accepted::Accepted;
use super::admission::Admission;
use super::bind::BACKLOG;
use super::inbox::Connection;
use super::listener::{AcceptPause, Listener, accept_error_name};
use super::listeners::ListenerId;
use super::peer::Peer;
use crate::metrics::Accepting;

/// That connections wait, or are refused, is told of once in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether connections wait, while no more can be taken.
const LOOK_FOR_WAITING_EVERY: Duration = Duration::from_secs(1);

/// Connections that are refused in a row before the loop looks at anything else.
const REFUSALS_A_TURN: usize = 16;

/// A listener, with what bounds it.
pub struct Acceptor {
    listener: Listener,
    id: ListenerId,
    /// Its clients speak TLS: they cannot read a refusal in plain text.
    speaks_tls: bool,
    admission: Arc<Admission>,
    pause: AcceptPause,
    counts: &'static Accepting,
    waiting_told: Throttle,
    refused_told: Throttle,
}

/// The next connection of several acceptors, each within a `T`, which have their permits in common, and the position of the one
/// that it came to. Looks at those before it first; never ready without one. Errors of accepting are told, counted and waited
/// out; none ends the wait. May be dropped at any moment.
pub async fn next_of<T>(all: &mut [T], acceptor: impl Fn(&mut T) -> &mut Acceptor) -> (usize, Connection) {
    let mut refused = 0;
    loop {
        let Some(admission) = all.first_mut().map(|first| Arc::clone(&acceptor(first).admission)) else {
            return std::future::pending().await;
        };
        while admission.is_spent() {
            all.iter_mut().for_each(|each| acceptor(each).tell_connections_wait());
            // Whether any wait is looked at now and then; the kernel does not tell of it again.
            let _ = tokio::time::timeout(LOOK_FOR_WAITING_EVERY, admission.freed()).await;
        }
        let resumes = all.iter_mut().filter_map(|each| acceptor(each).pause.until()).min();
        let ready = poll_fn(|context| {
            let ready = all.iter_mut().position(|each| acceptor(each).poll_readable(context).is_ready());
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        let index = match resumes {
            None => ready.await,
            Some(resumes) => match tokio::time::timeout_at(resumes.into(), ready).await {
                Ok(index) => index,
                Err(_) => continue,
            },
        };
        let Some(found) = all.get_mut(index).map(|each| acceptor(each).look()) else { continue };
        match found {
            Next::Taken(connection) => return (index, connection),
            Next::Refused if refused < REFUSALS_A_TURN => refused += 1,
            Next::Refused => {
                refused = 0;
                // Who refuses one connection after the other shall hear of signals and workers all the same.
                tokio::task::yield_now().await;
            }
            Next::None => {}
        }
    }
}

/// What came of looking for a connection that waits.
enum Next {
    Taken(Connection),
    /// Its client has as many as it may.
    Refused,
    None,
}

impl Acceptor {
    /// Takes from `listener`, which has this number, as long as `admission` has one to give. `speaks_tls`: its clients do.
    pub fn new(
        listener: Listener,
        (id, speaks_tls): (ListenerId, bool),
        admission: Arc<Admission>,
        counts: &'static Accepting,
    ) -> Self {
        let [waiting_told, refused_told] = std::array::from_fn(|_| Throttle::new(LINE_EVERY));
        Self { listener, id, speaks_tls, admission, pause: AcceptPause::default(), counts, waiting_told, refused_told }
    }

    /// Where it takes from.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Ready when a connection may wait, and accepting is not paused. The task of the last poll is woken.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.pause.until().is_some() {
            return Poll::Pending;
        }
        match ready!(self.listener.poll_readable(context)) {
            Ok(()) => Poll::Ready(()),
            Err(error) => {
                self.failed(&error);
                Poll::Pending
            }
        }
    }

    /// A connection that waits already, if the host takes one more.
    pub fn next_waiting(&mut self) -> Option<Connection> {
        match self.look() {
            Next::Taken(connection) => Some(connection),
            Next::Refused | Next::None => None,
        }
    }

    /// A connection that waits, before the listener is closed, if the host may take one more.
    pub fn next_of_rest(&mut self) -> Option<Connection> {
        for _ in 0..REFUSALS_A_TURN {
            match self.look_with(Listener::accept_at_once) {
                Next::Taken(connection) => return Some(connection),
                Next::Refused => {}
                Next::None => return None,
            }
        }
        None
    }

    /// Whether a connection waits.
    pub fn has_waiting(&self) -> bool {
        self.listener.has_waiting()
    }

    /// Takes the connections that wait in the backlog, before the listener is closed: as many as a backlog holds, and as
    /// the host takes. `take` answers whether it can take another.
    pub fn take_rest(mut self, mut take: impl FnMut(Connection) -> bool) {
        for _ in 0..BACKLOG {
            match self.look_with(Listener::accept_at_once) {
                Next::Taken(connection) => {
                    if !take(connection) {
                        return;
                    }
                }
                Next::Refused => {}
                Next::None => return,
            }
        }
    }

    fn look(&mut self) -> Next {
        self.look_with(Listener::try_accept)
    }

    fn look_with(&mut self, accept: impl FnOnce(&Listener) -> Option<io::Result<(Accepted, Peer)>>) -> Next {
        // Before the connection is taken: what the kernel has given cannot be put back.
        let Some(mut permit) = self.admission.try_take() else { return Next::None };
        wasmhost_base::inject::panic_at("accept");
        let shortage = wasmhost_base::inject::goes_off("accept-enfile").then(|| Err(rustix::io::Errno::NFILE.into()));
        match shortage.or_else(|| accept(&self.listener)) {
            Some(Ok((socket, peer))) => {
                self.pause.succeeded();
                if !permit.claim(peer) {
                    self.refuse(socket, peer);
                    return Next::Refused;
                }
                Next::Taken(Connection { socket, peer, listener: Some(self.id), permit })
            }
            Some(Err(error)) => {
                self.failed(&error);
                Next::None
            }
            None => Next::None,
        }
    }

    fn refuse(&self, socket: Accepted, peer: Peer) {
        self.counts.refused.add_one();
        if !self.speaks_tls {
            socket.refuse();
        }
        if let Some(count) = self.refused_told.admit(Instant::now()) {
            tracing::warn!(count, %peer, limit = "--max-connections-per-client", "a client has reached --max-connections-per-client; its further connections are closed (count: since the last such line); raise the limit, or name a proxy with --trust-proxy");
        }
    }

    fn failed(&mut self, error: &io::Error) {
        self.pause.failed(error);
        self.counts.failed(accept_error_name(error));
    }

    /// Says, once in a while, that no more connections are accepted, if any wait.
    fn tell_connections_wait(&self) {
        if self.listener.has_waiting() && self.waiting_told.admit(Instant::now()).is_some() {
            tracing::warn!(
                max_connections = self.admission.max(),
                limit = "--max-connections",
                "--max-connections is reached; further connections wait in the backlog; raise it to accept more"
            );
        }
    }
}
