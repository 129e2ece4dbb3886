//! What can go wrong with a store, for whoever asks it and for whoever opens it.

use std::io;
use std::path::PathBuf;

/// Why a store did not do what it was asked. Unless it says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No such store was granted.
    #[error("there is no store \"{name}\"")]
    NoSuchStore {
        /// The name that was asked for.
        name: String,
    },
    /// A key is longer than the store allows.
    #[error("a key has {bytes} bytes; at most {max} are allowed")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// A value is larger than the store allows.
    #[error("a value has {bytes} bytes; at most {max} are allowed")]
    ValueTooLarge {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// An operation names too many keys.
    #[error("an operation names {keys} keys; at most {max} are allowed")]
    TooManyKeys {
        /// How many.
        keys: usize,
        /// The bound.
        max: usize,
    },
    /// An operation, or its reply, is too large.
    #[error("an operation or its reply has {bytes} bytes; at most {max} are allowed: name fewer keys")]
    TooLarge {
        /// How many bytes; of a reply, as many as were found until it was too large.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The store has as many keys as it may have.
    #[error("the store has {max} keys, as many as its quota allows")]
    KeysFull {
        /// The quota.
        max: u64,
    },
    /// The store has as many bytes as it may have.
    #[error("the store would have {bytes} bytes of keys and values; its quota allows {max}")]
    BytesFull {
        /// How many it would have.
        bytes: u64,
        /// The quota.
        max: u64,
    },
    /// The value that is to be incremented is no decimal number of 64 bits.
    #[error("the value is not a whole number of 64 bits in decimal digits")]
    NotANumber,
    /// The sum does not fit.
    #[error("the sum does not fit into 64 bits")]
    Overflow,
    /// Too much waits for the store already, or it did not begin in time. Nothing was changed: it may be asked again.
    #[error("the store is busy: nothing was changed")]
    Busy,
    /// The owner of the store is gone, or did not answer a question that changes nothing. Nothing was changed.
    #[error("the store does not answer: nothing was changed")]
    Unavailable,
    /// The answer was lost or did not come in time. The change may have been done or not: nobody here asks again.
    #[error("the answer of the store was lost: the change may have been done or not")]
    Unknown,
    /// The file is damaged. What is read may be wrong, so it is not given out.
    #[error("the file {file} is damaged: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused to read or write the file, such as for want of room.
    #[error("cannot use the file {file}: {reason}: nothing was changed")]
    Io {
        /// The file.
        file: String,
        /// What the system says.
        reason: String,
    },
    /// The server that keeps the store refused, such as a replica, a server without room, or one that wants another password.
    #[error("the server of the store refused: {reason}: nothing was changed")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The other side of a connection sent something that is no message.
    #[error("a message of the store is not valid")]
    Invalid,
}

/// Why stores cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A second process.
    #[error(
        "{} is in use by another process; hint: only one host can use a data directory: stop the other one, or give this one a \
         directory of its own", file.display()
    )]
    InUse {
        /// The file.
        file: PathBuf,
    },
    /// Written by another version of this program.
    #[error(
        "{} has format {found}; this version knows format {known}; hint: use the version of wasmhost that wrote it to export \
         its stores", file.display()
    )]
    Format {
        /// The file.
        file: PathBuf,
        /// What it says of itself.
        found: u64,
        /// What is known here.
        known: u64,
    },
    /// Not written by this program, or changed since.
    #[error("{} is damaged: {reason}; hint: restore it from a backup, or move it away to begin with empty stores", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused.
    #[error("cannot open {}: {source}; hint: it must be a file, in a directory that this user may write", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A name that no store may have.
    #[error("\"{name}\" cannot be the name of a store: it has {} bytes, of 1 to {max}", name.len())]
    Name {
        /// The name.
        name: String,
        /// The bound.
        max: usize,
    },
}
