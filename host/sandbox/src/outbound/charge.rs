//! Measures the CPU time of outgoing requests: TLS, HTTP and copying, which the host does for the guest while the guest
//! does not run. It counts as CPU time of the request that made them, so that `--cpu-limit` limits both in sum.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::meter::{Meter, PollTimer};

/// A task whose CPU time is charged to requests. It gives none if one of them exceeds its limit.
pub(super) struct Charged<F> {
    task: Pin<Box<F>>,
    /// The requests that are charged. After they have ended, the task may still use up to the limits itself.
    payers: Vec<(Arc<Meter>, u64)>,
    spent: Duration,
}

impl<F: Future> Charged<F> {
    pub(super) fn new(task: F, meter: Arc<Meter>, request: u64) -> Self {
        Self::to_all(task, vec![(meter, request)])
    }

    /// Charged to each of these.
    pub(super) fn to_all(task: F, payers: Vec<(Arc<Meter>, u64)>) -> Self {
        Self { task: Box::pin(task), payers, spent: Duration::ZERO }
    }
}

impl<F: Future> Future for Charged<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let timer = PollTimer::begin();
        let polled = self.task.as_mut().poll(context);
        let spent = timer.spent();
        self.spent = self.spent.saturating_add(spent);
        let sum = self.spent;
        // (All are charged, also behind one that has used its time.)
        let within = self
            .payers
            .iter()
            .fold(true, |within, (meter, request)| meter.charge(*request, spent) && meter.is_within(sum) && within);
        match polled {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if within => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_task_that_computes_is_charged_and_ended_at_the_limit() {
        let limit = Duration::from_millis(20);
        let meter = Arc::new(Meter::of_test(limit));
        meter.begin_call(7);
        let busy = poll_fn(|_| {
            let began = Instant::now();
            while began.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            Poll::<()>::Pending
        });
        let mut charged = Box::pin(Charged::new(busy, Arc::clone(&meter), 7));
        let mut polls = 0;
        while charged.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            polls += 1;
            assert!(polls < 1_000, "never ended; charged {:?}", meter.cpu());
        }
        assert!(meter.cpu() > limit, "{:?}", meter.cpu());
        // The next request does not pay for it.
        meter.begin_call(8);
        assert!(charged.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(meter.cpu(), Duration::ZERO);
    }

    #[test]
    fn a_task_that_waits_costs_little() {
        let meter = Arc::new(Meter::of_test(Duration::from_secs(1)));
        let mut charged = Box::pin(Charged::new(std::future::pending::<()>(), Arc::clone(&meter), 0));
        for _ in 0..100 {
            assert!(charged.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(meter.cpu() < Duration::from_millis(100), "{:?}", meter.cpu());
    }
}
