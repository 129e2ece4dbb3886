//! The body of a response on its way to the client. It polls the rest of the guest's call. If the guest does not finish its
//! body, the transfer is broken off, so that the client never takes half a response for a whole one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use wasmhost_sandbox::{Body, BodyError, Fault, FaultKind};

use super::broken_off::BrokenOff;
use super::exchange::{Ending, Exchange};
use super::forward::trailers::packed;
use super::link::Transfer;
use super::pace::Late;
use super::upload::{FLAW_DETAIL, Flaw};
use super::waits::Silence;
use crate::buffers::{Held, RESPONSE_AHEAD_MAX};
use crate::net::Peer;
use crate::pool::Lease;

/// What the log says of a guest whose body has no end.
pub(super) const NOT_FINISHED: &str = "the guest returned without finishing its body";

/// What the log says of one that is not as long as `Content-Length` promised.
pub(super) fn wrong_length(promised: u64, given: u64) -> String {
    format!("the guest promised {promised} bytes and gave {given}")
}

/// hyper's end of a response's body. The connection holds the other: it goes on taking what the guest gives while hyper
/// cannot write.
pub(crate) struct Streaming(Rc<RefCell<Flow>>);

/// The guest's body, and the guest's call for as long as it goes on.
struct Flow {
    inner: Body,
    /// Frames that were taken before the head was sent, or while the client did not read.
    ahead: VecDeque<Frame<Bytes>>,
    held: Held,
    /// No more comes behind `ahead`: the guest has given all, or the body is broken.
    is_over: bool,
    lease: Option<Lease>,
    exchange: Rc<Exchange>,
    /// What `Content-Length` promises.
    promised: Option<u64>,
    passed: u64,
    broken: Option<Cut>,
    /// hyper knows of the end.
    ended: bool,
    /// hyper has had a turn to send what came before the body broke.
    has_sent: bool,
}

/// Why a body is broken off.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Fault(FaultKind),
    /// The client sends its own body too slowly.
    SlowClient,
}

impl Cut {
    const fn name(self) -> &'static str {
        match self {
            Self::Fault(kind) => kind.name(),
            Self::SlowClient => "slow client",
        }
    }
}

/// What the guest's body gives.
enum GivenBody {
    Frame(Frame<Bytes>),
    End,
    Broken(Cut),
}

/// What was found in a body before its head is sent.
pub(super) enum ResponseStart {
    /// All of it.
    Whole(Bytes),
    /// Frames so far, whether that is all, and the body that gives the rest.
    Partial(VecDeque<Frame<Bytes>>, bool, Body),
    /// An error.
    Broken(BodyError),
}

impl ResponseStart {
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
) -> Result<ResponseStart, Fault> {
    let mut ahead = VecDeque::new();
    for turns in 0.. {
        let before = ahead.len();
        while ahead.len() < AHEAD_FRAMES {
            match poll_given(&mut body, context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let is_whole = ahead.is_empty() && body.is_end_stream();
                    match if is_whole { frame.into_data() } else { Err(frame) } {
                        Ok(bytes) => return Ok(ResponseStart::Whole(bytes)),
                        Err(frame) => ahead.push_back(frame),
                    }
                }
                Poll::Ready(Some(Err(error))) => return Ok(ResponseStart::Broken(error)),
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
    Ok(ResponseStart::Partial(ahead, false, body))
}

/// What the guest has given of its body. Outside tokio's budget for a turn: a guest that polled much in this turn has used
/// it up, and what it then gave would seem not to be there.
pub(super) fn poll_given(body: &mut Body, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    let given = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context));
    std::pin::pin!(tokio::task::unconstrained(given)).poll(context)
}

/// All frames of a body are there.
fn ended(mut ahead: VecDeque<Frame<Bytes>>, body: Body) -> ResponseStart {
    let is_one_of_data = ahead.len() == 1 && ahead.front().is_some_and(Frame::is_data);
    let bytes = if is_one_of_data { ahead.pop_front().and_then(|frame| frame.into_data().ok()) } else { None };
    match bytes {
        Some(bytes) => ResponseStart::Whole(bytes),
        None if ahead.is_empty() => ResponseStart::Whole(Bytes::new()),
        None => ResponseStart::Partial(ahead, true, body),
    }
}

impl Streaming {
    pub(super) fn new(
        (ahead, is_over, inner): (VecDeque<Frame<Bytes>>, bool, Body),
        lease: Lease,
        exchange: Rc<Exchange>,
        promised: Option<u64>,
    ) -> Self {
        exchange.begin_body();
        let mut held = Held::none_of(exchange.room());
        ahead.iter().for_each(|frame| held.add(length_of(frame)));
        let flow = Rc::new(RefCell::new(Flow {
            inner,
            ahead,
            held,
            is_over,
            lease: Some(lease),
            exchange: Rc::clone(&exchange),
            promised,
            passed: 0,
            broken: None,
            ended: false,
            has_sent: false,
        }));
        exchange.link().transfers(Some(Rc::clone(&flow) as _));
        Self(flow)
    }

    pub(super) fn poll_frame(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let given = ready!(self.next(context));
        if let Some(Ok(frame)) = &given {
            self.0.borrow().exchange.sent(length_of(frame));
        }
        Poll::Ready(given)
    }

    /// The next frame, which somebody else counts.
    pub(super) fn next(&self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.0.borrow_mut().poll_frame(context)
    }
}

/// Bytes of data in these frames.
pub(super) fn data_of(frames: &VecDeque<Frame<Bytes>>) -> u64 {
    frames.iter().fold(0, |sum, frame| sum.saturating_add(length_of(frame) as u64))
}

fn length_of(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

impl Transfer for Flow {
    /// Takes what the guest gives while hyper does not ask for it, up to [`RESPONSE_AHEAD_MAX`]: a guest whose response fits
    /// need not wait for its client.
    fn read_ahead(&mut self, context: &mut Context<'_>) {
        while !self.is_over {
            if !self.held.has_room(RESPONSE_AHEAD_MAX) {
                // The guest is not asked for more, and so not silent.
                self.exchange.body_moved();
                self.exchange.is_full(true);
                self.exchange.holds();
                if let Some(lease) = &mut self.lease {
                    lease.pause();
                }
                return;
            }
            match self.produce(context) {
                Poll::Ready(GivenBody::Frame(frame)) => {
                    self.held.add(length_of(&frame));
                    self.ahead.push_back(frame);
                }
                Poll::Ready(GivenBody::End | GivenBody::Broken(_)) | Poll::Pending => return,
            }
        }
        if self.broken.is_none() {
            self.give_up_lease();
        }
    }

    fn who_is_late(&self) -> Option<Late> {
        self.exchange.who_is_late()
    }
}

impl Flow {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        wasmhost_base::inject::panic_at("body");
        let given = match self.ahead.pop_front() {
            Some(frame) => {
                self.held.remove(length_of(&frame));
                self.exchange.is_full(false);
                GivenBody::Frame(frame)
            }
            None => {
                let given = ready!(self.produce(context));
                if matches!(given, GivenBody::Broken(_)) && !std::mem::replace(&mut self.has_sent, true) {
                    // hyper sends what it has when the body has to be waited for, and nothing when it breaks off at once.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                given
            }
        };
        Poll::Ready(match given {
            GivenBody::Frame(mut frame) => {
                if let Some(trailers) = frame.trailers_mut().filter(|_| self.exchange.link().peer == Peer::Front) {
                    *trailers = packed(trailers);
                }
                self.passed = self.passed.saturating_add(length_of(&frame) as u64);
                Some(Ok(frame))
            }
            GivenBody::End => {
                self.ended = true;
                None
            }
            GivenBody::Broken(cut) => Some(Err(BrokenOff(cut.name()))),
        })
    }

    /// The next frame from the guest, which goes on with its call meanwhile.
    fn produce(&mut self, context: &mut Context<'_>) -> Poll<GivenBody> {
        match self.broken {
            None if self.is_over => {
                self.give_up_lease();
                return Poll::Ready(GivenBody::End);
            }
            Some(cut) if self.is_over => return Poll::Ready(GivenBody::Broken(cut)),
            _ => {}
        }
        self.run(context);
        match poll_given(&mut self.inner, context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.exchange.body_moved();
                Poll::Ready(GivenBody::Frame(frame))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(
                self.break_off(FaultKind::Unfinished, &format!("the guest's body ended with an error: {error}")),
            ),
            Poll::Ready(None) => {
                self.is_over = true;
                let given = self.passed.saturating_add(data_of(&self.ahead));
                Poll::Ready(match (self.broken, self.promised.filter(|promised| given < *promised)) {
                    (Some(cut), _) => GivenBody::Broken(cut),
                    (None, Some(promised)) => self.break_off(FaultKind::Unfinished, &wrong_length(promised, given)),
                    (None, None) => {
                        self.give_up_lease();
                        GivenBody::End
                    }
                })
            }
            Poll::Pending => self.pending(context),
        }
    }

    /// Lets the guest go on with its call.
    fn run(&mut self, context: &mut Context<'_>) {
        let Some(lease) = &mut self.lease else { return };
        // A shared instance goes on after the answer was given, and so may its fault come.
        if lease.is_idle() && lease.is_alone() {
            return;
        }
        let polled = lease.poll(context);
        if let Some(flaw) = self.exchange.flaw(context) {
            self.stop_for(flaw);
            return;
        }
        if let Poll::Ready(fault) = polled
            && let Some(lease) = self.take_lease()
        {
            self.broken = Some(Cut::Fault(fault.kind));
            self.exchange.trace_fault(&fault);
            lease.fail(self.exchange.number, &fault);
        }
    }

    /// The client's body is not valid, or too large: the call is cancelled, as if the client had left.
    fn stop_for(&mut self, flaw: Flaw) -> Cut {
        if let Some(cut) = self.broken {
            return cut;
        }
        let cut = Cut::Fault(flaw.fault());
        self.cancel(cut);
        self.exchange.failed_without_instance(&Fault::new(flaw.fault(), FLAW_DETAIL));
        cut
    }

    /// The client is at fault: the call is cancelled, as if it had left.
    fn cancel(&mut self, cut: Cut) {
        self.broken = Some(cut);
        drop(self.take_lease());
    }

    fn pending(&mut self, context: &mut Context<'_>) -> Poll<GivenBody> {
        if let Some(cut) = self.broken {
            self.is_over = true;
            return Poll::Ready(GivenBody::Broken(cut));
        }
        let has_returned = self.lease.as_ref().is_some_and(|lease| lease.is_alone() && lease.is_idle());
        if has_returned && self.exchange.is_p2() {
            return Poll::Ready(self.break_off(FaultKind::Unfinished, NOT_FINISHED));
        }
        if has_returned && let Some(lease) = self.take_lease() {
            // The body is one that the host passes through: the guest is not needed for it.
            lease.finish();
        }
        self.exchange.poll_silence(context).map(|silence| match silence {
            Silence::OfTheGuest => self.break_off(FaultKind::BodyIdle, "the guest gave no more of its body in time"),
            Silence::OfTheClient => {
                self.cancel(Cut::SlowClient);
                self.is_over = true;
                GivenBody::Broken(Cut::SlowClient)
            }
        })
    }

    fn break_off(&mut self, kind: FaultKind, detail: &str) -> GivenBody {
        self.is_over = true;
        // A body that the host passes through ends with the error of the client's.
        if let Some(flaw) = self.exchange.known_flaw() {
            return GivenBody::Broken(self.stop_for(flaw));
        }
        if let Some(cut) = self.broken {
            return GivenBody::Broken(cut);
        }
        self.broken = Some(Cut::Fault(kind));
        let fault = Fault::new(kind, detail);
        self.exchange.trace_fault(&fault);
        match self.take_lease() {
            Some(lease) => lease.fail(self.exchange.number, &fault),
            None => self.exchange.failed_without_instance(&fault),
        }
        GivenBody::Broken(Cut::Fault(kind))
    }

    /// The guest has given its whole response; what it does beyond is no longer this connection's.
    fn give_up_lease(&mut self) {
        if let Some(lease) = self.take_lease() {
            self.exchange.linger(lease);
        }
    }

    fn take_lease(&mut self) -> Option<Lease> {
        let lease = self.lease.take()?;
        self.exchange.used(lease.cpu());
        self.exchange.has_instance(false);
        Some(lease)
    }

    /// hyper lets go of the body.
    fn close(&mut self) {
        // hyper does not ask for the end of a body whose length it knows.
        let all_passed = self.promised.is_some_and(|promised| self.passed >= promised);
        if self.ended || (all_passed && self.broken.is_none()) {
            self.give_up_lease();
            self.exchange.finish(Ending::Whole);
            return;
        }
        if self.broken.is_none() && self.exchange.link().is_overdue() {
            self.break_off(FaultKind::ResponseTimeout, "the response was not whole in time");
        }
        drop(self.take_lease());
        self.exchange.finish(match self.broken {
            Some(Cut::Fault(kind)) => Ending::Broken(kind),
            Some(Cut::SlowClient) => Ending::ClientSlow,
            None if self.exchange.link().has_slow_client() => Ending::ClientSlow,
            None => Ending::ClientLeft,
        });
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.0.borrow().exchange.link().transfers(None);
        self.0.borrow_mut().close();
    }
}
