//! A worker: one OS thread with its own event loop, connections and instances. This file holds the handle by which the primary
//! starts, watches and stops a worker. `thread` is what runs in it; the other files follow a connection through it.

mod alarms;
mod body;
mod buffers;
mod conn;
mod crash;
mod exchange;
mod head;
mod health;
pub mod inbox;
mod lines;
#[cfg(feature = "fault-injection")]
mod misdeeds;
mod pace;
mod respond;
mod slot;
mod socket;
pub mod thread;
mod trim;
mod turns;
mod upload;

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Authority;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, watch};

pub use conn::Peer;

use wasmhost_config::Config;
use wasmhost_sandbox::{Guest, MemoryBudget, Ticker};

use self::alarms::Alarms;
use self::crash::Crash;
use self::slot::Slot;
use crate::metrics::WorkerMetrics;
use crate::vitals::{HostVitals, Vitals};

/// What a worker's thread shares with its connections. Never leaves the thread.
struct WorkerShared {
    id: WorkerId,
    slot: Rc<Slot>,
    alarms: Rc<Alarms>,
    metrics: &'static WorkerMetrics,
    config: Arc<Config>,
    /// The host stops: no request after the present ones.
    draining: Cell<bool>,
    /// The host waits no longer: requests that are in flight now are broken off.
    stopping: Cell<bool>,
    requests: Cell<u64>,
    lines: lines::Lines,
    /// What is held for slow clients.
    buffers: buffers::Buffers,
    /// Stands for the authority where a client names none.
    authority: Authority,
    /// Tasks that outlive their connection: work after a response, bodies that nobody reads.
    tasks: Cell<usize>,
    /// What the drain waits for may have come: a connection or a task ended.
    changed: Notify,
    /// Where a task that panics is told of.
    crash: Rc<Crash>,
}

impl WorkerShared {
    /// The next request's number, unique in this worker.
    fn next_request(&self) -> u64 {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        number
    }

    /// Runs a task that the drain waits for.
    fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let worker = Rc::clone(self);
        worker.tasks.set(worker.tasks.get() + 1);
        tokio::task::spawn_local(async move {
            worker.crash.watch(task).await;
            worker.tasks.set(worker.tasks.get() - 1);
            if worker.draining.get() {
                worker.changed.notify_one();
            }
        });
    }
}

/// Number of a worker, from 1 as in Node's `cluster.worker.id`; a respawned worker keeps its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub u16);

impl std::fmt::Display for WorkerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a worker tells the primary.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The thread runs; its number in the operating system.
    Online(WorkerId, u64),
    /// It takes connections.
    Listening(WorkerId),
    /// It serves with the code that it was told of last.
    Swapped(WorkerId),
    /// It takes no more connections.
    Disconnect(WorkerId),
    /// The thread, or the process, has ended.
    Exited(WorkerId, Exit),
    /// A connection has ended in a worker's process, which the primary wanted to know.
    Freed,
}

/// Why a worker's thread or process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It was told to.
    Voluntary,
    /// Its event loop or its first instance could not be made, or it could not go over to a component that was loaded.
    NotStarted(String),
    /// A bug of the host.
    Panic(String),
    /// The process ended, and has not said why: by a signal, for example.
    Killed(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Voluntary => f.write_str("told to stop"),
            Self::NotStarted(reason) | Self::Killed(reason) => f.write_str(reason),
            Self::Panic(text) => write!(f, "panic: {text}"),
        }
    }
}

/// Where a worker tells of itself: to the primary of this process, or of another. The primary outlives its workers; without
/// it there is nobody to tell.
pub trait Events {
    /// Tells.
    fn tell(&self, event: WorkerEvent) -> impl Future<Output = ()>;
}

impl Events for mpsc::Sender<WorkerEvent> {
    async fn tell(&self, event: WorkerEvent) {
        let _ = self.send(event).await;
    }
}

/// What the primary wants of a worker. The latest counts: a worker that was busy meanwhile has missed nothing.
#[derive(Clone)]
pub struct Orders {
    /// What to serve.
    pub guest: Arc<Guest>,
    /// Whether to go on.
    pub stage: Stage,
}

/// Whether a worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Take connections.
    Serve,
    /// Finish what is in flight and end.
    Drain,
    /// End at once: the drain's time is over, or a second signal came.
    Stop,
}

/// All that a worker needs to start.
pub struct WorkerSetup {
    /// Its number.
    pub id: WorkerId,
    /// How to serve.
    pub config: Arc<Config>,
    /// Its counts and its sign of running guest code, kept over respawns.
    pub vitals: &'static Vitals,
    /// What all workers share.
    pub host: &'static HostVitals,
    /// The clock that preempts guests.
    pub ticker: Arc<Ticker>,
    /// Memory of all instances.
    pub budget: Arc<MemoryBudget>,
    /// The address that stands for the authority where a client names none.
    pub authority: Authority,
    /// A listener of its own, with `--balance kernel`, and the capacity that its connections take from.
    pub listener: Option<(std::net::TcpListener, Arc<inbox::Permits>)>,
}

/// The primary's side of a worker that is a thread: an end to send connections, and one to order.
pub struct ThreadHandle {
    inbox: inbox::Sender,
    orders: watch::Sender<Orders>,
}

impl ThreadHandle {
    /// Starts a worker's thread, with its first orders.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(setup: WorkerSetup, events: mpsc::Sender<WorkerEvent>, orders: Orders) -> std::io::Result<Self> {
        let (inbox, connections) = inbox::inbox();
        let (orders, heard) = watch::channel(orders);
        let name = format!("worker-{}", setup.id);
        std::thread::Builder::new().name(name).spawn(move || thread::run(setup, events, connections, heard))?;
        Ok(Self { inbox, orders })
    }

    /// Connections that it can still be given.
    pub fn room(&self) -> usize {
        self.inbox.capacity()
    }

    /// Gives it a connection.
    ///
    /// # Errors
    /// The connection, when the worker cannot take it now.
    pub fn try_send(&self, connection: inbox::Connection) -> Result<(), inbox::Connection> {
        self.inbox.try_send(connection).map_err(|error| match error {
            mpsc::error::TrySendError::Full(connection) | mpsc::error::TrySendError::Closed(connection) => connection,
        })
    }

    /// Tells it what to serve, and whether to go on.
    pub fn order(&self, orders: Orders) {
        self.orders.send_replace(orders);
    }
}
