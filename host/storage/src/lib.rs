//! State that outlives requests: stores of keys and values, each with a name and a quota. Guests are unknown here; a capability
//! of `sandbox` will adapt what is here for them.
//!
//! Every backend is a [`KeyValue`]: [`Embedded`] keeps stores in a file of this process, [`Remote`] asks the process that has
//! them, which [`serve`]s them over a [line](LineEnd) or a socket, and [`Redis`] asks a server that several machines share.
//! `docs/STORAGE.md` says what is promised, and what was measured.

mod asked;
mod backend;
mod codec;
pub mod command_socket;
mod committer;
mod embedded;
mod engine;
mod error;
mod file;
mod line;
mod operation;
mod owned;
mod read;
mod record;
mod redis;
mod remote;
mod room;
mod serve;
mod stores;
mod write;

#[cfg(test)]
mod tests;

pub use self::redis::{Redis, RedisLine, RedisOptions, RedisOptionsError, RedisPassword};
pub use backend::KeyValue;
pub use committer::WallClock;
pub use embedded::{Closing, Embedded, StoreOptions, system_clock};
pub use error::{OpenError, StoreError};
pub use file::{FILE_NAME, StoreFile};
pub use line::LineEnd;
pub use operation::{
    Edit, KEY_BYTES_MAX, KEYS_PER_OPERATION_MAX, Listing, NAME_BYTES_MAX, OPERATION_BYTES_MAX, Operation,
    PAGE_KEYS_MAX, Reply, StoreQuota, StoreUsage, Stored, VALUE_BYTES_MAX,
};
pub use owned::OwnedStores;
pub use remote::{Remote, RemoteLine};
pub use serve::serve;
pub use stores::Stores;
