//! What the head of a response says of its body. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::elements::elements;

pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// Fields that speak of a connection, not of a message (RFC 9110, section 7.6.1), or to a proxy.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-authentication-info"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Takes away what is said of the connection that a response came on; but for `Connection: close`.
pub(super) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let closes = elements(headers, &header::CONNECTION).any(|word| word.eq_ignore_ascii_case(b"close"));
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if closes {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Trailers without what is said of a connection, which in HTTP/2 makes them malformed (RFC 9113, section 8.2.2).
pub(crate) fn without_connection_fields(mut trailers: HeaderMap) -> HeaderMap {
    for name in HOP_BY_HOP.iter().chain([&header::TE]) {
        trailers.remove(name);
    }
    trailers
}

/// Whether an answer of this status never has a body (RFC 9110, sections 15.3.5 and 15.4.5).
pub(super) fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// What a response's `Content-Length` says.
pub(super) fn promised(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_say_nothing_of_a_connection() {
        let mut trailers = HeaderMap::new();
        for name in HOP_BY_HOP.iter().chain([&header::TE, &header::ETAG]) {
            trailers.append(name, HeaderValue::from_static("x"));
        }
        let left = without_connection_fields(trailers);
        assert_eq!(left.keys().collect::<Vec<_>>(), [header::ETAG]);
    }

    #[test]
    fn of_what_is_said_of_a_connection_only_its_end_is_passed_on() {
        for (connection, left) in [("Upgrade, CLOSE", Some("close")), ("keep-alive, x", None)] {
            let mut headers = HeaderMap::new();
            headers.append("x-other", HeaderValue::from_static("kept"));
            headers.append(header::CONNECTION, HeaderValue::from_static("x-other"));
            headers.append(header::CONNECTION, HeaderValue::from_static(connection));
            for name in HOP_BY_HOP.iter().filter(|name| **name != header::CONNECTION) {
                headers.append(name, HeaderValue::from_static("h2c"));
            }
            remove_hop_by_hop(&mut headers);
            assert_eq!(headers.get(header::CONNECTION).map(HeaderValue::as_bytes), left.map(str::as_bytes));
            assert_eq!(headers.len(), 1 + usize::from(left.is_some()));
            assert!(headers.contains_key("x-other"));
        }
    }
}
