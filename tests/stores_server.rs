//! Stores in a server of Redis (`backend` of a `[[store]]`): the contract of guests over it, its password, and what a guest sees
//! while it is away.

use std::fs;
use std::time::Duration;

use crate::groups::memory_of;
use crate::programs::program;
use crate::stores::{DRAFTS, GUESTS, Stored, holds_contract, increment, increments, said};
use crate::support::apps::{Folder, app, reload};
use crate::support::redis::RedisServer;
use crate::support::server::words_of;
use crate::support::{Server, TestResult, command, eventually, eventually_within, facility, get, run};
use crate::table::{build, copy};

/// How long a guest of a language may take to compile on a busy machine.
const COMPILATION_CEILING: Duration = Duration::from_secs(120);

/// It could be found in a text.
const PASSWORD: &str = "crocus-2468";

/// A file of settings whose app has its store in a server.
fn settings(component: &str, kind: &str, port: u16, more: &str) -> String {
    format!(
        "data-dir = \"data\"\nworker-kind = \"{kind}\"\n{more}[[store]]\nname = \"links\"\nbackend = \
         \"redis://127.0.0.1:{port}/1\"\npassword = \"file:key\"\n{}",
        app("a", component, "*", "stores = [\"default=links\"]")
    )
}

fn folder(text: &str) -> std::io::Result<Folder> {
    let folder = Folder::new(text)?;
    fs::write(folder.path().join("key"), format!("{PASSWORD}\n"))?;
    Ok(folder)
}

fn serve(folder: &Folder, flags: &[&str]) -> Server {
    serve_guest_of(DRAFTS[0], folder, flags)
}

/// The same of a guest that knows this version of the interface.
fn serve_guest_of(draft: &str, folder: &Folder, flags: &[&str]) -> Server {
    let server = folder.serve(flags);
    let is_there = || get(server.address, &format!("/{draft}/exists?key=a")).status == 200;
    eventually_within(COMPILATION_CEILING, "the app is loaded and its store is there", is_there);
    server
}

/// The contract of a guest that knows this version, whose store is in a server.
fn holds_contract_in_a_server(component: &str, kind: &str, draft: &str) -> TestResult {
    eprintln!("{component}, {kind}, in a server");
    let redis = RedisServer::start(PASSWORD)?;
    let folder = folder(&settings(component, kind, redis.port, ""))?;
    let server = serve_guest_of(draft, &folder, &[]);
    holds_contract(&server, draft);
    assert!(redis.cli(&["-n", "1", "keys", "*"]).contains("{wasmhost:links}:rows"), "it is there, and nowhere else");
    Ok(())
}

#[test(needs(Redis))]
fn guests_have_stores_in_a_server() -> TestResult {
    for (component, kind) in
        [(GUESTS[0], "thread"), (GUESTS[1], "thread"), (GUESTS[0], "process"), (GUESTS[1], "process")]
    {
        for draft in DRAFTS {
            holds_contract_in_a_server(component, kind, draft)?;
        }
    }
    Ok(())
}

#[test(needs(Toolchains, Redis))]
fn a_guest_in_python_has_stores_in_a_file_and_in_a_server() -> TestResult {
    let toolchains = facility::toolchains();
    let work = tempfile::tempdir()?;
    let mut new = command();
    assert!(new.args(["new", "keys", "--lang", "python"]).current_dir(work.path()).status()?.success());
    let folder = work.path().join("keys");
    copy(&program("keys"), &folder, "keys")?;
    build(&toolchains, &folder)?;
    let component = folder.join("keys.wasm");
    let component = component.to_str().ok_or("a path in UTF-8")?;
    // Compiled once, for all.
    let compiled = work.path().join("keys.cwasm");
    let mut compile = command();
    assert!(compile.args(["compile", component, "--compile-timeout", "10m", "-o"]).arg(&compiled).status()?.success());
    for kind in ["thread", "process"] {
        let host = Stored::new(compiled.to_str().ok_or("a path in UTF-8")?, kind, &[])?;
        eprintln!("Python, {kind}");
        holds_contract(&host.server, DRAFTS[1]);
        holds_contract_in_a_server(compiled.to_str().ok_or("a path in UTF-8")?, kind, DRAFTS[1])?;
    }
    Ok(())
}

#[test(needs(Redis, Confinement))]
fn a_confined_host_reaches_its_server_and_no_other() -> TestResult {
    for kind in ["thread", "process"] {
        let (redis, other) = (RedisServer::start(PASSWORD)?, RedisServer::start(PASSWORD)?);
        let text = settings(GUESTS[0], kind, redis.port, "");
        let folder = folder(&text)?;
        let server = serve(&folder, &["--confine", "require"]);
        assert_eq!(said(&server, "/draft/increment?key=n&by=2"), "2", "{kind}");
        // A reading that names another server has to wait for a restart.
        folder.write(&settings(GUESTS[0], kind, other.port, ""))?;
        server.signal("HUP");
        let told = server
            .wait_for_record("the other server", |record| record.to_string().contains("named when the host started"));
        assert!(told.to_string().contains(&format!("redis://127.0.0.1:{}/1", other.port)), "{told}");
        assert_eq!(said(&server, "/draft/increment?key=n&by=2"), "4", "{kind}: it goes on with the first");
        folder.write(&text)?;
        reload(&server);
        assert_eq!(said(&server, "/draft/increment?key=n&by=2"), "6", "{kind}");
        assert_eq!(other.cli(&["-n", "1", "keys", "*"]).trim(), "");
    }
    Ok(())
}

#[test(needs(Redis))]
fn clients_of_two_hosts_count_exactly() -> TestResult {
    let redis = RedisServer::start(PASSWORD)?;
    let folders = [
        folder(&settings(GUESTS[0], "process", redis.port, ""))?,
        folder(&settings(GUESTS[0], "thread", redis.port, ""))?,
    ];
    let hosts = folders.each_ref().map(|folder| serve(folder, &["--instances-per-worker", "64"]));
    let each = increments().div_ceil(640) * 10;
    let counted: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let counting = hosts.each_ref().map(|host| scope.spawn(|| increment(host, 32, each)));
        counting.into_iter().map(|counting| counting.join().expect("a client")).collect()
    });
    assert_eq!(counted, [(32 * each, 0); 2]);
    assert_eq!(said(&hosts[0], "/draft/get?key=key"), (64 * each).to_string());
    Ok(())
}

#[test(needs(Redis))]
fn a_server_that_is_away_gives_guests_an_error_and_is_used_again() -> TestResult {
    for kind in ["thread", "process"] {
        let mut redis = RedisServer::start(PASSWORD)?;
        let folder = folder(&settings(GUESTS[0], kind, redis.port, ""))?;
        let server = serve(&folder, &[]);
        assert_eq!(said(&server, "/draft/increment?key=n"), "1", "{kind}");
        redis.kill()?;
        let error = "other: the server of the store refused: it cannot be reached: Connection refused (os error 111): nothing was changed";
        eventually("an error", || get(server.address, "/draft/exists?key=n").text() == error);
        let refused = get(server.address, "/draft/increment?key=n");
        assert_eq!((refused.status, refused.text().as_str()), (422, error), "{kind}");
        server.wait_for_record("a line about it", |record| record.to_string().contains("the server is not there"));
        redis.start_again()?;
        eventually("it is used again", || get(server.address, "/draft/exists?key=n").status == 200);
        assert_eq!(said(&server, "/draft/increment?key=n"), "2", "{kind}");
        server.wait_for_record("a line about it", |record| record.to_string().contains("the server answers again"));
    }
    Ok(())
}

#[test(needs(Redis))]
fn nothing_that_the_host_writes_has_the_password_and_no_worker_knows_it() -> TestResult {
    let redis = RedisServer::start(PASSWORD)?;
    let hidden = |what: &str, written: &str| assert!(!written.contains(PASSWORD), "{what} has the password: {written}");
    for kind in ["thread", "process"] {
        let folder = folder(&settings(GUESTS[0], kind, redis.port, "cache-dir = \"cache\"\n"))?;
        let server = serve(&folder, &["--log-level", "trace", "--access-log"]);
        assert_eq!(get(server.address, "/draft/set?key=a&value=b").status, 200);
        hidden("the log", &server.lines().join("\n"));
        hidden("/status", &server.admin("/status").text());
        hidden("/metrics", &server.admin("/metrics").text());
        for pid in server.pids() {
            hidden("a command line", &words_of(pid).join(" "));
        }
        if kind == "process" {
            for pid in server.worker_pids() {
                let memory = memory_of(pid)?;
                let has = |text: &str| memory.windows(text.len()).any(|bytes| bytes == text.as_bytes());
                assert!(has("default"), "a worker's memory can be read");
                assert!(!has(PASSWORD), "a worker knows the password");
            }
        }
        for words in [&["config", "show"][..], &["config", "show", "--values"]] {
            let mut show = command();
            show.args(words).arg("-c").arg(folder.file());
            let shown = run(show);
            assert_eq!(shown.code, Some(0), "{}", shown.stderr);
            hidden("config show", &shown.stdout);
            let source = format!("password = \"file:{}\"", folder.path().join("key").display());
            assert!(shown.stdout.contains(&source), "{}", shown.stdout);
            assert!(
                shown.stdout.contains(&format!("backend = \"redis://127.0.0.1:{}/1\"", redis.port)),
                "{}",
                shown.stdout
            );
        }
    }
    Ok(())
}

#[test]
fn what_is_wrong_of_a_server_is_told_without_its_password() -> TestResult {
    let store = |lines: &str| {
        format!(
            "data-dir = \"data\"\n[[store]]\nname = \"links\"\n{lines}\n{}",
            app("a", GUESTS[0], "*", "stores = [\"links=links\"]")
        )
    };
    let other = "backend = \"redis://127.0.0.1:1\"\n[[store]]\nname = \"more\"\nbackend = \"redis://127.0.0.1:1\"\npassword = \"file:key\"";
    for (lines, expected) in [
        ("backend = \"redis://:crocus-2468@127.0.0.1\"", "backend: it has a password"),
        ("backend = \"memcached://127.0.0.1\"", "backend: it is no address of a server; expected redis://"),
        ("backend = \"redis://127.0.0.1/first\"", "is no number of a database"),
        ("backend = \"redis://127.0.0.1\"\npassword = \"crocus-2468\"", "password: must be `file:PATH`"),
        ("backend = \"redis://127.0.0.1\"\npassword = \"file:missing\"", "missing`, which"),
        ("backend = \"redis://127.0.0.1\"\nca-file = \"ca.pem\"", "ca.pem"),
        ("password = \"file:key\"", "the store `links` has `password` or `ca-file`, which are of a server"),
        (other, "the store `more` is on the same server as `links`"),
    ] {
        let folder = folder(&store(lines))?;
        let mut check = command();
        check.args(["config", "check", "-c"]).arg(folder.file());
        let finished = run(check);
        let said = finished.stdout + &finished.stderr;
        assert_ne!(finished.code, Some(0), "{lines}: {said}");
        assert!(said.contains(expected), "{lines}: {said}");
        assert!(!said.contains(PASSWORD), "{lines}: {said}");
    }
    Ok(())
}
