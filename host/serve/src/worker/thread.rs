//! What runs in a worker's thread: its event loop, from the first instance to the end of the last connection.

use std::cell::{Cell, OnceCell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::{LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc};

use wasmhost_base::log::access;
use wasmhost_base::panics::caught;
use wasmhost_base::quota::Quota;
use wasmhost_base::trace::Tracer;
use wasmhost_base::woken::when_woken;
use wasmhost_base::{cpu_clock, heap};
use wasmhost_config::AppId;
use wasmhost_sandbox::{MemoryBudget, Profiler, WorkerBounds, WorkerCpu};

use super::events::{Applied, Events, Exit, WorkerEvent};
use super::orders::{LEAVES_WITHIN, OrderReceiver, Orders, Stage, WorkerSetup};
use super::profiling;
use crate::alarms::Alarms;
use crate::buffers::UNREAD_MAX;
use crate::crash::Crash;
use crate::fault_report::SentReport;
use crate::http::{ForwardConnections, Lines, ServiceDesk, Shares, WorkerShared, answer_calls, share_max};
use crate::metrics::HandshakeFailure;
use crate::net::ListenerId;
use crate::net::acceptor::{Acceptor, next_of};
use crate::net::inbox::{Connection, Permit, Receiver};
use crate::net::introduced::{client_of, may_introduce};
use crate::net::listener::Listener;
use crate::net::listeners::ListenerSetup;
use crate::net::tls::handshakes::{Handshakes, NoSession};
use crate::net::{ClientSocket, Peer, Stream};
use crate::pool::{Common, PoolNotice, WorkerApps, WorkerParts};
use crate::protocol;

/// Threads of a worker that do file system calls for guests whose app could not have its own.
const BLOCKING_THREADS_MAX: usize = 8;
/// Connections that a worker takes from its inbox or listener in one turn of its loop: with sixty calls that compute, a
/// turn takes sixty milliseconds, and who waits outside for a word of refusal shall not wait for many.
const CONNECTIONS_A_TURN: usize = 64;

/// The body of a worker's thread. Always ends with an event.
pub(super) fn run(setup: WorkerSetup, events: mpsc::Sender<WorkerEvent>, connections: Receiver, orders: OrderReceiver) {
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
    orders: OrderReceiver,
) -> Exit {
    let metrics = &setup.scoreboard.metrics;
    let thread = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
    metrics.thread.store(thread.into(), Relaxed);
    metrics.began_us.store(cpu_clock::now_us(), Relaxed);
    let apps = OnceCell::new();
    let serving = serve(setup, events, thread.into(), connections, orders, &apps);
    let outcome = caught(|| runtime.block_on(serving));
    metrics.listening.set(false);
    if let Some(apps) = apps.get() {
        // Not within the panic, if it was one.
        runtime.block_on(async { apps.clear() });
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
    mut orders: OrderReceiver,
    kept: &OnceCell<Rc<WorkerApps>>,
) -> Exit {
    let WorkerSetup {
        id,
        group,
        config,
        scoreboard,
        host,
        sandbox,
        authority,
        listeners,
        own_listeners,
        admission,
        spans,
    } = setup;
    let metrics = &scoreboard.metrics;
    events.tell(WorkerEvent::Online(id, thread)).await;
    // What a thread that died left behind here went with it.
    scoreboard.pulse.reset();
    let pulse = sandbox.ticker().watch_pulse(&scoreboard.pulse);
    metrics.unrouted.in_flight.set(0);
    metrics.down.set(false);
    let Some(first) = orders.changed().await else { return Exit::Voluntary };
    let table = first.table.unwrap_or_default();
    let crash = Rc::new(Crash::default());
    let cpu = Rc::<WorkerCpu>::default();
    let common = Common::new(id, metrics, Rc::clone(&crash), config.development.is_none(), config.crashes.wanted());
    let (services, service_line) = ServiceDesk::new();
    let profiler = Arc::<Profiler>::default();
    if let Some(event) = first.profile.and_then(|order| profiling::follow(order, id, &profiler)) {
        events.tell(event).await;
    }
    let parts = WorkerParts {
        services: service_line,
        pulse,
        cpu: Rc::clone(&cpu),
        profiler: Arc::clone(&profiler),
        bounds: WorkerBounds::default(),
        sandbox,
        budget: MemoryBudget::new(config.limits.memory_total_bytes, &host.memory, &scoreboard.memory),
        scoreboard,
        host,
        sleep_after: config.app_idle_timeout,
        has_other_workers: config.workers_max > 1 || config.source.is_some(),
        group,
    };
    let apps = WorkerApps::new(Rc::clone(&common), parts, table);
    let _ = kept.set(Rc::clone(&apps));
    let alarms = Rc::new(Alarms::default());
    let shares = Shares::new(share_max(&config));
    let sample_ppm = config.traces.sample_ppm;
    let tracer = spans.map(|queue| Tracer { sample_ppm, queue, lost: &metrics.spans_lost });
    let worker = Rc::new(WorkerShared {
        id,
        apps: Rc::clone(&apps),
        alarms: Rc::clone(&alarms),
        metrics,
        config,
        draining: Cell::new(false),
        leaving: Cell::new(false),
        stopping: Cell::new(false),
        requests: Cell::new(0),
        lines: Lines::default(),
        tracer,
        services,
        connections: ForwardConnections::default(),
        gzip: RefCell::default(),
        shares,
        authority,
        listeners: RefCell::new(listeners),
        listeners_changed: Notify::new(),
        drain_begins: Notify::new(),
        handshakes: Handshakes::default(),
        unread: Quota::new(UNREAD_MAX),
        tasks: Cell::new(0),
        changed: Notify::new(),
        crash: Rc::clone(&crash),
    });
    let mut own_acceptors = Vec::new();
    for (id, listener) in own_listeners {
        let speaks_tls = worker.listeners.borrow().get(id).is_some_and(|setup| setup.tls.is_some());
        match Listener::from_tcp(listener) {
            Ok(listener) => {
                let admission = Arc::clone(&admission);
                own_acceptors.push(Acceptor::new(listener, (id, speaks_tls), admission, &metrics.accepting));
            }
            Err(error) => return Exit::NotStarted(format!("a listener of it cannot be used: {error}")),
        }
    }
    let watcher = Rc::clone(&crash);
    tokio::task::spawn_local(async move { watcher.watch(Box::pin(alarms.run())).await });
    let supplied: Vec<AppId> = first.supplies.keys().copied().collect();
    let pools: Vec<_> = first.supplies.into_iter().filter_map(|(app, supply)| apps.begin_with(app, supply)).collect();
    if let [only] = &*pools {
        // So that no request waits for its first instance.
        tokio::select! {
            () = crash.watch(Box::pin(only.warm())) => {}
            text = crash.happened() => return Exit::Panic(text),
        }
    }
    drop(pools);
    tend(&worker, cpu);
    metrics.listening.set(true);
    events.tell(WorkerEvent::Listening(id)).await;
    for app in supplied {
        events.tell(WorkerEvent::Applied(id, Applied::Supply(app))).await;
    }
    events.tell(WorkerEvent::Applied(id, Applied::Table)).await;
    let mut stage = Some(first.stage);
    let crew = Crew { worker: Rc::clone(&worker), open: Rc::default() };
    loop {
        wasmhost_base::inject::panic_at("loop");
        let heard = {
            let other = pin!(async {
                tokio::select! {
                    biased;
                    text = crash.happened() => HeardByWorker::Crash(text),
                    latest = next(&mut orders, &mut stage) => HeardByWorker::Orders(latest),
                    notice = common.next_notice() => HeardByWorker::Notice(notice),
                    (group, socket) = worker.connections.next_asked() => HeardByWorker::Forward(group, socket),
                    () = common.rested(), if worker.leaving.get() => HeardByWorker::Nothing,
                    () = worker.changed.notified() => HeardByWorker::Nothing,
                }
            });
            let mut other = pin!(when_woken(other));
            loop {
                tokio::select! {
                    biased;
                    heard = &mut other => break heard,
                    Some(connection) = connections.recv() => crew.take_in(connection, || connections.try_recv().ok()),
                    (index, connection) = next_of(&mut own_acceptors, |acceptor| acceptor) => {
                        crew.take_in(connection, || own_acceptors.get_mut(index).and_then(Acceptor::next_waiting));
                        // The others go first the next time.
                        own_acceptors.rotate_left(index + 1);
                    }
                }
                wasmhost_base::inject::panic_at("loop");
                if worker.leaving.get() {
                    break HeardByWorker::Nothing;
                }
            }
        };
        match heard {
            HeardByWorker::Crash(text) => break Exit::Panic(text),
            HeardByWorker::Orders(latest) => {
                let Some(Orders { stage, table, listeners, supplies, make_room_for, profile }) =
                    latest.filter(|orders| orders.stage != Stage::Stop)
                else {
                    worker.stopping.set(true);
                    break Exit::Voluntary;
                };
                if let Some(listeners) = listeners {
                    let listeners = listeners.after(&worker.listeners.borrow());
                    *worker.listeners.borrow_mut() = listeners;
                    worker.listeners_changed.notify_waiters();
                }
                // Without a wait in between, in which a request could wake an app anew that an older supply is for.
                let has_table = table.map(|table| apps.serve(table)).is_some();
                let supplied: Vec<AppId> = supplies.keys().copied().collect();
                supplies.into_iter().for_each(|(app, supply)| drop(apps.supply(app, supply)));
                for app in make_room_for {
                    apps.make_room(Some(app));
                }
                let profiled = profile.and_then(|order| profiling::follow(order, id, &profiler));
                if let Some(event) = profiled {
                    events.tell(event).await;
                }
                if has_table {
                    events.tell(WorkerEvent::Applied(id, Applied::Table)).await;
                }
                for app in supplied {
                    events.tell(WorkerEvent::Applied(id, Applied::Supply(app))).await;
                }
                if stage != Stage::Serve && !worker.leaving.replace(true) {
                    own_acceptors.drain(..).for_each(|acceptor| crew.take_in_the_last(acceptor));
                    metrics.listening.set(false);
                    events.tell(WorkerEvent::Disconnect(id)).await;
                    worker.changed.notify_one();
                    if stage == Stage::Leave {
                        let leaving = Rc::clone(&worker);
                        let drains_at = async move {
                            tokio::time::sleep(LEAVES_WITHIN).await;
                            drain(&leaving);
                        };
                        let crash = Rc::clone(&crash);
                        tokio::task::spawn_local(async move { crash.watch(Box::pin(drains_at)).await });
                    }
                }
                if stage == Stage::Drain {
                    drain(&worker);
                }
            }
            HeardByWorker::Notice(notice) => {
                let event = match notice {
                    PoolNotice::Wants(app) => WorkerEvent::Wants(id, app),
                    PoolNotice::Asleep(app) => WorkerEvent::Asleep(id, app),
                    PoolNotice::LacksMemory(app) => WorkerEvent::LacksMemory(id, app),
                    PoolNotice::Fault(app, fault, report) => {
                        let report = report.map(|report| SentReport::Here(Arc::new(*report)));
                        WorkerEvent::Fault(id, app, fault, report)
                    }
                    PoolNotice::FellBack(app, revision) => WorkerEvent::FellBack(id, app, revision),
                };
                events.tell(event).await;
            }
            HeardByWorker::Forward(group, socket) => {
                events.tell(WorkerEvent::Forward(id, group.as_ref().to_owned(), socket)).await;
            }
            HeardByWorker::Nothing => {}
        }
        if worker.leaving.get()
            && connections.is_empty()
            && crew.open.get() == 0
            && worker.tasks.get() == 0
            && common.is_at_rest()
            // The last fault, for example.
            && common.is_told()
        {
            break Exit::Voluntary;
        }
    }
}

/// Has connections without a request end, and others after the one that they have.
fn drain(worker: &WorkerShared) {
    if !worker.draining.replace(true) {
        worker.drain_begins.notify_waiters();
        worker.alarms.wake_all();
        worker.changed.notify_one();
    }
}

/// How long TLS's handshake, or a PROXY header, may still take once the host stops.
const BEGIN_AT_DRAIN: Duration = Duration::from_secs(1);

/// What a worker's loop hears of besides connections.
enum HeardByWorker {
    /// A task has panicked.
    Crash(String),
    /// None: nobody gives orders any more.
    Orders(Option<Orders>),
    Notice(PoolNotice),
    /// A request for an app of this group needs a connection to one of its workers.
    Forward(Rc<str>, std::os::unix::net::UnixStream),
    /// The loop looks at everything again.
    Nothing,
}

/// Starts the tasks that a worker has beside its connections. A panic of one ends the worker.
fn tend(worker: &Rc<WorkerShared>, cpu: Rc<WorkerCpu>) {
    let spawn = |task: Pin<Box<dyn Future<Output = ()>>>| {
        let crash = Rc::clone(&worker.crash);
        tokio::task::spawn_local(async move { crash.watch(task).await });
    };
    let (apps, common) = (Rc::clone(&worker.apps), Rc::clone(&worker.apps.common));
    spawn(Box::pin(cpu.attend()));
    spawn(Box::pin(apps.put_to_sleep()));
    let metrics = worker.metrics;
    spawn(Box::pin(async move { common.trim.run(|| metrics.note_resident()).await }));
    spawn(Box::pin(answer_calls(Rc::clone(worker))));
    let tended = Rc::clone(worker);
    spawn(Box::pin(async move { tended.connections.tend().await }));
    spawn(Box::pin(access::hand_over_in_time()));
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

    /// Takes in the connections that wait in the backlog of a listener of the worker's own, and closes it: closing alone
    /// would reset them.
    fn take_in_the_last(&self, acceptor: Acceptor) {
        acceptor.take_rest(|connection| {
            self.start(connection);
            true
        });
    }

    fn start(&self, connection: Connection) {
        let Connection { socket, peer, listener, mut permit } = connection;
        self.worker.metrics.connections.add_one();
        // From a listener of the worker's own; the primary has seen to it already.
        permit.assign(self.worker.metrics);
        match ClientSocket::new(socket) {
            Ok(socket) => self.run(socket, listener, peer, permit),
            Err(error) => {
                tracing::warn!(worker = self.worker.id.0, %peer, %error, "a connection could not be registered with the event loop")
            }
        }
    }

    /// Serves a connection in a task of its own. Its socket and its permit are held here, outside what a panic may leak.
    fn run(&self, socket: ClientSocket, listener: Option<ListenerId>, peer: Peer, mut permit: Permit) {
        self.open.set(self.open.get() + 1);
        let (open, worker) = (Rc::clone(&self.open), Rc::clone(&self.worker));
        tokio::task::spawn_local(async move {
            let beginning = begin(&worker, socket, listener, peer, &mut permit);
            let begun = worker.crash.survive(Box::pin(beginning)).await.flatten();
            if let Some((stream, peer)) = begun {
                let stream = Rc::new(stream);
                let serving = Box::pin(protocol::serve(Rc::clone(&worker), Rc::clone(&stream), peer));
                if worker.crash.survive(serving).await.is_none() {
                    // Others may hold it still, in what was leaked.
                    stream.cut();
                }
            }
            drop(permit);
            open.set(open.get() - 1);
            worker.apps.common.trim.ask();
            if worker.leaving.get() {
                worker.changed.notify_one();
            }
        });
    }
}

/// A connection on which a protocol can begin, and its client.
type BegunConnection = (Stream, Peer);

/// Brings a connection to where a protocol can begin: behind the PROXY header and TLS's handshake, where there are any.
async fn begin(
    worker: &Rc<WorkerShared>,
    socket: ClientSocket,
    listener: Option<ListenerId>,
    peer: Peer,
    permit: &mut Permit,
) -> Option<BegunConnection> {
    let Some(id) = listener else { return Some((Stream::new(socket, None, None), peer)) };
    let known = worker.listeners.borrow().get(id).cloned();
    let setup = match known {
        Some(setup) => setup,
        // In boxes, this one and others: connections that need none of it need not carry it.
        None => Box::pin(worker.listener_in_time(id)).await?,
    };
    if !setup.has_proxy_header && setup.tls.is_none() {
        return Some((Stream::new(socket, Some(setup), None), peer));
    }
    let within = worker.config.limits.header_timeout;
    let beginning = Box::pin(begin_with(worker, socket, setup, peer, permit));
    tokio::select! {
        begun = tokio::time::timeout(within, beginning) => begun.unwrap_or_else(|_| {
            fail(worker, peer, HandshakeFailure::Late, None);
            None
        }),
        // Who has not said anything that could be answered does not keep the host from stopping.
        () = worker.drained_for(BEGIN_AT_DRAIN) => None,
    }
}

async fn begin_with(
    worker: &WorkerShared,
    socket: ClientSocket,
    setup: Arc<ListenerSetup>,
    mut peer: Peer,
    permit: &mut Permit,
) -> Option<BegunConnection> {
    let mut is_named = true;
    if setup.has_proxy_header {
        if !may_introduce(peer, &worker.config.trust_proxy) {
            fail(worker, peer, HandshakeFailure::Untrusted, None);
            return None;
        }
        match client_of(&socket).await {
            Ok(Some(client)) => {
                peer = Peer::at(client);
                if !permit.claim_late(client).await {
                    fail(worker, peer, HandshakeFailure::PerClient, None);
                    return None;
                }
            }
            Ok(None) => is_named = false,
            Err(error) => {
                fail(worker, peer, HandshakeFailure::NoClient, Some(error));
                return None;
            }
        }
    }
    let begun = |socket, setup, session| {
        let stream = Stream::new(socket, Some(setup), session);
        Some((if is_named { stream } else { stream.unnamed() }, peer))
    };
    let Some(tls) = setup.tls.clone() else { return begun(socket, setup, None) };
    match worker.handshakes.shake(&socket, tls).await {
        Ok(session) => {
            worker.metrics.handshakes.add_one();
            if session.is_resumed() {
                worker.metrics.resumptions.add_one();
            }
            begun(socket, setup, Some(session))
        }
        Err(NoSession::Shed) => {
            fail(worker, peer, HandshakeFailure::Shed, None);
            None
        }
        Err(NoSession::Failed(error)) => {
            fail(worker, peer, HandshakeFailure::Failed, Some(error));
            None
        }
    }
}

/// Counts and logs that a connection did not come to its protocol.
fn fail(worker: &WorkerShared, peer: Peer, failure: HandshakeFailure, error: Option<std::io::Error>) {
    worker.metrics.handshake_failed(failure);
    if let Some(count) = worker.lines.handshakes.admit(Instant::now()) {
        let (worker, reason, error) = (worker.id.0, failure.name(), error.map(|error| error.to_string()));
        tracing::info!(worker, count, %peer, reason, error, "connections ended before their first request (count: since the last such line)");
    }
}

/// The next orders: the stage of the first ones, once, and then those that come.
async fn next(orders: &mut OrderReceiver, first: &mut Option<Stage>) -> Option<Orders> {
    match first.take() {
        Some(stage) => Some(Orders::to(stage)),
        None => orders.changed().await,
    }
}
