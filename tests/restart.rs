//! `wasmhost restart`: workers are replaced one after another, and no client loses a request.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::{
    Connection, Finished, Runtime, Server, TestResult, command, eventually, get, guest, message, under_load,
};

fn host(runtime: &Runtime, component: &str, flags: &[&str]) -> Server {
    let mut host = command();
    host.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    if !flags.contains(&"--workers") {
        host.args(["--workers", "2"]);
    }
    host.args(flags);
    Server::spawn(runtime.of_host(host))
}

fn restart(runtime: &Runtime, words: &[&str]) -> Finished {
    runtime.ask(&[&["restart"], words].concat())
}

/// How often each worker has been started.
fn generations(server: &Server) -> Vec<u64> {
    let status = server.status();
    let workers = status["workers"].as_array().expect("workers");
    workers.iter().map(|worker| worker["thread_generation"].as_u64().expect("a number")).collect()
}

#[test]
fn no_request_on_new_or_kept_connections_fails_while_workers_are_replaced() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, "hello.wasm", &["--worker-kind", kind]);
        let before = generations(&server);
        let answered = under_load(server.address, || {
            for _ in 0..3 {
                let restarted = restart(&runtime, &["--json"]);
                assert_eq!(restarted.code, Some(0), "{kind}: {}", restarted.stderr);
                let outcome: Value = serde_json::from_str(&restarted.stdout)?;
                assert_eq!(outcome["restarted"], serde_json::json!([1, 2]), "{kind}");
            }
            Ok(())
        })?;
        let after: Vec<u64> = before.iter().map(|times| times + 3).collect();
        assert_eq!(generations(&server), after, "{kind}");
        assert!(answered > 100, "{kind}: {answered}");
        // They were told to: none counts as a crash.
        assert!(
            server.records(|record| message(record) == "exit" && record["voluntary"] == false).is_empty(),
            "{kind}"
        );
    }
    Ok(())
}

/// The primary holds requests for a group while none of its workers can take them.
#[test]
fn requests_for_a_groups_only_worker_wait_while_it_is_replaced() -> TestResult {
    let runtime = Runtime::new()?;
    let folder =
        Folder::new(&format!("worker-kind = \"process\"\n{}", app("slow", "faults.wasm", "*", "group = \"apart\"")))?;
    let server = Server::spawn(runtime.of_host(folder.command(&["--workers", "1"])));
    assert_eq!(ask_until_loaded(server.address, "test", "/hello").status, 200);
    let status = server.status();
    let workers = status["workers"].as_array().ok_or("workers")?;
    let apart = workers.iter().find(|worker| worker["group"] == "apart").ok_or("a worker of the group")?;
    let mut long = Connection::open(server.address);
    long.send("GET /sleep?ms=4000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it sleeps", || server.sum("in_flight") > 0);
    std::thread::scope(|scope| -> TestResult {
        let restart = scope.spawn(|| restart(&runtime, &["--worker", &apart["worker"].to_string()]));
        server.wait_for_record("it leaves", |record| message(record) == "disconnect");
        let began = Instant::now();
        let waited = get(server.address, "/hello");
        assert_eq!((waited.status, waited.text()), (200, "Hello, World!".to_owned()));
        assert!(began.elapsed() > Duration::from_secs(1), "it was to wait: {:?}", began.elapsed());
        assert_eq!(long.response().text(), "slept");
        let restarted = restart.join().map_err(|_| "the command")?;
        assert_eq!(restarted.code, Some(0), "{}", restarted.stderr);
        Ok(())
    })
}

#[test]
fn one_worker_is_replaced_when_its_requests_have_ended_or_their_time_is_over() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, "faults.wasm", &["--worker-kind", kind, "--drain-timeout", "3s"]);
        let before = generations(&server);
        // On both workers, one that ends in time and one that does not.
        let mut short: Vec<_> = (0..2).map(|_| Connection::open(server.address)).collect();
        for connection in &mut short {
            connection.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("they sleep", || server.sum("in_flight") == 2);
        let began = Instant::now();
        let restarted = restart(&runtime, &["--worker", "2"]);
        assert_eq!(restarted.code, Some(0), "{kind}: {}", restarted.stderr);
        assert!(restarted.stdout.ends_with(": restarted 2\n"), "{kind}: {}", restarted.stdout);
        assert!(began.elapsed() >= Duration::from_millis(1_000), "{kind}: it has waited for the request");
        for connection in &mut short {
            assert_eq!(connection.response().status, 200, "{kind}");
        }
        assert_eq!(generations(&server), [before[0], before[1] + 1], "{kind}");
        let mut long: Vec<_> = (0..2).map(|_| Connection::open(server.address)).collect();
        for connection in &mut long {
            connection.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("they sleep", || server.sum("in_flight") == 2);
        let restarted = restart(&runtime, &["--worker", "1"]);
        assert_eq!(restarted.code, Some(0), "{kind}: {}", restarted.stderr);
        server.wait_for_record("why", |record| {
            record["limit"] == "--drain-timeout"
                && message(record).starts_with("--drain-timeout is over: requests of this worker")
        });
        eventually("the other one goes on", || server.sum("in_flight") == 1);
        assert_eq!(get(server.address, "/status?code=201").status, 201);
        // What is no worker is refused.
        let refused = restart(&runtime, &["--worker", "3"]);
        assert_eq!(refused.code, Some(1), "{kind}");
        assert!(refused.stderr.contains("they have the numbers 1, 2"), "{kind}: {}", refused.stderr);
    }
    Ok(())
}

#[test]
fn a_client_without_a_request_is_disconnected_in_time_and_one_worker_alone_comes_back() -> TestResult {
    for balance in ["round-robin", "kernel"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, "hello.wasm", &["--workers", "1", "--balance", balance]);
        let mut idle = Connection::open(server.address);
        idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(idle.response().status, 200);
        let restarted = restart(&runtime, &[]);
        assert_eq!(restarted.code, Some(0), "{balance}: {}", restarted.stderr);
        idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(idle.try_response(false).is_none(), "{balance}: its connection had its time");
        assert_eq!(get(server.address, "/").status, 200, "{balance}");
        assert_eq!(generations(&server), [2], "{balance}");
    }
    Ok(())
}
