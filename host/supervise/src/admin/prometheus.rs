//! The metrics page, in the text format that Prometheus reads: the metrics of `table` with their values.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use wasmhost_serve::metrics::{
    AcceptingFigures, AppFigures, DurationsSum, HostFigures, LATENCY_BOUNDS, MetricKind, MetricRow, MetricValue, Shows,
    WorkerFigures,
};
use wasmhost_serve::scoreboard::SharedByWorkers;

use super::figures::Sums;
use super::table::{Family, OF_APP, OF_HOST, OF_SHARED, OF_WORKER};
use crate::host_status::{AppRow, HostStatus, Presence};

/// Media type of the format (OpenMetrics 1.0).
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page's text.
///
/// # Errors
/// When the encoder fails, which writing to memory does not make it.
pub(super) fn render(host_status: &HostStatus) -> Result<String, fmt::Error> {
    wasmhost_base::inject::panic_at("metrics");
    let mut registry = Registry::with_prefix("wasmhost");
    registry.register_collector(Box::new(MetricsSnapshot::of(host_status)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(match host_status.traces() {
        Some(traces) => traces.exemplars.add_to(text),
        None => text,
    })
}

/// Apps with series of their own at most, those with the lowest numbers; thirty series each, with their buckets. Sums and
/// `/status` have all.
const APPS_SHOWN_MAX: usize = 1_000;

/// What the host status said when it was looked at: by name without prefix and ending.
struct MetricsSnapshot(Vec<(Family, Vec<Sample>)>);

/// SampleLabels and their values.
type SampleLabels = Vec<(&'static str, String)>;

/// SampleLabels and what they have.
type Sample = (SampleLabels, Figure);

enum Figure {
    Number(f64),
    /// Sum and counts by bucket.
    Buckets(f64, Vec<u64>),
}

impl fmt::Debug for MetricsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl MetricsSnapshot {
    fn of(host_status: &HostStatus) -> Self {
        let touched = host_status.touched();
        let sums = Sums::of(host_status, &touched);
        let rows_of_workers = sums.shown.iter().zip(sums.workers_of(host_status));
        let workers: Vec<SampleLabels> =
            rows_of_workers.clone().map(|((number, _), row)| of_worker(*number, row.group.as_deref())).collect();
        let mut rows = host_status.apps();
        // (Those that are gone are in the sums only.)
        let shared = &host_status.scoreboard.apps;
        let apps = touched.iter().zip(&sums.of_apps);
        let apps = apps.filter_map(|(id, figures)| Some((rows.remove(id)?, figures, shared.get(id.index())?)));
        let apps: Vec<(AppRow, &AppFigures, &SharedByWorkers)> = apps.take(APPS_SHOWN_MAX).collect();
        let name = |(app, ..): &(AppRow, &AppFigures, &SharedByWorkers)| vec![("app", app.name.clone())];

        let mut shown = Self(Vec::new());
        for row in AppFigures::ROWS {
            if !row.is_of_apps {
                shown.each("worker", [row], workers.iter().cloned().zip(&sums.of_workers));
            }
            shown.each("app", [row], apps.iter().map(|app| (name(app), app.1)));
        }
        shown.each("worker", WorkerFigures::ROWS, workers.iter().cloned().zip(&sums.workers));
        shown.each(
            "worker",
            OF_WORKER,
            workers
                .iter()
                .cloned()
                .zip(rows_of_workers)
                .filter(|(_, ((_, presence), _))| *presence == Presence::Wanted)
                .map(|(labels, (_, row))| (labels, row.scoreboard)),
        );
        shown.each("app", OF_APP, apps.iter().map(|app| (name(app), &app.0)));
        shown.each("app", OF_SHARED, apps.iter().map(|app| (name(app), app.2)));
        shown.one(AcceptingFigures::ROWS, &sums.accepting);
        shown.one(HostFigures::ROWS, &sums.host);
        shown.one(OF_HOST, host_status);
        shown
    }

    /// Shows metrics of the host.
    fn one<Of: 'static>(&mut self, rows: &[MetricRow<Of>], of: &Of) {
        self.0.extend(rows.iter().map(|row| (Family::of(row, None), samples(row, of))));
    }

    /// Shows metrics of each of these, which have labels of their own, this one at least.
    fn each<'a, Of: 'static>(
        &mut self,
        label: &'static str,
        rows: impl IntoIterator<Item = &'a MetricRow<Of>>,
        labelled: impl Iterator<Item = (SampleLabels, &'a Of)> + Clone,
    ) {
        for row in rows {
            let of_each = labelled.clone().flat_map(|(labels, of)| with_labels(&labels, samples(row, of)));
            self.0.push((Family::of(row, Some(label)), of_each.collect()));
        }
    }
}

/// What a metric shows.
fn samples<Of: 'static>(row: &MetricRow<Of>, of: &Of) -> Vec<Sample> {
    match row.shows {
        Shows::Number(value) => vec![(Vec::new(), Figure::Number(seconds_or_count(value(of))))],
        Shows::By(label, counts) => {
            let one =
                |(value, count): (Cow<'_, str>, u64)| (vec![(label, value.into_owned())], Figure::Number(float(count)));
            counts(of).into_iter().map(one).collect()
        }
        Shows::Durations(sum) => {
            let DurationsSum { buckets, sum_us } = sum(of);
            vec![(Vec::new(), Figure::Buckets(float(*sum_us) / 1e6, buckets.to_vec()))]
        }
    }
}

/// The labels of the worker of this number: with its group, where it is of one.
fn of_worker(number: usize, group: Option<&str>) -> SampleLabels {
    let group = group.map(|group| ("group", group.to_owned()));
    [("worker", number.to_string())].into_iter().chain(group).collect()
}

/// Puts labels before those that the samples have.
fn with_labels(of_all: &[(&'static str, String)], mut samples: Vec<Sample>) -> Vec<Sample> {
    for (labels, _) in &mut samples {
        labels.splice(..0, of_all.iter().cloned());
    }
    samples
}

fn seconds_or_count(value: MetricValue) -> f64 {
    match value {
        MetricValue::Count(count) => float(count),
        MetricValue::Micros(micros) => float(micros) / 1e6,
        MetricValue::Seconds(seconds) => seconds,
    }
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 may be off by one")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Collector for MetricsSnapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (shown, samples) in &self.0 {
            let kind = match shown.kind {
                MetricKind::Counter => MetricType::Counter,
                MetricKind::Gauge => MetricType::Gauge,
                MetricKind::Histogram => MetricType::Histogram,
            };
            let mut family = encoder.encode_descriptor(&shown.name, shown.help, None, kind)?;
            for (labels, figure) in samples {
                if labels.is_empty() {
                    write(shown.kind, figure, family.encode_family(&NO_LABELS)?)?;
                } else {
                    write(shown.kind, figure, family.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn write(kind: MetricKind, figure: &Figure, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    match figure {
        Figure::Number(value) if kind == MetricKind::Counter => ConstCounter::new(*value).encode(encoder),
        Figure::Number(value) => ConstGauge::new(*value).encode(encoder),
        Figure::Buckets(sum, counts) => {
            let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            encoder.encode_histogram::<NoLabelSet>(*sum, counts.iter().sum(), &buckets, None)
        }
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_of_a_group_is_labelled_with_it_before_what_its_samples_have() {
        let labels = of_worker(3, Some("g"));
        let sample = || vec![(vec![("reason", "queue".to_owned())], Figure::Number(0.0))];
        let names = |labels: &[_]| -> Vec<_> {
            with_labels(labels, sample())
                .remove(0)
                .0
                .into_iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect()
        };
        assert_eq!(names(&labels), ["worker=3", "group=g", "reason=queue"]);
        assert_eq!(names(&of_worker(1, None)), ["worker=1", "reason=queue"]);
    }
}
