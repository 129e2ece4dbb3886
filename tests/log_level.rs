//! The level of the log, and whether it has requests, change while a host runs: by a command, and by a reload of its file.

use serde_json::{Value, json};

use crate::support::apps::{Folder, app, ask_until_loaded, reload};
use crate::support::{Connection, Runtime, Server, TestResult, command, eventually, get, guest, message};

/// A host of guests that write.
fn host(runtime: &Runtime, kind: &str) -> Server {
    let mut host = command();
    host.arg(guest("faults.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json", "--workers", "2"]);
    host.args(["--worker-kind", kind, "--admin", "127.0.0.1:0"]);
    Server::spawn(runtime.of_host(host))
}

/// The workers whose guests' lines of so many bytes are in the log.
fn heard(server: &Server, bytes: usize) -> Vec<u64> {
    let is_one = |record: &Value| {
        record["target"] == "guest" && message(record).strip_prefix("out 0 ").is_some_and(|text| text.len() == bytes)
    };
    let mut workers: Vec<u64> = server.records(is_one).iter().filter_map(|record| record["worker"].as_u64()).collect();
    workers.sort_unstable();
    workers.dedup();
    workers
}

/// Has guests of all workers write lines of so many bytes.
fn write(server: &Server, bytes: usize) {
    for _ in 0..8 {
        assert_eq!(get(server.address, &format!("/log?lines=1&bytes={bytes}")).status, 200);
    }
}

/// Asks for a change, and checks what is said of it.
#[track_caller]
fn set(runtime: &Runtime, level: &str, before: &str) {
    let changed = runtime.ask(&["log-level", level, "--json"]);
    assert_eq!(changed.code, Some(0), "{}", changed.stderr);
    let outcome: Value = serde_json::from_str(&changed.stdout).expect("JSON");
    assert_eq!(outcome, json!({ "before": before, "level": level }));
}

#[test]
fn a_level_holds_for_all_workers_and_for_those_that_start_later() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = Runtime::new()?;
        let server = host(&runtime, kind);
        let shown = runtime.ask(&["log-level"]);
        assert_eq!((shown.code, &*shown.stdout), (Some(0), "info\n"), "{}", shown.stderr);
        write(&server, 5);
        eventually("both workers are heard", || heard(&server, 5) == [1, 2]);

        set(&runtime, "error", "info");
        assert_eq!(server.status()["log_level"], "error");
        // A worker's process hears of it a moment later.
        let mut bytes = 10;
        eventually("no worker is heard", || {
            bytes += 1;
            write(&server, bytes);
            let told = runtime.ask(&["log-level", "error"]);
            assert!(told.stdout.contains("is error, as before"), "{}", told.stdout);
            heard(&server, bytes).is_empty()
        });
        // Those that take the place of others are as silent.
        assert_eq!(runtime.ask(&["restart"]).code, Some(0));
        write(&server, 6);
        set(&runtime, "debug", "error");
        eventually("both workers are heard again", || {
            write(&server, 7);
            heard(&server, 7) == [1, 2]
        });
        assert_eq!(heard(&server, 6), [0_u64; 0], "{kind}");
        let told = server.wait_for_record("the change", |record| record["log_level"] == "debug");
        assert!(message(&told).starts_with("log: what it shows") && told["access_log"] == false, "{told}");

        let events = runtime.ask(&["events", "--json"]);
        let events = events.stdout.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        let levels: Vec<_> =
            events.iter().filter(|event| event["event"] == "log").map(|event| &event["level"]).collect();
        assert_eq!(levels, ["error", "debug"], "{kind}");

        let wrong = runtime.ask(&["log-level", "loud"]);
        assert!(wrong.code == Some(2) && wrong.stderr.contains("debug"), "{}", wrong.stderr);
        // Over TCP, nobody changes it without the token.
        let mut connection = Connection::open(server.admin_address());
        connection.send("POST /log-level/error HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(connection.response().status, 403);
        assert_eq!(server.admin("/log-level").text(), "{\"level\":\"debug\"}\n");
    }
    Ok(())
}

#[test]
fn a_reload_follows_the_log_of_the_file_and_refuses_the_rest_by_name() -> TestResult {
    for kind in ["thread", "process"] {
        let one = app("one", "faults.wasm", "one.test/*", "");
        let file = |settings: &str| format!("{settings}\n{one}");
        let first = format!("worker-kind = \"{kind}\"\nlog-level = \"info\"\n");
        let settings = Folder::new(&file(&first))?;
        let runtime = Runtime::new()?;
        let mut command = settings.command(&[]);
        command.env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(runtime.of_host(command));
        assert_eq!(ask_until_loaded(server.address, "one.test", "/status?code=201").status, 201);
        let requests = || server.records(|record| record["target"] == "access").len();

        settings.write(&file(&(first.clone() + "access-log = true\n")))?;
        reload(&server);
        eventually("requests are logged", || {
            ask_until_loaded(server.address, "one.test", "/status?code=202");
            requests() > 0
        });
        assert!(server.records(|record| record["target"] == "access" && record["status"] == 201).is_empty(), "{kind}");

        // What a command has changed stays while the file says the same.
        set(&runtime, "debug", "info");
        reload(&server);
        assert_eq!(server.status()["log_level"], "debug", "{kind}");
        let other = if kind == "thread" { "process" } else { "thread" };
        settings.write(&file(&format!("worker-kind = \"{other}\"\nlog-level = \"warn\"\naccess-log = true\n")))?;
        server.signal("HUP");
        let refused = server.wait_for_record("what is refused", |record| message(record).contains("restart the host"));
        assert_eq!(
            message(&refused),
            "reload: worker-kind changed, which has no effect yet: restart the host to apply it"
        );
        assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("`wasmhost upgrade`")), "{refused}");
        eventually("it is followed", || server.status()["log_level"] == "warn");
        let before = requests();
        eventually("requests are logged no more", || {
            let seen = requests();
            ask_until_loaded(server.address, "one.test", "/status?code=203");
            ask_until_loaded(server.address, "one.test", "/trap");
            requests() == seen
        });
        assert!(before > 0);
    }
    Ok(())
}
