//! The metrics page, in the text format that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::board::Board;
use crate::metrics::{AcceptErrors, LATENCY_BOUNDS, Refused, Shed, WorkerMetrics};
use crate::sandbox::FaultKind;

/// Media type of the format (OpenMetrics 1.0).
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page's text.
///
/// # Errors
/// When the encoder fails, which writing to memory does not make it.
pub(super) fn render(board: &Board) -> Result<String, fmt::Error> {
    crate::inject::panic_at("metrics");
    let snapshot = Snapshot::of(board);
    let mut registry = Registry::with_prefix("wasmhost");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// Labels and a value.
type Sample = (Vec<(&'static str, String)>, f64);

struct Family {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    samples: Vec<Sample>,
}

/// What the board said when it was looked at.
struct Snapshot {
    families: Vec<Family>,
    latencies: Vec<(String, f64, Vec<u64>)>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

impl Snapshot {
    fn of(board: &Board) -> Self {
        let workers: Vec<(String, &WorkerMetrics)> =
            board.workers.iter().enumerate().map(|(index, metrics)| ((index + 1).to_string(), *metrics)).collect();
        let by_worker = |name, help, is_counter, value: &dyn Fn(&WorkerMetrics) -> f64| Family {
            name,
            help,
            is_counter,
            samples: workers
                .iter()
                .map(|(worker, metrics)| (vec![("worker", worker.clone())], value(metrics)))
                .collect(),
        };
        let by_label = |name, help, label, values: &dyn Fn(&WorkerMetrics) -> Vec<(&'static str, u64)>| Family {
            name,
            help,
            is_counter: true,
            samples: workers
                .iter()
                .flat_map(|(worker, metrics)| {
                    values(metrics).into_iter().map(|(value, count)| {
                        (vec![("worker", worker.clone()), (label, value.to_owned())], float(count))
                    })
                })
                .collect(),
        };
        let mut families = vec![
            by_label("responses", "Responses, by class of status", "class", &|metrics| {
                let classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
                classes.into_iter().zip(&metrics.responses).map(|(class, count)| (class, count.get())).collect()
            }),
            by_label("faults", "Faults of guests, by kind", "fault", &|metrics| {
                FaultKind::ALL.into_iter().map(|kind| (kind.name(), metrics.faults[kind.index()].get())).collect()
            }),
            by_label("sheds", "Requests refused for want of capacity, by reason", "reason", &|metrics| {
                Shed::ALL.into_iter().map(|shed| (shed.name(), metrics.sheds[shed.index()].get())).collect()
            }),
            by_label("refusals", "Requests refused for what their client did, by reason", "reason", &|metrics| {
                Refused::ALL.into_iter().map(|why| (why.name(), metrics.refusals[why.index()].get())).collect()
            }),
            by_worker("connections", "Connections taken", true, &|metrics| float(metrics.connections.get())),
            by_worker(
                "passed_over",
                "Connections that another worker got, since this one was not ready",
                true,
                &|metrics| float(metrics.passed_over.load(Relaxed)),
            ),
            by_worker("requests_queued", "Requests that waited for an instance", true, &|metrics| {
                float(metrics.queued.get())
            }),
            by_worker("clients_left", "Requests whose client left before the whole response", true, &|metrics| {
                float(metrics.client_left.get())
            }),
            by_worker("generations", "Instances made", true, &|metrics| float(metrics.generation.get())),
            by_worker("worker_starts", "Threads that the worker has had", true, &|metrics| {
                float(metrics.respawns.load(Relaxed))
            }),
            by_worker("guest_cpu_seconds", "CPU time in guests", true, &|metrics| {
                float(metrics.guest_cpu_us.get()) / 1e6
            }),
            by_worker("open_connections", "Connections open or waiting in the inbox", false, &|metrics| {
                float(metrics.open_connections.load(Relaxed) as u64)
            }),
            by_worker("requests_in_flight", "Requests being served", false, &|metrics| {
                float(metrics.in_flight.get().unsigned_abs())
            }),
            by_worker("instances", "Instances that live", false, &|metrics| {
                float(metrics.instances.get().unsigned_abs())
            }),
            by_worker(
                "worker_up",
                "1 while the worker takes connections and its slot is not down",
                false,
                &|metrics| f64::from(u8::from(metrics.listening.get() && !metrics.down.get())),
            ),
            Family {
                name: "accept_errors",
                help: "Errors of accepting connections",
                is_counter: true,
                samples: accept_errors(board),
            },
        ];
        families.extend(of_the_host(board));
        let latencies = workers.iter().map(|(worker, metrics)| {
            let counts = metrics.latency.iter().map(crate::metrics::Count::get).collect();
            (worker.clone(), float(metrics.latency_sum_us.get()) / 1e6, counts)
        });
        Self { families, latencies: latencies.collect() }
    }
}

/// What there is one of.
fn of_the_host(board: &Board) -> Vec<Family> {
    let host =
        |name, help, is_counter, value: f64| Family { name, help, is_counter, samples: vec![(Vec::new(), value)] };
    vec![
        host(
            "refused_connections",
            "Connections closed at once, whose client had as many as it may (--max-connections-per-client)",
            true,
            float(board.refused_connections()),
        ),
        host("reloads", "Reloads that took effect", true, float(board.host.reloads.load(Relaxed))),
        host(
            "failed_reloads",
            "Reloads that failed and changed nothing",
            true,
            float(board.host.failed_reloads.load(Relaxed)),
        ),
        host(
            "instance_memory_bytes",
            "Memories and tables of all instances",
            false,
            float(board.vitals.memory_bytes.load(Relaxed)),
        ),
        host(
            "instance_memory_max_bytes",
            "Bound on memories and tables of all instances (--memory-total)",
            false,
            float(board.config.limits.memory_total_bytes),
        ),
        host("uptime_seconds", "Time since the start", false, board.started.elapsed().as_secs_f64()),
    ]
}

/// Errors of accepting by name, the primary's and those of workers that accept themselves.
fn accept_errors(board: &Board) -> Vec<Sample> {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let by_workers = board.workers.iter().map(|worker| &worker.accepting.errors);
    for (name, count) in by_workers.chain([&board.host.accepting.errors]).flat_map(AcceptErrors::counts) {
        *sums.entry(name).or_default() += count;
    }
    sums.into_iter().map(|(name, count)| (vec![("error", name.to_owned())], float(count))).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 may be off by one")]
fn float(count: u64) -> f64 {
    count as f64
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let kind = if family.is_counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for (labels, value) in &family.samples {
                if family.is_counter {
                    let counter = ConstCounter::new(*value);
                    if labels.is_empty() {
                        counter.encode(metric.encode_family(&NO_LABELS)?)?
                    } else {
                        counter.encode(metric.encode_family(labels)?)?
                    }
                } else {
                    let gauge = ConstGauge::new(*value);
                    if labels.is_empty() {
                        gauge.encode(metric.encode_family(&NO_LABELS)?)?
                    } else {
                        gauge.encode(metric.encode_family(labels)?)?
                    }
                }
            }
        }
        let help = "Time from a request's head to the end of its response";
        let mut metric = encoder.encode_descriptor("request_duration_seconds", help, None, MetricType::Histogram)?;
        for (worker, sum, counts) in &self.latencies {
            let bounds = LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            metric.encode_family(&[("worker", worker.clone())])?.encode_histogram::<NoLabelSet>(
                *sum,
                counts.iter().sum(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

const NO_LABELS: [(&str, &str); 0] = [];
