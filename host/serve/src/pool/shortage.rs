//! Who makes room when memory is short: apps that nobody uses go to sleep for a request whose app has no memory for an instance,
//! and for a guest that grows within a call. Those that were not used for the longest time go first.

use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use wasmhost_base::portions::equal_part;
use wasmhost_config::AppId;
use wasmhost_sandbox::{MemoryLack, MemoryRelief};

use super::apps::WorkerApps;
use super::common::PoolNotice;
use super::instances::Pool;
use super::lease::Lease;
use super::take::{NotTaken, Refusal, TakeNotes};
use crate::alarms::Alarm;
use crate::metrics::Shed;

/// While no app of this worker can make room, those of other workers are asked so often for a request, and it is looked so
/// often, with so long in between, whether one has.
const OTHERS_ASKED_MAX: usize = 8;
const LOOKS_MAX: usize = 10;
const LOOKED_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// One request has so many other apps put to sleep at most, before it has an instance.
const PUT_TO_SLEEP_MAX: usize = 4;
/// An app that was used more lately is not put to sleep for another that has less than an equal part of the memory; and for
/// one that has more. (To wake it again takes some milliseconds.)
const JUST_USED: Duration = Duration::from_millis(5);
const SETTLED: Duration = Duration::from_secs(1);

/// When the memory of an app that goes to sleep is there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freed {
    /// When it has been put to sleep.
    AtOnce,
    /// Also in a moment: shared instances end in separate tasks.
    Soon,
}

impl WorkerApps {
    /// An instance for a request; see [`Pool::take`]. While memory is short, apps that nobody uses go to sleep for it.
    pub(crate) async fn take(
        &self,
        pool: &Rc<Pool>,
        alarm: &Alarm,
        latest: Option<Instant>,
        notes: &TakeNotes,
    ) -> Result<Lease, Refusal> {
        if let Some(lease) = pool.take_at_once() {
            return Ok(lease);
        }
        // In a box: few requests wait, and hyper moves the future of each.
        Box::pin(self.take_or_wait(pool, alarm, latest, notes)).await
    }

    async fn take_or_wait(
        &self,
        pool: &Rc<Pool>,
        alarm: &Alarm,
        latest: Option<Instant>,
        notes: &TakeNotes,
    ) -> Result<Lease, Refusal> {
        let (mut put_to_sleep, mut others_asked) = (0, 0);
        loop {
            match pool.take(alarm, latest, notes).await {
                Err(NotTaken::NoMemory) if put_to_sleep < PUT_TO_SLEEP_MAX && self.make_room(pool.id()) => {
                    put_to_sleep += 1;
                    // Shared instances end in the meantime.
                    tokio::task::yield_now().await;
                }
                Err(NotTaken::NoMemory) if others_asked < OTHERS_ASKED_MAX && self.ask_others(pool.id()) => {
                    // Memory that others take meanwhile hides what was given back, so it is asked twice at least.
                    others_asked += if self.memory_falls().await { 1 } else { OTHERS_ASKED_MAX / 2 };
                }
                Err(NotTaken::NoMemory) => return Err(pool.shed(Shed::Memory, pool.queue_timeout())),
                Err(NotTaken::Refused(refusal)) => return Err(refusal),
                Ok(lease) => return Ok(lease),
            }
        }
    }

    /// Waits until somebody gives memory back, for a moment. False when nobody did.
    async fn memory_falls(&self) -> bool {
        let before = self.parts.budget.used_bytes();
        for _ in 0..LOOKS_MAX {
            tokio::time::sleep(LOOKED_AGAIN_AFTER).await;
            if self.parts.budget.used_bytes() < before {
                return true;
            }
        }
        false
    }

    /// Has an app of each other worker put to sleep for this one. False where there is no other worker.
    fn ask_others(&self, id: Option<AppId>) -> bool {
        let app = id.filter(|_| self.parts.has_other_workers && self.has_others());
        app.inspect(|app| self.common.tell(PoolNotice::LacksMemory(*app))).is_some()
    }

    /// Puts one app to sleep that nobody uses, for this one, which has no memory for an instance here or on another worker.
    /// False when there is none.
    pub(crate) fn make_room(&self, id: Option<AppId>) -> bool {
        self.make_room_for(id, self.memory_of(id), 1, Freed::Soon)
    }

    /// Puts one app to sleep for this one, which has or is to have `own_bytes`, and lacks `bytes`. False when there is none, or
    /// all of them together have less.
    fn make_room_for(&self, id: Option<AppId>, own_bytes: u64, bytes: u64, freed: Freed) -> bool {
        let (unused, rows) = (self.spared_for(own_bytes), &self.parts.scoreboard.apps);
        let held = |pool: &Pool| {
            let row = pool.id().and_then(|id| rows.get(id.index()));
            row.map_or(0, |row| row.memory_bytes.load(Relaxed))
        };
        let may_sleep = |pool: &Pool| {
            let is_in_time = freed == Freed::Soon || !pool.is_shared();
            is_in_time && pool.id() != id && held(pool) > 0 && pool.last_used.get().elapsed() >= unused
        };
        let all: u64 = self
            .pools
            .borrow()
            .values()
            .filter(|pool| pool.is_unused() && may_sleep(pool))
            .map(|pool| held(pool))
            .sum();
        all >= bytes && self.put_to_sleep_one(may_sleep)
    }

    /// What the instances of an app have, on all workers.
    fn memory_of(&self, id: Option<AppId>) -> u64 {
        let shared = id.and_then(|id| self.parts.host.apps.get(id.index()));
        shared.map_or(0, |shared| shared.memory.get())
    }

    /// For how long an app must not have been used to be put to sleep for one that has so much.
    fn spared_for(&self, own_bytes: u64) -> Duration {
        let holders = self.parts.host.apps_with_memory.load(Relaxed);
        if own_bytes <= equal_part(self.parts.budget.total_bytes(), holders) { JUST_USED } else { SETTLED }
    }
}

impl MemoryRelief for WorkerApps {
    fn relieve(&self, lack: MemoryLack) -> bool {
        let own = self.pools.borrow().get(&lack.app).cloned();
        if own.is_some_and(|own| own.drop_an_idle_one()) {
            return true;
        }
        if lack.is_of_app {
            return false;
        }
        let make_room = |freed| self.make_room_for(Some(lack.app), lack.own_bytes, lack.bytes, freed);
        if make_room(Freed::AtOnce) {
            return true;
        }
        // This growth is refused, and one that comes a moment later may find room.
        if !make_room(Freed::Soon) && self.growth_asks.admit(Instant::now()).is_some() {
            self.ask_others(Some(lack.app));
        }
        false
    }
}
