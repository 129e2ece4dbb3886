//! Files in front of the guest: a request for one is answered without an instance.

use std::rc::Rc;

use bytes::Bytes;
use http::{Method, Request, Response};

use super::exchange::{Ending, Exchange};
use super::file_transfer::{FileTransfer, unreadable};
use super::head::Framing;
use super::respond::Failure;
use super::response_body::ResponseBody;
use crate::development::Reason;
use crate::files::{StaticAnswer, StaticBody};

impl Exchange {
    /// Answers a request for a file in front of the guest.
    ///
    /// # Errors
    /// The request, when there is no such file: the guest answers.
    pub(super) async fn file_answer<B>(
        self: &Rc<Self>,
        request: Request<B>,
        framing: Framing,
    ) -> Result<Response<ResponseBody>, Request<B>> {
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
            StaticBody::File(body) => ResponseBody::File(FileTransfer::new(body, Rc::clone(self))),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}
