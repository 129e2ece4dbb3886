//! Which task is woken when a driver can go on. While it is polled, a driver wakes itself often: streams between guest and host
//! do so at every step, and wasmtime does so to give the event loop a turn. Each such wake-up would cost another poll of
//! the connection's task. Here it is only noted, and the code that polls the driver decides.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// What a driver is polled with, in the place of its holder's waker.
pub(super) struct Waking {
    signal: Arc<Signal>,
    waker: Waker,
}

/// Wakes come from any thread; the holder polls on one. A wake first sets `woken`, then looks at `polled`; the holder
/// first clears `polled`, then looks at `woken`: one of the two sees the other.
#[derive(Default)]
struct Signal {
    polled: AtomicBool,
    woken: AtomicBool,
    /// Who polled last; none once it has been woken, or wants no more.
    holder: Mutex<Option<Waker>>,
}

impl Default for Waking {
    fn default() -> Self {
        let signal = Arc::<Signal>::default();
        let waker = Waker::from(Arc::clone(&signal));
        Self { signal, waker }
    }
}

impl Waking {
    /// Polls with a waker that wakes `context`'s task after the poll, and during it is noted. The second: whether it was.
    pub(super) fn poll<T>(
        &self,
        context: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> (Poll<T>, bool) {
        let signal = &*self.signal;
        {
            let mut holder = signal.holder.lock().unwrap_or_else(PoisonError::into_inner);
            match &*holder {
                Some(waker) if waker.will_wake(context.waker()) => {}
                _ => *holder = Some(context.waker().clone()),
            }
        }
        signal.woken.store(false, SeqCst);
        signal.polled.store(true, SeqCst);
        let polled = poll(&mut Context::from_waker(&self.waker));
        signal.polled.store(false, SeqCst);
        (polled, signal.woken.swap(false, SeqCst))
    }

    /// Wakes nobody until the next poll: there is nothing to go on with.
    pub(super) fn rest(&self) {
        *self.signal.holder.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, SeqCst);
        if !self.polled.load(SeqCst) {
            let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(holder) = holder {
                holder.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn wakes_during_a_poll_are_noted_and_later_ones_passed_on_once() {
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let context = Context::from_waker(&waker);
        let waking = Waking::default();
        let mut kept = None;
        let (polled, woken) = waking.poll(&context, |inner| {
            inner.waker().wake_by_ref();
            kept = Some(inner.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending() && woken);
        assert_eq!(task.0.load(SeqCst), 0);
        let wake = || kept.iter().for_each(Waker::wake_by_ref);
        wake();
        wake();
        assert_eq!(task.0.load(SeqCst), 1);
        let (_, woken) = waking.poll(&context, |_| Poll::<()>::Pending);
        assert!(!woken, "an earlier wake is not this poll's");
        waking.rest();
        wake();
        assert_eq!(task.0.load(SeqCst), 1, "nobody is woken at rest");
    }
}
