//! The answers of the host to every failure, in one place: status, headers, and a body that tells the client nothing about the
//! inside of the host.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use wasmhost_sandbox::FaultKind;

use crate::development::{self, Audience, Notice, Reason};
use crate::metrics::Refused;

/// Why the host answers instead of the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The guest faulted.
    Fault(FaultKind),
    /// The guest answered with an error code in the place of a response.
    GuestError,
    /// No capacity; try again after so long.
    NoCapacity(Duration),
    /// The app cannot be had; try again after so long.
    Unavailable(Duration),
    /// The request cannot be passed on (RFC 9112, section 3.2).
    BadRequest,
    /// The request's body is too large (RFC 9110, section 15.5.14).
    BodyTooLarge,
    /// The request's body did not come (RFC 9110, section 15.5.9).
    BodyTimeout,
    /// No route leads to an app.
    NotFound,
    /// An expectation that is not known (RFC 9110, section 10.1.1).
    ExpectationFailed,
    /// The request has left hosts of ours too often (RFC 8586; RFC 5842, section 7.2).
    LoopDetected,
    /// A method or a transfer coding that the host does not pass on (RFC 9110, section 15.6.2; RFC 9112, section 6.1).
    NotImplemented,
}

impl Failure {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Fault(FaultKind::Wall) => StatusCode::GATEWAY_TIMEOUT,
            Self::Fault(FaultKind::Capacity) | Self::NoCapacity(_) | Self::Unavailable(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Fault(_) | Self::GuestError => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::LoopDetected => StatusCode::LOOP_DETECTED,
            Self::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        }
    }

    /// Whether the connection is closed behind it: where the next request begins is not known, or will not be soon.
    const fn is_last(self) -> bool {
        matches!(self, Self::BadRequest | Self::BodyTooLarge | Self::BodyTimeout | Self::NotImplemented)
    }

    /// What is counted of it.
    pub(super) const fn refused(self) -> Option<Refused> {
        match self {
            Self::BadRequest => Some(Refused::BadRequest),
            Self::BodyTooLarge => Some(Refused::BodyTooLarge),
            Self::BodyTimeout => Some(Refused::BodyTimeout),
            Self::LoopDetected => Some(Refused::Loop),
            Self::Fault(_) | Self::GuestError | Self::NoCapacity(_) | Self::Unavailable(_) => None,
            Self::NotFound | Self::ExpectationFailed | Self::NotImplemented => None,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Fault(FaultKind::Wall) => "504 the application took too long to answer\n",
            Self::Fault(FaultKind::Capacity) | Self::NoCapacity(_) => "503 the application is busy\n",
            Self::Unavailable(_) => "503 the application cannot be reached at the moment\n",
            Self::Fault(_) | Self::GuestError => "500 the application failed\n",
            Self::BadRequest => "400 the request is not valid\n",
            Self::NotFound => "404 no application has a route for this address\n",
            Self::BodyTooLarge => "413 the request's body is too large\n",
            Self::BodyTimeout => "408 the request's body did not arrive\n",
            Self::ExpectationFailed => "417 the expectation is not supported\n",
            Self::LoopDetected => "508 the request goes in a circle\n",
            Self::NotImplemented => "501 the method or the transfer coding is not supported\n",
        }
    }

    /// The answer in development, which says why.
    pub(super) fn response_with_reason(self, audience: Audience, reason: Reason<'_>) -> Response<Bytes> {
        let mut response = self.response();
        fill(&mut response, development::failure(audience, self.text(), reason));
        response
    }

    /// The answer.
    pub(super) fn response(self) -> Response<Bytes> {
        wasmhost_base::inject::panic_at("respond");
        let mut response = Response::new(Bytes::from_static(self.text().as_bytes()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Self::NoCapacity(after) | Self::Unavailable(after) = self {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
        }
        if self.is_last() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The answer that the same is to be had elsewhere, with the same method and body (RFC 9110, section 15.4.9).
pub(super) fn redirect(location: HeaderValue) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"308 this address is served with https only\n"));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::LOCATION, location);
    response
}

/// The answer to an authority that asks for proof (RFC 8555, section 8.3).
pub(super) fn proof(text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response
}

/// The answer in development, when no component answers.
pub(super) fn notice(audience: Audience, notice: &Notice) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    fill(&mut response, notice.body(audience));
    response
}

/// Puts a text of development into an answer.
fn fill(response: &mut Response<Bytes>, body: development::DevelopmentBody) {
    let kind = if body.html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The page has its style within it, and loads nothing.
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    *response.body_mut() = body.text.into();
}

/// At least one, and not cut short.
fn whole_seconds(time: Duration) -> u64 {
    let whole = time.as_secs();
    if time.subsec_nanos() > 0 { whole.saturating_add(1) } else { whole.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_that_the_documentation_promises() {
        let status = |kind| Failure::Fault(kind).status().as_u16();
        for kind in [
            FaultKind::Trap,
            FaultKind::Exit,
            FaultKind::StackOverflow,
            FaultKind::Memory,
            FaultKind::Cpu,
            FaultKind::NeverAnswered,
            FaultKind::Start,
        ] {
            assert_eq!(status(kind), 500, "{kind}");
        }
        assert_eq!(status(FaultKind::Wall), 504);
        assert_eq!(Failure::NoCapacity(Duration::from_secs(1)).status().as_u16(), 503);
    }

    #[test]
    fn capacity_says_when_to_come_back() {
        let response = Failure::NoCapacity(Duration::from_millis(1_200)).response();
        assert_eq!(response.headers().get("retry-after").map(HeaderValue::as_bytes), Some(b"2".as_slice()));
        assert_eq!(whole_seconds(Duration::ZERO), 1);
    }
}
