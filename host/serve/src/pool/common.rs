//! What the pools of a worker share: what the worker is asked of them, what it tells the primary of them, and whether all of
//! them are down.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;

use tokio::sync::Notify;

use wasmhost_config::{AppId, CrashSettings};

use super::trim::Trim;
use crate::crash::Crash;
use crate::fault_report::FaultReport;
use crate::instance_fault::InstanceFault;
use crate::metrics::WorkerMetrics;
use crate::worker_id::WorkerId;

/// Faults are not told while so much else is to be.
const NOTICES_MAX: usize = 64;

/// What the pools of a worker share.
pub(crate) struct Common {
    pub(super) worker: WorkerId,
    metrics: &'static WorkerMetrics,
    /// Asked when an instance has gone.
    pub(crate) trim: Trim,
    /// Shared instances in which something runs.
    busy_shared: Cell<usize>,
    /// The last of these came to rest.
    at_rest: Notify,
    /// Receives the panic of a task of a pool.
    pub(super) crash: Rc<Crash>,
    /// False in development: a developer who tries a faulty component again must see its fault each time.
    pub(super) may_go_down: bool,
    /// What may be in reports of faults; none: they are not wanted.
    pub(super) crashes: Option<CrashSettings>,
    /// Apps of the table, asleep ones included.
    apps: Cell<usize>,
    pools_down: Cell<usize>,
    /// What the primary has not been told yet; at most one of each kind for each app, but for faults.
    notices: RefCell<BTreeSet<PoolNotice>>,
    noticed: Notify,
}

/// What the primary is told of an app on this worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PoolNotice {
    /// A request waits for it.
    Wants(AppId),
    /// Nothing is kept of it any more.
    Asleep(AppId),
    /// There is no memory for an instance of it, and no app of this worker can make room.
    LacksMemory(AppId),
    /// An instance of it was given up; with a report, if one is wanted.
    Fault(AppId, InstanceFault, Option<Box<FaultReport>>),
    /// Its revision of this number faulted again and again, and what was served before is served again.
    FellBack(AppId, u64),
}

impl Common {
    pub(crate) fn new(
        worker: WorkerId,
        metrics: &'static WorkerMetrics,
        crash: Rc<Crash>,
        may_go_down: bool,
        crashes: Option<CrashSettings>,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            metrics,
            trim: Trim::default(),
            busy_shared: Cell::new(0),
            at_rest: Notify::new(),
            crash,
            may_go_down,
            crashes,
            apps: Cell::new(0),
            pools_down: Cell::new(0),
            notices: RefCell::default(),
            noticed: Notify::new(),
        })
    }

    /// Has the primary told.
    pub(super) fn tell(&self, notice: PoolNotice) {
        let mut notices = self.notices.borrow_mut();
        match notice {
            PoolNotice::Wants(app) => notices.remove(&PoolNotice::Asleep(app)),
            PoolNotice::Asleep(app) => notices.remove(&PoolNotice::Wants(app)),
            PoolNotice::LacksMemory(_) | PoolNotice::FellBack(..) => false,
            // Each has its line in the log, and is counted.
            PoolNotice::Fault(..) if notices.len() >= NOTICES_MAX => return,
            PoolNotice::Fault(..) => false,
        };
        notices.insert(notice);
        self.noticed.notify_one();
    }

    /// What the primary is to be told next.
    pub(crate) async fn next_notice(&self) -> PoolNotice {
        loop {
            if let Some(notice) = self.notices.borrow_mut().pop_first() {
                return notice;
            }
            self.noticed.notified().await;
        }
    }

    /// Whether the primary has been told all.
    pub(crate) fn is_told(&self) -> bool {
        self.notices.borrow().is_empty()
    }

    /// A shared instance begins to run something, or has come to rest.
    pub(super) fn note_busy(&self, is: bool) {
        let busy = self.busy_shared.get();
        self.busy_shared.set(if is { busy + 1 } else { busy.saturating_sub(1) });
        if self.busy_shared.get() == 0 {
            self.at_rest.notify_one();
        }
    }

    /// Whether nothing runs in shared instances, of calls that were answered either.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.busy_shared.get() == 0
    }

    /// Waits for a moment at which [`Self::is_at_rest`] may hold.
    pub(crate) async fn rested(&self) {
        self.at_rest.notified().await;
    }

    /// There are so many apps from now on.
    pub(super) fn has_apps(&self, apps: usize) {
        self.apps.set(apps);
        self.count_down(0);
    }

    /// So many more pools are down. The worker counts as down when those of all apps are: one that is asleep is not down, and
    /// may answer.
    pub(super) fn count_down(&self, more: isize) {
        self.pools_down.set(self.pools_down.get().saturating_add_signed(more));
        self.metrics.down.set(self.pools_down.get() > 0 && self.pools_down.get() >= self.apps.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_down_when_all_its_apps_are_and_one_that_is_asleep_is_not() {
        let metrics: &'static WorkerMetrics = Box::leak(Box::default());
        let common = Common::new(WorkerId(1), metrics, Rc::default(), true, None);
        common.has_apps(2);
        common.count_down(1);
        assert!(!metrics.down.get(), "the other one may answer");
        common.count_down(1);
        assert!(metrics.down.get());
        common.has_apps(3);
        assert!(!metrics.down.get(), "a new one may");
        common.has_apps(2);
        common.count_down(-1);
        assert!(!metrics.down.get());
    }
}
