//! Answers of the admin page and the control socket.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use wasmhost_serve::metrics::AdminRefusal;

/// What answers of the admin address have, and those of the control socket have not: a socket beside it may be either.
pub(crate) const ADMIN_ADDRESS: HeaderName = HeaderName::from_static("wasmhost-admin");

/// An answer.
pub(crate) type AdminAnswer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What every answer says to browsers, unless it says otherwise: it is what its `Content-Type` says, for pages of this host
/// alone, is shown in no frame, loads nothing, and is not kept.
const TO_BROWSERS: [(HeaderName, &str); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// One that is there as a whole.
pub(crate) fn page(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> AdminAnswer {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Adds what browsers are to know.
pub(super) fn guard_browsers(answer: &mut AdminAnswer) {
    for (name, value) in TO_BROWSERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// The answer to a request that the gate does not let through.
pub(super) fn refused(refusal: AdminRefusal) -> AdminAnswer {
    let (status, text) = match refusal {
        AdminRefusal::Guest => (StatusCode::FORBIDDEN, "403 this page answers no guest\n"),
        // RFC 9112, section 3.2.
        AdminRefusal::NoHost => (StatusCode::BAD_REQUEST, "400 a request has one `Host`\n"),
        // RFC 9110, section 15.5.20.
        AdminRefusal::Host => (
            StatusCode::MISDIRECTED_REQUEST,
            "421 this host does not know the name in `Host`: start it with --admin-host NAME (`admin-host` in wasmhost.toml), or ask by an IP address or localhost\n",
        ),
        AdminRefusal::Origin => (StatusCode::FORBIDDEN, "403 pages of other hosts may not ask this one (`Origin`)\n"),
        AdminRefusal::Off => (
            StatusCode::FORBIDDEN,
            "403 this needs a token, and the host has none: start it with --admin-token file:PATH (`admin-token` in wasmhost.toml). Commands on the same machine (`wasmhost reload`) need none\n",
        ),
        AdminRefusal::NoToken => {
            (StatusCode::UNAUTHORIZED, "401 send the token of --admin-token: `Authorization: Bearer TOKEN`\n")
        }
        AdminRefusal::WrongToken => (StatusCode::UNAUTHORIZED, "401 this is not the token of --admin-token\n"),
    };
    let mut answer = page(status, "text/plain", text);
    // RFC 9110, section 11.6.1; RFC 6750, section 3.
    let challenge = match refusal {
        AdminRefusal::NoToken => "Bearer realm=\"wasmhost\"",
        AdminRefusal::WrongToken => "Bearer realm=\"wasmhost\", error=\"invalid_token\"",
        _ => return answer,
    };
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    answer
}

/// That the connection goes on with another protocol (RFC 9110, section 15.2.2).
pub(crate) fn switch_to(protocol: &'static str) -> AdminAnswer {
    let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}
