//! How a request gets an instance: one that is kept, a new one, or one that becomes free while the request waits in the
//! queue; and when it gets none.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmhost_base::trace::RequestTrace;
use wasmhost_sandbox::{Fault, FaultKind};

use super::instances::{Grant, Kept, Pool, Room};
use super::lease::Lease;
use crate::alarms::Alarm;
use crate::metrics::{AppMetrics, Shed};

/// When to ask again for an app that cannot be had.
const UNAVAILABLE_FOR: Duration = Duration::from_secs(10);

/// So many instances are made whenever none is free. While a call of the first is interrupted, those that come in the same
/// turn of the worker's loop, which can be thousands, are served by the second without a wait.
const MADE_AT_ONCE: usize = 2;

/// Why a request gets no instance.
pub(crate) enum Refusal {
    /// No capacity; try again after so long.
    Shed(Shed, Duration),
    /// An instance was made for it and did not come up.
    Failed(Fault),
}

/// What is noted of a request that gets an instance.
#[derive(Default)]
pub(crate) struct TakeNotes {
    /// How long it has waited for its app to be loaded.
    pub(crate) loading: Cell<Duration>,
    /// Its trace, if requests are traced.
    pub(crate) trace: Option<Arc<RequestTrace>>,
}

impl TakeNotes {
    /// It has waited in the queue since then.
    fn waited(&self, since: Instant) {
        if let Some(trace) = &self.trace {
            trace.part("queue", since);
        }
    }
}

/// How a request has waited in the queue so far.
struct Waited {
    metrics: &'static AppMetrics,
    /// For the CPU.
    for_cpu: bool,
    is_counted: bool,
    /// Until when it may wait for what others have.
    until: Option<Instant>,
}

impl Waited {
    /// It has not.
    fn new(metrics: &'static AppMetrics) -> Self {
        Self { metrics, for_cpu: false, is_counted: false, until: None }
    }

    /// It waits; each request is counted once.
    fn count(&mut self) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.metrics.queued.add_one();
            self.metrics.waiting.change(1);
        }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        if self.is_counted {
            self.metrics.waiting.change(-1);
        }
    }
}

/// Why a pool gives no instance.
pub(super) enum NotTaken {
    /// The request is refused.
    Refused(Refusal),
    /// No memory for an instance. It is not counted: others' memory may be had.
    NoMemory,
}

impl From<Refusal> for NotTaken {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Pool {
    /// A kept instance for one request, if there is one, and no reason to look closer.
    pub(super) fn take_at_once(self: &Rc<Self>) -> Option<Lease> {
        if self.health.borrow().may_be_down() || self.refuses() { None } else { self.take_kept() }
    }

    /// An instance for one request: a kept one, a new one, or one that becomes free while the request waits. `alarm`
    /// is the request's, and is left unset. Waits in the queue, or for an instance that is being made, no longer than until
    /// `latest`. While the app is not loaded, that does not count: the time is added to `notes.loading`, and to `latest`.
    pub(super) async fn take(
        self: &Rc<Self>,
        alarm: &Alarm,
        latest: Option<Instant>,
        notes: &TakeNotes,
    ) -> Result<Lease, NotTaken> {
        let rest = {
            let health = self.health.borrow();
            if health.may_be_down() { health.down_for(Instant::now()) } else { None }
        };
        if let Some(rest) = rest {
            return Err(self.shed(Shed::Down, rest).into());
        }
        if self.refuses() {
            return Err(self.shed(Shed::Unavailable, UNAVAILABLE_FOR).into());
        }
        let mut waited = Waited::new(self.metrics);
        let at_latest = || latest.map(|latest| latest + notes.loading.get());
        loop {
            if let Some(lease) = self.take_kept() {
                return Ok(lease);
            }
            let has_guest = self.guest.borrow().is_some();
            if !has_guest {
                self.waits_for_guest();
            }
            let mut granted = None;
            if has_guest && !waited.for_cpu && self.is_worth_waiting() {
                if self.queue.len() >= self.free_rooms() {
                    granted = Some(self.wait_for_grant(alarm, &mut waited, latest, notes).await?);
                }
                if granted.is_none() {
                    granted = self.wait_for_cpu(alarm, &mut waited, at_latest(), notes).await;
                }
            }
            let granted = match granted.or_else(|| if has_guest { Room::take(self).map(Grant::Room) } else { None }) {
                Some(granted) => granted,
                None => self.wait_for_grant(alarm, &mut waited, latest, notes).await?,
            };
            let room = match granted {
                Grant::Instance(kept) => return Ok(Lease::own(kept)),
                Grant::Place(kept, place) => return Ok(Lease::shared(kept, place)),
                Grant::Room(room) => room,
                Grant::Unavailable => return Err(self.shed(Shed::Unavailable, UNAVAILABLE_FOR).into()),
            };
            let revision = self.revision();
            let began = notes.trace.as_ref().map(|trace| (trace, Instant::now()));
            let made = self.make(room, at_latest()).await;
            if let Some((trace, began)) = began {
                trace.part("instantiate", began);
            }
            let kept = match made {
                Ok(kept) => kept,
                // Another revision is served by now, which may start.
                Err(fault) if fault.kind != FaultKind::Capacity && self.revision() != revision => continue,
                Err(fault) => return Err(not_taken(fault)),
            };
            // Else a reload came in between.
            if !kept.origin.is_outdated() {
                return Ok(self.lease(kept));
            }
        }
    }

    /// Whether a request rather waits for an instance that will soon be free than for one that is made for it. It passes by
    /// nobody who does, while few wait: thousands may come before one of those runs, and would find the queue full.
    fn is_worth_waiting(&self) -> bool {
        let is_served = || !self.queue.is_empty() || self.queue.has_grant_underway();
        let few = self.free_rooms().saturating_add(self.capacity.get().queue_max / 2);
        let may_wait = !self.retired.get() && self.live.get() >= MADE_AT_ONCE && self.free_rooms() > 0;
        may_wait && self.queue.len() < few && (is_served() || self.soon_free_wait().is_some())
    }

    /// Whether as many wait as may, beside those for whom there is a room.
    fn is_queue_full(&self) -> bool {
        self.queue.len() >= self.capacity.get().queue_max.saturating_add(self.free_rooms())
    }

    /// Waits in the queue for an instance that will soon be free, or for a room once there is none any more, no longer than a
    /// request may wait in all. None when it took too long.
    async fn wait_for_cpu(
        self: &Rc<Self>,
        alarm: &Alarm,
        waited: &mut Waited,
        latest: Option<Instant>,
        notes: &TakeNotes,
    ) -> Option<Grant> {
        waited.for_cpu = true;
        waited.count();
        let (now, timeout) = (Instant::now(), self.queue_timeout());
        if self.queue.is_empty() {
            self.codel.borrow_mut().of_one_who_comes(now, true, timeout);
        }
        let until = *waited.until.get_or_insert(now + timeout);
        let until = latest.map_or(until, |latest| latest.min(until));
        alarm.set(Some(until));
        self.waits_for_cpu.notify_one();
        self.holders.short.notify_one();
        let granted = self.queue.wait(alarm, until, || self.borrow_instance(), |grant| self.give_back(grant)).await;
        alarm.set(None);
        notes.waited(now);
        granted
    }

    /// Waits in the queue, from the first time on no longer than a request may.
    async fn wait_for_grant(
        self: &Rc<Self>,
        alarm: &Alarm,
        waited: &mut Waited,
        latest: Option<Instant>,
        notes: &TakeNotes,
    ) -> Result<Grant, Refusal> {
        let queue_timeout = self.queue_timeout();
        if self.is_queue_full() {
            return Err(self.shed(Shed::QueueFull, queue_timeout));
        }
        let (now, is_loaded) = (Instant::now(), self.guest.borrow().is_some());
        waited.count();
        let deadline = *waited.until.get_or_insert_with(|| {
            let (is_first, max) = (self.queue.is_empty(), queue_timeout);
            // While the app is loaded, nobody is served, however short the line.
            let wait = if is_loaded { self.codel.borrow_mut().of_one_who_comes(now, is_first, max) } else { max };
            now + wait
        });
        let latest = latest.filter(|_| is_loaded).map(|latest| latest + notes.loading.get());
        let of_request = latest.filter(|latest| *latest < deadline);
        let deadline = of_request.unwrap_or(deadline);
        alarm.set(Some(deadline));
        self.holders.short.notify_one();
        let granted = self.queue.wait(alarm, deadline, || self.borrow_instance(), |grant| self.give_back(grant)).await;
        alarm.set(None);
        notes.waited(now);
        if !is_loaded {
            notes.loading.set(notes.loading.get() + now.elapsed());
        }
        granted.ok_or_else(|| {
            let reason = match of_request {
                _ if self.guest.borrow().is_none() => Shed::Loading,
                Some(_) => Shed::RequestTimeout,
                None => Shed::QueueTimeout,
            };
            self.shed(reason, queue_timeout)
        })
    }

    /// Takes back what was granted to a request that has gone.
    fn give_back(self: &Rc<Self>, grant: Grant) {
        match grant {
            Grant::Instance(kept) => self.keep(kept),
            Grant::Place(kept, place) => {
                drop(place);
                self.released(&kept);
            }
            Grant::Room(room) => drop(room),
            Grant::Unavailable => {}
        }
    }

    pub(super) fn shed(&self, reason: Shed, retry_after: Duration) -> Refusal {
        self.metrics.shed(reason);
        if !matches!(reason, Shed::Down | Shed::Unavailable)
            && let Some(count) = self.sheds_told[reason.index()].admit(Instant::now())
        {
            tracing::warn!(
                worker = self.worker.0,
                app = &*self.name(),
                reason = reason.name(),
                count,
                limit = reason.flag(),
                "requests are refused because there is no capacity (count: since the last such line); {}",
                reason.way_out().unwrap_or_default()
            );
        }
        Refusal::Shed(reason, retry_after)
    }

    fn take_kept(self: &Rc<Self>) -> Option<Lease> {
        if self.is_shared() {
            let shared = self.shared.borrow();
            return shared.iter().find_map(|kept| Some(Lease::shared(kept.clone(), kept.shared.place()?)));
        }
        let idle = self.idle.borrow_mut().pop();
        if self.is_fresh_each_request() {
            let kept = idle?;
            self.refill.notify_one();
            return Some(Lease::own(kept));
        }
        let borrowed = || match self.borrow_instance()? {
            Grant::Instance(kept) => Some(kept),
            other => {
                self.give_back(other);
                None
            }
        };
        idle.or_else(borrowed).map(Lease::own)
    }

    /// An instance that is kept for a request that does not run yet, and can be given back to it.
    fn borrow_instance(&self) -> Option<Grant> {
        if !self.queue.has_grant_underway() || self.retired.get() || self.is_fresh_each_request() || self.is_shared() {
            return None;
        }
        let is_current = |grant: &Grant| matches!(grant, Grant::Instance(kept) if !kept.origin.is_outdated());
        let borrowed = self.queue.borrow_granted(is_current)?;
        // There is somebody in the line again, who may need a room if this takes long.
        self.waits_for_cpu.notify_one();
        Some(borrowed)
    }

    /// The lease of an instance that was made for this request.
    fn lease(self: &Rc<Self>, kept: Kept) -> Lease {
        if self.is_shared() {
            let (kept, place) = self.share(kept);
            Lease::shared(kept, place)
        } else {
            Lease::own(kept)
        }
    }
}

/// What it means for a request that its instance did not come up.
fn not_taken(fault: Fault) -> NotTaken {
    match fault.kind {
        FaultKind::Capacity => NotTaken::NoMemory,
        _ => Refusal::Failed(fault).into(),
    }
}
