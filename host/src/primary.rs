//! The primary: starts the workers, gives them connections, hears what becomes of them, and stops them in order. It
//! decides nothing by itself (the balancer and the supervisor do) and never runs guest code.

mod ground;
mod heart;
mod kind;
mod reload;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::sync::mpsc;

pub use self::ground::Ground;
use self::ground::{Listening, authority, max_connections, per_client};
use self::kind::{Kind, Start};
use self::reload::Reload;
pub use self::reload::Swap;
use crate::admin;
use crate::balancer::{Balancer, Decision, WorkerView};
use crate::board::Board;
use crate::config::{Config, WorkerKind};
use crate::confine::Unconfined;
use crate::intake::Intake;
use crate::listener::{self, Address, BindError};
use crate::loader::Edition;
use crate::metrics::WorkerMetrics;
use crate::panics::{caught, guarded};
use crate::sandbox::{LoadError, Ticker};
use crate::shutdown::{Phase, Request, Signals};
use crate::spawner::Spawner;
use crate::supervisor::{Action, BEAT, DEFAULT_RESTART_INTENSITY, Event, Heartbeat, Liveness, Supervisor, WorkerId};
use crate::vitals::Vitals;
use crate::worker::inbox::{self, INBOX_MAX, Permits};
use crate::worker::{Exit, Stage, WorkerEvent, WorkerHandle};

/// Events of workers that may wait for the primary.
const EVENTS_MAX: usize = 256;
/// Connections that the primary accepts before it looks at anything else.
const ACCEPTS_A_TURN: usize = 64;
/// A worker that has left connections in its inbox for so long, and taken none, counts as late: by far more than a burst
/// on a busy machine keeps one waiting.
const STUCK_AFTER: Duration = Duration::from_millis(50);
/// How long a connection that no worker can take waits before the workers are asked again.
const DISPATCH_AGAIN: Duration = Duration::from_millis(2);
/// Why the host did not start, or gave up.
#[derive(Debug, thiserror::Error)]
pub enum PrimaryError {
    /// The component cannot be served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The address cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The system refused something.
    #[error("cannot {action}: {error}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The process must be confined and cannot.
    #[error("the host {0}")]
    Confine(#[from] Unconfined),
    /// The spawner is gone, and with it the workers, which are its children.
    #[error("gave up: the spawner has ended, and the workers' processes with it")]
    SpawnerLost,
    /// Workers died more often than the restart budget allows.
    #[error("gave up: worker {worker} died ({reason}) and the restart budget of {} in {} s is spent", DEFAULT_RESTART_INTENSITY.budget, DEFAULT_RESTART_INTENSITY.window.as_secs())]
    WorkerLost {
        /// The last that died.
        worker: WorkerId,
        /// Why.
        reason: Exit,
    },
    /// The primary itself panicked more often than the budget allows.
    #[error("gave up: accepting connections panicked ({panic}) and the restart budget of {} in {} s is spent", DEFAULT_RESTART_INTENSITY.budget, DEFAULT_RESTART_INTENSITY.window.as_secs())]
    Panicked {
        /// What it said.
        panic: String,
    },
}

impl PrimaryError {
    /// A way out, for the user.
    pub fn hint(&self) -> &str {
        match self {
            Self::Load(error) => &error.hint,
            Self::Bind(error) => &error.hint,
            Self::Confine(error) => error.hint(),
            Self::SpawnerLost => {
                "see who or what ended it: the kernel's log tells of memory that ran out and of crashes"
            }
            Self::System { .. } => "see that descriptors, threads and memory are left",
            Self::Panicked { .. } | Self::WorkerLost { reason: Exit::Panic(_) | Exit::Voluntary, .. } => {
                "this is a bug of wasmhost: report it with the log lines above"
            }
            Self::WorkerLost { reason: Exit::NotStarted(_), .. } => {
                "see that descriptors (ulimit -n), threads and memory are left"
            }
            Self::WorkerLost { reason: Exit::Killed(_), .. } => {
                "see who or what ended the processes: the kernel's log tells of memory that ran out and of crashes"
            }
        }
    }
}

fn system(action: &'static str) -> impl Fn(std::io::Error) -> PrimaryError {
    move |error| PrimaryError::System { action, error }
}

/// How the host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// All requests in flight had finished, or the drain's time was over.
    Drained,
    /// A second signal asked for it.
    AtOnce,
}

/// A worker as the primary knows it.
struct Place {
    id: WorkerId,
    vitals: &'static Vitals,
    /// The file of its vitals, where it is a process.
    vitals_file: Option<Arc<OwnedFd>>,
    handle: Option<WorkerHandle>,
    /// It runs, or has been told to start.
    running: bool,
    /// Of its own, with `--balance kernel`.
    listener: Option<TcpListener>,
    /// How many connections it had taken, and since when it has been seen with others waiting and none taken.
    waiting_since: Cell<Option<(u64, Instant)>>,
    /// The calls for a sign of life to it, where it is a process, and what they came to.
    heart: Cell<Heartbeat>,
    liveness: Cell<Liveness>,
}

/// The state of the main thread.
struct Primary {
    config: Arc<Config>,
    edition: Edition,
    kind: Kind,
    board: Arc<Board>,
    permits: Arc<Permits>,
    spawner: Arc<Spawner>,
    places: Vec<Place>,
    supervisor: Supervisor,
    balancer: Balancer,
    events: mpsc::Sender<WorkerEvent>,
    authority: Authority,
    respawns: BTreeMap<Instant, usize>,
    stage: Stage,
}

/// Serves on `ground` until the host is told to stop. Runs on the main thread, in a local runtime.
///
/// # Errors
/// When the host cannot start, or has lost its workers.
pub async fn run(ground: Ground) -> Result<Ended, PrimaryError> {
    // Nobody gives orders.
    run_with(ground, mpsc::channel(1).1).await
}

/// [`run`], with orders to load the component again.
///
/// # Errors
/// As [`run`].
pub async fn run_with(ground: Ground, swaps: mpsc::Receiver<Swap>) -> Result<Ended, PrimaryError> {
    let spawner = Arc::clone(&ground.spawner);
    let ended = start_and_serve(ground, swaps).await;
    if !matches!(ended, Ok(Ended::Drained)) {
        // If there was a drain they are gone; what has their names now is another's, and stays.
        spawner.remove_sockets();
    }
    ended
}

async fn start_and_serve(ground: Ground, mut swaps: mpsc::Receiver<Swap>) -> Result<Ended, PrimaryError> {
    let mut signals = Signals::install().map_err(system("install signal handlers"))?;
    ground.confinement.log();
    let (spawner, confinement) = (Arc::clone(&ground.spawner), ground.confinement.clone());
    let config = Arc::new(ground.config.clone());
    let max_connections = max_connections(&config);
    let kind = Kind::new(&config, &spawner).map_err(system("make ready for workers"))?;
    let loading = kind.load(&config).map_err(system("start the loader"))?;
    let edition = tokio::select! {
        loaded = loading => loaded.map_err(|_| system("load the component")(std::io::Error::other("the loader ended; a bug of the host")))??,
        stop = until_stop(&mut signals) => {
            tracing::info!(signal = stop, "stopped before the component was loaded");
            spawner.remove_sockets();
            return Ok(Ended::Drained);
        }
    };

    let Listening { one: listener, each: own_listeners, address, admin } = ground.listen()?;
    let (events, mut heard) = mpsc::channel(EVENTS_MAX);
    let mut own_listeners = own_listeners.into_iter();
    let mut places = Vec::with_capacity(config.workers.into());
    for number in 1..=config.workers {
        let (vitals, vitals_file) = kind.vitals().map_err(system("make room for what a worker shows"))?;
        places.push(Place {
            id: WorkerId(number),
            vitals,
            vitals_file,
            handle: None,
            running: false,
            listener: own_listeners.next(),
            waiting_since: Cell::new(None),
            heart: Cell::default(),
            liveness: Cell::default(),
        });
    }
    let workers = places.iter().map(|place| &place.vitals.metrics).collect();
    let board = Arc::new(Board::new(Arc::clone(&config), workers, kind.host(), confinement));
    board.set_edition(&edition);
    let permits = Permits::new(max_connections, per_client(&config));
    let intake = listener.map(|listener| Intake::new(listener, Arc::clone(&permits), &board.host.accepting));
    let mut primary = Primary {
        edition,
        kind,
        permits,
        spawner: Arc::clone(&spawner),
        places,
        supervisor: Supervisor::new(DEFAULT_RESTART_INTENSITY),
        balancer: Balancer::default(),
        events,
        authority: authority(&address),
        respawns: BTreeMap::new(),
        stage: Stage::Serve,
        board: Arc::clone(&board),
        config,
    };
    for index in 0..primary.places.len() {
        primary.start(index)?;
    }
    if let Some(admin) = admin {
        tracing::info!("admin page on {}", admin.address());
        tokio::task::spawn_local(admin::serve(admin, Arc::clone(&board)));
    }
    let ended = primary.serve(intake, &address, (&mut heard, &mut swaps), &mut signals).await;
    primary.kind.stop();
    ended
}

/// Waits for a signal to stop; the others mean nothing yet.
async fn until_stop(signals: &mut Signals) -> &'static str {
    loop {
        if let Request::Stop(name) = signals.next().await {
            return name;
        }
    }
}

impl Primary {
    /// Starts the worker at `index`.
    fn start(&mut self, index: usize) -> Result<(), PrimaryError> {
        let start = Start {
            config: &self.config,
            edition: &self.edition,
            stage: self.stage,
            events: &self.events,
            authority: &self.authority,
            permits: &self.permits,
        };
        let place = &mut self.places[index];
        place.heart.take();
        place.liveness.take();
        place.handle = Some(self.kind.start(place, &start).map_err(system("start a worker"))?);
        place.running = true;
        Ok(())
    }

    async fn serve(
        &mut self,
        mut intake: Option<Intake>,
        address: &Address,
        (heard, swaps): (&mut mpsc::Receiver<WorkerEvent>, &mut mpsc::Receiver<Swap>),
        signals: &mut Signals,
    ) -> Result<Ended, PrimaryError> {
        // A connection that no worker can take at the moment.
        let mut held: Option<inbox::Connection> = None;
        let mut reload = Reload::default();
        let spawner = Arc::clone(&self.spawner);
        let mut spawner_lost = std::pin::pin!(spawner.ended());
        let mut has_spawner = true;
        let mut announced = false;
        let mut deadline: Option<Instant> = None;
        let mut beat_at: Option<Instant> = None;
        loop {
            let draining = deadline.is_some();
            if draining && self.places.iter().all(|place| !place.running) {
                tracing::info!("all workers have ended");
                return Ok(Ended::Drained);
            }
            for handle in self.places.iter().filter_map(|place| place.handle.as_ref()) {
                handle.reconcile(self.permits.is_spent());
            }
            beat_at = self.wants_beats().then(|| beat_at.unwrap_or_else(|| Instant::now() + BEAT));
            let next_respawn = self.respawns.keys().next().copied();
            tokio::select! {
                biased;
                request = signals.next() => match request {
                    Request::Stop(signal) if draining => {
                        tracing::warn!(signal, "a second signal: ending at once");
                        return Ok(Ended::AtOnce);
                    }
                    Request::Stop(signal) => {
                        self.take_last(held.take(), intake.take());
                        deadline = Some(self.drain(signal));
                    }
                    Request::Reload if draining => {}
                    // The terminal was closed.
                    Request::Reload if self.config.development.is_some() => {
                        self.take_last(held.take(), intake.take());
                        deadline = Some(self.drain("SIGHUP"));
                    }
                    Request::Reload => reload.begin(self),
                },
                Some(event) = heard.recv() => {
                    if let WorkerEvent::Swapped(worker) | WorkerEvent::Exited(worker, _) = &event {
                        reload.caught_up(*worker);
                    }
                    self.on_event(event, draining)?;
                    let all_listen = self.places.iter().all(|place| place.vitals.metrics.listening.get());
                    if !announced && all_listen {
                        announced = true;
                        self.announce(address);
                    }
                }
                Some(swap) = swaps.recv(), if !draining => reload.begin_for(self, swap),
                lost = &mut spawner_lost, if has_spawner => {
                    has_spawner = false;
                    self.on_spawner_lost(lost, draining)?;
                }
                loaded = reload.next() => reload.take_effect(self, loaded),
                () = sleep_until(deadline) => {
                    if !self.config.drain_timeout.is_zero() {
                        tracing::warn!(limit = "--drain-timeout", "requests still in flight are broken off; raise --drain-timeout to wait longer");
                    }
                    self.order(Stage::Stop);
                    return Ok(Ended::Drained);
                }
                () = sleep_until(next_respawn) => self.respawn_due()?,
                () = sleep_until(beat_at) => {
                    beat_at = None;
                    self.beat();
                }
                connection = guarded(next_connection(intake.as_mut(), &mut held)), if announced => {
                    let taken_in = connection.and_then(|connection| caught(|| self.take_in(connection, intake.as_mut())));
                    held = taken_in.or_else(|panic| self.on_panic(panic))?;
                }
            }
        }
    }

    fn announce(&self, address: &Address) {
        self.board.set_phase(Phase::Running);
        let (_, isolation, wasi) = self.board.state();
        tracing::info!(
            target: "wasmhost::listening",
            workers = self.places.len(),
            isolation,
            wasi,
            max_connections = self.permits.max(),
            "listening on {address}"
        );
    }

    /// Gives a connection to a worker, and those that wait behind it; back when no worker can take it now.
    fn take_in(&mut self, first: inbox::Connection, mut intake: Option<&mut Intake>) -> Option<inbox::Connection> {
        let mut next = Some(first);
        for _ in 0..ACCEPTS_A_TURN {
            if let Some(connection) = self.dispatch(next?) {
                return Some(connection);
            }
            next = intake.as_mut().and_then(|intake| intake.next_waiting());
        }
        next
    }

    /// The host stops: who has connected already is served, since closing the listener would reset them. As many as the
    /// workers can take now.
    fn take_last(&mut self, held: Option<inbox::Connection>, mut intake: Option<Intake>) {
        let mut next = held.or_else(|| intake.as_mut().and_then(Intake::next_waiting));
        for _ in 0..listener::BACKLOG {
            let Some(connection) = next else { return };
            if self.dispatch(connection).is_some() {
                return;
            }
            next = intake.as_mut().and_then(Intake::next_waiting);
        }
    }

    /// Gives a connection to a worker, or back when none can take it now.
    fn dispatch(&mut self, mut connection: inbox::Connection) -> Option<inbox::Connection> {
        let now = Instant::now();
        let views: Vec<WorkerView> = self.places.iter().map(|place| place.view(now)).collect();
        let Decision::Dispatch { to, passed_over } = self.balancer.dispatch(self.config.balance, &views) else {
            return Some(connection);
        };
        if let Some(late) = passed_over {
            self.places[late].vitals.metrics.passed_over.fetch_add(1, Relaxed);
        }
        let place = &self.places[to];
        let Some(handle) = &place.handle else { return Some(connection) };
        connection.permit.assign(&place.vitals.metrics);
        handle.try_send(connection).err().map(|mut connection| {
            connection.permit.unassign();
            connection
        })
    }

    fn drain(&mut self, signal: &'static str) -> Instant {
        tracing::info!(
            signal,
            drain_timeout_ms = u64::try_from(self.config.drain_timeout.as_millis()).unwrap_or(u64::MAX),
            "stopping: no new connections, requests in flight finish"
        );
        self.board.set_phase(Phase::Draining);
        self.spawner.remove_sockets();
        self.respawns.clear();
        for place in &mut self.places {
            place.listener = None;
        }
        self.order(Stage::Drain);
        Instant::now() + self.config.drain_timeout
    }

    /// Tells every worker to serve with `edition` from now on.
    fn serve_with(&mut self, edition: Edition) {
        self.edition = edition;
        self.board.vitals.has_answered.set(false);
        self.order(self.stage);
    }

    /// Tells every worker, and those that are yet to start.
    fn order(&mut self, stage: Stage) {
        self.stage = stage;
        for handle in self.places.iter().filter_map(|place| place.handle.as_ref()) {
            handle.order(&self.edition.code, stage);
        }
    }

    fn on_event(&mut self, event: WorkerEvent, draining: bool) -> Result<(), PrimaryError> {
        match event {
            WorkerEvent::Online(worker, thread) => {
                let generation = self.metrics(worker).respawns.fetch_add(1, Relaxed) + 1;
                tracing::info!(worker = worker.0, thread, generation, "online");
            }
            WorkerEvent::Listening(worker) => {
                tracing::info!(worker = worker.0, "worker listening");
                self.supervisor.on_event(Instant::now(), Event::Listening(worker), fastrand::f64());
            }
            WorkerEvent::Disconnect(worker) => tracing::info!(worker = worker.0, "disconnect"),
            WorkerEvent::Exited(worker, exit) => self.on_exit(worker, exit, draining)?,
            // The permits were given back at the top of the loop; the reload was told.
            WorkerEvent::Freed | WorkerEvent::Swapped(_) => {}
        }
        Ok(())
    }

    /// The spawner is gone. Workers that are threads go on without; they cannot be given another component.
    fn on_spawner_lost(&self, lost: std::io::Result<()>, draining: bool) -> Result<(), PrimaryError> {
        match (self.config.worker_kind, lost) {
            _ if draining => Ok(()),
            (_, Err(error)) => {
                tracing::error!(%error, "the spawner cannot be watched");
                Ok(())
            }
            (WorkerKind::Thread, Ok(())) => {
                tracing::error!(
                    "the spawner has ended; serving goes on, but no component can be loaded (SIGHUP) until the host is started again"
                );
                Ok(())
            }
            (WorkerKind::Process, Ok(())) => Err(PrimaryError::SpawnerLost),
        }
    }

    fn metrics(&self, worker: WorkerId) -> &'static WorkerMetrics {
        &self.places[usize::from(worker.0) - 1].vitals.metrics
    }

    fn on_exit(&mut self, worker: WorkerId, exit: Exit, draining: bool) -> Result<(), PrimaryError> {
        let exit = match exit {
            Exit::Voluntary if self.stage == Stage::Serve => {
                Exit::Killed("it ended without having been told to".into())
            }
            exit => exit,
        };
        let index = usize::from(worker.0) - 1;
        let place = &mut self.places[index];
        place.handle = None;
        place.running = false;
        self.kind.clear(place.vitals);
        let metrics = &place.vitals.metrics;
        let voluntary = exit == Exit::Voluntary;
        let (thread, generation) = (metrics.thread.load(Relaxed), metrics.respawns.load(Relaxed));
        let cause = exit.to_string();
        if voluntary {
            tracing::info!(worker = worker.0, thread, generation, cause, voluntary, "exit");
        } else {
            tracing::error!(worker = worker.0, thread, generation, cause, voluntary, "exit");
        }
        if draining {
            return Ok(());
        }
        match self.supervisor.on_event(Instant::now(), Event::Exited { worker, voluntary }, fastrand::f64()) {
            Action::None => Ok(()),
            Action::RespawnAfter(delay) => {
                tracing::info!(
                    worker = worker.0,
                    delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
                    "respawn"
                );
                let mut due = Instant::now() + delay;
                while self.respawns.contains_key(&due) {
                    due += Duration::from_nanos(1);
                }
                self.respawns.insert(due, index);
                Ok(())
            }
            Action::GiveUp => Err(PrimaryError::WorkerLost { worker, reason: exit }),
        }
    }

    /// Accepting, or giving a connection to a worker, panicked: that connection is lost, and the next is as good as any.
    fn on_panic(&mut self, panic: String) -> Result<Option<inbox::Connection>, PrimaryError> {
        match self.supervisor.on_event(Instant::now(), Event::PrimaryPanicked, 0.0) {
            Action::GiveUp => Err(PrimaryError::Panicked { panic }),
            Action::None | Action::RespawnAfter(_) => Ok(None),
        }
    }

    fn respawn_due(&mut self) -> Result<(), PrimaryError> {
        let now = Instant::now();
        while let Some(entry) = self.respawns.first_entry() {
            if *entry.key() > now {
                break;
            }
            let index = entry.remove();
            if let Err(error) = self.start(index) {
                // As one that died at its start: tried again, within the same budget.
                self.on_exit(self.places[index].id, Exit::NotStarted(error.to_string()), false)?;
            }
        }
        Ok(())
    }
}

impl Place {
    fn view(&self, now: Instant) -> WorkerView {
        let answers = self.liveness.get() == Liveness::Answers;
        let room = self.handle.as_ref().filter(|_| answers).map_or(0, WorkerHandle::room);
        // Connections that wait in the inbox tell of a loop that does not turn.
        let waiting = room < INBOX_MAX;
        let metrics = &self.vitals.metrics;
        let taken = metrics.connections.get();
        let before = self.waiting_since.get().filter(|(taken_before, _)| waiting && *taken_before == taken);
        let (_, since) = before.unwrap_or((taken, now));
        self.waiting_since.set(waiting.then_some((taken, since)));
        let waited = Some(now.duration_since(since)).filter(|waited| *waited >= STUCK_AFTER).unwrap_or_default();
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        WorkerView {
            alive: self.handle.is_some() && metrics.listening.get(),
            inbox_room: if self.handle.as_ref().is_some_and(WorkerHandle::is_full) { 0 } else { room },
            late_us: self.vitals.pulse.late_us(Ticker::now_us()).max(waited_us),
            healthy: !metrics.down.get(),
            connections: metrics.open_connections.load(Relaxed),
        }
    }
}

/// Waits for the moment; for ever without one.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The next connection: the one that is held, to be tried again after a while, else a new one. Never ready without
/// either.
async fn next_connection(intake: Option<&mut Intake>, held: &mut Option<inbox::Connection>) -> inbox::Connection {
    if held.is_some() {
        tokio::time::sleep(DISPATCH_AGAIN).await;
        if let Some(connection) = held.take() {
            return connection;
        }
    }
    match intake {
        Some(intake) => intake.next().await,
        None => std::future::pending().await,
    }
}
