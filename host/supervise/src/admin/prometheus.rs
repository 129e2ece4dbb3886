//! The metrics page, in the text format that Prometheus reads: [`METRICS`] with their values.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use wasmhost_serve::metrics::{LATENCY_BOUNDS, WorkerMetrics};

use super::figures::Figures;
use super::table::{Counts, Kind, METRICS, Metric, Source, Value};
use crate::board::{AppRow, Board};

/// Media type of the format (OpenMetrics 1.0).
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page's text.
///
/// # Errors
/// When the encoder fails, which writing to memory does not make it.
pub(super) fn render(board: &Board) -> Result<String, fmt::Error> {
    wasmhost_base::inject::panic_at("metrics");
    let mut registry = Registry::with_prefix("wasmhost");
    registry.register_collector(Box::new(Snapshot::of(board)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Apps with series of their own at most, those with the lowest numbers; thirty series each, with their buckets. Sums and
/// `/status` have all.
const APPS_SHOWN_MAX: usize = 1_000;

/// What the board said when it was looked at: by name without prefix and ending.
struct Snapshot(Vec<(&'static Metric, String, Vec<Sample>)>);

/// Labels and what they have.
type Sample = (Vec<(&'static str, String)>, Figure);

enum Figure {
    Number(f64),
    /// Sum and counts by bucket.
    Buckets(f64, Vec<u64>),
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Snapshot {
    fn of(board: &Board) -> Self {
        let look = Look::of(board);
        let families = METRICS.iter().flat_map(|metric| {
            let shown = look.samples(metric);
            metric.families().into_iter().zip(shown).map(move |(family, samples)| (metric, family.name, samples))
        });
        Self(families.collect())
    }
}

/// The counts, added up once.
struct Look<'a> {
    board: &'a Board,
    /// By name of the worker.
    workers: Vec<(String, &'static WorkerMetrics, Figures)>,
    apps: Vec<(AppRow, Figures)>,
}

impl<'a> Look<'a> {
    fn of(board: &'a Board) -> Self {
        let touched = board.touched();
        let (of_workers, of_apps) = Figures::of(board, &touched);
        let workers = board.workers.iter().zip(of_workers).enumerate();
        let workers = workers.map(|(index, (vitals, sums))| ((index + 1).to_string(), &vitals.metrics, sums)).collect();
        let mut rows = board.apps();
        // (Those that are gone are in the sums only.)
        let apps = touched.iter().zip(of_apps).filter_map(|(id, sums)| Some((rows.remove(id)?, sums)));
        Self { board, workers, apps: apps.take(APPS_SHOWN_MAX).collect() }
    }

    /// The samples of each of the metric's families.
    fn samples(&self, metric: &Metric) -> Vec<Vec<Sample>> {
        let number = |value: Value| vec![(Vec::new(), Figure::Number(seconds_or_count(value)))];
        let by = |label, counts: Counts| -> Vec<Sample> {
            let one = |(value, count): (&str, u64)| (vec![(label, value.to_owned())], Figure::Number(float(count)));
            counts.into_iter().map(one).collect()
        };
        match metric.source {
            Source::Host(value) => vec![number(value(self.board))],
            Source::HostBy(label, counts) => vec![by(label, counts(self.board))],
            Source::Worker(value) => vec![self.by_worker(|metrics, _| number(value(metrics)))],
            Source::Sum(value) => self.by_both(|sums| number(value(sums))),
            Source::SumBy(label, counts) => self.by_both(|sums| by(label, counts(sums))),
            Source::Latency => self.by_both(|sums| vec![(Vec::new(), response_times(sums))]),
            Source::App(value) => vec![self.by_app(|app, sums| number(value(app, sums)))],
            Source::AppBy(label, counts) => vec![self.by_app(|app, _| by(label, counts(app)))],
        }
    }

    fn by_both(&self, samples: impl Fn(&Figures) -> Vec<Sample>) -> Vec<Vec<Sample>> {
        vec![self.by_worker(|_, sums| samples(sums)), self.by_app(|_, sums| samples(sums))]
    }

    fn by_worker(&self, samples: impl Fn(&WorkerMetrics, &Figures) -> Vec<Sample>) -> Vec<Sample> {
        let of = |(worker, metrics, sums): &(String, &'static WorkerMetrics, Figures)| {
            labelled("worker", worker, samples(metrics, sums))
        };
        self.workers.iter().flat_map(of).collect()
    }

    fn by_app(&self, samples: impl Fn(&AppRow, &Figures) -> Vec<Sample>) -> Vec<Sample> {
        self.apps.iter().flat_map(|(app, sums)| labelled("app", &app.name, samples(app, sums))).collect()
    }
}

/// With this label before the others.
fn labelled(label: &'static str, value: &str, mut samples: Vec<Sample>) -> Vec<Sample> {
    for (labels, _) in &mut samples {
        labels.insert(0, (label, value.to_owned()));
    }
    samples
}

fn response_times(sums: &Figures) -> Figure {
    Figure::Buckets(float(sums.latency_sum_us) / 1e6, sums.latency.to_vec())
}

fn seconds_or_count(value: Value) -> f64 {
    match value {
        Value::Count(count) => float(count),
        Value::Micros(micros) => float(micros) / 1e6,
        Value::Seconds(seconds) => seconds,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 may be off by one")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (metric, name, samples) in &self.0 {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(name, metric.help, None, kind)?;
            for (labels, figure) in samples {
                if labels.is_empty() {
                    write(metric.kind, figure, family.encode_family(&NO_LABELS)?)?;
                } else {
                    write(metric.kind, figure, family.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn write(kind: Kind, figure: &Figure, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    match figure {
        Figure::Number(value) if kind == Kind::Counter => ConstCounter::new(*value).encode(encoder),
        Figure::Number(value) => ConstGauge::new(*value).encode(encoder),
        Figure::Buckets(sum, counts) => {
            let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            encoder.encode_histogram::<NoLabelSet>(*sum, counts.iter().sum(), &buckets, None)
        }
    }
}

const NO_LABELS: [(&str, &str); 0] = [];
