//! The primary: starts the workers, gives them connections, notices when one ends, and stops them in order. It leaves
//! decisions to the balancer and the supervisor, and never runs guest code.

mod acceptors;
mod acme;
mod addresses;
mod bootstrap;
mod data;
mod dispatch;
mod division;
mod due;
mod ears;
mod error;
mod event_turns;
mod file_watching;
mod first_requests;
mod held;
mod held_tls;
mod host_listeners;
mod life;
mod listeners;
mod liveness;
mod logging;
mod place;
mod profiles;
mod profiling;
mod reading;
mod reload;
mod restarting;
mod restarts;
mod retiring;
mod scaling;
mod schedule_file;
mod scheduled;
mod scheduling;
mod serving;
mod state;
mod succeeding;
mod succession;
mod swaps;
mod unpublished;
mod upgrades;
mod upgrading;
mod watching;
mod wear;

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use wasmhost_base::log::{self, LogNow};
use wasmhost_base::panics::{caught, guarded};
use wasmhost_base::woken::when_woken;
use wasmhost_config::{Config, WorkerKind};
use wasmhost_confine::has_databases;
use wasmhost_sandbox::capabilities;
use wasmhost_serve::acceptor::Acceptor;
use wasmhost_serve::worker::inbox::{Admission, PerClient};
use wasmhost_serve::worker::{Stage, WorkerEvent, WorkerId};

use self::acceptors::{Acceptors, Door};
pub use self::bootstrap::{Beginnings, Bootstrap};
use self::bootstrap::{authority, forwarded_connections, max_connections, per_client};
use self::data::HostData;
use self::dispatch::{HeldConnection, Rest, next_connection};
use self::division::{Division, FRONT};
use self::due::DueTask;
use self::ears::{Ears, Heard};
pub use self::error::PrimaryError;
use self::error::system;
use self::event_turns::EventTurns;
use self::file_watching::WatchedFiles;
use self::first_requests::FirstRequests;
use self::host_listeners::HostListeners;
use self::place::Place;
use self::profiles::Profiles;
use self::reload::Reload;
pub use self::reload::{DevOrder, LoadOutcome};
use self::restarts::Restarts;
use self::scheduling::Scheduling;
use self::state::Primary;
use self::succession::{Succession, SuccessionToBe};
use self::swaps::Swaps;
use self::unpublished::Unpublished;
use self::upgrades::Upgrades;
use crate::apps::watch::Watches;
use crate::apps::{Apps, wait};
use crate::backend::{Backend, Loaded, Worker};
use crate::control::{self, ControlOrder};
use crate::crashes::{Crashes, CrashesEnd};
use crate::databases::DatabaseOwner;
use crate::descriptors::connections_by_descriptors;
use crate::host_status::{HostStatus, WorkerRow, is_single};
use crate::kept::KeptForApps;
use crate::process::Processes;
use crate::service_manager::ServiceState;
use crate::shutdown::{Phase, Request, Signals};
use crate::stores::{StoreOwner, StoresBeginning};
use crate::supervisor::BEAT;
use crate::threads::Threads;
use crate::traces::{Traces, TracesEnd};

/// Events of workers that may wait for the primary.
const EVENTS_MAX: usize = 256;

/// How the host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All requests in flight had finished, or the drain's time was over.
    Drained,
    /// A second signal asked for it.
    AtOnce,
}

/// Serves on `bootstrap` until the host is told to stop. Runs on the main thread, in a local runtime.
///
/// # Errors
/// When the host cannot start, or has lost its workers.
pub async fn run(bootstrap: Bootstrap) -> Result<Ended, PrimaryError> {
    // Nobody gives orders.
    run_with(bootstrap, mpsc::channel(1).1).await
}

/// [`run`], with orders of `wasmhost dev`.
///
/// # Errors
/// As [`run`].
pub async fn run_with(bootstrap: Bootstrap, orders: mpsc::Receiver<DevOrder>) -> Result<Ended, PrimaryError> {
    match bootstrap.config.worker_kind {
        WorkerKind::Thread => run_on::<Threads>(bootstrap, orders).await,
        WorkerKind::Process => run_on::<Processes>(bootstrap, orders).await,
    }
}

/// [`run_with`], on workers of this kind.
#[allow(clippy::too_many_lines, reason = "the order in which a host starts, and ends")]
async fn run_on<B: Backend>(
    mut bootstrap: Bootstrap,
    mut orders: mpsc::Receiver<DevOrder>,
) -> Result<Ended, PrimaryError> {
    let mut signals = Signals::install().map_err(system("install signal handlers"))?;
    let spawner = Arc::clone(&bootstrap.spawner);
    let config = Arc::new(bootstrap.config.clone());
    log::show(LogNow { access: config.access_log, ..log::now() });
    logging::tell_start(&config);
    bootstrap.confinement.log();
    let mut service_manager = std::mem::take(&mut bootstrap.service_manager);
    service_manager.starts(config.compilation.timeout);
    let stores = bootstrap.stores.take();
    let stores = stores.map(|(file, commands)| StoreOwner::prepare(file, commands, &config.apps, &config.stores));
    let (stores, stores_beginning) = stores.transpose()?.unzip();
    let data_dir = config.data_dir.clone().filter(|_| has_databases(&config, capabilities()));
    let kept = KeptForApps { stores, databases: data_dir.map(|data_dir| DatabaseOwner::new(data_dir, &config.apps)) };
    let backend = B::new(&config, &spawner, &bootstrap.confinement, &kept).map_err(system("make ready for workers"))?;
    let groups = division::groups_of(&config);
    let mut places = make_places(&backend, &config, &groups)?;
    let workers = places.iter().map(|place| WorkerRow::new(place.scoreboard, place.group.clone(), place.is_wanted));
    let workers = workers.collect();
    let host_status = Arc::new(HostStatus::new(
        Arc::clone(&config),
        workers,
        backend.host(),
        (bootstrap.confinement.clone(), bootstrap.log.clone()),
    ));
    if let Some(stores) = &kept.stores {
        host_status.show_stores(stores.view());
    }
    if let Some(databases) = &kept.databases {
        host_status.show_databases(databases.view());
    }
    let (crashes, crashes_end) = Crashes::start(&config.crashes).map_err(system("start a thread"))?.unzip();
    if let Some(crashes) = &crashes {
        host_status.show_crashes(crashes.counts());
    }
    let (traces, traces_end) = Traces::start(&config.traces).map_err(system("send traces"))?.unzip();
    if let Some(traces) = &traces {
        host_status.show_traces(traces.view());
    }
    let (commander, mut commands) = mpsc::channel(control::ORDERS_MAX);
    let succession = bootstrap.succession.take().map(SuccessionToBe::listen).transpose()?;
    let mut upgrades = Upgrades::new(bootstrap.started.take(), succession, commander);
    upgrades.note_stores(stores_beginning.as_ref().and_then(StoresBeginning::commands), &config);
    // From here on the admin page answers, however long the component takes to load.
    if let Some(admin) = bootstrap.listen_for_admin()? {
        tracing::info!(target: log::START, "admin page on {}", admin.address());
        upgrades.serve_admin(admin, &config, &host_status);
    }
    if let Some(socket) = bootstrap.listen_for_commands()? {
        upgrades.serve_commands(socket, &host_status);
    }
    let mut data = HostData::new(stores_beginning);
    if upgrades.succession.is_none() {
        // (Else another host still has it.)
        data.open(&kept, &spawner, host_status.host)?;
    }
    // Before anything is loaded, so that no change is missed.
    let (watched_files, mut files) = WatchedFiles::start(&config).map_err(system("start a thread"))?;
    let (has_cache, keeps_revisions) = (config.compilation.cache_dir().is_some(), config.development.is_none());
    let (mut apps, mut done) = Apps::new(&config.apps, has_cache, keeps_revisions);
    let only = if is_single(&config) { apps.book.iter().next().map(|(id, _)| id) } else { None };
    // What was loaded lives until the workers have it.
    let guest = match only {
        Some(app) => {
            apps.book.load_in_time(app);
            let loaded = tokio::select! {
                loaded = load_now(&mut apps, &backend) => loaded?,
                stop = until_stop(&mut signals) => {
                    tracing::info!(signal = stop, "stopped before the component was loaded");
                    return Ok(Ended::Drained);
                }
            };
            host_status.touch(app);
            loaded
        }
        None => None,
    };

    let (tls, bootstrap_schedules) = (bootstrap.tls.take(), bootstrap.schedules.take());
    let listening = bootstrap.listen()?;
    let (listeners, mut looked) = HostListeners::new(&config, tls, &backend).map_err(system("make ready for TLS"))?;
    let shown = listening.addresses.iter().map(|(address, listen)| address.shown(listeners.number(listen).1));
    let addresses = shown.collect::<Vec<_>>().join(" and ");
    for (place, own) in places.iter_mut().zip(listening.each) {
        place.listeners = own.into_iter().map(|(listen, socket)| (listeners.number(&listen).0, socket)).collect();
    }
    let (events, mut heard) = mpsc::channel(EVENTS_MAX);
    let admission = Admission::new(max_connections(&config), per_client(&config));
    let doors = listening.own.into_iter().map(|(listener, listen)| {
        let number = listeners.number(&listen);
        Door::new(Acceptor::new(listener, number, Arc::clone(&admission), &host_status.host.accepting), listen)
    });
    let acceptors = Acceptors::new(doors.collect());
    let divisions = make_divisions(groups, &places, (&backend, &apps), &config, &admission)?;
    let (scheduling, mut runs) = Scheduling::new(bootstrap_schedules);
    let (reload, mut read) = Reload::new(config.addresses().cloned().collect(), config.workers, log::now());
    let mut primary = Primary {
        backend,
        apps,
        divisions,
        only,
        unpublished: Unpublished::default(),
        reload,
        scheduling,
        listeners,
        admission,
        spawner,
        files: listening.files,
        places,
        events,
        authority: authority(&listening.addresses),
        respawns: BTreeMap::new(),
        stage: Stage::Serve,
        groups_drain: false,
        acme_changed: Rc::default(),
        kept,
        host_status,
        config,
        service_manager,
        upgrades,
        data,
        restarts: Restarts::default(),
        retires_at: Instant::now(),
        watches: Watches::default(),
        watched_files,
        swaps: Swaps::default(),
        crashes,
        profiles: Profiles::default(),
        traces,
    };
    for index in 0..primary.places.len() {
        if primary.places[index].is_wanted {
            primary.start(index)?;
        }
    }
    drop(guest);
    primary.take_on_steered();
    primary.show_all();
    primary.show_certificates();
    let watched = Arc::clone(&primary.spawner);
    let predecessor = primary.upgrades.succession.as_ref().map(Succession::line);
    let ears = Ears {
        predecessor,
        workers: &mut heard,
        orders: &mut orders,
        commands: &mut commands,
        done: &mut done,
        read: &mut read,
        looked: &mut looked,
        runs: &mut runs,
        files: &mut files,
        signals: &mut signals,
        spawner: Some(pin!(watched.ended())),
    };
    let ended = primary.serve(acceptors, &addresses, ears).await;
    primary.end_runs(&mut runs).await;
    primary.stop_workers(&mut heard).await;
    primary.backend.stop();
    primary.upgrades.end().await;
    primary.host_status.events.end().await;
    let remains = primary.remains();
    drop(primary);
    remains.end(&mut signals).await?;
    crashes_end.into_iter().for_each(CrashesEnd::wait);
    traces_end.into_iter().for_each(TracesEnd::wait);
    ended
}

/// The workers that take connections, within `admission`, and those of each group.
fn make_divisions<B: Backend>(
    groups: Vec<Option<Arc<str>>>,
    places: &[Place<B>],
    (backend, apps): (&B, &Apps<B>),
    config: &Config,
    admission: &Arc<Admission>,
) -> Result<Vec<Division<B>>, PrimaryError> {
    let division = |(number, group): (usize, Option<Arc<str>>)| {
        let table = backend.table(division::seen_by(group.as_deref(), apps.served_now()));
        let table = table.map_err(system("hand the apps to the workers"))?;
        let admission = match number {
            FRONT => Arc::clone(admission),
            _ => Admission::new(forwarded_connections(config), PerClient::Unbounded),
        };
        let own = (0..).zip(places).filter(|(_, place)| place.division == number).map(|(index, _)| index).collect();
        Ok(Division::new(group, (own, config.workers), admission, table))
    };
    groups.into_iter().enumerate().map(division).collect()
}

/// Loads the app that is to be loaded first, before there are workers.
async fn load_now<B: Backend>(apps: &mut Apps<B>, backend: &B) -> Result<Option<B::Guest>, PrimaryError> {
    // Whatever the cache has of it, it is tried.
    while let Some((id, with)) = apps.book.next_look_up() {
        apps.book.looked_up(id, &with, false);
    }
    let Some((id, with)) = apps.book.next_load() else { return Ok(None) };
    let loaded: Loaded<B> = wait(backend.load(&with), &with, "load").await?;
    let guest = loaded.guest.clone();
    apps.served(id, &with, loaded);
    Ok(Some(guest))
}

/// A place for each worker of each division that there may be, none of which has started: first those of workers that the host begins
/// with, division by division.
fn make_places<B: Backend>(
    backend: &B,
    config: &Config,
    groups: &[Option<Arc<str>>],
) -> Result<Vec<Place<B>>, PrimaryError> {
    let mut places = Vec::new();
    for (count, is_wanted) in [(config.workers, true), (config.workers_max.saturating_sub(config.workers), false)] {
        for (division, group) in groups.iter().enumerate() {
            for _ in 0..count {
                let (scoreboard, scoreboard_file) =
                    backend.scoreboard().map_err(system("make room for what a worker shows"))?;
                let id = WorkerId(u16::try_from(places.len() + 1).unwrap_or(u16::MAX));
                let place = Place::new(id, (division, group.clone()), scoreboard, scoreboard_file);
                places.push(Place { is_wanted, ..place });
            }
        }
    }
    Ok(places)
}

/// Waits for a signal to stop; the others mean nothing yet.
async fn until_stop(signals: &mut Signals) -> &'static str {
    loop {
        if let Request::Stop(name) = signals.next().await {
            return name;
        }
    }
}

impl<B: Backend> Primary<B> {
    #[allow(clippy::too_many_lines, reason = "one loop over all that the primary hears")]
    async fn serve(
        &mut self,
        mut acceptors: Acceptors,
        addresses: &str,
        mut ears: Ears<'_, B>,
    ) -> Result<Ended, PrimaryError> {
        // A connection that no worker can take at the moment.
        let mut held: Option<HeldConnection> = None;
        let mut first_requests = FirstRequests::new(
            self.config.balance_by.clone(),
            self.config.limits.header_timeout,
            connections_by_descriptors(&self.config).of_a_worker,
        );
        first_requests.follow_listeners(self.listeners.with_readable_heads());
        let mut announced = false;
        let mut deadline: Option<Instant> = None;
        // What a host that stops still takes from its backlogs, before its workers drain.
        let mut rest: Option<Rest> = None;
        let mut beat_at: Option<Instant> = None;
        let mut turns = EventTurns::default();
        loop {
            let draining = deadline.is_some();
            if let Some(left) = rest.take() {
                rest = self.take_in_some(left, &mut acceptors, (&mut first_requests, &mut held))?;
            }
            if draining && rest.is_none() {
                self.drain_groups();
            } else if !draining {
                self.resume();
                if !announced && self.takes_over_now() {
                    announced = true;
                    self.take_over(addresses)?;
                }
            }
            if draining && self.places.iter().all(|place| !place.running) {
                tracing::info!("all workers have ended");
                return Ok(Ended::Drained);
            }
            self.reconcile();
            self.run_apps();
            if acceptors.has_given_up() {
                acceptors.close_given_up();
            }
            if !draining && !acceptors.has_given_up() {
                self.begin_due_reload();
            }
            if let Some(state) = self.service_state(announced, draining) {
                self.host_status.set_reloading(state == ServiceState::Reloading);
                self.service_manager.tell(state);
            }
            beat_at = self.wants_beats().then(|| beat_at.unwrap_or_else(|| Instant::now() + BEAT));
            let due = self.due_times(announced, deadline, beat_at);
            let (may_hear, looks_again) = (turns.begin(), acceptors.has_given_up() || rest.is_some());
            let heard = {
                // Connections come often, and everything else seldom: it is not looked at for each of them.
                let next = pin!(ears.next(may_hear, draining, due, looks_again));
                let mut next = pin!(when_woken(next));
                loop {
                    tokio::select! {
                        biased;
                        heard = &mut next => break heard,
                        connection = guarded(Box::pin(next_connection(&mut acceptors, &mut first_requests, &mut held))), if announced && !draining => {
                            let taken_in = connection.and_then(|connection| caught(|| self.take_in(connection, &mut acceptors, &first_requests)));
                            held = taken_in.or_else(|panic| self.on_panic(panic))?;
                            self.reconcile();
                            if !may_hear || held.is_some() || (beat_at.is_none() && self.wants_beats()) {
                                break Heard::Nothing;
                            }
                        }
                        // Nothing else is to be done: more events may be.
                        () = std::future::ready(()), if !may_hear => break Heard::Nothing,
                    }
                }
            };
            match heard {
                Heard::Signal(Request::Stop(signal)) if draining && !self.upgrades.is_first_stop() => {
                    tracing::warn!(signal, "second signal: the host ends at once");
                    return Ok(Ended::AtOnce);
                }
                Heard::Signal(_) if draining => {}
                Heard::Command(ControlOrder::Stop) if draining => drop(self.upgrades.is_first_stop()),
                // (With `wasmhost dev`, a SIGHUP says that the terminal was closed.)
                Heard::Signal(Request::Reload) if self.config.development.is_none() => {
                    if announced {
                        self.service_manager.reloads();
                    }
                    self.begin_reload();
                }
                stop @ (Heard::Signal(_) | Heard::Command(ControlOrder::Stop)) => {
                    let signal = match stop {
                        Heard::Signal(Request::Stop(signal)) => signal,
                        Heard::Command(_) => "wasmhost stop",
                        _ => "SIGHUP",
                    };
                    self.upgrades.stop();
                    deadline = Some(self.stop_accepting(signal));
                    // What waits at a socket that was handed over stays there, for whoever is handed it next.
                    acceptors.leave_handed_over();
                    rest = Some(Rest::new(self.config.drain_timeout));
                }
                Heard::Worker(event) => {
                    turns.heard();
                    if let WorkerEvent::Exited(worker, _) = &event {
                        self.caught_up(*worker, None);
                    }
                    self.on_event(event, draining)?;
                    if !announced && !draining && self.upgrades.succession.is_none() && self.has_begun() {
                        announced = true;
                        self.announce(addresses);
                    }
                }
                Heard::Order(order) => self.follow_order(order),
                Heard::Predecessor(word) => {
                    if !self.on_predecessor(word, &mut ears.predecessor)? {
                        // It goes on, and this host ends. With --balance kernel, workers may have connections.
                        deadline = Some(self.stop_accepting("the host that runs goes on"));
                        rest = Some(Rest::new(self.config.drain_timeout));
                    }
                }
                Heard::Command(ControlOrder::LogLevel { level, ended }) => self.change_log_level(level, ended),
                // The host does not serve yet, or stops: that it ends tells who asked.
                Heard::Command(_) if !announced || draining => {}
                Heard::Command(ControlOrder::Reload(begun)) => {
                    self.begin_reload();
                    // Who asked may have left.
                    let _ = begun.send(());
                }
                Heard::Command(ControlOrder::RunSchedule { app, schedule, ended }) => {
                    self.run_schedule(&app, &schedule, ended);
                }
                Heard::Command(ControlOrder::Restart { worker, ended }) => {
                    self.restart(worker, ended);
                }
                Heard::Command(ControlOrder::Profile(wish, reply)) => self.profile(wish, reply),
                Heard::Command(ControlOrder::Upgrade(offered)) => {
                    self.offer(&acceptors, offered);
                }
                Heard::Command(ControlOrder::Yield { failed, agrees }) => {
                    self.yield_to(&failed, agrees);
                }
                Heard::Command(ControlOrder::Leave(departure)) => {
                    deadline = Some(self.leave_to(departure, &mut acceptors));
                    rest = Some(Rest::new(self.config.drain_timeout));
                }
                Heard::Command(ControlOrder::Scale { workers, group, ended }) => {
                    self.scale_for(workers, group.as_deref(), ended);
                }
                Heard::Command(ControlOrder::ReloadApp { app, ended }) => {
                    self.load_for(&app, ended);
                }
                Heard::Command(ControlOrder::RollBack { app, to, begun, ended }) => {
                    // Who asked may have left.
                    let _ = begun.send(self.roll_back(&app, to, ended));
                }
                Heard::Command(ControlOrder::Promote { app, begun, ended }) => {
                    // As above.
                    let _ = begun.send(self.promote(&app, ended));
                }
                Heard::Command(ControlOrder::UpgradeFailed(reason)) => self.on_upgrade_failed(reason),
                Heard::SpawnerLost(lost) => self.on_spawner_lost(lost, draining)?,
                Heard::Done(done) => self.on_done(done),
                Heard::Read(reading) => {
                    self.on_reading(*reading, &mut acceptors);
                    first_requests.follow_listeners(self.listeners.with_readable_heads());
                }
                Heard::LookedAtTls(look) => self.on_tls_look(look),
                Heard::RunEnded(ended) => self.on_run_ended(ended, draining),
                Heard::FilesChanged => {
                    tracing::info!("watch: a file has changed");
                    self.begin_reload();
                }
                Heard::Due(DueTask::Schedules) => self.run_schedules(),
                Heard::Due(DueTask::LookAtTls) => self.look_at_tls(),
                Heard::Due(DueTask::ServiceManager) => self.service_manager.is_due(),
                Heard::Due(DueTask::Retire) => self.retire_due(),
                Heard::Due(DueTask::Restart) => self.end_leaving(),
                Heard::Due(DueTask::Profile) => self.look_at_profile(),
                Heard::Due(DueTask::Revisions) => self.look_at_revisions(),
                Heard::Due(DueTask::Apps) => self.tend_apps(),
                Heard::Due(DueTask::HeldForwards) => self.forward_held(),
                Heard::Due(DueTask::EndOfDrain) => {
                    if !self.config.drain_timeout.is_zero() {
                        tracing::warn!(
                            limit = "--drain-timeout",
                            "--drain-timeout is over: requests still in flight are broken off; raise it to wait longer"
                        );
                    }
                    return Ok(Ended::Drained);
                }
                Heard::Due(DueTask::Respawn) => self.respawn_due()?,
                Heard::Due(DueTask::Beat) => {
                    beat_at = None;
                    self.beat();
                }
                Heard::Nothing => {}
            }
        }
    }

    /// What the host is doing; none while it starts.
    fn service_state(&self, announced: bool, draining: bool) -> Option<ServiceState> {
        if draining {
            // (Of a host that another one takes the place of, the service goes on.)
            return (!self.upgrades.has_left()).then_some(ServiceState::Stopping(self.config.drain_timeout));
        }
        let loads = |app| self.apps.book.get(app).is_some_and(|record| !record.is_at_rest());
        let is_loading = self.reload.is_reading || self.reload.loads.is_some() || self.only.is_some_and(loads);
        let reloads = is_loading || !self.swaps.is_empty();
        announced.then_some(if reloads { ServiceState::Reloading } else { ServiceState::Ready })
    }

    /// Takes back the permits of connections that have ended in other processes.
    fn reconcile(&self) {
        for place in &self.places {
            if let Some(handle) = &place.handle {
                handle.reconcile(place.division == FRONT && self.admission.is_spent());
            }
        }
    }

    /// Takes in some of the rest. None: that was all, and the workers drain.
    fn take_in_some(
        &mut self,
        mut left: Rest,
        acceptors: &mut Acceptors,
        (first_requests, held): (&mut FirstRequests, &mut Option<HeldConnection>),
    ) -> Result<Option<Rest>, PrimaryError> {
        match caught(|| self.take_in_rest(&mut left, acceptors, (first_requests, held))) {
            Ok(true) => {
                acceptors.close();
                first_requests.close();
                *held = None;
                if self.upgrades.has_left() {
                    self.leave_workers();
                } else {
                    self.drain_workers();
                }
                return Ok(None);
            }
            Ok(false) => {}
            Err(panic) => *held = self.on_panic(panic)?,
        }
        Ok(Some(left))
    }

    fn announce(&mut self, addresses: &str) {
        self.host_status.set_phase(Phase::Running);
        let (workers, max_connections) = (self.wanted().count(), self.admission.max());
        let only = self.only.and_then(|app| self.apps.book.get(app)).and_then(|record| record.revision());
        if let Some(revision) = only {
            let (isolation, wasi) = (&*revision.isolation, &*revision.wasi);
            let is_thread = self.config.is_worker_kind_auto && self.config.worker_kind == WorkerKind::Thread;
            if isolation == "request" && workers > 1 && is_thread {
                // What its toolchain wants was not known when the kind was chosen.
                tracing::info!(target: log::DETAILS, "this component gets a fresh instance for each request, which takes less CPU with --worker-kind process");
            }
            tracing::info!(target: log::LISTENING, workers, isolation, wasi, max_connections, "listening on {addresses}");
        } else {
            let apps = self.config.apps.len();
            tracing::info!(target: log::LISTENING, workers, apps, max_connections, "listening on {addresses}");
            self.load_ahead();
        }
        self.follow_schedules();
        if !self.config.acme().is_empty() {
            // The authority asks this host for proof: not before it listens.
            self.keep_certificates();
        }
    }

    /// Whether the start is over: a worker listens, and each of the others does, too, or has died in its first start. One
    /// that dies at every start keeps the others from nothing.
    fn has_begun(&self) -> bool {
        let is_front = |place: &&Place<B>| place.division == FRONT;
        self.wanted().all(|place| place.has_begun)
            && self.places.iter().filter(is_front).any(|place| place.scoreboard.metrics.listening.get())
    }

    /// Begins to stop: no listener takes a connection after those that wait already. Returns when requests in flight are
    /// broken off.
    fn stop_accepting(&mut self, signal: &'static str) -> Instant {
        tracing::info!(
            signal,
            drain_timeout_ms = u64::try_from(self.config.drain_timeout.as_millis()).unwrap_or(u64::MAX),
            "stopping: no new connections, requests in flight finish"
        );
        self.host_status.set_phase(Phase::Draining);
        self.files.remove();
        self.respawns.clear();
        self.restarts = Restarts::default();
        Instant::now() + self.config.drain_timeout
    }

    /// Those that take clients' connections finish; see [`Self::drain_groups`].
    fn drain_workers(&mut self) {
        for place in &mut self.places {
            place.listeners.clear();
        }
        self.go_on(Stage::Drain, |place| place.division == FRONT);
    }

    /// Those of groups finish when nobody forwards requests to them any more.
    fn drain_groups(&mut self) {
        let is_front = |place: &&Place<B>| place.division == FRONT;
        if matches!(self.stage, Stage::Drain | Stage::Leave)
            && self.places.iter().filter(is_front).all(|place| !place.running)
            && !std::mem::replace(&mut self.groups_drain, true)
        {
            self.go_on(Stage::Drain, |place| place.division != FRONT);
        }
    }
}
