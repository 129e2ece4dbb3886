//! Connections before a protocol speaks on them: where clients connect, who is let in, and how a connection reaches a worker.

mod accepted;
pub mod acceptor;
mod admission;
mod bind;
pub mod clients;
pub mod inbox;
pub(crate) mod last_answer;
pub mod listener;
mod peer;
#[allow(dead_code, reason = "the listeners are about to call it")]
mod proxy_header;
mod stream;

pub use self::peer::Peer;
pub(crate) use self::stream::Stream;
