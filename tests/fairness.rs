//! Do those who ask for much leave room for their neighbour on the same worker: a client that asks a thousand things at once,
//! and requests that compute?

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::server::signal;
use crate::support::{CEILING, Connection, FAULTS, Server, eventually};

/// Requests that are sent at once.
const PIPELINED: usize = 1_000;
/// Requests that the host may answer on one connection before it looks at the others. (hyper takes sixteen in one turn;
/// the answers of one turn more may be on their way when the neighbour's request arrives, and not have been sent yet.)
const TURNS_MAX: u64 = 3 * 16;
/// Times that the neighbour's request has to arrive in the midst of the others.
const TIMES: usize = 5;

/// The number in the last answer among what was received, of which the end may be missing.
fn last_count(received: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(received);
    let bodies = text.split("HTTP/1.1 200 OK").filter_map(|answer| answer.split_once("\r\n\r\n"));
    bodies.filter_map(|(_, body)| body.parse().ok()).last()
}

/// All that has come so far.
fn receive(connection: &mut Connection) {
    connection.stream.set_nonblocking(true).expect("a mode");
    let mut some = vec![0; 64 * 1024];
    loop {
        match connection.stream.read(&mut some) {
            Ok(0) => break,
            Ok(read) => connection.buffer.extend(&some[..read]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                break;
            }
        }
    }
    connection.stream.set_nonblocking(false).expect("a mode");
}

/// Whether all threads of a process are stopped.
fn stands_still(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives").flatten();
    let mut stats = threads.map(|thread| std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default());
    stats.all(|stat| stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with('T')))
}

#[test]
fn a_thousand_requests_at_once_do_not_keep_a_neighbour_waiting() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--instances-per-worker", "1"]);
        let worker = server.worker_pids().first().copied().unwrap_or(server.pid());
        let mut neighbour = Connection::open(server.address);
        let (mut times, mut tries) = (0, 0);
        while times < TIMES {
            tries += 1;
            assert!(tries < 2_000, "{component}: never caught in the midst of it: {times} of {TIMES}");
            let mut crowd = Connection::open(server.address);
            assert_eq!(crowd.get("/hello").status, 200);
            crowd.send("GET /count HTTP/1.1\r\nHost: a\r\n\r\n".repeat(PIPELINED));
            crowd.stream.peek(&mut [0]).expect("the first answer");
            // All that the neighbour does happens while the worker stands still: the order is the worker's alone.
            signal(worker, "STOP");
            eventually("it stands still", || stands_still(worker));
            receive(&mut crowd);
            let first = last_count(&crowd.buffer);
            let answered = crowd.buffer.windows(15).filter(|window| window == b"HTTP/1.1 200 OK").count();
            neighbour.send("GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
            signal(worker, "CONT");
            let own: u64 = neighbour.response().text().parse().expect("a number");
            crowd.stream.set_read_timeout(Some(CEILING)).expect("a time-out");
            for number in 0..PIPELINED {
                assert_eq!(crowd.try_response(false).map(|answer| answer.status), Some(200), "{component}: {number}");
            }
            let Some(first) = first.filter(|_| answered < PIPELINED / 2) else { continue };
            times += 1;
            assert!(own > first, "{component}");
            let before = own - first - 1;
            assert!(before <= TURNS_MAX, "{component}: {before} of the others' requests came before the neighbour's");
        }
    }
}

/// Requests that compute, each for as long as its client stays.
const COMPUTING: u32 = 48;
/// Half of the short requests beside them are answered within this. If each of the others had a tick (1 ms) between two of
/// them, they would take more than forty-eight.
const SHORT_MEDIAN_MAX: Duration = Duration::from_millis(12);

#[test]
fn a_short_request_waits_for_one_turn_of_many_that_compute_not_for_one_of_each() {
    for component in FAULTS {
        let flags = ["--workers", "1", "--instances-per-worker", "64", "--cpu-limit", "1h"];
        let server = Server::start(component, &flags);
        let mut short = Connection::open(server.address);
        assert_eq!(short.get("/hello").status, 200);
        let crowd = (0..COMPUTING).map(|_| {
            let mut connection = Connection::open(server.address);
            connection.send("GET /loop HTTP/1.1\r\nHost: a\r\n\r\n");
            connection
        });
        let crowd: Vec<Connection> = crowd.collect();
        eventually("they compute", || server.sum("in_flight") == u64::from(COMPUTING));
        let mut took: Vec<Duration> = (0..40)
            .map(|_| {
                let began = Instant::now();
                assert_eq!(short.get("/hello").text(), "Hello, World!", "{component}");
                began.elapsed()
            })
            .collect();
        took.sort_unstable();
        assert!(took[took.len() / 2] < SHORT_MEDIAN_MAX, "{component}: {took:?}");
        // Those that wait for their turn end as well when their clients leave.
        for connection in crowd {
            SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).expect("an option");
        }
        eventually("they end", || server.sum("in_flight") == 0);
    }
}
