//! Commands for hosts that run: `wasmhost ps`, `status`, `reload`, `stop`.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::server::signal;
use crate::support::{Connection, Runtime, Server, TestResult, command, eventually, get, guest, message};

/// A host with its socket in this directory, which is this test's alone.
fn host(runtime: &Runtime, component: &str, flags: &[&str]) -> Server {
    let mut host = command();
    host.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--log-format", "json", "--workers", "2"]).args(flags);
    Server::spawn(runtime.of_host(host))
}

/// What `ps --json` lists.
fn listed(runtime: &Runtime) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let shown = runtime.ask(&["ps", "--json"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let all: Value = serde_json::from_str(&shown.stdout)?;
    Ok(all.as_array().ok_or("a list")?.clone())
}

/// Requests in flight at the first of these hosts.
fn in_flight_at(hosts: &[Value]) -> u64 {
    let workers = hosts.first().and_then(|host| host["workers"].as_array());
    workers.map_or(0, |workers| workers.iter().filter_map(|worker| worker["in_flight"].as_u64()).sum())
}

#[test]
fn hosts_are_found_by_name_asked_and_stopped() -> TestResult {
    let runtime = Runtime::new()?;
    for words in [&["status"][..], &["reload"], &["stop"]] {
        let none = runtime.ask(words);
        assert_eq!((none.code, none.stdout.as_str()), (Some(1), ""));
        assert!(none.stderr.starts_with("error: no host runs\nhint: start one"), "{}", none.stderr);
    }
    assert_eq!(runtime.ask(&["ps"]).stdout, "no host runs\n");
    for kind in ["thread", "process"] {
        let mut one = host(&runtime, "hello.wasm", &["--worker-kind", kind]);
        let two = host(&runtime, "faults.wasm", &["--worker-kind", kind]);
        for (server, path, times) in [(&one, "/", 3), (&two, "/hello", 5), (&two, "/trap", 2)] {
            (0..times).for_each(|_| drop(get(server.address, path)));
        }
        let shown = runtime.ask(&["ps"]).stdout;
        let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "PID", "PHASE", "WORKERS", "APPS", "REQUESTS", "FAULTS", "RSS", "UPTIME"]);
        let (pid_one, pid_two) = (one.pid().to_string(), two.pid().to_string());
        assert_eq!(lines[1][..7], ["faults", pid_two.as_str(), "running", "2", "1", "7", "2"], "{shown}");
        assert_eq!(lines[2][..7], ["hello", pid_one.as_str(), "running", "2", "1", "3", "0"], "{shown}");
        let several = runtime.ask(&["status"]);
        assert_eq!(several.stderr.lines().next(), Some("error: several hosts run: faults, hello"));
        let unknown = runtime.ask(&["status", "hallo"]);
        assert_eq!(
            unknown.stderr.lines().next(),
            Some("error: no host has the name `hallo`; these run: faults, hello")
        );
        let status = runtime.ask(&["status", "faults"]).stdout;
        assert!(status.starts_with(&format!("faults: running, process {}, for ", two.pid())), "{status}");
        let stopped = runtime.ask(&["stop", "hello"]);
        assert_eq!((stopped.code, stopped.stdout.as_str()), (Some(0), "hello: stopped\n"), "{}", stopped.stderr);
        // It was gone before the command ended.
        assert!(one.wait_for_exit().success());
        assert_eq!(listed(&runtime)?.len(), 1);
        // A request that is in flight is waited for, and so is the end of the host.
        let mut in_flight = Connection::open(two.address);
        in_flight.send("GET /sleep?ms=1200 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the request is in flight", || listed(&runtime).is_ok_and(|hosts| in_flight_at(&hosts) == 1));
        let began = Instant::now();
        assert_eq!(runtime.ask(&["stop"]).stdout, "faults: stopped\n");
        assert!(began.elapsed() > Duration::from_millis(800), "{:?}", began.elapsed());
        assert_eq!(in_flight.response().text(), "slept");
        drop(two);
    }
    Ok(())
}

#[test]
fn a_reload_is_waited_for_and_its_failure_is_told() -> TestResult {
    let runtime = Runtime::new()?;
    let one = app("one", "hello.wasm", "one.test/*", "");
    let apps = Folder::new(&one)?;
    apps.component("app.wasm", "hello.wasm")?;
    let two = apps.path().join("app.wasm");
    apps.write(&(one + &app("two", two.to_str().ok_or("a path in UTF-8")?, "two.test/*", "")))?;
    let command = apps.command(&[]);
    let server = Server::spawn(runtime.of_host(command));
    assert_eq!(ask_until_loaded(server.address, "two.test", "/").status, 200);
    let name = apps.path().file_name().and_then(|name| name.to_str()).ok_or("a name")?.replace('.', "");
    let found = listed(&runtime)?;
    assert_eq!(found[0]["name"].as_str().map(|found| found.replace('.', "")), Some(name));
    let reloaded = runtime.ask(&["reload", "--json"]);
    let outcome: Value = serde_json::from_str(&reloaded.stdout)?;
    assert_eq!((reloaded.code, &outcome["failed"]), (Some(0), &Value::Bool(false)), "{}", reloaded.stdout);
    // A component that cannot be loaded.
    apps.bytes("app.wasm", b"no component")?;
    let failed = runtime.ask(&["reload"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert!(failed.stdout.contains("the reload failed") && failed.stdout.contains("  two: "), "{}", failed.stdout);
    assert_eq!(ask_until_loaded(server.address, "two.test", "/").status, 200, "the old one goes on");
    // A mistake in an app: the others are as the file has them.
    apps.component("app.wasm", "hello.wasm")?;
    apps.write(
        &(app("one", "faults.wasm", "one.test/*", "")
            + &app("two", "hello.wasm", "two.test/*", "dirs = [\"/no/such\"]")),
    )?;
    let failed = runtime.ask(&["reload", "--json"]);
    let outcome: Value = serde_json::from_str(&failed.stdout)?;
    assert_eq!((failed.code, &outcome["failed"]), (Some(1), &Value::Bool(true)), "{}", failed.stdout);
    assert_eq!(ask_until_loaded(server.address, "one.test", "/status?code=201").status, 201);
    assert_eq!(ask_until_loaded(server.address, "two.test", "/").status, 200);
    // A file with a mistake.
    apps.write("workers = \"many\"\n")?;
    let failed = runtime.ask(&["reload"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert_eq!(ask_until_loaded(server.address, "one.test", "/").status, 200);
    Ok(())
}

#[test]
fn a_host_that_hangs_delays_no_command_for_others_and_what_is_no_host_breaks_none() -> TestResult {
    let runtime = Runtime::new()?;
    let one = host(&runtime, "hello.wasm", &[]);
    let _two = host(&runtime, "faults.wasm", &[]);
    signal(one.pid(), "STOP");
    let began = Instant::now();
    let shown = runtime.ask(&["status", "faults"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(began.elapsed() < Duration::from_secs(4), "it has waited for the other");
    let silent = runtime.ask(&["status", "hello"]);
    assert!(silent.code == Some(1) && silent.stderr.contains("gave no answer: not within 5 s"), "{}", silent.stderr);
    signal(one.pid(), "CONT");
    // Somebody answers with something else.
    let socket = runtime.path().join("wasmhost/zzz.sock");
    let listener = UnixListener::bind(socket)?;
    let answers = std::thread::Builder::new().name("no host".to_owned()).spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let _ = stream.read(&mut [0; 1_000])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
    })?;
    let all = runtime.ask(&["ps", "--json"]);
    answers.join().map_err(|_| "the one that answers")??;
    assert_eq!(all.code, Some(1), "{}", all.stderr);
    assert_eq!(serde_json::from_str::<Value>(&all.stdout)?.as_array().map(Vec::len), Some(2), "{}", all.stdout);
    Ok(())
}

#[test]
fn a_reload_that_fails_for_several_apps_has_failed_once() -> TestResult {
    let (runtime, folder) = (Runtime::new()?, Folder::new("")?);
    let names = ["one", "two", "three"];
    let apps = |component: &str| names.map(|name| app(name, component, &format!("{name}.test/*"), "")).concat();
    folder.write(&apps("hello.wasm"))?;
    let server = Server::spawn(runtime.of_host(folder.command(&[])));
    for name in names {
        assert_eq!(ask_until_loaded(server.address, &format!("{name}.test"), "/").status, 200);
    }
    folder.write(&apps("/no/such.wasm"))?;
    for failed in 1..=2 {
        assert_eq!(runtime.ask(&["reload"]).code, Some(1));
        assert_eq!(server.status()["failed_reloads"], failed);
    }
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_reload_that_cannot_grant_its_stores_is_told_as_failed() -> TestResult {
    let (runtime, data) = (Runtime::new()?, crate::stores::private()?);
    let top = format!("data-dir = \"{}\"\n", data.path().display());
    let with = |stores: &str| top.clone() + &app("one", "stores.wasm", "one.test/*", &format!("stores = [{stores}]"));
    let apps = Folder::new(&with("\"default\""))?;
    let command = apps.command(&[]);
    let server = Server::spawn(runtime.of_host(command));
    let told = |path: &str| ask_until_loaded(server.address, "one.test", path).text();
    assert_eq!(told("/draft/set?value=kept"), "set");
    let mut admin = Connection::open(server.admin_address());
    admin.send("GET /healthz HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: grant\r\n\r\n");
    assert_eq!(admin.response().status, 200);
    apps.write(&with("\"default\", \"new\""))?;
    let failed = runtime.ask(&["reload"]);
    assert_eq!(failed.code, Some(1), "{}", failed.stdout);
    assert_eq!(server.status()["failed_reloads"], 1);
    server.wait_for_record("why", |record| {
        message(record).contains("the grants and quotas of stores go on as they were")
    });
    assert_eq!(told("/draft/get"), "kept");
    let again = runtime.ask(&["reload"]);
    assert_eq!(again.code, Some(0), "{}", again.stdout);
    eventually("the new one is granted", || told("/draft/set?store=new&value=2") == "set");
    Ok(())
}

#[test]
fn an_admin_address_beside_control_sockets_is_no_host_of_its_own() -> TestResult {
    let runtime = Runtime::new()?;
    let folder = runtime.path().join("wasmhost");
    std::fs::create_dir(&folder)?;
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?;
    let admin = folder.join("admin.sock");
    let admin = admin.to_str().ok_or("a path in UTF-8")?;
    let mut command = command();
    command.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    command.args(["--admin", &format!("unix:{admin}")]);
    let _host = Server::spawn(runtime.of_host(command));
    let names: Vec<_> = listed(&runtime)?.iter().map(|host| host["name"].clone()).collect();
    assert_eq!(names, ["hello"]);
    let only = runtime.ask(&["status"]);
    assert!(only.code == Some(0) && only.stdout.starts_with("hello: running"), "{}", only.stderr);
    let unknown = runtime.ask(&["status", "admin"]);
    assert_eq!(unknown.stderr.lines().next(), Some("error: no host has the name `admin`; these run: hello"));
    let named = runtime.ask(&["reload", admin]);
    assert!(named.code == Some(1) && named.stderr.contains("is the admin address of a host"), "{}", named.stderr);
    Ok(())
}

#[test]
fn a_socket_is_its_users_alone_and_one_that_was_left_behind_is_in_nobodys_way() -> TestResult {
    let runtime = Runtime::new()?;
    let mut killed = host(&runtime, "hello.wasm", &[]);
    let socket = runtime.path().join("wasmhost/hello.sock");
    let mode = |path: &Path| std::fs::metadata(path).map(|found| found.permissions().mode() & 0o777);
    assert_eq!((mode(&socket)?, mode(&runtime.path().join("wasmhost"))?), (0o600, 0o700));
    killed.signal("KILL");
    killed.wait_for_exit();
    assert!(socket.exists() && listed(&runtime)?.is_empty());
    let gone = runtime.ask(&["status", socket.to_str().ok_or("a path in UTF-8")?]);
    assert!(gone.code == Some(1) && gone.stderr.contains("no host listens on"), "{}", gone.stderr);
    // The next takes its place; a second of the same name gets another.
    let first = host(&runtime, "hello.wasm", &[]);
    let second = host(&runtime, "hello.wasm", &[]);
    let names: Vec<String> =
        listed(&runtime)?.iter().map(|host| host["name"].as_str().unwrap_or("").to_owned()).collect();
    assert_eq!(names, ["hello".to_owned(), format!("hello-{}", second.pid())]);
    assert_eq!(runtime.ask(&["stop", "hello"]).code, Some(0));
    eventually("its socket is gone", || !socket.exists());
    drop(first);
    let off = host(&runtime, "faults.wasm", &["--control", "off"]);
    assert_eq!(listed(&runtime)?.len(), 1);
    drop(off);
    let named = runtime.path().join("own.sock");
    let at = named.to_str().ok_or("a path in UTF-8")?;
    let _own = host(&runtime, "faults.wasm", &["--control", at]);
    assert!(runtime.ask(&["status", at]).stdout.contains("running"));
    Ok(())
}

#[test]
fn a_host_that_is_drained_serves_and_is_not_ready_until_that_is_undone() -> TestResult {
    let runtime = Runtime::new()?;
    let server = host(&runtime, "hello.wasm", &["--admin", "127.0.0.1:0"]);
    let ready = || server.admin("/readyz").status;
    assert_eq!(ready(), 200);
    for _ in 0..2 {
        let drained = runtime.ask(&["drain"]);
        assert_eq!((drained.code, drained.stdout.as_str()), (Some(0), "hello: not ready, and goes on serving\n"));
        assert_eq!((ready(), get(server.address, "/").status), (503, 200));
    }
    assert_eq!(server.status()["ready"], false);
    let undone = runtime.ask(&["drain", "--undo", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&undone.stdout)?, serde_json::json!({ "ready": true }));
    assert_eq!(ready(), 200);
    let events = runtime.ask(&["events", "--json"]).stdout;
    assert_eq!(events.matches("\"event\":\"readiness\"").count(), 2, "{events}");
    Ok(())
}
