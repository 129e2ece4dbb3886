//! PURE: what a host says on `/status`, in the numbers that the screen is made of. Texts have lost what would move a cursor. What a
//! host of another version does not say is none.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::commands::plain::plain;

/// Counts and levels of a host, a worker or an app at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TopFigures {
    pub(super) requests: u64,
    /// Of these, answered with a status of 500 or above.
    pub(super) errors: u64,
    /// Refused for want of capacity, by reason.
    pub(super) sheds: BTreeMap<String, u64>,
    pub(super) faults: BTreeMap<String, u64>,
    /// How often a request took at most so many microseconds, and more than the bound before it. The last bound is `u64::MAX`.
    pub(super) latency: BTreeMap<u64, u64>,
    pub(super) guest_cpu_us: u64,
    /// Of a worker: of all that it does.
    pub(super) cpu_us: Option<u64>,
    pub(super) connections: Option<u64>,
    pub(super) in_flight: u64,
    pub(super) waiting: Option<u64>,
    pub(super) instances: u64,
    pub(super) memory_bytes: Option<u64>,
    pub(super) peak_bytes: Option<u64>,
    /// RAM of the process, of a host of all its processes; none: it is a thread.
    pub(super) resident_bytes: Option<u64>,
    pub(super) uptime: Option<Duration>,
}

/// A worker, or an app, at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopPart {
    /// The worker's number, or the app's name.
    pub(super) name: String,
    pub(super) group: Option<String>,
    pub(super) state: String,
    /// How often an app was loaded, or a worker started.
    pub(super) revision: u64,
    /// Why an app could not be loaded.
    pub(super) error: Option<String>,
    pub(super) figures: TopFigures,
}

/// A host at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TopSample {
    pub(super) pid: u64,
    pub(super) version: String,
    pub(super) phase: String,
    pub(super) is_ready: bool,
    pub(super) memory_max_bytes: Option<u64>,
    pub(super) figures: TopFigures,
    pub(super) workers: Vec<TopPart>,
    pub(super) apps: Vec<TopPart>,
}

impl TopSample {
    /// What an answer of `/status` says.
    pub(super) fn of(status: &Value) -> Self {
        let parts = |field: &str, name: &str, revision: &str| -> Vec<TopPart> {
            let all = status[field].as_array().map_or(&[][..], Vec::as_slice);
            all.iter().map(|one| part(one, name, revision)).collect()
        };
        let workers = parts("workers", "worker", "thread_generation");
        let mut figures = sum(&workers);
        figures.memory_bytes = number(status, "instance_memory_bytes");
        figures.peak_bytes = number(status, "instance_memory_peak_bytes");
        let own = number(status, "resident_bytes").filter(|bytes| *bytes > 0);
        figures.resident_bytes = own.map(|own| own + figures.resident_bytes.unwrap_or(0));
        figures.uptime = number(status, "uptime_seconds").map(Duration::from_secs);
        Self {
            pid: number(status, "pid").unwrap_or(0),
            version: text(status, "version").unwrap_or_default(),
            phase: text(status, "phase").unwrap_or_default(),
            is_ready: status["ready"].as_bool().unwrap_or(false),
            memory_max_bytes: number(status, "instance_memory_max_bytes"),
            figures,
            workers,
            apps: parts("apps", "name", "revision"),
        }
    }
}

fn number(of: &Value, field: &str) -> Option<u64> {
    of[field].as_u64()
}

fn text(of: &Value, field: &str) -> Option<String> {
    of[field].as_str().map(plain)
}

fn by_name(of: &Value, field: &str) -> BTreeMap<String, u64> {
    let all = of[field].as_object().into_iter().flatten();
    all.filter_map(|(name, count)| Some((plain(name), count.as_u64()?))).collect()
}

fn part(of: &Value, name: &str, revision: &str) -> TopPart {
    let name = number(of, name).map(|number| number.to_string()).or_else(|| text(of, name));
    TopPart {
        name: name.unwrap_or_default(),
        group: text(of, "group"),
        state: text(of, "state").unwrap_or_default(),
        revision: number(of, revision).unwrap_or(0),
        error: text(of, "error"),
        figures: figures(of),
    }
}

fn figures(of: &Value) -> TopFigures {
    let latency = by_name(of, "latency_us");
    let bound = |name: &str| if name == "inf" { Some(u64::MAX) } else { name.parse().ok() };
    TopFigures {
        requests: number(of, "requests").unwrap_or(0),
        errors: of["responses"]["5xx"].as_u64().unwrap_or(0),
        sheds: by_name(of, "sheds"),
        faults: by_name(of, "faults"),
        latency: latency.iter().filter_map(|(name, count)| Some((bound(name)?, *count))).collect(),
        guest_cpu_us: number(of, "guest_cpu_us").unwrap_or(0),
        cpu_us: number(of, "cpu_us"),
        connections: number(of, "open_connections"),
        in_flight: number(of, "in_flight").unwrap_or(0),
        waiting: number(of, "waiting"),
        instances: number(of, "instances").unwrap_or(0),
        memory_bytes: number(of, "memory_bytes"),
        peak_bytes: number(of, "memory_peak_bytes"),
        resident_bytes: number(of, "resident_bytes").filter(|bytes| *bytes > 0),
        uptime: number(of, "uptime_seconds").map(Duration::from_secs),
    }
}

/// What several workers have in sum.
fn sum(parts: &[TopPart]) -> TopFigures {
    let mut all = TopFigures::default();
    for TopPart { figures, .. } in parts {
        all.requests += figures.requests;
        all.errors += figures.errors;
        all.guest_cpu_us += figures.guest_cpu_us;
        all.in_flight += figures.in_flight;
        all.instances += figures.instances;
        for (sum, one) in [
            (&mut all.cpu_us, figures.cpu_us),
            (&mut all.connections, figures.connections),
            (&mut all.waiting, figures.waiting),
            (&mut all.resident_bytes, figures.resident_bytes),
        ] {
            *sum = one.map_or(*sum, |one| Some(sum.unwrap_or(0) + one));
        }
        add(&mut all.sheds, &figures.sheds);
        add(&mut all.faults, &figures.faults);
        add(&mut all.latency, &figures.latency);
    }
    all
}

fn add<K: Ord + Clone>(sum: &mut BTreeMap<K, u64>, one: &BTreeMap<K, u64>) {
    for (key, count) in one {
        *sum.entry(key.clone()).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::status;
    use super::*;
    use serde_json::json;

    #[test]
    fn a_host_has_what_its_workers_have_in_sum() {
        let sample = TopSample::of(&status());
        let TopFigures { requests, latency, faults, connections, cpu_us, waiting, memory_bytes, uptime, .. } =
            sample.figures;
        assert_eq!((requests, connections, cpu_us, waiting), (100, Some(6), Some(30_000), Some(0)));
        assert_eq!(latency, BTreeMap::from([(1_000, 100), (2_500, 0), (u64::MAX, 0)]));
        assert_eq!((faults["trap"], memory_bytes, uptime), (3, Some(5_000_000), Some(Duration::from_secs(70))));
        assert_eq!((sample.apps[0].figures.errors, sample.apps[0].revision), (2, 4));
    }

    #[test]
    fn nothing_that_others_wrote_moves_a_cursor() {
        let sample = TopSample::of(&status());
        let app = &sample.apps[1];
        assert_eq!(app.name, "bl\\u{1b}[2Jog");
        assert_eq!(app.error.as_deref(), Some("no\\nfile\\u{202e}"));
    }

    #[test]
    fn what_is_no_status_is_an_empty_host() {
        for other in [json!(null), json!([1]), json!({"workers": 3, "apps": [null], "pid": -1})] {
            let sample = TopSample::of(&other);
            assert_eq!((sample.pid, sample.figures.requests, sample.figures.cpu_us), (0, 0, None), "{other}");
        }
    }
}
