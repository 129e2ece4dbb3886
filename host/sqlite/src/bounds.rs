//! What is bounded, and by how much. Each bound is tested, and `docs/SQLITE.md` has the table.

use std::time::Duration;

/// Longest statement, in bytes of its text.
pub const SQL_BYTES_MAX: usize = 100 << 10;
/// Parameters of one statement.
pub const PARAMETERS_MAX: usize = 1_000;
/// Bytes of all parameters of one statement.
pub const PARAMETERS_BYTES_MAX: usize = 4 << 20;
/// Largest value, and largest row of a table, in bytes. Some functions of SQLite compare two values in the square of their
/// lengths, and cannot be interrupted meanwhile: with larger values a statement could compute for minutes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// Rows of one result.
pub const RESULT_ROWS_MAX: usize = 50_000;
/// Bytes of one result, where each value counts 16 beyond its length.
pub const RESULT_BYTES_MAX: usize = 4 << 20;
/// What a value takes beyond its length.
pub(crate) const VALUE_OVERHEAD_BYTES: usize = 16;
/// CPU time of one statement; what is left of its request's may be less.
pub const STATEMENT_CPU_MAX: Duration = Duration::from_secs(10);
/// Wall clock of one statement.
pub const STATEMENT_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a transaction may be open, from the statement that begins it. Then it is rolled back.
pub const TRANSACTION_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a statement waits for another connection's transaction.
pub const BUSY_WAIT_MAX: Duration = Duration::from_secs(5);
/// Connections that one instance has open at once.
pub const CONNECTIONS_OF_INSTANCE_MAX: usize = 8;

/// Connections of SQLite that are open to one database. Those of guests may be more: one that is in no transaction and has no
/// temporary tables is closed, and opened again with its next statement.
pub(crate) const CONNECTIONS_OF_DATABASE_MAX: usize = 16;
/// Databases that are open at once, each in a thread.
pub(crate) const DATABASES_OPEN_MAX: usize = 256;
/// Statements and closings that wait for one database.
pub(crate) const QUEUE_MAX: usize = 256;
/// Statements of one process that are with the databases at once; more are refused.
pub(crate) const ASKED_MAX: usize = 1_024;
/// How many bytes of a statement are in its place. What is larger needs room beside it, so that small ones, which may end what
/// others wait for, find a place when large ones wait.
pub(crate) const PLACE_BYTES: usize = 64 << 10;
/// That room: bytes of the statements of one process that are with the databases at once; more are refused.
pub(crate) const ROOM_BYTES_MAX: usize = 64 << 20;
/// Answers that wait to be written to one process.
pub(crate) const REPLIES_MAX: usize = 4;
/// Statements that wait in a process that asks; more are refused.
pub(crate) const QUESTIONS_MAX: usize = 256;
/// How long a process that asks waits for an answer: longer than all that the other side waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// How long a process that asks waits for the process of the databases to be there.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// A statement that computes for longer cannot be interrupted, and its process ends with it.
pub(crate) const HUNG_AFTER: Duration = Duration::from_secs(120);
/// How long a database stays open that nobody asks.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(5);
/// How long until a statement that waits for a transaction is tried again, if no transaction ended before.
pub(crate) const TRY_AGAIN: Duration = Duration::from_millis(20);
/// Memory of SQLite in the whole process: pages, sorting, temporary tables. A statement that needs more gets an error.
pub(crate) const HEAP_BYTES_MAX: u64 = 256 << 20;
/// Temporary tables of one connection, which are in that memory.
pub(crate) const TEMPORARY_BYTES_MAX: u64 = 4 << 20;
/// Pages that one connection keeps in memory.
pub(crate) const CACHE_KIB: u64 = 1_024;
/// Bytes of a page.
pub(crate) const PAGE_BYTES: u64 = 4_096;
/// Size of a write-ahead log from which on it is emptied although somebody still reads from it: that transaction ends.
pub(crate) const LOG_BYTES_MAX: u64 = 64 << 20;
/// What the file of a write-ahead log keeps when it was emptied.
pub(crate) const LOG_KEPT_BYTES: u64 = 4 << 20;
/// Virtual instructions between two looks at the clock.
pub(crate) const INSTRUCTIONS_PER_LOOK: i32 = 2_000;

/// Longest message.
pub(crate) const MESSAGE_BYTES_MAX: usize =
    SQL_BYTES_MAX + PARAMETERS_BYTES_MAX + PARAMETERS_MAX * VALUE_OVERHEAD_BYTES + RESULT_BYTES_MAX + (64 << 10);
