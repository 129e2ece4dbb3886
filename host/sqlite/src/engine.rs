//! A connection of SQLite to one database: opened so that it keeps what it has confirmed and does no more than guests may, and
//! statements within their bounds.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, ffi};
use rustix::time::{ClockId, clock_gettime};

use crate::bounds::{
    CACHE_KIB, HEAP_BYTES_MAX, INSTRUCTIONS_PER_LOOK, LOG_BYTES_MAX, LOG_KEPT_BYTES, PAGE_BYTES, PARAMETERS_MAX,
    RESULT_BYTES_MAX, RESULT_ROWS_MAX, SQL_BYTES_MAX, STATEMENT_TIME_MAX, TEMPORARY_BYTES_MAX, VALUE_BYTES_MAX,
    VALUE_OVERHEAD_BYTES,
};
use crate::error::DatabaseError;
use crate::policy;
use crate::value::{DatabaseRows, DatabaseValue};

/// What SQLite is not told to do in a loop that guests write: how deep, how many. Most are less than SQLite's own.
const LIMITS: [(Limit, usize); 14] = [
    (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES_MAX),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, SQL_BYTES_MAX),
    (Limit::SQLITE_LIMIT_COLUMN, 500),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_PARSER_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 100),
    (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 100),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    // LIKE compares each place of a text with the pattern.
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 256),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, PARAMETERS_MAX),
    (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 10),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    (Limit::SQLITE_LIMIT_SCHEMA, 2_000),
];

/// CPU time of this thread.
pub(crate) fn cpu_now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

/// A statement that is to be done.
pub(crate) struct Statement<'a> {
    /// Its text.
    pub(crate) sql: &'a str,
    /// The values of its parameters.
    pub(crate) parameters: &'a [DatabaseValue],
    /// The CPU time that it may use.
    pub(crate) cpu: Duration,
    /// Nobody waits for it any more.
    pub(crate) given_up: &'a Arc<AtomicBool>,
}

/// Why a statement was not done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// Another connection has the database; nothing was changed.
    Blocked,
    /// An error.
    Error(DatabaseError),
}

impl From<DatabaseError> for Stopped {
    fn from(error: DatabaseError) -> Self {
        Self::Error(error)
    }
}

/// What SQLite asks the policy, and what came of it.
#[derive(Default)]
struct AuthorizerGate {
    /// The host itself has a statement.
    is_host: AtomicBool,
    /// Something was made that is the connection's alone.
    is_kept: AtomicBool,
    /// What was refused of the present statement.
    refused: Mutex<Option<String>>,
}

/// A connection.
pub(crate) struct DatabaseEngine {
    sqlite: Connection,
    gate: Arc<AuthorizerGate>,
    file: String,
    bytes_max: u64,
}

impl DatabaseEngine {
    /// Opens a database, and makes it if it is not there. `file` has no link in it.
    ///
    /// # Errors
    /// `Damaged`, `Io`, `Memory`; blocked while another connection is being closed, which empties the log.
    pub(crate) fn open(file: &Path, bytes_max: u64) -> Result<Self, Stopped> {
        let name = file.display().to_string();
        // This user's alone, as are then the files that SQLite makes beside it. One that is there is not opened here: closing
        // it would end the locks that connections of this process have.
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(DatabaseError::Io { file: name, reason: error.to_string() }.into());
            }
            Ok(_) | Err(_) => {}
        }
        Self::opened(file, bytes_max).map_err(|error| {
            let known = failure(&error, &name, bytes_max);
            known.unwrap_or_else(|| DatabaseError::Io { file: name, reason: error.to_string() }.into())
        })
    }

    fn opened(file: &Path, bytes_max: u64) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_PRIVATE_CACHE;
        let mut sqlite = Connection::open_with_flags(file, flags)?;
        // Whoever waits for a transaction waits in our queue.
        sqlite.busy_timeout(Duration::ZERO)?;
        let pages_max = (bytes_max / PAGE_BYTES).clamp(1, u64::from(u32::MAX - 1));
        let temporary_pages = TEMPORARY_BYTES_MAX / PAGE_BYTES;
        sqlite.execute_batch(&format!(
            "PRAGMA hard_heap_limit = {HEAP_BYTES_MAX}; PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA temp_store = MEMORY; PRAGMA temp.max_page_count = {temporary_pages}; PRAGMA cache_size = -{CACHE_KIB}; PRAGMA max_page_count = {pages_max}; \
             PRAGMA journal_size_limit = {LOG_KEPT_BYTES}; PRAGMA cell_size_check = ON;"
        ))?;
        for (config, is_on) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false),
        ] {
            sqlite.set_db_config(config, is_on)?;
        }
        for (limit, most) in LIMITS {
            sqlite.set_limit(limit, i32::try_from(most).unwrap_or(i32::MAX))?;
        }
        let gate = Arc::new(AuthorizerGate::default());
        let asked = Arc::clone(&gate);
        sqlite.authorizer(Some(move |context: AuthContext<'_>| asked.ask(&context)))?;
        Ok(Self { sqlite, gate, file: file.display().to_string(), bytes_max })
    }

    /// Whether a transaction is open.
    pub(crate) fn is_in_transaction(&self) -> bool {
        !self.sqlite.is_autocommit()
    }

    /// Whether something of it would be lost if it were closed, such as a temporary table.
    pub(crate) fn keeps_something(&self) -> bool {
        self.is_in_transaction() || self.gate.is_kept.load(Relaxed)
    }

    /// Ends the transaction, and stores nothing of it.
    pub(crate) fn roll_back(&self) {
        if self.is_in_transaction() {
            self.for_host("ROLLBACK");
        }
    }

    /// Empties the write-ahead log, from which nobody may read.
    pub(crate) fn empty_log(&self) {
        self.for_host("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// Whether the write-ahead log is so long that it is to be emptied.
    pub(crate) fn has_long_log(&self) -> bool {
        std::fs::metadata(format!("{}-wal", self.file)).is_ok_and(|log| log.len() > LOG_BYTES_MAX)
    }

    /// Does a statement of the host.
    fn for_host(&self, sql: &str) {
        self.gate.is_host.store(true, Relaxed);
        if let Err(error) = self.sqlite.execute_batch(sql) {
            tracing::debug!(file = self.file, %error, "{sql} failed");
        }
        self.gate.is_host.store(false, Relaxed);
    }

    /// Does a statement of a guest.
    ///
    /// # Errors
    /// Why it was not done. Of a transaction that is open, SQLite may have ended all; [`Self::is_in_transaction`] says so.
    pub(crate) fn run(&mut self, statement: &Statement<'_>) -> Result<DatabaseRows, Stopped> {
        let (began, began_cpu, cpu, given_up) =
            (Instant::now(), cpu_now(), statement.cpu, Arc::clone(statement.given_up));
        let is_over = move || {
            given_up.load(Relaxed) || cpu_now().saturating_sub(began_cpu) > cpu || began.elapsed() > STATEMENT_TIME_MAX
        };
        let watched = self.sqlite.progress_handler(INSTRUCTIONS_PER_LOOK, Some(is_over));
        *self.gate.refused.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let outcome = match watched {
            Ok(()) => self.perform(statement),
            Err(error) => Err(self.stopped(&error, statement)),
        };
        let is_unwatched = self.sqlite.progress_handler(0, None::<fn() -> bool>);
        outcome.and_then(|rows| is_unwatched.map(|()| rows).map_err(|error| self.stopped(&error, statement)))
    }

    fn perform(&self, statement: &Statement<'_>) -> Result<DatabaseRows, Stopped> {
        let stopped = |error: rusqlite::Error| self.stopped(&error, statement);
        let mut prepared = self.sqlite.prepare(statement.sql).map_err(stopped)?;
        let (places, given) = (prepared.parameter_count(), statement.parameters.len());
        if places != given {
            return Err(DatabaseError::OtherParameters { places, given }.into());
        }
        for (index, value) in statement.parameters.iter().enumerate() {
            prepared.raw_bind_parameter(index + 1, BoundValue(value)).map_err(stopped)?;
        }
        // What it changes and gives back is done as a whole, or not at all: a result may be too large.
        let is_guarded = !prepared.readonly() && prepared.column_count() > 0;
        let was_in_transaction = self.is_in_transaction();
        if is_guarded {
            self.sqlite.execute_batch("SAVEPOINT wasmhost").map_err(stopped)?;
        }
        let read = read(&mut prepared).map_err(|error| match error {
            UnreadRows::TooLarge => DatabaseError::ResultTooLarge.into(),
            UnreadRows::Failed(error) => stopped(error),
        });
        drop(prepared);
        let release = |_: &_| if is_guarded { self.sqlite.execute_batch("RELEASE wasmhost") } else { Ok(()) };
        let kept = read.and_then(|read| release(&read).map(|()| read).map_err(stopped));
        if kept.is_err() && is_guarded {
            match was_in_transaction {
                // (Some errors end the whole transaction, and this with it.)
                true if self.is_in_transaction() => self.for_host("ROLLBACK TO wasmhost; RELEASE wasmhost"),
                true => {}
                false => self.roll_back(),
            }
        }
        let (columns, rows) = kept?;
        let (changes, last_insert_rowid) = (self.sqlite.changes(), self.sqlite.last_insert_rowid());
        Ok(DatabaseRows { columns, rows, changes, last_insert_rowid })
    }

    /// What an error of SQLite means.
    fn stopped(&self, error: &rusqlite::Error, statement: &Statement<'_>) -> Stopped {
        if let Some(what) = self.gate.refused.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return DatabaseError::Refused { what }.into();
        }
        if code_of(error) == Some((ErrorCode::OperationInterrupted, ffi::SQLITE_INTERRUPT)) {
            let is_given_up = statement.given_up.load(Relaxed);
            let error = if is_given_up { DatabaseError::GivenUp } else { DatabaseError::Time { cpu: statement.cpu } };
            return error.into();
        }
        let known = failure(error, &self.file, self.bytes_max);
        known.unwrap_or_else(|| DatabaseError::Statement { text: text_of(error) }.into())
    }
}

impl AuthorizerGate {
    fn ask(&self, context: &AuthContext<'_>) -> Authorization {
        if self.is_host.load(Relaxed) {
            return Authorization::Allow;
        }
        if let Some(what) = policy::refused(&context.action) {
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(what);
            return Authorization::Deny;
        }
        if policy::is_of_connection(&context.action) {
            self.is_kept.store(true, Relaxed);
        }
        Authorization::Allow
    }
}

/// A value as SQLite takes it.
struct BoundValue<'a>(&'a DatabaseValue);

impl ToSql for BoundValue<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            DatabaseValue::Integer(number) => ValueRef::Integer(*number),
            DatabaseValue::Real(number) => ValueRef::Real(*number),
            DatabaseValue::Text(text) => ValueRef::Text(text.as_bytes()),
            DatabaseValue::Blob(bytes) => ValueRef::Blob(bytes),
            DatabaseValue::Null => ValueRef::Null,
        }))
    }
}

/// Why rows were not read to their end.
enum UnreadRows {
    TooLarge,
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for UnreadRows {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// The names of a statement's columns, and its rows. (The names are those of its first step: SQLite prepares it anew then, if
/// somebody has changed a table meanwhile.)
fn read(prepared: &mut rusqlite::Statement<'_>) -> Result<(Vec<String>, Vec<Vec<DatabaseValue>>), UnreadRows> {
    let (mut all, mut bytes) = (Vec::new(), 0);
    let mut columns = None;
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next()? {
        let columns = match &mut columns {
            Some(columns) => columns,
            none => none.insert(names(row.as_ref(), &mut bytes)?),
        };
        let mut values = Vec::with_capacity(columns.len());
        for column in 0..columns.len() {
            let value = row.get_ref(column)?;
            bytes += VALUE_OVERHEAD_BYTES + length(value);
            if bytes > RESULT_BYTES_MAX {
                return Err(UnreadRows::TooLarge);
            }
            values.push(owned(value));
        }
        if all.len() == RESULT_ROWS_MAX {
            return Err(UnreadRows::TooLarge);
        }
        all.push(values);
    }
    drop(rows);
    let columns = match columns {
        Some(columns) => columns,
        None => names(prepared, &mut bytes)?,
    };
    Ok((columns, all))
}

/// The names of columns, which count as values do.
fn names(prepared: &rusqlite::Statement<'_>, bytes: &mut usize) -> Result<Vec<String>, UnreadRows> {
    let mut all = Vec::with_capacity(prepared.column_count());
    for column in 0..prepared.column_count() {
        let name = prepared.column_name(column)?;
        *bytes += VALUE_OVERHEAD_BYTES + name.len();
        if *bytes > RESULT_BYTES_MAX {
            return Err(UnreadRows::TooLarge);
        }
        all.push(name.to_owned());
    }
    Ok(all)
}

/// Bytes of a value.
fn length(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 0,
    }
}

fn owned(value: ValueRef<'_>) -> DatabaseValue {
    match value {
        ValueRef::Null => DatabaseValue::Null,
        ValueRef::Integer(number) => DatabaseValue::Integer(number),
        ValueRef::Real(number) => DatabaseValue::Real(number),
        // (SQLite does not check that a text is one.)
        ValueRef::Text(text) => DatabaseValue::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => DatabaseValue::Blob(bytes.to_vec()),
    }
}

/// The code of an error, and its extended one.
fn code_of(error: &rusqlite::Error) -> Option<(ErrorCode, i32)> {
    match error {
        rusqlite::Error::SqliteFailure(error, _) | rusqlite::Error::SqlInputError { error, .. } => {
            Some((error.code, error.extended_code))
        }
        _ => None,
    }
}

/// What SQLite says of a statement.
fn text_of(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) | rusqlite::Error::SqlInputError { msg: text, .. } => {
            text.clone()
        }
        rusqlite::Error::MultipleStatement => "more than one statement: send each by itself".to_owned(),
        rusqlite::Error::Empty => "there is no statement".to_owned(),
        other => other.to_string(),
    }
}

/// An error that is not about what the statement says.
fn failure(error: &rusqlite::Error, file: &str, bytes_max: u64) -> Option<Stopped> {
    let (code, extended) = code_of(error)?;
    let (file, reason) = (file.to_owned(), text_of(error));
    Some(match code {
        ErrorCode::DatabaseBusy if extended == ffi::SQLITE_BUSY_SNAPSHOT => DatabaseError::Outdated.into(),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Stopped::Blocked,
        ErrorCode::DiskFull => DatabaseError::Full { max: bytes_max }.into(),
        ErrorCode::TooBig => DatabaseError::ValueTooLarge.into(),
        ErrorCode::OutOfMemory => DatabaseError::Memory.into(),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => DatabaseError::Damaged { file, reason }.into(),
        ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::NoLargeFileSupport => DatabaseError::Io { file, reason }.into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_confirmed_is_on_the_disk_and_schemas_are_not_trusted() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let engine =
            DatabaseEngine::open(&folder.path().canonicalize()?.join("a.db"), 1 << 20).map_err(|_| "opened")?;
        engine.gate.is_host.store(true, Relaxed);
        let pragma = |name: &str| -> rusqlite::Result<String> {
            engine.sqlite.query_row(&format!("SELECT CAST({name} AS TEXT) FROM pragma_{name}"), [], |row| row.get(0))
        };
        for (name, value) in [
            ("journal_mode", "wal"),
            ("synchronous", "2"),
            ("trusted_schema", "0"),
            ("temp_store", "2"),
            ("max_page_count", "256"),
            ("foreign_keys", "1"),
        ] {
            assert_eq!(pragma(name)?, value, "{name}");
        }
        Ok(())
    }
}
