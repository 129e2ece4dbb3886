//! What is counted of guests' calls of stores, and where.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wasmhost_storage::{Edit, Operation, StoreError};

/// What a guest asked of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreCall {
    /// Values.
    Get,
    /// Whether a key is there.
    Exists,
    /// A page of keys.
    List,
    /// To set keys.
    Set,
    /// To delete keys.
    Delete,
    /// To add to a number.
    Increment,
    /// To set a key that nobody else has changed.
    Swap,
}

impl StoreCall {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 7] =
        [Self::Get, Self::Exists, Self::List, Self::Set, Self::Delete, Self::Increment, Self::Swap];

    /// The value of the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Exists => "exists",
            Self::List => "list",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Increment => "increment",
            Self::Swap => "swap",
        }
    }

    /// Of an operation.
    pub(crate) fn of(operation: &Operation) -> Self {
        match operation {
            Operation::Get { .. } | Operation::Usage => Self::Get,
            Operation::Exists { .. } => Self::Exists,
            Operation::List { .. } => Self::List,
            Operation::Write { edits } if matches!(edits.first(), Some(Edit::Delete { .. })) => Self::Delete,
            Operation::Write { .. } => Self::Set,
            Operation::Increment { .. } => Self::Increment,
            Operation::Swap { .. } => Self::Swap,
        }
    }
}

/// Why a store did not do what a guest asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFailure {
    /// The guest was not granted the store.
    Denied,
    /// A key, a value or a batch is larger than allowed, or no number where one is needed.
    Invalid,
    /// The store has as much as its quota allows.
    Full,
    /// Too much waits for the stores, or the app has its part of what may wait.
    Busy,
    /// Whoever has the stores does not answer, or refuses.
    Unavailable,
    /// The answer to a change was lost: it was made or not.
    Unknown,
    /// The file is damaged, or the system refused to read or write it.
    File,
}

impl StoreFailure {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 7] =
        [Self::Denied, Self::Invalid, Self::Full, Self::Busy, Self::Unavailable, Self::Unknown, Self::File];

    /// The value of the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Full => "full",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Unknown => "unknown",
            Self::File => "file",
        }
    }

    /// What an error is counted as.
    pub(crate) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::NoSuchStore { .. } => Self::Denied,
            StoreError::KeyTooLong { .. }
            | StoreError::ValueTooLarge { .. }
            | StoreError::TooManyKeys { .. }
            | StoreError::TooLarge { .. }
            | StoreError::NotANumber
            | StoreError::Overflow => Self::Invalid,
            StoreError::KeysFull { .. } | StoreError::BytesFull { .. } => Self::Full,
            StoreError::Busy => Self::Busy,
            StoreError::Unavailable | StoreError::Refused { .. } | StoreError::Invalid => Self::Unavailable,
            StoreError::Unknown => Self::Unknown,
            StoreError::Damaged { .. } | StoreError::Io { .. } => Self::File,
        }
    }
}

/// Where the calls of an app on a worker are counted.
#[derive(Debug, Clone, Copy)]
pub struct StoreCounters {
    /// Calls, in the order of [`StoreCall::ALL`].
    pub calls: &'static [AtomicU64; StoreCall::ALL.len()],
    /// Those that failed, in the order of [`StoreFailure::ALL`].
    pub failures: &'static [AtomicU64; StoreFailure::ALL.len()],
    /// For how many microseconds calls waited.
    pub waited_us: &'static AtomicU64,
}

impl StoreCounters {
    pub(crate) fn called(self, call: StoreCall) {
        self.calls[call as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(self, failure: StoreFailure) {
        self.failures[failure as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn waited(self, time: Duration) {
        self.waited_us.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_stand_in_the_order_of_their_names() {
        for (position, call) in StoreCall::ALL.into_iter().enumerate() {
            assert_eq!(call as usize, position);
        }
        for (position, failure) in StoreFailure::ALL.into_iter().enumerate() {
            assert_eq!(failure as usize, position);
        }
    }
}
