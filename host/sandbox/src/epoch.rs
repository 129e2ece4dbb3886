//! The clock that preempts guests. One thread, the ticker, advances the epoch of every engine once per [`TICK`] while a worker
//! runs guest code. It sleeps when none does, so an idle host uses no CPU. `preempt` decides what a tick does to a guest.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::Thread;
use std::time::{Duration, Instant};

use wasmtime::{Engine, EngineWeak};

use wasmhost_base::panics::caught;

/// How long a guest may compute before other connections of its worker get a turn.
pub const TICK: Duration = Duration::from_millis(1);

/// The ticker sleeps after so many ticks in which no worker ran guest code.
const QUIET_TICKS: u32 = 64;

/// One worker's sign that it runs guest code. Written by that worker only, on cache lines of its own; read by the ticker
/// and by the balancer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PulseCells {
    /// Microseconds (of [`Ticker::now_us`], never 0) at which the running poll of a guest began; 0: none runs.
    running_since_us: AtomicU64,
    /// Polls of guests so far, so that the ticker sees short ones that fall between its looks.
    polls: AtomicU64,
    /// Calls that compute without waiting, preempted by ticks.
    computing: AtomicU32,
}

/// A hold on a worker's sign; the ticker looks at it for as long as one is held.
#[derive(Debug)]
pub struct Pulse(&'static PulseCells);

impl std::ops::Deref for Pulse {
    type Target = PulseCells;

    fn deref(&self) -> &PulseCells {
        self.0
    }
}

impl PulseCells {
    fn begin(&self, now_us: u64) {
        self.running_since_us.store(now_us.max(1), Ordering::Relaxed);
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// A new thread takes the worker's place: nothing that the old one showed holds.
    pub fn reset(&self) {
        self.running_since_us.store(0, Ordering::Relaxed);
        self.computing.store(0, Ordering::Relaxed);
    }

    fn end(&self) {
        self.running_since_us.store(0, Ordering::Relaxed);
    }

    /// Takes note that a call began (or ceased) to compute without waiting.
    pub(super) fn set_computing(&self, is: bool) {
        let calls = self.computing.load(Ordering::Relaxed);
        let calls = if is { calls.saturating_add(1) } else { calls.saturating_sub(1) };
        self.computing.store(calls, Ordering::Relaxed);
    }

    /// For how long this worker's connections have been held up by guest code: since the running poll began, or, with
    /// calls that compute and share their turns, a time that grows with their number.
    pub fn late_us(&self, now_us: u64) -> u64 {
        let shared = u64::from(self.computing.load(Ordering::Relaxed)) * COMPUTING_LATE_US;
        match self.running_since_us.load(Ordering::Relaxed) {
            0 => shared,
            since => shared.max(now_us.saturating_sub(since)),
        }
    }
}

/// How late a worker counts for each call on it that computes without waiting: enough that it is passed over while
/// another worker is free.
const COMPUTING_LATE_US: u64 = 20_000;

/// The ticker's shared side.
pub struct Ticker {
    /// One moment on both clocks.
    origin: (Instant, u64),
    /// Set by the ticker before it sleeps; whoever begins to run guest code and sees it wakes the ticker.
    asleep: AtomicBool,
    stopped: AtomicBool,
    /// See [`Ticker::period_ns`].
    period_ns: AtomicU64,
    thread: Mutex<Option<Thread>>,
    watched: Mutex<Watched>,
}

#[derive(Default)]
struct Watched {
    pulses: Vec<Weak<Pulse>>,
    engines: Vec<EngineWeak>,
}

impl Ticker {
    /// Starts the ticker's thread, named `ticker`.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start() -> std::io::Result<Arc<Self>> {
        let ticker = Arc::new(Self {
            origin: (Instant::now(), Self::now_us()),
            asleep: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            period_ns: AtomicU64::new(0),
            thread: Mutex::new(None),
            watched: Mutex::new(Watched::default()),
        });
        let runner = Arc::clone(&ticker);
        let handle = std::thread::Builder::new().name("ticker".to_owned()).spawn(move || {
            // Without it no guest would be stopped: it goes on after a panic, which the log tells of.
            while caught(|| runner.run()).is_err() {
                std::thread::sleep(TICK);
            }
        })?;
        *ticker.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle.thread().clone());
        Ok(ticker)
    }

    /// Microseconds of the clock that [`PulseCells::late_us`] is measured by: the same in all processes of the machine.
    pub fn now_us() -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
    }

    /// The same at a moment that was read already.
    fn us_at(&self, now: Instant) -> u64 {
        let (origin, origin_us) = self.origin;
        origin_us.saturating_add(u64::try_from(now.saturating_duration_since(origin).as_micros()).unwrap_or(u64::MAX))
    }

    /// Nanoseconds between the last tick and the one before; 0: the ticker slept before it, until a worker began to run guest
    /// code.
    pub(super) fn period_ns(&self) -> u64 {
        self.period_ns.load(Ordering::Relaxed)
    }

    /// Looks at the sign of a worker of this process, until the hold is dropped.
    pub fn watch_pulse(&self, cells: &'static PulseCells) -> Arc<Pulse> {
        let pulse = Arc::new(Pulse(cells));
        self.watch(|watched| watched.pulses.push(Arc::downgrade(&pulse)));
        pulse
    }

    /// Ticks for this engine as long as it lives.
    pub fn watch_engine(&self, engine: &Engine) {
        self.watch(|watched| watched.engines.push(engine.weak()));
    }

    /// Ends the ticker's thread.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn watch(&self, change: impl FnOnce(&mut Watched)) {
        change(&mut self.watched.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn wake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
        if let Some(thread) = &*self.thread.lock().unwrap_or_else(PoisonError::into_inner) {
            thread.unpark();
        }
    }

    /// Runs `poll`, a poll of guest code that begins `now`, with `pulse` showing it.
    pub(super) fn during<R>(&self, pulse: &Pulse, now: Instant, poll: impl FnOnce() -> R) -> R {
        pulse.begin(self.us_at(now));
        // Pairs with the fence in `fall_asleep`: either this thread sees `asleep`, or the ticker sees the pulse.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            self.wake();
        }
        let result = poll();
        pulse.end();
        result
    }

    fn run(&self) {
        let mut quiet_ticks = 0;
        let mut polls_before = 0;
        let mut last_tick: Option<Instant> = None;
        while !self.stopped.load(Ordering::SeqCst) {
            if quiet_ticks >= QUIET_TICKS {
                self.fall_asleep(polls_before);
                last_tick = None;
                quiet_ticks = 0;
            } else {
                std::thread::sleep(TICK);
            }
            wasmhost_base::inject::panic_at("ticker");
            let (polls, running) = self.look();
            if running || polls != polls_before {
                quiet_ticks = 0;
            } else {
                quiet_ticks += 1;
            }
            polls_before = polls;
            let now = Instant::now();
            let period = last_tick.replace(now).map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
            self.period_ns.store(u64::try_from(period.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.watch(|watched| {
                watched.engines.retain(|engine| match engine.upgrade() {
                    Some(engine) => {
                        engine.increment_epoch();
                        true
                    }
                    None => false,
                });
            });
        }
    }

    /// The sum of all polls of guests so far, and whether one runs.
    fn look(&self) -> (u64, bool) {
        let mut polls = 0_u64;
        let mut running = false;
        self.watch(|watched| {
            watched.pulses.retain(|pulse| match pulse.upgrade() {
                Some(pulse) => {
                    polls = polls.wrapping_add(pulse.polls.load(Ordering::Relaxed));
                    running |= pulse.running_since_us.load(Ordering::Relaxed) != 0;
                    true
                }
                None => false,
            });
        });
        (polls, running)
    }

    fn fall_asleep(&self, polls_before: u64) {
        self.asleep.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        let (polls, running) = self.look();
        let busy = running || polls != polls_before;
        while !busy && self.asleep.load(Ordering::SeqCst) && !self.stopped.load(Ordering::SeqCst) {
            std::thread::park();
        }
        self.asleep.store(false, Ordering::SeqCst);
    }
}
