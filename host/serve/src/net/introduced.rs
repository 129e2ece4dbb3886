//! Connections that a balancer introduces: it says in a PROXY header, before anything else, who the client is. Only
//! balancers that the operator trusts may.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use ipnet::IpNet;
use tokio::io::ReadBuf;

use super::peer::Peer;
use super::proxy_header::{PROXY_HEADER_BYTES_MAX, ProxyHeader, read};
use super::socket::ClientSocket;

/// Whether somebody at the other end may say who a client is. (Who can reach a Unix socket's file was let in by its mode.)
pub(crate) fn may_introduce(peer: Peer, trusted: &[IpNet]) -> bool {
    match peer {
        Peer::Tcp(address) => trusted.iter().any(|network| network.contains(&address.ip())),
        Peer::Unix => true,
        Peer::Front | Peer::Schedule | Peer::App => false,
    }
}

/// Reads the header, and nothing behind it. The client that it names; none: the balancer speaks for itself, or does not know
/// the client. May be dropped at any moment; the connection is of no use then.
///
/// # Errors
/// When there is none, or it is not valid; what the system says.
pub(crate) async fn client_of(socket: &ClientSocket) -> io::Result<Option<SocketAddr>> {
    // In a box: it is needed for a moment of few connections.
    let mut bytes = vec![0; PROXY_HEADER_BYTES_MAX];
    let mut seen = 0;
    loop {
        poll_fn(|context| socket.poll_read_ready(context)).await?;
        // What stands behind it is for whoever speaks next.
        let come = match socket.peek(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            outcome => outcome?,
        };
        match read(&bytes[..come]) {
            ProxyHeader::Complete { bytes_used, client } => {
                let mut rest = &mut bytes[..bytes_used];
                while !rest.is_empty() {
                    let taken = socket.try_read(&mut ReadBuf::new(rest))?;
                    rest = &mut rest[taken..];
                }
                return Ok(client);
            }
            ProxyHeader::Invalid(reason) => return Err(io::Error::new(io::ErrorKind::InvalidData, reason)),
            // As much as there can be has come.
            ProxyHeader::Incomplete if come == bytes.len() => return Err(io::ErrorKind::InvalidData.into()),
            // (The client's end is seen as a read that brings nothing new.)
            ProxyHeader::Incomplete if come > 0 && come == seen && socket.has_ended() => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            ProxyHeader::Incomplete => {
                seen = come;
                // The event loop tells when more comes.
                socket.clear_read_ready();
            }
        }
    }
}
