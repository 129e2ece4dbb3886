//! Workers that are threads of the primary's process. They share each app's linked guest, which lives as long as a worker
//! has it: of an app that is asleep on all workers, only the place of its code is kept.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use wasmhost_base::heap;
use wasmhost_base::log::LogNow;
use wasmhost_config::{App, AppId, AppTable, Config};
use wasmhost_confine::Confinement;
use wasmhost_confine::spawner::{Launcher, Spawner};
use wasmhost_sandbox::{Artifact, Guest, LoadError, Sandbox, Ticker};
use wasmhost_serve::scoreboard::{self, HostScoreboard, Scoreboard};
use wasmhost_serve::worker::inbox::Connection;
use wasmhost_serve::worker::{
    ListenerRow, Listeners, ProfileOrder, RevisionTag, Stage, Supply, ThreadHandle, WorkerSetup, orders,
};

use crate::backend::{Backend, Loaded, Pending, Start, Worker, clear_rows};
use crate::kept::KeptForApps;
use crate::listening::opened;
use crate::loader::{CodeAtRest, Trial, budget, link_and_try, make_engines_ahead, short};

/// What threads need.
pub(crate) struct Threads {
    config: Arc<Config>,
    trial: Arc<Trial>,
    host: &'static HostScoreboard,
    spawner: Arc<Spawner>,
}

/// What is kept of an app.
#[derive(Clone)]
pub(crate) struct ThreadCode {
    at_rest: CodeAtRest,
    /// While a worker has it.
    linked: Weak<Guest>,
}

impl PartialEq for ThreadCode {
    fn eq(&self, other: &Self) -> bool {
        self.at_rest == other.at_rest
    }
}

impl Backend for Threads {
    type Code = ThreadCode;
    type Guest = Arc<Guest>;
    type VitalsFile = ();
    type Worker = ThreadHandle;
    type Table = Arc<AppTable>;
    type Listeners = Arc<Listeners>;

    const CAN_BE_KILLED: bool = false;
    const ENDS_WITH_SPAWNER: bool = false;

    fn new(
        config: &Arc<Config>,
        spawner: &Arc<Spawner>,
        _confinement: &Confinement,
        kept: &KeptForApps,
    ) -> io::Result<Self> {
        let services = kept.services()?;
        let host: &HostScoreboard = scoreboard::own()?;
        let own: &Scoreboard = scoreboard::own()?;
        let trial = Trial {
            sandbox: Sandbox::new(config, config.workers_max, Ticker::start()?, services),
            among_others: config.source.is_some(),
            budget: budget(config, &host.memory, &own.memory),
            pulse: &own.pulse,
        };
        make_engines_ahead(config, &trial.sandbox);
        Ok(Self { config: Arc::clone(config), trial: Arc::new(trial), host, spawner: Arc::clone(spawner) })
    }

    fn host(&self) -> &'static HostScoreboard {
        self.host
    }

    fn scoreboard(&self) -> io::Result<(&'static Scoreboard, ())> {
        Ok((scoreboard::own()?, ()))
    }

    fn table(&self, table: AppTable) -> io::Result<Arc<AppTable>> {
        Ok(Arc::new(table))
    }

    fn listeners(&self, rows: Vec<ListenerRow>, tls: Vec<Arc<OwnedFd>>) -> io::Result<Arc<Listeners>> {
        opened(&rows, tls.iter().map(|tls| &**tls))
    }

    fn look_up(&self, app: &Arc<App>) -> io::Result<Pending<Option<Loaded<Self>>>> {
        let (config, trial, app) = (Arc::clone(&self.config), Arc::clone(&self.trial), Arc::clone(app));
        let launcher = Launcher::Spawner(Arc::clone(&self.spawner));
        in_thread(move || {
            let found = Artifact::found(&config, &app, &launcher)?;
            found.map(|artifact| tried(&artifact, &app, &trial)).transpose()
        })
    }

    fn load(&self, app: &Arc<App>) -> io::Result<Pending<Loaded<Self>>> {
        let (config, trial, app) = (Arc::clone(&self.config), Arc::clone(&self.trial), Arc::clone(app));
        let launcher = Launcher::Spawner(Arc::clone(&self.spawner));
        in_thread(move || {
            let artifact = Artifact::prepare(&config, &app, &launcher);
            let loaded = artifact.and_then(|artifact| tried(&artifact, &app, &trial));
            // The component's bytes, which nothing needs any more.
            heap::give_back(1 << 20);
            loaded
        })
    }

    fn at_hand(&self, code: &ThreadCode) -> Option<Arc<Guest>> {
        code.linked.upgrade()
    }

    fn is_there(&self, code: &ThreadCode) -> bool {
        code.linked.strong_count() > 0 || code.at_rest.is_there()
    }

    fn open(&self, app: &Arc<App>, code: &ThreadCode) -> io::Result<Pending<(Arc<Guest>, ThreadCode)>> {
        let (trial, app, at_rest) = (Arc::clone(&self.trial), Arc::clone(app), code.at_rest.clone());
        in_thread(move || {
            let artifact = at_rest.open(&app)?;
            let guest = Arc::new(Guest::link(&artifact, &app, &trial.sandbox)?);
            // An entry that was written anew meanwhile is not checked in full each time.
            let at_rest = CodeAtRest::of(&artifact).unwrap_or(at_rest);
            let linked = Arc::downgrade(&guest);
            Ok((guest, ThreadCode { at_rest, linked }))
        })
    }

    fn start(&self, start: Start<'_, Self>) -> io::Result<ThreadHandle> {
        let supplies: BTreeMap<AppId, Supply> =
            start.first.into_iter().map(|(app, guest, tag)| (app, Supply::Guest(guest, tag))).collect();
        let setup = WorkerSetup {
            id: start.id,
            group: start.group.cloned(),
            config: Arc::clone(&self.config),
            scoreboard: start.scoreboard,
            host: self.host,
            sandbox: Arc::clone(&self.trial.sandbox),
            authority: start.authority.clone(),
            listeners: Arc::clone(start.listeners),
            own_listeners: start.own_listeners,
            admission: Arc::clone(start.admission),
            spans: start.spans.cloned(),
        };
        let orders = orders(Arc::clone(start.table), start.stage, supplies);
        ThreadHandle::start(setup, start.events.clone(), orders)
    }

    fn clear(&self, gone: &'static Scoreboard, apps: &mut dyn Iterator<Item = AppId>) {
        // A thread that died has leaked its instances' memory, or given it back itself.
        clear_rows(gone, apps);
    }

    fn stop(&self) {
        self.trial.sandbox.ticker().stop();
    }
}

/// What was prepared of an app, linked and tried.
fn tried(artifact: &Artifact, app: &Arc<App>, trial: &Trial) -> Result<Loaded<Threads>, LoadError> {
    let (guest, tried) = link_and_try(artifact, app, trial, None)?;
    let at_rest = CodeAtRest::of(artifact);
    let at_rest = at_rest.map_err(|error| short(app, format!("its code cannot be kept: {error}")))?;
    let code = ThreadCode { at_rest, linked: Arc::downgrade(&guest) };
    Ok(Loaded { wasi: tried.wasi, isolation: tried.isolation, code, guest })
}

/// Runs this in a thread whose heap is counted as the host's own.
fn in_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LoadError> + Send + 'static,
) -> io::Result<Pending<T>> {
    let (answer, done) = oneshot::channel();
    std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
        let _own = heap::own();
        // Without a receiver the host is stopping, and nobody wants it.
        let _ = answer.send(work());
    })?;
    Ok(done)
}

impl Worker for ThreadHandle {
    type Guest = Arc<Guest>;
    type Table = Arc<AppTable>;
    type Listeners = Arc<Listeners>;

    fn room(&self) -> usize {
        Self::room(self)
    }

    fn is_full(&self) -> bool {
        // Threads share the descriptors of the host.
        false
    }

    fn try_send(&self, connection: Connection) -> Result<(), Connection> {
        Self::try_send(self, connection)
    }

    fn reconcile(&self, _wait: bool) {
        // A thread's connections give their permits back by themselves.
    }

    fn stage(&self, stage: Stage) {
        self.orders.stage(stage);
    }

    fn table(&self, table: &Arc<AppTable>) {
        self.orders.table(Arc::clone(table));
    }

    fn listeners(&self, listeners: &Arc<Listeners>) {
        self.orders.listeners(Arc::clone(listeners));
    }

    fn log(&self, _: LogNow) {
        // It is that of this process.
    }

    fn supply(&self, app: AppId, guest: Arc<Guest>, tag: RevisionTag) {
        self.orders.supply(app, Supply::Guest(guest, tag));
    }

    fn refuse(&self, app: AppId, reason: Arc<str>) {
        self.orders.supply(app, Supply::Unavailable(reason));
    }

    fn forget(&self, app: AppId) {
        self.orders.forget(app);
    }

    fn make_room_for(&self, app: AppId) {
        self.orders.make_room_for(app);
    }

    fn profile(&self, order: ProfileOrder) {
        self.orders.profile(order);
    }

    fn ask(&self) -> bool {
        true
    }

    fn end_hung(&self) {
        // A thread cannot be ended.
    }
}
