//! What has been counted, added up: of a worker over all its apps, of an app over all workers, and of the host.

use wasmhost_config::AppId;
use wasmhost_serve::metrics::{AcceptingFigures, AppFigures, HostFigures, WorkerFigures};
use wasmhost_serve::vitals::Vitals;

use crate::board::Board;

/// The sums.
#[derive(Default)]
pub(super) struct Sums {
    /// Of each worker, in their order: all that it has counted of requests, whether they belong to an app or not.
    pub(super) of_workers: Vec<AppFigures>,
    /// Of each app that was asked for, in their order.
    pub(super) of_apps: Vec<AppFigures>,
    /// What only workers count, in their order.
    pub(super) workers: Vec<WorkerFigures>,
    /// Of whoever accepts.
    pub(super) accepting: AcceptingFigures,
    pub(super) host: HostFigures,
}

impl Sums {
    /// Of a host, with sums of each of these apps. No other row of counters is read: that would give it memory.
    pub(super) fn of(board: &Board, apps: &[AppId]) -> Self {
        let mut sums = Self { of_apps: vec![AppFigures::default(); apps.len()], ..Self::default() };
        sums.host.add(board.host);
        sums.accepting.add(&board.host.accepting);
        for vitals in &board.workers {
            sums.add_worker(vitals, apps);
        }
        sums
    }

    fn add_worker(&mut self, vitals: &Vitals, apps: &[AppId]) {
        let (mut of_worker, mut worker) = (AppFigures::default(), WorkerFigures::default());
        of_worker.add(&vitals.metrics.unrouted);
        for (id, of_app) in apps.iter().zip(&mut self.of_apps) {
            if let Some(row) = vitals.apps.get(id.index()) {
                of_worker.add(row);
                of_app.add(row);
            }
        }
        worker.add(&vitals.metrics);
        self.accepting.add(&vitals.metrics.accepting);
        self.of_workers.push(of_worker);
        self.workers.push(worker);
    }
}
