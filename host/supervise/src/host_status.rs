//! The state of the host that the admin page shows: written by the primary and the workers, read by the admin page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use wasmhost_base::log::{self, LogDestination};
use wasmhost_config::tls::CertificateFacts;
use wasmhost_config::{AdminAccess, AppId, Config};
use wasmhost_confine::Confinement;
use wasmhost_serve::metrics::HostMetrics;
use wasmhost_serve::scoreboard::{HostScoreboard, Scoreboard};

use crate::crashes::CrashCounts;
use crate::databases::DatabasesView;
use crate::events::{EventBook, HostEvent, shortened};
use crate::schedules::ScheduleRow;
use crate::shutdown::Phase;
use crate::stores::StoresView;
use crate::traces::TracesView;

/// What the admin page reads, and the primary writes.
pub struct HostStatus {
    /// The workers that there may be, in the order of their numbers from 1.
    pub workers: Vec<WorkerRow>,
    /// Counts of the host.
    pub host: &'static HostMetrics,
    /// What all workers share.
    pub scoreboard: &'static HostScoreboard,
    /// What is served and how.
    pub config: Arc<Config>,
    /// How far the process confined itself.
    pub confinement: Confinement,
    /// Where its log goes.
    pub log: LogDestination,
    /// Since when.
    pub started: Instant,
    /// An operator had it say that it is not ready.
    is_withdrawn: AtomicBool,
    /// What has happened to it.
    pub(crate) events: EventBook,
    /// Whether a reload is under way.
    reloading: watch::Sender<bool>,
    /// Who may use the admin address, as the settings say that were read last.
    admin_access: Mutex<Arc<AdminAccess>>,
    stores: OnceLock<StoresView>,
    databases: OnceLock<DatabasesView>,
    crashes: OnceLock<Arc<CrashCounts>>,
    traces: OnceLock<TracesView>,
    state: Mutex<BoardState>,
}

/// A worker, or the place of one.
pub struct WorkerRow {
    /// What it shows.
    pub scoreboard: &'static Scoreboard,
    /// Its group; none: it takes clients' connections.
    pub group: Option<Arc<str>>,
    presence: AtomicU8,
}

/// Whether there is a worker at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// There never was one.
    Never,
    /// There shall be one.
    Wanted,
    /// There was one, until the host was scaled down.
    Left,
}

impl WorkerRow {
    pub(crate) fn new(scoreboard: &'static Scoreboard, group: Option<Arc<str>>, is_wanted: bool) -> Self {
        let row = Self { scoreboard, group, presence: AtomicU8::new(0) };
        row.set_presence(if is_wanted { Presence::Wanted } else { Presence::Never });
        row
    }

    /// Whether there is a worker.
    pub fn presence(&self) -> Presence {
        let all = [Presence::Never, Presence::Wanted, Presence::Left];
        let index = usize::from(self.presence.load(Relaxed));
        all.get(index).copied().unwrap_or(Presence::Never)
    }

    pub(crate) fn set_presence(&self, presence: Presence) {
        self.presence.store(presence as u8, Relaxed);
    }
}

struct BoardState {
    phase: Phase,
    /// Reloads that had failed before the one that is under way.
    failed_before: u64,
    /// The one that was begun last has failed in part at least, and is counted.
    has_failed: bool,
    not_listening: Vec<(String, String)>,
    certificates: Vec<CertificateFacts>,
    apps: BTreeMap<AppId, AppRow>,
    /// Apps that were ever wanted or loaded, gone or not: workers may have counted something of them.
    touched: BTreeSet<AppId>,
}

/// What is shown of an app, beside its counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppRow {
    /// Its name.
    pub name: String,
    /// Its group, if it has one.
    pub group: Option<String>,
    /// The file of its component.
    pub component: String,
    /// Where it is; one of the names of `apps::book::BoardState`.
    pub state: &'static str,
    /// Version of wasi:http that it was made for; empty before it was loaded.
    pub wasi: String,
    /// Its stores, by the names by which its guest calls them.
    pub stores: BTreeMap<String, String>,
    /// Its databases, in the same way.
    pub databases: BTreeMap<String, String>,
    /// Isolation in effect; empty before it was loaded.
    pub isolation: String,
    /// The number of the revision that is served; 0: none.
    pub revision: u64,
    /// The revisions that can be served, by number: `served`, `kept` or `bad`.
    pub revisions: Vec<(u64, &'static str)>,
    /// How often it was loaded.
    pub loads: u64,
    /// Since when it has been in this state and revision. [`HostStatus`] sets it.
    pub since: Option<Instant>,
    /// Workers that cannot serve it yet as it was loaded last.
    pub behind: Vec<u16>,
    /// Why it could not be loaded the last time, and a way out.
    pub error: Option<(String, String)>,
    /// Its schedules.
    pub(crate) schedules: Vec<ScheduleRow>,
    /// Loads that failed.
    pub failed_loads: u64,
}

impl HostStatus {
    /// The host status of a host that starts.
    pub(crate) fn new(
        config: Arc<Config>,
        workers: Vec<WorkerRow>,
        scoreboard: &'static HostScoreboard,
        (confinement, log): (Confinement, LogDestination),
    ) -> Self {
        let admin_access = Mutex::new(Arc::new(config.admin_access.clone()));
        Self {
            admin_access,
            workers,
            // As long as the process lives; there is one.
            host: Box::leak(Box::default()),
            scoreboard,
            config,
            confinement,
            log,
            is_withdrawn: AtomicBool::new(false),
            started: Instant::now(),
            events: EventBook::default(),
            reloading: watch::Sender::new(false),
            stores: OnceLock::new(),
            databases: OnceLock::new(),
            crashes: OnceLock::new(),
            traces: OnceLock::new(),
            state: Mutex::new(BoardState {
                phase: Phase::Starting,
                failed_before: 0,
                has_failed: false,
                not_listening: Vec::new(),
                certificates: Vec::new(),
                apps: BTreeMap::new(),
                touched: BTreeSet::new(),
            }),
        }
    }

    /// Whether it serves one app only, which the command line names.
    pub fn is_single(&self) -> bool {
        is_single(&self.config)
    }

    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the host is in its life.
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Waits until no reload is under way.
    pub(crate) async fn reloaded(&self) {
        // (This one sends, so that there is always an answer.)
        let _ = self.reloading.subscribe().wait_for(|is_reloading| !is_reloading).await;
    }

    /// Addresses of the settings on which the host does not listen, and why.
    pub fn not_listening(&self) -> Vec<(String, String)> {
        self.state().not_listening.clone()
    }

    /// The certificates of TLS.
    pub fn certificates(&self) -> Vec<CertificateFacts> {
        self.state().certificates.clone()
    }

    /// Who may use the admin address.
    pub(crate) fn admin_access(&self) -> Arc<AdminAccess> {
        Arc::clone(&self.admin_access.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// These may use the admin address from now on; true: others might before.
    pub(crate) fn set_admin_access(&self, access: &AdminAccess) -> bool {
        let mut held = self.admin_access.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = **held != *access;
        if is_new {
            *held = Arc::new(access.clone());
        }
        is_new
    }

    /// The stores, where the host has some.
    pub(crate) fn stores(&self) -> Option<&StoresView> {
        self.stores.get()
    }

    /// Shows these stores from now on.
    pub(crate) fn show_stores(&self, stores: StoresView) {
        // A host has them from its start, or never.
        let _ = self.stores.set(stores);
    }

    /// The databases, where the host has some.
    pub(crate) fn databases(&self) -> Option<&DatabasesView> {
        self.databases.get()
    }

    /// Shows these databases from now on.
    pub(crate) fn show_databases(&self, databases: DatabasesView) {
        // As stores.
        let _ = self.databases.set(databases);
    }

    /// What became of bundles about faults, where the host leaves some.
    pub(crate) fn crashes(&self) -> Option<&CrashCounts> {
        self.crashes.get().map(|counts| &**counts)
    }

    /// Shows these counts from now on.
    pub(crate) fn show_crashes(&self, counts: Arc<CrashCounts>) {
        // As stores.
        let _ = self.crashes.set(counts);
    }

    /// What became of traces, where the host sends some.
    pub(crate) fn traces(&self) -> Option<&TracesView> {
        self.traces.get()
    }

    /// Shows this of traces from now on.
    pub(crate) fn show_traces(&self, traces: TracesView) {
        // As stores.
        let _ = self.traces.set(traces);
    }

    /// Spans of requests that workers lost, since too many waited.
    pub(crate) fn spans_lost(&self) -> u64 {
        self.workers.iter().map(|worker| worker.scoreboard.metrics.spans_lost.load(Relaxed)).sum()
    }

    /// All apps, by number.
    pub fn apps(&self) -> BTreeMap<AppId, AppRow> {
        self.state().apps.clone()
    }

    /// Apps of which workers may have counted something, by number.
    pub fn touched(&self) -> Vec<AppId> {
        self.state().touched.iter().copied().collect()
    }

    /// Whether balancers shall send requests: a worker that takes clients' connections can serve, and no operator has had the host
    /// say otherwise. That the apps of a group cannot be had keeps the others from nothing.
    pub fn is_ready(&self) -> bool {
        let serves = |worker: &Scoreboard| worker.metrics.listening.get() && !worker.metrics.down.get();
        let mut front = self.workers.iter().filter(|worker| worker.group.is_none());
        let may_be = !self.is_withdrawn.load(Relaxed) && self.phase() == Phase::Running;
        may_be && front.any(|worker| serves(worker.scoreboard))
    }

    /// How many workers there shall be, of this group or of those that take connections.
    pub(crate) fn wanted_workers(&self, group: Option<&str>) -> usize {
        let of_group = self.workers.iter().filter(|worker| worker.group.as_deref() == group);
        of_group.filter(|worker| worker.presence() == Presence::Wanted).count()
    }

    /// Lines of the log that were lost: this process's, and those of workers that are processes.
    pub fn log_lines_lost(&self) -> u64 {
        let by_workers: u64 =
            self.workers.iter().map(|worker| worker.scoreboard.metrics.log_lines_lost.load(Relaxed)).sum();
        by_workers + log::lost_lines()
    }

    /// Has the host say from now on that it is not ready, whatever it could do; or as it is.
    pub(crate) fn set_withdrawn(&self, is_withdrawn: bool) {
        if self.is_withdrawn.swap(is_withdrawn, Relaxed) != is_withdrawn {
            self.events.note(&HostEvent::Readiness { withdrawn: is_withdrawn });
            tracing::info!(withdrawn = is_withdrawn, "drain: /readyz answers as an operator wishes");
        }
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.is_withdrawn.load(Relaxed)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.state().phase = phase;
        self.events.note(&HostEvent::Host { phase: phase.name() });
    }

    /// A reload is asked for.
    pub(crate) fn begins_reload(&self) {
        self.state().has_failed = false;
    }

    /// A reload has failed, or a part of it: of one that is under way this is counted once.
    pub(crate) fn note_failed_reload(&self) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.has_failed, true) || !*self.reloading.borrow() {
            self.host.failed_reloads.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn set_reloading(&self, is_reloading: bool) {
        if *self.reloading.borrow() == is_reloading {
            return;
        }
        let failed = self.host.failed_reloads.load(Relaxed);
        let mut state = self.state();
        let outcome = match is_reloading {
            true => "begun",
            false if failed > state.failed_before => "failed",
            false => "done",
        };
        state.failed_before = failed;
        drop(state);
        self.events.note(&HostEvent::Reload { state: outcome });
        self.reloading.send_replace(is_reloading);
    }

    pub(crate) fn set_not_listening(&self, addresses: Vec<(String, String)>) {
        self.state().not_listening = addresses;
    }

    pub(crate) fn set_certificates(&self, certificates: Vec<CertificateFacts>) {
        let before = std::mem::replace(&mut self.state().certificates, certificates.clone());
        for CertificateFacts { names, not_after, .. } in certificates.into_iter().filter(|new| !before.contains(new)) {
            self.events.note(&HostEvent::Certificate { names, not_after });
        }
    }

    /// Workers count something of this app from now on.
    pub(crate) fn touch(&self, app: AppId) {
        self.state().touched.insert(app);
    }

    /// Shows this of an app; `has_failed`: once more.
    pub(crate) fn show(&self, app: AppId, row: AppRow, has_failed: bool) {
        let mut state = self.state();
        let before = state.apps.get(&app);
        let failed_loads = before.map_or(0, |before| before.failed_loads) + u64::from(has_failed);
        let told = |row: &AppRow| (row.state, row.revision);
        let since = before.filter(|before| told(before) == told(&row)).and_then(|before| before.since);
        let is_news = has_failed || before.map(told) != Some(told(&row));
        let event = is_news.then(|| {
            let error = row.error.as_ref().map(|(error, _)| shortened(error.clone()));
            HostEvent::App { app: row.name.clone(), state: row.state, revision: row.revision, error }
        });
        state.apps.insert(app, AppRow { failed_loads, since: since.or_else(|| Some(Instant::now())), ..row });
        drop(state);
        if let Some(event) = event {
            self.events.note(&event);
        }
    }

    /// An app is gone.
    pub(crate) fn hide(&self, app: AppId) {
        let removed = self.state().apps.remove(&app);
        if let Some(AppRow { name, revision, .. }) = removed {
            self.events.note(&HostEvent::App { app: name, state: "removed", revision, error: None });
        }
    }
}

/// Whether the command line names the component of the only app: it is loaded before the host listens, and is there for as
/// long as the host runs.
pub(crate) fn is_single(config: &Config) -> bool {
    config.source.is_none()
}
