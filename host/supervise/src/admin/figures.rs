//! What has been counted, added up: of a worker over all its apps, of an app over all workers, and of the host.

use wasmhost_config::AppId;
use wasmhost_serve::metrics::{AcceptingFigures, AppFigures, HostFigures, WorkerFigures};
use wasmhost_serve::scoreboard::Scoreboard;

use crate::host_status::{HostStatus, Presence, WorkerRow};

/// The sums.
#[derive(Default)]
pub(super) struct Sums {
    /// The numbers of the workers that have ever been there, and which of them shall be there now.
    pub(super) shown: Vec<(usize, Presence)>,
    /// Of each of these, in their order: all that it has counted of requests, whether they belong to an app or not.
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
    pub(super) fn of(host_status: &HostStatus, apps: &[AppId]) -> Self {
        let mut sums = Self { of_apps: vec![AppFigures::default(); apps.len()], ..Self::default() };
        sums.host.add(host_status.host);
        sums.accepting.add(&host_status.host.accepting);
        for (number, worker) in (1..).zip(&host_status.workers) {
            let presence = worker.presence();
            if presence != Presence::Never {
                sums.shown.push((number, presence));
                sums.add_worker(worker.scoreboard, apps);
            }
        }
        sums
    }

    /// The workers that have ever been there.
    pub(super) fn workers_of<'a>(
        &self,
        host_status: &'a HostStatus,
    ) -> impl Iterator<Item = &'a WorkerRow> + Clone + use<'a, '_> {
        self.shown.iter().filter_map(|(number, _)| host_status.workers.get(number - 1))
    }

    fn add_worker(&mut self, scoreboard: &Scoreboard, apps: &[AppId]) {
        let (mut of_worker, mut worker) = (AppFigures::default(), WorkerFigures::default());
        of_worker.add(&scoreboard.metrics.unrouted);
        for (id, of_app) in apps.iter().zip(&mut self.of_apps) {
            if let Some(row) = scoreboard.apps.get(id.index()) {
                of_worker.add(row);
                of_app.add(row);
            }
        }
        worker.add(&scoreboard.metrics);
        self.accepting.add(&scoreboard.metrics.accepting);
        self.of_workers.push(of_worker);
        self.workers.push(worker);
    }
}
