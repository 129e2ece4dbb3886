//! A file on its way to the client, as the response's body.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use wasmhost_sandbox::{Fault, FaultKind};

use super::broken_off::BrokenOff;
use super::exchange::{Ending, Exchange};
use crate::files::FileBody;

/// A file on its way to the client.
pub(crate) struct FileTransfer {
    body: FileBody,
    exchange: Rc<Exchange>,
}

impl FileTransfer {
    pub(super) fn new(body: FileBody, exchange: Rc<Exchange>) -> Self {
        Self { body, exchange }
    }

    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => {
                self.exchange.sent(frame.data_ref().map_or(0, Bytes::len));
                if self.body.is_end_stream() {
                    self.exchange.finish(Ending::Whole);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let fault = unreadable(&error);
                self.exchange.failed_without_instance(&fault);
                self.exchange.finish(Ending::Broken(fault.kind));
                Some(Err(BrokenOff(fault.kind.name())))
            }
            None => None,
        })
    }

    pub(super) fn left(&self) -> u64 {
        self.body.size()
    }
}

/// The fault that a file is which cannot be read.
pub(super) fn unreadable(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unfinished, format!("a file cannot be read: {error}"))
}
