//! The bytes of one connection, as hyper reads and writes them. Notices what hyper does not report: when request headers begin
//! and how large they grow, and when the client does not read what is written.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

pub(super) mod framing;

use super::conn::Connection;

/// An accepted socket, registered with this worker's event loop.
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(context),
            Self::Unix(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(context),
            Self::Unix(stream) => stream.poll_write_ready(context),
        }
    }

    fn try_read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read_buf(buffer),
            Self::Unix(stream) => stream.try_read_buf(buffer),
        }
    }

    /// Notes that there is nothing more to read: a read that did not fill its buffer has emptied the socket, so that
    /// the next would only learn `EAGAIN`. Safe on a current-thread runtime, where no event can arrive in between.
    fn clear_read_ready(&self) {
        let nothing = || -> io::Result<()> { Err(io::ErrorKind::WouldBlock.into()) };
        let _ = match self {
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, nothing),
            Self::Unix(stream) => stream.try_io(Interest::READABLE, nothing),
        };
    }

    /// Writes what the socket accepts at once.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write(bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Unix(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Whether bytes of the client wait to be read. Asks the kernel, since the event loop may not have heard of them yet.
    pub(super) fn has_unread(&self) -> bool {
        let mut byte = [std::mem::MaybeUninit::uninit()];
        let peeked = match self {
            Self::Tcp(stream) => socket2::SockRef::from(stream).peek(&mut byte),
            Self::Unix(stream) => socket2::SockRef::from(stream).peek(&mut byte),
        };
        peeked.is_ok_and(|bytes| bytes > 0)
    }

    /// Ends the sending side.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        let outcome = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Write),
        };
        outcome.map_err(io::Error::from)
    }

    /// Ends both sides: the client sees the end though the socket is not closed yet. Best effort.
    pub(super) fn cut(&self) {
        let outcome = match self {
            Self::Tcp(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Both),
            Self::Unix(stream) => rustix::net::shutdown(stream, rustix::net::Shutdown::Both),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection that was lost in a panic had ended");
        }
    }

    /// Makes the connection end with a reset (TCP only; a Unix socket has none).
    pub(super) fn reset_at_close(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => Ok(rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?),
            Self::Unix(_) => Ok(()),
        }
    }

    /// Waits until the connection is broken (TCP: reset; Unix: closed in both directions), which an end of the client's
    /// sending is not.
    pub(super) async fn broken(&self) {
        let outcome = match self {
            Self::Tcp(stream) => stream.ready(Interest::ERROR).await.map(drop),
            Self::Unix(stream) => hung_up(stream).await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection cannot be watched for its end");
            std::future::pending::<()>().await;
        }
    }

    /// Reads and throws away what the client still sends, until its end; a socket that is closed with unread bytes
    /// resets the connection, and the client may lose the answer.
    pub(super) async fn discard(&self) {
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

/// A head and a body that are no longer than this in sum are copied together: one slice is written in a quarter of a
/// microsecond less than two.
const GATHERED_MAX: usize = 1024;

/// What hyper reads and writes: the stream. Every movement is recorded in the connection's state.
pub(super) struct Socket {
    connection: Rc<Connection>,
    /// Bytes of later messages that hyper has not got yet: at most what one read returned.
    ahead: Bytes,
}

impl Socket {
    pub(super) fn new(connection: Rc<Connection>) -> Self {
        Self { connection, ahead: Bytes::new() }
    }

    fn poll_writing(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        wasmhost_base::inject::panic_at("write");
        let stream = &self.connection.stream;
        loop {
            if stream.poll_write_ready(context)?.is_pending() {
                self.connection.write_stalled();
                return Poll::Pending;
            }
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.connection.write_moved(*outcome.as_ref().unwrap_or(&0));
                    return Poll::Ready(outcome);
                }
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        wasmhost_base::inject::panic_at("read");
        let Self { connection, ahead } = &mut *self;
        let allowed = connection.may_read()?;
        if !ahead.is_empty() {
            let room = ahead.len().min(allowed).min(buffer.remaining());
            let given = connection.did_read(&ahead[..room])?;
            buffer.put_slice(&ahead.split_to(given));
            return Poll::Ready(Ok(()));
        }
        let stream = &connection.stream;
        loop {
            ready!(stream.poll_read_ready(context))?;
            let before = buffer.filled().len();
            let (outcome, room) = if buffer.remaining() <= allowed {
                let room = buffer.remaining();
                (stream.try_read(buffer), room)
            } else {
                let mut part = ReadBuf::new(buffer.initialize_unfilled_to(allowed));
                let outcome = stream.try_read(&mut part);
                let read = part.filled().len();
                buffer.advance(read);
                (outcome, allowed)
            };
            match outcome {
                Ok(read) => {
                    if read > 0 && read < room {
                        stream.clear_read_ready();
                    }
                    let given = before + connection.did_read(&buffer.filled()[before..])?;
                    if given < buffer.filled().len() {
                        *ahead = Bytes::copy_from_slice(&buffer.filled()[given..]);
                        buffer.set_filled(given);
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        if slices.len() == 1 || total > GATHERED_MAX {
            return self.poll_writing(context, |stream| stream.try_write_vectored(slices));
        }
        let mut gathered = [0_u8; GATHERED_MAX];
        let mut end = 0;
        for slice in slices {
            gathered[end..end + slice.len()].copy_from_slice(slice);
            end += slice.len();
        }
        self.poll_writing(context, |stream| stream.try_write(&gathered[..end]))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.connection.stream.shut_down())
    }
}
