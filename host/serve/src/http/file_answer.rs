//! Files in front of the guest: a request for one is answered without an instance.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;

use wasmhost_sandbox::{Fault, FaultKind};

use super::exchange::{Ending, Exchange};
use super::head::Framing;
use super::respond::Failure;
use super::response_body::{BrokenOff, ResponseBody};
use crate::development::Reason;
use crate::files::{FileBody, StaticAnswer, StaticBody};

/// A file on its way to the client.
pub(crate) struct FileTransfer {
    body: FileBody,
    exchange: Rc<Exchange>,
}

impl Exchange {
    /// Answers a request for a file in front of the guest.
    ///
    /// # Errors
    /// The request, when there is no such file: the guest answers.
    pub(super) async fn file_answer(
        self: &Rc<Self>,
        request: Request<Incoming>,
        framing: Framing,
    ) -> Result<Response<ResponseBody>, Request<Incoming>> {
        let Some(folders) = self.pool.files() else { return Err(request) };
        let (parts, body) = request.into_parts();
        let Some(target) = parts.uri.path_and_query() else { return Err(Request::from_parts(parts, body)) };
        for folder in folders.iter() {
            match folder.answer(&parts.method, target, &parts.headers).await {
                Ok(None) => {}
                Ok(Some(answer)) => {
                    return Ok(match self.check(&parts, framing) {
                        Ok(_) => self.send_file(answer, parts.method == Method::HEAD),
                        Err(failure) => self.fail(failure, Reason::Status),
                    });
                }
                Err(error) => {
                    let fault = unreadable(&error);
                    self.failed_without_instance(&fault);
                    return Ok(self.fail(Failure::Fault(fault.kind), Reason::Fault(&fault)));
                }
            }
        }
        Err(Request::from_parts(parts, body))
    }

    fn send_file(self: &Rc<Self>, answer: StaticAnswer, is_head: bool) -> Response<ResponseBody> {
        let StaticAnswer { status, headers, body } = answer;
        self.status.set(status.as_u16());
        let body = match body {
            StaticBody::None => {
                self.finish(Ending::Whole);
                if is_head { ResponseBody::Unsent } else { ResponseBody::whole(Bytes::new()) }
            }
            StaticBody::Whole(bytes) => {
                self.sent(bytes.len());
                self.finish(Ending::Whole);
                ResponseBody::whole(bytes)
            }
            StaticBody::File(body) => ResponseBody::File(FileTransfer { body, exchange: Rc::clone(self) }),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl FileTransfer {
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

fn unreadable(error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Unfinished, format!("a file cannot be read: {error}"))
}
