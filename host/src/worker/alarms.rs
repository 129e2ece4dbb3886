//! The deadlines of one worker, all behind one timer. Setting a deadline is a store and a comparison; the timer is only
//! touched when a deadline is earlier than the one it waits for. When it fires, one walk over all alarms wakes those
//! that are due: deadlines mostly move on before they are reached, so that walks are rare.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// All alarms of a worker.
#[derive(Default)]
pub(super) struct Alarms {
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
    free: RefCell<Vec<usize>>,
    /// What the timer waits for.
    armed: Cell<Option<Instant>>,
    rearm: Notify,
}

#[derive(Default)]
struct Entry {
    at: Cell<Option<Instant>>,
    due: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// One deadline, of a connection or a request. Belongs to the task that polls it.
pub(super) struct Alarm {
    alarms: Rc<Alarms>,
    entry: Rc<Entry>,
    index: usize,
}

/// The timer's grain: alarms within it go off together.
const GRAIN: Duration = Duration::from_millis(5);

impl Alarms {
    /// A new alarm, not set.
    pub(super) fn alarm(self: &Rc<Self>) -> Alarm {
        let entry = Rc::new(Entry::default());
        let mut entries = self.entries.borrow_mut();
        let index = self.free.borrow_mut().pop().unwrap_or(entries.len());
        if index == entries.len() {
            entries.push(Some(Rc::clone(&entry)));
        } else {
            entries[index] = Some(Rc::clone(&entry));
        }
        Alarm { alarms: Rc::clone(self), entry, index }
    }

    /// Runs the timer; never ends.
    pub(super) async fn run(&self) {
        loop {
            crate::inject::panic_at("alarms");
            let next = self.walk(Instant::now());
            self.armed.set(next);
            let Some(next) = next else {
                self.rearm.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until((next + GRAIN).into()) => {}
                () = self.rearm.notified() => {}
            }
        }
    }

    /// Wakes what is due, and tells the earliest deadline that is not.
    fn walk(&self, now: Instant) -> Option<Instant> {
        let entries = self.entries.borrow();
        let mut next: Option<Instant> = None;
        for entry in entries.iter().flatten() {
            match entry.at.get() {
                Some(at) if at <= now => entry.go_off(),
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None => {}
            }
        }
        next
    }

    /// Wakes every task that has an alarm, whether due or not: something that concerns all has changed.
    pub(super) fn wake_all(&self) {
        for entry in self.entries.borrow().iter().flatten() {
            if let Some(waker) = entry.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Entry {
    fn go_off(&self) {
        self.at.set(None);
        self.due.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Alarm {
    /// Sets the deadline, or clears it; an alarm that had gone off is as new.
    pub(super) fn set(&self, at: Option<Instant>) {
        self.entry.due.set(false);
        self.entry.at.set(at);
        if let Some(at) = at
            && self.alarms.armed.get().is_none_or(|armed| at < armed)
        {
            self.alarms.armed.set(Some(at));
            self.alarms.rearm.notify_one();
        }
    }

    /// Ready once the deadline has passed.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        if self.entry.due.get() {
            return Poll::Ready(());
        }
        let mut waker = self.entry.waker.borrow_mut();
        match &*waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            _ => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.alarms.entries.borrow_mut()[self.index] = None;
        self.alarms.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    fn on_one_thread(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        match runtime {
            Ok(runtime) => runtime.block_on(test),
            Err(error) => assert_eq!(error.to_string(), "", "no runtime"),
        }
    }

    #[test]
    fn alarms_go_off_in_their_time_and_not_when_moved_or_cleared() {
        on_one_thread(async {
            let alarms = Rc::new(Alarms::default());
            let [late, early, moved, cleared] = std::array::from_fn(|_| alarms.alarm());
            let now = Instant::now();
            late.set(Some(now + Duration::from_millis(60)));
            early.set(Some(now + Duration::from_millis(20)));
            moved.set(Some(now + Duration::from_millis(10)));
            moved.set(Some(now + Duration::from_secs(60)));
            cleared.set(Some(now + Duration::from_millis(10)));
            cleared.set(None);
            let wait = async {
                poll_fn(|context| early.poll(context)).await;
                let first = now.elapsed();
                poll_fn(|context| late.poll(context)).await;
                assert!(first >= Duration::from_millis(20));
                assert!(now.elapsed() >= Duration::from_millis(60));
                assert!(!moved.entry.due.get());
                assert!(!cleared.entry.due.get());
            };
            tokio::select! {
                () = alarms.run() => {}
                () = wait => {}
            }
        });
    }

    #[test]
    fn places_of_dropped_alarms_are_used_again() {
        let alarms = Rc::new(Alarms::default());
        for _ in 0..100 {
            drop(alarms.alarm());
        }
        assert_eq!(alarms.entries.borrow().len(), 1);
    }
}
