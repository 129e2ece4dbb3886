//! The body of a response on its way from a worker of a group to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use wasmhost_sandbox::FaultKind;

use super::super::exchange::{Ending, Exchange};
use super::super::response_body::BrokenOff;
use super::connections::ForwardLine;

/// A body that a worker of a group gives.
pub(super) struct ForwardedBody {
    inner: Incoming,
    line: Option<ForwardLine>,
    exchange: Rc<Exchange>,
    /// What `Content-Length` promises.
    promised: Option<u64>,
    passed: u64,
    /// hyper knows of the end.
    ended: bool,
    /// It broke off: the worker of the group did it, and has counted why, or it has died.
    broken: bool,
    /// hyper has asked for the body before.
    was_asked: bool,
}

/// What the log says of a body that broke off.
const BROKE_OFF: &str = "the worker of the app's group broke it off";

impl ForwardedBody {
    pub(super) fn new(inner: Incoming, line: ForwardLine, exchange: Rc<Exchange>, promised: Option<u64>) -> Self {
        let (ended, line) = (inner.is_end_stream(), Some(line));
        Self { inner, line, exchange, promised, passed: 0, ended, broken: false, was_asked: false }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.broken {
            return Poll::Ready(Some(Err(BrokenOff(BROKE_OFF))));
        }
        let is_first = !std::mem::replace(&mut self.was_asked, true);
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.passed = self.passed.saturating_add(bytes as u64);
                self.exchange.sent(bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.broken = true;
                tracing::debug!(request = self.exchange.number, %error, "{BROKE_OFF}");
                if is_first {
                    // hyper sends the headers when the body has to be waited for, and none when it breaks off at once.
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(BrokenOff(BROKE_OFF))))
            }
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.broken && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        // hyper does not ask for the end of a body whose length it knows.
        let all_passed = self.promised.is_some_and(|promised| self.passed >= promised);
        let is_whole = self.ended || (all_passed && !self.broken);
        if let Some(line) = self.line.take().filter(|_| is_whole) {
            self.exchange.keep(line);
        }
        self.exchange.finish(match (is_whole, self.broken) {
            (true, _) => Ending::Whole,
            (false, true) => Ending::Broken(FaultKind::Unfinished),
            (false, false) if self.exchange.link().has_slow_client() => Ending::ClientSlow,
            (false, false) => Ending::ClientLeft,
        });
    }
}
