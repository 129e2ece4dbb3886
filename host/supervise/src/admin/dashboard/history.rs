//! PURE: how a host did in the last quarter of an hour, for the dashboard: a moment each five seconds, with rates since the one
//! before. A moment has some 120 bytes, and 20 for each worker and app: of a host with 4 workers and 10 apps all take 70 KB,
//! of one with 512 workers and 1,000 apps 5.5 MB.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use wasmhost_config::AppId;
use wasmhost_serve::metrics::{AppFigures, LATENCY_BOUNDS};

use super::super::figures::Sums;

/// Time between two moments.
pub(super) const EVERY: Duration = Duration::from_secs(5);
/// Moments that are kept: 15 minutes.
pub(super) const MOMENTS_MAX: usize = 180;

/// How one worker or app did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Activity {
    /// Responses in a second.
    pub(super) requests: f32,
    /// Responses with a status of 500 or above in a second.
    pub(super) errors: f32,
    /// CPU time of guests, of their statements and of compression, in a second: 1 is a core.
    pub(super) cpu: f32,
    /// Memory of instances, in MiB.
    pub(super) memory_mib: f32,
}

/// How the host did.
#[derive(Debug, Clone, Default)]
pub(super) struct HistoryMoment {
    /// All workers in sum.
    pub(super) all: Activity,
    /// Requests that were refused for want of capacity, in a second.
    pub(super) sheds: f32,
    /// Half of all requests, nine of ten, and 99 of 100 took so many seconds at most; none: there were none.
    pub(super) percentiles: Option<[f32; 3]>,
    /// By the numbers of workers.
    pub(super) workers: BTreeMap<usize, Activity>,
    /// By app.
    pub(super) apps: BTreeMap<AppId, Activity>,
}

/// What was counted when the last moment ended.
#[derive(Debug, Clone, Default)]
struct CountedBefore {
    requests: u64,
    errors: u64,
    cpu_us: u64,
    sheds: u64,
    buckets: [u64; LATENCY_BOUNDS.len() + 1],
}

impl CountedBefore {
    fn of(figures: &AppFigures) -> Self {
        Self {
            requests: figures.requests(),
            errors: figures.responses[5],
            cpu_us: figures.guest_cpu_us + figures.database_cpu_us + figures.compression_cpu_us,
            sheds: figures.sheds.iter().sum(),
            buckets: figures.latency.buckets,
        }
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.cpu_us += other.cpu_us;
        self.sheds += other.sheds;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
    }

    /// What was done since `before`. (What died may have counted more than what is read now.)
    fn since(&self, before: &Self, seconds: f32, memory_bytes: u64) -> Activity {
        let rate = |now: u64, before: u64| number(now.saturating_sub(before)) / seconds;
        Activity {
            requests: rate(self.requests, before.requests),
            errors: rate(self.errors, before.errors),
            cpu: rate(self.cpu_us, before.cpu_us) / 1e6,
            memory_mib: number(memory_bytes >> 10) / 1024.0,
        }
    }
}

/// The moments of a host.
#[derive(Debug, Default)]
pub(super) struct History {
    moments: VecDeque<HistoryMoment>,
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    at: Instant,
    all: CountedBefore,
    workers: BTreeMap<usize, CountedBefore>,
    apps: BTreeMap<AppId, CountedBefore>,
}

impl History {
    /// Adds a moment that ends now, with what has been counted by now: of all workers, and of these apps. The first call only takes note
    /// of that.
    pub(super) fn add(&mut self, now: Instant, sums: &Sums, apps: &[AppId]) {
        let mut all = CountedBefore::default();
        let numbers = sums.shown.iter().map(|(number, _)| *number);
        let workers: BTreeMap<usize, CountedBefore> =
            numbers.clone().zip(sums.of_workers.iter().map(CountedBefore::of)).collect();
        workers.values().for_each(|worker| all.add(worker));
        let of_apps: BTreeMap<AppId, CountedBefore> =
            apps.iter().zip(&sums.of_apps).map(|(app, figures)| (*app, CountedBefore::of(figures))).collect();
        if let Some(before) = &self.before {
            let seconds = now.saturating_duration_since(before.at).as_secs_f32().max(0.001);
            let none = CountedBefore::default();
            let memory: u64 = sums.of_workers.iter().map(|figures| figures.memory_bytes).sum();
            let by_worker = numbers.zip(&sums.of_workers).filter_map(|(number, figures)| {
                let before = before.workers.get(&number).unwrap_or(&none);
                Some((number, workers.get(&number)?.since(before, seconds, figures.memory_bytes)))
            });
            let by_app = apps.iter().zip(&sums.of_apps).filter_map(|(app, figures)| {
                let before = before.apps.get(app).unwrap_or(&none);
                Some((*app, of_apps.get(app)?.since(before, seconds, figures.memory_bytes)))
            });
            let moment = HistoryMoment {
                all: all.since(&before.all, seconds, memory),
                sheds: number(all.sheds.saturating_sub(before.all.sheds)) / seconds,
                percentiles: percentiles(&all.buckets, &before.all.buckets),
                workers: by_worker.collect(),
                apps: by_app.collect(),
            };
            if self.moments.len() == MOMENTS_MAX {
                self.moments.pop_front();
            }
            self.moments.push_back(moment);
        }
        self.before = Some(Before { at: now, all, workers, apps: of_apps });
    }

    /// The moments, the oldest first.
    pub(super) fn moments(&self) -> &VecDeque<HistoryMoment> {
        &self.moments
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<&HistoryMoment> {
        self.moments.back()
    }
}

/// What half, nine of ten and 99 of 100 of the requests between two readings took at most, in seconds.
fn percentiles(now: &[u64], before: &[u64]) -> Option<[f32; 3]> {
    let counts: Vec<u64> = now.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect();
    let all: u64 = counts.iter().sum();
    (all > 0).then(|| [0.5, 0.9, 0.99].map(|part| quantile(&counts, number(all) * part)))
}

/// Where in the buckets the request of this rank is, as if those of a bucket were spread over it evenly. (Prometheus does the same;
/// those above the last bound count as that bound.)
fn quantile(counts: &[u64], rank: f32) -> f32 {
    let (mut below, mut lower) = (0.0, 0.0);
    #[expect(clippy::cast_possible_truncation, reason = "bounds are short numbers")]
    let bounds = LATENCY_BOUNDS.iter().map(|bound| *bound as f32);
    for (count, upper) in counts.iter().zip(bounds) {
        let count = number(*count);
        if count > 0.0 && below + count >= rank {
            return lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0);
        }
        (below, lower) = (below + count, upper);
    }
    lower
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn number(count: u64) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_status::Presence;

    /// Sums of two workers and one app, of so many requests.
    fn sums(requests: u64, errors: u64, fast: u64, slow: u64) -> Sums {
        let mut figures = AppFigures::default();
        figures.responses[2] = requests - errors;
        figures.responses[5] = errors;
        figures.guest_cpu_us = requests * 1_000;
        figures.memory_bytes = 3 << 20;
        // Within 1 ms, and within 1 s.
        figures.latency.buckets[3] = fast;
        figures.latency.buckets[11] = slow;
        let shown = vec![(1, Presence::Wanted), (2, Presence::Wanted)];
        Sums {
            shown,
            of_workers: vec![figures.clone(), AppFigures::default()],
            of_apps: vec![figures],
            ..Sums::default()
        }
    }

    #[test]
    fn a_moment_has_rates_since_the_one_before() {
        let mut history = History::default();
        let begin = Instant::now();
        history.add(begin, &sums(100, 0, 0, 0), &[AppId(7)]);
        assert!(history.last().is_none(), "nothing to compare with");
        history.add(begin + Duration::from_secs(5), &sums(600, 50, 0, 0), &[AppId(7)]);
        let moment = history.last().expect("a moment");
        let expected = Activity { requests: 100.0, errors: 10.0, cpu: 0.1, memory_mib: 3.0 };
        assert_eq!((moment.all, moment.workers[&1], moment.apps[&AppId(7)]), (expected, expected, expected));
        assert_eq!(moment.workers[&2], Activity::default());
        // What counts anew is no negative rate.
        history.add(begin + Duration::from_secs(10), &sums(0, 0, 0, 0), &[AppId(7)]);
        assert_eq!(history.last().map(|moment| moment.all.requests), Some(0.0));
    }

    #[test]
    fn only_the_last_quarter_of_an_hour_is_kept() {
        let mut history = History::default();
        let begin = Instant::now();
        for step in 0..=200_u32 {
            history.add(begin + EVERY * step, &sums(u64::from(step), 0, 0, 0), &[AppId(1)]);
        }
        assert_eq!(history.moments().len(), MOMENTS_MAX);
        assert_eq!(EVERY * 180, Duration::from_secs(15 * 60));
    }

    #[test]
    fn percentiles_are_those_of_the_requests_in_between() {
        let mut history = History::default();
        let begin = Instant::now();
        history.add(begin, &sums(0, 0, 0, 1_000), &[]);
        history.add(begin + EVERY, &sums(0, 0, 95, 1_005), &[]);
        let [p50, p90, p99] = history.last().and_then(|moment| moment.percentiles).expect("requests");
        assert!(p50 > 0.000_5 && p50 < 0.001 && p90 < 0.001, "{p50} {p90}");
        assert!(p99 > 0.25 && p99 <= 1.0, "{p99}");
        history.add(begin + EVERY * 2, &sums(0, 0, 95, 1_005), &[]);
        assert_eq!(history.last().and_then(|moment| moment.percentiles), None, "no request, no percentile");
    }
}
