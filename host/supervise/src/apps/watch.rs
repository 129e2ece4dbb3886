//! PURE: whether a new revision of an app fares worse than the one before, so that the host goes back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use wasmhost_config::{AppId, CanaryRules, RollbackRules};
use wasmhost_serve::metrics::RevisionTally;

/// So many requests of a new revision must have failed, or instances of it been given up: a few do under any revision.
const FAILURES_MIN: u64 = 5;
/// At first, and after a while, it is looked so often.
const LOOKS_AT_FIRST: Duration = Duration::from_millis(20);
const AT_FIRST: Duration = Duration::from_secs(2);
const LOOKS_LATER: Duration = Duration::from_millis(200);
/// Shares of requests are counted in so many parts.
const PARTS: u128 = 1_000_000;

/// The revisions of apps that are watched, and when each is looked at next.
#[derive(Debug, Default)]
pub(crate) struct Watches(pub(crate) BTreeMap<AppId, (Watch, Instant)>);

impl Watches {
    /// When one of them is to be looked at.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.0.values().map(|(_, at)| *at).min()
    }

    /// The revision of an app is not watched any more.
    pub(crate) fn forget(&mut self, app: AppId) {
        self.0.remove(&app);
    }
}

/// A new revision that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watch {
    /// Its number.
    pub(crate) revision: u64,
    /// It gets a share of the requests.
    pub(crate) is_canary: bool,
    /// The number of the one that it is compared with.
    pub(crate) than: u64,
    /// How that one had fared when this one began.
    pub(crate) before: RevisionTally,
    began: Instant,
    /// None: until a command ends it.
    window: Option<Duration>,
    threshold_percent: u8,
    /// How long requests that are under way when the window ends are waited for: they may be its first failures.
    patience: Duration,
    /// When the window had ended: requests that had ended until then, and those under way.
    at_end: Option<(u64, u64)>,
}

/// How a watch goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WatchVerdict {
    /// It is looked again at this time.
    Later(Instant),
    /// The revision has held.
    Held,
    /// It is worse than the one before, for this reason.
    Worse(String),
}

impl Watch {
    /// Of a revision that begins now, if the app wants it watched. It is compared with the other one. `patience`: how long one of
    /// its requests may take.
    pub(crate) fn begin(
        (revision, than): (u64, u64),
        before: RevisionTally,
        (rules, patience): (RollbackRules, Duration),
        now: Instant,
    ) -> Option<Self> {
        let RollbackRules { window, threshold_percent, .. } = rules;
        let (is_canary, at_end) = (false, None);
        let watch = Self { revision, is_canary, than, before, began: now, window, threshold_percent, patience, at_end };
        window.map(|_| watch)
    }

    /// Of one that gets a share of the requests from now on.
    pub(crate) fn of_canary(
        (revision, than): (u64, u64),
        before: RevisionTally,
        (rules, canary): (RollbackRules, &CanaryRules),
        now: Instant,
    ) -> Self {
        let RollbackRules { threshold_percent, .. } = rules;
        let (window, is_canary, patience, at_end) = (canary.time, true, Duration::ZERO, None);
        Self { revision, is_canary, than, before, began: now, window, threshold_percent, patience, at_end }
    }

    /// What this says of the revision: how it has fared by now, and the one that it is compared with. What that one does while a
    /// canary is beside it counts, and not what it did before. `in_flight`: requests of the app that are under way.
    pub(crate) fn look(
        &mut self,
        (tally, other): (RevisionTally, RevisionTally),
        in_flight: u64,
        now: Instant,
    ) -> WatchVerdict {
        let before = if self.is_canary { since(other, self.before) } else { self.before };
        if let Some(reason) = self.is_worse(tally, before) {
            return WatchVerdict::Worse(reason);
        }
        let passed = now.saturating_duration_since(self.began);
        let left = self.window.map(|window| window.saturating_sub(passed));
        if left.is_some_and(|left| left.is_zero()) {
            // A canary that nobody has asked for anything has shown nothing. Nor has a revision that answers nobody.
            let (ended, under_way) = *self.at_end.get_or_insert((tally.requests, in_flight));
            let is_patient = self.window.is_some_and(|window| passed < window + self.patience);
            let waits = is_patient && tally.requests.saturating_sub(ended) < under_way;
            return match (self.is_canary && tally.requests < FAILURES_MIN) || waits {
                true => WatchVerdict::Later(now + LOOKS_LATER),
                false => WatchVerdict::Held,
            };
        }
        let looks = if passed < AT_FIRST { LOOKS_AT_FIRST } else { LOOKS_LATER };
        WatchVerdict::Later(now + left.map_or(looks, |left| looks.min(left)))
    }

    fn is_worse(&self, tally: RevisionTally, before: RevisionTally) -> Option<String> {
        let failed = failed(tally);
        let (share, before) = (parts(failed, tally.requests), share_before(before));
        let is_worse = failed >= FAILURES_MIN && share > before + u128::from(self.threshold_percent) * PARTS / 100;
        is_worse.then(|| {
            format!(
                "{failed} of its {} requests failed ({}), and {} of those of the revision before",
                tally.requests.max(failed),
                percent(share),
                percent(before)
            )
        })
    }
}

/// Requests that failed. An instance may be given up beside its answers.
fn failed(tally: RevisionTally) -> u64 {
    tally.failures.max(tally.faults)
}

/// What has come since: counts of all, and the last ones as they are.
fn since(now: RevisionTally, then: RevisionTally) -> RevisionTally {
    RevisionTally {
        requests: now.requests.saturating_sub(then.requests),
        failures: now.failures.saturating_sub(then.failures),
        faults: now.faults.saturating_sub(then.faults),
        ..now
    }
}

/// The share of requests of the revision before that failed: of all that it has had, or of the last ones, whichever is greater.
/// What goes wrong at the moment, such as a database that is away, is no fault of the new one.
fn share_before(before: RevisionTally) -> u128 {
    parts(failed(before), before.requests).max(parts(before.recent_failures, before.recent))
}

/// Never more than all.
fn parts(failed: u64, of: u64) -> u128 {
    (u128::from(failed) * PARTS).checked_div(of.max(failed).into()).unwrap_or(0)
}

fn percent(parts: u128) -> String {
    format!("{}.{} %", parts * 100 / PARTS, parts * 1_000 / PARTS % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(requests: u64, failures: u64) -> RevisionTally {
        RevisionTally { requests, failures, recent: requests.min(64), ..RevisionTally::default() }
    }

    fn watch(before: RevisionTally, now: Instant) -> Watch {
        let rules = RollbackRules { kept: 3, window: Some(Duration::from_secs(30)), threshold_percent: 10 };
        Watch::begin((2, 1), before, (rules, Duration::from_secs(20)), now).expect("it is watched")
    }

    fn is_worse(before: RevisionTally, tally: RevisionTally) -> bool {
        let now = Instant::now();
        matches!(watch(before, now).look((tally, before), 0, now), WatchVerdict::Worse(_))
    }

    #[test]
    fn a_revision_is_worse_when_more_fails_than_before_by_more_than_the_threshold_and_not_by_a_few() {
        for (before, after, expected) in [
            ((100, 0), (1, 1), false),
            ((100, 0), (4, 4), false),
            ((100, 0), (5, 5), true),
            ((100, 0), (50, 5), false),
            ((100, 0), (49, 5), true),
            ((100, 20), (100, 30), false),
            ((100, 20), (100, 31), true),
            ((100, 95), (100, 100), false),
            ((0, 0), (1_000, 101), true),
            ((0, 0), (1_000, 100), false),
            ((u64::MAX, u64::MAX), (u64::MAX, u64::MAX), false),
        ] {
            assert_eq!(is_worse(tally(before.0, before.1), tally(after.0, after.1)), expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn instances_that_are_given_up_count_as_requests_that_failed() {
        let faults = |faults| RevisionTally { faults, ..tally(20, 0) };
        assert!(is_worse(tally(100, 0), faults(5)) && !is_worse(tally(100, 0), faults(2)));
        assert!(is_worse(tally(100, 0), RevisionTally { faults: 6, ..RevisionTally::default() }), "at their start");
    }

    #[test]
    fn what_failed_lately_under_the_old_revision_too_is_no_fault_of_the_new_one() {
        let before = RevisionTally { recent_failures: 60, ..tally(100_000, 70) };
        assert!(is_worse(tally(100_000, 70), tally(100, 90)));
        assert!(!is_worse(before, tally(100, 90)));
    }

    #[test]
    fn it_is_watched_for_its_time_and_looked_at_less_often_later() {
        let now = Instant::now();
        let mut watch = watch(tally(10, 0), now);
        let (fine, bad) = (tally(10, 0), tally(10, 10));
        assert_eq!(watch.look((fine, fine), 9, now), WatchVerdict::Later(now + LOOKS_AT_FIRST));
        let later = now + Duration::from_secs(10);
        assert_eq!(watch.look((fine, fine), 9, later), WatchVerdict::Later(later + LOOKS_LATER));
        let last = now + Duration::from_millis(29_990);
        assert_eq!(watch.look((fine, fine), 9, last), WatchVerdict::Later(now + Duration::from_secs(30)));
        let over = now + Duration::from_secs(30);
        assert_eq!(watch.look((fine, fine), 0, over), WatchVerdict::Held);
        assert_eq!(
            watch.look((bad, fine), 0, over),
            WatchVerdict::Worse(
                "10 of its 10 requests failed (100.0 %), and 0.0 % of those of the revision before".into()
            )
        );
        let rules = RollbackRules { window: None, ..RollbackRules::default() };
        assert_eq!(Watch::begin((2, 1), fine, (rules, Duration::ZERO), now), None);
        let forever = CanaryRules::default();
        let mut canary = Watch::of_canary((2, 1), fine, (rules, &forever), now);
        let later = now + Duration::from_secs(1_000_000);
        assert_eq!(
            canary.look((fine, fine), 0, later),
            WatchVerdict::Later(later + LOOKS_LATER),
            "until a command ends it"
        );
    }

    #[test]
    fn a_revision_that_answers_nobody_has_not_held_when_its_time_is_over() {
        let now = Instant::now();
        let fine = tally(10, 0);
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut hangs = watch(fine, now);
        for seconds in [30, 40, 49] {
            let later = WatchVerdict::Later(at(seconds) + LOOKS_LATER);
            assert_eq!(hangs.look((tally(3, 0), fine), 7, at(seconds)), later, "{seconds}");
        }
        // The first of them have had their time.
        assert!(matches!(hangs.look((tally(9, 6), fine), 7, at(49)), WatchVerdict::Worse(_)));
        let mut streams = watch(fine, now);
        streams.look((tally(3, 0), fine), 7, at(30));
        assert_eq!(streams.look((tally(3, 0), fine), 7, at(50)), WatchVerdict::Held, "they may take longer");
        let mut fast = watch(fine, now);
        fast.look((tally(3, 0), fine), 7, at(30));
        assert_eq!(fast.look((tally(10, 0), fine), 7, at(31)), WatchVerdict::Held, "they have ended");
        assert_eq!(watch(fine, now).look((tally(0, 0), fine), 0, at(30)), WatchVerdict::Held, "nobody asks");
    }

    #[test]
    fn a_canary_is_compared_with_what_the_other_one_does_meanwhile() {
        let (now, rules) = (Instant::now(), RollbackRules { threshold_percent: 10, ..RollbackRules::default() });
        let forever = CanaryRules::default();
        let canary = Watch::of_canary((2, 1), tally(10_000, 0), (rules, &forever), now);
        let is_worse =
            |mut canary: Watch, other| matches!(canary.look((tally(20, 8), other), 0, now), WatchVerdict::Worse(_));
        assert!(is_worse(canary, tally(10_100, 0)));
        // A database is away, for both.
        assert!(!is_worse(canary, tally(10_100, 35)));
        // It had failed before, and does so no more.
        let canary = Watch::of_canary((2, 1), tally(100, 90), (rules, &forever), now);
        assert!(is_worse(canary, tally(10_000, 90)));
    }

    #[test]
    fn a_canary_without_requests_does_not_hold() {
        let (now, rules) = (Instant::now(), RollbackRules::default());
        let minute = CanaryRules { time: Some(Duration::from_secs(60)), ..CanaryRules::default() };
        let (none, served) = (RevisionTally::default(), tally(100, 0));
        let mut canary = Watch::of_canary((2, 1), served, (rules, &minute), now);
        let over = now + Duration::from_secs(60);
        assert_eq!(canary.look((none, served), 0, over), WatchVerdict::Later(over + LOOKS_LATER));
        assert_eq!(canary.look((tally(4, 0), served), 0, over), WatchVerdict::Later(over + LOOKS_LATER));
        assert_eq!(canary.look((tally(5, 0), served), 0, over), WatchVerdict::Held);
    }
}
