//! The body of a request on its way to a worker of a group.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use wasmhost_sandbox::BodyError;

use super::super::request_body::RequestBody;
use super::socket::LineState;
use super::trailers::packed;

/// Holds a body back whose client waits for `100 Continue`, until the worker of the group says so.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_open: AtomicBool,
    waiting: Mutex<Option<Waker>>,
}

impl Gate {
    pub(super) fn open(&self) {
        self.is_open.store(true, Relaxed);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.is_open.load(Relaxed) {
            return Poll::Ready(());
        }
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        // (All on one thread.)
        Poll::Pending
    }
}

/// The client's body, as it goes to a worker of a group.
pub(super) struct ForwardedUpload {
    body: Option<RequestBody>,
    pub(super) gate: Option<Arc<Gate>>,
    /// Of the connection that it goes to.
    pub(super) line: Rc<LineState>,
}

impl ForwardedUpload {
    /// None: there is no body.
    pub(super) fn new(body: Option<RequestBody>, gate: Option<Arc<Gate>>) -> Self {
        Self { body, gate, line: Rc::default() }
    }
}

impl Body for ForwardedUpload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { body, gate, line } = &mut *self;
        if line.has_flaw.get() || gate.as_ref().is_some_and(|gate| gate.poll(context).is_pending()) {
            return Poll::Pending;
        }
        let Some(body) = body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(context) {
            // An error would end the connection, and the answer with it. The worker of the group finds an early end instead,
            // and answers that the request is not valid.
            Poll::Ready(Some(Err(_))) => {
                line.has_flaw.set(true);
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(match frame.into_trailers() {
                Ok(trailers) => Frame::trailers(packed(&trailers)),
                Err(frame) => frame,
            }))),
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
