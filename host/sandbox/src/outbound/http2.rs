//! Connections of HTTP/2 to upstreams, each shared by requests of one app to one place (RFC 9113).
//!
//! What one response leaves unread holds up no other: the windows of all streams fit into that of the connection. A connection
//! takes no further request when its upstream says that it goes away, when a request on it has waited in vain, and when it is
//! old; it ends when its requests have.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use wasmhost_base::quota::Claim;

use super::body::OutgoingUpload;
use super::connect::UpstreamSocket;
use super::kept::{AGE_MAX, FREE_WITHIN, IDLE_MAX, LOOK_EVERY};
use super::payers::{Paid, Payer, Payers};

/// Requests at once on a connection, if its upstream takes so many.
const STREAMS_MAX: usize = 64;
/// How much of a response an upstream may send that the guest has not read.
const STREAM_WINDOW_BYTES: u32 = 128 << 10;
/// The same of all responses on a connection.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;
/// How much of a request's body is held that its upstream has not taken.
const UNSENT_BYTES_MAX: usize = 64 << 10;
/// Size of a response's fields, and of its trailers.
const FIELDS_BYTES_MAX: u32 = 64 << 10;

type SharedDriver = Connection<UpstreamSocket, OutgoingUpload, ConnectionTasks>;

/// Runs what hyper has to do for a connection, for those who pay.
#[derive(Clone)]
struct ConnectionTasks {
    payers: Arc<Payers>,
    /// What reads and writes the connection: the first of them.
    first: Arc<OnceLock<AbortHandle>>,
}

impl<F> hyper::rt::Executor<F> for ConnectionTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        let task = tokio::spawn(Paid::new(task, Arc::clone(&self.payers)));
        self.first.get_or_init(|| task.abort_handle());
    }
}

/// A connection that requests share.
pub(super) struct SharedConnection {
    sender: SendRequest<OutgoingUpload>,
    /// What passes requests on, until no more are. It is polled by the connection's own task.
    driver: Mutex<Option<SharedDriver>>,
    payers: Arc<Payers>,
    opened: Instant,
    /// Since when nobody uses it; it counts while nobody does.
    at_rest: Mutex<Instant>,
    /// No further request is sent on it.
    is_retired: AtomicBool,
    /// The last of its requests has left.
    left: Notify,
    /// What it may have of the connections that are kept; without, it ends with its requests.
    room: Option<Claim>,
}

impl SharedConnection {
    /// Begins HTTP/2 on a socket. `room`: for when nobody uses the connection. `forget` is called when no further request may
    /// be sent on it, and dropped with it. Must be called on the worker's runtime.
    ///
    /// # Errors
    /// When the connection broke.
    pub(super) async fn begin(
        socket: UpstreamSocket,
        room: Option<Claim>,
        forget: impl Fn(&Arc<Self>) + Send + 'static,
    ) -> Result<Arc<Self>, hyper::Error> {
        let payers = Arc::<Payers>::default();
        let tasks = ConnectionTasks { payers: Arc::clone(&payers), first: Arc::default() };
        let (sender, driver) = Builder::new(tasks.clone())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(FIELDS_BYTES_MAX)
            .max_send_buf_size(UNSENT_BYTES_MAX)
            .handshake(socket)
            .await?;
        let now = Instant::now();
        let connection = Arc::new(Self {
            sender,
            driver: Mutex::new(Some(driver)),
            payers,
            opened: now,
            at_rest: Mutex::new(now),
            is_retired: AtomicBool::new(false),
            left: Notify::new(),
            room,
        });
        let kept = keep(Arc::clone(&connection), forget, tasks.first);
        tokio::spawn(Paid::new(kept, Arc::clone(&connection.payers)));
        Ok(connection)
    }

    /// A part in it, if it takes another request.
    pub(super) fn join(self: &Arc<Self>, payer: &Arc<Payer>) -> Option<StreamMember> {
        if self.is_retired() || self.sender.is_closed() {
            return None;
        }
        let streams = lock(&self.driver).as_ref()?.current_max_send_streams().min(STREAMS_MAX);
        if self.payers.count() >= streams {
            return None;
        }
        self.payers.join(payer);
        Some(StreamMember { connection: Arc::clone(self), payer: Arc::clone(payer) })
    }

    fn is_retired(&self) -> bool {
        self.is_retired.load(Relaxed) || self.opened.elapsed() >= AGE_MAX
    }

    /// Whether it can end, when nobody uses it.
    fn is_spent(&self) -> bool {
        self.is_retired() || self.room.is_none() || lock(&self.at_rest).elapsed() >= IDLE_MAX
    }

    /// Waits for the end of what passes requests on: the upstream goes away, or the connection broke.
    async fn ended(&self) {
        poll_fn(|context: &mut Context<'_>| match &mut *lock(&self.driver) {
            Some(driver) => Pin::new(driver).poll(context),
            None => Poll::Ready(Ok(())),
        })
        .await
        .unwrap_or_else(|error| tracing::debug!(%error, "a connection to an upstream ended with an error"));
    }
}

/// Keeps a connection while it can be used, and until its requests have ended.
async fn keep(
    connection: Arc<SharedConnection>,
    forget: impl Fn(&Arc<SharedConnection>),
    socket: Arc<OnceLock<AbortHandle>>,
) {
    let mut is_there = true;
    loop {
        tokio::select! {
            biased;
            () = connection.ended() => break,
            () = connection.payers.is_unpaid.notified() => break,
            () = connection.left.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if is_there && connection.is_retired() {
            forget(&connection);
            is_there = false;
        }
        if connection.payers.count() == 0 && connection.is_spent() {
            break;
        }
    }
    connection.is_retired.store(true, Relaxed);
    forget(&connection);
    // Requests that were not passed on yet are given back.
    drop(lock(&connection.driver).take());
    // Those that the upstream has begun with may end; each has its time-outs.
    while connection.payers.count() > 0 {
        tokio::select! {
            () = connection.left.notified() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    // Without a sender, what reads and writes says goodbye.
    drop(connection);
    tokio::time::sleep(FREE_WITHIN).await;
    if let Some(socket) = socket.get() {
        socket.abort();
    }
}

/// The part of one request in a connection.
pub(super) struct StreamMember {
    connection: Arc<SharedConnection>,
    payer: Arc<Payer>,
}

impl StreamMember {
    /// Sends the request. To drop the result is to cancel it.
    pub(super) fn send(
        &self,
        request: Request<OutgoingUpload>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<OutgoingUpload>>>> + use<> {
        self.connection.sender.clone().try_send_request(request)
    }

    /// Waits until the request that pays has no more CPU time.
    pub(super) async fn is_over(&self) {
        self.payer.is_over.notified().await;
    }

    /// A request has waited in vain: the next ones have a connection of their own.
    pub(super) fn retire(&self) {
        self.connection.is_retired.store(true, Relaxed);
    }
}

impl Drop for StreamMember {
    fn drop(&mut self) {
        if self.connection.payers.leave(&self.payer) {
            *lock(&self.connection.at_rest) = Instant::now();
            self.connection.left.notify_one();
        }
    }
}

/// What an error says of whether the upstream has begun with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processing {
    /// It has not, and says so: it refused the stream, or goes away and leaves it out (RFC 9113, section 8.7).
    Unprocessed,
    /// It may have; the connection failed, not the request.
    Connection,
    /// It has answered in some way.
    Request,
}

impl Processing {
    pub(super) fn of(error: &hyper::Error) -> Self {
        let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
        match cause {
            Some(cause) if cause.is_remote() && cause.is_go_away() => Self::Unprocessed,
            Some(cause) if cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM) => Self::Unprocessed,
            Some(cause) if cause.is_reset() => Self::Request,
            _ if error.is_parse() || error.is_user() => Self::Request,
            _ => Self::Connection,
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
