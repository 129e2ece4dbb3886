//! The primary's side of a worker's process: gives it connections and orders, hears of it, and attends to its end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};

use wasmhost_base::log::LogNow;
use wasmhost_base::panics::guarded;
use wasmhost_base::throttle::Throttle;
use wasmhost_base::trace::{SpanQueue, TracedSpans};
use wasmhost_base::wire::{self, Descriptor, Sent, Wire};
use wasmhost_config::AppId;
use wasmhost_confine::spawner::{Attended, End, Spawner};
use wasmhost_serve::clients::Client;
use wasmhost_serve::scoreboard::Scoreboard;
use wasmhost_serve::worker::inbox::{Accepted, Admission, Connection, INBOX_MAX};
use wasmhost_serve::worker::{Exit, ProfileOrder, RevisionTag, SentProfile, SentReport, Stage, WorkerEvent, WorkerId};

use super::forwarded;
use super::protocol::{FromWorker, ToWorker};
use super::unsent::{GivenSupply, ListenersOrder, UnsentOrders};
use crate::backend::Worker;
use crate::loader::CodeAtRest;

/// How long a child whose line has ended may take to be gone; then it is killed.
pub(super) const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait before looking again whether a descriptor has become free.
pub(super) const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// See [`forwarded::checked`].
static NOT_A_SOCKET: Throttle = Throttle::new(Duration::from_secs(10));

/// What the primary knows of a process that it has started.
pub(super) struct Hired {
    pub(super) id: WorkerId,
    /// The group whose apps it serves.
    pub(super) group: Option<Arc<str>>,
    pub(super) scoreboard: &'static Scoreboard,
    /// Where events go.
    pub(super) events: mpsc::Sender<WorkerEvent>,
    /// The capacity that its connections take from, where the primary accepts.
    pub(super) admission: Arc<Admission>,
    /// Connections at once that its descriptors allow.
    pub(super) connections_max: usize,
    pub(super) stage: Stage,
    /// Where spans of requests go, if these are traced.
    pub(super) spans: Option<Arc<SpanQueue>>,
}

/// How many connections of which client a process has.
type Abroad = Rc<RefCell<HashMap<Client, usize>>>;

/// The primary's side of a worker's process.
pub(crate) struct ProcessHandle {
    wire: Rc<Wire>,
    unsent: Rc<UnsentOrders>,
    scoreboard: &'static Scoreboard,
    admission: Arc<Admission>,
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
    /// Tells a process to begin with `start` and these descriptors, and attends to it from then on. Needs the primary's local
    /// runtime.
    ///
    /// # Errors
    /// When the system has no process or sockets to give.
    pub(super) fn start(
        hired: Hired,
        spawner: &Spawner,
        start: &ToWorker,
        descriptors: &[Sent<'_>],
    ) -> io::Result<Self> {
        let Hired { id, group, scoreboard, events, admission, connections_max, stage, spans } = hired;
        let (child, wire) = spawn(spawner, group.as_deref())?;
        wire.try_send(start, descriptors)?;
        let handle = Self {
            wire: Rc::clone(&wire),
            unsent: Rc::default(),
            scoreboard,
            admission,
            connections_max,
            taken_before: scoreboard.metrics.connections.get(),
            handed: Cell::new(0),
            outstanding: Cell::new(0),
            beats_seen: Cell::new(scoreboard.beats.load(Relaxed)),
            called: Cell::new(false),
            hung: Rc::new(Notify::new()),
            abroad: Abroad::default(),
        };
        handle.stage(stage);
        let ended = ProcessEnd { abroad: Rc::clone(&handle.abroad), admission: Arc::clone(&handle.admission) };
        let (unsent, hung) = (Rc::clone(&handle.unsent), Rc::clone(&handle.hung));
        tokio::task::spawn_local(async move {
            let attending = attend(id, child, wire, unsent, (events.clone(), hung), (scoreboard, spans), ended);
            if let Err(panic) = guarded(Box::pin(attending)).await {
                // The child went with what was dropped.
                scoreboard.metrics.listening.set(false);
                let _ = events.send(WorkerEvent::Exited(id, Exit::Panic(panic))).await;
            }
        });
        Ok(handle)
    }
}

impl Worker for ProcessHandle {
    type Guest = CodeAtRest;
    type Table = Arc<OwnedFd>;
    type Listeners = Arc<ListenersOrder>;

    fn room(&self) -> usize {
        if self.scoreboard.is_short.get() {
            return 0;
        }
        let taken = self.scoreboard.metrics.connections.get().wrapping_sub(self.taken_before);
        let waiting = self.handed.get().saturating_sub(taken);
        INBOX_MAX.saturating_sub(usize::try_from(waiting).unwrap_or(usize::MAX))
    }

    fn is_full(&self) -> bool {
        let open = self.scoreboard.metrics.open_connections.load(Relaxed);
        open >= self.connections_max
    }

    fn try_send(&self, connection: Connection) -> Result<(), Connection> {
        let (peer, listener, counts) = (connection.peer, connection.listener, connection.permit.counts());
        let socket = match &connection.socket {
            Accepted::Tcp(stream) => stream.as_fd(),
            Accepted::Unix(stream) => stream.as_fd(),
        };
        match self.wire.try_send(&ToWorker::Connection { peer, listener, counts }, &[(Descriptor::Socket, socket)]) {
            Ok(()) => {
                self.handed.set(self.handed.get() + 1);
                self.outstanding.set(self.outstanding.get() + usize::from(counts));
                if let Some(client) = connection.permit.hand_over() {
                    *self.abroad.borrow_mut().entry(client).or_default() += 1;
                }
                Ok(())
            }
            Err(_) => Err(connection),
        }
    }

    fn listeners(&self, listeners: &Arc<ListenersOrder>) {
        self.unsent.listeners(Arc::clone(listeners));
    }

    fn ask(&self) -> bool {
        let beats = self.scoreboard.beats.load(Relaxed);
        let answered = beats != self.beats_seen.replace(beats);
        if self.called.get() && !answered {
            return false;
        }
        let sent = self.wire.try_send(&ToWorker::Call, &[]).is_ok();
        self.called.set(sent);
        answered || sent
    }

    fn end_hung(&self) {
        self.hung.notify_one();
    }

    fn stage(&self, stage: Stage) {
        self.scoreboard.drains.set(stage != Stage::Serve);
        self.unsent.stage(stage);
    }

    fn table(&self, table: &Arc<OwnedFd>) {
        self.unsent.table(Arc::clone(table));
    }

    fn log(&self, shown: LogNow) {
        self.unsent.log(shown);
    }

    fn supply(&self, app: AppId, guest: CodeAtRest, tag: RevisionTag) {
        self.unsent.app(app, GivenSupply::Code(guest, tag));
    }

    fn refuse(&self, app: AppId, reason: Arc<str>) {
        self.unsent.app(app, GivenSupply::Refusal(reason));
    }

    fn forget(&self, app: AppId) {
        self.unsent.forget(app);
    }

    fn make_room_for(&self, app: AppId) {
        // While its line is full it has more urgent things to do; who lacks memory asks again.
        let _ = self.wire.try_send(&ToWorker::MakeRoom(app), &[]);
    }

    fn profile(&self, order: ProfileOrder) {
        self.unsent.profile(order);
    }

    fn reconcile(&self, wait: bool) {
        if wait {
            self.scoreboard.metrics.wants_freed.raise();
        }
        let open = self.scoreboard.metrics.open_connections.load(SeqCst);
        let ended = self.outstanding.get().saturating_sub(open);
        if ended > 0 {
            self.outstanding.set(self.outstanding.get() - ended);
            self.admission.give_back(ended);
        }
    }
}

impl Drop for ProcessHandle {
    fn drop(&mut self) {
        self.unsent.close();
        // The process is gone, and its connections with it.
        self.scoreboard.metrics.open_connections.store(0, Relaxed);
        self.admission.give_back(self.outstanding.get());
        for (client, count) in self.abroad.take() {
            self.admission.release(client, count);
        }
    }
}

/// Whose connections begin and end in a process: keeps the books.
struct ProcessEnd {
    abroad: Abroad,
    admission: Arc<Admission>,
}

impl ProcessEnd {
    /// Which of these clients may have one more connection.
    fn claim(&self, clients: &[Client]) -> Vec<bool> {
        let mut abroad = self.abroad.borrow_mut();
        let claim = |client: &Client| {
            let has_room = abroad.len() < self.admission.max() || abroad.contains_key(client);
            let is_admitted = has_room && self.admission.admit(*client);
            if is_admitted {
                *abroad.entry(*client).or_default() += 1;
            }
            is_admitted
        };
        clients.iter().map(claim).collect()
    }

    fn note(&self, clients: Vec<Client>) {
        let mut abroad = self.abroad.borrow_mut();
        for client in clients {
            // Of a process that is gone, the books are closed.
            let Some(count) = abroad.get_mut(&client) else { continue };
            *count -= 1;
            if *count == 0 {
                abroad.remove(&client);
            }
            self.admission.release(client, 1);
        }
    }
}

/// A process of this program for the apps of this group, or those without one, and the line to it.
pub(super) fn spawn(spawner: &Spawner, group: Option<&str>) -> io::Result<(Attended, Rc<Wire>)> {
    let (ours, theirs) = wire::pair()?;
    Ok((spawner.start_worker(&theirs, group)?, Rc::new(Wire::new(ours)?)))
}

/// Has spans of a worker sent on, or counts that they are lost.
fn take_in(traced: TracedSpans, spans: Option<&SpanQueue>, scoreboard: &Scoreboard) {
    let count = u64::try_from(traced.spans.len()).unwrap_or(u64::MAX);
    if spans.is_some_and(|spans| count > 0 && !spans.put(traced)) {
        scoreboard.metrics.spans_lost.fetch_add(count, Relaxed);
    }
}

/// Hears and orders a worker's process to its end.
async fn attend(
    id: WorkerId,
    child: Attended,
    wire: Rc<Wire>,
    unsent: Rc<UnsentOrders>,
    (events, hung): (mpsc::Sender<WorkerEvent>, Rc<Notify>),
    (scoreboard, spans): (&'static Scoreboard, Option<Arc<SpanQueue>>),
    ended: ProcessEnd,
) {
    let mut exit = None;
    let mut patience = GONE_WITHIN;
    // It hears nothing more, and may still have something to say.
    let mut is_deaf = false;
    loop {
        let event = tokio::select! {
            // A worker that hangs does not read, so that its line may be full for ever.
            () = hung.notified() => {
                exit = Some(Exit::Killed("it gave no sign of life and was killed".into()));
                patience = Duration::ZERO;
                break;
            }
            received = wire.receive::<FromWorker>() => match received {
                Ok(Some((FromWorker::Online { thread }, _))) => WorkerEvent::Online(id, thread),
                Ok(Some((FromWorker::Listening, _))) => WorkerEvent::Listening(id),
                Ok(Some((FromWorker::Applied(what), _))) => WorkerEvent::Applied(id, what),
                Ok(Some((FromWorker::Wants(app), _))) => WorkerEvent::Wants(id, app),
                Ok(Some((FromWorker::Asleep(app), _))) => WorkerEvent::Asleep(id, app),
                Ok(Some((FromWorker::LacksMemory(app), _))) => WorkerEvent::LacksMemory(id, app),
                Ok(Some((FromWorker::FellBack(app, revision), _))) => WorkerEvent::FellBack(id, app, revision),
                Ok(Some((FromWorker::Fault(app, fault), mut descriptors))) => {
                    let report = descriptors.take(Descriptor::Report).ok().map(SentReport::Sealed);
                    WorkerEvent::Fault(id, app, fault, report)
                }
                Ok(Some((FromWorker::Profiled(number), mut descriptors))) => {
                    let counted = descriptors.take(Descriptor::Report).ok().map(SentProfile::Sealed);
                    WorkerEvent::Profiled(id, number, counted)
                }
                Ok(Some((FromWorker::Vanished(app), _))) => WorkerEvent::Vanished(id, app),
                Ok(Some((FromWorker::Behind(app), _))) => WorkerEvent::Behind(id, app),
                Ok(Some((FromWorker::Forward(group), mut descriptors))) => match descriptors.take(Descriptor::Socket) {
                    Ok(socket) => match forwarded::checked(socket) {
                        Ok(socket) => WorkerEvent::Forward(id, group, socket),
                        Err(error) => {
                            if let Some(count) = NOT_A_SOCKET.admit(Instant::now()) {
                                tracing::warn!(worker = id.0, count, %error, "what a worker sent for a group is no socket of the kind that the host makes, and is closed (count: since the last such line); the process may have been broken into");
                            }
                            continue;
                        }
                    },
                    // A worker sends none without.
                    Err(_) => continue,
                },
                Ok(Some((FromWorker::Disconnect, _))) => WorkerEvent::Disconnect(id),
                Ok(Some((FromWorker::Freed, _))) => WorkerEvent::Freed,
                Ok(Some((FromWorker::Ended(clients), _))) => {
                    ended.note(clients);
                    continue;
                }
                Ok(Some((FromWorker::Claims(clients), _))) => {
                    if unsent.is_closed() {
                        continue;
                    }
                    // None that is sound asks more.
                    if !unsent.claimed(ended.claim(&clients)) {
                        exit = Some(Exit::Killed("it claimed more connections than it can have, and was killed".into()));
                        patience = Duration::ZERO;
                        break;
                    }
                    continue;
                }
                Ok(Some((FromWorker::Spans(traced), _))) => {
                    take_in(traced, spans.as_deref(), scoreboard);
                    continue;
                }
                Ok(Some((FromWorker::Exited(how), _))) => {
                    exit = Some(how);
                    continue;
                }
                Ok(Some((FromWorker::Loaded { .. } | FromWorker::Failed { .. }, _))) => continue,
                Ok(None) => break,
                // The message stays until there is a descriptor for what comes with it.
                Err(error) if is_shortage(&error) => {
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(worker = id.0, %error, "the connection to a worker process is broken; the worker is killed");
                    break;
                }
            },
            sent = unsent.send_next(&wire), if !is_deaf => match sent {
                Ok(true) => continue,
                // Its place has another worker.
                Ok(false) => break,
                // The next receive sees the end of the line, after the worker's last words.
                Err(error) if is_end(&error) => {
                    is_deaf = true;
                    continue;
                }
                Err(error) => {
                    exit = Some(Exit::Killed(format!("its orders could not be sent to it, and it was killed: {error}")));
                    patience = Duration::ZERO;
                    break;
                }
            },
        };
        // Without the primary there is nobody to tell.
        let _ = events.send(event).await;
        wasmhost_base::inject::panic_at("attend");
    }
    let end = end_of(child, patience).await;
    scoreboard.metrics.listening.set(false);
    let _ = events.send(WorkerEvent::Exited(id, exit.unwrap_or(end))).await;
}

/// Whether an error of receiving says that there is no descriptor for what comes with the message.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error())
}

/// Whether an error of sending says that the other side is gone.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

/// Waits for the end of a process that has said its last word, and kills it after `patience`.
pub(super) async fn end_of(process: Attended, patience: Duration) -> Exit {
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
