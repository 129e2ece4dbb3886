//! What is known of each app, and what is to be done next: which apps are loaded now, which code is opened now, and which
//! workers get what. Pure: it has no clock, thread or process. `apps` tells it what happened and carries out what it says.
//!
//! An app that no worker wants costs its record here and nothing else. At most [`LOADS_MAX`] loads run at once, since they
//! compile; code that was compiled before is looked up in the cache by at most [`LOOK_UPS_MAX`], and opened again by at most
//! [`OPENINGS_MAX`] at once, which wait for no load.

mod record;
mod rollback;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmhost_config::{App, AppId};
use wasmhost_confine::spawner::OPENINGS_ON_ONE_MAX;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

pub(crate) use self::record::{AppState, LoadFailure, Record, Revision, RevisionProof};
use self::record::{RETRY, Work};
pub(crate) use self::rollback::RolledBack;
use super::difference::with_routes_of;

/// Loads at once. A compiler takes all cores that it finds, so that more would take longer each.
pub(crate) const LOADS_MAX: usize = 2;
/// Looks into the cache at once, for apps of which nothing is known yet: some milliseconds of one core each, with the trial.
pub(crate) const LOOK_UPS_MAX: usize = 4;
const _: () = assert!(LOADS_MAX + LOOK_UPS_MAX <= OPENINGS_ON_ONE_MAX, "the spawner would refuse some");
/// Openings at once: some milliseconds of one core each.
pub(crate) const OPENINGS_MAX: usize = 4;

/// What a worker that wants an app is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AppAnswer {
    /// Nothing yet: it gets the app, or a reason.
    Later,
    /// That it cannot be had, and why.
    Refused(String),
}

/// A load that worked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// Workers that are to be given the new revision, in the order of their numbers.
    pub(crate) to: Vec<WorkerId>,
    /// The app has other settings than before.
    pub(crate) has_new_settings: bool,
    /// A reload asked for it.
    pub(crate) is_reload: bool,
    /// The latest revision that has held, if it is kept and the new one is to be compared with it.
    pub(crate) before: Option<u64>,
    /// The new revision gets a share of the requests only.
    pub(crate) is_canary: bool,
}

/// A load that failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    /// Workers that are to be told so, in the order of their numbers.
    pub(crate) refused: Vec<WorkerId>,
    /// A reload asked for it.
    pub(crate) is_reload: bool,
    /// What was loaded before is served on.
    pub(crate) keeps_old: bool,
    /// In which time it is not tried again.
    pub(crate) retry_in: Duration,
}

/// The apps of the host.
#[derive(Debug)]
pub(crate) struct Book<C> {
    records: BTreeMap<AppId, Record<C>>,
    /// Apps that were ever added.
    births: u64,
    /// The latest numbers of revisions of apps that are gone.
    loads_of_gone: BTreeMap<AppId, u64>,
    /// There is a cache, in which the code of new apps is looked up.
    has_cache: bool,
    /// Earlier revisions are kept.
    keeps_revisions: bool,
    /// Apps whose code is looked up before it is loaded: those that somebody waits for, and the others.
    urgent_look_ups: VecDeque<AppId>,
    background_look_ups: VecDeque<AppId>,
    look_ups: usize,
    /// Loads that somebody waits for, and the others. An entry counts while its app's load waits.
    urgent: VecDeque<AppId>,
    background: VecDeque<AppId>,
    /// Those that failed before, and are not looked at while one of them runs.
    again: VecDeque<AppId>,
    loads: usize,
    /// The app whose load runs though an earlier one failed.
    retrying: Option<AppId>,
    to_open: VecDeque<AppId>,
    openings: usize,
    /// When apps that could not be loaded are tried again, while a worker has requests for them.
    retries: BTreeSet<(Instant, AppId)>,
}

impl<C> Default for Book<C> {
    fn default() -> Self {
        Self {
            records: BTreeMap::new(),
            births: 0,
            loads_of_gone: BTreeMap::new(),
            has_cache: false,
            keeps_revisions: true,
            urgent_look_ups: VecDeque::new(),
            background_look_ups: VecDeque::new(),
            look_ups: 0,
            urgent: VecDeque::new(),
            background: VecDeque::new(),
            again: VecDeque::new(),
            loads: 0,
            retrying: None,
            to_open: VecDeque::new(),
            openings: 0,
            retries: BTreeSet::new(),
        }
    }
}

impl<C: Clone + PartialEq> Book<C> {
    /// Of no apps yet.
    pub(crate) fn new(has_cache: bool, keeps_revisions: bool) -> Self {
        Self { has_cache, keeps_revisions, ..Self::default() }
    }

    /// All apps, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (AppId, &Record<C>)> {
        self.records.iter().map(|(id, record)| (*id, record))
    }

    /// An app.
    pub(crate) fn get(&self, id: AppId) -> Option<&Record<C>> {
        self.records.get(&id)
    }

    /// The app of this name.
    pub(crate) fn named(&self, name: &str) -> Option<(AppId, &Record<C>)> {
        self.iter().find(|(_, record)| record.app.name == name)
    }

    /// A new app, of which nothing is loaded yet.
    pub(crate) fn add(&mut self, id: AppId, app: Arc<App>) {
        self.births += 1;
        let loads = self.loads_of_gone.remove(&id).unwrap_or(0);
        self.records.insert(id, Record::new(app, self.births, loads));
    }

    /// There is no such app any more. What is done for it still ends, for nothing.
    pub(crate) fn remove(&mut self, id: AppId) {
        if let Some(gone) = self.records.remove(&id) {
            self.loads_of_gone.insert(id, gone.loads);
        }
    }

    /// It is not loaded, for this reason, until a reload says something else: a load that waits or runs is for nothing.
    /// Workers that are to be told so, in the order of their numbers.
    pub(crate) fn bar(&mut self, id: AppId, error: LoadError) -> Vec<WorkerId> {
        let Some(record) = self.records.get_mut(&id) else { return Vec::new() };
        record.failure = Some(LoadFailure { error, in_a_row: 0, again_at: None });
        (record.next, record.loads_with, record.load) = (None, None, Work::None);
        (record.is_urgent, record.is_reload, record.again) = (false, false, false);
        if record.has_code() { Vec::new() } else { record.refuse_all() }
    }

    /// It has these settings from now on, for which nothing has to be loaded.
    pub(crate) fn set(&mut self, id: AppId, app: Arc<App>) {
        if let Some(record) = self.records.get_mut(&id) {
            record.app = app;
        }
    }

    /// The file of settings gives it other routes, or schedules, and is otherwise as before.
    pub(crate) fn route(&mut self, id: AppId, app: Arc<App>) {
        if let Some(record) = self.records.get_mut(&id) {
            match &mut record.set_aside {
                Some(set_aside) => {
                    record.app = Arc::new(with_routes_of(&record.app, &app));
                    *set_aside = app;
                }
                None => record.app = app,
            }
        }
    }

    /// Loads it again, with these settings if there are any; what was loaded before serves meanwhile. One that nobody has asked
    /// for yet is loaded when somebody does.
    pub(crate) fn reload(&mut self, id: AppId, next: Option<Arc<App>>) {
        let Some(record) = self.records.get_mut(&id) else { return };
        if next.is_some() {
            record.next = next;
        }
        if record.load == Work::Runs {
            record.again = true;
            return;
        }
        if record.revision.is_none()
            && let Some(next) = record.next.take()
        {
            // Nothing serves with the old ones.
            record.app = next;
        }
        if record.state() == AppState::Unloaded {
            return;
        }
        record.is_reload = true;
        self.queue_load(id, true);
    }

    /// The file of settings says that it is to be loaded again, with these settings if there are any. One that no worker has
    /// takes both at its next wake: with thousands of apps, a reload would compile for hours what nobody asks for.
    pub(crate) fn renew(&mut self, id: AppId, next: Option<Arc<App>>) {
        match self.records.get_mut(&id) {
            Some(record) if record.is_idle() => {
                record.app = next.unwrap_or_else(|| Arc::clone(record.latest()));
                (record.next, record.set_aside, record.failure) = (None, None, None);
                (record.has_vanished, record.vanished_in_a_row) = (true, 0);
                record.end_canary();
            }
            _ => self.reload(id, next),
        }
    }

    /// Loads it when no other load is waiting that somebody wants.
    pub(crate) fn load_in_time(&mut self, id: AppId) {
        if self.records.get(&id).is_some_and(|record| !record.has_code() && record.load == Work::None) {
            self.queue_load(id, false);
        }
    }

    /// A worker's requests wait for an app.
    pub(crate) fn wants(&mut self, worker: WorkerId, id: AppId, now: Instant) -> AppAnswer {
        let Some(record) = self.records.get_mut(&id) else {
            // It hears of the new table.
            return AppAnswer::Later;
        };
        record.loses(worker);
        if !record.has_code()
            && record.load == Work::None
            && let Some(failure) = &record.failure
            // One that may not have its new settings goes on with those that it was loaded with.
            && failure.again_at.map_or(record.revision.is_none(), |at| now < at)
        {
            record.wanted_by.remove(&worker);
            record.refused_on.insert(worker);
            return AppAnswer::Refused(failure.error.to_string());
        }
        record.refused_on.remove(&worker);
        record.wanted_by.insert(worker);
        if record.has_code() {
            if record.opening == Work::None {
                record.opening = Work::Waits;
                self.to_open.push_back(id);
            }
        } else {
            self.queue_load(id, true);
        }
        AppAnswer::Later
    }

    /// A worker was given the app at its start.
    pub(crate) fn has(&mut self, worker: WorkerId, id: AppId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.awake_on.insert(worker);
        }
    }

    /// A worker keeps nothing of an app any more.
    pub(crate) fn asleep(&mut self, worker: WorkerId, id: AppId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.loses(worker);
            record.refused_on.remove(&worker);
            record.behind.remove(&worker);
        }
    }

    /// What a worker was given of an app is not there any more, and its requests wait.
    pub(crate) fn vanished(&mut self, worker: WorkerId, id: AppId, now: Instant) -> AppAnswer {
        if let Some(record) = self.records.get_mut(&id) {
            let file = record.app.component.display().to_string();
            let error = || LoadError {
                file,
                reason: "its compiled code vanishes from the cache as soon as it is there".to_owned(),
                hint: "check who else removes files from --cache-dir".to_owned(),
            };
            record.note_vanished(error, now);
            self.retries.extend(record.failure.as_ref().and_then(|failure| failure.again_at).map(|at| (at, id)));
        }
        self.wants(worker, id, now)
    }

    /// A worker serves an app with what it was given. True when it could not before.
    pub(crate) fn applied(&mut self, worker: WorkerId, id: AppId) -> bool {
        self.records.get_mut(&id).is_some_and(|record| {
            record.vanished_in_a_row = 0;
            record.unapplied.remove(&worker);
            record.behind.remove(&worker)
        })
    }

    /// A worker that has an app cannot serve it yet with what it was given, and tries again.
    pub(crate) fn behind(&mut self, worker: WorkerId, id: AppId) {
        if let Some(record) = self.records.get_mut(&id).filter(|record| record.awake_on.contains(&worker)) {
            record.behind.insert(worker);
        }
    }

    /// A worker has ended. Answers which apps it had to do with.
    pub(crate) fn gone(&mut self, worker: WorkerId) -> Vec<AppId> {
        let mut changed = Vec::new();
        for (id, record) in &mut self.records {
            record.unapplied.remove(&worker);
            record.canary_on.remove(&worker);
            let sets = [&mut record.wanted_by, &mut record.awake_on, &mut record.refused_on, &mut record.behind];
            if sets.map(|set| set.remove(&worker)).contains(&true) {
                changed.push(*id);
            }
        }
        changed
    }

    fn queue_load(&mut self, id: AppId, is_urgent: bool) {
        let has_cache = self.has_cache;
        let Some(record) = self.records.get_mut(&id).filter(|record| record.load != Work::Runs) else { return };
        // Those that were never tried go before those that failed.
        let has_failed = record.failure.is_some();
        let is_urgent = is_urgent && !has_failed;
        let waits = std::mem::replace(&mut record.load, Work::Waits) == Work::Waits;
        let (urgent, background) = match has_cache && record.may_be_found() {
            true => (&mut self.urgent_look_ups, &mut self.background_look_ups),
            false => (&mut self.urgent, if has_failed { &mut self.again } else { &mut self.background }),
        };
        // One that waited in the background already goes before the others there.
        if is_urgent && !(waits && record.is_urgent) {
            urgent.push_back(id);
        } else if !is_urgent && !waits {
            background.push_back(id);
        }
        record.is_urgent = is_urgent || (waits && record.is_urgent);
    }

    /// The next look into the cache to begin, if one may: for this app, with these settings.
    pub(crate) fn next_look_up(&mut self) -> Option<(AppId, Arc<App>)> {
        while self.look_ups < LOOK_UPS_MAX {
            let id = self.urgent_look_ups.pop_front().or_else(|| self.background_look_ups.pop_front())?;
            // Of an app that is gone, or is loaded already, the entry is void.
            let Some(record) = self.records.get_mut(&id).filter(|record| record.load == Work::Waits) else { continue };
            if !record.may_be_found() {
                // A reload wants it loaded anew meanwhile.
                if record.is_urgent { &mut self.urgent } else { &mut self.background }.push_back(id);
                continue;
            }
            self.look_ups += 1;
            return Some((id, record.begin_load()));
        }
        None
    }

    /// A look into the cache for an app with these settings has ended. Without `is_over` it is loaded; with it,
    /// [`Self::served`] or [`Self::failed`] comes next, as for a load.
    pub(crate) fn looked_up(&mut self, id: AppId, with: &Arc<App>, is_over: bool) {
        self.look_ups = self.look_ups.saturating_sub(1);
        if is_over {
            self.loads += 1;
            return;
        }
        let Some(record) = self.records.get_mut(&id).filter(|record| record.loads(with)) else { return };
        (record.load, record.loads_with, record.was_looked_up) = (Work::None, None, true);
        let is_wanted = !record.wanted_by.is_empty();
        if std::mem::take(&mut record.again) {
            self.reload(id, None);
        }
        self.queue_load(id, is_wanted);
    }

    /// The next load to begin, if one may: of this app, with these settings. Of those that failed before, one is loaded at a
    /// time: two that take all of their time would keep the others from being loaded at all.
    pub(crate) fn next_load(&mut self) -> Option<(AppId, Arc<App>)> {
        while self.loads < LOADS_MAX {
            let id = self.urgent.pop_front();
            let id = id.or_else(|| self.retrying.is_none().then(|| self.again.pop_front()).flatten());
            let id = id.or_else(|| self.background.pop_front())?;
            // Of an app that is gone, or is loaded already, the entry is void.
            let Some(record) = self.records.get_mut(&id).filter(|record| record.load == Work::Waits) else { continue };
            if record.failure.is_some() {
                if self.retrying.is_some() {
                    // It has failed since it was queued.
                    self.again.push_back(id);
                    continue;
                }
                self.retrying = Some(id);
            }
            self.loads += 1;
            return Some((id, record.begin_load()));
        }
        None
    }

    /// A load of an app with these settings has worked. None: the app is gone meanwhile.
    pub(crate) fn served(
        &mut self,
        id: AppId,
        with: &Arc<App>,
        (wasi, isolation, code): (String, String, C),
    ) -> Option<Served> {
        let keeps = self.keeps_revisions;
        let (record, is_reload, again) = self.ended(id, with)?;
        let has_new_settings = !Arc::ptr_eq(&record.app, with);
        let revision = Revision {
            number: record.loads + 1,
            wasi,
            isolation,
            code,
            app: Arc::clone(with),
            is_bad: false,
            proof: RevisionProof::Shared,
        };
        let is_canary = keeps && record.takes_as_canary(&revision);
        record.set_aside = None;
        record.next = record.next.take().filter(|next| !Arc::ptr_eq(next, with));
        record.app = match &record.next {
            Some(later) => Arc::new(with_routes_of(with, later)),
            None => Arc::clone(with),
        };
        record.failure = None;
        let (before, to) = match is_canary {
            true => record.begin_canary(revision),
            false => {
                let before = record.begin(revision, keeps);
                record.has_vanished = false;
                (before, record.take_all())
            }
        };
        if again {
            self.reload(id, None);
        }
        Some(Served { to, has_new_settings, is_reload, before, is_canary })
    }

    /// A load of an app with these settings has failed. None: the app is gone meanwhile.
    pub(crate) fn failed(&mut self, id: AppId, with: &Arc<App>, error: LoadError, now: Instant) -> Option<Failed> {
        let (record, is_reload, again) = self.ended(id, with)?;
        let in_a_row = record.failure.as_ref().map_or(0, |before| before.in_a_row);
        let retry_in = RETRY.delay(in_a_row, 0.0);
        let again_at = now + retry_in;
        record.failure = Some(LoadFailure { error, in_a_row: in_a_row.saturating_add(1), again_at: Some(again_at) });
        // Those settings had their try.
        record.next = record.next.take().filter(|next| !Arc::ptr_eq(next, with));
        let keeps_old = record.has_code();
        let refused = if keeps_old { Vec::new() } else { record.refuse_all() };
        self.retries.insert((again_at, id));
        if again {
            self.reload(id, None);
        }
        Some(Failed { refused, is_reload, keeps_old, retry_in })
    }

    /// Notes the end of a load. Whether a reload had asked for it, and whether another has since.
    fn ended(&mut self, id: AppId, with: &Arc<App>) -> Option<(&mut Record<C>, bool, bool)> {
        self.loads = self.loads.saturating_sub(1);
        self.retrying = self.retrying.filter(|retried| *retried != id);
        // (The number may be another app's by now.)
        let record = self.records.get_mut(&id).filter(|record| record.loads(with))?;
        (record.load, record.loads_with) = (Work::None, None);
        let (is_reload, again) = (std::mem::take(&mut record.is_reload), std::mem::take(&mut record.again));
        Some((record, is_reload, again))
    }

    /// When [`Self::retry`] has something to do.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// Tries those apps again whose time has come and for which workers have had requests lately.
    pub(crate) fn retry(&mut self, now: Instant) {
        while let Some((at, id)) = self.retries.first().copied().filter(|(at, _)| *at <= now) {
            self.retries.remove(&(at, id));
            let Some(record) = self.records.get(&id) else { continue };
            let is_due = record.failure.as_ref().is_some_and(|failure| failure.again_at.is_some_and(|at| at <= now));
            if is_due && !record.has_code() && !record.refused_on.is_empty() {
                self.queue_load(id, false);
            }
        }
    }

    /// The next opening to begin, if one may: of this app, of this revision and its code.
    pub(crate) fn next_opening(&mut self) -> Option<(AppId, Arc<App>, OpenedRevision, C)> {
        while self.openings < OPENINGS_MAX {
            let id = self.to_open.pop_front()?;
            let Some(record) = self.records.get_mut(&id).filter(|record| record.opening == Work::Waits) else {
                continue;
            };
            record.opening = Work::None;
            let Some(revision) = record.revision.as_ref().filter(|_| !record.wanted_by.is_empty()) else { continue };
            record.opening = Work::Runs;
            self.openings += 1;
            let opened = OpenedRevision { born: record.born, number: revision.number };
            return Some((id, Arc::clone(&record.app), opened, revision.code.clone()));
        }
        None
    }

    /// The opening of this revision of an app has ended: what is to be kept of it from now on, if that is something else.
    pub(crate) fn opened(
        &mut self,
        id: AppId,
        which: OpenedRevision,
        came: Result<Option<C>, LoadError>,
        now: Instant,
    ) -> Opened {
        self.openings = self.openings.saturating_sub(1);
        let mut opened = Opened::default();
        // (The number may be another app's by now.)
        let is_it = |record: &&mut Record<C>| record.born == which.born;
        let Some(record) = self.records.get_mut(&id).filter(is_it) else { return opened };
        record.opening = Work::None;
        let revision = record.revision.as_mut().filter(|revision| revision.number == which.number);
        match (revision, came) {
            (Some(revision), Ok(code)) => {
                if let Some(code) = code {
                    revision.code = code;
                }
                opened.to = std::mem::take(&mut record.wanted_by).into_iter().collect();
                record.awake_on.extend(&opened.to);
                record.unapplied.extend(&opened.to);
            }
            // Of an older revision.
            (None, _) => {}
            (Some(_), Err(error)) => record.note_vanished(|| error, now),
        }
        self.retries.extend(record.failure.as_ref().and_then(|failure| failure.again_at).map(|at| (at, id)));
        // Wanted still, or again.
        for worker in record.wanted_by.clone() {
            if let AppAnswer::Refused(_) = self.wants(worker, id, now) {
                opened.refused.push(worker);
            }
        }
        opened
    }
}

/// A revision that is opened: of which life of its app, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenedRevision {
    born: u64,
    number: u64,
}

impl OpenedRevision {
    pub(crate) fn number(self) -> u64 {
        self.number
    }
}

/// What an opening came to.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// Who is to be given what was opened.
    pub(crate) to: Vec<WorkerId>,
    /// Who is to be told that it cannot be had.
    pub(crate) refused: Vec<WorkerId>,
}

#[cfg(test)]
mod tests;
