//! What differs between workers that are threads and workers that are processes: where their counters lie, how an app is
//! loaded, what a worker is given of it, and how a worker is started. `threads` and `process` implement it; the primary is
//! the same for both.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use http::uri::Authority;
use tokio::sync::{mpsc, oneshot};

use wasmhost_base::log::LogNow;
use wasmhost_base::trace::SpanQueue;
use wasmhost_config::{App, AppId, AppTable, Config};
use wasmhost_confine::Confinement;
use wasmhost_confine::spawner::Spawner;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::scoreboard::{HostScoreboard, Scoreboard};
use wasmhost_serve::worker::inbox::{Admission, Connection};
use wasmhost_serve::worker::{ListenerId, ListenerRow, ProfileOrder, RevisionTag, Stage, WorkerEvent, WorkerId};

use crate::kept::KeptForApps;

/// What comes of work that runs elsewhere; without an answer, the thread or process that did it has died.
pub(crate) type Pending<T> = oneshot::Receiver<Result<T, LoadError>>;

/// A kind of workers.
pub(crate) trait Backend: Sized + 'static {
    /// What is kept of an app that was loaded while no worker has it: it names its code, and holds none. Equal ones name the
    /// same code.
    type Code: Clone + PartialEq + 'static;
    /// What a worker is given to serve an app.
    type Guest: Clone + 'static;
    /// Where another process sees what a worker shows.
    type VitalsFile;
    /// The primary's side of a worker.
    type Worker: Worker<Guest = Self::Guest, Table = Self::Table, Listeners = Self::Listeners>;
    /// The table of apps, as a worker is given it.
    type Table: Clone;
    /// The host's addresses, as a worker is given them.
    type Listeners;

    /// A worker can be killed: it is asked for signs of life, and ended when it gives none.
    const CAN_BE_KILLED: bool;
    /// Workers are children of the spawner, and end with it.
    const ENDS_WITH_SPAWNER: bool;

    /// Makes ready.
    ///
    /// # Errors
    /// What the system says.
    fn new(
        config: &Arc<Config>,
        spawner: &Arc<Spawner>,
        confinement: &Confinement,
        kept: &KeptForApps,
    ) -> io::Result<Self>;

    /// What all workers share.
    fn host(&self) -> &'static HostScoreboard;

    /// Where a new worker shows itself.
    ///
    /// # Errors
    /// What the system says.
    fn scoreboard(&self) -> io::Result<(&'static Scoreboard, Self::VitalsFile)>;

    /// The table as workers are given it.
    ///
    /// # Errors
    /// What the system says.
    fn table(&self, table: AppTable) -> io::Result<Self::Table>;

    /// The host's addresses as workers are given them; `tls`: what is needed for TLS, sealed: the latest, and earlier ones
    /// for addresses that are given up.
    ///
    /// # Errors
    /// What the system says.
    fn listeners(&self, rows: Vec<ListenerRow>, tls: Vec<Arc<OwnedFd>>) -> io::Result<Self::Listeners>;

    /// Begins to look an app up in the cache, of which nothing is known yet. What the cache has may be served untried, where
    /// that is quicker.
    ///
    /// # Errors
    /// When the system has no thread to give.
    fn look_up(&self, app: &Arc<App>) -> io::Result<Pending<Option<Loaded<Self>>>>;

    /// Begins to load an app: to read and compile it, and to try an instance.
    ///
    /// # Errors
    /// When the system has no thread or process to give.
    fn load(&self, app: &Arc<App>) -> io::Result<Pending<Loaded<Self>>>;

    /// What a worker is given of an app that was loaded, if that is at hand.
    fn at_hand(&self, code: &Self::Code) -> Option<Self::Guest>;

    /// Whether the code of an app that was loaded is where it was put, as far as can be told at once.
    fn is_there(&self, code: &Self::Code) -> bool;

    /// Begins to open the code of an app that was loaded. Compiles nothing. The answer has what is to be kept of the app from
    /// then on, too.
    ///
    /// # Errors
    /// When the system has no thread to give.
    fn open(&self, app: &Arc<App>, code: &Self::Code) -> io::Result<Pending<(Self::Guest, Self::Code)>>;

    /// Starts a worker.
    ///
    /// # Errors
    /// When the system has no thread, process or sockets to give.
    fn start(&self, start: Start<'_, Self>) -> io::Result<Self::Worker>;

    /// A worker has died: what it had taken of what all share is given back, and what it showed is not so any more. `apps`:
    /// all that it may have served.
    fn clear(&self, gone: &'static Scoreboard, apps: &mut dyn Iterator<Item = AppId>);

    /// The host is at its end.
    fn stop(&self);
}

/// What a worker that has died showed of these apps, and of requests of no app, is not so any more.
pub(crate) fn clear_rows(gone: &Scoreboard, apps: impl Iterator<Item = AppId>) {
    for row in apps.filter_map(|app| gone.apps.get(app.index())).chain([&gone.metrics.unrouted]) {
        row.in_flight.set(0);
        row.waiting.set(0);
        row.instances.set(0);
        row.down.set(false);
    }
}

/// An app that was loaded and tried.
pub(crate) struct Loaded<B: Backend> {
    /// Version of wasi:http that it was made for.
    pub(crate) wasi: String,
    /// Isolation in effect: `worker` or `request`.
    pub(crate) isolation: String,
    /// What is kept of it.
    pub(crate) code: B::Code,
    /// For the workers that wait for it.
    pub(crate) guest: B::Guest,
}

/// What a worker gets at its start.
pub(crate) struct Start<'a, B: Backend> {
    /// Its number.
    pub(crate) id: WorkerId,
    /// The group whose apps it serves; none: it takes clients' connections.
    pub(crate) group: Option<&'a Arc<str>>,
    /// Where it shows itself.
    pub(crate) scoreboard: &'static Scoreboard,
    /// The same, for another process.
    pub(crate) scoreboard_file: &'a B::VitalsFile,
    /// Where it tells of itself.
    pub(crate) events: &'a mpsc::Sender<WorkerEvent>,
    /// The address that stands for the authority where a client names none.
    pub(crate) authority: &'a Authority,
    /// The capacity that connections take from.
    pub(crate) admission: &'a Arc<Admission>,
    /// How connections begin that come to the host's addresses.
    pub(crate) listeners: &'a B::Listeners,
    /// Sockets that it alone listens on, with `--balance kernel`.
    pub(crate) own_listeners: Vec<(ListenerId, TcpListener)>,
    /// Whether to go on.
    pub(crate) stage: Stage,
    /// The apps.
    pub(crate) table: &'a B::Table,
    /// The app that it is to have before it listens, where there is one.
    pub(crate) first: Option<(AppId, B::Guest, RevisionTag)>,
    /// Where spans of requests go, if these are traced.
    pub(crate) spans: Option<&'a Arc<SpanQueue>>,
}

/// The primary's side of a worker.
pub(crate) trait Worker {
    /// See [`Backend::Guest`].
    type Guest;
    /// See [`Backend::Table`].
    type Table;
    /// See [`Backend::Listeners`].
    type Listeners;

    /// Connections that it can still be given.
    fn room(&self) -> usize;

    /// Whether it has as many connections as descriptors of its own allow.
    fn is_full(&self) -> bool;

    /// Gives it a connection.
    ///
    /// # Errors
    /// The connection, when the worker cannot take it now.
    fn try_send(&self, connection: Connection) -> Result<(), Connection>;

    /// Gives back the permits of connections that have ended. `wait`: the worker shall tell when one more does.
    fn reconcile(&self, wait: bool);

    /// Tells it whether to go on.
    fn stage(&self, stage: Stage);

    /// Tells it which apps there are.
    fn table(&self, table: &Self::Table);

    /// Tells it how connections begin that come to the host's addresses.
    fn listeners(&self, listeners: &Self::Listeners);

    /// Has its log show this, where it has one of its own.
    fn log(&self, shown: LogNow);

    /// Gives it what an app is to be served with.
    fn supply(&self, app: AppId, guest: Self::Guest, tag: RevisionTag);

    /// Tells it why there is nothing to serve an app with.
    fn refuse(&self, app: AppId, reason: Arc<str>);

    /// The app is gone: what it was told of it and has not heard yet is void.
    fn forget(&self, app: AppId);

    /// Has it put an app to sleep that nobody uses, for one that lacks memory on another worker. It may be too busy to hear it.
    fn make_room_for(&self, app: AppId);

    /// Tells it what to do for a profile of the host.
    fn profile(&self, order: ProfileOrder);

    /// Calls for a sign of life; false when the last call was not answered.
    fn ask(&self) -> bool;

    /// Ends it, since it gives no sign of life.
    fn end_hung(&self);
}
