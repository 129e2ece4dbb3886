//! Why a statement was not done.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bounds::{
    BUSY_WAIT_MAX, PARAMETERS_BYTES_MAX, PARAMETERS_MAX, RESULT_BYTES_MAX, RESULT_ROWS_MAX, SQL_BYTES_MAX,
    TEMPORARY_BYTES_MAX, TRANSACTION_TIME_MAX, VALUE_BYTES_MAX,
};

/// Why a statement was not done. Unless it says otherwise, the statement has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DatabaseError {
    /// No such database was granted.
    #[error("there is no database \"{name}\"")]
    NoSuchDatabase {
        /// The name that was asked for.
        name: String,
    },
    /// The statement's text is too long.
    #[error("the statement has {bytes} bytes; at most {SQL_BYTES_MAX} are allowed")]
    SqlTooLong {
        /// Its length.
        bytes: usize,
    },
    /// There are too many parameters.
    #[error("the statement has {parameters} parameters; at most {PARAMETERS_MAX} are allowed")]
    TooManyParameters {
        /// How many.
        parameters: usize,
    },
    /// There are more or fewer parameters than the statement has places for.
    #[error("the statement has places for {places} parameters, and was given {given}")]
    OtherParameters {
        /// Places in the statement.
        places: usize,
        /// Parameters.
        given: usize,
    },
    /// The parameters are too large together.
    #[error("the parameters have {bytes} bytes; at most {PARAMETERS_BYTES_MAX} are allowed")]
    ParametersTooLarge {
        /// How many.
        bytes: usize,
    },
    /// A value or a row would be too large.
    #[error("a value or a row has more than {VALUE_BYTES_MAX} bytes, the most that are allowed")]
    ValueTooLarge,
    /// The result is too large.
    #[error(
        "the result has more than {RESULT_ROWS_MAX} rows or {RESULT_BYTES_MAX} bytes, the most that are allowed: ask for less, such as with LIMIT"
    )]
    ResultTooLarge,
    /// The database has as much as it may have, or the disk is full.
    #[error(
        "the database is full: it may have {max} bytes, and temporary tables {TEMPORARY_BYTES_MAX} for each connection"
    )]
    Full {
        /// Its quota, in bytes.
        max: u64,
    },
    /// The statement has computed for as long as it may.
    #[error("the statement was ended: it had used {} ms of CPU time, all that it may", .cpu.as_millis())]
    Time {
        /// What it may.
        cpu: Duration,
    },
    /// Nobody waits for it any more.
    #[error("the statement was given up")]
    GivenUp,
    /// SQLite may do this, and guests may not.
    #[error("not allowed: {what}")]
    Refused {
        /// What was refused.
        what: String,
    },
    /// SQLite refuses the statement.
    #[error("{text}")]
    Statement {
        /// What it says.
        text: String,
    },
    /// Another connection has the database, or too much waits for it.
    #[error("the database is busy: another transaction has been writing for {} s, or too many statements wait", BUSY_WAIT_MAX.as_secs())]
    Busy,
    /// Another connection has written since this transaction has read.
    #[error(
        "the database was changed since this transaction began to read: roll it back, and begin it with BEGIN IMMEDIATE"
    )]
    Outdated,
    /// The connection's transaction is not there any more.
    #[error(
        "the transaction is over: it was open for longer than {} s, a statement of it was given up, or the process that has the database was started again; unless its COMMIT was sent, nothing of it was stored",
        TRANSACTION_TIME_MAX.as_secs()
    )]
    TransactionOver,
    /// SQLite has no more memory.
    #[error("the statement needs more memory than there is for all databases of the host")]
    Memory,
    /// Whoever has the databases does not answer.
    #[error("the database does not answer: nothing was changed")]
    Unavailable,
    /// The answer was lost.
    #[error("the answer of the database was lost: the statement may have been done or not")]
    Unknown,
    /// The file is damaged.
    #[error("the file {file} is damaged: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What SQLite says.
        reason: String,
    },
    /// The system refused to read or write the file.
    #[error("cannot use the file {file}: {reason}")]
    Io {
        /// The file.
        file: String,
        /// What SQLite says.
        reason: String,
    },
}
