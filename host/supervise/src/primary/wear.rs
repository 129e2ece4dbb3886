//! What a worker has come to since it began, and which limit it has reached.

use std::time::{Duration, Instant};

use wasmhost_config::WorkerLimits;
use wasmhost_serve::metrics::RetiredFor;

/// By how much age and requests of a worker vary, so that workers that began together do not all end together.
const VARIES_BY: f64 = 0.2;

/// A worker is not replaced for its memory before: one whose apps need more than the limit from the start on would else be
/// replaced all the time.
const MEMORY_AGE_MIN: Duration = Duration::from_secs(10);
/// One that has reached the limit on memory within this time has little to gain from being replaced.
const SOON: Duration = Duration::from_secs(60);

/// What a worker began with.
#[derive(Debug, Clone, Copy)]
pub(super) struct WorkerBeginning {
    pub(super) at: Instant,
    /// Requests of those that had its number before.
    pub(super) requests: u64,
    /// See [`Wear::share`].
    pub(super) share: f64,
}

impl WorkerBeginning {
    /// Of a worker that begins now; those of its number have answered so many requests before.
    pub(super) fn now(requests: u64) -> Self {
        Self { at: Instant::now(), requests, share: 1.0 + VARIES_BY * (2.0 * fastrand::f64() - 1.0) }
    }
}

/// What a worker has come to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wear {
    pub(super) age: Duration,
    pub(super) requests: u64,
    pub(super) memory_bytes: u64,
    /// Of the limits on age and requests, how much holds for it: 0.8 to 1.2.
    pub(super) share: f64,
}

/// Which limit a worker has reached.
pub(super) fn reached(limits: &WorkerLimits, wear: &Wear) -> Option<RetiredFor> {
    #[expect(clippy::cast_precision_loss, reason = "a limit that varies by a fifth")]
    let has_answered = |max: u64| wear.requests as f64 >= max as f64 * wear.share;
    if limits.memory_max_bytes.is_some_and(|max| wear.memory_bytes > max) && wear.age >= MEMORY_AGE_MIN {
        Some(RetiredFor::Memory)
    } else if limits.requests_max.is_some_and(has_answered) {
        Some(RetiredFor::Requests)
    } else if limits.age_max.is_some_and(|max| wear.age >= max.mul_f64(wear.share)) {
        Some(RetiredFor::Age)
    } else {
        None
    }
}

/// Whether a worker has reached its limit so soon that the limit is too low for what it serves.
pub(super) fn is_too_soon(why: RetiredFor, age: Duration) -> bool {
    why == RetiredFor::Memory && age < SOON
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_replaced_at_the_first_limit_that_it_reaches() {
        let wear =
            |age, requests, memory_bytes, share| Wear { age: Duration::from_secs(age), requests, memory_bytes, share };
        let worn = wear(1_000_000, u64::MAX, u64::MAX, 1.0);
        assert_eq!(reached(&WorkerLimits::default(), &worn), None);
        let limits = WorkerLimits {
            age_max: Some(Duration::from_secs(100)),
            requests_max: Some(1_000),
            memory_max_bytes: Some(50),
        };
        assert_eq!(reached(&limits, &wear(99, 999, 50, 1.0)), None);
        assert_eq!(reached(&limits, &wear(100, 999, 50, 1.0)), Some(RetiredFor::Age));
        assert_eq!(reached(&limits, &wear(80, 0, 0, 0.8)), Some(RetiredFor::Age));
        assert_eq!(reached(&limits, &wear(100, 1_199, 0, 1.2)), None);
        assert_eq!(reached(&limits, &wear(0, 1_200, 0, 1.2)), Some(RetiredFor::Requests));
        assert_eq!(reached(&limits, &wear(9, 0, 51, 1.2)), None, "it has just begun");
        assert_eq!(reached(&limits, &wear(10, 0, 51, 1.2)), Some(RetiredFor::Memory));
        assert!(is_too_soon(RetiredFor::Memory, Duration::from_secs(59)));
        assert!(!is_too_soon(RetiredFor::Memory, SOON) && !is_too_soon(RetiredFor::Requests, Duration::ZERO));
    }
}
