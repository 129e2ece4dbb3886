//! Counts of requests and instances, added up: of a worker over all its apps, or of an app over all workers.

use std::sync::atomic::Ordering::Relaxed;

use wasmhost_config::AppId;
use wasmhost_sandbox::{FaultKind, SharedBound};
use wasmhost_serve::metrics::{AppMetrics, Count, LATENCY_BOUNDS, Refused, Shed};

use crate::board::Board;

/// Sums of [`AppMetrics`], whose fields say what they mean.
#[derive(Debug, Clone, Default)]
pub(super) struct Figures {
    pub(super) memory_bytes: u64,
    /// Pools that are down.
    pub(super) down: u64,
    pub(super) responses: [u64; 6],
    pub(super) in_flight: u64,
    pub(super) client_left: u64,
    pub(super) queued: u64,
    pub(super) faults: [u64; FaultKind::ALL.len()],
    pub(super) sheds: [u64; Shed::ALL.len()],
    pub(super) refusals: [u64; Refused::ALL.len()],
    pub(super) shortages: [u64; SharedBound::ALL.len()],
    pub(super) generation: u64,
    pub(super) instances: u64,
    pub(super) guest_cpu_us: u64,
    pub(super) latency: [u64; LATENCY_BOUNDS.len() + 1],
    pub(super) latency_sum_us: u64,
}

impl Figures {
    /// Of each worker, in their order: all that it has counted, whether it belongs to an app or not. And of each of these
    /// apps. No other row is read: that would give it memory.
    pub(super) fn of(board: &Board, apps: &[AppId]) -> (Vec<Self>, Vec<Self>) {
        let mut of_apps = vec![Self::default(); apps.len()];
        let of_worker = |vitals: &&'static wasmhost_serve::vitals::Vitals| {
            let mut sum = Self::default();
            sum.add(&vitals.metrics.unrouted);
            for (id, of_app) in apps.iter().zip(&mut of_apps) {
                if let Some(row) = vitals.apps.get(id.index()) {
                    sum.add(row);
                    of_app.add(row);
                }
            }
            sum
        };
        let of_workers = board.workers.iter().map(of_worker).collect();
        (of_workers, of_apps)
    }

    /// All requests answered.
    pub(super) fn requests(&self) -> u64 {
        self.responses.iter().sum()
    }

    fn add(&mut self, row: &AppMetrics) {
        fn all<const N: usize>(sums: &mut [u64; N], counts: &[Count; N]) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum += count.get();
            }
        }
        self.memory_bytes += row.memory_bytes.load(Relaxed);
        self.down += u64::from(row.down.get());
        all(&mut self.responses, &row.responses);
        all(&mut self.faults, &row.faults);
        all(&mut self.sheds, &row.sheds);
        all(&mut self.refusals, &row.refusals);
        all(&mut self.latency, &row.latency);
        self.shortages.iter_mut().zip(&row.shortages).for_each(|(sum, count)| *sum += count.load(Relaxed));
        self.in_flight += row.in_flight.get().unsigned_abs();
        self.instances += row.instances.get().unsigned_abs();
        self.client_left += row.client_left.get();
        self.queued += row.queued.get();
        self.generation += row.generation.get();
        self.guest_cpu_us += row.guest_cpu_us.get();
        self.latency_sum_us += row.latency_sum_us.get();
    }
}
