//! What a stop does to requests: those that wait in the kernel's backlog are served, those that are broken off are told of.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::shutdown::with_handed_over;
use crate::support::server::{limit_descriptors, signal};
use crate::support::{Connection, FAULTS, Server, TestResult, eventually, message};

fn begin(server: &Server, path: &str) -> Connection {
    let before = server.sum("in_flight");
    let mut connection = Connection::open(server.address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    eventually("the request is served", || server.sum("in_flight") > before);
    connection
}

#[test]
fn requests_that_a_stop_breaks_off_have_a_line_in_the_access_log() {
    for component in FAULTS {
        for second_signal in [false, true] {
            let what = format!("{component}, second signal: {second_signal}");
            let timeout = if second_signal { "10m" } else { "300ms" };
            let flags = ["--access-log", "--drain-timeout", timeout, "--request-timeout", "10m", "--cpu-limit", "10m"];
            let mut server = Server::start(component, &flags);
            let paths = ["/sleep?ms=600000", "/never-finish", "/loop"];
            let _clients = paths.map(|path| begin(&server, path));
            let began = Instant::now();
            server.signal("TERM");
            if second_signal {
                server.wait_for_record("stopping", |record| message(record).starts_with("stopping"));
                server.signal("TERM");
            }
            assert_eq!(server.wait_for_exit().code(), Some(i32::from(second_signal)), "{what}");
            assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
            for path in paths {
                let line = server.wait_for_record("a line for the request", |record| {
                    message(record) == "request" && record["path"] == path
                });
                assert_eq!(line["ending"], "drain-deadline", "{what}: {line}");
                // Of the one whose headers were sent, with its status.
                assert_eq!(line["status"], if path == "/never-finish" { 200 } else { 0 }, "{what}: {line}");
            }
            let exits = server.records(|record| record["message"] == "exit");
            assert!(exits.len() == 2 && exits.iter().all(|exit| exit["voluntary"] == true), "{what}: {exits:?}");
        }
    }
}

#[test]
fn connections_in_the_backlog_are_served_before_the_host_stops() {
    for balance in ["round-robin", "kernel"] {
        let mut server = Server::start("faults.wasm", &["--balance", balance]);
        // It keeps the drain going, whatever becomes of the others.
        let mut long = begin(&server, "/sleep?ms=1500");
        for pid in server.pids() {
            signal(pid, "STOP");
        }
        let mut waiting: Vec<Connection> = (0..100).map(|_| Connection::open(server.address)).collect();
        for connection in &mut waiting {
            connection.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        server.signal("TERM");
        for pid in server.pids() {
            signal(pid, "CONT");
        }
        let served = waiting.iter_mut().filter_map(|connection| connection.try_response(false));
        assert_eq!(served.filter(|response| response.status == 200).count(), 100, "{balance}");
        assert_eq!(long.response().text(), "slept", "{balance}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{balance}");
    }
}

#[test]
fn connections_in_the_backlog_of_a_socket_that_was_handed_over_stay_for_its_next_owner() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let flags = ["--log-format", "json", "--max-connections", "1"];
    let mut server = Server::spawn(with_handed_over("faults.wasm", listener.try_clone()?, &flags));
    // It takes the only place until the host drains. Then the host could take one that waits.
    let mut first = Connection::open(address);
    assert_eq!(first.get("/hello").status, 200);
    first.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: test\r\n\r\n");
    let _waiting: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(address)).collect::<Result<_, _>>()?;
    server.signal("TERM");
    assert_eq!(first.response().text(), "slept");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    listener.set_nonblocking(true)?;
    let left = std::iter::from_fn(|| listener.accept().ok()).count();
    assert_eq!(left, 20);
    Ok(())
}

#[test(needs(Prlimit))]
fn a_backlog_that_is_longer_than_a_worker_takes_at_once_is_served_in_full() {
    const CLIENTS: usize = 1_500;
    limit_descriptors(std::process::id(), 2 * CLIENTS);
    for kind in ["thread", "process"] {
        let mut server = Server::start("hello.wasm", &["--worker-kind", kind, "--workers", "1"]);
        signal(server.pid(), "STOP");
        let mut waiting: Vec<Connection> = (0..CLIENTS).map(|_| Connection::open(server.address)).collect();
        for connection in &mut waiting {
            connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        server.signal("TERM");
        signal(server.pid(), "CONT");
        let served = waiting.iter_mut().filter_map(|connection| connection.try_response(false));
        assert_eq!(served.filter(|response| response.status == 200).count(), CLIENTS, "{kind}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
    }
}

#[test]
fn who_waits_for_another_connections_end_is_served_before_the_host_stops() {
    let mut server = Server::start("faults.wasm", &["--max-connections", "1"]);
    let mut first = Connection::open(server.address);
    first.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    eventually("the request is served", || server.sum("in_flight") == 1);
    let mut second = Connection::open(server.address);
    second.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    server.signal("TERM");
    assert_eq!(first.response().text(), "slept");
    assert_eq!(second.response().status, 200);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn connections_that_nobody_can_take_hold_up_a_stop_for_a_moment_only_and_are_told_of() {
    let mut server = Server::start("faults.wasm", &["--max-connections", "1", "--drain-timeout", "30s"]);
    // Idle: a stop closes it once the workers drain.
    let mut first = Connection::open(server.address);
    assert_eq!(first.get("/hello").status, 200);
    let mut second = Connection::open(server.address);
    second.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    let began = Instant::now();
    server.signal("TERM");
    assert!(second.try_response(false).is_none());
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    server.wait_for_record("it is told of", |record| {
        message(record).starts_with("connections that wait are closed unanswered")
    });
}
