//! The seat of a worker's instances: hands one to each request, makes new ones while the others wait, queues requests
//! when there may be no more, and puts a new generation in the place of any that went. Everything here happens on the
//! worker's thread.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::alarms::Alarm;
use super::health::{Health, Verdict};
use crate::config::{Capacity, Isolation};
use crate::metrics::{Shed, WorkerMetrics};
use crate::sandbox::{Body, Fault, FaultKind, Guest, Head, Instance, InstanceContext, Shared, SharedCall};
use crate::supervisor::WorkerId;

/// Instances kept ready ahead when each request gets a fresh one.
const READY_AHEAD: usize = 4;
/// An instance beyond the hot one is dropped after it was not needed for so long.
const EXTRA_IDLE: Duration = Duration::from_secs(10);

/// Refusals are told of once in this time; each is counted.
const SHED_LINE_EVERY: Duration = Duration::from_secs(1);

/// The instances of one worker.
pub(super) struct Slot {
    worker: WorkerId,
    guest: RefCell<Arc<Guest>>,
    /// Counts the guests that a reload has put here; instances of an older one are not kept.
    edition: Cell<u64>,
    context: InstanceContext,
    isolation: Isolation,
    capacity: Capacity,
    metrics: Arc<WorkerMetrics>,
    /// Idle instances, the most recently used last.
    idle: RefCell<Vec<Kept>>,
    /// Shared instances that take calls.
    shared: RefCell<Vec<KeptShared>>,
    /// Instances that live, are being made, or are held.
    live: Cell<usize>,
    queue: RefCell<VecDeque<Rc<Place>>>,
    health: RefCell<Health>,
    refill: Notify,
    /// When refusals were last told of.
    shed_told: Cell<Option<Instant>>,
}

/// An instance with what the slot knows of it.
struct Kept {
    instance: Instance,
    origin: Origin,
    idle_since: Instant,
}

#[derive(Clone)]
struct KeptShared {
    shared: Rc<Shared>,
    origin: Rc<Origin>,
}

/// Where an instance came from. Dropping it makes room for another.
struct Origin {
    slot: Rc<Slot>,
    generation: u64,
    edition: u64,
    retire_after: Option<u64>,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.slot.gone();
    }
}

/// A place in the queue.
#[derive(Default)]
struct Place {
    grant: RefCell<Option<Grant>>,
    waker: RefCell<Option<Waker>>,
    granted: Cell<bool>,
}

enum Grant {
    Instance(Kept),
    /// The right to make an instance (or to ask again, where instances are shared).
    Room,
}

/// Why a request gets no instance.
pub(super) enum Refusal {
    /// No capacity; try again after so long.
    Shed(Shed, Duration),
    /// An instance was made for it and did not come up.
    Failed(Fault),
}

impl Slot {
    pub(super) fn new(
        worker: WorkerId,
        guest: Arc<Guest>,
        context: InstanceContext,
        isolation: Isolation,
        capacity: Capacity,
        metrics: Arc<WorkerMetrics>,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            guest: RefCell::new(guest),
            edition: Cell::new(0),
            context,
            isolation,
            capacity,
            metrics,
            idle: RefCell::default(),
            shared: RefCell::default(),
            live: Cell::new(0),
            queue: RefCell::default(),
            health: RefCell::default(),
            refill: Notify::new(),
            shed_told: Cell::new(None),
        })
    }

    fn is_fresh_each_request(&self) -> bool {
        self.guest.borrow().is_fresh_each_request(self.isolation)
    }

    fn is_shared(&self) -> bool {
        self.guest.borrow().calls_per_instance() > 1 && !self.is_fresh_each_request()
    }

    /// Puts another guest in the place of the present one; calls in flight end on the old one.
    pub(super) fn swap(self: &Rc<Self>, guest: Arc<Guest>) {
        *self.guest.borrow_mut() = guest;
        self.edition.set(self.edition.get() + 1);
        *self.health.borrow_mut() = Health::default();
        self.metrics.down.store(false, Relaxed);
        self.clear();
        self.refill.notify_one();
    }

    /// Lets go of every idle instance.
    pub(super) fn clear(&self) {
        drop(self.idle.take());
        for kept in self.shared.take() {
            if kept.shared.is_idle() {
                kept.shared.stop(Fault::new(FaultKind::Host, RETIRED));
            }
        }
    }

    /// An instance for one request: a kept one, a new one, or one that becomes free while the request waits. `alarm`
    /// is the request's, and is left unset.
    pub(super) async fn take(self: &Rc<Self>, alarm: &Alarm) -> Result<Seat, Refusal> {
        if let Some(rest) = self.health.borrow().down_for(Instant::now()) {
            return Err(self.shed(Shed::Down, rest));
        }
        let mut deadline = None;
        loop {
            if let Some(seat) = self.take_kept() {
                return Ok(seat);
            }
            if self.live.get() < self.capacity.instances_per_worker {
                let kept = self.make().await.map_err(|fault| self.refusal(fault))?;
                if kept.origin.edition == self.edition.get() {
                    return Ok(self.seat(kept));
                }
                // A reload came in between.
                continue;
            }
            if self.queue.borrow().len() >= self.capacity.queue_max {
                return Err(self.shed(Shed::QueueFull, self.capacity.queue_timeout));
            }
            let deadline = *deadline.get_or_insert_with(|| {
                self.metrics.queued.add_one();
                Instant::now() + self.capacity.queue_timeout
            });
            alarm.set(Some(deadline));
            let granted = self.wait(alarm).await;
            alarm.set(None);
            match granted {
                Some(Grant::Instance(kept)) => return Ok(self.seat(kept)),
                Some(Grant::Room) => {}
                None => return Err(self.shed(Shed::QueueTimeout, self.capacity.queue_timeout)),
            }
        }
    }

    fn refusal(&self, fault: Fault) -> Refusal {
        match fault.kind {
            FaultKind::Capacity => self.shed(Shed::Memory, self.capacity.queue_timeout),
            _ => Refusal::Failed(fault),
        }
    }

    fn shed(&self, reason: Shed, retry_after: Duration) -> Refusal {
        self.metrics.shed(reason);
        let now = Instant::now();
        let told_lately = self.shed_told.get().is_some_and(|told| now.duration_since(told) < SHED_LINE_EVERY);
        if !told_lately && reason != Shed::Down {
            self.shed_told.set(Some(now));
            let count = self.metrics.sheds[reason.index()].get();
            let flag = reason.flag();
            tracing::warn!(
                worker = self.worker.0,
                reason = reason.name(),
                count,
                limit = flag,
                "requests are refused for want of capacity (count: so far); raise {} to allow more",
                flag.unwrap_or_default()
            );
        }
        Refusal::Shed(reason, retry_after)
    }

    fn take_kept(self: &Rc<Self>) -> Option<Seat> {
        if self.is_shared() {
            let shared = self.shared.borrow();
            let kept = shared.iter().find(|kept| kept.shared.has_room())?.clone();
            return Some(Seat(Some(Holding::Shared { kept, call: None })));
        }
        let kept = self.idle.borrow_mut().pop()?;
        if self.is_fresh_each_request() {
            self.refill.notify_one();
        }
        Some(Seat(Some(Holding::Own(kept))))
    }

    /// A seat on an instance that was made or granted for this request.
    fn seat(self: &Rc<Self>, kept: Kept) -> Seat {
        if !self.is_shared() {
            return Seat(Some(Holding::Own(kept)));
        }
        let kept = self.share(kept);
        Seat(Some(Holding::Shared { kept, call: None }))
    }

    /// Gives an instance a task of its own, and offers it to other requests.
    fn share(self: &Rc<Self>, kept: Kept) -> KeptShared {
        let calls = self.guest.borrow().calls_per_instance();
        let (shared, task) = Shared::new(kept.instance, calls);
        let kept = KeptShared { shared, origin: Rc::new(kept.origin) };
        self.shared.borrow_mut().push(kept.clone());
        // The first place is the caller's; the others are for those who wait.
        for _ in 1..calls {
            if self.grant(Grant::Room).is_some() {
                break;
            }
        }
        let slot = Rc::clone(self);
        let member = kept.clone();
        tokio::task::spawn_local(async move {
            let fault = task.await;
            slot.shared.borrow_mut().retain(|other| !Rc::ptr_eq(&other.shared, &member.shared));
            if fault.kind != FaultKind::Host || !fault.detail.starts_with(RETIRED) {
                slot.faulted(member.origin.generation, 0, &fault);
            }
        });
        kept
    }

    /// Makes an instance. The room for it is taken before the first wait.
    async fn make(self: &Rc<Self>) -> Result<Kept, Fault> {
        self.live.set(self.live.get() + 1);
        self.metrics.instances.set(self.live.get());
        let guest = Arc::clone(&self.guest.borrow());
        // From here on the room is given back when `origin` is dropped.
        self.metrics.generation.add_one();
        let origin = Origin {
            slot: Rc::clone(self),
            generation: self.metrics.generation.get(),
            edition: self.edition.get(),
            retire_after: self.capacity.max_requests.map(spread),
        };
        let made = guest.instantiate(&self.context).await;
        match made {
            Ok(instance) => Ok(Kept { instance, origin, idle_since: Instant::now() }),
            Err(fault) => {
                self.metrics.faulted(fault.kind);
                let verdict = match fault.kind {
                    FaultKind::Capacity => Verdict::Up,
                    _ => self.health.borrow_mut().on_failed_start(Instant::now(), fastrand::f64()),
                };
                tracing::warn!(
                    worker = self.worker.0,
                    generation = origin.generation,
                    fault = fault.kind.name(),
                    limit = fault.kind.flag(),
                    detail = &*fault.detail,
                    "recycle: the instance did not come up"
                );
                self.note(verdict);
                Err(fault)
            }
        }
    }

    /// Waits for a grant; none when the alarm goes off first.
    async fn wait(self: &Rc<Self>, alarm: &Alarm) -> Option<Grant> {
        let place = Rc::new(Place::default());
        self.queue.borrow_mut().push_back(Rc::clone(&place));
        let waiting = Waiting { slot: self, place: &place };
        poll_fn(|context| {
            if let Some(grant) = waiting.place.grant.borrow_mut().take() {
                return Poll::Ready(Some(grant));
            }
            *waiting.place.waker.borrow_mut() = Some(context.waker().clone());
            alarm.poll(context).map(|()| None)
        })
        .await
    }

    /// Gives `grant` to the first in the queue, or back when nobody waits.
    fn grant(&self, grant: Grant) -> Option<Grant> {
        let place = self.queue.borrow_mut().pop_front();
        let Some(place) = place else { return Some(grant) };
        place.granted.set(true);
        *place.grant.borrow_mut() = Some(grant);
        if let Some(waker) = place.waker.borrow_mut().take() {
            waker.wake();
        }
        None
    }

    /// An instance is gone: its room goes to the first in the queue, or is filled.
    fn gone(&self) {
        self.live.set(self.live.get().saturating_sub(1));
        self.metrics.instances.set(self.live.get());
        if self.grant(Grant::Room).is_some() {
            self.refill.notify_one();
        }
    }

    /// An instance is idle again.
    fn keep(self: &Rc<Self>, mut kept: Kept) {
        if kept.origin.edition != self.edition.get() {
            return;
        }
        kept.idle_since = Instant::now();
        match self.grant(Grant::Instance(kept)) {
            Some(Grant::Instance(kept)) => self.idle.borrow_mut().push(kept),
            Some(Grant::Room) | None => {}
        }
    }

    fn answered(&self) {
        if self.health.borrow_mut().on_answer() {
            self.metrics.down.store(false, Relaxed);
            tracing::info!(worker = self.worker.0, "the slot answers again");
        }
    }

    /// Takes note of a fault: counts it, logs it, and decides whether the slot goes on.
    fn faulted(&self, generation: u64, request: u64, fault: &Fault) {
        self.metrics.faulted(fault.kind);
        let raise = fault.kind.flag().map(|flag| format!("; raise {flag} to allow it")).unwrap_or_default();
        tracing::warn!(
            worker = self.worker.0,
            generation,
            request,
            fault = fault.kind.name(),
            limit = fault.kind.flag(),
            detail = &*fault.detail,
            "recycle: a new instance takes its place{raise}"
        );
        let verdict = self.health.borrow_mut().on_fault(Instant::now(), fastrand::f64());
        self.note(verdict);
    }

    fn note(&self, verdict: Verdict) {
        if let Verdict::DownFor(delay) = verdict {
            self.metrics.down.store(true, Relaxed);
            tracing::error!(
                worker = self.worker.0,
                retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                "the slot is down after faults in a row; requests are answered 503 until the next try"
            );
        }
    }

    /// Makes the first instance, so that no request waits for it; a failure is told and tried again later.
    pub(super) async fn warm(self: &Rc<Self>) {
        if let Ok(kept) = self.make().await {
            if self.is_shared() {
                self.share(kept);
            } else {
                self.keep(kept);
            }
        }
        self.refill.notify_one();
    }

    /// Keeps instances ready in the worker's idle turns, and drops those not needed; never ends.
    pub(super) async fn tend(self: Rc<Self>) {
        loop {
            let surplus = tokio::time::timeout(EXTRA_IDLE, self.refill.notified());
            if self.idle.borrow().len() > self.wanted() {
                if surplus.await.is_err() {
                    self.drop_surplus();
                }
            } else {
                self.refill.notified().await;
            }
            while self.lacks() {
                // Requests that are ready go first.
                tokio::task::yield_now().await;
                if let Some(rest) = { self.health.borrow().down_for(Instant::now()) } {
                    tokio::time::sleep(rest).await;
                    continue;
                }
                if !self.lacks() {
                    break;
                }
                match self.make().await {
                    Ok(kept) if kept.origin.edition != self.edition.get() => drop(kept),
                    Ok(kept) if self.is_shared() => {
                        self.share(kept);
                        self.grant(Grant::Room);
                    }
                    Ok(kept) => {
                        self.recovered();
                        self.keep(kept);
                    }
                    Err(fault) if fault.kind == FaultKind::Capacity => {
                        tokio::time::sleep(self.capacity.queue_timeout).await;
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// An instance came up after failed starts: requests are let in again, though only an answer clears the record.
    fn recovered(&self) {
        self.metrics.down.store(false, Relaxed);
    }

    /// Idle instances that shall be ready.
    fn wanted(&self) -> usize {
        if self.is_fresh_each_request() { READY_AHEAD.min(self.capacity.instances_per_worker) } else { 1 }
    }

    fn lacks(&self) -> bool {
        let live = self.live.get();
        let has_room = live < self.capacity.instances_per_worker;
        if self.is_fresh_each_request() { has_room && self.idle.borrow().len() < self.wanted() } else { live == 0 }
    }

    fn drop_surplus(&self) {
        let wanted = self.wanted();
        loop {
            let surplus = {
                let mut idle = self.idle.borrow_mut();
                let is_old =
                    idle.len() > wanted && idle.first().is_some_and(|oldest| oldest.idle_since.elapsed() >= EXTRA_IDLE);
                if is_old { Some(idle.remove(0)) } else { None }
            };
            if surplus.is_none() {
                return;
            }
        }
    }
}

/// `max` up to a fifth more or less, so that instances made together do not retire together.
fn spread(max: u64) -> u64 {
    let fifth = max / 5;
    (max - fifth).saturating_add(fastrand::u64(0..=fifth.saturating_mul(2))).max(1)
}

/// How the end of a shared instance that had to retire is told from a fault.
const RETIRED: &str = "retired";

struct Waiting<'a> {
    slot: &'a Rc<Slot>,
    place: &'a Rc<Place>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.place.granted.get() {
            self.slot.queue.borrow_mut().retain(|place| !Rc::ptr_eq(place, self.place));
        }
        // Granted, but the one who waited has gone.
        let grant = self.place.grant.borrow_mut().take();
        match grant {
            Some(Grant::Instance(kept)) => self.slot.keep(kept),
            Some(Grant::Room) if self.slot.grant(Grant::Room).is_some() => self.slot.refill.notify_one(),
            Some(Grant::Room) | None => {}
        }
    }
}

/// An instance while one request has it. Dropped before its end, the request's work is cancelled: its client has left.
pub(super) struct Seat(Option<Holding>);

enum Holding {
    Own(Kept),
    Shared { kept: KeptShared, call: Option<SharedCall> },
}

impl Seat {
    /// Begins the call.
    pub(super) fn begin(&mut self, request: http::Request<Body>, number: u64) {
        match &mut self.0 {
            Some(Holding::Own(kept)) => kept.instance.begin(request, number),
            Some(Holding::Shared { kept, call }) => *call = Some(kept.shared.begin(request, number)),
            None => {}
        }
    }

    /// Runs the guest until it waits; ready when the instance is at its end.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        match &mut self.0 {
            Some(Holding::Own(kept)) => kept.instance.poll(context),
            Some(Holding::Shared { call: Some(call), .. }) => call.poll(context),
            Some(Holding::Shared { call: None, .. }) | None => Poll::Pending,
        }
    }

    /// The answer, once.
    pub(super) fn take_head(&self) -> Option<Head> {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.instance.take_head(),
            Some(Holding::Shared { call: Some(call), .. }) => call.take_head(),
            Some(Holding::Shared { call: None, .. }) | None => None,
        }
    }

    /// Whether the call has ended, with all that it left running.
    pub(super) fn is_idle(&self) -> bool {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.instance.is_idle(),
            Some(Holding::Shared { call: Some(call), .. }) => call.is_idle(),
            Some(Holding::Shared { call: None, .. }) | None => true,
        }
    }

    /// Whether the instance serves this call only, so that nothing else runs in it once the call has ended.
    pub(super) fn is_alone(&self) -> bool {
        matches!(&self.0, Some(Holding::Own(_)))
    }

    /// CPU time of the call so far.
    pub(super) fn cpu(&self) -> Duration {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.instance.cpu(),
            Some(Holding::Shared { .. }) | None => Duration::ZERO,
        }
    }

    /// The guest gave an answer.
    pub(super) fn answered(&self) {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.origin.slot.answered(),
            Some(Holding::Shared { kept, .. }) => kept.origin.slot.answered(),
            None => {}
        }
    }

    /// The call has ended well: the instance goes back, or retires.
    pub(super) fn finish(mut self) {
        match self.0.take() {
            Some(Holding::Own(kept)) => {
                let slot = Rc::clone(&kept.origin.slot);
                let worn = kept.origin.retire_after.is_some_and(|after| kept.instance.served() >= after);
                let outdated = kept.origin.edition != slot.edition.get();
                if kept.instance.met_memory_limit() || worn {
                    tracing::info!(
                        worker = slot.worker.0,
                        generation = kept.origin.generation,
                        served = kept.instance.served(),
                        limit = if worn { "--max-requests" } else { "--memory-max" },
                        "retire: a new instance takes its place"
                    );
                    drop(kept);
                } else if outdated || slot.is_fresh_each_request() {
                    drop(kept);
                } else {
                    slot.keep(kept);
                }
            }
            Some(Holding::Shared { kept, call }) => release(&kept, call),
            None => {}
        }
    }

    /// The call faulted, or was stopped at a limit: the instance goes, and a new one takes its place.
    pub(super) fn fail(mut self, request: u64, fault: &Fault) {
        match self.0.take() {
            Some(Holding::Own(kept)) => {
                let slot = Rc::clone(&kept.origin.slot);
                slot.faulted(kept.origin.generation, request, fault);
                drop(kept);
            }
            // The instance's own task tells of the fault, once for all calls in it.
            Some(Holding::Shared { kept, call }) => {
                drop(call);
                kept.shared.stop(fault.clone());
            }
            None => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // An instance of its own is dropped, and its work with it; a shared one serves its other calls still.
        if let Some(Holding::Shared { kept, call }) = self.0.take() {
            release(&kept, call);
        }
    }
}

/// Ends a call in a shared instance, which goes on unless it is worn, outdated, or met its memory limit.
fn release(kept: &KeptShared, call: Option<SharedCall>) {
    drop(call);
    let slot = &kept.origin.slot;
    let worn = kept.origin.retire_after.is_some_and(|after| kept.shared.served() >= after);
    let outdated = kept.origin.edition != slot.edition.get();
    let abandoned = kept.shared.is_idle() && !kept.shared.has_room();
    if worn || outdated || abandoned || kept.shared.met_memory_limit() {
        slot.shared.borrow_mut().retain(|other| !Rc::ptr_eq(&other.shared, &kept.shared));
        if kept.shared.is_idle() {
            kept.shared.stop(Fault::new(FaultKind::Host, RETIRED));
        }
    } else {
        slot.grant(Grant::Room);
    }
}
