//! Every metric, written down once: its name, what it means and where its value comes from. `/metrics` and `/status` show
//! what stands here, and a test compares `docs/REFERENCE.md` with it.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use wasmhost_sandbox::{FaultKind, SharedBound};
use wasmhost_serve::metrics::{AcceptErrors, Refused, Shed, WorkerMetrics};

use super::figures::Figures;
use crate::apps::book::State;
use crate::board::{AppRow, Board};

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, from 0 at the host's start.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by size ([`wasmhost_serve::metrics::LATENCY_BOUNDS`]).
    Histogram,
}

/// A metric.
pub struct Metric {
    /// Its name, without the prefix `wasmhost_` and without the ending `_total` of a counter.
    pub name: &'static str,
    /// Its field on `/status`, where it has one: of each worker and of each app, or of the host where it has neither label.
    pub status: Option<&'static str>,
    /// What it means.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    pub(super) source: Source,
}

/// Where a metric's value comes from.
pub(super) enum Source {
    /// A number of each worker.
    Worker(fn(&WorkerMetrics) -> Value),
    /// A number of each worker, over all apps; and of each app, over all workers.
    Sum(fn(&Figures) -> Value),
    /// The same, by this label.
    SumBy(&'static str, fn(&Figures) -> Counts),
    /// The histogram of response times: of each worker, and of each app.
    Latency,
    /// A number of each app.
    App(fn(&AppRow, &Figures) -> Value),
    /// Numbers of each app, by this label.
    AppBy(&'static str, fn(&AppRow) -> Counts),
    /// A number of the host.
    Host(fn(&Board) -> Value),
    /// Numbers of the host, by this label.
    HostBy(&'static str, fn(&Board) -> Counts),
}

/// Series of one name, as `/metrics` shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Without the prefix and the ending.
    pub name: String,
    /// The names of the labels.
    pub labels: Vec<&'static str>,
}

/// Numbers by the value of a label.
pub(super) type Counts = Vec<(&'static str, u64)>;

/// A number. `/metrics` shows times in seconds, `/status` in the unit that the field's name ends in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value {
    Count(u64),
    /// Shown in microseconds on `/status`.
    Micros(u64),
    /// Shown in whole seconds on `/status`.
    Seconds(f64),
}

impl Metric {
    /// What `/metrics` shows of it. What is counted by worker and by app has a name for each, so that no sum has a request
    /// twice.
    pub fn families(&self) -> Vec<Family> {
        let family = |prefix: &str, labels: &[&'static str]| Family {
            name: format!("{prefix}{}", self.name),
            labels: labels.to_vec(),
        };
        match self.source {
            Source::Worker(_) => vec![family("", &["worker"])],
            Source::Sum(_) | Source::Latency => vec![family("", &["worker"]), family("app_", &["app"])],
            Source::SumBy(label, _) => vec![family("", &["worker", label]), family("app_", &["app", label])],
            Source::App(_) => vec![family("", &["app"])],
            Source::AppBy(label, _) => vec![family("", &["app", label])],
            Source::Host(_) => vec![family("", &[])],
            Source::HostBy(label, _) => vec![family("", &[label])],
        }
    }

    /// The name of a family on `/metrics`.
    pub fn full_name(&self, family: &Family) -> String {
        let ending = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("wasmhost_{}{ending}", family.name)
    }
}

use Kind::{Counter, Gauge, Histogram};

/// All metrics.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "responses",
        status: None,
        help: "Responses, by class of status",
        kind: Counter,
        source: Source::SumBy("class", |sums| {
            let classes = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];
            classes.into_iter().zip(sums.responses).collect()
        }),
    },
    Metric {
        name: "request_duration_seconds",
        status: None,
        help: "Time from a request's headers to the end of its response",
        kind: Histogram,
        source: Source::Latency,
    },
    Metric {
        name: "faults",
        status: Some("faults"),
        help: "Faults of guests, by kind",
        kind: Counter,
        source: Source::SumBy("fault", |sums| {
            FaultKind::ALL.into_iter().map(|kind| (kind.name(), sums.faults[kind.index()])).collect()
        }),
    },
    Metric {
        name: "sheds",
        status: Some("sheds"),
        help: "Requests refused for want of capacity, by reason",
        kind: Counter,
        source: Source::SumBy("reason", |sums| {
            Shed::ALL.into_iter().map(|shed| (shed.name(), sums.sheds[shed.index()])).collect()
        }),
    },
    Metric {
        name: "refusals",
        status: Some("refusals"),
        help: "Requests refused for what their client did, by reason",
        kind: Counter,
        source: Source::SumBy("reason", |sums| {
            Refused::ALL.into_iter().map(|why| (why.name(), sums.refusals[why.index()])).collect()
        }),
    },
    Metric {
        name: "shortages",
        status: Some("shortages"),
        help: "Times that an app had its part of what the apps of a worker share, and got no more of it, by what that is",
        kind: Counter,
        source: Source::SumBy("bound", |sums| {
            SharedBound::ALL.into_iter().map(|bound| (bound.name(), sums.shortages[bound.index()])).collect()
        }),
    },
    Metric {
        name: "connections",
        status: Some("connections"),
        help: "Connections taken",
        kind: Counter,
        source: Source::Worker(|worker| Value::Count(worker.connections.get())),
    },
    Metric {
        name: "passed_over",
        status: Some("passed_over"),
        help: "Connections given to another worker although it was this one's turn: it was late, full, down or not running",
        kind: Counter,
        source: Source::Worker(|worker| Value::Count(worker.passed_over.load(Relaxed))),
    },
    Metric {
        name: "requests_queued",
        status: Some("queued"),
        help: "Requests that waited for an instance",
        kind: Counter,
        source: Source::Sum(|sums| Value::Count(sums.queued)),
    },
    Metric {
        name: "clients_left",
        status: Some("client_left"),
        help: "Requests whose client left before the whole response",
        kind: Counter,
        source: Source::Sum(|sums| Value::Count(sums.client_left)),
    },
    Metric {
        name: "generations",
        status: Some("generation"),
        help: "Instances made",
        kind: Counter,
        source: Source::Sum(|sums| Value::Count(sums.generation)),
    },
    Metric {
        name: "worker_starts",
        status: Some("thread_generation"),
        help: "Threads or processes that the worker has had",
        kind: Counter,
        source: Source::Worker(|worker| Value::Count(worker.respawns.load(Relaxed))),
    },
    Metric {
        name: "guest_cpu_seconds",
        status: Some("guest_cpu_us"),
        help: "CPU time in guests",
        kind: Counter,
        source: Source::Sum(|sums| Value::Micros(sums.guest_cpu_us)),
    },
    Metric {
        name: "open_connections",
        status: Some("open_connections"),
        help: "Connections open or waiting in the worker's inbox",
        kind: Gauge,
        source: Source::Worker(|worker| Value::Count(worker.open_connections.load(Relaxed) as u64)),
    },
    Metric {
        name: "requests_in_flight",
        status: Some("in_flight"),
        help: "Requests being served",
        kind: Gauge,
        source: Source::Sum(|sums| Value::Count(sums.in_flight)),
    },
    Metric {
        name: "instances",
        status: Some("instances"),
        help: "Instances that live",
        kind: Gauge,
        source: Source::Sum(|sums| Value::Count(sums.instances)),
    },
    Metric {
        name: "worker_up",
        status: None,
        help: "1 while the worker takes connections and its instances answer, else 0",
        kind: Gauge,
        source: Source::Worker(|worker| Value::Count((worker.listening.get() && !worker.down.get()).into())),
    },
    Metric {
        name: "app_memory_bytes",
        status: Some("memory_bytes"),
        help: "Memory of the app's instances",
        kind: Gauge,
        source: Source::App(|_, sums| Value::Count(sums.memory_bytes)),
    },
    Metric {
        name: "app_down",
        status: Some("down"),
        help: "Workers on which the app is down after faults in a row",
        kind: Gauge,
        source: Source::App(|_, sums| Value::Count(sums.down)),
    },
    Metric {
        name: "app_loads",
        status: Some("revision"),
        help: "Loads of the app that worked",
        kind: Counter,
        source: Source::App(|app, _| Value::Count(app.revision)),
    },
    Metric {
        name: "app_failed_loads",
        status: Some("failed_loads"),
        help: "Loads of the app that failed",
        kind: Counter,
        source: Source::App(|app, _| Value::Count(app.failed_loads)),
    },
    Metric {
        name: "app_state",
        status: None,
        help: "1 for the state that the app is in, else 0",
        kind: Gauge,
        source: Source::AppBy("state", |app| {
            State::ALL.into_iter().map(|state| (state.name(), u64::from(state.name() == app.state))).collect()
        }),
    },
    Metric {
        name: "apps",
        status: None,
        help: "Apps, by state",
        kind: Gauge,
        source: Source::HostBy("state", apps_by_state),
    },
    Metric {
        name: "accept_errors",
        status: None,
        help: "Errors of accepting connections",
        kind: Counter,
        source: Source::HostBy("error", accept_errors),
    },
    Metric {
        name: "refused_connections",
        status: Some("refused_connections"),
        help: "Connections closed at once, whose client had as many as it may (--max-connections-per-client)",
        kind: Counter,
        source: Source::Host(|board| Value::Count(board.refused_connections())),
    },
    Metric {
        name: "log_lines_lost",
        status: Some("log_lines_lost"),
        help: "Lines of the log that were lost, because they came faster than standard error was read, or could not be written",
        kind: Counter,
        source: Source::Host(|board| Value::Count(board.log_lines_lost())),
    },
    Metric {
        name: "reloads",
        status: Some("reloads"),
        help: "Reloads that took effect",
        kind: Counter,
        source: Source::Host(|board| Value::Count(board.host.reloads.load(Relaxed))),
    },
    Metric {
        name: "failed_reloads",
        status: Some("failed_reloads"),
        help: "Reloads that failed and changed nothing",
        kind: Counter,
        source: Source::Host(|board| Value::Count(board.host.failed_reloads.load(Relaxed))),
    },
    Metric {
        name: "instance_memory_bytes",
        status: Some("instance_memory_bytes"),
        help: "Memory of all instances, and what the host holds for them",
        kind: Gauge,
        source: Source::Host(|board| Value::Count(board.vitals.memory_bytes.load(Relaxed))),
    },
    Metric {
        name: "instance_memory_max_bytes",
        status: Some("instance_memory_max_bytes"),
        help: "Bound on the memory of all instances (--memory-total)",
        kind: Gauge,
        source: Source::Host(|board| Value::Count(board.config.limits.memory_total_bytes)),
    },
    Metric {
        name: "uptime_seconds",
        status: Some("uptime_seconds"),
        help: "Time since the start",
        kind: Gauge,
        source: Source::Host(|board| Value::Seconds(board.started.elapsed().as_secs_f64())),
    },
];

/// Errors of accepting by name: the primary's, and those of workers that accept themselves.
fn accept_errors(board: &Board) -> Counts {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    let by_workers = board.workers.iter().map(|worker| &worker.metrics.accepting.errors);
    for (name, count) in by_workers.chain([&board.host.accepting.errors]).flat_map(AcceptErrors::counts) {
        *sums.entry(name).or_default() += count;
    }
    sums.into_iter().collect()
}

fn apps_by_state(board: &Board) -> Counts {
    let apps = board.apps();
    let count = |state: State| apps.values().filter(|app| app.state == state.name()).count();
    State::ALL.into_iter().map(|state| (state.name(), u64::try_from(count(state)).unwrap_or(u64::MAX))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_occurs_twice() {
        // Of a worker, of an app and of the host.
        let fields = |of: fn(&Metric) -> bool| {
            METRICS.iter().filter(move |metric| of(metric)).filter_map(|metric| metric.status)
        };
        fn has(metric: &Metric, label: &str) -> bool {
            metric.families().iter().any(|family| family.labels.contains(&label))
        }
        let families: Vec<Family> = METRICS.iter().flat_map(Metric::families).collect();
        for mut names in [
            families.iter().map(|family| &*family.name).collect::<Vec<&str>>(),
            fields(|metric| has(metric, "worker")).collect(),
            fields(|metric| has(metric, "app")).collect(),
            fields(|metric| !has(metric, "worker") && !has(metric, "app")).collect(),
        ] {
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{names:?}");
        }
    }

    #[test]
    fn metrics_are_named_as_prometheus_asks_for() {
        for metric in METRICS {
            let is_plain = metric.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
            assert!(is_plain && !metric.name.ends_with("_total"), "{}", metric.name);
            assert!(!metric.help.is_empty() && !metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
