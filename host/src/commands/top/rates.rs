//! PURE: what happened between two samples.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sample::TopFigures;

/// What happened in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct TopRates {
    /// In a second.
    pub(super) requests: f64,
    /// In a second: answers with a status of 500 or above.
    pub(super) errors: f64,
    /// In a second: refused for want of capacity.
    pub(super) sheds: f64,
    /// Half of the requests took no longer; none without requests.
    pub(super) p50: Option<TopTime>,
    /// 99 of 100 took no longer.
    pub(super) p99: Option<TopTime>,
    /// Of one core: of a worker all that it does, of an app what its guests compute.
    pub(super) cpu_percent: Option<f64>,
    /// CPU time in guests for each request, in microseconds.
    pub(super) guest_us: Option<f64>,
}

/// A time that stands for many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TopTime {
    pub(super) us: f64,
    /// It is longer, and nobody knows how much.
    pub(super) is_above: bool,
}

/// What happened from `before` to `now`. None where no time has passed.
pub(super) fn rates(before: &TopFigures, now: &TopFigures, elapsed: Duration) -> Option<TopRates> {
    let seconds = elapsed.as_secs_f64();
    if seconds <= 0.0 {
        return None;
    }
    let requests = gained(before.requests, now.requests);
    let guest_us = float(gained(before.guest_cpu_us, now.guest_cpu_us));
    let latency: BTreeMap<u64, u64> = now
        .latency
        .iter()
        .map(|(bound, count)| (*bound, gained(before.latency.get(bound).copied().unwrap_or(0), *count)))
        .collect();
    let all = |counts: &BTreeMap<String, u64>| counts.values().sum();
    let used_us = match (before.cpu_us, now.cpu_us) {
        (Some(before), Some(now)) => Some(float(gained(before, now))),
        // Of an app only what guests use is known.
        (None, None) => Some(guest_us),
        _ => None,
    };
    Some(TopRates {
        requests: float(requests) / seconds,
        errors: float(gained(before.errors, now.errors)) / seconds,
        sheds: float(gained(all(&before.sheds), all(&now.sheds))) / seconds,
        p50: time_of(&latency, 0.50),
        p99: time_of(&latency, 0.99),
        cpu_percent: used_us.map(|us| us / seconds / 10_000.0),
        guest_us: (requests > 0).then(|| guest_us / float(requests)),
    })
}

/// What a count has gained. One that went back began again at 0.
fn gained(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

#[expect(clippy::cast_precision_loss, reason = "a count above 2^53 may be off by one")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

/// The time that this share of requests did not exceed, by how many fell between which bounds. Within a bucket they are taken to be
/// spread evenly, as Prometheus does (`histogram_quantile`).
fn time_of(latency: &BTreeMap<u64, u64>, share: f64) -> Option<TopTime> {
    let all: u64 = latency.values().sum();
    let rank = share * float(all);
    let (mut below, mut lower) = (0, 0);
    for (bound, count) in latency {
        if *count > 0 && float(below + count) >= rank {
            let is_above = *bound == u64::MAX;
            let part = (rank - float(below)) / float(*count);
            let us = if is_above { float(lower) } else { float(lower) + float(bound - lower) * part };
            return Some(TopTime { us, is_above });
        }
        below += count;
        lower = *bound;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn latency<const N: usize>(counts: [(u64, u64); N]) -> BTreeMap<u64, u64> {
        BTreeMap::from(counts)
    }

    #[test]
    fn rates_are_differences_by_the_time_that_has_passed() {
        let before =
            TopFigures { requests: 100, errors: 1, guest_cpu_us: 1_000, cpu_us: Some(5_000), ..Default::default() };
        let now = TopFigures {
            requests: 300,
            errors: 2,
            guest_cpu_us: 41_000,
            cpu_us: Some(1_005_000),
            ..Default::default()
        };
        let of = rates(&before, &now, 2 * SECOND).unwrap_or_default();
        assert_eq!((of.requests, of.errors, of.guest_us), (100.0, 0.5, Some(200.0)));
        assert_eq!(of.cpu_percent, Some(50.0));
        assert_eq!(rates(&before, &now, Duration::ZERO), None);
        let idle = rates(&now, &now, SECOND).unwrap_or_default();
        assert_eq!((idle.requests, idle.guest_us, idle.p50, idle.p99), (0.0, None, None, None));
    }

    #[test]
    fn counts_that_went_back_began_again() {
        let before =
            TopFigures { requests: 1_000, guest_cpu_us: 9_000_000, cpu_us: Some(9_000_000), ..Default::default() };
        let now = TopFigures { requests: 10, guest_cpu_us: 100, cpu_us: Some(10_000), ..Default::default() };
        let of = rates(&before, &now, SECOND).unwrap_or_default();
        assert_eq!((of.requests, of.guest_us, of.cpu_percent), (10.0, Some(10.0), Some(1.0)));
    }

    #[test]
    fn percentiles_are_of_the_interval_alone() {
        // Before: all fast. Since: 90 of 1 ms at most, 10 of up to 2.5 ms.
        let before =
            TopFigures { latency: latency([(1_000, 1_000_000), (2_500, 0), (u64::MAX, 0)]), ..Default::default() };
        let now =
            TopFigures { latency: latency([(1_000, 1_000_090), (2_500, 10), (u64::MAX, 0)]), ..Default::default() };
        let of = rates(&before, &now, SECOND).unwrap_or_default();
        let (p50, p99) = (of.p50.map_or(0.0, |time| time.us), of.p99.map_or(0.0, |time| time.us));
        assert!((p50 - 1_000.0 * 50.0 / 90.0).abs() < 1e-6, "{p50}");
        assert!((p99 - (1_000.0 + 1_500.0 * 0.9)).abs() < 1e-6, "{p99}");
    }

    #[test]
    fn a_time_above_the_last_bound_is_said_to_be_above_it() {
        let counts = latency([(1_000, 1), (30_000_000, 0), (u64::MAX, 1)]);
        assert_eq!(time_of(&counts, 0.99), Some(TopTime { us: 30_000_000.0, is_above: true }));
        assert_eq!(time_of(&counts, 0.5), Some(TopTime { us: 1_000.0, is_above: false }));
        assert_eq!(time_of(&latency([(1_000, 0)]), 0.5), None);
    }
}
