//! A worker's process, seen from inside: it gets what it needs from the spawner and the primary, and its main thread runs
//! what a worker's thread runs. It ends when the primary does.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::runtime::LocalRuntime;
use tokio::signal::unix::{SignalKind, signal};

use wasmhost_base::backoff::Backoff;
use wasmhost_base::log::{self, EarlyLog, LogGuard};
use wasmhost_base::resident;
use wasmhost_base::throttle::Throttle;
use wasmhost_base::trace::SpanQueue;
use wasmhost_base::wire::{Descriptor, Descriptors, Wire, cut};
use wasmhost_config::{App, AppId, AppTable, Config, Preopen};
use wasmhost_confine::spawner::{InheritError, Launcher, Settings, inherit};
use wasmhost_confine::{self as confine, Cage, Confinement, Unconfined};
use wasmhost_sandbox::{Artifact, LoadError, Sandbox, Ticker, capabilities};
use wasmhost_serve::clients::Clients;
use wasmhost_serve::scoreboard::{self, HostScoreboard, Scoreboard};
use wasmhost_serve::worker::WorkerId;
use wasmhost_serve::worker::inbox::{self, Accepted, Admission, Connection, PerClient, Permit};
use wasmhost_serve::worker::{
    Applied, Events, Exit, ListenerId, ListenerRow, OrderReceiver, OrderSender, Peer, SentProfile, SentReport, Stage,
    Supply, WorkerEvent, WorkerSetup, orders, thread,
};

use super::handle::is_shortage;
use super::linker::{Linker, LinkerAnswer, ToLink, Unlinked, link, until};
use super::protocol::{Code, ENDED_MAX, FromWorker, Share, ToWorker};
use super::service_lines::{ServiceLines, host_services};
use super::span_line::{send_last_spans, send_spans};
use super::table;
use crate::listening::opened;
use crate::loader::{CodeAtRest, Trial, budget, link_and_try, make_engines_ahead};

/// That there is no descriptor for a connection is told of once in this time.
const SHORT_LINE_EVERY: Duration = Duration::from_secs(10);

/// How long to wait before looking again whether a descriptor has become free.
const SHORTAGE_PAUSES: Backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(100));

/// How long what the primary had no room to hear waits, and whatever it says meanwhile.
const TELL_AGAIN: Duration = Duration::from_millis(5);

/// Why a process is no worker.
#[derive(Debug, thiserror::Error)]
pub enum WorkerProcessError {
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
pub fn run() -> Result<bool, WorkerProcessError> {
    let Some(mut inherited) = inherit()? else { return Ok(false) };
    resident::prepare();
    let line = inherited.line()?;
    let (confined_by, directories) = (inherited.confined_by(), inherited.reach.dirs);
    let Settings { config, log } = inherited.settings;
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
    let cage = Cage::worker(&confined_by, capabilities());
    match first {
        Some((wire, ToWorker::Load { missing, log: shown }, mut descriptors)) => {
            log::show(shown);
            let app = app_to_load(&directories, &mut descriptors)?;
            let component = descriptors.take(Descriptor::Component)?.into();
            // Which starts a compiler. No guest code runs yet.
            let artifact = Artifact::prepare_opened(component, &config, &app, &Launcher::Own);
            let (report, _log) = confined(&config, &cage, log)?;
            report.log_beyond("the process that tries the component", &missing);
            load(&wire, &config, &app, artifact, descriptors, runtime)
        }
        Some((
            wire,
            ToWorker::Start { id, group, authority, listeners, own_listeners, share, missing, log: shown, first },
            descriptors,
        )) => {
            log::show(shown);
            let (report, _log) = confined(&config, &cage, log)?;
            report.log_beyond("a worker's process", &missing);
            tracing::debug!(worker = id, landlock = report.landlock, seccomp = report.seccomp, "confined");
            let start =
                ChildStart { id: WorkerId(id), group, authority, listeners, own_listeners, share, first, directories };
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

/// The app that is to be loaded. Its component comes open, from the spawner by way of the primary: this process opens no
/// file that the primary names.
fn app_to_load(own: &[Preopen], descriptors: &mut Descriptors) -> io::Result<Arc<App>> {
    let table = table::read(&descriptors.take(Descriptor::Table)?, own)?;
    let only = table.iter().next().map(|(_, app)| Arc::clone(app));
    only.ok_or_else(|| io::Error::other("there is no app to load"))
}

/// Confines this process, and begins its log, in which the lines until now are written in either case.
fn confined(config: &Config, cage: &Cage, log: EarlyLog) -> Result<(Confinement, LogGuard), Unconfined> {
    let report = confine::apply(config.confine, cage);
    let log = log.begin();
    report.map(|report| (report, log))
}

/// Tries the app, and tells the primary.
fn load(
    wire: &Wire,
    config: &Arc<Config>,
    app: &Arc<App>,
    artifact: Result<Artifact, LoadError>,
    mut descriptors: Descriptors,
    runtime: LocalRuntime,
) -> Result<bool, WorkerProcessError> {
    let own = scoreboard::opened::<Scoreboard>(&descriptors.take(Descriptor::Scoreboard)?)?;
    let host = scoreboard::opened::<HostScoreboard>(&descriptors.take(Descriptor::HostScoreboard)?)?;
    // Where there is no probe, nothing is asked, and there are no lines.
    let (services, lines) = {
        let _entered = runtime.enter();
        host_services(&mut descriptors)?
    };
    lines.run_in(&runtime, WorkerId(0));
    let trial = Trial {
        sandbox: Sandbox::new(config, 1, Ticker::start()?, services),
        among_others: config.source.is_some(),
        budget: budget(config, &host.memory, &own.memory),
        pulse: &own.pulse,
    };
    let loaded = artifact.and_then(|artifact| {
        let (_, tried) = link_and_try(&artifact, app, &trial, Some(runtime))?;
        Ok((tried, artifact))
    });
    match loaded {
        Ok((tried, artifact)) => {
            match CodeAtRest::of(&artifact)? {
                CodeAtRest::Stored(stored) | CodeAtRest::Found(stored) => {
                    wire.try_send(&FromWorker::Loaded { tried, stored: Some(stored) }, &[])?;
                }
                CodeAtRest::Held(code, _) => {
                    wire.try_send(&FromWorker::Loaded { tried, stored: None }, &[(Descriptor::Code, code.as_fd())])?;
                }
            }
            Ok(true)
        }
        Err(LoadError { reason, hint, .. }) => {
            wire.try_send(&FromWorker::Failed { reason: cut(&reason), hint: cut(&hint) }, &[])?;
            Ok(false)
        }
    }
}

/// What the primary says of a worker at its start.
struct ChildStart {
    id: WorkerId,
    group: Option<Arc<str>>,
    authority: String,
    listeners: Vec<ListenerRow>,
    own_listeners: Vec<ListenerId>,
    share: Option<Share>,
    first: Option<Code>,
    /// What this process was given open.
    directories: Vec<Preopen>,
}

/// Works to the end.
fn work(
    wire: &Arc<Wire>,
    config: Arc<Config>,
    start: ChildStart,
    descriptors: Descriptors,
    runtime: LocalRuntime,
) -> Exit {
    let ready = {
        let _entered = runtime.enter();
        prepare(wire, config, start, descriptors)
    };
    let Ready { setup, orders: (orders, heard), attendance, linker, lines } = match ready {
        Ok(ready) => ready,
        Err(reason) => return Exit::NotStarted(cut(&reason)),
    };
    let (outdated, unserved) = (Rc::clone(&attendance.outdated), Rc::clone(&attendance.unserved));
    let (spans, lost) = (setup.spans.clone(), &setup.scoreboard.metrics.spans_lost);
    if let Some(spans) = &spans {
        runtime.spawn_local(send_spans(Arc::clone(spans), Arc::clone(wire), lost));
    }
    let (inbox, connections) = inbox::inbox();
    runtime.spawn_local(attendance.attend(linker, inbox, orders));
    lines.run_in(&runtime, setup.id);
    let exit = thread::run_in(runtime, setup, &EventWire(Arc::clone(wire), unserved), connections, heard);
    if let Some(spans) = spans {
        send_last_spans(&spans, wire, lost);
    }
    match outdated.get() {
        Some(reason) if exit == Exit::Voluntary => Exit::NotStarted(cut(reason)),
        _ => exit,
    }
}

/// A worker that can begin.
struct Ready {
    setup: WorkerSetup,
    orders: (OrderSender, OrderReceiver),
    attendance: Attendance,
    linker: Linker,
    lines: ServiceLines,
}

fn prepare(
    wire: &Arc<Wire>,
    config: Arc<Config>,
    start: ChildStart,
    mut descriptors: Descriptors,
) -> Result<Ready, String> {
    if wasmhost_base::inject::dies_at_start(start.id.0) {
        return Err("injected by a test".to_owned());
    }
    let text = |error: io::Error| error.to_string();
    let mut take = |what| descriptors.take(what).map_err(text);
    let own = scoreboard::opened::<Scoreboard>(&take(Descriptor::Scoreboard)?).map_err(text)?;
    log::count_lost_in(&own.metrics.log_lines_lost);
    log::keep_lines_in(&own.lines);
    own.metrics.show_resident();
    let host = scoreboard::opened::<HostScoreboard>(&take(Descriptor::HostScoreboard)?).map_err(text)?;
    // The pool is for one worker's instances.
    let (services, lines) = host_services(&mut descriptors).map_err(text)?;
    let mut take = |what| descriptors.take(what).map_err(text);
    let sandbox = Sandbox::new(&config, 1, Ticker::start().map_err(text)?, services);
    make_engines_ahead(&config, &sandbox);
    let directories = start.directories;
    let table = Arc::new(table::read(&take(Descriptor::Table)?, &directories).map_err(text)?);
    let mut supplies = BTreeMap::new();
    if let Some(Code { app: id, stored, tag, .. }) = start.first
        && let Some(app) = table.get(id)
    {
        let code = match stored {
            Some(stored) => CodeAtRest::Stored(stored),
            None => CodeAtRest::Held(Arc::new(take(Descriptor::Code)?), "".into()),
        };
        match link(&code, app, &sandbox) {
            Ok(guest) => drop(supplies.insert(id, Supply::Guest(guest, tag))),
            // It comes later.
            Err(Unlinked::Vanished(_)) => wire.try_send(&FromWorker::Vanished(id), &[]).map_err(text)?,
            Err(Unlinked::Broken(error)) => return Err(error.to_string()),
        }
    }
    // The primary counts connections; here, only those of listeners of the worker's own are bounded.
    let is_counted = config.limits.max_connections_per_client.is_some();
    let per_client = match start.share {
        Some(Share { per_client: Some(max), .. }) => PerClient::Counted(Clients::new(max, &config.trust_proxy)),
        None if is_counted => PerClient::told(&config.trust_proxy),
        Some(_) | None => PerClient::Unbounded,
    };
    let admission = Admission::new(start.share.map_or(usize::MAX, |share| share.connections), per_client);
    let of_its_own = start.own_listeners.into_iter().enumerate();
    let of_its_own =
        of_its_own.map(|(number, id)| take(Descriptor::Listener(number)).map(|socket| (id, socket.into())));
    let own_listeners = of_its_own.collect::<Result<_, String>>()?;
    let listeners = opened(&start.listeners, tls_in(&mut descriptors).iter()).map_err(text)?;
    let spans = config.traces.collector.is_some().then(Arc::<SpanQueue>::default);
    let setup = WorkerSetup {
        id: start.id,
        group: start.group.clone(),
        config: Arc::clone(&config),
        scoreboard: own,
        host,
        sandbox: Arc::clone(&sandbox),
        authority: start.authority.parse().unwrap_or_else(|_| Authority::from_static("localhost")),
        listeners,
        own_listeners,
        admission: Arc::clone(&admission),
        spans,
    };
    let attendance = Attendance {
        wire: Arc::clone(wire),
        config,
        directories,
        table: Arc::clone(&table),
        admission,
        scoreboard: own,
        id: start.id,
        short_told: Throttle::new(SHORT_LINE_EVERY),
        outdated: Rc::default(),
        unserved: Rc::default(),
    };
    let (orders, linker) = (orders(table, Stage::Serve, supplies), Linker::new(sandbox));
    Ok(Ready { setup, orders, attendance, linker, lines })
}

/// What came for TLS: nothing where no address needs it.
fn tls_in(descriptors: &mut Descriptors) -> Vec<OwnedFd> {
    (0..).map_while(|number| descriptors.take(Descriptor::Tls(number)).ok()).collect()
}

/// The child's ear for the primary.
struct Attendance {
    wire: Arc<Wire>,
    config: Arc<Config>,
    /// What this process was given open.
    directories: Vec<Preopen>,
    table: Arc<AppTable>,
    admission: Arc<Admission>,
    scoreboard: &'static Scoreboard,
    id: WorkerId,
    short_told: Throttle,
    /// Why this worker cannot serve what all others serve: it ends for that.
    outdated: Rc<OnceCell<String>>,
    unserved: Unserved,
}

/// Apps whose latest code is not linked yet. What the worker applies of them is not what was ordered last.
type Unserved = Rc<RefCell<BTreeMap<AppId, NotLinked>>>;

/// Why code is not linked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NotLinked {
    /// It is on its way.
    OnItsWay,
    /// It, or what was ordered before it, could not be; the primary was told.
    Behind,
}

impl Attendance {
    /// Carries out the primary's orders, until it is gone.
    async fn attend(mut self, mut linker: Linker, inbox: inbox::Sender, orders: OrderSender) {
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
                    Ok(Some((ToWorker::Connection { peer, listener, counts }, descriptors))) => {
                        self.hand_on(&inbox, (peer, listener), counts, descriptors);
                    }
                    Ok(Some((ToWorker::Listeners(rows), descriptors))) => self.take_listeners(&rows, descriptors, &orders),
                    Ok(Some((ToWorker::Log(shown), _))) => log::show(shown),
                    Ok(Some((ToWorker::Table, descriptors))) => {
                        if let Err(error) = self.take_table(descriptors, &orders, &mut linker) {
                            self.retire(&orders, &format!("it cannot take the table of apps: {error}"), &mut deadline);
                        }
                    }
                    Ok(Some((ToWorker::Supply(code), descriptors))) => self.supply(code, descriptors, &mut linker, &orders).await,
                    Ok(Some((ToWorker::Unavailable { app, reason }, _))) => {
                        linker.forget(app);
                        self.unserved.borrow_mut().remove(&app);
                        orders.supply(app, Supply::Unavailable(reason));
                    }
                    Ok(Some((ToWorker::MakeRoom(app), _))) => orders.make_room_for(app),
                    Ok(Some((ToWorker::Profile(order), _))) => orders.profile(order),
                    Ok(Some((ToWorker::Claimed(answers), _))) => self.admission.answered(&answers),
                    Ok(Some((ToWorker::Call, _))) => self.give_sign(),
                    Ok(Some((ToWorker::Leave, _))) => orders.stage(Stage::Leave),
                    Ok(Some((ToWorker::Drain, _))) => orders.stage(Stage::Drain),
                    Ok(Some((ToWorker::Load { .. } | ToWorker::Start { .. }, _))) => {}
                    Ok(Some((ToWorker::Stop, _)) | None) | Err(_) => {
                        orders.stage(Stage::Stop);
                        return;
                    }
                },
                linked = linker.next() => self.on_linked(linked, &mut linker, &orders, &mut deadline).await,
                () = until(deadline) => {
                    deadline = None;
                    orders.stage(Stage::Stop);
                }
                () = self.admission.some_to_tell() => self.tell_of_clients().await,
                () = self.admission.asked_for() => self.tell(&FromWorker::Freed).await,
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
            self.scoreboard.is_short.set(false);
        }
        wasmhost_base::inject::panic_at("line");
        heard
    }

    async fn tell(&self, word: &FromWorker) {
        // A primary that is gone is found out by the next receive.
        let _ = self.wire.send(word, &[]).await;
    }

    fn take_table(
        &mut self,
        mut descriptors: Descriptors,
        orders: &OrderSender,
        linker: &mut Linker,
    ) -> io::Result<()> {
        let table = table::read(&descriptors.take(Descriptor::Table)?, &self.directories)?;
        for (id, _) in self.table.iter().filter(|(id, _)| !table.has_same(*id, &self.table)) {
            linker.forget(id);
            orders.forget(id);
            self.unserved.borrow_mut().remove(&id);
        }
        self.table = Arc::new(table);
        orders.table(Arc::clone(&self.table));
        Ok(())
    }

    /// What cannot be used changes nothing: connections begin as before.
    fn take_listeners(&self, rows: &[ListenerRow], mut descriptors: Descriptors, orders: &OrderSender) {
        match opened(rows, tls_in(&mut descriptors).iter()) {
            Ok(listeners) => orders.listeners(listeners),
            Err(error) => {
                tracing::error!(worker = self.id.0, %error, "what was sent of the host's addresses cannot be used; this is a bug of wasmhost");
            }
        }
    }

    /// Begins to link the code of an app.
    async fn supply(
        &self,
        Code { app, stored, is_tried, tag }: Code,
        mut descriptors: Descriptors,
        linker: &mut Linker,
        orders: &OrderSender,
    ) {
        let code = match stored {
            Some(stored) if is_tried => CodeAtRest::Stored(stored),
            Some(stored) => CodeAtRest::Found(stored),
            None => match descriptors.take(Descriptor::Code) {
                Ok(code) => CodeAtRest::Held(Arc::new(code), "".into()),
                Err(error) => {
                    tracing::error!(worker = self.id.0, %error, "an app's code did not arrive; this is a bug of wasmhost");
                    return self.tell(&FromWorker::Vanished(app)).await;
                }
            },
        };
        // Of an app that the latest table has not, nobody asks.
        let Some(settings) = self.table.get(app) else { return };
        self.unserved.borrow_mut().entry(app).or_insert(NotLinked::OnItsWay);
        if let Some(reason) = linker.link(app, ToLink::new(Arc::clone(settings), code, tag)) {
            // Requests of an app that was asleep meanwhile wait for it.
            self.note_behind(app, reason, orders).await;
        }
    }

    /// What comes of code of an app that is gone meanwhile, or refused, is not heard of.
    async fn on_linked(
        &self,
        LinkerAnswer { id, link, is_latest, outcome }: LinkerAnswer,
        linker: &mut Linker,
        orders: &OrderSender,
        deadline: &mut Option<Instant>,
    ) {
        match outcome {
            Err(_) if !is_latest => {}
            Ok(guest) => {
                if is_latest && self.unserved.borrow_mut().remove(&id) == Some(NotLinked::Behind) {
                    tracing::info!(worker = self.id.0, app = link.app.name, "the worker serves the latest component");
                }
                orders.supply(id, Supply::Guest(guest, link.tag));
            }
            Err(Unlinked::Vanished(error)) => {
                tracing::debug!(worker = self.id.0, "{error}");
                self.tell(&FromWorker::Vanished(id)).await;
            }
            Err(Unlinked::Broken(error)) if self.table.len() <= 1 => {
                self.retire(orders, &format!("it cannot serve the component that was loaded: {error}"), deadline);
            }
            Err(Unlinked::Broken(error)) => {
                self.log_unlinked(&link, &error);
                let reason: Arc<str> = error.to_string().into();
                self.note_behind(id, Arc::clone(&reason), orders).await;
                linker.link_later(id, link, reason);
            }
        }
    }

    /// Code cannot be linked here: an error the first time, and not again each time that it is tried.
    fn log_unlinked(&self, link: &ToLink, error: &LoadError) {
        let (app, hint) = (&link.app.name, &error.hint);
        if link.has_failed() {
            tracing::debug!(worker = self.id.0, app, "the worker still cannot serve the app: {error}");
        } else {
            tracing::error!(worker = self.id.0, app, hint, "the worker cannot serve the app, and tries again: {error}");
        }
    }

    /// The code of an app, which works elsewhere, cannot be linked here, and is tried again. (A worker of this app only ends for
    /// it, so that none serves what is older than the status page says; with others, it costs these nothing, and the page
    /// says that this worker is behind.)
    async fn note_behind(&self, id: AppId, reason: Arc<str>, orders: &OrderSender) {
        self.unserved.borrow_mut().insert(id, NotLinked::Behind);
        orders.supply(id, Supply::Unavailable(reason));
        self.tell(&FromWorker::Behind(id)).await;
    }

    fn give_sign(&self) {
        self.scoreboard.beats.store(self.scoreboard.beats.load(Relaxed).wrapping_add(1), Relaxed);
        self.scoreboard.metrics.show_resident();
    }

    /// There is no descriptor for what stands first in the line. It stays there, and the primary gives no more to this
    /// worker until there is one.
    fn note_shortage(&self, orders: &OrderSender, is_first: bool) {
        self.scoreboard.is_short.set(true);
        self.give_sign();
        if is_first && let Some(count) = self.short_told.admit(Instant::now()) {
            tracing::error!(
                worker = self.id.0,
                count,
                "no descriptor is left for a connection, so it waits (count: times since the last such line); raise the limit on file descriptors (ulimit -n, LimitNOFILE=)"
            );
        }
        if self.scoreboard.drains.get() {
            // The word for it stands in the line behind. What drains frees descriptors.
            orders.stage(Stage::Drain);
        }
    }

    fn hand_on(
        &self,
        inbox: &inbox::Sender,
        (peer, listener): (Peer, Option<ListenerId>),
        counts: bool,
        mut descriptors: Descriptors,
    ) {
        let permit = if counts { self.admission.try_take() } else { Some(Permit::of_host()) };
        let Some(mut permit) = permit else { return };
        if counts {
            permit.adopt(&self.scoreboard.metrics);
            permit.claim(peer);
        }
        // The primary sends none without.
        let Ok(socket) = descriptors.take(Descriptor::Socket) else { return };
        let socket = match peer {
            Peer::Tcp(_) => Accepted::Tcp(socket.into()),
            Peer::Unix | Peer::Front | Peer::Schedule | Peer::App => Accepted::Unix(socket.into()),
        };
        // The primary hands no more over than the inbox takes.
        if inbox.try_send(Connection { socket, peer, listener, permit }).is_err() {
            self.scoreboard.metrics.connections.add_one();
            tracing::error!(worker = self.id.0, %peer, "a connection was lost, since the worker's inbox is full; this is a bug of wasmhost");
        }
    }

    /// Tells whose connections have ended, and asks whose may begin. Not waiting for the primary, which may be waiting for this
    /// process.
    async fn tell_of_clients(&self) {
        let send = |clients| self.wire.try_send(&FromWorker::Claims(clients), &[]).is_ok();
        while let Some(is_sent) = self.admission.ask(ENDED_MAX, send) {
            if !is_sent {
                return tokio::time::sleep(TELL_AGAIN).await;
            }
        }
        loop {
            let clients = self.admission.take_ended(ENDED_MAX);
            if clients.is_empty() {
                return;
            }
            if self.wire.try_send(&FromWorker::Ended(clients.clone()), &[]).is_err() {
                // A primary that is gone is found out by the next receive.
                self.admission.put_back_ended(clients);
                tokio::time::sleep(TELL_AGAIN).await;
                return;
            }
        }
    }

    /// Ends this worker, which cannot serve what all others serve: no new connections, and what is in flight finishes, within
    /// the time to drain. Its successor serves it.
    fn retire(&self, orders: &OrderSender, reason: &str, deadline: &mut Option<Instant>) {
        *deadline = Some(Instant::now() + self.config.drain_timeout);
        tracing::error!(worker = self.id.0, "the worker ends and is replaced: {reason}");
        // The first reason is as good as the next.
        let _ = self.outdated.set(reason.to_owned());
        orders.stage(Stage::Drain);
    }
}

/// The end of the line on which a worker tells of itself.
struct EventWire(Arc<Wire>, Unserved);

impl Events for EventWire {
    async fn tell(&self, event: WorkerEvent) {
        let message = match event {
            WorkerEvent::Online(_, thread) => FromWorker::Online { thread },
            WorkerEvent::Listening(_) => FromWorker::Listening,
            WorkerEvent::Applied(_, Applied::Supply(app)) => {
                // While later code is not linked, what goes on is what was there before, or nothing. That may come about while
                // this waits for the line.
                let is_latest = || !self.1.borrow().contains_key(&app);
                let _ = self.0.send_while(is_latest, &FromWorker::Applied(Applied::Supply(app)), &[]).await;
                return;
            }
            WorkerEvent::Applied(_, what) => FromWorker::Applied(what),
            WorkerEvent::Behind(_, app) => FromWorker::Behind(app),
            WorkerEvent::Wants(_, app) => FromWorker::Wants(app),
            WorkerEvent::Asleep(_, app) => FromWorker::Asleep(app),
            WorkerEvent::LacksMemory(_, app) => FromWorker::LacksMemory(app),
            WorkerEvent::FellBack(_, app, revision) => FromWorker::FellBack(app, revision),
            WorkerEvent::Fault(_, app, fault, report) => {
                let report = report.and_then(|report| match report {
                    // Without memory or a descriptor for it there is no bundle.
                    SentReport::Here(report) => SentReport::sealed(&report).ok(),
                    SentReport::Sealed(report) => Some(report),
                });
                let report: Vec<_> = report.iter().map(|report| (Descriptor::Report, report.as_fd())).collect();
                let _ = self.0.send(&FromWorker::Fault(app, fault), &report).await;
                return;
            }
            WorkerEvent::Profiled(_, number, counted) => {
                let counted = counted.and_then(|counted| match counted {
                    SentProfile::Here(counted) => SentProfile::sealed(&counted).ok(),
                    SentProfile::Sealed(counted) => Some(counted),
                });
                let counted: Vec<_> = counted.iter().map(|counted| (Descriptor::Report, counted.as_fd())).collect();
                let _ = self.0.send(&FromWorker::Profiled(number), &counted).await;
                return;
            }
            WorkerEvent::Vanished(_, app) => FromWorker::Vanished(app),
            WorkerEvent::Forward(_, group, socket) => {
                // One that cannot be sent is closed, and the request that waits for it gets 503.
                let _ = self.0.send(&FromWorker::Forward(group), &[(Descriptor::Socket, socket.as_fd())]).await;
                return;
            }
            WorkerEvent::Disconnect(_) => FromWorker::Disconnect,
            WorkerEvent::Exited(_, exit) => FromWorker::Exited(exit),
            WorkerEvent::Freed => FromWorker::Freed,
        };
        // Nobody hears it when the primary is gone, which the next receive finds out.
        let _ = self.0.send(&message, &[]).await;
    }
}
