//! Which worker serves which app with what: hears what workers wish, and what came of loading, and tells the workers, the
//! log and the host status.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use wasmhost_base::log::DETAILS;
use wasmhost_config::AppId;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

use super::division::{Division, seen_by};
use super::state::Primary;
use crate::apps::book::{Failed, Served};
use crate::apps::{Done, Tell};
use crate::backend::{Backend, Worker};
use crate::host_status::AppRow;

/// Apps of a file that are loaded before anybody wants them: the first ones, after the start, and of those that are new at a
/// reload.
pub(super) const LOADED_AHEAD_MAX: usize = 64;

impl<B: Backend> Primary<B> {
    /// A worker's requests wait for an app.
    pub(super) fn on_wanted(&mut self, worker: WorkerId, app: AppId) {
        if !self.serves(worker, app) {
            return;
        }
        self.host_status.touch(app);
        let told = self.apps.wants(worker, app);
        self.tell(told);
        self.show(app);
    }

    /// What a worker was given of an app is not there any more.
    pub(super) fn on_vanished(&mut self, worker: WorkerId, app: AppId) {
        if !self.serves(worker, app) {
            return;
        }
        tracing::info!(target: DETAILS, worker = worker.0, app = self.name_of(app), "its compiled code is not in the cache any more");
        let told = self.apps.vanished(worker, app);
        self.tell(told);
        self.show(app);
    }

    /// A worker serves an app with what it was given last.
    pub(super) fn on_applied(&mut self, worker: WorkerId, app: AppId) {
        if !self.serves(worker, app) {
            return;
        }
        self.caught_up(worker, Some(app));
        if self.apps.book.applied(worker, app) {
            self.show(app);
        }
        let told = self.apps.canary_for(worker, app, &self.backend);
        self.tell(told);
    }

    /// A worker cannot serve an app yet with what it was given last. Nobody waits for it.
    pub(super) fn on_behind(&mut self, worker: WorkerId, app: AppId) {
        if !self.serves(worker, app) {
            return;
        }
        self.caught_up(worker, Some(app));
        self.apps.book.behind(worker, app);
        self.show(app);
    }

    /// A worker keeps nothing of an app any more.
    pub(super) fn on_asleep(&mut self, worker: WorkerId, app: AppId) {
        if !self.serves(worker, app) {
            return;
        }
        self.apps.book.asleep(worker, app);
        self.show(app);
    }

    /// A worker has no memory for an instance of an app. The memory is that of all workers, of all groups.
    pub(super) fn on_lack_of_memory(&self, worker: WorkerId, app: AppId) {
        // One who asked a moment ago may have it by now.
        let is_short = self.backend.host().memory.get() > self.config.limits.memory_total_bytes / 2;
        if !is_short || !self.serves(worker, app) {
            return;
        }
        for (number, place) in (1..).zip(&self.places) {
            if let Some(other) = place.handle.as_ref().filter(|_| WorkerId(number) != worker) {
                other.make_room_for(app);
            }
        }
    }

    /// Has everything done that can be done now.
    pub(super) fn run_apps(&mut self) {
        let told = self.apps.run(&self.backend);
        self.tell(told);
    }

    /// When [`Self::tend_apps`] has something to do.
    pub(super) fn apps_due_at(&self) -> Option<Instant> {
        let due = [self.apps.book.next_retry(), self.unpublished.due_at(), self.swaps.due_at()];
        due.into_iter().flatten().min()
    }

    /// Tries apps again, and tells workers of changed ones, where the time for that has come.
    pub(super) fn tend_apps(&mut self) {
        let now = Instant::now();
        self.apps.book.retry(now);
        if self.unpublished.due_at().is_some_and(|at| at <= now) {
            self.publish();
        }
        let told = self.swaps.due(now);
        self.tell(told);
        self.settle_loads();
    }

    /// A worker serves an app with what it was given last, or cannot yet; none: it is gone, and its successor will.
    pub(super) fn caught_up(&mut self, worker: WorkerId, served: Option<AppId>) {
        self.reload.caught_up(worker, served);
        self.swaps.caught_up(worker, served, Instant::now());
        self.settle_loads();
    }

    /// Loads the first apps, so that no request waits for them.
    pub(super) fn load_ahead(&mut self) {
        let first: Vec<AppId> = self.apps.book.iter().take(LOADED_AHEAD_MAX).map(|(id, _)| id).collect();
        for id in first {
            self.apps.book.load_in_time(id);
        }
    }

    /// Work for an app has ended.
    pub(super) fn on_done(&mut self, done: Done<B>) {
        let id = match done {
            Done::Opened(id, which, came) => {
                if let Err(error) = &came {
                    tracing::warn!(
                        app = self.name_of(id),
                        "its compiled code cannot be opened, and it is loaded anew: {error}"
                    );
                }
                let told = self.apps.opened(id, which, came);
                self.tell(told);
                id
            }
            Done::CanaryOpened(worker, id, which, came) => {
                let told = match came {
                    Ok((guest, _)) => self.apps.canary_opened(worker, id, which, guest),
                    Err(error) => {
                        let app = self.name_of(id);
                        tracing::warn!(
                            worker = worker.0,
                            app,
                            "this worker gives no requests to the canary, whose code cannot be opened: {error}"
                        );
                        None
                    }
                };
                self.tell(told);
                return;
            }
            Done::Loaded(id, with, Ok(loaded)) => {
                if let Some((served, told)) = self.apps.served(id, &with, loaded) {
                    self.serve_revision(id, &served, told);
                }
                id
            }
            Done::Loaded(id, with, Err(error)) => {
                if let Some((failed, told)) = self.apps.failed(id, &with, &error) {
                    self.tell(told);
                    self.show_row(id, true);
                    self.note_failure(id, &failed, error);
                }
                id
            }
            Done::LookedUp(id, with, came) => {
                self.apps.book.looked_up(id, &with, !matches!(came, Ok(None)));
                return match came.transpose() {
                    Some(came) => self.on_done(Done::Loaded(id, with, came)),
                    // It is loaded, in its turn.
                    None => self.begin_next(id),
                };
            }
        };
        self.begin_next(id);
        self.settle_loads();
        self.show(id);
    }

    /// Work for an app has ended. If a load of it waits, this is the one that was asked for meanwhile. (One that runs began
    /// before: what has ended was void, or an opening.)
    fn begin_next(&mut self, id: AppId) {
        if self.apps.book.get(id).is_some_and(|record| !record.is_at_rest() && !record.is_loading()) {
            self.reload.next_begins(id);
        }
    }

    /// A new revision of an app takes new requests.
    fn serve_revision(&mut self, id: AppId, served: &Served, told: Vec<Tell<B::Guest>>) {
        self.host_status.touch(id);
        if let Some(shared) = self.host_status.scoreboard.apps.get(id.index()) {
            shared.has_answered.set(false);
        }
        if served.has_new_settings {
            // A worker serves what it is given by the settings in its table.
            self.unpublished.note(id, Instant::now());
        }
        self.begin_watch(id, served.before);
        // (A canary has its share at once.)
        let told = match served.before.is_some() && !served.is_canary {
            true => self
                .swaps
                .begin(id, told.into_iter().map(|one| (one.worker(), one)).collect(), Instant::now())
                .into_iter()
                .collect(),
            false => told,
        };
        self.tell(told);
        let name = self.name_of(id);
        let revision = self.apps.book.get(id).and_then(|record| record.revision());
        let (isolation, wasi) = revision.map_or(("", ""), |revision| (&*revision.isolation, &*revision.wasi));
        if let Some(canary) = self.apps.book.get(id).and_then(|record| record.canary()).filter(|_| served.is_canary) {
            self.host_status.host.reloads.fetch_add(1, Relaxed);
            let (revision, share) = (canary.number, canary.app.canary.share_percent.unwrap_or(0));
            tracing::info!(app = name, revision, "reload: {share} % of new requests go to the new component");
        } else if served.is_reload {
            self.host_status.host.reloads.fetch_add(1, Relaxed);
            tracing::info!(app = name, isolation, wasi, "reload: new requests go to the new component");
        } else {
            tracing::info!(target: DETAILS, app = name, isolation, wasi, "loaded");
        }
        let is_running = |worker: &WorkerId| self.place_of(*worker).is_some_and(|place| place.running);
        let behind = served.to.iter().copied().filter(is_running).collect();
        self.reload.wait_for(id, behind);
    }

    fn note_failure(&mut self, id: AppId, failed: &Failed, error: LoadError) {
        let name = self.name_of(id);
        let hint = &error.hint;
        if failed.is_reload {
            self.host_status.note_failed_reload();
        }
        match (failed.is_reload, failed.keeps_old) {
            // `wasmhost dev` tells of it in its own way.
            _ if self.config.development.is_some() && self.reload.is_awaited(id) => {}
            (true, true) => {
                tracing::error!(app = name, hint, "reload failed, the old component goes on: {error}");
            }
            (true, false) => tracing::error!(app = name, hint, "reload failed, its requests get 503: {error}"),
            (false, _) => {
                let retry_s = failed.retry_in.as_secs();
                tracing::error!(app = name, hint, retry_s, "the app cannot be loaded, its requests get 503: {error}");
            }
        }
        self.reload.failed(id, error);
    }

    /// Tells workers. Those that have ended hear it when they start again, if they ask.
    pub(super) fn tell(&mut self, told: impl IntoIterator<Item = Tell<B::Guest>>) {
        for one in told {
            let (Tell::Supply(worker, app, ..) | Tell::Refuse(worker, app, _)) = &one;
            let (worker, app) = (*worker, *app);
            self.swaps.overtaken(worker, app);
            self.show(app);
            let Some(one) = self.unpublished.hold((worker, app), one) else { continue };
            let Some(handle) = self.place_of(worker).and_then(|place| place.handle.as_ref()) else { continue };
            match one {
                Tell::Supply(_, app, guest, tag) => handle.supply(app, guest, tag),
                Tell::Refuse(_, app, reason) => handle.refuse(app, reason),
            }
        }
    }

    /// Tells every worker, and those that are yet to start, which apps there are. Those of groups first: when requests are
    /// forwarded to them, they know of the app. All of them or none: where one table cannot be made, it is tried again.
    pub(super) fn publish(&mut self) {
        let began = Instant::now();
        let of_division =
            |division: &Division<B>| self.backend.table(seen_by(division.group.as_deref(), self.apps.served_now()));
        let tables = match self.divisions.iter().map(of_division).collect::<std::io::Result<Vec<_>>>() {
            Ok(tables) => tables,
            Err(error) => {
                tracing::error!(
                    %error,
                    hint = "free memory or file descriptors",
                    "the workers cannot be told of the apps and their routes; they go on with those that they know, and it is tried again"
                );
                return self.unpublished.failed(began);
            }
        };
        for (division, table) in self.divisions.iter_mut().zip(tables).rev() {
            division.table = table;
            let places = division.places.iter().filter_map(|place| self.places.get(*place));
            places.filter_map(|place| place.handle.as_ref()).for_each(|handle| handle.table(&division.table));
        }
        let told = self.unpublished.published(began.elapsed());
        self.tell(told);
        self.settle_loads();
    }

    /// Whether this worker is one of those that serve this app. What others say of it is not heeded: they may have been
    /// broken into.
    pub(super) fn serves(&self, worker: WorkerId, app: AppId) -> bool {
        let division = self.place_of(worker).and_then(|place| self.divisions.get(place.division));
        division.zip(self.apps.book.get(app)).is_some_and(|(division, record)| division.serves(record.app()))
    }

    /// The name of an app.
    pub(super) fn name_of(&self, id: AppId) -> String {
        self.apps.book.get(id).map_or_else(String::new, |record| record.app().name.clone())
    }

    pub(super) fn place_of(&self, worker: WorkerId) -> Option<&super::place::Place<B>> {
        self.places.get(usize::from(worker.0).checked_sub(1)?)
    }

    /// Shows the state of an app on the host status.
    pub(super) fn show(&self, id: AppId) {
        self.show_row(id, false);
    }

    /// Shows the state of all apps on the host status.
    pub(super) fn show_all(&self) {
        for (id, _) in self.apps.book.iter() {
            self.show(id);
        }
    }

    fn show_row(&self, id: AppId, has_failed: bool) {
        let Some(record) = self.apps.book.get(id) else { return self.host_status.hide(id) };
        let (app, revision) = (record.app(), record.revision());
        if app.group.is_some() {
            // Those who forward its requests count what fails there.
            self.host_status.touch(id);
        }
        let error = record.failure().map(|failure| (failure.error.to_string(), failure.error.hint.clone()));
        let row = AppRow {
            name: app.name.clone(),
            group: app.group.clone(),
            component: app.component.display().to_string(),
            state: record.state().name(),
            wasi: revision.map(|revision| revision.wasi.clone()).unwrap_or_default(),
            isolation: revision.map(|revision| revision.isolation.clone()).unwrap_or_default(),
            revision: revision.map_or(0, |revision| revision.number),
            revisions: record.revisions().into_iter().map(|(number, state)| (number, state.name())).collect(),
            loads: record.times_loaded(),
            since: None,
            stores: app.grants.stores.iter().map(|grant| (grant.name.clone(), grant.store.clone())).collect(),
            databases: app.grants.databases.iter().map(|grant| (grant.name.clone(), grant.database.clone())).collect(),
            behind: record.behind().map(|worker| worker.0).collect(),
            error,
            schedules: self.scheduling.rows(id),
            failed_loads: 0,
        };
        self.host_status.show(id, row, has_failed);
    }
}
