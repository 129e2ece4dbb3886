//! A response's body on its way to the client: the guest's body, which also runs the rest of the guest's call, and which is
//! broken off, never ended, when the guest does not finish it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use super::exchange::{Ending, Exchange};
use super::slot::Seat;
use super::upload::{FLAW_DETAIL, Flaw};
use crate::sandbox::{Body, BodyError, Fault, FaultKind};

/// What hyper writes to the client.
pub(super) enum ResponseBody {
    /// All of it at once; none: there is no more (or there was none).
    Whole(Option<Bytes>),
    /// As the guest gives it.
    Streaming(Box<Streaming>),
    /// None is sent, and how long it would have been is not said (an answer to HEAD).
    Unsent,
}

impl ResponseBody {
    /// A body that is known whole.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(streaming) => streaming.poll_frame(context),
            Self::Unsent => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Streaming(_) | Self::Unsent => SizeHint::default(),
        }
    }
}

/// A transfer that must not look whole: hyper closes the connection on it.
#[derive(Debug, thiserror::Error)]
#[error("the response was broken off: {0}")]
pub(super) struct BrokenOff(FaultKind);

/// The guest's body, and the guest's call for as long as it goes on.
pub(super) struct Streaming {
    inner: Body,
    /// Frames that were taken before the head was sent.
    ahead: VecDeque<Frame<Bytes>>,
    ended_ahead: bool,
    seat: Option<Seat>,
    exchange: Rc<Exchange>,
    /// What `Content-Length` promises.
    promised: Option<u64>,
    passed: u64,
    broken: Option<FaultKind>,
    ended: bool,
}

/// What was found in a body before its head is sent.
pub(super) enum Start {
    /// All of it.
    Whole(Bytes),
    /// Frames so far, whether that is all, and the body that gives the rest.
    Partial(VecDeque<Frame<Bytes>>, bool, Body),
    /// An error.
    Broken(BodyError),
}

impl Start {
    /// Whether the guest has given all of it.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self, Self::Whole(_) | Self::Partial(_, true, _) | Self::Broken(_))
    }
}

/// Most frames that are taken before the head is sent; an answer of one write and its end are two.
const AHEAD_FRAMES: usize = 3;

/// Turns that the guest gets to finish a short body before its head is sent.
const AHEAD_TURNS: usize = 2;

/// Takes what is there of a body already, so that an answer that is complete leaves with its head, in one write. `turn`
/// lets the guest go on, which a short body may need to come to its end.
///
/// # Errors
/// The fault that such a turn ended with: nothing has been sent yet.
pub(super) fn start(
    mut body: Body,
    context: &mut Context<'_>,
    mut turn: impl FnMut(&mut Context<'_>) -> Poll<Fault>,
) -> Result<Start, Fault> {
    let mut ahead = VecDeque::new();
    for turns in 0.. {
        let before = ahead.len();
        while ahead.len() < AHEAD_FRAMES {
            match poll_given(&mut body, context) {
                Poll::Ready(Some(Ok(frame))) => ahead.push_back(frame),
                Poll::Ready(Some(Err(error))) => return Ok(Start::Broken(error)),
                Poll::Ready(None) => return Ok(ended(ahead, body)),
                Poll::Pending => break,
            }
        }
        let is_stuck = turns > 0 && ahead.len() == before;
        if is_stuck || turns == AHEAD_TURNS || ahead.len() == AHEAD_FRAMES {
            break;
        }
        if let Poll::Ready(fault) = turn(context) {
            return Err(fault);
        }
    }
    Ok(Start::Partial(ahead, false, body))
}

/// What the guest has given of its body. Outside tokio's budget for a turn: a guest that polled much in this turn has used
/// it up, and what it then gave would seem not to be there.
pub(super) fn poll_given(body: &mut Body, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let given = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
    std::pin::pin!(tokio::task::unconstrained(given)).poll(context)
}

/// All frames of a body are there.
fn ended(mut ahead: VecDeque<Frame<Bytes>>, body: Body) -> Start {
    let is_one_of_data = ahead.len() == 1 && ahead.front().is_some_and(Frame::is_data);
    let bytes = if is_one_of_data { ahead.pop_front().and_then(|frame| frame.into_data().ok()) } else { None };
    match bytes {
        Some(bytes) => Start::Whole(bytes),
        None if ahead.is_empty() => Start::Whole(Bytes::new()),
        None => Start::Partial(ahead, true, body),
    }
}

impl Streaming {
    pub(super) fn new(
        (ahead, ended_ahead, inner): (VecDeque<Frame<Bytes>>, bool, Body),
        seat: Seat,
        exchange: Rc<Exchange>,
        promised: Option<u64>,
    ) -> Self {
        exchange.begin_body();
        let seat = Some(seat);
        Self { inner, ahead, ended_ahead, seat, exchange, promised, passed: 0, broken: None, ended: false }
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        crate::inject::panic_at("body");
        if let Some(frame) = self.ahead.pop_front() {
            return self.pass(frame);
        }
        if self.ended_ahead {
            return self.end();
        }
        self.run(context);
        match poll_given(&mut self.inner, context) {
            Poll::Ready(Some(Ok(frame))) => self.pass(frame),
            Poll::Ready(Some(Err(error))) => {
                self.break_off(FaultKind::Unfinished, &format!("the guest's body ended with an error: {error}"))
            }
            Poll::Ready(None) => match self.broken {
                Some(kind) => Poll::Ready(Some(Err(BrokenOff(kind)))),
                None => self.end(),
            },
            Poll::Pending => self.pending(context),
        }
    }

    /// Lets the guest go on with its call.
    fn run(&mut self, context: &mut Context<'_>) {
        let Some(seat) = &mut self.seat else { return };
        // A shared instance goes on after the answer was given, and so may its fault come.
        if seat.is_idle() && seat.is_alone() {
            return;
        }
        let polled = seat.poll(context);
        if let Some(flaw) = self.exchange.flaw(seat.is_alone(), context) {
            self.stop_for(flaw);
            return;
        }
        if let Poll::Ready(fault) = polled
            && let Some(seat) = self.seat.take()
        {
            self.broken = Some(fault.kind);
            self.exchange.used(seat.cpu());
            seat.fail(self.exchange.number, &fault);
        }
    }

    /// The client's body is not valid, or too large: the call is cancelled, as if the client had left.
    fn stop_for(&mut self, flaw: Flaw) -> FaultKind {
        if let Some(kind) = self.broken {
            return kind;
        }
        let kind = flaw.fault();
        self.broken = Some(kind);
        if let Some(seat) = self.seat.take() {
            self.exchange.used(seat.cpu());
        }
        self.exchange.failed_without_instance(&Fault::new(kind, FLAW_DETAIL));
        kind
    }

    fn pass(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(data) = frame.data_ref() {
            self.passed = self.passed.saturating_add(data.len() as u64);
            self.exchange.sent(data.len());
        }
        self.exchange.body_moved();
        Poll::Ready(Some(Ok(frame)))
    }

    fn pending(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if let Some(kind) = self.broken {
            return Poll::Ready(Some(Err(BrokenOff(kind))));
        }
        let has_returned = self.seat.as_ref().is_some_and(|seat| seat.is_alone() && seat.is_idle());
        if has_returned && self.exchange.is_p2() {
            return self.break_off(FaultKind::Unfinished, "the guest returned without finishing its body");
        }
        if has_returned && let Some(seat) = self.seat.take() {
            // The body is one that the host passes through: the guest is not needed for it.
            self.exchange.used(seat.cpu());
            seat.finish();
        }
        match self.exchange.poll_silence(context) {
            Poll::Ready(kind) => self.break_off(kind, "the body was broken off"),
            Poll::Pending => Poll::Pending,
        }
    }

    fn break_off(&mut self, kind: FaultKind, detail: &str) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        // A body that the host passes through ends with the error of the client's.
        if let Some(flaw) = self.exchange.known_flaw() {
            return Poll::Ready(Some(Err(BrokenOff(self.stop_for(flaw)))));
        }
        let kind = self.broken.unwrap_or(kind);
        self.broken = Some(kind);
        let fault = Fault::new(kind, detail);
        match self.seat.take() {
            Some(seat) => {
                self.exchange.used(seat.cpu());
                seat.fail(self.exchange.number, &fault);
            }
            None => self.exchange.failed_without_instance(&fault),
        }
        Poll::Ready(Some(Err(BrokenOff(kind))))
    }

    fn end(&mut self) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.whole();
        Poll::Ready(None)
    }

    /// The response is whole; what the guest does beyond is no longer this connection's.
    fn whole(&mut self) {
        self.ended = true;
        if let Some(seat) = self.seat.take() {
            self.exchange.used(seat.cpu());
            self.exchange.linger(seat);
        }
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body whose length it knows.
        let all_passed = self.promised.is_some_and(|promised| self.passed >= promised);
        if self.ended || (all_passed && self.broken.is_none()) {
            if !self.ended {
                self.whole();
            }
            self.exchange.finish(Ending::Whole);
            return;
        }
        if self.broken.is_none() && self.exchange.is_overdue() {
            let _ = self.break_off(FaultKind::ResponseTimeout, "the response was not whole in time");
        }
        if let Some(seat) = &self.seat {
            self.exchange.used(seat.cpu());
        }
        self.exchange.finish(self.broken.map_or(Ending::ClientLeft, Ending::Broken));
    }
}
