//! Who is at the other end of a connection.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// A TCP client; [`Self::at`] makes one.
    Tcp(SocketAddr),
    /// A client of the Unix socket.
    Unix,
    /// A worker of this host that takes clients' connections, and forwards requests for apps of groups; or the primary, with
    /// a schedule's request. It says whose the request is.
    Front,
    /// The host itself: a schedule is due.
    Schedule,
    /// An app of this host, which calls another.
    App,
}

impl Peer {
    /// The client at this address. A socket of IPv6 that takes clients of IPv4, too, shows their addresses in the form of
    /// IPv6 (RFC 4291, section 2.5.5.2): they count as what they are, for logs, limits and guests.
    pub fn at(address: SocketAddr) -> Self {
        Self::Tcp(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Front => f.write_str("another worker"),
            Self::Schedule => f.write_str("schedule"),
            Self::App => f.write_str("app"),
        }
    }
}
