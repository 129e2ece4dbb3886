//! What a client of HTTP/2 may do to a host at little cost to itself. Each attack meets its bound, and clients beside it lose
//! nothing.

use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::support::http2::{
    Asked, END_HEADERS, END_STREAM, Frames, Http2, Outcome, PREFACE, fields, frame, get, kind, raw_fields, request,
};
use crate::support::{Neighbours, Server, eventually, message};

/// `ENHANCE_YOUR_CALM`, `REFUSED_STREAM` and others (RFC 9113, section 7).
const CALM: u32 = 11;
const REFUSED: u32 = 7;

/// An attack: frames that are sent again and again, until the host has had enough.
struct Attack {
    name: &'static str,
    /// Sent first.
    first: Vec<u8>,
    /// Sent so many times at most; the number is that of the stream.
    again: Box<dyn Fn(u32) -> Vec<u8>>,
    times: u32,
}

fn attack(name: &'static str, again: impl Fn(u32) -> Vec<u8> + 'static) -> Attack {
    Attack { name, first: Vec::new(), again: Box::new(again), times: 2_000_000 }
}

/// The same behind what is sent first.
fn attack_behind(name: &'static str, first: Vec<u8>, again: impl Fn(u32) -> Vec<u8> + 'static) -> Attack {
    Attack { first, ..attack(name, again) }
}

/// The stream of the request with this number.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

fn attacks() -> Vec<Attack> {
    let post = || frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/sleep?ms=3000", &[]));
    let ask = |number: u32, path: &str| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &get(path));
    let reset = |number: u32| frame(kind::RST_STREAM, 0, stream(number), &8_u32.to_be_bytes());
    // A field that fills HPACK's table, and then a byte for each time that it is named (RFC 7541, section 6.1).
    let bomb = {
        let mut block = vec![0x40];
        block.extend(&raw_fields(&[(b"x", &[b'a'; 4_000])])[1..]);
        [get("/hello"), block].concat()
    };
    let named = |number: u32| {
        let block = [get("/hello"), vec![0x80 | 62; 12_000]].concat();
        frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number + 1), &block)
    };
    vec![
        attack("PING", |_| frame(kind::PING, 0, 0, &[7; 8])),
        attack("acknowledged PING that nobody sent", |_| frame(kind::PING, 1, 0, &[7; 8])),
        attack("SETTINGS", |_| frame(kind::SETTINGS, 0, 0, &[])),
        attack("SETTINGS that change the windows of all", |number| {
            frame(kind::SETTINGS, 0, 0, &[&[0, 4][..], &(1_000 + number % 2).to_be_bytes()].concat())
        }),
        attack("PRIORITY", |number| frame(kind::PRIORITY, 0, stream(number % 1_000), &[0, 0, 0, 0, 9])),
        attack("unknown frames", |_| frame(0xee, 0xff, 0, b"something")),
        attack("WINDOW_UPDATE", |_| frame(kind::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        // CVE-2023-44487.
        attack("rapid reset", move |number| [ask(number, "/hello"), reset(number)].concat()),
        attack("rapid reset of guests that wait", move |number| [ask(number, "/sleep?ms=100"), reset(number)].concat()),
        attack("requests beyond the streams at once", move |number| ask(number, "/sleep?ms=3000")),
        // CVE-2025-8671: the client has the host reset its streams.
        attack_behind("resets that the host is brought to", Vec::new(), move |number| {
            let too_much = 0x7fff_ffff_u32.to_be_bytes();
            [ask(number, "/sleep?ms=100"), frame(kind::WINDOW_UPDATE, 0, stream(number), &too_much)].concat()
        }),
        attack_behind("empty DATA", post(), |_| frame(kind::DATA, 0, 1, &[])),
        attack_behind("DATA of one byte", post(), |_| frame(kind::DATA, 0, 1, b"x")),
        attack_behind("DATA of padding", post(), |_| frame(kind::DATA, 8, 1, &[3, 0, 0, 0])),
        // CVE-2024-27316.
        attack_behind("CONTINUATION", frame(kind::HEADERS, 0, 1, &get("/hello")), |number| {
            frame(kind::CONTINUATION, 0, 1, &fields(&[("x", &number.to_string())]))
        }),
        attack_behind("empty CONTINUATION", frame(kind::HEADERS, 0, 1, &get("/hello")), |_| {
            frame(kind::CONTINUATION, 0, 1, &[])
        }),
        attack_behind("a bomb of HPACK", frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &bomb), named),
    ]
}

#[test]
fn floods_end_their_own_connection_and_cost_nobody_else_anything() {
    let server = Server::start("faults.wasm", &["--workers", "1"]);
    let before = server.resident_kib();
    for Attack { name, first, again, times } in attacks() {
        let neighbours = Neighbours::begin(server.address);
        let (over, answered, address) = (AtomicBool::new(false), AtomicU64::new(0), server.address);
        let refusals = || server.sum("refusals.flood");
        let counted = refusals();
        let (reason, sent) = std::thread::scope(|scope| {
            let (over, answered) = (&over, &answered);
            let good = scope.spawn(move || {
                let mut client = Http2::open(address);
                while !over.load(Relaxed) {
                    let answers = client.all((0..8).map(|_| Asked::get("/hello")).collect());
                    for (took, answer) in answers {
                        assert_eq!(answer.expect("an answer").status, 200);
                        assert!(took < Duration::from_secs(3), "a good client waited for {took:?}");
                    }
                    answered.fetch_add(8, Relaxed);
                }
            });
            eventually("the good client is served", || answered.load(Relaxed) > 0 || good.is_finished());
            let before = answered.load(Relaxed);
            let mut client = Frames::open(address);
            // Whose acknowledgement may not stand within headers.
            client.wait_for(|frame| frame.kind == kind::SETTINGS && frame.flags & 1 == 0);
            client.try_send(&first);
            let mut reader = Frames::share(&client);
            let reading = scope.spawn(move || reader.goaway());
            let mut sent = 0;
            while sent < times && !reading.is_finished() {
                let piece: Vec<u8> = (sent..sent + 50).flat_map(&again).collect();
                if !client.try_send(piece) {
                    break;
                }
                sent += 50;
            }
            let reason = reading.join().expect("the reader");
            let served = || answered.load(Relaxed) > before || good.is_finished();
            eventually("the good client is served beside it", served);
            over.store(true, Relaxed);
            good.join().unwrap_or_else(|_| panic!("{name}: a good client of HTTP/2 met an error"));
            (reason, sent)
        });
        // (COMPRESSION_ERROR is what h2 says of headers that are far too long to be read on.)
        assert!(matches!(reason, Some(CALM | 9)), "{name}: {reason:?} after {sent}");
        assert!(sent < times, "{name}");
        neighbours.end(name);
        assert_eq!(refusals() - counted, u64::from(reason == Some(CALM)), "{name}");
        eventually("its requests are over", || server.sum("in_flight") == 0);
    }
    server.wait_for_record("the line", |record| message(record).contains("because of floods of frames"));
    server.memory_is_back(before + (8 << 10), "the floods");
}

#[test]
fn a_head_that_is_too_large_gets_431_and_one_that_is_far_too_large_ends_the_connection() {
    let server = Server::start("hello.wasm", &["--header-max", "16KiB"]);
    let mut client = Frames::open(server.address);
    let of = |bytes: usize| request("GET", "/", &[("x", &"a".repeat(bytes))]);
    let send = |client: &mut Frames, stream: u32, block: &[u8]| {
        let mut pieces = block.chunks(16_000).peekable();
        let (mut kind_now, mut first) = (kind::HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            client.try_send(frame(kind_now, last | first, stream, piece));
            (kind_now, first) = (kind::CONTINUATION, 0);
        }
    };
    send(&mut client, 1, &of(15_000));
    assert_eq!(client.outcome(1).status(), 200);
    send(&mut client, 3, &of(17_000));
    assert_eq!(client.outcome(3).status(), 431);
    // As many fields as HTTP/1.1 may have, and one more.
    let names: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "")).collect();
    send(&mut client, 5, &request("GET", "/", &many[..99]));
    assert_eq!(client.outcome(5).status(), 200);
    send(&mut client, 7, &request("GET", "/", &many));
    assert_eq!(client.outcome(7).status(), 431);
    send(&mut client, 9, &of(70_000));
    assert!(matches!(client.goaway(), Some(CALM | 9)));
}

#[test]
fn streams_beyond_the_limit_are_refused_and_may_be_sent_again() {
    let server = Server::start("faults.wasm", &["--http2-streams-max", "4"]);
    let mut client = Frames::open(server.address);
    for number in 0..6 {
        client.ask(stream(number), "/sleep?ms=200");
    }
    let outcomes = client.outcomes(&[1, 3, 5, 7, 9, 11]);
    assert!(outcomes[..4].iter().all(|outcome| outcome.status() == 200), "{outcomes:?}");
    assert_eq!(outcomes[4..], [Outcome::Reset(REFUSED), Outcome::Reset(REFUSED)]);
    client.ask(13, "/hello");
    assert_eq!(client.outcome(13).status(), 200);
}

#[test]
fn what_does_not_come_in_time_ends_the_connection() {
    let server = Server::start("faults.wasm", &["--header-timeout", "600ms", "--keepalive-timeout", "900ms"]);
    let refusals = || server.sum("refusals.head-timeout");
    let lasted = |mut client: Frames| {
        let began = Instant::now();
        (client.goaway(), began.elapsed())
    };
    let between =
        |took: Duration, ms: [u64; 2]| took >= Duration::from_millis(ms[0]) && took < Duration::from_millis(ms[1]);
    // A preface without settings, and half of one.
    for begin in [PREFACE, &PREFACE[..20]] {
        let mut client = Frames::connect(server.address);
        client.send(begin);
        let (began, mut came) = (Instant::now(), Vec::new());
        client.stream.read_to_end(&mut came).expect("an end");
        let took = began.elapsed();
        let is_told = came.ends_with(&frame(kind::GOAWAY, 0, 0, &[0; 8]));
        assert!(is_told && between(took, [500, 1_500]), "{came:?} after {took:?}");
    }
    // Headers that begin and do not end: without their last frame, and within a frame.
    for begin in [frame(kind::HEADERS, 0, 1, &get("/hello")), frame(kind::HEADERS, 5, 1, &get("/hello"))[..30].to_vec()]
    {
        let mut client = Frames::open(server.address);
        // Whose acknowledgement may not stand within the headers.
        client.wait_for(|frame| frame.kind == kind::SETTINGS && frame.flags & 1 == 0);
        client.send(begin);
        let before = refusals();
        let (reason, took) = lasted(client);
        assert!(reason == Some(0) && between(took, [500, 1_500]), "{reason:?} after {took:?}");
        assert_eq!(refusals() - before, 1);
    }
    // A connection that rests; one with a request does not, however long that takes.
    let mut client = Frames::open(server.address);
    client.ask(1, "/sleep?ms=1500");
    assert_eq!(client.outcome(1).status(), 200);
    let began = Instant::now();
    let goaway = client.until_end().pop().expect("a last frame");
    let took = began.elapsed();
    assert!(between(took, [700, 2_000]), "{took:?}");
    // With the last stream that was served, and no error (RFC 9113, section 6.8).
    assert_eq!((goaway.kind, goaway.number(0), goaway.number(4)), (kind::GOAWAY, 1, 0));
}

#[test]
fn a_client_that_is_gone_without_a_word_is_found_out() {
    let times = ["--keepalive-timeout", "700ms", "--header-timeout", "500ms", "--request-timeout", "none"];
    let server = Server::start("faults.wasm", &times);
    let mut client = Frames::open(server.address);
    client.ask(1, "/wait-forever");
    eventually("it is under way", || server.sum("in_flight") == 1);
    let mut asked = 0;
    // It answers two PINGs, and no more.
    while asked < 2 {
        let ping = client.wait_for(|frame| frame.kind == kind::PING && frame.flags & 1 == 0).expect("a PING");
        assert_eq!(ping.payload, b"wasmhost");
        asked += 1;
        assert_eq!(server.sum("in_flight"), 1);
    }
    let began = Instant::now();
    eventually("its request is over", || server.sum("in_flight") == 0);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(3), "{took:?}");
    server.wait_for_record("the line", |record| message(record).contains("did not answer a PING"));
}

#[test]
fn a_client_may_give_up_all_of_its_requests_at_once() {
    let server = Server::start("faults.wasm", &["--workers", "1"]);
    let mut client = Frames::open(server.address);
    let asked = (0..128)
        .flat_map(|number| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &get("/sleep?ms=500")));
    let given_up = (0..128).flat_map(|number| frame(kind::RST_STREAM, 0, stream(number), &8_u32.to_be_bytes()));
    client.send(asked.chain(given_up).collect::<Vec<u8>>());
    client.ask(stream(128), "/hello");
    assert_eq!(client.outcome(stream(128)).status(), 200);
    assert_eq!(server.sum("refusals.flood"), 0);
}

/// A client that asks for this as often as it may on one connection, has room for all, and reads nothing.
fn hoarder(address: std::net::SocketAddr, path: &str) -> Frames {
    let mut client = Frames::open_with(address, &[(4, 0x7fff_ffff)]);
    let asked: Vec<u8> = (0..128)
        .flat_map(|number| frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &get(path)))
        .collect();
    client.send([frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()), asked].concat());
    client
}

#[test]
fn clients_that_leave_many_responses_unread_make_room_for_others() -> std::io::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("large"), vec![b'a'; 1_000_000])?;
    let folder = format!("/files::{}", folder.path().display());
    // Answers of a guest that are there at once, and files, which are also open.
    for path in ["/length?declared=60000&actual=60000", "/files/large"] {
        let server = Server::start("faults.wasm", &["--workers", "1", "--static", &folder]);
        let before = server.resident_kib();
        // Who leaves little stays, for as long as anybody may.
        let mut modest = Frames::open_with(server.address, &[(4, 0x7fff_ffff)]);
        modest.send(frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
        let streams = [1, 3, 5, 7];
        streams.iter().for_each(|stream| modest.ask(*stream, "/length?declared=60000&actual=60000"));
        let began = Instant::now();
        let hoarders: Vec<Frames> = (0..40).map(|_| hoarder(server.address, path)).collect();
        server.wait_for_record("the line", |record| message(record).contains("left many responses unread"));
        // Seven of them have 64 MiB.
        eventually("there is room", || server.sum("open_connections") <= 12);
        server.memory_is_back(before + (110 << 10), path);
        assert!(began.elapsed() < Duration::from_secs(9), "{path}: before any other limit: {:?}", began.elapsed());
        for outcome in modest.outcomes(&streams) {
            assert!(matches!(&outcome, Outcome::Answered(200, body) if body.len() == 60_000), "{path}: {outcome:?}");
        }
        assert_eq!(Http2::open(server.address).get("/hello").status, 200);
        drop(hoarders);
    }
    Ok(())
}

#[test]
fn a_response_in_the_smallest_pieces_takes_little_memory() {
    let server = Server::start("faults.wasm", &["--workers", "1", "--compress", "all"]);
    let before = server.resident_kib();
    let gzip = [("accept-encoding", "gzip")];
    for (path, more) in [("/stream?chunks=9000000&bytes=1", &[][..]), ("/stream?chunks=9000000&bytes=60000", &gzip)] {
        let mut client = Frames::open_with(server.address, &[(4, 0x7fff_ffff)]);
        client.send(frame(kind::WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
        let asked = (0..16).flat_map(|number| {
            frame(kind::HEADERS, END_HEADERS | END_STREAM, stream(number), &request("GET", path, more))
        });
        client.send(asked.collect::<Vec<u8>>());
        let (mut most, began) = (0, Instant::now());
        while began.elapsed() < Duration::from_secs(5) {
            most = most.max(server.resident_kib().saturating_sub(before));
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(most < 80 << 10, "{path}: {most} KiB");
        drop(client);
        eventually("its requests are over", || server.sum("in_flight") == 0);
    }
}
