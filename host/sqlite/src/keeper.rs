//! One database: a thread that does its statements one after another, its connections, and what waits. All connections to a
//! database are of one thread, so whoever waits for another's transaction waits in a list, and no thread waits.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use tokio::sync::mpsc;

use wasmhost_base::line_budget::LineBudget;
use wasmhost_base::panics::caught;

use crate::bounds::{BUSY_WAIT_MAX, CONNECTIONS_OF_DATABASE_MAX, IDLE_MAX, QUEUE_MAX, TRANSACTION_TIME_MAX, TRY_AGAIN};
use crate::engine::{DatabaseEngine, Statement, Stopped, cpu_now};
use crate::error::DatabaseError;
use crate::message::{DatabaseReply, StatementOutcome};
use crate::value::{DatabaseRows, DatabaseValue};

/// Connections that are to be closed, and for which the queue had no room.
const CLOSINGS_MAX: usize = 1_024;
/// Lines about databases in one second, of which guests can cause many.
const LINES_PER_SECOND: u64 = 10;

/// A connection: of which line, and the number that whoever asks there has chosen.
pub(crate) type ConnectionKey = (u64, u64);

/// What a database is to do.
pub(crate) enum DatabaseJob {
    /// A statement.
    Execute(Box<AskedStatement>),
    /// Nobody uses this connection any more.
    Close(ConnectionKey),
    /// The line of this number is gone.
    CloseLine(u64),
}

/// A statement that was asked for.
pub(crate) struct AskedStatement {
    pub(crate) connection: ConnectionKey,
    pub(crate) number: u64,
    pub(crate) sql: String,
    pub(crate) parameters: Vec<DatabaseValue>,
    pub(crate) cpu: Duration,
    /// What it has used of that in attempts that found another connection's transaction.
    pub(crate) spent: Duration,
    pub(crate) in_transaction: bool,
    pub(crate) given_up: Arc<AtomicBool>,
    pub(crate) replies: mpsc::Sender<DatabaseReply>,
}

/// Nobody has asked a database for a while.
pub(crate) struct IdleDatabase {
    pub(crate) database: String,
    /// How many jobs it had been given by then.
    pub(crate) done: u64,
}

/// Where a database is, and what it may hold.
#[derive(Debug, Clone)]
pub(crate) struct DatabasePlace {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) bytes_max: u64,
}

/// A thread that has a database open. It ends when this is dropped, after what it was told.
pub(crate) struct Keeper {
    jobs: SyncSender<DatabaseJob>,
    thread: JoinHandle<()>,
    began: Arc<Began>,
    closings: Closings,
    /// Jobs that it was given.
    told: Cell<u64>,
    /// What it may hold.
    pub(crate) bytes_max: u64,
}

/// When the present statement began, in milliseconds from `origin` on and never 0; 0: there is none.
struct Began {
    origin: Instant,
    ms: AtomicU64,
}

impl Keeper {
    /// Starts the thread. It says so when nobody has asked for a while.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(place: DatabasePlace, idle: mpsc::Sender<IdleDatabase>) -> io::Result<Self> {
        let (jobs, heard) = sync_channel(QUEUE_MAX);
        let began = Arc::new(Began { origin: Instant::now(), ms: AtomicU64::new(0) });
        let bytes_max = place.bytes_max;
        let closings = Closings::default();
        let shelf = Shelf {
            place,
            idle,
            began: Arc::clone(&began),
            closings: Arc::clone(&closings),
            connections: HashMap::new(),
            waiting: VecDeque::new(),
        };
        let thread = thread::Builder::new().name("database".to_owned()).spawn(move || shelf.keep(&heard))?;
        Ok(Self { jobs, thread, began, closings, told: Cell::new(0), bytes_max })
    }

    /// Has it end after what it was told.
    pub(crate) fn end(self) -> JoinHandle<()> {
        self.thread
    }

    /// Gives it something to do.
    ///
    /// # Errors
    /// The job, when too much waits.
    pub(crate) fn tell(&self, job: DatabaseJob) -> Result<(), DatabaseJob> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(job) | TrySendError::Disconnected(job) => job,
        })?;
        self.told.set(self.told.get() + 1);
        Ok(())
    }

    /// Whether its thread is gone, by a bug.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Has connections closed for which its queue had no room, or whose process is gone.
    pub(crate) fn close_later(&self, job: DatabaseJob) {
        let mut closings = self.closings.lock().unwrap_or_else(PoisonError::into_inner);
        if closings.len() < CLOSINGS_MAX || matches!(job, DatabaseJob::CloseLine(_)) {
            closings.push(job);
        }
    }

    /// How many jobs it was given.
    pub(crate) fn has_told(&self) -> u64 {
        self.told.get()
    }

    /// For how long its present statement has been computing.
    pub(crate) fn busy_for(&self) -> Duration {
        match self.began.ms.load(Relaxed) {
            0 => Duration::ZERO,
            began => self.began.origin.elapsed().saturating_sub(Duration::from_millis(began)),
        }
    }
}

/// Connections that are to be closed, beside the queue.
type Closings = Arc<Mutex<Vec<DatabaseJob>>>;

/// A connection of a guest.
struct Open {
    engine: DatabaseEngine,
    used: Instant,
    /// Since when its transaction is open.
    transaction: Option<Instant>,
}

/// What the thread has.
struct Shelf {
    place: DatabasePlace,
    idle: mpsc::Sender<IdleDatabase>,
    began: Arc<Began>,
    closings: Closings,
    connections: HashMap<ConnectionKey, Open>,
    /// Statements that wait for a transaction, until when; the first one first.
    waiting: VecDeque<(AskedStatement, Instant)>,
}

impl Shelf {
    fn keep(mut self, jobs: &Receiver<DatabaseJob>) {
        let (mut done, mut rests_since) = (0, Instant::now());
        loop {
            match jobs.recv_timeout(self.next_due()) {
                Ok(job) => {
                    (done, rests_since) = (done + 1, Instant::now());
                    self.act(job);
                }
                Err(RecvTimeoutError::Timeout) => {}
                // Nobody asks any more. SQLite empties the log with the last connection.
                Err(RecvTimeoutError::Disconnected) => return self.refuse_waiting(),
            }
            let closings = std::mem::take(&mut *self.closings.lock().unwrap_or_else(PoisonError::into_inner));
            for job in closings {
                self.act(job);
            }
            self.end_long_transactions();
            self.try_waiting();
            let rests = self.waiting.is_empty() && !self.connections.values().any(|open| open.engine.keeps_something());
            if !rests {
                rests_since = Instant::now();
            } else if rests_since.elapsed() >= IDLE_MAX {
                rests_since = Instant::now();
                // If it is not heard now, it is said again.
                let _ = self.idle.try_send(IdleDatabase { database: self.place.name.clone(), done });
            }
        }
    }

    /// How long until something is to be done by itself.
    fn next_due(&self) -> Duration {
        let now = Instant::now();
        let ends =
            self.connections.values().filter_map(|open| open.transaction.map(|since| since + TRANSACTION_TIME_MAX));
        let next = ends.map(|end| end.saturating_duration_since(now)).min().unwrap_or(IDLE_MAX);
        if self.waiting.is_empty() { next } else { next.min(TRY_AGAIN) }
    }

    fn act(&mut self, job: DatabaseJob) {
        match job {
            DatabaseJob::Execute(asked) => self.begin(*asked, Instant::now() + BUSY_WAIT_MAX),
            // What it has not stored is rolled back.
            DatabaseJob::Close(connection) => drop(self.connections.remove(&connection)),
            DatabaseJob::CloseLine(line) => {
                self.connections.retain(|(of, _), _| *of != line);
                self.waiting.retain(|(asked, _)| asked.connection.0 != line);
            }
        }
    }

    /// Does a statement, or has it wait until then.
    fn begin(&mut self, asked: AskedStatement, until: Instant) {
        if let Some(asked) = self.attempt(asked, until) {
            self.waiting.push_back((asked, until));
        }
    }

    /// Does a statement. What has to wait comes back.
    fn attempt(&mut self, mut asked: AskedStatement, until: Instant) -> Option<AskedStatement> {
        if asked.given_up.load(Relaxed) {
            self.reply(&asked, asked.spent, Err(DatabaseError::GivenUp));
            return None;
        }
        let began_cpu = cpu_now();
        let ms = u64::try_from(self.began.origin.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.began.ms.store(ms, Relaxed);
        // SQLite without memory is an assertion of its crate.
        let outcome = caught(|| self.perform(&asked)).unwrap_or_else(|_| {
            self.connections.remove(&asked.connection);
            Err(DatabaseError::Memory.into())
        });
        self.began.ms.store(0, Relaxed);
        asked.spent += cpu_now().saturating_sub(began_cpu);
        let outcome = match outcome {
            Err(Stopped::Blocked) if Instant::now() < until && asked.spent < asked.cpu => return Some(asked),
            Err(Stopped::Blocked) => Err(DatabaseError::Busy),
            Err(Stopped::Error(error)) => Err(error),
            Ok(rows) => Ok(rows),
        };
        if let Err(error) = &outcome {
            self.tell_log(error);
        }
        self.reply(&asked, asked.spent, outcome);
        None
    }

    fn reply(&self, asked: &AskedStatement, cpu: Duration, outcome: Result<DatabaseRows, DatabaseError>) {
        let open = self.connections.get(&asked.connection);
        let in_transaction = open.is_some_and(|open| open.engine.is_in_transaction());
        let cpu_us = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
        let told = StatementOutcome { cpu_us, in_transaction, outcome };
        // Who is gone does not want to know. Who reads slowly has only its own databases wait.
        let _ = asked.replies.blocking_send(DatabaseReply { number: asked.number, told });
    }

    /// The database is closed: what waits is not done.
    fn refuse_waiting(mut self) {
        for (asked, _) in std::mem::take(&mut self.waiting) {
            self.reply(&asked, asked.spent, Err(DatabaseError::Busy));
        }
    }

    fn perform(&mut self, asked: &AskedStatement) -> Result<DatabaseRows, Stopped> {
        let open = self.open(asked)?;
        let cpu = asked.cpu.saturating_sub(asked.spent);
        let statement = Statement { sql: &asked.sql, parameters: &asked.parameters, cpu, given_up: &asked.given_up };
        let outcome = open.engine.run(&statement);
        open.used = Instant::now();
        open.transaction = open.engine.is_in_transaction().then(|| open.transaction.unwrap_or(open.used));
        let is_free = open.transaction.is_none();
        if is_free && open.engine.has_long_log() {
            self.shorten_log(asked.connection);
        }
        outcome
    }

    /// The connection of a statement.
    fn open(&mut self, asked: &AskedStatement) -> Result<&mut Open, Stopped> {
        let key = asked.connection;
        let has_transaction = self.connections.get(&key).is_some_and(|open| open.engine.is_in_transaction());
        if asked.in_transaction && !has_transaction {
            return Err(DatabaseError::TransactionOver.into());
        }
        if !self.connections.contains_key(&key) {
            self.make_room()?;
            let engine = DatabaseEngine::open(&self.place.file, self.place.bytes_max)?;
            self.connections.insert(key, Open { engine, used: Instant::now(), transaction: None });
        }
        self.connections.get_mut(&key).ok_or(Stopped::Error(DatabaseError::Unavailable))
    }

    /// Closes the connection that was used last the longest ago, where there are as many as may be: it is opened again with its
    /// next statement. Where all are in use, it waits for one.
    fn make_room(&mut self) -> Result<(), Stopped> {
        if self.connections.len() < CONNECTIONS_OF_DATABASE_MAX {
            return Ok(());
        }
        let unused = self.connections.iter().filter(|(_, open)| !open.engine.keeps_something());
        let oldest = unused.min_by_key(|(_, open)| open.used).map(|(key, _)| *key);
        let oldest = oldest.ok_or(Stopped::Blocked)?;
        self.connections.remove(&oldest);
        Ok(())
    }

    /// Rolls back what has been open for too long.
    fn end_long_transactions(&mut self) {
        for open in self.connections.values_mut() {
            if open.transaction.is_some_and(|since| since.elapsed() >= TRANSACTION_TIME_MAX) {
                open.engine.roll_back();
                open.transaction = None;
                tell(|| {
                    tracing::warn!(
                        database = self.place.name,
                        "a transaction was open for {} s and is rolled back; its guest learns it with the next statement",
                        TRANSACTION_TIME_MAX.as_secs()
                    );
                });
            }
        }
    }

    /// Tries statements that wait, as long as the first of them can be done.
    fn try_waiting(&mut self) {
        while let Some((asked, until)) = self.waiting.pop_front() {
            if let Some(asked) = self.attempt(asked, until) {
                self.waiting.push_front((asked, until));
                return;
            }
        }
    }

    /// Ends the other connections' transactions, which read from a log that has become too long, and empties it.
    fn shorten_log(&mut self, own: ConnectionKey) {
        for open in self.connections.values_mut() {
            open.engine.roll_back();
            open.transaction = None;
        }
        if let Some(open) = self.connections.get(&own) {
            open.engine.empty_log();
        }
    }

    fn tell_log(&self, error: &DatabaseError) {
        let hint = match error {
            DatabaseError::Damaged { .. } => {
                "restore the file from a backup, or move it and those beside it away to begin with an empty database"
            }
            DatabaseError::Io { .. } => "see that the disk has room, and that this user may read and write the file",
            DatabaseError::Memory => {
                "statements that sort or group much at once share this memory with those of all apps"
            }
            _ => return,
        };
        tell(|| tracing::error!(database = self.place.name, hint, "a statement failed: {error}"));
    }
}

/// Tells the log, unless too much was told in this second.
fn tell(line: impl FnOnce()) {
    static LINES: LazyLock<LineBudget> = LazyLock::new(|| LineBudget::of(LINES_PER_SECOND));
    let (is_told, left_out) = LINES.admit();
    if left_out > 0 {
        tracing::warn!(lines = left_out, "lines about databases were left out");
    }
    if is_told {
        line();
    }
}
