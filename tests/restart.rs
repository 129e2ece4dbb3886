//! `wasmhost restart`: workers are replaced one after another, and no client loses a request.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Connection, Finished, Server, TestResult, command, eventually, get, guest, message, run};

fn host(runtime: &Path, component: &str, flags: &[&str]) -> Server {
    let mut host = command();
    host.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    if !flags.contains(&"--workers") {
        host.args(["--workers", "2"]);
    }
    host.args(flags);
    host.env("XDG_RUNTIME_DIR", runtime).env("WASMHOST_CONTROL", "auto").env_remove("RUNTIME_DIRECTORY");
    Server::spawn(host)
}

fn restart(runtime: &Path, words: &[&str]) -> Finished {
    let mut asked = command();
    asked.arg("restart").args(words).env("XDG_RUNTIME_DIR", runtime).env("TMPDIR", runtime);
    asked.env_remove("RUNTIME_DIRECTORY");
    run(asked)
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
        let runtime = tempfile::tempdir()?;
        let server = host(runtime.path(), "hello.wasm", &["--worker-kind", kind]);
        let before = generations(&server);
        let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        let address = server.address;
        thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|client| {
                    let (is_over, answers) = (&is_over, &answers);
                    scope.spawn(move || {
                        let mut kept = Connection::open(address);
                        while !is_over.load(Relaxed) {
                            if client % 2 == 0 {
                                assert_eq!(get(address, "/").status, 200);
                            } else {
                                kept.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
                                let answer = kept.response();
                                assert_eq!(answer.status, 200);
                                if answer.header("connection") == Some("close") {
                                    kept = Connection::open(address);
                                }
                            }
                            answers.fetch_add(1, Relaxed);
                        }
                    })
                })
                .collect();
            let restarted: Vec<_> = (0..3).map(|_| restart(runtime.path(), &["--json"])).collect();
            is_over.store(true, Relaxed);
            for client in clients {
                client.join().map_err(|_| "a request failed")?;
            }
            for restarted in restarted {
                assert_eq!(restarted.code, Some(0), "{kind}: {}", restarted.stderr);
                let outcome: Value = serde_json::from_str(&restarted.stdout)?;
                assert_eq!(outcome["restarted"], serde_json::json!([1, 2]), "{kind}");
            }
            Ok::<(), Box<dyn std::error::Error>>(())
        })?;
        let after: Vec<u64> = before.iter().map(|times| times + 3).collect();
        assert_eq!(generations(&server), after, "{kind}");
        assert!(answers.load(Relaxed) > 100, "{kind}: {answers:?}");
        // They were told to: none counts as a crash.
        assert!(
            server.records(|record| message(record) == "exit" && record["voluntary"] == false).is_empty(),
            "{kind}"
        );
    }
    Ok(())
}

#[test]
fn one_worker_is_replaced_when_its_requests_have_ended_or_their_time_is_over() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = tempfile::tempdir()?;
        let server = host(runtime.path(), "faults.wasm", &["--worker-kind", kind, "--drain-timeout", "3s"]);
        let before = generations(&server);
        // On both workers, one that ends in time and one that does not.
        let mut short: Vec<_> = (0..2).map(|_| Connection::open(server.address)).collect();
        for connection in &mut short {
            connection.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("they sleep", || server.sum("in_flight") == 2);
        let began = Instant::now();
        let restarted = restart(runtime.path(), &["--worker", "2"]);
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
        let restarted = restart(runtime.path(), &["--worker", "1"]);
        assert_eq!(restarted.code, Some(0), "{kind}: {}", restarted.stderr);
        server.wait_for_record("why", |record| {
            record["limit"] == "--drain-timeout"
                && message(record).starts_with("--drain-timeout is over: requests of this worker")
        });
        eventually("the other one goes on", || server.sum("in_flight") == 1);
        assert_eq!(get(server.address, "/status?code=201").status, 201);
        // What is no worker is refused.
        let refused = restart(runtime.path(), &["--worker", "3"]);
        assert_eq!(refused.code, Some(1), "{kind}");
        assert!(refused.stderr.contains("they have the numbers 1, 2"), "{kind}: {}", refused.stderr);
    }
    Ok(())
}

#[test]
fn a_client_without_a_request_is_disconnected_in_time_and_one_worker_alone_comes_back() -> TestResult {
    for balance in ["round-robin", "kernel"] {
        let runtime = tempfile::tempdir()?;
        let server = host(runtime.path(), "hello.wasm", &["--workers", "1", "--balance", balance]);
        let mut idle = Connection::open(server.address);
        idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(idle.response().status, 200);
        let restarted = restart(runtime.path(), &[]);
        assert_eq!(restarted.code, Some(0), "{balance}: {}", restarted.stderr);
        idle.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(idle.try_response(false).is_none(), "{balance}: its connection had its time");
        assert_eq!(get(server.address, "/").status, 200, "{balance}");
        assert_eq!(generations(&server), [2], "{balance}");
    }
    Ok(())
}
