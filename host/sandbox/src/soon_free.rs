//! Which instances of an app on a worker will soon be free: a tick has interrupted their call, and it has used little CPU time
//! so far. Most calls end soon, so a request that comes meanwhile waits for such an instance: a further one would compete
//! with it for the same CPU, and hold memory of its own. It does not wait for calls that wait for something else (a timer,
//! an upstream, a body), nor for those that have computed for long.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

use super::meter::thread_cpu_ns;

/// A call that has used so much CPU time is a long one.
const LONG_CALL_NS: u64 = 5_000_000;
/// So is one for whose interruption the worker has used so much since, whoever had it. The time in which the worker had no
/// core itself does not count: a further instance would not have got on either.
const LONG_WAIT_NS: u64 = 10_000_000;

/// The instances of an app on one worker that wait for the CPU, and will soon be free.
#[derive(Debug, Default)]
pub struct SoonFree {
    instances: Cell<usize>,
    /// When the last of them counts as a long one, whatever it has used: CPU time of the worker's thread.
    until_ns: Cell<u64>,
    none: Notify,
}

impl SoonFree {
    /// For how much CPU time of the worker it is worth to wait for one of them, instead of making a further instance; none:
    /// it is not. On the worker's thread.
    pub fn wait_max(&self) -> Option<Duration> {
        if self.instances.get() == 0 {
            return None;
        }
        let left = self.until_ns.get().saturating_sub(thread_cpu_ns());
        (left > 0).then(|| Duration::from_nanos(left))
    }

    /// Waits until there is none any more, from the moment of this call on.
    pub fn none(&self) -> impl Future<Output = ()> {
        self.none.notified()
    }
}

/// The wait of one instance for the CPU, again and again until its call ends or waits for something else.
#[derive(Debug, Default)]
pub(super) struct CpuWait {
    /// When its call counts as a long one, set when it was interrupted first: CPU time of the worker's thread.
    until_ns: Option<u64>,
    is_counted: bool,
}

impl CpuWait {
    /// It begins to wait, with a call that has used so much CPU time (nanoseconds).
    pub(super) fn begin(&mut self, soon: &SoonFree, used_ns: u64) {
        let now_ns = thread_cpu_ns();
        let until_ns = *self.until_ns.get_or_insert(now_ns.saturating_add(LONG_WAIT_NS));
        if !self.is_counted && used_ns < LONG_CALL_NS && now_ns < until_ns {
            self.is_counted = true;
            soon.instances.set(soon.instances.get().saturating_add(1));
            soon.until_ns.set(soon.until_ns.get().max(until_ns));
        }
    }

    /// It has the CPU, or wants it no more.
    pub(super) fn end(&mut self, soon: &SoonFree) {
        if std::mem::take(&mut self.is_counted) {
            let left = soon.instances.get().saturating_sub(1);
            soon.instances.set(left);
            if left == 0 {
                soon.until_ns.set(0);
                soon.none.notify_waiters();
            }
        }
    }

    /// Its call has ended, or waits for something else than the CPU.
    pub(super) const fn forget(&mut self) {
        self.until_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::pin::pin;
    use std::task::{Context, Waker};

    fn compute(ns: u64) {
        let until_ns = thread_cpu_ns() + ns;
        while thread_cpu_ns() < until_ns {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_short_call_is_waited_for_and_one_that_has_computed_for_long_is_not() {
        let soon = SoonFree::default();
        assert_eq!(soon.wait_max(), None);
        let [mut short, mut long] = <[CpuWait; 2]>::default();
        long.begin(&soon, LONG_CALL_NS);
        assert_eq!(soon.wait_max(), None);
        short.begin(&soon, LONG_CALL_NS - 1);
        assert!(soon.wait_max().is_some_and(|max| max <= Duration::from_nanos(LONG_WAIT_NS)));
        let mut none = pin!(soon.none());
        let mut context = Context::from_waker(Waker::noop());
        assert!(none.as_mut().poll(&mut context).is_pending());
        long.end(&soon);
        assert!(none.as_mut().poll(&mut context).is_pending());
        short.end(&soon);
        assert!(none.as_mut().poll(&mut context).is_ready());
        assert_eq!(soon.wait_max(), None);
    }

    #[test]
    fn a_call_is_long_when_others_had_the_cpu_for_long_and_not_when_the_worker_had_none() {
        let soon = SoonFree::default();
        let mut wait = CpuWait::default();
        wait.begin(&soon, 1);
        std::thread::sleep(Duration::from_nanos(LONG_WAIT_NS * 2));
        assert!(soon.wait_max().is_some());
        compute(LONG_WAIT_NS);
        assert_eq!(soon.wait_max(), None);
        wait.end(&soon);
        wait.begin(&soon, 1);
        assert_eq!(soon.wait_max(), None, "it is the same call");
        wait.end(&soon);
        wait.forget();
        wait.begin(&soon, 1);
        assert!(soon.wait_max().is_some());
    }
}
