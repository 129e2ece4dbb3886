//! What is counted of guests' statements of databases, and where.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wasmhost_sqlite::{DatabaseAnswer, DatabaseError};

/// Why a database did not do what a guest asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseFailure {
    /// The guest was not granted the database, or the statement is not allowed to guests.
    Denied,
    /// SQLite refuses the statement: what it says is wrong, or a constraint.
    Statement,
    /// The statement, a value or the result is larger than allowed.
    TooLarge,
    /// The database has as much as it may have.
    Full,
    /// Another transaction has the database, or too much waits for it.
    Busy,
    /// The statement has used its CPU time, or the transaction was open for too long.
    Time,
    /// SQLite has no more memory.
    Memory,
    /// The process of the databases does not answer.
    Unavailable,
    /// The answer was lost: the statement was done or not.
    Unknown,
    /// The file is damaged, or the system refused to read or write it.
    File,
}

impl DatabaseFailure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 10] = [
        Self::Denied,
        Self::Statement,
        Self::TooLarge,
        Self::Full,
        Self::Busy,
        Self::Time,
        Self::Memory,
        Self::Unavailable,
        Self::Unknown,
        Self::File,
    ];

    /// The value of the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Statement => "statement",
            Self::TooLarge => "too-large",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::File => "file",
        }
    }

    /// What an error is counted as.
    pub(crate) fn of(error: &DatabaseError) -> Self {
        match error {
            DatabaseError::NoSuchDatabase { .. } | DatabaseError::Refused { .. } => Self::Denied,
            DatabaseError::Statement { .. } | DatabaseError::OtherParameters { .. } => Self::Statement,
            DatabaseError::SqlTooLong { .. }
            | DatabaseError::TooManyParameters { .. }
            | DatabaseError::ParametersTooLarge { .. }
            | DatabaseError::ValueTooLarge
            | DatabaseError::ResultTooLarge => Self::TooLarge,
            DatabaseError::Full { .. } => Self::Full,
            DatabaseError::Busy | DatabaseError::Outdated => Self::Busy,
            DatabaseError::Time { .. } | DatabaseError::GivenUp | DatabaseError::TransactionOver => Self::Time,
            DatabaseError::Memory => Self::Memory,
            DatabaseError::Unavailable => Self::Unavailable,
            DatabaseError::Unknown => Self::Unknown,
            DatabaseError::Damaged { .. } | DatabaseError::Io { .. } => Self::File,
        }
    }
}

/// Where the statements of an app on a worker are counted.
#[derive(Debug, Clone, Copy)]
pub struct DatabaseCounters {
    /// Statements.
    pub statements: &'static AtomicU64,
    /// Those that failed, and openings, in the order of [`DatabaseFailure::ALL`].
    pub failures: &'static [AtomicU64; DatabaseFailure::ALL.len()],
    /// For how many microseconds statements waited.
    pub waited_us: &'static AtomicU64,
    /// How many microseconds of CPU time they used.
    pub cpu_us: &'static AtomicU64,
}

impl DatabaseCounters {
    pub(crate) fn failed(self, failure: DatabaseFailure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
    }

    /// A statement has been answered, after this time.
    pub(crate) fn answered(self, answer: &DatabaseAnswer, waited: Duration) {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.statements.fetch_add(1, Relaxed);
        self.waited_us.fetch_add(micros(waited), Relaxed);
        self.cpu_us.fetch_add(micros(answer.cpu), Relaxed);
        if let Err(error) = &answer.outcome {
            self.failed(DatabaseFailure::of(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_in_the_order_of_their_names() {
        for (position, failure) in DatabaseFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, position);
        }
    }
}
