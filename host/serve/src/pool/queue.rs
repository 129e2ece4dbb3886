//! The queue of requests that wait for an instance: first come, first served, except those whose time is over. What is
//! granted to a request belongs to it; later requests cannot take it. Everything here runs on the worker's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use crate::alarms::Alarm;

/// A line in which grants of type `G` are waited for.
pub(super) struct Queue<G> {
    line: RefCell<VecDeque<Rc<QueuePlace<G>>>>,
    /// Grants that nobody has taken yet.
    underway: Cell<usize>,
}

impl<G> Default for Queue<G> {
    fn default() -> Self {
        Self { line: RefCell::default(), underway: Cell::new(0) }
    }
}

struct QueuePlace<G> {
    deadline: Instant,
    state: RefCell<QueueState<G>>,
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
    pub(super) const fn has_grant_underway(&self) -> bool {
        self.underway.get() > 0
    }

    fn has_come(&self) {
        self.underway.set(self.underway.get().saturating_sub(1));
    }

    /// Gives `grant` to the first in the line whose time is not over, or back when nobody waits. Those before it, whose
    /// time is, leave the line: a loop that turns late would else serve first who has waited for too long.
    pub(super) fn grant(&self, grant: G) -> Option<G> {
        let mut now = None;
        loop {
            let place = self.line.borrow_mut().pop_front();
            let Some(place) = place else { return Some(grant) };
            if place.deadline > *now.get_or_insert_with(Instant::now) {
                self.underway.set(self.underway.get().saturating_add(1));
                place.settle(QueueState::Granted(grant));
                return None;
            }
            place.settle(QueueState::Expired);
        }
    }

    /// Waits at the end of the line until `deadline`, for which `alarm` is set; none when it has passed. `give_back` gets
    /// what was granted to one who has gone meanwhile.
    pub(super) async fn wait(&self, alarm: &Alarm, deadline: Instant, give_back: impl Fn(G)) -> Option<G> {
        let place = Rc::new(QueuePlace { deadline, state: RefCell::new(QueueState::Waiting(None)) });
        self.line.borrow_mut().push_back(Rc::clone(&place));
        let waiting = QueueWaiting { queue: self, place: &place, give_back };
        poll_fn(|context| {
            let mut state = waiting.place.state.borrow_mut();
            match std::mem::replace(&mut *state, QueueState::Done) {
                QueueState::Granted(grant) => {
                    self.has_come();
                    return Poll::Ready(Some(grant));
                }
                QueueState::Expired => return Poll::Ready(None),
                QueueState::Waiting(_) => *state = QueueState::Waiting(Some(context.waker().clone())),
                QueueState::Done => {}
            }
            alarm.poll(context).map(|()| None)
        })
        .await
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
            QueueState::Waiting(_) => self.queue.line.borrow_mut().retain(|place| !Rc::ptr_eq(place, self.place)),
            QueueState::Granted(grant) => {
                self.queue.has_come();
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
    use std::task::Context;

    use std::time::Duration;

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
        let mut first = pin!(queue.wait(&alarm_1, later, |_| {}));
        let mut second = pin!(queue.wait(&alarm_2, later, |_| {}));
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
    fn a_grant_to_one_who_has_gone_is_given_back() {
        let alarms = Rc::new(Alarms::default());
        let alarm = alarms.alarm();
        let queue = Queue::default();
        let back = RefCell::new(Vec::new());
        let later = Instant::now() + Duration::from_secs(60);
        {
            let mut waiting = Box::pin(queue.wait(&alarm, later, |grant| back.borrow_mut().push(grant)));
            assert!(waiting.as_mut().poll(&mut context()).is_pending());
            assert_eq!(queue.grant(7), None);
        }
        assert_eq!(*back.borrow(), [7]);
        {
            let mut waiting = Box::pin(queue.wait(&alarm, later, |grant| back.borrow_mut().push(grant)));
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
        let mut expired = pin!(queue.wait(&alarm_1, now, |_| {}));
        let mut in_time = pin!(queue.wait(&alarm_2, now + Duration::from_secs(60), |_| {}));
        assert!(expired.as_mut().poll(&mut context()).is_pending());
        assert!(in_time.as_mut().poll(&mut context()).is_pending());
        assert_eq!(queue.grant(1), None);
        assert_eq!(expired.as_mut().poll(&mut context()), Poll::Ready(None));
        assert_eq!(in_time.as_mut().poll(&mut context()), Poll::Ready(Some(1)));
        assert_eq!(queue.grant(2), Some(2), "nobody waits");
    }
}
