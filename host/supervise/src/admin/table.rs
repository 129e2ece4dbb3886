//! What `/metrics` and `/status` show. What is counted has its rows where it is counted ([`wasmhost_serve::metrics`]); rows of
//! what is not counted, but read off the state of the host, stand here. A test compares `docs/REFERENCE.md` with all of them.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use wasmhost_base::{cpu_clock, resident};
use wasmhost_config::{DatabaseLimits, StoreLimits};
use wasmhost_serve::metrics::{
    AcceptingFigures, AppFigures, HostFigures, Labelled, MetricKind, MetricRow, MetricValue, Shows, WorkerFigures,
    WorkerMetrics,
};
use wasmhost_serve::scoreboard::{Scoreboard, SharedByWorkers};
use wasmhost_storage::StoreUsage;

use crate::apps::book::AppState;
use crate::crashes::CrashCounts;
use crate::host_status::{AppRow, HostStatus};
use crate::schedules::ScheduleRow;
use crate::traces::TraceCounts;

use MetricKind::{Counter, Gauge};
use MetricValue::{Count, Micros, Seconds};
use Shows::{By, Number};

/// A row without what it is of.
const fn row<Of: 'static>(
    (kind, name, status): (MetricKind, &'static str, Option<&'static str>),
    help: &'static str,
    shows: Shows<Of>,
) -> MetricRow<Of> {
    MetricRow { name, status, help, kind, shows, is_of_apps: false }
}

/// Of each worker.
pub(super) const OF_WORKER: &[MetricRow<Scoreboard>] = &[
    row(
        (Gauge, "worker_up", None),
        "1 while the worker takes connections and its instances answer, else 0",
        Number(|worker| Count((worker.metrics.listening.get() && !worker.metrics.down.get()).into())),
    ),
    row(
        (Gauge, "worker_uptime_seconds", Some("uptime_seconds")),
        "Time since the worker's thread or process began; 0 while it takes no connections",
        Number(|worker| Seconds(uptime(&worker.metrics).as_secs_f64())),
    ),
    row(
        (Counter, "worker_cpu_seconds", Some("cpu_us")),
        "CPU time of the worker's threads, one after the other; where it is a process, of all in it",
        Number(|worker| Micros(cpu_us(&worker.metrics))),
    ),
    row(
        (Gauge, "worker_memory_bytes", Some("memory_bytes")),
        "Memory of the worker's instances; where it is a process, also what its heap holds for them",
        Number(|worker| Count(worker.memory.get())),
    ),
    row(
        (Gauge, "worker_memory_peak_bytes", Some("memory_peak_bytes")),
        "The most memory of the worker's instances since the start of the host",
        Number(|worker| Count(worker.memory.peak())),
    ),
    row(
        (Gauge, "worker_resident_bytes", Some("resident_bytes")),
        "Memory of the worker's process in RAM, with what processes share, at its last sign of life; 0 where it is a thread",
        Number(|worker| Count(worker.metrics.resident_bytes.load(Relaxed))),
    ),
];

fn uptime(worker: &WorkerMetrics) -> Duration {
    let began_us = worker.began_us.load(Relaxed);
    let since = cpu_clock::now_us().saturating_sub(began_us);
    Duration::from_micros(if worker.listening.get() { since } else { 0 })
}

/// Reads the clock of the thread or process that runs. (One that has ended takes with it what it used since the last reading.)
fn cpu_us(worker: &WorkerMetrics) -> u64 {
    let last = worker.cpu_read_us.load(Relaxed);
    let now = if worker.listening.get() { cpu_clock::cpu_time(worker.thread.load(Relaxed)) } else { None };
    let now = now.map_or(last, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    if now < last {
        worker.cpu_before_us.fetch_add(last, Relaxed);
    }
    worker.cpu_read_us.store(now, Relaxed);
    worker.cpu_before_us.load(Relaxed).saturating_add(now)
}

/// Of each app, what its workers share.
pub(super) const OF_SHARED: &[MetricRow<SharedByWorkers>] = &[row(
    (Gauge, "memory_peak_bytes", Some("memory_peak_bytes")),
    "The most memory of the app's instances on all workers at once, since the start of the host",
    Number(|shared| Count(shared.memory.peak())),
)];

/// Of each app.
pub(super) const OF_APP: &[MetricRow<AppRow>] = &[
    row(
        (Gauge, "uptime_seconds", Some("uptime_seconds")),
        "Time since the app came to its state and revision",
        Number(|app| Seconds(app.since.map_or(0.0, |since| since.elapsed().as_secs_f64()))),
    ),
    row((Counter, "loads", Some("loads")), "Loads of the app that worked", Number(|app| Count(app.loads))),
    row(
        (Gauge, "revision", Some("revision")),
        "Number of the revision of the app that is served: that of the load that made it",
        Number(|app| Count(app.revision)),
    ),
    row(
        (Counter, "failed_loads", Some("failed_loads")),
        "Loads of the app that failed",
        Number(|app| Count(app.failed_loads)),
    ),
    row(
        (Gauge, "state", None),
        "1 for the state that the app is in, else 0",
        By("state", |app| {
            AppState::ALL.into_iter().map(|state| (state.name().into(), u64::from(state.name() == app.state))).collect()
        }),
    ),
    row(
        (Counter, "schedule_runs", None),
        "Runs of schedules that have ended",
        By("schedule", |app| by_schedule(app, |row| row.runs)),
    ),
    row(
        (Counter, "schedule_faults", None),
        "Runs of schedules that ended with a fault of the guest",
        By("schedule", |app| by_schedule(app, |row| row.faults)),
    ),
    row(
        (Counter, "schedule_failures", None),
        "Runs of schedules that the guest answered with a status of 400 or above, or that the host could not make",
        By("schedule", |app| by_schedule(app, |row| row.failures)),
    ),
    row(
        (Counter, "schedule_times_left_out", None),
        "Times of schedules that were left out: a run before had not ended, or they were missed",
        By("schedule", |app| by_schedule(app, |row| row.left_out)),
    ),
    row(
        (Gauge, "schedule_running", None),
        "Runs of schedules under way",
        By("schedule", |app| by_schedule(app, |row| u64::try_from(row.running).unwrap_or(u64::MAX))),
    ),
];

fn by_schedule(app: &AppRow, of: fn(&ScheduleRow) -> u64) -> Labelled {
    app.schedules.iter().map(|row| (row.schedule.name.clone().into(), of(row))).collect()
}

/// Of the host.
pub(super) const OF_HOST: &[MetricRow<HostStatus>] = &[
    row((Gauge, "apps", None), "Apps, by state", By("state", apps_by_state)),
    row(
        (Counter, "log_lines_lost", Some("log_lines_lost")),
        "Lines of the log that were lost, because they came faster than standard error was read, or could not be written",
        Number(|host_status| Count(host_status.log_lines_lost())),
    ),
    row(
        (Counter, "crash_bundles", Some("crash_bundles")),
        "Faults for which a crash bundle (--crash-dir) was written, or why it was not: there was one of the same fault a minute before (same), there were many of late (many), others wait for the disk (waiting), or it could not be written (failed)",
        By("outcome", crash_bundles),
    ),
    row(
        (Counter, "spans_exported", Some("spans_exported")),
        "Spans of traces that the collector has (--otlp)",
        Number(|host_status| Count(of_traces(host_status, |counts| &counts.exported))),
    ),
    row(
        (Counter, "spans_dropped", Some("spans_dropped")),
        "Spans of traces that the collector does not have: too many waited for it (queue), it could not be reached or had no room until too many waited (collector), it refused them (refused), or their request had too many (request)",
        By("reason", spans_dropped),
    ),
    row(
        (Counter, "span_exports_failed", Some("span_exports_failed")),
        "Attempts to send spans to the collector that failed",
        Number(|host_status| Count(of_traces(host_status, |counts| &counts.failed_exports))),
    ),
    row(
        (Gauge, "instance_memory_bytes", Some("instance_memory_bytes")),
        "Memory of all instances, and what the host holds for them",
        Number(|host_status| Count(host_status.scoreboard.memory.get())),
    ),
    row(
        (Gauge, "instance_memory_peak_bytes", Some("instance_memory_peak_bytes")),
        "The most memory of all instances, and what the host held for them, since the start",
        Number(|host_status| Count(host_status.scoreboard.memory.peak())),
    ),
    row(
        (Gauge, "instance_memory_max_bytes", Some("instance_memory_max_bytes")),
        "Bound on the memory of all instances (--memory-total)",
        Number(|host_status| Count(host_status.config.limits.memory_total_bytes)),
    ),
    row(
        (Gauge, "resident_bytes", Some("resident_bytes")),
        "Memory of the host's first process in RAM; with workers that are threads, theirs too",
        Number(|_| Count(resident::bytes())),
    ),
    row(
        (Gauge, "uptime_seconds", Some("uptime_seconds")),
        "Time since the start",
        Number(|host_status| Seconds(host_status.started.elapsed().as_secs_f64())),
    ),
    row(
        (Gauge, "tls_certificate_days_left", Some("tls_certificate_days_left")),
        "Whole days until a certificate of TLS ends, by its file",
        By("certificate", days_left),
    ),
    row(
        (Gauge, "store_keys", Some("store_keys")),
        "Keys of each store (--store)",
        By("store", |host_status| of_stores(host_status, |usage, _| usage.keys)),
    ),
    row(
        (Gauge, "store_bytes", Some("store_bytes")),
        "Bytes of all keys and values of each store",
        By("store", |host_status| of_stores(host_status, |usage, _| usage.bytes)),
    ),
    row(
        (Gauge, "store_keys_max", Some("store_keys_max")),
        "Keys that each store may have",
        By("store", |host_status| of_stores(host_status, |_, limits| limits.keys_max)),
    ),
    row(
        (Gauge, "store_bytes_max", Some("store_bytes_max")),
        "Bytes that the keys and values of each store may have",
        By("store", |host_status| of_stores(host_status, |_, limits| limits.bytes_max)),
    ),
    row(
        (Gauge, "database_bytes", Some("database_bytes")),
        "Bytes on the disk of each database (--sqlite), with its log",
        By("database", |host_status| of_databases(host_status, |bytes, _| bytes)),
    ),
    row(
        (Gauge, "database_bytes_max", Some("database_bytes_max")),
        "Bytes that each database may have, without its log",
        By("database", |host_status| of_databases(host_status, |_, limits| limits.bytes_max)),
    ),
];

fn of_traces(host_status: &HostStatus, count: fn(&TraceCounts) -> &AtomicU64) -> u64 {
    host_status.traces().map_or(0, |traces| count(&traces.counts).load(Relaxed))
}

fn spans_dropped(host_status: &HostStatus) -> Labelled {
    let counts = [
        ("queue", host_status.spans_lost()),
        ("collector", of_traces(host_status, |counts| &counts.given_up)),
        ("refused", of_traces(host_status, |counts| &counts.refused)),
        ("request", of_traces(host_status, |counts| &counts.left_out)),
    ];
    counts.into_iter().map(|(reason, count)| (Cow::Borrowed(reason), count)).collect()
}

fn crash_bundles(host_status: &HostStatus) -> Labelled {
    let counts = host_status.crashes().map_or_else(|| CrashCounts::default().each(), CrashCounts::each);
    counts.into_iter().map(|(outcome, count)| (Cow::Borrowed(outcome), count)).collect()
}

fn of_stores(host_status: &HostStatus, figure: fn(StoreUsage, StoreLimits) -> u64) -> Labelled {
    let figures = host_status.stores().map(|stores| stores.each(figure)).unwrap_or_default();
    figures.into_iter().map(|(store, figure)| (Cow::Owned(store), figure)).collect()
}

fn of_databases(host_status: &HostStatus, figure: fn(u64, DatabaseLimits) -> u64) -> Labelled {
    let figures = host_status.databases().map(|databases| databases.each(figure)).unwrap_or_default();
    figures.into_iter().map(|(database, figure)| (Cow::Owned(database), figure)).collect()
}

fn days_left(host_status: &HostStatus) -> Labelled {
    let now = SystemTime::now();
    let certificates = host_status.certificates().into_iter().filter(|facts| !facts.is_placeholder);
    certificates.map(|facts| (Cow::Owned(facts.file.clone()), facts.days_left(now).max(0).unsigned_abs())).collect()
}

fn apps_by_state(host_status: &HostStatus) -> Labelled {
    let apps = host_status.apps();
    let count = |state: AppState| apps.values().filter(|app| app.state == state.name()).count();
    AppState::ALL
        .into_iter()
        .map(|state| (state.name().into(), u64::try_from(count(state)).unwrap_or(u64::MAX)))
        .collect()
}

/// Series of one name, as `/metrics` shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Without the prefix and the ending.
    pub name: String,
    /// The names of the labels.
    pub labels: Vec<&'static str>,
    /// How the metric behaves.
    pub kind: MetricKind,
    /// What it means.
    pub help: &'static str,
    /// Its field on `/status`, where it has one: of each worker and of each app, or of the host where it has neither label.
    pub status: Option<&'static str>,
}

impl Family {
    /// Of a metric of the host, of each app or of each worker. What is of each app has a name of its own, so that no sum has a
    /// request twice.
    pub(super) fn of<Of: 'static>(row: &MetricRow<Of>, each: Option<&'static str>) -> Self {
        let prefix = if each == Some("app") { "app_" } else { "" };
        let by = if let By(label, _) = row.shows { Some(label) } else { None };
        Self {
            name: format!("{prefix}{}", row.name),
            labels: each.into_iter().chain(by).collect(),
            kind: row.kind,
            help: row.help,
            status: row.status,
        }
    }

    /// The full name on `/metrics`.
    pub fn full_name(&self) -> String {
        let ending = if self.kind == Counter { "_total" } else { "" };
        format!("wasmhost_{}{ending}", self.name)
    }
}

/// Every family of `/metrics`.
pub fn families() -> Vec<Family> {
    fn all<Of: 'static>(rows: &[MetricRow<Of>], each: Option<&'static str>) -> impl Iterator<Item = Family> {
        rows.iter().map(move |row| Family::of(row, each))
    }
    let of_both = AppFigures::ROWS.iter().filter(|row| !row.is_of_apps).map(|row| Family::of(row, Some("worker")));
    of_both
        .chain(all(AppFigures::ROWS, Some("app")))
        .chain(all(WorkerFigures::ROWS, Some("worker")))
        .chain(all(OF_WORKER, Some("worker")))
        .chain(all(OF_APP, Some("app")))
        .chain(all(OF_SHARED, Some("app")))
        .chain(all(AcceptingFigures::ROWS, None))
        .chain(all(HostFigures::ROWS, None))
        .chain(all(OF_HOST, None))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_occurs_twice() {
        let families = families();
        let fields = |each: Option<&'static str>| {
            let of_each = move |family: &&Family| {
                family.labels.first().filter(|label| ["worker", "app"].contains(*label)).copied() == each
            };
            families.iter().filter(of_each).filter_map(|family| family.status)
        };
        for mut names in [
            families.iter().map(|family| &*family.name).collect::<Vec<&str>>(),
            fields(Some("worker")).collect(),
            fields(Some("app")).collect(),
            fields(None).collect(),
        ] {
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{names:?}");
        }
    }

    #[test]
    fn the_cpu_time_of_a_worker_goes_on_over_its_threads() {
        let worker = WorkerMetrics::default();
        let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
        worker.thread.store(own.into(), Relaxed);
        assert_eq!((cpu_us(&worker), uptime(&worker)), (0, Duration::ZERO), "it does not run yet");
        worker.listening.set(true);
        worker.began_us.store(cpu_clock::now_us().saturating_sub(7_000_000), Relaxed);
        assert_eq!(uptime(&worker).as_secs(), 7);
        // A thread before had used more than this one has.
        let before = 3_600_000_000_000;
        worker.cpu_read_us.store(before, Relaxed);
        let first = cpu_us(&worker);
        while cpu_us(&worker) < first + 1_000 {}
        let last = cpu_us(&worker);
        assert!(first >= before && (last - before) < before, "{first} {last}");
        worker.listening.set(false);
        assert_eq!(cpu_us(&worker), last);
    }

    #[test]
    fn metrics_are_named_as_prometheus_asks_for() {
        let families = families();
        assert!(families.len() > 30, "{families:?}");
        for family in families {
            let is_plain =
                family.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
            assert!(is_plain && !family.name.ends_with("_total"), "{}", family.name);
            let help = family.help;
            assert!(!help.is_empty() && help.trim() == help && !help.ends_with('.'), "{}: {help:?}", family.name);
        }
    }
}
