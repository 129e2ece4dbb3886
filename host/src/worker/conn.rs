//! One client's connection: hyper speaks HTTP/1.1 on it, and around hyper stand the limits that it does not have: the
//! time of a head and of the rest between requests, the size of a head, a client that does not take its answer, a client
//! that has left, and the host's own stop.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use http::{HeaderValue, Response, Version, header};
use http_body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::WorkerShared;
use super::alarms::Alarm;
use super::exchange;
use super::inbox::Permit;
use super::respond::raw;
use super::socket::framing::{Chunks, Framing, HeadLines};
use super::socket::{Socket, Stream};
use super::turns::Turns;
use crate::metrics::Refused;
use crate::throttle::Throttle;

/// How long the host goes on reading from a client whose connection it closes while the client still sends, and how long
/// therefore such a client has to read the answer.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// How long a head that has begun may still take to arrive once the host stops.
const HEAD_AT_DRAIN: Duration = Duration::from_secs(1);
/// Room of hyper's read buffer above the largest head, so that the limit on heads is ours alone.
const READ_BUFFER_SPARE_BYTES: usize = 64 * 1024;

/// Lines that every client can cause are told once in this time, by kind.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a worker's log tells of connections, and not of each one.
pub(super) struct Lines {
    last_request: Throttle,
    pub(super) body_max: Throttle,
    silent: Throttle,
    idle: Throttle,
}

impl Default for Lines {
    fn default() -> Self {
        let [last_request, body_max, silent, idle] = std::array::from_fn(|_| Throttle::new(LINE_EVERY));
        Self { last_request, body_max, silent, idle }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client of the Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// What the connection is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Before the first byte.
    New,
    /// Between requests.
    Idle,
    /// A head is arriving: bytes so far.
    Head { bytes: usize },
    /// A request is being answered.
    Busy,
    /// The host has given its last answer.
    Closing,
}

/// What is still to come of a request's body.
#[derive(Debug, Clone, Copy)]
enum Coming {
    Nothing,
    Bytes(u64),
    Chunks(Chunks),
}

/// State of a connection, shared by its task, its socket and its requests, all on the worker's thread.
pub(super) struct Connection {
    pub(super) worker: Rc<WorkerShared>,
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    /// Whether the client may set forwarded headers.
    pub(super) trusted: bool,
    /// Deadline of the request in progress.
    pub(super) request_alarm: Alarm,
    phase: Cell<Phase>,
    coming: Cell<Coming>,
    head: Cell<HeadLines>,
    /// Of the last head that came whole.
    framing: Cell<Framing>,
    phase_alarm: Alarm,
    stall_alarm: Alarm,
    stalled: Cell<bool>,
    /// Deadline of the whole response. hyper does not ask for more of a body while the socket is full, and goes on
    /// asking while it is not: the connection looks at the time itself.
    response_alarm: Alarm,
    overdue: Cell<bool>,
    requests: Cell<u64>,
    /// A request's body was left unread: bytes of it may be on their way.
    unread_body: Cell<bool>,
}

impl Connection {
    fn new(worker: Rc<WorkerShared>, stream: Stream, peer: Peer) -> Self {
        let trusted = match peer {
            Peer::Tcp(address) => {
                let ip = address.ip().to_canonical();
                worker.config.trust_proxy.iter().any(|network| network.contains(&ip))
            }
            // Who can reach the socket's file is on this machine and was let in by its mode.
            Peer::Unix => !worker.config.trust_proxy.is_empty(),
        };
        let [request_alarm, phase_alarm, stall_alarm, response_alarm] = std::array::from_fn(|_| worker.alarms.alarm());
        Self {
            stream,
            peer,
            trusted,
            request_alarm,
            phase: Cell::new(Phase::New),
            coming: Cell::new(Coming::Nothing),
            head: Cell::default(),
            framing: Cell::default(),
            phase_alarm,
            stall_alarm,
            stalled: Cell::new(false),
            response_alarm,
            overdue: Cell::new(false),
            requests: Cell::new(0),
            unread_body: Cell::new(false),
            worker,
        }
    }

    fn enter(&self, phase: Phase, limit: Option<Duration>) {
        self.enter_until(phase, limit.map(|limit| Instant::now() + limit));
    }

    fn enter_until(&self, phase: Phase, deadline: Option<Instant>) {
        self.phase.set(phase);
        self.phase_alarm.set(deadline);
    }

    /// How many bytes may be read now.
    ///
    /// # Errors
    /// When a head is too large; the client was told.
    pub(super) fn may_read(&self) -> io::Result<usize> {
        let Phase::Head { bytes } = self.phase.get() else {
            return Ok(self.worker.config.limits.header_max_bytes);
        };
        let left = self.worker.config.limits.header_max_bytes.saturating_sub(bytes);
        if left == 0 {
            let (status, what) = if self.head.get().has_request_line() {
                (raw::HEAD_TOO_LARGE, "head")
            } else {
                (raw::URI_TOO_LONG, "request line")
            };
            self.worker.metrics.refused(Refused::HeadTooLarge);
            tracing::info!(worker = self.worker.id.0, peer = %self.peer, limit = "--header-max", "a {what} above the limit was refused; raise --header-max to allow it");
            self.close_with(status);
            return Err(io::Error::other("the head is too large"));
        }
        Ok(left)
    }

    /// Takes note of bytes that came, and tells how many of them are for hyper: none behind the present head or body.
    ///
    /// # Errors
    /// When they are not the body in chunks that they ought to be.
    pub(super) fn did_read(&self, came: &[u8]) -> io::Result<usize> {
        match self.coming.get() {
            Coming::Nothing => Ok(self.did_read_head(came)),
            Coming::Bytes(left) => {
                let body = usize::try_from(left).map_or(came.len(), |left| left.min(came.len()));
                let left = left - body as u64;
                self.coming.set(if left == 0 { Coming::Nothing } else { Coming::Bytes(left) });
                Ok(body)
            }
            Coming::Chunks(mut chunks) => {
                let taken = chunks.take(came).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                self.coming.set(if chunks.is_over() { Coming::Nothing } else { Coming::Chunks(chunks) });
                Ok(taken)
            }
        }
    }

    fn did_read_head(&self, came: &[u8]) -> usize {
        let mut head = self.head.get();
        let (read, framing) = head.take(came);
        self.head.set(head);
        if let Some(framing) = framing {
            self.framing.set(framing);
        }
        match self.phase.get() {
            Phase::New | Phase::Idle if read > 0 => {
                self.enter(Phase::Head { bytes: read }, Some(self.worker.config.limits.header_timeout));
            }
            Phase::Head { bytes } => self.phase.set(Phase::Head { bytes: bytes.saturating_add(read) }),
            Phase::New | Phase::Idle | Phase::Busy | Phase::Closing => {}
        }
        read
    }

    /// The socket takes no more for now.
    pub(super) fn write_stalled(&self) {
        if !self.stalled.replace(true)
            && let Some(limit) = self.worker.config.limits.body_idle_timeout
        {
            self.stall_alarm.set(Some(Instant::now() + limit));
        }
    }

    /// The socket took something.
    pub(super) fn write_moved(&self) {
        if self.stalled.replace(false) {
            self.stall_alarm.set(None);
            // The rest between requests begins when the last answer has been taken.
            if self.phase.get() == Phase::Idle {
                self.enter(Phase::Idle, Some(self.worker.config.limits.keepalive_timeout));
            }
        }
    }

    /// hyper has read a head; a body of `body_length` bytes follows, or one in chunks. To be told before hyper reads of
    /// the body.
    fn request_began(&self, body_length: Option<u64>) {
        self.coming.set(match body_length {
            Some(0) => Coming::Nothing,
            Some(length) => Coming::Bytes(length),
            None => Coming::Chunks(Chunks::new()),
        });
        self.requests.set(self.requests.get().saturating_add(1));
        self.enter(Phase::Busy, None);
    }

    /// Whether the head of the present request can be understood in one way only.
    pub(super) fn framing(&self) -> Framing {
        self.framing.get()
    }

    /// A response's body begins, that has to be whole by then.
    pub(super) fn response_began(&self, deadline: Option<Instant>) {
        self.response_alarm.set(deadline);
    }

    /// Whether the connection ends because a response was not whole in time.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    /// The answer has been given, to hyper at least.
    pub(super) fn request_ended(&self, upload_ended: bool, now: Instant) {
        self.request_alarm.set(None);
        self.response_alarm.set(None);
        if !upload_ended {
            self.unread_body.set(true);
        }
        if self.phase.get() == Phase::Busy {
            self.enter_until(Phase::Idle, Some(now + self.worker.config.limits.keepalive_timeout));
        }
    }

    /// A body was broken off whose end is the connection's: an orderly one would make it look whole.
    pub(super) fn end_with_reset(&self) {
        self.unread_body.set(false);
        if let Err(error) = self.stream.reset_at_close() {
            tracing::debug!(peer = %self.peer, %error, "a connection cannot be reset");
        }
    }

    /// Tells the client when this was the connection's last request.
    pub(super) fn limit_requests<T>(&self, response: &mut Response<T>, version: Version) {
        let limit = self.worker.config.limits.max_requests_per_connection;
        let is_last = limit.is_some_and(|limit| self.requests.get() >= limit) || self.worker.draining.get();
        if is_last
            && !self.worker.draining.get()
            && let Some(count) = self.worker.lines.last_request.admit(Instant::now())
        {
            tracing::info!(worker = self.worker.id.0, count, peer = %self.peer, limit = "--max-requests-per-connection", "connections had their last request (count: since the last such line); raise --max-requests-per-connection to allow more");
        }
        if is_last && version >= Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if is_last {
            // hyper keeps the connection of an older client that wants it, unless the answer is of that version.
            *response.version_mut() = version;
        }
    }

    /// The time of the present phase is over: tells the client, where it waits for an answer, and the log.
    fn phase_ran_out(&self) {
        let worker = &self.worker;
        match self.phase.get() {
            Phase::Head { .. } => {
                worker.metrics.refused(Refused::HeadTimeout);
                tracing::info!(worker = worker.id.0, peer = %self.peer, limit = "--header-timeout", "a head did not arrive in time; raise --header-timeout to wait longer");
                self.close_with(raw::REQUEST_TIMEOUT);
            }
            Phase::New => {
                if let Some(count) = worker.lines.silent.admit(Instant::now()) {
                    tracing::info!(worker = worker.id.0, count, peer = %self.peer, limit = "--header-timeout", "connections without a byte were closed (count: since the last such line); raise --header-timeout to wait longer");
                }
            }
            Phase::Idle => {
                if let Some(count) = worker.lines.idle.admit(Instant::now()) {
                    tracing::info!(worker = worker.id.0, count, peer = %self.peer, limit = "--keepalive-timeout", "idle connections were closed (count: since the last such line); raise --keepalive-timeout to keep them longer");
                }
            }
            Phase::Busy | Phase::Closing => {}
        }
    }

    /// Gives a last answer past hyper, where no response can be under way. Best effort: what the socket does not take
    /// at once is not sent.
    fn close_with(&self, status: &str) {
        self.phase.set(Phase::Closing);
        self.unread_body.set(true);
        if !self.stalled.get()
            && let Err(error) = self.stream.try_write(raw::answer(status).as_bytes())
        {
            tracing::debug!(peer = %self.peer, %error, "a last answer was not sent");
        }
    }
}

/// Serves a connection to its end. `permit` is given back then.
pub(super) async fn serve(worker: Rc<WorkerShared>, stream: Stream, peer: Peer, permit: Permit) {
    let connection = Rc::new(Connection::new(Rc::clone(&worker), stream, peer));
    connection.enter(Phase::New, Some(worker.config.limits.header_timeout));
    crate::inject::panic_at("connection");
    let ended = drive(&connection).await;
    match ended {
        Ok(()) => {}
        Err(error) if error.is_parse() || error.is_parse_too_large() => {
            connection.unread_body.set(true);
            worker.metrics.refused(if error.is_parse_too_large() {
                Refused::HeadTooLarge
            } else {
                Refused::BadRequest
            });
            tracing::debug!(peer = %peer, %error, "a request could not be read");
        }
        Err(error) => tracing::debug!(peer = %peer, %error, "a connection ended with an error"),
    }
    if connection.unread_body.get() && connection.stream.shut_down().is_ok() {
        let discarding = connection.stream.discard();
        if tokio::time::timeout(LINGERING_CLOSE, discarding).await.is_err() {
            tracing::debug!(peer = %peer, "the client went on sending after the last answer");
        }
    }
    drop(permit);
}

/// Runs hyper and the limits around it.
async fn drive(connection: &Rc<Connection>) -> Result<(), hyper::Error> {
    let worker = &connection.worker;
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let connection = Rc::clone(connection);
        connection.request_began(request.body().size_hint().exact());
        async move { Ok::<_, std::convert::Infallible>(exchange::serve(connection, request).await) }
    });
    let hyper = http1::Builder::new()
        .half_close(true)
        .max_buf_size(worker.config.limits.header_max_bytes + READ_BUFFER_SPARE_BYTES)
        .serve_connection(TokioIo::new(Socket::new(Rc::clone(connection))), service);
    let mut hyper = pin!(hyper);
    let mut broken: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    let mut client_has_left = |context: &mut Context<'_>| {
        if connection.phase.get() != Phase::Busy {
            return false;
        }
        let watch = broken.get_or_insert_with(|| {
            let connection = Rc::clone(connection);
            Box::pin(async move { connection.stream.broken().await })
        });
        let has_left = watch.as_mut().poll(context).is_ready();
        if has_left {
            tracing::debug!(peer = %connection.peer, "the client has left");
        }
        has_left
    };
    let mut told_to_drain = false;
    // It was accepted before the drain began, and may have sent its request: hyper would close it unread.
    let came_late = worker.draining.get();
    if came_late {
        connection.phase_alarm.set(Some(Instant::now() + HEAD_AT_DRAIN));
    }
    let mut turns = Turns::default();
    poll_fn(|context| {
        if worker.draining.get() && !told_to_drain {
            let phase = connection.phase.get();
            if matches!(phase, Phase::New | Phase::Head { .. }) && !came_late {
                connection.phase_alarm.set(Some(Instant::now() + HEAD_AT_DRAIN));
            }
            if phase != Phase::New || !came_late {
                told_to_drain = true;
                hyper.as_mut().graceful_shutdown();
            }
        }
        // Before hyper, which would break the upload off, and have the guest fail, in the place of the client's leaving.
        if client_has_left(context) {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(outcome) = turns.take(context, |context| hyper.as_mut().poll(context)) {
            return Poll::Ready(outcome);
        }
        if client_has_left(context) {
            return Poll::Ready(Ok(()));
        }
        if connection.response_alarm.poll(context).is_ready() {
            connection.overdue.set(true);
            return Poll::Ready(Ok(()));
        }
        if connection.stall_alarm.poll(context).is_ready() {
            tracing::info!(worker = worker.id.0, peer = %connection.peer, limit = "--body-idle-timeout", "the client does not take its response; raise --body-idle-timeout to wait longer");
            return Poll::Ready(Ok(()));
        }
        if connection.phase_alarm.poll(context).is_ready() && !connection.stalled.get() {
            connection.phase_ran_out();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}
