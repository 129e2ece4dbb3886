//! What bounds an instance: memory in sum, CPU time, and the host's own resources that a guest can hold. `Meter` is the
//! record of one instance's current call; it is shared by the store's callbacks (which write while guest code runs) and
//! by the code that drives the instance (which reads in between), both on the worker's thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::epoch::TICK;
use super::symbols::Symbols;
use crate::heap;

/// Handles (resources of the host) that one instance may hold. A request takes about ten; a guest that collects more
/// than this many is leaking them. Times `FIELDS_BYTES_MAX` it is what an instance can have the host keep, which
/// `--memory-max` does not count.
pub(super) const HANDLES_MAX: usize = 10_000;
/// Bytes that one call of a host function may copy out of the guest (`Store::set_hostcall_fuel`).
pub(super) const HOSTCALL_BYTES_MAX: usize = 64 << 20;
/// Handles within one instance (resources, streams, futures, waitables), as wasmtime counts them in all its tables.
pub(super) const COMPONENT_HANDLES_MAX: usize = 100_000;
/// Bytes that a guest of wasi 0.2 may write to a body in one call, and that the host keeps for it until they are sent.
pub(super) const BODY_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one `get-random-bytes`. More is a trap in wasi 0.2; in 0.3 the guest gets this many.
pub(super) const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one `fields` that the guest fills, as kept in memory (names, values and overhead): twice what a request's
/// head may have. More is a trap in wasi 0.2, the error `size-exceeded` in 0.3.
pub(super) const FIELDS_BYTES_MAX: usize = 128 * 1024;
/// Core instances, memories and tables of one component instance; JavaScript and Python components have about ten.
pub(super) const CORE_INSTANCES_MAX: usize = 1_000;
/// Share of `--memory-max`, in quarters, above which an instance that has served [`MATURE_CALLS`] retires before it meets
/// the limit, so that a slow leak costs no request.
const NEARLY_FULL_QUARTERS: u64 = 3;
/// Calls after which an instance that is nearly full retires. One that needs as much memory from the start lives at least
/// so long; it is the user's to raise the limit.
const MATURE_CALLS: u64 = 100;
/// Bytes that the engine uses for one element of a table.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// Memory of all instances of the host, counted as it is granted. One number written by all workers, but only when an
/// instance starts, grows or ends, never by a request as such. Each worker's share is counted too, so that it can be
/// given back for a worker that was killed.
#[derive(Debug)]
pub struct MemoryBudget {
    total_bytes: u64,
    used_bytes: &'static AtomicU64,
    share_bytes: &'static AtomicU64,
}

impl MemoryBudget {
    /// A budget of so many bytes, with the counts of what is used in all and by this worker.
    pub fn new(total_bytes: u64, used_bytes: &'static AtomicU64, share_bytes: &'static AtomicU64) -> Self {
        Self { total_bytes, used_bytes, share_bytes }
    }

    fn take(&self, bytes: u64) -> bool {
        let within = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.total_bytes);
        let try_take = || self.used_bytes.fetch_update(Relaxed, Relaxed, within).is_ok();
        // What is counted of the heap may be an old figure.
        let taken = try_take() || (!self.count_heap() && try_take());
        if taken {
            self.share_bytes.fetch_add(bytes, Relaxed);
        }
        taken
    }

    /// Counts what the host's heap holds beyond what is its own, in steps, whether there is room for it or not: it is
    /// there already. True when more is in use now than may be.
    fn count_heap(&self) -> bool {
        let held = heap::used_bytes().saturating_sub(HEAP_OWN_BYTES) / HEAP_STEP_BYTES * HEAP_STEP_BYTES;
        let counted = HEAP_COUNTED_BYTES.load(Relaxed);
        // One of the workers does it; the others see what it wrote at their next tick.
        if held != counted && HEAP_COUNTED_BYTES.compare_exchange(counted, held, Relaxed, Relaxed).is_ok() {
            if let Some(more) = held.checked_sub(counted) {
                self.used_bytes.fetch_add(more, Relaxed);
                self.share_bytes.fetch_add(more, Relaxed);
            } else {
                self.give_back(counted - held);
            }
        }
        self.used_bytes.load(Relaxed) > self.total_bytes
    }

    fn give_back(&self, bytes: u64) {
        for count in [self.share_bytes, self.used_bytes] {
            // The primary may have given back what a worker that was killed had only half counted.
            let _ = count.fetch_update(Relaxed, Relaxed, |used| Some(used.saturating_sub(bytes)));
        }
    }
}

/// Heap of a process that is the host's own: what serving takes, and some thousand connections. What it holds beyond is
/// counted within `--memory-total`, for a guest can have the host hold much: 10,000 handles, each with a method, an
/// authority or fields of any length.
const HEAP_OWN_BYTES: u64 = if cfg!(test) { UNIT_TESTS_SHARE_ONE_HEAP } else { 64 << 20 };
const UNIT_TESTS_SHARE_ONE_HEAP: u64 = u64::MAX;
/// In so large steps: the count is written by all workers.
const HEAP_STEP_BYTES: u64 = 1 << 20;
/// An instance for which the host's heap has grown by so much is ended when more memory is in use than may be.
const HEAP_SHARE_MIN_BYTES: i64 = 1 << 20;
/// Heap of this process that is counted in its budget.
static HEAP_COUNTED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Which bound refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Refused {
    /// `--memory-max`.
    Instance = 1,
    /// `--memory-total`.
    Total = 2,
}

impl Refused {
    /// The flag that raises it.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Instance => "--memory-max",
            Self::Total => "--memory-total",
        }
    }
}

/// Counts the memories and tables of one store and refuses growth beyond the bounds.
pub(super) struct MemoryLimiter {
    max_bytes: u64,
    used_bytes: u64,
    last_growth: u64,
    budget: Arc<MemoryBudget>,
    meter: Arc<Meter>,
}

impl MemoryLimiter {
    pub(super) fn new(max_bytes: u64, budget: Arc<MemoryBudget>, meter: Arc<Meter>) -> Self {
        Self { max_bytes, used_bytes: 0, last_growth: 0, budget, meter }
    }

    fn grow(&mut self, bytes: u64) -> bool {
        self.last_growth = 0;
        if self.used_bytes.saturating_add(bytes) > self.max_bytes {
            self.meter.refuse(Refused::Instance, self.used_bytes, bytes);
            return false;
        }
        if !self.budget.take(bytes) {
            self.meter.refuse(Refused::Total, self.used_bytes, bytes);
            return false;
        }
        self.used_bytes += bytes;
        self.last_growth = bytes;
        if self.used_bytes > self.max_bytes / 4 * NEARLY_FULL_QUARTERS {
            self.meter.nearly_full.store(true, Relaxed);
        }
        true
    }

    /// Whether the instance has to go, because the host holds more than it may and this is one that it holds it for.
    pub(super) fn is_overspent(&self) -> bool {
        self.budget.count_heap() && self.meter.ends_for_heap()
    }

    /// The engine could not grow after all (it does not say by how much it had wanted to).
    fn take_back(&mut self) {
        self.budget.give_back(self.last_growth);
        self.used_bytes -= self.last_growth;
        self.last_growth = 0;
    }
}

impl Drop for MemoryLimiter {
    fn drop(&mut self) {
        self.budget.give_back(self.used_bytes);
    }
}

impl wasmtime::ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = desired.saturating_sub(current) as u64;
        Ok(self.grow(elements.saturating_mul(TABLE_ELEMENT_BYTES)))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

    fn table_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        self.take_back();
        Ok(())
    }

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

/// What one instance's current call has used, and which limit it met.
///
/// CPU time is the thread's CPU clock between ticks, and the wall clock of a poll that no tick fell into: reading the
/// CPU clock is a system call, which a request of ten microseconds shall not pay. A poll's first tick counts as one
/// tick at most, so that a thread that waited for a core is not charged for it.
pub(super) struct Meter {
    origin: Instant,
    cpu_limit_ns: u64,
    cpu_ns: AtomicU64,
    poll_began_ns: AtomicU64,
    /// The thread's CPU clock when it was last read in this poll; 0: not read.
    cpu_clock_ns: AtomicU64,
    /// The last poll ended because a tick made the guest yield: it is computing, not waiting.
    computing: AtomicBool,
    cpu_exceeded: AtomicBool,
    refused: AtomicU8,
    /// By how much the host's heap has grown while the instance ran, in all its calls, and the thread's count of it when
    /// the running poll began. What is taken in a poll and freed elsewhere (a response's body) stays in it: it tells who
    /// has much, not how much.
    heap_grown_bytes: AtomicI64,
    heap_began_bytes: AtomicI64,
    /// A refusal to open what is no file was told in the log already.
    special_file_told: AtomicBool,
    nearly_full: AtomicBool,
    worker: u16,
    request: AtomicU64,
    /// Where faults find their place in the source, in development.
    symbols: Option<Arc<Symbols>>,
}

impl Meter {
    pub(super) fn new(worker: u16, cpu_limit: Duration) -> Self {
        Self {
            origin: Instant::now(),
            cpu_limit_ns: saturating_ns(cpu_limit),
            cpu_ns: AtomicU64::new(0),
            poll_began_ns: AtomicU64::new(0),
            cpu_clock_ns: AtomicU64::new(0),
            computing: AtomicBool::new(false),
            cpu_exceeded: AtomicBool::new(false),
            refused: AtomicU8::new(0),
            heap_grown_bytes: AtomicI64::new(0),
            heap_began_bytes: AtomicI64::new(0),
            special_file_told: AtomicBool::new(false),
            nearly_full: AtomicBool::new(false),
            worker,
            request: AtomicU64::new(0),
            symbols: None,
        }
    }

    /// With what finds the place of a fault in the source.
    pub(super) fn with_symbols(self, symbols: Option<Arc<Symbols>>) -> Self {
        Self { symbols, ..self }
    }

    pub(super) fn symbols(&self) -> Option<&Symbols> {
        self.symbols.as_deref()
    }

    /// A new call begins on an instance that was idle.
    pub(super) fn begin_call(&self, request: u64) {
        self.cpu_ns.store(0, Relaxed);
        self.computing.store(false, Relaxed);
        self.request.store(request, Relaxed);
    }

    /// The worker, and the number of the request that is being served (0 before the first).
    pub(super) fn whose(&self) -> (u16, u64) {
        (self.worker, self.request.load(Relaxed))
    }

    /// CPU time of the current call so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Relaxed))
    }

    pub(super) fn cpu_exceeded(&self) -> bool {
        self.cpu_exceeded.load(Relaxed)
    }

    pub(super) fn is_computing(&self) -> bool {
        self.computing.load(Relaxed)
    }

    pub(super) fn refused(&self) -> Option<Refused> {
        match self.refused.load(Relaxed) {
            0 => None,
            1 => Some(Refused::Instance),
            _ => Some(Refused::Total),
        }
    }

    /// By how much the host's heap has grown while the instance ran.
    fn heap_grown_bytes(&self) -> i64 {
        let now = heap::own_bytes() - self.heap_began_bytes.load(Relaxed);
        self.heap_grown_bytes.load(Relaxed).saturating_add(now).max(0)
    }

    /// Decides, when the host holds too much, whether this instance ends for it, and tells.
    fn ends_for_heap(&self) -> bool {
        let heap_bytes = self.heap_grown_bytes();
        if heap_bytes < HEAP_SHARE_MIN_BYTES {
            return false;
        }
        if self.refused.swap(Refused::Total as u8, Relaxed) == 0 {
            let (worker, request) = self.whose();
            tracing::warn!(
                worker,
                request,
                heap_bytes,
                limit = "--memory-total",
                "the host holds too much for guests (handles, fields, bodies); raise --memory-total to allow it"
            );
        }
        true
    }

    /// Whether the instance has met its first file that is none, which is told once.
    pub(super) fn is_first_special_file(&self) -> bool {
        !self.special_file_told.swap(true, Relaxed)
    }

    /// Whether its memory is to be renewed after this call, of `served` ones: growth was refused, or is about to be.
    pub(super) fn wants_new_memory(&self, served: u64) -> bool {
        self.refused().is_some() || (served >= MATURE_CALLS && self.nearly_full.load(Relaxed))
    }

    fn refuse(&self, refused: Refused, used_bytes: u64, asked_bytes: u64) {
        if self.refused.swap(refused as u8, Relaxed) != 0 {
            return; // logged once an instance, since a guest can ask in a loop
        }
        let flag = refused.flag();
        let (worker, request) = self.whose();
        tracing::warn!(
            worker,
            request,
            used_bytes,
            asked_bytes,
            limit = flag,
            "memory growth refused; raise {flag} to allow it"
        );
    }

    fn now_ns(&self) -> u64 {
        saturating_ns(self.origin.elapsed())
    }

    pub(super) fn begin_poll(&self, now: Instant) {
        self.poll_began_ns.store(saturating_ns(now.saturating_duration_since(self.origin)), Relaxed);
        let clock = if self.is_computing() { thread_cpu_ns() } else { 0 };
        self.cpu_clock_ns.store(clock, Relaxed);
        self.computing.store(false, Relaxed);
        self.heap_began_bytes.store(heap::own_bytes(), Relaxed);
    }

    pub(super) fn end_poll(&self) {
        let used = match self.cpu_clock_ns.load(Relaxed) {
            0 => self.now_ns().saturating_sub(self.poll_began_ns.load(Relaxed)),
            clock => thread_cpu_ns().saturating_sub(clock),
        };
        self.cpu_ns.store(self.cpu_ns.load(Relaxed).saturating_add(used), Relaxed);
        self.heap_grown_bytes.store(self.heap_grown_bytes(), Relaxed);
    }

    /// A tick passed while guest code ran.
    pub(super) fn tick(&self) -> Tick {
        let in_poll_ns = self.now_ns().saturating_sub(self.poll_began_ns.load(Relaxed));
        let clock = self.cpu_clock_ns.load(Relaxed);
        let tick_ns = saturating_ns(TICK);
        if clock == 0 && in_poll_ns < tick_ns / 2 {
            // A guest that waits often uses its CPU time in polls that are all short.
            let is_over = self.cpu_ns.load(Relaxed).saturating_add(in_poll_ns) > self.cpu_limit_ns;
            return if is_over { self.exceed() } else { Tick::Early };
        }
        let now = thread_cpu_ns();
        let used = if clock == 0 { in_poll_ns.min(tick_ns) } else { now.saturating_sub(clock) };
        self.cpu_clock_ns.store(now, Relaxed);
        let sum = self.cpu_ns.load(Relaxed).saturating_add(used);
        self.cpu_ns.store(sum, Relaxed);
        if sum > self.cpu_limit_ns {
            return self.exceed();
        }
        self.computing.store(true, Relaxed);
        Tick::Yield
    }

    fn exceed(&self) -> Tick {
        self.cpu_exceeded.store(true, Relaxed);
        Tick::Exceeded
    }
}

/// What a tick means for the guest that it fell into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// The poll has only begun; the deadline was an old one.
    Early,
    /// It has had its turn.
    Yield,
    /// It is over its CPU time.
    Exceeded,
}

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of this thread so far.
fn thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime::ResourceLimiter;

    fn budget(total_bytes: u64) -> MemoryBudget {
        MemoryBudget::new(total_bytes, Box::leak(Box::default()), Box::leak(Box::default()))
    }

    fn limiter(max_bytes: u64, total_bytes: u64) -> MemoryLimiter {
        let meter = Arc::new(Meter::new(1, Duration::from_secs(1)));
        MemoryLimiter::new(max_bytes, Arc::new(budget(total_bytes)), meter)
    }

    #[test]
    fn memories_and_tables_are_counted_in_sum() -> wasmtime::Result<()> {
        let mut limiter = limiter(1_000, 10_000);
        assert!(limiter.memory_growing(0, 500, None)?);
        assert!(limiter.table_growing(0, 50, None)?);
        assert!(!limiter.memory_growing(0, 101, None)?);
        assert_eq!(limiter.meter.refused(), Some(Refused::Instance));
        assert!(limiter.memory_growing(500, 600, None)?);
        Ok(())
    }

    #[test]
    fn the_total_is_shared_and_given_back() -> wasmtime::Result<()> {
        let mut first = limiter(1_000, 1_500);
        let mut second = MemoryLimiter::new(1_000, Arc::clone(&first.budget), Arc::clone(&first.meter));
        assert!(first.memory_growing(0, 1_000, None)?);
        assert!(!second.memory_growing(0, 1_000, None)?);
        assert_eq!(second.meter.refused(), Some(Refused::Total));
        drop(first);
        assert!(second.memory_growing(0, 1_000, None)?);
        assert_eq!(second.budget.used_bytes.load(Relaxed), 1_000);
        Ok(())
    }

    #[test]
    fn an_instance_that_is_nearly_full_is_renewed_once_it_has_served_long() -> wasmtime::Result<()> {
        let mut limiter = limiter(1_000, 10_000);
        assert!(limiter.memory_growing(0, 750, None)?);
        assert!(!limiter.meter.wants_new_memory(MATURE_CALLS));
        assert!(limiter.memory_growing(750, 760, None)?);
        assert!(limiter.meter.wants_new_memory(MATURE_CALLS));
        assert!(!limiter.meter.wants_new_memory(MATURE_CALLS - 1));
        assert!(!limiter.memory_growing(760, 1_001, None)?);
        assert!(limiter.meter.wants_new_memory(1));
        Ok(())
    }

    #[test]
    fn growth_that_failed_is_not_counted() -> wasmtime::Result<()> {
        let mut limiter = limiter(1_000, 1_000);
        assert!(limiter.memory_growing(0, 1_000, None)?);
        limiter.memory_grow_failed(wasmtime::format_err!("no memory"))?;
        assert_eq!(limiter.budget.used_bytes.load(Relaxed), 0);
        assert!(limiter.memory_growing(0, 1_000, None)?);
        Ok(())
    }

    #[test]
    fn computing_beyond_the_limit_is_found_at_a_tick_however_short_its_polls_are() {
        let limit = Duration::from_millis(20);
        for poll in [TICK, TICK / 10] {
            let meter = Meter::new(1, limit);
            meter.begin_call(1);
            let mut ticks = 0;
            loop {
                meter.begin_poll(Instant::now());
                let turn = Instant::now();
                while turn.elapsed() < poll {
                    std::hint::spin_loop();
                }
                ticks += 1;
                match meter.tick() {
                    Tick::Exceeded => break,
                    Tick::Yield | Tick::Early => meter.end_poll(),
                }
                assert!(ticks < 10_000, "the limit was never found in polls of {poll:?}");
            }
            assert!(meter.cpu_exceeded());
            assert!(meter.cpu() + poll >= limit, "{poll:?}");
        }
    }
}
