//! The body of a response that is compressed on its way to the client. What the guest gives at once the client can read at
//! once. A body that breaks off has no end in its coding either.

use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use flate2::CompressError;
use http::response::Parts;
use http_body::Frame;
use rustix::time::{ClockId, clock_gettime};

use super::broken_off::BrokenOff;
use super::compress::Compression;
use super::exchange::Exchange;
use super::gzip::{GZIP_BYTES, Gzip};
use super::streaming::Streaming;
use crate::buffers::Held;

/// How much is compressed before others of the worker have their turn: work for a millisecond or two.
pub(super) const TURN_BYTES: usize = 64 * 1024;

/// What compresses a body as it comes.
pub(super) struct Encoder {
    gzip: Gzip,
    _held: Held,
}

/// hyper's end of a body that is compressed as the guest gives it.
pub(crate) struct Compressed {
    given: Streaming,
    exchange: Rc<Exchange>,
    /// None: the body has had its end.
    encoder: Option<Encoder>,
    /// What is not compressed yet of what the guest gave.
    rest: Bytes,
    trailers: Option<Frame<Bytes>>,
    /// What was compressed in this turn.
    done: usize,
}

impl Exchange {
    /// Settles whether a body is compressed that comes in pieces. One is not where so many are that there is no more room.
    pub(super) fn encoder(&self, compression: Compression, head: &mut Parts, bytes: Option<u64>) -> Option<Encoder> {
        let mut held = Held::none_of(self.room());
        let has_room = compression == Compression::Gzip && held.has_room(1);
        let compression =
            if compression == Compression::Gzip && !has_room { Compression::Refused } else { compression };
        compression.settle(head.status, &mut head.headers, bytes).then(|| {
            held.add(GZIP_BYTES);
            Encoder { gzip: Gzip::new(), _held: held }
        })
    }

    /// A body of [`TURN_BYTES`] at most as it is sent.
    pub(super) fn compressed(
        &self,
        compression: Compression,
        head: &mut Parts,
        bytes: Bytes,
    ) -> Result<Bytes, CompressError> {
        if !compression.settle(head.status, &mut head.headers, Some(bytes.len() as u64)) {
            return Ok(bytes);
        }
        self.measured(|| {
            let mut gzip = self.worker.gzip.borrow_mut();
            let gzip = gzip.get_or_insert_with(Gzip::new);
            gzip.reset();
            gzip.end(&bytes)
        })
    }

    /// Counts the CPU time of compressing.
    fn measured<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = thread_cpu();
        let done = work();
        let micros = thread_cpu().saturating_sub(began).as_micros();
        self.pool.metrics.compression_cpu_us.add(u64::try_from(micros).unwrap_or(u64::MAX));
        done
    }
}

fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

impl Compressed {
    pub(super) const fn new(given: Streaming, exchange: Rc<Exchange>, encoder: Encoder) -> Self {
        Self { given, exchange, encoder: Some(encoder), rest: Bytes::new(), trailers: None, done: 0 }
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.done >= TURN_BYTES {
            self.done = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        while self.rest.is_empty() {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            match ready!(self.given.next(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        return Poll::Ready(Some(self.end()));
                    }
                },
                None if self.encoder.is_none() => return Poll::Ready(None),
                None => return Poll::Ready(Some(self.end())),
                Some(Err(broken)) => return Poll::Ready(Some(Err(broken))),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(TURN_BYTES - self.done));
        self.done += piece.len();
        Poll::Ready(Some(self.piece(&piece)))
    }

    fn piece(&mut self, piece: &[u8]) -> Result<Frame<Bytes>, BrokenOff> {
        let Some(encoder) = &mut self.encoder else { return Err(BrokenOff("data behind the trailers")) };
        let made = self.exchange.measured(|| encoder.gzip.piece(piece));
        self.frame(made)
    }

    fn end(&mut self) -> Result<Frame<Bytes>, BrokenOff> {
        let Some(mut encoder) = self.encoder.take() else { return Err(BrokenOff("trailers behind the trailers")) };
        let made = self.exchange.measured(|| encoder.gzip.end(&[]));
        self.frame(made)
    }

    fn frame(&self, made: Result<Bytes, CompressError>) -> Result<Frame<Bytes>, BrokenOff> {
        let bytes = made.map_err(|_| BrokenOff("compression"))?;
        self.exchange.sent(bytes.len());
        Ok(Frame::data(bytes))
    }
}
