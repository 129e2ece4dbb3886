//! A worker: one OS thread with an event loop of its own, its own connections and its own instances. This file holds the
//! handle by which the primary starts, watches and stops one; `thread` is what runs in it, and the rest of the folder
//! follows a connection's way through it.

mod alarms;
mod body;
mod conn;
mod exchange;
mod head;
mod health;
pub mod inbox;
mod respond;
mod slot;
mod socket;
mod thread;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::uri::Authority;
use tokio::sync::{Notify, mpsc, watch};

pub use conn::Peer;

use self::alarms::Alarms;
use self::slot::Slot;
use crate::config::Config;
use crate::metrics::{HostMetrics, WorkerMetrics};
use crate::sandbox::{Guest, MemoryBudget, Pulse, Ticker, WasiVersion};
use crate::supervisor::WorkerId;

/// What a worker's thread shares with its connections. Never leaves the thread.
struct WorkerShared {
    id: WorkerId,
    slot: Rc<Slot>,
    alarms: Rc<Alarms>,
    metrics: Arc<WorkerMetrics>,
    config: Arc<Config>,
    wasi_version: Cell<WasiVersion>,
    /// The host stops: no request after the present ones.
    draining: Cell<bool>,
    requests: Cell<u64>,
    lines: conn::Lines,
    /// Stands for the authority where a client names none.
    authority: Authority,
    /// Tasks that outlive their connection: work after a response, bodies that nobody reads.
    tasks: Cell<usize>,
    /// What the drain waits for may have come: a connection or a task ended, or a connection's task panicked.
    changed: Notify,
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
            task.await;
            worker.tasks.set(worker.tasks.get() - 1);
            if worker.draining.get() {
                worker.changed.notify_one();
            }
        });
    }
}

/// What a worker tells the primary.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The thread runs; its number in the operating system.
    Online(WorkerId, u64),
    /// It takes connections.
    Listening(WorkerId),
    /// It takes no more connections.
    Disconnect(WorkerId),
    /// The thread has ended.
    Exited(WorkerId, Exit),
}

/// Why a worker's thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Voluntary,
    /// Its event loop or its first instance could not be made.
    NotStarted(String),
    /// A bug of the host.
    Panic(String),
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
    /// End at once.
    Stop,
}

/// All that a worker needs to start.
pub struct WorkerSetup {
    /// Its number.
    pub id: WorkerId,
    /// How to serve.
    pub config: Arc<Config>,
    /// Its counts, kept over respawns.
    pub metrics: Arc<WorkerMetrics>,
    /// The clock that preempts guests.
    pub ticker: Arc<Ticker>,
    /// Its sign of running guest code, kept over respawns.
    pub pulse: Arc<Pulse>,
    /// Memory of all instances.
    pub budget: Arc<MemoryBudget>,
    /// Where events go.
    pub events: mpsc::Sender<WorkerEvent>,
    /// The address that stands for the authority where a client names none.
    pub authority: Authority,
    /// A listener of its own, with `--balance kernel`, and the capacity that its connections take from.
    pub listener: Option<(std::net::TcpListener, Arc<inbox::Permits>)>,
    /// Where errors of accepting from it are counted.
    pub host: Arc<HostMetrics>,
}

/// The primary's side of a worker: an end to send connections, and one to order.
pub struct WorkerHandle {
    /// Connections go in here.
    pub inbox: inbox::Sender,
    /// Orders go in here.
    pub orders: watch::Sender<Orders>,
}

impl WorkerHandle {
    /// Starts a worker's thread, with its first orders.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(setup: WorkerSetup, orders: Orders) -> std::io::Result<Self> {
        let (inbox, connections) = inbox::inbox();
        let (orders, heard) = watch::channel(orders);
        let name = format!("worker-{}", setup.id);
        std::thread::Builder::new().name(name).spawn(move || thread::run(setup, connections, heard))?;
        Ok(Self { inbox, orders })
    }
}
