//! What does a bug of the host itself cost? Needs the feature `fault-injection`, with which a header of a request arms a
//! point in the host's code, for the thread that serves the request, to panic when it is next passed
//! (`host/base/src/inject.rs`).

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::server::signal;
use crate::support::{CEILING, Connection, FAULTS, Response, Server, eventually, get};

/// Sends a GET that arms `point`.
fn arm(connection: &mut Connection, path: &str, point: &str) {
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: {point}\r\n\r\n"));
}

/// Asks the admin page, with a point of the primary armed.
fn arm_primary(server: &Server, path: &str, point: &str) -> Option<Response> {
    let mut connection = Connection::open(server.admin_address());
    arm(&mut connection, path, point);
    connection.try_response(false)
}

fn is_process(server: &Server) -> bool {
    !server.worker_pids().is_empty()
}

/// Where in a worker it panics, the request that arms that, and what makes it pass there.
const IN_A_WORKER: [(&str, &str, Trigger); 17] = [
    ("read", "/hello", Trigger::Request),
    ("write", "/hello", Trigger::None),
    ("head", "/hello", Trigger::None),
    ("exchange", "/hello", Trigger::None),
    ("call", "/hello", Trigger::None),
    // The guest's call is suspended: its store may not be dropped in the middle of the panic.
    ("wait", "/sleep?ms=60000", Trigger::None),
    ("host-function", "/log?lines=1", Trigger::None),
    ("body", "/stream?chunks=5&bytes=100&ms=20", Trigger::None),
    ("respond", "/trap", Trigger::None),
    ("linger", "/linger?ms=50", Trigger::None),
    ("pool", "/trap", Trigger::None),
    ("instance", "/trap", Trigger::None),
    ("tend", "/trap", Trigger::None),
    ("alarms", "/sleep?ms=100", Trigger::None),
    ("connection", "/hello", Trigger::Connections),
    ("loop", "/hello", Trigger::Connections),
    // Workers that are processes hear the primary in a task.
    ("line", "/hello", Trigger::Connections),
];

#[derive(Clone, Copy)]
enum Trigger {
    /// The request itself.
    None,
    /// Another on the same connection.
    Request,
    /// New connections, on both workers.
    Connections,
}

/// How long a worker that was given a connection has to come to it, before it is given another.
const A_TURN: Duration = Duration::from_secs(1);

/// A panic on the worker that has `first` costs that worker's connections and not `second`, and the worker is back.
fn check(server: &Server, what: &str, point: &str, first: &mut Connection, second: &mut Connection, trigger: Trigger) {
    let given = match trigger {
        Trigger::None => Vec::new(),
        Trigger::Request => {
            first.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
            Vec::new()
        }
        Trigger::Connections => {
            assert_eq!(first.try_response(false).map(|response| response.status), Some(200), "{what}");
            let mut given: Vec<Connection> = Vec::new();
            // A worker that has much to do is passed over: more may be needed until the one that is armed gets one.
            while server.records(|record| record["message"] == "exit").is_empty() {
                assert!(given.len() < 200, "{what}: the armed worker gets nothing");
                given.extend((0..2).map(|_| Connection::open(server.address)));
                for connection in given.iter_mut().rev().take(2) {
                    connection.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
                }
                let turn = Instant::now();
                while turn.elapsed() < A_TURN && server.records(|record| record["message"] == "exit").is_empty() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            given
        }
    };
    let exit = server.wait_for_record(&format!("{what}: exit"), |record| record["message"] == "exit");
    assert_eq!(exit["voluntary"], Value::Bool(false), "{exit}");
    let worker = exit["worker"].clone();
    let told = if point == "line" { "without having been told" } else { point };
    assert!(exit["cause"].as_str().is_some_and(|cause| cause.contains(told)), "{what}: {exit}");
    let panicked =
        server.records(|record| record["message"].as_str().is_some_and(|text| text.starts_with("panic, a bug")));
    assert!(
        panicked.len() == 1 && panicked[0]["message"].as_str().is_some_and(|text| text.contains(point)),
        "{what}: {panicked:?}"
    );
    assert_eq!(second.get("/hello").status, 200, "{what}: the other worker's connection");
    let answered = given.into_iter().filter_map(|mut connection| connection.try_response(false)).count();
    assert!(
        answered >= if matches!(trigger, Trigger::Connections) { 1 } else { 0 },
        "{what}: the other worker's new one"
    );
    server.wait_for_record("online again", |record| {
        record["message"] == "online" && record["worker"] == worker && record["generation"] == 2
    });
    eventually(&format!("{what}: both workers listen"), || all_listen(server));
    for _ in 0..4 {
        assert_eq!(get(server.address, "/hello").status, 200, "{what}");
    }
    assert_eq!(server.records(|record| record["message"] == "exit").len(), 1, "{what}: one worker, once");
}

fn all_listen(server: &Server) -> bool {
    let status = server.status();
    status["workers"].as_array().is_some_and(|workers| workers.iter().all(|worker| worker["state"] == "listening"))
}

#[test(needs(FaultInjection))]
fn a_panic_anywhere_in_a_worker_costs_its_own_connections_and_it_is_replaced() {
    for (point, path, trigger) in IN_A_WORKER {
        for component in FAULTS {
            let server = Server::start(component, &[]);
            if point == "line" && !is_process(&server) {
                continue;
            }
            let [mut first, mut second, mut suspended] = [(); 3].map(|()| Connection::open(server.address));
            assert_eq!((first.get("/hello").status, second.get("/hello").status), (200, 200));
            // A call that waits, on the same worker as the first: its store is dropped when the worker goes.
            suspended.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
            eventually("it waits", || server.sum("in_flight") == 1);
            arm(&mut first, path, point);
            check(&server, &format!("{component} {point}"), point, &mut first, &mut second, trigger);
            assert!(suspended.try_response(false).is_none(), "{component} {point}: it went with its worker");
        }
    }
}

/// Reads to the connection's end.
#[track_caller]
fn is_closed(connection: &mut Connection, what: &str) {
    let mut rest = Vec::new();
    let ended = connection.stream.read_to_end(&mut rest);
    let is_open = |error: &std::io::Error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
    assert!(!ended.as_ref().is_err_and(is_open), "{what}: the client waits for an end: {ended:?}");
}

#[test(needs(FaultInjection))]
fn a_panic_gives_the_place_of_its_connection_back_and_the_client_sees_the_end() {
    for (point, path) in [
        ("write", "/hello"),
        ("head", "/hello"),
        ("exchange", "/hello"),
        ("call", "/hello"),
        ("wait", "/sleep?ms=60000"),
        ("body", "/stream?chunks=5&bytes=100&ms=20"),
        ("respond", "/trap"),
    ] {
        for component in FAULTS {
            let what = format!("{component} {point}");
            let server = Server::start(component, &["--workers", "1", "--max-connections", "2"]);
            for generation in 2..4 {
                let mut first = Connection::open(server.address);
                assert_eq!(first.get("/hello").status, 200, "{what}");
                arm(&mut first, path, point);
                is_closed(&mut first, &what);
                server.wait_for_record("online again", |record| {
                    record["message"] == "online" && record["generation"] == generation
                });
                eventually(&format!("{what}: it listens"), || all_listen(&server));
            }
            // Both places, at once.
            let mut both = [(); 2].map(|()| Connection::open(server.address));
            for connection in &mut both {
                assert_eq!(connection.get("/hello").status, 200, "{what}");
            }
            assert_eq!(server.sum("open_connections"), 2, "{what}");
        }
    }
}

#[test(needs(FaultInjection))]
fn a_panic_in_a_shared_instance_costs_its_workers_connections_and_it_is_replaced() {
    for point in ["shared", "call", "host-function"] {
        let server = Server::start(FAULTS[1], &["--instance-concurrency", "8"]);
        let [mut first, mut second, mut suspended] = [(); 3].map(|()| Connection::open(server.address));
        assert_eq!((first.get("/hello").status, second.get("/hello").status), (200, 200));
        suspended.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("it waits", || server.sum("in_flight") == 1);
        arm(&mut first, "/log?lines=1", point);
        check(&server, &format!("shared {point}"), point, &mut first, &mut second, Trigger::None);
    }
}

#[test(needs(FaultInjection))]
fn a_panic_of_a_worker_that_accepts_costs_its_own_connections() {
    let server = Server::start(FAULTS[0], &["--balance", "kernel"]);
    let mut first = Connection::open(server.address);
    arm(&mut first, "/hello", "accept");
    assert_eq!(first.response().status, 200);
    let mut tries = 0;
    while server.records(|record| record["message"] == "exit").is_empty() {
        let mut connection = Connection::open(server.address);
        connection.send("GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        // One that is taken in the panic is lost.
        connection.try_response(false);
        tries += 1;
        assert!(tries < 10_000, "the kernel gives the first worker nothing");
    }
    eventually("both workers listen", || all_listen(&server));
    for _ in 0..8 {
        assert_eq!(get(server.address, "/hello").status, 200);
    }
}

#[test(needs(FaultInjection))]
fn a_panic_of_the_primary_costs_one_connection_and_no_worker() {
    for (point, path, status) in [
        ("admin", "/healthz", Some(500)),
        ("metrics", "/metrics", Some(500)),
        ("status", "/status", Some(500)),
        ("admin-accept", "/healthz", Some(200)),
        ("accept", "/healthz", Some(200)),
    ] {
        let server = Server::start(FAULTS[0], &[]);
        let mut kept = [(); 2].map(|()| Connection::open(server.address));
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200, "{point}");
        }
        let answer = arm_primary(&server, path, point);
        assert_eq!(answer.map(|answer| answer.status), status, "{point}");
        match point {
            "admin-accept" => assert!(arm_primary(&server, "/healthz", "none").is_none(), "{point}: it is lost"),
            // What the kernel holds is not: the panic came before it was taken.
            "accept" => assert_eq!(get(server.address, "/hello").status, 200, "{point}"),
            _ => {}
        }
        server
            .wait_for_record("the panic", |record| record["message"].as_str().is_some_and(|text| text.contains(point)));
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200, "{point}");
        }
        for _ in 0..4 {
            assert_eq!(get(server.address, "/hello").status, 200, "{point}");
        }
        assert_eq!(server.admin("/metrics").status, 200, "{point}");
        assert_eq!(server.records(|record| record["message"] == "exit").len(), 0, "{point}");
    }
}

#[test(needs(FaultInjection))]
fn a_panic_of_the_task_that_attends_to_a_worker_process_ends_that_process_only() {
    let server = Server::start(FAULTS[0], &["--worker-kind", "process"]);
    let [mut first, mut second] = [(); 2].map(|()| Connection::open(server.address));
    assert_eq!((first.get("/hello").status, second.get("/hello").status), (200, 200));
    let pid = server.worker_pids()[0];
    assert_eq!(arm_primary(&server, "/healthz", "attend").map(|answer| answer.status), Some(200));
    // The next that says a word is the successor of the one that is killed.
    signal(pid, "KILL");
    server
        .wait_for_record("the panic", |record| record["cause"].as_str().is_some_and(|cause| cause.contains("attend")));
    eventually("both workers listen", || all_listen(&server) && server.worker_pids().len() == 2);
    assert_eq!(second.get("/hello").status, 200);
    for _ in 0..4 {
        assert_eq!(get(server.address, "/hello").status, 200);
    }
}

#[test(needs(FaultInjection))]
fn a_panic_of_the_clock_that_stops_guests_does_not_stop_it() {
    for component in FAULTS {
        let server = Server::start(component, &["--cpu-limit", "200ms", "--workers", "1"]);
        let mut first = Connection::open(server.address);
        arm(&mut first, "/spin?ms=50", "ticker");
        assert_eq!(first.response().status, 200);
        server.wait_for_record("the panic", |record| {
            record["message"].as_str().is_some_and(|text| text.contains("`ticker`"))
        });
        assert_eq!(first.get("/loop").status, 500, "{component}: it is still stopped");
    }
}

#[test(needs(FaultInjection))]
fn when_the_restart_budget_is_spent_the_host_says_so_and_exits_with_1() {
    let mut server = Server::start("faults.wasm", &["--workers", "1"]);
    for death in 1..=11_u64 {
        eventually("the worker listens", || {
            let status = server.status();
            status["workers"][0]["state"] == "listening" && status["workers"][0]["thread_generation"] == death
        });
        let mut connection = Connection::open(server.address);
        arm(&mut connection, "/hello", "exchange");
        assert!(connection.try_response(false).is_none(), "a panic is not answered");
    }
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(1));
    eventually("it says why", || server.lines().iter().any(|line| line.contains("restart budget")));
}

#[test(needs(FaultInjection))]
fn panics_of_the_primary_are_within_the_same_budget() {
    let mut server = Server::start("faults.wasm", &["--workers", "1"]);
    for _ in 0..11 {
        arm_primary(&server, "/healthz", "accept");
        // It is lost; the last may be reset before it is seen to be there.
        if let Ok(mut connection) = TcpStream::connect_timeout(&server.address, CEILING) {
            connection.set_read_timeout(Some(CEILING)).expect("a time-out");
            let asked = connection.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            let _ = asked.and_then(|()| connection.read(&mut [0; 1024]));
        }
    }
    assert_eq!(server.wait_for_exit().code(), Some(1));
    eventually("it says why", || server.lines().iter().any(|line| line.contains("accepting connections panicked")));
}
