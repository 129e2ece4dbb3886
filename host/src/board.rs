//! What the host tells of itself: written by the primary and the workers, read by the admin page.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::config::Config;
use crate::metrics::{HostMetrics, WorkerMetrics};
use crate::sandbox::{Guest, MemoryBudget};
use crate::shutdown::Phase;

/// What the admin page reads, and the primary writes.
pub struct Board {
    /// Counts by worker, in the order of their numbers from 1.
    pub workers: Vec<Arc<WorkerMetrics>>,
    /// Counts of the host.
    pub host: Arc<HostMetrics>,
    /// Memory granted to instances.
    pub budget: Arc<MemoryBudget>,
    /// What is served and how.
    pub config: Arc<Config>,
    /// Since when.
    pub started: Instant,
    state: Mutex<(Phase, &'static str, String)>,
}

impl Board {
    /// The board of a host that starts.
    pub(crate) fn new(config: Arc<Config>, workers: Vec<Arc<WorkerMetrics>>, budget: Arc<MemoryBudget>) -> Self {
        Self {
            workers,
            host: Arc::default(),
            budget,
            config,
            started: Instant::now(),
            state: Mutex::new((Phase::Starting, "", String::new())),
        }
    }

    /// The phase, the isolation in effect, and the wasi version.
    pub fn state(&self) -> (Phase, &'static str, String) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether requests are answered.
    pub fn is_ready(&self) -> bool {
        self.state().0 == Phase::Running
            && self.workers.iter().any(|worker| worker.listening.load(Relaxed) && !worker.down.load(Relaxed))
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = phase;
    }

    pub(crate) fn set_guest(&self, config: &Config, guest: &Guest) {
        let isolation = if guest.is_fresh_each_request(config.isolation) { "request" } else { "worker" };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1 = isolation;
        state.2 = guest.version().to_string();
    }
}
