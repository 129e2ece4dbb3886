//! What the current call of one instance uses, and which limit it met: CPU time, memory, and resources of the host that a
//! guest can hold. The store's callbacks (which write while guest code runs) and the code that drives the instance (which
//! reads in between) share a [`Meter`], both on the worker's thread.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wasmhost_base::heap;
use wasmhost_base::line_budget::LineBudget;
use wasmhost_config::App;

use super::epoch::TICK;
use super::limits::{HANDLES_AT_REST, HANDLES_NEARLY_SPENT, MATURE_CALLS};
use super::record::CallRecord;
use super::symbols::Symbols;

/// Lines about memory that instances of an app on a worker do not get, of which clients can cause many.
pub(super) const GROWTH_LINES_PER_SECOND: u64 = 10;

/// An instance for which the host's heap has grown by so much is ended when more memory is in use than may be.
const HEAP_SHARE_MIN_BYTES: i64 = 1 << 20;

/// Which bound refused memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum RefusedGrowth {
    /// `--memory-max`.
    Instance = 1,
    /// `--memory-total`.
    Total = 2,
    /// What all instances of the app may have.
    App = 3,
}

impl RefusedGrowth {
    /// The flag that raises it, or the app's limit.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Instance => "--memory-max",
            Self::Total => "--memory-total",
            Self::App => "--app-memory-max",
        }
    }
}

/// How deep calls of apps by apps may be nested.
pub const SERVICE_DEPTH_MAX: u8 = 8;

/// The requests that led to a request of an app: how many, and who pays for what is done for it.
#[derive(Clone, Default)]
pub struct CallChain {
    depth: u8,
    /// Each with its number.
    payers: Vec<(Arc<Meter>, u64)>,
}

impl CallChain {
    /// Of a request that came from another process: that one pays for what it does itself.
    pub fn of_depth(depth: u8) -> Arc<Self> {
        Arc::new(Self { depth, payers: Vec::new() })
    }

    /// How many requests led to it: 1 for the call that a client's request makes.
    pub fn depth(&self) -> u8 {
        self.depth
    }

    /// Of the calls that this request of an instance makes. None: they would be nested too deep.
    pub(super) fn behind(meter: &Arc<Meter>, request: u64) -> Option<Arc<Self>> {
        let before = meter.chain();
        let (depth, mut payers) = before.map_or((0, Vec::new()), |chain| (chain.depth, chain.payers.clone()));
        payers.push((Arc::clone(meter), request));
        (depth < SERVICE_DEPTH_MAX).then(|| Arc::new(Self { depth: depth + 1, payers }))
    }

    /// Who pays.
    pub(super) fn payers(&self) -> &[(Arc<Meter>, u64)] {
        &self.payers
    }
}

/// What one instance's current call has used, and which limit it met.
///
/// CPU time is the thread's CPU clock where that was read, and the wall clock of a short poll in which it was not: reading
/// the CPU clock is a system call, too expensive for a request of ten microseconds. A poll of a [`TICK`] or longer is
/// charged its wall clock or what the thread has computed since its CPU clock was last read, whichever is less, so that
/// a thread that waited for a core is not charged for it. The clock is read at least once in [`CLOCK_AGE_MAX`].
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
    /// By how much the host's heap has grown while the instance ran, since it last held few handles between its calls, and
    /// the thread's count of it when the running poll began. What is taken in a poll and freed elsewhere (a response's
    /// body) stays in it until then: it tells who has much, not how much.
    heap_grown_bytes: AtomicI64,
    heap_began_bytes: AtomicI64,
    /// A refusal to open a special file was already logged.
    special_file_told: AtomicBool,
    nearly_full: AtomicBool,
    handles_nearly_spent: AtomicBool,
    app: Arc<App>,
    worker: u16,
    request: AtomicU64,
    /// The requests that led to the present one, where another app made it.
    chain: Mutex<Option<Arc<CallChain>>>,
    has_chain: AtomicBool,
    /// Where faults find their place in the source, in development.
    symbols: Option<Arc<Symbols>>,
    growth_lines: Option<Arc<LineBudget>>,
    /// What is kept of its calls, where somebody wants to know it after a fault.
    record: Option<CallRecord>,
}

impl Meter {
    pub(super) fn new(worker: u16, cpu_limit: Duration, app: Arc<App>) -> Self {
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
            handles_nearly_spent: AtomicBool::new(false),
            app,
            worker,
            request: AtomicU64::new(0),
            chain: Mutex::new(None),
            has_chain: AtomicBool::new(false),
            symbols: None,
            growth_lines: None,
            record: None,
        }
    }

    /// Of an instance on worker 1 of some app.
    #[cfg(test)]
    pub(super) fn of_test(cpu_limit: Duration) -> Self {
        Self::new(1, cpu_limit, Arc::new(super::testing::app_of_test()))
    }

    /// With the bound on lines about refused growth that the instances of its app on its worker share.
    pub(super) fn with_growth_lines(self, lines: &Arc<LineBudget>) -> Self {
        Self { growth_lines: Some(Arc::clone(lines)), ..self }
    }

    /// With what finds the place of a fault in the source.
    pub(super) fn with_symbols(self, symbols: Option<Arc<Symbols>>) -> Self {
        Self { symbols, ..self }
    }

    /// With a record of its calls, if that is wanted.
    pub(super) fn with_record(self, is_wanted: bool) -> Self {
        Self { record: is_wanted.then(CallRecord::default), ..self }
    }

    pub(super) fn record(&self) -> Option<&CallRecord> {
        self.record.as_ref()
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

    /// These requests led to the call that begins. `beside_others`: of calls at once in one instance it is not known which of
    /// them makes a request, and the deepest counts.
    pub(super) fn is_led_to_by(&self, chain: Option<Arc<CallChain>>, beside_others: bool) {
        if chain.is_none() && (beside_others || !self.has_chain.load(Relaxed)) {
            return;
        }
        let mut known = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let depth = |chain: &Option<Arc<CallChain>>| chain.as_ref().map_or(0, |chain| chain.depth());
        if !beside_others || depth(&chain) >= depth(&known) {
            self.has_chain.store(chain.is_some(), Relaxed);
            *known = chain;
        }
    }

    /// The requests that led to the present one.
    pub(super) fn chain(&self) -> Option<Arc<CallChain>> {
        if !self.has_chain.load(Relaxed) {
            return None;
        }
        self.chain.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The worker, and the number of the request that is being served (0 before the first).
    pub(super) fn whose(&self) -> (u16, u64) {
        (self.worker, self.request.load(Relaxed))
    }

    /// The name of the app.
    pub(super) fn app(&self) -> &str {
        &self.app.name
    }

    /// CPU time of the current call so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns())
    }

    /// The same in nanoseconds.
    pub(super) fn cpu_ns(&self) -> u64 {
        self.cpu_ns.load(Relaxed)
    }

    /// Charges CPU time that the host has spent for `request` while the guest did not run. False if that request is still
    /// the current one and exceeds its limit; then the next tick stops the guest.
    pub(super) fn charge(&self, request: u64, spent: Duration) -> bool {
        if self.request.load(Relaxed) != request {
            return true;
        }
        let sum = self.cpu_ns.load(Relaxed).saturating_add(saturating_ns(spent));
        self.cpu_ns.store(sum, Relaxed);
        sum <= self.cpu_limit_ns
    }

    /// CPU time that the current call may still use.
    pub(super) fn cpu_left(&self) -> Duration {
        Duration::from_nanos(self.cpu_limit_ns.saturating_sub(self.cpu_ns()))
    }

    /// Whether this CPU time is within the limit of one request.
    pub(super) fn is_within(&self, spent: Duration) -> bool {
        saturating_ns(spent) <= self.cpu_limit_ns
    }

    pub(super) fn cpu_exceeded(&self) -> bool {
        self.cpu_exceeded.load(Relaxed)
    }

    pub(super) fn is_computing(&self) -> bool {
        self.computing.load(Relaxed)
    }

    pub(super) fn refused(&self) -> Option<RefusedGrowth> {
        match self.refused.load(Relaxed) {
            0 => None,
            1 => Some(RefusedGrowth::Instance),
            2 => Some(RefusedGrowth::Total),
            _ => Some(RefusedGrowth::App),
        }
    }

    /// By how much the host's heap has grown while the instance ran.
    fn heap_grown_bytes(&self) -> i64 {
        let now = heap::own_bytes() - self.heap_began_bytes.load(Relaxed);
        self.heap_grown_bytes.load(Relaxed).saturating_add(now).max(0)
    }

    /// Decides, when the host holds too much, whether this instance ends for it, and tells.
    pub(super) fn ends_for_heap(&self) -> bool {
        let heap_bytes = self.heap_grown_bytes();
        if heap_bytes < HEAP_SHARE_MIN_BYTES {
            return false;
        }
        if self.refused.swap(RefusedGrowth::Total as u8, Relaxed) == 0 {
            let (worker, request) = self.whose();
            tracing::warn!(
                app = self.app(),
                worker,
                request,
                heap_bytes,
                limit = "--memory-total",
                "the host holds too much for guests (handles, fields, bodies), and this instance ends; raise --memory-total to allow it"
            );
        }
        true
    }

    /// Whether this is the first special file that the instance asked for; only that one is logged.
    pub(super) fn is_first_special_file(&self) -> bool {
        !self.special_file_told.swap(true, Relaxed)
    }

    /// Why the instance is to retire after this call, of `served` ones: the flag of the limit on its memory, when growth was
    /// refused or is about to be; or "handles", when it has nearly as many as it may.
    pub(super) fn wants_to_retire(&self, served: u64) -> Option<&'static str> {
        let is_nearly_full = served >= MATURE_CALLS && self.nearly_full.load(Relaxed);
        let by_memory = self.refused().or(is_nearly_full.then_some(RefusedGrowth::Instance)).map(RefusedGrowth::flag);
        by_memory.or(self.handles_nearly_spent.load(Relaxed).then_some("handles"))
    }

    /// A call has ended, and `active` others go on: what the instance holds now. `exceeds` says whether it has more than so
    /// many handles.
    pub(super) fn note_handles(&self, active: usize, mut exceeds: impl FnMut(usize) -> bool) {
        // Those of the calls that go on are few beside a limit for all.
        if exceeds(HANDLES_NEARLY_SPENT) {
            self.handles_nearly_spent.store(true, Relaxed);
        }
        if active == 0 && !exceeds(HANDLES_AT_REST) {
            // What it took was for its answers, and has gone with them, or goes with the last one.
            self.heap_grown_bytes.store(0, Relaxed);
            self.heap_began_bytes.store(heap::own_bytes(), Relaxed);
        }
    }

    /// Most of what the instance may have is in use.
    pub(super) fn note_nearly_full(&self) {
        self.nearly_full.store(true, Relaxed);
    }

    pub(super) fn refuse(&self, refused: RefusedGrowth, used_bytes: u64, asked_bytes: u64) {
        if self.refused.swap(refused as u8, Relaxed) != 0 {
            return; // logged once an instance, since a guest can ask in a loop
        }
        let flag = refused.flag();
        let (worker, request) = self.whose();
        // Clients can have one instance after the other ask.
        let (is_told, left_out) = self.growth_lines.as_ref().map_or((true, 0), |lines| lines.admit());
        if left_out > 0 {
            tracing::warn!(
                app = self.app(),
                worker,
                lines = left_out,
                "lines about refused memory growth were left out"
            );
        }
        if !is_told {
            return;
        }
        tracing::warn!(
            app = self.app(),
            worker,
            request,
            used_bytes,
            asked_bytes,
            limit = flag,
            "memory growth refused; raise {flag} to allow it"
        );
    }

    pub(super) fn begin_poll(&self, now: Instant) {
        self.poll_began_ns.store(saturating_ns(now.saturating_duration_since(self.origin)), Relaxed);
        let clock = if self.is_computing() {
            CpuClock::read(now)
        } else {
            CpuClock::refresh(now);
            0
        };
        self.cpu_clock_ns.store(clock, Relaxed);
        self.computing.store(false, Relaxed);
        self.heap_began_bytes.store(heap::own_bytes(), Relaxed);
    }

    pub(super) fn end_poll(&self) {
        let now = Instant::now();
        let in_poll_ns = self.in_poll_ns(now);
        let used = match self.cpu_clock_ns.load(Relaxed) {
            0 if in_poll_ns < saturating_ns(TICK) => in_poll_ns,
            clock => self.used_ns(clock, in_poll_ns, now),
        };
        self.cpu_ns.store(self.cpu_ns.load(Relaxed).saturating_add(used), Relaxed);
        self.heap_grown_bytes.store(self.heap_grown_bytes(), Relaxed);
    }

    /// A tick passed while guest code ran.
    pub(super) fn tick(&self) -> Ticked {
        let now = Instant::now();
        let in_poll_ns = self.in_poll_ns(now);
        let clock = self.cpu_clock_ns.load(Relaxed);
        if clock == 0 && in_poll_ns < saturating_ns(TICK) / 2 {
            // A guest that waits often uses its CPU time in polls that are all short.
            let is_over = self.cpu_ns.load(Relaxed).saturating_add(in_poll_ns) > self.cpu_limit_ns;
            let tick = if is_over { self.exceed() } else { Tick::Early };
            return Ticked { tick, used_ns: in_poll_ns, goes_on: false };
        }
        let used = self.used_ns(clock, in_poll_ns, now);
        let ticked = |tick| Ticked { tick, used_ns: used, goes_on: clock != 0 };
        let sum = self.cpu_ns.load(Relaxed).saturating_add(used);
        self.cpu_ns.store(sum, Relaxed);
        if sum > self.cpu_limit_ns {
            return ticked(self.exceed());
        }
        if clock == 0 && used < saturating_ns(TICK) / 2 {
            // The thread waited for a core for most of the time before the poll's first tick that counts; the guest has had
            // little of its turn. The next tick ends it.
            return ticked(Tick::Early);
        }
        self.computing.store(true, Relaxed);
        ticked(Tick::Yield)
    }

    /// Wall clock since the poll began.
    fn in_poll_ns(&self, now: Instant) -> u64 {
        saturating_ns(now.saturating_duration_since(self.origin)).saturating_sub(self.poll_began_ns.load(Relaxed))
    }

    /// CPU time since the last reading in this poll, `clock`, or where there was none (0) since the poll began.
    fn used_ns(&self, clock: u64, in_poll_ns: u64, now: Instant) -> u64 {
        let before = CpuClock::last();
        let read = CpuClock::read(now);
        self.cpu_clock_ns.store(read, Relaxed);
        match clock {
            0 => in_poll_ns.min(read.saturating_sub(before)),
            clock => read.saturating_sub(clock),
        }
    }

    fn exceed(&self) -> Tick {
        self.cpu_exceeded.store(true, Relaxed);
        Tick::Exceeded
    }
}

/// A tick, for the guest that it fell into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticked {
    /// What it means.
    pub(super) tick: Tick,
    /// What the guest has used since this was last looked at, or since its poll began, in nanoseconds.
    pub(super) used_ns: u64,
    /// The guest computed before, and goes on.
    pub(super) goes_on: bool,
}

/// What a tick means for the guest that it fell into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tick {
    /// The guest has used less than half a tick of CPU time in this poll: the deadline was an old one, or the thread waited
    /// for a core.
    Early,
    /// It has had its turn.
    Yield,
    /// It is over its CPU time.
    Exceeded,
}

fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The longest that a thread that polls guests goes on with an old reading of its CPU clock. What a poll is charged too
/// much, when its thread waited for a core, is less than this. It is a small part of a [`TICK`], so that a short call is not
/// taken for one that computes because its thread waited.
const CLOCK_AGE_MAX: Duration = Duration::from_micros(250);

/// The last reading of this thread's CPU clock.
#[derive(Clone, Copy)]
struct CpuClock {
    at: Instant,
    cpu_ns: u64,
}

thread_local! {
    static CPU_CLOCK: Cell<Option<CpuClock>> = const { Cell::new(None) };
}

impl CpuClock {
    /// CPU time of this thread so far.
    fn read(now: Instant) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        let cpu_ns = seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
        CPU_CLOCK.set(Some(Self { at: now, cpu_ns }));
        cpu_ns
    }

    /// The last reading; 0 before the first.
    fn last() -> u64 {
        CPU_CLOCK.get().map_or(0, |last| last.cpu_ns)
    }

    /// Reads it if the last reading is old.
    fn refresh(now: Instant) {
        let is_old = CPU_CLOCK.get().is_none_or(|last| now.saturating_duration_since(last.at) >= CLOCK_AGE_MAX);
        if is_old {
            Self::read(now);
        }
    }
}

/// Measures a poll of the host's own, for those who pay for it, as [`Meter`] measures a guest's.
pub(super) struct PollTimer {
    began: Instant,
    /// The thread's CPU clock when it was last read before.
    cpu_ns: u64,
}

impl PollTimer {
    pub(super) fn begin() -> Self {
        let began = Instant::now();
        CpuClock::refresh(began);
        Self { began, cpu_ns: CpuClock::last() }
    }

    /// What the poll has cost so far: the wall clock of a short one; of a longer one, no more than its thread has computed.
    pub(super) fn spent(&self) -> Duration {
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.began);
        if spent < TICK {
            return spent;
        }
        spent.min(Duration::from_nanos(CpuClock::read(now).saturating_sub(self.cpu_ns)))
    }
}

/// CPU time of this thread so far.
pub(super) fn thread_cpu_ns() -> u64 {
    CpuClock::read(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A guest that computes in polls of such a length, with one tick at the end of each and a wait after it, up to its limit:
    /// the CPU time that it had, and how long its last poll took, in which its thread may have waited for a core.
    fn computes_in_polls_of(poll: Duration, limit: Duration) -> (Meter, Duration, Duration) {
        let meter = Meter::of_test(limit);
        meter.begin_call(1);
        let began = CpuClock::read(Instant::now());
        for _ in 0..10_000 {
            meter.begin_poll(Instant::now());
            let turn = Instant::now();
            while turn.elapsed() < poll {
                std::hint::spin_loop();
            }
            let tick = meter.tick().tick;
            if tick == Tick::Exceeded {
                let used = CpuClock::read(Instant::now()) - began;
                return (meter, Duration::from_nanos(used), turn.elapsed());
            }
            // A timer that is due at once: what comes after the wait is another poll, of one that did not compute.
            meter.computing.store(false, Relaxed);
            meter.end_poll();
        }
        panic!("the limit was never found in polls of {poll:?}");
    }

    #[test]
    fn computing_beyond_the_limit_is_found_at_a_tick_however_short_or_long_its_polls_are() {
        let limit = Duration::from_millis(100);
        // The long ones are calls of the host, in which no tick is heard.
        for poll in [TICK / 10, TICK, TICK * 20] {
            let (meter, used, last) = computes_in_polls_of(poll, limit);
            assert!(meter.cpu_exceeded());
            assert!(meter.cpu() + last >= limit, "{poll:?}: {:?} and {last:?}", meter.cpu());
            assert!(used <= limit * 2 + poll, "{used:?} of CPU time in polls of {poll:?}");
        }
    }

    #[test]
    fn what_answers_took_of_the_heap_is_forgotten_when_an_instance_rests_with_few_handles() {
        let _own = heap::own();
        let meter = Meter::of_test(Duration::from_secs(1));
        let answer = |handles: usize, active: usize| {
            meter.begin_call(1);
            meter.begin_poll(Instant::now());
            // Taken while it runs, and freed when the client has it.
            let body = std::hint::black_box(vec![0_u8; 256 << 10]);
            meter.note_handles(active, |than| handles > than);
            meter.end_poll();
            drop(body);
        };
        for _ in 0..100 {
            answer(HANDLES_AT_REST, 0);
        }
        assert!(!meter.ends_for_heap(), "{} bytes", meter.heap_grown_bytes());
        assert_eq!(meter.wants_to_retire(0), None);
        // Of one that keeps handles, or has calls that go on, all counts.
        for (handles, active) in [(HANDLES_AT_REST + 1, 0), (0, 1)] {
            for _ in 0..5 {
                answer(handles, active);
            }
            assert!(meter.heap_grown_bytes() >= HEAP_SHARE_MIN_BYTES, "{handles} handles, {active} calls");
            answer(0, 0);
        }
        assert!(!meter.ends_for_heap());
        answer(HANDLES_NEARLY_SPENT + 1, 1);
        assert_eq!(meter.wants_to_retire(0), Some("handles"), "though others go on");
    }

    #[test]
    fn a_tick_interrupts_a_guest_that_has_computed_and_not_one_whose_thread_waited_for_a_core() {
        let meter = Meter::of_test(Duration::from_secs(1));
        meter.begin_call(1);
        meter.begin_poll(Instant::now());
        std::thread::sleep(TICK * 3);
        assert_eq!(meter.tick().tick, Tick::Early);
        let turn = CpuClock::read(Instant::now());
        while CpuClock::read(Instant::now()) - turn < saturating_ns(TICK) {
            std::hint::spin_loop();
        }
        assert_eq!(meter.tick().tick, Tick::Yield);
        assert!(meter.is_computing());
    }

    #[test]
    fn a_poll_of_the_hosts_own_costs_what_its_thread_has_computed() {
        let timer = PollTimer::begin();
        std::thread::sleep(TICK * 20);
        assert!(timer.spent() < TICK, "{:?}", timer.spent());
        let timer = PollTimer::begin();
        let turn = CpuClock::read(Instant::now());
        while CpuClock::read(Instant::now()) - turn < saturating_ns(TICK * 3) {
            std::hint::spin_loop();
        }
        assert!(timer.spent() >= TICK * 3, "{:?}", timer.spent());
    }

    #[test]
    fn a_thread_that_waits_for_a_core_is_not_charged_for_it() {
        let meter = Meter::of_test(Duration::from_secs(1));
        meter.begin_call(1);
        for _ in 0..3 {
            meter.begin_poll(Instant::now());
            std::thread::sleep(TICK * 20);
            meter.end_poll();
        }
        assert!(meter.cpu() < CLOCK_AGE_MAX * 3, "{:?}", meter.cpu());
    }
}
