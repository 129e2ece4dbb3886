//! The bytes of one connection, as hyper reads and writes them. Notices what hyper does not report: when request headers begin
//! and how large they grow, and when the client does not read what is written.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::Guard;
use crate::net::Stream;

/// A head and a body that are no longer than this in sum are copied together: one slice is written in a quarter of a
/// microsecond less than two.
const GATHERED_MAX: usize = 1024;

/// What hyper reads and writes: the stream. Every movement is recorded in the connection's guard.
pub(super) struct Socket {
    guard: Rc<Guard>,
    /// Bytes of later messages that hyper has not got yet: at most what one read returned.
    ahead: Bytes,
}

impl Socket {
    pub(super) fn new(guard: Rc<Guard>) -> Self {
        Self { guard, ahead: Bytes::new() }
    }

    fn poll_writing(
        &self,
        context: &mut Context<'_>,
        write: impl Fn(&Stream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        wasmhost_base::inject::panic_at("write");
        let stream = &self.guard.stream;
        loop {
            if stream.poll_write_ready(context)?.is_pending() {
                self.guard.write_stalled();
                return Poll::Pending;
            }
            match write(stream) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                outcome => {
                    self.guard.write_moved(*outcome.as_ref().unwrap_or(&0));
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
        let Self { guard, ahead } = &mut *self;
        let allowed = guard.may_read()?;
        if !ahead.is_empty() {
            let room = ahead.len().min(allowed).min(buffer.remaining());
            let given = guard.did_read(&ahead[..room])?;
            buffer.put_slice(&ahead.split_to(given));
            return Poll::Ready(Ok(()));
        }
        let stream = &guard.stream;
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
                // The connection's task looks at that next.
                Ok(0) if guard.front_has_left() => return Poll::Pending,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && guard.front_has_left() => {
                    return Poll::Pending;
                }
                Ok(read) => {
                    if read > 0 && read < room {
                        stream.clear_read_ready();
                    }
                    if guard.tells_http2(&buffer.filled()[before..]) {
                        // The connection's task looks at that next.
                        return Poll::Pending;
                    }
                    let given = before + guard.did_read(&buffer.filled()[before..])?;
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

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.guard.stream.poll_flush(context);
        if flushed.is_pending() {
            self.guard.write_stalled();
        } else if self.guard.link.stalled.get().is_some() {
            self.guard.write_moved(0);
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.guard.stream.shut_down())
    }
}
