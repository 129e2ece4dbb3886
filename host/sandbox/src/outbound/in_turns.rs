//! A connection that gives others their turn. hyper decodes a response byte by byte where there is no more than the size of a chunk,
//! for as long as bytes come: an upstream that is fast enough would have all of a worker's time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read in a turn: hyper takes about a millisecond for as many sizes of chunks.
const TURN_BYTES: usize = 32 << 10;

/// Reads in turns.
pub(super) struct InTurns<S> {
    socket: S,
    /// Bytes of this turn.
    read: usize,
}

impl<S> InTurns<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, read: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InTurns<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read >= TURN_BYTES {
            self.read = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = into.remaining().min(TURN_BYTES - self.read);
        let mut some = ReadBuf::new(into.initialize_unfilled_to(most));
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut some))?;
        let read = some.filled().len();
        into.advance(read);
        self.read += read;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InTurns<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn others_have_their_turn_however_much_there_is_to_read() -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        runtime.block_on(async {
            let (mut ours, theirs) = tokio::io::duplex(4 * TURN_BYTES);
            ours.write_all(&vec![b'0'; 4 * TURN_BYTES]).await?;
            drop(ours);
            let mut reader = InTurns::new(theirs);
            let (mut read, mut bytes) = (0, vec![0; 2 * TURN_BYTES]);
            let mut turns = Vec::new();
            std::future::poll_fn(|context| {
                loop {
                    let mut into = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut reader).poll_read(context, &mut into) {
                        Poll::Pending => {
                            turns.push(read);
                            return Poll::Pending;
                        }
                        Poll::Ready(Ok(())) if into.filled().is_empty() => return Poll::Ready(()),
                        Poll::Ready(_) => read += into.filled().len(),
                    }
                }
            })
            .await;
            assert_eq!((read, turns), (4 * TURN_BYTES, (1..=4).map(|turn| turn * TURN_BYTES).collect::<Vec<_>>()));
            assert_eq!(reader.read(&mut bytes).await?, 0);
            Ok(())
        })
    }
}
