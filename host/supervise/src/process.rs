//! Workers that are processes (`--worker-kind process`): each is a child process with its own address space, so that a
//! crash of one (a bug of the sandbox, the kernel's out-of-memory killer) costs only its own connections. The child runs
//! this program (`wasmhost worker`); its main thread runs what a worker's thread runs. It gets its settings from the
//! spawner and its orders from the primary. This file is the primary's side, `child` the other one, `words` their messages.

mod child;
mod words;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::sync::{Notify, mpsc, oneshot, watch};

pub use self::child::{ChildError, run as run_child};
pub use self::words::Share;

use wasmhost_base::panics::guarded;
use wasmhost_base::wire::{self, Descriptor, Sent, Wire};
use wasmhost_config::Config;
use wasmhost_confine::spawner::{Attended, End, Spawner};
use wasmhost_sandbox::LoadError;
use wasmhost_serve::clients::Client;
use wasmhost_serve::vitals::{self, HostVitals, Vitals};
use wasmhost_serve::worker::WorkerId;

use self::words::{FromWorker, ToWorker};
use crate::loader::{Code, Edition, Loading};
use wasmhost_serve::worker::inbox::{Accepted, Connection, INBOX_MAX, Permits};
use wasmhost_serve::worker::{Exit, Stage, WorkerEvent};

/// How long a child whose line has ended may take to be gone; then it is killed.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How long an order that the system has no room for (too many descriptors on their way, too little memory) is sent again.
const ORDER_WITHIN: Duration = Duration::from_secs(5);
const ORDER_AGAIN: Duration = Duration::from_millis(10);

/// What loading may take beyond compiling and the trial.
const LOADING_BEYOND: Duration = Duration::from_secs(30);

/// What the primary wants of the child; the latest counts.
#[derive(Clone)]
struct ProcessOrders {
    code: Arc<OwnedFd>,
    stage: Stage,
}

/// All that a worker's process needs to start.
pub struct ProcessSetup {
    /// Its number.
    pub id: WorkerId,
    /// The code to serve with.
    pub code: Arc<OwnedFd>,
    /// What it shows of itself, and the file that it shows it in.
    pub vitals: (&'static Vitals, Arc<OwnedFd>),
    /// The file of what the host shows of itself.
    pub host_vitals: Arc<OwnedFd>,
    /// Where events go.
    pub events: mpsc::Sender<WorkerEvent>,
    /// The address that stands for the authority where a client names none.
    pub authority: Authority,
    /// A listener of its own, with `--balance kernel`, and how many connections it may have from it.
    pub listener: Option<(OwnedFd, Share)>,
    /// The capacity that its connections take from, where the primary accepts.
    pub permits: Arc<Permits>,
    /// Connections at once that its descriptors allow.
    pub connections_max: usize,
    /// What of its confinement the primary lacks.
    pub missing: Vec<String>,
}

/// How many connections of which client a process has.
type Abroad = Rc<RefCell<HashMap<Client, usize>>>;

/// The primary's side of a worker's process.
pub struct ProcessHandle {
    wire: Rc<Wire>,
    orders: watch::Sender<ProcessOrders>,
    vitals: &'static Vitals,
    permits: Arc<Permits>,
    connections_max: usize,
    /// What the worker had taken in all its lives when this one began.
    taken_before: u64,
    /// Connections that were handed to this process.
    handed: Cell<u64>,
    /// Of these, those whose permits have not been given back yet.
    outstanding: Cell<usize>,
    /// Signs of life that were seen.
    beats_seen: Cell<u64>,
    /// A call for one is on its way, or was not answered.
    called: Cell<bool>,
    /// Tells the task that attends to the process to end it.
    hung: Rc<Notify>,
    /// Of these, those that are counted for a client, as far as the process has not told of their end.
    abroad: Abroad,
}

impl ProcessHandle {
    /// Starts a worker's process. Needs the primary's local runtime.
    ///
    /// # Errors
    /// When the system has no process or sockets to give.
    pub fn start(setup: ProcessSetup, spawner: &Spawner, stage: Stage) -> io::Result<Self> {
        let (child, wire) = spawn(spawner)?;
        let (vitals, vitals_file) = setup.vitals;
        let mut descriptors = vec![
            (Descriptor::Code, setup.code.as_fd()),
            (Descriptor::Vitals, vitals_file.as_fd()),
            (Descriptor::HostVitals, setup.host_vitals.as_fd()),
        ];
        let share = setup.listener.as_ref().map(|(_, share)| *share);
        descriptors.extend(setup.listener.as_ref().map(|(listener, _)| (Descriptor::Listener, listener.as_fd())));
        let start =
            ToWorker::Start { id: setup.id.0, authority: setup.authority.to_string(), share, missing: setup.missing };
        wire.try_send(&start, &descriptors)?;
        let (orders, heard) = watch::channel(ProcessOrders { code: setup.code, stage: Stage::Serve });
        let handle = Self {
            wire: Rc::clone(&wire),
            orders,
            vitals,
            permits: setup.permits,
            connections_max: setup.connections_max,
            taken_before: vitals.metrics.connections.get(),
            handed: Cell::new(0),
            outstanding: Cell::new(0),
            beats_seen: Cell::new(vitals.beats.load(Relaxed)),
            called: Cell::new(false),
            hung: Rc::new(Notify::new()),
            abroad: Abroad::default(),
        };
        handle.orders.send_modify(|orders| orders.stage = stage);
        let ended = Ended { abroad: Rc::clone(&handle.abroad), permits: Arc::clone(&handle.permits) };
        let (id, events, hung) = (setup.id, setup.events, Rc::clone(&handle.hung));
        tokio::task::spawn_local(async move {
            let attending = attend(id, child, wire, heard, (events.clone(), hung), vitals, ended);
            if let Err(panic) = guarded(attending).await {
                // The child went with what was dropped.
                vitals.metrics.listening.set(false);
                let _ = events.send(WorkerEvent::Exited(id, Exit::Panic(panic))).await;
            }
        });
        Ok(handle)
    }

    /// Connections that it can still be given.
    pub fn room(&self) -> usize {
        if self.vitals.is_short.get() {
            return 0;
        }
        let taken = self.vitals.metrics.connections.get().wrapping_sub(self.taken_before);
        let waiting = self.handed.get().saturating_sub(taken);
        INBOX_MAX.saturating_sub(usize::try_from(waiting).unwrap_or(usize::MAX))
    }

    /// Whether it has as many connections as its descriptors allow.
    pub fn is_full(&self) -> bool {
        let open = self.vitals.metrics.open_connections.load(Relaxed);
        open >= self.connections_max
    }

    /// Hands a connection over, or gives it back.
    ///
    /// # Errors
    /// The connection, when the process cannot take it now.
    pub fn try_send(&self, connection: Connection) -> Result<(), Connection> {
        let socket = match &connection.socket {
            Accepted::Tcp(stream) => stream.as_fd(),
            Accepted::Unix(stream) => stream.as_fd(),
        };
        match self.wire.try_send(&ToWorker::Connection(connection.peer), &[(Descriptor::Socket, socket)]) {
            Ok(()) => {
                self.handed.set(self.handed.get() + 1);
                self.outstanding.set(self.outstanding.get() + 1);
                if let Some(client) = connection.permit.hand_over() {
                    *self.abroad.borrow_mut().entry(client).or_default() += 1;
                }
                Ok(())
            }
            Err(_) => Err(connection),
        }
    }

    /// Calls for a sign of life; false when the last call was not answered.
    pub fn ask(&self) -> bool {
        let beats = self.vitals.beats.load(Relaxed);
        let answered = beats != self.beats_seen.replace(beats);
        if self.called.get() && !answered {
            return false;
        }
        let sent = self.wire.try_send(&ToWorker::Call, &[]).is_ok();
        self.called.set(sent);
        answered || sent
    }

    /// Ends a process that gives no sign of life.
    pub fn end_hung(&self) {
        self.hung.notify_one();
    }

    /// Gives new orders.
    pub fn order(&self, code: Arc<OwnedFd>, stage: Stage) {
        self.vitals.drains.set(stage != Stage::Serve);
        self.orders.send_replace(ProcessOrders { code, stage });
    }

    /// Gives back the permits of connections that have ended. `wait`: the worker shall tell when one more does.
    pub fn reconcile(&self, wait: bool) {
        if wait {
            self.vitals.metrics.wants_freed.raise();
        }
        let open = self.vitals.metrics.open_connections.load(std::sync::atomic::Ordering::SeqCst);
        let ended = self.outstanding.get().saturating_sub(open);
        if ended > 0 {
            self.outstanding.set(self.outstanding.get() - ended);
            self.permits.give_back(ended);
        }
    }
}

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        // The process is gone, and its connections with it.
        self.vitals.metrics.open_connections.store(0, Relaxed);
        self.permits.give_back(self.outstanding.get());
        for (client, count) in self.abroad.take() {
            self.permits.release(client, count);
        }
    }
}

/// Whose connections have ended in a process: takes them off the books.
struct Ended {
    abroad: Abroad,
    permits: Arc<Permits>,
}

impl Ended {
    fn note(&self, clients: Vec<Client>) {
        let mut abroad = self.abroad.borrow_mut();
        for client in clients {
            // Of a process that is gone, the books are closed.
            let Some(count) = abroad.get_mut(&client) else { continue };
            *count -= 1;
            if *count == 0 {
                abroad.remove(&client);
            }
            self.permits.release(client, 1);
        }
    }
}

/// A process of this program, and the line to it.
fn spawn(spawner: &Spawner) -> io::Result<(Attended, Rc<Wire>)> {
    let (ours, theirs) = wire::pair()?;
    Ok((spawner.start_worker(&theirs)?, Rc::new(Wire::new(ours)?)))
}

/// Hears and orders a worker's process to its end.
async fn attend(
    id: WorkerId,
    child: Attended,
    wire: Rc<Wire>,
    mut orders: watch::Receiver<ProcessOrders>,
    (events, hung): (mpsc::Sender<WorkerEvent>, Rc<Notify>),
    vitals: &'static Vitals,
    ended: Ended,
) {
    let mut code = Arc::clone(&orders.borrow().code);
    let mut exit = None;
    let mut patience = GONE_WITHIN;
    let is_hung = || Some(Exit::Killed("it gave no sign of life and was killed".into()));
    loop {
        let event = tokio::select! {
            () = hung.notified() => {
                exit = is_hung();
                patience = Duration::ZERO;
                break;
            }
            received = wire.receive::<FromWorker>() => match received {
                Ok(Some((FromWorker::Online { thread }, _))) => WorkerEvent::Online(id, thread),
                Ok(Some((FromWorker::Listening, _))) => WorkerEvent::Listening(id),
                Ok(Some((FromWorker::Swapped, _))) => WorkerEvent::Swapped(id),
                Ok(Some((FromWorker::Disconnect, _))) => WorkerEvent::Disconnect(id),
                Ok(Some((FromWorker::Freed, _))) => WorkerEvent::Freed,
                Ok(Some((FromWorker::Ended(clients), _))) => {
                    ended.note(clients);
                    continue;
                }
                Ok(Some((FromWorker::Exited(how), _))) => {
                    exit = Some(how);
                    continue;
                }
                Ok(Some((FromWorker::Loaded { .. } | FromWorker::Failed { .. }, _))) => continue,
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(worker = id.0, %error, "the connection to a worker process is broken; the worker is killed");
                    break;
                }
            },
            changed = orders.changed() => {
                if changed.is_err() {
                    break;
                }
                let latest = orders.borrow_and_update().clone();
                // A worker that hangs does not read, so that its line may be full for ever.
                let sent = tokio::select! {
                    biased;
                    () = hung.notified() => {
                        exit = is_hung();
                        patience = Duration::ZERO;
                        break;
                    }
                    sent = hand_on(&wire, &latest, &code) => sent,
                };
                match sent {
                    Ok(()) => code = latest.code,
                    // The next receive sees the end of the line, after the worker's last words.
                    Err(error) if is_end(&error) => {}
                    Err(error) => {
                        exit = Some(Exit::Killed(format!("its orders could not be sent to it, and it was killed: {error}")));
                        patience = Duration::ZERO;
                        break;
                    }
                }
                continue;
            }
        };
        // Without the primary there is nobody to tell.
        let _ = events.send(event).await;
        wasmhost_base::inject::panic_at("attend");
    }
    let end = end_of(child, patience).await;
    vitals.metrics.listening.set(false);
    let _ = events.send(WorkerEvent::Exited(id, exit.unwrap_or(end))).await;
}

/// Sends the latest orders to a worker that serves with `code`.
async fn hand_on(wire: &Wire, latest: &ProcessOrders, code: &Arc<OwnedFd>) -> io::Result<()> {
    if !Arc::ptr_eq(code, &latest.code) {
        send_order(wire, &ToWorker::Swap, &[(Descriptor::Code, latest.code.as_fd())]).await?;
    }
    match latest.stage {
        Stage::Serve => Ok(()),
        Stage::Drain => send_order(wire, &ToWorker::Drain, &[]).await,
        Stage::Stop => send_order(wire, &ToWorker::Stop, &[]).await,
    }
}

/// Sends one order; again, for [`ORDER_WITHIN`], while the system has no room for it.
async fn send_order(wire: &Wire, order: &ToWorker, descriptors: &[Sent<'_>]) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let sent = if wasmhost_base::inject::goes_off("order") {
            Err(rustix::io::Errno::TOOMANYREFS.into())
        } else {
            wire.send(order, descriptors).await
        };
        match sent {
            Err(error) if wire::is_shortage(&error) && began.elapsed() < ORDER_WITHIN => {
                tokio::time::sleep(ORDER_AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// Whether an error of sending says that the other side is gone.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

/// Waits for the end of a process that has said its last word, and kills it after `patience`.
async fn end_of(process: Attended, patience: Duration) -> Exit {
    let end = match tokio::time::timeout(patience, process.ended()).await {
        Ok(end) => end,
        Err(_) => {
            process.kill();
            process.ended().await
        }
    };
    match end {
        End::Exited(status) if status.success() => Exit::Voluntary,
        End::Exited(status) => Exit::Killed(match status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => format!("it ended with {status}"),
        }),
        End::NotStarted(reason) => Exit::NotStarted(format!("cannot start a worker: {reason}")),
        End::Lost => Exit::Killed("it ended with the spawner, which has ended".to_owned()),
    }
}

/// Begins to load what `config` names in a process of its own. Needs the primary's local runtime.
///
/// # Errors
/// When the system has no process or sockets to give.
pub fn load_in_process(
    config: &Arc<Config>,
    spawner: &Spawner,
    (host, host_file): (&'static HostVitals, &OwnedFd),
    (own, own_file): (&'static Vitals, &OwnedFd),
    missing: Vec<String>,
) -> io::Result<Loading> {
    let (child, wire) = spawn(spawner)?;
    let files = [(Descriptor::Vitals, own_file.as_fd()), (Descriptor::HostVitals, host_file.as_fd())];
    wire.try_send(&ToWorker::Load { missing }, &files)?;
    let limits = [config.compilation.timeout, config.limits.start_timeout(), LOADING_BEYOND];
    let limit = limits.into_iter().sum();
    let (answer, loaded) = oneshot::channel();
    let component = config.component.display().to_string();
    tokio::task::spawn_local(async move {
        let last_word = OnceCell::new();
        let hearing = async {
            while let Ok(Some((word, descriptors))) = wire.receive::<FromWorker>().await {
                // There is but one.
                let _ = last_word.set((word, descriptors));
            }
        };
        if tokio::time::timeout(limit, hearing).await.is_err() {
            tracing::error!("the process that loads the component does not end in time; it is killed");
            child.kill();
        }
        let ended = end_of(child, GONE_WITHIN).await;
        vitals::give_back(host, own);
        let failed = |reason: String, hint: String| Err(LoadError { file: component, reason, hint });
        let edition = match last_word.into_inner() {
            Some((FromWorker::Loaded { wasi, isolation }, mut descriptors)) => match descriptors.take(Descriptor::Code)
            {
                Ok(code) => Ok(Edition { wasi, isolation, code: Code::File(Arc::new(code)) }),
                Err(error) => failed(
                    format!("its compiled code did not arrive: {error}"),
                    "this is a bug of wasmhost: report it".to_owned(),
                ),
            },
            Some((FromWorker::Failed { reason, hint }, _)) => failed(reason, hint),
            Some(_) | None => failed(
                format!("the process that loads it ended without a result ({ended})"),
                "see the log lines above; if memory is short, free some".to_owned(),
            ),
        };
        // Without a receiver the host is stopping, and nobody wants the component.
        let _ = answer.send(edition);
    });
    Ok(loaded)
}
