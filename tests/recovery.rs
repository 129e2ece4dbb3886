//! What does a fault cost? The request at fault, and nothing else: every variant, for both versions of wasi, before the
//! head and after it.

use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::server::command;
use crate::support::{CEILING, Connection, FAULTS, Server, eventually, get, guest};

/// The path, the kind by which it is counted (none: it is no fault of the instance), the status for wasi 0.2 and for 0.3.
pub type Row = (&'static str, [Option<&'static str>; 2], [u16; 2]);

pub const BEFORE_HEAD: [Row; 10] = [
    ("/trap", [Some("trap"); 2], [500; 2]),
    ("/panic", [Some("trap"); 2], [500; 2]),
    ("/exit?code=1", [Some("exit"); 2], [500; 2]),
    ("/exit?code=0", [Some("exit"); 2], [500; 2]),
    ("/loop", [Some("cpu"); 2], [500; 2]),
    ("/alloc", [Some("memory"); 2], [500; 2]),
    ("/stack", [Some("stack-overflow"); 2], [500; 2]),
    ("/never-answer", [Some("never-answered"), Some("wall")], [500, 504]),
    ("/wait-forever", [Some("wall"); 2], [504; 2]),
    ("/error", [None; 2], [500; 2]),
];

pub const AFTER_HEAD: [(&str, &str); 9] = [
    ("/trap-after-head", "trap"),
    ("/panic-after-head", "trap"),
    ("/exit-after-head", "exit"),
    ("/loop-after-head", "cpu"),
    ("/alloc-after-head", "memory"),
    ("/stack-after-head", "stack-overflow"),
    ("/never-finish", "body-idle"),
    ("/drop-body", "unfinished-body"),
    ("/error-after-head", "unfinished-body"),
];

/// CPU time far below the wall clock's limits, so that a busy machine does not turn the one fault into the other.
pub const SHORT: [&str; 4] = ["--cpu-limit", "200ms", "--request-timeout", "1500ms"];

/// Connections in the middle of an upload that the guest echoes: requests in flight, on every worker.
struct InFlight(Vec<Connection>);

impl InFlight {
    fn begin(server: &Server, mut kept: Vec<Connection>) -> Self {
        for connection in &mut kept {
            connection.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n");
        }
        eventually("all neighbours are in flight", || server.sum("in_flight") == kept.len() as u64);
        Self(kept)
    }

    fn end(mut self, after: &str) -> Vec<Connection> {
        for connection in &mut self.0 {
            connection.send("5\r\nwhole\r\n0\r\n\r\n");
            let response = connection.try_response(false).unwrap_or_else(|| panic!("{after} reset a neighbour"));
            assert_eq!(
                (response.status, response.text().as_str(), response.whole),
                (200, "half whole", true),
                "{after}"
            );
        }
        self.0
    }
}

pub fn kept_connections(server: &Server, count: usize) -> Vec<Connection> {
    (0..count).map(|_| Connection::open(server.address)).collect()
}

fn faults_of_all_kinds(server: &Server) -> u64 {
    let status = server.status();
    let workers = status["workers"].as_array().expect("a list of workers");
    workers
        .iter()
        .flat_map(|worker| worker["faults"].as_object().expect("kinds").values())
        .filter_map(Value::as_u64)
        .sum()
}

#[test]
fn a_fault_before_the_head_is_answered_and_costs_no_other_request() {
    for (version, component) in FAULTS.into_iter().enumerate() {
        let server = Server::start(component, &SHORT);
        let mut kept = kept_connections(&server, 4);
        for (path, kinds, statuses) in BEFORE_HEAD {
            let what = format!("{component}{path}");
            let in_flight = InFlight::begin(&server, kept);
            let counted = |kind: Option<&str>| kind.map(|kind| server.sum(&format!("faults.{kind}")));
            let (of_kind, of_all) = (counted(kinds[version]), faults_of_all_kinds(&server));

            let mut connection = Connection::open(server.address);
            let response = connection.get(path);
            assert_eq!((response.status, response.whole), (statuses[version], true), "{what}");
            assert_eq!(counted(kinds[version]), of_kind.map(|count| count + 1), "{what}: kind {:?}", kinds[version]);
            assert_eq!(
                faults_of_all_kinds(&server),
                of_all + u64::from(kinds[version].is_some()),
                "{what}: other kinds"
            );
            assert!(!response.text().contains("wasm"), "{what}: the client is told of the inside: {}", response.text());

            assert_eq!(connection.get("/hello").status, 200, "{what}: the same connection");
            assert_eq!(get(server.address, "/hello").status, 200, "{what}: a new connection");
            kept = in_flight.end(&what);
        }
    }
}

#[test]
fn a_fault_before_the_head_puts_a_new_generation_in_the_slot_at_once() {
    for (version, component) in FAULTS.into_iter().enumerate() {
        let server = Server::start(component, &[&SHORT[..], &["--workers", "1"]].concat());
        let mut connection = Connection::open(server.address);
        let mut count = 0;
        for (path, kinds, _) in BEFORE_HEAD {
            let generation = server.sum("generation");
            connection.get(path);
            if kinds[version].is_some() {
                // On a busy machine `/count` may have found none ready, and two have been made.
                eventually(&format!("{component}{path}: the next generation, unasked"), || {
                    server.sum("generation") > generation
                });
                count = 0;
            }
            count += 1;
            assert_eq!(connection.get("/count").text(), count.to_string(), "{component}{path}: memory of the instance");
        }
    }
}

#[test]
fn a_fault_after_the_head_breaks_the_transfer_and_costs_no_other_request() {
    for component in FAULTS {
        let server = Server::start(component, &[&SHORT[..], &["--body-idle-timeout", "1500ms"]].concat());
        let mut kept = kept_connections(&server, 4);
        for (path, kind) in AFTER_HEAD {
            let what = format!("{component}{path}");
            for connection in &mut kept {
                assert_eq!(connection.get("/hello").status, 200, "{what}: before");
            }
            let field = format!("faults.{kind}");
            let (of_kind, of_all) = (server.sum(&field), faults_of_all_kinds(&server));

            let mut connection = Connection::open(server.address);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let raw = String::from_utf8_lossy(&connection.raw_to_end()).into_owned();
            assert!(raw.starts_with("HTTP/1.1 200 OK\r\n"), "{what}: {raw:?}");
            assert!(raw.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked\r\n"), "{what}: {raw:?}");
            assert!(raw.ends_with("\r\nC\r\nhalf of the \r\n"), "{what}: {raw:?}");

            assert_eq!(server.sum(&field), of_kind + 1, "{what}: {field}");
            assert_eq!(faults_of_all_kinds(&server), of_all + 1, "{what}: other kinds");
            for connection in &mut kept {
                assert_eq!(connection.get("/hello").status, 200, "{what}: a kept connection");
            }
            assert_eq!(get(server.address, "/hello").status, 200, "{what}: a new connection");
        }
    }
}

#[test]
fn a_fault_after_the_head_puts_a_new_generation_in_the_slot_at_once() {
    for component in FAULTS {
        let server =
            Server::start(component, &[&SHORT[..], &["--body-idle-timeout", "1500ms", "--workers", "1"]].concat());
        for (path, _) in AFTER_HEAD {
            let generation = server.sum("generation");
            let mut connection = Connection::open(server.address);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            connection.raw_to_end();
            eventually(&format!("{component}{path}: the next generation, unasked"), || {
                server.sum("generation") == generation + 1
            });
            assert_eq!(get(server.address, "/count").text(), "1", "{component}{path}: memory of the old instance");
        }
    }
}

#[test]
fn thousands_of_faults_in_a_row_are_answered_500_each_and_hello_at_once_after_them() {
    for component in FAULTS {
        let server = Server::start(component, &[]);
        assert_eq!(get(server.address, "/hello").status, 200);
        // Over both workers, one of which has never answered.
        let mut connections = kept_connections(&server, 2);
        for turn in 0..1_500 {
            for connection in &mut connections {
                assert_eq!(connection.get("/trap").status, 500, "{component}: fault {turn}");
            }
        }
        for connection in &mut connections {
            assert_eq!(connection.get("/hello").status, 200, "{component}");
        }
    }
}

#[test]
fn a_guest_that_cannot_start_ends_the_host_before_the_port_is_announced() {
    for (component, named) in [("wat/start-trap.wat", "unreachable"), ("wat/start-loop.wat", "cpu")] {
        let mut child = command()
            .arg(guest(component))
            .args(["--listen", "127.0.0.1:0", "--cpu-limit", "200ms"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child can be waited for") {
                break status;
            }
            if began.elapsed() > CEILING {
                child.kill().expect("it can be ended");
                panic!("{component}: neither served nor ended");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut log = String::new();
        child.stderr.take().expect("stderr is piped").read_to_string(&mut log).expect("text");
        assert_eq!(status.code(), Some(1), "{component}: {log}");
        assert!(!log.contains("listening on"), "{component}: {log}");
        assert!(log.contains("hint:"), "{component}: {log}");
        assert!(log.to_lowercase().contains(named), "{component} does not name `{named}`: {log}");
    }
}
