//! Makes instances before requests need them, in the worker's idle turns, and drops those that are not needed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use wasmhost_base::backoff::Backoff;
use wasmhost_sandbox::FaultKind;

use super::instances::{Kept, KeptShared, Pool, Room};

/// How long to wait when there was no memory for an instance, before the next try.
const SHORTAGE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// An instance beyond the hot one is dropped after it was not needed for so long.
const EXTRA_IDLE: Duration = Duration::from_secs(10);

impl Pool {
    /// Makes the first instance, so that no request waits for it. A failure is logged, and tried again later.
    pub(crate) async fn warm(self: &Rc<Self>) {
        if let Some(room) = Room::take(self)
            && let Ok(kept) = self.make(room, None).await
        {
            self.offer(kept);
        }
        self.refill.notify_one();
    }

    /// Keeps instances ready in the worker's idle turns, and drops those not needed; never ends.
    pub(crate) async fn tend(self: Rc<Self>) {
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
                        self.show_down(false);
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

    /// Offers an instance that was made ahead.
    fn offer(self: &Rc<Self>, kept: Kept) {
        if self.is_shared() {
            let (kept, place) = self.share(kept);
            drop(place);
            self.offer_places(&kept);
        } else {
            self.keep(kept);
        }
    }

    fn lacks(&self) -> bool {
        if self.guest.borrow().is_none() {
            return false;
        }
        let live = self.live.get();
        let has_room = live < self.capacity.get().instances_per_worker;
        if self.is_fresh_each_request() { has_room && self.idle.borrow().len() < self.wanted() } else { live == 0 }
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
