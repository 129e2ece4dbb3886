//! Accepting connections, and what errors of it mean. Used by whoever accepts: the primary, each worker with
//! `--balance kernel`, and the admin page.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use wasmhost_base::backoff::Backoff;
use wasmhost_base::socket_file::SocketFile;

use super::accepted::Accepted;
use super::bind::unwatched;
use super::peer::Peer;

pub use super::bind::{Address, BACKLOG, BindError, Bound, bind_for_each, bind_tcp, listen};
pub use super::handed_over::{HandedOver, keep_handed_over};

/// A bound socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<Bound>,
    address: Address,
}

impl Listener {
    /// Begins to listen. Needs a tokio runtime.
    ///
    /// # Errors
    /// When another has begun to listen there meanwhile, or the event loop cannot watch the socket.
    pub fn new(bound: Bound) -> Result<Self, BindError> {
        if let Bound::Tcp(listener) = &bound {
            listen(listener)?;
        }
        Self::watch(bound).map_err(|error| unwatched(&error))
    }

    /// Takes over a socket that listens already, and does not block. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the event loop cannot watch it.
    pub fn from_tcp(listener: TcpListener) -> io::Result<Self> {
        Self::watch(Bound::Tcp(listener))
    }

    fn watch(bound: Bound) -> io::Result<Self> {
        let address = match &bound {
            Bound::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Bound::Unix(listener, _) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_path_buf);
                Address::Unix(path.unwrap_or_default())
            }
        };
        #[expect(unsafe_code, reason = "watching a descriptor: the registry must not outlive it")]
        // SAFETY: the descriptor is that of a listener which `Bound` owns and never gives away or replaces, so that it is
        // open and the same for as long as the registration lives.
        let socket = unsafe { AsyncFd::register(bound) }.map_err(io::Error::from)?;
        Ok(Self { socket, address })
    }

    /// Where clients reach it, with the real port.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its socket, once more, for another process.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.get_ref().as_fd().try_clone_to_owned()
    }

    /// The file that binding has made.
    pub fn file(&self) -> Option<&SocketFile> {
        self.socket.get_ref().file()
    }

    /// Waits until a connection may wait.
    ///
    /// # Errors
    /// When the event loop is at its end.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// Ready when a connection may wait. The task of the last poll is woken.
    ///
    /// # Errors
    /// When the event loop is at its end.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(context).map_ok(drop)
    }

    /// Whether a connection waits.
    pub fn has_waiting(&self) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut watched = [PollFd::new(&self.socket, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut watched, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// Accepts a connection that waits already.
    pub fn try_accept(&self) -> Option<io::Result<(Accepted, Peer)>> {
        match self.socket.try_io(Interest::READABLE, accept_now) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            outcome => Some(outcome),
        }
    }

    /// The same, by asking the kernel: the event loop may not have heard yet of a connection that waits.
    pub fn accept_at_once(&self) -> Option<io::Result<(Accepted, Peer)>> {
        match accept_now(self.socket.get_ref()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            outcome => Some(outcome),
        }
    }

    /// Accepts a connection.
    ///
    /// # Errors
    /// What the system says; see [`AcceptPause`].
    pub async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        loop {
            self.readable().await?;
            if let Some(outcome) = self.try_accept() {
                return outcome;
            }
        }
    }
}

fn accept_now(bound: &Bound) -> io::Result<(Accepted, Peer)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match bound {
        Bound::Tcp(listener) => {
            let (socket, peer): (OwnedFd, _) = acceptfrom_with(listener.as_fd(), flags)?;
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
            let peer = peer.ok_or(io::ErrorKind::ConnectionAborted)?;
            Ok((Accepted::Tcp(socket.into()), Peer::at(peer)))
        }
        Bound::Unix(listener, _) => {
            let socket = rustix::net::accept_with(listener.as_fd(), flags)?;
            Ok((Accepted::Unix(socket.into()), Peer::Unix))
        }
    }
}

/// Shortest and longest pause after an error that accepting again at once would only repeat.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));

/// What an error of accepting calls for: nothing, when it concerns one connection only (`ECONNABORTED` and the network
/// errors that accept(2) passes on), a pause when the process or machine is out of something (`EMFILE`, `ENFILE`,
/// `ENOBUFS`, `ENOMEM`): the connection stays in the backlog. None ends the process.
#[derive(Debug, Default)]
pub struct AcceptPause {
    failures: u32,
    until: Option<Instant>,
}

impl AcceptPause {
    /// A connection was accepted.
    pub fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!("accepting connections again");
        }
        *self = Self::default();
    }

    /// Accepting failed.
    pub fn failed(&mut self, error: &io::Error) {
        if !is_shortage(error) {
            tracing::debug!(%error, "a connection was gone before it was accepted");
            return;
        }
        if self.failures == 0 {
            tracing::error!(%error, "no connection can be accepted for now; they wait in the backlog (raise the limit on file descriptors, or lower --max-connections)");
        }
        self.until = Some(Instant::now() + PAUSES.delay(self.failures, 0.0));
        self.failures = self.failures.saturating_add(1);
    }

    /// Waits until accepting may be tried again.
    pub async fn over(&self) {
        if let Some(until) = self.until() {
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Until when accepting is paused.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until.filter(|until| Instant::now() < *until)
    }
}

/// The name of an error of accepting, for counting.
pub fn accept_error_name(error: &io::Error) -> &'static str {
    use rustix::io::Errno;
    let names = [
        (Errno::MFILE, "EMFILE"),
        (Errno::NFILE, "ENFILE"),
        (Errno::NOBUFS, "ENOBUFS"),
        (Errno::NOMEM, "ENOMEM"),
        (Errno::CONNABORTED, "ECONNABORTED"),
    ];
    let code = error.raw_os_error();
    names.into_iter().find(|(errno, _)| code == Some(errno.raw_os_error())).map_or("other", |(_, name)| name)
}

fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.iter().any(|errno| errno.raw_os_error() == code))
}

#[cfg(test)]
mod tests {
    use super::*;

    use socket2::SockRef;

    use crate::net::bind::UNSENT_MAX_BYTES;

    #[test]
    fn connections_do_not_delay_small_writes_and_queue_few_bytes() -> io::Result<()> {
        let listener = bind_tcp(([127, 0, 0, 1], 0).into(), false)?;
        let _client = std::net::TcpStream::connect(listener.local_addr()?)?;
        listener.set_nonblocking(false)?;
        let (accepted, _) = accept_now(&Bound::Tcp(listener))?;
        let Accepted::Tcp(stream) = accepted else { return Err(io::Error::other("not a TCP connection")) };
        assert!(stream.nodelay()?);
        assert_eq!(SockRef::from(&stream).tcp_notsent_lowat()?, UNSENT_MAX_BYTES);
        Ok(())
    }

    #[test]
    fn only_shortages_pause_accepting() {
        let mut pause = AcceptPause::default();
        pause.failed(&io::ErrorKind::ConnectionAborted.into());
        assert!(pause.until().is_none());
        pause.failed(&rustix::io::Errno::MFILE.into());
        assert!(pause.until().is_some());
        pause.succeeded();
        assert!(pause.until().is_none());
    }
}
