//! Revisions of apps: a new one is probed before it is served and watched afterwards, the host goes back from one that is bad by
//! itself or by a command, and no client loses a request to a reload.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde_json::Value;

use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload, status_of};
use crate::support::load::counted_under_load;
use crate::support::{
    Connection, Finished, Server, TestResult, command, eventually, eventually_within, get, guest, message, run,
};

/// A component's file and a host's sockets, in a directory of this test's own.
struct Deployed {
    dir: tempfile::TempDir,
}

impl Deployed {
    fn new(component: &str) -> std::io::Result<Self> {
        let deployed = Self { dir: tempfile::tempdir()? };
        deployed.replace(component)?;
        Ok(deployed)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.wasm")
    }

    fn replace(&self, component: &str) -> std::io::Result<()> {
        let new = self.dir.path().join("new");
        std::fs::copy(guest(component), &new)?;
        std::fs::rename(new, self.path())
    }

    /// A host of it with two workers, which commands find.
    fn serve(&self, flags: &[&str]) -> Server {
        let mut host = command();
        host.arg(self.path()).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        host.args(["--workers", "2"]).args(flags);
        host.env("XDG_RUNTIME_DIR", self.dir.path()).env("WASMHOST_CONTROL", "auto").env_remove("RUNTIME_DIRECTORY");
        Server::spawn(host)
    }

    fn command(&self, words: &[&str]) -> Finished {
        asked(self.dir.path(), words)
    }

    /// Replaces the component and has it loaded; true when it is served.
    fn reload(&self, component: &str) -> std::io::Result<bool> {
        self.replace(component)?;
        Ok(self.command(&["reload"]).code == Some(0))
    }
}

fn asked(runtime: &Path, words: &[&str]) -> Finished {
    let mut asked = command();
    asked.args(words).env("XDG_RUNTIME_DIR", runtime).env("TMPDIR", runtime).env_remove("RUNTIME_DIRECTORY");
    run(asked)
}

/// The only app of a host, as the status page shows it.
fn only(server: &Server) -> Value {
    server.status()["apps"][0].clone()
}

/// The revisions of an app, as the status page shows them.
fn revisions(app: &Value) -> BTreeMap<u64, String> {
    let shown = app["revisions"].as_object().cloned().unwrap_or_default();
    let number = |text: &str| text.parse().unwrap_or(0);
    shown.iter().map(|(revision, state)| (number(revision), state.as_str().unwrap_or("").to_owned())).collect()
}

fn kept(states: &[(u64, &str)]) -> BTreeMap<u64, String> {
    states.iter().map(|(revision, state)| (*revision, (*state).to_owned())).collect()
}

fn events(server: &Server, kind: &str) -> Vec<Value> {
    let text = get(server.admin_address(), "/events").text();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    all.filter(|event| event["event"] == kind).collect()
}

/// What `/metrics` has under this name with these labels.
fn metric(server: &Server, series: &str) -> Option<String> {
    let text = get(server.admin_address(), "/metrics").text();
    text.lines().find_map(|line| Some(line.strip_prefix(series)?.trim().to_owned()))
}

#[test]
fn a_new_component_that_does_not_answer_the_probe_as_it_should_is_not_served() -> TestResult {
    for kind in ["thread", "process"] {
        for (flags, reason) in [
            (
                &["--probe", "/status?code=503"][..],
                "/status?code=503 failed: the answer had the status 503, and 200-399",
            ),
            (&["--probe", "/trap"], "/trap failed: the guest faulted: "),
            (&["--probe", "/count", "--probe-body", "Hello, World!"], "has no `Hello, World!` in it"),
            (&["--probe", "/sleep?ms=60000", "--probe-timeout", "200ms"], "the answer was not there after 200ms"),
            (&["--probe", "/stream?chunks=1000&bytes=1&ms=100", "--probe-timeout", "300ms"], "not there after 300ms"),
            (&["--probe", "/trap-after-head", "--probe-status", "200"], " failed: "),
        ] {
            // Whatever it is asked, it answers 200.
            let deployed = Deployed::new("hello.wasm")?;
            let server = deployed.serve(&[&["--worker-kind", kind], flags].concat());
            assert_eq!(get(server.address, "/").text(), "Hello, World!", "{kind} {flags:?}");
            deployed.replace("faults.wasm")?;
            let failed = deployed.command(&["reload"]);
            assert_eq!(failed.code, Some(1), "{kind} {flags:?}: {}", failed.stdout);
            assert!(failed.stdout.contains(reason), "{kind} {flags:?}: {}", failed.stdout);
            let record = server.wait_for_record("why", |record| message(record).starts_with("reload failed, the old"));
            assert!(record["hint"].as_str().is_some_and(|hint| hint.contains("--probe-status")), "{record}");
            assert_eq!(get(server.address, "/status?code=503").text(), "Hello, World!", "{kind} {flags:?}");
            assert_eq!(only(&server)["revision"], 1, "{kind} {flags:?}");
        }
    }
    Ok(())
}

#[test]
fn a_probe_asks_as_a_client_does_and_what_answers_it_is_served() -> TestResult {
    for kind in ["thread", "process"] {
        let data = crate::stores::private()?;
        let probed = "probe = \"/draft/set?value=probed\"\nprobe-body = \"set\"\nstores = [\"default\"]";
        let asks = "probe = \"/request\"\nprobe-body = \"authority: probe.wasmhost.internal\"";
        let wrong = "probe = \"/status?code=404\"";
        let file = format!("data-dir = \"{}\"\n", data.path().display())
            + &app("stores", "stores.wasm", "stores.test/*", probed)
            + &app("asks", "faults-p3.wasm", "asks.test/*", asks)
            + &app("wrong", "faults.wasm", "wrong.test/*", wrong);
        let folder = Folder::new(&file)?;
        let server = folder.serve(&["--worker-kind", kind]);
        let value = ask_until_loaded(server.address, "stores.test", "/draft/get");
        assert_eq!((value.status, value.text().as_str()), (200, "probed"), "{kind}: the probe has set it");
        assert_eq!(ask_until_loaded(server.address, "asks.test", "/hello").status, 200, "{kind}");
        let refused = ask(server.address, "wrong.test", "/hello");
        assert_eq!(refused.status, 503, "{kind}");
        let wrong = status_of(&server, "wrong");
        let error = wrong["error"].as_str().unwrap_or_default();
        assert!(wrong["state"] == "failed" && error.contains("its probe /status?code=404 failed"), "{kind}: {wrong}");
        // What the probe wants is a setting, as others are.
        folder.write(&file.replace("/status?code=404", "/status?code=204"))?;
        reload(&server);
        eventually("it is served", || ask(server.address, "wrong.test", "/hello").status == 200);
    }
    Ok(())
}

#[test]
fn a_host_goes_back_to_revisions_that_it_has_kept_and_does_not_try_the_bad_one_again() -> TestResult {
    for kind in ["thread", "process"] {
        let runtime = tempfile::tempdir()?;
        let env =
            |text: &str| format!("env = {{ GREETING = \"{text}\" }}\nrollback-window = \"none\"\nrevisions-kept = 2");
        let two = |folder: &Path, greeting: &str| {
            app("two", folder.join("two.wasm").to_str().expect("UTF-8"), "two.test/*", &env(greeting))
        };
        let folder = Folder::new("")?;
        folder.component("two.wasm", "faults.wasm")?;
        folder.write(&two(folder.path(), "one"))?;
        let mut command = folder.command(&["--worker-kind", kind]);
        command.env("XDG_RUNTIME_DIR", runtime.path()).env("WASMHOST_CONTROL", "auto").env_remove("RUNTIME_DIRECTORY");
        let server = Server::spawn(command);
        let greeting = || {
            ask(server.address, "two.test", "/env")
                .text()
                .lines()
                .find_map(|line| Some(line.strip_prefix("GREETING=")?.to_owned()))
                .unwrap_or_else(|| "none".to_owned())
        };
        ask_until_loaded(server.address, "two.test", "/hello");
        assert_eq!(greeting(), "one", "{kind}");
        // Another setting, then another component.
        folder.write(&two(folder.path(), "two"))?;
        reload(&server);
        eventually("it has the setting", || greeting() == "two");
        folder.component("two.wasm", "hello.wasm")?;
        reload(&server);
        eventually("it is the component", || greeting() == "none");
        assert_eq!(revisions(&status_of(&server, "two")), kept(&[(1, "kept"), (2, "kept"), (3, "served")]), "{kind}");
        // The file is no component any more, which matters to nobody who goes back.
        folder.bytes("two.wasm", b"gone")?;
        let back = asked(runtime.path(), &["rollback"]);
        assert_eq!(back.code, Some(0), "{kind}: {}{}", back.stdout, back.stderr);
        assert!(back.stdout.contains("two went back from revision 3 to revision 2"), "{kind}: {}", back.stdout);
        // All workers serve it when the command ends.
        assert!((0..8).all(|_| greeting() == "two"), "{kind}");
        let states = kept(&[(1, "kept"), (2, "served"), (3, "bad")]);
        assert_eq!(revisions(&status_of(&server, "two")), states, "{kind}");
        folder.component("two.wasm", "hello.wasm")?;
        reload(&server);
        eventually("the file is another, which is tried", || greeting() == "none");
        let back = asked(runtime.path(), &["rollback", "--app", "two", "--to", "1", "--json"]);
        let outcome: Value = serde_json::from_str(&back.stdout)?;
        assert_eq!((&outcome["from"], &outcome["to"]), (&4.into(), &1.into()), "{kind}: {outcome}");
        assert!((0..8).all(|_| greeting() == "one"), "{kind}");
        // As the file has it, it is bad.
        reload(&server);
        assert_eq!((greeting().as_str(), &status_of(&server, "two")["revision"]), ("one", &1.into()), "{kind}");
        // Workers that start serve it, too.
        assert_eq!(asked(runtime.path(), &["restart"]).code, Some(0), "{kind}");
        assert!((0..8).all(|_| greeting() == "one"), "{kind}");
        // Who names it wants it.
        let named = asked(runtime.path(), &["reload", "--app", "two"]);
        assert_eq!(named.code, Some(0), "{kind}: {}{}", named.stdout, named.stderr);
        assert!(named.stdout.contains("reloaded two, revision 5"), "{kind}: {}", named.stdout);
        assert!((0..8).all(|_| greeting() == "none"), "{kind}");
        for (words, reason) in [
            (
                &["rollback", "--to", "77"][..],
                "no revision 77 of it is kept; revision 5 is served, and these are kept: ",
            ),
            (&["rollback", "--to", "5"], "its revision 5 is served already"),
            (&["rollback", "--app", "three"], "there is no app `three`"),
            (&["reload", "--app", "three"], "there is no app `three`"),
        ] {
            let refused = asked(runtime.path(), words);
            assert_eq!(refused.code, Some(1), "{kind} {words:?}: {}", refused.stdout);
            assert!(refused.stderr.contains(reason), "{kind} {words:?}: {}", refused.stderr);
        }
        let told = events(&server, "rollback");
        let numbers: Vec<_> = told.iter().map(|event| (event["from"].as_u64(), event["to"].as_u64())).collect();
        assert_eq!(numbers, [(Some(3), Some(2)), (Some(4), Some(1))], "{kind}");
        assert!(told.iter().all(|event| event["cause"] == "command" && event["app"] == "two"), "{kind}: {told:?}");
        let counted = metric(&server, "wasmhost_rollbacks_total{cause=\"command\"}");
        assert_eq!(counted.as_deref(), Some("2.0"), "{kind}");
    }
    Ok(())
}

#[test]
fn clients_on_new_and_kept_connections_lose_no_request_to_a_hundred_reloads() -> TestResult {
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("hello.wasm")?;
        let server = deployed.serve(&["--worker-kind", kind, "--probe", "/"]);
        let (_, answers, failed) = counted_under_load(server.address, "/", |answers, _| {
            for number in 0..100 {
                let before = answers.load(Relaxed);
                let component = if number % 2 == 0 { "hello-p3.wasm" } else { "hello.wasm" };
                assert!(deployed.reload(component)?, "{kind}: reload {number}");
                eventually("requests go on", || answers.load(Relaxed) > before + 10);
            }
            Ok(())
        })?;
        assert_eq!(failed, 0, "{kind}: of {answers}");
        let app = only(&server);
        assert_eq!((&app["revision"], &server.status()["reloads"]), (&101.into(), &100.into()), "{kind}: {answers}");
        // The first is the last that has held.
        assert_eq!(revisions(&app), kept(&[(1, "kept"), (99, "kept"), (100, "kept"), (101, "served")]), "{kind}");
    }
    Ok(())
}

#[test]
fn a_bad_revision_is_rolled_back_by_itself_and_once_and_only_what_it_answered_has_failed() -> TestResult {
    for kind in ["thread", "process"] {
        // The first answers these with 200. The second has a status of 500, or traps, or answers well and traps afterwards.
        for path in ["/status?code=500", "/trap", "/trap-after-head"] {
            let deployed = Deployed::new("hello.wasm")?;
            let server = deployed.serve(&["--worker-kind", kind]);
            let (_, answers, failed) = counted_under_load(server.address, path, |answers, failed| {
                eventually("requests are answered", || answers.load(Relaxed) > 50);
                assert!(deployed.reload("faults.wasm")?, "{kind} {path}");
                let record = server.wait_for_record("it goes back", |record| message(record).starts_with("ROLLBACK: "));
                assert!(record["level"] == "ERROR" && record["from"] == 2 && record["to"] == 1, "{record}");
                // Answers of the bad one may be on their way still.
                let (seen, lost) = (answers.load(Relaxed), failed.load(Relaxed));
                eventually("requests are answered again", || answers.load(Relaxed) > seen + 200);
                let (seen, later) = (answers.load(Relaxed), failed.load(Relaxed));
                eventually("and go on", || answers.load(Relaxed) > seen + 200);
                assert_eq!(failed.load(Relaxed), later, "{kind} {path}: {lost} before");
                Ok(())
            })?;
            let app = only(&server);
            let counted = |field: &str, revision: &str| app[field][revision].as_u64();
            assert!(failed >= 5, "{kind} {path}: {failed} of {answers} failed");
            assert_eq!(counted("revision_failures", "2"), Some(failed), "{kind} {path}: of {answers}: {app}");
            assert_eq!(counted("revision_failures", "1"), Some(0), "{kind} {path}: {app}");
            let by_both = counted("revision_requests", "1").zip(counted("revision_requests", "2"));
            assert_eq!(by_both.map(|(one, two)| one + two), Some(answers), "{kind} {path}: {app}");
            assert_eq!(revisions(&app), kept(&[(1, "served"), (2, "bad")]), "{kind} {path}");
            let told = events(&server, "rollback");
            assert!(told.len() == 1 && told[0]["cause"] == "watch" && told[0]["reason"].is_string(), "{told:?}");
            let counted = metric(&server, "wasmhost_rollbacks_total{cause=\"watch\"}");
            assert_eq!(counted.as_deref(), Some("1.0"), "{kind} {path}");
        }
    }
    Ok(())
}

#[test]
fn a_revision_that_fails_no_more_than_the_one_before_stays_and_so_does_one_that_nobody_watches() -> TestResult {
    let watched = |flags: &[&str], path: &str| -> TestResult {
        let deployed = Deployed::new("faults.wasm")?;
        let server = deployed.serve(flags);
        for _ in 0..40 {
            assert_eq!(get(server.address, path).status, 500);
        }
        assert!(deployed.reload("faults-p3.wasm")?);
        for _ in 0..40 {
            assert_eq!(get(server.address, path).status, 500, "{flags:?}");
        }
        assert_eq!((only(&server)["revision"].as_u64(), events(&server, "rollback").len()), (Some(2), 0), "{flags:?}");
        Ok(())
    };
    watched(&[], "/status?code=500")?;
    let deployed = Deployed::new("hello.wasm")?;
    let server = deployed.serve(&["--rollback-window", "none"]);
    assert_eq!(get(server.address, "/").status, 200);
    assert!(deployed.reload("faults.wasm")?);
    for _ in 0..40 {
        assert_eq!(get(server.address, "/status?code=500").status, 500);
    }
    assert_eq!(only(&server)["revision"], 2);
    // Its time is over.
    let deployed = Deployed::new("hello.wasm")?;
    let server = deployed.serve(&["--rollback-window", "100ms", "--log-level", "debug"]);
    assert_eq!(get(server.address, "/").status, 200);
    assert!(deployed.reload("faults.wasm")?);
    server.wait_for_record("it has held", |record| message(record) == "the new revision has held");
    for _ in 0..40 {
        assert_eq!(get(server.address, "/status?code=500").status, 500);
    }
    assert_eq!(only(&server)["revision"], 2);
    Ok(())
}

/// Asks for what the revision at fault answers with 500 or traps on until the host has gone back: from which, to which.
fn gone_back(server: &Server, path: &str) -> (Option<u64>, Option<u64>) {
    let is_back = || server.records(|record| message(record).starts_with("ROLLBACK: ")).pop();
    eventually_within(Duration::from_secs(20), "it goes back", || {
        get(server.address, path);
        is_back().is_some()
    });
    let record = is_back().expect("it is back");
    (record["from"].as_u64(), record["to"].as_u64())
}

/// Requests that a new revision does not answer have not failed when its time is over; they are waited for.
#[test]
fn a_revision_that_hangs_is_rolled_back_when_its_requests_have_had_their_time() -> TestResult {
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("hello.wasm")?;
        let flags = ["--worker-kind", kind, "--rollback-window", "1s", "--request-timeout", "3s"];
        let server = deployed.serve(&[&flags[..], &["--instances-per-worker", "8"]].concat());
        assert_eq!(get(server.address, "/wait-forever").status, 200, "{kind}");
        assert!(deployed.reload("faults.wasm")?, "{kind}");
        let mut clients: Vec<_> = (0..10).map(|_| Connection::open(server.address)).collect();
        clients.iter_mut().for_each(|client| client.send("GET /wait-forever HTTP/1.1\r\nHost: a\r\n\r\n"));
        for client in &mut clients {
            assert_eq!(client.response().status, 504, "{kind}");
        }
        server.wait_for_record("it goes back", |record| message(record).starts_with("ROLLBACK: "));
        eventually("the one before is served", || get(server.address, "/wait-forever").status == 200);
        assert_eq!(events(&server, "rollback").len(), 1, "{kind}");
    }
    Ok(())
}

#[test]
fn a_bad_revision_that_is_loaded_again_is_rolled_back_all_the_same() -> TestResult {
    for kind in ["thread", "process"] {
        for path in ["/status?code=500", "/trap"] {
            let deployed = Deployed::new("hello.wasm")?;
            let server = deployed.serve(&["--worker-kind", kind]);
            assert_eq!(get(server.address, "/").status, 200);
            assert!(deployed.reload("faults.wasm")?);
            // The same file.
            assert_eq!(deployed.command(&["reload"]).code, Some(0));
            assert_eq!(only(&server)["revision"], 3);
            assert_eq!(gone_back(&server, path), (Some(3), Some(1)), "{kind} {path}");
            eventually("it is served", || get(server.address, path).status == 200);
            assert_eq!(revisions(&only(&server)), kept(&[(1, "served"), (3, "bad")]), "{kind} {path}");
        }
    }
    Ok(())
}

#[test]
fn the_host_goes_back_by_itself_to_the_latest_revision_that_has_held() -> TestResult {
    for kind in ["thread", "process"] {
        for path in ["/status?code=500", "/trap"] {
            let deployed = Deployed::new("hello.wasm")?;
            let server = deployed.serve(&["--worker-kind", kind]);
            assert_eq!(get(server.address, "/").status, 200);
            // Two that are as bad, one after the other: too few requests came for the first to be known as that.
            assert!(deployed.reload("faults.wasm")?);
            assert_eq!(get(server.address, "/status?code=500").status, 500);
            assert!(deployed.reload("faults-p3.wasm")?);
            assert_eq!(gone_back(&server, path), (Some(3), Some(1)), "{kind} {path}");
            eventually("it is served", || get(server.address, path).status == 200);
            assert_eq!(revisions(&only(&server)), kept(&[(1, "served"), (2, "kept"), (3, "bad")]), "{kind} {path}");
        }
    }
    Ok(())
}

#[test]
fn uploads_that_clients_break_off_are_no_failures_of_the_revision() -> TestResult {
    for component in ["faults.wasm", "faults-p3.wasm"] {
        let deployed = Deployed::new("hello.wasm")?;
        let server = deployed.serve(&[]);
        assert_eq!(get(server.address, "/").status, 200);
        assert!(deployed.reload(component)?);
        for _ in 0..20 {
            let mut connection = Connection::open(server.address);
            // (Of a body in chunks, the guest gets what has come.)
            connection.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
            assert!(
                connection.fill_until(|got| got.windows(5).any(|part| part == b"hello").then_some(())).is_some(),
                "{component}"
            );
            connection.stream.shutdown(std::net::Shutdown::Write)?;
            connection.raw_to_end();
        }
        eventually("they are counted", || only(&server)["revision_requests"]["2"].as_u64() >= Some(20));
        let app = only(&server);
        assert_eq!((&app["revision"], &app["revision_failures"]["2"]), (&2.into(), &0.into()), "{component}: {app}");
        assert_eq!(events(&server, "rollback").len(), 0, "{component}");
    }
    Ok(())
}

#[test]
fn a_revision_whose_code_is_gone_is_not_gone_back_to() -> TestResult {
    for kind in ["thread", "process"] {
        let cache = tempfile::tempdir()?;
        let deployed = Deployed::new("hello.wasm")?;
        let cache_dir = cache.path().to_str().ok_or("UTF-8")?;
        let server = deployed.serve(&["--worker-kind", kind, "--cache-dir", cache_dir, "--rollback-window", "none"]);
        assert_eq!(get(server.address, "/").status, 200);
        let of_first: Vec<_> =
            std::fs::read_dir(cache.path())?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
        assert!(deployed.reload("faults.wasm")?);
        // (Instances of the first one may finish what they have.)
        eventually("it is served", || get(server.address, "/status?code=201").status == 201);
        of_first.iter().try_for_each(std::fs::remove_file)?;
        let back = deployed.command(&["rollback"]);
        assert_eq!(back.code, Some(1), "{kind}: {}", back.stdout);
        assert!(back.stderr.contains("no earlier revision of it is kept"), "{kind}: {}", back.stderr);
        assert_eq!(
            (get(server.address, "/status?code=201").status, &only(&server)["revision"]),
            (201, &2.into()),
            "{kind}"
        );
    }
    Ok(())
}

#[test]
fn an_app_of_several_that_was_rolled_back_waits_for_another_file() -> TestResult {
    let runtime = tempfile::tempdir()?;
    let folder = Folder::new("")?;
    folder.component("two.wasm", "hello.wasm")?;
    let two = folder.path().join("two.wasm");
    folder.write(
        &(app("one", "hello.wasm", "one.test/*", "") + &app("two", two.to_str().ok_or("UTF-8")?, "two.test/*", "")),
    )?;
    let mut command = folder.command(&["--rollback-threshold", "50%"]);
    command.env("XDG_RUNTIME_DIR", runtime.path()).env("WASMHOST_CONTROL", "auto").env_remove("RUNTIME_DIRECTORY");
    let server = Server::spawn(command);
    let status = || ask(server.address, "two.test", "/status?code=500").status;
    eventually("it is served", || status() == 200);
    folder.component("two.wasm", "faults.wasm")?;
    reload(&server);
    eventually_within(Duration::from_secs(20), "it was bad", || {
        status();
        status_of(&server, "two")["revision"] == 1 && revisions(&status_of(&server, "two")).len() == 2
    });
    assert_eq!(status(), 200);
    reload(&server);
    assert_eq!(status_of(&server, "two")["revision"], 1, "it is as it was");
    let other = asked(runtime.path(), &["rollback"]);
    assert!(
        other.code == Some(1) && other.stderr.contains("name one of them with --app: one, two"),
        "{}",
        other.stderr
    );
    folder.component("two.wasm", "faults-p3.wasm")?;
    reload(&server);
    eventually("another file is tried", || status_of(&server, "two")["revision"] == 3);
    assert_eq!(status_of(&server, "one")["revision"], 1);
    Ok(())
}

#[test]
fn a_host_that_watches_its_files_reloads_when_one_has_changed_and_at_rest() -> TestResult {
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("hello.wasm")?;
        let server = deployed.serve(&["--worker-kind", kind, "--watch"]);
        assert_eq!(get(server.address, "/status?code=201").status, 200, "{kind}");
        // In pieces, as some tools write.
        let bytes = std::fs::read(guest("faults.wasm"))?;
        let mut file = std::fs::File::create(deployed.path())?;
        for piece in bytes.chunks(bytes.len() / 4) {
            file.write_all(piece)?;
            std::thread::sleep(Duration::from_millis(40));
        }
        eventually("the component is served", || get(server.address, "/status?code=201").status == 201);
        assert_eq!((&server.status()["failed_reloads"], &only(&server)["revision"]), (&0.into(), &2.into()), "{kind}");
        let folder = Folder::new(&("watch = true\n".to_owned() + &app("one", "faults.wasm", "one.test/*", "")))?;
        let server = folder.serve(&["--worker-kind", kind]);
        assert_eq!(ask_until_loaded(server.address, "one.test", "/hello").status, 200, "{kind}");
        folder.component("two.wasm", "hello.wasm")?;
        let two = app("two", folder.path().join("two.wasm").to_str().ok_or("UTF-8")?, "two.test/*", "");
        folder.write(&two)?;
        eventually("the file of settings is followed", || ask(server.address, "two.test", "/").status == 200);
        // What it names for the first time is watched from now on; it may have changed before that was so.
        folder.component("two.wasm", "faults.wasm")?;
        eventually("its component is loaded", || ask(server.address, "two.test", "/status?code=201").status == 201);
        assert_eq!(server.status()["failed_reloads"], 0, "{kind}");
    }
    Ok(())
}

/// How many of so many requests, each on a connection of its own, the second component answers.
fn answered_by_the_new(address: SocketAddr, requests: usize, header: impl Fn(usize) -> String) -> usize {
    let asked = (0..requests).map(|number| {
        let mut connection = Connection::open(address);
        let header = header(number);
        connection.send(format!("GET /status?code=201 HTTP/1.1\r\nHost: test\r\n{header}\r\n"));
        connection.response().status
    });
    asked.filter(|status| *status == 201).count()
}

#[test]
fn a_canary_gets_its_share_of_connections_or_of_users_until_it_gets_all() -> TestResult {
    let none = |_: usize| String::new();
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("hello.wasm")?;
        let server = deployed.serve(&["--worker-kind", kind, "--canary", "25%", "--canary-time", "none"]);
        let alone = deployed.command(&["promote"]);
        assert!(alone.code == Some(1) && alone.stderr.contains("no new revision"), "{kind}: {}", alone.stderr);
        assert_eq!(answered_by_the_new(server.address, 4, none), 0);
        assert!(deployed.reload("faults.wasm")?, "{kind}");
        let new = answered_by_the_new(server.address, 400, none);
        assert!((40..200).contains(&new), "{kind}: {new} of 400");
        // A connection stays with its revision.
        for _ in 0..20 {
            let mut kept = Connection::open(server.address);
            let first = kept.get("/status?code=201").status;
            assert!((0..10).all(|_| kept.get("/status?code=201").status == first), "{kind}");
        }
        let app = only(&server);
        assert_eq!((&app["revision"], revisions(&app)), (&1.into(), kept(&[(1, "served"), (2, "canary")])), "{kind}");
        let promoted = deployed.command(&["promote"]);
        assert_eq!(promoted.code, Some(0), "{kind}: {}{}", promoted.stdout, promoted.stderr);
        assert_eq!(answered_by_the_new(server.address, 40, none), 40, "{kind}");
        assert_eq!(revisions(&only(&server)), kept(&[(1, "kept"), (2, "served")]), "{kind}");
        // A command ends the next one.
        assert!(deployed.reload("hello-p3.wasm")?, "{kind}");
        let old = answered_by_the_new(server.address, 200, none);
        assert!((100..200).contains(&old), "{kind}: {old} of 200");
        // Workers that begin give it its share, too.
        assert_eq!(deployed.command(&["restart"]).code, Some(0), "{kind}");
        eventually("it has its share", || (100..200).contains(&answered_by_the_new(server.address, 200, none)));
        assert_eq!(deployed.command(&["rollback"]).code, Some(0), "{kind}");
        assert_eq!(answered_by_the_new(server.address, 40, none), 40, "{kind}");
        assert_eq!(revisions(&only(&server)), kept(&[(1, "kept"), (2, "served"), (3, "bad")]), "{kind}");
    }
    for (by, header) in [("header:X-User", "X-User: "), ("cookie:user", "Cookie: a=b; user=")] {
        let deployed = Deployed::new("hello.wasm")?;
        let server = deployed.serve(&["--canary", "50%", "--canary-by", by, "--canary-time", "none"]);
        assert!(deployed.reload("faults.wasm")?);
        let of = |user: usize| answered_by_the_new(server.address, 6, |_| format!("{header}{user}\r\n"));
        let users: Vec<usize> = (0..40).map(of).collect();
        assert!(users.iter().all(|new| [0, 6].contains(new)), "{by}: {users:?}");
        assert!((5..35).contains(&users.iter().filter(|new| **new == 6).count()), "{by}: {users:?}");
    }
    Ok(())
}

#[test]
fn requests_that_would_wait_for_a_canary_go_to_the_revision_beside_it() -> TestResult {
    let deployed = Deployed::new("hello.wasm")?;
    let server = deployed.serve(&["--canary", "99%", "--canary-time", "none", "--queue-timeout", "200ms"]);
    assert_eq!(get(server.address, "/").status, 200);
    assert!(deployed.reload("faults.wasm")?);
    // It has 4 instances on each of the two workers. The other revision answers at once, whatever it is asked.
    let mut connections: Vec<_> = (0..16).map(|_| Connection::open(server.address)).collect();
    for connection in &mut connections {
        connection.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let answers: Vec<_> = connections.iter_mut().map(Connection::response).collect();
    assert!(
        answers.iter().all(|answer| answer.status == 200),
        "{:?}",
        answers.iter().map(|answer| answer.status).collect::<Vec<_>>()
    );
    let slept = answers.iter().filter(|answer| answer.text() == "slept").count();
    assert!((1..=8).contains(&slept), "{slept}");
    assert_eq!(revisions(&only(&server)), kept(&[(1, "served"), (2, "canary")]));
    Ok(())
}

#[test]
fn a_canary_that_holds_gets_all_requests_in_time_and_a_bad_one_none() -> TestResult {
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("hello.wasm")?;
        let server = deployed.serve(&["--worker-kind", kind, "--canary", "50%", "--canary-time", "400ms"]);
        let (_, answers, failed) = counted_under_load(server.address, "/", |_, _| {
            assert!(deployed.reload("hello-p3.wasm")?, "{kind}");
            eventually("it gets all", || only(&server)["revision"] == 2);
            Ok(())
        })?;
        assert_eq!(failed, 0, "{kind}: of {answers}");
        assert_eq!(events(&server, "promote").len(), 1, "{kind}");
        for path in ["/status?code=500", "/trap"] {
            let deployed = Deployed::new("hello.wasm")?;
            let server = deployed.serve(&["--worker-kind", kind, "--canary", "30%"]);
            let (_, answers, failed) = counted_under_load(server.address, path, |answers, failed| {
                assert!(deployed.reload("faults.wasm")?, "{kind} {path}");
                server.wait_for_record("it goes back", |record| message(record).starts_with("ROLLBACK: "));
                let seen = answers.load(Relaxed);
                eventually("requests are answered", || answers.load(Relaxed) > seen + 200);
                let (seen, later) = (answers.load(Relaxed), failed.load(Relaxed));
                eventually("and go on", || answers.load(Relaxed) > seen + 200);
                assert_eq!(failed.load(Relaxed), later, "{kind} {path}");
                Ok(())
            })?;
            let app = only(&server);
            assert_eq!(app["revision_failures"]["2"].as_u64(), Some(failed), "{kind} {path}: of {answers}: {app}");
            assert_eq!(app["revision_failures"]["1"], 0, "{kind} {path}: {app}");
            assert_eq!(revisions(&app), kept(&[(1, "served"), (2, "bad")]), "{kind} {path}");
        }
    }
    Ok(())
}
