//! How a request's body moves on its way to the guest: when it last did, whether it is awaited, and what is wrong with it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http_body::Body as _;

use wasmhost_sandbox::FaultKind;

use super::gathered::Gathered;
use super::pace::Pace;
use super::source::Lent;

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
    pub(super) in_chunks: AtomicBool,
    pub(super) ended: AtomicBool,
    /// The guest waits for it; a guest that does not read is not the client's silence.
    awaited: AtomicBool,
    flaw: OnceLock<Flaw>,
    /// Why it is not valid, for the log.
    cause: OnceLock<String>,
    /// The body of a client that waits for `100 Continue`, while the guest can read it.
    pub(super) expected: OnceLock<Weak<Mutex<Lent>>>,
    /// What was taken for the body before the guest had it, while the guest has a handle of it.
    pub(super) gathered: OnceLock<Weak<Mutex<Gathered>>>,
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
            cause: OnceLock::new(),
            expected: OnceLock::new(),
            gathered: OnceLock::new(),
            watcher: Mutex::new(None),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// `bytes` of it came, or its end.
    pub(super) fn came(&self, bytes: usize) {
        let now = self.now_ms();
        let was_awaited = self.awaited.swap(false, Relaxed);
        let waited = if was_awaited { now.saturating_sub(self.moved_ms.load(Relaxed)) } else { 0 };
        let pace = self.pace().moved(Duration::from_millis(waited), bytes as u64, self.rate, 0);
        self.waited_ms.fetch_add(waited, Relaxed);
        self.moved_ms.store(now, Relaxed);
        self.bytes.store(pace.bytes, Relaxed);
    }

    /// It is asked for, and nothing is there.
    pub(super) fn await_more(&self) {
        if !self.awaited.swap(true, Relaxed) {
            self.moved_ms.store(self.now_ms(), Relaxed);
            self.wake_watcher();
        }
    }

    /// Nobody asks for it for now.
    pub(super) fn rest(&self) {
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

    /// It is not valid, for this reason.
    pub(super) fn note_invalid(&self, cause: &dyn std::error::Error) {
        let _ = self.cause.set(cause.to_string());
        self.note_flaw(Flaw::Invalid);
    }

    /// Why it is not valid, as far as that is known.
    pub(super) fn cause(&self) -> Option<&str> {
        self.cause.get().map(String::as_str)
    }

    pub(super) fn note_flaw(&self, flaw: Flaw) {
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

    /// Whether the request had a body when it began.
    pub(super) fn is_there(&self) -> bool {
        self.gathered.get().is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::Semaphore;
    use wasmhost_base::quota::{Account, Quota};
    use wasmhost_sandbox::BodyError;

    use crate::buffers::Held;
    use crate::http::gathered::Ahead;

    /// What a request has taken, with the handle of it that its guest has.
    fn gathered(upload: &Upload, room: &Arc<Account>, places: &Arc<Semaphore>) -> Arc<Mutex<Gathered>> {
        let mut ahead = Ahead::none_of(room);
        ahead.push(Bytes::from_static(b"half "));
        ahead.push(Bytes::from_static(b"of it"));
        let gathered = Arc::new(Mutex::new(Gathered { ahead, early: Arc::clone(places).try_acquire_owned().ok() }));
        let _ = upload.gathered.set(Arc::downgrade(&gathered));
        gathered
    }

    #[test]
    fn a_guest_that_keeps_the_handle_of_a_body_keeps_neither_its_place_nor_its_room() {
        let (room, places) = (Account::new(&Quota::new(10), None), Arc::new(Semaphore::new(1)));
        let uploads: [Upload; 2] = std::array::from_fn(|_| Upload::new(Instant::now(), false, None));
        let kept = gathered(&uploads[0], &room, &places);
        assert!(places.available_permits() == 0 && !Held::none_of(&room).has_room(1));
        // A call that goes on behind its response may read it still.
        uploads[0].let_go(false);
        assert_eq!(places.available_permits(), 1);
        assert!(!Held::none_of(&room).has_room(1));
        uploads[0].let_go(true);
        assert!(Held::none_of(&room).has_room(1));
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            matches!(kept.ahead.take(), Some(Err(BodyError::ConnectionTerminated))),
            "half of a body is no whole one"
        );
        assert!(kept.ahead.take().is_none());
    }
}
