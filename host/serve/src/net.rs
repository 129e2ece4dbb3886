//! Connections before a protocol speaks on them: where clients connect, who is let in, and how a connection reaches a worker.

mod accepted;
pub mod acceptor;
mod admission;
mod bind;
pub mod clients;
pub mod first_request;
mod handed_over;
pub mod inbox;
pub(crate) mod introduced;
pub(crate) mod last_answer;
pub mod listener;
pub(crate) mod listeners;
mod peer;
mod proxy_header;
mod questions;
mod socket;
mod spoken;
mod stream;
pub(crate) mod tls;

pub(crate) use self::listeners::ListenerSetup;
pub use self::listeners::{ListenerId, ListenerRow, Listeners};
pub use self::peer::Peer;
pub(crate) use self::socket::ClientSocket;
pub(crate) use self::spoken::{TlsVersion, http_name, http_named};
pub(crate) use self::stream::Stream;
pub(crate) use self::tls::handshakes::Handshakes;
pub(crate) use self::tls::subject::{
    CERTIFICATE, CERTIFICATE_FIELDS_BYTES_MAX, ClientCertificate, SUBJECT, is_of_certificate,
};
