//! Connections before a protocol speaks on them: where clients connect, who is let in, and how a connection reaches a worker.

mod accepted;
mod bind;
pub mod clients;
pub mod inbox;
pub mod intake;
pub(crate) mod last_answer;
pub mod listener;
mod peer;
mod permits;
mod stream;

pub use self::peer::Peer;
pub(crate) use self::stream::Stream;
