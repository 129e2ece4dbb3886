//! What becomes of work that nobody waits for, and of files that change under a running host?

use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::{Connection, FAULTS, Server, eventually, get, guest, message};

#[test]
fn the_head_of_an_endless_stream_gives_its_instance_back_after_100_ms() {
    const HEADS: u32 = 102;
    for component in FAULTS {
        let flags = ["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "10s"];
        let server = Server::start(component, &flags);
        let mut connection = Connection::open(server.address);
        let began = Instant::now();
        // One that is written to, one that waits for long, one that goes on behind its head and never ends.
        for path in ["/stream?chunks=100000000&bytes=10&ms=20", "/stream?chunks=9&bytes=10&ms=20000", "/never-finish"] {
            for _ in 0..HEADS / 3 {
                connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
                let status = connection.try_response(true).map(|response| response.status);
                assert_eq!(status, Some(200), "{component} {path}");
            }
        }
        assert_eq!(connection.get("/hello").status, 200, "{component}");
        // There is one instance: each answer waited for the end of the call before, which has 100 ms for the end of its
        // body (`DISCARD_MAX`). On average, since the machine may have other things to do now and then.
        let each = began.elapsed() / HEADS;
        assert!(each < Duration::from_millis(150), "{component}: {each:?} for each");
        drop(connection);
        eventually("the connection is gone", || server.sum("open_connections") == 0);
    }
}

#[test]
fn a_compiled_component_that_is_truncated_while_it_is_served_costs_nothing() {
    let folder = std::env::temp_dir().join(format!("wasmhost-truncated-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let compiled = folder.join("hello.cwasm");
    let name = compiled.to_string_lossy().into_owned();
    let compiling = crate::support::server::command().args(["compile", &guest("hello.wasm"), "-o", &name]).status();
    assert!(compiling.expect("compile runs").success());
    let server = Server::start(&name, &[]);
    std::fs::write(&compiled, b"").expect("the file is truncated");
    for _ in 0..4 {
        assert_eq!(get(server.address, "/").status, 200);
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes");
}

#[test]
fn a_guest_that_does_not_read_a_body_is_not_the_clients_silence() {
    for component in FAULTS {
        let server = Server::start(component, &["--body-idle-timeout", "300ms"]);
        let mut connection = Connection::open(server.address);
        connection.send("POST /sleep?ms=900 HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n0123456789");
        assert_eq!(connection.response().status, 200, "{component}: the body came whole, the guest did not read it");
    }
}

/// Closes a connection with a reset, not with an end.
pub fn reset(connection: Connection) {
    SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO)).expect("an option");
    drop(connection);
}

#[test]
fn a_client_that_resets_within_its_upload_cancels_the_guests_work() {
    for component in FAULTS {
        let limits = ["--workers", "1", "--request-timeout", "none", "--body-idle-timeout", "none"];
        let server = Server::start(component, &limits);
        // Before the answer's head, and behind it.
        for path in ["/body-size", "/echo"] {
            let (generation, left) = (server.sum("generation"), server.sum("client_left"));
            let mut connection = Connection::open(server.address);
            connection
                .send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"));
            eventually("the upload is under way", || server.sum("in_flight") == 1);
            reset(connection);
            eventually(&format!("{component} {path}: it is cancelled"), || {
                server.sum("in_flight") == 0 && server.sum("client_left") == left + 1
            });
            // Of 0.3, an echo is the host's own work: the guest has given the body back and is done.
            if (component, path) != ("faults-p3.wasm", "/echo") {
                eventually("a new generation", || server.sum("generation") > generation);
                assert_eq!(get(server.address, "/count").text(), "1", "{component} {path}");
            }
        }
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}: leaving is no fault");
    }
}

#[test]
fn work_behind_a_whole_response_ends_whatever_the_client_does() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1"]);
        let lingered = |server: &Server| server.records(|record| message(record) == "lingered").len();
        for (number, how) in ["stays", "ends", "resets"].into_iter().enumerate() {
            let mut connection = Connection::open(server.address);
            let response = connection.get("/linger?ms=700");
            assert_eq!((response.text().as_str(), response.whole), ("done", true), "{component} {how}");
            assert_eq!(lingered(&server), number, "{component} {how}: the answer waited for the work behind it");
            let mut kept = Some(connection);
            match how {
                "ends" => kept = None,
                "resets" => kept.take().into_iter().for_each(reset),
                _ => {}
            }
            eventually(&format!("{component} {how}: the work ends"), || lingered(&server) == number + 1);
            drop(kept);
        }
        // The next request of a connection does not wait for the work behind the last.
        let mut connection = Connection::open(server.address);
        assert_eq!(connection.get("/linger?ms=700").text(), "done", "{component}");
        assert_eq!(connection.get("/hello").status, 200, "{component}");
        assert_eq!(lingered(&server), 3, "{component}: a request waited for the work of another");
        eventually("the work ends", || lingered(&server) == 4);
        assert_eq!((server.sum("client_left"), server.sum("in_flight")), (0, 0), "{component}");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}");
    }
}

#[test]
fn instances_opened_in_a_burst_are_dropped_when_they_are_not_needed() {
    for (component, flags) in [("faults.wasm", &[][..]), ("faults-p3.wasm", &["--instance-concurrency", "4"][..])] {
        let server = Server::start(component, &[&["--workers", "1"][..], flags].concat());
        let alone = server.status()["instance_memory_bytes"].as_u64().expect("a number");
        let mut burst: Vec<Connection> = (0..40).map(|_| Connection::open(server.address)).collect();
        for connection in &mut burst {
            connection.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for connection in &mut burst {
            assert_eq!(connection.response().status, 200, "{component}");
        }
        assert!(server.sum("instances") >= 8, "{component}: the burst has opened some");
        eventually("one is left", || server.sum("instances") == 1);
        let held = server.status()["instance_memory_bytes"].as_u64().expect("a number");
        assert!(held <= alone * 2, "{component}: {held} bytes are held, {alone} by one");
    }
}
