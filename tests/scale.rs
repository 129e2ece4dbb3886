//! `wasmhost scale` and the limits of workers: their number changes, or they are replaced, and no client loses a request.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Connection, Finished, Runtime, Server, TestResult, command, eventually, eventually_within, get, guest, message,
    under_load,
};

fn host(runtime: &Runtime, component: &str, flags: &[&str]) -> Server {
    let mut host = command();
    host.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    host.args(flags);
    Server::spawn(runtime.of_host(host))
}

/// The workers that there shall be, by their numbers.
fn present(server: &Server) -> Vec<u64> {
    let status = server.status();
    let workers = status["workers"].as_array().expect("workers").iter();
    workers
        .filter(|worker| worker["state"] != "left")
        .map(|worker| worker["worker"].as_u64().expect("number"))
        .collect()
}

/// The samples of a metric.
fn samples(server: &Server, name: &str) -> Vec<u64> {
    let page = server.admin("/metrics").text();
    let of_it = page.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    // (All are whole numbers, written with a fraction.)
    of_it.filter_map(|line| line.rsplit(' ').next()?.trim_end_matches(".0").parse().ok()).collect()
}

/// What the number becomes.
const ROUND: [u64; 4] = [4, 1, 3, 2];

#[test]
fn no_request_on_new_or_kept_connections_fails_while_the_number_of_workers_changes() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, "hello.wasm", &["--worker-kind", kind, "--workers", "2", "--workers-max", "4"]);
        let answered = under_load(server.address, || {
            for workers in ROUND.repeat(25) {
                let before = present(&server).len();
                let scaled = runtime.ask(&["scale", &workers.to_string(), "--json"]);
                assert_eq!(scaled.code, Some(0), "{kind}: {}", scaled.stderr);
                let outcome: Value = serde_json::from_str(&scaled.stdout)?;
                assert_eq!((&outcome["before"], &outcome["workers"]), (&json!(before), &json!(workers)), "{kind}");
                assert_eq!(present(&server), (1..=workers).collect::<Vec<u64>>(), "{kind}");
                let running = |worker: &&Value| worker["state"] == "listening";
                let status = server.status();
                let listening = status["workers"].as_array().expect("workers").iter().filter(running).count();
                assert_eq!(listening as u64, workers, "{kind}: it answers when they listen, or have ended");
            }
            Ok(())
        })?;
        assert!(answered > 100, "{kind}: {answered}");
        // What those that left have counted is still counted, and that they take no connections is no alarm.
        assert_eq!(samples(&server, "wasmhost_responses_total").iter().sum::<u64>(), answered, "{kind}");
        assert_eq!(samples(&server, "wasmhost_worker_up"), [1, 1], "{kind}");
        assert!(
            server.records(|record| message(record) == "exit" && record["voluntary"] == false).is_empty(),
            "{kind}"
        );
        let events = runtime.ask(&["events", "--json"]);
        let events = events.stdout.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        let scales: Vec<_> =
            events.iter().filter(|event| event["event"] == "scale").map(|event| &event["workers"]).collect();
        // (The first may have made room for later events.)
        assert!(scales.len() > 40, "{kind}: {scales:?}");
        assert_eq!(scales, ROUND.repeat(25)[100 - scales.len()..], "{kind}");
    }
    Ok(())
}

#[test]
fn requests_of_workers_that_leave_are_finished_or_broken_off_in_time_and_some_come_back_meanwhile() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let flags = ["--worker-kind", kind, "--workers", "2", "--drain-timeout", "3s"];
        let server = host(&runtime, "faults.wasm", &flags);
        let mut connections: Vec<_> = (0..2).map(|_| Connection::open(server.address)).collect();
        for (connection, ms) in connections.iter_mut().zip([1_500, 1_500]) {
            connection.send(format!("GET /sleep?ms={ms} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        eventually("they sleep", || server.sum("in_flight") == 2);
        // It comes back before it has left.
        let (fewer, more) = thread::scope(|scope| {
            let fewer = scope.spawn(|| runtime.ask(&["scale", "1"]));
            eventually("one leaves", || present(&server) == [1]);
            let more = runtime.ask(&["scale", "2"]);
            (fewer.join(), more)
        });
        let fewer = fewer.map_err(|_| "the command failed")?;
        assert_eq!((fewer.code, more.code), (Some(0), Some(0)), "{kind}: {} {}", fewer.stderr, more.stderr);
        for connection in &mut connections {
            assert_eq!(connection.response().status, 200, "{kind}");
        }
        let generations = |server: &Server| server.sum("thread_generation");
        assert_eq!((present(&server), generations(&server)), (vec![1, 2], 3), "{kind}");
        let mut long: Vec<_> = (0..2).map(|_| Connection::open(server.address)).collect();
        for connection in &mut long {
            connection.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        eventually("they sleep", || server.sum("in_flight") == 2);
        let scaled = runtime.ask(&["scale", "1"]);
        assert_eq!(scaled.code, Some(0), "{kind}: {}", scaled.stderr);
        assert!(scaled.stdout.ends_with(": 1 workers, ended 2\n"), "{kind}: {}", scaled.stdout);
        assert_eq!((server.sum("in_flight"), present(&server)), (1, vec![1]), "{kind}");
    }
    Ok(())
}

#[test]
fn a_number_that_there_cannot_be_is_refused_with_a_way_out() -> TestResult {
    let runtime = Runtime::new()?;
    let server = host(&runtime, "hello.wasm", &["--workers", "1", "--workers-max", "2"]);
    for (words, reason) in [
        (
            &["scale", "3"][..],
            "3 workers are more than --workers-max allows, which is 2; restart the host with a higher one",
        ),
        (&["scale", "0"], "a host has 1 worker at least; `wasmhost stop` ends it"),
        (&["scale", "2", "--group", "g"], "there is no group `g`"),
        (&["scale", "2", "--group", "a/b"], "there is no group `a/b`"),
    ] {
        let refused = runtime.ask(words);
        assert_eq!(refused.code, Some(1), "{words:?}: {}", refused.stdout);
        assert!(refused.stderr.contains(reason), "{words:?}: {}", refused.stderr);
    }
    assert_eq!(runtime.ask(&["scale", "many"]).code, Some(2));
    assert_eq!(runtime.ask(&["scale", "1"]).stdout.trim_end().rsplit(' ').next(), Some("before"));
    assert_eq!(present(&server), [1]);
    drop(server);
    let server = host(&runtime, "hello.wasm", &["--workers", "2", "--balance", "kernel"]);
    let refused = runtime.ask(&["scale", "1"]);
    assert!(refused.stderr.contains("--balance kernel"), "{}", refused.stderr);
    assert_eq!(present(&server), [1, 2]);
    Ok(())
}

#[test]
fn a_worker_that_is_killed_while_it_leaves_is_not_started_again() -> TestResult {
    let runtime = Runtime::new()?;
    let server = host(&runtime, "faults.wasm", &["--worker-kind", "process", "--workers", "2"]);
    let mut connections: Vec<_> = (0..2).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        connection.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    eventually("they sleep", || server.sum("in_flight") == 2);
    let second = server.status()["workers"][1]["thread"].as_i64().ok_or("no process")?;
    let scaled = thread::scope(|scope| {
        let scaled = scope.spawn(|| runtime.ask(&["scale", "1"]));
        eventually("it leaves", || present(&server) == [1]);
        let pid = i32::try_from(second).ok().and_then(rustix::process::Pid::from_raw).ok_or("no number")?;
        rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
        scaled.join().map_err(|_| "the command failed".into())
    });
    let scaled: Finished = scaled.map_err(|error: Box<dyn std::error::Error>| error.to_string())?;
    assert_eq!(scaled.code, Some(0), "{}", scaled.stderr);
    assert_eq!((present(&server), server.sum("thread_generation")), (vec![1], 2));
    Ok(())
}

#[test]
fn workers_that_have_reached_a_limit_are_replaced_and_no_request_fails() -> TestResult {
    for (kind, limit, reason) in [
        ("thread", ["--worker-max-requests", "200"], "requests"),
        ("process", ["--worker-max-age", "1s"], "age"),
        ("process", ["--worker-max-memory", "1"], "memory"),
    ] {
        let runtime = Runtime::new()?;
        let flags = ["--worker-kind", kind, "--workers", "2", limit[0], limit[1]];
        let server = host(&runtime, "hello.wasm", &flags);
        under_load(server.address, || {
            // (For its memory, one is replaced after 10 s at the earliest.)
            eventually_within(Duration::from_secs(60), "both are replaced", || {
                let status = server.status();
                let workers = status["workers"].as_array().expect("workers");
                workers.iter().all(|worker| worker["thread_generation"].as_u64() > Some(1))
            });
            Ok(())
        })?;
        assert!(server.status()["retired_workers"][reason].as_u64() >= Some(2), "{reason}");
        assert!(
            server.records(|record| message(record) == "exit" && record["voluntary"] == false).is_empty(),
            "{reason}"
        );
    }
    Ok(())
}

#[test]
fn a_reload_follows_the_number_of_workers_in_the_file_when_that_changes() -> TestResult {
    let runtime = Runtime::new()?;
    let file = runtime.path().join("wasmhost.toml");
    let write = |workers: u16| {
        let text = format!(
            "workers = {workers}\nworkers-max = 3\nlisten = \"127.0.0.1:0\"\n[[app]]\nname = \"a\"\ncomponent = {:?}\nroutes = [\"*\"]\ngroup = \"g\"\n",
            guest("hello.wasm")
        );
        std::fs::write(&file, text)
    };
    write(1)?;
    let mut command = command();
    command.arg("-c").arg(&file).args(["--admin", "127.0.0.1:0", "--log-format", "json"]);
    let server = Server::spawn(runtime.of_host(command));
    assert_eq!(present(&server), [1, 2], "one that takes connections, and one of the group");
    write(2)?;
    let reload = |failed| {
        let reloaded = runtime.ask(&["reload", "--json"]);
        assert_eq!(reloaded.code, Some(i32::from(failed)), "{}", reloaded.stderr);
    };
    reload(false);
    eventually("both have two", || present(&server) == [1, 2, 3, 5]);
    assert_eq!(get(server.address, "/").status, 200);
    // What was chosen by hand stays while the file says the same.
    assert_eq!(runtime.ask(&["scale", "3", "--group", "g"]).code, Some(0));
    reload(false);
    assert_eq!(present(&server), [1, 2, 3, 5, 6]);
    write(1)?;
    reload(false);
    eventually("both have one", || present(&server) == [1, 2]);
    write(4)?;
    reload(true);
    assert_eq!(present(&server), [1, 2]);
    Ok(())
}
