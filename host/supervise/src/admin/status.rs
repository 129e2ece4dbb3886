//! The status page: one JSON object, for people and scripts. What it shows of the metrics stands in [`METRICS`].

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use wasmhost_confine::Report;
use wasmhost_serve::metrics::WorkerMetrics;

use super::table::{METRICS, Source, Value};
use crate::board::Board;

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    phase: &'static str,
    ready: bool,
    component: String,
    wasi: String,
    isolation: String,
    #[serde(flatten)]
    metrics: OfHost<'a>,
    /// How far the process confined itself (`--confine`).
    confinement: &'a Report,
    workers: Vec<Worker<'a>>,
}

#[derive(Serialize)]
struct Worker<'a> {
    worker: usize,
    /// `listening`, `down` (its slot refuses requests) or `stopped`.
    state: &'static str,
    /// Its thread's number in the operating system; where it is a process, that one's.
    thread: u64,
    requests: u64,
    #[serde(flatten)]
    metrics: OfWorker<'a>,
}

impl<'a> Worker<'a> {
    fn of(worker: usize, metrics: &'a WorkerMetrics) -> Self {
        let state = match (metrics.listening.get(), metrics.down.get()) {
            (true, false) => "listening",
            (true, true) => "down",
            (false, _) => "stopped",
        };
        let thread = metrics.thread.load(Relaxed);
        Self { worker, state, thread, requests: metrics.requests(), metrics: OfWorker(metrics) }
    }
}

/// The metrics of the host that the page shows.
struct OfHost<'a>(&'a Board);

impl Serialize for OfHost<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for metric in METRICS {
            match (metric.status, &metric.source) {
                (Some(field), Source::Host(value)) => map.serialize_entry(field, &whole(value(self.0)))?,
                (Some(field), Source::HostBy(_, counts)) => {
                    map.serialize_entry(field, &counts(self.0).into_iter().collect::<BTreeMap<_, _>>())?;
                }
                _ => {}
            }
        }
        map.end()
    }
}

/// The metrics of a worker that the page shows.
struct OfWorker<'a>(&'a WorkerMetrics);

impl Serialize for OfWorker<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for metric in METRICS {
            match (metric.status, &metric.source) {
                (Some(field), Source::Worker(value)) => map.serialize_entry(field, &whole(value(self.0)))?,
                (Some(field), Source::WorkerBy(_, counts)) => {
                    map.serialize_entry(field, &counts(self.0).into_iter().collect::<BTreeMap<_, _>>())?;
                }
                _ => {}
            }
        }
        map.end()
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
    let (phase, isolation, wasi) = board.state();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        phase: phase.name(),
        ready: board.is_ready(),
        component: board.config.component.display().to_string(),
        wasi,
        isolation,
        metrics: OfHost(board),
        confinement: &board.confinement,
        workers: board.workers.iter().enumerate().map(|(index, metrics)| Worker::of(index + 1, metrics)).collect(),
    };
    // Only strings, numbers and maps with string keys: it cannot fail.
    serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
}
