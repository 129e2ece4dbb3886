//! Requests whose instance waits for their client. When others wait for an instance, the slowest of these are ended first:
//! a client that is slow costs itself, not those who come after it.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long an instance may wait for its client while others wait for an instance.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The shortest time between two looks at who may be ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A request that has, or had, an instance.
pub(crate) trait Holder {
    /// For how long the request's instance has waited for its client, or how far the client is behind the least pace;
    /// none: it does not wait.
    fn waited(&self, now: Instant) -> Option<Duration>;
    /// Whether it was ended already, and will let go of its instance on its next turn.
    fn is_ended(&self) -> bool;
    /// Ends it.
    fn end(&self);
}

/// Those of one worker. Each is there at most once, from when it first waits until its response is over.
#[derive(Default)]
pub(super) struct Holders {
    list: RefCell<Vec<Weak<dyn Holder>>>,
    /// Others wait for an instance, or one of these began to wait for its client meanwhile.
    pub(super) short: Notify,
}

impl Holders {
    pub(super) fn add(&self, holder: Weak<dyn Holder>) {
        self.list.borrow_mut().push(holder);
    }

    pub(super) fn remove(&self, holder: &dyn Holder) {
        let gone = std::ptr::from_ref(holder).cast::<()>();
        self.list.borrow_mut().retain(|other| !std::ptr::eq(other.as_ptr().cast::<()>(), gone));
    }

    /// Ends `wanted` requests, of those that have waited for too long; when to look again, if others may be next.
    pub(super) fn end_slowest(&self, wanted: usize, now: Instant) -> Option<Instant> {
        let mut waiting: Vec<(Duration, Rc<dyn Holder>)> = Vec::new();
        let mut ended = 0;
        self.list.borrow_mut().retain(|holder| {
            let Some(holder) = holder.upgrade() else { return false };
            if holder.is_ended() {
                ended += 1;
            } else if let Some(waited) = holder.waited(now) {
                waiting.push((waited, holder));
            }
            true
        });
        waiting.sort_by_key(|(waited, _)| std::cmp::Reverse(*waited));
        let mut left = wanted.saturating_sub(ended);
        for (waited, holder) in waiting {
            if waited < WAIT_MAX {
                return Some(now + (WAIT_MAX - waited).max(LOOK_EVERY));
            }
            if left == 0 {
                return Some(now + LOOK_EVERY);
            }
            holder.end();
            left -= 1;
            ended += 1;
        }
        if ended > 0 {
            return Some(now + LOOK_EVERY);
        }
        // Nobody tells when one of them begins to wait again.
        (!self.list.borrow().is_empty()).then(|| now + WAIT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    struct Request {
        since: Option<Instant>,
        ended: Cell<bool>,
    }

    impl Holder for Request {
        fn waited(&self, now: Instant) -> Option<Duration> {
            self.since.map(|since| now.duration_since(since))
        }

        fn is_ended(&self) -> bool {
            self.ended.get()
        }

        fn end(&self) {
            self.ended.set(true);
        }
    }

    #[test]
    fn the_slowest_are_ended_first_and_no_more_than_are_wanted() {
        let start = Instant::now();
        let now = start + Duration::from_secs(10);
        let holders = Holders::default();
        let requests: Vec<Rc<Request>> = [Some(8_000), None, Some(2_000), Some(9_500), Some(5_000)]
            .into_iter()
            .map(|ms| {
                let since = ms.map(|ms| start + Duration::from_millis(ms));
                Rc::new(Request { since, ended: Cell::new(false) })
            })
            .collect();
        for request in &requests {
            let holder: Rc<dyn Holder> = Rc::clone(request) as _;
            holders.list.borrow_mut().push(Rc::downgrade(&holder));
        }
        let ended = || requests.iter().map(|request| request.ended.get()).collect::<Vec<_>>();
        assert_eq!(holders.end_slowest(1, now), Some(now + LOOK_EVERY));
        assert_eq!(ended(), [false, false, true, false, false]);
        // It has not let go yet.
        holders.end_slowest(1, now);
        assert_eq!(ended(), [false, false, true, false, false]);
        // One that waits for half a second is not ended yet, one that does not wait never.
        assert_eq!(holders.end_slowest(9, now), Some(now + WAIT_MAX / 2));
        assert_eq!(ended(), [true, false, true, false, true]);
        // None waits now, but each may wait again: they are looked at as long as others wait for an instance.
        let idle: Rc<dyn Holder> = Rc::new(Request { since: None, ended: Cell::new(false) });
        let others = Holders::default();
        assert_eq!(others.end_slowest(1, now), None);
        others.list.borrow_mut().push(Rc::downgrade(&idle));
        assert_eq!(others.end_slowest(1, now), Some(now + WAIT_MAX));
        drop(requests);
        assert_eq!(holders.end_slowest(9, now), None);
        assert!(holders.list.borrow().is_empty());
    }
}
