//! Where requests share an instance (wasi 0.3, `--instance-concurrency` above 1): what does a fault cost there?

use std::time::{Duration, Instant};

use crate::abandoned::reset;
use crate::recovery::{AFTER_HEAD, BEFORE_HEAD, SHORT, kept_connections};
use crate::support::{Connection, Server, eventually, get};

/// One worker, one instance, which takes sixteen requests at once.
const SHARED: [&str; 6] = ["--workers", "1", "--instances-per-worker", "1", "--instance-concurrency", "16"];

#[test]
fn a_shared_instance_is_lost_with_all_its_requests_and_replaced() {
    let server = Server::start("faults-p3.wasm", &SHARED);
    let mut waiting = kept_connections(&server, 5);
    for connection in &mut waiting {
        connection.send("POST /body-size HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n");
    }
    let mut streaming = Connection::open(server.address);
    streaming.send("GET /never-finish HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    eventually("six requests share the instance", || server.sum("in_flight") == 6);
    assert_eq!(server.sum("instances"), 1);
    let generation = server.sum("generation");

    assert_eq!(get(server.address, "/trap").status, 500);
    for connection in &mut waiting {
        assert_eq!(
            connection.try_response(false).map(|response| response.status),
            Some(500),
            "a request of the lost instance"
        );
    }
    let raw = streaming.raw_to_end();
    assert!(raw.ends_with(b"half of the \r\n"), "{:?}", String::from_utf8_lossy(&raw));

    assert_eq!(get(server.address, "/count").text(), "1");
    assert_eq!(
        (server.sum("generation"), server.sum("faults.trap")),
        (generation + 1, 1),
        "one fault, one new instance"
    );
}

#[test]
fn an_instance_that_has_answered_all_does_not_hold_up_a_stop() {
    for component in ["hello-p3.wasm", "faults-p3.wasm"] {
        let mut server = Server::start(component, &[&SHARED[..], &["--drain-timeout", "60s"]].concat());
        // One after the other, and several at once.
        for _ in 0..3 {
            assert_eq!(get(server.address, "/").status, 200);
        }
        let mut kept = kept_connections(&server, 5);
        for connection in &mut kept {
            connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for connection in &mut kept {
            assert_eq!(connection.response().status, 200);
        }
        let began = Instant::now();
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{component}");
        assert!(began.elapsed() < Duration::from_secs(10), "{component}: {:?}", began.elapsed());
    }
}

#[test]
fn a_fault_in_a_shared_instance_is_answered_as_in_one_of_its_own() {
    let server = Server::start("faults-p3.wasm", &[&SHORT[..], &SHARED].concat());
    let mut connection = Connection::open(server.address);
    for (path, kinds, statuses) in BEFORE_HEAD {
        assert_eq!(connection.get(path).status, statuses[1], "{path}");
        assert_eq!(connection.get("/hello").status, 200, "{path}: the next request");
        assert!(kinds[1].is_none_or(|kind| server.sum(&format!("faults.{kind}")) >= 1), "{path}: {kinds:?}");
    }
}

#[test]
fn a_fault_after_the_head_in_a_shared_instance_breaks_the_transfer() {
    let server = Server::start("faults-p3.wasm", &[&SHORT[..], &SHARED, &["--body-idle-timeout", "1500ms"]].concat());
    let mut ended_cleanly = Vec::new();
    for (path, _) in AFTER_HEAD {
        let mut connection = Connection::open(server.address);
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
        let raw = String::from_utf8_lossy(&connection.raw_to_end()).into_owned();
        assert!(raw.contains("\r\nC\r\nhalf of the \r\n"), "{path}: {raw:?}");
        if raw.ends_with("0\r\n\r\n") {
            ended_cleanly.push(path);
        }
        assert_eq!(get(server.address, "/hello").status, 200, "{path}: the next request");
    }
    assert!(ended_cleanly.is_empty(), "half a body looks whole: {ended_cleanly:?}");
}

#[test]
fn a_shared_instance_that_retires_finishes_the_bodies_that_it_has_begun() {
    let server = Server::start("faults-p3.wasm", &[&SHARED[..], &["--max-requests", "2"]].concat());
    let mut streaming = Connection::open(server.address);
    streaming.send("GET /stream?chunks=20&bytes=3&ms=50 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the body has begun", || server.sum("in_flight") == 1);
    let generation = server.sum("generation");
    let mut asked = 0;
    while asked < 8 {
        assert_eq!(get(server.address, "/hello").status, 200, "request {asked}");
        asked += 1;
    }
    let response = streaming.response();
    assert!(
        response.whole && response.body.len() == 60,
        "the body was cut: {} bytes, whole: {}",
        response.body.len(),
        response.whole
    );
    assert!(server.sum("generation") > generation, "it never retired");
}

#[test]
fn a_shared_instance_that_retires_does_not_hold_up_its_successor() {
    let server = Server::start("faults-p3.wasm", &[&SHARED[..], &["--max-requests", "2"]].concat());
    let mut long = Connection::open(server.address);
    long.send("GET /never-finish HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the long call has begun", || server.sum("in_flight") == 1);
    for request in 0..20 {
        let began = Instant::now();
        assert_eq!(get(server.address, "/hello").status, 200, "request {request} beside a call that does not end");
        // Whoever waited for the instance that retires would wait for the queue's time, and then be refused.
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "request {request} took {took:?}");
    }
    assert_eq!(server.sum("sheds.queue-timeout"), 0, "nobody waited for so long that it was refused");
    assert_eq!(server.sum("in_flight"), 1, "the long call goes on");
}

#[test]
fn calls_that_their_clients_left_do_not_keep_an_instance_from_others() {
    let flags =
        ["--workers", "1", "--instances-per-worker", "1", "--instance-concurrency", "4", "--queue-timeout", "10s"];
    let server = Server::start("faults-p3.wasm", &flags);
    for round in 0..3 {
        let mut left: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        for connection in &mut left {
            connection.send("GET /sleep?ms=25000 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("all places are taken", || server.sum("in_flight") == 4);
        left.into_iter().for_each(reset);
        // Long before the calls' own end, or that of their time.
        assert_eq!(get(server.address, "/hello").status, 200, "round {round}");
    }
    assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "to leave is no fault");
}

#[test]
fn concurrency_that_has_no_effect_is_told() {
    for (component, flags) in [("hello.wasm", &[][..]), ("hello-p3.wasm", &["--isolation", "request"][..])] {
        let server = Server::start(component, &[&["--instance-concurrency", "4"][..], flags].concat());
        let warned = server.records(|record| {
            record["message"].as_str().is_some_and(|text| text.starts_with("--instance-concurrency 4 has no effect"))
        });
        assert_eq!(warned.len(), 1, "{component}");
    }
}

#[test]
fn calls_whose_clients_have_left_keep_their_time_limit_and_do_not_lock_an_instance() {
    let server = Server::start("faults-p3.wasm", &[&SHARED[..], &["--request-timeout", "1500ms"]].concat());
    let mut streaming = Connection::open(server.address);
    streaming.send("GET /never-finish HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the stream has begun", || server.sum("in_flight") == 1);
    // The stream is answered, and takes one of sixteen places; those who leave may take all.
    for leaving in [15, 1] {
        let mut connections = kept_connections(&server, leaving);
        for connection in &mut connections {
            connection.send("GET /wait-forever HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("they are under way", || server.sum("in_flight") == 1 + leaving as u64);
        for connection in connections {
            // A reset, not an end.
            let socket = socket2::SockRef::from(&connection.stream);
            socket.set_linger(Some(Duration::ZERO)).expect("a reset");
        }
        eventually("they have left", || server.sum("in_flight") == 1);
    }
    assert_eq!(get(server.address, "/hello").status, 503, "no place is free");
    eventually("others are served again", || get(server.address, "/hello").status == 200);
    assert!(server.sum("faults.wall") >= 1, "the calls that were left met the time limit");
}

#[test]
fn work_after_a_response_is_finished_before_a_shared_instance_ends() {
    for signal in ["TERM", "HUP"] {
        let mut server = Server::start("faults-p3.wasm", &SHARED);
        let mut connection = Connection::open(server.address);
        assert_eq!(connection.get("/linger?ms=700").text(), "done");
        server.signal(signal);
        server.wait_for_record("the work's last word", |record| {
            record["message"].as_str().is_some_and(|text| text.contains("lingered"))
        });
        if signal == "TERM" {
            assert_eq!(server.wait_for_exit().code(), Some(0));
        }
    }
}

#[test]
fn an_instance_that_a_client_has_left_makes_room_at_once_when_it_faults() {
    let server = Server::start("faults-p3.wasm", &SHARED);
    let mut leaving = Connection::open(server.address);
    leaving.send("GET /wait-forever HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is under way", || server.sum("in_flight") == 1);
    let socket = socket2::SockRef::from(&leaving.stream);
    socket.set_linger(Some(Duration::ZERO)).expect("a reset");
    drop(leaving);
    eventually("it has left", || server.sum("in_flight") == 0);
    assert_eq!(get(server.address, "/trap").status, 500);
    assert_eq!(get(server.address, "/hello").status, 200, "long before the time limit of the call that was left");
}

#[test]
fn an_instance_that_is_never_without_a_call_retires_before_its_handles_are_spent() {
    let server = Server::start("faults-p3.wasm", &["--workers", "1", "--instance-concurrency", "8"]);
    let mut sleeping = Connection::open(server.address);
    sleeping.send("GET /sleep?ms=6000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is served", || server.sum("in_flight") == 1);
    for call in 0..20 {
        assert_eq!(get(server.address, "/handles?count=1000").status, 200, "call {call}");
    }
    assert_eq!(server.sum("in_flight"), 1, "it proves nothing");
    assert!(server.sum("generation") >= 3, "every eighth call or so");
    assert_eq!(sleeping.response().text(), "slept");
    assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0);
}
