//! Where clients connect: binding addresses, in the ways that `--listen` and `--balance` ask for, and sockets that a service
//! manager hands over.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::AddressFamily;
use rustix::net::sockopt::set_tcp_nodelay;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use wasmhost_base::socket_file::{SocketFile, remove_abandoned};
use wasmhost_config::{LOW_PORTS, Listen};

/// Connections that the kernel keeps for the host until it accepts them; the system's `somaxconn` may be lower.
pub const BACKLOG: i32 = 4_096;

/// Bytes that the kernel takes of a TCP connection beyond what its client has room for. Without this bound it takes
/// megabytes, and tells that there is room again when a third of them is gone: a client that reads slowly and steadily
/// would look like one that does not read. Half of this is what it has to read within `--body-idle-timeout`.
pub(super) const UNSENT_MAX_BYTES: u32 = 128 * 1024;

/// Why the host cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {reason}")]
pub struct BindError {
    /// As configured.
    pub address: String,
    /// What the system said.
    pub reason: String,
    /// A way out.
    pub hint: String,
}

/// Where a listener is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address, with the real port.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl Address {
    /// As it is told; `speaks_tls`: its clients do.
    pub fn shown(&self, speaks_tls: bool) -> String {
        match self {
            Self::Tcp(address) if speaks_tls => format!("https://{address}"),
            Self::Unix(path) if speaks_tls => format!("unix:{} (TLS)", path.display()),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A bound socket. A TCP one does not listen yet; the others do.
#[derive(Debug)]
pub enum Bound {
    /// By address.
    Tcp(TcpListener),
    /// By path. With its file, where this host has made it.
    Unix(UnixListener, Option<SocketFile>),
}

impl Bound {
    /// Binds `listen`.
    ///
    /// # Errors
    /// When the address is not available.
    pub fn new(listen: &Listen) -> Result<Self, BindError> {
        match listen {
            Listen::Tcp(address) => {
                bind_only(*address, false).map(Self::Tcp).map_err(|error| tcp_error(*address, &error))
            }
            Listen::Unix(path) => match bind_unix(path) {
                Ok((listener, file)) => Ok(Self::Unix(listener, Some(file))),
                Err(error) => Err(unix_error(path, &error)),
            },
            Listen::Inherited(_) => Err(BindError {
                address: "the inherited sockets".to_owned(),
                reason: "they are for clients".to_owned(),
                hint: "name an address".to_owned(),
            }),
        }
    }

    /// One that another process of this program has bound to `listen`. With its file, where that has made one.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn received(socket: OwnedFd, listen: &Listen, file: Option<SocketFile>) -> Result<Self, BindError> {
        match listen {
            Listen::Unix(path) => {
                let listener = UnixListener::from(socket);
                rustix::net::listen(&listener, BACKLOG).map_err(|error| unix_error(path, &error.into()))?;
                Ok(Self::Unix(listener, file))
            }
            Listen::Tcp(_) | Listen::Inherited(_) => {
                let listener = TcpListener::from(socket);
                set_up(&listener).map_err(|error| unwatched(&error))?;
                Ok(Self::Tcp(listener))
            }
        }
    }

    /// One that listens already, at which another host of this program has listened. `address`: as it is told.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn handed_over(socket: OwnedFd, file: Option<SocketFile>, address: &str) -> Result<Self, BindError> {
        let bound = match rustix::net::sockopt::socket_domain(&socket) {
            Ok(AddressFamily::UNIX) => {
                let listener = UnixListener::from(socket);
                listener.set_nonblocking(true).map(|()| Self::Unix(listener, file))
            }
            Ok(_) => {
                let listener = TcpListener::from(socket);
                set_up(&listener).map(|()| Self::Tcp(listener))
            }
            Err(error) => Err(error.into()),
        };
        bound.map_err(|error| BindError { address: address.to_owned(), ..unwatched(&error) })
    }

    /// The file that binding has made, which is to be removed when the host stops.
    pub fn file(&self) -> Option<&SocketFile> {
        match self {
            Self::Unix(_, file) => file.as_ref(),
            Self::Tcp(_) => None,
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl AsRawFd for Bound {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Binds a TCP address and listens; with `shared`, so that others of this process can bind it too (`SO_REUSEPORT`). Its connections
/// inherit `TCP_NODELAY` and `TCP_NOTSENT_LOWAT` (as Linux does it), which saves system calls for each.
///
/// # Errors
/// What the system says.
pub fn bind_tcp(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let listener = bind_only(address, shared)?;
    rustix::net::listen(&listener, BACKLOG)?;
    Ok(listener)
}

fn bind_only(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Binds the address once for each worker, all on one port. Nobody listens there yet.
///
/// # Errors
/// When the address is not available.
pub fn bind_for_each(address: SocketAddr, workers: u16) -> Result<(Vec<TcpListener>, Address), BindError> {
    let failed = |error: io::Error| tcp_error(address, &error);
    // Whoever holds the port already, even with SO_REUSEPORT and of the same user, would be given a share of our clients.
    drop(bind_tcp(address, false).map_err(failed)?);
    let first = bind_only(address, true).map_err(failed)?;
    let real = first.local_addr().map_err(failed)?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(bind_only(real, true).map_err(failed)?);
    }
    Ok((listeners, Address::Tcp(real)))
}

pub(super) fn unwatched(error: &io::Error) -> BindError {
    BindError { address: "the socket".to_owned(), reason: error.to_string(), hint: "check the address".to_owned() }
}

/// Begins to listen on what [`bind_for_each`] has bound.
///
/// # Errors
/// When another has begun to listen there meanwhile.
pub fn listen(listener: &TcpListener) -> Result<(), BindError> {
    // One that was handed over does already, with a backlog that is its maker's.
    if rustix::net::sockopt::socket_acceptconn(listener) == Ok(true) {
        return Ok(());
    }
    rustix::net::listen(listener, BACKLOG).map_err(|error| match listener.local_addr() {
        Ok(address) => tcp_error(address, &error.into()),
        Err(_) => unwatched(&error.into()),
    })
}

fn tcp_error(address: SocketAddr, error: &io::Error) -> BindError {
    let port = address.port();
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let both = if address.ip().is_unspecified() {
                "; `[::]` takes clients of IPv4, too, so name it alone"
            } else {
                ""
            };
            format!("stop the program that uses it, or choose another port; port 0 takes any free one{both}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{LOW_PORTS}; or choose a higher port than {port}")
        }
        io::ErrorKind::AddrNotAvailable if address.is_ipv6() => {
            "use an address of this machine; if it has no IPv6, use IPv4 (127.0.0.1, or 0.0.0.0 for all)".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "use an address of this machine, or 0.0.0.0 or [::] for all of them".to_owned()
        }
        _ if address.is_ipv6() => {
            "if this machine has no IPv6, use an IPv4 address (127.0.0.1, or 0.0.0.0 for all)".to_owned()
        }
        _ => "check the address".to_owned(),
    };
    BindError { address: address.to_string(), reason: error.to_string(), hint }
}

fn unix_error(path: &Path, error: &io::Error) -> BindError {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program listens there, or the file is not a socket: stop that program, or use another path"
        }
        io::ErrorKind::NotFound => "create the directory first",
        _ => "use a path of at most 107 bytes in a directory that this user can write to",
    };
    BindError { address: format!("unix:{}", path.display()), reason: error.to_string(), hint: hint.to_owned() }
}

/// Binds a Unix socket and listens (whoever finds the file may not take it for one that nobody listens on); a file left
/// by a program that no longer listens is replaced.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    remove_abandoned(path)?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile::at(path)?;
    // The standard library listens with a backlog of its own; listening again sets ours.
    let prepare = || {
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)
    };
    prepare().inspect_err(|_| file.remove())?;
    Ok((listener, file))
}

/// Sets what the connections of a socket that others have made inherit from it.
pub(super) fn set_up(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    set_tcp_nodelay(listener, true)?;
    SockRef::from(listener).set_tcp_notsent_lowat(UNSENT_MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_file_is_replaced_and_a_live_one_is_not() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path)?);
        let live = bind_unix(&path)?;
        assert!(bind_unix(&path).is_err());
        drop(live);
        Ok(())
    }
}
