//! PURE: when workers are told of changed settings of apps. Each time costs the primary and every worker process a reading of
//! the whole table, so that one telling is for all changes of a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use wasmhost_config::AppId;
use wasmhost_serve::worker::WorkerId;

/// A change waits so long for others, at least and at most. (What was loaded before serves meanwhile.)
const AT_LEAST: Duration = Duration::from_millis(20);
const AT_MOST: Duration = Duration::from_secs(5);
/// A change waits for so many times what telling took the last time: a tenth of a core goes to it, as long as [`AT_MOST`] allows that.
const TIMES_THE_COST: u32 = 10;

/// Apps of whose changes workers are not told yet, and what they are told of these apps afterwards: each worker the latest.
#[derive(Debug)]
pub(super) struct Unpublished<T> {
    since: Option<Instant>,
    apps: BTreeSet<AppId>,
    held: BTreeMap<(AppId, WorkerId), T>,
    last_took: Duration,
}

impl<T> Default for Unpublished<T> {
    fn default() -> Self {
        Self { since: None, apps: BTreeSet::new(), held: BTreeMap::new(), last_took: Duration::ZERO }
    }
}

impl<T> Unpublished<T> {
    /// An app has changed.
    pub(super) fn note(&mut self, app: AppId, now: Instant) {
        self.since.get_or_insert(now);
        self.apps.insert(app);
    }

    /// Holds back what this worker is to be told of an app, if it has to know of a change first; else gives it back.
    pub(super) fn hold(&mut self, (worker, app): (WorkerId, AppId), told: T) -> Option<T> {
        if self.apps.contains(&app) {
            self.held.insert((app, worker), told);
            return None;
        }
        Some(told)
    }

    /// An app is gone, and nothing is to be told of it.
    pub(super) fn forget(&mut self, app: AppId) {
        self.apps.remove(&app);
        self.held.retain(|(of, _), _| *of != app);
    }

    /// Whether workers do not know of all changes.
    pub(super) fn is_pending(&self) -> bool {
        self.since.is_some()
    }

    /// When workers are to be told; none: there is nothing.
    pub(super) fn due_at(&self) -> Option<Instant> {
        let wait = (self.last_took * TIMES_THE_COST).clamp(AT_LEAST, AT_MOST);
        self.since.map(|since| since + wait)
    }

    /// Workers could not be told now; it is tried again after the longest wait.
    pub(super) fn failed(&mut self, now: Instant) {
        (self.since, self.last_took) = (Some(now), AT_MOST);
    }

    /// Workers were told of all changes, which took so long. What was held back is to be told now.
    pub(super) fn published(&mut self, took: Duration) -> impl Iterator<Item = T> + use<T> {
        (self.since, self.last_took) = (None, took);
        self.apps.clear();
        std::mem::take(&mut self.held).into_values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: WorkerId = WorkerId(1);

    #[test]
    fn one_telling_is_for_all_changes_of_a_while_that_is_bounded() {
        let (mut unpublished, now) = (Unpublished::default(), Instant::now());
        assert_eq!(unpublished.due_at(), None);
        for after in 0..100 {
            unpublished.note(AppId(after), now + Duration::from_millis(after.into()));
            assert_eq!(unpublished.hold((ONE, AppId(after)), after), None);
            assert_eq!(unpublished.due_at(), Some(now + AT_LEAST), "later changes do not put it off");
        }
        assert_eq!(unpublished.published(Duration::from_millis(30)).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert_eq!(unpublished.due_at(), None);
        unpublished.note(AppId(1), now);
        assert_eq!(unpublished.due_at(), Some(now + Duration::from_millis(300)));
        drop(unpublished.published(Duration::from_secs(5)));
        unpublished.note(AppId(1), now);
        assert_eq!(unpublished.due_at(), Some(now + AT_MOST));
    }

    #[test]
    fn what_could_not_be_told_is_told_later_and_nothing_is_lost() {
        let (mut unpublished, now) = (Unpublished::default(), Instant::now());
        unpublished.note(AppId(1), now);
        assert_eq!(unpublished.hold((ONE, AppId(1)), "one"), None);
        unpublished.failed(now);
        assert!(unpublished.is_pending());
        assert_eq!(unpublished.due_at(), Some(now + AT_MOST));
        assert_eq!(unpublished.hold((WorkerId(2), AppId(1)), "two"), None);
        assert_eq!(unpublished.published(Duration::ZERO).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn only_what_is_said_of_changed_apps_is_held_back_and_nothing_of_one_that_is_gone() {
        let (mut unpublished, now) = (Unpublished::default(), Instant::now());
        assert_eq!(unpublished.hold((ONE, AppId(1)), "one"), Some("one"));
        for app in [1, 2] {
            unpublished.note(AppId(app), now);
        }
        assert_eq!(unpublished.hold((ONE, AppId(3)), "three"), Some("three"));
        assert_eq!((unpublished.hold((ONE, AppId(1)), "one"), unpublished.hold((ONE, AppId(2)), "two")), (None, None));
        unpublished.forget(AppId(1));
        assert_eq!(unpublished.published(Duration::ZERO).collect::<Vec<_>>(), ["two"]);
        assert!(!unpublished.is_pending());
        assert_eq!(unpublished.hold((ONE, AppId(2)), "two"), Some("two"));
    }

    #[test]
    fn however_often_something_is_said_to_a_worker_of_an_app_the_latest_is_held() {
        let (mut unpublished, now) = (Unpublished::default(), Instant::now());
        unpublished.note(AppId(1), now);
        for said in 0..1_000 {
            assert_eq!(unpublished.hold((ONE, AppId(1)), said), None);
        }
        assert_eq!(unpublished.published(Duration::ZERO).collect::<Vec<_>>(), [999]);
    }
}
