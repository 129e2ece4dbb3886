//! The way of a response's body from a guest of WASI 0.3 to the one who sends it: what the guest has written and nobody has
//! read, the trailers, and how it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, FieldMap};

use crate::limits::BODY_CHUNK_BYTES_MAX;

/// The response that a guest made last, by the number of its handle's resource, and its body.
#[derive(Default)]
pub(crate) struct LastMade(Option<(u32, Arc<Pipe>)>);

impl LastMade {
    /// It is this one from now on.
    pub(super) fn is(&mut self, response: u32, pipe: &Arc<Pipe>) {
        self.0 = Some((response, Arc::clone(pipe)));
    }

    /// It is one whose body is not of this kind.
    pub(super) fn is_other(&mut self) {
        self.0 = None;
    }

    /// The guest has returned this response: it may write, if it was the last one. Of another one it may when its body is read.
    pub(crate) fn returned(&mut self, response: u32) {
        if let Some((_, pipe)) = self.0.take_if(|(last, _)| *last == response) {
            pipe.let_write(|piped| piped.is_returned = true);
        }
    }
}

/// What a guest writes, on its way to the one who reads the response's body.
pub(super) struct Pipe(Mutex<Piped>);

pub(super) struct Piped {
    /// What was written and nobody has read: a write, or several small ones.
    pub(super) piece: Vec<u8>,
    /// The guest writes no more.
    pub(super) is_written: bool,
    /// So many bytes came, which are not those that were promised.
    pub(super) wrong_length: Option<u64>,
    pub(super) trailers: PipedTrailers,
    /// The response was returned.
    pub(super) is_returned: bool,
    /// The body was dropped.
    pub(super) is_closed: bool,
    /// The error of the length was given to the one who reads.
    is_told: bool,
    pub(super) reader: Option<Waker>,
    /// Of the contents, and of the trailers.
    pub(super) writers: [Option<Waker>; 2],
}

pub(super) enum PipedTrailers {
    Awaited,
    Given(Result<Option<FieldMap>, ErrorCode>),
    /// They were taken, or there will be none.
    Over,
}

impl Pipe {
    pub(super) fn new(is_written: bool) -> Self {
        Self(Mutex::new(Piped {
            piece: Vec::new(),
            is_written,
            wrong_length: None,
            trailers: PipedTrailers::Awaited,
            is_returned: false,
            is_closed: false,
            is_told: false,
            reader: None,
            writers: [None, None],
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Piped> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes it, and then wakes who writes.
    pub(super) fn let_write<T>(&self, change: impl FnOnce(&mut Piped) -> T) -> T {
        let mut piped = self.lock();
        let changed = change(&mut piped);
        let writers = std::mem::take(&mut piped.writers);
        drop(piped);
        writers.into_iter().flatten().for_each(Waker::wake);
        changed
    }

    /// Changes it, and then wakes who reads.
    pub(super) fn write(&self, change: impl FnOnce(&mut Piped)) {
        let mut piped = self.lock();
        change(&mut piped);
        let reader = piped.reader.take();
        drop(piped);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl Piped {
    /// Whether a write of so many bytes is taken now: one of any size if nothing is held, and small ones behind others.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let is_small = self.piece.len().saturating_add(bytes) <= BODY_CHUNK_BYTES_MAX;
        self.is_returned && (self.piece.is_empty() || is_small)
    }

    /// The next frame. None is the end.
    fn take(&mut self) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.piece).into()))));
        }
        if let Some(given) = self.wrong_length.filter(|_| !self.is_told) {
            self.is_told = true;
            return Poll::Ready(Some(Err(Error::HttpResponseBodySize(Some(given)))));
        }
        if !self.is_written || matches!(self.trailers, PipedTrailers::Awaited) {
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut self.trailers, PipedTrailers::Over) {
            PipedTrailers::Given(Ok(Some(trailers))) => Some(Ok(Frame::trailers(trailers.into()))),
            PipedTrailers::Given(Err(code)) => Some(Err(code.into())),
            PipedTrailers::Given(Ok(None)) | PipedTrailers::Over | PipedTrailers::Awaited => None,
        })
    }
}

/// The body of the response, for the one who sends it.
pub(super) struct PipedBody(pub(super) Arc<Pipe>);

impl http_body::Body for PipedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.let_write(|piped| {
            piped.is_returned = true;
            let taken = piped.take();
            if taken.is_pending() {
                piped.reader = Some(context.waker().clone());
            }
            taken
        })
    }

    fn is_end_stream(&self) -> bool {
        let piped = self.0.lock();
        let is_right = piped.wrong_length.is_none() || piped.is_told;
        let has_no_trailers = matches!(piped.trailers, PipedTrailers::Given(Ok(None)) | PipedTrailers::Over);
        piped.piece.is_empty() && piped.is_written && is_right && has_no_trailers
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for PipedBody {
    fn drop(&mut self) {
        self.0.let_write(|piped| {
            piped.is_closed = true;
            piped.piece = Vec::new();
        });
    }
}
