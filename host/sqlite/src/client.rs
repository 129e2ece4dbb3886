//! The side that asks: a handle for whoever asks, and the line, a future that moves the messages. When the process of the databases
//! has ended, the primary sends another socket for the next one.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use wasmhost_base::wire::{Descriptor, Wire};

use crate::bounds::{
    CONNECT_WITHIN, PARAMETERS_BYTES_MAX, PARAMETERS_MAX, PATIENCE, QUESTIONS_MAX, SQL_BYTES_MAX, VALUE_BYTES_MAX,
};
use crate::error::DatabaseError;
use crate::message::{self, DatabaseQuestion, DatabaseReply, StatementOutcome, ToAsker};
use crate::value::{DatabaseRows, DatabaseValue};

/// A question on its way; one that is answered has somebody who waits for it.
struct UnsentStatement {
    question: DatabaseQuestion,
    waits: Option<(u64, oneshot::Sender<StatementOutcome>)>,
}

/// The databases that a process asks. Clones ask over the same line.
#[derive(Clone, Default)]
pub struct Databases(Option<Arc<Asker>>);

struct Asker {
    /// Where the present process of the databases is asked, if there is one.
    line: watch::Receiver<Option<mpsc::Sender<UnsentStatement>>>,
    /// Of connections and of questions.
    numbers: AtomicU64,
}

/// The line of [`Databases`], and what is on its way.
pub struct DatabaseLine {
    primary: OwnedFd,
    line: watch::Sender<Option<mpsc::Sender<UnsentStatement>>>,
}

impl Databases {
    /// Asks where the primary says, on this end of a [`wire`](wasmhost_base::wire). Nothing moves unless the line
    /// [runs](DatabaseLine::run), in whatever event loop.
    pub fn new(primary: OwnedFd) -> (Self, DatabaseLine) {
        let (line, lines) = watch::channel(None);
        let asker = Asker { line: lines, numbers: AtomicU64::new(1) };
        (Self(Some(Arc::new(asker))), DatabaseLine { primary, line })
    }

    /// A connection to a database. Nothing is sent before its first statement.
    pub fn connect(&self, database: &str) -> DatabaseConnection {
        let number = self.0.as_ref().map_or(0, |asker| asker.numbers.fetch_add(1, Relaxed));
        DatabaseConnection {
            databases: self.clone(),
            database: database.to_owned(),
            number: AtomicU64::new(number),
            turn: tokio::sync::Mutex::new(()),
            seen: Mutex::default(),
            is_used: AtomicBool::new(false),
        }
    }
}

/// What is known of a connection from its last statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SeenState {
    in_transaction: bool,
    changes: u64,
    last_insert_rowid: i64,
}

/// A connection. Dropped, it is closed, and what it has not stored is rolled back.
pub struct DatabaseConnection {
    databases: Databases,
    database: String,
    /// Its number on the line; another one where nobody knows what became of a statement.
    number: AtomicU64,
    /// One statement at once.
    turn: tokio::sync::Mutex<()>,
    seen: Mutex<SeenState>,
    is_used: AtomicBool,
}

/// What came of a statement.
#[derive(Debug)]
pub struct DatabaseAnswer {
    /// CPU time that it has used, as far as that is known.
    pub cpu: Duration,
    /// What it gives back.
    pub outcome: Result<DatabaseRows, DatabaseError>,
    /// It failed, and its connection's transaction with it: nothing of that was stored.
    pub is_rolled_back: bool,
}

impl DatabaseAnswer {
    fn failed(error: DatabaseError) -> Self {
        Self { cpu: Duration::ZERO, outcome: Err(error), is_rolled_back: false }
    }
}

impl DatabaseConnection {
    /// What its database is called among all.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Rows that its last INSERT, UPDATE or DELETE changed.
    pub fn changes(&self) -> u64 {
        self.seen().changes
    }

    /// Of its last INSERT; 0: there was none.
    pub fn last_insert_rowid(&self) -> i64 {
        self.seen().last_insert_rowid
    }

    fn seen(&self) -> SeenState {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn see(&self, seen: SeenState) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// Does a statement, which may use so much CPU time. Statements of one connection are done one after another. Whoever stops
    /// waiting has the statement stopped, if it was not done by then. Needs a tokio runtime with time.
    pub async fn execute(&self, sql: String, parameters: Vec<DatabaseValue>, cpu: Duration) -> DatabaseAnswer {
        if let Err(error) = check(&sql, &parameters) {
            return DatabaseAnswer::failed(error);
        }
        let Some(asker) = &self.databases.0 else { return DatabaseAnswer::failed(DatabaseError::Unavailable) };
        let _turn = self.turn.lock().await;
        let Some(line) = asker.line().await else { return DatabaseAnswer::failed(DatabaseError::Unavailable) };
        let (number, before) = (asker.numbers.fetch_add(1, Relaxed), self.seen());
        let (sender, told) = oneshot::channel();
        let question = DatabaseQuestion::Execute {
            number,
            connection: self.number.load(Relaxed),
            database: self.database.clone(),
            sql,
            parameters,
            cpu_us: u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX),
            in_transaction: before.in_transaction,
        };
        self.is_used.store(true, Relaxed);
        match line.try_send(UnsentStatement { question, waits: Some((number, sender)) }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return DatabaseAnswer::failed(DatabaseError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => return DatabaseAnswer::failed(DatabaseError::Unavailable),
        }
        let mut waiting = AwaitedAnswer { line: &line, number: Some(number), connection: self, asker };
        let Ok(Ok(StatementOutcome { cpu_us, in_transaction, outcome })) = tokio::time::timeout(PATIENCE, told).await
        else {
            // (Of a transaction that was open, its next statement hears that it is over.)
            return DatabaseAnswer::failed(DatabaseError::Unknown);
        };
        waiting.number = None;
        let is_over = matches!(outcome, Err(DatabaseError::TransactionOver));
        let is_rolled_back = before.in_transaction && !in_transaction && outcome.is_err() && !is_over;
        let (changes, last_insert_rowid) = match &outcome {
            Ok(rows) => (rows.changes, rows.last_insert_rowid),
            Err(_) => (before.changes, before.last_insert_rowid),
        };
        self.see(SeenState { in_transaction, changes, last_insert_rowid });
        DatabaseAnswer { cpu: Duration::from_micros(cpu_us), outcome, is_rolled_back }
    }
}

impl Drop for DatabaseConnection {
    fn drop(&mut self) {
        let Some(asker) = self.databases.0.as_ref().filter(|_| self.is_used.load(Relaxed)) else { return };
        if let Some(line) = &*asker.line.borrow() {
            let (connection, database) = (self.number.load(Relaxed), std::mem::take(&mut self.database));
            let question = DatabaseQuestion::Close { connection, database };
            // Without room, it is closed when others need its place, and its transaction ends by its time.
            let _ = line.try_send(UnsentStatement { question, waits: None });
        }
    }
}

impl Asker {
    /// The line to the process of the databases; waits a little for it to be there.
    async fn line(&self) -> Option<mpsc::Sender<UnsentStatement>> {
        let mut lines = self.line.clone();
        let there = tokio::time::timeout(CONNECT_WITHIN, lines.wait_for(Option::is_some)).await;
        there.ok()?.ok()?.clone()
    }
}

/// Somebody waits for a statement. Dropped before it is told of, the statement is given up, and its connection closed: nobody
/// knows whether a transaction is open on it.
struct AwaitedAnswer<'a> {
    line: &'a mpsc::Sender<UnsentStatement>,
    number: Option<u64>,
    connection: &'a DatabaseConnection,
    asker: &'a Asker,
}

impl Drop for AwaitedAnswer<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let DatabaseConnection { number: connection, database, .. } = self.connection;
        let (database, next) = (database.clone(), self.asker.numbers.fetch_add(1, Relaxed));
        let close = DatabaseQuestion::Close { connection: connection.swap(next, Relaxed), database };
        for question in [DatabaseQuestion::GiveUp { number }, close] {
            // Without room, they end by their own bounds.
            let _ = self.line.try_send(UnsentStatement { question, waits: None });
        }
    }
}

/// What is out of all bounds does not fit into a message either.
fn check(sql: &str, parameters: &[DatabaseValue]) -> Result<(), DatabaseError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(DatabaseError::SqlTooLong { bytes: sql.len() });
    }
    if parameters.len() > PARAMETERS_MAX {
        return Err(DatabaseError::TooManyParameters { parameters: parameters.len() });
    }
    if parameters.iter().any(|value| value.bytes() > VALUE_BYTES_MAX) {
        return Err(DatabaseError::ValueTooLarge);
    }
    match parameters.iter().map(DatabaseValue::bytes).sum() {
        bytes if bytes > PARAMETERS_BYTES_MAX => Err(DatabaseError::ParametersTooLarge { bytes }),
        _ => Ok(()),
    }
}

/// Those who wait, by the numbers of their statements.
type AwaitedStatements = Mutex<HashMap<u64, oneshot::Sender<StatementOutcome>>>;

impl DatabaseLine {
    /// Moves messages until the primary is gone. Statements that were sent to a process of the databases that has ended are lost:
    /// who asked hears that nobody knows what became of them.
    ///
    /// # Errors
    /// When what comes is no message; what the system says.
    pub async fn run(self) -> io::Result<()> {
        let primary = Wire::new(self.primary)?;
        while let Some((ToAsker::Here, mut descriptors)) = primary.receive::<ToAsker>().await? {
            let (read, write) = UnixStream::from_std(descriptors.take(Descriptor::Databases)?.into())?.into_split();
            let (questions, unsent) = mpsc::channel(QUESTIONS_MAX);
            let asked = AwaitedStatements::default();
            self.line.send_replace(Some(questions));
            let ended = tokio::select! {
                ended = hear(read, &asked) => ended,
                ended = tell(write, unsent, &asked) => ended,
            };
            self.line.send_replace(None);
            match ended {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

async fn hear(mut read: OwnedReadHalf, asked: &AwaitedStatements) -> io::Result<()> {
    while let Some(DatabaseReply { number, told }) = message::read(&mut read).await? {
        let waits = asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let waits =
            waits.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer that nobody asked for"))?;
        // Nobody may wait any more.
        let _ = waits.send(told);
    }
    Ok(())
}

async fn tell(
    mut write: OwnedWriteHalf,
    mut unsent: mpsc::Receiver<UnsentStatement>,
    asked: &AwaitedStatements,
) -> io::Result<()> {
    while let Some(UnsentStatement { question, waits }) = unsent.recv().await {
        if let Some((number, sender)) = waits {
            if sender.is_closed() {
                continue;
            }
            asked.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        }
        message::write(&mut write, &question).await?;
    }
    Ok(())
}
