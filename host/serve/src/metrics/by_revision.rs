//! Counts of an app by its revision: of the last few that a worker has served, so that their number is bounded.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use super::cells::Summed;
use super::table::Labelled;

/// Revisions that are counted at once: the one that is served, and those that may still finish requests.
const REVISIONS: usize = 4;
/// Requests of a worker that its latest share of failures is of.
const RECENT: u32 = u64::BITS;

/// A count of each of the last revisions, and of all before. One thread writes it.
#[derive(Debug, Default)]
pub struct ByRevision {
    places: [RevisionCount; REVISIONS],
    /// What was counted of those that have made room, and the latest of these.
    older: AtomicU64,
    newest_older: AtomicU64,
}

/// What was counted of one revision; 0: of none.
#[derive(Debug, Default)]
struct RevisionCount {
    revision: AtomicU64,
    count: AtomicU64,
    /// The turn in which it was begun, or begun again, last.
    turn: AtomicU64,
}

impl ByRevision {
    fn held(&self, revision: u64) -> Option<&RevisionCount> {
        self.places.iter().find(|place| revision > 0 && place.revision.load(Acquire) == revision)
    }

    /// A revision is served from now on, or still: the one that was begun longest ago makes room for a new one.
    fn begin(&self, revision: u64) {
        let turn = |place: &RevisionCount| place.turn.load(Relaxed);
        let next = self.places.iter().map(turn).max().unwrap_or(0) + 1;
        if let Some(place) = self.held(revision) {
            place.turn.store(next, Relaxed);
        } else if let Some(place) = self.places.iter().min_by_key(|place| turn(place)) {
            // Nobody reads the count of the one before as that of the new one, or twice: who reads begins with `newest_older`.
            let before = place.revision.swap(0, Release);
            if before > 0 {
                self.older.store(self.older.load(Relaxed).wrapping_add(place.count.load(Relaxed)), Release);
                self.newest_older.store(self.newest_older.load(Relaxed).max(before), Release);
            }
            place.count.store(0, Release);
            place.turn.store(next, Relaxed);
            place.revision.store(revision, Release);
        }
    }

    /// Changes what a revision has. One that has made room is not counted any more.
    fn change(&self, revision: u64, change: impl FnOnce(u64) -> u64) {
        if let Some(place) = self.held(revision) {
            place.count.store(change(place.count.load(Relaxed)), Relaxed);
        }
    }

    /// What a revision has.
    fn of(&self, revision: u64) -> u64 {
        self.held(revision).map_or(0, |place| place.count.load(Relaxed))
    }
}

/// Counts by revision of one worker, or of several in sum.
#[derive(Debug, Clone)]
pub struct RevisionsSum {
    by_revision: BTreeMap<u64, u64>,
    older: u64,
    newest_older: u64,
}

impl RevisionsSum {
    /// What each revision has, and in sum those up to the latest that has made room on some worker: while others still have such
    /// a one, its count alone would go backwards. So none ever does.
    pub(crate) fn labelled(&self) -> Labelled {
        let (older, last): (Vec<_>, Vec<_>) =
            self.by_revision.iter().partition(|(revision, _)| **revision <= self.newest_older);
        let older = older.into_iter().fold(self.older, |sum, (_, count)| sum.wrapping_add(*count));
        let older = (self.newest_older > 0).then(|| ("older".into(), older));
        older
            .into_iter()
            .chain(last.into_iter().map(|(revision, count)| (revision.to_string().into(), *count)))
            .collect()
    }
}

impl Summed for ByRevision {
    type Sum = RevisionsSum;
    const NONE: RevisionsSum = RevisionsSum { by_revision: BTreeMap::new(), older: 0, newest_older: 0 };

    fn add_to(&self, sum: &mut RevisionsSum) {
        sum.newest_older = sum.newest_older.max(self.newest_older.load(Acquire));
        sum.older = sum.older.wrapping_add(self.older.load(Acquire));
        for place in &self.places {
            let revision = place.revision.load(Acquire);
            if revision > 0 {
                let of_revision = sum.by_revision.entry(revision).or_default();
                *of_revision = of_revision.wrapping_add(place.count.load(Relaxed));
            }
        }
    }
}

/// How revisions of an app have fared, as far as [`RevisionTally`] tells it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RevisionCells<'a> {
    pub(crate) requests: &'a ByRevision,
    pub(crate) failures: &'a ByRevision,
    pub(crate) faults: &'a ByRevision,
    /// One bit for each of the last [`RECENT`] requests, the latest lowest: whether it failed.
    pub(crate) recent: &'a ByRevision,
}

impl RevisionCells<'_> {
    /// A revision is served from now on, or still: of those that are counted, it will make room last.
    pub(crate) fn begin(&self, revision: u64) {
        [self.requests, self.failures, self.faults, self.recent].into_iter().for_each(|count| count.begin(revision));
    }

    /// A request has ended.
    pub(crate) fn answered(&self, revision: u64, has_failed: bool) {
        self.requests.change(revision, |count| count.wrapping_add(1));
        self.recent.change(revision, |bits| (bits << 1) | u64::from(has_failed));
        if has_failed {
            self.failures.change(revision, |count| count.wrapping_add(1));
        }
    }

    /// An instance was given up.
    pub(crate) fn faulted(&self, revision: u64) {
        self.faults.change(revision, |count| count.wrapping_add(1));
    }

    /// How a revision has fared.
    pub(crate) fn tally(&self, revision: u64) -> RevisionTally {
        let requests = self.requests.of(revision);
        RevisionTally {
            requests,
            failures: self.failures.of(revision),
            faults: self.faults.of(revision),
            recent: requests.min(RECENT.into()),
            recent_failures: self.recent.of(revision).count_ones().into(),
        }
    }
}

/// How a revision has fared: on one worker, or on several in sum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RevisionTally {
    /// Requests that have ended.
    pub requests: u64,
    /// Those that failed: with a status from 500 on, or broken off.
    pub failures: u64,
    /// Instances that were given up.
    pub faults: u64,
    /// The last requests of each worker: how many these are, 64 of each at most.
    pub recent: u64,
    /// Those of them that failed.
    pub recent_failures: u64,
}

impl RevisionTally {
    /// Of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            failures: self.failures.saturating_add(other.failures),
            faults: self.faults.saturating_add(other.faults),
            recent: self.recent.saturating_add(other.recent),
            recent_failures: self.recent_failures.saturating_add(other.recent_failures),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_are_counted_apart_and_the_oldest_makes_room() {
        let [requests, failures, faults, recent] = std::array::from_fn(|_| ByRevision::default());
        let cells = RevisionCells { requests: &requests, failures: &failures, faults: &faults, recent: &recent };
        cells.answered(1, true);
        assert_eq!(cells.tally(1), RevisionTally::default(), "it was not begun");
        for revision in 1..=4 {
            cells.begin(revision);
            (0..revision).for_each(|_| cells.answered(revision, revision == 3));
        }
        cells.faulted(3);
        cells.begin(3);
        assert_eq!(
            cells.tally(3),
            RevisionTally { requests: 3, failures: 3, faults: 1, recent: 3, recent_failures: 3 },
            "begun again, its counts stay"
        );
        cells.begin(5);
        cells.answered(1, false);
        cells.answered(5, false);
        assert_eq!(shown(&[&requests, &requests]), ["older 2", "2 4", "3 6", "4 8", "5 2"]);
        assert_eq!((cells.tally(1), cells.tally(0)), (RevisionTally::default(), RevisionTally::default()));
    }

    #[test]
    fn the_revision_that_is_served_beside_one_canary_after_another_is_counted_still() {
        let [requests, failures, faults, recent] = std::array::from_fn(|_| ByRevision::default());
        let cells = RevisionCells { requests: &requests, failures: &failures, faults: &faults, recent: &recent };
        cells.begin(1);
        for canary in 2..=9 {
            cells.begin(1);
            cells.begin(canary);
            cells.answered(1, true);
            cells.answered(canary, false);
            assert_eq!((cells.tally(1).failures, cells.tally(canary).requests), (canary - 1, 1), "{canary}");
        }
    }

    fn shown(counts: &[&ByRevision]) -> Vec<String> {
        let mut sum = ByRevision::NONE;
        counts.iter().for_each(|count| count.add_to(&mut sum));
        sum.labelled().into_iter().map(|(revision, count)| format!("{revision} {count}")).collect()
    }

    #[test]
    fn no_count_goes_backwards_while_workers_have_different_revisions() {
        let workers = [ByRevision::default(), ByRevision::default()];
        let count = |worker: usize, revision| {
            workers[worker].begin(revision);
            workers[worker].change(revision, |count| count + 10);
        };
        let shown = || shown(&workers.each_ref());
        (1..=4).for_each(|revision| count(0, revision));
        count(1, 1);
        assert_eq!(shown(), ["1 20", "2 10", "3 10", "4 10"]);
        count(0, 5);
        assert_eq!(shown(), ["older 20", "2 10", "3 10", "4 10", "5 10"], "the other one still has 1");
        // It finishes requests of it.
        count(1, 1);
        assert_eq!(shown(), ["older 30", "2 10", "3 10", "4 10", "5 10"]);
        count(1, 5);
        assert_eq!(shown(), ["older 30", "2 10", "3 10", "4 10", "5 20"]);
        // The host goes back.
        count(0, 1);
        assert_eq!(shown(), ["older 50", "3 10", "4 10", "5 20"], "1 and 2, which has made room for it");
    }

    #[test]
    fn the_latest_share_is_of_the_last_requests_alone() {
        let [requests, failures, faults, recent] = std::array::from_fn(|_| ByRevision::default());
        let cells = RevisionCells { requests: &requests, failures: &failures, faults: &faults, recent: &recent };
        cells.begin(7);
        (0..100).for_each(|_| cells.answered(7, true));
        (0..60).for_each(|_| cells.answered(7, false));
        let tally = cells.tally(7);
        assert_eq!((tally.requests, tally.failures, tally.recent, tally.recent_failures), (160, 100, 64, 4));
        assert_eq!(tally.and(tally).recent, 128);
    }
}
