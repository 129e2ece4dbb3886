//! What runs in a worker's thread: its event loop, from the first instance to the end of the last connection.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc, watch};

use wasmhost_base::heap;
use wasmhost_base::log::access;
use wasmhost_base::panics::caught;
use wasmhost_sandbox::{InstanceContext, WorkerCpu};

use super::events::{Events, Exit, WorkerEvent};
use super::orders::{Orders, Stage, WorkerSetup};
use crate::alarms::Alarms;
use crate::crash::Crash;
use crate::http::{Buffers, Lines, WorkerShared};
use crate::http1;
use crate::net::inbox::{Accepted, Connection, Permit, Receiver};
use crate::net::intake::Intake;
use crate::net::listener::Listener;
use crate::net::{Peer, Stream};
use crate::pool::Slot;

/// Threads of a worker that do blocking work for guests: file system calls and name look-ups.
const BLOCKING_THREADS_MAX: usize = 8;
/// Connections that a worker takes from its inbox or listener in one turn of its loop: with sixty calls that compute, a
/// turn takes sixty milliseconds, and who waits outside for a word of refusal shall not wait for many.
const CONNECTIONS_A_TURN: usize = 64;
/// The key of the app that every worker serves.
const ONLY_APP: u32 = 0;

/// The body of a worker's thread. Always ends with an event.
pub(super) fn run(
    setup: WorkerSetup,
    events: mpsc::Sender<WorkerEvent>,
    connections: Receiver,
    orders: watch::Receiver<Orders>,
) {
    let id = setup.id;
    // What guests have the host hold is counted by thread.
    let _own = heap::own();
    let exit = match event_loop(&format!("worker-{id}")) {
        Ok(runtime) => run_in(runtime, setup, &events, connections, orders),
        Err(error) => Exit::NotStarted(format!("no event loop: {error}")),
    };
    // The primary is gone when this fails, and the process with it.
    let _ = events.blocking_send(WorkerEvent::Exited(id, exit));
}

/// The event loop of a worker of this name.
///
/// # Errors
/// When the system is short of descriptors.
pub fn event_loop(name: &str) -> std::io::Result<LocalRuntime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name(format!("{name}-blocking"))
        .build_local(LocalOptions::default())
}

/// Runs a worker on this thread, in its event loop, to the end.
pub fn run_in(
    runtime: LocalRuntime,
    setup: WorkerSetup,
    events: &impl Events,
    connections: Receiver,
    orders: watch::Receiver<Orders>,
) -> Exit {
    let metrics = &setup.vitals.metrics;
    let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    metrics.thread.store(thread.into(), Relaxed);
    let slot = OnceCell::new();
    let serving = serve(setup, events, thread.into(), connections, orders, &slot);
    let outcome = caught(|| runtime.block_on(serving));
    metrics.listening.set(false);
    if let Some(slot) = slot.get() {
        // Instances at rest hold the slot, which holds them. Not within the panic, if it was one.
        runtime.block_on(async { slot.clear() });
    }
    // A blocking call of a guest may still be under way; the thread does not wait for it.
    runtime.shutdown_background();
    access::flush();
    outcome.unwrap_or_else(Exit::Panic)
}

#[allow(clippy::too_many_lines, reason = "one loop over all that a worker hears")]
async fn serve(
    setup: WorkerSetup,
    events: &impl Events,
    thread: u64,
    mut connections: Receiver,
    mut orders: watch::Receiver<Orders>,
    kept: &OnceCell<Rc<Slot>>,
) -> Exit {
    let WorkerSetup { id, config, vitals, ticker, host, budget, authority, listener } = setup;
    let metrics = &vitals.metrics;
    events.tell(WorkerEvent::Online(id, thread)).await;
    // What a thread that died left behind here went with it.
    vitals.pulse.reset();
    let pulse = ticker.watch_pulse(&vitals.pulse);
    metrics.in_flight.set(0);
    metrics.instances.set(0);
    metrics.down.set(false);
    let cpu = Rc::<WorkerCpu>::default();
    let grants = Arc::new(config.grants.clone());
    let context = InstanceContext::new(id.0, pulse, ticker, budget, grants, (&cpu, ONLY_APP));
    let mut guest = Arc::clone(&orders.borrow().guest);
    // They may say more than that already.
    orders.mark_changed();
    let crash = Rc::new(Crash::default());
    let slot = Slot::new(id, Arc::clone(&guest), context, &config, (metrics, host), Rc::clone(&crash));
    let _ = kept.set(Rc::clone(&slot));
    let alarms = Rc::new(Alarms::default());
    let worker = Rc::new(WorkerShared {
        id,
        slot: Rc::clone(&slot),
        alarms: Rc::clone(&alarms),
        metrics,
        buffers: Buffers::new(&config.capacity),
        config,
        draining: Cell::new(false),
        stopping: Cell::new(false),
        requests: Cell::new(0),
        lines: Lines::default(),
        authority,
        tasks: Cell::new(0),
        changed: Notify::new(),
        crash: Rc::clone(&crash),
    });
    let mut own_intake = match listener {
        Some((listener, permits)) => match Listener::from_tcp(listener) {
            Ok(listener) => Some(Intake::new(listener, permits, &metrics.accepting)),
            Err(error) => return Exit::NotStarted(format!("its listener cannot be used: {error}")),
        },
        None => None,
    };
    let watcher = Rc::clone(&crash);
    tokio::task::spawn_local(async move { watcher.watch(alarms.run()).await });
    tokio::select! {
        () = crash.watch(slot.warm()) => {}
        text = crash.happened() => return Exit::Panic(text),
    }
    tend(&worker, cpu);
    metrics.listening.set(true);
    events.tell(WorkerEvent::Listening(id)).await;

    let mut is_first = true;
    let crew = Crew { worker: Rc::clone(&worker), open: Rc::default() };
    loop {
        wasmhost_base::inject::panic_at("loop");
        tokio::select! {
            biased;
            text = crash.happened() => break Exit::Panic(text),
            changed = orders.changed() => {
                let latest = orders.borrow_and_update().clone();
                if changed.is_err() || latest.stage == Stage::Stop {
                    worker.stopping.set(true);
                    break Exit::Voluntary;
                }
                let is_other = !Arc::ptr_eq(&guest, &latest.guest);
                if is_other {
                    guest = latest.guest;
                    slot.swap(Arc::clone(&guest));
                }
                // Also of the first: an order that came while this worker started is in it, and is waited for.
                if is_other || is_first {
                    events.tell(WorkerEvent::Swapped(id)).await;
                }
                is_first = false;
                if latest.stage == Stage::Drain && !worker.draining.replace(true) {
                    crew.take_in_the_last(own_intake.take());
                    metrics.listening.set(false);
                    events.tell(WorkerEvent::Disconnect(id)).await;
                    worker.alarms.wake_all();
                    worker.changed.notify_one();
                }
            }
            () = slot.rested(), if worker.draining.get() => {}
            () = worker.changed.notified() => {}
            Some(connection) = connections.recv() => crew.take_in(connection, || connections.try_recv().ok()),
            connection = next_of_own(own_intake.as_mut()) => {
                crew.take_in(connection, || own_intake.as_mut().and_then(Intake::next_waiting));
            }
        }
        if worker.draining.get()
            && connections.is_empty()
            && crew.open.get() == 0
            && worker.tasks.get() == 0
            && slot.is_at_rest()
        {
            break Exit::Voluntary;
        }
    }
}

/// Starts the tasks that a worker has beside its connections. A panic of one ends the worker.
fn tend(worker: &Rc<WorkerShared>, cpu: Rc<WorkerCpu>) {
    let spawn = |task: Pin<Box<dyn Future<Output = ()>>>| {
        let crash = Rc::clone(&worker.crash);
        tokio::task::spawn_local(async move { crash.watch(task).await });
    };
    let [tended, relieved, trimmed] = std::array::from_fn(|_| Rc::clone(&worker.slot));
    spawn(Box::pin(cpu.attend()));
    spawn(Box::pin(async move { tended.tend().await }));
    spawn(Box::pin(async move { relieved.relieve().await }));
    spawn(Box::pin(async move { trimmed.trim.run().await }));
    if worker.config.access_log {
        spawn(Box::pin(access::hand_over_in_time()));
    }
}

/// The connections of a worker.
struct Crew {
    worker: Rc<WorkerShared>,
    open: Rc<Cell<usize>>,
}

impl Crew {
    /// Takes a connection in, and those behind it that wait already.
    fn take_in(&self, first: Connection, mut next: impl FnMut() -> Option<Connection>) {
        self.start(first);
        for _ in 1..CONNECTIONS_A_TURN {
            match next() {
                Some(connection) => self.start(connection),
                None => return,
            }
        }
    }

    /// Takes in the connections that wait in the backlog of the worker's own listener, and closes it: closing alone would
    /// reset them.
    fn take_in_the_last(&self, intake: Option<Intake>) {
        if let Some(intake) = intake {
            intake.take_rest(|connection| {
                self.start(connection);
                true
            });
        }
    }

    fn start(&self, connection: Connection) {
        let Connection { socket, peer, mut permit } = connection;
        self.worker.metrics.connections.add_one();
        // From a listener of the worker's own; the primary has seen to it already.
        permit.assign(self.worker.metrics);
        let stream = match socket {
            Accepted::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Accepted::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        };
        match stream {
            Ok(stream) => self.run(stream, peer, permit),
            Err(error) => {
                tracing::warn!(worker = self.worker.id.0, %peer, %error, "a connection could not be registered with the event loop")
            }
        }
    }

    /// Serves a connection in a task of its own. Its socket and its permit are held here, outside what a panic may leak.
    fn run(&self, stream: Stream, peer: Peer, permit: Permit) {
        self.open.set(self.open.get() + 1);
        let (open, worker) = (Rc::clone(&self.open), Rc::clone(&self.worker));
        let stream = Rc::new(stream);
        tokio::task::spawn_local(async move {
            let serving = http1::serve(Rc::clone(&worker), Rc::clone(&stream), peer);
            if worker.crash.survive(serving).await.is_none() {
                // Others may hold it still, in what was leaked.
                stream.cut();
            }
            drop((stream, permit));
            open.set(open.get() - 1);
            worker.slot.trim.ask();
            if worker.draining.get() {
                worker.changed.notify_one();
            }
        });
    }
}

/// The next connection of the worker's own listener; never ready without one.
async fn next_of_own(intake: Option<&mut Intake>) -> Connection {
    match intake {
        Some(intake) => intake.next().await,
        None => std::future::pending().await,
    }
}
