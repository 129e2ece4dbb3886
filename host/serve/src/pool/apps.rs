//! The apps of a worker. Each app that is in use has a pool. A pool is made when a request comes for its app, and the primary
//! is asked for a guest. A pool that was not used for a while is put to sleep: nothing is kept of it. (When memory is short, see
//! `shortage`.)

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use wasmhost_base::throttle::Throttle;
use wasmhost_config::{App, AppId, AppTable, CanaryRules, Routed};
use wasmhost_sandbox::{
    AppBounds, AppCounters, DatabaseCounters, Guest, InstanceContext, MemoryBudget, MemoryRelief, Profiler, Pulse,
    Sandbox, Services, StoreCounters, WorkerBounds, WorkerCpu, relieved_by,
};

use super::common::{Common, PoolNotice};
use super::instances::Pool;
use super::lingering::LingeringBounds;
use super::supply::{RevisionTag, Supply};
use crate::metrics::{AppMetrics, Flag};
use crate::scoreboard::{HostScoreboard, Scoreboard, memory_of};

/// Most apps of a worker that are awake at once; beyond, the one that was not used for the longest time is put to sleep.
pub const AWAKE_MAX: usize = 1_024;

/// For guests that grow, which may do so in a loop, other workers are asked to make room once in this time.
const GROWTH_ASKS_EVERY: Duration = Duration::from_millis(100);
/// At most so often the worker looks for apps to put to sleep.
const SLEEPERS_LOOKED_FOR_EVERY: Duration = Duration::from_millis(10);

/// What the pools of a worker are made with.
pub(crate) struct WorkerParts {
    /// Where its apps call each other.
    pub(crate) services: Arc<dyn Services>,
    pub(crate) pulse: Arc<Pulse>,
    /// The worker's CPU, which its apps share.
    pub(crate) cpu: Rc<WorkerCpu>,
    /// Takes samples of their guests' stacks.
    pub(crate) profiler: Arc<Profiler>,
    /// What they share besides.
    pub(crate) bounds: WorkerBounds,
    pub(crate) sandbox: Arc<Sandbox>,
    /// Memory of all instances of the host.
    pub(crate) budget: MemoryBudget,
    pub(crate) scoreboard: &'static Scoreboard,
    pub(crate) host: &'static HostScoreboard,
    /// After so long without a request an app is put to sleep; none: never.
    pub(crate) sleep_after: Option<Duration>,
    /// Of which group this worker is; it serves the apps of this group, or those without one.
    pub(crate) group: Option<Arc<str>>,
    /// There may be other workers, of this group or another, with which it shares the memory.
    pub(crate) has_other_workers: bool,
}

/// Where a request goes.
pub(crate) enum Route {
    /// To an app of this worker.
    Here {
        /// The app's.
        pool: Rc<Pool>,
        /// Bytes at the beginning of the path that the app does not see.
        stripped: usize,
    },
    /// To a worker of a group.
    Elsewhere(Elsewhere),
}

/// An app of a group, for which this worker forwards requests.
pub(crate) struct Elsewhere {
    pub(crate) group: Rc<str>,
    pub(crate) app: AppId,
    /// See [`Route::Here`].
    pub(crate) stripped: usize,
    /// What fails here is recorded with it. It has no instances.
    pub(crate) pool: Rc<Pool>,
}

/// The group of an app, and what fails of it here is recorded with.
type OfGroup = (Rc<str>, Rc<Pool>);

/// The apps of a worker.
pub(crate) struct WorkerApps {
    pub(crate) common: Rc<Common>,
    pub(super) parts: WorkerParts,
    table: RefCell<Arc<AppTable>>,
    pub(super) pools: RefCell<BTreeMap<AppId, Rc<Pool>>>,
    /// Of new revisions that get a share of their apps' requests.
    canaries: RefCell<BTreeMap<AppId, Rc<Pool>>>,
    lingering: LingeringBounds,
    /// Guests that grow have other workers asked to make room.
    pub(super) growth_asks: Throttle,
    /// Apps that have had a pool.
    seen: RefCell<BTreeSet<AppId>>,
    /// Of requests that belong to no app.
    no_app: Rc<Pool>,
    /// Of apps of groups for which this worker has had requests, and their groups; [`AWAKE_MAX`] at most.
    elsewhere: RefCell<BTreeMap<AppId, OfGroup>>,
    /// An app was woken, or there are others.
    woken: Notify,
}

impl WorkerApps {
    pub(crate) fn new(common: Rc<Common>, parts: WorkerParts, table: Arc<AppTable>) -> Rc<Self> {
        let none = Arc::new(App::default());
        let bounds = AppBounds::alone();
        let context = context(&common, &parts, (None, false), &none, &bounds);
        let metrics = (&parts.scoreboard.metrics.unrouted, &parts.host.apps[0].has_answered);
        let no_app = Pool::new(None, none, (context, bounds), metrics, Rc::clone(&common));
        common.has_apps(table.len());
        parts.bounds.serve(table.len());
        let table = RefCell::new(table);
        let (pools, seen, elsewhere) = (RefCell::default(), RefCell::default(), RefCell::default());
        let canaries = RefCell::default();
        let (lingering, woken, growth_asks) =
            (LingeringBounds::default(), Notify::new(), Throttle::new(GROWTH_ASKS_EVERY));
        let apps = Rc::new(Self {
            common,
            parts,
            table,
            pools,
            canaries,
            lingering,
            seen,
            no_app,
            elsewhere,
            woken,
            growth_asks,
        });
        let relief: Rc<dyn MemoryRelief> = Rc::clone(&apps) as _;
        relieved_by(&relief);
        apps
    }

    /// Where a request to this host and path goes. Wakes the app, if it is one of this worker.
    pub(crate) fn route<'h>(&self, host: impl FnOnce() -> &'h str, path: &str) -> Option<Route> {
        let routed = self.table.borrow().route(host, path)?;
        self.route_to(routed)
    }

    /// Where a request goes that another app of this worker makes to the app of this name. Wakes it.
    pub(crate) fn service(&self, name: &str) -> Option<Route> {
        let app = self.table.borrow().named(name)?;
        self.route_to(Routed { app, stripped: 0 })
    }

    fn route_to(&self, Routed { app, stripped }: Routed) -> Option<Route> {
        if let Some((group, pool)) = self.elsewhere(app)? {
            return Some(Route::Elsewhere(Elsewhere { group, app, stripped, pool }));
        }
        Some(Route::Here { pool: self.pool(app)?, stripped })
    }

    /// Which group an app is of that this worker does not serve, and what fails of it here is recorded with. None: no such
    /// app; none within: the app is one of this worker.
    fn elsewhere(&self, id: AppId) -> Option<Option<OfGroup>> {
        let table = self.table.borrow();
        let app = table.get(id)?;
        let Some(group) = app.group.as_deref().filter(|group| self.parts.group.as_deref() != Some(group)) else {
            return Some(None);
        };
        let mut elsewhere = self.elsewhere.borrow_mut();
        if let Some(known) = elsewhere.get(&id) {
            return Some(Some(known.clone()));
        }
        if elsewhere.len() >= AWAKE_MAX {
            elsewhere.clear();
        }
        let bounds = AppBounds::alone();
        let context = context(&self.common, &self.parts, (None, false), app, &bounds);
        let (pool, rows) = ((context, bounds), rows(&self.parts, id)?);
        let pool = Pool::new(Some(id), Arc::clone(app), pool, rows, Rc::clone(&self.common));
        let new = (Rc::from(group), pool);
        elsewhere.insert(id, new.clone());
        Some(Some(new))
    }

    /// Whether the host has more than one app.
    pub(super) fn has_others(&self) -> bool {
        self.parts.group.is_some() || self.table.borrow().len() > 1
    }

    /// What a request that belongs to no app is recorded with.
    pub(crate) fn no_app(&self) -> Rc<Pool> {
        Rc::clone(&self.no_app)
    }

    /// The name of an app; empty where there is none.
    pub(crate) fn name(&self, id: Option<AppId>) -> String {
        let table = self.table.borrow();
        id.and_then(|id| table.get(id)).map(|app| app.name.clone()).unwrap_or_default()
    }

    /// The pool of an app; made, and the primary asked for a guest, when there is none.
    pub(crate) fn pool(&self, id: AppId) -> Option<Rc<Pool>> {
        if let Some(pool) = self.pools.borrow().get(&id) {
            return Some(Rc::clone(pool));
        }
        let pool = self.make(id)?;
        self.common.tell(PoolNotice::Wants(id));
        Some(pool)
    }

    fn make(&self, id: AppId) -> Option<Rc<Pool>> {
        if self.pools.borrow().len() >= AWAKE_MAX {
            self.put_to_sleep_one(|_| true);
        }
        let app = Arc::clone(self.table.borrow().get(id)?);
        let (metrics, has_answered) = rows(&self.parts, id)?;
        let bounds = self.lingering.take(id).unwrap_or_else(|| {
            let stores = StoreCounters {
                calls: &metrics.store_calls,
                failures: &metrics.store_failures,
                waited_us: &metrics.store_wait_us,
            };
            let databases = DatabaseCounters {
                statements: &metrics.database_statements,
                failures: &metrics.database_failures,
                waited_us: &metrics.database_wait_us,
                cpu_us: &metrics.database_cpu_us,
            };
            let counters =
                AppCounters { shortages: &metrics.shortages, outgoing: &metrics.outgoing, stores, databases };
            AppBounds::new(&self.parts.bounds, (self.common.worker.0, &app.name), counters)
        });
        let context = context(&self.common, &self.parts, (Some(id), self.has_others()), &app, &bounds);
        if self.seen.borrow_mut().insert(id) {
            // What a worker that died left there went with it.
            metrics.in_flight.set(0);
            metrics.waiting.set(0);
            metrics.instances.set(0);
            metrics.down.set(false);
        }
        let pool = Pool::new(Some(id), app, (context, bounds), (metrics, has_answered), Rc::clone(&self.common));
        Self::attend(&pool);
        self.pools.borrow_mut().insert(id, Rc::clone(&pool));
        self.woken.notify_one();
        Some(pool)
    }

    /// Begins the tasks of a pool.
    fn attend(pool: &Rc<Pool>) {
        let [tended, relieved, opened] = std::array::from_fn(|_| (Rc::clone(pool), Rc::clone(&pool.common)));
        let tend = async move { tended.1.crash.watch(Box::pin(tended.0.tend())).await };
        let relieve = async move { relieved.1.crash.watch(Box::pin(relieved.0.relieve())).await };
        let open = async move { opened.1.crash.watch(Box::pin(opened.0.open())).await };
        let tend = tokio::task::spawn_local(tend).abort_handle();
        let relieve = tokio::task::spawn_local(relieve).abort_handle();
        pool.runs([tend, relieve, tokio::task::spawn_local(open).abort_handle()]);
    }

    /// The pool of a new revision that gets a share of the requests of this pool's app, if it is to have this one.
    pub(crate) fn or_canary(&self, pool: Rc<Pool>, is_chosen: impl FnOnce(&CanaryRules) -> bool) -> Rc<Pool> {
        let canaries = self.canaries.borrow();
        let canary = if canaries.is_empty() { None } else { pool.id().and_then(|id| canaries.get(&id)) };
        let may_be = |canary: &&Rc<Pool>| !canary.is_given_up() && !canary.is_full();
        let chosen = canary.filter(may_be).filter(|canary| is_chosen(&canary.app().canary));
        chosen.cloned().unwrap_or(pool)
    }

    /// A new revision gets a share of the requests of this pool's app.
    fn begin_canary(&self, pool: &Pool, guest: Arc<Guest>, tag: RevisionTag) -> Option<()> {
        let (id, app) = (pool.id()?, Arc::clone(guest.app()));
        let context = || context(&self.common, &self.parts, (Some(id), self.has_others()), guest.app(), pool.bounds());
        let of_pool = (context(), Arc::clone(pool.bounds()));
        let canary = Pool::new(Some(id), app, of_pool, rows(&self.parts, id)?, Rc::clone(&self.common)).into_canary();
        Self::attend(&canary);
        let context = context();
        // What it is compared with is counted as long as it is.
        pool.metrics.revisions().begin(pool.revision());
        canary.supply(guest, tag, context);
        self.canaries.borrow_mut().insert(id, canary);
        Some(())
    }

    /// No revision of this app gets a share of its requests any more; those that have theirs finish.
    fn end_canary(&self, id: AppId) {
        let ended = self.canaries.borrow_mut().remove(&id);
        if let Some(canary) = ended {
            canary.retire();
        }
    }

    /// Serves an app from the start, before a request has come for it.
    pub(crate) fn begin_with(&self, id: AppId, supply: Supply) -> Option<Rc<Pool>> {
        if matches!(supply, Supply::Guest(..)) {
            self.make(id)?;
        }
        self.supply(id, supply)
    }

    /// Follows what was ordered for an app. One that has fallen asleep meanwhile stays so: its next request asks for what is
    /// the latest then.
    pub(crate) fn supply(&self, id: AppId, supply: Supply) -> Option<Rc<Pool>> {
        let pool = self.pools.borrow().get(&id).cloned()?;
        match supply {
            Supply::Guest(guest, tag) => {
                let context =
                    context(&self.common, &self.parts, (Some(id), self.has_others()), guest.app(), pool.bounds());
                self.end_canary(id);
                if tag.is_canary && pool.revision() == 0 {
                    // It is to be beside what is served, of which this pool has nothing.
                    self.common.tell(PoolNotice::Wants(id));
                } else if tag.is_canary {
                    self.begin_canary(&pool, guest, tag);
                } else if pool.revision() != tag.number {
                    pool.supply(guest, tag, context);
                }
            }
            Supply::Unavailable(_) => pool.is_unavailable(),
        }
        Some(pool)
    }

    /// Serves these apps from now on. Those that are not among them, or that are others of the same name by now, serve the
    /// requests that they have to the end.
    pub(crate) fn serve(&self, table: Arc<AppTable>) {
        self.common.has_apps(table.len());
        self.parts.bounds.serve(table.len());
        let before = self.table.replace(table);
        let gone: Vec<Rc<Pool>> = {
            let table = self.table.borrow();
            let is_gone = |id: &AppId| !table.has_same(*id, &before);
            self.pools.borrow_mut().extract_if(.., |id, _| is_gone(id)).map(|(_, pool)| pool).collect()
        };
        self.elsewhere.borrow_mut().clear();
        self.woken.notify_one();
        for pool in gone {
            self.end(&pool);
        }
        let table = self.table.borrow();
        self.lingering.sweep(|id| table.has_same(id, &before));
    }

    /// Puts apps to sleep that were not used for a while; never ends.
    pub(crate) async fn put_to_sleep(self: Rc<Self>) {
        let Some(after) = self.parts.sleep_after else { return };
        loop {
            // The only app of a host stays awake. While nothing can go to sleep, there is no timer.
            let is_only = self.parts.group.is_none() && self.table.borrow().len() <= 1;
            if self.pools.borrow().is_empty() || is_only {
                self.woken.notified().await;
                continue;
            }
            tokio::time::sleep((after / 4).max(SLEEPERS_LOOKED_FOR_EVERY)).await;
            let is_tired = |pool: &Rc<Pool>| pool.is_unused() && pool.last_used.get().elapsed() >= after;
            let tired: Vec<Rc<Pool>> =
                self.pools.borrow_mut().extract_if(.., |_, pool| is_tired(pool)).map(|(_, pool)| pool).collect();
            for pool in tired {
                self.end(&pool);
            }
            self.lingering.sweep(|_| true);
        }
    }

    /// Puts the app to sleep that nobody uses and that was not used for the longest time, of those for which this holds.
    /// False when there is none.
    pub(super) fn put_to_sleep_one(&self, may_sleep: impl Fn(&Pool) -> bool) -> bool {
        let oldest = {
            let mut pools = self.pools.borrow_mut();
            let unused = pools.iter().filter(|(_, pool)| pool.is_unused() && may_sleep(pool));
            let oldest = unused.min_by_key(|(_, pool)| pool.last_used.get()).map(|(id, _)| *id);
            oldest.and_then(|id| pools.remove(&id))
        };
        oldest.inspect(|pool| self.end(pool)).is_some()
    }

    fn end(&self, pool: &Rc<Pool>) {
        pool.id().into_iter().for_each(|id| self.end_canary(id));
        pool.retire();
        self.common.trim.ask_for_all();
        if let Some(id) = pool.id() {
            self.lingering.keep(id, pool.bounds());
            self.common.tell(PoolNotice::Asleep(id));
        }
    }

    /// Lets go of all instances at rest, which hold their pools, which hold them.
    pub(crate) fn clear(&self) {
        let canaries = std::mem::take(&mut *self.canaries.borrow_mut());
        for pool in std::mem::take(&mut *self.pools.borrow_mut()).into_values().chain(canaries.into_values()) {
            pool.retire();
        }
    }
}

/// What the instances of an app on this worker are made with.
fn context(
    common: &Common,
    parts: &WorkerParts,
    (id, has_others): (Option<AppId>, bool),
    app: &Arc<App>,
    bounds: &Arc<AppBounds>,
) -> InstanceContext {
    let max_bytes = app.limits.app_memory_max_bytes.unwrap_or(u64::MAX);
    let memory = id.and_then(|id| memory_of(parts.host, parts.scoreboard, id, max_bytes));
    let budget = memory.map_or_else(|| parts.budget.clone(), |memory| parts.budget.for_app(memory, has_others));
    let ticker = Arc::clone(parts.sandbox.ticker());
    // No instance is made of no app.
    let (cpu, key) = id.map_or_else(|| (Rc::default(), 0), |id| (Rc::clone(&parts.cpu), id.0));
    let (worker, pulse, bounds) = (common.worker.0, Arc::clone(&parts.pulse), Arc::clone(bounds));
    let context = InstanceContext::new(worker, pulse, ticker, Arc::new(budget), app, (&cpu, key), bounds);
    let context = context.with_records(common.crashes.is_some()).with_profiler(&parts.profiler);
    match app.services.is_empty() {
        true => context,
        false => context.with_services(Arc::clone(&parts.services)),
    }
}

fn rows(parts: &WorkerParts, id: AppId) -> Option<(&'static AppMetrics, &'static Flag)> {
    let metrics = parts.scoreboard.apps.get(id.index())?;
    Some((metrics, &parts.host.apps.get(id.index())?.has_answered))
}
