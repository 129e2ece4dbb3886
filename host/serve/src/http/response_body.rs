//! What hyper gets of a response's body, wherever it comes from.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::broken_off::BrokenOff;
use super::compressed::Compressed;
use super::file_transfer::FileTransfer;
use super::streaming::Streaming;

/// What hyper writes to the client.
pub(crate) enum ResponseBody {
    /// All of it at once; none: there is no more (or there was none).
    Whole(Option<Bytes>),
    /// As the guest gives it.
    Streaming(Streaming),
    /// The same, compressed.
    Compressed(Box<Compressed>),
    /// As the worker gives it that serves the request.
    Forwarded(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BrokenOff>>>),
    /// As it is read from a file.
    File(FileTransfer),
    /// None is sent, and how long it would have been is not said (an answer to HEAD).
    Unsent,
}

impl ResponseBody {
    /// A body that is known whole.
    pub(super) fn whole(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streaming(streaming) => streaming.poll_frame(context),
            Self::Compressed(compressed) => compressed.poll_frame(context),
            Self::Forwarded(body) => body.as_mut().poll_frame(context),
            Self::File(file) => file.poll_frame(context),
            Self::Unsent => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Forwarded(body) => body.is_end_stream(),
            Self::File(file) => file.left() == 0,
            _ => matches!(self, Self::Whole(None)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Self::Forwarded(body) => body.size_hint(),
            Self::File(file) => SizeHint::with_exact(file.left()),
            Self::Streaming(_) | Self::Compressed(_) | Self::Unsent => SizeHint::default(),
        }
    }
}
