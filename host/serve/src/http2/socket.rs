//! The bytes of one connection, as hyper reads and writes them. Every movement is recorded in the connection's guard, which may
//! write a frame of its own between two of hyper's.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::FrameGuard;
use crate::net::Stream;

/// What hyper reads and writes: the stream.
pub(super) struct FrameSocket {
    guard: Rc<FrameGuard>,
    /// What came before it was known that the connection speaks HTTP/2.
    ahead: Bytes,
}

impl FrameSocket {
    pub(super) fn new(guard: Rc<FrameGuard>, ahead: Bytes) -> Self {
        Self { guard, ahead }
    }

    fn poll_writing(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        wasmhost_base::inject::panic_at("write");
        let stream = &self.guard.stream;
        loop {
            ready!(stream.poll_write_ready(context))?;
            let outcome = match self.guard.write_own() {
                Ok(true) => write(stream),
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }
}

impl AsyncRead for FrameSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        wasmhost_base::inject::panic_at("read");
        let Self { guard, ahead } = &mut *self;
        let before = buffer.filled().len();
        if !ahead.is_empty() {
            buffer.put_slice(&ahead.split_to(ahead.len().min(buffer.remaining())));
            return Poll::Ready(guard.did_read(&buffer.filled()[before..]));
        }
        if !guard.may_read() {
            // After the sockets, and others of this worker.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            ready!(guard.stream.poll_read_ready(context))?;
            let room = buffer.remaining();
            match guard.stream.try_read(buffer) {
                Ok(read) => {
                    if read > 0 && read < room {
                        guard.stream.clear_read_ready();
                    }
                    return Poll::Ready(guard.did_read(&buffer.filled()[before..]));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    guard.client_ended();
                    return Poll::Ready(Err(error));
                }
            }
        }
    }
}

impl AsyncWrite for FrameSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.guard.within_frame(true);
        self.poll_writing(context, |stream| stream.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.guard.within_frame(true);
        self.poll_writing(context, |stream| stream.try_write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// hyper has written all of its frames.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard.within_frame(false);
        self.guard.stream.poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.guard.stream.shut_down())
    }
}
