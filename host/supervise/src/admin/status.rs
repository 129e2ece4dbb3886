//! The status page: one JSON object, for people and scripts. Which metrics it shows stands in `table`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use wasmhost_base::log::{self, LogDestination};
use wasmhost_confine::Confinement;
use wasmhost_serve::metrics::{
    AcceptingFigures, AppFigures, DurationsSum, HostFigures, LATENCY_BOUNDS, MetricRow, MetricValue, Shows,
    WorkerFigures, WorkerMetrics,
};
use wasmhost_serve::scoreboard::{Scoreboard, SharedByWorkers};

use super::figures::Sums;
use super::table::{OF_APP, OF_HOST, OF_SHARED, OF_WORKER};
use crate::host_status::{AppRow, HostStatus, Presence, WorkerRow};
use crate::schedules::{LastRun, ScheduleRow};

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    /// The process that started the others.
    pid: u32,
    phase: &'static str,
    ready: bool,
    /// Of the one app that the command line names.
    #[serde(flatten)]
    only: Option<Only>,
    #[serde(flatten)]
    metrics: OfHost<'a>,
    /// How far the process confined itself (`--confine`).
    confinement: &'a Confinement,
    /// Where its log goes, as it was at the start.
    log: &'a LogDestination,
    /// The lowest level in it.
    log_level: &'static str,
    /// Where bundles about faults are left; left out where none are.
    #[serde(skip_serializing_if = "Option::is_none")]
    crash_dir: Option<String>,
    /// Addresses that a reload brought and that could not be had, and why; left out while there are none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    not_listening: BTreeMap<String, String>,
    workers: Vec<WorkerStatus<'a>>,
    apps: Vec<OfApp<'a>>,
}

#[derive(Serialize)]
struct Only {
    component: String,
    wasi: String,
    isolation: String,
}

#[derive(Serialize)]
struct WorkerStatus<'a> {
    worker: usize,
    /// The group whose apps it serves; none: it takes clients' connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    /// `listening`, `down` (its pools refuse requests), `stopped`, or `left` (the host was scaled down).
    state: &'static str,
    /// Its thread's number in the operating system; where it is a process, that one's.
    thread: u64,
    requests: u64,
    #[serde(flatten)]
    metrics: MetricsOfWorker<'a>,
}

impl<'a> WorkerStatus<'a> {
    fn of(
        (worker, presence): (usize, Presence),
        WorkerRow { scoreboard, group, .. }: &'a WorkerRow,
        (figures, of_requests): (&'a WorkerFigures, &'a AppFigures),
    ) -> Self {
        let (metrics, group) = (&scoreboard.metrics, group.as_deref());
        let state = state_of_worker(metrics, presence);
        let thread = metrics.thread.load(Relaxed);
        let requests = of_requests.requests();
        Self { worker, group, state, thread, requests, metrics: MetricsOfWorker(scoreboard, figures, of_requests) }
    }
}

/// How a worker is, in a word.
pub(super) fn state_of_worker(metrics: &WorkerMetrics, presence: Presence) -> &'static str {
    match (metrics.listening.get(), metrics.down.get()) {
        (true, false) => "listening",
        (true, true) => "down",
        (false, _) if presence == Presence::Left => "left",
        (false, _) => "stopped",
    }
}

#[derive(Serialize)]
struct OfApp<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    component: &'a str,
    state: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    wasi: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    isolation: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    /// What stands among all stores for those that it was granted, by its guest's names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    stores: &'a BTreeMap<String, String>,
    /// The same of databases.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    databases: &'a BTreeMap<String, String>,
    /// Workers that cannot serve it yet as it was loaded last.
    #[serde(skip_serializing_if = "<[u16]>::is_empty")]
    behind: &'a [u16],
    /// The revisions that can be served: `served`, `kept`, or `bad` where the host went back from one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    revisions: BTreeMap<u64, &'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    schedules: Vec<OfSchedule<'a>>,
    /// None where no worker has had to do with it.
    #[serde(flatten)]
    counts: Option<CountsOfApp<'a>>,
}

impl<'a> OfApp<'a> {
    fn of(app: &'a AppRow, figures: Option<(&'a AppFigures, &'a SharedByWorkers)>) -> Self {
        let AppRow {
            name,
            group,
            component,
            state,
            wasi,
            isolation,
            stores,
            databases,
            behind,
            error,
            revisions,
            schedules,
            ..
        } = app;
        Self {
            name,
            group: group.as_deref(),
            component,
            state,
            wasi,
            isolation,
            error: error.as_ref().map(|(error, _)| &**error),
            hint: error.as_ref().map(|(_, hint)| &**hint).filter(|hint| !hint.is_empty()),
            stores,
            databases,
            behind,
            revisions: revisions.iter().copied().collect(),
            schedules: schedules.iter().map(OfSchedule::of).collect(),
            counts: figures.map(|(figures, shared)| CountsOfApp {
                requests: figures.requests(),
                metrics: MetricsOfApp(app, figures, shared),
            }),
        }
    }
}

#[derive(Serialize)]
struct OfSchedule<'a> {
    name: &'a str,
    cron: &'a str,
    timezone: &'a str,
    path: &'a str,
    /// Milliseconds since 1970.
    next_ms: Option<u64>,
    running: usize,
    runs: u64,
    faults: u64,
    failures: u64,
    left_out: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<OfRun<'a>>,
}

#[derive(Serialize)]
struct OfRun<'a> {
    due_ms: u64,
    duration_ms: u64,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
}

impl<'a> OfSchedule<'a> {
    fn of(row: &'a ScheduleRow) -> Self {
        let ScheduleRow { schedule, next, running, runs, faults, failures, left_out, last } = row;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let since = |time: SystemTime| ms(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        Self {
            name: &schedule.name,
            cron: &schedule.cron,
            timezone: &schedule.timezone,
            path: &schedule.path,
            next_ms: next.map(since),
            running: *running,
            runs: *runs,
            faults: *faults,
            failures: *failures,
            left_out: *left_out,
            last: last.as_ref().map(|LastRun { due, took, end }| OfRun {
                due_ms: since(*due),
                duration_ms: ms(*took),
                outcome: end.outcome.name(),
                status: end.status,
                detail: end.detail.as_deref(),
            }),
        }
    }
}

#[derive(Serialize)]
struct CountsOfApp<'a> {
    requests: u64,
    #[serde(flatten)]
    metrics: MetricsOfApp<'a>,
}

/// The metrics of the host that the page shows.
struct OfHost<'a>(&'a HostStatus, &'a Sums);

/// The metrics of a worker that the page shows.
struct MetricsOfWorker<'a>(&'a Scoreboard, &'a WorkerFigures, &'a AppFigures);

/// The metrics of an app that the page shows.
struct MetricsOfApp<'a>(&'a AppRow, &'a AppFigures, &'a SharedByWorkers);

/// How often something took so long: by the upper bound of the time in microseconds. `inf`: longer. Empty where nothing was counted.
struct Buckets<'a>(&'a DurationsSum);

impl Serialize for Buckets<'_> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds are whole microseconds")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bounds = LATENCY_BOUNDS.into_iter().map(|seconds| ((seconds * 1e6).round() as u64).to_string());
        let counted = bounds.chain(["inf".to_owned()]).zip(self.0.buckets);
        let is_empty = self.0.buckets.iter().all(|count| *count == 0);
        serializer.collect_map(counted.filter(|_| !is_empty))
    }
}

/// Writes those metrics that have a field.
fn write<'r, M: SerializeMap, Of: 'static>(
    map: &mut M,
    rows: impl IntoIterator<Item = &'r MetricRow<Of>>,
    of: &Of,
) -> Result<(), M::Error> {
    for row in rows {
        match (row.status, &row.shows) {
            (Some(field), Shows::Number(value)) => map.serialize_entry(field, &whole(value(of)))?,
            (Some(field), Shows::By(_, counts)) => {
                map.serialize_entry(field, &counts(of).into_iter().collect::<BTreeMap<_, _>>())?;
            }
            (Some(field), Shows::Durations(sum)) => map.serialize_entry(field, &Buckets(sum(of)))?,
            (None, _) => {}
        }
    }
    Ok(())
}

impl Serialize for OfHost<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(host_status, sums) = self;
        let mut map = serializer.serialize_map(None)?;
        write(&mut map, AcceptingFigures::ROWS, &sums.accepting)?;
        write(&mut map, HostFigures::ROWS, &sums.host)?;
        write(&mut map, OF_HOST, *host_status)?;
        map.end()
    }
}

impl Serialize for MetricsOfWorker<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(scoreboard, worker, of_requests) = self;
        let mut map = serializer.serialize_map(None)?;
        write(&mut map, AppFigures::ROWS.iter().filter(|row| !row.is_of_apps), *of_requests)?;
        write(&mut map, WorkerFigures::ROWS, *worker)?;
        write(&mut map, OF_WORKER, *scoreboard)?;
        map.end()
    }
}

impl Serialize for MetricsOfApp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(app, figures, shared) = self;
        let mut map = serializer.serialize_map(None)?;
        write(&mut map, AppFigures::ROWS, *figures)?;
        write(&mut map, OF_APP, *app)?;
        write(&mut map, OF_SHARED, *shared)?;
        map.end()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds since the start")]
fn whole(value: MetricValue) -> u64 {
    match value {
        MetricValue::Count(count) | MetricValue::Micros(count) => count,
        MetricValue::Seconds(seconds) => seconds as u64,
    }
}

/// The page's text.
pub(super) fn render(host_status: &HostStatus) -> String {
    wasmhost_base::inject::panic_at("status");
    let (rows, touched) = (host_status.apps(), host_status.touched());
    let sums = Sums::of(host_status, &touched);
    let shared = &host_status.scoreboard.apps;
    let of_apps = touched.into_iter().zip(&sums.of_apps);
    let of_apps: HashMap<_, _> =
        of_apps.filter_map(|(id, figures)| Some((id, (figures, shared.get(id.index())?)))).collect();
    let only = rows.values().next().filter(|_| host_status.is_single()).map(|app| Only {
        component: app.component.clone(),
        wasi: app.wasi.clone(),
        isolation: app.isolation.clone(),
    });
    let figures = sums.workers.iter().zip(&sums.of_workers);
    let workers = sums.shown.iter().zip(sums.workers_of(host_status)).zip(figures);
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        phase: host_status.phase().name(),
        ready: host_status.is_ready(),
        only,
        metrics: OfHost(host_status, &sums),
        confinement: &host_status.confinement,
        log: &host_status.log,
        log_level: log::level_name(log::now().level),
        crash_dir: host_status.config.crashes.dir.as_ref().map(|dir| dir.display().to_string()),
        not_listening: host_status.not_listening().into_iter().collect(),
        workers: workers.map(|((shown, row), figures)| WorkerStatus::of(*shown, row, figures)).collect(),
        apps: rows.iter().map(|(id, app)| OfApp::of(app, of_apps.get(id).copied())).collect(),
    };
    // Only strings, numbers and maps with string keys: it cannot fail.
    serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
}
