//! The metrics page, in the text format that Prometheus reads: [`METRICS`] with their values.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use wasmhost_serve::metrics::{Count, LATENCY_BOUNDS, WorkerMetrics};

use super::table::{Counts, Kind, METRICS, Metric, Source, Value};
use crate::board::Board;

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

/// What the board said when it was looked at.
struct Snapshot(Vec<(&'static Metric, Vec<Sample>)>);

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
        Self(METRICS.iter().map(|metric| (metric, samples(metric, board))).collect())
    }
}

fn samples(metric: &Metric, board: &Board) -> Vec<Sample> {
    let workers = || board.workers.iter().enumerate().map(|(index, worker)| ((index + 1).to_string(), *worker));
    let number = |value: Value| Figure::Number(seconds_or_count(value));
    let by = |label, counts: Counts| {
        counts.into_iter().map(move |(value, count)| ((label, value.to_owned()), Figure::Number(float(count))))
    };
    match metric.source {
        Source::Host(value) => vec![(Vec::new(), number(value(board)))],
        Source::HostBy(label, counts) => {
            by(label, counts(board)).map(|(label, figure)| (vec![label], figure)).collect()
        }
        Source::Worker(value) => {
            workers().map(|(worker, metrics)| (vec![("worker", worker)], number(value(metrics)))).collect()
        }
        Source::WorkerBy(label, counts) => workers()
            .flat_map(|(worker, metrics)| {
                by(label, counts(metrics)).map(move |(label, figure)| (vec![("worker", worker.clone()), label], figure))
            })
            .collect(),
        Source::Latency => {
            workers().map(|(worker, metrics)| (vec![("worker", worker)], response_times(metrics))).collect()
        }
    }
}

fn response_times(metrics: &WorkerMetrics) -> Figure {
    let counts = metrics.latency.iter().map(Count::get).collect();
    Figure::Buckets(float(metrics.latency_sum_us.get()) / 1e6, counts)
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
        for (metric, samples) in &self.0 {
            let kind = match metric.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(metric.name, metric.help, None, kind)?;
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
