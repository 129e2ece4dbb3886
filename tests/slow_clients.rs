//! Do clients that send or read slowly keep an instance from others?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::{CEILING, Connection, FAULTS, Server, eventually, get};

/// Few instances, and little patience of those who wait for one.
const FEW: [&str; 6] = ["--workers", "1", "--instances-per-worker", "4", "--queue-timeout", "300ms"];

/// A connection with a small window, so that its client's pace reaches the host.
fn with_small_window(server: &Server) -> Connection {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4 * 1024).expect("an option");
    socket.connect(&server.address.into()).expect("the server accepts");
    socket.set_read_timeout(Some(CEILING)).expect("a time-out");
    Connection { stream: socket.into(), buffer: Vec::new() }
}

/// Clients that have sent this, and then nothing.
fn silent(server: &Server, count: usize, bytes: &str) -> Vec<Connection> {
    let mut clients: Vec<Connection> = (0..count).map(|_| Connection::open(server.address)).collect();
    for client in &mut clients {
        client.send(bytes);
    }
    eventually("all are served", || server.sum("in_flight") == count as u64);
    clients
}

/// A good client asks again and again, on new connections, and is answered each time.
#[track_caller]
fn others_are_served(server: &Server, what: &str) {
    let mut longest = Duration::ZERO;
    for number in 0..50 {
        let began = Instant::now();
        let response = get(server.address, "/hello");
        longest = longest.max(began.elapsed());
        assert_eq!(response.status, 200, "{what}: request {number}, after {:?}", began.elapsed());
    }
    assert!(longest < Duration::from_millis(300), "{what}: one waited for {longest:?}");
}

#[test]
fn a_body_that_comes_slowly_takes_no_instance_before_it_is_whole() {
    for component in FAULTS {
        let server = Server::start(component, &FEW);
        let head = "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4000\r\n\r\nhalf";
        let mut slow = silent(&server, 300, head);
        others_are_served(&server, component);
        assert_eq!(server.sum("sheds.queue-timeout") + server.sum("queued"), 0, "{component}");
        // They are served when they have sent all, in pieces too.
        let rest = "x".repeat(1_332);
        for client in &mut slow[..4] {
            for _ in 0..3 {
                client.send(&rest);
            }
            let response = client.response();
            assert_eq!((response.status, response.body.len(), response.whole), (200, 4_000, true), "{component}");
            assert_eq!(response.body, format!("half{rest}{rest}{rest}").into_bytes(), "{component}");
        }
    }
}

#[test]
fn slow_bodies_in_chunks_leave_half_of_the_instances_to_others() {
    for component in FAULTS {
        let server = Server::start(component, &FEW);
        let head = "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        let mut slow = silent(&server, 300, head);
        others_are_served(&server, component);
        assert_eq!(server.records(|record| record["limit"].is_string()).len(), 0, "{component}: nobody is ended");
        // One after the other, since all at once would be more than four instances can serve in the queue's time.
        for client in &mut slow {
            client.send("5\r\nwhole\r\n0\r\nX-Sum: 9\r\n\r\n");
            let response = client.response();
            assert_eq!((response.status, response.text().as_str()), (200, "halfwhole"), "{component}");
        }
    }
}

#[test]
fn a_response_of_moderate_size_does_not_hold_its_instance_for_a_client_that_does_not_read() {
    const BYTES: usize = 350_000;
    for component in FAULTS {
        let flags = ["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "300ms"];
        let server = Server::start(component, &flags);
        let mut slow = with_small_window(&server);
        slow.send(format!("GET /length?declared={BYTES}&actual={BYTES} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let mut first = [0; 1];
        slow.stream.read_exact(&mut first).expect("it begins");
        slow.buffer.extend(first);
        others_are_served(&server, component);
        assert_eq!(server.sum("in_flight"), 1, "{component}: the first is not over");
        assert_eq!(server.records(|record| record["limit"].is_string()).len(), 0, "{component}: nobody is ended");
        let response = slow.response();
        assert_eq!((response.status, response.body.len(), response.whole), (200, BYTES, true), "{component}");
    }
}

#[test]
fn clients_that_do_not_read_are_ended_when_others_wait_for_an_instance() {
    for component in FAULTS {
        let flags = ["--workers", "1", "--instances-per-worker", "4", "--queue-timeout", "10s"];
        let server = Server::start(component, &flags);
        let mut slow: Vec<Connection> = Vec::new();
        // More than the instances; the later ones wait until the earlier have been silent for a second.
        for _ in 0..40 {
            let mut client = with_small_window(&server);
            client.send("GET /stream?chunks=800&bytes=10000 HTTP/1.1\r\nHost: test\r\n\r\n");
            slow.push(client);
        }
        let began = Instant::now();
        for number in 0..20 {
            assert_eq!(get(server.address, "/hello").status, 200, "{component}: request {number}");
        }
        assert!(began.elapsed() < Duration::from_secs(15), "{component}: {:?}", began.elapsed());
        let told = server.wait_for_record("who was ended", |record| record["limit"] == "--instances-per-worker");
        assert!(told["message"].as_str().is_some_and(|text| text.starts_with("clients that read slowly")), "{told}");
        assert!(server.sum("refusals.slow-client") >= 36, "{component}");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
        // Broken off, not ended.
        let raw = slow[0].raw_to_end();
        assert!(raw.starts_with(b"HTTP/1.1 200") && !raw.ends_with(b"0\r\n\r\n"), "{component}");
    }
}

#[test]
fn clients_that_keep_an_instance_by_large_bodies_are_ended_when_others_wait_for_it() {
    for component in FAULTS {
        let flags = ["--workers", "1", "--instances-per-worker", "2", "--queue-timeout", "10s"];
        let server = Server::start(component, &flags);
        // More than is read ahead, and then silence: before the response's headers, and behind them.
        // Of 0.3, an echo is the host's own work, and takes no instance.
        let behind_head = if component == "faults.wasm" { "/echo" } else { "/body-size" };
        let mut slow: Vec<Connection> = ["/body-size", behind_head]
            .into_iter()
            .map(|path| {
                let mut client = Connection::open(server.address);
                client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n"));
                client.send([b'x'; 100_000]);
                client
            })
            .collect();
        eventually("both have an instance", || server.sum("instances") == 2);
        let mut others: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        for other in &mut others {
            other.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for other in &mut others {
            assert_eq!(other.response().text(), "slept", "{component}");
        }
        assert_eq!(slow[0].response().status, 408, "{component}");
        if behind_head == "/echo" {
            let raw = slow[1].raw_to_end();
            assert!(raw.starts_with(b"HTTP/1.1 200") && !raw.ends_with(b"0\r\n\r\n"), "{component}");
        }
        server.wait_for_record("who was ended", |record| record["limit"] == "--instances-per-worker");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
    }
}

/// Sends a byte, again and again, until the connection ends; how long that took.
fn drip(mut stream: TcpStream, byte: &'static [u8]) -> Duration {
    let began = Instant::now();
    while began.elapsed() < CEILING && stream.write_all(byte).is_ok() {
        std::thread::sleep(Duration::from_millis(200));
    }
    began.elapsed()
}

#[test]
fn clients_below_the_least_pace_are_ended_after_the_grace() {
    for component in FAULTS {
        let server = Server::start(component, &["--body-rate-min", "50KiB"]);
        let open = |head: &str, more: usize| {
            let mut client = Connection::open(server.address);
            client.send(format!("{head}\r\n\r\n"));
            client.send(vec![b'x'; more]);
            client
        };
        let mut before_head = open("POST /body-size HTTP/1.1\r\nHost: test\r\nContent-Length: 10000", 0);
        let mut behind_head = open("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 200000", 100_000);
        let mut reads = with_small_window(&server);
        reads.send("GET /stream?chunks=800&bytes=10000 HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut chats = open("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked", 0);
        chats.send("4\r\nhalf\r\n");
        assert!(chats.fill_until(|read| read.ends_with(b"half\r\n").then_some(())).is_some(), "{component}");
        std::thread::scope(|scope| {
            let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
            for client in [&before_head, &behind_head] {
                let stream = client.stream.try_clone().expect("a second handle");
                let dripping = named("drip").spawn_scoped(scope, move || drip(stream, b"x")).expect("a thread");
                drop(dripping);
            }
            let began = Instant::now();
            let mut piece = [0; 1_000];
            while reads.stream.read_exact(&mut piece).is_ok() {
                std::thread::sleep(Duration::from_millis(100));
                assert!(began.elapsed() < CEILING + CEILING, "{component}: a slow reader is served for ever");
            }
            assert!(began.elapsed() > Duration::from_secs(9), "{component}: after {:?} already", began.elapsed());
            assert_eq!(before_head.response().status, 408, "{component}");
            let raw = behind_head.raw_to_end();
            assert!(raw.starts_with(b"HTTP/1.1 200") && !raw.ends_with(b"0\r\n\r\n"), "{component}");
        });
        let told = |text: &str| {
            let is =
                |record: &&serde_json::Value| record["message"].as_str().is_some_and(|said| said.starts_with(text));
            server.records(|record| record["limit"] == "--body-rate-min").iter().filter(is).count()
        };
        assert!(told("clients sent a request's body too slowly") >= 1, "{component}");
        eventually("it is told", || told("clients read a response too slowly") + told("clients sent") >= 1);
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
        // Who sends what it likes and when it likes, while it reads the response, has no pace.
        chats.send("5\r\nwhole\r\n0\r\n\r\n");
        assert!(chats.fill_until(|read| read.ends_with(b"whole\r\n0\r\n\r\n").then_some(())).is_some(), "{component}");
    }
}

/// Sends a few bytes every tenth of a second, until the connection ends or `pieces` are sent.
fn trickle(client: &Connection, pieces: usize) {
    let mut stream = client.stream.try_clone().expect("a second handle");
    for _ in 0..pieces {
        if stream.write_all(&[b'x'; 100]).is_err() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_guest_is_not_at_fault_for_a_body_that_does_not_come_in_time() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--request-timeout", "1s"]);
        let mut client = Connection::open(server.address);
        client.send("POST /body-size HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n");
        // More than is read ahead: the guest has begun, and waits for the rest.
        client.send([b'x'; 100_000]);
        eventually("it has an instance", || server.sum("instances") >= 1);
        trickle(&client, 20);
        assert_eq!(client.response().status, 408, "{component}");
        let told = server.wait_for_record("who was late", |record| record["limit"] == "--request-timeout");
        assert!(told["message"].as_str().is_some_and(|text| text.starts_with("clients did not send")), "{told}");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
    }
}

#[test]
fn a_body_that_comes_slowly_takes_no_time_from_the_guest() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1", "--request-timeout", "3s"]);
        let mut client = Connection::open(server.address);
        client.send("POST /sleep?ms=2000 HTTP/1.1\r\nHost: test\r\nContent-Length: 1500\r\n\r\n");
        let began = Instant::now();
        trickle(&client, 15);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (200, "slept"), "{component}");
        assert!(began.elapsed() > Duration::from_secs(3), "{component}: it proves nothing");
        // Its own time is bounded as ever.
        assert_eq!(get(server.address, "/sleep?ms=10000").status, 504, "{component}");
    }
}

#[test]
fn a_silent_client_of_an_instance_that_is_shared_is_told_so() {
    let flags = ["--workers", "1", "--request-timeout", "none", "--body-idle-timeout", "500ms"];
    let server = Server::start("faults-p3.wasm", &[&flags[..], &["--instance-concurrency", "8"]].concat());
    for framing in ["Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_owned(), {
        format!("Content-Length: 200000\r\n\r\n{}", "x".repeat(100_000))
    }] {
        let mut client = Connection::open(server.address);
        client.send(format!("POST /body-size HTTP/1.1\r\nHost: test\r\n{framing}"));
        assert_eq!(client.response().status, 408);
    }
    assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "no guest is at fault");
}

/// Reads ten kilobytes every twentieth of a second, until the connection ends: how long that took, and whether the response
/// looks whole.
fn read_slowly(client: &mut Connection) -> (Duration, bool) {
    let (began, mut piece) = (Instant::now(), [0; 10_000]);
    let mut end = Vec::new();
    while let Ok(read @ 1..) = client.stream.read(&mut piece) {
        end.extend_from_slice(&piece[..read]);
        end.drain(..end.len().saturating_sub(7));
        assert!(began.elapsed() < CEILING, "it is served for ever");
        std::thread::sleep(Duration::from_millis(50));
    }
    (began.elapsed(), end == b"\r\n0\r\n\r\n")
}

const ONE_SECOND: [&str; 7] =
    ["--workers", "1", "--response-timeout", "1s", "--body-idle-timeout", "none", "--access-log"];

#[test]
fn a_client_that_reads_slowly_is_late_with_its_response_and_not_the_guest() {
    for component in FAULTS {
        let server = Server::start(component, &ONE_SECOND);
        let mut slow = with_small_window(&server);
        slow.send("GET /stream?chunks=100000&bytes=10000 HTTP/1.1\r\nHost: test\r\n\r\n");
        let (took, is_whole) = read_slowly(&mut slow);
        assert!(took > Duration::from_millis(950) && !is_whole, "{component}: {took:?}");
        let told = server.wait_for_record("who was late", |record| record["limit"] == "--response-timeout");
        let text = "clients did not read a response in time";
        assert!(told["message"].as_str().is_some_and(|told| told.starts_with(text)), "{told}");
        server.wait_for_record("the access log's line", |record| record["ending"] == "client-slow");
        assert_eq!(server.sum("refusals.slow-client"), 1, "{component}");
        assert_eq!(server.sum("faults.response-timeout"), 0, "{component}");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
        // A guest that is slow itself is, whoever asks.
        assert!(!get(server.address, "/stream?chunks=100000&bytes=3&ms=50").whole, "{component}");
        assert_eq!(server.sum("faults.response-timeout"), 1, "{component}");
    }
}

#[test]
fn a_client_that_sends_slowly_is_late_with_the_response_to_it_and_not_the_guest() {
    for component in FAULTS {
        let server = Server::start(component, &ONE_SECOND);
        let mut client = Connection::open(server.address);
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 200000\r\n\r\n");
        client.send([b'x'; 100_000]);
        trickle(&client, 30);
        let raw = client.raw_to_end();
        assert!(raw.starts_with(b"HTTP/1.1 200") && !raw.ends_with(b"0\r\n\r\n"), "{component}");
        let told = server.wait_for_record("who was late", |record| record["limit"] == "--response-timeout");
        let text = "clients let a response wait too long for their request's body";
        assert!(told["message"].as_str().is_some_and(|told| told.starts_with(text)), "{told}");
        server.wait_for_record("the access log's line", |record| record["ending"] == "client-slow");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: no guest is at fault");
    }
}

#[test]
fn a_client_that_reads_slowly_ends_no_other_call_of_a_shared_instance() {
    let server = Server::start("faults-p3.wasm", &[&ONE_SECOND[..], &["--instance-concurrency", "8"]].concat());
    let mut slow = with_small_window(&server);
    slow.send("GET /stream?chunks=100000&bytes=10000 HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut other = Connection::open(server.address);
    other.send("GET /sleep?ms=4000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("both are served", || server.sum("in_flight") == 2);
    read_slowly(&mut slow);
    server.wait_for_record("the access log's line", |record| record["ending"] == "client-slow");
    assert_eq!(server.sum("in_flight"), 1, "the other is served still");
    assert_eq!(other.response().text(), "slept");
    assert_eq!(server.sum("generation"), 1, "nothing is recycled");
}

#[test]
fn clients_that_wait_for_a_word_to_send_leave_half_of_the_instances_to_others() {
    for component in FAULTS {
        let server = Server::start(component, &FEW);
        let head = "POST /body-size HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4000\r\n\r\n";
        let mut slow = silent(&server, 100, head);
        others_are_served(&server, component);
        assert_eq!(server.records(|record| record["limit"].is_string()).len(), 0, "{component}: nobody is ended");
        for client in &mut slow {
            assert_eq!(client.response().status, 100, "{component}");
        }
        for client in &mut slow {
            client.send([b'x'; 4_000]);
            assert_eq!(client.response().status, 200, "{component}");
        }
    }
}
