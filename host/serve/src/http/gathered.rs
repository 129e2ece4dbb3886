//! What came of a request's body before the request had an instance.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use wasmhost_base::quota::Account;
use wasmhost_sandbox::BodyError;

use crate::buffers::Held;

/// What was taken for a body before its request had an instance.
pub(super) struct Gathered {
    pub(super) ahead: Ahead,
    /// Leave to have an instance before all of the body has come.
    pub(super) early: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").field("early", &self.early).finish_non_exhaustive()
    }
}

/// What came of a body before its request had an instance.
pub(super) struct Ahead {
    first: Option<Bytes>,
    /// All of it, once that is more than one piece: small pieces would take more room than their bytes.
    joined: BytesMut,
    pub(super) trailers: Option<HeaderMap>,
    pub(super) error: Option<BodyError>,
    pub(super) held: Held,
}

impl Ahead {
    pub(super) fn none_of(room: &Arc<Account>) -> Self {
        Self { first: None, joined: BytesMut::new(), trailers: None, error: None, held: Held::none_of(room) }
    }

    /// Nobody is to read it any more.
    pub(super) fn let_go(&mut self) {
        if self.is_empty() {
            return;
        }
        self.first = None;
        self.joined = BytesMut::new();
        self.trailers = None;
        self.held.clear();
        self.error = Some(BodyError::ConnectionTerminated);
    }

    pub(super) fn push(&mut self, data: Bytes) {
        self.held.add(data.len());
        if self.first.is_none() && self.joined.is_empty() {
            self.first = Some(data);
            return;
        }
        if let Some(first) = self.first.take() {
            self.joined.extend_from_slice(&first);
        }
        self.joined.extend_from_slice(&data);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.joined.is_empty() && self.trailers.is_none() && self.error.is_none()
    }

    pub(super) fn bytes(&self) -> usize {
        self.first.as_ref().map_or(self.joined.len(), Bytes::len)
    }

    /// What the guest gets next of it.
    pub(super) fn take(&mut self) -> Option<Result<Frame<Bytes>, BodyError>> {
        if self.is_empty() {
            return None;
        }
        let data = match self.first.take() {
            Some(first) => first,
            None => std::mem::take(&mut self.joined).freeze(),
        };
        self.held.clear();
        if !data.is_empty() {
            return Some(Ok(Frame::data(data)));
        }
        self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))).or_else(|| self.error.take().map(Err))
    }
}
