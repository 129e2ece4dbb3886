//! Frames, streams and settings (RFC 9113, sections 4 to 6).

use super::row::*;
use crate::support::http2::{END_HEADERS, PADDED, fields, frame, get, kind, request};

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
