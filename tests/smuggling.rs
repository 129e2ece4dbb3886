//! Can a request be read in more than one way, so that a client smuggles one past a proxy (RFC 9112, section 11.2)? Each row
//! of the table says what is sent, what must come back, and how many requests the guest may see, by the guest's own
//! count. `proxies` sends the same through nginx and HAProxy.

use std::net::Shutdown;

use crate::support::{Connection, FAULTS, Neighbours, Response, Server};

/// What becomes of the connection behind the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is closed, and nothing else came.
    Closed,
    /// It serves the next request.
    Kept,
}

/// One attack, or something that only looks like one.
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// What is sent, whole, on a new connection.
    pub bytes: Vec<u8>,
    /// The statuses that come back, in order.
    pub statuses: &'static [u16],
    /// And then.
    pub then: Then,
    /// How many of these requests to `/count` the guest sees.
    pub seen: u64,
}

/// Where the body has not come whole when the answer is given, the host closes the connection behind it.
const UNREAD: &str = "a request in a body that nobody reads";

/// The request that is to be smuggled.
const SMUGGLED: &str = "GET /count?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

fn row(name: &'static str, bytes: impl AsRef<[u8]>, statuses: &'static [u16], then: Then, seen: u64) -> Row {
    Row { name, bytes: bytes.as_ref().to_vec(), statuses, then, seen }
}

/// A POST whose framing can be read in more than one way, the smuggled request within or behind its body. Refused.
fn post(name: &'static str, fields: &str, body: &str) -> Row {
    let bytes = format!("POST /body-size HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{SMUGGLED}");
    row(name, bytes, &[400], Then::Closed, 0)
}

/// A GET with these lines behind its request line, and a second request. Refused.
fn lines(name: &'static str, lines: &str) -> Row {
    row(name, format!("GET /count HTTP/1.1\r\n{lines}\r\n{SMUGGLED}"), &[400], Then::Closed, 0)
}

/// A request with this request line, and a second request. Refused.
fn line(name: &'static str, line: &str) -> Row {
    row(name, format!("{line}\r\nHost: a\r\n\r\n{SMUGGLED}"), &[400], Then::Closed, 0)
}

/// A body in chunks that is not one. The guest that reads it is stopped, and what stands behind it is no request.
fn chunks(name: &'static str, body: &str) -> Row {
    post(name, "Transfer-Encoding: chunked\r\n", body)
}

/// A body in chunks that is one.
fn fine_chunks(name: &'static str, body: impl AsRef<str>) -> Row {
    Row { statuses: &[200, 200], then: Then::Kept, seen: 1, ..chunks(name, body.as_ref()) }
}

/// The table. Where hyper takes more than the RFC lets a server take, the row's comment says so; all of these are
/// refused.
pub fn table() -> Vec<Row> {
    let chunk = "1\r\na\r\n0\r\n\r\n";
    let mut rows = lengths(chunk);
    rows.extend(codings(chunk));
    rows.extend(heads());
    rows.extend(targets());
    rows.extend(bodies());
    rows.extend(sequences());
    rows
}

fn lengths(chunk: &str) -> Vec<Row> {
    vec![
        // hyper takes equal ones for one, as RFC 9112, section 6.3, allows; refusing is allowed too, and says less.
        post("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("two lengths", "Content-Length: 5\r\nContent-Length: 0\r\n", "hello"),
        post("two lengths, the other first", "Content-Length: 0\r\nContent-Length: 5\r\n", "hello"),
        post("a list of equal lengths", "Content-Length: 5, 5\r\n", "hello"),
        post("a list of lengths", "Content-Length: 0, 5\r\n", "hello"),
        post("a positive length", "Content-Length: +5\r\n", "hello"),
        post("a negative length", "Content-Length: -5\r\n", "hello"),
        post("a length with a space within", "Content-Length: 5 0\r\n", "hello"),
        post("a hexadecimal length", "Content-Length: 0x5\r\n", "hello"),
        post("a length with letters", "Content-Length: 5a\r\n", "hello"),
        post("a length with a point", "Content-Length: 5.0\r\n", "hello"),
        post("a quoted length", "Content-Length: \"5\"\r\n", "hello"),
        post("an empty length", "Content-Length:\r\n", "hello"),
        post("a length that overflows", "Content-Length: 18446744073709551621\r\n", "hello"),
        // Greater than hyper's largest: taken for a request too large.
        Row { statuses: &[431], ..post("the largest length", "Content-Length: 18446744073709551615\r\n", "hello") },
        // 1*DIGIT.
        row(
            "a length with leading zeros and spaces around it",
            format!("POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: \t 0005 \r\n\r\nhello{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            1,
        ),
        // hyper takes both, shows one, and closes; RFC 9112, section 6.1, lets a server refuse it.
        post("a length and chunks", "Content-Length: 11\r\nTransfer-Encoding: chunked\r\n", chunk),
        post("chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", chunk),
        post("a length that is none, and chunks", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n", chunk),
        // hyper does not look at such a length.
        post("chunks, and a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n", chunk),
        post("chunks within a length of zero", "content-length:0\r\nX: y\r\ntransfer-encoding:chunked\r\n", chunk),
    ]
}

fn codings(chunk: &str) -> Vec<Row> {
    vec![
        post("chunked, then identity", "Transfer-Encoding: chunked, identity\r\n", chunk),
        post("identity", "Transfer-Encoding: identity\r\n", chunk),
        post("xchunked", "Transfer-Encoding: xchunked\r\n", chunk),
        post("chunked with a parameter", "Transfer-Encoding: chunked;a=b\r\n", chunk),
        post("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n", chunk),
        post("no coding", "Transfer-Encoding:\r\n", chunk),
        post("chunked and nothing", "Transfer-Encoding: chunked,\r\n", chunk),
        // hyper takes it for chunked; whoever does not, sees a request without a body.
        post("nothing and chunked", "Transfer-Encoding: , chunked\r\n", chunk),
        post("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunk),
        post(
            "chunked and identity in two fields",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            chunk,
        ),
        post("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked\r\n", chunk),
        post("a space before the colon", "Transfer-Encoding : chunked\r\n", chunk),
        post("a tab before the colon", "Transfer-Encoding\t: chunked\r\n", chunk),
        post("a space before the name", "X: y\r\n Transfer-Encoding: chunked\r\n", chunk),
        post("chunked in a folded line", "Transfer-Encoding:\r\n chunked\r\n", chunk),
        post("a coding behind a bare return", "X: y\rTransfer-Encoding: chunked\r\n", chunk),
        // Codings that there are: 501, RFC 9112, section 6.1. The host closes all the same.
        Row { statuses: &[501], ..post("gzip and chunked", "Transfer-Encoding: gzip, chunked\r\n", chunk) },
        Row { statuses: &[501], ..post("identity and chunked", "Transfer-Encoding: identity, chunked\r\n", chunk) },
        row(
            "chunks in HTTP/1.0",
            format!("POST /body-size HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        row(
            "Chunked, in letters of any case, with spaces and tabs around it",
            format!("POST /body-size HTTP/1.1\r\nHost: a\r\ntRANSFER-eNCODING:\t  cHUNKED \t\r\n\r\n{chunk}{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            1,
        ),
        // Another name, and nothing to the host; but the guest is told of it.
        row(
            "an underscore in the name",
            format!(
                "POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"
            ),
            &[200, 200],
            Then::Kept,
            1,
        ),
    ]
}

fn heads() -> Vec<Row> {
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

fn targets() -> Vec<Row> {
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

fn bodies() -> Vec<Row> {
    vec![
        chunks("a size with a plus", "+1\r\na\r\n0\r\n\r\n"),
        chunks("a size with a minus", "-1\r\na\r\n0\r\n\r\n"),
        chunks("a size with 0x", "0x1\r\na\r\n0\r\n\r\n"),
        chunks("a size with a space before it", " 1\r\na\r\n0\r\n\r\n"),
        // hyper passes over spaces behind a size; RFC 9112, section 7.1, knows them before `;` only.
        chunks("a size with a space behind it", "1 \r\na\r\n0\r\n\r\n"),
        chunks("a size with a space within", "1 0\r\na\r\n0\r\n\r\n"),
        chunks("no size", "\r\na\r\n0\r\n\r\n"),
        chunks("no size but an extension", ";x\r\na\r\n0\r\n\r\n"),
        chunks("a size that is no number", "g\r\na\r\n0\r\n\r\n"),
        chunks("a size that overflows", "10000000000000001\r\na\r\n0\r\n\r\n"),
        chunks("a size that wraps in 32 bits and is cut short", "ffffffff00000001\r\na\r\n0\r\n\r\n").cut_short(),
        chunks("more zeros than a size has digits", "00000000000000001\r\na\r\n0\r\n\r\n"),
        fine_chunks("leading zeros", "0000000000000001\r\na\r\n000\r\n\r\n"),
        fine_chunks("extensions", "1;a;b=c ; d=\"e;f\"\r\na\r\n0;g\r\n\r\n"),
        fine_chunks("large extensions", format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(4_000))),
        chunks("a bare line feed behind a size", "1\na\r\n0\r\n\r\n"),
        chunks("a bare line feed in an extension", "1;x\ny\r\na\r\n0\r\n\r\n"),
        chunks("a bare return in an extension", "1;x\ry\r\na\r\n0\r\n\r\n"),
        chunks("NUL in an extension", "1;\0\r\na\r\n0\r\n\r\n"),
        chunks("a bare line feed behind a chunk", "1\r\na\n0\r\n\r\n"),
        chunks("nothing behind a chunk", "1\r\na0\r\n\r\n"),
        chunks("a chunk longer than its size", "1\r\nab\r\n0\r\n\r\n"),
        chunks("a chunk shorter than its size", "5\r\na\r\n0\r\n\r\n"),
        chunks("a bare line feed as the last line", "0\r\n\n"),
        // hyper looks for CR LF only, and shows a field with a line feed in it as two.
        chunks("a bare line feed behind a trailer", "0\r\nX: y\n\r\n"),
        chunks("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
        chunks("a trailer without a colon", "0\r\nX\r\n\r\n"),
        chunks("a trailer with NUL", "0\r\nX: \0\r\n\r\n"),
        fine_chunks(
            "trailers that would change the message",
            "1\r\na\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n",
        ),
        chunks("an end before the last chunk", "1\r\na\r\n").cut_short(),
        chunks("an end within a chunk", "5\r\na").cut_short(),
        chunks("an end within the trailers", "0\r\nX: y\r\n").cut_short(),
        post("an end before the length", "Content-Length: 9\r\n", "hello").cut_short(),
    ]
}

fn sequences() -> Vec<Row> {
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

impl Row {
    /// The client sends nothing behind it: without the smuggled request.
    fn cut_short(mut self) -> Self {
        self.bytes.truncate(self.bytes.len() - SMUGGLED.len());
        self
    }
}

/// What came back, up to the connection's end or the last answer that is expected.
fn answers(connection: &mut Connection, row: &Row) -> Vec<Response> {
    let mut answers = Vec::new();
    while row.then == Then::Closed || answers.len() < row.statuses.len() {
        match connection.try_response(false) {
            Some(answer) => answers.push(answer),
            None => break,
        }
    }
    answers
}

#[test]
fn every_request_is_read_in_one_way_or_refused() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--instances-per-worker", "1"]);
        let count = || -> u64 {
            let mut connection = Connection::open(server.address);
            connection.get("/count").text().parse().expect("a number")
        };
        let neighbours = Neighbours::that_upload(server.address);
        let (mut counted, mut generation) = (count(), server.sum("generation"));
        for row in table() {
            let what = format!("{component}: {}", row.name);
            let refused = server.sum("refusals.bad-request");
            let mut connection = Connection::open(server.address);
            connection.send(&row.bytes);
            if row.then == Then::Closed {
                // Otherwise an end before its time would be waited for.
                connection.stream.shutdown(Shutdown::Write).expect("half closed");
            }
            let given = answers(&mut connection, &row);
            let statuses: Vec<u16> = given.iter().map(|answer| answer.status).collect();
            assert_eq!(statuses, row.statuses, "{what}: {given:?}");
            assert!(given.iter().all(|answer| answer.whole), "{what}: {given:?}");
            match row.then {
                Then::Kept => assert_eq!(connection.get("/hello").text(), "Hello, World!", "{what}"),
                Then::Closed => assert!(connection.raw_to_end().is_empty(), "{what}: bytes behind the last answer"),
            }
            // A guest whose request was stopped has a successor, which counts anew.
            let (now, generation_now) = (count(), server.sum("generation"));
            let expected = if generation_now == generation { counted + row.seen + 1 } else { 1 };
            assert_eq!(now, expected, "{what}: the guest saw other requests than it should");
            (counted, generation) = (now, generation_now);
            let bad = row.statuses.iter().filter(|status| **status == 400).count() as u64;
            assert_eq!(server.sum("refusals.bad-request"), refused + bad, "{what}: it is counted");
        }
        assert_eq!(server.sum("client_left"), 0, "{component}");
        assert_eq!(
            server.records(|record| record["fault"].is_string()).len(),
            0,
            "{component}: none is the guest's fault"
        );
        neighbours.end("beside them");
    }
}

/// The same bytes, cut into pieces, are read in the same way.
#[test]
fn how_a_request_is_cut_into_pieces_changes_nothing() {
    let server = Server::start("faults.wasm", &["--workers", "1"]);
    for row in table() {
        for piece in [1, 7] {
            let mut connection = Connection::open(server.address);
            for bytes in row.bytes.chunks(piece).take(200) {
                use std::io::Write;
                // It may be refused before all of it was sent.
                if connection.stream.write_all(bytes).is_err() {
                    break;
                }
            }
            if row.bytes.len() > 200 * piece {
                continue;
            }
            if row.then == Then::Closed {
                let _ = connection.stream.shutdown(Shutdown::Write);
            }
            let statuses: Vec<u16> = answers(&mut connection, &row).iter().map(|answer| answer.status).collect();
            let is_closed = row.name == UNREAD && statuses == [200];
            assert!(statuses == row.statuses || is_closed, "{} in pieces of {piece}: {statuses:?}", row.name);
        }
    }
}
