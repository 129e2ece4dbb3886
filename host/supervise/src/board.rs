//! The state of the host that the admin page shows: written by the primary and the workers, read by the admin page.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use wasmhost_base::log;
use wasmhost_config::Config;
use wasmhost_confine::Report;
use wasmhost_serve::metrics::{HostMetrics, WorkerMetrics};
use wasmhost_serve::vitals::HostVitals;

use crate::loader::Edition;
use crate::shutdown::Phase;

/// What the admin page reads, and the primary writes.
pub struct Board {
    /// Counts by worker, in the order of their numbers from 1.
    pub workers: Vec<&'static WorkerMetrics>,
    /// Counts of the host.
    pub host: &'static HostMetrics,
    /// What all workers share.
    pub vitals: &'static HostVitals,
    /// What is served and how.
    pub config: Arc<Config>,
    /// How far the process confined itself.
    pub confinement: Report,
    /// Since when.
    pub started: Instant,
    state: Mutex<(Phase, String, String)>,
}

impl Board {
    /// The board of a host that starts.
    pub(crate) fn new(
        config: Arc<Config>,
        workers: Vec<&'static WorkerMetrics>,
        vitals: &'static HostVitals,
        confinement: Report,
    ) -> Self {
        Self {
            workers,
            host: wasmhost_serve::vitals::own(),
            vitals,
            config,
            confinement,
            started: Instant::now(),
            state: Mutex::new((Phase::Starting, String::new(), String::new())),
        }
    }

    /// The phase, the isolation in effect, and the wasi version.
    pub fn state(&self) -> (Phase, String, String) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether requests are answered.
    pub fn is_ready(&self) -> bool {
        self.state().0 == Phase::Running
            && self.workers.iter().any(|worker| worker.listening.get() && !worker.down.get())
    }

    /// Connections closed at once, whose client had as many as it may.
    pub fn refused_connections(&self) -> u64 {
        let by_workers: u64 = self.workers.iter().map(|worker| worker.accepting.refused.get()).sum();
        by_workers + self.host.accepting.refused.get()
    }

    /// Lines of the log that were lost: this process's, and those of workers that are processes.
    pub fn log_lines_lost(&self) -> u64 {
        let by_workers: u64 = self.workers.iter().map(|worker| worker.log_lines_lost.load(Relaxed)).sum();
        by_workers + log::lost_lines()
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = phase;
    }

    pub(crate) fn set_edition(&self, edition: &Edition) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.clone_from(&edition.isolation);
        state.2.clone_from(&edition.wasi);
    }
}
