//! Stores of keys and values (`--store`), as guests of both versions of wasi ask them by both versions of wasi:keyvalue: one list
//! of checks over all of these, and what holds of grants, quotas, other processes and restarts.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload};
use crate::support::server::signal;
use crate::support::{Connection, Response, Server, TestResult, command, eventually, get, guest, message, run};

/// Guests that ask stores what the path says: of wasi 0.2 and 0.3.
pub const GUESTS: [&str; 2] = ["stores.wasm", "stores-p3.wasm"];
/// The versions of wasi:keyvalue that each of them imports.
pub const DRAFTS: [&str; 2] = ["draft", "draft2"];
const KINDS: [&str; 2] = ["thread", "process"];
/// Workers that are killed at least while clients count.
const KILLS: usize = 6;

/// Serves a guest that has a store, with two workers of this kind.
pub fn serve(component: &str, data: &Path, kind: &str, more: &[&str]) -> Server {
    let data = data.to_str().expect("a path in UTF-8");
    let flags = ["--workers", "2", "--worker-kind", kind, "--data-dir", data, "--store", "default"];
    Server::start(component, &[&flags, more].concat())
}

/// A host in which nothing is stored yet.
pub struct Stored {
    /// The host.
    pub server: Server,
    _data: tempfile::TempDir,
}

impl Stored {
    /// Serves a guest with workers of this kind.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(component: &str, kind: &str, more: &[&str]) -> std::io::Result<Self> {
        let data = private()?;
        Ok(Self { server: serve(component, data.path(), kind, more), _data: data })
    }

    /// What is answered to a path, with status 200.
    #[track_caller]
    fn says(&self, path: &str) -> String {
        said(&self.server, path)
    }
}

/// A directory that nobody else can enter.
pub fn private() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700)).tempdir()
}

/// What is answered to a path, with status 200.
#[track_caller]
pub fn said(server: &Server, path: &str) -> String {
    told(&get(server.address, path), 200, path)
}

#[track_caller]
fn told(response: &Response, status: u16, path: &str) -> String {
    assert_eq!(response.status, status, "{path}: {}", response.text());
    response.text()
}

/// A check of what a guest sees, by one version of the interface.
type Check = fn(&dyn Fn(&str) -> Response);

/// The contract: all of it holds for all guests, both versions of the interface, and both kinds of workers.
const CONTRACT: [(&str, Check); 9] = [
    ("what is set is there until it is deleted", |ask| {
        assert_eq!(ask("get?key=a").status, 404);
        assert_eq!(told(&ask("exists?key=a"), 200, "exists"), "false");
        told(&ask("set?key=a&value=one"), 200, "set");
        told(&ask("set?key=a&value=two"), 200, "set");
        assert_eq!(told(&ask("get?key=a"), 200, "get"), "two");
        assert_eq!(told(&ask("exists?key=a"), 200, "exists"), "true");
        told(&ask("delete?key=a"), 200, "delete");
        told(&ask("delete?key=a"), 200, "delete, though it is not there");
        assert_eq!(ask("get?key=a").status, 404);
    }),
    ("keys and values are any bytes that the types allow", |ask| {
        for key in ["", "%00", "a%00b", "%C3%A9%F0%9F%92%A1", "a/b?c=d&e", "%0A"] {
            let key = key.replace('&', "%26").replace('?', "%3F").replace('=', "%3D");
            told(&ask(&format!("set?key={key}&value=%00%FF%0A{key}")), 200, &key);
            let response = ask(&format!("get?key={key}"));
            assert_eq!((response.status, &response.body[..3]), (200, &b"\0\xff\n"[..]), "{key}");
            told(&ask(&format!("delete?key={key}")), 200, &key);
            assert_eq!(ask(&format!("get?key={key}")).status, 404, "{key}");
        }
        told(&ask("set?key=none&value="), 200, "an empty value");
        let response = ask("get?key=none");
        assert_eq!((response.status, response.body.len()), (200, 0));
    }),
    ("values of four MiB", |ask| {
        told(&ask("set?key=large&bytes=4194304"), 200, "4 MiB");
        assert_eq!(told(&ask("size?key=large"), 200, "size"), "Some(4194304)");
        let refused = told(&ask("set?key=large&bytes=4194305"), 422, "more");
        assert_eq!(refused, "other: a value has 4194305 bytes; at most 4194304 are allowed");
        assert_eq!(told(&ask("size?key=large"), 200, "size"), "Some(4194304)", "what was there is there");
        told(&ask("delete?key=large"), 200, "delete");
    }),
    ("keys of a thousand bytes", |ask| {
        let key = "k".repeat(1_024);
        told(&ask(&format!("set?key={key}&value=v")), 200, "1,024 bytes");
        assert_eq!(told(&ask(&format!("get?key={key}")), 200, "get"), "v");
        let refused = told(&ask(&format!("set?key={key}k&value=v")), 422, "1,025 bytes");
        assert_eq!(refused, "other: a key has 1025 bytes; at most 1024 are allowed");
    }),
    ("numbers", |ask| {
        assert_eq!(told(&ask("increment?key=n&by=5"), 200, "from nothing"), "5");
        assert_eq!(told(&ask("increment?key=n&by=37"), 200, "more"), "42");
        assert_eq!(told(&ask("get?key=n"), 200, "as text"), "42");
        told(&ask("set?key=n&value=forty"), 200, "a text");
        let refused = told(&ask("increment?key=n"), 422, "no number");
        assert_eq!(refused, "other: the value is not a whole number of 64 bits in decimal digits");
        told(&ask("set?key=n&value=9223372036854775807"), 200, "the largest");
        assert_eq!(told(&ask("increment?key=n"), 422, "beyond"), "other: the sum does not fit into 64 bits");
        assert_eq!(told(&ask("get?key=n"), 200, "unchanged"), "9223372036854775807");
    }),
    ("several at once", |ask| {
        told(&ask("set-many?keys=m1,m2,m3&value=v"), 200, "set-many");
        assert_eq!(told(&ask("get-many?keys=m3,mx,m1"), 200, "get-many"), "v,-,v");
        told(&ask("delete-many?keys=m1,m3,mx"), 200, "delete-many");
        assert_eq!(told(&ask("get-many?keys=m1,m2,m3"), 200, "get-many"), "-,v,-");
        // One of them is wrong: none is set.
        let long = "k".repeat(1_025);
        let refused = told(&ask(&format!("set-many?keys=m4,{long}&value=v")), 422, "a key is too long");
        assert!(refused.contains("1025"), "{refused}");
        assert_eq!(told(&ask("exists?key=m4"), 200, "exists"), "false");
    }),
    ("pages of keys", |ask| {
        for round in 0..3 {
            told(&ask(&format!("set-many?key=p{round}&count=900&value=v")), 200, "set-many");
        }
        let all = told(&ask("list-all"), 200, "list-all");
        let [pages, keys, is_in_order] = *all.split(' ').collect::<Vec<_>>() else { panic!("{all}") };
        assert!(pages.parse::<u32>().is_ok_and(|pages| pages >= 3), "{all}");
        assert!(keys.parse::<u32>().is_ok_and(|keys| keys >= 2_700) && is_in_order == "true", "{all}");
        let first = told(&ask("list"), 200, "list");
        assert_eq!(first.lines().count(), 1_001, "a cursor and a thousand keys");
    }),
    ("a trap takes nothing back that was acknowledged", |ask| {
        assert_eq!(ask("set-and-trap?key=t&value=kept").status, 500);
        assert_eq!(told(&ask("get?key=t"), 200, "get"), "kept");
    }),
    ("other stores are closed", |ask| {
        for verb in ["get", "set", "list", "increment", "get-many", "delete-many"] {
            assert_eq!(told(&ask(&format!("{verb}?store=other&keys=a&value=v")), 422, verb), "access-denied");
        }
    }),
];

/// All of it, by one version of the interface, over a store in which nothing is yet.
pub fn holds_contract(server: &Server, draft: &str) {
    for (what, check) in CONTRACT {
        eprintln!("{draft}: {what}");
        check(&|path| get(server.address, &format!("/{draft}/{path}")));
    }
}

fn hold_contract(component: &str, kind: &str) -> TestResult {
    for draft in DRAFTS {
        eprintln!("{component}, {kind}");
        holds_contract(&Stored::new(component, kind, &[])?.server, draft);
    }
    Ok(())
}

#[test]
fn a_guest_of_wasi_0_2_has_stores_on_threads() -> TestResult {
    hold_contract(GUESTS[0], "thread")
}

#[test]
fn a_guest_of_wasi_0_2_has_stores_on_processes() -> TestResult {
    hold_contract(GUESTS[0], "process")
}

#[test]
fn a_guest_of_wasi_0_3_has_stores_on_threads() -> TestResult {
    hold_contract(GUESTS[1], "thread")
}

#[test]
fn a_guest_of_wasi_0_3_has_stores_on_processes() -> TestResult {
    hold_contract(GUESTS[1], "process")
}

#[test]
fn both_versions_ask_the_same_store_and_one_of_them_swaps() -> TestResult {
    for component in GUESTS {
        let host = Stored::new(component, "process", &[])?;
        host.says("/draft/set?key=a&value=1");
        assert_eq!(host.says("/draft2/get?key=a"), "1");
        assert_eq!(host.says("/draft2/increment?key=a&by=-3"), "-2");
        let refused = told(&get(host.server.address, "/draft/increment?key=a"), 422, "below zero");
        assert_eq!(refused, "other: the number is -1 now, which is below zero");
        // Nobody else changes it, somebody does, and it is not there.
        assert_eq!(host.says("/draft2/swap?key=a&value=b"), "-1 true");
        assert_eq!(host.says("/draft2/swap?key=a&value=c&meanwhile=x"), "x false");
        assert_eq!(host.says("/draft2/get?key=a"), "x");
        assert_eq!(host.says("/draft2/swap?key=new&value=first"), "- true");
        assert_eq!(host.says("/draft2/get?key=new"), "first");
    }
    Ok(())
}

#[test]
fn what_was_stored_is_there_after_a_restart_and_after_kill() -> TestResult {
    let data = private()?;
    for (kind, how) in [("thread", "TERM"), ("process", "KILL"), ("thread", "KILL"), ("process", "TERM")] {
        let server = serve(GUESTS[0], data.path(), kind, &[]);
        let before: u64 = said(&server, "/draft/increment?key=starts").parse()?;
        said(&server, &format!("/draft/set?key=of-{before}&value={kind}"));
        signal(server.pid(), how);
        drop(server);
        let again = serve(GUESTS[1], data.path(), kind, &["--store", "default=of-all"]);
        assert_eq!(said(&again, "/draft2/exists?key=starts"), "false", "another store");
        drop(again);
        let again = serve(GUESTS[0], data.path(), kind, &[]);
        assert_eq!(said(&again, &format!("/draft2/get?key=of-{before}")), kind);
        assert_eq!(said(&again, "/draft/get?key=starts"), before.to_string());
    }
    Ok(())
}

#[test]
fn a_host_that_stops_closes_the_file_at_once() -> TestResult {
    for kind in KINDS {
        let data = private()?;
        let mut server = serve(GUESTS[0], data.path(), kind, &["--log-level", "debug"]);
        said(&server, "/draft/set");
        server.admin("/status");
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
        let late = server.records(|record| message(record).contains("was not closed in time"));
        assert!(late.is_empty(), "{kind}: {late:?}");
    }
    Ok(())
}

/// Asks for so many increments, by as many clients at once: those that were acknowledged, and those of which nobody knows.
pub fn increment(server: &Server, clients: usize, each: u64) -> (u64, u64) {
    let asked: Vec<_> = (0..clients)
        .map(|client| {
            let address = server.address;
            let draft = DRAFTS[client % 2];
            let ask = move || {
                let (mut done, mut unknown) = (0, 0);
                for _ in 0..each / 10 {
                    let mut connection = Connection::open(address);
                    connection.send(format!("GET /{draft}/increments?count=10 HTTP/1.1\r\nHost: test\r\n\r\n"));
                    // One that was broken off may have done some.
                    match connection.try_response(false).filter(|response| response.status == 200) {
                        Some(response) => {
                            let text = response.text();
                            let (counted, failed) = text.split_once(' ').unwrap_or((&text, ""));
                            done += counted.parse::<u64>().expect("a number");
                            unknown += u64::from(failed.contains("may have been done"));
                        }
                        None => unknown += 10,
                    }
                }
                (done, unknown)
            };
            thread::Builder::new().name("client".to_owned()).spawn(ask).expect("a thread")
        })
        .collect();
    asked
        .into_iter()
        .map(|client| client.join().expect("a client"))
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// How many increments 64 clients make in all; `WASMHOST_TEST_INCREMENTS` says another number.
pub fn increments() -> u64 {
    let asked = std::env::var("WASMHOST_TEST_INCREMENTS").ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(3_200)
}

#[test]
fn clients_of_all_workers_count_exactly() -> TestResult {
    for kind in KINDS {
        let host = Stored::new(GUESTS[0], kind, &["--instances-per-worker", "64"])?;
        let each = increments().div_ceil(640) * 10;
        let (done, unknown) = increment(&host.server, 64, each);
        assert_eq!((done, unknown), (64 * each, 0), "{kind}");
        assert_eq!(host.says("/draft/get?key=key"), done.to_string(), "{kind}");
        let status = host.server.status();
        let counted: u64 = of_all(&status, "store_calls", "increment");
        assert_eq!(counted, done, "{kind}");
    }
    Ok(())
}

/// A count of all apps and workers, by its label.
fn of_all(status: &Value, field: &str, label: &str) -> u64 {
    let workers = status["workers"].as_array().into_iter().flatten();
    workers.map(|worker| worker[field][label].as_u64().unwrap_or(0)).sum()
}

#[test]
fn while_workers_are_killed_no_acknowledged_increment_is_lost_and_none_is_done_twice() -> TestResult {
    let host = Stored::new(GUESTS[0], "process", &["--instances-per-worker", "16"])?;
    let (is_over, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let killed = thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let (mut counted, each) = ((0, 0), increments().div_ceil(160) * 10);
            while !is_over.load(Relaxed) {
                let more = increment(&host.server, 16, each);
                counted = (counted.0 + more.0, counted.1 + more.1);
                rounds.fetch_add(1, Relaxed);
            }
            counted
        });
        let mut kill = 0;
        while kill < KILLS || rounds.load(Relaxed) == 0 {
            // A host gives up that loses ten workers in a minute.
            thread::sleep(if kill < KILLS { Duration::from_millis(300) } else { Duration::from_secs(8) });
            kill += 1;
            if let Some(pid) = host.server.worker_pids().get(kill % 2).copied() {
                let _ = crate::support::server::try_signal(pid, "KILL");
            }
        }
        is_over.store(true, Relaxed);
        counting.join().map_err(|_| "a client")
    });
    let (done, unknown) = killed?;
    let mut value = None;
    // The worker that was killed last may still get a connection.
    eventually("the host serves again", || {
        let mut connection = Connection::open(host.server.address);
        connection.send("GET /draft/get?key=key HTTP/1.1\r\nHost: test\r\n\r\n");
        let answer = connection.try_response(false).filter(|answer| answer.status == 200);
        value = answer.and_then(|answer| answer.text().parse::<u64>().ok());
        value.is_some()
    });
    let value = value.ok_or("a value")?;
    eprintln!("at least {KILLS} kills: {done} acknowledged, {unknown} unknown, {value} in the store");
    assert!(unknown > 0, "no increment was broken off: nothing was tested");
    assert!((done..=done + unknown).contains(&value), "{done} acknowledged, {unknown} unknown, {value} in the store");
    Ok(())
}

#[test]
fn a_store_that_is_not_granted_is_refused_and_the_log_names_the_grant() -> TestResult {
    for kind in KINDS {
        let server = Server::start(GUESTS[0], &["--worker-kind", kind]);
        for draft in DRAFTS {
            let refused = get(server.address, &format!("/{draft}/get"));
            assert_eq!((refused.status, refused.text().as_str()), (422, "access-denied"), "{kind}");
        }
        let record = server.wait_for_record("the grant", |record| record["limit"] == "--store");
        assert!(message(&record).contains("`--store default`"), "{record}");
        assert_eq!(record["app"], "stores");
        // However often it asks, the log gets a few lines.
        for _ in 0..100 {
            get(server.address, "/draft/get");
        }
        let lines = server.records(|record| record["limit"] == "--store").len();
        assert!(lines <= 50, "{lines} lines");
        assert_eq!(of_all(&server.status(), "store_failures", "denied"), 102);
    }
    Ok(())
}

#[test]
fn a_store_needs_a_place_and_the_error_says_which_flag_is_missing() -> TestResult {
    let mut serve = command();
    serve.arg(guest(GUESTS[0])).args(["--store", "default", "--listen", "127.0.0.1:0"]).env_remove("STATE_DIRECTORY");
    let finished = run(serve);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("--store") && finished.stderr.contains("--data-dir DIR"), "{}", finished.stderr);
    let mut serve = command();
    serve.arg(guest(GUESTS[0])).args(["--store", "a/b", "--listen", "127.0.0.1:0"]);
    let finished = run(serve);
    assert!(
        finished.code == Some(2) && finished.stderr.contains("the name of a store must be 1 to 63"),
        "{}",
        finished.stderr
    );
    Ok(())
}

#[test]
fn a_data_directory_has_one_host() -> TestResult {
    let data = private()?;
    let _server = serve(GUESTS[0], data.path(), "thread", &[]);
    let mut second = command();
    second.arg(guest(GUESTS[0])).args(["--listen", "127.0.0.1:0", "--store", "default", "--data-dir"]).arg(data.path());
    let finished = run(second);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("stores.redb is in use by another process"), "{}", finished.stderr);
    Ok(())
}

/// Two apps with stores of their own, and one that they share.
fn sharing(more_one: &str, more_two: &str) -> String {
    "[[store]]\nname = \"links\"\n".to_owned()
        + &app("one", GUESTS[0], "one.test/*", &format!("stores = [\"default\", \"both=links\"]\n{more_one}"))
        + &app(
            "two",
            GUESTS[1],
            "two.test/*",
            &format!("stores = [\"default\", \"links\", \"mine=links\"]\n{more_two}"),
        )
}

#[test]
fn apps_share_the_stores_that_they_name_so_and_no_others() -> TestResult {
    for (kind, groups) in [("thread", ["", ""]), ("process", ["", ""]), ("process", ["group = \"a\"", "group = \"b\""])]
    {
        let data = private()?;
        let top = format!("data-dir = \"{}\"\nworker-kind = \"{kind}\"\n", data.path().display());
        let folder = Folder::new(&(top + &sharing(groups[0], groups[1])))?;
        let server = folder.serve(&[]);
        let says = |host: &str, path: &str| {
            let response = ask_until_loaded(server.address, host, path);
            told(&response, 200, path)
        };
        says("one.test", "/draft/set?key=a&value=one");
        says("two.test", "/draft/set?key=a&value=two");
        assert_eq!([says("one.test", "/draft/get?key=a"), says("two.test", "/draft/get?key=a")], ["one", "two"]);
        says("one.test", "/draft/set?store=both&key=a&value=shared");
        assert_eq!(says("two.test", "/draft2/get?store=mine&key=a"), "shared");
        // Its own store of that name is another.
        assert_eq!(says("two.test", "/draft2/exists?store=links&key=a"), "false");
        assert_eq!(ask(server.address, "one.test", "/draft/get?store=links&key=a").text(), "access-denied");
    }
    Ok(())
}

#[test]
fn a_shared_store_that_no_table_declares_is_a_mistake_with_its_place() -> TestResult {
    let data = private()?;
    let top = format!("data-dir = \"{}\"\n[[store]]\nname = \"links\"\n", data.path().display());
    let folder = Folder::new(&(top + &app("one", GUESTS[0], "*", "stores = [\"a=lnks\"]")))?;
    let mut check = command();
    check.args(["config", "check", "-c"]).arg(folder.file());
    let finished = run(check);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    let text = &finished.stderr;
    assert!(text.contains("no `[[store]]` has the name `lnks`, is `links` meant?"), "{text}");
    Ok(())
}

#[test]
fn quotas_of_own_and_of_shared_stores_are_exact_and_a_reload_changes_them() -> TestResult {
    for kind in KINDS {
        let data = private()?;
        let file = |keys: u64| {
            format!(
                "data-dir = \"{}\"\nworker-kind = \"{kind}\"\n[[store]]\nname = \"links\"\nkeys-max = {keys}\nvalue-max = \"10B\"\n",
                data.path().display()
            ) + &app(
                "one",
                GUESTS[0],
                "*",
                "stores = [\"default\", \"links=links\"]\nlimits = { store-keys = 2, store-bytes = \"100B\" }",
            )
        };
        let folder = Folder::new(&file(3))?;
        let server = folder.serve(&[]);
        let told_by = |path: &str| ask_until_loaded(server.address, "one.test", path).text();
        // The app's own: two keys, a hundred bytes.
        assert_eq!(
            told_by("/draft/set-many?keys=a,b,c&value=v"),
            "other: the store has 2 keys, as many as its quota allows"
        );
        assert_eq!(told_by("/draft/exists?key=a"), "false", "none of them");
        assert_eq!(told_by("/draft/set-many?keys=a,b&value=v"), "set");
        assert_eq!(told_by("/draft/set?key=c&value=v"), "other: the store has 2 keys, as many as its quota allows");
        assert_eq!(told_by("/draft/set?key=a&bytes=97"), "set", "a hundred bytes with both keys and the other value");
        let full = "other: the store would have 101 bytes of keys and values; its quota allows 100";
        assert_eq!(told_by("/draft/set?key=a&bytes=98"), full);
        assert_eq!(told_by("/draft/size?key=a"), "Some(97)");
        // The shared one: three keys, of ten bytes.
        assert_eq!(told_by("/draft/set-many?store=links&keys=a,b,c&bytes=10"), "set");
        let large = "other: a value has 11 bytes; at most 10 are allowed";
        assert_eq!(told_by("/draft/set?store=links&key=a&bytes=11"), large);
        let fourth = "/draft/set?store=links&key=d&value=v";
        assert_eq!(told_by(fourth), "other: the store has 3 keys, as many as its quota allows");
        folder.write(&file(4))?;
        reload(&server);
        eventually("the quota counts", || told_by(fourth) == "set");
        let failures = of_all(&server.status(), "store_failures", "full");
        assert!(failures >= 4, "{failures}");
    }
    Ok(())
}

#[test]
fn a_key_is_gone_when_its_time_is_over() -> TestResult {
    for kind in KINDS {
        let host = Stored::new(GUESTS[1], kind, &["--store-ttl", "700ms"])?;
        let began = std::time::Instant::now();
        host.says("/draft2/set?key=a&value=v");
        let is_there = host.says("/draft2/exists?key=a") == "true";
        assert!(is_there || began.elapsed().as_millis() >= 700, "{kind}");
        eventually("it is gone", || get(host.server.address, "/draft2/get?key=a").status == 404);
        assert!(began.elapsed().as_millis() >= 700, "{kind}: after {:?}", began.elapsed());
        // Numbers, too; and what is set again begins anew.
        host.says("/draft2/set?key=a&value=w");
        assert_eq!(host.says("/draft2/get?key=a"), "w");
    }
    Ok(())
}

#[test]
fn a_reload_grants_stores_and_takes_them_away() -> TestResult {
    for kind in KINDS {
        let data = private()?;
        let top = format!("data-dir = \"{}\"\nworker-kind = \"{kind}\"\n", data.path().display());
        let one = app("one", GUESTS[0], "one.test/*", "stores = [\"default\"]");
        let two = |more: &str| app("two", GUESTS[0], "two.test/*", more);
        let folder = Folder::new(&(top.clone() + &one + &two("")))?;
        let server = folder.serve(&[]);
        let told_by = |host: &str, path: &str| ask_until_loaded(server.address, host, path).text();
        assert_eq!(told_by("one.test", "/draft/set?value=kept"), "set");
        assert_eq!(told_by("two.test", "/draft/set"), "access-denied");
        folder.write(&(top.clone() + &one + &two("stores = [\"default\", \"new\"]")))?;
        reload(&server);
        eventually("the grant counts", || told_by("two.test", "/draft/set?value=2") == "set");
        assert_eq!(told_by("two.test", "/draft/set?store=new&value=3"), "set");
        folder.write(&(top.clone() + &two("stores = [\"new\"]")))?;
        reload(&server);
        eventually("it is gone", || told_by("two.test", "/draft/get") == "access-denied");
        assert_eq!(told_by("two.test", "/draft/get?store=new"), "3");
        folder.write(&(top.clone() + &one + &two("stores = [\"default\"]")))?;
        reload(&server);
        eventually("what it held is there", || told_by("two.test", "/draft/get") == "2");
        assert_eq!(told_by("one.test", "/draft/get"), "kept");
    }
    Ok(())
}

#[test]
fn the_first_store_of_a_host_needs_a_restart_and_the_log_says_so() -> TestResult {
    let data = private()?;
    let top = format!("data-dir = \"{}\"\n", data.path().display());
    let one = |more: &str| app("one", GUESTS[0], "one.test/*", more);
    let folder = Folder::new(&(top.clone() + &one("")))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "one.test", "/draft/get").text(), "access-denied");
    folder.write(&(top + &one("stores = [\"default\"]")))?;
    server.signal("HUP");
    let record =
        server.wait_for_record("what to do", |record| message(record).contains("stores, which no app was granted"));
    assert!(record.to_string().contains("restart the host"), "{record}");
    assert_eq!(ask(server.address, "one.test", "/draft/get").text(), "access-denied", "the old settings go on");
    Ok(())
}
