//! What does a bug of the host itself cost? Needs the feature `fault-injection`, in which a header makes the host panic.

use serde_json::Value;

use crate::support::{Connection, Server, eventually, get};

/// Makes the worker that has `connection` panic.
fn panic_on(connection: &mut Connection) {
    connection.send("GET /hello HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: panic\r\n\r\n");
    assert!(connection.try_response(false).is_none(), "a panic is not answered");
}

#[test]
fn a_worker_that_panics_is_replaced_and_costs_only_its_own_connections() {
    let server = Server::start("faults.wasm", &[]);
    let mut on_first = Connection::open(server.address);
    on_first.get("/hello");
    let mut on_second = Connection::open(server.address);
    on_second.get("/hello");
    panic_on(&mut on_first);
    assert_eq!(on_second.get("/hello").status, 200);
    let exit = server.wait_for_record("exit", |record| record["message"] == "exit");
    assert_eq!(exit["voluntary"], Value::Bool(false), "{exit}");
    assert!(exit["cause"].as_str().is_some_and(|cause| cause.contains("injected by a test")), "{exit}");
    let worker = exit["worker"].clone();
    server.wait_for_record("respawn", |record| record["message"] == "respawn" && record["worker"] == worker);
    server.wait_for_record("online again", |record| {
        record["message"] == "online" && record["worker"] == worker && record["generation"] == 2
    });
    eventually("both workers listen", || {
        let status = server.status();
        status["workers"].as_array().is_some_and(|workers| workers.iter().all(|worker| worker["state"] == "listening"))
    });
    for _ in 0..4 {
        assert_eq!(get(server.address, "/hello").status, 200);
    }
}

#[test]
fn when_the_restart_budget_is_spent_the_host_says_so_and_exits_with_1() {
    let mut server = Server::start("faults.wasm", &["--workers", "1"]);
    for death in 1..=11_u64 {
        eventually("the worker listens", || {
            let status = server.status();
            status["workers"][0]["state"] == "listening" && status["workers"][0]["thread_generation"] == death
        });
        panic_on(&mut Connection::open(server.address));
    }
    let status = server.wait_for_exit();
    assert_eq!(status.code(), Some(1));
    eventually("it says why", || server.lines().iter().any(|line| line.contains("restart budget")));
}
