//! The body of a request, as a guest reads it: what was gathered of it first, and no more than `--body-max`. Its [`Upload`] knows
//! how it moves and what is wrong with it.

use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use wasmhost_base::quota::Account;
use wasmhost_sandbox::BodyError;

use super::forward::trailers::unpacked;
use super::gathered::{Ahead, Gathered};
use super::head::clean_trailers;
use super::source::{BodySource, Came, Lent, SourceError};
use super::upload::{Flaw, Upload};
use crate::buffers::REQUEST_AHEAD_MAX;

/// The client's body, as a guest reads it.
pub(super) struct RequestBody {
    source: BodySource,
    upload: Arc<Upload>,
    max: Option<u64>,
    /// How much may still come.
    left: u64,
    gathered: Arc<Mutex<Gathered>>,
    /// Another worker forwards it.
    is_forwarded: bool,
    /// It comes on a stream of HTTP/2, which the client can reset.
    is_on_stream: bool,
}

impl RequestBody {
    /// Of `max` bytes at most; what is read ahead of it is counted in `room`. `expects`: the client waits for
    /// `100 Continue` before it sends it.
    pub(super) fn new(
        incoming: Came,
        upload: Arc<Upload>,
        max: Option<u64>,
        expects: bool,
        room: &Arc<Account>,
    ) -> Self {
        upload.in_chunks.store(incoming.size_hint().exact().is_none(), Relaxed);
        let source = if expects {
            let lent = Arc::new(Mutex::new(Lent { incoming, asked: false, early: None }));
            // A request has one body.
            let _ = upload.expected.set(Arc::downgrade(&lent));
            BodySource::Lent(lent)
        } else {
            BodySource::Own(incoming)
        };
        let gathered = Arc::new(Mutex::new(Gathered { ahead: Ahead::none_of(room), early: None }));
        let _ = upload.gathered.set(Arc::downgrade(&gathered));
        Self { source, upload, max, left: max.unwrap_or(u64::MAX), gathered, is_forwarded: false, is_on_stream: false }
    }

    /// The same as another worker forwards it.
    pub(super) fn forwarded(mut self) -> Self {
        self.is_forwarded = true;
        self
    }

    /// The same on a stream of HTTP/2.
    pub(super) fn on_stream(mut self) -> Self {
        self.is_on_stream = true;
        self
    }

    fn taken(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the client waits for `100 Continue`, which tells it that its body is wanted. The guest should say so.
    pub(super) fn is_expected(&self) -> bool {
        matches!(self.source, BodySource::Lent(_))
    }

    /// Reads what comes. Ready when that is all, or as much as may be read ahead.
    pub(super) fn poll_gather(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let has_room = self.taken().ahead.held.has_room(REQUEST_AHEAD_MAX);
            if !has_room {
                return Poll::Ready(());
            }
            match ready!(self.poll_source(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.taken().ahead.push(data),
                    Err(frame) => self.taken().ahead.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    self.taken().ahead.error = Some(error);
                    return Poll::Ready(());
                }
                None => return Poll::Ready(()),
            }
            if self.upload.has_ended() {
                return Poll::Ready(());
            }
        }
    }

    /// The guest gets it now; with `early`, before all of it has come.
    pub(super) fn gathered(&mut self, early: Option<OwnedSemaphorePermit>) {
        let early = early.filter(|_| !self.upload.has_ended());
        self.taken().early = early;
        self.upload.rest();
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = self.source.poll_frame(context);
        if self.is_on_stream && was_reset(&polled, &self.source) {
            // The client has given up the request, which ends with its stream: that is neither an end of the body nor a
            // fault of it.
            return Poll::Pending;
        }
        match &polled {
            Poll::Ready(frame) => {
                let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref);
                self.upload.came(data.map_or(0, Bytes::len));
                if frame.is_none() || self.source.is_end_stream() {
                    self.upload.ended.store(true, Relaxed);
                    self.taken().early = None;
                }
            }
            Poll::Pending => self.upload.await_more(),
        }
        polled.map(|frame| frame.map(|frame| self.check(frame)))
    }

    /// What is passed on of what came.
    fn check(&mut self, frame: Result<Frame<Bytes>, SourceError>) -> Result<Frame<Bytes>, BodyError> {
        let mut frame = frame.map_err(|error| match error {
            SourceError::Client(error) => {
                if let Some(cause) = flaw_of(&error) {
                    self.upload.note_invalid(cause);
                }
                BodyError::Hyper(error)
            }
            SourceError::App(error) => {
                self.upload.note_invalid(&error);
                error
            }
        })?;
        if let Some(trailers) = frame.trailers_mut() {
            if self.is_forwarded {
                *trailers = unpacked(trailers);
            }
            clean_trailers(trailers);
        }
        let came = frame.data_ref().map_or(0, Bytes::len) as u64;
        match self.left.checked_sub(came) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                self.upload.note_flaw(Flaw::TooLarge);
                return Err(BodyError::HttpRequestBodySize(self.max));
            }
        }
        Ok(frame)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // A guest that lets go of it does not wait for it.
        self.upload.rest();
    }
}

/// Whether the client has reset the body's stream, or its connection is gone. (hyper takes one reset, `NO_ERROR`, for the
/// body's end.)
fn was_reset(polled: &Poll<Option<Result<Frame<Bytes>, SourceError>>>, source: &BodySource) -> bool {
    match polled {
        Poll::Ready(None) => !source.is_end_stream(),
        Poll::Ready(Some(Err(SourceError::Client(error)))) => of_stream(error).is_some_and(|error| !error.is_library()),
        Poll::Ready(Some(Ok(_) | Err(SourceError::App(_)))) | Poll::Pending => false,
    }
}

fn of_stream(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error).and_then(|cause| cause.downcast_ref())
}

/// What is wrong with the bytes that came, or that they ended early; a broken connection is no flaw.
fn flaw_of(error: &hyper::Error) -> Option<&(dyn std::error::Error + 'static)> {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    if let Some(error) = of_stream(error) {
        return error.is_library().then_some(error as _);
    }
    let cause = std::error::Error::source(error)?;
    let kind = cause.downcast_ref::<std::io::Error>()?.kind();
    matches!(kind, InvalidData | InvalidInput | UnexpectedEof).then_some(cause)
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let ahead = self.taken().ahead.take();
        match ahead {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_source(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.taken().ahead.is_empty() && self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, ahead) = (self.source.size_hint(), self.taken().ahead.bytes() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(ahead));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint
    }
}
