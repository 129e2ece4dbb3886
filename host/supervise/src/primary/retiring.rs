//! Replaces workers that have reached an age, a number of requests or an amount of memory.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use wasmhost_config::WorkerLimits;
use wasmhost_serve::metrics::{AppFigures, RetiredFor};

use super::place::Place;
use super::state::Primary;
use crate::backend::Backend;
use crate::events::HostEvent;

/// How often it is looked.
const LOOKS: Duration = Duration::from_secs(1);
/// By how much age and requests of a worker vary, so that workers that began together do not all end together.
const VARIES_BY: f64 = 0.2;

/// What a worker has come to.
#[derive(Debug, Clone, Copy)]
struct Wear {
    age: Duration,
    requests: u64,
    memory_bytes: u64,
    /// Of the limits on age and requests, how much holds for it: 0.8 to 1.2.
    share: f64,
}

/// Which limit a worker has reached. Pure.
fn reached(limits: &WorkerLimits, wear: &Wear) -> Option<RetiredFor> {
    #[expect(clippy::cast_precision_loss, reason = "a limit that varies by a fifth")]
    let has_answered = |max: u64| wear.requests as f64 >= max as f64 * wear.share;
    if limits.memory_max_bytes.is_some_and(|max| wear.memory_bytes > max) {
        Some(RetiredFor::Memory)
    } else if limits.requests_max.is_some_and(has_answered) {
        Some(RetiredFor::Requests)
    } else if limits.age_max.is_some_and(|max| wear.age >= max.mul_f64(wear.share)) {
        Some(RetiredFor::Age)
    } else {
        None
    }
}

/// What a worker began with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beginning {
    at: Instant,
    /// Requests of those that had its number before.
    requests: u64,
    share: f64,
}

impl<B: Backend> Primary<B> {
    /// When [`Self::retire_due`] has something to do, if it ever has.
    pub(super) fn retire_at(&self) -> Option<Instant> {
        (self.config.worker_limits != WorkerLimits::default()).then_some(self.retires_at)
    }

    /// A worker begins.
    pub(super) fn beginning(&self, place: &Place<B>) -> Beginning {
        let share = 1.0 + VARIES_BY * (2.0 * fastrand::f64() - 1.0);
        Beginning { at: Instant::now(), requests: self.requests_of(place), share }
    }

    /// Has workers replaced that have reached a limit.
    pub(super) fn retire_due(&mut self) {
        let now = Instant::now();
        self.retires_at = now + LOOKS;
        let wear = |place: &Place<B>| {
            let beginning = place.beginning.filter(|_| place.running && !place.leaves)?;
            let wear = Wear {
                age: now.duration_since(beginning.at),
                requests: self.requests_of(place).saturating_sub(beginning.requests),
                memory_bytes: place.scoreboard.memory.get(),
                share: beginning.share,
            };
            Some((place.id, reached(&self.config.worker_limits, &wear)?))
        };
        let due: Vec<_> = self.wanted().filter_map(wear).filter(|(id, _)| !self.restarts.replaces(*id)).collect();
        for (id, why) in due {
            let worker = self.of_worker(id);
            tracing::info!(worker = id.0, limit = why.flag(), "the worker has reached its limit, and is replaced");
            self.host_status.host.retired_workers[why.index()].fetch_add(1, Relaxed);
            self.note(&HostEvent::Retire { worker, reason: why.name() });
            // Nobody waits.
            self.restarts.ask(vec![id], oneshot::channel().0);
        }
        self.next_restart();
    }

    /// How many requests have been answered by workers of this number.
    fn requests_of(&self, place: &Place<B>) -> u64 {
        if self.config.worker_limits.requests_max.is_none() {
            return 0;
        }
        let mut figures = AppFigures::default();
        figures.add(&place.scoreboard.metrics.unrouted);
        let touched = self.host_status.touched();
        touched.iter().filter_map(|app| place.scoreboard.apps.get(app.index())).for_each(|row| figures.add(row));
        figures.requests()
    }
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
        assert_eq!(reached(&limits, &wear(0, 0, 51, 1.2)), Some(RetiredFor::Memory));
    }
}
