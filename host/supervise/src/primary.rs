//! The primary: starts the workers, gives them connections, notices when one ends, and stops them in order. It leaves
//! decisions to the balancer and the supervisor, and never runs guest code.

mod dispatch;
mod error;
mod ground;
mod heart;
mod kind;
mod life;
mod place;
mod reload;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use wasmhost_base::log;
use wasmhost_base::panics::{caught, guarded};
use wasmhost_config::Listen;
use wasmhost_serve::intake::Intake;
use wasmhost_serve::listener::Address;
use wasmhost_serve::worker::inbox::Permits;
use wasmhost_serve::worker::{Stage, WorkerEvent};

use self::dispatch::{DISPATCH_AGAIN, Held, Rest, next_connection};
pub use self::error::PrimaryError;
use self::error::system;
pub use self::ground::Ground;
use self::ground::{Listening, authority, max_connections, per_client};
use self::kind::Kind;
use self::place::Place;
use self::reload::Reload;
pub use self::reload::Swap;
use self::state::Primary;
use crate::admin;
use crate::balancer::Balancer;
use crate::board::Board;
use crate::shutdown::{Phase, Request, Signals};
use crate::supervisor::{BEAT, RestartIntensity, Supervisor};
use wasmhost_serve::worker::WorkerId;

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
pub async fn run_with(mut ground: Ground, mut swaps: mpsc::Receiver<Swap>) -> Result<Ended, PrimaryError> {
    let mut signals = Signals::install().map_err(system("install signal handlers"))?;
    let spawner = Arc::clone(&ground.spawner);
    let config = Arc::new(ground.config.clone());
    tracing::info!(
        target: log::START,
        version = env!("CARGO_PKG_VERSION"),
        component = %config.component.display(),
        workers = config.workers,
        worker_kind = config.worker_kind.name(),
        "starting"
    );
    ground.confinement.log();
    let kind = Kind::new(&config, &spawner, &ground.confinement).map_err(system("make ready for workers"))?;
    let mut places = make_places(&kind, config.workers)?;
    let workers = places.iter().map(|place| &place.vitals.metrics).collect();
    let board = Arc::new(Board::new(Arc::clone(&config), workers, kind.host(), ground.confinement.clone()));
    // From here on the admin page answers, however long the component takes to load.
    if let Some(admin) = ground.listen_for_admin()? {
        tracing::info!(target: log::START, "admin page on {}", admin.address());
        tokio::task::spawn_local(admin::serve(admin, Arc::clone(&board)));
    }
    let loading = kind.load(&config).map_err(system("start the loader"))?;
    let edition = tokio::select! {
        loaded = loading => loaded.map_err(|_| system("load the component")(std::io::Error::other("the loader ended; a bug of the host")))??,
        stop = until_stop(&mut signals) => {
            tracing::info!(signal = stop, "stopped before the component was loaded");
            return Ok(Ended::Drained);
        }
    };
    board.set_edition(&edition);

    let Listening { one: listener, each: own_listeners, address, files } = ground.listen()?;
    for (place, own_listener) in places.iter_mut().zip(own_listeners) {
        place.listener = Some(own_listener);
    }
    let (events, mut heard) = mpsc::channel(EVENTS_MAX);
    let permits = Permits::new(max_connections(&config), per_client(&config));
    let intake = listener.map(|listener| Intake::new(listener, Arc::clone(&permits), &board.host.accepting));
    let mut primary = Primary {
        edition,
        kind,
        permits,
        spawner,
        files,
        places,
        supervisor: Supervisor::new(RestartIntensity::of(config.workers)),
        balancer: Balancer::default(),
        events,
        authority: authority(&address),
        respawns: BTreeMap::new(),
        stage: Stage::Serve,
        board,
        config,
    };
    for index in 0..primary.places.len() {
        primary.start(index)?;
    }
    let ended = primary.serve(intake, &address, (&mut heard, &mut swaps), &mut signals).await;
    primary.stop_workers(&mut heard).await;
    primary.kind.stop();
    ended
}

/// A place for each worker, none of which has started.
fn make_places(kind: &Kind, workers: u16) -> Result<Vec<Place>, PrimaryError> {
    let place = |number| {
        let (vitals, vitals_file) = kind.vitals().map_err(system("make room for what a worker shows"))?;
        Ok(Place::new(WorkerId(number), vitals, vitals_file))
    };
    (1..=workers).map(place).collect()
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
    async fn serve(
        &mut self,
        mut intake: Option<Intake>,
        address: &Address,
        (heard, swaps): (&mut mpsc::Receiver<WorkerEvent>, &mut mpsc::Receiver<Swap>),
        signals: &mut Signals,
    ) -> Result<Ended, PrimaryError> {
        // A connection that no worker can take at the moment.
        let mut held: Option<Held> = None;
        let mut reload = Reload::default();
        let spawner = Arc::clone(&self.spawner);
        let mut spawner_lost = std::pin::pin!(spawner.ended());
        let mut has_spawner = true;
        let mut announced = false;
        let mut deadline: Option<Instant> = None;
        // What a host that stops still takes from its backlog, before its workers drain.
        let mut rest: Option<Rest> = None;
        let mut beat_at: Option<Instant> = None;
        loop {
            let draining = deadline.is_some();
            if let Some(mut left) = rest.take() {
                match caught(|| self.take_in_rest(&mut left, intake.as_mut(), &mut held)) {
                    Ok(true) => {
                        (intake, held) = (None, None);
                        self.drain_workers();
                    }
                    Ok(false) => rest = Some(left),
                    Err(panic) => {
                        held = self.on_panic(panic)?;
                        rest = Some(left);
                    }
                }
            }
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
                        tracing::warn!(signal, "second signal: the host ends at once");
                        return Ok(Ended::AtOnce);
                    }
                    Request::Reload if draining => {}
                    // (With `wasmhost dev`, a SIGHUP says that the terminal was closed.)
                    Request::Reload if self.config.development.is_none() => reload.begin(self),
                    stop => {
                        let signal = if let Request::Stop(signal) = stop { signal } else { "SIGHUP" };
                        deadline = Some(self.stop_accepting(signal));
                        // What waits at a socket that was handed over stays there, for whoever is handed it next.
                        intake = intake.take().filter(|_| self.config.listen != Listen::Inherited);
                        rest = Some(Rest::new(self.config.drain_timeout));
                    }
                },
                Some(event) = heard.recv() => {
                    if let WorkerEvent::Swapped(worker) | WorkerEvent::Exited(worker, _) = &event {
                        reload.caught_up(*worker);
                    }
                    self.on_event(event, draining)?;
                    if !announced && !draining && self.has_begun() {
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
                        tracing::warn!(limit = "--drain-timeout", "--drain-timeout is over: requests still in flight are broken off; raise it to wait longer");
                    }
                    return Ok(Ended::Drained);
                }
                () = sleep_until(next_respawn) => self.respawn_due()?,
                () = tokio::time::sleep(DISPATCH_AGAIN), if rest.is_some() => {}
                () = sleep_until(beat_at) => {
                    beat_at = None;
                    self.beat();
                }
                connection = guarded(next_connection(intake.as_mut(), &mut held)), if announced && !draining => {
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
            target: log::LISTENING,
            workers = self.places.len(),
            isolation,
            wasi,
            max_connections = self.permits.max(),
            "listening on {address}"
        );
    }

    /// Whether the start is over: a worker listens, and each of the others does, too, or has died in its first start. One
    /// that dies at every start keeps the others from nothing.
    fn has_begun(&self) -> bool {
        self.places.iter().all(|place| place.has_begun)
            && self.places.iter().any(|place| place.vitals.metrics.listening.get())
    }

    /// Begins to stop: no listener takes a connection after those that wait already. Returns when requests in flight are
    /// broken off.
    fn stop_accepting(&mut self, signal: &'static str) -> Instant {
        tracing::info!(
            signal,
            drain_timeout_ms = u64::try_from(self.config.drain_timeout.as_millis()).unwrap_or(u64::MAX),
            "stopping: no new connections, requests in flight finish"
        );
        self.board.set_phase(Phase::Draining);
        self.files.remove();
        self.respawns.clear();
        Instant::now() + self.config.drain_timeout
    }

    fn drain_workers(&mut self) {
        for place in &mut self.places {
            place.listener = None;
        }
        self.order(Stage::Drain);
    }
}

/// Waits for the moment; for ever without one.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
