//! Is HTTP/1.1 spoken as its specification says?

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::support::{Connection, FAULTS, Response, Server, TestResult, eventually, get, guest, request};

/// Sends these bytes on a new connection and reads the answer.
#[track_caller]
fn answer_to(server: &Server, bytes: &str) -> crate::support::Response {
    let mut connection = Connection::open(server.address);
    connection.send(bytes);
    connection.response()
}

#[test]
fn an_answer_to_head_has_the_length_and_no_body() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        for (path, length) in [
            ("/hello", "13"),
            ("/length?declared=5&actual=5", "5"),
            ("/length?declared=1000000&actual=1000000", "1000000"),
            // What GET would get; nobody misses the bytes.
            ("/length?declared=5&actual=0", "5"),
            ("/length?declared=5&actual=3", "5"),
        ] {
            connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let response = connection.try_response(true).expect("an answer");
            assert_eq!((response.status, response.header("content-length")), (200, Some(length)), "{component} {path}");
        }
        for (path, status) in [("/no-content", 204), ("/status?code=304", 304)] {
            connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let response = connection.try_response(true).expect("an answer");
            assert_eq!((response.status, response.header("content-length")), (status, None), "{component} {path}");
        }
        // A body would stand before this answer.
        assert_eq!(connection.get("/hello").text(), "Hello, World!", "{component}");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}");
    }
}

#[test]
fn an_answer_without_content_has_no_body() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        let response = connection.get("/no-content");
        assert_eq!(
            (response.status, response.header("content-length"), response.header("transfer-encoding")),
            (204, None, None),
            "{component}"
        );
        let empty = connection.get("/empty");
        assert_eq!((empty.status, empty.text(), empty.whole), (200, String::new(), true), "{component}");
        assert_eq!(connection.get("/hello").text(), "Hello, World!", "{component}");
    }
}

#[test]
fn a_client_that_expects_100_is_told_to_go_on_only_when_the_guest_reads() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send("POST /body-size HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(connection.response().status, 100, "{component}");
        connection.send("hello");
        let response = connection.response();
        assert!(response.status == 200 && response.text().starts_with("bytes: 5"), "{component}: {response:?}");

        let mut connection = Connection::open(server.address);
        connection
            .send("POST /ignore-body HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        let response = connection.response();
        assert_eq!((response.status, response.text()), (200, "ignored".to_owned()), "{component}");
    }
}

#[test]
fn a_client_that_expects_100_can_have_its_body_echoed() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send("POST /echo HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        // This guest gives its answer's headers before it reads: 100 goes first (RFC 9110, section 10.1.1), or the client
        // would wait for it.
        assert_eq!(connection.response().status, 100, "{component}");
        connection.send("hello");
        let response = connection.response();
        assert_eq!((response.status, response.text()), (200, "hello".to_owned()), "{component}");
        assert_eq!(connection.get("/hello").status, 200, "{component}");
    }
}

#[test]
fn a_half_closed_client_is_answered() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        for (path, body) in
            [("/sleep?ms=200", "slept"), ("/stream?chunks=5&bytes=1&ms=50", "abcde"), ("/hello", "Hello, World!")]
        {
            let mut connection = Connection::open(server.address);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            connection.stream.shutdown(Shutdown::Write).expect("half closed");
            let response = connection.response();
            assert_eq!(
                (response.status, response.text(), response.whole),
                (200, body.to_owned(), true),
                "{component} {path}"
            );
            assert_eq!(connection.raw_to_end(), b"", "{component} {path}: then it ends");
        }
        assert_eq!(server.sum("client_left"), 0, "{component}");
    }
}

#[test]
fn http_1_0_is_served_without_a_host_and_closed() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        for path in ["/hello", "/stream?chunks=3&bytes=2"] {
            let mut connection = Connection::open(server.address);
            connection.send(format!("GET {path} HTTP/1.0\r\n\r\n"));
            let text = String::from_utf8_lossy(&connection.raw_to_end()).into_owned();
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{component}: {head}");
            assert!(!head.to_ascii_lowercase().contains("chunked"), "{component}: {head}");
            assert_eq!(body, if path == "/hello" { "Hello, World!" } else { "aabbcc" }, "{component}");
        }
    }
}

#[test]
fn a_request_that_is_not_valid_is_answered_400_and_the_connection_closed() {
    let server = Server::start("faults.wasm", &[]);
    let invalid = [
        "GET /hello HTTP/1.1\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: a:65536\r\n\r\n",
        "GET http://u:p@a/hello HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "BLAH\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: a\r\nname : value\r\n\r\n",
        "GET /hello HTTP/9.1\r\nHost: a\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}TLS to a plain port\r\n\r\n",
    ];
    for bytes in invalid {
        let mut connection = Connection::open(server.address);
        connection.send(bytes);
        let text = String::from_utf8_lossy(&connection.raw_to_end()).into_owned();
        assert!(text.starts_with("HTTP/1.1 400 "), "{bytes:?}: {text:?}");
    }
    assert_eq!(answer_to(&server, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}

#[test]
fn connect_is_not_implemented() {
    let server = Server::start("faults.wasm", &[]);
    assert_eq!(answer_to(&server, "CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n\r\n").status, 501);
}

#[test]
fn transfer_codings_beside_chunked_are_not_implemented() {
    let server = Server::start("faults.wasm", &[]);
    for codings in ["gzip, chunked", "gzip\r\nTransfer-Encoding: chunked"] {
        let request =
            format!("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {codings}\r\n\r\n1\r\na\r\n0\r\n\r\n");
        assert_eq!(answer_to(&server, &request).status, 501, "{codings:?}");
    }
}

#[test]
fn an_expectation_that_is_not_known_is_answered_417() {
    let server = Server::start("faults.wasm", &[]);
    let request = "POST /body-size HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 1\r\n\r\na";
    assert_eq!(answer_to(&server, request).status, 417);
}

#[test]
fn trailers_reach_the_guest_without_what_may_not_stand_in_them() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let trailers =
            "Content-Length: 9\r\nTransfer-Encoding: chunked\r\nHost: b\r\nX-Forwarded-For: c\r\nX-Sum: 1\r\n";
        let head = "POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let text = answer_to(&server, &format!("{head}1\r\na\r\n0\r\n{trailers}\r\n")).text();
        assert_eq!(text, "bytes: 1\ntrailer x-sum: 1\n", "{component}");
    }
}

#[test]
fn the_absolute_form_of_the_target_wins_over_host() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let text = answer_to(&server, "GET http://other.test:99/request?x=1 HTTP/1.1\r\nHost: test\r\n\r\n").text();
        for line in ["scheme: http", "authority: other.test:99", "path: /request?x=1", "host: other.test:99"] {
            assert!(text.lines().any(|given| given == line), "{component}: no `{line}` in:\n{text}");
        }
    }
}

#[test]
fn chunks_are_read_however_they_are_cut() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        let bytes = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\nA;name=value\r\n0123456789\r\n3\r\nxyz\r\n0\r\n\r\n";
        for byte in bytes.chunks(7) {
            connection.send(byte);
            connection.stream.flush().expect("sent");
        }
        let response = connection.response();
        assert_eq!((response.text(), response.whole), ("a0123456789xyz".to_owned(), true), "{component}");
        assert_eq!(connection.get("/hello").status, 200, "{component}");
    }
}

#[test]
fn a_repeated_header_arrives_repeated() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let response = answer_to(&server, "GET /repeat-header HTTP/1.1\r\nHost: test\r\n\r\n");
        let cookies: Vec<&str> =
            response.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
        assert_eq!(cookies, ["a=1", "b=2"], "{component}");
    }
}

#[test]
fn a_body_arrives_piece_by_piece_as_the_guest_writes_it() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send("GET /stream?chunks=3&bytes=4&ms=400 HTTP/1.1\r\nHost: test\r\n\r\n");
        let (mut seen, mut times) = (Vec::new(), Vec::new());
        for piece in ["aaaa", "bbbb", "cccc"] {
            while !String::from_utf8_lossy(&seen).contains(piece) {
                let mut some = [0; 1_024];
                let read = connection.stream.read(&mut some).expect("more");
                assert!(read > 0, "{component}: the end before {piece}");
                seen.extend(&some[..read]);
            }
            times.push(Instant::now());
            assert_eq!(
                server.sum("in_flight"),
                u64::from(piece != "cccc"),
                "{component}: the guest is still at work after {piece}"
            );
        }
        let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap > Duration::from_millis(200)), "{component}: {gaps:?}");
    }
}

/// hello.wat, whose guest calls `blocking-write-and-flush` so many times in the place of `write`, and goes on with `then`.
fn blocking_writer(writes: usize, then: &str, file: &std::path::Path) -> TestResult {
    let call =
        "(call $write (local.get $stream) (i32.const 288) (i32.const 13) (global.get $result))\n      (call $check)";
    let hello = std::fs::read_to_string(guest("wat/hello.wat"))?;
    assert!(hello.contains(call), "hello.wat is another");
    let blocking = hello.replace("[method]output-stream.write", "[method]output-stream.blocking-write-and-flush");
    std::fs::write(file, blocking.replacen(call, &format!("{} {then}", call.repeat(writes)), 1))?;
    Ok(())
}

#[test]
fn a_guest_may_write_its_body_in_as_many_blocking_calls_as_it_likes() -> TestResult {
    let folder = tempfile::tempdir()?;
    for writes in [1, 2, 3, 20] {
        let app = folder.path().join(format!("{writes}.wat"));
        blocking_writer(writes, "", &app)?;
        let server = Server::start(app.to_str().ok_or("a path in UTF-8")?, &[]);
        let mut connection = Connection::open(server.address);
        for _ in 0..3 {
            let response = connection.get("/");
            assert_eq!((response.status, response.text()), (200, "Hello, World!".repeat(writes)), "{writes}");
        }
    }
    Ok(())
}

#[test]
fn what_a_guest_has_written_arrives_though_it_computes_and_never_waits() -> TestResult {
    let folder = tempfile::tempdir()?;
    let app = folder.path().join("app.wat");
    blocking_writer(2, "(loop $for-ever (br $for-ever))", &app)?;
    let server = Server::start(app.to_str().ok_or("a path in UTF-8")?, &["--cpu-limit", "3s"]);
    let mut connection = Connection::open(server.address);
    connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut seen = Vec::new();
    let written = |seen: &[u8]| String::from_utf8_lossy(seen).matches("Hello, World!").count();
    while written(&seen) < 2 {
        let mut some = [0; 1_024];
        let read = connection.stream.read(&mut some)?;
        assert!(read > 0, "the end before what was written: {seen:?}");
        seen.extend(&some[..read]);
    }
    assert_eq!((server.sum("in_flight"), server.sum("faults.cpu")), (1, 0), "the guest is still at work");
    connection.stream.read_to_end(&mut seen)?;
    assert!(written(&seen) == 2 && !seen.ends_with(b"0\r\n\r\n"), "broken off, not ended: {seen:?}");
    eventually("the fault is counted", || server.sum("faults.cpu") == 1);
    Ok(())
}

#[test]
fn a_request_body_reaches_the_guest_piece_by_piece() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut seen = Vec::new();
        for piece in ["first", "second", "third"] {
            connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
            while !String::from_utf8_lossy(&seen).contains(piece) {
                let mut some = [0; 1_024];
                let read = connection.stream.read(&mut some).expect("it comes back before the next is sent");
                assert!(read > 0, "{component}: the end before {piece}");
                seen.extend(&some[..read]);
            }
        }
        connection.send("0\r\n\r\n");
    }
}

fn in_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name("sender".to_owned()).spawn(work).expect("a thread")
}

#[test]
fn a_slow_reader_holds_the_guest_back_and_costs_no_memory() {
    const BODY_BYTES: usize = 64 << 20;
    for component in FAULTS {
        let server = Server::start(component, &[]);
        assert_eq!(request(server.address, "POST", "/echo", &vec![1; 1 << 20]).body.len(), 1 << 20);
        let before = server.resident_kib();
        let mut connection = Connection::open(server.address);
        connection.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY_BYTES}\r\n\r\n"));
        let mut writer = connection.stream.try_clone().expect("a second handle");
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = std::sync::Arc::clone(&sent);
        let sender = in_thread(move || {
            let block = vec![7; 64 * 1024];
            while counter.load(std::sync::atomic::Ordering::Relaxed) < BODY_BYTES {
                writer.write_all(&block).expect("the server reads");
                counter.fetch_add(block.len(), std::sync::atomic::Ordering::Relaxed);
            }
        });
        // Nobody reads the answer: the sender comes to a halt, far from the end.
        let mut last = (usize::MAX, Instant::now());
        eventually("the sender is held back", || {
            let now = sent.load(std::sync::atomic::Ordering::Relaxed);
            if now != last.0 {
                last = (now, Instant::now());
            }
            last.1.elapsed() > Duration::from_millis(500)
        });
        assert!(last.0 < BODY_BYTES / 2, "{component}: {} bytes were taken with no reader", last.0);
        let mut most = server.resident_kib();
        let mut got = 0;
        let mut some = vec![0; 256 * 1024];
        while got < BODY_BYTES {
            let read = connection.stream.read(&mut some).expect("more");
            assert!(read > 0, "{component}: the end after {got} bytes");
            got += read;
            most = most.max(server.resident_kib());
        }
        sender.join().expect("all was sent");
        let grown = most.saturating_sub(before);
        assert!(grown < 30 * 1024, "{component}: {grown} KiB more for {BODY_BYTES} bytes");
    }
}

#[test]
fn the_answer_arrives_though_a_large_body_was_not_read() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        for _ in 0..10 {
            let mut connection = Connection::open(server.address);
            connection.send("POST /ignore-body HTTP/1.1\r\nHost: test\r\nContent-Length: 8000000\r\n\r\n");
            let mut writer = connection.stream.try_clone().expect("a second handle");
            // The server may close its end before all is written.
            let sender = in_thread(move || writer.write_all(&vec![7; 8_000_000]).is_ok());
            let response = connection.try_response(false).unwrap_or_else(|| panic!("{component}: the answer was lost"));
            assert_eq!(
                (response.status, response.text(), response.whole),
                (200, "ignored".to_owned(), true),
                "{component}"
            );
            drop(connection);
            sender.join().expect("the sender ends");
        }
    }
}

/// Has one date, which is now.
#[track_caller]
fn assert_dated(response: &Response, what: &str) {
    let dates: Vec<&String> =
        response.headers.iter().filter(|(name, _)| name == "date").map(|(_, value)| value).collect();
    assert_eq!(dates.len(), 1, "{what}: {:?}", response.headers);
    let date = httpdate::parse_http_date(dates[0]).expect("a date as HTTP writes it");
    let distance = date.elapsed().unwrap_or_else(|ahead| ahead.duration());
    assert!(distance < Duration::from_secs(60), "{what}: {}", dates[0]);
}

#[test]
fn every_answer_has_a_date_those_of_the_host_too() {
    for component in FAULTS {
        let limits = ["--header-timeout", "300ms", "--header-max", "8KiB", "--request-timeout", "600ms"];
        let server = Server::start(component, &[&limits[..], &["--body-idle-timeout", "300ms"]].concat());
        let long = "x".repeat(9_000);
        let requests = [
            (200, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
            (200, "GET /stream?chunks=2&ms=10 HTTP/1.1\r\nHost: a\r\n\r\n"),
            (204, "GET /no-content HTTP/1.1\r\nHost: a\r\n\r\n"),
            (404, "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"),
            (500, "GET /trap HTTP/1.1\r\nHost: a\r\n\r\n"),
            (500, "GET /error HTTP/1.1\r\nHost: a\r\n\r\n"),
            (504, "GET /wait-forever HTTP/1.1\r\nHost: a\r\n\r\n"),
            (400, "GET /hello HTTP/1.1\r\n\r\n"),
            (400, "BLAH\r\n\r\n"),
            (501, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            (408, "GET / HTTP/1.1\r\nHost: "),
            (408, "POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"),
            (414, &format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")),
            (431, &format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")),
        ];
        for (status, bytes) in requests {
            let response = answer_to(&server, bytes);
            let what = format!("{component} {:.60}", bytes);
            assert_eq!(response.status, status, "{what}");
            assert_dated(&response, &what);
        }
        assert_dated(&server.admin("/healthz"), "the admin page");
    }
    let one = ["--workers", "1", "--instances-per-worker", "1", "--queue-max", "0"];
    let server = Server::start("faults.wasm", &one);
    let mut busy = Connection::open(server.address);
    busy.send("GET /wait-forever HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the instance is taken", || server.sum("in_flight") == 1);
    let shed = get(server.address, "/hello");
    assert_eq!(shed.status, 503);
    assert_dated(&shed, "no capacity");
}

/// Whether these bytes occur in those.
fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn header_bytes_beyond_ascii_pass_unchanged_both_ways() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        connection.send(b"GET /request HTTP/1.1\r\nHost: a\r\nX-Bytes: caf\xe9 \xc3\xa9 \xff\x80\r\n\r\n");
        let text = connection.response().text();
        assert!(text.lines().any(|line| line == "x-bytes: caf%E9 \u{e9} %FF%80"), "{component}:\n{text}");
        connection.send(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: a/caf\xe9 \xc3\xa9 \xff\x80\r\nContent-Length: 0\r\n\r\n",
        );
        let raw = connection.raw_to_end();
        let text = String::from_utf8_lossy(&raw);
        assert!(contains(&raw, b": a/caf\xe9 \xc3\xa9 \xff\x80\r\n"), "{component}: {text}");
    }
}

#[test]
fn odd_targets_reach_the_guest_as_they_were_written_or_are_refused() {
    let odd = [
        "/request?",
        "/request??&&==&a",
        "/request?a=%00%ff%2F%2e&b=%zz%",
        "/request?q='*();:@$,/!~[]",
        "/request?q={|}",
        "/request?+a+b=c%20d",
        "/request?q=\u{e9}\u{1f980}",
        "/request?https://a.test/?b",
        "//request",
        "///request?x",
    ];
    for component in FAULTS {
        let server = Server::start(component, &[]);
        for target in odd {
            let response = answer_to(&server, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let text = response.text();
            let is_told = text.lines().any(|line| line == format!("path: {target}"));
            assert!(is_told, "{component} {target}: {} {text}", response.status);
        }
        // A fragment is no part of a target (RFC 9110, section 4.2.5), and programs differ in what they make of one.
        assert_eq!(answer_to(&server, "GET /request?b#no HTTP/1.1\r\nHost: a\r\n\r\n").status, 400, "{component}");
        // Never allowed in a target (RFC 3986, appendix A).
        for character in ["\"", "^", "`", "\\", "<", "\u{7f}"] {
            let target = format!("/request?q={character}");
            let response = answer_to(&server, &format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let is_told = response.text().lines().any(|line| line == format!("path: {target}"));
            assert!(response.status == 400 || is_told, "{component} {target}: {} {}", response.status, response.text());
        }
    }
}

#[test]
fn trailers_are_echoed_with_the_body() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let mut connection = Connection::open(server.address);
        for round in 0..3 {
            connection.send("POST /echo HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, x-more\r\n\r\n");
            connection.send(format!("5\r\nhello\r\n0\r\nx-sum: {round}\r\nx-more: yes\r\n\r\n"));
            let response = connection.response();
            assert_eq!((response.text(), response.whole), ("hello".to_owned(), true), "{component}");
            let expected = [("x-sum".to_owned(), round.to_string()), ("x-more".to_owned(), "yes".to_owned())];
            assert_eq!(response.trailers, expected, "{component}");
        }
    }
}

#[test]
fn a_connection_is_kept_after_an_answer_that_tells_of_a_failure() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--request-timeout", "500ms"]);
        let mut connection = Connection::open(server.address);
        let failures =
            [("/nothing", 404), ("/status?code=500", 500), ("/trap", 500), ("/error", 500), ("/wait-forever", 504)];
        for (path, status) in failures {
            let response = connection.get(path);
            assert_eq!((response.status, response.header("connection")), (status, None), "{component} {path}");
            assert_eq!(connection.get("/hello").text(), "Hello, World!", "{component} after {path}");
        }
        assert_eq!(server.sum("connections"), 1, "{component}");
        // A hundred at once, one in ten of which faults.
        let path = |number: usize| if number % 10 == 3 { "/trap" } else { "/hello" };
        let batch: String = (0..100).map(|n| format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", path(n))).collect();
        connection.send(batch);
        for number in 0..100 {
            let expected = if number % 10 == 3 { 500 } else { 200 };
            assert_eq!(connection.response().status, expected, "{component}: number {number}");
        }
    }
}
