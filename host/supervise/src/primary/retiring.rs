//! Replaces workers that have reached an age, a number of requests or an amount of memory.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use wasmhost_config::WorkerLimits;
use wasmhost_serve::metrics::AppFigures;

use super::place::Place;
use super::state::Primary;
use super::wear::{Wear, WorkerBeginning, is_too_soon, reached};
use crate::backend::Backend;
use crate::events::HostEvent;

/// How often it is looked.
const LOOKS: Duration = Duration::from_secs(1);

impl<B: Backend> Primary<B> {
    /// When [`Self::retire_due`] has something to do, if it ever has.
    pub(super) fn retire_at(&self) -> Option<Instant> {
        (self.config.worker_limits != WorkerLimits::default()).then_some(self.retires_at)
    }

    /// A worker begins.
    pub(super) fn beginning(&self, place: &Place<B>) -> WorkerBeginning {
        WorkerBeginning::now(self.requests_of(place))
    }

    /// Has workers replaced that have reached a limit.
    pub(super) fn retire_due(&mut self) {
        let now = Instant::now();
        self.retires_at = now + LOOKS;
        if self.wanted().any(|place| !place.scoreboard.metrics.listening.get()) {
            // While one is missing, those that serve stay.
            return self.next_restart();
        }
        let wear = |place: &Place<B>| {
            let beginning = place.beginning.filter(|_| place.running && !place.leaves)?;
            let wear = Wear {
                age: now.duration_since(beginning.at),
                requests: self.requests_of(place).saturating_sub(beginning.requests),
                memory_bytes: place.scoreboard.memory.get(),
                share: beginning.share,
            };
            Some((place.id, reached(&self.config.worker_limits, &wear)?, wear.age))
        };
        let due: Vec<_> = self.wanted().filter_map(wear).filter(|(id, ..)| !self.restarts.replaces(*id)).collect();
        for (id, why, age) in due {
            let worker = self.of_worker(id);
            if is_too_soon(why, age) {
                tracing::warn!(
                    worker = id.0,
                    limit = why.flag(),
                    age_s = age.as_secs(),
                    hint = "raise --worker-max-memory above what the apps need",
                    "the worker has reached its limit soon after its start, and is replaced"
                );
            } else {
                tracing::info!(worker = id.0, limit = why.flag(), "the worker has reached its limit, and is replaced");
            }
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
