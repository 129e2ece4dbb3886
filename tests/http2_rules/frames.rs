//! Frames, streams and settings (RFC 9113, sections 4 to 6).

use super::row::*;
use crate::support::http2::{END_HEADERS, PADDED, PREFACE, fields, frame, get, kind, request};

pub fn frames() -> Vec<Row> {
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

pub fn streams() -> Vec<Row> {
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

pub fn settings() -> Vec<Row> {
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

/// How a connection begins (section 3.4).
pub fn beginnings() -> Vec<Row> {
    let of = |what, frames: &[Vec<u8>], then| Row {
        is_beginning: true,
        ..row("3.4", what, [PREFACE.to_vec(), frames.concat()].concat(), then)
    };
    let own = || frame(kind::SETTINGS, 0, 0, &setting(1, 0)[9..]);
    let mut wrong = of("a preface that ends otherwise", &[own()], Then::Closes);
    wrong.bytes.splice(18..24, *b"XX\r\n\r\n");
    vec![
        wrong,
        of("PING in the place of the first SETTINGS", &[frame(kind::PING, 0, 0, &[0; 8]), own()], Then::Ends(1)),
        of("a request in the place of the first SETTINGS", &[headers(1, &get("/count?bad")), own()], Then::Ends(1)),
        of("an acknowledgement in the place of them", &[frame(kind::SETTINGS, 1, 0, &[]), own()], Then::Ends(1)),
        of("SETTINGS, and a request before the host's", &[own(), headers(1, &get("/count?bad"))], Then::Answers(200)),
    ]
}

/// Frames of streams that are over, and what else is allowed.
pub fn more() -> Vec<Row> {
    use Then::{Answers, Ends, GoesOn, Resets};
    let reset = |code: u32| frame(kind::RST_STREAM, 0, 1, &code.to_be_bytes());
    let given_up = |more: Vec<u8>| [ended(), reset(8), more].concat();
    let update = |stream: u32| frame(kind::WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes());
    let post = |flags: u8, payload: &[u8]| {
        [frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/count?bad", &[])), data(flags, payload)].concat()
    };
    let depends = |flags: u8, before: &[u8], after: &[u8]| {
        frame(kind::HEADERS, 4 | 1 | flags, 1, &[before, &get("/count?bad"), after].concat())
    };
    let many: Vec<u8> = (0..9)
        .flat_map(|number| frame(kind::HEADERS, END_HEADERS, 2 * number + 1, &request("POST", "/body-size", &[])))
        .collect();
    let free = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    vec![
        row("4.2", "an unknown frame longer than SETTINGS_MAX_FRAME_SIZE", frame(0xbb, 0, 0, &[0; 16_385]), Ends(6)),
        row(
            "5.1",
            "WINDOW_UPDATE and PRIORITY behind END_STREAM",
            [headers(1, &get("/count?bad")), update(1), frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9])].concat(),
            Answers(200),
        ),
        row("5.1", "DATA behind RST_STREAM", given_up(data(0, b"x")), Resets(5)),
        other("5.1", "HEADERS behind RST_STREAM", given_up(headers(1, &get("/count?bad"))), Ends(1), H2_NAMES_IT_SO),
        row("5.1", "WINDOW_UPDATE behind RST_STREAM", given_up(update(1)), GoesOn),
        row("5.1", "RST_STREAM twice", given_up(reset(8)), GoesOn),
        row("5.1", "PRIORITY behind RST_STREAM", given_up(frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9])), GoesOn),
        Row { stream: 17, ..row("5.1.2", "more requests at once than allowed", [many, free].concat(), Resets(7)) },
        row("6.1", "padding that is not 0", post(PADDED | 1, &[2, b'x', 1, 1]), Answers(200)),
        row("6.1", "DATA of padding alone", post(PADDED | 1, &[2, 0, 0]), Answers(200)),
        other("6.1", "padded DATA without the padding's length", post(PADDED | 1, &[]), Ends(1), H2_NAMES_IT_SO),
        row(
            "6.2",
            "HEADERS with padding and priority",
            depends(PADDED | 0x20, &[2, 0, 0, 0, 0, 9], &[0, 0]),
            Answers(200),
        ),
        other(
            "6.2",
            "padded HEADERS without the padding's length",
            frame(kind::HEADERS, 5 | PADDED, 1, &[]),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        other(
            "6.2",
            "HEADERS with a priority of 3 bytes",
            frame(kind::HEADERS, 5 | 0x20, 1, &[0; 3]),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
        row(
            "6.2",
            "HEADERS between HEADERS and CONTINUATION",
            [frame(kind::HEADERS, 1, 1, &get("/")), headers(3, &get("/count?bad"))].concat(),
            Ends(1),
        ),
        row("6.2", "DATA between them", [frame(kind::HEADERS, 0, 1, &get("/")), data(1, b"x")].concat(), Ends(1)),
        row(
            "6.2",
            "HEADERS in three frames",
            {
                let block = get("/count?bad");
                [
                    frame(kind::HEADERS, 1, 1, &block[..7]),
                    frame(kind::CONTINUATION, 0, 1, &block[7..30]),
                    frame(kind::CONTINUATION, END_HEADERS, 1, &block[30..]),
                ]
                .concat()
            },
            Answers(200),
        ),
    ]
}

/// The same, of frames other than those that carry a message.
pub fn others() -> Vec<Row> {
    use Then::{Ends, GoesOn};
    let reset = |code: u32| frame(kind::RST_STREAM, 0, 1, &code.to_be_bytes());
    let goaway = |last: u32, code: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    vec![
        row("6.3", "PRIORITY that depends on its own stream", frame(kind::PRIORITY, 0, 7, &[0, 0, 0, 7, 9]), GoesOn),
        row("6.5", "an acknowledgement of no SETTINGS", frame(kind::SETTINGS, 1, 0, &[]).repeat(2), Ends(1)),
        row("6.5.2", "SETTINGS_HEADER_TABLE_SIZE of 2^32-1", setting(1, u32::MAX), GoesOn),
        row("6.5.2", "SETTINGS_MAX_CONCURRENT_STREAMS of 0", setting(3, 0), GoesOn),
        row("6.5.2", "SETTINGS_MAX_HEADER_LIST_SIZE of 0", setting(6, 0), GoesOn),
        row("6.5.2", "SETTINGS_ENABLE_CONNECT_PROTOCOL of 2 (RFC 8441)", setting(8, 2), Ends(1)),
        row(
            "6.5.3",
            "one setting twice: the last counts",
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0, 0, 4, 0, 0, 0xff, 0xff]),
            GoesOn,
        ),
        row("6.7", "an acknowledgement of no PING", frame(kind::PING, 1, 0, &[1; 8]), GoesOn),
        other("6.8", "GOAWAY of 7 bytes", frame(kind::GOAWAY, 0, 0, &[0; 7]), Ends(1), H2_NAMES_IT_SO),
        row("6.8", "GOAWAY of an unknown error, and a request", goaway(0, 0xffff), GoesOn),
        row("6.8", "GOAWAY for more streams than one before", [goaway(0, 0), goaway(8, 0)].concat(), Ends(1)),
        other("6.9", "WINDOW_UPDATE of 5 bytes", frame(kind::WINDOW_UPDATE, 0, 0, &[0; 5]), Ends(1), H2_NAMES_IT_SO),
        row(
            "6.10",
            "CONTINUATION on stream 0",
            [frame(kind::HEADERS, 1, 1, &get("/")), frame(kind::CONTINUATION, 4, 0, &[])].concat(),
            Ends(1),
        ),
        row("7", "RST_STREAM of an unknown error", [ended(), reset(0xffff)].concat(), GoesOn),
        other(
            "5.1.1",
            "the number of a stream that is over",
            [headers(1, &get("/hello")), frame(kind::PING, 0, 0, &[0; 8]), headers(1, &get("/count?bad"))].concat(),
            Ends(1),
            H2_NAMES_IT_SO,
        ),
    ]
}
