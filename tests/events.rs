//! Events: `wasmhost events`, and `/events` of the admin page.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::apps::{Folder, app, ask_until_loaded, reload};
use crate::support::server::signal;
use crate::support::{Runtime, Server, TestResult, eventually, get, run};

/// The events that a host has kept.
fn events(server: &Server) -> Vec<Value> {
    let answer = get(server.admin_address(), "/events");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jsonl")));
    answer.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The number of the last event.
fn last_of(server: &Server) -> u64 {
    events(server).last().and_then(|event| event["id"].as_u64()).expect("an event with a number")
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

/// A follower that is ended with the test.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_life_of_workers_instances_and_apps_is_told_in_order() -> TestResult {
    for kind in ["thread", "process"] {
        let one = app("one", "faults.wasm", "one.test/*", "");
        let folder = Folder::new(&one)?;
        let server = folder.serve(&["--worker-kind", kind]);
        assert_eq!(ask_until_loaded(server.address, "one.test", "/status?code=201").status, 201);
        let seen = events(&server);
        for worker in [1, 2] {
            let of_it = seen.iter().filter(|event| event["worker"] == worker);
            let names: Vec<_> = of_it.filter_map(|event| event["event"].as_str()).collect();
            assert_eq!(names, ["fork", "online", "listening"], "{kind}");
        }
        assert_eq!(of_kind(&seen, "host").last().map(|event| &event["phase"]), Some(&"running".into()));
        let ids: Vec<_> = seen.iter().filter_map(|event| event["id"].as_u64()).collect();
        assert_eq!(ids, (ids[0]..ids[0] + ids.len() as u64).collect::<Vec<_>>());
        // An instance is given up, where guests run.
        assert_eq!(ask_until_loaded(server.address, "one.test", "/panic").status, 500);
        eventually("its fault is told", || of_kind(&events(&server), "fault").len() == 1);
        let fault = of_kind(&events(&server), "fault")[0].clone();
        assert_eq!((&fault["app"], &fault["fault"]), (&"one".into(), &"trap".into()), "{fault}");
        assert!(fault["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{fault}");
        if kind == "process" {
            let before = last_of(&server);
            signal(server.worker_pids()[0], "KILL");
            eventually("it is there again", || {
                let later = events(&server);
                let later: Vec<_> = later.iter().filter(|event| event["id"].as_u64() > Some(before)).collect();
                let names: Vec<_> = later.iter().filter_map(|event| event["event"].as_str()).collect();
                names.starts_with(&["exit", "respawn", "fork", "online", "listening"])
            });
            let exit = of_kind(&events(&server), "exit")[0].clone();
            assert_eq!((&exit["voluntary"], &exit["cause"]), (&false.into(), &"killed by signal 9".into()), "{exit}");
        }
        // A reload that fails, for one app.
        folder.write(&(one + &app("two", "/no/such.wasm", "two.test/*", "")))?;
        server.signal("HUP");
        let states = || -> Vec<Value> {
            of_kind(&events(&server), "reload").iter().map(|event| event["state"].clone()).collect()
        };
        eventually("the reload is told", || states().len() == 2);
        assert_eq!(states()[0], "begun", "{kind}");
        eventually("the other app is told", || {
            of_kind(&events(&server), "app").iter().any(|event| event["app"] == "two")
        });
    }
    Ok(())
}

#[test]
fn a_command_follows_events_and_ends_with_the_host() -> TestResult {
    let runtime = Runtime::new()?;
    let folder = Folder::new(&app("one", "faults.wasm", "one.test/*", ""))?;
    let mut server = Server::spawn(runtime.of_host(folder.command(&[])));
    let asks = |words: &[&str]| runtime.command(words);
    let shown = run(asks(&["events"]));
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.lines().any(|line| line.contains("Z  listening    worker=2")), "{}", shown.stdout);
    // (When it is loaded, nothing more happens by itself.)
    assert_eq!(ask_until_loaded(server.address, "one.test", "/status?code=201").status, 201);
    let last = last_of(&server);
    let after = run(asks(&["events", "--json", "--after", &(last - 1).to_string()]));
    assert_eq!(after.stdout.lines().count(), 1, "{}", after.stdout);
    assert_eq!(serde_json::from_str::<Value>(&after.stdout)?["id"], last);
    let mut follow = asks(&["events", "--json", "--follow", "--after", &last.to_string()]);
    let mut following = Following(follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
    let mut lines = BufReader::new(following.0.stdout.take().ok_or("its output")?).lines();
    assert_eq!(ask_until_loaded(server.address, "one.test", "/panic").status, 500);
    let fault = lines.by_ref().map_while(Result::ok).find(|line| line.contains("\"fault\"")).ok_or("a fault")?;
    assert_eq!(serde_json::from_str::<Value>(&fault)?["app"], "one");
    // With the host it ends, and says so.
    server.signal("TERM");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(lines.map_while(Result::ok).any(|line| line.contains("\"draining\"")));
    assert_eq!(following.0.wait()?.code(), Some(1));
    let mut told = String::new();
    following.0.stderr.take().ok_or("its errors")?.read_to_string(&mut told)?;
    assert!(told.contains("error: ") && told.contains("hint: "), "{told}");
    Ok(())
}

#[test]
fn an_app_that_is_taken_out_of_the_file_is_told_as_removed() -> TestResult {
    let one = app("one", "hello.wasm", "one.test/*", "");
    let folder = Folder::new(&(one.clone() + &app("other", "hello.wasm", "other.test/*", "")))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "other.test", "/").status, 200);
    folder.write(&one)?;
    reload(&server);
    let all = events(&server);
    let removed: Vec<_> = of_kind(&all, "app").into_iter().filter(|event| event["state"] == "removed").collect();
    assert_eq!(removed.len(), 1, "{all:?}");
    assert_eq!((&removed[0]["app"], &removed[0]["revision"]), (&"other".into(), &1.into()));
    Ok(())
}

#[test]
fn a_browser_gets_server_sent_events_and_goes_on_after_its_last_one() -> TestResult {
    let folder = Folder::new(&app("one", "faults.wasm", "one.test/*", ""))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "one.test", "/status?code=201").status, 201);
    let last = last_of(&server) - 1;
    let mut stream = TcpStream::connect(server.admin_address())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30)))?;
    let head =
        format!("GET /events HTTP/1.1\r\nHost: test\r\nAccept: text/event-stream\r\nLast-Event-ID: {last}\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head[0].contains("200") && head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
    let mut next = || lines.by_ref().find(|line| line.starts_with("id: "));
    assert_eq!(next(), Some(format!("id: {}", last + 1)));
    assert_eq!(ask_until_loaded(server.address, "one.test", "/panic").status, 500);
    assert_eq!(next(), Some(format!("id: {}", last + 2)), "it comes by itself");
    // What is no number is refused.
    assert_eq!(get(server.admin_address(), "/events?after=x").status, 400);
    Ok(())
}
