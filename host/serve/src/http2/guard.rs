//! A connection of HTTP/2 and its streams, as their requests know them ([`StreamCarrier`]), with the limits that hyper lacks: how long its beginning and the headers of a request may take, how
//! long it may rest, what a client may send in vain, and whether the client is still there.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};

use super::frames::{Breach, Flood, FrameWalker, Seen};
use super::unread::Unread;
use crate::alarms::Alarm;
use crate::http::{Carrier, Link, Slow, UNSEEN_BYTES, WorkerShared};
use crate::metrics::Refused;
use crate::net::{Peer, Stream};

/// How long a client may take to see that the connection ends.
const LAST_FRAMES: Duration = Duration::from_secs(1);
/// Reads in one turn of the connection, of eight KiB each mostly.
const READS_A_TURN: u32 = 16;
/// Polls of streams in one round of a turn.
const STREAMS_A_ROUND: u32 = 16;
/// Carriers that are kept for the next streams.
const SPARE_MAX: usize = 16;

/// What a piece of a response takes beside its bytes, in bytes, while hyper has it.
pub(super) const PIECE_COST: usize = 256;

/// A PING that asks whether the client is there (RFC 9113, section 6.7).
const PING: [u8; 17] = *b"\0\0\x08\x06\0\0\0\0\0wasmhost";

/// Reasons in a GOAWAY (section 7).
mod reason {
    pub(super) const NO_ERROR: u8 = 0;
    pub(super) const PROTOCOL_ERROR: u8 = 1;
    pub(super) const ENHANCE_YOUR_CALM: u8 = 11;
}

/// What a connection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Its preface and settings are still to come.
    Beginning,
    /// It has no request.
    Resting,
    Serving,
    /// It takes no further request.
    Ending,
}

/// State of a connection, shared by its task, its socket and its streams, all on the worker's thread.
pub(super) struct FrameGuard {
    pub(super) worker: Rc<WorkerShared>,
    pub(super) stream: Rc<Stream>,
    pub(super) peer: Peer,
    began: Instant,
    incoming: RefCell<FrameWalker>,
    doing: Cell<Doing>,
    /// When the beginning, the rest or the end is over.
    phase_alarm: Alarm,
    /// When headers that have begun must be there.
    head_alarm: Alarm,
    within_head: Cell<bool>,
    /// When the client is asked whether it is there, or must have answered.
    silence_alarm: Alarm,
    is_asked: Cell<bool>,
    /// Times that bytes came.
    reads: Cell<u64>,
    reads_at_alarm: Cell<u64>,
    reads_in_turn: Cell<u32>,
    polls_in_round: Cell<u32>,
    /// The last stream that the client has begun.
    last_stream: Cell<u32>,
    /// Requests so far.
    requests: Cell<u64>,
    /// And under way.
    streams: Cell<usize>,
    /// Bytes of responses that hyper has and has not written.
    pub(super) held: Cell<usize>,
    /// What its responses take, wherever they are.
    pub(super) unread: Unread,
    /// Streams of which hyper holds something.
    watched: RefCell<Vec<Rc<StreamCarrier>>>,
    spare: RefCell<Vec<Rc<StreamCarrier>>>,
    /// The carrier of the request that hyper has just given to the service.
    begun: RefCell<Option<Rc<StreamCarrier>>>,
    /// Part of a frame of hyper's may be on the wire.
    within_frame: Cell<bool>,
    /// What is left of a frame of the guard's own.
    own: Cell<&'static [u8]>,
    breach: Cell<Option<Breach>>,
    has_client: Cell<bool>,
}

impl FrameGuard {
    pub(super) fn new(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) -> Self {
        let [phase_alarm, head_alarm, silence_alarm, unread_alarm] = std::array::from_fn(|_| worker.alarms.alarm());
        let unread = Unread::new(&worker.unread, unread_alarm);
        let began = Instant::now();
        phase_alarm.set(Some(began + worker.config.limits.header_timeout));
        Self {
            worker,
            stream,
            peer,
            began,
            incoming: RefCell::new(FrameWalker::new()),
            doing: Cell::new(Doing::Beginning),
            phase_alarm,
            head_alarm,
            within_head: Cell::new(false),
            silence_alarm,
            is_asked: Cell::new(false),
            reads: Cell::new(0),
            reads_at_alarm: Cell::new(0),
            reads_in_turn: Cell::new(0),
            polls_in_round: Cell::new(0),
            last_stream: Cell::new(0),
            requests: Cell::new(0),
            streams: Cell::new(0),
            held: Cell::new(0),
            unread,
            watched: RefCell::default(),
            spare: RefCell::default(),
            begun: RefCell::default(),
            within_frame: Cell::new(false),
            own: Cell::new(&[]),
            breach: Cell::new(None),
            has_client: Cell::new(true),
        }
    }

    // ---- bytes ----

    pub(super) fn turn_begins(&self) {
        self.reads_in_turn.set(0);
    }

    pub(super) fn round_begins(&self) {
        self.polls_in_round.set(0);
    }

    /// Whether bytes may be read in this turn.
    pub(super) fn may_read(&self) -> bool {
        let reads = self.reads_in_turn.get();
        self.reads_in_turn.set(reads + 1);
        reads < READS_A_TURN
    }

    /// Whether a stream may go on in this round.
    pub(super) fn may_poll_stream(&self) -> bool {
        let polls = self.polls_in_round.get();
        self.polls_in_round.set(polls + 1);
        polls < STREAMS_A_ROUND
    }

    /// Records bytes that came.
    ///
    /// # Errors
    /// When the connection is to end for what came.
    pub(super) fn did_read(&self, came: &[u8]) -> io::Result<()> {
        if came.is_empty() {
            self.client_ended();
        }
        self.reads.set(self.reads.get() + 1);
        let was_within = self.within_head.get();
        let outcome = self.incoming.borrow_mut().take(came, || self.began.elapsed(), |seen| self.saw(seen));
        if self.within_head.get() != was_within {
            let limit = self.worker.config.limits.header_timeout;
            self.head_alarm.set(self.within_head.get().then(|| Instant::now() + limit));
        }
        outcome.map_err(|breach| {
            self.breach.set(Some(breach));
            io::Error::other("the client breaks the rules of the connection")
        })
    }

    fn saw(&self, seen: Seen) {
        match seen {
            Seen::Settings if self.doing.get() == Doing::Beginning => self.rest(),
            Seen::HeadersBegin { stream } => {
                self.within_head.set(true);
                self.last_stream.set(stream.max(self.last_stream.get()));
            }
            Seen::HeadersEnd => self.within_head.set(false),
            Seen::Settings => {}
        }
    }

    /// The client has closed its side.
    pub(super) fn client_ended(&self) {
        self.has_client.set(false);
    }

    pub(super) fn has_client(&self) -> bool {
        self.has_client.get()
    }

    pub(super) fn within_frame(&self, is: bool) {
        self.within_frame.set(is);
    }

    /// Writes what is left of a frame of the guard's own, which goes before hyper's next one. Whether none is left.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) fn write_own(&self) -> io::Result<bool> {
        let own = self.own.get();
        if !own.is_empty() {
            self.own.set(&own[self.stream.try_write(own)?..]);
        }
        Ok(self.own.get().is_empty())
    }

    // ---- streams ----

    /// A request begins.
    pub(super) fn begin(self: &Rc<Self>) -> Rc<StreamCarrier> {
        let spare = self.spare.borrow_mut().pop();
        let carrier = spare.inspect(|spare| spare.renew()).unwrap_or_else(|| Rc::new(StreamCarrier::new(self)));
        self.begun.replace(Some(Rc::clone(&carrier)));
        self.requests.set(self.requests.get().saturating_add(1));
        if self.streams.replace(self.streams.get() + 1) == 0 {
            if self.doing.get() == Doing::Resting {
                self.doing.set(Doing::Serving);
                self.phase_alarm.set(None);
            }
            self.listen();
        }
        carrier
    }

    pub(super) fn take_begun(&self) -> Option<Rc<StreamCarrier>> {
        self.begun.take()
    }

    /// A response was given, to hyper at least.
    pub(super) fn answered(&self) {
        self.incoming.borrow_mut().budget().answered();
    }

    /// So much of a response was written.
    pub(super) fn wrote(&self, bytes: usize) {
        self.incoming.borrow_mut().budget().wrote(bytes);
    }

    pub(super) fn watch(&self, carrier: Rc<StreamCarrier>) {
        self.watched.borrow_mut().push(carrier);
    }

    /// A request's task has ended.
    pub(super) fn stream_ended(&self, carrier: &Rc<StreamCarrier>) {
        let left = self.streams.get().saturating_sub(1);
        self.streams.set(left);
        if left == 0 && self.doing.get() == Doing::Serving {
            self.rest();
        }
        self.spare_if_free(carrier);
    }

    /// Keeps a carrier that nobody else holds.
    fn spare_if_free(&self, carrier: &Rc<StreamCarrier>) {
        let mut spare = self.spare.borrow_mut();
        if Rc::strong_count(carrier) == 1 && spare.len() < SPARE_MAX {
            spare.push(Rc::clone(carrier));
        }
    }

    fn rest(&self) {
        self.doing.set(Doing::Resting);
        self.phase_alarm.set(Some(Instant::now() + self.worker.config.limits.keepalive_timeout));
        self.silence_alarm.set(None);
    }

    /// Whether the connection takes no further request: the host stops, or it has had as many as it may.
    pub(super) fn is_to_end(&self) -> bool {
        let limit = self.worker.config.limits.max_requests_per_connection;
        let has_had_all = limit.is_some_and(|limit| self.requests.get() >= limit);
        if has_had_all && self.doing.get() != Doing::Ending {
            self.worker.lines.last_request(self.worker.id.0, self.peer);
        }
        has_had_all || self.worker.leaving.get()
    }

    /// The client is told that the connection ends.
    pub(super) fn ends(&self) {
        self.doing.set(Doing::Ending);
        self.phase_alarm.set(Some(Instant::now() + LAST_FRAMES));
    }

    // ---- limits ----

    /// A client whose requests are under way may be silent for as long as it could be without any; then it is asked whether
    /// it is still there.
    fn listen(&self) {
        self.is_asked.set(false);
        self.reads_at_alarm.set(self.reads.get());
        self.silence_alarm.set(Some(Instant::now() + self.worker.config.limits.keepalive_timeout));
    }

    /// What the client has done, if hyper ended because of it.
    pub(super) fn take_breach(&self) -> Option<Breach> {
        self.breach.take()
    }

    /// Looks at the streams of which hyper holds something that it could not write. Ready when nothing is left of the
    /// connection but ends of responses that its client does not take: those cannot be ended alone.
    fn poll_watched(&self, context: &Context<'_>) -> Poll<()> {
        let mut watched = self.watched.take();
        let mut now = None;
        watched.retain(|carrier| {
            let is_held = carrier.poll_stall(&mut now, context);
            if !is_held {
                carrier.is_watched.set(false);
                self.spare_if_free(carrier);
            }
            is_held
        });
        let ends = self.streams.get() == 0 && watched.iter().any(|carrier| carrier.is_ended());
        self.watched.borrow_mut().append(&mut watched);
        if ends { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready when the connection ends: why.
    pub(super) fn poll_limits(&self, context: &Context<'_>) -> Poll<LimitMet> {
        if !self.watched.borrow().is_empty() && self.poll_watched(context).is_ready() {
            return Poll::Ready(LimitMet::Stall);
        }
        if self.unread.poll(context).is_ready() {
            self.watched.borrow().iter().for_each(|carrier| carrier.link.end_for(Slow::Unread));
            return Poll::Ready(LimitMet::Unread);
        }
        if self.head_alarm.poll(context).is_ready() {
            return Poll::Ready(LimitMet::HeadTimeout);
        }
        if self.phase_alarm.poll(context).is_ready() {
            match self.doing.get() {
                Doing::Beginning => return Poll::Ready(LimitMet::Silence),
                Doing::Resting if self.held.get() == 0 => return Poll::Ready(LimitMet::Rest),
                Doing::Ending if self.streams.get() == 0 && self.held.get() == 0 => return Poll::Ready(LimitMet::End),
                // A response waits for its client, which has a time of its own.
                Doing::Resting => self.rest(),
                Doing::Ending => self.ends(),
                Doing::Serving => self.phase_alarm.set(None),
            }
            // Has it look again.
            let _ = self.phase_alarm.poll(context);
        }
        if self.silence_alarm.poll(context).is_ready() {
            if self.streams.get() == 0 || self.reads.get() != self.reads_at_alarm.get() {
                self.listen();
            } else if self.is_asked.replace(true) {
                return Poll::Ready(LimitMet::Gone);
            } else {
                self.silence_alarm.set(Some(Instant::now() + self.worker.config.limits.header_timeout));
                self.send_own(&PING);
            }
            let _ = self.silence_alarm.poll(context);
        }
        Poll::Pending
    }

    /// Writes a frame of the guard's own; what the socket does not take at once goes before hyper's next frame. None is
    /// written into one of hyper's.
    fn send_own(&self, frame: &'static [u8]) {
        if !self.within_frame.get() && self.own.get().is_empty() {
            self.own.set(frame);
            if let Err(error) = self.write_own() {
                tracing::debug!(peer = %self.peer, %error, "a frame could not be sent");
            }
        }
    }

    /// Tells the client that the connection ends now (RFC 9113, section 6.8). Best effort: what the socket does not take at
    /// once is not sent.
    pub(super) fn go_away(&self, met: LimitMet) {
        if self.within_frame.get() || !self.own.get().is_empty() {
            return;
        }
        let reason = match met {
            LimitMet::Breach(Breach::Flood(_)) => reason::ENHANCE_YOUR_CALM,
            LimitMet::Breach(Breach::NoSettings) => reason::PROTOCOL_ERROR,
            _ => reason::NO_ERROR,
        };
        let [a, b, c, d] = self.last_stream.get().to_be_bytes();
        let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, a, b, c, d, 0, 0, 0, reason];
        if let Err(error) = self.stream.try_write(&frame) {
            tracing::debug!(peer = %self.peer, %error, "the last frame of a connection could not be sent");
        }
    }

    /// Counts and logs why the connection ends.
    pub(super) fn tell(&self, met: LimitMet) {
        let (worker, peer) = (&self.worker, self.peer);
        let (lines, id) = (&worker.lines, worker.id.0);
        match met {
            LimitMet::Silence => lines.silent(id, peer),
            LimitMet::Rest => lines.idle(id, peer),
            LimitMet::HeadTimeout => {
                worker.metrics.unrouted.refused(Refused::HeadTimeout);
                lines.head_late(id, peer);
            }
            LimitMet::Breach(Breach::NoSettings) => self.tell_broken(&"its first frame is not SETTINGS"),
            LimitMet::Breach(Breach::Flood(flood)) => {
                worker.metrics.unrouted.refused(Refused::Flood);
                if let Some(count) = lines.flood.admit(Instant::now()) {
                    let reason = match flood {
                        Flood::Frames => "frames that make no request go on",
                        Flood::Resets => "requests that were given up",
                        Flood::Library => "frames that h2 bounds",
                    };
                    tracing::info!(worker = id, count, %peer, reason, "connections were closed because of floods of frames (count: since the last such line)");
                }
            }
            LimitMet::Gone => {
                if let Some(count) = lines.gone.admit(Instant::now()) {
                    tracing::info!(worker = id, count, %peer, "connections were closed whose client did not answer a PING (count: since the last such line)");
                }
            }
            LimitMet::Stall | LimitMet::Unread | LimitMet::End => {}
        }
    }

    /// Counts and logs that the client has broken a rule of HTTP/2: which.
    pub(super) fn tell_broken(&self, error: &dyn Display) {
        let (worker, peer) = (&self.worker, self.peer);
        worker.metrics.unrouted.refused(Refused::BadRequest);
        if let Some(count) = worker.lines.broken_frames.admit(Instant::now()) {
            tracing::info!(worker = worker.id.0, count, %peer, %error, "connections were closed that broke the rules of HTTP/2 (count: since the last such line)");
        }
    }

    /// Lets go of what holds the guard in turn.
    pub(super) fn clear(&self) {
        self.spare.take();
        self.watched.take();
        self.begun.take();
    }
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitMet {
    /// Its preface and settings did not come in time.
    Silence,
    /// Headers that began did not come whole in time.
    HeadTimeout,
    /// It had no request for too long.
    Rest,
    /// Its client did not take what was left of its responses.
    Stall,
    /// Its client left more unread than there is room for.
    Unread,
    /// It had been told that it ends, and has no request.
    End,
    /// Its client did not answer.
    Gone,
    Breach(Breach),
}

/// A stream, as its request knows it.
pub(super) struct StreamCarrier {
    pub(super) link: Link,
    pub(super) guard: Rc<FrameGuard>,
    stall_alarm: Alarm,
    /// Bytes of its response that hyper has and has not written.
    pub(super) held: Cell<usize>,
    /// The response waits until less is held.
    pub(super) waiting: RefCell<Option<Waker>>,
    /// The guard looks at it.
    pub(super) is_watched: Cell<bool>,
    /// The request ends, and its stream alone.
    pub(super) is_ended: Cell<bool>,
}

impl Carrier for StreamCarrier {
    fn link(&self) -> &Link {
        &self.link
    }

    fn request_ended(&self, _upload_ended: bool, _now: Instant) {
        self.link.request_alarm.set(None);
        self.link.response_alarm.set(None);
        self.guard.answered();
    }

    /// The end of a body is its stream's: one that is broken off resets it.
    fn end_with_reset(&self) {}
}

impl StreamCarrier {
    pub(super) fn new(guard: &Rc<FrameGuard>) -> Self {
        let worker = Rc::clone(&guard.worker);
        Self {
            stall_alarm: worker.alarms.alarm(),
            link: Link::new(worker, Rc::clone(&guard.stream), guard.peer),
            guard: Rc::clone(guard),
            held: Cell::new(0),
            waiting: RefCell::default(),
            is_watched: Cell::new(false),
            is_ended: Cell::new(false),
        }
    }

    /// Makes it ready for another stream of its connection.
    pub(super) fn renew(&self) {
        self.link.renew();
        self.stall_alarm.set(None);
        self.is_ended.set(false);
    }

    /// A piece for hyper. (Its bytes are counted among what is unread already.)
    pub(super) fn give(self: &Rc<Self>, bytes: Bytes) -> Piece {
        self.guard.unread.add(PIECE_COST);
        let held = bytes.len() + PIECE_COST;
        self.held.set(self.held.get() + held);
        self.guard.held.set(self.guard.held.get() + held);
        if !self.is_watched.replace(true) {
            self.guard.watch(Rc::clone(self));
        }
        Piece { bytes, carrier: Rc::clone(self) }
    }

    /// hyper has written so much of what it holds, or has thrown it away.
    fn let_go(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
        self.guard.held.set(self.guard.held.get().saturating_sub(bytes));
        self.guard.unread.remove(bytes);
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }

    /// So much of it was written.
    fn wrote(&self, bytes: usize) {
        self.guard.wrote(bytes);
        self.guard.unread.took(bytes);
        let (mut reading, rate) = (self.link.reading.get(), self.link.worker.config.limits.body_rate_min);
        if let Some(since) = self.link.stalled.take() {
            reading = reading.moved(since.elapsed(), 0, rate, UNSEEN_BYTES);
            self.link.reading.set(reading);
            self.stall_alarm.set(None);
        }
        if reading.waited > Duration::ZERO {
            self.link.reading.set(reading.moved(Duration::ZERO, bytes as u64, rate, UNSEEN_BYTES));
        }
    }

    /// hyper has written what it could: what is left waits for the client, and ends the request when it has waited for too
    /// long. False: nothing is left.
    pub(super) fn poll_stall(&self, now: &mut Option<Instant>, context: &Context<'_>) -> bool {
        if self.held.get() == 0 {
            return false;
        }
        if self.link.stalled.get().is_none() {
            let now = *now.get_or_insert_with(Instant::now);
            self.link.stalled.set(Some(now));
            let rate = self.link.worker.config.limits.body_rate_min;
            let behind = rate.map(|rate| self.link.reading.get().time_left(rate));
            let soonest = [self.link.idle.get(), behind].into_iter().flatten().min();
            self.stall_alarm.set(soonest.map(|wait| now + wait));
        }
        if self.stall_alarm.poll(context).is_ready() {
            self.stall_alarm.set(None);
            let stalled = self.link.stalled.get().map(|since| since.elapsed()).unwrap_or_default();
            let is_silent = self.link.idle.get().is_some_and(|idle| stalled >= idle);
            self.link.end_for(if is_silent { Slow::Silent } else { Slow::Behind });
            self.is_ended.set(true);
            self.link.response_alarm.wake();
        }
        true
    }

    /// Whether the client has let its response wait for too long.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended.get()
    }
}

/// A piece of a response that hyper has.
pub(super) struct Piece {
    bytes: Bytes,
    carrier: Rc<StreamCarrier>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.carrier.wrote(count);
        if count > 0 {
            self.carrier.let_go(if self.bytes.has_remaining() { count } else { count + PIECE_COST });
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.has_remaining() {
            self.carrier.let_go(self.bytes.remaining() + PIECE_COST);
        }
    }
}
