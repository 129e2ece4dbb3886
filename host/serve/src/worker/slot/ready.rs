//! Makes instances before requests need them, in the worker's idle turns, and drops those that are not needed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use wasmhost_base::backoff::Backoff;
use wasmhost_sandbox::FaultKind;

use super::{KeptShared, Room, Slot};

/// Instances kept ready ahead when each request gets a fresh one.
const READY_AHEAD: usize = 4;
/// How long to wait when there was no memory for an instance, before the next try.
const SHORTAGE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// An instance beyond the hot one is dropped after it was not needed for so long.
const EXTRA_IDLE: Duration = Duration::from_secs(10);

impl Slot {
    /// Makes the first instance, so that no request waits for it. A failure is logged, and tried again later.
    pub(in crate::worker) async fn warm(self: &Rc<Self>) {
        if let Some(room) = Room::take(self)
            && let Ok(kept) = self.make(room, None).await
        {
            self.offer(kept);
        }
        self.refill.notify_one();
    }

    /// Keeps instances ready in the worker's idle turns, and drops those not needed; never ends.
    pub(in crate::worker) async fn tend(self: Rc<Self>) {
        let mut shortages = 0;
        loop {
            wasmhost_base::inject::panic_at("tend");
            let has_surplus = self.has_surplus();
            self.surplus_known.set(has_surplus);
            if has_surplus {
                // Called for or not: those who are notified of too few do not wait for those who are too many.
                let _ = tokio::time::timeout(EXTRA_IDLE / 2, self.refill.notified()).await;
                self.drop_surplus();
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
                let Some(room) = Room::take(&self) else { break };
                match self.make(room, None).await {
                    Ok(kept) if kept.origin.edition != self.edition.get() => drop(kept),
                    Ok(kept) => {
                        shortages = 0;
                        // It came up after failed starts: requests are let in again, though only an answer clears the
                        // record.
                        self.metrics.down.set(false);
                        self.offer(kept);
                    }
                    Err(fault) if fault.kind == FaultKind::Capacity => {
                        tokio::time::sleep(SHORTAGE_BACKOFF.delay(shortages, fastrand::f64())).await;
                        shortages = shortages.saturating_add(1);
                    }
                    Err(_) => {}
                }
            }
        }
    }

    /// How many idle instances to keep ready.
    fn wanted(&self) -> usize {
        if self.is_fresh_each_request() { READY_AHEAD.min(self.capacity.instances_per_worker) } else { 1 }
    }

    fn lacks(&self) -> bool {
        let live = self.live.get();
        let has_room = live < self.capacity.instances_per_worker;
        if self.is_fresh_each_request() { has_room && self.idle.borrow().len() < self.wanted() } else { live == 0 }
    }

    /// Tells `tend` of instances that may have to go, if it does not know.
    pub(super) fn note_surplus(&self) {
        if !self.surplus_known.get() && self.has_surplus() {
            self.surplus_known.set(true);
            self.refill.notify_one();
        }
    }

    fn has_surplus(&self) -> bool {
        let shared = self.shared.borrow();
        self.idle.borrow().len() > self.wanted() || shared.iter().skip(1).any(|kept| kept.shared.is_empty())
    }

    /// Lets go of instances that were not needed for a while.
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
                break;
            }
        }
        // The first takes calls before the others do, and stays.
        let is_old = |kept: &KeptShared| kept.shared.is_empty() && kept.origin.emptied.get().elapsed() >= EXTRA_IDLE;
        let surplus: Vec<KeptShared> =
            self.shared.borrow().iter().skip(1).filter(|kept| is_old(kept)).cloned().collect();
        for kept in surplus {
            self.forget(&kept);
            kept.shared.retire();
        }
    }
}
