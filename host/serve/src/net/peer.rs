//! Who is at the other end of a connection.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client of the Unix socket.
    Unix,
    /// A worker of this host that takes clients' connections, and forwards requests for apps of groups.
    Front,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Front => f.write_str("another worker"),
        }
    }
}
