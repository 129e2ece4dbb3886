//! How long a body is: its length, its codings, its chunks.

use super::row::{Row, SMUGGLED, Then, chunks, fine_chunks, post, row};

pub fn lengths(chunk: &str) -> Vec<Row> {
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

pub fn codings(chunk: &str) -> Vec<Row> {
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

pub fn bodies() -> Vec<Row> {
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
