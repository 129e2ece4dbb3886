//! Who pays the CPU time of a connection that requests share: those that use it at the time, in equal parts. What it costs while
//! nobody uses it is bounded.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::Notify;

use crate::meter::{Meter, PollTimer};

/// What a connection may cost between two requests: more than its end and its settings take, less than frames without end.
const UNPAID_MAX: Duration = Duration::from_millis(20);

/// A request that pays.
pub(super) struct Payer {
    meter: Arc<Meter>,
    /// The request of the guest that is charged. After it has ended, the outgoing one may still cost up to the limit itself.
    request: u64,
    spent_ns: AtomicU64,
    /// It cannot pay any more.
    pub(super) is_over: Notify,
}

impl Payer {
    pub(super) fn new(meter: &Arc<Meter>, request: u64) -> Arc<Self> {
        let (meter, spent_ns) = (Arc::clone(meter), AtomicU64::new(0));
        Arc::new(Self { meter, request, spent_ns, is_over: Notify::new() })
    }

    fn charge(&self, spent: Duration) {
        let sum = add(&self.spent_ns, spent);
        if !self.meter.charge(self.request, spent) || !self.meter.is_within(sum) {
            self.is_over.notify_one();
        }
    }
}

/// Those who pay for a connection now.
#[derive(Default)]
pub(super) struct Payers {
    now: Mutex<Vec<Arc<Payer>>>,
    /// What it has cost since the last of them left.
    unpaid_ns: AtomicU64,
    /// It has cost too much since.
    pub(super) is_unpaid: Notify,
}

impl Payers {
    pub(super) fn count(&self) -> usize {
        lock(&self.now).len()
    }

    pub(super) fn join(&self, payer: &Arc<Payer>) {
        self.unpaid_ns.store(0, Relaxed);
        lock(&self.now).push(Arc::clone(payer));
    }

    /// Whether nobody is left.
    pub(super) fn leave(&self, payer: &Arc<Payer>) -> bool {
        let mut now = lock(&self.now);
        now.retain(|other| !Arc::ptr_eq(other, payer));
        now.is_empty()
    }

    fn charge(&self, spent: Duration) {
        let now = lock(&self.now);
        match u32::try_from(now.len()) {
            Ok(payers @ 1..) => now.iter().for_each(|payer| payer.charge(spent / payers)),
            _ if add(&self.unpaid_ns, spent) > UNPAID_MAX => self.is_unpaid.notify_one(),
            _ => {}
        }
    }
}

/// Adds to a sum in nanoseconds, and gives it.
fn add(sum: &AtomicU64, spent: Duration) -> Duration {
    let sum_ns = sum.load(Relaxed).saturating_add(u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX));
    sum.store(sum_ns, Relaxed);
    Duration::from_nanos(sum_ns)
}

fn lock(payers: &Mutex<Vec<Arc<Payer>>>) -> MutexGuard<'_, Vec<Arc<Payer>>> {
    payers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A task of a connection.
pub(super) struct Paid<F> {
    task: Pin<Box<F>>,
    payers: Arc<Payers>,
}

impl<F: Future> Paid<F> {
    pub(super) fn new(task: F, payers: Arc<Payers>) -> Self {
        Self { task: Box::pin(task), payers }
    }
}

impl<F: Future> Future for Paid<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let timer = PollTimer::begin();
        let polled = self.task.as_mut().poll(context);
        self.payers.charge(timer.spent());
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;
    use crate::meter::thread_cpu_ns;

    const LIMIT: Duration = Duration::from_millis(10);

    fn is_told(notify: &Notify) -> bool {
        let told = std::pin::pin!(notify.notified());
        told.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    /// A connection that computes for so long in all.
    fn compute(payers: &Arc<Payers>, time: Duration) {
        let busy = poll_fn(|_| {
            let until_ns = thread_cpu_ns() + 1_000_000;
            while thread_cpu_ns() < until_ns {
                std::hint::spin_loop();
            }
            Poll::<()>::Pending
        });
        let mut paid = Box::pin(Paid::new(busy, Arc::clone(payers)));
        for _ in 0..time.as_millis() {
            assert!(paid.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
    }

    #[test]
    fn requests_that_share_a_connection_pay_equal_parts_and_are_told_when_they_have_no_more() {
        let payers = Arc::new(Payers::default());
        let meters = [(); 2].map(|()| Arc::new(Meter::of_test(LIMIT)));
        meters.iter().for_each(|meter| meter.begin_call(7));
        let [one, two] = [0, 1].map(|meter| Payer::new(&meters[meter], 7));
        payers.join(&one);
        payers.join(&two);
        compute(&payers, LIMIT);
        let [paid, other] = meters.each_ref().map(|meter| meter.cpu());
        assert!(paid == other && paid >= LIMIT / 4 && paid < LIMIT, "{paid:?} {other:?}");
        assert!(!is_told(&one.is_over) && !is_told(&two.is_over));
        assert!(!payers.leave(&two));
        compute(&payers, LIMIT);
        assert!(is_told(&one.is_over) && !is_told(&two.is_over));
        assert_eq!(meters[1].cpu(), other, "who has left pays no more");
        // Of a request that has ended, the outgoing one costs nobody; but it ends as well.
        let late = Payer::new(&meters[1], 6);
        payers.leave(&one);
        payers.join(&late);
        compute(&payers, 2 * LIMIT);
        assert!(is_told(&late.is_over));
        assert_eq!(meters[1].cpu(), other);
    }

    #[test]
    fn what_a_connection_costs_while_nobody_uses_it_is_bounded() {
        let payers = Arc::new(Payers::default());
        let payer = Payer::new(&Arc::new(Meter::of_test(Duration::from_secs(9))), 0);
        for _ in 0..2 {
            compute(&payers, UNPAID_MAX / 4);
            assert!(!is_told(&payers.is_unpaid), "each time anew");
            payers.join(&payer);
            assert!(payers.leave(&payer));
        }
        compute(&payers, 2 * UNPAID_MAX);
        assert!(is_told(&payers.is_unpaid));
    }
}
