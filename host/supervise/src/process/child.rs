//! A worker's process, seen from inside: it gets what it needs from the spawner and the primary, and its main thread runs
//! what a worker's thread runs. It ends when the primary does.

use std::cell::OnceCell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use wasmhost_base::backoff::Backoff;
use wasmhost_base::log::{self, EarlyLog, LogGuard};
use wasmhost_base::throttle::Throttle;
use wasmhost_base::wire::{Descriptor, Descriptors, Wire, cut};
use wasmhost_config::Config;
use wasmhost_confine::spawner::{InheritError, Launcher, Settings, inherit};
use wasmhost_confine::{self as confine, Cage, Report, Unconfined};
use wasmhost_sandbox::{Artifact, Guest, LoadError, MemoryBudget, Ticker};
use wasmhost_serve::clients::Clients;
use wasmhost_serve::vitals::{self, HostVitals, Vitals};
use wasmhost_serve::worker::WorkerId;
use wasmhost_serve::worker::inbox::{self, Accepted, Connection, PerClient, Permits};
use wasmhost_serve::worker::{Events, Exit, Orders, Peer, Stage, WorkerEvent, WorkerSetup, thread};

use super::words::{ENDED_MAX, FromWorker, Share, ToWorker};
use crate::loader::{Trial, load_and_try};

/// That there is no descriptor for a connection is told of once in this time.
const SHORT_LINE_EVERY: Duration = Duration::from_secs(10);

/// How long to wait before looking again whether a descriptor has become free.
const SHORTAGE_PAUSES: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));

/// How long what the primary had no room to hear waits, and whatever it says meanwhile.
const TELL_AGAIN: Duration = Duration::from_millis(5);

/// Why a process is no worker.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It was not started by a primary, or has no settings from it.
    #[error("`wasmhost worker` cannot be run by hand, wasmhost starts it itself with --worker-kind process: {0}")]
    Inherit(#[from] InheritError),
    /// The system, or the primary, did not do its part.
    #[error("a worker's process cannot start: {0}")]
    System(#[from] io::Error),
    /// It must be confined and cannot.
    #[error("a worker's process {0}")]
    Unconfined(#[from] Unconfined),
}

/// Runs this process as the settings on standard input and the primary say. True when it ended as it was told to.
///
/// # Errors
/// When it was not started by a primary, or the system refuses something.
pub fn run() -> Result<bool, ChildError> {
    let Some(mut inherited) = inherit()? else { return Ok(false) };
    let line = inherited.line()?;
    let Settings { mut config, log } = inherited.settings;
    // The pool is for one worker's instances.
    config.workers = 1;
    let (config, log) = (Arc::new(config), log::start(log));
    let runtime = thread::event_loop("worker")?;
    let first = runtime.block_on(async {
        // A terminal, or a service manager, signals the whole group; the primary decides what follows.
        for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
            drop(signal(kind)?);
        }
        let wire = Arc::new(Wire::new(line)?);
        let first = wire.receive::<ToWorker>().await?;
        Ok::<_, io::Error>(first.map(|(message, descriptors)| (wire, message, descriptors)))
    })?;
    let cage = Cage::worker(&config);
    match first {
        Some((wire, ToWorker::Load { missing }, descriptors)) => {
            // Which starts a compiler. No guest code runs yet.
            let artifact = Artifact::prepare(&config, &Launcher::Own);
            let (report, _log) = confined(&config, &cage, log)?;
            report.log_beyond("the process that tries the component", &missing);
            load(&wire, &config, artifact, descriptors)
        }
        Some((wire, ToWorker::Start { id, authority, share, missing }, mut descriptors)) => {
            let code = descriptors.take(Descriptor::Code)?;
            let (report, _log) = confined(&config, &cage.reading(code.as_fd()), log)?;
            report.log_beyond("a worker's process", &missing);
            tracing::debug!(worker = id, landlock = report.landlock, seccomp = report.seccomp, "confined");
            let start = Start { id: WorkerId(id), code, authority, share };
            let exit = match work(&wire, config, start, descriptors, runtime) {
                Exit::Panic(text) => Exit::Panic(cut(&text)),
                exit => exit,
            };
            let voluntary = exit == Exit::Voluntary;
            // Nobody hears it when the primary is gone.
            let _ = wire.try_send(&FromWorker::Exited(exit), &[]);
            Ok(voluntary)
        }
        Some(_) | None => Ok(false),
    }
}

/// Confines this process, and begins its log, in which the lines until now are written in either case.
fn confined(config: &Config, cage: &Cage, log: EarlyLog) -> Result<(Report, LogGuard), Unconfined> {
    let report = confine::apply(config.confine, cage);
    let log = log.begin();
    report.map(|report| (report, log))
}

/// Tries the component, and tells the primary.
fn load(
    wire: &Wire,
    config: &Arc<Config>,
    artifact: Result<Artifact, LoadError>,
    mut descriptors: Descriptors,
) -> Result<bool, ChildError> {
    let own = vitals::opened::<Vitals>(&descriptors.take(Descriptor::Vitals)?)?;
    let host = vitals::opened::<HostVitals>(&descriptors.take(Descriptor::HostVitals)?)?;
    let total = config.limits.memory_total_bytes;
    let trial = Trial {
        ticker: Ticker::start()?,
        budget: Arc::new(MemoryBudget::new(total, &host.memory_bytes, &own.memory_bytes)),
        pulse: &own.pulse,
    };
    let loaded = artifact.and_then(|artifact| {
        let edition = load_and_try(&artifact, config, &trial)?;
        Ok((edition, artifact))
    });
    match loaded {
        Ok((edition, artifact)) => {
            let code = artifact.file()?;
            let loaded = FromWorker::Loaded { wasi: edition.wasi, isolation: edition.isolation };
            wire.try_send(&loaded, &[(Descriptor::Code, code.as_fd())])?;
            Ok(true)
        }
        Err(LoadError { reason, hint, .. }) => {
            wire.try_send(&FromWorker::Failed { reason: cut(&reason), hint: cut(&hint) }, &[])?;
            Ok(false)
        }
    }
}

/// What the primary says of a worker at its start.
struct Start {
    id: WorkerId,
    code: OwnedFd,
    authority: String,
    share: Option<Share>,
}

/// Works to the end.
fn work(
    wire: &Arc<Wire>,
    config: Arc<Config>,
    start: Start,
    descriptors: Descriptors,
    runtime: tokio::runtime::LocalRuntime,
) -> Exit {
    let ready = prepare(wire, config, start, descriptors);
    let (setup, guest, attendance) = match ready {
        Ok(ready) => ready,
        Err(reason) => return Exit::NotStarted(cut(&reason)),
    };
    let outdated = Rc::clone(&attendance.outdated);
    let (inbox, connections) = inbox::inbox();
    let (orders, heard) = watch::channel(Orders { guest, stage: Stage::Serve });
    runtime.spawn_local(attendance.attend(inbox, orders));
    let exit = thread::run_in(runtime, setup, &EventWire(Arc::clone(wire)), connections, heard);
    match outdated.get() {
        Some(reason) if exit == Exit::Voluntary => Exit::NotStarted(cut(reason)),
        _ => exit,
    }
}

fn prepare(
    wire: &Arc<Wire>,
    config: Arc<Config>,
    start: Start,
    mut descriptors: Descriptors,
) -> Result<(WorkerSetup, Arc<Guest>, Attendance), String> {
    if wasmhost_base::inject::dies_at_start(start.id.0) {
        return Err("injected by a test".to_owned());
    }
    let text = |error: io::Error| error.to_string();
    let mut take = |what| descriptors.take(what).map_err(text);
    let own = vitals::opened::<Vitals>(&take(Descriptor::Vitals)?).map_err(text)?;
    log::count_lost_in(&own.metrics.log_lines_lost);
    let host = vitals::opened::<HostVitals>(&take(Descriptor::HostVitals)?).map_err(text)?;
    let ticker = Ticker::start().map_err(text)?;
    let guest = link(start.code, &config, &ticker).map_err(|error| error.to_string())?;
    // The primary counts connections; here, only those of a listener of the worker's own are bounded.
    let is_counted = config.limits.max_connections_per_client.is_some();
    let per_client = match start.share {
        Some(Share { per_client: Some(max), .. }) => PerClient::Counted(Clients::new(max, &config.trust_proxy)),
        None if is_counted => PerClient::told(&config.trust_proxy),
        Some(_) | None => PerClient::Unbounded,
    };
    let permits = Permits::new(start.share.map_or(usize::MAX, |share| share.connections), per_client);
    let listener = match start.share {
        Some(_) => Some((take(Descriptor::Listener)?.into(), Arc::clone(&permits))),
        None => None,
    };
    let id = start.id;
    let setup = WorkerSetup {
        id,
        config: Arc::clone(&config),
        vitals: own,
        host,
        budget: Arc::new(MemoryBudget::new(config.limits.memory_total_bytes, &host.memory_bytes, &own.memory_bytes)),
        ticker: Arc::clone(&ticker),
        authority: start.authority.parse().unwrap_or_else(|_| Authority::from_static("localhost")),
        listener,
    };
    let attendance = Attendance {
        wire: Arc::clone(wire),
        config,
        ticker,
        permits,
        vitals: own,
        id,
        short_told: Throttle::new(SHORT_LINE_EVERY),
        outdated: Rc::default(),
    };
    Ok((setup, guest, attendance))
}

fn link(code: OwnedFd, config: &Config, ticker: &Ticker) -> Result<Arc<Guest>, LoadError> {
    let artifact = Artifact::received(code, config)?;
    Guest::link(&artifact, config, ticker).map(Arc::new)
}

/// The child's ear for the primary.
struct Attendance {
    wire: Arc<Wire>,
    config: Arc<Config>,
    ticker: Arc<Ticker>,
    permits: Arc<Permits>,
    vitals: &'static Vitals,
    id: WorkerId,
    short_told: Throttle,
    /// Why this worker cannot serve the component that was loaded last: it ends for that.
    outdated: Rc<OnceCell<String>>,
}

/// Code that is being linked.
type Linking = oneshot::Receiver<Result<Arc<Guest>, LoadError>>;

impl Attendance {
    /// Carries out the primary's orders, until it is gone.
    async fn attend(self, inbox: inbox::Sender, orders: watch::Sender<Orders>) {
        let mut linking: Option<Linking> = None;
        let mut shortages = 0;
        // After a shortage of descriptors. Kept here, since whatever else happens begins a new wait for the next word.
        let mut not_before: Option<Instant> = None;
        // When requests in flight are broken off, after this worker has been found outdated.
        let mut deadline: Option<Instant> = None;
        loop {
            tokio::select! {
                received = self.hear(not_before, shortages > 0) => match received {
                    Err(error) if is_shortage(&error) => {
                        self.note_shortage(&orders, shortages == 0);
                        not_before = Some(Instant::now() + SHORTAGE_PAUSES.delay(shortages, 0.0));
                        shortages = shortages.saturating_add(1);
                        continue;
                    }
                    Ok(Some((ToWorker::Connection(peer), descriptors))) => self.hand_on(&inbox, peer, descriptors),
                    Ok(Some((ToWorker::Swap, descriptors))) => linking = Some(self.link(descriptors)),
                    Ok(Some((ToWorker::Call, _))) => self.give_sign(),
                    Ok(Some((ToWorker::Drain, _))) => orders.send_modify(|orders| orders.stage = Stage::Drain),
                    Ok(Some((ToWorker::Load { .. } | ToWorker::Start { .. }, _))) => {}
                    Ok(Some((ToWorker::Stop, _)) | None) | Err(_) => {
                        orders.send_modify(|orders| orders.stage = Stage::Stop);
                        return;
                    }
                },
                linked = linked(&mut linking) => {
                    linking = None;
                    match linked {
                        Ok(guest) => orders.send_modify(|orders| orders.guest = guest),
                        Err(reason) => {
                            deadline = Some(Instant::now() + self.config.drain_timeout);
                            self.retire(&orders, &reason);
                        }
                    }
                }
                () = until(deadline) => {
                    deadline = None;
                    orders.send_modify(|orders| orders.stage = Stage::Stop);
                }
                () = self.permits.some_ended() => self.tell_ended().await,
                () = self.permits.asked_for() => {
                    // A primary that is gone is found out by the next receive.
                    let _ = self.wire.send(&FromWorker::Freed, &[]).await;
                }
            }
        }
    }

    /// The primary's next word, received at that time at the earliest; `is_short`: there was no descriptor for it before.
    async fn hear(&self, not_before: Option<Instant>, is_short: bool) -> io::Result<Option<(ToWorker, Descriptors)>> {
        if let Some(at) = not_before {
            tokio::time::sleep_until(at.into()).await;
        }
        let heard = self.wire.receive::<ToWorker>().await;
        if is_short && heard.is_ok() {
            self.vitals.is_short.set(false);
        }
        wasmhost_base::inject::panic_at("line");
        heard
    }

    fn give_sign(&self) {
        self.vitals.beats.store(self.vitals.beats.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// There is no descriptor for what stands first in the line. It stays there, and the primary gives no more to this
    /// worker until there is one.
    fn note_shortage(&self, orders: &watch::Sender<Orders>, is_first: bool) {
        self.vitals.is_short.set(true);
        self.give_sign();
        if is_first && let Some(count) = self.short_told.admit(Instant::now()) {
            tracing::error!(
                worker = self.id.0,
                count,
                "no descriptor is left for a connection, so it waits (count: times since the last such line); raise the limit on file descriptors (ulimit -n, LimitNOFILE=)"
            );
        }
        if self.vitals.drains.get() {
            // The word for it stands in the line behind. What drains frees descriptors.
            orders.send_if_modified(|orders| std::mem::replace(&mut orders.stage, Stage::Drain) == Stage::Serve);
        }
    }

    fn hand_on(&self, inbox: &inbox::Sender, peer: Peer, mut descriptors: Descriptors) {
        let Some(mut permit) = self.permits.try_take() else { return };
        permit.adopt(&self.vitals.metrics);
        permit.claim(peer);
        // The primary sends none without.
        let Ok(socket) = descriptors.take(Descriptor::Socket) else { return };
        let socket = match peer {
            Peer::Tcp(_) => Accepted::Tcp(socket.into()),
            Peer::Unix => Accepted::Unix(socket.into()),
        };
        // The primary hands no more over than the inbox takes.
        if inbox.try_send(Connection { socket, peer, permit }).is_err() {
            self.vitals.metrics.connections.add_one();
            tracing::error!(worker = self.id.0, %peer, "a connection was lost, since the worker's inbox is full; this is a bug of wasmhost");
        }
    }

    /// Tells whose connections have ended. Not waiting for the primary, which may be waiting for this process.
    async fn tell_ended(&self) {
        loop {
            let clients = self.permits.take_ended(ENDED_MAX);
            if clients.is_empty() {
                return;
            }
            if self.wire.try_send(&FromWorker::Ended(clients.clone()), &[]).is_err() {
                // A primary that is gone is found out by the next receive.
                self.permits.put_back_ended(clients);
                tokio::time::sleep(TELL_AGAIN).await;
                return;
            }
        }
    }

    /// Links new code in a thread of its own; requests go on meanwhile.
    fn link(&self, mut descriptors: Descriptors) -> Linking {
        let (answer, linked) = oneshot::channel();
        let code = descriptors.take(Descriptor::Code);
        let (config, ticker) = (Arc::clone(&self.config), Arc::clone(&self.ticker));
        let fails = wasmhost_base::inject::goes_off("link");
        let linker = std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
            // Without an answer, or without a thread, it counts as failed. A newer one may have come meanwhile.
            if let Ok(code) = code
                && !fails
            {
                let _ = answer.send(link(code, &config, &ticker));
            }
        });
        if let Err(error) = linker {
            tracing::error!(worker = self.id.0, %error, "there is no thread to link the new component in");
        }
        linked
    }

    /// Ends this worker, which cannot serve the component that all others serve: no new connections, and what is in
    /// flight finishes. Its successor serves the new one.
    fn retire(&self, orders: &watch::Sender<Orders>, reason: &str) {
        let reason = format!("it cannot serve the component that was loaded: {reason}");
        tracing::error!(worker = self.id.0, "the worker ends and is replaced: {reason}");
        // The first reason is as good as the next.
        let _ = self.outdated.set(reason);
        orders.send_if_modified(|orders| std::mem::replace(&mut orders.stage, Stage::Drain) == Stage::Serve);
    }
}

fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

/// The guest that is being linked, or why it cannot be; never ready without one.
async fn linked(linking: &mut Option<Linking>) -> Result<Arc<Guest>, String> {
    match linking {
        Some(linking) => match linking.await {
            Ok(linked) => linked.map_err(|error| error.to_string()),
            Err(_) => Err("the thread that links it did not start, or ended without a result".to_owned()),
        },
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever without a moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The end of the line on which a worker tells of itself.
struct EventWire(Arc<Wire>);

impl Events for EventWire {
    async fn tell(&self, event: WorkerEvent) {
        let message = match event {
            WorkerEvent::Online(_, thread) => FromWorker::Online { thread },
            WorkerEvent::Listening(_) => FromWorker::Listening,
            WorkerEvent::Swapped(_) => FromWorker::Swapped,
            WorkerEvent::Disconnect(_) => FromWorker::Disconnect,
            WorkerEvent::Exited(_, exit) => FromWorker::Exited(exit),
            WorkerEvent::Freed => FromWorker::Freed,
        };
        // Nobody hears it when the primary is gone, which the next receive finds out.
        let _ = self.0.send(&message, &[]).await;
    }
}
