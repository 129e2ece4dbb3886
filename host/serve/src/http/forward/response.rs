//! The body of a response on its way from a worker of a group to the client.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use wasmhost_sandbox::FaultKind;

use super::super::broken_off::BrokenOff;
use super::super::exchange::{Ending, Exchange};
use super::connections::ForwardLine;
use super::patience::LOOK_AGAIN_MIN;
use super::share::ShareTaken;
use super::trailers::unpacked;

/// A body that a worker of a group gives.
pub(super) struct ForwardedBody {
    inner: Incoming,
    line: Option<ForwardLine>,
    _share: ShareTaken,
    exchange: Rc<Exchange>,
    /// What `Content-Length` promises.
    promised: Option<u64>,
    passed: u64,
    /// hyper knows of the end.
    ended: bool,
    /// It broke off: the worker of the group did it, and has counted why, or it has died, or is late.
    broken: Option<FaultKind>,
    /// Since when it has no more.
    silent_since: Option<Instant>,
    /// hyper has asked for the body before.
    was_asked: bool,
}

/// What the log says of a body that broke off.
const BROKE_OFF: &str = "the worker of the app's group broke it off";

impl ForwardedBody {
    pub(super) fn new(
        inner: Incoming,
        (line, share): (ForwardLine, ShareTaken),
        exchange: Rc<Exchange>,
        promised: Option<u64>,
    ) -> Self {
        let (ended, line) = (inner.is_end_stream(), Some(line));
        Self {
            inner,
            line,
            _share: share,
            exchange,
            promised,
            passed: 0,
            ended,
            broken: None,
            silent_since: None,
            was_asked: false,
        }
    }

    /// There is no more for now. Ready when that is so for too long.
    fn poll_late(&mut self, context: &Context<'_>) -> Poll<FaultKind> {
        let (exchange, mut is_new) = (&self.exchange, self.silent_since.is_none());
        let alarm = &exchange.link().request_alarm;
        loop {
            if !std::mem::take(&mut is_new) && alarm.poll(context).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            let since = *self.silent_since.get_or_insert(now);
            let waited = exchange.upload.waited(now).saturating_add(exchange.link().waited_for_reader(now));
            let upload = &exchange.upload;
            let since = if upload.is_there() { since.max(upload.moved()) } else { since };
            // The client has limits that are its own.
            let silent = (!upload.is_awaited()).then(|| (now.saturating_duration_since(since), upload.is_there()));
            let elapsed = now.saturating_duration_since(exchange.began).saturating_sub(exchange.notes.loading.get());
            match exchange.patience().body_left(silent, elapsed, waited) {
                Some((left, kind)) if left.is_zero() => return Poll::Ready(kind),
                left => alarm.set(left.and_then(|(left, _)| now.checked_add(left.max(LOOK_AGAIN_MIN)))),
            }
        }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.broken.is_some() {
            return Poll::Ready(Some(Err(BrokenOff(BROKE_OFF))));
        }
        let is_first = !std::mem::replace(&mut self.was_asked, true);
        match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Pending => self.poll_late(context).map(|kind| {
                self.broken = Some(kind);
                if let Some(line) = self.line.take() {
                    self.exchange.note_late(kind, &line.group);
                }
                Some(Err(BrokenOff(BROKE_OFF)))
            }),
            Poll::Ready(Some(Ok(mut frame))) => {
                self.silent_since = None;
                if let Some(trailers) = frame.trailers_mut() {
                    *trailers = unpacked(trailers);
                }
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.passed = self.passed.saturating_add(bytes as u64);
                self.exchange.sent(bytes);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.broken = Some(FaultKind::Unfinished);
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
        self.broken.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ForwardedBody {
    fn drop(&mut self) {
        self.exchange.link().request_alarm.set(None);
        // hyper does not ask for the end of a body whose length it knows.
        let all_passed = self.promised.is_some_and(|promised| self.passed >= promised);
        let is_whole = self.ended || (all_passed && self.broken.is_none());
        if let Some(line) = self.line.take().filter(|_| is_whole) {
            self.exchange.keep(line);
        }
        self.exchange.finish(match (is_whole, self.broken) {
            (true, _) => Ending::Whole,
            (false, Some(kind)) => Ending::Broken(kind),
            (false, None) if self.exchange.link().has_slow_client() => Ending::ClientSlow,
            (false, None) => Ending::ClientLeft,
        });
    }
}
