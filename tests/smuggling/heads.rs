//! Heads, and what follows what.

use super::row::{Row, SMUGGLED, Then, UNREAD, line, lines, row};

pub fn heads() -> Vec<Row> {
    vec![
        // hyper takes a bare line feed for the end of a line, as RFC 9112, section 2.2, allows: whoever does not, sees one
        // field where the host sees two.
        lines("a bare line feed behind a field", "Host: a\nX: y\r\n"),
        lines("a bare line feed in a field", "Host: a\r\nX: y\nContent-Length: 43\r\n"),
        row(
            "a bare line feed behind the request line",
            format!("GET /count HTTP/1.1\nHost: a\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        row(
            "a bare line feed as the blank line",
            format!("GET /count HTTP/1.1\r\nHost: a\r\n\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        row("bare line feeds only", format!("GET /count HTTP/1.1\nHost: a\n\n{SMUGGLED}"), &[400], Then::Closed, 0),
        lines("a bare return in a value", "Host: a\r\nX: y\rz\r\n"),
        lines("a bare return behind a value", "Host: a\r\nX: y\r\r\n"),
        row(
            "a bare return behind the request line",
            format!("GET /count HTTP/1.1\rHost: a\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        lines("NUL in a value", "Host: a\r\nX: y\0z\r\n"),
        lines("NUL in a name", "Host: a\r\nX\0: y\r\n"),
        lines("an escape in a value", "Host: a\r\nX: \x1b[2J\r\n"),
        lines("a folded line", "Host: a\r\nX: y\r\n z\r\n"),
        lines("a folded line with a tab", "Host: a\r\nX: y\r\n\tz\r\n"),
        lines("a folded first line", " Host: a\r\nHost: a\r\n"),
        lines("a space before the colon", "Host: a\r\nX : y\r\n"),
        lines("an empty name", "Host: a\r\n: y\r\n"),
        lines("no colon", "Host: a\r\nX\r\n"),
        lines("a space in a name", "Host: a\r\nX Y: z\r\n"),
        lines("a name beyond ASCII", "Host: a\r\nX\u{e9}: y\r\n"),
        lines("no host", "X: y\r\n"),
        lines("two hosts", "Host: a\r\nHost: a\r\n"),
        lines("a host with a space", "Host: a b\r\n"),
        lines("a host with a path", "Host: a/b\r\n"),
        lines("a host with a user", "Host: u@a\r\n"),
        lines("a host with a port that there is not", "Host: a:65536\r\n"),
        lines("a host that is a list", "Host: a, b\r\n"),
        // RFC 9112, section 2.2: a server should pass over an empty line or more before a request line.
        row(
            "empty lines before",
            format!("\r\n\r\nGET /count HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            2,
        ),
        row(
            "nothing but a bare line feed before",
            format!("\nGET /count HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
    ]
}

pub fn targets() -> Vec<Row> {
    let next = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        line("HTTP/0.9", "GET /count"),
        // 505 would be right too (RFC 9110, section 15.6.6: "can").
        line("HTTP/2.0", "GET /count HTTP/2.0"),
        line("HTTP/1.2", "GET /count HTTP/1.2"),
        line("HTTP/1.10", "GET /count HTTP/1.10"),
        line("HTTP/01.1", "GET /count HTTP/01.1"),
        line("no minor version", "GET /count HTTP/1"),
        line("http/1.1 in small letters", "GET /count http/1.1"),
        line("another protocol", "GET /count ICY/1.1"),
        line("a space behind the version", "GET /count HTTP/1.1 "),
        line("two spaces before the version", "GET /count  HTTP/1.1"),
        line("two spaces before the target", "GET  /count HTTP/1.1"),
        line("tabs for spaces", "GET\t/count\tHTTP/1.1"),
        line("a space within the target", "GET /count HTTP/1.1 HTTP/1.1"),
        line("a space before the method", " GET /count HTTP/1.1"),
        line("a method with a bracket", "G[T /count HTTP/1.1"),
        line("no target", "GET HTTP/1.1"),
        line("a relative target", "GET count HTTP/1.1"),
        // hyper takes it for any method; it is CONNECT's alone (RFC 9112, section 3.2.3).
        line("an authority", "GET a:80 HTTP/1.1"),
        // hyper takes it for any method; it is OPTIONS' alone (section 3.2.4).
        line("an asterisk", "GET * HTTP/1.1"),
        line("an absolute target with a user", "GET http://u:p@a/count HTTP/1.1"),
        row(
            "an absolute target",
            format!("GET http://b/count HTTP/1.1\r\nHost: a\r\n\r\n{next}"),
            &[200, 200],
            Then::Kept,
            1,
        ),
        row(
            "an asterisk with OPTIONS",
            format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n{next}"),
            &[404, 200],
            Then::Kept,
            0,
        ),
        row("CONNECT", format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{SMUGGLED}"), &[501], Then::Closed, 0),
        row("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", &[400], Then::Closed, 0),
        // An upgrade is an offer (RFC 9110, section 7.8); what follows is HTTP/1.1 still.
        row(
            "an upgrade to HTTP/2",
            format!(
                "GET /count HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n{next}"
            ),
            &[200, 200],
            Then::Kept,
            1,
        ),
        row(
            "an upgrade to a web socket",
            format!(
                "GET /count HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{next}"
            ),
            &[200, 200],
            Then::Kept,
            1,
        ),
    ]
}

pub fn sequences() -> Vec<Row> {
    let good = "GET /count HTTP/1.1\r\nHost: a\r\n\r\n";
    let unread = "POST /ignore-body HTTP/1.1\r\nHost: a\r\n";
    vec![
        row("two good requests", good.repeat(2), &[200, 200], Then::Kept, 2),
        row(
            "garbage behind a good request",
            format!("{good}\0\x01garbage\r\n\r\n{SMUGGLED}"),
            &[200, 400],
            Then::Closed,
            1,
        ),
        // Without a length there is no body (RFC 9112, section 6.3): these are the next request's line.
        row(
            "a body without a length",
            format!("POST /count HTTP/1.1\r\nHost: a\r\n\r\nhello\r\n\r\n{SMUGGLED}"),
            &[200, 400],
            Then::Closed,
            1,
        ),
        row(
            "a close that is asked for",
            format!("GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{SMUGGLED}"),
            &[200],
            Then::Closed,
            1,
        ),
        row(
            "framing refused behind a good request",
            format!(
                "{good}POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            &[200, 400],
            Then::Closed,
            1,
        ),
        row(
            "framing refused behind a body with a length",
            format!(
                "POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            &[200, 400],
            Then::Closed,
            0,
        ),
        row(
            "framing refused behind a body in chunks",
            format!(
                "POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nPOST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"
            ),
            &[200, 400],
            Then::Closed,
            0,
        ),
        // A request in a body that the guest does not read is no request.
        row(
            UNREAD,
            format!("{unread}Content-Length: {}\r\n\r\n{SMUGGLED}{good}", SMUGGLED.len()),
            &[200, 200],
            Then::Kept,
            1,
        ),
    ]
}
