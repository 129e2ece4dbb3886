//! The bodies of an outgoing request and of its response. They record what the timers of the exchange need.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, Sleep};
use wasmtime_wasi_http::{Error, WasiBody};

/// How much of a request's body was sent, and who has to act next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodySent {
    /// The guest has to produce the next piece.
    GuestOwes,
    /// The upstream has to take a piece, since this time.
    UpstreamOwes(Instant),
    /// All of it was sent at this time.
    All(Instant),
    /// The upstream wanted no more of it since this time, or the connection broke.
    CutOff(Instant),
}

impl BodySent {
    /// Whether nothing more of the body is sent.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::All(_) | Self::CutOff(_))
    }
}

/// The body of a request. It reports how much of it was sent, and breaks off when its exchange was closed.
pub(super) struct OutgoingUpload {
    body: WasiBody,
    sent: watch::Sender<BodySent>,
    attention: Arc<Attention>,
}

impl OutgoingUpload {
    pub(super) fn new(body: WasiBody, attention: &Arc<Attention>) -> Self {
        let (sent, _) = watch::channel(BodySent::GuestOwes);
        Self { body, sent, attention: Arc::clone(attention) }
    }

    /// One without content.
    pub(super) fn empty(attention: &Arc<Attention>) -> Self {
        Self::new(http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync(), attention)
    }

    /// It is sent from now on.
    pub(super) fn begin(&self) -> watch::Receiver<BodySent> {
        let now = Instant::now();
        let begin = if self.body.is_end_stream() { BodySent::All(now) } else { BodySent::UpstreamOwes(now) };
        self.sent.send_replace(begin);
        self.sent.subscribe()
    }

    fn tell(&self, now: BodySent) {
        self.sent.send_if_modified(|sent| {
            let changes = *sent != now && !sent.is_over();
            if changes {
                *sent = now;
            }
            changes
        });
    }
}

impl Body for OutgoingUpload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.attention.upload.register(context.waker());
        if self.attention.is_closed.load(Relaxed) {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let now = match &polled {
            Poll::Pending => BodySent::GuestOwes,
            Poll::Ready(Some(Ok(_))) if !self.body.is_end_stream() => BodySent::UpstreamOwes(Instant::now()),
            Poll::Ready(_) => BodySent::All(Instant::now()),
        };
        self.tell(now);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for OutgoingUpload {
    fn drop(&mut self) {
        self.tell(BodySent::CutOff(Instant::now()));
    }
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DownloadEnd {
    /// All of it was read.
    Whole,
    /// Its reader wants no more of it, or it broke off.
    Abandoned,
}

/// Records when a response was last read, and how it ended. Closes both bodies of an exchange.
pub(super) struct Attention {
    /// The response's body; none before its head, and behind its end.
    incoming: Mutex<Option<Incoming>>,
    /// The exchange was closed: nothing is sent or read any more.
    is_closed: AtomicBool,
    /// Who sends the request's body, and who reads the response's, while they wait.
    upload: AtomicWaker,
    download: AtomicWaker,
    /// The end of the response, once it is there.
    end: OnceLock<DownloadEnd>,
    has_ended: Notify,
    /// Nobody waits for the end of the exchange any more, although the response was read.
    pub(super) is_unwanted: Notify,
    origin: Instant,
    last_ms: AtomicU64,
    /// The reader has taken all that had arrived, and may be waiting for more.
    may_wait: AtomicBool,
    /// The response was closed because nobody read it.
    given_up: AtomicBool,
}

impl Attention {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            incoming: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            upload: AtomicWaker::new(),
            download: AtomicWaker::new(),
            end: OnceLock::new(),
            has_ended: Notify::new(),
            is_unwanted: Notify::new(),
            origin: Instant::now(),
            last_ms: AtomicU64::new(0),
            may_wait: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
        })
    }

    fn note(&self, may_wait: bool) {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(now, Relaxed);
        self.may_wait.store(may_wait, Relaxed);
    }

    fn end(&self, end: DownloadEnd) {
        if self.end.set(end).is_ok() {
            self.has_ended.notify_one();
        }
    }

    /// Lets go of both bodies: what shares its connection with others has no other end.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Relaxed);
        drop(self.incoming().take());
        self.upload.wake();
        self.download.wake();
    }

    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether all of the response was read.
    pub(super) fn is_whole(&self) -> bool {
        self.end.get() == Some(&DownloadEnd::Whole)
    }

    /// Waits for the end of the response; one task does.
    pub(super) async fn ended(&self) -> DownloadEnd {
        loop {
            match self.end.get() {
                Some(end) => return *end,
                None => self.has_ended.notified().await,
            }
        }
    }

    /// Returns when nobody has read the response for `unread`. From then on, reading it is an error. A reader that has
    /// taken all that had arrived may be waiting for the upstream; it gets at least `silence`, after which the body itself
    /// ends its waiting, but no more than [`WAITING_MAX`] times `unread`: `silence` is the guest's own choice.
    pub(super) async fn lost(&self, unread: Duration, silence: Duration) {
        loop {
            let waiting = silence.saturating_add(GRACE).min(unread.saturating_mul(WAITING_MAX));
            let bound = if self.may_wait.load(Relaxed) { unread.max(waiting) } else { unread };
            let since = self.origin + Duration::from_millis(self.last_ms.load(Relaxed));
            if since.elapsed() >= bound {
                self.given_up.store(true, Relaxed);
                return;
            }
            match since.checked_add(bound) {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// How many times as long a response may stay open whose reader seems to wait for its upstream.
const WAITING_MAX: u32 = 10;

/// How long a waiting reader has to notice that `silence` is over, before its response counts as unread.
const GRACE: Duration = Duration::from_secs(1);

/// The body of a response. Reading it fails if the upstream sends nothing for too long while the guest waits, after nobody has
/// read it for too long, and when the exchange was closed.
pub(super) struct Download {
    silence: Duration,
    /// When the guest has waited long enough.
    deadline: Pin<Box<Sleep>>,
    waits: bool,
    attention: Arc<Attention>,
}

impl Download {
    pub(super) fn new(incoming: Incoming, silence: Duration, attention: Arc<Attention>) -> Self {
        attention.note(false);
        if incoming.is_end_stream() {
            attention.end(DownloadEnd::Whole);
        }
        *attention.incoming() = Some(incoming);
        Self { silence, deadline: Box::pin(tokio::time::sleep(silence)), waits: false, attention }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.attention.given_up.load(Relaxed) {
            return Poll::Ready(Some(Err(Error::ConnectionReadTimeout)));
        }
        self.attention.download.register(context.waker());
        let polled = match &mut *self.attention.incoming() {
            Some(incoming) => Pin::new(incoming).poll_frame(context),
            None => return Poll::Ready(Some(Err(Error::ConnectionTerminated))),
        };
        self.attention.note(polled.is_pending());
        let Poll::Ready(frame) = polled else {
            // The time counts from when the guest began to wait, not from the last piece: it may have been busy since.
            if !std::mem::replace(&mut self.waits, true)
                && let Some(deadline) = Instant::now().checked_add(self.silence)
            {
                self.deadline.as_mut().reset(deadline);
            }
            return self.deadline.as_mut().poll(context).map(|()| Some(Err(Error::ConnectionReadTimeout)));
        };
        self.waits = false;
        if frame.is_none() {
            self.attention.end(DownloadEnd::Whole);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Error::Hyper)))
    }

    fn is_end_stream(&self) -> bool {
        self.attention.incoming().as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.attention.incoming().as_ref().map(Body::size_hint).unwrap_or_default()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // Whoever knows the length may ask for nothing after the last byte.
        let incoming = self.attention.incoming().take();
        let is_whole = incoming.as_ref().is_some_and(Body::is_end_stream);
        self.attention.end(if is_whole { DownloadEnd::Whole } else { DownloadEnd::Abandoned });
    }
}
