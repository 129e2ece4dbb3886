//! What the head of a response says of its body. Pure.

use http::{HeaderMap, StatusCode, header};

/// Whether an answer of this status never has a body (RFC 9110, sections 15.3.5 and 15.4.5).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// What a response's `Content-Length` says.
pub(super) fn promised(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
