//! The contract of the two fault guests: what each path asks for, and all that `std` alone can answer.
//!
//! `rust-faults` (wasi 0.2) and `rust-faults-p3` (0.3) both read a request's path with [`Verb::parse`] and do
//! what it says; they differ only in how they speak HTTP. Nothing here knows a version of wasi. The verbs are
//! described in `guest/README.md`.

mod fault;
mod plain;
mod query;
mod realloc;
mod reply;
mod text;
mod url;
mod verb;

pub use fault::Fault;
pub use plain::Plain;
pub use query::BadParameter;
pub use realloc::loop_in_realloc;
pub use reply::{Headers, Reply};
pub use text::{RequestHead, body_size, chunk, hex, tally};
pub use url::Url;
pub use verb::Verb;

/// What a verb that faults after the head has written by then: 12 bytes.
pub const HALF: &[u8] = b"half of the ";

/// How long such a verb waits before the fault, so that head and half body are on the wire: 20 ms.
pub const ON_THE_WIRE_NS: u64 = 20_000_000;

/// Longer than any host's patience: 10^15 ns, eleven days.
pub const FOR_EVER_NS: u64 = 1_000_000_000_000_000;
