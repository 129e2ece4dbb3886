//! The limits that hyper lacks, on one connection: how long request headers may take and how large they may be, how long a
//! connection may be idle, a client that does not read its response, and the host's shutdown.

use std::cell::{Cell, OnceCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Response, Version, header};

use wasmhost_config::HostLimits;

use super::framing::{Chunks, HeadLines};
use crate::alarms::Alarm;
use crate::http::{Carrier, Framing, INTRODUCTION_BYTES_MAX, Link, Pace, Slow, UNSEEN_BYTES, WorkerShared};
use crate::metrics::Refused;
use crate::net::{Peer, Stream, last_answer};
use crate::preface::{PREFACE, Preface};

/// How long a head that has begun may still take to arrive once the host stops.
pub(super) const HEAD_AT_DRAIN: Duration = Duration::from_secs(1);

/// How long a response may be silent for a client that has ended its sending, twice at most.
const SILENT_MAX: Duration = Duration::from_millis(400);

/// What the connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionPhase {
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
pub(super) struct Guard {
    pub(super) link: Link,
    pub(super) stream: Rc<Stream>,
    phase: Cell<ConnectionPhase>,
    coming: Cell<Coming>,
    head: Cell<HeadLines>,
    /// What came so far may be the beginning of HTTP/2.
    preface: Cell<Preface>,
    /// It is: what came.
    of_http2: OnceCell<Bytes>,
    /// Of the last head that came whole.
    framing: Cell<Framing>,
    phase_alarm: Alarm,
    stall_alarm: Alarm,
    /// The head that arrives is the last, since the host stops, and has its deadline.
    head_is_last: Cell<bool>,
    requests: Cell<u64>,
    /// How often the socket took something.
    writes: Cell<u64>,
    /// A request's body was left unread: bytes of it may be on their way.
    pub(super) unread_body: Cell<bool>,
    /// See [`Self::front_has_left`].
    pub(super) has_left: Cell<bool>,
}

impl Carrier for Guard {
    fn link(&self) -> &Link {
        &self.link
    }

    fn request_ended(&self, upload_ended: bool, now: Instant) {
        self.link.request_alarm.set(None);
        self.link.response_alarm.set(None);
        if !upload_ended {
            self.unread_body.set(true);
        }
        if self.phase.get() == ConnectionPhase::Busy {
            self.enter_until(ConnectionPhase::Idle, self.keepalive_timeout().map(|limit| now + limit));
        }
    }

    fn end_with_reset(&self) {
        self.unread_body.set(false);
        if let Err(error) = self.stream.reset_at_close() {
            tracing::debug!(peer = %self.link.peer, %error, "a connection could not be reset");
        }
    }
}

impl Guard {
    pub(super) fn new(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) -> Self {
        let [phase_alarm, stall_alarm] = std::array::from_fn(|_| worker.alarms.alarm());
        // (With TLS, it is known before.)
        let may_tell = peer != Peer::Front && stream.tls().is_none();
        let speaks_http2 = may_tell && worker.config.limits.http2_streams_max > 0;
        Self {
            link: Link::new(worker, Rc::clone(&stream), peer),
            stream,
            phase: Cell::new(ConnectionPhase::New),
            coming: Cell::new(Coming::Nothing),
            head: Cell::default(),
            preface: Cell::new(if speaks_http2 { Preface::EXPECTED } else { Preface::OTHER }),
            of_http2: OnceCell::new(),
            framing: Cell::default(),
            phase_alarm,
            stall_alarm,
            head_is_last: Cell::new(false),
            requests: Cell::new(0),
            writes: Cell::new(0),
            unread_body: Cell::new(false),
            has_left: Cell::new(false),
        }
    }

    fn worker(&self) -> &WorkerShared {
        &self.link.worker
    }

    fn limits(&self) -> &HostLimits {
        &self.link.worker.config.limits
    }

    /// Whether another worker forwards requests on it. That one has seen to it that a head comes in time and is not too
    /// large, and it ends the connection when it needs it no more.
    pub(super) fn is_from_front(&self) -> bool {
        self.link.peer == Peer::Front
    }

    /// Whether a worker that forwards a request has closed its connection since its client has left: that is no end of a
    /// body. (Where the body is not valid, it ends its sending alone.)
    pub(super) fn front_has_left(&self) -> bool {
        let has_left = self.is_from_front() && self.phase.get() == ConnectionPhase::Busy && self.stream.has_hung_up();
        self.has_left.set(self.has_left.get() || has_left);
        has_left
    }

    pub(super) fn header_timeout(&self) -> Option<Duration> {
        (!self.is_from_front()).then(|| self.limits().header_timeout)
    }

    fn keepalive_timeout(&self) -> Option<Duration> {
        (!self.is_from_front()).then(|| self.limits().keepalive_timeout)
    }

    fn header_max_bytes(&self) -> usize {
        let beyond = if self.is_from_front() { INTRODUCTION_BYTES_MAX } else { 0 };
        self.limits().header_max_bytes.saturating_add(beyond)
    }

    pub(super) fn phase(&self) -> ConnectionPhase {
        self.phase.get()
    }

    pub(super) fn enter(&self, phase: ConnectionPhase, limit: Option<Duration>) {
        self.enter_until(phase, limit.map(|limit| Instant::now() + limit));
    }

    fn enter_until(&self, phase: ConnectionPhase, deadline: Option<Instant>) {
        self.phase.set(phase);
        self.phase_alarm.set(deadline);
    }

    /// How many bytes may be read now.
    ///
    /// # Errors
    /// When the request headers are too large; the client has got its answer.
    pub(super) fn may_read(&self) -> io::Result<usize> {
        let ConnectionPhase::Head { bytes } = self.phase.get() else {
            return Ok(self.header_max_bytes());
        };
        let left = self.header_max_bytes().saturating_sub(bytes);
        if left == 0 {
            let (status, what) = if self.head.get().has_request_line() {
                (last_answer::HEAD_TOO_LARGE, "header")
            } else {
                (last_answer::URI_TOO_LONG, "request line")
            };
            self.worker().metrics.unrouted.refused(Refused::HeadTooLarge);
            if let Some(count) = self.worker().lines.header_max.admit(Instant::now()) {
                tracing::info!(worker = self.worker().id.0, count, peer = %self.link.peer, limit = "--header-max", "requests were refused because their {what} is too large (count: since the last such line); raise --header-max to allow it");
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

    /// Whether the first bytes of the connection, of which these are the next, are those of HTTP/2.
    pub(super) fn tells_http2(&self, came: &[u8]) -> bool {
        let before = self.preface.get();
        if before == Preface::OTHER {
            return false;
        }
        let (preface, is_told) = before.take(came);
        self.preface.set(preface);
        if is_told {
            let earlier = &PREFACE[..before.come().unwrap_or(0)];
            let _ = self.of_http2.set([earlier, came].concat().into());
        }
        is_told
    }

    /// What came of a connection that speaks HTTP/2; none: it does not.
    pub(super) fn of_http2(&self) -> Option<&Bytes> {
        self.of_http2.get()
    }

    fn did_read_head(&self, came: &[u8]) -> usize {
        let mut head = self.head.get();
        let (read, framing) = head.take(came);
        self.head.set(head);
        if let Some(framing) = framing {
            self.framing.set(framing);
        }
        match self.phase.get() {
            ConnectionPhase::New | ConnectionPhase::Idle if read > 0 => {
                self.enter(ConnectionPhase::Head { bytes: read }, self.header_timeout());
                if self.worker().draining.get() {
                    self.limit_head_at_drain();
                }
            }
            ConnectionPhase::Head { bytes } => {
                self.phase.set(ConnectionPhase::Head { bytes: bytes.saturating_add(read) })
            }
            ConnectionPhase::New | ConnectionPhase::Idle | ConnectionPhase::Busy | ConnectionPhase::Closing => {}
        }
        read
    }

    /// The socket takes no more for now.
    pub(super) fn write_stalled(&self) {
        if self.link.stalled.get().is_some() {
            return;
        }
        let (now, limits) = (Instant::now(), self.limits());
        self.link.stalled.set(Some(now));
        let silent = self.link.idle.get();
        let behind = limits.body_rate_min.map(|rate| self.link.reading.get().time_left(rate));
        let soonest = [silent, behind].into_iter().flatten().min();
        self.stall_alarm.set(soonest.map(|wait| now + wait));
    }

    /// The socket took `bytes`.
    pub(super) fn write_moved(&self, bytes: usize) {
        self.writes.set(self.writes.get().wrapping_add(1));
        let mut reading = self.link.reading.get();
        let rate = self.limits().body_rate_min;
        if let Some(since) = self.link.stalled.take() {
            reading = reading.moved(since.elapsed(), 0, rate, UNSEEN_BYTES);
            self.link.reading.set(reading);
            self.stall_alarm.set(None);
            // The rest between requests begins when the last answer has been taken.
            if self.phase.get() == ConnectionPhase::Idle {
                self.enter(ConnectionPhase::Idle, self.keepalive_timeout());
            }
        }
        if reading.waited > Duration::ZERO {
            self.link.reading.set(reading.moved(Duration::ZERO, bytes as u64, rate, UNSEEN_BYTES));
        }
    }

    /// Ready when the client has ended its sending, and nothing is sent to it within a response: it may only wait for the
    /// rest, but mostly it has left. What is sent would tell.
    pub(super) async fn left_in_silence(&self) {
        self.stream.sending_ended().await;
        loop {
            let before = self.writes.get();
            tokio::time::sleep(SILENT_MAX).await;
            let is_silent = self.writes.get() == before && self.link.stalled.get().is_none();
            if is_silent && self.link.is_transferring() {
                return;
            }
        }
    }

    /// hyper has read a head; a body of `body_length` bytes follows, or one in chunks. To be told before hyper reads of
    /// the body.
    pub(super) fn request_began(&self, body_length: Option<u64>) {
        self.coming.set(match body_length {
            Some(0) => Coming::Nothing,
            Some(length) => Coming::Bytes(length),
            None => Coming::Chunks(Chunks::new()),
        });
        self.requests.set(self.requests.get().saturating_add(1));
        self.link.reading.set(Pace { waited: Duration::ZERO, bytes: UNSEEN_BYTES });
        self.enter(ConnectionPhase::Busy, None);
    }

    /// Whether the head of the present request can be understood in one way only.
    pub(super) fn framing(&self) -> Framing {
        self.framing.get()
    }

    /// Tells the client when this was the connection's last request.
    pub(super) fn limit_requests<T>(&self, response: &mut Response<T>, version: Version) {
        let limit = self.limits().max_requests_per_connection.filter(|_| !self.is_from_front());
        let is_last = limit.is_some_and(|limit| self.requests.get() >= limit) || self.worker().leaving.get();
        if is_last && !self.worker().leaving.get() {
            self.worker().lines.last_request(self.worker().id.0, self.link.peer);
        }
        if is_last && version >= Version::HTTP_11 {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if is_last {
            // hyper keeps the connection of an older client that wants it, unless the answer is of that version.
            *response.version_mut() = version;
        }
    }

    /// Ready when the connection ends: its client has not read for too long, or the time of the present phase is over.
    pub(super) fn poll_limits(&self, context: &Context<'_>) -> Poll<()> {
        if self.stall_alarm.poll(context).is_ready() {
            let stalled = self.link.stalled.get().map(|since| since.elapsed()).unwrap_or_default();
            let is_silent = self.link.idle.get().is_some_and(|idle| stalled >= idle);
            self.link.end_for(if is_silent { Slow::Silent } else { Slow::Behind });
            return Poll::Ready(());
        }
        if self.phase_alarm.poll(context).is_ready() && self.link.stalled.get().is_none() {
            self.phase_ran_out();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The time of the present phase is over: answers the client, if it waits for an answer, and writes to the log.
    fn phase_ran_out(&self) {
        let worker = self.worker();
        match self.phase.get() {
            ConnectionPhase::Head { .. } => {
                worker.metrics.unrouted.refused(Refused::HeadTimeout);
                worker.lines.head_late(worker.id.0, self.link.peer);
                self.close_with(last_answer::REQUEST_TIMEOUT);
            }
            ConnectionPhase::New => worker.lines.silent(worker.id.0, self.link.peer),
            ConnectionPhase::Idle => worker.lines.idle(worker.id.0, self.link.peer),
            ConnectionPhase::Busy | ConnectionPhase::Closing => {}
        }
    }

    /// The host stops while a head arrives: it gets [`HEAD_AT_DRAIN`] to be completed, once.
    pub(super) fn limit_head_at_drain(&self) {
        if !self.head_is_last.replace(true) {
            self.phase_alarm.set(Some(Instant::now() + HEAD_AT_DRAIN));
        }
    }

    /// Writes a last response without hyper, while no other response is under way. Best effort: what the socket does not
    /// accept at once is not sent.
    fn close_with(&self, status: &str) {
        self.phase.set(ConnectionPhase::Closing);
        self.unread_body.set(true);
        if self.link.stalled.get().is_none()
            && let Err(error) = self.stream.try_write(last_answer::answer(status).as_bytes())
        {
            tracing::debug!(peer = %self.link.peer, %error, "the last response of a connection could not be sent");
        }
    }
}
