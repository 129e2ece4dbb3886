//! The process that has the databases: the lines of the processes that ask, what they are granted, and the databases that are open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use wasmhost_base::sealed::unseal;
use wasmhost_base::wire::{Descriptor, Wire};
use wasmhost_config::DatabaseLimits;

use crate::bounds::{
    ASKED_MAX, DATABASES_OPEN_MAX, HUNG_AFTER, PLACE_BYTES, REPLIES_MAX, ROOM_BYTES_MAX, STATEMENT_CPU_MAX,
};
use crate::error::DatabaseError;
use crate::file::file_name;
use crate::keeper::{AskedStatement, DatabaseJob, DatabasePlace, IdleDatabase, Keeper};
use crate::message::{
    self, DatabaseGrants, DatabaseQuestion, DatabaseReply, FromDatabases, StatementOutcome, ToDatabases,
};
use crate::value::DatabaseValue;

/// How often it is looked whether a statement hangs.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How long the process waits at its end for databases to be closed.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);

/// What the process has.
struct DatabaseDesk {
    folder: PathBuf,
    granted: DatabaseGrants,
    open: HashMap<String, Keeper>,
    idle: mpsc::Sender<IdleDatabase>,
}

/// Answers until the primary is gone. `folder` has the databases, and no link in its path.
///
/// # Errors
/// When a statement hangs, which only the end of the process ends.
pub(crate) async fn serve(primary: &Wire, folder: PathBuf) -> io::Result<()> {
    let (idle, mut idling) = mpsc::channel(DATABASES_OPEN_MAX);
    let desk = DatabaseDesk { folder, granted: DatabaseGrants::default(), open: HashMap::new(), idle };
    let desk = Rc::new(RefCell::new(desk));
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut lines = 0_u64;
    loop {
        tokio::select! {
            heard = primary.receive::<ToDatabases>() => match heard? {
                None => {
                    let open = std::mem::take(&mut desk.borrow_mut().open);
                    close(open.into_values().map(Keeper::end).collect()).await;
                    return Ok(());
                }
                Some((ToDatabases::Grants, mut descriptors)) => {
                    let granted = unseal(&descriptors.take(Descriptor::Settings)?)?;
                    desk.borrow_mut().follow(DatabaseGrants::from_bytes(&granted)?);
                    primary.send(&FromDatabases::Granted, &[]).await?;
                }
                Some((ToDatabases::Line(group), mut descriptors)) => {
                    lines += 1;
                    let (desk, socket, line) = (Rc::clone(&desk), descriptors.take(Descriptor::Databases)?, lines);
                    tokio::task::spawn_local(async move {
                        if let Err(error) = answer(&desk, socket, line, group.as_ref()).await {
                            tracing::warn!(group, %error, "what a worker asked of databases cannot be read, and it is not answered any more; the process may have been broken into");
                        }
                        desk.borrow().open.values().for_each(|keeper| {
                            if let Err(job) = keeper.tell(DatabaseJob::CloseLine(line)) {
                                keeper.close_later(job);
                            }
                        });
                    });
                }
            },
            Some(idle) = idling.recv() => desk.borrow_mut().close(&idle),
            _ = looks.tick() => {
                if let Some(database) = desk.borrow().hung() {
                    return Err(io::Error::other(format!(
                        "a statement of the database {database} has been computing for {} s and cannot be interrupted", HUNG_AFTER.as_secs()
                    )));
                }
            }
        }
    }
}

/// Waits until databases are closed: their logs are emptied then. (Nothing is lost without that.)
async fn close(mut threads: Vec<JoinHandle<()>>) {
    let until = Instant::now() + CLOSED_WITHIN;
    while !threads.is_empty() && Instant::now() < until {
        threads.retain(|thread| !thread.is_finished());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl DatabaseDesk {
    /// Grants these, and nothing else. A database that is not granted any more is closed, and one with another quota is opened
    /// again: transactions that are open end.
    fn follow(&mut self, granted: DatabaseGrants) {
        self.granted = granted;
        let limits = &self.granted.limits;
        self.open
            .retain(|database, keeper| limits.get(database).is_some_and(|limits| limits.bytes_max == keeper.bytes_max));
    }

    /// Closes a database that nobody has asked for a while, nor since it said so.
    fn close(&mut self, idle: &IdleDatabase) {
        if self.open.get(&idle.database).is_some_and(|keeper| keeper.has_told() == idle.done) {
            self.open.remove(&idle.database);
        }
    }

    /// A database whose statement hangs.
    fn hung(&self) -> Option<String> {
        self.open.iter().find(|(_, keeper)| keeper.busy_for() > HUNG_AFTER).map(|(database, _)| database.clone())
    }

    /// Has a database do something; none: it is not granted, or too much waits.
    fn tell(&mut self, database: &str, limits: DatabaseLimits, asked: AskedStatement) -> Result<(), DatabaseError> {
        if self.open.get(database).is_some_and(Keeper::has_ended) {
            self.open.remove(database);
        }
        if !self.open.contains_key(database) {
            if self.open.len() >= DATABASES_OPEN_MAX {
                return Err(DatabaseError::Busy);
            }
            let place = DatabasePlace {
                name: database.to_owned(),
                file: self.folder.join(file_name(database)),
                bytes_max: limits.bytes_max,
            };
            let keeper = Keeper::start(place, self.idle.clone()).map_err(|_| DatabaseError::Busy)?;
            self.open.insert(database.to_owned(), keeper);
        }
        let told = self.open.get(database).map(|keeper| keeper.tell(DatabaseJob::Execute(Box::new(asked))));
        told.and_then(Result::ok).ok_or(DatabaseError::Busy)
    }
}

/// Answers one process until it is gone.
async fn answer(
    desk: &Rc<RefCell<DatabaseDesk>>,
    socket: OwnedFd,
    line: u64,
    group: Option<&String>,
) -> io::Result<()> {
    let (read, write) = UnixStream::from_std(socket.into())?.into_split();
    let (replies, answers) = mpsc::channel(REPLIES_MAX);
    let running = RunningStatements::default();
    tokio::select! {
        ended = hear((desk, line, group), read, &running, replies) => {
            // Nobody waits for what is still being done.
            running.borrow().values().for_each(|(given_up, _)| given_up.store(true, Relaxed));
            ended
        }
        ended = tell(write, answers, &running) => ended,
    }
}

/// The statements that are being done, by their numbers: whether they were given up, and what they take.
type RunningStatements = RefCell<HashMap<u64, (Arc<AtomicBool>, Taken)>>;

/// What the statements of one process may take.
struct LineRoom {
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// What one of them has taken; it is given back with its answer.
struct Taken {
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl LineRoom {
    fn new() -> Self {
        let [places, bytes] = [ASKED_MAX, ROOM_BYTES_MAX].map(|permits| Arc::new(Semaphore::new(permits)));
        Self { places, bytes }
    }

    /// Takes what a statement needs; none: it is not there. Nobody waits for it, as what comes next may end what the others wait for.
    fn take(&self, sql: &str, parameters: &[DatabaseValue]) -> Option<Taken> {
        let bytes = sql.len() + parameters.iter().map(DatabaseValue::bytes).sum::<usize>();
        let bytes = u32::try_from(bytes.saturating_sub(PLACE_BYTES)).ok()?;
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()?;
        Some(Taken { _place: place, _bytes: bytes })
    }
}

/// Hears what one process asks, until it is gone.
async fn hear(
    (desk, line, group): (&Rc<RefCell<DatabaseDesk>>, u64, Option<&String>),
    mut read: OwnedReadHalf,
    running: &RunningStatements,
    replies: mpsc::Sender<DatabaseReply>,
) -> io::Result<()> {
    let room = LineRoom::new();
    while let Some(question) = message::read::<DatabaseQuestion>(&mut read).await? {
        match question {
            DatabaseQuestion::Execute { number, connection, database, sql, parameters, cpu_us, in_transaction } => {
                if running.borrow().contains_key(&number) {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a number that another statement has"));
                }
                let given_up = Arc::new(AtomicBool::new(false));
                let taken = room.take(&sql, &parameters);
                let is_taken = taken.is_some();
                if let Some(taken) = taken {
                    running.borrow_mut().insert(number, (Arc::clone(&given_up), taken));
                }
                let asked = AskedStatement {
                    connection: (line, connection),
                    number,
                    sql,
                    parameters,
                    cpu: Duration::from_micros(cpu_us).min(STATEMENT_CPU_MAX),
                    spent: Duration::ZERO,
                    in_transaction,
                    given_up,
                    replies: replies.clone(),
                };
                let told = {
                    let mut desk = desk.borrow_mut();
                    match desk.granted.of(group, &database) {
                        _ if !is_taken => Err(DatabaseError::Busy),
                        Some(limits) => desk.tell(&database, limits, asked),
                        None => Err(DatabaseError::NoSuchDatabase { name: database }),
                    }
                };
                if let Err(error) = told {
                    let told = StatementOutcome { cpu_us: 0, in_transaction, outcome: Err(error) };
                    // Its other half is polled beside this one.
                    let _ = replies.send(DatabaseReply { number, told }).await;
                }
            }
            DatabaseQuestion::GiveUp { number } => {
                if let Some((given_up, _)) = running.borrow().get(&number) {
                    given_up.store(true, Relaxed);
                }
            }
            DatabaseQuestion::Close { connection, database } => {
                if let Some(keeper) = desk.borrow().open.get(&database)
                    && let Err(job) = keeper.tell(DatabaseJob::Close((line, connection)))
                {
                    keeper.close_later(job);
                }
            }
        }
    }
    Ok(())
}

/// Writes what has come of statements.
async fn tell(
    mut write: OwnedWriteHalf,
    mut answers: mpsc::Receiver<DatabaseReply>,
    running: &RunningStatements,
) -> io::Result<()> {
    while let Some(reply) = answers.recv().await {
        running.borrow_mut().remove(&reply.number);
        if message::write(&mut write, &reply).await.is_err() {
            // The process is gone, which its questions end with, too.
            return Ok(());
        }
    }
    Ok(())
}
