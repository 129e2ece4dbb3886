//! Answers of the host where there is no request to answer, as they stand on the wire: to heads that never became one, and to
//! connections that are refused. The connection is closed behind them.

use std::time::SystemTime;

/// The head did not arrive in time (RFC 9110, section 15.5.9).
pub(crate) const REQUEST_TIMEOUT: &str = "408 Request Timeout";
/// The request line is too long (RFC 9110, section 15.5.15).
pub(crate) const URI_TOO_LONG: &str = "414 URI Too Long";
/// The head is too large (RFC 6585, section 5).
pub(crate) const HEAD_TOO_LARGE: &str = "431 Request Header Fields Too Large";

/// The client has as many connections as it may (RFC 9110, section 15.6.4).
pub(crate) const TOO_MANY_CONNECTIONS: &str = "503 Service Unavailable\r\nretry-after: 1";

/// The answer of this status, with the date that every answer has (RFC 9110, section 6.6.1).
pub(crate) fn answer(status: &str) -> String {
    let date = httpdate::fmt_http_date(SystemTime::now());
    format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: {date}\r\n\r\n")
}
