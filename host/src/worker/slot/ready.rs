//! Instances ready before they are asked for: made in the worker's idle turns, and dropped when they are not needed.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Room, Slot};
use crate::sandbox::FaultKind;

/// Instances kept ready ahead when each request gets a fresh one.
const READY_AHEAD: usize = 4;
/// An instance beyond the hot one is dropped after it was not needed for so long.
const EXTRA_IDLE: Duration = Duration::from_secs(10);

impl Slot {
    /// Makes the first instance, so that no request waits for it; a failure is told and tried again later.
    pub(in crate::worker) async fn warm(self: &Rc<Self>) {
        if let Some(room) = Room::take(self)
            && let Ok(kept) = self.make(room).await
        {
            self.offer(kept);
        }
        self.refill.notify_one();
    }

    /// Keeps instances ready in the worker's idle turns, and drops those not needed; never ends.
    pub(in crate::worker) async fn tend(self: Rc<Self>) {
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
                let Some(room) = Room::take(&self) else { break };
                match self.make(room).await {
                    Ok(kept) if kept.origin.edition != self.edition.get() => drop(kept),
                    Ok(kept) => {
                        // It came up after failed starts: requests are let in again, though only an answer clears the
                        // record.
                        self.metrics.down.set(false);
                        self.offer(kept);
                    }
                    Err(fault) if fault.kind == FaultKind::Capacity => {
                        tokio::time::sleep(self.capacity.queue_timeout).await;
                    }
                    Err(_) => {}
                }
            }
        }
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
