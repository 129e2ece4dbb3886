//! The way of a response's body from a guest of WASI 0.2 to the one who sends it: the chunks that the guest has written and
//! nobody has taken yet, and how the body ends. Nothing here waits unless there is no room, or nothing to take.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;

use crate::limits::BODY_CHUNK_BYTES_MAX;

/// Makes a body; `promised` is what its `Content-Length` says, in bytes.
pub(super) fn pipe(promised: Option<u64>) -> (BodyWriter, BodyReader) {
    let pipe = Arc::new(BodyPipe(Mutex::new(PipeState { promised, ..PipeState::default() })));
    (BodyWriter(Arc::clone(&pipe)), BodyReader(pipe))
}

struct BodyPipe(Mutex<PipeState>);

#[derive(Default)]
struct PipeState {
    /// What waits for the reader, the oldest first: two chunks of [`BODY_CHUNK_BYTES_MAX`] at most.
    first: Option<Bytes>,
    second: Option<Bytes>,
    promised: Option<u64>,
    written: u64,
    stream: StreamHandle,
    end: Option<BodyEnd>,
    reader_left: bool,
    /// Who waits for a chunk or the end.
    reader: Option<Waker>,
    /// Who waits for room.
    writer: Option<Waker>,
}

/// The guest's handle for writing.
#[derive(Default, PartialEq, Eq)]
enum StreamHandle {
    #[default]
    NotTaken,
    Open,
    Dropped,
}

enum BodyEnd {
    Whole,
    Trailers(HeaderMap),
    /// The guest has not finished it.
    BrokenOff,
}

impl BodyPipe {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PipeState {
    /// Whether `second` is taken. It is never taken without `first`.
    fn is_full(&self) -> bool {
        self.second.is_some()
    }

    /// Whether a guest that wants to write need not wait: there is room, or nobody reads.
    fn has_answer(&self) -> bool {
        self.reader_left || !self.is_full()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn store(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

/// The guest's `outgoing-body`. Dropped without [`BodyWriter::finish`], it breaks the body off.
pub(super) struct BodyWriter(Arc<BodyPipe>);

impl BodyWriter {
    /// The stream that the body is written to, once.
    pub(super) fn stream(&self) -> Option<BodyStream> {
        let mut state = self.0.lock();
        if state.stream != StreamHandle::NotTaken {
            return None;
        }
        state.stream = StreamHandle::Open;
        Some(BodyStream(Arc::clone(&self.0)))
    }

    /// Whether the guest still has the stream, and so may not end the body.
    pub(super) fn has_open_stream(&self) -> bool {
        self.0.lock().stream == StreamHandle::Open
    }

    /// Ends the body.
    ///
    /// # Errors
    /// It is not as long as `Content-Length` says, and is broken off.
    pub(super) fn finish(self, trailers: Option<HeaderMap>) -> Result<(), ErrorCode> {
        let mut state = self.0.lock();
        if state.promised.is_some_and(|promised| promised != state.written) {
            return Err(ErrorCode::HttpResponseBodySize(Some(state.written)));
        }
        state.end = Some(trailers.map_or(BodyEnd::Whole, BodyEnd::Trailers));
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        Ok(())
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.end.is_none() {
            state.end = Some(BodyEnd::BrokenOff);
            let reader = state.reader.take();
            drop(state);
            wake(reader);
        }
    }
}

/// The `output-stream` of an `outgoing-body`. A write is done when the chunk lies here: a guest waits only for room, so one
/// whose client is slow waits after two chunks.
pub(super) struct BodyStream(Arc<BodyPipe>);

impl BodyStream {
    /// Waits for room, or until nobody reads.
    fn poll_room(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock();
        if state.has_answer() {
            return Poll::Ready(());
        }
        store(&mut state.writer, context);
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.0.lock().has_answer()
    }

    async fn write_all(&mut self, mut bytes: Bytes) -> StreamResult<()> {
        loop {
            poll_fn(|context| self.poll_room(context)).await;
            self.write(bytes.split_to(bytes.len().min(BODY_CHUNK_BYTES_MAX)))?;
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }
}

/// What a function of a stream that may wait returns. (In the signatures below, as `async_trait` makes them, so that what
/// need not wait takes no memory: a box of nothing does not.)
type StreamFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// It is done already.
struct DoneAlready;

impl Future for DoneAlready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// It has succeeded already.
struct WrittenAlready;

impl Future for WrittenAlready {
    type Output = StreamResult<()>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<StreamResult<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Pollable for BodyStream {
    fn ready<'a, 'b>(&'a mut self) -> StreamFuture<'b, ()>
    where
        'a: 'b,
        Self: 'b,
    {
        if self.has_room() { Box::pin(DoneAlready) } else { Box::pin(poll_fn(|context| self.poll_room(context))) }
    }
}

impl OutputStream for BodyStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let length = bytes.len();
        if length > BODY_CHUNK_BYTES_MAX {
            return Err(StreamError::trap("write exceeded budget"));
        }
        let mut state = self.0.lock();
        if state.reader_left {
            return Err(StreamError::Closed);
        }
        if length == 0 {
            return Ok(());
        }
        if state.is_full() {
            // `check_write` has not granted it.
            return Err(StreamError::trap("write exceeded budget"));
        }
        let place = if state.first.is_none() { &mut state.first } else { &mut state.second };
        *place = Some(bytes);
        let written = state.written.saturating_add(length as u64);
        state.written = written;
        let is_too_long = state.promised.is_some_and(|promised| written > promised);
        let reader = state.reader.take();
        drop(state);
        wake(reader);
        if is_too_long {
            let code = ErrorCode::HttpResponseBodySize(Some(written));
            return Err(StreamError::LastOperationFailed(wasmtime::format_err!(code)));
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        if self.0.lock().reader_left { Err(StreamError::Closed) } else { Ok(()) }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let state = self.0.lock();
        match (state.reader_left, state.is_full()) {
            (true, _) => Err(StreamError::Closed),
            (false, true) => Ok(0),
            (false, false) => Ok(BODY_CHUNK_BYTES_MAX),
        }
    }

    fn blocking_write_and_flush<'a, 'b>(&'a mut self, bytes: Bytes) -> StreamFuture<'b, StreamResult<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        if bytes.len() > BODY_CHUNK_BYTES_MAX || !self.has_room() {
            return Box::pin(self.write_all(bytes));
        }
        match self.write(bytes) {
            Ok(()) => Box::pin(WrittenAlready),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }

    fn cancel<'a, 'b>(&'a mut self) -> StreamFuture<'b, ()>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(DoneAlready)
    }
}

impl Drop for BodyStream {
    fn drop(&mut self) {
        self.0.lock().stream = StreamHandle::Dropped;
    }
}

/// The end that the response is sent from.
pub(super) struct BodyReader(Arc<BodyPipe>);

impl Body for BodyReader {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut state = self.0.lock();
        if let Some(chunk) = state.first.take() {
            state.first = state.second.take();
            let writer = state.writer.take();
            drop(state);
            wake(writer);
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let Some(end) = &mut state.end else {
            store(&mut state.reader, context);
            return Poll::Pending;
        };
        Poll::Ready(match std::mem::replace(end, BodyEnd::Whole) {
            BodyEnd::Whole => None,
            BodyEnd::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
            BodyEnd::BrokenOff => Some(Err(Error::HttpProtocolError)),
        })
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.lock();
        state.first.is_none() && matches!(state.end, Some(BodyEnd::Whole))
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.reader_left = true;
        let dropped = (state.first.take(), state.second.take(), state.writer.take());
        drop(state);
        wake(dropped.2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn open(promised: Option<u64>) -> (BodyWriter, BodyStream, BodyReader) {
        let (writer, reader) = pipe(promised);
        let stream = writer.stream().expect("the first");
        (writer, stream, reader)
    }

    /// What the reader finds: a chunk, `trailers`, `end`, `error` or `nothing`.
    fn read(reader: &mut BodyReader, waker: &Waker) -> String {
        match Pin::new(reader).poll_frame(&mut Context::from_waker(waker)) {
            Poll::Pending => "nothing".to_owned(),
            Poll::Ready(None) => "end".to_owned(),
            Poll::Ready(Some(Err(_))) => "error".to_owned(),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
                Err(_) => "trailers".to_owned(),
            },
        }
    }

    fn all(reader: &mut BodyReader) -> Vec<String> {
        let mut found = Vec::new();
        while !matches!(found.last().map(String::as_str), Some("end" | "error" | "nothing")) {
            found.push(read(reader, Waker::noop()));
        }
        found
    }

    fn is_trap(outcome: &StreamResult<()>) -> bool {
        matches!(outcome, Err(StreamError::Trap(_)))
    }

    #[test]
    fn a_guest_waits_when_two_chunks_lie_there_and_goes_on_when_one_is_taken() {
        let (_writer, mut stream, mut reader) = open(None);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert_eq!(read(&mut reader, &waker), "nothing");
        for (text, wakes) in [("a", 1), ("b", 1)] {
            assert_eq!(stream.check_write().ok(), Some(BODY_CHUNK_BYTES_MAX));
            let written = stream.blocking_write_and_flush(Bytes::from(text)).now_or_never();
            assert!(matches!(written, Some(Ok(()))), "{text}");
            assert_eq!(woken.0.load(SeqCst), wakes, "the reader is woken once");
        }
        assert_eq!(stream.check_write().ok(), Some(0));
        assert!(stream.flush().is_ok() && stream.ready().now_or_never().is_none());
        let mut third = stream.blocking_write_and_flush(Bytes::from("c"));
        let mut context = Context::from_waker(&waker);
        assert!(third.as_mut().poll(&mut context).is_pending());
        assert_eq!(read(&mut reader, Waker::noop()), "a");
        assert_eq!(woken.0.load(SeqCst), 2, "the guest is woken");
        assert!(matches!(third.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
        drop(third);
        assert_eq!(all(&mut reader), ["b", "c", "nothing"]);
        assert!(stream.ready().now_or_never().is_some());
    }

    #[test]
    fn what_check_write_does_not_grant_is_a_trap() {
        let (_writer, mut stream, _reader) = open(None);
        assert!(is_trap(&stream.write(Bytes::from(vec![0; BODY_CHUNK_BYTES_MAX + 1]))));
        assert!(is_trap(&stream.write_zeroes(BODY_CHUNK_BYTES_MAX + 1)));
        for _ in 0..2 {
            assert!(stream.write_zeroes(BODY_CHUNK_BYTES_MAX).is_ok());
        }
        assert!(is_trap(&stream.write(Bytes::from("a"))));
        assert!(is_trap(&stream.write_zeroes(1)));
        assert!(stream.write(Bytes::new()).is_ok(), "nothing needs no room");
    }

    #[test]
    fn a_long_write_is_cut_and_an_empty_one_is_no_chunk() {
        let (_writer, mut stream, mut reader) = open(None);
        assert!(matches!(stream.blocking_write_and_flush(Bytes::new()).now_or_never(), Some(Ok(()))));
        assert_eq!(read(&mut reader, Waker::noop()), "nothing");
        let long = Bytes::from(vec![b'a'; BODY_CHUNK_BYTES_MAX + 2]);
        assert!(matches!(stream.blocking_write_and_flush(long).now_or_never(), Some(Ok(()))));
        assert_eq!(read(&mut reader, Waker::noop()).len(), BODY_CHUNK_BYTES_MAX);
        assert_eq!(read(&mut reader, Waker::noop()), "aa");
    }

    #[test]
    fn a_body_ends_as_the_guest_ends_it() {
        let trailers = Some(HeaderMap::from_iter([(http::header::ETAG, http::HeaderValue::from_static("x"))]));
        for (trailers, expected) in [(None, vec!["a", "end"]), (trailers, vec!["a", "trailers", "end"])] {
            let (writer, mut stream, mut reader) = open(None);
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            assert!(stream.write(Bytes::from("a")).is_ok() && !reader.is_end_stream());
            assert_eq!(read(&mut reader, &waker), "a");
            assert_eq!(read(&mut reader, &waker), "nothing");
            drop(stream);
            assert_eq!(read(&mut reader, &waker), "nothing", "to drop the stream is no end");
            assert_eq!((writer.finish(trailers).is_ok(), woken.0.load(SeqCst)), (true, 1));
            assert_eq!(reader.is_end_stream(), expected.len() == 2);
            assert_eq!(all(&mut reader), expected[1..]);
        }
        let (writer, mut stream, mut reader) = open(None);
        assert!(stream.write(Bytes::from("a")).is_ok());
        drop((stream, writer));
        assert!(!reader.is_end_stream());
        assert_eq!(all(&mut reader), ["a", "error"], "dropped without an end");
    }

    #[test]
    fn a_body_of_another_length_than_promised_is_an_error() {
        let sizes = |code: &ErrorCode| match code {
            ErrorCode::HttpResponseBodySize(size) => *size,
            _ => None,
        };
        let (writer, mut stream, mut reader) = open(Some(3));
        assert!(stream.write(Bytes::from("ab")).is_ok());
        drop(stream);
        assert_eq!(writer.finish(None).as_ref().err().and_then(sizes), Some(2));
        assert_eq!(all(&mut reader), ["ab", "error"]);
        let (writer, mut stream, mut reader) = open(Some(3));
        assert!(stream.write(Bytes::from("ab")).is_ok());
        let Err(StreamError::LastOperationFailed(error)) = stream.write(Bytes::from("cd")) else {
            panic!("it is too long")
        };
        assert_eq!(error.downcast_ref().and_then(sizes), Some(4));
        drop(stream);
        assert_eq!(writer.finish(None).as_ref().err().and_then(sizes), Some(4));
        assert_eq!(all(&mut reader), ["ab", "cd", "error"]);
        let (writer, mut stream, mut reader) = open(Some(3));
        assert!(stream.write(Bytes::from("abc")).is_ok());
        drop(stream);
        assert!(writer.finish(None).is_ok());
        assert_eq!(all(&mut reader), ["abc", "end"]);
    }

    #[test]
    fn the_stream_is_closed_when_nobody_reads_and_who_waits_is_woken() {
        let (_writer, mut stream, reader) = open(None);
        for _ in 0..2 {
            assert!(stream.write(Bytes::from("a")).is_ok());
        }
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut waiting = stream.blocking_write_and_flush(Bytes::from("b"));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(reader);
        assert_eq!(woken.0.load(SeqCst), 1);
        let written = waiting.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(matches!(written, Poll::Ready(Err(StreamError::Closed))));
        drop(waiting);
        assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
        assert!(matches!(stream.write(Bytes::from("b")), Err(StreamError::Closed)));
        assert!(matches!(stream.flush(), Err(StreamError::Closed)));
        assert!(stream.ready().now_or_never().is_some());
        let written = stream.blocking_write_and_flush(Bytes::from("b")).now_or_never();
        assert!(matches!(written, Some(Err(StreamError::Closed))));
    }
}
