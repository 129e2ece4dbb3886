//! The counters of each worker and of the host. Each worker writes its own [`WorkerMetrics`], on cache lines that no other
//! worker writes; the admin page and the balancer read them.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use wasmhost_sandbox::{FaultKind, SharedBound};

/// A count that one thread writes: reading and storing in two steps is cheaper than an atomic addition.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// Changes it by `amount`.
    pub fn change(&self, amount: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: usize) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Yes or no. A number, so that whatever another process writes in its place is a value.
#[derive(Debug, Default)]
pub struct Flag(AtomicU8);

impl Flag {
    /// Sets it.
    pub fn set(&self, value: bool) {
        self.0.store(value.into(), Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Raises it, before anything that the thread reads from here on.
    pub fn raise(&self) {
        self.0.store(1, SeqCst);
    }

    /// Lowers it, after anything that the thread wrote so far (in that order for all); true when it was up.
    pub fn lower(&self) -> bool {
        self.0.load(SeqCst) != 0 && self.0.swap(0, SeqCst) != 0
    }
}

/// Why a request was refused for want of capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The queue had no place.
    QueueFull,
    /// No instance became free in time.
    QueueTimeout,
    /// The pool is down after faults in a row.
    Down,
    /// No memory for an instance.
    Memory,
    /// The app was not loaded in time.
    Loading,
    /// The app cannot be loaded.
    Unavailable,
}

impl Shed {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 6] =
        [Self::QueueFull, Self::QueueTimeout, Self::Down, Self::Memory, Self::Loading, Self::Unavailable];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The flag that raises the bound that was reached, if one does.
    pub const fn flag(self) -> Option<&'static str> {
        match self {
            Self::QueueFull => Some("--queue-max"),
            Self::QueueTimeout | Self::Loading => Some("--queue-timeout"),
            Self::Memory => Some("--memory-total"),
            Self::Down | Self::Unavailable => None,
        }
    }

    /// The name in log fields and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::QueueTimeout => "queue-timeout",
            Self::Down => "down",
            Self::Memory => "memory",
            Self::Loading => "loading",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a request was refused, or its connection closed, for what its client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The request breaks HTTP's rules, or can be read in more than one way.
    BadRequest,
    /// The head, or the request line, is too large.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body is too large.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The client sent a body, or read a response, too slowly after the response's headers were sent.
    SlowClient,
}

impl Refused {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::SlowClient,
    ];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HeadTooLarge => "head-too-large",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::SlowClient => "slow-client",
        }
    }
}

/// Upper bounds of the latency histogram's buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Counts of one app on one worker, or of a worker's requests that belong to no app.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct AppMetrics {
    /// Memories and tables of its instances, as counted in [`crate::vitals::HostVitals`].
    pub memory_bytes: AtomicU64,
    /// Whether its pool is down after faults in a row.
    pub down: Flag,
    /// Requests answered, by first digit of the status (index 0: others).
    pub responses: [Count; 6],
    /// Requests being served.
    pub in_flight: Level,
    /// Requests whose client left before the whole response.
    pub client_left: Count,
    /// Requests that waited for an instance.
    pub queued: Count,
    /// Faults, by [`FaultKind::index`].
    pub faults: [Count; FaultKind::ALL.len()],
    /// Refusals, by [`Shed::index`].
    pub sheds: [Count; Shed::ALL.len()],
    /// Requests refused for what their client did, by [`Refused::index`].
    pub refusals: [Count; Refused::ALL.len()],
    /// How often the app had its part of what the apps of a worker share, by [`SharedBound::index`].
    pub shortages: [AtomicU64; SharedBound::ALL.len()],
    /// Instances that were made.
    pub generation: Count,
    /// Instances that live.
    pub instances: Level,
    /// CPU time in guests, in microseconds.
    pub guest_cpu_us: Count,
    /// Time from a request's head to the end of its response: counts by bucket of [`LATENCY_BOUNDS`] (the last: above).
    pub latency: [Count; LATENCY_BOUNDS.len() + 1],
    /// Sum of those times, in microseconds.
    pub latency_sum_us: Count,
}

/// Counts of one worker.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct WorkerMetrics {
    /// Connections taken.
    pub connections: Count,
    /// Lines of the log that were lost, where the worker is a process.
    pub log_lines_lost: AtomicU64,
    /// Connections in the inbox or open. The listener adds, the worker subtracts.
    pub open_connections: AtomicUsize,
    /// Connections that another worker got, since this one was late, full or down when it was its turn. Written by the
    /// primary.
    pub passed_over: AtomicU64,
    /// Requests that belong to no app: that no route matches, or that could not be read.
    pub unrouted: AppMetrics,
    /// What became of connections from a listener of the worker's own.
    pub accepting: Accepting,
    /// The primary (of another process) waits for a connection to end; whoever ends one tells it.
    pub wants_freed: Flag,
    /// Whether the pools of all apps that it serves are down.
    pub down: Flag,
    /// The thread's number in the operating system, 0 before it runs.
    pub thread: AtomicU64,
    /// Threads that this worker has had.
    pub respawns: AtomicU64,
    /// Whether a thread runs and takes connections.
    pub listening: Flag,
}

impl AppMetrics {
    /// Takes note of a response's end.
    pub fn answered(&self, status: u16, elapsed: Duration, cpu: Duration) {
        let class = usize::from(status / 100);
        self.responses[if class < self.responses.len() { class } else { 0 }].add_one();
        let seconds = elapsed.as_secs_f64();
        let bucket = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.latency[bucket.unwrap_or(LATENCY_BOUNDS.len())].add_one();
        self.latency_sum_us.add(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX));
        self.guest_cpu_us.add(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes note of a fault.
    pub fn faulted(&self, kind: FaultKind) {
        self.faults[kind.index()].add_one();
    }

    /// Takes note of a refusal.
    pub fn shed(&self, reason: Shed) {
        self.sheds[reason.index()].add_one();
    }

    /// Takes note of a refusal for what the client did.
    pub fn refused(&self, reason: Refused) {
        self.refusals[reason.index()].add_one();
    }

    /// All requests answered.
    pub fn requests(&self) -> u64 {
        self.responses.iter().map(Count::get).sum()
    }
}

/// What became of connections that were not taken. Written by whoever accepts.
#[derive(Debug, Default)]
pub struct Accepting {
    /// Errors.
    pub errors: AcceptErrors,
    /// Connections closed at once: their client had as many as it may.
    pub refused: Count,
}

/// Errors of accepting connections, by name.
#[derive(Debug, Default)]
pub struct AcceptErrors([Count; ACCEPT_ERRORS.len()]);

/// Names of errors of accepting; the last stands for all others.
pub const ACCEPT_ERRORS: [&str; 6] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "other"];

impl AcceptErrors {
    /// Takes note of one, by its name in [`ACCEPT_ERRORS`].
    pub fn add(&self, name: &str) {
        let index = ACCEPT_ERRORS.iter().position(|known| *known == name).unwrap_or(ACCEPT_ERRORS.len() - 1);
        self.0[index].add_one();
    }

    /// How many there were, by name.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ACCEPT_ERRORS.into_iter().zip(self.0.iter().map(Count::get))
    }
}

/// What the host as a whole counts.
#[derive(Debug, Default)]
pub struct HostMetrics {
    /// What became of connections, where the primary accepts.
    pub accepting: Accepting,
    /// Reloads that took effect.
    pub reloads: AtomicU64,
    /// Reloads that failed and changed nothing.
    pub failed_reloads: AtomicU64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_counted_by_class_and_bucket() {
        let metrics = AppMetrics::default();
        metrics.answered(204, Duration::from_micros(90), Duration::from_micros(10));
        metrics.answered(504, Duration::from_secs(31), Duration::ZERO);
        assert_eq!(metrics.responses[2].get(), 1);
        assert_eq!(metrics.responses[5].get(), 1);
        assert_eq!(metrics.latency[0].get(), 1);
        assert_eq!(metrics.latency[LATENCY_BOUNDS.len()].get(), 1);
        assert_eq!(metrics.guest_cpu_us.get(), 10);
        assert_eq!(metrics.requests(), 2);
    }

    #[test]
    fn the_index_of_a_shed_or_refusal_is_its_position() {
        for (position, shed) in Shed::ALL.into_iter().enumerate() {
            assert_eq!(shed.index(), position);
        }
        for (position, refused) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(refused.index(), position);
        }
    }
}
