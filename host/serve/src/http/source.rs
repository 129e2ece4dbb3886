//! Where a request's body comes from: hyper gives it to the request, or lends it while the client waits for `100 Continue`.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

/// The body of a client that waits for `100 Continue`.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) incoming: Incoming,
    /// hyper was asked for it.
    pub(super) asked: bool,
    /// What it gave when the host asked in the guest's place.
    pub(super) early: Option<Option<Result<Frame<Bytes>, hyper::Error>>>,
}

/// Where the client's body comes from.
pub(super) enum BodySource {
    Own(Incoming),
    Lent(Arc<Mutex<Lent>>),
}

impl BodySource {
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Own(incoming) => Pin::new(incoming).poll_frame(context),
            Self::Lent(lent) => {
                let mut lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
                lent.asked = true;
                match lent.early.take() {
                    Some(frame) => Poll::Ready(frame),
                    None => Pin::new(&mut lent.incoming).poll_frame(context),
                }
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(incoming) => incoming.is_end_stream(),
            Self::Lent(lent) => {
                let lent = lent.lock().unwrap_or_else(PoisonError::into_inner);
                lent.early.is_none() && lent.incoming.is_end_stream()
            }
        }
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(incoming) => incoming.size_hint(),
            Self::Lent(lent) => lent.lock().unwrap_or_else(PoisonError::into_inner).incoming.size_hint(),
        }
    }
}
