//! The instances of an app on one worker: those at rest, those that are shared, the room for more, and what becomes of an instance
//! when a call has ended. Each that had to go is replaced.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use wasmhost_base::throttle::Throttle;
use wasmhost_config::{App, AppId, Capacity, Limits};
use wasmhost_sandbox::{
    AppBounds, Fault, FaultKind, Guest, Instance, InstanceContext, Shared, SharedPlace, TICK, WasiVersion,
};

use super::codel::CoDel;
use super::common::{Common, PoolNotice};
use super::fallback::{CanaryState, Fallback};
use super::fault_budgets::FaultBudgets;
use super::health::{Health, Try, Verdict};
use super::holders::{Holder, Holders};
use super::queue::Queue;
use super::supply::RevisionTag;
use crate::buffers::Buffers;
use crate::development::trace_text;
use crate::files::{StaticFolder, static_folders};
use crate::metrics::{AppMetrics, Flag, Shed};
use crate::worker_id::WorkerId;

/// At most one log line about refusals in this time; each refusal is counted.
const SHED_LINE_EVERY: Duration = Duration::from_secs(1);
/// At most one log line in this time that there is no memory for an instance; each time is counted.
const CAPACITY_LINE_EVERY: Duration = Duration::from_secs(10);
/// Instances kept ready ahead when each request gets a fresh one.
const READY_AHEAD: usize = 4;
/// Shared instances of a worker that retire, and finish their last calls, beyond `--instances-per-worker`. The pool has
/// room for them.
const RETIRING_MAX: usize = 4;

/// A worker asks at most so often for an app that cannot be had.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The instances of an app on one worker.
pub(crate) struct Pool {
    pub(super) worker: WorkerId,
    /// None: of the requests that belong to no app, and that are never given an instance.
    pub(super) id: Option<AppId>,
    /// Its settings: those of its guest, once there is one.
    app: RefCell<Arc<App>>,
    /// Folders whose files are answered in front of its guest.
    files: RefCell<Rc<[Arc<StaticFolder>]>>,
    pub(super) guest: RefCell<Option<Arc<Guest>>>,
    /// The primary has said that there will be no guest for now, and when it was asked last.
    unavailable: Cell<Option<Instant>>,
    /// When the primary was asked last for a guest that has not come yet.
    asked: Cell<Instant>,
    /// Counts the guests that were put here; instances of an older one are not kept.
    pub(super) edition: Cell<u64>,
    /// The number of its guest's revision; 0: there is no guest.
    pub(super) revision: Cell<u64>,
    /// What it had before, while a new revision is watched.
    pub(super) fallback: RefCell<Option<Fallback>>,
    /// It is beside the pool of its app, and gets a share of its requests.
    pub(super) canary: Cell<Option<CanaryState>>,
    pub(super) context: RefCell<Rc<InstanceContext>>,
    /// What its app has of what the apps of the worker share.
    bounds: Arc<AppBounds>,
    pub(super) capacity: Cell<Capacity>,
    limits: Cell<Limits>,
    buffers: RefCell<Rc<Buffers>>,
    pub(crate) metrics: &'static AppMetrics,
    /// Some worker has had an answer of the guest since it was loaded.
    pub(super) has_answered: &'static Flag,
    pub(super) common: Rc<Common>,
    /// When a request began or ended last.
    pub(super) last_used: Cell<Instant>,
    /// Its app is asleep, or gone: what its last requests leave is not kept.
    pub(super) retired: Cell<bool>,
    /// Its tasks, which end with it.
    tasks: RefCell<Vec<AbortHandle>>,
    /// Instances that the metrics show of it.
    counted: Cell<i64>,
    /// Idle instances, the most recently used last.
    pub(super) idle: RefCell<Vec<Kept>>,
    /// Shared instances that take calls.
    pub(super) shared: RefCell<Vec<KeptShared>>,
    /// Rooms that are taken: by instances that live or are being made, or by a grant on its way.
    pub(super) live: Cell<usize>,
    /// Shared instances that retire and hold no room any more.
    retiring: Cell<usize>,
    pub(super) queue: Queue<Grant>,
    /// Some in the queue wait for an instance that waits for the CPU.
    pub(super) waits_for_cpu: Notify,
    pub(super) holders: Holders,
    pub(super) codel: RefCell<CoDel>,
    pub(super) health: RefCell<Health>,
    pub(super) refill: Notify,
    /// There are more instances idle than wanted, and `tend` knows.
    pub(super) surplus_known: Cell<bool>,
    /// By reason, in the order of [`Shed::ALL`].
    pub(super) sheds_told: [Throttle; Shed::ALL.len()],
    capacity_told: Throttle,
    pub(super) fault_budgets: FaultBudgets,
}

/// An instance with what the pool knows of it.
pub(super) struct Kept {
    /// In a box, since it is handed on about ten times a request.
    pub(super) instance: Box<Instance>,
    pub(super) origin: InstanceOrigin,
    pub(super) idle_since: Instant,
}

#[derive(Clone)]
pub(super) struct KeptShared {
    pub(super) shared: Rc<Shared>,
    pub(super) origin: Rc<InstanceOrigin>,
    /// Whether it counts as busy.
    pub(super) is_busy: Rc<Cell<bool>>,
}

/// Where an instance came from. Dropping it makes room for another.
pub(super) struct InstanceOrigin {
    pub(super) pool: Rc<Pool>,
    pub(super) generation: u64,
    pub(super) edition: u64,
    /// The number of the revision that it is of.
    pub(super) revision: u64,
    /// The settings that it was made with.
    pub(super) app: Arc<App>,
    retire_after: Option<u64>,
    /// None once the instance retires beside its successor.
    room: RefCell<Option<Room>>,
    pub(super) version: WasiVersion,
    /// When a shared instance was last seen to become empty.
    pub(super) emptied: Cell<Instant>,
    /// What its start, or the last call that it was given, belongs to.
    pub(super) tried: Cell<Try>,
}

impl InstanceOrigin {
    pub(super) fn is_outdated(&self) -> bool {
        self.edition != self.pool.edition.get()
    }

    pub(super) fn is_worn(&self, served: u64) -> bool {
        self.retire_after.is_some_and(|after| served >= after)
    }

    /// It is given a call.
    pub(super) fn begins_a_try(&self) {
        self.tried.set(self.pool.health.borrow().begin());
    }

    /// Makes room for the successor of an instance that retires, if not too many do so already.
    pub(super) fn release_room(&self) {
        if self.pool.retiring.get() < RETIRING_MAX
            && let Some(room) = self.room.take()
        {
            self.pool.retiring.set(self.pool.retiring.get() + 1);
            drop(room);
        }
    }
}

impl Drop for InstanceOrigin {
    fn drop(&mut self) {
        if self.room.take().is_none() {
            self.pool.retiring.set(self.pool.retiring.get().saturating_sub(1));
            self.pool.count_instances();
        }
    }
}

/// Room for one instance within `--instances-per-worker`. Dropped, it goes to the first in the queue, or is free.
pub(super) struct Room(Rc<Pool>);

impl Room {
    pub(super) fn take(pool: &Rc<Pool>) -> Option<Self> {
        if pool.live.get() >= pool.capacity.get().instances_per_worker {
            return None;
        }
        pool.live.set(pool.live.get() + 1);
        pool.count_instances();
        Some(Self(Rc::clone(pool)))
    }
}

/// Whether so many rooms are taken that one which becomes free is for nobody: a reload has lowered their number.
fn is_beyond(taken: usize, capacity: Capacity) -> bool {
    taken > capacity.instances_per_worker
}

impl Drop for Room {
    fn drop(&mut self) {
        let pool = &self.0;
        pool.common.trim.ask();
        if pool.queue.is_empty() || is_beyond(pool.live.get(), pool.capacity.get()) {
            pool.live.set(pool.live.get().saturating_sub(1));
            pool.count_instances();
            pool.refill.notify_one();
        } else {
            // It stays taken on its way, so that nobody who comes in between has it. Back, and free, if all who waited
            // had waited for too long.
            drop(pool.queue.grant(Grant::Room(Self(Rc::clone(pool)))));
        }
    }
}

/// What one who waits gets.
pub(super) enum Grant {
    /// Nothing: the app cannot be had.
    Unavailable,
    Instance(Kept),
    Place(KeptShared, SharedPlace),
    Room(Room),
}

impl Pool {
    /// Without a guest.
    pub(super) fn new(
        id: Option<AppId>,
        app: Arc<App>,
        (context, bounds): (InstanceContext, Arc<AppBounds>),
        (metrics, has_answered): (&'static AppMetrics, &'static Flag),
        common: Rc<Common>,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker: common.worker,
            id,
            guest: RefCell::new(None),
            unavailable: Cell::new(None),
            asked: Cell::new(Instant::now()),
            edition: Cell::new(0),
            revision: Cell::new(0),
            fallback: RefCell::default(),
            canary: Cell::new(None),
            context: RefCell::new(Rc::new(context)),
            capacity: Cell::new(app.capacity),
            limits: Cell::new(app.limits),
            buffers: RefCell::new(Rc::new(Buffers::new(&app.capacity, &bounds))),
            bounds,
            files: RefCell::new(static_folders(&app)),
            app: RefCell::new(app),
            metrics,
            has_answered,
            common,
            last_used: Cell::new(Instant::now()),
            retired: Cell::new(false),
            tasks: RefCell::default(),
            counted: Cell::new(0),
            idle: RefCell::default(),
            shared: RefCell::default(),
            live: Cell::new(0),
            retiring: Cell::new(0),
            queue: Queue::default(),
            waits_for_cpu: Notify::new(),
            holders: Holders::default(),
            codel: RefCell::default(),
            health: RefCell::default(),
            refill: Notify::new(),
            surplus_known: Cell::new(false),
            sheds_told: Shed::ALL.map(|_| Throttle::new(SHED_LINE_EVERY)),
            capacity_told: Throttle::new(CAPACITY_LINE_EVERY),
            fault_budgets: FaultBudgets::default(),
        })
    }

    /// Its app.
    pub(crate) fn app(&self) -> std::cell::Ref<'_, App> {
        std::cell::Ref::map(self.app.borrow(), |app| &**app)
    }

    /// Folders whose files are answered in front of its guest.
    pub(crate) fn files(&self) -> Option<Rc<[Arc<StaticFolder>]>> {
        let files = self.files.borrow();
        (!files.is_empty()).then(|| Rc::clone(&files))
    }

    /// Its app's name.
    pub(crate) fn name(&self) -> std::cell::Ref<'_, str> {
        std::cell::Ref::map(self.app.borrow(), |app| &*app.name)
    }

    /// A request begins.
    pub(crate) fn begins(&self, now: Instant) {
        self.last_used.set(now);
        self.metrics.in_flight.change(1);
    }

    /// A request ends.
    pub(crate) fn ends(&self, now: Instant) {
        self.last_used.set(now);
        self.metrics.in_flight.change(-1);
    }

    /// Bounds on a request that begins now.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.get()
    }

    /// How long a request may wait for an instance.
    pub(crate) fn queue_timeout(&self) -> Duration {
        self.capacity.get().queue_timeout
    }

    /// What is held for slow clients of a request that begins now.
    pub(crate) fn buffers(&self) -> Rc<Buffers> {
        Rc::clone(&self.buffers.borrow())
    }

    /// What its app has of what the apps of the worker share.
    pub(super) fn bounds(&self) -> &Arc<AppBounds> {
        &self.bounds
    }

    /// Wall clock of a call whose client has left, and of what calls leave running.
    pub(super) fn linger_max(&self) -> Option<Duration> {
        self.limits.get().request_timeout
    }

    /// The number of the revision that is served; 0: there is none.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.get()
    }

    /// Whose it is; none: of the requests that belong to no app.
    pub(crate) fn id(&self) -> Option<AppId> {
        self.id
    }

    pub(super) fn is_fresh_each_request(&self) -> bool {
        self.guest.borrow().as_ref().is_some_and(|guest| guest.is_fresh_each_request())
    }

    pub(super) fn is_shared(&self) -> bool {
        let calls = self.guest.borrow().as_ref().map_or(1, |guest| guest.calls_per_instance());
        calls > 1 && !self.is_fresh_each_request()
    }

    fn count_instances(&self) {
        let now = i64::try_from(self.live.get() + self.retiring.get()).unwrap_or(i64::MAX);
        self.metrics.instances.change(now - self.counted.replace(now));
    }

    /// Has a guest, and the settings that it was linked with, in the place of the present ones. Calls in flight end on the
    /// old one; requests that wait get an instance of the new one.
    pub(super) fn supply(self: &Rc<Self>, guest: Arc<Guest>, tag: RevisionTag, context: InstanceContext) {
        self.keep_fallback(tag);
        self.serve_with(guest, tag.number, Rc::new(context));
    }

    /// Does what [`Self::supply`] says.
    pub(super) fn serve_with(self: &Rc<Self>, guest: Arc<Guest>, revision: u64, context: Rc<InstanceContext>) {
        let app = Arc::clone(guest.app());
        if !Arc::ptr_eq(&app, &self.app.borrow()) {
            self.capacity.set(app.capacity);
            self.limits.set(app.limits);
            *self.buffers.borrow_mut() = Rc::new(Buffers::new(&app.capacity, &self.bounds));
            *self.files.borrow_mut() = static_folders(&app);
            *self.app.borrow_mut() = app;
        }
        *self.guest.borrow_mut() = Some(guest);
        *self.context.borrow_mut() = context;
        self.revision.set(revision);
        self.metrics.revisions().begin(revision);
        self.unavailable.set(None);
        self.edition.set(self.edition.get() + 1);
        self.health.borrow_mut().begin_anew();
        self.show_down(false);
        self.clear();
        self.refill.notify_one();
        self.give_rooms();
    }

    /// Gives the rooms that nobody has to those who wait.
    fn give_rooms(self: &Rc<Self>) {
        while !self.queue.is_empty() {
            let Some(room) = Room::take(self) else { break };
            // Back if all who waited had waited for too long.
            drop(self.queue.grant(Grant::Room(room)));
        }
    }

    /// There is no guest, and none will come for now. One that is there already goes on.
    pub(super) fn is_unavailable(&self) {
        if self.guest.borrow().is_none() {
            self.unavailable.set(Some(Instant::now()));
            while self.queue.grant(Grant::Unavailable).is_none() {}
        }
    }

    /// Whether requests are refused because the app cannot be had. The primary is asked again now and then.
    pub(super) fn refuses(&self) -> bool {
        let Some(asked) = self.unavailable.get() else { return false };
        if asked.elapsed() >= ASK_EVERY
            && let Some(id) = self.id
        {
            self.unavailable.set(Some(Instant::now()));
            self.common.tell(PoolNotice::Wants(id));
        }
        true
    }

    /// Requests wait for a guest. The primary is asked again now and then: that it has forgotten the first time must not
    /// keep the app away for ever.
    pub(super) fn waits_for_guest(&self) {
        if self.asked.get().elapsed() >= ASK_EVERY
            && let Some(id) = self.id
        {
            self.asked.set(Instant::now());
            self.common.tell(PoolNotice::Wants(id));
        }
    }

    /// Whether nobody has, or waits for, an instance of it.
    pub(super) fn is_unused(&self) -> bool {
        let shared = self.shared.borrow();
        let at_rest = self.idle.borrow().len() + shared.len();
        self.queue.is_empty()
            && self.metrics.in_flight.get() <= 0
            && self.live.get() + self.retiring.get() == at_rest
            && shared.iter().all(|kept| kept.shared.is_empty() && kept.shared.is_quiet())
    }

    /// These tasks end with it.
    pub(super) fn runs(&self, tasks: impl IntoIterator<Item = AbortHandle>) {
        self.tasks.borrow_mut().extend(tasks);
    }

    /// Lets go of all that it keeps. Requests that have an instance, or wait for one, are served to their end.
    pub(super) fn retire(self: &Rc<Self>) {
        self.retired.set(true);
        self.fallback.take();
        self.tasks.take().iter().for_each(AbortHandle::abort);
        if self.guest.borrow().is_none() {
            while self.queue.grant(Grant::Unavailable).is_none() {}
        }
        // Nobody does so later.
        self.give_rooms();
        self.edition.set(self.edition.get() + 1);
        self.show_down(false);
        self.clear();
    }

    /// Shows whether it is down.
    pub(super) fn show_down(&self, is: bool) {
        // (What is said of an app is said of its other pool.)
        if self.canary.get().is_none() && self.metrics.down.get() != is {
            self.metrics.down.set(is);
            self.common.count_down(if is { 1 } else { -1 });
        }
    }

    /// Lets go of every idle instance; shared ones finish the calls that they have.
    pub(crate) fn clear(&self) {
        drop(self.idle.take());
        for kept in self.shared.take() {
            kept.origin.release_room();
            kept.shared.retire();
        }
    }

    /// Lets go of the idle instance that was not used for the longest time. False when there is none.
    pub(super) fn drop_an_idle_one(&self) -> bool {
        let oldest = {
            let mut idle = self.idle.borrow_mut();
            (!idle.is_empty()).then(|| idle.remove(0))
        };
        oldest.is_some()
    }

    /// Makes an instance in `room`; for a request that waits for it, until `latest`.
    pub(super) async fn make(self: &Rc<Self>, room: Room, latest: Option<Instant>) -> Result<Kept, Fault> {
        wasmhost_base::inject::panic_at("pool");
        let guest = self.guest.borrow().clone();
        let Some(guest) = guest else {
            return Err(Fault::new(FaultKind::Capacity, "the app was put to sleep meanwhile"));
        };
        let context = Rc::clone(&self.context.borrow());
        self.metrics.generation.add_one();
        let origin = InstanceOrigin {
            pool: Rc::clone(self),
            generation: self.metrics.generation.get(),
            edition: self.edition.get(),
            revision: self.revision.get(),
            app: Arc::clone(guest.app()),
            retire_after: self.capacity.get().max_requests.map(spread),
            room: RefCell::new(Some(room)),
            version: guest.version(),
            emptied: Cell::new(Instant::now()),
            tried: Cell::new(self.health.borrow().begin()),
        };
        let made = guest.instantiate(&context, latest).await;
        match made {
            Ok(instance) => Ok(Kept { instance: Box::new(instance), origin, idle_since: Instant::now() }),
            Err(fault) => {
                self.metrics.faulted(fault.kind);
                if fault.kind != FaultKind::Capacity {
                    self.metrics.revisions().faulted(origin.revision);
                }
                let verdict = match fault.kind {
                    // Missing memory, or a request that has no time left, does not mean that the component cannot start.
                    FaultKind::Capacity | FaultKind::Wall => Verdict::Up,
                    _ => self.health.borrow_mut().on_failed_start(Instant::now(), origin.tried.get(), fastrand::f64()),
                };
                let is_capacity = fault.kind == FaultKind::Capacity;
                let count = if is_capacity { self.capacity_told.admit(Instant::now()) } else { Some(1) };
                if let Some(count) = count.filter(|_| is_capacity || self.may_tell_fault()) {
                    tracing::warn!(
                        worker = self.worker.0,
                        app = &*self.name(),
                        generation = origin.generation,
                        count,
                        fault = fault.kind.name(),
                        limit = fault.flag(),
                        detail = &*fault.detail,
                        trace = fault.trace.as_deref().map(trace_text),
                        "recycle: the instance did not start"
                    );
                    self.tell_fault(&origin, 0, &fault, None);
                }
                self.note(verdict, origin.revision);
                Err(fault)
            }
        }
    }

    /// An instance is idle again.
    pub(super) fn keep(self: &Rc<Self>, mut kept: Kept) {
        if kept.origin.is_outdated() {
            return;
        }
        kept.instance.rests();
        kept.idle_since = Instant::now();
        match self.queue.grant(Grant::Instance(kept)) {
            None => self.queue.wake_some(),
            Some(Grant::Instance(kept)) if !self.retired.get() => {
                self.idle.borrow_mut().push(kept);
                self.note_surplus();
            }
            Some(_) => {}
        }
    }

    /// How many idle instances to keep ready.
    pub(super) fn wanted(&self) -> usize {
        if self.is_fresh_each_request() { READY_AHEAD.min(self.capacity.get().instances_per_worker) } else { 1 }
    }

    /// Tells `tend` of instances that may have to go, if it does not know.
    pub(super) fn note_surplus(&self) {
        if !self.surplus_known.get() && self.has_surplus() {
            self.surplus_known.set(true);
            self.refill.notify_one();
        }
    }

    pub(super) fn has_surplus(&self) -> bool {
        let shared = self.shared.borrow();
        self.idle.borrow().len() > self.wanted() || shared.iter().skip(1).any(|kept| kept.shared.is_empty())
    }

    /// A call has ended well: its instance is kept, or retires.
    pub(super) fn finished(self: &Rc<Self>, kept: Kept) {
        let worn = kept.origin.is_worn(kept.instance.served());
        if kept.instance.cpu() >= TICK {
            // Long enough for much to have been taken and freed.
            self.common.trim.ask();
        }
        let limit = if worn { Some("--max-requests") } else { kept.instance.limit_met() };
        if limit.is_some() && self.may_tell_fault() {
            tracing::info!(
                worker = self.worker.0,
                app = &*self.name(),
                generation = kept.origin.generation,
                served = kept.instance.served(),
                limit,
                "retire: a new instance takes its place"
            );
        }
        if limit.is_none() && !self.is_fresh_each_request() {
            self.keep(kept);
        }
    }

    /// A request's instance waits for its client, for the first time.
    pub(crate) fn holds(&self, holder: Weak<dyn Holder>) {
        self.holders.add(holder);
        if !self.queue.is_empty() {
            self.holders.short.notify_one();
        }
    }

    /// A request is over that [`Self::holds`] was told of.
    pub(crate) fn holds_no_more(&self, holder: &dyn Holder) {
        self.holders.remove(holder);
    }

    /// Rooms that nobody has.
    pub(super) fn free_rooms(&self) -> usize {
        self.capacity.get().instances_per_worker.saturating_sub(self.live.get())
    }

    /// For how long it is worth to wait for an instance that waits for the CPU, instead of making a further one.
    pub(super) fn soon_free_wait(&self) -> Option<Duration> {
        self.context.borrow().soon_free().wait_max()
    }

    /// Gives rooms to requests that wait for the CPU once no instance will soon be free; never ends.
    pub(crate) async fn open(self: Rc<Self>) {
        loop {
            wasmhost_base::inject::panic_at("open");
            self.waits_for_cpu.notified().await;
            while !self.queue.is_empty() {
                if let Some(max) = self.soon_free_wait() {
                    let soon = Rc::clone(self.context.borrow().soon_free());
                    let _ = tokio::time::timeout(max, soon.none()).await;
                    continue;
                }
                if self.queue.has_grant_underway() {
                    tokio::task::yield_now().await;
                    continue;
                }
                let Some(room) = Room::take(&self) else { break };
                // Back if all who waited had waited for too long.
                drop(self.queue.grant(Grant::Room(room)));
                // What is made in it may be interrupted, and is waited for then.
                tokio::task::yield_now().await;
            }
        }
    }

    /// Ends requests whose clients are slow for as long as others wait for an instance; never ends itself.
    pub(crate) async fn relieve(self: Rc<Self>) {
        loop {
            wasmhost_base::inject::panic_at("relieve");
            self.holders.short.notified().await;
            while !self.queue.is_empty() {
                // While there are rooms, it is the CPU that they wait for.
                let wanted = if self.free_rooms() > 0 { 0 } else { self.queue.len() };
                let next = self.holders.end_slowest(wanted, Instant::now());
                let Some(next) = next else { break };
                tokio::time::sleep_until(next.into()).await;
            }
        }
    }
}

/// `max` up to a fifth more or less, so that instances made together do not retire together.
fn spread(max: u64) -> u64 {
    let fifth = max / 5;
    (max - fifth).saturating_add(fastrand::u64(0..=fifth.saturating_mul(2))).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_beyond_a_lowered_number_goes_to_nobody() {
        let capacity = Capacity { instances_per_worker: 2, ..Capacity::default() };
        let beyond: Vec<bool> = (1..=4).map(|taken| is_beyond(taken, capacity)).collect();
        assert_eq!(beyond, [false, false, true, true]);
    }
}
