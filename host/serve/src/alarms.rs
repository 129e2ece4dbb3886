//! The deadlines of one worker, all behind one timer. Setting a deadline is mostly a store and a comparison: an alarm lies in
//! a bucket of a calendar, and moves to a later one only when its bucket's time has come, since most deadlines are moved on
//! before they are reached. An expiry looks at one bucket, however many alarms there are.

mod calendar;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::calendar::{Calendar, Day, Page};

/// All alarms of a worker.
pub(crate) struct Alarms {
    entries: RefCell<Vec<Option<Rc<Entry>>>>,
    free: RefCell<Vec<usize>>,
    calendar: RefCell<Calendar<Rc<Entry>>>,
    /// Where days are counted from.
    origin: Instant,
    /// What the timer waits for.
    armed: Cell<Option<Day>>,
    rearm: Notify,
}

#[derive(Default)]
struct Entry {
    at: Cell<Option<Instant>>,
    /// Where it lies in the calendar; the deadline is no earlier.
    page: Cell<Option<Page>>,
    /// The deadline that it was put there for: to compare is cheaper than to find the day of each deadline.
    put_for: Cell<Option<Instant>>,
    due: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl calendar::Item for Rc<Entry> {
    fn lies_at(&self, page: Option<Page>) {
        self.page.set(page);
    }
}

/// One deadline, of a connection or a request. Belongs to the task that polls it.
pub(crate) struct Alarm {
    alarms: Rc<Alarms>,
    entry: Rc<Entry>,
    index: usize,
}

/// The calendar's grain: alarms within it go off together.
const GRAIN: Duration = Duration::from_millis(5);

impl Default for Alarms {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            free: RefCell::default(),
            calendar: RefCell::default(),
            origin: Instant::now(),
            armed: Cell::default(),
            rearm: Notify::default(),
        }
    }
}

impl Alarms {
    /// A new alarm, not set.
    pub(crate) fn alarm(self: &Rc<Self>) -> Alarm {
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
    pub(crate) async fn run(&self) {
        loop {
            wasmhost_base::inject::panic_at("alarms");
            self.expire(Instant::now());
            let next = self.calendar.borrow().first();
            self.armed.set(next);
            let Some(next) = next else {
                self.rearm.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(self.end_of(next).into()) => {}
                () = self.rearm.notified() => {}
            }
        }
    }

    /// The day that holds `at`; it is over when the deadline has passed.
    fn day_of(&self, at: Instant) -> Day {
        let grains = at.saturating_duration_since(self.origin).as_nanos() / GRAIN.as_nanos();
        u64::try_from(grains).unwrap_or(u64::MAX)
    }

    fn end_of(&self, day: Day) -> Instant {
        let end = u64::try_from(GRAIN.as_nanos()).ok().and_then(|grain| day.checked_add(1)?.checked_mul(grain));
        let far = Instant::now() + Duration::from_secs(24 * 60 * 60);
        end.and_then(|nanos| self.origin.checked_add(Duration::from_nanos(nanos))).map_or(far, |end| end.min(far))
    }

    /// Wakes what is due, and puts off what was moved on. How many alarms it looked at.
    fn expire(&self, now: Instant) -> usize {
        let today = self.day_of(now);
        let mut looked_at = 0;
        loop {
            let over = self.calendar.borrow_mut().take_before(today);
            let Some(over) = over else { return looked_at };
            looked_at += over.len();
            for entry in over {
                match entry.at.get() {
                    Some(at) if at <= now => entry.go_off(),
                    Some(at) => {
                        entry.put_for.set(Some(at));
                        self.calendar.borrow_mut().put(self.day_of(at), entry);
                    }
                    None => {}
                }
            }
        }
    }

    /// Puts an alarm into the calendar that lies nowhere, or at a later day.
    fn put(&self, entry: &Rc<Entry>, at: Instant) {
        let page = entry.page.get();
        if page.is_some() && entry.put_for.get().is_some_and(|put_for| put_for <= at) {
            return;
        }
        entry.put_for.set(Some(at));
        let day = self.day_of(at);
        let mut calendar = self.calendar.borrow_mut();
        if let Some(page) = page {
            calendar.remove(page);
        }
        calendar.put(day, Rc::clone(entry));
        if self.armed.get().is_none_or(|armed| day < armed) {
            self.armed.set(Some(day));
            self.rearm.notify_one();
        }
    }

    /// Wakes every task that has an alarm, whether due or not: something that concerns all has changed.
    pub(crate) fn wake_all(&self) {
        for entry in self.entries.borrow().iter().flatten() {
            entry.wake();
        }
    }
}

impl Entry {
    fn go_off(&self) {
        self.at.set(None);
        self.due.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Alarm {
    /// Sets the deadline, or clears it; an alarm that had gone off is as new.
    pub(crate) fn set(&self, at: Option<Instant>) {
        self.entry.due.set(false);
        self.entry.at.set(at);
        if let Some(at) = at {
            self.alarms.put(&self.entry, at);
        }
    }

    /// Wakes the task that polls it, whether due or not.
    pub(crate) fn wake(&self) {
        self.entry.wake();
    }

    /// Ready once the deadline has passed.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<()> {
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
        if let Some(page) = self.entry.page.get() {
            self.alarms.calendar.borrow_mut().remove(page);
        }
        self.alarms.entries.borrow_mut()[self.index] = None;
        self.alarms.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
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
            let alarm = alarms.alarm();
            alarm.set(Some(Instant::now() + Duration::from_secs(60)));
            drop(alarm);
        }
        assert_eq!(alarms.entries.borrow().len(), 1);
        assert_eq!(alarms.calendar.borrow().first(), None, "nothing is left in the calendar");
    }

    #[test]
    fn an_expiry_looks_at_what_is_due_and_not_at_all_alarms() {
        let alarms = Rc::new(Alarms::default());
        let start = alarms.origin;
        // As many silent connections, opened evenly over ten seconds, each with ten seconds to send something.
        let all: Vec<Alarm> = (0..50_000_u64)
            .map(|number| {
                let alarm = alarms.alarm();
                alarm.set(Some(start + Duration::from_secs(10) + Duration::from_micros(number * 200)));
                alarm
            })
            .collect();
        let mut looked_at = 0;
        for tick in 0..=4_000 {
            looked_at += alarms.expire(start + Duration::from_millis(10_000 + tick * 5));
        }
        assert!(all.iter().all(|alarm| alarm.entry.due.get()));
        assert_eq!(looked_at, 50_000, "each is looked at once");
    }

    /// What is done with one of a few alarms.
    #[derive(Debug, Clone)]
    enum Step {
        Set(usize, u64),
        Clear(usize),
        Renew(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let which = 0_usize..6;
        prop_oneof![
            4 => (which.clone(), 0_u64..3_000).prop_map(|(alarm, ms)| Step::Set(alarm, ms)),
            1 => which.clone().prop_map(Step::Clear),
            1 => which.prop_map(Step::Renew),
            4 => (0_u64..500).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// Whatever is set, moved, cleared and dropped, an alarm is due exactly when its last deadline has passed (a grain
        /// later at the latest), and the timer never waits for longer than until the first deadline.
        #[test]
        fn alarms_are_due_when_a_plain_list_says_so(steps in proptest::collection::vec(step(), 1..200)) {
            let alarms = Rc::new(Alarms::default());
            let mut now = alarms.origin;
            let mut those: Vec<(Alarm, Option<Instant>)> = (0..6).map(|_| (alarms.alarm(), None)).collect();
            for step in steps {
                match step {
                    Step::Set(index, ms) => {
                        let at = now + Duration::from_millis(ms);
                        those[index].0.set(Some(at));
                        those[index].1 = Some(at);
                    }
                    Step::Clear(index) => {
                        those[index].0.set(None);
                        those[index].1 = None;
                    }
                    Step::Renew(index) => those[index] = (alarms.alarm(), None),
                    Step::Pass(ms) => now += Duration::from_millis(ms),
                }
                alarms.expire(now);
                for (alarm, at) in &those {
                    let is_due = alarm.entry.due.get();
                    prop_assert!(!is_due || at.is_some_and(|at| at <= now), "too early");
                    prop_assert!(is_due || at.is_none_or(|at| at + GRAIN > now), "too late");
                }
                let first = those.iter().filter(|(alarm, _)| !alarm.entry.due.get()).filter_map(|(_, at)| *at).min();
                let next = alarms.calendar.borrow().first();
                prop_assert!(first.is_none_or(|first| next.is_some_and(|day| day <= alarms.day_of(first))));
            }
        }
    }
}
