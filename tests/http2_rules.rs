//! What a client of HTTP/2 may not do, by section of RFC 9113 and RFC 7541, and what the host answers. The table is also
//! `docs/HTTP2.md`.

use crate::support::document::check_part;
use crate::support::http2::{
    END_HEADERS, END_STREAM, Frame, Frames, Outcome, PADDED, PREFACE, fields, frame, get, kind, raw_fields, request,
};
use crate::support::{Server, TestResult, get as get_by_http1};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/HTTP2.md");
const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->";

/// Names of errors (RFC 9113, section 7).
const ERRORS: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

/// What the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It ends the connection for this error.
    Ends(u32),
    /// It resets the stream for this error. The connection goes on.
    Resets(u32),
    /// It answers with this status.
    Answers(u16),
    /// It goes on as if nothing had come.
    GoesOn,
}

/// Of which RFC a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Http,
    Hpack,
}

struct Row {
    of: Of,
    section: &'static str,
    what: &'static str,
    /// Sent behind the preface and settings.
    bytes: Vec<u8>,
    then: Then,
    /// Where the answer is another one than the RFC names: why.
    why: &'static str,
}

fn row(section: &'static str, what: &'static str, bytes: Vec<u8>, then: Then) -> Row {
    Row { of: Of::Http, section, what, bytes, then, why: "" }
}

/// The same where the answer is another one than the section names.
fn other(section: &'static str, what: &'static str, bytes: Vec<u8>, then: Then, why: &'static str) -> Row {
    Row { why, ..row(section, what, bytes, then) }
}

fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// A GET with this field more.
fn with(name: &str, value: &str) -> Vec<u8> {
    headers(1, &request("GET", "/count?bad", &[(name, value)]))
}

fn with_raw(name: &[u8], value: &[u8]) -> Vec<u8> {
    headers(1, &[request("GET", "/count?bad", &[]), raw_fields(&[(name, value)])].concat())
}

/// A head of these fields.
fn head(of: &[(&str, &str)]) -> Vec<u8> {
    headers(1, &fields(of))
}

/// An open stream, whose guest waits for its body.
fn open(more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/body-size", more))
}

fn data(flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, 1, bytes)
}

/// A stream that the client has ended, and whose guest has not answered.
fn ended() -> Vec<u8> {
    headers(1, &get("/sleep?ms=300"))
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const AUTHORITY: (&str, &str) = (":authority", "test");
const PATH: (&str, &str) = (":path", "/count?bad");

/// Why h2's error is another one.
const H2_NAMES_IT_SO: &str = "h2 names the error so";
/// What the RFC calls a malformed request, and answers by a reset of its stream.
const AS_HPACK: &str = "h2 takes it for an error of HPACK, and ends the connection";

fn rows() -> Vec<Row> {
    let mut rows = frames();
    rows.extend(streams());
    rows.extend(settings());
    rows.extend(messages());
    rows.extend(targets());
    rows.extend(hpack());
    rows
}

fn frames() -> Vec<Row> {
    use Then::{Ends, GoesOn};
    vec![
        row("4.1", "a frame of an unknown type", frame(0xbb, 0xff, 7, b"text"), GoesOn),
        row("4.1", "unknown flags and the reserved bit", frame(kind::PING, 0xf0, 0x8000_0000, &[1; 8]), GoesOn),
        row("4.2", "DATA longer than SETTINGS_MAX_FRAME_SIZE", [open(&[]), data(0, &[0; 16_385])].concat(), Ends(6)),
        row("4.2", "HEADERS longer than it", headers(1, &request("GET", "/", &[("x", &"a".repeat(17_000))])), Ends(6)),
        other("6.7", "PING of 7 bytes", frame(kind::PING, 0, 0, &[0; 7]), Ends(1), H2_NAMES_IT_SO),
        row("6.7", "PING on a stream", frame(kind::PING, 0, 1, &[0; 8]), Ends(1)),
        other(
            "6.4",
            "RST_STREAM of 5 bytes",
            [ended(), frame(kind::RST_STREAM, 0, 1, &[0; 5])].concat(),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        row("6.4", "RST_STREAM on stream 0", frame(kind::RST_STREAM, 0, 0, &[0; 4]), Ends(1)),
        row("6.4", "RST_STREAM of an idle stream", frame(kind::RST_STREAM, 0, 9, &[0; 4]), Ends(1)),
        other("6.3", "PRIORITY of 4 bytes", frame(kind::PRIORITY, 0, 1, &[0; 4]), Ends(1), H2_NAMES_IT_SO),
        row("6.3", "PRIORITY on stream 0", frame(kind::PRIORITY, 0, 0, &[0; 5]), Ends(1)),
        row("6.3", "PRIORITY of an idle stream", frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 0, 9]), GoesOn),
        row(
            "6.6",
            "PUSH_PROMISE by a client",
            [ended(), frame(kind::PUSH_PROMISE, 4, 1, &[&[0, 0, 0, 2][..], &get("/")].concat())].concat(),
            Ends(1),
        ),
        row("6.8", "GOAWAY on a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), Ends(1)),
        row("6.9", "WINDOW_UPDATE of 0 for the connection", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4]), Ends(1)),
        row("6.9", "WINDOW_UPDATE of an idle stream", frame(kind::WINDOW_UPDATE, 0, 7, &[0, 0, 0, 1]), Ends(1)),
        other("6.9", "WINDOW_UPDATE of 3 bytes", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3]), Ends(1), H2_NAMES_IT_SO),
        row(
            "6.9.1",
            "a window of the connection beyond 2^31-1",
            frame(kind::WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]),
            Ends(3),
        ),
        row("6.10", "CONTINUATION without HEADERS", frame(kind::CONTINUATION, 4, 1, &[]), Ends(1)),
        row(
            "6.10",
            "CONTINUATION behind END_HEADERS",
            [ended(), frame(kind::CONTINUATION, 4, 1, &[])].concat(),
            Ends(1),
        ),
        row(
            "6.10",
            "CONTINUATION of another stream",
            [frame(kind::HEADERS, 1, 1, &get("/")), frame(kind::CONTINUATION, 4, 3, &[])].concat(),
            Ends(1),
        ),
        row(
            "6.10",
            "PING between HEADERS and CONTINUATION",
            [frame(kind::HEADERS, 1, 1, &get("/")), frame(kind::PING, 0, 0, &[0; 8])].concat(),
            Ends(1),
        ),
        row(
            "6.10",
            "an unknown frame between them",
            [frame(kind::HEADERS, 1, 1, &get("/")), frame(0xbb, 0, 0, &[])].concat(),
            Ends(1),
        ),
        row("6.1", "DATA padded beyond its end", [open(&[]), data(PADDED, &[5, 1, 1])].concat(), Ends(1)),
        row("6.1", "DATA on stream 0", frame(kind::DATA, 0, 0, b"x"), Ends(1)),
        row("6.2", "HEADERS padded beyond their end", frame(kind::HEADERS, 4 | PADDED, 1, &[200, 1, 1]), Ends(1)),
        row("6.2", "HEADERS on stream 0", headers(0, &get("/")), Ends(1)),
    ]
}

fn streams() -> Vec<Row> {
    use Then::{Ends, Resets};
    let next =
        |first: u32, second: u32| [headers(first, &get("/sleep?ms=300")), headers(second, &get("/count?bad"))].concat();
    vec![
        row("5.1", "DATA on an idle stream", data(0, b"x"), Ends(1)),
        other("5.1", "DATA behind END_STREAM", [ended(), data(0, b"x")].concat(), Ends(1), H2_NAMES_IT_SO),
        other(
            "5.1",
            "HEADERS behind END_STREAM",
            [ended(), headers(1, &fields(&[("x", "y")]))].concat(),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        row("5.1.1", "a stream with an even number", headers(2, &get("/count?bad")), Ends(1)),
        row("5.1.1", "a stream with a lower number than one before", next(5, 3), Ends(1)),
        row(
            "5.3",
            "HEADERS that depend on their own stream",
            {
                let block = [&[0, 0, 0, 1, 9][..], &get("/count?bad")].concat();
                frame(kind::HEADERS, 4 | 1 | 0x20, 1, &block)
            },
            Resets(1),
        ),
        other(
            "6.9",
            "WINDOW_UPDATE of 0 for a stream",
            [ended(), frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            Ends(1),
            "h2 ends the connection",
        ),
        row(
            "6.9.1",
            "a window of a stream beyond 2^31-1",
            [ended(), frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0xff, 0xff])].concat(),
            Resets(3),
        ),
        row(
            "6.9.1",
            "more DATA than the stream's window",
            {
                let sleep = frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/sleep?ms=300", &[]));
                let pieces = (0..20).flat_map(|_| data(0, &[b'x'; 16_000]));
                sleep.into_iter().chain(pieces).collect()
            },
            Resets(3),
        ),
    ]
}

fn settings() -> Vec<Row> {
    use Then::{Ends, GoesOn};
    vec![
        row("6.5", "SETTINGS on a stream", frame(kind::SETTINGS, 0, 1, &[]), Ends(1)),
        other(
            "6.5",
            "an acknowledgement with a payload",
            frame(kind::SETTINGS, 1, 0, &[0; 6]),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        other("6.5", "SETTINGS of 5 bytes", frame(kind::SETTINGS, 0, 0, &[0; 5]), Ends(1), H2_NAMES_IT_SO),
        row("6.5.2", "an unknown setting", setting(0xbb, 1), GoesOn),
        row("6.5.2", "SETTINGS_ENABLE_PUSH of 2", setting(2, 2), Ends(1)),
        other("6.5.2", "SETTINGS_INITIAL_WINDOW_SIZE of 2^31", setting(4, 1 << 31), Ends(1), H2_NAMES_IT_SO),
        row("6.5.2", "SETTINGS_MAX_FRAME_SIZE of 16383", setting(5, 16_383), Ends(1)),
        row("6.5.2", "SETTINGS_MAX_FRAME_SIZE of 2^24", setting(5, 1 << 24), Ends(1)),
        row(
            "6.9.2",
            "a window that becomes too large by SETTINGS",
            [ended(), frame(kind::WINDOW_UPDATE, 0, 1, &[0x7f, 0xff, 0, 0]), setting(4, 0x7fff_ffff)].concat(),
            Ends(3),
        ),
    ]
}

fn messages() -> Vec<Row> {
    use Then::{Answers, Ends, Resets};
    let trailers = |flags: u8, of: &[(&str, &str)]| {
        [open(&[]), data(0, b"x"), frame(kind::HEADERS, flags, 1, &fields(of))].concat()
    };
    let mut rows = vec![
        row("8.1", "trailers that do not end the stream", trailers(END_HEADERS, &[("x", "y")]), Resets(1)),
        row("8.1", "trailers with a pseudo-header", trailers(5, &[("x", "y"), (":path", "/")]), Resets(1)),
        row(
            "8.1.1",
            "less DATA than Content-Length",
            [open(&[("content-length", "5")]), data(1, b"1234")].concat(),
            Resets(1),
        ),
        row(
            "8.1.1",
            "more DATA than Content-Length",
            [open(&[("content-length", "5")]), data(1, b"123456")].concat(),
            Resets(1),
        ),
        row(
            "8.1.1",
            "Content-Length and no DATA",
            headers(1, &request("POST", "/body-size", &[("content-length", "5")])),
            Resets(1),
        ),
        row("8.1.1", "two different lengths", open(&[("content-length", "5"), ("content-length", "6")]), Resets(1)),
        row("8.1.1", "a length that is none", open(&[("content-length", "+5")]), Resets(1)),
        other("8.2.1", "a name in upper case", with("X-Upper", "y"), Ends(1), AS_HPACK),
        other("8.2.1", "an empty name", with("", "y"), Ends(1), AS_HPACK),
        other("8.2.1", "a name with a space", with("x y", "y"), Ends(1), AS_HPACK),
        other("8.2.1", "a name with a colon", with("x:y", "y"), Ends(1), AS_HPACK),
        other("8.2.1", "a name with a line feed", with("x\ny", "y"), Ends(1), AS_HPACK),
        other("8.2.1", "a name that is not ASCII", with_raw(b"x\xff", b"y"), Ends(1), AS_HPACK),
        other("8.2.1", "a value with a carriage return", with("x", "y\rz: 1"), Ends(1), AS_HPACK),
        other("8.2.1", "a value with a line feed", with("x", "y\nz: 1"), Ends(1), AS_HPACK),
        other(
            "8.2.1",
            "a value with CR LF and a request behind it",
            with("x", "y\r\n\r\nGET /count?smuggled HTTP/1.1\r\n\r\n"),
            Ends(1),
            AS_HPACK,
        ),
        other("8.2.1", "a value with NUL", with("x", "y\0z"), Ends(1), AS_HPACK),
        row("8.2.1", "a value that begins with a space", with("x", " y"), Answers(400)),
        row("8.2.1", "a value that ends with a tab", with("x", "y\t"), Answers(400)),
        row("8.2.1", "a value of bytes beyond ASCII", with_raw(b"x", b"\xfc"), Answers(200)),
        row("8.2.2", "`te` that says more than trailers", with("te", "trailers, gzip"), Resets(1)),
        row("8.2.2", "`te: trailers`", with("te", "trailers"), Answers(200)),
        row(
            "8.2.3",
            "a cookie in pieces",
            headers(1, &request("GET", "/count?bad", &[("cookie", "a=b"), ("cookie", "c=d")])),
            Answers(200),
        ),
    ];
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        let what: &'static str = match name {
            "connection" => "`connection`",
            "keep-alive" => "`keep-alive`",
            "proxy-connection" => "`proxy-connection`",
            "transfer-encoding" => "`transfer-encoding`",
            _ => "`upgrade`",
        };
        let value = if name == "transfer-encoding" { "chunked" } else { "x" };
        rows.push(row("8.2.2", what, with(name, value), Resets(1)));
    }
    rows
}

fn targets() -> Vec<Row> {
    use Then::{Answers, Ends, Resets};
    let path = |path: &str| head(&[METHOD, SCHEME, AUTHORITY, (":path", path)]);
    let of = |authority: &str| head(&[METHOD, SCHEME, (":authority", authority), PATH]);
    let host = |host: &str| head(&[METHOD, SCHEME, AUTHORITY, PATH, ("host", host)]);
    vec![
        row("8.3", "a pseudo-header behind a field", head(&[METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH]), Resets(1)),
        other(
            "8.3",
            "an unknown pseudo-header",
            head(&[METHOD, SCHEME, AUTHORITY, PATH, (":x", "y")]),
            Ends(1),
            AS_HPACK,
        ),
        row("8.3", "`:status` in a request", head(&[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]), Resets(1)),
        row("8.3.1", "no `:method`", head(&[SCHEME, AUTHORITY, PATH]), Resets(1)),
        row("8.3.1", "no `:scheme`", head(&[METHOD, AUTHORITY, PATH]), Resets(1)),
        row("8.3.1", "no `:path`", head(&[METHOD, SCHEME, AUTHORITY]), Resets(1)),
        row("8.3.1", "an empty `:path`", path(""), Resets(1)),
        row("8.3.1", "`:method` twice", head(&[METHOD, METHOD, SCHEME, AUTHORITY, PATH]), Resets(1)),
        row("8.3.1", "`:scheme` twice", head(&[METHOD, SCHEME, SCHEME, AUTHORITY, PATH]), Resets(1)),
        row("8.3.1", "`:path` twice", head(&[METHOD, SCHEME, AUTHORITY, PATH, PATH]), Resets(1)),
        row("8.3.1", "`:authority` twice", head(&[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH]), Resets(1)),
        row("8.3.1", "`:path` without a slash", path("count?bad"), Resets(1)),
        row("8.3.1", "an absolute `:path`", path("http://test/count?bad"), Resets(1)),
        row("8.3.1", "`:path` with a space", path("/count?bad HTTP/1.1"), Resets(1)),
        row("8.3.1", "`:path` with CR LF", path("/count?bad\r\nx: y"), Resets(1)),
        row("8.3.1", "`:path` with NUL", path("/count?bad\0"), Resets(1)),
        other(
            "8.3.1",
            "`:path` with a fragment",
            path("/count?bad#x"),
            Answers(200),
            "h2 leaves it out; over HTTP/1.1, the answer is 400",
        ),
        row("8.3.1", "`*` with GET", path("*"), Answers(400)),
        other(
            "8.3.1",
            "a method with a space",
            head(&[(":method", "GET /"), SCHEME, AUTHORITY, PATH]),
            Ends(1),
            AS_HPACK,
        ),
        other(
            "8.3.1",
            "a method with CR LF",
            head(&[(":method", "GET\r\n"), SCHEME, AUTHORITY, PATH]),
            Ends(1),
            AS_HPACK,
        ),
        row("8.3.1", "a scheme that is not HTTP's", head(&[METHOD, (":scheme", "ftp"), AUTHORITY, PATH]), Answers(400)),
        row("8.3.1", "a scheme with a space", head(&[METHOD, (":scheme", "http "), AUTHORITY, PATH]), Resets(1)),
        row("8.3.1", "`:authority` with a user", of("u:p@test"), Answers(400)),
        row("8.3.1", "`:authority` with a space", of("te st"), Resets(1)),
        row("8.3.1", "`:authority` with a path", of("test/x"), Resets(1)),
        row("8.3.1", "`:authority` with CR LF", of("test\r\nx: y"), Resets(1)),
        row("8.3.1", "`host` that differs from `:authority`", host("other"), Answers(400)),
        row("8.3.1", "`host` with another port", host("test:81"), Answers(400)),
        row("8.3.1", "`host` that says the same", host("test"), Answers(200)),
        row(
            "8.3.1",
            "`host` twice",
            head(&[METHOD, SCHEME, AUTHORITY, PATH, ("host", "test"), ("host", "test")]),
            Answers(400),
        ),
        row(
            "8.3.1",
            "`host` in the place of `:authority`",
            head(&[METHOD, SCHEME, PATH, ("host", "test")]),
            Answers(200),
        ),
        row("8.3.1", "neither of them", head(&[METHOD, SCHEME, PATH]), Answers(400)),
        row("8.5", "CONNECT", head(&[(":method", "CONNECT"), (":authority", "test:80")]), Answers(501)),
        row(
            "8.5",
            "CONNECT with `:path`",
            head(&[(":method", "CONNECT"), SCHEME, (":authority", "test:80"), PATH]),
            Resets(1),
        ),
        row("8.5", "CONNECT without `:authority`", head(&[(":method", "CONNECT")]), Answers(501)),
        row(
            "8.5",
            "extended CONNECT (RFC 8441)",
            head(&[(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, PATH]),
            Resets(1),
        ),
    ]
}

fn hpack() -> Vec<Row> {
    use Then::Ends;
    let block = |bytes: &[u8]| headers(1, &[&get("/count?bad")[..], bytes].concat());
    let why = "h2 names the error so (RFC 9113, section 4.3, asks for COMPRESSION_ERROR)";
    let mut rows = vec![
        row("2.3.3", "an index that nothing stands at", block(&[0xff, 0x20]), Ends(1)),
        row(
            "4.2",
            "a table larger than allowed",
            headers(1, &[&[0x3f, 0xff, 0xff, 0x03][..], &get("/count?bad")].concat()),
            Ends(1),
        ),
        row("4.2", "a size of the table behind a field", block(&[0x20]), Ends(1)),
        row("5.1", "an integer without end", block(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]), Ends(1)),
        row("5.2", "a string beyond the block's end", block(&[0, 1, b'x', 100, b'y']), Ends(1)),
        row("5.2", "Huffman's code padded by more than 7 bits", block(&[0, 1, b'x', 0x82, 0xff, 0xff]), Ends(1)),
        row("5.2", "Huffman's code padded by zeros", block(&[0, 1, b'x', 0x81, 0x18]), Ends(1)),
        row("5.2", "EOS in Huffman's code", block(&[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff]), Ends(1)),
        row("6.1", "the index 0", block(&[0x80]), Ends(1)),
    ];
    for row in &mut rows {
        (row.of, row.why) = (Of::Hpack, why);
    }
    rows
}

/// What became of the row's client; and whether its connection serves a further request.
fn happened(server: &Server, row: &Row) -> Then {
    let mut client = Frames::open(server.address);
    // The windows are what they will be.
    client.wait_for(|frame| frame.kind == kind::WINDOW_UPDATE).expect("a window");
    client.try_send(&row.bytes);
    client.try_send(headers(101, &get("/hello")));
    let [first, last] = client.outcomes(&[1, 101]).try_into().expect("two");
    let goes_on = matches!(&last, Outcome::Answered(200, body) if body == b"Hello, World!");
    match (first, &last) {
        (_, Outcome::GoAway(error)) => Then::Ends(*error),
        (Outcome::Reset(error) | Outcome::Broken(_, _, error), _) if goes_on => Then::Resets(error),
        (Outcome::Answered(status, _), _) if goes_on => Then::Answers(status),
        (first, _) => panic!("{}: {first:?}, then {last:?}", row.what),
    }
}

fn text(row: &Row) -> String {
    let error = |error: u32| format!("`{}`", ERRORS[error as usize]);
    let then = match row.then {
        Then::Ends(reason) => format!("the connection ends: {}", error(reason)),
        Then::Resets(reason) => format!("the stream is reset: {}", error(reason)),
        Then::Answers(status) => format!("{status}"),
        Then::GoesOn => "ignored".to_owned(),
    };
    let rfc = match row.of {
        Of::Http => "9113",
        Of::Hpack => "7541",
    };
    let why = if row.why.is_empty() { String::new() } else { format!(" ({})", row.why) };
    format!("| {rfc}, {} | {} | {then}{why} |\n", row.section, row.what)
}

#[test]
fn what_a_client_may_not_do_is_answered_as_the_table_says() -> TestResult {
    let server = Server::start("faults.wasm", &["--workers", "1", "--instances-per-worker", "1"]);
    let mut wrong = Vec::new();
    let mut table = "| RFC, section | what the client sends | what happens |\n|---|---|---|\n".to_owned();
    let (mut counted, mut generation, mut count) = (0, server.sum("generation"), 0);
    for row in rows() {
        let found = if row.then == Then::GoesOn { goes_on(&server, &row) } else { happened(&server, &row) };
        if found != row.then {
            wrong.push(format!("{} {}: {found:?} in the place of {:?}", row.section, row.what, row.then));
        }
        // No request got past the host that should not, and none twice. (A call that is cancelled takes its instance along,
        // and the next one counts anew.)
        let may_see = u64::from(row.then == Then::Answers(200)) + 1;
        let counted_now: u64 = get_by_http1(server.address, "/count").text().parse()?;
        let generation_now = server.sum("generation");
        let is_right =
            if generation_now == generation { counted_now == counted + may_see } else { counted_now <= may_see };
        if !is_right {
            wrong.push(format!(
                "{} {}: the guest has seen {counted_now} requests, {counted} before",
                row.section, row.what
            ));
        }
        (counted, generation) = (counted_now, generation_now);
        table += &text(&row);
        count += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    check_part(DOCUMENT, BEGIN, END, &format!("\n{count} checks:\n\n{table}\n"))
}

fn goes_on(server: &Server, row: &Row) -> Then {
    let mut client = Frames::open(server.address);
    client.send(&row.bytes);
    client.ask(101, "/hello");
    match client.outcome(101) {
        Outcome::Answered(200, _) => Then::GoesOn,
        Outcome::GoAway(error) => Then::Ends(error),
        other => panic!("{}: {other:?}", row.what),
    }
}

#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    let server = Server::start("hello.wasm", &[]);
    let begin = |bytes: &[u8]| {
        let mut client = Frames::connect(server.address);
        client.send(bytes);
        client.goaway()
    };
    // RFC 9113, section 3.4.
    let wrong = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert!(matches!(begin(wrong), Some(1) | None));
    let mut client = Frames::connect(server.address);
    client.send([PREFACE, &frame(kind::SETTINGS, 0, 0, &[])].concat());
    let first = client.next().expect("a frame");
    assert_eq!((first.kind, first.flags), (kind::SETTINGS, 0));
    let acknowledged = client.wait_for(|Frame { kind, flags, .. }| (*kind, *flags) == (self::kind::SETTINGS, 1));
    assert!(acknowledged.is_some());
    client.send(frame(kind::PING, 0, 0, b"12345678"));
    let pong = client.wait_for(|Frame { kind, flags, .. }| (*kind, *flags) == (self::kind::PING, 1)).expect("a pong");
    assert_eq!(pong.payload, b"12345678");
}
