//! The task that answers a request of a stream, and the body of its response on the way through hyper, piece by piece.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::guard::{PIECE_COST, Piece, StreamCarrier};
use super::unread::OPEN_FILE;
use crate::http::{BrokenOff, ResponseBody, Slow, without_connection_fields};

/// Longest piece of a body that hyper gets at once: a frame of the size that every client takes (RFC 9113, section 4.2).
const PIECE_MAX: usize = 16 * 1024;
/// How much of a response may wait in hyper when its end is given to hyper. A response that waits with more keeps its task,
/// which can end it alone; what waits with less keeps its place among the connection's streams.
const LEFT_AT_END_MAX: usize = PIECE_MAX + PIECE_COST;
/// What a response may have waiting in hyper: h2 bounds its bytes, and not the pieces that they come in.
const OF_A_STREAM_MAX: usize = 64 * 1024;
/// What a connection's responses may have waiting in hyper. Beyond it each has one piece.
const HELD_MAX: usize = 1024 * 1024;

/// The body of a response, as hyper gets it.
pub(super) struct StreamBody {
    inner: ResponseBody,
    carrier: Rc<StreamCarrier>,
    /// What is left of a frame.
    rest: Bytes,
    /// What `inner` and `rest` take, as far as it is counted.
    counted: usize,
    trailers: Option<HeaderMap>,
}

impl StreamBody {
    pub(super) fn new(inner: ResponseBody, carrier: Rc<StreamCarrier>) -> Self {
        let counted = match &inner {
            ResponseBody::Whole(bytes) => bytes.as_ref().map_or(0, Bytes::len),
            ResponseBody::File(_) => OPEN_FILE,
            _ => 0,
        };
        carrier.guard.unread.add(counted);
        Self { inner, carrier, rest: Bytes::new(), counted, trailers: None }
    }

    fn count(&mut self, bytes: usize) {
        self.counted += bytes;
        self.carrier.guard.unread.add(bytes);
    }

    fn piece(&mut self) -> Frame<Piece> {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_MAX));
        self.counted = self.counted.saturating_sub(bytes.len());
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

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.carrier.guard.unread.remove(self.counted);
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
        ready!(self.poll_held(|held| held == 0 || (held < OF_A_STREAM_MAX && in_all < HELD_MAX), context));
        while self.rest.is_empty() && self.trailers.is_none() {
            match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        // (One that was whole from the beginning is counted since then.)
                        if !matches!(self.inner, ResponseBody::Whole(_)) {
                            self.count(data.len());
                        }
                        self.rest = data;
                    }
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
