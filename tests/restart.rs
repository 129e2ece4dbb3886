//! `wasmhost restart`: workers are replaced one after another, and no client loses a request.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use h2::Reason;
use serde_json::Value;
use tokio_rustls::rustls::ClientConfig;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::http2::{Asked, Http2};
use crate::support::tls::{Authority, TlsClient, VERSIONS};
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

/// Over TLS, with HTTP/1.1 and HTTP/2, to an app of workers that take connections and one of a group.
#[test]
fn no_request_over_tls_or_to_a_group_fails_while_workers_are_replaced_and_their_number_changes() -> TestResult {
    let (runtime, authority) = (Runtime::new()?, Authority::new());
    let apps =
        app("front", "hello.wasm", "front.test/*", "") + &app("apart", "hello.wasm", "apart.test/*", "group = \"a\"");
    let folder = Folder::new(&format!("worker-kind = \"process\"\n{apps}"))?;
    let files = authority.server(folder.path(), "site", &["front.test", "apart.test"], 30).flags();
    let flags = [&["--workers-max", "4"], &files.each_ref().map(String::as_str)[..]].concat();
    let server = Server::spawn(runtime.of_host(folder.command(&flags)));
    let (address, config) = (server.address, authority.trusted(VERSIONS, None));
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let http1 = |host: &str, keeps: bool| -> std::io::Result<()> {
        let mut client = None;
        while !is_over.load(Relaxed) {
            let mut open = match client.take().filter(|_| keeps) {
                Some(open) => open,
                None => TlsClient::open(address, &config, host)?,
            };
            let answer = open.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
            assert_eq!((answer.status, answer.text()), (200, "Hello, World!".to_owned()), "{host}");
            answers.fetch_add(1, Relaxed);
            client = (answer.header("connection") != Some("close")).then_some(open);
        }
        Ok(())
    };
    let http2 = |host: &str| -> std::io::Result<()> {
        let open = || Http2::open_tls(address, ClientConfig::clone(&config), host);
        let mut client = open()?;
        while !is_over.load(Relaxed) {
            match client.ask(Asked { authority: Some(host.to_owned()), ..Asked::get("/") }) {
                Ok(answer) => {
                    assert_eq!((answer.status, answer.text()), (200, "Hello, World!".to_owned()), "{host}");
                    answers.fetch_add(1, Relaxed);
                }
                // The server has not taken it (RFC 9113, section 6.8).
                Err(error) if error.reason() == Some(Reason::NO_ERROR) => client = open()?,
                Err(error) => return Err(std::io::Error::other(error)),
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| -> TestResult {
        let mut clients = Vec::new();
        for host in ["front.test", "apart.test"] {
            assert_eq!(
                TlsClient::open(address, &config, host)?
                    .ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?
                    .status,
                200
            );
            clients.push(scope.spawn(move || http1(host, true)));
            clients.push(scope.spawn(move || http1(host, false)));
            clients.push(scope.spawn(move || http2(host)));
        }
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for words in [
                &["restart"][..],
                &["scale", "4"],
                &["restart"],
                &["scale", "1"],
                &["scale", "2", "--group", "a"],
                &["reload"],
            ] {
                let done = runtime.ask(words);
                assert_eq!(done.code, Some(0), "{words:?}: {}", done.stderr);
            }
        }));
        is_over.store(true, Relaxed);
        for client in clients {
            client.join().map_err(|_| "a request failed")??;
        }
        changed.map_err(|_| "a command failed")?;
        Ok(())
    })?;
    assert!(answers.load(Relaxed) > 100, "{answers:?}");
    let crashes = server.records(|record| message(record) == "exit" && record["voluntary"] == false);
    assert_eq!(crashes.len(), 0, "{crashes:?}");
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
