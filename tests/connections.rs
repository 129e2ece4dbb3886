//! Is each limit on connections and heads kept, with the answer that it promises and a log record that names its flag?

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::support::{CEILING, Connection, FAULTS, Server, eventually, get};

#[track_caller]
fn wait_for_limit(server: &Server, flag: &str) {
    server.wait_for_record(&format!("{flag} was met"), |record| record["limit"] == flag);
}

/// Nothing can be read from it within a moment: neither an answer nor its end. (That nothing happens has no event.)
pub fn is_silent(connection: &Connection) -> bool {
    connection.stream.set_read_timeout(Some(Duration::from_millis(300))).expect("a time-out");
    let peeked = connection.stream.peek(&mut [0]);
    connection.stream.set_read_timeout(Some(CEILING)).expect("a time-out");
    peeked.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_head_that_does_not_arrive_in_time_is_answered_408() {
    let server = Server::start("hello.wasm", &["--header-timeout", "400ms"]);
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.get("/").status, 200);
    for mut connection in [Connection::open(server.address), kept] {
        connection.send("GET / HTTP/1.1\r\nHost: te");
        let began = Instant::now();
        let raw = String::from_utf8_lossy(&connection.raw_to_end()).into_owned();
        assert!(
            raw.starts_with("HTTP/1.1 408 ") && raw.to_lowercase().contains("\r\nconnection: close\r\n"),
            "{raw:?}"
        );
        assert!(began.elapsed() >= Duration::from_millis(350), "{:?}", began.elapsed());
    }
    eventually("a record of each", || server.records(|record| record["limit"] == "--header-timeout").len() == 2);
}

#[test]
fn bytes_that_drip_do_not_lengthen_the_time_of_a_head() {
    let server = Server::start("hello.wasm", &["--header-timeout", "400ms"]);
    let mut connection = Connection::open(server.address);
    connection.send("GET / HTTP/1.1\r\nHost: ");
    let began = Instant::now();
    connection.stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
    let mut byte = [0];
    while connection.stream.peek(&mut byte).is_err() {
        assert!(began.elapsed() < CEILING, "a head may take for ever");
        connection.send("x");
    }
    let raw = String::from_utf8_lossy(&connection.raw_to_end()).into_owned();
    assert!(raw.starts_with("HTTP/1.1 408 "), "{raw:?}");
    wait_for_limit(&server, "--header-timeout");
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = Server::start("hello.wasm", &["--keepalive-timeout", "300ms", "--header-timeout", "20s"]);
    let mut connection = Connection::open(server.address);
    assert_eq!(connection.get("/").status, 200);
    let began = Instant::now();
    assert!(connection.raw_to_end().is_empty(), "bytes that nobody asked for");
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    eventually("it is not counted any more", || server.sum("open_connections") == 0);
}

#[test]
fn a_connection_that_never_says_anything_is_closed() {
    let server = Server::start("hello.wasm", &["--header-timeout", "300ms"]);
    let mut connection = Connection::open(server.address);
    assert!(connection.raw_to_end().is_empty());
    eventually("it is not counted any more", || server.sum("open_connections") == 0);
}

/// A GET whose head has exactly so many bytes.
fn head_of(bytes: usize) -> String {
    let (before, after) = ("GET / HTTP/1.1\r\nHost: test\r\nX-Long: ", "\r\n\r\n");
    format!("{before}{}{after}", "x".repeat(bytes - before.len() - after.len()))
}

#[test]
fn a_head_up_to_its_limit_is_served_and_one_above_is_answered_431() {
    for (flags, limit) in [(&["--header-max", "8KiB"][..], 8 << 10), (&[], 64 << 10)] {
        let server = Server::start("hello.wasm", flags);
        let mut connection = Connection::open(server.address);
        for _ in 0..2 {
            connection.send(head_of(limit));
            assert_eq!(connection.response().status, 200, "{limit}");
        }
        for excess in [1, 10_000] {
            let mut connection = Connection::open(server.address);
            connection.send(head_of(limit + excess));
            let response = connection.response();
            assert_eq!((response.status, response.header("connection")), (431, Some("close")), "{limit} + {excess}");
            assert!(connection.raw_to_end().is_empty());
        }
        wait_for_limit(&server, "--header-max");
    }
}

#[test]
fn a_request_line_above_the_limit_is_answered_414() {
    let server = Server::start("faults.wasm", &["--header-max", "8KiB"]);
    let path = |bytes: usize| format!("/hello?{}", "x".repeat(bytes));
    assert_eq!(get(server.address, &path(8_000)).text(), "Hello, World!");
    for bytes in [8 << 10, 30_000] {
        let mut connection = Connection::open(server.address);
        connection.send(format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", path(bytes)));
        assert_eq!(connection.response().status, 414, "{bytes}");
        assert!(connection.raw_to_end().is_empty());
    }
    wait_for_limit(&server, "--header-max");
}

#[test]
fn a_large_body_or_many_small_heads_do_not_count_as_a_large_head() {
    for component in FAULTS {
        let server = Server::start(component, &["--header-max", "8KiB"]);
        let mut connection = Connection::open(server.address);
        let body = "x".repeat(100_000);
        for _ in 0..3 {
            connection.send(format!("POST /body-size HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n{body}"));
            assert!(connection.response().text().starts_with("bytes: 100000"), "{component}");
        }
        connection.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1_000));
        for number in 0..1_000 {
            let status = connection.try_response(false).map(|response| response.status);
            assert_eq!(status, Some(200), "{component}: pipelined request {number}");
        }
    }
}

#[test]
fn a_connection_beyond_the_limit_waits_until_one_closes() {
    let server = Server::start("hello.wasm", &["--max-connections", "2"]);
    let mut first = Connection::open(server.address);
    let mut second = Connection::open(server.address);
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200));
    let mut third = Connection::open(server.address);
    third.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(is_silent(&third), "a third connection was served");
    assert_eq!((first.get("/").status, second.get("/").status), (200, 200), "those that are in go on");
    drop(first);
    assert_eq!(third.response().status, 200);
    assert_eq!(second.get("/").status, 200);
}

#[test]
fn a_connection_beyond_the_limit_waits_where_the_kernel_balances_too() {
    let server = Server::start("hello.wasm", &["--max-connections", "1", "--balance", "kernel"]);
    for _ in 0..50 {
        let mut first = Connection::open(server.address);
        assert_eq!(first.get("/").status, 200);
        let mut others = [(); 4].map(|()| Connection::open(server.address));
        for other in &mut others {
            other.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        }
        drop(first);
        for other in &mut others {
            assert_eq!(other.response().status, 200, "a connection that waited was closed");
        }
    }
}

#[test]
fn the_last_request_of_a_connection_is_told_that_it_is() {
    for component in FAULTS {
        let server = Server::start(component, &["--max-requests-per-connection", "3"]);
        let mut connection = Connection::open(server.address);
        for number in 1..=3 {
            let response = connection.get("/hello");
            let expected = (number == 3).then_some("close");
            assert_eq!(
                (response.status, response.header("connection")),
                (200, expected),
                "{component}: request {number}"
            );
        }
        assert!(connection.raw_to_end().is_empty(), "{component}");

        let mut connection = Connection::open(server.address);
        connection.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n".repeat(5));
        let answers =
            (0..5).map_while(|_| connection.try_response(false)).filter(|response| response.status == 200).count();
        assert_eq!(answers, 3, "{component}: of five pipelined requests");
    }
}

#[test]
fn an_older_client_that_keeps_its_connection_has_a_last_request_too() {
    for component in FAULTS {
        let server = Server::start(component, &["--max-requests-per-connection", "3"]);
        let mut connection = Connection::open(server.address);
        for number in 1..=3 {
            connection.send("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            let response = connection.response();
            let is_kept = response.header("connection") == Some("keep-alive");
            assert_eq!((response.status, is_kept), (200, number < 3), "{component}: request {number}");
        }
        assert!(connection.raw_to_end().is_empty(), "{component}");
    }
}

#[test]
fn a_head_that_came_in_part_with_the_request_before_has_the_limits_of_a_head() {
    let requests = [
        ("no body", "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("a length", "POST /body-size HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\na\r\n\r\nb"),
        (
            "chunks",
            "POST /body-size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n6\r\na\r\n\r\nb\r\n0\r\n\r\n",
        ),
        ("not read", "POST /ignore-body HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\na\r\n\r\nb"),
    ];
    let line = "GET / HTTP/1.1\r\n";
    for component in FAULTS {
        let server = Server::start(component, &["--header-timeout", "500ms", "--header-max", "8KiB"]);
        for (body, request) in requests {
            let what = format!("{component}, {body}");
            let mut connection = Connection::open(server.address);
            connection.send(format!("{request}{line}"));
            assert_eq!(connection.response().status, 200, "{what}");
            assert_eq!(connection.response().status, 408, "{what}");

            let mut connection = Connection::open(server.address);
            connection.send(format!("{request}{request}{line}X: {}", "x".repeat(4_000)));
            assert_eq!([(); 2].map(|()| connection.response().status), [200; 2], "{what}");
            connection.send("x".repeat((8 << 10) - 4_000));
            assert_eq!(connection.response().status, 431, "{what}: of its bytes some came before");

            let mut connection = Connection::open(server.address);
            connection.send(format!("{request}{request}{}", &head_of(8 << 10)[..3_000]));
            assert_eq!([(); 2].map(|()| connection.response().status), [200; 2], "{what}");
            connection.send(&head_of(8 << 10)[3_000..]);
            assert_eq!(connection.try_response(false).map(|response| response.status), Some(200), "{what}: in full");
        }
        server.wait_for_record("the limit", |record| record["limit"] == "--header-timeout");
        assert_eq!(server.sum("refusals.head-timeout"), 4, "{component}");
    }
}

#[test]
fn the_log_names_the_flag_when_connections_have_to_wait() {
    let server = Server::start("hello.wasm", &["--max-connections", "1"]);
    let mut first = Connection::open(server.address);
    assert_eq!(first.get("/").status, 200);
    let _waiting = Connection::open(server.address);
    wait_for_limit(&server, "--max-connections");
}

#[test]
fn that_connections_wait_is_said_only_when_some_do() {
    let server = Server::start("hello.wasm", &["--max-connections", "1"]);
    let mut only = Connection::open(server.address);
    for _ in 0..20 {
        assert_eq!(only.get("/").status, 200);
    }
    let told = |server: &Server| server.records(|record| record["limit"] == "--max-connections").len();
    assert_eq!(told(&server), 0, "none waits");
    let _waiting = Connection::open(server.address);
    eventually("it is said", || told(&server) == 1);
}

#[test]
fn the_log_names_each_flag_for_which_the_queue_refuses_requests() {
    let flags = ["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "300ms", "--queue-max", "1"];
    let server = Server::start("faults.wasm", &flags);
    let mut busy = Connection::open(server.address);
    busy.send("GET /wait-forever HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the instance is taken", || server.sum("in_flight") == 1);
    let mut first = Connection::open(server.address);
    first.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it waits in the queue", || server.sum("queued") >= 1);
    assert_eq!(get(server.address, "/hello").status, 503);
    wait_for_limit(&server, "--queue-max");
    assert_eq!(first.response().status, 503);
    wait_for_limit(&server, "--queue-timeout");
    // A request has less time than it may wait in the queue.
    let flags =
        ["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "20s", "--request-timeout", "300ms"];
    let server = Server::start("faults.wasm", &flags);
    let mut busy = Connection::open(server.address);
    busy.send("GET /stream?chunks=100000&bytes=100&ms=20 HTTP/1.1\r\nHost: test\r\n\r\n");
    busy.fill_until(|bytes| (bytes.len() > 400).then_some(())).expect("the stream begins");
    assert_eq!(get(server.address, "/hello").status, 503);
    wait_for_limit(&server, "--request-timeout");
    assert_eq!((server.sum("sheds.request-timeout"), server.sum("sheds.queue-timeout")), (1, 0));
}

#[test]
fn the_log_names_the_flag_when_an_idle_connection_is_closed() {
    let server = Server::start("hello.wasm", &["--keepalive-timeout", "200ms"]);
    let mut connection = Connection::open(server.address);
    assert_eq!(connection.get("/").status, 200);
    assert!(connection.raw_to_end().is_empty());
    wait_for_limit(&server, "--keepalive-timeout");
}
