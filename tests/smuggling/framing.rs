//! How long a body is: its length, its codings, its chunks.

use super::row::{
    BARE_LINE_FEED, GARDEN, NO_COLON, NO_TOKEN, RETURN, Row, SMUGGLED, Then, chunks, fine_chunks, post, row,
};

/// Why the host takes fewer requests.
const BLANK: &str = "RFC 9112, 7.1, knows white space behind a size before an extension only";
const TRAILERS: &str = "nginx does not read trailers; a guest may see them, so they are fields";
const CONTROL: &str = "an extension is text, and control characters are none";
const EXTENSIONS: &str = "they cost time and carry nothing, so they have a bound";

pub fn lengths(chunk: &str) -> Vec<Row> {
    vec![
        // hyper takes equal ones for one, as RFC 9112, section 6.3, allows; refusing is allowed too, and says less.
        post("two equal lengths", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        post("two lengths", "Content-Length: 5\r\nContent-Length: 0\r\n", "hello").known("CVE-2026-2708"),
        post("two lengths, the other first", "Content-Length: 0\r\nContent-Length: 5\r\n", "hello"),
        post("a list of equal lengths", "Content-Length: 5, 5\r\n", "hello"),
        post("a list of lengths", "Content-Length: 0, 5\r\n", "hello").known("CVE-2022-24790"),
        post("a positive length", "Content-Length: +5\r\n", "hello").known("CVE-2021-32715"),
        post("a negative length", "Content-Length: -5\r\n", "hello").known("CVE-2023-34188"),
        post("a length with a space within", "Content-Length: 5 0\r\n", "hello"),
        post("a hexadecimal length", "Content-Length: 0x5\r\n", "hello").known("CVE-2023-38697"),
        post("a length with letters", "Content-Length: 5a\r\n", "hello").known(GARDEN),
        post("a length with a point", "Content-Length: 5.0\r\n", "hello"),
        post("a quoted length", "Content-Length: \"5\"\r\n", "hello"),
        post("an empty length", "Content-Length:\r\n", "hello").known("CVE-2023-40175"),
        post("a length that overflows", "Content-Length: 18446744073709551621\r\n", "hello"),
        // Greater than hyper's largest: taken for a request too large.
        Row { statuses: &[431], ..post("the largest length", "Content-Length: 18446744073709551615\r\n", "hello") },
        // 1*DIGIT.
        post("a length with leading zeros and spaces around it", "Content-Length:   0005  \r\n", "hello").passes(1),
        post("a length that is another one in octal", "Content-Length: 010\r\n", "0123456789").passes(1).known(GARDEN),
        // hyper takes a tab for a space, as RFC 9110, section 5.6.3, does. nginx and others do not.
        post("a tab before a length", "Content-Length:\t5\r\n", "hello").known("RFC 9110, 5.6.3"),
        post("a tab behind a length", "Content-Length: 5 \t\r\n", "hello").known("RFC 9110, 5.6.3"),
        post("a length with an underscore", "Content-Length: 1_0\r\n", "0123456789").known("CVE-2023-47627"),
        post("a length with a comma behind it", "Content-Length: 5,\r\n", "hello").known("CVE-2023-40225"),
        post("no length before a length", "Content-Length:\r\nContent-Length: 5\r\n", "hello").known("CVE-2023-40225"),
        post("a vertical tab before a length", "Content-Length: \x0b5\r\n", "hello").known("CVE-2019-16789"),
        post("a form feed behind a length", "Content-Length: 5\x0c\r\n", "hello").known("CVE-2019-16789"),
        post("a byte A0 before a length", "Content-Length: \u{a0}5\r\n", "hello").known(GARDEN),
        post("a connection that names the length", "Connection: content-length\r\nContent-Length: 5\r\n", "hello")
            .passes(1)
            .known("RFC 9110, 7.6.1"),
        // hyper takes both, shows one, and closes; RFC 9112, section 6.1, lets a server refuse it.
        post("a length and chunks", "Content-Length: 11\r\nTransfer-Encoding: chunked\r\n", chunk)
            .known("CVE-2019-20445"),
        post("chunks and a length", "Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", chunk),
        post("a length that is none, and chunks", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n", chunk),
        // hyper does not look at such a length.
        post("chunks, and a length that is none", "Transfer-Encoding: chunked\r\nContent-Length: x\r\n", chunk),
        post("chunks within a length of zero", "content-length:0\r\nX: y\r\ntransfer-encoding:chunked\r\n", chunk),
    ]
}

pub fn codings(chunk: &str) -> Vec<Row> {
    vec![
        post("chunked, then identity", "Transfer-Encoding: chunked, identity\r\n", chunk).known("CVE-2024-1135"),
        post("identity", "Transfer-Encoding: identity\r\n", chunk),
        post("xchunked", "Transfer-Encoding: xchunked\r\n", chunk).known("CVE-2022-24790"),
        post("chunked with a parameter", "Transfer-Encoding: chunked;a=b\r\n", chunk),
        post("chunked in quotes", "Transfer-Encoding: \"chunked\"\r\n", chunk),
        post("no coding", "Transfer-Encoding:\r\n", chunk),
        post("chunked and nothing", "Transfer-Encoding: chunked,\r\n", chunk),
        // hyper takes it for chunked; whoever does not, sees a request without a body.
        post("nothing and chunked", "Transfer-Encoding: , chunked\r\n", chunk).known(GARDEN),
        post("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunk).known(GARDEN),
        post(
            "chunked and identity in two fields",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            chunk,
        ),
        post("a vertical tab before chunked", "Transfer-Encoding: \x0bchunked\r\n", chunk).known("CVE-2019-18277"),
        post("a space before the colon", "Transfer-Encoding : chunked\r\n", chunk).known("CVE-2021-22959"),
        post("a tab before the colon", "Transfer-Encoding\t: chunked\r\n", chunk).known("CVE-2020-7238"),
        post("a space before the name", "X: y\r\n Transfer-Encoding: chunked\r\n", chunk),
        post("chunked in a folded line", "Transfer-Encoding:\r\n chunked\r\n", chunk).known("CVE-2022-32215"),
        post("a coding behind a bare return", "X: y\rTransfer-Encoding: chunked\r\n", chunk).known("CVE-2023-30589"),
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
        post("chunks in HTTP/1.0 that asks to be kept", "Transfer-Encoding: chunked\r\n", chunk)
            .in_http10("keep-alive"),
        post("chunks and a length in HTTP/1.0", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")
            .in_http10("keep-alive"),
        post("chunked in letters of any case, with spaces around it", "tRANSFER-eNCODING:   cHUNKED \r\n", chunk)
            .passes(1),
        post("a tab before chunked", "Transfer-Encoding:\tchunked\r\n", chunk).known("RFC 9110, 5.6.3"),
        post("a tab behind chunked", "Transfer-Encoding: chunked\t\r\n", chunk).known("RFC 9110, 5.6.3"),
        post("a vertical tab behind chunked", "Transfer-Encoding: chunked\x0b\r\n", chunk).known("CVE-2019-16789"),
        post("a byte A0 before chunked", "Transfer-Encoding: \u{a0}chunked\r\n", chunk).known(GARDEN),
        post("bytes FF around chunked", "Transfer-Encoding: \u{ff}chunked\u{ff}\r\n", chunk).known(GARDEN),
        post("NUL behind chunked", "Transfer-Encoding: chunked\0\r\n", chunk).known(GARDEN),
        post("a bare line feed before chunked", "Transfer-Encoding:\nchunked\r\n", chunk).known("CVE-2019-16785"),
        post("a bare return behind chunked", "Transfer-Encoding: chunked\r\r\n", chunk)
            .known("CVE-2023-30589")
            .because(RETURN),
        post("chunked with a space within", "Transfer-Encoding: chun ked\r\n", chunk),
        post("an unknown coding", "Transfer-Encoding: other\r\n", chunk).known(GARDEN),
        post("gzip", "Transfer-Encoding: gzip\r\n", chunk),
        post("chunked, then gzip", "Transfer-Encoding: chunked, gzip\r\n", chunk).known("CVE-2024-1135"),
        post("chunked twice in a list", "Transfer-Encoding: chunked, chunked\r\n", chunk).known(GARDEN),
        post(
            "nothing and chunked beside a length",
            "Transfer-Encoding: ,chunked\r\nContent-Length: 5\r\n",
            "0\r\n\r\n",
        )
        .known(GARDEN),
        post("identity beside a length", "Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello"),
        post("an unknown coding beside a length", "Transfer-Encoding: x\r\nContent-Length: 5\r\n", "hello")
            .known("CVE-2019-18277"),
        post("no coding beside a length", "Transfer-Encoding:\r\nContent-Length: 5\r\n", "hello"),
        post("a coding in two lines", "Transfer-Encoding: x\r\n\tchunked\r\n", chunk).known("CVE-2022-32215"),
        post("the name in two lines", "Transfer-\r\nEncoding: chunked\r\n", chunk).known(GARDEN).because(NO_COLON),
        post("a byte 85 behind the name", "Transfer-Encoding\u{85}: chunked\r\n", chunk)
            .known(GARDEN)
            .because(NO_TOKEN),
        post(
            "a connection that names the coding",
            "Connection: keep-alive, transfer-encoding\r\nTransfer-Encoding: chunked\r\n",
            chunk,
        )
        .passes(1)
        .known("CVE-2026-26365"),
        post("a coding for the answer", "TE: chunked\r\nTransfer-Encoding: chunked\r\n", chunk).passes(1),
        row(
            "chunks of OPTIONS",
            format!("OPTIONS /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            1,
        )
        .known("TE.0"),
        row(
            "chunks of GET",
            format!("GET /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{SMUGGLED}"),
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

pub fn bodies() -> Vec<Row> {
    vec![
        chunks("a size with a plus", "+1\r\na\r\n0\r\n\r\n").known("CVE-2022-24761"),
        chunks("a size with a minus", "-1\r\na\r\n0\r\n\r\n").known("CVE-2023-47627"),
        chunks("a size with 0x", "0x1\r\na\r\n0\r\n\r\n").known("CVE-2023-38697"),
        chunks("a size with a space before it", " 1\r\na\r\n0\r\n\r\n").known(GARDEN),
        // hyper passes over spaces behind a size; RFC 9112, section 7.1, knows them before `;` only.
        chunks("a size with a space behind it", "1 \r\na\r\n0\r\n\r\n").because(BLANK),
        chunks("a size with a space within", "1 0\r\na\r\n0\r\n\r\n").because(BLANK),
        chunks("no size", "\r\na\r\n0\r\n\r\n").known(GARDEN),
        chunks("no size but an extension", ";x\r\na\r\n0\r\n\r\n"),
        chunks("a size that is no number", "g\r\na\r\n0\r\n\r\n").known(GARDEN),
        chunks("a size that overflows", "10000000000000001\r\na\r\n0\r\n\r\n").known("CVE-2021-32714"),
        chunks("a size that wraps in 32 bits and is cut short", "ffffffff00000001\r\na\r\n0\r\n\r\n").cut_short(),
        chunks("more zeros than a size has digits", "00000000000000001\r\na\r\n0\r\n\r\n")
            .because("16 digits are enough for every size"),
        fine_chunks("leading zeros", "0000000000000001\r\na\r\n000\r\n\r\n"),
        fine_chunks("extensions", "1;a;b=c ; d=\"e;f\"\r\na\r\n0;g\r\n\r\n"),
        fine_chunks("large extensions", format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(4_000))),
        chunks("a bare line feed behind a size", "1\na\r\n0\r\n\r\n").known("CVE-2025-22871").because(BARE_LINE_FEED),
        chunks("a bare line feed in an extension", "1;x\ny\r\na\r\n0\r\n\r\n").known("CVE-2025-55315"),
        chunks("a bare return in an extension", "1;x\ry\r\na\r\n0\r\n\r\n").known("CVE-2023-30589"),
        chunks("NUL in an extension", "1;\0\r\na\r\n0\r\n\r\n").because(CONTROL).known("CVE-2022-24761"),
        chunks("a bare line feed behind a chunk", "1\r\na\n0\r\n\r\n").because(BARE_LINE_FEED).known(GARDEN),
        chunks("nothing behind a chunk", "1\r\na0\r\n\r\n"),
        chunks("a chunk longer than its size", "1\r\nab\r\n0\r\n\r\n"),
        chunks("a chunk shorter than its size", "5\r\na\r\n0\r\n\r\n"),
        chunks("a bare line feed as the last line", "0\r\n\n").because(BARE_LINE_FEED),
        // hyper looks for CR LF only, and shows a field with a line feed in it as two.
        chunks("a bare line feed behind a trailer", "0\r\nX: y\n\r\n").because(BARE_LINE_FEED),
        chunks("a folded trailer", "0\r\nX: y\r\n z\r\n\r\n").because(TRAILERS),
        chunks("a trailer without a colon", "0\r\nX\r\n\r\n").because(TRAILERS),
        chunks("a trailer with NUL", "0\r\nX: \0\r\n\r\n").because(TRAILERS),
        fine_chunks(
            "trailers that would change the message",
            "1\r\na\r\n0\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n",
        ),
        chunks("a size with an underscore", "0_1\r\na\r\n0\r\n\r\n").known("CVE-2023-47627"),
        chunks("0x and no size", "0x\r\na\r\n0\r\n\r\n").known("CVE-2023-38697"),
        chunks("a size and letters", "1zz\r\na\r\n0\r\n\r\n").known(GARDEN),
        chunks("a size and a comma", "1,\r\na\r\n0\r\n\r\n").known("CVE-2022-24790"),
        chunks("a digit beyond ASCII", "\u{b9}\r\na\r\n0\r\n\r\n"),
        chunks("a bare return behind a size", "1\ra\r\n0\r\n\r\n").known(GARDEN),
        chunks("two returns behind a size", "5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n").known(GARDEN),
        chunks("a vertical tab behind a size", "1\x0b\r\na\r\n0\r\n\r\n").known("CVE-2022-24761"),
        chunks("a size with a tab behind it", "1\t\r\na\r\n0\r\n\r\n").because(BLANK),
        chunks("spaces before the last size", "     0\r\n\r\n").known(GARDEN),
        chunks("a minus before the last size", "-0\r\n\r\n").known(GARDEN),
        fine_chunks("a size in capital letters", "A\r\n0123456789\r\n0\r\n\r\n"),
        fine_chunks("a quoted string with an escape", "1;a=\"b\\\"c;\r\na\r\n0\r\n\r\n").known("RFC 9112, 7.1.1"),
        fine_chunks("a quoted string that does not end", "1;a=\"b\r\na\r\n0\r\n\r\n").known("RFC 9112, 7.1.1"),
        fine_chunks("an extension without a name", "1;\r\na\r\n0;=\r\n\r\n").known("RFC 9112, 7.1.1"),
        fine_chunks("an extension beyond ASCII", "1;\u{e9}\r\na\r\n0\r\n\r\n").known("RFC 9112, 7.1.1"),
        chunks("DEL in an extension", "1;\x7f\r\na\r\n0\r\n\r\n").known("CVE-2022-24761").because(CONTROL),
        chunks("an extension of 5,000 bytes", &format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(5_000)))
            .known("CVE-2024-21647")
            .because(EXTENSIONS),
        chunks(
            "extensions of 50,000 bytes",
            &format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(1_000)).repeat(50)),
        )
        .known("CVE-2023-39326")
        .because(EXTENSIONS),
        chunks("an empty line between two chunks", "1\r\na\r\n\r\n0\r\n\r\n").known(GARDEN),
        chunks("an empty line before the first chunk", "\r\n1\r\na\r\n0\r\n\r\n").known(GARDEN),
        chunks("other bytes behind a chunk", "1\r\naXX0\r\n\r\n").known("CVE-2022-24790"),
        chunks("other bytes behind the last chunk", "0\r\nXX").known("CVE-2023-40175").because(TRAILERS),
        chunks("a bare line feed behind the last size", "0;a\n\r\n").known("CVE-2025-22871").because(BARE_LINE_FEED),
        chunks("bare line feeds in all lines", "1\na\n0\n\n").known("CVE-2025-22871").because(BARE_LINE_FEED),
        fine_chunks("a trailer that looks like a request", "0\r\nX:POST / HTTP/1.1\r\n\r\n").known("CVE-2023-40175"),
        chunks("a request for trailers", "0\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n")
            .known("CVE-2023-40175")
            .because(TRAILERS),
        chunks("a trailer behind a space", "0\r\n X: y\r\n\r\n").because(TRAILERS),
        chunks("a space before the colon of a trailer", "0\r\nX : y\r\n\r\n").because(TRAILERS),
        chunks("a trailer without a name", "0\r\n: y\r\n\r\n").because(TRAILERS),
        chunks("a bracket in the name of a trailer", "0\r\nX(: y\r\n\r\n").because(TRAILERS),
        chunks("a bare return in a trailer", "0\r\nX: y\rz\r\n\r\n").known("CVE-2023-30589"),
        chunks("a trailer of 20,000 bytes", &format!("0\r\nX: {}\r\n\r\n", "y".repeat(20_000)))
            .known("CVE-2026-22815")
            .because("hyper has bounds for them"),
        chunks("300 trailers", &format!("0\r\n{}\r\n", "X: y\r\n".repeat(300)))
            .known("CVE-2026-22815")
            .because("hyper has bounds for them"),
        chunks("an end before the last chunk", "1\r\na\r\n").cut_short(),
        chunks("an end within a chunk", "5\r\na").cut_short(),
        chunks("an end within the trailers", "0\r\nX: y\r\n").cut_short(),
        post("an end before the length", "Content-Length: 9\r\n", "hello").cut_short(),
    ]
}
