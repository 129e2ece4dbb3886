//! PURE: workers are given a new revision of an app one after another, with a pause, so that one that is bad is found while the
//! others still serve what they had.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use wasmhost_config::AppId;
use wasmhost_serve::worker::WorkerId;

/// A worker has so long to serve with the new revision; then it is the next one's turn in any case.
const WORKER_WITHIN: Duration = Duration::from_secs(2);
/// Once a worker serves with it, the next one waits so long: it is looked twice meanwhile how the revision fares.
const PAUSE: Duration = Duration::from_millis(45);

/// The swaps that are under way. `T` is what a worker is told.
#[derive(Debug)]
pub(super) struct Swaps<T>(BTreeMap<AppId, Swap<T>>);

/// Of one app.
#[derive(Debug)]
struct Swap<T> {
    rest: VecDeque<(WorkerId, T)>,
    /// Whose turn it is; none: there is a pause.
    turn: Option<WorkerId>,
    /// When the next one has its turn, whatever comes of this one.
    next_at: Instant,
}

impl<T> Default for Swaps<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Swaps<T> {
    /// These workers are to be given a new revision of an app, in this order. What the first one is told is told now.
    pub(super) fn begin(&mut self, app: AppId, workers: Vec<(WorkerId, T)>, now: Instant) -> Option<T> {
        let mut rest = VecDeque::from(workers);
        let (first, told) = rest.pop_front()?;
        self.0.insert(app, Swap { rest, turn: Some(first), next_at: now + WORKER_WITHIN });
        Some(told)
    }

    /// A worker serves an app, or (none) whatever it did, with what it was given; or it cannot yet, or is gone.
    pub(super) fn caught_up(&mut self, worker: WorkerId, served: Option<AppId>, now: Instant) {
        let is_it = |app: AppId| served.is_none_or(|served| served == app);
        for (_, swap) in self.0.iter_mut().filter(|(app, swap)| is_it(**app) && swap.turn == Some(worker)) {
            (swap.turn, swap.next_at) = (None, now + PAUSE);
        }
        if served.is_none() {
            // Its successor asks for what is served then.
            self.0.values_mut().for_each(|swap| swap.rest.retain(|(waits, _)| *waits != worker));
        }
        self.0.retain(|_, swap| swap.turn.is_some() || !swap.rest.is_empty());
    }

    /// A worker is told something else of an app.
    pub(super) fn overtaken(&mut self, worker: WorkerId, app: AppId) {
        if let Some(swap) = self.0.get_mut(&app) {
            swap.rest.retain(|(waits, _)| *waits != worker);
        }
    }

    /// Another revision is to be served, or none: nobody is given this one any more.
    pub(super) fn end(&mut self, app: AppId) {
        self.0.remove(&app);
    }

    /// Whether workers of this app wait for their turn, or one has it.
    pub(super) fn is_under_way(&self, app: AppId) -> bool {
        self.0.contains_key(&app)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When [`Self::due`] has something to say.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.values().map(|swap| swap.next_at).min()
    }

    /// What the workers are told whose turn has come.
    pub(super) fn due(&mut self, now: Instant) -> Vec<T> {
        let mut told = Vec::new();
        self.0.retain(|_, swap| {
            if swap.next_at > now {
                return true;
            }
            let next = swap.rest.pop_front();
            swap.turn = next.as_ref().map(|(worker, _)| *worker);
            swap.next_at = now + WORKER_WITHIN;
            told.extend(next.map(|(_, told)| told));
            swap.turn.is_some()
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId(3);
    const OTHER: AppId = AppId(4);

    fn begun(workers: &[u16], now: Instant) -> Swaps<u16> {
        let mut swaps = Swaps::default();
        let all = workers.iter().map(|number| (WorkerId(*number), *number)).collect();
        assert_eq!(swaps.begin(APP, all, now), workers.first().copied());
        swaps
    }

    #[test]
    fn one_worker_after_another_has_its_turn_with_a_pause_between_them() {
        let now = Instant::now();
        let mut swaps = begun(&[1, 2, 3], now);
        let mut at = now;
        for next in [2, 3] {
            swaps.caught_up(WorkerId(9), Some(APP), at);
            swaps.caught_up(WorkerId(next - 1), Some(OTHER), at);
            assert_eq!(swaps.due_at(), Some(at + WORKER_WITHIN), "others and other apps change nothing");
            swaps.caught_up(WorkerId(next - 1), Some(APP), at);
            assert_eq!((swaps.due(at), swaps.due_at()), (vec![], Some(at + PAUSE)));
            at += PAUSE;
            assert_eq!(swaps.due(at), [next]);
        }
        assert!(swaps.is_under_way(APP) && !swaps.is_under_way(OTHER));
        // It is gone, and whatever it served with it.
        swaps.caught_up(WorkerId(3), None, at);
        assert!(swaps.is_empty() && swaps.due_at().is_none());
        let mut swaps = begun(&[1, 2, 3], now);
        swaps.caught_up(WorkerId(2), None, now);
        assert_eq!(swaps.due(now + WORKER_WITHIN), [3], "nobody is there to be told");
        assert_eq!(begun(&[], now).due_at(), None);
    }

    #[test]
    fn a_worker_that_takes_too_long_keeps_the_others_from_nothing() {
        let now = Instant::now();
        let mut swaps = begun(&[1, 2], now);
        assert_eq!(swaps.due(now + WORKER_WITHIN), [2]);
        let later = now + WORKER_WITHIN;
        assert!(swaps.due(later + WORKER_WITHIN).is_empty() && swaps.is_empty());
    }

    #[test]
    fn who_is_told_something_else_is_not_told_this_and_nobody_is_of_a_revision_that_is_given_up() {
        let now = Instant::now();
        let mut swaps = begun(&[1, 2, 3], now);
        swaps.overtaken(WorkerId(2), APP);
        swaps.overtaken(WorkerId(3), OTHER);
        assert_eq!(swaps.due(now + WORKER_WITHIN), [3]);
        let mut swaps = begun(&[1, 2], now);
        swaps.end(APP);
        assert!(swaps.is_empty() && swaps.due(now + WORKER_WITHIN).is_empty());
    }
}
