//! Do the limits on clients hold against those that mean harm, at a bounded cost, while a well-behaved client beside them
//! gets every answer? What one connection may do is in `connections`, `limits`, `body_max`, `crowding` and `smuggling`; here
//! it is done a great many times.

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::server::cpu_ticks;
use crate::support::{CEILING, Connection, FAULTS, Neighbours, Server, eventually, get};

/// What the host may have grown by when an attack is over.
const GROWTH_MAX_KIB: u64 = 20 * 1024;

/// A server, its neighbour, and what it had before the attack.
struct Attacked {
    component: &'static str,
    server: Server,
    neighbours: Neighbours,
    descriptors: usize,
    resident_kib: u64,
}

fn descriptors(server: &Server) -> usize {
    let of = |pid: u32| std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    server.pids().into_iter().map(of).sum()
}

/// Resident memory of the workers, without what they share with files.
fn resident_kib(server: &Server) -> u64 {
    let of = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default().trim().to_owned();
        line.trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
    };
    server.pids().into_iter().map(of).sum()
}

fn ticks(server: &Server) -> u64 {
    server.pids().into_iter().map(cpu_ticks).sum()
}

impl Attacked {
    fn start(component: &'static str, flags: &[&str]) -> Self {
        let server = Server::start(component, &[&["--workers", "1"][..], flags].concat());
        // Both of its kinds of request have been answered once, and the memory for that is there.
        assert_eq!(get(server.address, "/hello").status, 200);
        Neighbours::that_upload(server.address).end("at first");
        eventually("it is at rest", || server.sum("open_connections") == 0);
        let (descriptors, resident_kib) = (descriptors(&server), resident_kib(&server));
        let neighbours = Neighbours::that_upload(server.address);
        Self { component, server, neighbours, descriptors, resident_kib }
    }

    /// The neighbour had all its answers, and all that the attack took is back.
    #[track_caller]
    fn assert_over(self) {
        let Self { component, server, neighbours, descriptors: before, resident_kib: resident_before } = self;
        neighbours.end(component);
        eventually(&format!("{component}: its connections have ended"), || server.sum("open_connections") == 0);
        eventually(&format!("{component}: its requests have ended"), || server.sum("in_flight") == 0);
        eventually(&format!("{component}: descriptors are back"), || descriptors(&server) <= before);
        let grown = || resident_kib(&server).saturating_sub(resident_before);
        eventually(&format!("{component}: memory is back"), || grown() < GROWTH_MAX_KIB);
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        let deaths = server.records(|record| record["message"] == "exit");
        assert!(deaths.is_empty(), "{component}: {deaths:?}");
    }
}

#[test]
fn a_million_chunks_of_a_byte_are_answered_at_a_bounded_cost() {
    const CHUNKS: usize = 1_000_000;
    for component in FAULTS {
        let attacked = Attacked::start(component, &["--cpu-limit", "60s", "--request-timeout", "120s"]);
        let before = ticks(&attacked.server);
        let mut connection = Connection::open(attacked.server.address);
        connection.stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time-out");
        connection.send("POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let piece = "1\r\nx\r\n".repeat(1_000);
        for _ in 0..CHUNKS / 1_000 {
            connection.send(&piece);
        }
        connection.send("0\r\n\r\n");
        let response = connection.response();
        assert!(response.text().starts_with("bytes: 1000000"), "{component}: {response:?}");
        // Of its kind, the guest's part is bounded by `--cpu-limit`; this is for both.
        let each_us = (ticks(&attacked.server) - before) * 10_000 / CHUNKS as u64;
        // The neighbours' requests are counted with it.
        assert!(each_us < 25, "{component}: {each_us} us of CPU time for each chunk");
        drop(connection);
        attacked.assert_over();
    }
}

#[test]
fn chunk_extensions_have_a_bound_each_and_together() {
    for component in FAULTS {
        let attacked = Attacked::start(component, &[]);
        let ask = |chunks: &str| {
            let mut connection = Connection::open(attacked.server.address);
            connection.send("POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
            // It may be refused before all is sent.
            let _ = connection.stream.write_all(chunks.as_bytes());
            connection.response().status
        };
        let chunk = |bytes: usize| format!("1;{}\r\nx\r\n", "e".repeat(bytes));
        assert_eq!(ask(&format!("{}0\r\n\r\n", chunk(4_000))), 200, "{component}");
        assert_eq!(ask(&chunk(5_000)), 400, "{component}: of one chunk");
        assert_eq!(ask(&chunk(16 << 20)), 400, "{component}: of one chunk without end");
        assert_eq!(ask(&chunk(4_000).repeat(5)), 400, "{component}: of all together");
        attacked.assert_over();
    }
}

#[test]
fn heads_that_are_too_large_are_refused() {
    for component in FAULTS {
        let attacked = Attacked::start(component, &[]);
        let fields =
            |count: usize, field: &str| format!("GET /hello HTTP/1.1\r\nHost: a\r\n{}\r\n", field.repeat(count));
        let heads = [
            (431, fields(10_000, "a:\r\n")),
            (431, fields(10_000, "X-Header: some value\r\n")),
            (431, fields(101, "a: b\r\n")),
            (431, fields(1, &format!("X: {}\r\n", "x".repeat(1 << 20)))),
            (414, format!("GET /hello?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1 << 20))),
        ];
        for _ in 0..20 {
            for (status, head) in &heads {
                let mut connection = Connection::open(attacked.server.address);
                // It may be refused before all is sent.
                let _ = connection.stream.write_all(head.as_bytes());
                let response = connection.try_response(false).map(|response| response.status);
                assert_eq!(response, Some(*status), "{:.60}", head);
            }
        }
        assert_eq!(attacked.server.sum("refusals.head-too-large"), 100);
        attacked.assert_over();
    }
}

/// How a connection of a flood is left.
const LEAVES: [(&str, bool); 6] = [
    ("", false),
    ("", true),
    ("GET /hel", false),
    ("GET /hel", true),
    ("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", false),
    ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", true),
];

#[test]
fn thousands_of_connections_that_come_and_go_leave_nothing_behind() {
    for component in FAULTS {
        let attacked = Attacked::start(component, &[]);
        for _ in 0..500 {
            for (bytes, resets) in LEAVES {
                let mut stream =
                    TcpStream::connect_timeout(&attacked.server.address, CEILING).expect("the server accepts");
                stream.write_all(bytes.as_bytes()).expect("a few bytes");
                if resets {
                    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("an option");
                }
            }
        }
        attacked.assert_over();
    }
}

#[test]
fn many_clients_that_are_slow_in_every_way_end_at_their_limits() {
    const EACH: usize = 40;
    let limits = ["--header-timeout", "2s", "--keepalive-timeout", "4s", "--body-idle-timeout", "2s"];
    // Each response that nobody reads has an instance meanwhile.
    let room = ["--request-timeout", "5s", "--instances-per-worker", "256"];
    for component in FAULTS {
        let attacked = Attacked::start(component, &[&limits[..], &room].concat());
        let address = attacked.server.address;
        let slow = [
            // Never says a word, half closed too.
            "",
            // A head that does not end, and drips.
            "GET /hello HTTP/1.1\r\nHost: a\r\nX: ",
            // A body that does not come, and one that drips: its request has a time.
            "POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nha",
            "POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nha",
            // A response that nobody reads.
            "GET /stream?chunks=1000000&bytes=65536 HTTP/1.1\r\nHost: a\r\n\r\n",
            // Rests after its answer.
            "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n",
        ];
        let mut open: Vec<(usize, Connection)> = Vec::new();
        for (way, bytes) in slow.iter().enumerate() {
            for number in 0..EACH {
                let mut connection = Connection::open(address);
                connection.send(bytes);
                if way == 0 && number % 2 == 1 {
                    connection.stream.shutdown(Shutdown::Write).expect("half closed");
                }
                open.push((way, connection));
            }
        }
        // Some go on, a byte at a time, for as long as they are let.
        let began = Instant::now();
        while began.elapsed() < CEILING && attacked.server.sum("open_connections") > 3 {
            for (_, connection) in open.iter_mut().filter(|(way, _)| [1, 3].contains(way)) {
                // Its end is what is waited for.
                let _ = connection.stream.write_all(b"x");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        for (way, mut connection) in open {
            let raw = connection.raw_to_end();
            let status = String::from_utf8_lossy(&raw).split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
            let expected = [None, Some(408), Some(408), Some(408), Some(200), Some(200)][way];
            // What goes on sending may meet a reset in the answer's place.
            assert!(
                status == expected || ([1, 3].contains(&way) && status.is_none()),
                "{component}, {way}: {status:?}"
            );
            assert!(way != 4 || !raw.ends_with(b"0\r\n\r\n"), "{component}: it ended as if it were whole");
        }
        for flag in ["--header-timeout", "--body-idle-timeout", "--request-timeout", "--keepalive-timeout"] {
            attacked.server.wait_for_record(flag, |record| record["limit"] == flag);
        }
        attacked.assert_over();
    }
}

/// Opens a connection, sends what it is told, reads an answer if it is to, and closes it so that no packet is sent for it
/// (`TCP_REPAIR` of Linux): to the host it looks like a peer whose machine or network is gone.
const VANISH: &str = "
import socket, sys
host, port, words, reads = sys.argv[1:]
client = socket.create_connection((host, int(port)))
client.sendall(words.encode())
if reads == 'true':
    client.recv(65536)
TCP_REPAIR = 19
client.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
client.close()
";

#[test(needs(NetAdmin))]
fn peers_that_vanish_without_a_word_end_at_the_limits() {
    let limits = ["--header-timeout", "1s", "--keepalive-timeout", "2s", "--body-idle-timeout", "1s"];
    for component in FAULTS {
        let attacked = Attacked::start(component, &limits);
        let address = attacked.server.address;
        for (words, reads) in [
            ("", false),
            ("GET /hello HTTP/1.1\r\nHos", false),
            ("GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf", false),
            ("GET /sleep?ms=100 HTTP/1.1\r\nHost: a\r\n\r\n", false),
        ] {
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            let arguments = ["-c", VANISH, &host, &port, words, if reads { "true" } else { "false" }];
            let vanished = Command::new("python3").args(arguments).output().expect("python3");
            let error = String::from_utf8_lossy(&vanished.stderr);
            assert!(vanished.status.success(), "{error}");
        }
        attacked.assert_over();
    }
}
