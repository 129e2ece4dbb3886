//! Does every request get its answer, whatever the requests beside it do?

use std::net::SocketAddr;
use std::thread;

use crate::support::{Connection, FAULTS, Server, eventually};

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

/// What became of requests that share an instance, which a fault of one takes from all.
#[derive(Debug, Default)]
struct Shares {
    sent: u64,
    answered: u64,
    /// 503: no place in time.
    refused: u64,
    /// 500: at fault, or in the instance of one that was.
    faulted: u64,
    /// Broken off after the head, or no answer.
    aborted: u64,
    /// Anything else.
    wrong: Vec<(String, u16, bool)>,
}

/// One request after the other on a connection that is kept while it can be.
fn ask_in_turn(address: SocketAddr, client: usize, count: usize) -> Shares {
    let mut shares = Shares::default();
    let mut connection = Connection::open(address);
    for number in 0..count {
        let path = match (client * 7 + number) % 40 {
            0 => "/trap",
            1 => "/trap-after-head",
            2..10 => "/sleep?ms=5",
            _ => "/hello",
        };
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        shares.sent += 1;
        let response = connection.try_response(false);
        let is_kept = response.as_ref().is_some_and(|response| {
            response.whole && response.header("connection").is_none_or(|value| value != "close")
        });
        match response.map(|response| (response.status, response.whole, response.text())) {
            Some((200, true, text)) if text == "Hello, World!" || text == "slept" => shares.answered += 1,
            Some((503, true, _)) => shares.refused += 1,
            Some((500, true, _)) => shares.faulted += 1,
            None | Some((200, false, _)) => shares.aborted += 1,
            Some((status, whole, _)) => shares.wrong.push((path.to_owned(), status, whole)),
        }
        if !is_kept {
            connection = Connection::open(address);
        }
    }
    shares
}

#[test]
fn of_16_requests_at_once_in_an_instance_each_is_answered_refused_or_broken_off_and_counted_as_that() {
    const CLIENTS: usize = 48;
    const EACH: usize = 400;
    // Two instances of 16 for 48 clients, so that some are refused.
    let flags = ["--instance-concurrency", "16", "--instances-per-worker", "1", "--queue-timeout", "20ms"];
    let server = Server::start("faults-p3.wasm", &[&flags[..], &["--workers", "2"]].concat());
    let address = server.address;
    let shares: Vec<Shares> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || ask_in_turn(address, client, EACH))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client's thread")).collect()
    });
    let sum = |of: fn(&Shares) -> u64| shares.iter().map(of).sum::<u64>();
    let [sent, answered, refused] = [sum(|s| s.sent), sum(|s| s.answered), sum(|s| s.refused)];
    let [faulted, aborted] = [sum(|s| s.faulted), sum(|s| s.aborted)];
    let wrong: Vec<_> = shares.iter().flat_map(|shares| &shares.wrong).collect();
    let told = format!("{sent} sent: {answered} answered, {refused} refused, {faulted} faulted, {aborted} broken off");
    assert!(wrong.is_empty(), "{told}; {wrong:?}");
    assert_eq!(sent, (CLIENTS * EACH) as u64, "{told}");
    assert_eq!(answered + refused + faulted + aborted, sent, "{told}");
    assert!([answered, faulted, aborted].iter().all(|count| *count > 0), "{told}: not all kinds were met");

    // And by the host's own count: each once, and as what it was.
    eventually("all have ended", || server.sum("in_flight") == 0);
    assert_eq!(server.sum("requests"), sent, "{told}: the host's own count");
    let status = server.status();
    let workers = status["workers"].as_array().expect("workers");
    let all_of = |field: &str| -> u64 {
        let kinds = workers.iter().filter_map(|worker| worker[field].as_object());
        kinds.flat_map(|kinds| kinds.values()).filter_map(serde_json::Value::as_u64).sum()
    };
    assert_eq!(all_of("sheds"), refused, "{told}: {status}");
    // A fault is one, however many requests shared its instance; each was caused by a request that asked for it.
    let faults = server.sum("faults.trap");
    assert!(faults > 0 && faults <= faulted + aborted, "{told}: {faults} faults");
    assert_eq!(all_of("faults"), faults, "{told}: {status}");
    assert_eq!(server.sum("client_left"), 0, "{told}");
    // Each fault is one instance that is replaced.
    let generations = server.sum("generation");
    assert!(generations >= faults && generations <= faults + 2 * 2, "{told}: {faults} faults, {generations} instances");
}
