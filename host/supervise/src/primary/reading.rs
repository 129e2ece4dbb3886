//! Reloads: without a file of settings, the only component is loaded again. With one, the spawner reads it again, and this
//! file does what its changes ask for, app by app.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use wasmhost_base::socket_file::SocketFile;
use wasmhost_config::{APPS_MAX, App, AppId, Balance, Config, Listen, acme_of, changed_host_settings};
use wasmhost_confine::spawner::{NewListener, Reading};
use wasmhost_sandbox::{LoadError, capabilities};
use wasmhost_serve::acceptor::Acceptor;
use wasmhost_serve::listener::{BindError, Bound, Listener};

use super::acceptors::{Acceptors, Door};
use super::addresses::UnnamedAddresses;
use super::reload::{DevOrder, LoadOutcome};
use super::serving::LOADED_AHEAD_MAX;
use super::state::Primary;
use crate::apps::book::AppState;
use crate::apps::difference::{Change, Difference, difference, with_routes_of};
use crate::backend::{Backend, Worker};

impl<B: Backend> Primary<B> {
    /// Does what `wasmhost dev` orders.
    pub(super) fn follow_order(&mut self, order: DevOrder) {
        match order {
            DevOrder::Load(app, outcome) => self.load_for(&app, outcome),
            DevOrder::ReadFile(reader) => {
                self.reload.reader = Some(reader);
                self.begin_reload();
            }
        }
    }

    /// Loads an app again, for somebody who waits for the outcome.
    pub(super) fn load_for(&mut self, name: &str, outcome: LoadOutcome) {
        let Some((app, record)) = self.apps.book.named(name) else {
            // Its end tells who waits that nothing came of it.
            return drop(outcome);
        };
        if let Some(error) = record.barred() {
            // Who asked may have ended.
            let _ = outcome.send(Err(error.clone()));
            return;
        }
        let (is_loading, is_new) = (record.is_loading(), record.state() == AppState::Unloaded);
        self.reload.wait(app, outcome, is_loading);
        if is_new {
            self.apps.book.load_in_time(app);
        } else {
            self.begin_reload_of(app);
        }
    }

    /// Begins a reload.
    pub(super) fn begin_reload(&mut self) {
        self.host_status.begins_reload();
        match (self.only, &self.config.source) {
            (Some(app), _) => {
                self.look_at_tls();
                self.begin_reload_of(app);
            }
            (None, Some(source)) if !self.reload.is_reading => {
                tracing::info!(file = %source.file().display(), "reload: reading the file of settings again");
                self.reload.is_reading = true;
                let (spawner, config) = (Arc::clone(&self.spawner), Arc::clone(&self.config));
                let (readings, held) = (self.reload.readings.clone(), self.reload.held);
                let (listening, kept) = (self.reload.listening.clone(), self.kept.clone());
                let host_status = Arc::clone(&self.host_status);
                tokio::task::spawn_local(async move {
                    let reading = spawner.read_again(&config, held, &listening, capabilities()).await;
                    // Before workers hear of the apps.
                    if let Ok(Reading { config: Some(config), .. }) = &reading
                        && !kept.grant_also(&config.apps).await
                    {
                        host_status.note_failed_reload();
                    }
                    // Without a receiver the host is stopping.
                    let _ = readings.send(reading).await;
                });
            }
            (None, _) => self.reload.read_again = true,
        }
    }

    /// Reads the file by itself, once the addresses are closed that are in the way of new ones.
    pub(super) fn begin_due_reload(&mut self) {
        if std::mem::take(&mut self.reload.is_due) {
            self.reload.is_by_itself = true;
            self.begin_reload();
        }
    }

    /// The file was read again.
    pub(super) fn on_reading(&mut self, read: io::Result<Reading>, acceptors: &mut Acceptors) {
        self.reload.is_reading = false;
        let is_by_itself = std::mem::take(&mut self.reload.is_by_itself);
        match read {
            Ok(reading) => self.follow(reading, is_by_itself, acceptors),
            Err(error) => {
                self.host_status.note_failed_reload();
                tracing::error!(
                    hint = "check that the file can be read, and that the system has memory and descriptors left",
                    "reload failed, nothing changes: the file of settings cannot be read again: {error}"
                );
            }
        }
        if std::mem::take(&mut self.reload.read_again) {
            self.begin_reload();
        } else if let Some(reader) = self.reload.reader.take() {
            // Who asked may have ended.
            let _ = reader.send(());
        }
    }

    /// Does what a reading asks for.
    fn follow(&mut self, reading: Reading, is_by_itself: bool, acceptors: &mut Acceptors) {
        let Reading { number, config, mistakes, beyond, touched, listeners, tls } = reading;
        for (app, mistake) in &mistakes {
            // (Without an app there is no such field.)
            tracing::error!(app, "reload: {mistake}");
        }
        let Some(config) = config else {
            self.host_status.note_failed_reload();
            tracing::error!(
                mistakes = mistakes.len(),
                hint = "`wasmhost config check` shows all mistakes",
                "reload failed, nothing changes: the file of settings has mistakes"
            );
            return;
        };
        if !mistakes.is_empty() {
            // Its other apps are served as the file has them.
            self.host_status.note_failed_reload();
        }
        self.watched_files.follow(&config);
        let wrong: BTreeSet<&str> = mistakes.iter().filter_map(|(app, _)| app.as_deref()).collect();
        let found = {
            let before = self.apps.book.iter().map(|(id, record)| (id, record.latest()));
            let before = before.filter(|(_, app)| !wrong.contains(&*app.name));
            difference(before, &config.apps, &mut self.apps.numbers)
        };
        let follows_workers = self.follow_workers(&config);
        self.follow_log(&config);
        self.tell_what_needs_a_restart(&config, follows_workers);
        if self.host_status.set_admin_access(&config.admin_access) {
            tracing::info!("reload: the names or the token of the admin address changed");
        }
        if acme_of(&config.listeners) != acme_of(&self.listeners.settings) {
            self.acme_changed.notify_one();
        }
        // Before any connection comes to a new address.
        if let Err(error) = self.follow_listeners(&config.listeners, tls) {
            self.host_status.note_failed_reload();
            tracing::error!("reload: the addresses go on as they were: {error}");
            return;
        }
        // From now on. What files the apps have changed is found again otherwise, when the file is read the next time.
        self.reload.held = number;
        self.change_listeners(&config, listeners, is_by_itself, acceptors);
        self.change_apps(found, &beyond, &touched.into_iter().collect());
        self.grant_kept();
    }

    fn change_apps(&mut self, found: Difference, beyond: &BTreeMap<String, String>, touched: &BTreeSet<String>) {
        // What is said of them is held back until the table of the end of this is published, should that fail the first time.
        let now = Instant::now();
        found.to_be_known().for_each(|id| self.unpublished.note(id, now));
        let Difference { added, kept, removed, too_many } = found;
        let (news, gone) = (added.len(), removed.len());
        let mut loads = self.reload.loads.take().unwrap_or_default();
        for id in removed {
            tracing::info!(app = self.name_of(id), "reload: the app is gone; its requests in flight finish");
            self.apps.book.remove(id);
            self.places.iter().filter_map(|place| place.handle.as_ref()).for_each(|handle| handle.forget(id));
            self.unpublished.forget(id);
            self.watches.forget(id);
            self.swaps.end(id);
            self.host_status.hide(id);
            loads.remove(&id);
            self.reload.gone(id);
        }
        if !too_many.is_empty() {
            tracing::error!(
                hint = "restart the host",
                "reload: {} new apps are not served ({}): the host has had {APPS_MAX} apps of different names since its start",
                too_many.len(),
                first_names(&too_many)
            );
        }
        for (nth, (id, app)) in added.into_iter().enumerate() {
            tracing::info!(app = app.name, "reload: the app is new");
            self.apps.book.add(id, Arc::clone(&app));
            match beyond.get(&app.name) {
                Some(what) => self.bar(id, &app, what),
                None if nth < LOADED_AHEAD_MAX => self.apps.book.load_in_time(id),
                None => {}
            }
            self.show(id);
        }
        let mut changed = 0;
        for (id, app, change) in kept {
            if self.change_app(id, &app, change, beyond.get(&app.name), touched.contains(&app.name)) {
                changed += 1;
                loads.insert(id);
            }
        }
        self.publish();
        self.follow_schedules();
        tracing::info!(new = news, changed, gone, "reload: the file of settings was read");
        self.reload.loads = Some(loads);
        self.settle_loads();
    }

    /// Does what a change of one app asks for. True when it is loaded for that.
    fn change_app(
        &mut self,
        id: AppId,
        app: &Arc<App>,
        change: Change,
        beyond: Option<&String>,
        is_touched: bool,
    ) -> bool {
        let Some(record) = self.apps.book.get(id) else { return false };
        let has_failed = record.failure().is_some();
        let moved = moved(record.app(), app);
        let beyond = moved.as_ref().or(beyond);
        // Whatever has changed: what an app may not have is taken out of its settings, so that it may look as it was.
        if let Some(what) = beyond {
            let routed = Arc::new(with_routes_of(record.app(), app));
            self.apps.book.set(id, routed);
            self.bar(id, app, what);
            self.show(id);
            return false;
        }
        match change {
            Change::None if has_failed || is_touched => self.apps.book.renew(id, None),
            Change::None => return false,
            Change::Routes if record.is_settled() && !has_failed && !is_touched => {
                self.apps.book.route(id, Arc::clone(app));
                return false;
            }
            Change::Routes | Change::Settings => {
                // Routes have an effect at once.
                let routed = Arc::new(with_routes_of(record.app(), app));
                self.apps.book.set(id, routed);
                self.apps.book.renew(id, Some(Arc::clone(app)));
            }
        }
        let is_loaded = self.apps.book.get(id).is_some_and(|record| !record.is_at_rest());
        if is_loaded {
            tracing::info!(app = app.name, component = %app.component.display(), "reload: loading the app again");
        }
        self.show(id);
        is_loaded
    }

    /// An app wants more than the host's processes were confined to at their start.
    fn bar(&mut self, id: AppId, app: &App, what: &str) {
        self.host_status.note_failed_reload();
        let error = LoadError {
            file: app.component.display().to_string(),
            reason: format!("it wants {what}"),
            hint: "restart the host: its processes cannot be given more than they had at their start".to_owned(),
        };
        let has_old = self.apps.book.get(id).is_some_and(|record| record.revision().is_some());
        let goes_on = if has_old { "the old revision goes on" } else { "its requests get 503" };
        tracing::error!(app = app.name, hint = error.hint, "reload failed, {goes_on}: {error}; this needs a restart");
        let told = self.apps.bar(id, error.clone());
        self.tell(told);
        self.reload.barred(id, error);
    }

    fn tell_what_needs_a_restart(&self, config: &Config, follows_workers: bool) {
        let mut config = config.clone();
        if follows_workers {
            config.workers = self.config.workers;
            config.workers_max = config.workers_max.max(self.config.workers_max);
        }
        let config = &config;
        let changed = match &self.config.development {
            // It has its own.
            Some(_) => changed_host_settings(&self.config, &Config { confine: self.config.confine, ..config.clone() }),
            None => changed_host_settings(&self.config, config),
        };
        if !changed.is_empty() {
            let changed = changed.join(", ");
            let hint = match self.no_upgrade() {
                None => "`wasmhost upgrade` starts a new host with the new settings in its place, and loses no request",
                Some(_) => "no reload and no `wasmhost upgrade` can apply it to this host",
            };
            tracing::warn!(hint, "reload: {changed} changed, which has no effect yet: restart the host to apply it");
        }
    }

    /// Listens on new addresses, and gives up those that are gone, once it listens on all new ones. `is_by_itself`: the reading
    /// came by itself, to try some again.
    fn change_listeners(
        &mut self,
        config: &Config,
        new: Vec<NewListener>,
        is_by_itself: bool,
        acceptors: &mut Acceptors,
    ) {
        if self.config.balance == Balance::Kernel {
            // Each worker has listeners of its own, from its start.
            if !new.is_empty() || self.config.addresses().any(|listen| config.addresses().all(|other| other != listen))
            {
                tracing::warn!(
                    "reload: the addresses changed, which has no effect yet: with --balance kernel, restart the host to apply it"
                );
            }
            return;
        }
        let mut errors = Vec::new();
        for NewListener { listen, bound } in new {
            match self.listener(&listen, bound) {
                Ok(listener) => {
                    let (id, speaks_tls) = self.listeners.number(&listen);
                    tracing::info!("reload: now also listening on {}", listener.address().shown(speaks_tls));
                    let (admission, accepting) = (Arc::clone(&self.admission), &self.host_status.host.accepting);
                    let acceptor = Acceptor::new(listener, (id, speaks_tls), admission, accepting);
                    acceptors.add(Door::new(acceptor, listen));
                }
                Err(error) => errors.push((listen, error)),
            }
        }
        let failed: Vec<Listen> = errors.iter().map(|(listen, _)| listen.clone()).collect();
        let named_now: Vec<Listen> = config.addresses().cloned().collect();
        let found = UnnamedAddresses::decide(&acceptors.listening(), &named_now, &failed, !is_by_itself);
        for (listen, error) in &errors {
            if found.again.contains(listen) {
                tracing::info!(
                    "reload: the host itself listens on the port of {}; that address is closed first",
                    error.address
                );
            } else {
                tracing::error!(
                    hint = error.hint,
                    "reload: {error}; it is tried again when the file is read again (SIGHUP)"
                );
            }
        }
        for kept in &found.kept {
            tracing::warn!("reload: still listening on {}, until the host listens on all addresses of the file", kept);
        }
        for closed in &found.closed {
            tracing::info!("reload: no longer listening on {closed}");
        }
        acceptors.give_up(&found.closed);
        self.reload.is_due |= !found.again.is_empty();
        self.reload.listening = acceptors.listening();
        let shown = errors.into_iter().map(|(listen, error)| (listen.to_string(), error.reason));
        self.host_status.set_not_listening(shown.collect());
    }

    /// Listens on a new address.
    fn listener(
        &mut self,
        listen: &Listen,
        bound: Result<(OwnedFd, Option<SocketFile>), String>,
    ) -> Result<Listener, BindError> {
        let failed = |reason| BindError {
            address: listen.to_string(),
            reason,
            hint: "free the address, or restart the host".to_owned(),
        };
        let (socket, file) = bound.map_err(failed)?;
        self.files.add(file.clone());
        let bound = Bound::received(socket, listen, file)?;
        if wasmhost_base::inject::goes_off("listen") {
            return Err(failed("injected by a test".to_owned()));
        }
        Listener::new(bound)
    }

    /// Grants stores and databases to the apps as they are served and as they are to be, and no others.
    pub(super) fn grant_kept(&self) {
        let apps = self.apps.book.iter().flat_map(|(_, record)| [record.app(), record.latest()]);
        let (apps, kept): (Vec<Arc<App>>, _) = (apps.cloned().collect(), self.kept.clone());
        let host_status = Arc::clone(&self.host_status);
        tokio::task::spawn_local(async move {
            if !kept.grant_only(apps).await {
                host_status.note_failed_reload();
            }
        });
    }

    /// Notes which apps have been loaded for the last reading.
    pub(super) fn settle_loads(&mut self) {
        let Some(loads) = &mut self.reload.loads else { return };
        let is_loading = |id| self.apps.book.get(id).is_some_and(|record| !record.is_at_rest());
        loads.retain(|id| is_loading(*id) || self.swaps.is_under_way(*id));
        if loads.is_empty() && !self.unpublished.is_pending() {
            self.reload.loads = None;
            // What apps had before and have no more.
            self.grant_kept();
            tracing::info!("reload: done");
        }
    }

    fn begin_reload_of(&mut self, app: AppId) {
        let Some(record) = self.apps.book.get(app) else { return };
        tracing::info!(
            app = record.app().name,
            component = %record.app().component.display(),
            "reload: loading the component again"
        );
        self.apps.book.reload(app, None);
    }
}

/// The names of the first of these apps.
fn first_names(apps: &[Arc<App>]) -> String {
    const SHOWN_MAX: usize = 5;
    let names: Vec<&str> = apps.iter().take(SHOWN_MAX).map(|app| &*app.name).collect();
    let more = if apps.len() > SHOWN_MAX { ", …" } else { "" };
    names.join(", ") + more
}

/// What an app wants that is in another group now.
fn moved(before: &App, after: &App) -> Option<String> {
    let to = match &after.group {
        _ if before.group == after.group => return None,
        Some(group) => format!("to be in the group `{group}`"),
        None => "to be in no group".to_owned(),
    };
    Some(match &before.group {
        Some(group) => format!("{to}, and was in `{group}` when the host learned of it"),
        None => format!("{to}, and was in none when the host learned of it"),
    })
}
