//! The socket of a connection to a worker of a group, as hyper reads and writes it, and what it and the present request know of
//! each other. It bounds what a worker that was broken into can send in the place of a response.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// Largest head of a response, and its largest trailers: above what the sandbox lets guests have in fields.
pub(in crate::http) const HEAD_BYTES_MAX: usize = 512 * 1024;
/// What may come from the request's beginning until its head is seen here: informational responses go before it, and hyper
/// may have read of the body already.
const BEFORE_BODY_MAX: usize = HEAD_BYTES_MAX + 128 * 1024;
/// Informational responses to one request. A worker of this host sends one at most: `100 Continue`.
const INFORMATIONAL_MAX: u32 = 4;

/// What is read at once. hyper would take what it may hold of a head, and hold it while the client does not read.
const READ_MAX: usize = 16 * 1024;

/// What a request and its connection know of each other.
#[derive(Default)]
pub(super) struct LineState {
    /// What the client sends is not valid, and this side stops sending: the other finds an early end.
    pub(super) has_flaw: Cell<bool>,
    /// Nobody waits for it any more.
    pub(super) is_detached: Cell<bool>,
    /// How many bytes may come until the head of the response; none: it is not awaited.
    head_left: Cell<Option<usize>>,
    /// Informational responses before it. (hyper counts them where it may be on any thread.)
    informational: Arc<AtomicU32>,
}

impl LineState {
    /// A request is sent. Where its informational responses are to be counted.
    pub(super) fn request_begins(&self) -> Arc<AtomicU32> {
        self.head_left.set(Some(BEFORE_BODY_MAX));
        self.informational.store(0, Relaxed);
        Arc::clone(&self.informational)
    }

    /// The head of its response is here.
    pub(super) fn head_came(&self) {
        self.head_left.set(None);
    }

    /// Counts what was read.
    fn came(&self, bytes: usize) -> io::Result<()> {
        let Some(left) = self.head_left.get() else { return Ok(()) };
        let left = left.checked_sub(bytes).ok_or_else(|| io::Error::other("the head of a response has no end"))?;
        self.head_left.set(Some(left));
        Ok(())
    }

    fn check_informational(&self) -> io::Result<()> {
        if self.informational.load(Relaxed) > INFORMATIONAL_MAX {
            return Err(io::Error::other("informational responses have no end"));
        }
        Ok(())
    }
}

/// The socket.
pub(super) struct ForwardSocket {
    stream: UnixStream,
    state: Rc<LineState>,
    /// This side sends no more.
    is_half: bool,
}

impl ForwardSocket {
    pub(super) fn new(stream: UnixStream, state: Rc<LineState>) -> Self {
        Self { stream, state, is_half: false }
    }
}

impl AsyncRead for ForwardSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.state.check_informational()?;
        let max = buffer.remaining().min(READ_MAX);
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(max));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(self.state.came(read))
    }
}

impl AsyncWrite for ForwardSocket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper flushes when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if self.state.has_flaw.get() && self.state.is_detached.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.state.has_flaw.get() && !std::mem::replace(&mut self.is_half, true) {
            rustix::net::shutdown(&self.stream, rustix::net::Shutdown::Write)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt;

    /// What hyper makes of a worker that answers with this again and again, and nothing else.
    fn answered_with(endless: &'static [u8]) -> io::Result<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (ours, mut theirs) = UnixStream::pair()?;
            let state = Rc::<LineState>::default();
            let socket = TokioIo::new(ForwardSocket::new(ours, Rc::clone(&state)));
            let mut builder = hyper::client::conn::http1::Builder::new();
            builder.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
            let (mut sender, connection) = builder.handshake(socket).await.map_err(io::Error::other)?;
            tokio::task::spawn_local(connection);
            tokio::task::spawn_local(async move { while theirs.write_all(endless).await.is_ok() {} });
            let count = state.request_begins();
            let mut request = http::Request::new(http_body_util::Empty::<bytes::Bytes>::new());
            hyper::ext::on_informational(&mut request, move |_| {
                count.fetch_add(1, Relaxed);
            });
            let answer = tokio::time::timeout(std::time::Duration::from_secs(20), sender.send_request(request)).await?;
            Ok(match answer {
                Ok(response) => response.status().to_string(),
                Err(error) => std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(),
            })
        })
    }

    #[test]
    fn what_comes_in_the_place_of_a_response_has_an_end() -> io::Result<()> {
        assert_eq!(answered_with(b"HTTP/1.1 100 Continue\r\n\r\n")?, "informational responses have no end");
        assert_eq!(answered_with(b"HTTP/1.1 204 No Content\r\n\r\n")?, "204 No Content");
        Ok(())
    }

    #[test]
    fn little_is_read_at_once() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (ours, mut theirs) = UnixStream::pair()?;
            theirs.write_all(&[7; READ_MAX + 1]).await?;
            let mut socket = ForwardSocket::new(ours, Rc::default());
            let mut bytes = [0; 4 * READ_MAX];
            for expected in [READ_MAX, 1] {
                let read = tokio::io::AsyncReadExt::read(&mut socket, &mut bytes).await?;
                assert_eq!(read, expected);
                assert!(bytes[..read].iter().all(|byte| *byte == 7));
            }
            Ok(())
        })
    }

    #[test]
    fn a_head_has_an_end_and_a_body_needs_none() {
        let state = LineState::default();
        assert!(state.came(usize::MAX).is_ok(), "no request was sent");
        let _ = state.request_begins();
        assert!(state.came(BEFORE_BODY_MAX).is_ok());
        assert!(state.came(1).is_err());
        state.head_came();
        assert!(state.came(usize::MAX).is_ok());
    }
}
