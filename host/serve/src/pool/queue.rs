//! The queue of requests that wait for an instance: first come, first served, except those whose time is over. What is
//! granted to a request is kept for it until its task runs, which may be after thousands of others in a turn of the worker's loop.
//! One that runs now may borrow it: in most cases it gives it back before the other runs. A request from which was borrowed goes
//! first again, and from one that came too early because of that, nobody borrows a third time. Everything here runs on the
//! worker's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::alarms::Alarm;

/// A line in which grants of type `G` are waited for.
pub(super) struct Queue<G> {
    line: RefCell<VecDeque<Rc<QueuePlace<G>>>>,
    /// Those who have not come yet for what they were granted, in the order of the grants.
    granted: RefCell<VecDeque<Rc<QueuePlace<G>>>>,
}

/// So many others are woken with one that is granted something: they can use it, too, one after the other, and each that gives it
/// back wakes further ones.
const WOKEN_WITH_ONE: usize = 4;
/// From one whose time is over so soon, nobody borrows.
const KEPT_BEFORE_DEADLINE: Duration = Duration::from_millis(50);
/// A request waits in vain so often because of those that borrow what it was granted.
const BORROWED_MAX: u32 = 2;

impl<G> Default for Queue<G> {
    fn default() -> Self {
        Self { line: RefCell::default(), granted: RefCell::default() }
    }
}

struct QueuePlace<G> {
    deadline: Instant,
    state: RefCell<QueueState<G>>,
    /// It has run in vain so often: what it was granted was borrowed.
    in_vain: Cell<u32>,
    is_borrowed_from: Cell<bool>,
}

enum QueueState<G> {
    Waiting(Option<Waker>),
    Granted(G),
    /// It waited for too long.
    Expired,
    Done,
}

impl<G> Queue<G> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.line.borrow().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.line.borrow().is_empty()
    }

    /// Whether somebody was granted something, and has not come for it yet.
    pub(super) fn has_grant_underway(&self) -> bool {
        !self.granted.borrow().is_empty()
    }

    fn leave(&self, place: &Rc<QueuePlace<G>>) {
        remove(&mut self.line.borrow_mut(), place);
    }

    fn has_come(&self, place: &Rc<QueuePlace<G>>) {
        remove(&mut self.granted.borrow_mut(), place);
    }

    /// Wakes some that wait: what was granted to another may be borrowed.
    pub(super) fn wake_some(&self) {
        for place in self.line.borrow().iter().take(WOKEN_WITH_ONE) {
            if let QueueState::Waiting(waker) = &mut *place.state.borrow_mut()
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        }
    }

    /// Takes what was granted to another that has not run since, if it `may_be_borrowed`. The other is the first in the line again.
    pub(super) fn borrow_granted(&self, may_be_borrowed: impl Fn(&G) -> bool) -> Option<G> {
        let mut granted = self.granted.borrow_mut();
        let soon = Instant::now() + KEPT_BEFORE_DEADLINE;
        // The last one runs last.
        let at = granted.iter().rposition(|place| {
            let state = place.state.borrow();
            place.in_vain.get() < BORROWED_MAX
                && place.deadline > soon
                && matches!(&*state, QueueState::Granted(grant) if may_be_borrowed(grant))
        })?;
        let place = granted.remove(at)?;
        // (It was woken, and looks again when it runs.)
        let QueueState::Granted(grant) = place.state.replace(QueueState::Waiting(None)) else { return None };
        place.is_borrowed_from.set(true);
        self.line.borrow_mut().push_front(place);
        Some(grant)
    }

    /// Gives `grant` to the first in the line whose time is not over, or back when nobody waits. Those before it, whose
    /// time is, leave the line: a loop that turns late would else serve first who has waited for too long.
    pub(super) fn grant(&self, grant: G) -> Option<G> {
        let mut now = None;
        loop {
            let place = self.line.borrow_mut().pop_front();
            let Some(place) = place else { return Some(grant) };
            if place.deadline > *now.get_or_insert_with(Instant::now) {
                self.granted.borrow_mut().push_back(Rc::clone(&place));
                place.is_borrowed_from.set(false);
                place.settle(QueueState::Granted(grant));
                return None;
            }
            place.settle(QueueState::Expired);
        }
    }

    /// Waits at the end of the line until `deadline`, for which `alarm` is set; none when it has passed. Whenever it runs, it
    /// takes what `borrow` gives. `give_back` gets what was granted to one who has gone meanwhile.
    pub(super) async fn wait(
        &self,
        alarm: &Alarm,
        deadline: Instant,
        borrow: impl Fn() -> Option<G>,
        give_back: impl Fn(G),
    ) -> Option<G> {
        let place = Rc::new(QueuePlace {
            deadline,
            state: RefCell::new(QueueState::Waiting(None)),
            in_vain: Cell::new(0),
            is_borrowed_from: Cell::new(false),
        });
        self.line.borrow_mut().push_back(Rc::clone(&place));
        let waiting = QueueWaiting { queue: self, place: &place, give_back };
        poll_fn(|context| {
            let mut state = waiting.place.state.borrow_mut();
            match std::mem::replace(&mut *state, QueueState::Done) {
                QueueState::Granted(grant) => {
                    self.has_come(waiting.place);
                    return Poll::Ready(Some(grant));
                }
                QueueState::Expired => return Poll::Ready(None),
                QueueState::Waiting(_) => {
                    if let Some(grant) = borrow() {
                        self.leave(waiting.place);
                        return Poll::Ready(Some(grant));
                    }
                    *state = QueueState::Waiting(Some(context.waker().clone()));
                    if waiting.place.is_borrowed_from.take() {
                        waiting.place.in_vain.set(waiting.place.in_vain.get() + 1);
                    }
                }
                QueueState::Done => {}
            }
            alarm.poll(context).map(|()| None)
        })
        .await
    }
}

/// Takes a place out, which mostly stands in front.
fn remove<G>(places: &mut VecDeque<Rc<QueuePlace<G>>>, place: &Rc<QueuePlace<G>>) {
    if let Some(at) = places.iter().position(|other| Rc::ptr_eq(other, place)) {
        places.remove(at);
    }
}

impl<G> QueuePlace<G> {
    /// Tells who waits here what became of it.
    fn settle(&self, state: QueueState<G>) {
        if let QueueState::Waiting(Some(waker)) = self.state.replace(state) {
            waker.wake();
        }
    }
}

struct QueueWaiting<'a, G, F: Fn(G)> {
    queue: &'a Queue<G>,
    place: &'a Rc<QueuePlace<G>>,
    give_back: F,
}

impl<G, F: Fn(G)> Drop for QueueWaiting<'_, G, F> {
    fn drop(&mut self) {
        match self.place.state.replace(QueueState::Done) {
            QueueState::Waiting(_) => self.queue.leave(self.place),
            QueueState::Granted(grant) => {
                self.queue.has_come(self.place);
                (self.give_back)(grant);
            }
            QueueState::Expired | QueueState::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
    use std::task::{Context, Wake};

    use crate::alarms::Alarms;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn grants_go_to_those_who_wait_in_their_order() {
        let alarms = Rc::new(Alarms::default());
        let [alarm_1, alarm_2] = std::array::from_fn(|_| alarms.alarm());
        let queue = Queue::default();
        assert_eq!(queue.grant(1), Some(1), "nobody waits");
        let later = Instant::now() + Duration::from_secs(60);
        let mut first = pin!(queue.wait(&alarm_1, later, || None, |_| {}));
        let mut second = pin!(queue.wait(&alarm_2, later, || None, |_| {}));
        assert!(first.as_mut().poll(&mut context()).is_pending());
        assert!(second.as_mut().poll(&mut context()).is_pending());
        assert_eq!(queue.grant(2), None);
        assert!(second.as_mut().poll(&mut context()).is_pending());
        assert_eq!(first.as_mut().poll(&mut context()), Poll::Ready(Some(2)));
        assert_eq!(queue.grant(3), None);
        assert_eq!(second.as_mut().poll(&mut context()), Poll::Ready(Some(3)));
        assert!(queue.is_empty());
    }

    #[test]
    fn one_that_runs_borrows_what_was_granted_to_one_that_does_not_run_yet() {
        let alarms = Rc::new(Alarms::default());
        let [alarm_1, alarm_2] = std::array::from_fn(|_| alarms.alarm());
        let queue = Queue::default();
        let later = Instant::now() + Duration::from_secs(60);
        let mut first = pin!(queue.wait(&alarm_1, later, || None, |_| {}));
        let mut second = pin!(queue.wait(&alarm_2, later, || None, |_| {}));
        assert!(first.as_mut().poll(&mut context()).is_pending());
        assert!(second.as_mut().poll(&mut context()).is_pending());
        assert_eq!(queue.borrow_granted(|_| true), None, "nothing was granted");
        assert_eq!(queue.grant(1), None);
        assert_eq!(queue.borrow_granted(|_| false), None);
        for _ in 0..100 {
            // Given back in time, it is the first one's again, which does not notice.
            assert_eq!(queue.borrow_granted(|_| true), Some(1));
            assert!(!queue.has_grant_underway());
            assert_eq!(queue.grant(1), None);
        }
        assert_eq!(first.as_mut().poll(&mut context()), Poll::Ready(Some(1)));
        for _ in 0..BORROWED_MAX {
            assert_eq!(queue.grant(2), None);
            assert_eq!(queue.borrow_granted(|_| true), Some(2));
            assert!(second.as_mut().poll(&mut context()).is_pending(), "it ran in vain");
        }
        assert_eq!(queue.grant(3), None);
        assert_eq!(queue.borrow_granted(|_| true), None, "it has waited often enough");
        assert_eq!(second.as_mut().poll(&mut context()), Poll::Ready(Some(3)));
        assert!(queue.is_empty() && !queue.has_grant_underway());
    }

    #[test]
    fn nobody_borrows_from_one_whose_time_is_nearly_over() {
        let alarms = Rc::new(Alarms::default());
        let alarm = alarms.alarm();
        let queue = Queue::default();
        let soon = Instant::now() + KEPT_BEFORE_DEADLINE / 2;
        let mut waiting = pin!(queue.wait(&alarm, soon, || None, |_| {}));
        assert!(waiting.as_mut().poll(&mut context()).is_pending());
        assert_eq!(queue.grant(1), None);
        assert_eq!(queue.borrow_granted(|_| true), None);
        assert_eq!(waiting.as_mut().poll(&mut context()), Poll::Ready(Some(1)));
    }

    #[test]
    fn others_that_wait_run_too_and_use_what_one_was_granted() {
        let alarms = Rc::new(Alarms::default());
        let [alarm_1, alarm_2] = std::array::from_fn(|_| alarms.alarm());
        let queue = Queue::default();
        let later = Instant::now() + Duration::from_secs(60);
        let borrow = || queue.borrow_granted(|_| true);
        let mut first = pin!(queue.wait(&alarm_1, later, borrow, |_| {}));
        let mut second = pin!(queue.wait(&alarm_2, later, borrow, |_| {}));
        let woken = Arc::new(WakeCount::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(first.as_mut().poll(&mut context()).is_pending());
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert_eq!(queue.grant(1), None);
        queue.wake_some();
        queue.wake_some();
        assert_eq!(woken.0.load(Relaxed), 1, "it is woken once until it runs");
        assert_eq!(second.as_mut().poll(&mut context()), Poll::Ready(Some(1)));
        assert_eq!(queue.grant(1), None, "given back, it is the first one's");
        assert_eq!(first.as_mut().poll(&mut context()), Poll::Ready(Some(1)));
        assert!(queue.is_empty() && !queue.has_grant_underway());
    }

    #[derive(Default)]
    struct WakeCount(AtomicU32);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn one_who_goes_while_its_grant_is_borrowed_leaves_no_place_behind() {
        let alarms = Rc::new(Alarms::default());
        let alarm = alarms.alarm();
        let queue = Queue::default();
        let later = Instant::now() + Duration::from_secs(60);
        {
            let mut waiting = Box::pin(queue.wait(&alarm, later, || None, |_| {}));
            assert!(waiting.as_mut().poll(&mut context()).is_pending());
            assert_eq!(queue.grant(7), None);
            assert_eq!(queue.borrow_granted(|_| true), Some(7));
        }
        assert!(queue.is_empty());
        assert_eq!(queue.grant(7), Some(7));
    }

    #[test]
    fn a_grant_to_one_who_has_gone_is_given_back() {
        let alarms = Rc::new(Alarms::default());
        let alarm = alarms.alarm();
        let queue = Queue::default();
        let back = RefCell::new(Vec::new());
        let later = Instant::now() + Duration::from_secs(60);
        {
            let mut waiting = Box::pin(queue.wait(&alarm, later, || None, |grant| back.borrow_mut().push(grant)));
            assert!(waiting.as_mut().poll(&mut context()).is_pending());
            assert_eq!(queue.grant(7), None);
        }
        assert_eq!(*back.borrow(), [7]);
        {
            let mut waiting = Box::pin(queue.wait(&alarm, later, || None, |grant| back.borrow_mut().push(grant)));
            assert!(waiting.as_mut().poll(&mut context()).is_pending());
        }
        assert!(queue.is_empty(), "one who left without a grant leaves no place behind");
    }

    #[test]
    fn one_whose_time_is_over_is_passed_over_though_its_alarm_has_not_gone_off() {
        let alarms = Rc::new(Alarms::default());
        let [alarm_1, alarm_2] = std::array::from_fn(|_| alarms.alarm());
        let queue = Queue::default();
        let now = Instant::now();
        let mut expired = pin!(queue.wait(&alarm_1, now, || None, |_| {}));
        let mut in_time = pin!(queue.wait(&alarm_2, now + Duration::from_secs(60), || None, |_| {}));
        assert!(expired.as_mut().poll(&mut context()).is_pending());
        assert!(in_time.as_mut().poll(&mut context()).is_pending());
        assert_eq!(queue.grant(1), None);
        assert_eq!(expired.as_mut().poll(&mut context()), Poll::Ready(None));
        assert_eq!(in_time.as_mut().poll(&mut context()), Poll::Ready(Some(1)));
        assert_eq!(queue.grant(2), Some(2), "nobody waits");
    }
}
