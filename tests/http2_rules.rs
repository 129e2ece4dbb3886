//! What a client of HTTP/2 may not do, by section of RFC 9113 and RFC 7541, and what the host answers. The table is also
//! `docs/HTTP2.md`.

mod frames;
mod hpack;
mod messages;
mod row;

use self::row::{Of, Row, Then, headers};
use crate::support::document::check_part;
use crate::support::http2::{Frame, Frames, Outcome, PREFACE, frame, get, kind};
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

fn rows() -> Vec<Row> {
    let parts = [
        frames::beginnings,
        frames::frames,
        frames::streams,
        frames::settings,
        frames::more,
        frames::others,
        messages::messages,
        messages::targets,
        messages::more,
        hpack::hpack,
    ];
    let mut rows: Vec<Row> = parts.into_iter().flat_map(|rows| rows()).collect();
    let order = |row: &Row| row.section.split('.').map(str::parse).collect::<Result<Vec<u8>, _>>().expect("numbers");
    rows.sort_by_key(|row| (row.of, order(row)));
    rows
}

/// What became of the row's client; and whether its connection serves a further request.
fn happened(server: &Server, row: &Row) -> Then {
    let mut client = if row.is_beginning { Frames::connect(server.address) } else { Frames::open(server.address) };
    if !row.is_beginning {
        // The windows are what they will be.
        client.wait_for(|frame| frame.kind == kind::WINDOW_UPDATE).expect("a window");
    }
    client.try_send(&row.bytes);
    client.try_send(headers(101, &get("/hello")));
    let [first, last] = client.outcomes(&[row.stream, 101]).try_into().expect("two");
    let goes_on = matches!(&last, Outcome::Answered(200, body) if body == b"Hello, World!");
    match (first, &last) {
        (_, Outcome::GoAway(error)) => Then::Ends(*error),
        (_, Outcome::Closed) => Then::Closes,
        (Outcome::Reset(error) | Outcome::Broken(_, _, error), _) if goes_on => Then::Resets(error),
        (Outcome::Answered(status, _), _) if goes_on => Then::Answers(status),
        _ if goes_on => Then::GoesOn,
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
        Then::Closes => "the connection ends".to_owned(),
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
    let server = Server::start(
        "faults.wasm",
        // (Uploads without an end make room after a second, which is also how long a request waits by default.)
        &[
            &["--workers", "1", "--instances-per-worker", "1", "--http2-streams-max", "8", "--header-max", "16KiB"][..],
            &["--queue-timeout", "10s"],
        ]
        .concat(),
    );
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
    client.try_send(&row.bytes);
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
