//! The status page: one JSON object, for people and scripts. What it shows of the metrics stands in [`METRICS`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use wasmhost_confine::Report;
use wasmhost_serve::metrics::WorkerMetrics;

use super::figures::Figures;
use super::table::{METRICS, Source, Value};
use crate::board::{AppRow, Board};

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    phase: &'static str,
    ready: bool,
    /// Of the one app that the command line names.
    #[serde(flatten)]
    only: Option<Only>,
    #[serde(flatten)]
    metrics: OfHost<'a>,
    /// How far the process confined itself (`--confine`).
    confinement: &'a Report,
    workers: Vec<Worker<'a>>,
    apps: Vec<OfApp<'a>>,
}

#[derive(Serialize)]
struct Only {
    component: String,
    wasi: String,
    isolation: String,
}

#[derive(Serialize)]
struct Worker<'a> {
    worker: usize,
    /// The group whose apps it serves; none: it takes clients' connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    /// `listening`, `down` (its pools refuse requests) or `stopped`.
    state: &'static str,
    /// Its thread's number in the operating system; where it is a process, that one's.
    thread: u64,
    requests: u64,
    #[serde(flatten)]
    metrics: OfWorker<'a>,
}

impl<'a> Worker<'a> {
    fn of(worker: usize, group: Option<&'a str>, metrics: &'a WorkerMetrics, sums: &'a Figures) -> Self {
        let state = match (metrics.listening.get(), metrics.down.get()) {
            (true, false) => "listening",
            (true, true) => "down",
            (false, _) => "stopped",
        };
        let thread = metrics.thread.load(Relaxed);
        Self { worker, group, state, thread, requests: sums.requests(), metrics: OfWorker(metrics, sums) }
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
    /// None where no worker has had to do with it.
    #[serde(flatten)]
    counts: Option<CountsOfApp<'a>>,
}

impl<'a> OfApp<'a> {
    fn of(app: &'a AppRow, sums: Option<&'a Figures>) -> Self {
        let AppRow { name, group, component, state, wasi, isolation, error, .. } = app;
        Self {
            name,
            group: group.as_deref(),
            component,
            state,
            wasi,
            isolation,
            error: error.as_ref().map(|(error, _)| &**error),
            hint: error.as_ref().map(|(_, hint)| &**hint).filter(|hint| !hint.is_empty()),
            counts: sums.map(|sums| CountsOfApp { requests: sums.requests(), metrics: MetricsOfApp(app, sums) }),
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
struct OfHost<'a>(&'a Board);

/// The metrics of a worker that the page shows.
struct OfWorker<'a>(&'a WorkerMetrics, &'a Figures);

/// The metrics of an app that the page shows.
struct MetricsOfApp<'a>(&'a AppRow, &'a Figures);

/// What a metric has to show.
enum Shown {
    Number(Value),
    By(super::table::Counts),
}

/// Writes those metrics that have a field and something to show.
fn write<S: Serializer>(serializer: S, shown: impl Fn(&Source) -> Option<Shown>) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    for metric in METRICS {
        match metric.status.zip(shown(&metric.source)) {
            Some((field, Shown::Number(value))) => map.serialize_entry(field, &whole(value))?,
            Some((field, Shown::By(counts))) => {
                map.serialize_entry(field, &counts.into_iter().collect::<BTreeMap<_, _>>())?;
            }
            None => {}
        }
    }
    map.end()
}

impl Serialize for OfHost<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write(serializer, |source| match source {
            Source::Host(value) => Some(Shown::Number(value(self.0))),
            Source::HostBy(_, counts) => Some(Shown::By(counts(self.0))),
            _ => None,
        })
    }
}

impl Serialize for OfWorker<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(metrics, sums) = self;
        write(serializer, |source| match source {
            Source::Worker(value) => Some(Shown::Number(value(metrics))),
            Source::Sum(value) => Some(Shown::Number(value(sums))),
            Source::SumBy(_, counts) => Some(Shown::By(counts(sums))),
            _ => None,
        })
    }
}

impl Serialize for MetricsOfApp<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(app, sums) = self;
        write(serializer, |source| match source {
            Source::Sum(value) => Some(Shown::Number(value(sums))),
            Source::SumBy(_, counts) => Some(Shown::By(counts(sums))),
            Source::App(value) => Some(Shown::Number(value(app, sums))),
            Source::AppBy(_, counts) => Some(Shown::By(counts(app))),
            _ => None,
        })
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole seconds since the start")]
fn whole(value: Value) -> u64 {
    match value {
        Value::Count(count) | Value::Micros(count) => count,
        Value::Seconds(seconds) => seconds as u64,
    }
}

/// The page's text.
pub(super) fn render(board: &Board) -> String {
    wasmhost_base::inject::panic_at("status");
    let (rows, touched) = (board.apps(), board.touched());
    let (of_workers, of_apps) = Figures::of(board, &touched);
    let of_apps: HashMap<_, _> = touched.into_iter().zip(&of_apps).collect();
    let only = rows.values().next().filter(|_| board.is_single()).map(|app| Only {
        component: app.component.clone(),
        wasi: app.wasi.clone(),
        isolation: app.isolation.clone(),
    });
    let groups = board.groups.iter().map(Option::as_deref);
    let workers = board.workers.iter().zip(groups).zip(&of_workers).enumerate();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        phase: board.phase().name(),
        ready: board.is_ready(),
        only,
        metrics: OfHost(board),
        confinement: &board.confinement,
        workers: workers
            .map(|(index, ((vitals, group), sums))| Worker::of(index + 1, group, &vitals.metrics, sums))
            .collect(),
        apps: rows.iter().map(|(id, app)| OfApp::of(app, of_apps.get(id).copied())).collect(),
    };
    // Only strings, numbers and maps with string keys: it cannot fail.
    serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
}
