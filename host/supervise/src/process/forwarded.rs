//! Checks sockets that workers send to the primary for workers of groups. A process that was broken into can send any
//! descriptor, and the primary, which closes it where nobody takes it, must not be held up by that.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::io::ioctl_fionbio;
use rustix::net::sockopt::{set_socket_linger, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The socket, if it is one of a pair as workers make them; whoever uses it does not wait for it.
///
/// # Errors
/// When it is another, or none.
pub(super) fn checked(socket: OwnedFd) -> io::Result<UnixStream> {
    let is_of_a_pair = socket_domain(&socket).and_then(|domain| Ok((domain, socket_type(&socket)?)));
    // The end of one of another kind may wait (SO_LINGER of TCP): not here, if it can be helped.
    let _ = set_socket_linger(&socket, None);
    if is_of_a_pair? != (AddressFamily::UNIX, SocketType::STREAM) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket that is no stream within this machine"));
    }
    ioctl_fionbio(&socket, true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    #[test]
    fn a_socket_of_a_pair_is_taken_and_does_not_wait() -> io::Result<()> {
        let (one, _other) = UnixStream::pair()?;
        let read = checked(one.into())?.read(&mut [0]);
        assert_eq!(read.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        Ok(())
    }

    #[test]
    fn what_is_no_socket_of_a_pair_is_refused() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let tcp = TcpStream::connect(listener.local_addr()?)?;
        set_socket_linger(&tcp, Some(Duration::from_secs(600)))?;
        let file = std::fs::File::open("/dev/null")?;
        let datagrams = UnixDatagram::unbound()?;
        for other in [tcp.into(), listener.into(), file.into(), datagrams.into()] {
            assert!(checked(other).is_err());
        }
        Ok(())
    }
}
