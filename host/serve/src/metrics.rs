//! What is counted: a row for each metric, in the table of whoever counts it. Each worker writes its own [`WorkerMetrics`], on
//! cache lines that no other worker writes; the admin page and the balancer read them. What the admin page shows besides
//! (states, and what is not counted) stands in `wasmhost_supervise::admin::table`.

#[macro_use]
mod table;
mod by_revision;
mod cells;
mod reasons;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use wasmhost_base::resident;
use wasmhost_sandbox::{ConnectionUse, DatabaseFailure, FaultKind, SharedBound, StoreCall, StoreFailure};

use self::by_revision::RevisionCells;
pub use self::by_revision::{ByRevision, RevisionTally, RevisionsSum};
pub use self::cells::{Count, Durations, DurationsSum, Flag, LATENCY_BOUNDS, Level, Summed};
pub use self::reasons::{
    ACCEPT_ERRORS, ACME_OUTCOMES, AdminRefusal, HandshakeFailure, ROLLBACK_CAUSES, Refused, RetiredFor, Shed,
};
pub use self::table::{Labelled, MetricKind, MetricRow, MetricValue, Shows};

/// Names of the classes of status, by the first digit (0: others).
const CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

counters! {
    /// Counts of one app on one worker, or of a worker's requests that belong to no app.
    #[repr(align(64))]
    AppMetrics, AppFigures {
        /// Memory of the app's instances
        memory_bytes: AtomicU64 => Gauge "memory_bytes", "memory_bytes", [count] of apps;
        /// Workers on which the app is down after faults in a row
        down: Flag => Gauge "down", "down", [count] of apps;
        /// Responses, by class of status
        responses: [Count; 6] => Counter "responses", "responses", [by "class": CLASSES];
        /// Time from a request's headers to the end of its response
        latency: Durations => Histogram "request_duration_seconds", "latency_us", [durations];
        /// Requests being served
        in_flight: Level => Gauge "requests_in_flight", "in_flight", [count];
        /// Requests that wait for an instance
        waiting: Level => Gauge "requests_waiting", "waiting", [count];
        /// Requests whose client left before the whole response
        client_left: Count => Counter "clients_left", "client_left", [count];
        /// Requests that waited for an instance
        queued: Count => Counter "requests_queued", "queued", [count];
        /// Faults of guests, by kind
        faults: [Count; FaultKind::ALL.len()] => Counter "faults", "faults", [by "fault": FaultKind::ALL.map(FaultKind::name)];
        /// Requests refused for want of capacity, by reason
        sheds: [Count; Shed::ALL.len()] => Counter "sheds", "sheds", [by "reason": Shed::ALL.map(Shed::name)];
        /// Requests refused for what their client did, by reason
        refusals: [Count; Refused::ALL.len()] => Counter "refusals", "refusals", [by "reason": Refused::ALL.map(Refused::name)];
        /// Times that an app had its part of what the apps of a worker share, and got no more of it, by what that is
        shortages: [AtomicU64; SharedBound::ALL.len()] => Counter "shortages", "shortages", [by "bound": SharedBound::ALL.map(SharedBound::name)];
        /// Outgoing requests that got a connection: a new one, or one that another request had left open
        outgoing: [AtomicU64; ConnectionUse::ALL.len()] => Counter "outgoing_requests", "outgoing_requests", [by "connection": ConnectionUse::ALL.map(ConnectionUse::name)];
        /// Requests that other apps of the host made (services)
        service_requests: Count => Counter "service_requests", "service_requests", [count];
        /// Calls of stores of keys and values
        store_calls: [AtomicU64; StoreCall::ALL.len()] => Counter "store_calls", "store_calls", [by "call": StoreCall::ALL.map(StoreCall::name)];
        /// Calls of stores, and openings, that failed, by reason
        store_failures: [AtomicU64; StoreFailure::ALL.len()] => Counter "store_failures", "store_failures", [by "reason": StoreFailure::ALL.map(StoreFailure::name)];
        /// Time that calls waited for stores
        store_wait_us: AtomicU64 => Counter "store_wait_seconds", "store_wait_us", [micros];
        /// Statements of databases (--sqlite)
        database_statements: AtomicU64 => Counter "database_statements", "database_statements", [count];
        /// Statements of databases, and openings, that failed, by reason
        database_failures: [AtomicU64; DatabaseFailure::ALL.len()] => Counter "database_failures", "database_failures", [by "reason": DatabaseFailure::ALL.map(DatabaseFailure::name)];
        /// Time that statements waited for databases
        database_wait_us: AtomicU64 => Counter "database_wait_seconds", "database_wait_us", [micros];
        /// CPU time of statements of databases
        database_cpu_us: AtomicU64 => Counter "database_cpu_seconds", "database_cpu_us", [micros];
        /// Instances made
        generation: Count => Counter "generations", "generation", [count];
        /// Instances that live
        instances: Level => Gauge "instances", "instances", [count];
        /// CPU time in guests
        guest_cpu_us: Count => Counter "guest_cpu_seconds", "guest_cpu_us", [micros];
        /// CPU time for compressing answers (--compress)
        compression_cpu_us: Count => Counter "compression_cpu_seconds", "compression_cpu_us", [micros];
        /// Requests that a revision of the app has answered, or kept waiting until they were refused; of its last four revisions; `older`: of all before
        revision_requests: ByRevision => Counter "revision_requests", "revision_requests", [by_revision] of apps;
        /// Those of them that failed: with a status from 500 on, or broken off
        revision_failures: ByRevision => Counter "revision_failures", "revision_failures", [by_revision] of apps;
        /// Faults of guests, by the revision of the app
        revision_faults: ByRevision => Counter "revision_faults", "revision_faults", [by_revision] of apps;
    }
    beside {
        /// Which of the last requests failed, by revision.
        revision_recent: ByRevision;
    }
}

counters! {
    /// Counts of one worker.
    #[repr(align(128))]
    WorkerMetrics, WorkerFigures {
        /// Connections taken
        connections: Count => Counter "connections", "connections", [count];
        /// Connections that speak HTTP/2
        http2_connections: Count => Counter "http2_connections", "http2_connections", [count];
        /// Connections given to another worker although it was this one's turn: it was late, full, down or not running
        passed_over: AtomicU64 => Counter "passed_over", "passed_over", [count];
        /// Connections open or waiting in the worker's inbox
        open_connections: AtomicUsize => Gauge "open_connections", "open_connections", [count];
        /// TLS handshakes that succeeded
        handshakes: Count => Counter "tls_handshakes", "tls_handshakes", [count];
        /// TLS handshakes that resumed an earlier session
        resumptions: Count => Counter "tls_resumptions", "tls_resumptions", [count];
        /// Connections that ended before their first request (TLS handshakes, PROXY headers), by reason
        handshake_failures: [Count; HandshakeFailure::ALL.len()] => Counter "handshake_failures", "handshake_failures", [by "reason": HandshakeFailure::ALL.map(HandshakeFailure::name)];
        /// Threads or processes that the worker has had
        respawns: AtomicU64 => Counter "worker_starts", "thread_generation", [count];
    }
    beside {
        /// Lines of the log that were lost, where the worker is a process.
        log_lines_lost: AtomicU64;
        /// Bytes of RAM that the worker's process takes, as it saw last; 0 where it is a thread.
        resident_bytes: AtomicU64;
        /// Spans of traces that were lost on their way, since too many waited.
        spans_lost: AtomicU64;
        /// Requests that belong to no app: that no route matches, or that could not be read.
        unrouted: AppMetrics;
        /// What became of connections from a listener of the worker's own.
        accepting: Accepting;
        /// The primary (of another process) waits for a connection to end; whoever ends one tells it.
        wants_freed: Flag;
        /// Whether the pools of all apps that it serves are down.
        down: Flag;
        /// The thread's number in the operating system, 0 before it runs.
        thread: AtomicU64;
        /// When it began to run, in microseconds of the clock that all processes share (`CLOCK_MONOTONIC`).
        began_us: AtomicU64;
        /// The CPU time that it had used when that was read last, in microseconds. Written by whoever shows it.
        cpu_read_us: AtomicU64;
        /// CPU time of threads or processes that the worker had before. Written by whoever shows it.
        cpu_before_us: AtomicU64;
        /// Whether a thread runs and takes connections.
        listening: Flag;
    }
}

counters! {
    /// What became of connections that were not taken. Written by whoever accepts.
    Accepting, AcceptingFigures {
        /// Errors of accepting connections
        errors: [Count; ACCEPT_ERRORS.len()] => Counter "accept_errors", -, [by "error": ACCEPT_ERRORS];
        /// Connections closed at once, whose client had as many as it may (--max-connections-per-client)
        refused: Count => Counter "refused_connections", "refused_connections", [count];
    }
    beside {}
}

counters! {
    /// What the host as a whole counts.
    HostMetrics, HostFigures {
        /// Reloads that took effect
        reloads: AtomicU64 => Counter "reloads", "reloads", [count];
        /// Reloads that failed, in whole or in part
        failed_reloads: AtomicU64 => Counter "failed_reloads", "failed_reloads", [count];
        /// Times that the host went back from a revision of an app, by why
        rollbacks: [AtomicU64; ROLLBACK_CAUSES.len()] => Counter "rollbacks", "rollbacks", [by "cause": ROLLBACK_CAUSES];
        /// Certificates that were ordered by ACME, by what came of it
        acme_orders: [AtomicU64; ACME_OUTCOMES.len()] => Counter "acme_orders", "acme_orders", [by "outcome": ACME_OUTCOMES];
        /// Times that the process of the databases ended, and was started again
        database_process_deaths: AtomicU64 => Counter "database_process_deaths", "database_process_deaths", [count];
        /// Workers that were replaced because they had reached a limit (--worker-max-age and the like)
        retired_workers: [AtomicU64; RetiredFor::ALL.len()] => Counter "retired_workers", "retired_workers", [by "reason": RetiredFor::ALL.map(RetiredFor::name)];
        /// Requests to the admin address that were refused, by reason
        admin_refusals: [AtomicU64; AdminRefusal::ALL.len()] => Counter "admin_refusals", "admin_refusals", [by "reason": AdminRefusal::ALL.map(AdminRefusal::name)];
    }
    beside {
        /// What became of connections, where the primary accepts.
        accepting: Accepting;
    }
}

impl AppMetrics {
    /// Takes note of a response's end.
    pub fn answered(&self, status: u16, elapsed: Duration, cpu: Duration) {
        let class = usize::from(status / 100);
        self.responses[if class < self.responses.len() { class } else { 0 }].add_one();
        self.latency.record(elapsed);
        self.guest_cpu_us.add(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes note of a fault.
    pub fn faulted(&self, kind: FaultKind) {
        self.faults[kind.index()].add_one();
    }

    /// How revisions of the app have fared.
    pub(crate) fn revisions(&self) -> RevisionCells<'_> {
        RevisionCells {
            requests: &self.revision_requests,
            failures: &self.revision_failures,
            faults: &self.revision_faults,
            recent: &self.revision_recent,
        }
    }

    /// How a revision of the app has fared.
    pub fn tally(&self, revision: u64) -> RevisionTally {
        self.revisions().tally(revision)
    }

    /// The faults that were counted, by kind.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        let kinds = FaultKind::ALL.into_iter().zip(&self.faults);
        kinds.map(|(kind, count)| (kind, count.get())).filter(|(_, count)| *count > 0)
    }

    /// Takes note of a refusal.
    pub fn shed(&self, reason: Shed) {
        self.sheds[reason.index()].add_one();
    }

    /// Takes note of a refusal for what the client did.
    pub fn refused(&self, reason: Refused) {
        self.refusals[reason.index()].add_one();
    }
}

impl WorkerMetrics {
    /// Shows how much RAM this process takes: it is the worker's own.
    pub fn show_resident(&self) {
        self.resident_bytes.store(resident::bytes(), Relaxed);
    }

    /// The same, where it is the worker's own.
    pub(crate) fn note_resident(&self) {
        if self.resident_bytes.load(Relaxed) > 0 {
            self.show_resident();
        }
    }

    /// Takes note of a handshake that failed.
    pub fn handshake_failed(&self, reason: HandshakeFailure) {
        self.handshake_failures[reason.index()].add_one();
    }
}

impl HostMetrics {
    /// Takes note of a request to the admin address that was refused.
    pub fn admin_refused(&self, reason: AdminRefusal) {
        self.admin_refusals[reason.index()].fetch_add(1, Relaxed);
    }
}

impl AppFigures {
    /// All requests answered.
    pub fn requests(&self) -> u64 {
        self.responses.iter().sum()
    }
}

impl Accepting {
    /// Takes note of an error, by its name in [`ACCEPT_ERRORS`].
    pub fn failed(&self, name: &str) {
        let index = ACCEPT_ERRORS.iter().position(|known| *known == name).unwrap_or(ACCEPT_ERRORS.len() - 1);
        self.errors[index].add_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_counted_by_class_and_bucket() {
        let metrics = AppMetrics::default();
        metrics.answered(204, Duration::from_micros(90), Duration::from_micros(10));
        metrics.answered(504, Duration::from_secs(31), Duration::ZERO);
        let mut figures = AppFigures::default();
        figures.add(&metrics);
        assert_eq!((figures.responses[2], figures.responses[5], figures.requests()), (1, 1, 2));
        let DurationsSum { buckets, sum_us } = figures.latency;
        assert_eq!((buckets[0], buckets[LATENCY_BOUNDS.len()], sum_us), (1, 1, 31_000_090));
        assert_eq!(figures.guest_cpu_us, 10);
    }

    #[test]
    fn a_row_shows_the_sum_of_what_its_cells_have_counted() {
        let (one, other) = (AppMetrics::default(), AppMetrics::default());
        one.queued.add(2);
        other.queued.add(3);
        one.in_flight.change(1);
        other.down.set(true);
        other.shed(Shed::Memory);
        let mut figures = AppFigures::default();
        figures.add(&one);
        figures.add(&other);
        let shown = |name: &str| {
            let row = AppFigures::ROWS.iter().find(|row| row.name == name);
            row.map(|row| match row.shows {
                Shows::Number(of) => format!("{:?}", of(&figures)),
                Shows::By(label, of) => {
                    let counted: Vec<_> = of(&figures).into_iter().filter(|(_, count)| *count > 0).collect();
                    format!("{label} {counted:?}")
                }
                Shows::Durations(of) => format!("{:?}", of(&figures).sum_us),
            })
        };
        for (name, expected) in [
            ("requests_queued", "Count(5)"),
            ("requests_in_flight", "Count(1)"),
            ("down", "Count(1)"),
            ("guest_cpu_seconds", "Micros(0)"),
            ("sheds", "reason [(\"memory\", 1)]"),
            ("request_duration_seconds", "0"),
        ] {
            assert_eq!(shown(name).as_deref(), Some(expected), "{name}");
        }
        let helped = AppFigures::ROWS.iter().find(|row| row.name == "requests_queued");
        assert_eq!(
            helped.map(|row| (row.help, row.status)),
            Some(("Requests that waited for an instance", Some("queued")))
        );
    }

    #[test]
    fn an_error_of_accepting_that_has_no_name_is_another() {
        let accepting = Accepting::default();
        for name in ["EMFILE", "EPERM", "EMFILE"] {
            accepting.failed(name);
        }
        assert_eq!((accepting.errors[0].get(), accepting.errors[5].get()), (2, 1));
    }
}
