//! Where spans wait for whoever exports them, or sends them to who does.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{SPANS_MAX, TracedSpans};

/// Spans that wait at most: of a host, or of a worker that is a process.
pub const WAITING_SPANS_MAX: usize = 4_096;

/// Spans on their way to whoever exports them, [`WAITING_SPANS_MAX`] at most. Whoever puts some in never waits.
#[derive(Debug, Default)]
pub struct SpanQueue {
    waiting: Mutex<WaitingSpans>,
    changed: Notify,
    closes: Notify,
}

#[derive(Debug, Default)]
struct WaitingSpans {
    line: VecDeque<TracedSpans>,
    /// Spans in the line, and those that were taken and are not dealt with.
    spans: usize,
    is_closed: bool,
}

impl SpanQueue {
    fn lock(&self) -> MutexGuard<'_, WaitingSpans> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts spans in. False: they are lost, since too many wait.
    pub fn put(&self, traced: TracedSpans) -> bool {
        let mut waiting = self.lock();
        let spans = waiting.spans + traced.spans.len();
        let has_room = spans <= WAITING_SPANS_MAX && !waiting.is_closed;
        if has_room {
            waiting.spans = spans;
            waiting.line.push_back(traced);
            drop(waiting);
            self.changed.notify_one();
        }
        has_room
    }

    /// Takes the first out, if there is one. They count until they are [dealt with](Self::done).
    pub fn take(&self) -> Option<TracedSpans> {
        self.lock().line.pop_front()
    }

    /// The first; waits for it. None: there is none and will be none.
    pub async fn next(&self) -> Option<TracedSpans> {
        loop {
            let changed = self.changed.notified();
            {
                let mut waiting = self.lock();
                if let Some(first) = waiting.line.pop_front() {
                    return Some(first);
                }
                if waiting.is_closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// So many of those that were taken are dealt with.
    pub fn done(&self, spans: usize) {
        let mut waiting = self.lock();
        waiting.spans = waiting.spans.saturating_sub(spans);
    }

    /// Whether too many wait for more to be put in, in the worst case.
    pub fn is_full(&self) -> bool {
        self.lock().spans + SPANS_MAX > WAITING_SPANS_MAX
    }

    /// Takes no more.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_one();
        self.closes.notify_waiters();
    }

    /// Whether it takes no more.
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    /// Waits until it takes no more.
    pub async fn closed(&self) {
        loop {
            let closes = self.closes.notified();
            if self.is_closed() {
                return;
            }
            closes.await;
        }
    }
}
