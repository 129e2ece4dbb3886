//! One stream, as its request knows it ([`StreamCarrier`]), the task that answers it, and the body of its response on the way
//! through hyper. What hyper was given and has not written is counted here piece by piece: so it is known which client does
//! not read which response, and what a connection holds.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::guard::FrameGuard;
use crate::alarms::Alarm;
use crate::http::{BrokenOff, Carrier, Link, ResponseBody, Slow, UNSEEN_BYTES, without_connection_fields};

/// Longest piece of a body that hyper gets at once: a frame of the size that every client takes (RFC 9113, section 4.2).
const PIECE_MAX: usize = 16 * 1024;
/// How much of a response may wait in hyper when its end is given to hyper. A response that waits with more keeps its task,
/// which can end it alone; what waits with less keeps its place among the connection's streams.
const LEFT_AT_END_MAX: usize = 16 * 1024;
/// What a connection's responses may have waiting in hyper. Beyond it each has one piece.
const HELD_MAX: usize = 1024 * 1024;

/// A stream, as its request knows it.
pub(super) struct StreamCarrier {
    link: Link,
    guard: Rc<FrameGuard>,
    stall_alarm: Alarm,
    /// Bytes of its response that hyper has and has not written.
    held: Cell<usize>,
    /// The response waits until less is held.
    waiting: RefCell<Option<Waker>>,
    /// The guard looks at it.
    pub(super) is_watched: Cell<bool>,
    /// The request ends, and its stream alone.
    is_ended: Cell<bool>,
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

    fn give(self: &Rc<Self>, bytes: Bytes) -> Piece {
        self.held.set(self.held.get() + bytes.len());
        self.guard.held.set(self.guard.held.get() + bytes.len());
        if !self.is_watched.replace(true) {
            self.guard.watch(Rc::clone(self));
        }
        Piece { bytes, carrier: Rc::clone(self) }
    }

    /// hyper has written so much of what it holds, or has thrown it away.
    fn let_go(&self, bytes: usize) {
        self.held.set(self.held.get().saturating_sub(bytes));
        self.guard.held.set(self.guard.held.get().saturating_sub(bytes));
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }

    /// So much of it was written.
    fn wrote(&self, bytes: usize) {
        self.guard.wrote(bytes);
        let (mut reading, rate) = (self.link.reading.get(), self.link.worker.config.limits.body_rate_min);
        if let Some(since) = self.link.stalled.take() {
            reading = reading.moved(since.elapsed(), 0, rate, UNSEEN_BYTES);
            self.link.reading.set(reading);
            self.stall_alarm.set(None);
        }
        if reading.waited > Duration::ZERO {
            self.link.reading.set(reading.moved(Duration::ZERO, bytes as u64, rate, UNSEEN_BYTES));
        }
        self.let_go(bytes);
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
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.bytes.has_remaining() {
            self.carrier.let_go(self.bytes.remaining());
        }
    }
}

/// The body of a response, as hyper gets it.
pub(super) struct StreamBody {
    inner: ResponseBody,
    carrier: Rc<StreamCarrier>,
    /// What is left of a frame.
    rest: Bytes,
    trailers: Option<HeaderMap>,
}

impl StreamBody {
    pub(super) fn new(inner: ResponseBody, carrier: Rc<StreamCarrier>) -> Self {
        Self { inner, carrier, rest: Bytes::new(), trailers: None }
    }

    fn piece(&mut self) -> Frame<Piece> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_MAX));
        Frame::data(self.carrier.give(bytes))
    }

    /// Ready when hyper holds little enough.
    fn poll_held(&self, is_little: impl Fn(usize) -> bool, context: &Context<'_>) -> Poll<()> {
        if is_little(self.carrier.held.get()) {
            return Poll::Ready(());
        }
        *self.carrier.waiting.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

impl http_body::Body for StreamBody {
    type Data = Piece;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BrokenOff>>> {
        let in_all = self.carrier.guard.held.get();
        ready!(self.poll_held(|held| held == 0 || in_all < HELD_MAX, context));
        while self.rest.is_empty() && self.trailers.is_none() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok().map(without_connection_fields),
                },
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
                None => {
                    ready!(self.poll_held(|held| held <= LEFT_AT_END_MAX, context));
                    return Poll::Ready(None);
                }
            }
        }
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.piece())));
        }
        ready!(self.poll_held(|held| held <= LEFT_AT_END_MAX, context));
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let has_rest = !self.rest.is_empty() || self.trailers.is_some();
        let has_ended = self.inner.is_end_stream() || matches!(self.inner, ResponseBody::Unsent);
        !has_rest && has_ended && self.carrier.held.get() <= LEFT_AT_END_MAX
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What answers a request: hyper's future, within the limits that hyper lacks.
pub(super) struct StreamTask {
    /// None: it has ended.
    answering: Option<Pin<Box<dyn Future<Output = ()>>>>,
    carrier: Rc<StreamCarrier>,
}

impl StreamTask {
    pub(super) fn new(answering: impl Future<Output = ()> + 'static, carrier: Rc<StreamCarrier>) -> Self {
        Self { answering: Some(Box::pin(answering)), carrier }
    }

    /// Ready when the request has ended.
    fn poll_request(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(answering) = &mut self.answering else { return Poll::Ready(()) };
        let (carrier, link) = (&self.carrier, &self.carrier.link);
        if carrier.is_ended.get() {
            return Poll::Ready(());
        }
        if answering.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        while link.response_alarm.poll(context).is_ready() {
            if link.is_response_late() {
                return Poll::Ready(());
            }
        }
        if link.stalled.get().is_some() {
            link.read_ahead(context);
        }
        if link.in_the_way.take() {
            link.end_for(Slow::InTheWay);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Future for StreamTask {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if !self.carrier.guard.may_poll_stream() {
            // After the sockets, and others of this worker.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_request(context)
    }
}

impl Drop for StreamTask {
    fn drop(&mut self) {
        // A stream whose answer has not ended is reset by this.
        drop(self.answering.take());
        self.carrier.guard.stream_ended(&self.carrier);
    }
}
