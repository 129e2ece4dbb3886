//! Which instances of an app on a worker will soon be free: a tick has interrupted their call, and it has used little CPU time
//! so far. Most calls end soon, so a request that comes meanwhile waits for such an instance: a further one would compete
//! with it for the same CPU, and hold memory of its own. It does not wait for calls that wait for something else (a timer,
//! an upstream, a body), nor for those that have computed for long.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// A call that has used so much CPU time is a long one.
const LONG_CPU: Duration = Duration::from_millis(5);
/// So is one that was interrupted so long ago: others use the CPU as well.
const LONG_WAIT: Duration = Duration::from_millis(10);

/// The instances of an app on one worker that wait for the CPU, and will soon be free.
#[derive(Debug, Default)]
pub struct SoonFree {
    instances: Cell<usize>,
    /// When the last of them counts as a long one, whatever it has used.
    until: Cell<Option<Instant>>,
    none: Notify,
}

impl SoonFree {
    /// Until when it is worth to wait for one of them, instead of making a further instance; none: it is not.
    pub fn until(&self, now: Instant) -> Option<Instant> {
        self.until.get().filter(|until| self.instances.get() > 0 && *until > now)
    }

    /// Waits until there is none any more, from the moment of this call on.
    pub fn none(&self) -> impl Future<Output = ()> {
        self.none.notified()
    }
}

/// The wait of one instance for the CPU, again and again until its call ends or waits for something else.
#[derive(Debug, Default)]
pub(super) struct CpuWait {
    /// When its call was interrupted first.
    since: Option<Instant>,
    is_counted: bool,
}

impl CpuWait {
    /// It begins to wait, with a call that has used so much CPU time (nanoseconds).
    pub(super) fn begin(&mut self, soon: &SoonFree, used_ns: u64) {
        let now = Instant::now();
        let until = *self.since.get_or_insert(now) + LONG_WAIT;
        if !self.is_counted && u128::from(used_ns) < LONG_CPU.as_nanos() && now < until {
            self.is_counted = true;
            soon.instances.set(soon.instances.get().saturating_add(1));
            soon.until.set(soon.until.get().max(Some(until)));
        }
    }

    /// It has the CPU, or wants it no more.
    pub(super) fn end(&mut self, soon: &SoonFree) {
        if std::mem::take(&mut self.is_counted) {
            let left = soon.instances.get().saturating_sub(1);
            soon.instances.set(left);
            if left == 0 {
                soon.until.set(None);
                soon.none.notify_waiters();
            }
        }
    }

    /// Its call has ended, or waits for something else than the CPU.
    pub(super) const fn forget(&mut self) {
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::pin::pin;
    use std::task::{Context, Waker};

    #[test]
    fn a_short_call_is_waited_for_and_one_that_has_computed_for_long_is_not() {
        let soon = SoonFree::default();
        let now = Instant::now;
        assert_eq!(soon.until(now()), None);
        let [mut short, mut long] = <[CpuWait; 2]>::default();
        long.begin(&soon, 5_000_000);
        assert_eq!(soon.until(now()), None, "of 5 ms");
        short.begin(&soon, 4_999_999);
        let until = soon.until(now()).expect("it is short");
        assert!(until <= now() + LONG_WAIT);
        assert_eq!(soon.until(until), None, "it had its time");
        let mut none = pin!(soon.none());
        let mut context = Context::from_waker(Waker::noop());
        assert!(none.as_mut().poll(&mut context).is_pending());
        long.end(&soon);
        assert!(none.as_mut().poll(&mut context).is_pending());
        short.end(&soon);
        assert!(none.as_mut().poll(&mut context).is_ready());
        assert_eq!(soon.until(now()), None);
    }

    #[test]
    fn a_call_that_was_interrupted_long_ago_counts_again_only_after_it_waited_for_something_else() {
        let soon = SoonFree::default();
        let mut wait = CpuWait { since: Instant::now().checked_sub(LONG_WAIT), is_counted: false };
        wait.begin(&soon, 1);
        assert_eq!(soon.until(Instant::now()), None);
        wait.end(&soon);
        wait.forget();
        wait.begin(&soon, 1);
        assert!(soon.until(Instant::now()).is_some());
        wait.end(&soon);
        assert_eq!(soon.instances.get(), 0);
    }
}
