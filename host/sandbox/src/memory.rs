//! Memory of instances, charged when wasmtime asks for it: of one store, within `--memory-max`; of all stores of an app; and of
//! all stores of the host together with what its heap holds for guests, within `--memory-total`.
//!
//! The charge is never less than what wasmtime holds. wasmtime asks before it grows anything. It reports some growths that
//! failed, but not which, so a failure takes nothing back. A growth that must fail, because the memory or table has its
//! own maximum, is refused here and charges nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use wasmhost_base::heap;
use wasmhost_base::portions::{lacking, may_take};
use wasmhost_config::AppId;

use super::limits::CORE_INSTANCES_MAX;
use super::meter::{Meter, RefusedGrowth};
use super::relief::{MemoryLack, relieve};

/// Share of `--memory-max`, in quarters, above which an instance that has served [`MATURE_CALLS`] retires before it meets
/// the limit, so that a slow leak costs no request.
const NEARLY_FULL_QUARTERS: u64 = 3;
/// Bytes that are charged for one element of a table. The engine uses 8; a table that is not in the pool keeps room for up
/// to twice its elements when it grows.
const TABLE_ELEMENT_BYTES: u64 = 16;
/// For one growth, instances at rest are let go of for so long, and one more: each takes some 0.1 ms, and some milliseconds if it
/// has much memory. Nothing else runs on the worker meanwhile.
const RELIEF_WITHIN: Duration = Duration::from_millis(2);

/// Memory in use, and the most that it was since the start.
#[derive(Debug, Default)]
pub struct MemoryCount {
    now_bytes: AtomicU64,
    peak_bytes: AtomicU64,
}

impl MemoryCount {
    /// In use now, in bytes.
    pub fn get(&self) -> u64 {
        self.now_bytes.load(Relaxed)
    }

    /// The most that was in use, in bytes.
    pub fn peak(&self) -> u64 {
        self.peak_bytes.load(Relaxed)
    }

    /// Counts `bytes` more if `allows` says so of what is in use; returns what was, or refuses. [`Self::reached`] says that it
    /// lasts.
    fn add_if(&self, bytes: u64, mut allows: impl FnMut(u64) -> bool) -> Option<u64> {
        let more = |used: u64| used.checked_add(bytes).filter(|_| allows(used));
        self.now_bytes.fetch_update(Relaxed, Relaxed, more).ok()
    }

    /// Counts `bytes` more, whatever is in use.
    fn add(&self, bytes: u64) {
        self.reached(self.now_bytes.fetch_add(bytes, Relaxed).saturating_add(bytes));
    }

    /// Takes note of how much was in use. (Most growths are below the peak, and only read it.)
    fn reached(&self, bytes: u64) {
        if bytes > self.peak() {
            self.peak_bytes.fetch_max(bytes, Relaxed);
        }
    }
}

/// Memory of all instances of the host, counted as it is granted. One number written by all workers, but only when an
/// instance starts, grows or ends, never by a request as such. Each worker's share is counted too, so that it can be
/// given back for a worker that was killed.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    total_bytes: u64,
    used_bytes: &'static MemoryCount,
    share_bytes: &'static MemoryCount,
    /// Within which an app has its own.
    app: Option<AppMemory>,
    /// See [`Self::for_app`].
    has_others: bool,
}

/// What of the memory belongs to one app.
#[derive(Debug, Clone, Copy)]
pub struct AppMemory {
    /// Whose it is.
    pub app: AppId,
    /// Memories and tables of all its instances, in sum.
    pub max_bytes: u64,
    /// Used by its instances on all workers.
    pub used_bytes: &'static MemoryCount,
    /// Used by its instances on this worker.
    pub share_bytes: &'static AtomicU64,
    /// Apps of the host whose `used_bytes` is not 0. Whoever changes that from 0, or to 0, counts it here, so the count may
    /// be off for a moment (even below 0, wrapped), but it does not drift.
    pub apps_with_memory: &'static AtomicU64,
}

impl AppMemory {
    /// Takes so much; returns what the app had before.
    fn take(&self, bytes: u64) -> Option<u64> {
        let within = |used: u64| used.saturating_add(bytes) <= self.max_bytes;
        let before = self.used_bytes.add_if(bytes, within)?;
        if before == 0 && bytes > 0 {
            self.apps_with_memory.fetch_add(1, Relaxed);
        }
        Some(before)
    }

    fn give_back(&self, bytes: u64) {
        let before = subtract(&self.used_bytes.now_bytes, bytes);
        if (1..=bytes).contains(&before) {
            self.apps_with_memory.fetch_sub(1, Relaxed);
        }
    }

    /// Gives back what the worker that counted in `share_bytes` had taken for the app: it was killed, and counts no more.
    pub fn reclaim(&self) {
        self.give_back(self.share_bytes.swap(0, Relaxed));
    }
}

/// Subtracts no more than there is, and returns what there was: the primary may have given back what a worker that was
/// killed had only half counted.
fn subtract(count: &AtomicU64, bytes: u64) -> u64 {
    count.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes))).unwrap_or(0)
}

impl MemoryBudget {
    /// A budget of so many bytes, with the counts of what is used in all and by this worker.
    pub fn new(total_bytes: u64, used_bytes: &'static MemoryCount, share_bytes: &'static MemoryCount) -> Self {
        Self { total_bytes, used_bytes, share_bytes, app: None, has_others: false }
    }

    /// How much there is in all.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// The same budget, within which an app has its own. `has_others`: the host has more apps, for one of which at least room
    /// is kept, though it has no memory yet.
    pub fn for_app(&self, app: AppMemory, has_others: bool) -> Self {
        Self { app: Some(app), has_others, ..self.clone() }
    }

    /// Gives back what the worker that counted in `share_bytes` had taken: it was killed, and counts no more. The same for
    /// each app is [`AppMemory::reclaim`].
    pub fn reclaim(&self) {
        subtract(&self.used_bytes.now_bytes, self.share_bytes.now_bytes.swap(0, Relaxed));
    }

    /// Takes so much, or says which bound refuses it.
    fn take(&self, bytes: u64) -> Result<(), RefusedGrowth> {
        let own_bytes = self.app.as_ref().map_or(Some(0), |app| app.take(bytes)).ok_or(RefusedGrowth::App)?;
        // What is counted of the heap may be an old figure.
        let taken =
            self.take_of_total(bytes, own_bytes) || (!self.count_heap() && self.take_of_total(bytes, own_bytes));
        if !taken {
            self.app.iter().for_each(|app| app.give_back(bytes));
            return Err(RefusedGrowth::Total);
        }
        self.share_bytes.add(bytes);
        if let Some(app) = &self.app {
            app.used_bytes.reached(own_bytes.saturating_add(bytes));
            app.share_bytes.fetch_add(bytes, Relaxed);
        }
        Ok(())
    }

    /// In use by all apps on all workers.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.get()
    }

    fn take_of_total(&self, bytes: u64, own_bytes: u64) -> bool {
        let apps = self.holders();
        let within = |used| may_take(self.total_bytes, used, bytes, own_bytes, apps);
        let before = self.used_bytes.add_if(bytes, within);
        before.inspect(|before| self.used_bytes.reached(before.saturating_add(bytes))).is_some()
    }

    /// Apps that share the total.
    fn holders(&self) -> u64 {
        let apps = self.app.as_ref().map_or(1, |app| app.apps_with_memory.load(Relaxed));
        apps.wrapping_add(self.has_others.into())
    }

    /// What would have to be given back before so much could be taken, which was refused; none where nothing that is given
    /// back would do.
    fn lack(&self, bytes: u64, refused: RefusedGrowth) -> Option<MemoryLack> {
        let app = self.app.as_ref()?;
        let own_bytes = app.used_bytes.get();
        let (used_bytes, lacking, is_of_app) = match refused {
            RefusedGrowth::Instance => return None,
            RefusedGrowth::App => (own_bytes, own_bytes.saturating_add(bytes).saturating_sub(app.max_bytes), true),
            RefusedGrowth::Total => {
                let used_bytes = self.used_bytes();
                (used_bytes, lacking(self.total_bytes, used_bytes, bytes, own_bytes, self.holders()), false)
            }
        };
        let own_bytes = own_bytes.saturating_add(bytes);
        (lacking <= used_bytes).then_some(MemoryLack { app: app.app, bytes: lacking, own_bytes, is_of_app })
    }

    /// Counts what the host's heap holds beyond what is its own, in steps, whether there is room for it or not: it is
    /// there already. True when more is in use now than may be.
    fn count_heap(&self) -> bool {
        let held = heap::used_bytes().saturating_sub(HEAP_OWN_BYTES) / HEAP_STEP_BYTES * HEAP_STEP_BYTES;
        let counted = HEAP_COUNTED_BYTES.load(Relaxed);
        // One of the workers does it; the others see what it wrote at their next tick.
        if held != counted && HEAP_COUNTED_BYTES.compare_exchange(counted, held, Relaxed, Relaxed).is_ok() {
            if let Some(more) = held.checked_sub(counted) {
                self.used_bytes.add(more);
                self.share_bytes.add(more);
            } else {
                self.give_back_total(counted - held);
            }
        }
        self.used_bytes() > self.total_bytes
    }

    fn give_back(&self, bytes: u64) {
        self.give_back_total(bytes);
        if let Some(app) = &self.app {
            subtract(app.share_bytes, bytes);
            app.give_back(bytes);
        }
    }

    fn give_back_total(&self, bytes: u64) {
        subtract(&self.share_bytes.now_bytes, bytes);
        subtract(&self.used_bytes.now_bytes, bytes);
    }
}

/// Heap of a process that is the host's own: what serving takes, and some thousand connections. What it holds beyond is
/// counted within `--memory-total`, for a guest can have the host hold much: 10,000 handles, each with a method, an
/// authority or fields of any length.
const HEAP_OWN_BYTES: u64 = if cfg!(test) { UNIT_TESTS_SHARE_ONE_HEAP } else { 64 << 20 };
const UNIT_TESTS_SHARE_ONE_HEAP: u64 = u64::MAX;
/// In so large steps: the count is written by all workers.
const HEAP_STEP_BYTES: u64 = 1 << 20;
/// Heap of this process that is counted in its budget.
static HEAP_COUNTED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Counts the memories and tables of one store and refuses growth beyond the bounds.
pub(super) struct MemoryLimiter {
    max_bytes: u64,
    used_bytes: u64,
    budget: Arc<MemoryBudget>,
    meter: Arc<Meter>,
}

impl MemoryLimiter {
    pub(super) fn new(max_bytes: u64, budget: Arc<MemoryBudget>, meter: Arc<Meter>) -> Self {
        Self { max_bytes, used_bytes: 0, budget, meter }
    }

    /// Charges `bytes`, or refuses them. `may_succeed` is false where the engine cannot grow by them, whatever is granted.
    fn grow(&mut self, bytes: u64, may_succeed: bool) -> bool {
        if self.used_bytes.saturating_add(bytes) > self.max_bytes {
            self.meter.refuse(RefusedGrowth::Instance, self.used_bytes, bytes);
            return false;
        }
        if !may_succeed {
            return false;
        }
        if let Err(refused) = self.take(bytes) {
            self.meter.refuse(refused, self.used_bytes, bytes);
            return false;
        }
        self.used_bytes += bytes;
        if self.used_bytes > self.max_bytes / 4 * NEARLY_FULL_QUARTERS {
            self.meter.note_nearly_full();
        }
        true
    }

    /// Takes so much of the budget. Within a call, instances at rest have to make room for it. (For an instance that starts,
    /// the worker makes room itself, and only if a request waits for it.)
    fn take(&self, bytes: u64) -> Result<(), RefusedGrowth> {
        let mut until = None;
        loop {
            let Err(refused) = self.budget.take(bytes) else { return Ok(()) };
            let (now, is_starting) = (Instant::now(), self.meter.whose().1 == 0);
            let until = *until.get_or_insert(now + RELIEF_WITHIN);
            if is_starting || now > until || !self.budget.lack(bytes, refused).is_some_and(relieve) {
                return Err(refused);
            }
        }
    }

    /// Whether the instance has to go, because the host holds more than it may and this is one that it holds it for.
    pub(super) fn is_overspent(&self) -> bool {
        self.budget.count_heap() && self.meter.ends_for_heap()
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.budget.give_back(self.used_bytes);
    }
}

impl wasmtime::ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let may_succeed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(self.grow(desired.saturating_sub(current) as u64, may_succeed))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current) as u64;
        let may_succeed = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES), may_succeed))
    }

    // `memory_grow_failed` and `table_grow_failed` take nothing back: wasmtime calls them for growths, too, that it never
    // asked for (of a 64-bit table whose size overflows). A growth that the system refused stays charged until the store goes.

    fn instances(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES_MAX
    }

    fn memories(&self) -> usize {
        CORE_INSTANCES_MAX
    }
}

#[cfg(test)]
mod tests;
