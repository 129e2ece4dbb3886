//! A request's body on its way to the guest: when it last moved, whether it is awaited, and what is wrong with it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;

use wasmhost_sandbox::{BodyError, FaultKind};

use super::buffers::{Held, REQUEST_AHEAD_MAX, Room};
use super::head::clean_trailers;
use super::pace::Pace;

/// What is wrong with a request's body. The request is stopped for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is larger than `--body-max`.
    TooLarge,
    /// It breaks HTTP's rules, or the client stopped sending before its end.
    Invalid,
}

impl Flaw {
    /// The kind of fault that it is, once the response's head has been sent.
    pub(super) const fn fault(self) -> FaultKind {
        match self {
            Self::TooLarge => FaultKind::BodyTooLarge,
            Self::Invalid => FaultKind::BadBody,
        }
    }
}

/// What is told of a response that was broken off for the request's body.
pub(super) const FLAW_DETAIL: &str = "the request's body was not valid or too large";

/// When the client's body last moved, and what is wrong with it. Written by the body (in the guest's store), read by the
/// connection, both on the worker's thread.
#[derive(Debug)]
pub(super) struct Upload {
    origin: Instant,
    moved_ms: AtomicU64,
    /// How long it was awaited, up to `moved_ms`, and what came.
    waited_ms: AtomicU64,
    bytes: AtomicU64,
    /// How many bytes a second are asked for.
    rate: Option<u64>,
    /// Its length was not declared: the client may mean to send it while it reads the response.
    in_chunks: AtomicBool,
    ended: AtomicBool,
    /// The guest waits for it; a guest that does not read is not the client's silence.
    awaited: AtomicBool,
    flaw: OnceLock<Flaw>,
    /// The body of a client that waits for `100 Continue`, while the guest can read it.
    expected: OnceLock<Weak<Mutex<Lent>>>,
    /// What was taken for the body before the guest had it, while the guest has a handle of it.
    gathered: OnceLock<Weak<Mutex<Gathered>>>,
    /// Who wants to know of a flaw, and that it is awaited: another task than the connection's may read the body.
    watcher: Mutex<Option<Waker>>,
}

impl Upload {
    /// `rate`: how many bytes a second are asked for.
    pub(super) fn new(origin: Instant, ended: bool, rate: Option<u64>) -> Self {
        Self {
            origin,
            moved_ms: AtomicU64::new(0),
            waited_ms: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            rate,
            in_chunks: AtomicBool::new(false),
            ended: AtomicBool::new(ended),
            awaited: AtomicBool::new(false),
            flaw: OnceLock::new(),
            expected: OnceLock::new(),
            gathered: OnceLock::new(),
            watcher: Mutex::new(None),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// `bytes` of it came, or its end.
    fn came(&self, bytes: usize) {
        let now = self.now_ms();
        let was_awaited = self.awaited.swap(false, Relaxed);
        let waited = if was_awaited { now.saturating_sub(self.moved_ms.load(Relaxed)) } else { 0 };
        let pace = self.pace().moved(Duration::from_millis(waited), bytes as u64, self.rate, 0);
        self.waited_ms.fetch_add(waited, Relaxed);
        self.moved_ms.store(now, Relaxed);
        self.bytes.store(pace.bytes, Relaxed);
    }

    /// It is asked for, and nothing is there.
    fn await_more(&self) {
        if !self.awaited.swap(true, Relaxed) {
            self.moved_ms.store(self.now_ms(), Relaxed);
            self.wake_watcher();
        }
    }

    /// Nobody asks for it for now.
    fn rest(&self) {
        if self.awaited.load(Relaxed) {
            self.came(0);
        }
    }

    /// What came so far, and how long it was awaited up to [`Self::moved`].
    pub(super) fn pace(&self) -> Pace {
        let waited = Duration::from_millis(self.waited_ms.load(Relaxed));
        Pace { waited, bytes: self.bytes.load(Relaxed) }
    }

    /// Whether its length was not declared.
    pub(super) fn is_in_chunks(&self) -> bool {
        self.in_chunks.load(Relaxed)
    }

    fn note_flaw(&self, flaw: Flaw) {
        // The first is what it is stopped for.
        let _ = self.flaw.set(flaw);
        self.wake_watcher();
    }

    fn wake_watcher(&self) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }

    /// What is wrong with it, if that has come to light.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        self.flaw.get().copied()
    }

    /// Wakes this task when a flaw is found, or the body begins to be awaited.
    pub(super) fn watch(&self, context: &Context<'_>) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *watcher {
            Some(watcher) => watcher.clone_from(context.waker()),
            None => *watcher = Some(context.waker().clone()),
        }
    }

    /// When it last moved.
    pub(super) fn moved(&self) -> Instant {
        self.origin + Duration::from_millis(self.moved_ms.load(Relaxed))
    }

    /// Whether the guest waits for more of it, since [`Self::moved`] at the latest.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.load(Relaxed) && !self.has_ended()
    }

    /// How long it was awaited in sum.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        let silent = if self.is_awaited() { now.saturating_duration_since(self.moved()) } else { Duration::ZERO };
        self.pace().waited.saturating_add(silent)
    }

    /// For how long the guest has waited for more of it, or how far the client is behind the least pace; none: it does
    /// not wait.
    pub(super) fn keeps_waiting(&self, now: Instant) -> Option<Duration> {
        self.is_awaited().then(|| {
            let silent = now.saturating_duration_since(self.moved());
            let pace = Pace { waited: self.waited(now), ..self.pace() };
            self.rate.map_or(silent, |rate| silent.max(pace.behind(rate)))
        })
    }

    /// Whether the client waits for `100 Continue` while the guest could read the body (RFC 9110, section 10.1.1). hyper,
    /// which has been asked for the body then, sends it on its next turn, and only before the response's headers.
    pub(super) fn wants_continue(&self) -> bool {
        let Some(lent) = self.expected.get().and_then(Weak::upgrade) else { return false };
        if self.has_ended() {
            return false;
        }
        let mut lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
        if !lent.asked {
            lent.asked = true;
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(frame) = Pin::new(&mut lent.incoming).poll_frame(&mut context) {
                lent.early = Some(frame);
            }
        }
        true
    }

    /// The request has ended, and with `is_idle` its call has, too: a guest that keeps the handle keeps nothing that others
    /// could use.
    pub(super) fn let_go(&self, is_idle: bool) {
        let Some(gathered) = self.gathered.get().and_then(Weak::upgrade) else { return };
        let mut gathered = gathered.lock().unwrap_or_else(PoisonError::into_inner);
        gathered.early = None;
        if is_idle {
            gathered.ahead.let_go();
        }
    }

    /// Whether all of it has come.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Relaxed)
    }
}

/// The body of a client that waits for `100 Continue`.
#[derive(Debug)]
struct Lent {
    incoming: Incoming,
    /// hyper was asked for it.
    asked: bool,
    /// What it gave when the host asked in the guest's place.
    early: Option<Option<Result<Frame<Bytes>, hyper::Error>>>,
}

/// Where the client's body comes from.
enum Source {
    Own(Incoming),
    Lent(Arc<Mutex<Lent>>),
}

impl Source {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Own(incoming) => Pin::new(incoming).poll_frame(context),
            Self::Lent(lent) => {
                let mut lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
                lent.asked = true;
                match lent.early.take() {
                    Some(frame) => Poll::Ready(frame),
                    None => Pin::new(&mut lent.incoming).poll_frame(context),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(incoming) => incoming.is_end_stream(),
            Self::Lent(lent) => {
                let lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
                lent.early.is_none() && lent.incoming.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(incoming) => incoming.size_hint(),
            Self::Lent(lent) => lent.lock().unwrap_or_else(PoisonError::into_inner).incoming.size_hint(),
        }
    }
}

/// The client's body, as a guest reads it.
pub(super) struct RequestBody {
    source: Source,
    upload: Arc<Upload>,
    max: Option<u64>,
    /// How much may still come.
    left: u64,
    gathered: Arc<Mutex<Gathered>>,
}

/// What was taken for a body before its request had an instance.
struct Gathered {
    ahead: Ahead,
    /// Leave to have an instance before all of the body has come.
    early: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for Gathered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gathered").field("early", &self.early).finish_non_exhaustive()
    }
}

/// What came of a body before its request had an instance.
struct Ahead {
    first: Option<Bytes>,
    /// All of it, once that is more than one piece: small pieces would take more room than their bytes.
    joined: BytesMut,
    trailers: Option<HeaderMap>,
    error: Option<BodyError>,
    held: Held,
}

impl Ahead {
    fn none_of(room: &Arc<Room>) -> Self {
        Self { first: None, joined: BytesMut::new(), trailers: None, error: None, held: Held::none_of(room) }
    }

    /// Nobody is to read it any more.
    fn let_go(&mut self) {
        if self.is_empty() {
            return;
        }
        self.first = None;
        self.joined = BytesMut::new();
        self.trailers = None;
        self.held.clear();
        self.error = Some(BodyError::ConnectionTerminated);
    }

    fn push(&mut self, data: Bytes) {
        self.held.add(data.len());
        if self.first.is_none() && self.joined.is_empty() {
            self.first = Some(data);
            return;
        }
        if let Some(first) = self.first.take() {
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(&data);
    }

    fn is_empty(&self) -> bool {
        self.first.is_none() && self.joined.is_empty() && self.trailers.is_none() && self.error.is_none()
    }

    fn bytes(&self) -> usize {
        self.first.as_ref().map_or(self.joined.len(), Bytes::len)
    }

    /// What the guest gets next of it.
    fn take(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        if self.is_empty() {
            return None;
        }
        let data = match self.first.take() {
            Some(first) => first,
            None => std::mem::take(&mut self.joined).freeze(),
        };
        self.held.clear();
        if !data.is_empty() {
            return Some(Ok(Frame::data(data)));
        }
        self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))).or_else(|| self.error.take().map(Err))
    }
}

impl RequestBody {
    /// Of `max` bytes at most; what is read ahead of it is counted in `room`. `expects`: the client waits for
    /// `100 Continue` before it sends it.
    pub(super) fn new(
        incoming: Incoming,
        upload: Arc<Upload>,
        max: Option<u64>,
        expects: bool,
        room: &Arc<Room>,
    ) -> Self {
        upload.in_chunks.store(incoming.size_hint().exact().is_none(), Relaxed);
        let source = if expects {
            let lent = Arc::new(Mutex::new(Lent { incoming, asked: false, early: None }));
            // A request has one body.
            let _ = upload.expected.set(Arc::downgrade(&lent));
            Source::Lent(lent)
        } else {
            Source::Own(incoming)
        };
        let gathered = Arc::new(Mutex::new(Gathered { ahead: Ahead::none_of(room), early: None }));
        let _ = upload.gathered.set(Arc::downgrade(&gathered));
        Self { source, upload, max, left: max.unwrap_or(u64::MAX), gathered }
    }

    fn taken(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client waits for `100 Continue`, which tells it that its body is wanted. The guest should say so.
    pub(super) fn is_expected(&self) -> bool {
        matches!(self.source, Source::Lent(_))
    }

    /// Reads what comes. Ready when that is all, or as much as may be read ahead.
    pub(super) fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let is_full = {
                let taken = self.taken();
                let held = &taken.ahead.held;
                held.bytes() >= REQUEST_AHEAD_MAX || !held.has_room()
            };
            if is_full {
                return Poll::Ready(());
            }
            match ready!(self.poll_source(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.taken().ahead.push(data),
                    Err(frame) => self.taken().ahead.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    self.taken().ahead.error = Some(error);
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
            if self.upload.has_ended() {
                return Poll::Ready(());
            }
        }
    }

    /// The guest gets it now; with `early`, before all of it has come.
    pub(super) fn gathered(&mut self, early: Option<OwnedSemaphorePermit>) {
        let early = early.filter(|_| !self.upload.has_ended());
        self.taken().early = early;
        self.upload.rest();
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.source.poll_frame(context);
        match &polled {
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
                self.upload.came(data.map_or(0, Bytes::len));
                if frame.is_none() || self.source.is_end_stream() {
                    self.upload.ended.store(true, Relaxed);
                    self.taken().early = None;
                }
            }
            Poll::Pending => self.upload.await_more(),
        }
        polled.map(|frame| frame.map(|frame| self.check(frame)))
    }

    /// What is passed on of what came.
    fn check(&mut self, frame: Result<Frame<Bytes>, hyper::Error>) -> Result<Frame<Bytes>, BodyError> {
        let mut frame = frame.map_err(|error| {
            if is_flaw(&error) {
                self.upload.note_flaw(Flaw::Invalid);
            }
            BodyError::Hyper(error)
        })?;
        if let Some(trailers) = frame.trailers_mut() {
            clean_trailers(trailers);
        }
        let came = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(came) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                self.upload.note_flaw(Flaw::TooLarge);
                return Err(BodyError::HttpRequestBodySize(self.max));
            }
        }
        Ok(frame)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // A guest that lets go of it does not wait for it.
        self.upload.rest();
    }
}

/// Whether the fault lies in the bytes that came, or in an early end of them; a broken connection is no flaw.
fn is_flaw(error: &hyper::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), InvalidData | InvalidInput | UnexpectedEof))
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let ahead = self.taken().ahead.take();
        match ahead {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_source(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken().ahead.is_empty() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, ahead) = (self.source.size_hint(), self.taken().ahead.bytes() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::Semaphore;

    /// What a request has taken, with the handle of it that its guest has.
    fn gathered(upload: &Upload, room: &Arc<Room>, places: &Arc<Semaphore>) -> Arc<Mutex<Gathered>> {
        let mut ahead = Ahead::none_of(room);
        ahead.push(Bytes::from_static(b"half "));
        ahead.push(Bytes::from_static(b"of it"));
        let gathered = Arc::new(Mutex::new(Gathered { ahead, early: Arc::clone(places).try_acquire_owned().ok() }));
        let _ = upload.gathered.set(Arc::downgrade(&gathered));
        gathered
    }

    #[test]
    fn a_guest_that_keeps_the_handle_of_a_body_keeps_neither_its_place_nor_its_room() {
        let (room, places) = (Arc::new(Room::new(10)), Arc::new(Semaphore::new(1)));
        let uploads: [Upload; 2] = std::array::from_fn(|_| Upload::new(Instant::now(), false, None));
        let kept = gathered(&uploads[0], &room, &places);
        assert!(places.available_permits() == 0 && !Held::none_of(&room).has_room());
        // A call that goes on behind its response may read it still.
        uploads[0].let_go(false);
        assert_eq!(places.available_permits(), 1);
        assert!(!Held::none_of(&room).has_room());
        uploads[0].let_go(true);
        assert!(Held::none_of(&room).has_room());
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            matches!(kept.ahead.take(), Some(Err(BodyError::ConnectionTerminated))),
            "half of a body is no whole one"
        );
        assert!(kept.ahead.take().is_none());
    }
}
