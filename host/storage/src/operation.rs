//! What can be asked of a store, and what it answers: plain data, the same for every backend. Pure. Which sizes are allowed is
//! decided here, before an operation goes anywhere.

use crate::error::StoreError;

/// Longest key of any store, in bytes; a store's quota may allow less.
pub const KEY_BYTES_MAX: usize = 1_024;
/// Longest value of any store, in bytes; a store's quota may allow less.
pub const VALUE_BYTES_MAX: usize = 4 << 20;
/// Most keys that one operation may name.
pub const KEYS_PER_OPERATION_MAX: usize = 1_000;
/// Most bytes of keys and values in one operation, or in its reply.
pub const OPERATION_BYTES_MAX: usize = 8 << 20;
/// Most keys of a page of [`Operation::List`].
pub const PAGE_KEYS_MAX: usize = 1_000;
/// Longest name of a store, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// What one store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreQuota {
    /// Longest key, in bytes; at most [`KEY_BYTES_MAX`] counts.
    pub key_bytes_max: usize,
    /// Longest value, in bytes; at most [`VALUE_BYTES_MAX`] counts.
    pub value_bytes_max: usize,
    /// Most keys.
    pub keys_max: u64,
    /// Most bytes of all keys and values together. What the file needs beside them does not count.
    pub bytes_max: u64,
    /// For how many milliseconds a number is kept that an increment begins; none: until it is deleted.
    pub ttl_ms: Option<u64>,
}

impl StoreQuota {
    /// What all stores are bound to.
    pub const LOOSEST: Self = Self {
        key_bytes_max: KEY_BYTES_MAX,
        value_bytes_max: VALUE_BYTES_MAX,
        keys_max: u64::MAX,
        bytes_max: u64::MAX,
        ttl_ms: None,
    };
}

/// What one store holds. Entries that have expired count until the sweep removes them, which a write that would be refused
/// waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreUsage {
    /// Keys.
    pub keys: u64,
    /// Bytes of all keys and values together.
    pub bytes: u64,
}

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The value.
    pub value: Vec<u8>,
    /// Which writing of this key it is. Each writing in a store has a larger number than all before it, so that a key that was
    /// deleted and set again has another version.
    pub version: u64,
    /// When it expires, in milliseconds since 1970; none: never.
    pub expires_at: Option<u64>,
}

/// What becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// It has this value, whatever it had before.
    Set {
        /// The key.
        key: String,
        /// Its value.
        value: Vec<u8>,
        /// For how many milliseconds it has it; none: until it is changed. An earlier expiry is forgotten.
        ttl_ms: Option<u64>,
    },
    /// It is not there any more.
    Delete {
        /// The key.
        key: String,
    },
}

impl Edit {
    /// The key that is changed.
    pub fn key(&self) -> &str {
        match self {
            Self::Set { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// What is asked of one store. Each is done as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The values of these keys, as they were at one moment, in this order.
    Get {
        /// At most [`KEYS_PER_OPERATION_MAX`].
        keys: Vec<String>,
    },
    /// Whether this key has a value.
    Exists {
        /// The key.
        key: String,
    },
    /// A page of the keys, in the order of their bytes. Who lists page by page gets each key once that was there all the time.
    List {
        /// Only keys that begin so.
        prefix: String,
        /// Only keys behind this one: where the last page ended.
        after: Option<String>,
        /// How many keys at most; at most [`PAGE_KEYS_MAX`] count. A page may have fewer, even none, and yet not be the last.
        limit: usize,
    },
    /// How much the store holds.
    Usage,
    /// Changes these keys. Of several edits of one key the last counts.
    Write {
        /// At most [`KEYS_PER_OPERATION_MAX`].
        edits: Vec<Edit>,
    },
    /// Adds to a number, which is stored as decimal text; a key without a value is 0. The expiry of the key stays.
    Increment {
        /// The key.
        key: String,
        /// What is added.
        by: i64,
    },
    /// Does an edit, if the key still has this version.
    Swap {
        /// The version that was read; none: the key had no value.
        expected: Option<u64>,
        /// What becomes of the key.
        edit: Edit,
    },
}

/// A page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The keys, in the order of their bytes.
    pub keys: Vec<String>,
    /// Where the next page begins (`after`); none: this was the last page.
    pub next: Option<String>,
}

/// What a store answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Of [`Operation::Get`]: a value for each key that has one.
    Values(Vec<Option<Stored>>),
    /// Of [`Operation::Exists`].
    Exists(bool),
    /// Of [`Operation::List`].
    Page(Listing),
    /// Of [`Operation::Usage`].
    Usage(StoreUsage),
    /// Of [`Operation::Write`]: it is done, and survives a crash.
    Written,
    /// Of [`Operation::Increment`]: the new number, which survives a crash.
    Number(i64),
    /// Of [`Operation::Swap`]: whether the key had the expected version; if so, the edit is done, and survives a crash.
    Swapped(bool),
}

impl Reply {
    /// How many bytes of keys and values it has.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Values(values) => values.iter().flatten().map(|stored| stored.value.len()).sum(),
            Self::Page(page) => page.keys.iter().map(String::len).sum(),
            Self::Exists(_) | Self::Usage(_) | Self::Written | Self::Number(_) | Self::Swapped(_) => 0,
        }
    }
}

impl Operation {
    /// Whether it changes the store, so that it matters whether it was done when its answer is lost.
    pub fn changes(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Increment { .. } | Self::Swap { .. })
    }

    /// How many bytes of keys and values it has.
    pub fn bytes(&self) -> usize {
        let of_edit = |edit: &Edit| match edit {
            Edit::Set { key, value, .. } => key.len().saturating_add(value.len()),
            Edit::Delete { key } => key.len(),
        };
        match self {
            Self::Get { keys } => keys.iter().map(String::len).sum(),
            Self::Exists { key } | Self::Increment { key, .. } => key.len(),
            Self::List { prefix, after, .. } => prefix.len().saturating_add(after.as_ref().map_or(0, String::len)),
            Self::Usage => 0,
            Self::Write { edits } => edits.iter().map(of_edit).fold(0, usize::saturating_add),
            Self::Swap { edit, .. } => of_edit(edit),
        }
    }

    /// How many bytes of keys and values its answer may have.
    pub(crate) fn answer_bytes_max(&self, quota: &StoreQuota) -> usize {
        let most = match self {
            Self::Get { keys } => keys.len().saturating_mul(quota.value_bytes_max.min(VALUE_BYTES_MAX)),
            Self::List { limit, .. } => {
                (*limit).min(PAGE_KEYS_MAX).saturating_mul(quota.key_bytes_max.min(KEY_BYTES_MAX))
            }
            _ => 0,
        };
        most.min(OPERATION_BYTES_MAX)
    }

    /// Whether it keeps to the bounds of all stores and to those of this one that concern single keys and values.
    ///
    /// # Errors
    /// `KeyTooLong`, `ValueTooLarge`, `TooManyKeys`, `TooLarge`.
    pub fn check(&self, quota: &StoreQuota) -> Result<(), StoreError> {
        let check_key = |key: &String| {
            let max = quota.key_bytes_max.min(KEY_BYTES_MAX);
            if key.len() > max { Err(StoreError::KeyTooLong { bytes: key.len(), max }) } else { Ok(()) }
        };
        let check_edit = |edit: &Edit| match edit {
            Edit::Set { key, value, .. } => {
                check_key(key)?;
                let max = quota.value_bytes_max.min(VALUE_BYTES_MAX);
                if value.len() > max {
                    return Err(StoreError::ValueTooLarge { bytes: value.len(), max });
                }
                Ok(())
            }
            Edit::Delete { key } => check_key(key),
        };
        let named = match self {
            Self::Get { keys } => keys.len(),
            Self::Write { edits } => edits.len(),
            _ => 1,
        };
        if named > KEYS_PER_OPERATION_MAX {
            return Err(StoreError::TooManyKeys { keys: named, max: KEYS_PER_OPERATION_MAX });
        }
        match self {
            Self::Get { keys } => keys.iter().try_for_each(check_key)?,
            Self::Exists { key } | Self::Increment { key, .. } => check_key(key)?,
            Self::List { prefix, after, .. } => {
                check_key(prefix)?;
                after.iter().try_for_each(check_key)?;
            }
            Self::Usage => {}
            Self::Write { edits } => edits.iter().try_for_each(check_edit)?,
            Self::Swap { edit, .. } => check_edit(edit)?,
        }
        let bytes = self.bytes();
        if bytes > OPERATION_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes, max: OPERATION_BYTES_MAX });
        }
        Ok(())
    }
}
