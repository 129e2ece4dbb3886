//! Where a request's body comes from: a client, by hyper, which gives it to the request, or lends it while the client waits for
//! `100 Continue`; or another app of the host.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use wasmhost_sandbox::{Body, BodyError};

/// A body as it comes to the host.
pub(crate) enum Came {
    /// From a client, or another worker.
    Client(Incoming),
    /// From an app that calls another.
    App(Body),
}

/// What a body as it comes may end with.
#[derive(Debug)]
pub(crate) enum SourceError {
    /// What hyper says of the client's.
    Client(hyper::Error),
    /// The app that calls did not finish it.
    App(BodyError),
}

impl From<Incoming> for Came {
    fn from(incoming: Incoming) -> Self {
        Self::Client(incoming)
    }
}

impl fmt::Debug for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if matches!(self, Self::Client(_)) { "Client" } else { "App" })
    }
}

impl http_body::Body for Came {
    type Data = Bytes;
    type Error = SourceError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SourceError>>> {
        match &mut *self {
            Self::Client(incoming) => Pin::new(incoming).poll_frame(context).map_err(SourceError::Client),
            Self::App(body) => Pin::new(body).poll_frame(context).map_err(SourceError::App),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Client(incoming) => incoming.is_end_stream(),
            Self::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Client(incoming) => incoming.size_hint(),
            Self::App(body) => body.size_hint(),
        }
    }
}

/// The body of a client that waits for `100 Continue`.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) incoming: Came,
    /// hyper was asked for it.
    pub(super) asked: bool,
    /// What it gave when the host asked in the guest's place.
    pub(super) early: Option<Option<Result<Frame<Bytes>, SourceError>>>,
}

/// Where the client's body comes from.
pub(super) enum BodySource {
    Own(Came),
    Lent(Arc<Mutex<Lent>>),
}

impl BodySource {
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SourceError>>> {
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
