//! HTTP/2 with prior knowledge: is a request on a stream answered as one of HTTP/1.1 is, and are the streams of a connection
//! independent of each other?

use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method};

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::http2::{
    Asked, END_HEADERS, END_STREAM, Frames, Http2, Outcome, PREFACE, frame, get, kind, request,
};
use crate::support::{CEILING, Connection, FAULTS, Neighbours, Server, TestResult, eventually, message};

fn header(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(name.parse().expect("a name"), HeaderValue::from_static(value))])
}

fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(kind::RST_STREAM, 0, stream, &reason.to_be_bytes())
}

#[test]
fn a_request_is_answered_and_its_guest_sees_what_it_sees_in_http1() {
    for guest in ["hello.wasm", "hello-p3.wasm"] {
        let server = Server::start(guest, &[]);
        let answer = Http2::open(server.address).get("/");
        assert_eq!((answer.status, &*answer.text()), (200, "Hello, World!"), "{guest}");
        assert!(answer.headers.contains_key("date"), "{guest}: {answer:?}");
        assert_eq!(answer.headers["content-length"], "13", "{guest}");
    }
    for guest in FAULTS {
        let server = Server::start(guest, &[]);
        let mut client = Http2::open(server.address);
        let mut asked = Asked { authority: Some("a.test:81".to_owned()), ..Asked::get("/request?x=y") };
        asked.headers.append("cookie", HeaderValue::from_static("a=b"));
        asked.headers.append("cookie", HeaderValue::from_static("c=d"));
        asked.headers.append("x-forwarded-for", HeaderValue::from_static("1.2.3.4"));
        let answer = client.ask(asked).expect("an answer").text();
        let mut old = Connection::open(server.address);
        old.send("GET /request?x=y HTTP/1.1\r\nHost: a.test:81\r\nCookie: a=b; c=d\r\n\r\n");
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!(sorted(&answer), sorted(&old.response().text()), "{guest}");
        assert!(answer.contains("authority: a.test:81") && answer.contains("cookie: a=b; c=d"), "{guest}: {answer}");
        assert_eq!(server.sum("http2_connections"), 1, "{guest}");
    }
}

#[test]
fn answers_have_the_form_of_http2() {
    for guest in FAULTS {
        let server = Server::start(guest, &[]);
        let mut client = Http2::open(server.address);
        for (path, status) in [("/no-content", 204), ("/empty", 200), ("/status?code=404", 404), ("/trap", 500)] {
            assert_eq!(client.get(path).status, status, "{guest} {path}");
        }
        let of_head = client.ask(Asked { method: Some(Method::HEAD), ..Asked::get("/hello") }).expect("an answer");
        assert_eq!((of_head.status, of_head.body.len()), (200, 0), "{guest}");
        assert_eq!(of_head.headers["content-length"], "13", "{guest}");
        // The host closes HTTP/1.1 connections behind such an answer, and says so in a field that HTTP/2 has not.
        let refused = client.ask(Asked { method: Some(Method::CONNECT), ..Asked::get("/") });
        let large = client.ask(Asked { headers: header("expect", "something"), ..Asked::get("/hello") });
        assert_eq!(large.expect("an answer").status, 417, "{guest}");
        for answer in refused.iter() {
            assert!(!answer.headers.contains_key("connection"), "{guest}: {answer:?}");
        }
        // A body that the guest breaks off is no whole one.
        let broken = client.ask(Asked::get("/drop-body")).expect_err("a reset");
        assert!(broken.is_reset(), "{guest}: {broken}");
        assert_eq!(client.get("/hello").text(), "Hello, World!", "{guest}");
    }
}

#[test]
fn bodies_and_trailers_pass_both_ways() {
    for guest in FAULTS {
        let server = Server::start(guest, &[]);
        let mut client = Http2::open(server.address);
        let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let answer = client.ask(Asked::post("/echo", &[&large])).expect("an answer");
        assert!(answer.status == 200 && answer.body == large, "{guest}: {} {}", answer.status, answer.body.len());
        let with_trailers =
            || Asked { trailers: Some(header("x-sum", "7")), ..Asked::post("/echo", &[b"some ", b"more"]) };
        let answer = client.ask(with_trailers()).expect("an answer");
        assert_eq!(answer.text(), "some more", "{guest}");
        assert_eq!(answer.trailers.expect("trailers")["x-sum"], "7", "{guest}");
        let sized = Asked { path: "/body-size".to_owned(), ..with_trailers() };
        assert_eq!(client.ask(sized).expect("an answer").text(), "bytes: 9\ntrailer x-sum: 7\n", "{guest}");
        // No `TE` is needed.
        assert_eq!(client.get("/trailers").trailers.expect("trailers")["x-checksum"], "1234", "{guest}");
        let streamed = client.get("/stream?chunks=50&bytes=40000&ms=1");
        assert_eq!(streamed.body.len(), 50 * 40_000, "{guest}");
        assert!(
            streamed.body.chunks(40_000).enumerate().all(|(i, chunk)| chunk[0] == b'a' + (i % 26) as u8),
            "{guest}"
        );
    }
}

#[test]
fn the_streams_of_a_connection_do_not_wait_for_each_other() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--workers", "1"]);
        let mut client = Http2::open(server.address);
        let slow = ["/sleep?ms=1500", "/stream?chunks=2&bytes=5&ms=1500", "/spin?ms=1500"].map(Asked::get);
        let fast = (0..60).map(|_| Asked::get("/hello"));
        let answers = client.all(slow.into_iter().chain(fast).collect());
        for (index, (took, answer)) in answers.into_iter().enumerate() {
            assert_eq!(answer.expect("an answer").status, 200, "{guest}: {index}");
            assert_eq!(took >= Duration::from_millis(1_400), index < 3, "{guest}: {index} took {took:?}");
        }
    }
}

#[test]
fn a_reset_cancels_its_own_request_and_no_other() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--workers", "1", "--request-timeout", "none", "--cpu-limit", "60s"]);
        let mut client = Frames::open(server.address);
        let paths = ["/wait-forever", "/loop", "/stream?chunks=1000000&bytes=1&ms=50", "/body-size"];
        for (index, path) in paths.into_iter().enumerate() {
            let (stream, ends) = (2 * index as u32 + 1, if path == "/body-size" { 0 } else { END_STREAM });
            client.send(frame(kind::HEADERS, END_HEADERS | ends, stream, &request("POST", path, &[])));
        }
        client.send(frame(kind::DATA, 0, 7, b"half of it"));
        client.ask(9, "/sleep?ms=2000");
        eventually("all are under way", || server.sum("in_flight") == 5);
        for (stream, reason) in [(1, 8), (3, 8), (5, 8), (7, 0)] {
            client.send(reset(stream, reason));
        }
        let began = Instant::now();
        eventually("the guests are stopped", || server.sum("in_flight") <= 1);
        assert!(began.elapsed() < Duration::from_millis(250), "{guest}: {:?}", began.elapsed());
        assert_eq!(client.outcome(9), Outcome::Answered(200, b"slept".to_vec()), "{guest}");
        eventually("all are told apart", || server.sum("client_left") == 4);
        // No fault of the guest, whatever it made of half a body.
        assert_eq!(server.sum("faults.trap"), 0, "{guest}");
        client.ask(11, "/hello");
        assert_eq!(client.outcome(11), Outcome::Answered(200, b"Hello, World!".to_vec()), "{guest}");
    }
}

#[test]
fn the_end_of_a_connection_ends_its_requests() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--request-timeout", "none", "--cpu-limit", "60s"]);
        let before = server.resident_kib();
        for _ in 0..10 {
            let mut client = Frames::open(server.address);
            for (number, path) in
                ["/wait-forever", "/loop", "/stream?chunks=1000000&bytes=1&ms=50"].into_iter().enumerate()
            {
                client.ask(2 * number as u32 + 1, path);
            }
            eventually("all are under way", || server.sum("in_flight") == 3);
            drop(client);
            eventually("all are over", || server.sum("in_flight") == 0);
        }
        assert_eq!(server.sum("client_left"), 30, "{guest}");
        server.memory_is_back(before + (8 << 10), "the connections");
    }
}

#[test]
fn half_of_a_body_is_never_taken_for_a_whole_one() {
    for guest in FAULTS {
        let folder = tempfile::tempdir().expect("a folder");
        let flags = ["--dir", &format!("{}::/data", folder.path().display())];
        let server = Server::start(guest, &flags);
        for reason in [0, 8, 5] {
            let mut client = Frames::open(server.address);
            client.send(frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/write?path=/data/file", &[])));
            client.send(frame(kind::DATA, 0, 1, b"half"));
            eventually("it is under way", || server.sum("in_flight") == 1);
            client.send(reset(1, reason));
            eventually("it is over", || server.sum("in_flight") == 0);
            client.ask(3, "/hello");
            assert_eq!(client.outcome(3), Outcome::Answered(200, b"Hello, World!".to_vec()), "{guest} {reason}");
        }
        assert_eq!(server.sum("client_left"), 3, "{guest}");
    }
}

#[test]
fn a_client_that_opens_no_window_holds_its_guest_back_and_little_memory() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--workers", "1", "--body-idle-timeout", "2s"]);
        let before = server.resident_kib();
        // Windows of nothing: not a byte of any body can be sent.
        let mut client = Frames::open_with(server.address, &[(4, 0)]);
        for stream in 0..40 {
            client.ask(2 * stream + 1, "/stream?chunks=400&bytes=60000");
        }
        client.ask(81, "/trailers");
        std::thread::sleep(Duration::from_millis(700));
        let grown = server.resident_kib().saturating_sub(before);
        // (24 MB would have been sent by each; a guest of its own has some megabytes of memory.)
        assert!(grown < 180 << 10, "{guest}: {grown} KiB more");
        // Another connection is served meanwhile.
        assert_eq!(Http2::open(server.address).get("/hello").text(), "Hello, World!", "{guest}");
        // Each stream ends alone, when its time is over; with what the client gets of the others.
        let lasted = Instant::now();
        let mut resets = 0;
        while resets < 40 {
            let next = client.wait_for(|frame| matches!(frame.kind, kind::RST_STREAM | kind::GOAWAY)).expect("a frame");
            assert_eq!(next.kind, kind::RST_STREAM, "{guest}: {next:?}");
            resets += 1;
        }
        assert!(lasted.elapsed() < Duration::from_secs(6), "{guest}: {:?}", lasted.elapsed());
        assert!(server.sum("refusals.slow-client") >= 40, "{guest}");
    }
}

#[test]
fn a_guest_that_does_not_read_holds_its_client_back() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--workers", "1", "--body-idle-timeout", "none"]);
        let mut client = Frames::open(server.address);
        client.send(frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/spin?ms=1500", &[])));
        eventually("it is under way", || server.sum("in_flight") == 1);
        // As much as the window allows, at most: more would be an error of the client.
        let (piece, mut sent, mut updates) = (vec![b'x'; 8 * 1024], 0, 0);
        let began = Instant::now();
        while sent < 64 * 1024 && began.elapsed() < Duration::from_secs(1) {
            client.send(frame(kind::DATA, 0, 1, &piece));
            sent += piece.len();
        }
        client.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            client.wait_for(|frame| {
                updates += usize::from(frame.kind == kind::WINDOW_UPDATE && frame.stream == 1);
                false
            })
        }));
        // What the host gathers of it before the guest has it, and no more.
        assert!(updates <= 3, "{guest}: {updates} windows were opened for a guest that does not read");
    }
}

#[test]
fn bodies_that_nobody_reads_leave_the_others_their_windows() {
    for guest in FAULTS {
        let flags = ["--body-idle-timeout", "none", "--request-timeout", "none", "--body-rate-min", "none"];
        let server = Server::start(guest, &flags);
        let mut client = Frames::open(server.address);
        client.wait_for(|frame| frame.kind == kind::WINDOW_UPDATE).expect("the connection's window");
        // Each sends all that its window takes, until that stays closed.
        let (mut windows, mut piece) = ([65_535_i64; 4], vec![b'x'; 16 * 1024]);
        for index in 0..4 {
            client.send(frame(kind::HEADERS, END_HEADERS, 2 * index + 1, &request("POST", "/wait-forever", &[])));
        }
        client.stream.set_read_timeout(Some(Duration::from_millis(400))).expect("a time-out");
        loop {
            for (stream, window) in (1_u32..).step_by(2).zip(&mut windows) {
                while *window > 0 {
                    piece.resize(usize::try_from(*window).expect("a size").min(16 * 1024), b'x');
                    client.send(frame(kind::DATA, 0, stream, &piece));
                    *window -= i64::try_from(piece.len()).expect("a size");
                }
            }
            let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                client.wait_for(|frame| frame.kind == kind::WINDOW_UPDATE && frame.stream % 2 == 1)
            }));
            // Nothing more comes.
            let Ok(opened) = opened else { break };
            let opened = opened.expect("the connection goes on");
            windows[(opened.stream / 2) as usize] += i64::from(opened.number(0));
        }
        client.stream.set_read_timeout(Some(CEILING)).expect("a time-out");
        client.send(frame(kind::HEADERS, END_HEADERS, 9, &request("POST", "/body-size", &[])));
        client.send(frame(kind::DATA, 0, 9, &vec![b'y'; 16 * 1024]));
        client.send(frame(kind::DATA, END_STREAM, 9, &vec![b'y'; 16 * 1024]));
        assert_eq!(client.outcome(9), Outcome::Answered(200, b"bytes: 32768\n".to_vec()), "{guest}");
    }
}

#[test]
fn a_drain_finishes_what_is_under_way_and_takes_nothing_new() {
    for guest in FAULTS {
        let mut server = Server::start(guest, &["--drain-timeout", "8s"]);
        let mut client = Frames::open(server.address);
        client.ask(1, "/stream?chunks=8&bytes=10&ms=100");
        let mut idle = Frames::open(server.address);
        idle.ask(1, "/hello");
        assert_eq!(idle.outcome(1), Outcome::Answered(200, b"Hello, World!".to_vec()), "{guest}");
        assert!(client.wait_for(|frame| frame.kind == kind::DATA).is_some(), "{guest}");
        server.signal("TERM");
        let mut told = 0;
        let last = client.wait_for(|frame| {
            told += usize::from(frame.kind == kind::GOAWAY && frame.number(4) == 0);
            frame.stream == 1 && frame.flags & END_STREAM != 0
        });
        assert!(last.is_some() && told > 0, "{guest}: {last:?}, {told} GOAWAY");
        assert_eq!(client.goaway().unwrap_or(0), 0, "{guest}");
        assert_eq!(idle.goaway(), Some(0), "{guest}");
        assert!(server.wait_for_exit().success(), "{guest}");
    }
}

#[test]
fn a_client_that_answers_nothing_does_not_hold_up_a_drain() {
    let mut server = Server::start("hello.wasm", &["--drain-timeout", "20s"]);
    let mut client = Frames::open(server.address);
    client.ask(1, "/");
    assert_eq!(client.outcome(1), Outcome::Answered(200, b"Hello, World!".to_vec()));
    // hyper asks by a PING whether more requests are on their way.
    let began = Instant::now();
    server.signal("TERM");
    assert!(server.wait_for_exit().success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn limits_of_a_request_hold_for_its_stream() {
    for guest in FAULTS {
        let flags = ["--request-timeout", "400ms", "--body-max", "1000", "--body-idle-timeout", "400ms"];
        let server = Server::start(guest, &flags);
        let mut client = Frames::open(server.address);
        client.ask(1, "/wait-forever");
        client.send(frame(
            kind::HEADERS,
            END_HEADERS,
            3,
            &request("POST", "/body-size", &[("content-length", "1001")]),
        ));
        client.send(frame(kind::HEADERS, END_HEADERS, 5, &request("POST", "/body-size", &[])));
        client.send(frame(kind::DATA, 0, 5, &[b'x'; 1_001]));
        client.send(frame(kind::HEADERS, END_HEADERS, 7, &request("POST", "/body-size", &[])));
        client.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, 9, &get("/hello")));
        let answers = client.outcomes(&[1, 3, 5, 7, 9]);
        let statuses: Vec<u16> = answers.iter().map(|outcome| outcome.status()).collect();
        assert_eq!(statuses, [504, 413, 413, 408, 200], "{guest}: {answers:?}");
        client.ask(11, "/hello");
        assert_eq!(client.outcome(11).status(), 200, "{guest}");
    }
}

#[test]
fn who_waits_for_100_continue_is_answered_once_whether_the_body_comes_or_not() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--body-max", "1000", "--body-idle-timeout", "700ms"]);
        let mut client = Frames::open(server.address);
        let ask =
            |length: &str| request("POST", "/body-size", &[("expect", "100-continue"), ("content-length", length)]);
        for (stream, length) in [(1, "4"), (3, "4"), (5, "1001")] {
            client.send(frame(kind::HEADERS, END_HEADERS, stream, &ask(length)));
        }
        let mut heads: Vec<u32> = Vec::new();
        let mut next = |client: &mut Frames| {
            let head = client.wait_for(|frame| frame.kind == kind::HEADERS).expect("an answer");
            heads.push(head.stream);
            head.stream
        };
        // Too large by what its head says: at once.
        let began = Instant::now();
        assert_eq!((next(&mut client), began.elapsed() < Duration::from_millis(300)), (5, true), "{guest}");
        // One has waited, and sends it; the other waits in vain.
        client.send(frame(kind::DATA, END_STREAM, 1, b"body"));
        assert_eq!((next(&mut client), next(&mut client)), (1, 3), "{guest}");
        client.ask(7, "/hello");
        assert_eq!(next(&mut client), 7, "{guest}: nobody has got a second head");
        assert_eq!(server.sum("refusals.body-timeout"), 1, "{guest}");
    }
}

#[test]
fn a_connection_ends_with_its_last_request() {
    let server = Server::start("hello.wasm", &["--max-requests-per-connection", "3"]);
    let mut client = Http2::open(server.address);
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(client.closed().is_ok());
    server.wait_for_record("the line", |record| message(record).contains("after their last request"));
}

#[test]
fn http1_and_http2_share_a_listener_however_slowly_they_begin() {
    let server = Server::start("hello.wasm", &["--header-timeout", "2s"]);
    let mut slow = Frames::connect(server.address);
    let begin = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[]), &frame(kind::HEADERS, 5, 1, &get("/"))].concat();
    for byte in begin {
        slow.send([byte]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(slow.outcome(1), Outcome::Answered(200, b"Hello, World!".to_vec()));
    for text in
        ["PRI / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut old = Connection::open(server.address);
        for byte in text.bytes() {
            old.send([byte]);
        }
        assert_eq!(old.response().status, 200, "{text}");
    }
    // Off: as before there was HTTP/2.
    let server = Server::start("hello.wasm", &["--http2-streams-max", "0"]);
    let mut old = Connection::open(server.address);
    old.send(PREFACE);
    assert_eq!(old.response().status, 400);
}

#[test]
fn a_unix_socket_speaks_both() {
    use std::io::{Read, Write};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let _server = Server::start("hello.wasm", &["--listen", &format!("unix:{}", path.display())]);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
    let ask = [PREFACE, &frame(kind::SETTINGS, 0, 0, &[]), &frame(kind::HEADERS, 5, 1, &get("/"))].concat();
    stream.write_all(&ask).expect("sent");
    let (mut came, mut chunk) = (Vec::new(), [0_u8; 4096]);
    while !came.windows(13).any(|window| window == b"Hello, World!") {
        let read = stream.read(&mut chunk).expect("read");
        assert!(read > 0, "{came:?}");
        came.extend_from_slice(&chunk[..read]);
    }
}

#[test]
fn a_call_like_grpcs_has_its_status_in_trailers() {
    for guest in FAULTS {
        let server = Server::start(guest, &[]);
        let mut client = Frames::open(server.address);
        let more = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "1S")];
        client.send(frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/echo", &more)));
        let message = [&[0, 0, 0, 0, 5][..], b"hello"].concat();
        client.send(frame(kind::DATA, 0, 1, &message));
        let trailers = crate::support::http2::fields(&[("grpc-status", "0")]);
        client.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, 1, &trailers));
        let (mut body, mut heads) = (Vec::new(), Vec::new());
        let last = client.wait_for(|frame| {
            match (frame.kind, frame.stream) {
                (kind::DATA, 1) => body.extend_from_slice(&frame.payload),
                (kind::HEADERS, 1) => heads.push(frame.payload.clone()),
                _ => {}
            }
            frame.stream == 1 && frame.flags & END_STREAM != 0
        });
        assert_eq!((last.expect("an end").kind, body == message, heads.len()), (kind::HEADERS, true, 2), "{guest}");
    }
}

#[test]
fn requests_for_apps_of_groups_are_forwarded_with_their_trailers() -> TestResult {
    let more = |guest: &str| app(guest, &format!("{guest}.wasm"), &format!("{guest}.test/*"), "group = \"one\"");
    let folder = Folder::new(&("worker-kind = \"process\"\n".to_owned() + &more("faults") + &more("faults-p3")))?;
    let server = folder.serve(&[]);
    for guest in ["faults", "faults-p3"] {
        ask_until_loaded(server.address, &format!("{guest}.test"), "/hello");
        let mut client = Http2::open(server.address);
        let of = |asked: Asked| Asked { authority: Some(format!("{guest}.test")), ..asked };
        let told = client.ask(of(Asked::get("/request?x=y")))?.text();
        assert!(told.contains(&format!("authority: {guest}.test\n")) && told.contains("path: /request?x=y"), "{told}");
        let large: Vec<u8> = (0..500_000_u32).map(|n| (n % 251) as u8).collect();
        let asked = of(Asked { trailers: Some(header("x-sum", "7")), ..Asked::post("/echo", &[&large]) });
        let answer = client.ask(asked)?;
        assert!(answer.status == 200 && answer.body == large, "{guest}: {} {}", answer.status, answer.body.len());
        assert_eq!(answer.trailers.ok_or("trailers")?["x-sum"], "7", "{guest}");
        assert!(
            !answer.headers.contains_key("x-wasmhost-trailer") && !answer.headers.contains_key("trailer"),
            "{guest}"
        );
        assert_eq!(client.ask(of(Asked::get("/trailers")))?.trailers.ok_or("trailers")?["x-checksum"], "1234");
        // Half of a body that the client gives up is no whole one there either.
        let mut raw = Frames::open(server.address);
        let block = crate::support::http2::fields(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", &format!("{guest}.test")),
            (":path", "/remember?value=whole"),
        ]);
        raw.send(frame(kind::HEADERS, END_HEADERS, 1, &block));
        raw.send(frame(kind::DATA, 0, 1, b"half"));
        raw.send(reset(1, 0));
        let answers = client.all((0..40).map(|_| of(Asked::get("/hello"))).collect());
        assert!(answers.into_iter().all(|(_, answer)| answer.is_ok_and(|answer| answer.status == 200)), "{guest}");
    }
    Ok(())
}

#[test]
fn neighbours_on_http1_lose_nothing_beside_many_streams() {
    let server = Server::start("faults.wasm", &["--workers", "1"]);
    let neighbours = Neighbours::begin(server.address);
    let mut client = Http2::open(server.address);
    for _ in 0..5 {
        for (_, answer) in client.all((0..100).map(|_| Asked::get("/hello")).collect()) {
            assert_eq!(answer.expect("an answer").status, 200);
        }
    }
    neighbours.end("streams");
}

/// What a program says, which succeeds.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(program).args(arguments).output().expect("the program runs");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test(needs(Curl))]
fn curl_is_served() {
    for guest in FAULTS {
        let server = Server::start(guest, &[]);
        let url = |path: &str| format!("http://{}{path}", server.address);
        let told = ["--silent", "--http2-prior-knowledge", "--write-out", " %{http_version} %{http_code}"];
        let ask = |more: &[&str]| output_of("curl", &[&told[..], more].concat());
        assert_eq!(ask(&[&url("/hello")]), "Hello, World! 2 200", "{guest}");
        let body = "x".repeat(100_000);
        assert_eq!(ask(&["--data", &body, &url("/body-size")]), "bytes: 100000\n 2 200", "{guest}");
        assert_eq!(ask(&["--head", &url("/hello")]).lines().next(), Some("HTTP/2 200 "), "{guest}");
        // One that offers an upgrade gets HTTP/1.1.
        let offer = ["--silent", "--http2", "--write-out", " %{http_version}", &url("/hello")];
        assert_eq!(output_of("curl", &offer), "Hello, World! 1.1", "{guest}");
    }
}

#[test(needs(Nghttp2))]
fn nghttp_and_h2load_are_served() {
    for guest in FAULTS {
        let server = Server::start(guest, &[]);
        let url = |path: &str| format!("http://{}{path}", server.address);
        let text =
            output_of("nghttp", &["--stat", &url("/hello"), &url("/trailers"), &url("/stream?chunks=3&bytes=4")]);
        assert!(text.contains("Hello, World!") && text.contains("aaaabbbbcccc"), "{guest}: {text}");
        let loaded = output_of("h2load", &["-n", "20000", "-c", "10", "-m", "32", &url("/hello")]);
        assert!(loaded.contains("20000 succeeded, 0 failed, 0 errored"), "{guest}: {loaded}");
        assert!(loaded.contains("20000 2xx"), "{guest}: {loaded}");
    }
}
