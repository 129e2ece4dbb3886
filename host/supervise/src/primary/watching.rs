//! New revisions of apps are watched after they began, and the host goes back from those that fare worse than the ones before; it
//! also goes back when a command says so.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use wasmhost_base::log::DETAILS;
use wasmhost_config::AppId;
use wasmhost_serve::metrics::{ROLLBACK_CAUSES, RevisionTally};
use wasmhost_serve::worker::WorkerId;

use super::reload::LoadOutcome;
use super::state::Primary;
use crate::apps::book::RolledBack;
use crate::apps::watch::{Watch, WatchVerdict};
use crate::backend::Backend;
use crate::events::{HostEvent, shortened};

/// How long after its `--request-timeout` a request is counted at the latest.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Why the host goes back: one of [`ROLLBACK_CAUSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RollbackCause {
    Watch,
    Command,
}

impl RollbackCause {
    const fn name(self) -> &'static str {
        ROLLBACK_CAUSES[self as usize]
    }
}

impl<B: Backend> Primary<B> {
    /// A revision of an app takes requests, and is compared with this one.
    pub(super) fn begin_watch(&mut self, id: AppId, than: Option<u64>) {
        let now = Instant::now();
        let record = self.apps.book.get(id);
        let begun = record.zip(than).and_then(|(record, than)| {
            if let Some(canary) = record.canary() {
                let rules = (canary.app.rollback, &canary.app.canary);
                return Some(Watch::of_canary((canary.number, than), self.tally(id, than), rules, now));
            }
            // Where this one takes the place of one that had not held, it is compared with what that one was compared with: the counts
            // of the other may be gone.
            let watched = self.watches.0.get(&id).map(|(watch, _)| watch).filter(|watch| watch.than == than);
            let before = watched.filter(|watch| !watch.is_canary).map(|watch| watch.before);
            let revision = record.revision()?;
            let before = before.unwrap_or_else(|| self.tally(id, than));
            // What takes longer is answered by the host meanwhile.
            let patience = revision.app.limits.start_timeout() + LAST_ANSWERS;
            Watch::begin((revision.number, than), before, (revision.app.rollback, patience), now)
        });
        match begun {
            Some(watch) => drop(self.watches.0.insert(id, (watch, now))),
            None => self.watches.forget(id),
        }
    }

    /// Whether this is what takes requests still: a canary ends with the sleep of its app, if another component comes meanwhile.
    fn is_watched(&self, id: AppId, watch: &Watch) -> bool {
        self.apps.book.get(id).is_some_and(|record| {
            let watched = if watch.is_canary { record.canary() } else { record.revision() };
            watched.is_some_and(|revision| revision.number == watch.revision)
        })
    }

    /// How a revision of an app has fared on all workers.
    fn tally(&self, id: AppId, revision: u64) -> RevisionTally {
        let rows = self.places.iter().filter_map(|place| place.scoreboard.apps.get(id.index()));
        rows.map(|row| row.tally(revision)).fold(RevisionTally::default(), RevisionTally::and)
    }

    /// Requests of an app that are under way.
    fn in_flight(&self, id: AppId) -> u64 {
        let rows = self.places.iter().filter_map(|place| place.scoreboard.apps.get(id.index()));
        rows.map(|row| u64::try_from(row.in_flight.get()).unwrap_or(0)).sum()
    }

    /// Looks at those that are to be looked at now.
    pub(super) fn look_at_revisions(&mut self) {
        let now = Instant::now();
        let due: Vec<(AppId, Watch)> =
            self.watches.0.iter().filter(|(_, (_, at))| *at <= now).map(|(id, (watch, _))| (*id, *watch)).collect();
        for (id, mut watch) in due {
            if !self.is_watched(id, &watch) {
                self.watches.forget(id);
                continue;
            }
            let tallies = (self.tally(id, watch.revision), self.tally(id, watch.than));
            match watch.look(tallies, self.in_flight(id), now) {
                WatchVerdict::Later(at) => drop(self.watches.0.insert(id, (watch, at))),
                WatchVerdict::Held if watch.is_canary => {
                    self.watches.forget(id);
                    if let Err(reason) = self.promote_for(id) {
                        tracing::error!(app = self.name_of(id), reason, "the new revision cannot get all requests");
                    }
                }
                WatchVerdict::Held => {
                    self.watches.forget(id);
                    self.apps.book.held(id, watch.revision);
                    tracing::info!(target: DETAILS, app = self.name_of(id), revision = watch.revision, "the new revision has held");
                }
                WatchVerdict::Worse(reason) => self.go_back(id, watch.revision, reason),
            }
        }
    }

    /// A revision of an app faulted again and again on a worker, which serves what it had before.
    pub(super) fn on_fell_back(&mut self, worker: WorkerId, id: AppId, revision: u64) {
        if !self.serves(worker, id) {
            return;
        }
        let served = self.apps.book.get(id).and_then(|record| record.revision()).map(|served| served.number);
        if self.watches.0.get(&id).is_some_and(|(watch, _)| watch.revision == revision) {
            let reason = format!("worker {} had nothing but faults of it in a row", worker.0);
            self.go_back(id, revision, reason);
        } else if served == Some(revision) {
            // It has held by now, or there is no other: as others, this worker serves it.
            let told = self.apps.wants(worker, id);
            self.tell(told);
        }
    }

    fn go_back(&mut self, id: AppId, revision: u64, reason: String) {
        self.watches.forget(id);
        if let Err(error) = self.roll_back_for(id, None, RollbackCause::Watch, Some(reason.clone())) {
            tracing::error!(
                app = self.name_of(id),
                revision,
                reason,
                "the new revision is worse than the one before, and the host cannot go back: {error}"
            );
        }
    }

    /// Goes back to a revision of an app, for a command: to this one, or the latest good one before that which is served. Who asked
    /// hears at `ended` when all workers serve it.
    pub(super) fn roll_back(&mut self, name: &str, to: Option<u64>, ended: LoadOutcome) -> Result<(u64, u64), String> {
        let id = self.id_of(name)?;
        let RolledBack { from, to, workers, .. } = self.roll_back_for(id, to, RollbackCause::Command, None)?;
        self.wait_for(id, workers, ended);
        Ok((from, to))
    }

    fn id_of(&self, name: &str) -> Result<AppId, String> {
        self.apps.book.named(name).map(|(id, _)| id).ok_or_else(|| format!("there is no app `{name}`"))
    }

    /// Who asked hears when these workers serve what they are given of an app.
    fn wait_for(&mut self, id: AppId, workers: Vec<WorkerId>, ended: LoadOutcome) {
        self.reload.wait(id, ended, false);
        let is_running = |worker: &WorkerId| self.place_of(*worker).is_some_and(|place| place.running);
        let behind = workers.into_iter().filter(is_running).collect();
        self.reload.wait_for(id, behind);
    }

    /// Gives all requests of an app to the new revision that gets a share of them, for a command. Who asked hears at `ended` when all
    /// workers serve it.
    pub(super) fn promote(&mut self, name: &str, ended: LoadOutcome) -> Result<u64, String> {
        let id = self.id_of(name)?;
        let (number, workers) = self.promote_for(id)?;
        self.wait_for(id, workers, ended);
        Ok(number)
    }

    fn promote_for(&mut self, id: AppId) -> Result<(u64, Vec<WorkerId>), String> {
        let ((number, before, workers), told) = self.apps.promote(id, &self.backend)?;
        self.swaps.end(id);
        self.begin_watch(id, before);
        self.tell(told);
        let app = self.name_of(id);
        tracing::info!(app, revision = number, "promoted: all new requests go to the new revision");
        self.note(&HostEvent::Promote { app, revision: number });
        self.show(id);
        Ok((number, workers))
    }

    fn roll_back_for(
        &mut self,
        id: AppId,
        to: Option<u64>,
        cause: RollbackCause,
        reason: Option<String>,
    ) -> Result<RolledBack, String> {
        let is_bad = cause == RollbackCause::Watch;
        let (rolled_back, told) = self.apps.roll_back(id, to, is_bad, &self.backend)?;
        self.swaps.end(id);
        self.watches.forget(id);
        let RolledBack { from, to, has_new_settings, .. } = rolled_back;
        if has_new_settings {
            self.unpublished.note(id, Instant::now());
        }
        if let Some(shared) = self.host_status.scoreboard.apps.get(id.index()) {
            shared.has_answered.set(false);
        }
        self.grant_kept();
        self.tell(told);
        if let Some(count) = self.host_status.host.rollbacks.get(cause as usize) {
            count.fetch_add(1, Relaxed);
        }
        let app = self.name_of(id);
        match &reason {
            Some(reason) => tracing::error!(
                app,
                from,
                to,
                hint = "mend the component, then reload",
                "ROLLBACK: the new revision is worse than the one before, which takes new requests again: {reason}"
            ),
            None => tracing::warn!(app, from, to, "rollback: new requests go to the earlier revision"),
        }
        self.note(&HostEvent::Rollback { app, from, to, cause: cause.name(), reason: reason.map(shortened) });
        self.show(id);
        Ok(rolled_back)
    }
}
