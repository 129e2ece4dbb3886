//! One client's connection. hyper speaks HTTP/1.1 on it; this file adds the limits that hyper lacks: how long request headers
//! may take and how large they may be, how long a connection may be idle, a client that does not read its response, a client
//! that has disconnected, and the host's shutdown.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, Response, Version, header};
use http_body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::alarms::Alarm;
use super::body::Flow;
use super::exchange;
use super::last_answer;
use super::pace::{Late, Of, Pace, Slow};
use super::peer::Peer;
use super::shared::WorkerShared;
use super::socket::framing::{Chunks, Framing, HeadLines};
use super::socket::{Socket, Stream};
use super::turns::Turns;
use crate::metrics::Refused;

/// How long the host keeps reading from a client that still sends while the host closes the connection. The client has this
/// time to read the response.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// How long a head that has begun may still take to arrive once the host stops.
const HEAD_AT_DRAIN: Duration = Duration::from_secs(1);
/// How much larger hyper's read buffer is than the largest request headers, so that only our limit applies.
const READ_BUFFER_SPARE_BYTES: usize = 64 * 1024;

/// How much of a response a client may have taken without the socket showing it: half of what the kernel queues beyond
/// the client's window (`TCP_NOTSENT_LOWAT`).
const UNSEEN_BYTES: u64 = 64 * 1024;

/// How much faster the patience with a client runs out that has not taken anything since the socket was first full.
const UNPROVEN_FACTOR: u32 = 8;

/// What the connection is doing.
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
    /// The host has sent its last response.
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
    pub(super) stream: Rc<Stream>,
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
    /// Since when the client takes nothing of what is written.
    stalled: Cell<Option<Instant>>,
    /// How fast the client reads the present response, since it was first waited for.
    reading: Cell<Pace>,
    /// The present response's body.
    pub(super) flow: RefCell<Option<Rc<RefCell<Flow>>>>,
    /// The request has to let go of its instance: others wait for one.
    pub(super) in_the_way: Cell<bool>,
    /// The head that arrives is the last, since the host stops, and has its deadline.
    head_is_last: Cell<bool>,
    /// Why the connection ends, when its client is at fault.
    pub(super) slow: Cell<Option<Slow>>,
    /// When to look whether the whole response is late. hyper does not ask for more of a body while the socket is full, and
    /// goes on asking while it is not: the connection looks at the time itself.
    pub(super) response_alarm: Alarm,
    /// The guest's response was not whole in time.
    overdue: Cell<bool>,
    requests: Cell<u64>,
    /// A request's body was left unread: bytes of it may be on their way.
    unread_body: Cell<bool>,
}

impl Connection {
    fn new(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) -> Self {
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
            stalled: Cell::new(None),
            reading: Cell::default(),
            flow: RefCell::default(),
            in_the_way: Cell::new(false),
            head_is_last: Cell::new(false),
            slow: Cell::new(None),
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
    /// When the request headers are too large; the client has got its answer.
    pub(super) fn may_read(&self) -> io::Result<usize> {
        let Phase::Head { bytes } = self.phase.get() else {
            return Ok(self.worker.config.limits.header_max_bytes);
        };
        let left = self.worker.config.limits.header_max_bytes.saturating_sub(bytes);
        if left == 0 {
            let (status, what) = if self.head.get().has_request_line() {
                (last_answer::HEAD_TOO_LARGE, "header")
            } else {
                (last_answer::URI_TOO_LONG, "request line")
            };
            self.worker.metrics.refused(Refused::HeadTooLarge);
            if let Some(count) = self.worker.lines.header_max.admit(Instant::now()) {
                tracing::info!(worker = self.worker.id.0, count, peer = %self.peer, limit = "--header-max", "requests were refused because their {what} is too large (count: since the last such line); raise --header-max to allow it");
            }
            self.close_with(status);
            return Err(io::Error::other("the head is too large"));
        }
        Ok(left)
    }

    /// Records bytes that came, and returns how many of them hyper may have: only those of the present headers or body.
    ///
    /// # Errors
    /// When a body in chunks is not well formed.
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
                if self.worker.draining.get() {
                    self.limit_head_at_drain();
                }
            }
            Phase::Head { bytes } => self.phase.set(Phase::Head { bytes: bytes.saturating_add(read) }),
            Phase::New | Phase::Idle | Phase::Busy | Phase::Closing => {}
        }
        read
    }

    /// The socket takes no more for now.
    pub(super) fn write_stalled(&self) {
        if self.stalled.get().is_some() {
            return;
        }
        let (now, limits) = (Instant::now(), &self.worker.config.limits);
        self.stalled.set(Some(now));
        let silent = limits.body_idle_timeout;
        let behind = limits.body_rate_min.map(|rate| self.reading.get().patience(rate));
        let soonest = [silent, behind].into_iter().flatten().min();
        self.stall_alarm.set(soonest.map(|wait| now + wait));
    }

    /// The socket took `bytes`.
    pub(super) fn write_moved(&self, bytes: usize) {
        let mut reading = self.reading.get();
        let rate = self.worker.config.limits.body_rate_min;
        if let Some(since) = self.stalled.take() {
            reading = reading.moved(since.elapsed(), 0, rate, UNSEEN_BYTES);
            self.reading.set(reading);
            self.stall_alarm.set(None);
            // The rest between requests begins when the last answer has been taken.
            if self.phase.get() == Phase::Idle {
                self.enter(Phase::Idle, Some(self.worker.config.limits.keepalive_timeout));
            }
        }
        if reading.waited > Duration::ZERO {
            self.reading.set(reading.moved(Duration::ZERO, bytes as u64, rate, UNSEEN_BYTES));
        }
    }

    /// For how long the client has taken nothing, or how far it is behind a pace of `rate` bytes a second; none: it reads.
    /// Of a client that has taken nothing since the socket was first full, each moment counts as many: it may never have
    /// meant to read, while one that has shown that it reads is given time.
    pub(super) fn stalled_for(&self, now: Instant, rate: Option<u64>) -> Option<Duration> {
        let mut reading = self.reading.get();
        let mut stalled = now.duration_since(self.stalled.get()?);
        if reading.bytes <= UNSEEN_BYTES {
            stalled = stalled.saturating_mul(UNPROVEN_FACTOR);
        }
        reading.waited = reading.waited.saturating_add(stalled);
        Some(rate.map_or(stalled, |rate| stalled.max(reading.behind(rate))))
    }

    /// For how long the socket was full, in sum, while the present response was written.
    pub(super) fn waited_for_reader(&self, now: Instant) -> Duration {
        let stalled = self.stalled.get().map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.reading.get().waited.saturating_add(stalled)
    }

    /// Has the connection's task give up its request's instance.
    pub(super) fn make_way(&self) {
        self.in_the_way.set(true);
        self.phase_alarm.wake();
    }

    /// Takes of the response what the guest gives, while the client does not read.
    fn read_ahead(&self, context: &mut Context<'_>) {
        let flow = self.flow.borrow().clone();
        if let Some(flow) = flow {
            flow.borrow_mut().read_ahead(context);
        }
    }

    /// The client is too slow, and the connection ends.
    fn end_for(&self, slow: Slow) {
        self.end_for_body(slow, if self.stalled.get().is_some() { Of::Response } else { Of::Request });
    }

    fn end_for_body(&self, slow: Slow, of: Of) {
        self.slow.set(Some(slow));
        self.worker.lines.slow(self.worker.id.0, self.peer, slow, of);
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
        self.reading.set(Pace { waited: Duration::ZERO, bytes: UNSEEN_BYTES });
        self.enter(Phase::Busy, None);
    }

    /// Whether the head of the present request can be understood in one way only.
    pub(super) fn framing(&self) -> Framing {
        self.framing.get()
    }

    /// Ends the connection if the present response is late, for the one whose time is over.
    fn is_response_late(&self) -> bool {
        self.response_alarm.set(None);
        let flow = self.flow.borrow().clone();
        match flow.and_then(|flow| flow.borrow().who_is_late()) {
            Some(Late::Guest) => self.overdue.set(true),
            Some(Late::Client(of)) => self.end_for_body(Slow::Overdue, of),
            None => return false,
        }
        true
    }

    /// Whether the connection ends because its guest's response was not whole in time.
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
            tracing::debug!(peer = %self.peer, %error, "a connection could not be reset");
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
            tracing::info!(worker = self.worker.id.0, count, peer = %self.peer, limit = "--max-requests-per-connection", "connections were closed after their last request (count: since the last such line); raise --max-requests-per-connection to allow more");
        }
        if is_last && version >= Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if is_last {
            // hyper keeps the connection of an older client that wants it, unless the answer is of that version.
            *response.version_mut() = version;
        }
    }

    /// The time of the present phase is over: answers the client, if it waits for an answer, and writes to the log.
    fn phase_ran_out(&self) {
        let worker = &self.worker;
        match self.phase.get() {
            Phase::Head { .. } => {
                worker.metrics.refused(Refused::HeadTimeout);
                if let Some(count) = worker.lines.header_timeout.admit(Instant::now()) {
                    tracing::info!(worker = worker.id.0, count, peer = %self.peer, limit = "--header-timeout", "request headers did not arrive in time (count: since the last such line); raise --header-timeout to wait longer");
                }
                self.close_with(last_answer::REQUEST_TIMEOUT);
            }
            Phase::New => {
                if let Some(count) = worker.lines.silent.admit(Instant::now()) {
                    tracing::info!(worker = worker.id.0, count, peer = %self.peer, limit = "--header-timeout", "connections that sent nothing were closed (count: since the last such line); raise --header-timeout to wait longer");
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

    /// The host stops while a head arrives: it gets [`HEAD_AT_DRAIN`] to be completed, once.
    fn limit_head_at_drain(&self) {
        if !self.head_is_last.replace(true) {
            self.phase_alarm.set(Some(Instant::now() + HEAD_AT_DRAIN));
        }
    }

    /// Writes a last response without hyper, while no other response is under way. Best effort: what the socket does not
    /// accept at once is not sent.
    fn close_with(&self, status: &str) {
        self.phase.set(Phase::Closing);
        self.unread_body.set(true);
        if self.stalled.get().is_none()
            && let Err(error) = self.stream.try_write(last_answer::answer(status).as_bytes())
        {
            tracing::debug!(peer = %self.peer, %error, "the last response of a connection could not be sent");
        }
    }
}

/// Serves a connection to its end.
pub(super) async fn serve(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) {
    let connection = Rc::new(Connection::new(Rc::clone(&worker), stream, peer));
    connection.enter(Phase::New, Some(worker.config.limits.header_timeout));
    wasmhost_base::inject::panic_at("connection");
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
            if let Some(count) = worker.lines.unreadable.admit(Instant::now()) {
                let worker = worker.id.0;
                tracing::info!(worker, count, %peer, %error, "requests could not be read as HTTP/1.1 (count: since the last such line); TLS and HTTP/2 need a proxy in front of wasmhost");
            }
        }
        Err(error) => tracing::debug!(peer = %peer, %error, "a connection ended with an error"),
    }
    if connection.unread_body.get() && connection.stream.shut_down().is_ok() {
        let discarding = connection.stream.discard();
        if tokio::time::timeout(LINGERING_CLOSE, discarding).await.is_err() {
            tracing::debug!(peer = %peer, "the client kept sending after the last response");
        }
    }
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
            tracing::debug!(peer = %connection.peer, "the client has disconnected");
        }
        has_left
    };
    let mut told_to_drain = false;
    // It was accepted before the drain began, and may have sent its request: hyper would close it unread.
    let came_late = worker.draining.get();
    if came_late {
        connection.enter(Phase::New, Some(HEAD_AT_DRAIN));
    }
    let mut turns = Turns::default();
    poll_fn(|context| {
        if worker.draining.get() && !told_to_drain {
            match connection.phase.get() {
                // hyper would close the connection, if it has served requests before, without an answer to this one.
                Phase::Head { .. } => connection.limit_head_at_drain(),
                Phase::New if came_late => {}
                // The same of a request that is in the socket already.
                Phase::New | Phase::Idle if connection.stream.has_unread() => {}
                _ => {
                    told_to_drain = true;
                    hyper.as_mut().graceful_shutdown();
                }
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
        while connection.response_alarm.poll(context).is_ready() {
            if connection.is_response_late() {
                return Poll::Ready(Ok(()));
            }
        }
        let is_stalled = connection.stalled.get().is_some();
        if is_stalled {
            connection.read_ahead(context);
        }
        if connection.in_the_way.take() {
            connection.end_for(Slow::InTheWay);
            return Poll::Ready(Ok(()));
        }
        if connection.stall_alarm.poll(context).is_ready() {
            let idle = worker.config.limits.body_idle_timeout;
            let stalled = connection.stalled.get().map(|since| since.elapsed()).unwrap_or_default();
            let is_silent = idle.is_some_and(|idle| stalled >= idle);
            connection.end_for(if is_silent { Slow::Silent } else { Slow::Behind });
            return Poll::Ready(Ok(()));
        }
        if connection.phase_alarm.poll(context).is_ready() && !is_stalled {
            connection.phase_ran_out();
            return Poll::Ready(Ok(()));
        }
        Poll::Pending
    })
    .await
}
