//! Who gets a connection, and what a busy worker costs its neighbours.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::server::cpu_ticks;
use crate::support::{Connection, FAULTS, Runtime, Server, TestResult, command, eventually, get, guest};

/// A number of each worker, such as `connections`.
#[track_caller]
fn by_worker(server: &Server, field: &str) -> Vec<u64> {
    let status = server.status();
    let workers = status["workers"].as_array().expect("a list of workers");
    workers.iter().map(|worker| worker[field].as_u64().unwrap_or_else(|| panic!("no number {field}"))).collect()
}

/// A new connection that was asked and answered, and is closed.
#[track_caller]
fn one_connection(server: &Server) {
    let mut connection = Connection::open(server.address);
    connection.send("GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(connection.response().status, 200);
}

/// Sends this request on a new connection, and waits until a worker serves it: the connection, and the worker's index.
#[track_caller]
fn occupied(server: &Server, path: &str) -> (Connection, usize) {
    let before = by_worker(server, "in_flight");
    let mut connection = Connection::open(server.address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    let mut busy = None;
    eventually("a worker serves it", || {
        let now = by_worker(server, "in_flight");
        busy = (0..now.len()).find(|&index| now[index] > before[index]);
        busy.is_some()
    });
    (connection, busy.expect("a worker"))
}

/// Longer than a worker may be late before it is passed over (15 ms), by far.
const LONG_LATE: Duration = Duration::from_millis(300);

#[test]
fn a_thousand_new_connections_are_given_out_evenly() {
    for workers in ["2", "3"] {
        let server = Server::start("faults.wasm", &["--workers", workers]);
        for _ in 0..1_000 {
            one_connection(&server);
        }
        let counts = by_worker(&server, "connections");
        let fair = 1_000 / counts.len() as u64;
        assert_eq!(counts.iter().sum::<u64>(), 1_000);
        assert!(counts.iter().all(|count| count.abs_diff(fair) <= 1), "{counts:?}");
    }
}

#[test]
fn each_of_a_thousand_connections_opened_in_a_burst_is_served() {
    for balance in ["round-robin", "least-connections", "kernel"] {
        let server = Server::start("faults.wasm", &["--balance", balance]);
        let mut burst: Vec<Connection> = (0..1_000).map(|_| Connection::open(server.address)).collect();
        for (number, connection) in burst.iter_mut().enumerate() {
            connection.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
            let status = connection.try_response(false).map(|response| response.status);
            assert_eq!(status, Some(200), "{balance}: connection {number}");
        }
        let counts = by_worker(&server, "connections");
        assert_eq!(counts.iter().sum::<u64>(), 1_000, "{balance}");
        // One more only for each connection that a worker was not ready for in its turn, which a busy machine may cause.
        let passed_over = server.sum("passed_over");
        assert!(
            balance == "kernel" || counts[0].abs_diff(500) <= 1 + passed_over,
            "{balance}: {counts:?}, {passed_over}"
        );
    }
}

#[test]
fn a_worker_busy_in_a_loop_gets_no_connection_while_another_is_free() {
    for component in FAULTS {
        let server = Server::start(component, &["--cpu-limit", "2s"]);
        let (mut looping, busy) = occupied(&server, "/loop");
        std::thread::sleep(LONG_LATE);
        let before = by_worker(&server, "connections");
        for _ in 0..50 {
            one_connection(&server);
        }
        let after = by_worker(&server, "connections");
        assert_eq!((after[busy] - before[busy], after[1 - busy] - before[1 - busy]), (0, 50), "{component}");
        assert!(by_worker(&server, "passed_over")[busy] >= 49, "{component}: it is told that it was passed over");
        assert_eq!(by_worker(&server, "in_flight")[busy], 1, "{component}: it looped all that time");
        assert_eq!(looping.response().status, 500, "{component}");

        let before = after;
        for _ in 0..10 {
            one_connection(&server);
        }
        assert_eq!(by_worker(&server, "connections")[busy] - before[busy], 5, "{component}: it takes part again");
    }
}

#[test]
fn a_worker_whose_guest_waits_is_not_busy() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        let (waiting, busy) = occupied(&server, "/sleep?ms=60000");
        let before = by_worker(&server, "connections");
        for _ in 0..20 {
            one_connection(&server);
        }
        assert_eq!(by_worker(&server, "connections")[busy] - before[busy], 10, "{component}");
        drop(waiting);
    }
}

#[test]
fn workers_whose_clients_read_slowly_are_not_busy() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        // The guest computes until as much of its response is there as the host takes, and then waits for its client.
        let slow: Vec<Connection> = (0..60)
            .map(|_| {
                let mut client = Connection::open(server.address);
                client.send("GET /stream?chunks=100&bytes=1000000 HTTP/1.1\r\nHost: test\r\n\r\n");
                client
            })
            .collect();
        eventually("each has an instance", || server.sum("in_flight") == slow.len() as u64);
        let mut before = all_cpu_ticks(&server);
        eventually("the guests wait for their clients", || {
            std::thread::sleep(LONG_LATE);
            let now = all_cpu_ticks(&server);
            now - std::mem::replace(&mut before, now) <= 2
        });
        let passed_over = server.sum("passed_over");
        let connections = by_worker(&server, "connections");
        for _ in 0..100 {
            one_connection(&server);
        }
        let passed_over = server.sum("passed_over") - passed_over;
        let now = by_worker(&server, "connections");
        assert!(
            passed_over <= 5,
            "{component}: {passed_over} of 100 passed a worker over; {connections:?}, then {now:?}"
        );
        drop(slow);
    }
}

#[test]
fn least_connections_fills_the_worker_with_the_fewest() {
    let server = Server::start("faults.wasm", &["--balance", "least-connections"]);
    let mut kept: Vec<Vec<Connection>> = vec![Vec::new(), Vec::new()];
    let mut open_one = || {
        let before = by_worker(&server, "connections");
        let mut connection = Connection::open(server.address);
        assert_eq!(connection.get("/hello").status, 200);
        let index = usize::from(by_worker(&server, "connections")[1] > before[1]);
        kept[index].push(connection);
        (index, kept.iter().map(Vec::len).collect::<Vec<_>>())
    };
    for _ in 0..20 {
        open_one();
    }
    assert_eq!(open_one().1.iter().sum::<usize>(), 21);
    assert!(kept[0].len().abs_diff(kept[1].len()) <= 1);
    let left = kept[1].len();
    kept[0].clear();
    eventually("the worker's connections are closed", || by_worker(&server, "open_connections") == [0, left as u64]);
    let before = by_worker(&server, "connections");
    let new: Vec<Connection> = (0..left)
        .map(|_| {
            let mut connection = Connection::open(server.address);
            assert_eq!(connection.get("/hello").status, 200);
            connection
        })
        .collect();
    let after = by_worker(&server, "connections");
    assert_eq!((after[0] - before[0], after[1] - before[1]), (new.len() as u64, 0));
}

#[test]
fn the_kernel_spreads_connections_over_a_listener_a_worker() {
    let server = Server::start("faults.wasm", &["--balance", "kernel"]);
    for _ in 0..200 {
        one_connection(&server);
    }
    let counts = by_worker(&server, "connections");
    assert!(counts.iter().sum::<u64>() == 200 && counts.iter().all(|count| *count >= 20), "{counts:?}");
}

#[test]
fn neighbours_of_a_loop_are_answered_within_a_second_and_the_loops_end_with_500() {
    for component in FAULTS {
        let server = Server::start(component, &["--cpu-limit", "3s"]);
        let mut kept: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200);
        }
        assert_eq!(by_worker(&server, "connections"), [2, 2], "{component}");
        let (first, one) = occupied(&server, "/loop");
        let (second, other) = occupied(&server, "/loop");
        assert_ne!(one, other, "{component}: a loop a worker");
        let mut rounds = 0;
        let mut slowest = Duration::ZERO;
        while by_worker(&server, "in_flight") == [1, 1] {
            let mut new = [Connection::open(server.address), Connection::open(server.address)];
            for connection in kept.iter_mut().chain(&mut new) {
                let began = Instant::now();
                assert_eq!(connection.get("/hello").text(), "Hello, World!", "{component}");
                slowest = slowest.max(began.elapsed());
            }
            rounds += 1;
        }
        assert!(rounds >= 3, "{component}: {rounds} rounds beside the loops");
        assert!(slowest < Duration::from_secs(1), "{component}: {slowest:?}");
        for mut looping in [first, second] {
            assert_eq!(looping.response().status, 500, "{component}");
        }
        assert_eq!(server.sum("faults.cpu"), 2, "{component}");
        let record = server.wait_for_record("the limit", |record| record["fault"] == "cpu");
        assert_eq!(record["limit"], Value::from("--cpu-limit"), "{component}");
    }
}

#[test]
fn an_idle_host_uses_no_cpu() -> TestResult {
    for component in FAULTS {
        let server = Server::start(component, &["--isolation", "request", "--cpu-limit", "500ms"]);
        let mut kept = Connection::open(server.address);
        assert_eq!(kept.get("/hello").status, 200);
        assert_eq!(get(server.address, "/trap").status, 500);
        std::thread::sleep(Duration::from_secs(1));
        let before = all_cpu_ticks(&server);
        std::thread::sleep(Duration::from_secs(2));
        let used = all_cpu_ticks(&server) - before;
        assert!(used <= 2, "{component}: {used} ticks of CPU time in 2 s");
        assert_eq!(kept.get("/loop").status, 500);
        assert!(all_cpu_ticks(&server) >= before + 20, "{component}: what is used is seen");
    }
    Ok(())
}

/// Ticks (10 ms) of CPU time that the host's processes have used.
fn all_cpu_ticks(server: &Server) -> u64 {
    server.worker_pids().into_iter().chain([server.pid()]).map(cpu_ticks).sum()
}

/// A host with three workers of this kind, each client of which has a worker; with these flags.
fn with_clients(runtime: &Runtime, kind: &str, flags: &[&str]) -> Server {
    let mut host = command();
    host.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    host.args(["--balance", "client", "--workers", "3", "--worker-kind", kind]).args(flags);
    Server::spawn(runtime.of_host(host))
}

/// The worker that gets all of five connections.
#[track_caller]
fn worker_of(server: &Server, connect: impl Fn(SocketAddr)) -> usize {
    let before = by_worker(server, "connections");
    for _ in 0..5 {
        connect(server.address);
    }
    let after = by_worker(server, "connections");
    let grown: Vec<usize> = (0..3).filter(|&worker| after[worker] > before[worker]).collect();
    assert!(grown.len() == 1 && after[grown[0]] == before[grown[0]] + 5, "{before:?}, {after:?}");
    grown[0]
}

#[test]
fn a_client_keeps_its_worker_while_that_is_there() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = with_clients(&runtime, kind, &[]);
        let own_worker = |client: u8| {
            worker_of(&server, |address| {
                let mut connection = Connection::open_from([127, 0, 0, client].into(), address);
                assert_eq!(connection.get("/").status, 200);
            })
        };
        let clients = 1..=30;
        let of: Vec<usize> = clients.clone().map(own_worker).collect();
        assert!((0..3).all(|worker| of.contains(&worker)), "{kind}: {of:?}");
        assert_eq!(clients.clone().map(own_worker).collect::<Vec<_>>(), of, "{kind}");
        assert_eq!(runtime.ask(&["scale", "2"]).code, Some(0), "{kind}");
        for (client, of) in clients.zip(of) {
            let now = own_worker(client);
            assert!(now < 2 && (of == 2 || now == of), "{kind}: only those of the third worker move: {of}, {now}");
        }
    }
    Ok(())
}

#[test]
fn a_client_is_whom_the_first_request_of_a_connection_names_wherever_it_comes_from() -> TestResult {
    for kind in ["thread", "process"] {
        for (by, line) in [("cookie:sid", "Cookie: a=b; sid="), ("header:X-User", "x-user: ")] {
            let runtime = Runtime::new()?;
            let server = with_clients(&runtime, kind, &["--balance-by", by, "--header-timeout", "5m"]);
            // Whatever waits first, others are served.
            let _silent = Connection::open(server.address);
            let ask = |parts: &[&str], from: u8| {
                let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
                worker_of(&server, |address| {
                    let mut connection = Connection::open_from([127, 0, 0, from].into(), address);
                    for part in &parts {
                        connection.send(part);
                        std::thread::sleep(Duration::from_millis(5));
                    }
                    assert_eq!(connection.response().status, 200, "{kind} {by}");
                    // What comes later on it changes nothing.
                    assert_eq!(connection.get("/").status, 200, "{kind} {by}");
                })
            };
            let of: Vec<usize> = (1..=20)
                .map(|user: u8| ask(&[&format!("GET / HTTP/1.1\r\nHost: test\r\n{line}{user}\r\n\r\n")], user))
                .collect();
            assert!((0..3).all(|worker| of.contains(&worker)), "{kind} {by}: {of:?}");
            for (user, of) in (1..=6_u8).zip(of) {
                let value = format!("{line}{user}\r\n");
                let (name, rest) = value.split_at(3);
                let parts = ["GET / HTTP/1.1\r\nHost: te", "st\r\n", name, rest, "\r", "\n"];
                assert_eq!(ask(&parts, 100 + user), of, "{kind} {by}: from elsewhere, and in pieces");
            }
            let without: Vec<usize> =
                (1..=20).map(|from| ask(&["GET / HTTP/1.1\r\nHost: test\r\n\r\n"], from)).collect();
            assert!((0..3).all(|worker| without.contains(&worker)), "{kind} {by}: by their addresses: {without:?}");
        }
    }
    Ok(())
}

#[test]
fn who_says_nothing_for_too_long_goes_by_the_address_and_holds_up_neither_others_nor_a_stop() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let mut server = with_clients(&runtime, kind, &["--balance-by", "cookie:sid", "--header-timeout", "1s"]);
        let total = |server: &Server| by_worker(server, "connections").iter().sum::<u64>();
        let mut half = Connection::open(server.address);
        half.send("GET / HTTP/1.1\r\nHost: test\r\n");
        assert_eq!(total(&server), 0, "{kind}: no worker has it yet");
        eventually("a worker gets it", || total(&server) == 1);
        assert_eq!(half.response().status, 408, "{kind}");
        // Neither half a head nor silence.
        let mut last = Connection::open(server.address);
        last.send("GET / HTTP/1.1\r\nHost: test\r\n");
        let _silent = Connection::open(server.address);
        std::thread::sleep(Duration::from_millis(100));
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
    }
    Ok(())
}
