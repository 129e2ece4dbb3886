//! `wasmhost upgrade`: a new process takes the place of a host, and no client loses a request; one that does not start changes
//! nothing.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::shutdown::{get_over_unix, with_handed_over};
use crate::stores::private;
use crate::support::apps::{Folder, app, ask, ask_until_loaded};
use crate::support::server::{state, try_signal, within};
use crate::support::tls::{Authority, TlsClient, VERSIONS};
use crate::support::{
    CEILING, Connection, Finished, Runtime, Server, TestResult, command, eventually, get, guest, message, under_load,
};

/// A host, and those that have taken its place: all are killed when this is dropped.
pub struct Upgraded {
    runtime: Runtime,
    server: Server,
    /// Where clients connect.
    pub place: SocketAddr,
}

impl Upgraded {
    fn start(component: &str, flags: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let mut host = command();
        host.arg(guest(component)).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        if !flags.contains(&"--listen") {
            host.args(["--listen", "127.0.0.1:0"]);
        }
        if !flags.contains(&"--workers") {
            host.args(["--workers", "2"]);
        }
        host.args(flags);
        Self::spawn(host)
    }

    /// Runs a command that serves.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(host: Command) -> Result<Self, Box<dyn std::error::Error>> {
        let runtime = Runtime::new()?;
        let mut host = runtime.of_host(host);
        host.env("TMPDIR", runtime.path());
        let server = Server::spawn(host);
        let place = server.address;
        Ok(Self { runtime, server, place })
    }

    fn upgrade(&self, words: &[&str]) -> Finished {
        self.runtime.ask(&[&["upgrade"], words].concat())
    }

    /// What `ps` lists: names, processes and phases.
    fn listed(&self) -> Vec<(String, u32, String)> {
        let shown = self.runtime.ask(&["ps", "--json"]);
        let all: Vec<Value> = serde_json::from_str(&shown.stdout).unwrap_or_default();
        let text = |host: &Value, field: &str| host[field].as_str().unwrap_or_default().to_owned();
        let pid = |host: &Value| host["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default();
        all.iter().map(|host| (text(host, "name"), pid(host), text(host, "phase"))).collect()
    }

    /// The process of the only host.
    #[track_caller]
    fn pid(&self) -> u32 {
        let listed = self.listed();
        assert_eq!(listed.len(), 1, "{listed:?}");
        listed[0].1
    }

    /// Upgrades it, and waits until the old process is gone. The new one.
    #[track_caller]
    pub fn upgraded(&self, words: &[&str]) -> u32 {
        let before = self.pid();
        let upgraded = self.upgrade(&[words, &["--json"]].concat());
        assert_eq!(upgraded.code, Some(0), "{}", upgraded.stderr);
        let outcome: Value = serde_json::from_str(&upgraded.stdout).expect("JSON");
        assert_eq!(outcome["before"], before);
        let pid = outcome["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a process");
        assert_ne!(pid, before);
        self.is_gone(before);
        eventually("only the new one is left", || self.listed().iter().map(|host| host.1).eq([pid]));
        pid
    }

    /// Waits until a process has ended.
    #[track_caller]
    fn is_gone(&self, pid: u32) {
        // (The first one is this process's child, and nobody has waited for it.)
        eventually("the process has ended", || state(pid).is_none_or(|state| state == 'Z'));
    }

    /// The host of this process serves, alone.
    #[track_caller]
    fn is_alone(&self, pid: u32) {
        eventually("it is alone", || self.listed().iter().map(|host| host.1).eq([pid]));
        assert_eq!(get(self.place, "/").status, 200);
    }
}

impl Drop for Upgraded {
    fn drop(&mut self) {
        // (In a namespace of its own, a host has another number.)
        for (_, pid, _) in self.listed().into_iter().filter(|host| host.1 > 1) {
            try_signal(pid, "KILL");
        }
    }
}

/// A program in a file of its own.
fn script(folder: &Path, name: &str, text: &str) -> std::io::Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// This program, run by a shell after `before`.
fn after(before: &str) -> String {
    format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", crate::support::server::binary())
}

fn no_request_fails(flags: &[&str], times: usize) -> TestResult {
    let host = Upgraded::start("hello.wasm", flags)?;
    let answered = under_load(host.place, || {
        for _ in 0..times {
            host.upgraded(&[]);
        }
        Ok(())
    })?;
    assert!(answered > 100, "{answered}");
    assert_eq!(host.server.admin("/readyz").status, 200);
    let crashed = host.server.records(|record| message(record) == "exit" && record["voluntary"] == false);
    assert!(crashed.is_empty(), "{crashed:?}");
    Ok(())
}

#[test]
fn no_request_on_new_or_kept_connections_fails_during_twenty_upgrades() -> TestResult {
    no_request_fails(&["--worker-kind", "thread"], 20)?;
    no_request_fails(&["--worker-kind", "process"], 20)
}

#[test]
fn no_request_fails_during_upgrades_of_a_host_whose_workers_have_their_own_sockets() -> TestResult {
    no_request_fails(&["--balance", "kernel", "--worker-kind", "process"], 5)
}

#[test]
fn a_program_that_does_not_start_changes_nothing() -> TestResult {
    let host = Upgraded::start("hello.wasm", &[])?;
    let (folder, pid) = (tempfile::tempdir()?, host.pid());
    let rows = [
        (script(folder.path(), "fails", "#!/bin/sh\nexit 7\n")?, "has ended before it was ready (exit code 7)"),
        (script(folder.path(), "hangs", "#!/bin/sh\nexec sleep 1000\n")?, "not ready within 1 s"),
        (script(folder.path(), "text", "no program")?, "error: "),
        (script(folder.path(), "other", &after("set -- --no-such-flag"))?, "unexpected `--no-such-flag`"),
        (script(folder.path(), "port", &after("set -- \"$1\" --listen 203.0.113.7:1"))?, "203.0.113.7:1"),
        (folder.path().join("none"), "No such file"),
    ];
    under_load(host.place, || {
        for (program, reason) in &rows {
            let failed = host.upgrade(&["--program", &program.to_string_lossy(), "--timeout", "1s"]);
            assert_eq!(failed.code, Some(1), "{}: {}", program.display(), failed.stdout);
            assert!(failed.stderr.contains(reason), "{}: {}", program.display(), failed.stderr);
            assert!(failed.stderr.contains("hint: "), "{}", failed.stderr);
            host.is_alone(pid);
        }
        Ok(())
    })?;
    host.upgraded(&[]);
    Ok(())
}

#[test]
fn the_new_process_reads_the_file_of_settings_and_a_mistake_in_it_changes_nothing() -> TestResult {
    let apps = Folder::new(&app("one", "hello.wasm", "one.test/*", ""))?;
    let host = Upgraded::spawn(apps.command(&[]))?;
    assert_eq!(ask_until_loaded(host.place, "one.test", "/").status, 200);
    let pid = host.pid();
    apps.write("wrokers = 2\n")?;
    let failed = host.upgrade(&[]);
    assert!(failed.code == Some(1) && failed.stderr.contains("wrokers"), "{}", failed.stderr);
    // An app that it would not serve as this one does.
    apps.component("app.wasm", "hello.wasm")?;
    let two = apps.path().join("app.wasm");
    let both = app("one", "hello.wasm", "one.test/*", "") + &app("two", &two.to_string_lossy(), "two.test/*", "");
    apps.write(&both)?;
    assert_eq!(host.runtime.ask(&["reload"]).code, Some(0));
    assert_eq!(ask_until_loaded(host.place, "two.test", "/").status, 200);
    apps.bytes("app.wasm", b"no component")?;
    let failed = host.upgrade(&[]);
    assert!(failed.code == Some(1) && failed.stderr.contains("cannot load the app `two`"), "{}", failed.stderr);
    assert_eq!(host.pid(), pid);
    assert_eq!(ask(host.place, "two.test", "/").status, 200);
    apps.component("app.wasm", "faults.wasm")?;
    host.upgraded(&[]);
    assert_eq!(ask(host.place, "two.test", "/status?code=201").status, 201);
    assert_eq!(ask(host.place, "one.test", "/").status, 200);
    Ok(())
}

#[test]
fn a_setting_that_no_reload_changes_is_changed_by_an_upgrade_and_no_request_fails() -> TestResult {
    let file = |kind: &str| format!("worker-kind = \"{kind}\"\n{}", app("one", "hello.wasm", "*", ""));
    let apps = Folder::new(&file("thread"))?;
    let mut command = apps.command(&[]);
    command.env_remove("WASMHOST_WORKER_KIND");
    let host = Upgraded::spawn(command)?;
    assert_eq!(ask_until_loaded(host.place, "one.test", "/").status, 200);
    // With threads, all workers are of the process of the host.
    let are_threads = |pid: u32| {
        let status: Value = serde_json::from_str(&host.runtime.ask(&["status", "--json"]).stdout).unwrap_or_default();
        let threads =
            status["workers"].as_array().expect("workers").iter().filter_map(|worker| worker["thread"].as_u64());
        threads.map(|thread| Path::new(&format!("/proc/{pid}/task/{thread}")).exists()).collect::<Vec<_>>()
    };
    assert_eq!(are_threads(host.pid()), [true, true]);
    let answered = under_load(host.place, || {
        for kind in ["process", "thread", "process"] {
            apps.write(&file(kind))?;
            assert_eq!(host.runtime.ask(&["reload"]).code, Some(0));
            let pid = host.upgraded(&[]);
            assert_eq!(are_threads(pid), [kind == "thread"; 2]);
        }
        Ok(())
    })?;
    assert!(answered > 100, "{answered}");
    Ok(())
}

#[test]
fn addresses_come_and_go_after_an_upgrade_as_before() -> TestResult {
    let one = app("one", "hello.wasm", "*", "");
    let with = |addresses: &str| format!("listen = [{addresses}]\n{one}");
    let (apps, sockets) = (Folder::new("")?, tempfile::tempdir()?);
    let (first, second) = (sockets.path().join("1.sock"), sockets.path().join("2.sock"));
    let unix = |path: &Path| format!("\"unix:{}\"", path.display());
    apps.write(&with(&format!("\"127.0.0.1:0\", {}", unix(&first))))?;
    let mut serve = command();
    serve.arg("-c").arg(apps.file()).args(["--log-format", "json"]);
    serve.arg("--admin").arg(format!("unix:{}", sockets.path().join("admin.sock").display()));
    let host = Upgraded::spawn(serve)?;
    for _ in 0..2 {
        host.upgraded(&[]);
        assert!(get_over_unix(&first, "/")?.ends_with("Hello, World!"));
        assert!(get_over_unix(&sockets.path().join("admin.sock"), "/healthz")?.ends_with("ok\n"));
        assert_eq!(get(host.place, "/").status, 200);
    }
    apps.write(&with(&format!("\"127.0.0.1:0\", {}", unix(&second))))?;
    assert_eq!(host.runtime.ask(&["reload"]).code, Some(0));
    eventually("the first is closed", || !first.exists());
    assert!(get_over_unix(&second, "/")?.ends_with("Hello, World!"));
    assert_eq!(get(host.place, "/").status, 200);
    // One that comes and one that goes with an upgrade.
    apps.write(&with(&format!("\"127.0.0.1:0\", {}", unix(&first))))?;
    host.upgraded(&[]);
    assert!(get_over_unix(&first, "/")?.ends_with("Hello, World!"));
    eventually("the second is gone", || !second.exists());
    assert_eq!(host.runtime.ask(&["stop"]).code, Some(0));
    assert!(!first.exists() && !sockets.path().join("admin.sock").exists(), "it removes what it was handed over");
    Ok(())
}

#[test]
fn addresses_that_speak_tls_behind_a_balancer_do_so_after_an_upgrade() -> TestResult {
    let (folder, authority) = (tempfile::tempdir()?, Authority::new());
    let files = authority.server(folder.path(), "site", &["site.test"], 30);
    let flags = files.flags();
    let flags: Vec<&str> = ["--proxy-protocol", "--trust-proxy", "127.0.0.1/32", "--access-log"]
        .into_iter()
        .chain(flags.iter().map(String::as_str))
        .collect();
    let host = Upgraded::start("hello.wasm", &flags)?;
    let config = authority.trusted(VERSIONS, None);
    let header = b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 80\r\n";
    let open = || TlsClient::open_behind(host.place, &config, "site.test", header);
    let mut kept = open()?;
    assert_eq!(kept.get("/before", "")?.status, 200);
    let upgraded = host.upgrade(&[]);
    assert_eq!(upgraded.code, Some(0), "{}", upgraded.stderr);
    let last = kept.get("/last", "")?;
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    assert_eq!(open()?.get("/after", "")?.status, 200);
    let line = host.server.wait_for_record("its line", |record| record["path"] == "/after");
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("192.0.2.7")), "{line}");
    Ok(())
}

#[test]
fn both_are_listed_while_the_old_one_finishes_its_requests_and_the_new_one_has_its_name() -> TestResult {
    let host = Upgraded::start("faults.wasm", &["--drain-timeout", "30s"])?;
    let before = host.pid();
    let mut long = Connection::open(host.place);
    long.send("GET /sleep?ms=3000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it sleeps", || host.server.sum("in_flight") == 1);
    let began = Instant::now();
    let upgraded = host.upgrade(&[]);
    assert_eq!(upgraded.code, Some(0), "{}", upgraded.stderr);
    assert!(began.elapsed() < Duration::from_secs(3), "nobody waits for the old one");
    let listed = host.listed();
    let names: Vec<(&str, &str)> = listed.iter().map(|host| (host.0.as_str(), host.2.as_str())).collect();
    assert_eq!(names, [("faults", "running"), ("faults-upgrade", "draining")], "{listed:?}");
    assert_eq!(listed[1].1, before);
    assert_eq!(get(host.place, "/hello").status, 200);
    let answer = long.response();
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("slept", Some("close")));
    host.is_gone(before);
    eventually("only the new one is left", || host.listed().len() == 1);
    assert_eq!(host.listed()[0].0, "faults");
    let sockets = std::fs::read_dir(host.runtime.path().join("wasmhost"))?;
    let sockets: Vec<_> = sockets.flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(sockets, ["faults.sock"]);
    Ok(())
}

#[test]
fn a_command_that_is_killed_leaves_one_host() -> TestResult {
    let host = Upgraded::start("hello.wasm", &[])?;
    let (folder, pid) = (tempfile::tempdir()?, host.pid());
    let begun = folder.path().join("begun");
    let slow = script(folder.path(), "slow", &after(&format!("touch {}; sleep 1", begun.display())))?;
    let before = processes_of(host.runtime.path());
    under_load(host.place, || {
        let mut upgrade = host.runtime.command(&["upgrade", "--program", &slow.to_string_lossy()]);
        let mut upgrade = upgrade.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        host.server.wait_for_record("it begins", |record| message(record).contains("is being started"));
        let other = host.upgrade(&[]);
        assert!(other.code == Some(1) && other.stderr.contains("another upgrade is under way"), "{}", other.stderr);
        eventually("the new program has begun", || begun.exists());
        upgrade.kill()?;
        upgrade.wait()?;
        host.server.wait_for_record("it ends", |record| message(record).contains("the command has ended"));
        // What it has started ends as well.
        eventually("the new process is gone", || processes_of(host.runtime.path()) == before);
        host.is_alone(pid);
        Ok(())
    })?;
    let events = host.runtime.ask(&["events", "--json"]).stdout;
    let events = events.lines().filter_map(|line| serde_json::from_str(line).ok());
    let of_it: Vec<Value> = events.filter(|event: &Value| event["event"] == "upgrade").collect();
    let states: Vec<&str> = of_it.iter().filter_map(|event| event["state"].as_str()).collect();
    assert_eq!(states, ["begun", "failed"], "{of_it:?}");
    assert!(of_it[1]["reason"].as_str().is_some_and(|reason| reason.contains("the command has ended")), "{of_it:?}");
    host.upgraded(&[]);
    Ok(())
}

/// The processes in whose environment a folder is named: those of a host, since all have its TMPDIR.
fn processes_of(folder: &Path) -> BTreeSet<u32> {
    let folder = folder.to_string_lossy().into_owned();
    let is_of_it = |pid: &u32| {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&variables).contains(&folder)
    };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_of_it).collect()
}

#[test]
fn a_host_that_is_killed_during_an_upgrade_is_replaced_all_the_same() -> TestResult {
    let mut host = Upgraded::start("hello.wasm", &[])?;
    let (folder, pid) = (tempfile::tempdir()?, host.pid());
    let slow = script(folder.path(), "slow", &after("sleep 1"))?;
    let mut upgrade = host.runtime.command(&["upgrade", "--program", &slow.to_string_lossy()]);
    let mut upgrade = upgrade.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    host.server.wait_for_record("it begins", |record| message(record).contains("is being started"));
    // (The shell has the sockets, too, which are in its standard input.)
    host.server.signal("KILL");
    host.server.wait_for_exit();
    assert_eq!(get(host.place, "/").status, 200, "who comes meanwhile waits");
    assert_eq!(upgrade.wait()?.code(), Some(1));
    assert_ne!(host.pid(), pid);
    host.upgraded(&[]);
    Ok(())
}

#[test]
fn a_host_that_is_told_to_stop_during_an_upgrade_stops() -> TestResult {
    let mut host = Upgraded::start("hello.wasm", &[])?;
    let folder = tempfile::tempdir()?;
    let slow = script(folder.path(), "slow", &after("sleep 1"))?;
    let mut upgrade = host.runtime.command(&["upgrade", "--program", &slow.to_string_lossy()]);
    let mut upgrade = upgrade.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    host.server.wait_for_record("it begins", |record| message(record).contains("is being started"));
    host.server.signal("TERM");
    assert_eq!(host.server.wait_for_exit().code(), Some(0));
    upgrade.wait()?;
    assert!(host.listed().is_empty());
    eventually("the new process is gone, too", || processes_of(host.runtime.path()).is_empty());
    assert!(host.listed().is_empty());
    Ok(())
}

#[test]
fn what_an_operator_has_changed_of_a_host_holds_after_an_upgrade() -> TestResult {
    let host = Upgraded::start("hello.wasm", &["--workers", "2", "--workers-max", "4"])?;
    for words in [&["scale", "3"][..], &["drain"], &["log-level", "debug"]] {
        let done = host.runtime.ask(words);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
    let shown = || -> Result<(usize, bool, Value), Box<dyn std::error::Error>> {
        let status: Value = serde_json::from_str(&host.runtime.ask(&["status", "--json"]).stdout)?;
        let workers = status["workers"].as_array().ok_or("workers")?;
        let listening = workers.iter().filter(|worker| worker["state"] == "listening").count();
        Ok((listening, status["ready"].as_bool().ok_or("whether it is ready")?, status["log_level"].clone()))
    };
    assert_eq!(shown()?, (3, false, "debug".into()));
    host.upgraded(&[]);
    assert_eq!(shown()?, (3, false, "debug".into()));
    assert_eq!(host.runtime.ask(&["drain", "--undo"]).code, Some(0));
    host.upgraded(&[]);
    assert_eq!(shown()?, (3, true, "debug".into()));
    Ok(())
}

#[test]
fn a_host_that_went_back_from_a_revision_is_not_upgraded_to_it() -> TestResult {
    let file =
        "workers = 1\n[[app]]\nname = \"one\"\ncomponent = \"one.wasm\"\nroutes = [\"*\"]\nrollback-window = \"2s\"\n";
    let folder = Folder::new(file)?;
    let component = folder.path().join("one.wasm");
    std::fs::copy(guest("hello.wasm"), &component)?;
    let mut serve = command();
    serve.arg("serve").current_dir(folder.path()).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let host = Upgraded::spawn(serve)?;
    assert_eq!(ask_until_loaded(host.place, "a.test", "/").text(), "Hello, World!");
    std::fs::copy(guest("hello-p3.wasm"), &component)?;
    for words in [&["reload", "--app", "one"][..], &["rollback", "--app", "one"]] {
        let done = host.runtime.ask(words);
        assert_eq!(done.code, Some(0), "{words:?}: {}", done.stderr);
    }
    let refused = host.upgrade(&[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("after a rollback") && refused.stderr.contains(": one;"), "{}", refused.stderr);
    // The latest is served again.
    std::fs::copy(guest("faults.wasm"), &component)?;
    assert_eq!(host.runtime.ask(&["reload", "--app", "one"]).code, Some(0));
    // The new host would not go back if it fails from now on.
    let refused = host.upgrade(&[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("is watched still") && refused.stderr.contains(": one;"), "{}", refused.stderr);
    host.server.wait_for_record("it has held", |record| message(record).contains("has held"));
    host.upgraded(&[]);
    Ok(())
}

#[test]
fn a_command_that_waits_no_longer_changes_nothing() -> TestResult {
    let host = Upgraded::start("hello.wasm", &[])?;
    let (folder, pid) = (tempfile::tempdir()?, host.pid());
    let slow = script(folder.path(), "slow", &after("sleep 30"))?;
    let late = host.upgrade(&["--timeout", "300ms", "--program", &slow.to_string_lossy()]);
    assert!(late.code == Some(1) && late.stderr.contains("is not ready within 0.3 s"), "{}", late.stderr);
    host.is_alone(pid);
    host.upgraded(&[]);
    Ok(())
}

#[test]
fn a_host_with_stores_that_is_told_to_stop_while_it_leaves_stops_with_the_new_one() -> TestResult {
    for by_command in [false, true] {
        let data = private()?;
        let dir = data.path().to_str().ok_or("a path in UTF-8")?;
        let mut host = Upgraded::start("stores.wasm", &["--data-dir", dir, "--store", "default"])?;
        // A request that the old host has to finish before.
        let mut connection = Connection::open(host.place);
        connection.send("POST /draft/set?key=n&value=1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nab");
        let mut upgrade = host.runtime.command(&["upgrade"]);
        let mut upgrade = upgrade.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        host.server.wait_for_record("it leaves", |record| message(record).contains("stopping"));
        match by_command {
            true => drop(host.runtime.ask(&["stop", "stores"])),
            false => host.server.signal("TERM"),
        }
        drop(connection);
        assert_eq!(host.server.wait_for_exit().code(), Some(0), "{by_command}");
        assert_eq!(upgrade.wait()?.code(), Some(1));
        eventually("the new process is gone, too", || processes_of(host.runtime.path()).is_empty());
    }
    Ok(())
}

#[test]
fn who_follows_events_over_an_upgrade_misses_none_of_the_new_host() -> TestResult {
    let host = Upgraded::start("hello.wasm", &[])?;
    let mut follow = host.runtime.command(&["events", "--json", "--follow"]);
    let mut following = follow.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let lines = BufReader::new(following.stdout.take().ok_or("its output")?).lines().map_while(Result::ok);
    let (line, hears) = std::sync::mpsc::channel();
    let read = move || lines.for_each(|one| drop(line.send(one)));
    std::thread::Builder::new().name("events".to_owned()).spawn(read)?;
    let mut seen: Vec<Value> = Vec::new();
    let until = |what: &str, seen: &mut Vec<Value>| {
        while seen.last().is_none_or(|event| event["event"] != "host" || event["phase"] != what) {
            let line = hears.recv_timeout(CEILING).unwrap_or_else(|_| panic!("`{what}` in {seen:?}"));
            seen.push(serde_json::from_str(&line).expect("JSON"));
        }
    };
    until("running", &mut seen);
    host.upgraded(&[]);
    until("draining", &mut seen);
    let of_old = seen.len();
    until("running", &mut seen);
    following.kill()?;
    following.wait()?;
    // All that the new one has kept up to then, once and in order.
    let kept = host.runtime.ask(&["events", "--json"]).stdout;
    let kept: Vec<Value> = kept.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let of_new: Vec<&Value> =
        seen[of_old..].iter().filter(|event| event["id"].as_u64() >= kept[0]["id"].as_u64()).collect();
    assert_eq!(of_new, kept.iter().take(of_new.len()).collect::<Vec<_>>());
    assert!(of_new.len() > 4, "{of_new:?}");
    Ok(())
}

#[test]
fn a_new_host_that_reloads_while_it_waits_begins_no_schedule_before_it_serves() -> TestResult {
    let data = private()?;
    let jobs =
        "stores = [\"default\"]\n[[app.schedule]]\nname = \"each-second\"\ncron = \"* * * * * *\"\npath = \"/hello\"\n";
    let folder =
        Folder::new(&(format!("data-dir = \"{}\"\n", data.path().display()) + &app("jobs", "faults.wasm", "*", jobs)))?;
    let host = Upgraded::spawn(folder.command(&["--log-level", "debug", "--worker-kind", "thread"]))?;
    let told = |words: &str| host.server.records(|record| message(record).contains(words)).len();
    eventually("it is run", || told("schedule ended") > 0);
    let mut long = Connection::open(host.place);
    long.send("GET /sleep?ms=9000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it sleeps", || host.server.sum("in_flight") == 1);
    std::thread::scope(|scope| -> TestResult {
        let upgrade = scope.spawn(|| host.upgrade(&[]));
        // It waits until the old one, which finishes its requests, lets go of the stores.
        host.server.wait_for_record("the old one leaves", |record| message(record).starts_with("stopping: "));
        let takes_over = |pid: &u32| {
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            String::from_utf8_lossy(&variables).contains("WASMHOST_TAKES_OVER=")
        };
        let new = processes_of(host.runtime.path()).into_iter().find(takes_over).ok_or("the new process")?;
        try_signal(new, "HUP");
        eventually("it has read the file", || told("the file of settings was read") == 1);
        let before = told("schedule begins");
        // (That nothing happens takes time: it would be due twice.)
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!((told("schedule begins"), told("listening on")), (before, 1), "the new one does not serve yet");
        assert_eq!(long.response().text(), "slept");
        let upgraded = upgrade.join().map_err(|_| "the command")?;
        assert_eq!(upgraded.code, Some(0), "{}", upgraded.stderr);
        eventually("it is run again", || told("schedule begins") > before);
        // Times that passed between the two are of the new one: the last is run, and the others are counted.
        let left_out = host.server.wait_for_record("what was missed", |record| message(record) == "schedule left out");
        assert!(left_out["reason"] == "missed" && left_out["times"].as_u64() >= Some(2), "{left_out}");
        Ok(())
    })
}

#[test]
fn stores_keep_their_values_and_no_change_is_lost() -> TestResult {
    for kind in ["thread", "process"] {
        let data = private()?;
        let dir = data.path().to_str().ok_or("a path in UTF-8")?;
        let flags = ["--worker-kind", kind, "--data-dir", dir, "--store", "default"];
        let host = Upgraded::start("stores.wasm", &flags)?;
        let set = |value: u32| get(host.place, &format!("/draft/set?key=n&value={value}"));
        let read = || get(host.place, "/draft/get?key=n").text();
        assert_eq!(set(0).status, 200);
        let mut is_over = false;
        std::thread::scope(|scope| -> TestResult {
            let writes = scope.spawn(|| {
                for value in 1..400 {
                    assert_eq!(set(value).status, 200, "{kind}: {value}");
                    assert_eq!(read(), value.to_string(), "{kind}");
                }
            });
            for _ in 0..3 {
                host.upgraded(&[]);
            }
            writes.join().map_err(|_| "a request failed")?;
            is_over = true;
            Ok(())
        })?;
        assert!(is_over && read() == "399", "{kind}");
        let kept = host.runtime.ask(&["kv", "get", "stores/default", "n", "--data-dir", dir]);
        assert_eq!((kept.code, kept.stdout.trim_end()), (Some(0), "399"), "{kind}: {}", kept.stderr);
    }
    Ok(())
}

#[test(needs(FaultInjection))]
fn where_the_new_program_cannot_open_the_stores_the_old_program_serves_again() -> TestResult {
    let (data, folder) = (private()?, tempfile::tempdir()?);
    let dir = data.path().to_str().ok_or("a path in UTF-8")?;
    let host = Upgraded::start("stores.wasm", &["--data-dir", dir, "--store", "default"])?;
    assert_eq!(get(host.place, "/draft/set?key=n&value=kept").status, 200);
    let program = script(folder.path(), "broken", &after("export WASMHOST_INJECT=no-data"))?;
    let before = host.pid();
    let fallen = host.upgrade(&["--program", &program.to_string_lossy()]);
    assert!(fallen.code == Some(1) && fallen.stderr.contains("the old program serves again"), "{}", fallen.stderr);
    host.is_gone(before);
    eventually("one is left", || host.listed().len() == 1);
    assert_ne!(host.pid(), before);
    assert_eq!(get(host.place, "/draft/get?key=n").text(), "kept");
    host.upgraded(&[]);
    assert_eq!(get(host.place, "/draft/get?key=n").text(), "kept");
    Ok(())
}

#[test]
fn a_host_with_stores_whose_workers_have_their_own_sockets_is_not_upgraded() -> TestResult {
    let data = private()?;
    let dir = data.path().to_str().ok_or("a path in UTF-8")?;
    let host = Upgraded::start("stores.wasm", &["--data-dir", dir, "--store", "default", "--balance", "kernel"])?;
    let refused = host.upgrade(&[]);
    assert!(refused.code == Some(1) && refused.stderr.contains("--balance kernel"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn sockets_of_a_service_manager_go_on_and_it_hears_which_process_is_the_main_one() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = UnixDatagram::bind(&path)?;
    manager.set_read_timeout(Some(CEILING))?;
    let next = || -> std::io::Result<String> {
        let mut bytes = [0; 512];
        loop {
            let length = manager.recv(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text != "WATCHDOG=1" {
                return Ok(text);
            }
        }
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut serve = with_handed_over("hello.wasm", listener, &["--listen", "systemd", "--log-format", "json"]);
    serve.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let mut host = Upgraded::spawn(serve)?;
    assert!(next()?.starts_with("STATUS=loading"));
    assert_eq!(next()?, "READY=1\nSTATUS=serving");
    let pid = host.upgraded(&[]);
    assert_eq!(next()?, format!("MAINPID={pid}"));
    assert_eq!(next()?, "READY=1\nSTATUS=serving");
    assert_eq!(host.server.wait_for_exit().code(), Some(0));
    assert_eq!(get(host.place, "/").status, 200);
    let second = host.upgraded(&[]);
    assert_eq!((next()?, next()?.as_str()), (format!("MAINPID={second}"), "READY=1\nSTATUS=serving"));
    // The new one gives the signs of life.
    let mut bytes = [0; 512];
    let length = manager.recv(&mut bytes)?;
    assert_eq!(&bytes[..length], b"WATCHDOG=1");
    try_signal(second, "TERM");
    assert!(next()?.starts_with("STOPPING=1"));
    Ok(())
}

#[test]
fn a_service_that_systemd_hears_nothing_of_is_not_upgraded() -> TestResult {
    // (As systemd starts the process of a service of `Type=simple`.)
    let mut serve = within(&["sh", "-c", "SYSTEMD_EXEC_PID=$$ exec \"$@\"", "sh"]);
    serve.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let host = Upgraded::spawn(serve)?;
    let (pid, refused) = (host.pid(), host.upgrade(&[]));
    assert!(refused.code == Some(1) && refused.stderr.contains("Type=notify"), "{}", refused.stderr);
    host.is_alone(pid);
    Ok(())
}

#[test(needs(ProcessNamespace))]
fn the_first_process_of_a_container_is_not_upgraded() -> TestResult {
    let mut serve = within(&["unshare", "--pid", "--fork", "--kill-child"]);
    serve.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let host = Upgraded::spawn(serve)?;
    let refused = host.upgrade(&[]);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("it is process 1 of its container"),
        "{}",
        refused.stderr
    );
    assert!(refused.stderr.contains("hint: start a container with the new image"), "{}", refused.stderr);
    assert_eq!(get(host.place, "/").status, 200);
    Ok(())
}
