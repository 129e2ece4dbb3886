//! What becomes of work that nobody waits for, and of files that change under a running host?

use crate::support::{Connection, FAULTS, Server, eventually, get, guest};

#[test]
fn the_head_of_an_endless_stream_gives_its_instance_back() {
    for component in FAULTS {
        let server =
            Server::start(component, &["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "10s"]);
        let mut connection = Connection::open(server.address);
        for _ in 0..3 {
            connection.send("HEAD /stream?chunks=100000000&bytes=10&ms=20 HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(connection.try_response(true).map(|response| response.status), Some(200), "{component}");
        }
        assert_eq!(connection.get("/hello").status, 200, "{component}");
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
