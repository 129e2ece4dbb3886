//! What is known of one app. The book keeps one of each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmhost_base::backoff::Backoff;
use wasmhost_config::App;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

/// How long an app that could not be loaded is not tried again: doubled with each failure in a row.
pub(super) const RETRY: Backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300));
/// Code that was loaded and could not be opened so many times in a row is not loaded at once for it.
const VANISHED_MAX: u32 = 2;

/// How far a revision has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RevisionProof {
    /// It has had a share of the requests at most.
    Shared,
    /// It has had all requests, and is watched; or another took its place before it had held.
    Served,
    /// It has held, was never to be watched, or a command chose it.
    Held,
}

/// A version of an app that was loaded.
#[derive(Debug, Clone)]
pub(crate) struct Revision<C> {
    /// Counts from 1 for each app.
    pub(crate) number: u64,
    /// Version of wasi:http that it was made for.
    pub(crate) wasi: String,
    /// Isolation in effect: `worker` or `request`.
    pub(crate) isolation: String,
    /// Where its code is.
    pub(crate) code: C,
    /// The settings that it was loaded with.
    pub(crate) app: Arc<App>,
    /// The host went back from it.
    pub(crate) is_bad: bool,
    pub(crate) proof: RevisionProof,
}

/// Why an app could not be loaded the last time.
#[derive(Debug, Clone)]
pub(crate) struct LoadFailure {
    /// The error.
    pub(crate) error: LoadError,
    pub(super) in_a_row: u32,
    /// Not tried again before then; none: only at a reload.
    pub(super) again_at: Option<Instant>,
}

/// Work that is done for one app at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    None,
    Waits,
    Runs,
}

/// What is known of an app.
#[derive(Debug)]
pub(crate) struct Record<C> {
    /// With the settings that it is served with.
    pub(super) app: Arc<App>,
    /// See [`wasmhost_config::Listed::born`].
    pub(super) born: u64,
    /// With the settings that a reload brought; in effect once it was loaded with them.
    pub(super) next: Option<Arc<App>>,
    pub(super) revision: Option<Revision<C>>,
    /// Loads that worked; the number of the latest. An app that was removed and comes back goes on: workers count by it.
    pub(super) loads: u64,
    /// Revisions that can be served again, by number.
    pub(super) kept: BTreeMap<u64, Revision<C>>,
    /// A new revision that gets a share of the requests.
    pub(super) canary: Option<Revision<C>>,
    /// An earlier revision than the latest is served; these are the settings that a reload brought last.
    pub(super) set_aside: Option<Arc<App>>,
    /// The revision's code is not there any more, or was made before the app had its settings and component of now.
    pub(super) has_vanished: bool,
    pub(super) vanished_in_a_row: u32,
    pub(super) failure: Option<LoadFailure>,
    pub(super) load: Work,
    /// The load that waits is in the queue of those that somebody waits for.
    pub(super) is_urgent: bool,
    /// The settings of the load that runs.
    pub(super) loads_with: Option<Arc<App>>,
    /// The load that waits or runs was asked for by a reload.
    pub(super) is_reload: bool,
    /// A reload was asked for while a load ran.
    pub(super) again: bool,
    /// The cache has nothing of it.
    pub(super) was_looked_up: bool,
    pub(super) opening: Work,
    /// Workers whose requests wait for it.
    pub(super) wanted_by: BTreeSet<WorkerId>,
    /// Workers that have it.
    pub(super) awake_on: BTreeSet<WorkerId>,
    /// Of those that have it, the ones that have not said yet that they serve what they were given last.
    pub(super) unapplied: BTreeSet<WorkerId>,
    /// Of those that have it, the ones that were given the canary, too.
    pub(super) canary_on: BTreeSet<WorkerId>,
    /// Workers that were told that there is nothing.
    pub(super) refused_on: BTreeSet<WorkerId>,
    /// Of those that have it, the ones that cannot serve it yet as it was loaded last.
    pub(super) behind: BTreeSet<WorkerId>,
}

/// Where an app is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AppState {
    /// Nobody has asked for it yet.
    Unloaded,
    /// It is loaded, or waits for that.
    Loading,
    /// It was loaded, and some worker has it.
    Awake,
    /// It was loaded, and no worker has it.
    Asleep,
    /// It cannot be loaded.
    Failed,
}

impl AppState {
    /// All states.
    pub(crate) const ALL: [Self; 5] = [Self::Unloaded, Self::Loading, Self::Awake, Self::Asleep, Self::Failed];

    /// The name on the status page.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Unloaded => "unloaded",
            Self::Loading => "loading",
            Self::Awake => "awake",
            Self::Asleep => "asleep",
            Self::Failed => "failed",
        }
    }
}

impl<C> Record<C> {
    /// Of a new app, of which nothing is loaded yet. `loads`: the latest number of a revision that an app in its place has had.
    pub(super) fn new(app: Arc<App>, born: u64, loads: u64) -> Self {
        Self {
            app,
            born,
            next: None,
            revision: None,
            loads,
            kept: BTreeMap::new(),
            canary: None,
            set_aside: None,
            has_vanished: false,
            vanished_in_a_row: 0,
            failure: None,
            load: Work::None,
            is_urgent: false,
            loads_with: None,
            is_reload: false,
            again: false,
            was_looked_up: false,
            opening: Work::None,
            wanted_by: BTreeSet::new(),
            awake_on: BTreeSet::new(),
            unapplied: BTreeSet::new(),
            canary_on: BTreeSet::new(),
            refused_on: BTreeSet::new(),
            behind: BTreeSet::new(),
        }
    }

    /// The app, as it is served.
    pub(crate) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Which one of the apps that have had its number it is.
    pub(crate) fn born(&self) -> u64 {
        self.born
    }

    /// What is served.
    pub(crate) fn revision(&self) -> Option<&Revision<C>> {
        self.revision.as_ref()
    }

    /// The settings of the revision of this number, if it is there still; else those of now.
    pub(crate) fn settings_of(&self, revision: u64) -> &Arc<App> {
        let mut all = self.revision.iter().chain(&self.canary).chain(self.kept.values());
        all.find(|one| one.number == revision).map_or(&self.app, |one| &one.app)
    }

    /// Workers that cannot serve it yet as it was loaded last, by number.
    pub(crate) fn behind(&self) -> impl Iterator<Item = WorkerId> {
        self.behind.iter().copied()
    }

    /// Why the last load failed, if it did.
    pub(crate) fn failure(&self) -> Option<&LoadFailure> {
        self.failure.as_ref()
    }

    /// Why it may not be loaded before a reload with other settings, if so.
    pub(crate) fn barred(&self) -> Option<&LoadError> {
        let failure = self.failure.as_ref().filter(|failure| failure.again_at.is_none() && self.revision.is_none())?;
        Some(&failure.error)
    }

    /// Where it is.
    pub(crate) fn state(&self) -> AppState {
        match (&self.revision, self.load) {
            (Some(_), _) if !self.awake_on.is_empty() => AppState::Awake,
            (_, Work::Waits | Work::Runs) => AppState::Loading,
            (_, Work::None) if self.failure.is_some() && !self.has_code() => AppState::Failed,
            (Some(_), Work::None) => AppState::Asleep,
            (None, Work::None) => AppState::Unloaded,
        }
    }

    /// Whether nothing is known of it yet: what the cache has of it may be served, unless it has to answer a probe first.
    pub(super) fn may_be_found(&self) -> bool {
        self.latest().probe.path.is_none()
            && self.revision.is_none()
            && self.failure.is_none()
            && !self.is_reload
            && !self.was_looked_up
    }

    /// A load of it begins, with these settings.
    pub(super) fn begin_load(&mut self) -> Arc<App> {
        let with = Arc::clone(self.latest());
        (self.load, self.is_urgent, self.loads_with) = (Work::Runs, false, Some(Arc::clone(&with)));
        with
    }

    /// Whether the load that runs is one with these settings.
    pub(super) fn loads(&self, with: &Arc<App>) -> bool {
        self.loads_with.as_ref().is_some_and(|app| Arc::ptr_eq(app, with))
    }

    pub(super) fn has_code(&self) -> bool {
        self.revision.is_some() && !self.has_vanished
    }

    /// Whether its settings are in effect, and nothing is loaded with others.
    pub(crate) fn is_settled(&self) -> bool {
        self.next.is_none() && self.load != Work::Runs
    }

    /// Whether a load of it runs, which a change of its component comes too late for.
    pub(crate) fn is_loading(&self) -> bool {
        self.load == Work::Runs
    }

    /// Whether nothing is loaded of it, and nothing waits for that.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.load == Work::None
    }

    /// Whether it was loaded, and no worker has it, wants it or was refused it.
    pub(super) fn is_idle(&self) -> bool {
        let is_nobodys = [&self.wanted_by, &self.awake_on, &self.refused_on].iter().all(|workers| workers.is_empty());
        self.revision.is_some() && self.load == Work::None && self.opening == Work::None && is_nobodys
    }

    /// The app as it is to be: with the latest settings, in effect or not.
    pub(crate) fn latest(&self) -> &Arc<App> {
        self.next.as_ref().or(self.set_aside.as_ref()).unwrap_or(&self.app)
    }

    /// Whether all requests go to what was loaded last: the host did not go back from it, and it is no canary.
    pub(crate) fn serves_latest(&self) -> bool {
        self.set_aside.is_none() && self.canary.is_none()
    }

    /// Its code is not there any more. Where that has happened too often in a row, this counts as a failure to load it.
    pub(super) fn note_vanished(&mut self, error: impl FnOnce() -> LoadError, now: Instant) {
        if self.has_vanished {
            return;
        }
        self.has_vanished = true;
        self.vanished_in_a_row += 1;
        if self.vanished_in_a_row > VANISHED_MAX {
            self.vanished_in_a_row = 0;
            self.failure = Some(LoadFailure { error: error(), in_a_row: 1, again_at: Some(now + RETRY.delay(0, 0.0)) });
        }
    }

    /// Those that wait get nothing.
    pub(super) fn refuse_all(&mut self) -> Vec<WorkerId> {
        let refused = std::mem::take(&mut self.wanted_by);
        self.refused_on.extend(&refused);
        refused.into_iter().collect()
    }

    /// Those that wait, and those that have something else.
    pub(super) fn take_all(&mut self) -> Vec<WorkerId> {
        let waiting = std::mem::take(&mut self.wanted_by);
        let refused = std::mem::take(&mut self.refused_on);
        self.awake_on.extend(waiting);
        self.awake_on.extend(refused);
        self.unapplied.clone_from(&self.awake_on);
        self.awake_on.iter().copied().collect()
    }
}
