//! Does every request get its answer, whatever the requests beside it do?

use std::net::SocketAddr;
use std::thread;

use crate::support::{Connection, FAULTS, Server};

const THREADS: usize = 8;
const CONNECTIONS_A_THREAD: usize = 8;
/// By both versions of the guest together: 100,000.
const REQUESTS: usize = 50_000;
/// One request in so many faults.
const FAULT_EVERY: usize = 100;

/// What became of the requests of one thread.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    sent: usize,
    served: usize,
    faulted: usize,
    /// Another answer than the one that was due.
    wrong: Vec<(bool, u16)>,
    /// No answer.
    aborted: usize,
}

/// Request after request over kept connections, so that on each of them all are in flight at once.
fn ask(address: SocketAddr, from: usize, count: usize) -> Tally {
    let mut connections: Vec<Connection> = (0..CONNECTIONS_A_THREAD).map(|_| Connection::open(address)).collect();
    let mut tally = Tally::default();
    let numbers: Vec<usize> = (from..from + count).collect();
    for round in numbers.chunks(CONNECTIONS_A_THREAD) {
        // Another connection each time, so that faults meet all of them.
        let turn = round[0] / FAULT_EVERY;
        for (seat, number) in round.iter().enumerate() {
            let path = if number % FAULT_EVERY == 0 { "/trap" } else { "/hello" };
            connections[(seat + turn) % CONNECTIONS_A_THREAD]
                .send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            tally.sent += 1;
        }
        for (seat, number) in round.iter().enumerate() {
            let is_fault = number % FAULT_EVERY == 0;
            let response = connections[(seat + turn) % CONNECTIONS_A_THREAD].try_response(false);
            match response.map(|response| (response.status, response.whole && response.text() == "Hello, World!")) {
                Some((200, true)) if !is_fault => tally.served += 1,
                Some((500, _)) if is_fault => tally.faulted += 1,
                Some((status, _)) => tally.wrong.push((is_fault, status)),
                None => {
                    tally.aborted += 1;
                    connections[(seat + turn) % CONNECTIONS_A_THREAD] = Connection::open(address);
                }
            }
        }
    }
    tally
}

#[test]
fn of_100_000_requests_one_in_100_faults_and_all_others_are_served() {
    for component in FAULTS {
        let server = Server::start(component, &["--instance-concurrency", "1"]);
        let address = server.address;
        let count = REQUESTS / THREADS;
        let tallies: Vec<Tally> = thread::scope(|scope| {
            let threads: Vec<_> =
                (0..THREADS).map(|thread| scope.spawn(move || ask(address, thread * count, count))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a client's thread")).collect()
        });
        let mut all = Tally::default();
        for tally in tallies {
            all.sent += tally.sent;
            all.served += tally.served;
            all.faulted += tally.faulted;
            all.aborted += tally.aborted;
            all.wrong.extend(tally.wrong);
        }
        let faults = REQUESTS / FAULT_EVERY;
        let expected =
            Tally { sent: REQUESTS, served: REQUESTS - faults, faulted: faults, wrong: Vec::new(), aborted: 0 };
        assert_eq!(all, expected, "{component}");
        assert_eq!(server.sum("requests"), REQUESTS as u64, "{component}: the host's own count");
        assert_eq!(server.sum("faults.trap"), faults as u64, "{component}");
        assert_eq!((server.sum("client_left"), server.sum("in_flight")), (0, 0), "{component}");
        let connections = (THREADS * CONNECTIONS_A_THREAD) as u64;
        assert_eq!(server.sum("connections"), connections, "{component}: no connection was opened twice");
    }
}
