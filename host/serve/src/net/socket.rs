//! A client's socket on a worker's event loop: readiness, what can be read and written at once, and its ends.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::accepted::Accepted;

/// An accepted socket, registered with this worker's event loop.
pub(crate) enum ClientSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl ClientSocket {
    /// Registers a socket with the event loop of this thread.
    ///
    /// # Errors
    /// What the system says; the socket is closed then.
    pub(crate) fn new(socket: Accepted) -> io::Result<Self> {
        match socket {
            Accepted::Tcp(stream) => TcpStream::from_std(stream).map(Self::Tcp),
            Accepted::Unix(stream) => UnixStream::from_std(stream).map(Self::Unix),
        }
    }

    /// Takes it from the event loop.
    ///
    /// # Errors
    /// What the system says; the socket is closed then.
    pub(crate) fn into_accepted(self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(stream) => stream.into_std().map(Accepted::Tcp),
            Self::Unix(stream) => stream.into_std().map(Accepted::Unix),
        }
    }

    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context),
            Self::Unix(stream) => stream.poll_write_ready(context),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Notes that there is nothing more to read: a read that did not fill its buffer has emptied the socket, so that
    /// the next would only learn `EAGAIN`. Safe on a current-thread runtime, where no event can arrive in between.
    pub(crate) fn clear_read_ready(&self) {
        let nothing = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        let _ = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
        };
    }

    /// What waits to be read, without taking it.
    pub(crate) fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let flags = rustix::net::RecvFlags::PEEK;
        let peeked = match self {
            Self::Tcp(stream) => rustix::net::recv(stream, bytes, flags),
            Self::Unix(stream) => rustix::net::recv(stream, bytes, flags),
        };
        Ok(peeked?.1)
    }

    /// Whether the client has closed its side. Asks the kernel.
    pub(crate) fn has_ended(&self) -> bool {
        let mut asked = match self {
            Self::Tcp(stream) => [rustix::event::PollFd::new(stream, rustix::event::PollFlags::RDHUP)],
            Self::Unix(stream) => [rustix::event::PollFd::new(stream, rustix::event::PollFlags::RDHUP)],
        };
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = rustix::event::poll(&mut asked, Some(&at_once));
        polled.is_ok() && asked.iter().any(|asked| asked.revents().contains(rustix::event::PollFlags::RDHUP))
    }

    /// Writes what the socket accepts at once.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Whether bytes of the client wait to be read. Asks the kernel, since the event loop may not have heard of them yet.
    pub(crate) fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
        };
        peeked.is_ok_and(|bytes| bytes > 0)
    }

    /// Ends the sending side.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        let outcome = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
        };
        outcome.map_err(io::Error::from)
    }

    /// Ends both sides: the client sees the end though the socket is not closed yet. Best effort.
    pub(crate) fn cut(&self) {
        let outcome = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Both),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Both),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection that was lost in a panic had ended");
        }
    }

    /// Makes the connection end with a reset (TCP only; a Unix socket has none).
    pub(crate) fn reset_at_close(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Whether the other side has closed both directions (Unix only). Asks the kernel, since the event loop may not have
    /// heard of it yet.
    pub(crate) fn has_hung_up(&self) -> bool {
        let Self::Unix(stream) = self else { return false };
        let mut asked = [rustix::event::PollFd::new(stream, rustix::event::PollFlags::empty())];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let polled = rustix::event::poll(&mut asked, Some(&at_once));
        polled.is_ok() && asked.iter().any(|asked| asked.revents().contains(rustix::event::PollFlags::HUP))
    }

    /// Waits until the connection is broken (TCP: reset; Unix: closed in both directions), which an end of the client's
    /// sending is not.
    pub(crate) async fn broken(&self) {
        let outcome = match self {
            Self::Tcp(stream) => stream.ready(Interest::ERROR).await.map(drop),
            Self::Unix(stream) => hung_up(stream).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection cannot be watched for its end");
            std::future::pending::<()>().await;
        }
    }

    /// Waits until the client has ended its sending. (TCP only: of a Unix socket, [`Self::broken`] tells whether that was all.)
    pub(crate) async fn sending_ended(&self) {
        match self {
            // Urgent bytes do not end this wait: nobody has asked to be told of them.
            Self::Tcp(stream) if stream.ready(Interest::PRIORITY).await.is_ok() => {}
            Self::Tcp(_) | Self::Unix(_) => std::future::pending().await,
        }
    }

    /// Reads and throws away what the client still sends, until its end; a socket that is closed with unread bytes
    /// resets the connection, and the client may lose the answer.
    pub(crate) async fn discard(&self) {
        let mut scratch = [0_u8; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let ready = std::future::poll_fn(|context| self.poll_read_ready(context)).await;
            match ready.and_then(|()| self.try_read(&mut buffer)) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

/// Waits until the peer has closed both directions.
async fn hung_up(stream: &UnixStream) -> io::Result<()> {
    // Of what ends this wait, urgent bytes do not exist here; an end of the peer's sending does, and comes first.
    stream.ready(Interest::PRIORITY).await?;
    // What the stream itself tells of writing is for the one who writes; a second registration is told of the end.
    let watched = UnixStream::from_std(stream.as_fd().try_clone_to_owned()?.into())?;
    while !watched.ready(Interest::WRITABLE).await?.is_write_closed() {
        let seen = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        let _ = watched.try_io(Interest::WRITABLE, seen);
    }
    Ok(())
}
