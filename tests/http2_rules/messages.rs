//! Requests as messages of HTTP (RFC 9113, section 8).

use super::row::*;
use crate::support::http2::{END_HEADERS, END_STREAM, fields, frame, kind, request};

pub fn messages() -> Vec<Row> {
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

pub fn targets() -> Vec<Row> {
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

/// More of both.
pub fn more() -> Vec<Row> {
    use Then::{Answers, Closes, Ends, Resets};
    let trailers = |of: &[(&str, &str)]| {
        [open(&[]), data(0, b"x"), frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &fields(of))].concat()
    };
    let with_body = |more: &[(&str, &str)], flags: u8, body: &[u8]| {
        [frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/count?bad", more)), data(flags, body)].concat()
    };
    let connect = |more: &[(&str, &str)]| {
        let head = fields(&[&[(":method", "CONNECT"), (":authority", "test:80")][..], more].concat());
        frame(kind::HEADERS, END_HEADERS, 1, &head)
    };
    vec![
        other(
            "8.1",
            "DATA behind trailers",
            [trailers(&[("x", "y")]), data(0, b"x")].concat(),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        other(
            "8.1",
            "trailers twice",
            [trailers(&[("x", "y")]), headers(1, &fields(&[("x", "y")]))].concat(),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        row("8.1", "trailers with `connection`", trailers(&[("connection", "x")]), Resets(1)),
        row("8.1", "trailers with `transfer-encoding`", trailers(&[("transfer-encoding", "chunked")]), Resets(1)),
        other("8.1", "trailers with a name in upper case", trailers(&[("X-Y", "z")]), Ends(1), AS_HPACK),
        row("8.1.1", "Content-Length of 0 and no DATA", with("content-length", "0"), Answers(200)),
        row(
            "8.1.1",
            "as much DATA as it says, in trailers' company",
            {
                let of = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x", "y")]));
                [with_body(&[("content-length", "2")], 0, b"12"), of].concat()
            },
            Answers(200),
        ),
        row(
            "8.1.1",
            "less DATA than it says, and trailers",
            {
                let of = frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x", "y")]));
                [with_body(&[("content-length", "3")], 0, b"12"), of].concat()
            },
            Resets(1),
        ),
        row(
            "8.1.1",
            "the same length twice",
            with_body(&[("content-length", "2"), ("content-length", "2")], 1, b"12"),
            Answers(400),
        ),
        row("8.1.1", "a list of lengths", with_body(&[("content-length", "2, 2")], 1, b"12"), Resets(1)),
        row("8.1.1", "a length below 0", with_body(&[("content-length", "-2")], 1, b"12"), Resets(1)),
        row("8.1.1", "an empty length", with_body(&[("content-length", "")], 1, b"12"), Resets(1)),
        row(
            "8.1.1",
            "a length beyond 64 bits",
            with_body(&[("content-length", "18446744073709551618")], 1, b"12"),
            Resets(1),
        ),
        other("8.2.1", "a name with DEL", with("x\x7f", "y"), Ends(1), AS_HPACK),
        row("8.2.2", "`te: trailers` with a weight", with("te", "trailers;q=0.5"), Resets(1)),
        row("8.2.2", "`te: Trailers`", with("te", "Trailers"), Resets(1)),
        other(
            "8.3",
            "a pseudo-header in upper case",
            head(&[METHOD, SCHEME, AUTHORITY, (":Path", "/count?bad")]),
            Ends(1),
            AS_HPACK,
        ),
        other("8.3.1", "an empty `:method`", head(&[(":method", ""), SCHEME, AUTHORITY, PATH]), Ends(1), AS_HPACK),
        row("8.3.1", "an empty `:scheme`", head(&[METHOD, (":scheme", ""), AUTHORITY, PATH]), Answers(400)),
        row("8.3.1", "an empty `:authority`", head(&[METHOD, SCHEME, (":authority", ""), PATH]), Resets(1)),
        row(
            "8.3.1",
            "an empty `:authority` beside `host`",
            head(&[METHOD, SCHEME, (":authority", ""), PATH, ("host", "test")]),
            Resets(1),
        ),
        row(
            "8.3.1",
            "`*` with OPTIONS",
            head(&[(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")]),
            Answers(404),
        ),
        row("8.5", "CONNECT with `:scheme`", connect(&[SCHEME]), Resets(1)),
        row("8.5", "CONNECT that goes on with DATA", [connect(&[]), data(0, b"x")].concat(), Answers(501)),
        other(
            "8.5",
            "CONNECT with a Content-Length",
            connect(&[("content-length", "5")]),
            Closes,
            "hyper ends the connection, and says no word",
        ),
    ]
}
