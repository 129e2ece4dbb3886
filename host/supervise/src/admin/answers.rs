//! Answers of the admin page and the control socket.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

/// An answer.
pub(crate) type AdminAnswer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// One that is there as a whole.
pub(crate) fn page(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> AdminAnswer {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// That the connection goes on with another protocol (RFC 9110, section 15.2.2).
pub(crate) fn switch_to(protocol: &'static str) -> AdminAnswer {
    let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}
