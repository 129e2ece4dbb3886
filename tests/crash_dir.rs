//! Crash bundles (`--crash-dir`) and `wasmhost replay`: what a fault leaves, how much of it, and whether the same request faults again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::apps::{Folder, app, ask, ask_until_loaded};
use crate::support::server::{signal, within};
use crate::support::wat::{More, component_of};
use crate::support::{Connection, Finished, Server, TestResult, command, eventually, get, guest, message, run};

/// CPU time far below the wall clock's limits, as in `recovery`.
const LIMITS: &str = "limits.cpu = \"200ms\"\nlimits.request-timeout = \"1500ms\"";

/// The bundles of a directory, in order.
fn bundles(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_bundle = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("crash-") && name.ends_with(".json")
    };
    files.filter(is_bundle).collect::<BTreeSet<_>>().into_iter().collect()
}

#[track_caller]
fn read(bundle: &Path) -> Value {
    serde_json::from_slice(&fs::read(bundle).expect("a file")).expect("a bundle is JSON")
}

/// The bundle of this kind of fault of this app; waits for it.
#[track_caller]
fn bundle_of(dir: &Path, kind: &str, app: &str) -> PathBuf {
    let ending = format!("-{kind}@{app}.json");
    let find = || bundles(dir).into_iter().find(|path| path.to_string_lossy().ends_with(&ending));
    eventually(&format!("there is a bundle {ending}"), || find().is_some());
    find().expect("it is there")
}

#[track_caller]
fn replay(words: &[&str]) -> Finished {
    let mut replay = command();
    replay.arg("replay").args(words);
    run(replay)
}

/// What it says with `--json`.
#[track_caller]
fn replay_json(words: &[&str], code: i32) -> Value {
    let finished = replay(&[words, &["--json"]].concat());
    assert_eq!(finished.code, Some(code), "{words:?}: {}{}", finished.stdout, finished.stderr);
    serde_json::from_str(&finished.stdout).expect("JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A file of settings with its bundles in `crashes`.
fn file(kind: &str, more: &str, apps: &[String]) -> String {
    format!("worker-kind = \"{kind}\"\ncrash-dir = \"crashes\"\ncrash-query = true\n{more}\n{}", apps.concat())
}

/// The metric of bundles with this outcome.
fn count(server: &Server, outcome: &str) -> u64 {
    server.status()["crash_bundles"][outcome].as_u64().unwrap_or_default()
}

#[test]
fn each_kind_of_fault_leaves_a_bundle_and_its_replay_faults_in_the_same_way() -> TestResult {
    // Of wrong use, wasmtime says that it is a trap.
    let of_p2: [(&str, &str); 9] = [
        ("/panic", "trap"),
        ("/exit?code=3", "exit"),
        ("/loop", "cpu"),
        ("/alloc", "memory"),
        ("/stack", "stack-overflow"),
        ("/never-answer", "never-answered"),
        ("/wait-forever", "wall"),
        ("/drop-body", "unfinished-body"),
        ("/never-finish", "body-idle"),
    ];
    let of_p3 = [("/panic", "trap"), ("/wait-forever", "wall"), ("/drop-body", "unfinished-body")];
    for kind in ["thread", "process"] {
        let limits = &format!("{LIMITS}\nlimits.body-idle-timeout = \"300ms\"");
        let apps = [
            app("a", "faults.wasm", "a.test/*", limits),
            app("b", "faults.wasm", "b.test/*", limits),
            app("p3", "faults-p3.wasm", "p3.test/*", limits),
        ];
        let folder = Folder::new(&file(kind, "", &apps))?;
        let dir = folder.path().join("crashes");
        let server = folder.serve(&["--access-log"]);
        assert_eq!(fs::metadata(&dir)?.permissions().mode() & 0o777, 0o700);
        // An app has eight bundles at once.
        let of_a = of_p2.iter().take(5).map(|row| ("a", row));
        let of_b = of_p2.iter().skip(5).map(|row| ("b", row));
        for (app, (path, fault)) in of_a.chain(of_b).chain(of_p3.iter().map(|row| ("p3", row))) {
            let host = format!("{app}.test");
            assert_eq!(ask_until_loaded(server.address, &host, "/status?code=201").status, 201);
            let mut connection = Connection::open(server.address);
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
            let _ = connection.try_response(false);
            let found = bundle_of(&dir, fault, app);
            assert_eq!(fs::metadata(&found)?.permissions().mode() & 0o777, 0o600);
            let bundle = read(&found);
            assert_eq!(
                (&bundle["app"], &bundle["fault"]["kind"]),
                (&(*app).into(), &(*fault).into()),
                "{kind} {path}: {bundle}"
            );
            assert_eq!(bundle["requests"][0]["target"], *path, "{bundle}");
            assert_eq!(bundle["settings"]["cpu-limit"], "200ms");
            // It is the one of the log, of the access log and of the events.
            let name = found.file_name().and_then(|name| name.to_str()).ok_or("a name")?;
            let (worker, request) = (&bundle["worker"], &bundle["request"]);
            let is_of_it = |record: &Value| record["worker"] == *worker && record["request"] == *request;
            let written = server.wait_for_record("a bundle is written", |record| record["bundle"] == name);
            assert!(is_of_it(&written) && written["fault"] == *fault, "{written}");
            let recycled = server.records(|record| is_of_it(record) && record["fault"] == *fault);
            assert!(recycled.len() >= 2, "{kind} {path}: {recycled:?}");
            eventually("its line in the access log is there", || {
                !server.records(|record| is_of_it(record) && record["target"] == "access").is_empty()
            });
            let events = get(server.admin_address(), "/events").text();
            let event = events.lines().find(|line| line.contains(name)).ok_or("no event names it")?;
            let event: Value = serde_json::from_str(event)?;
            assert!(event["event"] == "fault" && is_of_it(&event), "{event}");
            if *path == "/panic" {
                let said = bundle["stderr"]["text"].as_str().unwrap_or_default();
                assert!(said.contains(".rs:") && said.contains("as asked"), "{said}");
                assert!(bundle["frames"].as_array().is_some_and(|frames| frames.len() > 5), "{bundle}");
            }
            let replayed = replay_json(&[text(&found)], 3);
            let one = &replayed["replays"][0];
            assert_eq!(
                (&one["outcome"], &one["same_fault"]),
                (&"faulted".into(), &true.into()),
                "{kind} {path}: {replayed}"
            );
            assert_eq!(
                (&replayed["same_component"], &one["missing"]),
                (&true.into(), &Value::Array(vec![])),
                "{replayed}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_replay_with_the_seed_of_the_app_sees_the_same_chance() -> TestResult {
    let fresh = "isolation = \"request\"";
    let seeded = &format!("{fresh}\ndeterministic = 7");
    let apps = [
        app("p2", "faults.wasm", "p2.test/*", seeded),
        app("p3", "faults-p3.wasm", "p3.test/*", seeded),
        app("other", "faults.wasm", "other.test/*", fresh),
    ];
    for kind in ["thread", "process"] {
        let folder = Folder::new(&file(kind, "", &apps))?;
        let server = folder.serve(&[]);
        for (app, is_same) in [("p2", true), ("p3", true), ("other", false)] {
            let host = format!("{app}.test");
            assert_eq!(ask_until_loaded(server.address, &host, "/status?code=201").status, 201);
            ask(server.address, &host, "/panic-random?bytes=20");
            let bundle = bundle_of(&folder.path().join("crashes"), "trap", app);
            let said = read(&bundle)["stderr"]["text"].as_str().unwrap_or_default().to_owned();
            let is_hex = |line: &&str| line.len() == 40 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let chance = said.lines().find(is_hex).ok_or_else(|| format!("no random bytes in {said}"))?;
            for _ in 0..2 {
                let finished = replay(&[text(&bundle)]);
                assert_eq!(finished.code, Some(3), "{}", finished.stderr);
                assert_eq!(finished.stderr.contains(chance), is_same, "{kind} {app}: {chance}: {}", finished.stderr);
            }
        }
    }
    Ok(())
}

#[test]
fn wrong_use_of_the_host_leaves_a_bundle() -> TestResult {
    for kind in ["thread", "process"] {
        let folder = Folder::new(&file(kind, "", &[app("a", "faults.wasm", "*", "")]))?;
        let server = folder.serve(&[]);
        ask_until_loaded(server.address, "a.test", "/use-after-drop");
        let found = bundle_of(&folder.path().join("crashes"), "trap", "a");
        assert!(!read(&found)["fault"]["detail"].as_str().unwrap_or_default().is_empty());
        let replayed = replay_json(&[text(&found)], 3);
        assert_eq!(replayed["replays"][0]["same_fault"], true, "{replayed}");
    }
    Ok(())
}

#[test]
fn a_mended_component_does_not_fault_and_another_one_is_told() -> TestResult {
    let folder = Folder::new(&file("thread", "", &[app("a", "faults.wasm", "*", "")]))?;
    let server = folder.serve(&[]);
    ask_until_loaded(server.address, "a.test", "/trap");
    let found = bundle_of(&folder.path().join("crashes"), "trap", "a");
    let mended = replay(&[text(&found), &guest("hello.wasm")]);
    assert_eq!(mended.code, Some(0), "{}{}", mended.stdout, mended.stderr);
    for word in ["ANOTHER ONE: SHA-256", "it did not fault: status 200, 13 bytes", "fault      trap: "] {
        assert!(mended.stdout.contains(word), "{word}: {}", mended.stdout);
    }
    let again = replay(&[text(&found)]);
    assert_eq!(again.code, Some(3), "{}{}", again.stdout, again.stderr);
    for word in ["the recorded one", "it faulted again: trap", "GET http://a.test/trap"] {
        assert!(again.stdout.contains(word), "{word}: {}", again.stdout);
    }
    // Another limit is another fault: that of the guest's start.
    let other = replay(&[text(&found), "--cpu-limit", "1ms", "--target", "/loop"]);
    assert_eq!(other.code, Some(3), "{}{}", other.stdout, other.stderr);
    assert!(other.stdout.contains("it faulted IN ANOTHER WAY: cpu"), "{}", other.stdout);
    Ok(())
}

#[test]
fn a_bundle_grants_the_guest_of_its_replay_nothing() -> TestResult {
    let folder = Folder::new(&file("thread", "", &[app("a", "faults.wasm", "*", "")]))?;
    let server = folder.serve(&[]);
    ask_until_loaded(server.address, "a.test", "/trap");
    let found = bundle_of(&folder.path().join("crashes"), "trap", "a");
    let genuine = read(&found);
    // None of these can be granted: whoever took it would say so.
    for (name, value) in [
        ("dir", "/nowhere/at-all::/data"),
        ("env-file", "/nowhere/at-all"),
        ("secret", "A=file:/nowhere/at-all"),
        ("ca-file", "/nowhere/at-all"),
        ("allow-host", "no host"),
    ] {
        let mut forged = genuine.clone();
        forged["settings"][name] = value.into();
        let path = folder.path().join("forged.json");
        fs::write(&path, forged.to_string())?;
        let again = replay_json(&[text(&path)], 3);
        assert_eq!(again["replays"][0]["same_fault"], true, "{name}: {again}");
    }
    Ok(())
}

#[test]
fn secrets_of_a_request_are_left_out_and_flags_add_them_again() -> TestResult {
    for kind in ["thread", "process"] {
        let apps = [app("a", "faults.wasm", "*", "env = { LANGUAGE = \"de\" }\nallow-hosts = [\"up.test\"]")];
        let text_of_file = format!(
            "worker-kind = \"{kind}\"\ncrash-dir = \"crashes\"\ncrash-hide = [\"X-Tenant\"]\n{}",
            apps.concat()
        );
        let folder = Folder::new(&text_of_file)?;
        let server = folder.serve(&[]);
        ask_until_loaded(server.address, "a.test", "/status?code=201");
        let mut connection = Connection::open(server.address);
        connection.send(
            "POST /exit?code=41 HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer tulip\r\nCookie: id=rose\r\nX-Api-Key: daisy\r\n\
             X-Tenant: lily\r\nX-Note: seen\r\nReferer: https://b.test/c?token=iris\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        );
        assert_eq!(connection.response().status, 500);
        let found = bundle_of(&folder.path().join("crashes"), "exit", "a");
        let written = fs::read_to_string(&found)?;
        for secret in ["tulip", "rose", "daisy", "lily", "iris", "41", "hello"] {
            // (Numbers occur by chance.)
            let is_there = if secret == "41" { written.contains("code=41") } else { written.contains(secret) };
            assert!(!is_there, "{kind}: {secret} is in {written}");
        }
        let bundle = read(&found);
        let request = &bundle["requests"][0];
        let field = |name: &str| {
            let fields = request["headers"].as_array().expect("fields");
            fields.iter().find(|field| field["name"] == name).map(|field| field["value"].clone())
        };
        assert_eq!((field("x-note"), field("cookie")), (Some("seen".into()), Some(Value::Null)), "{request}");
        assert_eq!(field("referer"), Some("https://b.test/c?token=*".into()));
        assert_eq!((&request["target"], &request["body_bytes"]), (&"/exit?code=*".into(), &5.into()));
        assert_eq!(
            (&bundle["grants"]["env"], &bundle["grants"]["allow-host"]),
            (&serde_json::json!(["LANGUAGE"]), &serde_json::json!(["up.test"]))
        );
        // Without the number it is a request that the guest refuses.
        let bare = replay(&[text(&found)]);
        assert_eq!(bare.code, Some(0), "{}{}", bare.stdout, bare.stderr);
        for word in [
            "values of its query (--target)",
            "authorization, cookie",
            "x-api-key",
            "x-tenant",
            "its body of 5 bytes (--body)",
            "(not here, unless flags say so)",
            "--env LANGUAGE",
        ] {
            assert!(bare.stdout.contains(word), "{word}: {}", bare.stdout);
        }
        let body = folder.path().join("body");
        fs::write(&body, "hello")?;
        let headers =
            ["Authorization: a", "Cookie: b", "X-Api-Key: c", "X-Tenant: d"].map(|header| ["--header", header]);
        let mut words = vec![text(&found), "--target", "/exit?code=41", "--body", text(&body)];
        words.extend(headers.iter().flatten());
        let whole = replay_json(&words, 3);
        let one = &whole["replays"][0];
        assert_eq!((&one["same_fault"], &one["missing"]), (&true.into(), &serde_json::json!([])), "{whole}");
        assert!(one["faults"][0]["detail"].as_str().is_some_and(|detail| detail.contains("exit(1)")), "{whole}");
        // What the guest gets is what it got: the body, the fields, and a variable that is granted.
        let echoed = replay_json(&[text(&found), "--target", "/echo", "--body", text(&body)], 0);
        assert_eq!(
            (&echoed["replays"][0]["status"], &echoed["replays"][0]["body_bytes"]),
            (&200.into(), &5.into()),
            "{echoed}"
        );
    }
    Ok(())
}

#[test]
fn known_secrets_are_replaced_in_what_the_guest_wrote() -> TestResult {
    // A guest that writes its path to standard error, and traps.
    let more = More {
        component: "  (import \"wasi:cli/stderr@0.2.0\" (instance $stderr
    (alias outer 1 $output-stream-type (type $output-stream-of-stderr))
    (export \"output-stream\" (type $output-stream (eq $output-stream-of-stderr)))
    (export \"get-stderr\" (func (result (own $output-stream))))))
  (core func $get-stderr (canon lower (func $stderr \"get-stderr\")))",
        imports: &[("get-stderr", "(result i32)")],
        handle: "(call $write (call $get-stderr) (i32.const 1024) (i32.const 24) (global.get $result)) unreachable",
        ..More::default()
    };
    let component = more.file();
    let component = text(component.path()).to_owned();
    for kind in ["thread", "process"] {
        let apps = [app("a", &component, "*", "secrets = { KEY = \"file:key\" }\nenv = { NAME = \"rose-0815\" }")];
        let folder = Folder::new(&file(kind, "", &apps))?;
        fs::write(folder.path().join("key"), "tulip-4711\n")?;
        let server = folder.serve(&[]);
        ask_until_loaded(server.address, "a.test", "/x/tulip-4711/rose-0815/");
        let found = bundle_of(&folder.path().join("crashes"), "trap", "a");
        let bundle = read(&found);
        assert_eq!(
            bundle["stderr"]["text"].as_str().map(|text| text.trim_end_matches('\0')),
            Some("/x/[KEY]/[NAME]/"),
            "{bundle}"
        );
        assert_eq!(bundle["requests"][0]["target"], "/x/[KEY]/[NAME]/");
        let written = fs::read_to_string(&found)?;
        assert!(!written.contains("tulip-4711") && !written.contains("rose-0815"), "{written}");
        // So is what is left out of the request's head.
        let folder = Folder::new(&file(kind, "", &[app("b", &component, "*", "args = [\"--token=aster-1\"]")]))?;
        let server = folder.serve(&[]);
        eventually("it is loaded", || {
            let mut connection = Connection::open(server.address);
            let head = "GET /x/lily-99/aster-1/..... HTTP/1.1\r\nHost: b.test\r\nAuthorization: Bearer lily-99\r\n\r\n";
            connection.send(head);
            connection.response().status == 500
        });
        let written = read(&bundle_of(&folder.path().join("crashes"), "trap", "b"));
        assert_eq!(written["stderr"]["text"], "/x/[authorization]/[arg]/.....", "{written}");
        assert_eq!(written["grants"]["arg"], serde_json::json!(["1"]), "{written}");
    }
    Ok(())
}

/// A component that traps, with its lines as debug information.
fn with_lines(folder: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let source = folder.join("guest.wat");
    // (What a function begins with, wasmtime takes for its beginning.)
    let functions = "    (func $nothing)\n    (func $deepest\n      (call $nothing)\n      unreachable)\n    (func (export \"handle\") (param i32 i32)\n      (call $deepest))\n";
    fs::write(&source, component_of(functions))?;
    let text = fs::read_to_string(&source)?;
    let mut parser = wat::Parser::new();
    let binary = parser.generate_dwarf(wat::GenerateDwarf::Lines).parse_bytes(Some(&source), text.as_bytes())?;
    let component = folder.join("guest.wasm");
    fs::write(&component, binary)?;
    Ok(component)
}

#[test]
fn a_stack_has_the_lines_of_its_source_as_long_as_the_component_is_the_same() -> TestResult {
    for kind in ["thread", "process"] {
        let folder = Folder::new("")?;
        let component = with_lines(folder.path())?;
        folder.write(&file(kind, "", &[app("a", text(&component), "*", "")]))?;
        let server = folder.serve(&[]);
        ask_until_loaded(server.address, "a.test", "/");
        let found = bundle_of(&folder.path().join("crashes"), "trap", "a");
        let line = fs::read_to_string(folder.path().join("guest.wat"))?
            .lines()
            .position(|line| line.contains("unreachable"))
            .ok_or("a line")?
            + 1;
        let shown = replay(&[text(&found), "--show"]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        let place = format!("deepest at {}:{line}", text(&folder.path().join("guest.wat")));
        assert!(shown.stdout.contains(&place), "{place}: {}", shown.stdout);
        let replayed = replay_json(&[text(&found)], 3);
        assert_eq!(replayed["replays"][0]["faults"][0]["stack"][0]["line"], line, "{replayed}");
        // Of another component they would be wrong.
        fs::copy(guest("hello.wasm"), &component)?;
        let shown = replay(&[text(&found), "--show"]);
        assert!(shown.stdout.contains("deepest") && !shown.stdout.contains("guest.wat"), "{}", shown.stdout);
    }
    Ok(())
}

#[test]
fn number_size_and_rate_have_bounds_and_other_files_stay() -> TestResult {
    for kind in ["thread", "process"] {
        let apps = [app("a", "faults.wasm", "a.test/*", LIMITS), app("b", "faults.wasm", "b.test/*", LIMITS)];
        let folder = Folder::new(&file(kind, "crash-max = 3\ncrash-size = \"4KiB\"", &apps))?;
        let dir = folder.path().join("crashes");
        let server = folder.serve(&[]);
        for host in ["a.test", "b.test"] {
            assert_eq!(ask_until_loaded(server.address, host, "/status?code=201").status, 201);
        }
        fs::write(dir.join("notes.json"), "mine")?;
        fs::write(dir.join("crash-notes.json"), "mine, too")?;
        ask(server.address, "b.test", "/trap");
        let of_b = bundle_of(&dir, "trap", "b");
        for (path, fault) in
            [("/trap", "trap"), ("/exit?code=1", "exit"), ("/stack", "stack-overflow"), ("/loop", "cpu")]
        {
            let mut connection = Connection::open(server.address);
            let long = "v".repeat(6_000);
            connection
                .send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nX-Long: {long}\r\nConnection: close\r\n\r\n"));
            assert_eq!(connection.response().status, 500);
            let found = bundle_of(&dir, fault, "a");
            assert!(fs::metadata(&found)?.len() <= 4 << 10, "{kind} {fault}");
            assert_eq!(read(&found)["is_shortened"], true);
        }
        let left: Vec<String> = bundles(&dir).iter().map(|path| text(path).to_owned()).collect();
        assert_eq!(left.len(), 3 + 1, "those, and one that only looks like one: {left:?}");
        assert!(left.contains(&text(&of_b).to_owned()), "the other app has lost none: {left:?}");
        assert!(!left.iter().any(|name| name.ends_with("-trap@a.json")), "the oldest went: {left:?}");
        assert_eq!(fs::read(dir.join("crash-notes.json"))?, b"mine, too");
        assert_eq!(fs::read(dir.join("notes.json"))?, b"mine");
        // A guest that faults at each request has one bundle.
        eventually("all are counted", || count(&server, "written") == 5);
        let before = 5;
        for _ in 0..200 {
            assert_eq!(ask(server.address, "b.test", "/panic").status, 500);
        }
        eventually("it has one", || count(&server, "written") == before + 1);
        assert!(count(&server, "same") > 0, "{}", server.status()["crash_bundles"]);
        let metrics = server.admin("/metrics").text();
        assert!(metrics.contains("wasmhost_crash_bundles_total{outcome=\"same\"}"), "{metrics}");
        assert_eq!(bundles(&dir).len(), 3 + 1);
        assert_eq!(server.status()["crash_dir"], text(&dir));
    }
    Ok(())
}

#[test(needs(Mount))]
fn a_full_disk_costs_a_warning_and_a_count_and_the_host_goes_on() -> TestResult {
    for kind in ["thread", "process"] {
        let folder = Folder::new(&file(kind, "", &[app("a", "faults.wasm", "*", LIMITS)]))?;
        let dir = folder.path().join("crashes");
        fs::create_dir(&dir)?;
        let full = "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$0\" && ! head -c 100000 /dev/zero > \"$0/filler\" 2> /dev/null && exec \"$@\"";
        let mut serve = within(&["unshare", "--mount", "sh", "-c", full, text(&dir)]);
        serve.arg("serve").arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        serve.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
        let server = Server::spawn(serve);
        assert_eq!(ask_until_loaded(server.address, "a.test", "/trap").status, 500);
        let told = server.wait_for_record("the disk is full", |record| {
            record["message"].as_str().is_some_and(|text| text.starts_with("crash bundles could not be written"))
        });
        assert!(told["error"].as_str().is_some_and(|error| error.contains("No space left")), "{told}");
        eventually("it is counted", || count(&server, "failed") == 1 && count(&server, "written") == 0);
        assert_eq!(ask(server.address, "a.test", "/status?code=201").status, 201);
    }
    Ok(())
}

#[test]
fn a_host_that_is_killed_leaves_whole_bundles_or_none() -> TestResult {
    let folder = Folder::new(&file("thread", "", &[app("a", "faults.wasm", "*", LIMITS)]))?;
    let dir = folder.path().join("crashes");
    for round in 0..8_u64 {
        let mut server = folder.serve(&["--workers", "1"]);
        assert_eq!(ask_until_loaded(server.address, "a.test", "/status?code=201").status, 201);
        let mut connection = Connection::open(server.address);
        connection.send("GET /trap HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        assert_eq!(connection.response().status, 500);
        std::thread::sleep(Duration::from_micros(round * 400));
        signal(server.pid(), "KILL");
        server.wait_for_exit();
        for bundle in bundles(&dir) {
            assert_eq!(read(&bundle)["format"], 1, "{}", bundle.display());
        }
    }
    // What one left is no bundle for anybody.
    let unfinished = dir.join("crash-20000101T000000.000Z-0001-trap@a.json.new");
    fs::write(&unfinished, "{\"format\": 1, \"wasm")?;
    let shown = replay(&[text(&unfinished)]);
    assert_eq!(shown.code, Some(1), "{}", shown.stdout);
    assert!(shown.stderr.contains("it is no crash bundle") && shown.stderr.contains("hint: "), "{}", shown.stderr);
    let server = folder.serve(&["--workers", "1"]);
    ask_until_loaded(server.address, "a.test", "/exit?code=1");
    bundle_of(&dir, "exit", "a");
    Ok(())
}

#[test]
fn a_directory_that_others_can_reach_or_guests_can_is_refused() -> TestResult {
    let folder = Folder::new("")?;
    let dir = folder.path().join("crashes");
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755))?;
    folder.write(&file("thread", "", &[app("a", "hello.wasm", "*", "")]))?;
    let refused = run(folder.command(&[]));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    for word in ["`crash-dir`: others can read or write the directory", "chmod 700", "hint: "] {
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
    for granted in [".::/d:rw", "crashes::/d:rw", "crashes::/d"] {
        folder.write(&file("thread", "", &[app("a", "hello.wasm", "*", &format!("dirs = [\"{granted}\"]"))]))?;
        let mut check = command();
        check.args(["config", "check", "-c"]).arg(folder.file());
        let refused = run(check);
        assert_eq!(refused.code, Some(2), "{granted}: {}", refused.stderr);
        assert!(
            refused.stderr.contains("`crash-dir`") && refused.stderr.contains("the host's alone"),
            "{granted}: {}",
            refused.stderr
        );
    }
    Ok(())
}

#[test]
fn a_reload_names_the_settings_of_bundles_that_need_a_restart() -> TestResult {
    let apps = [app("a", "faults.wasm", "*", "")];
    let folder = Folder::new(&file("thread", "", &apps))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "a.test", "/status?code=201").status, 201);
    folder.write(&file("thread", "crash-max = 5", &apps))?;
    server.signal("HUP");
    server.wait_for_record("what needs a restart", |record| record.to_string().contains("crash-max"));
    assert_eq!(ask(server.address, "a.test", "/status?code=201").status, 201);
    // A deterministic app is replayed as it was.
    folder.write(&file("thread", "", &[app("a", "faults.wasm", "*", "deterministic = 7")]))?;
    server.signal("HUP");
    let is_done = |record: &serde_json::Value| message(record) == "reload: done";
    eventually("the new settings hold", || server.records(is_done).len() == 2);
    // (The same fault leaves one bundle in a minute.)
    ask(server.address, "a.test", "/trap");
    eventually("there is a bundle", || {
        bundles(&folder.path().join("crashes")).iter().any(|bundle| read(bundle)["settings"]["deterministic"] == "7")
    });
    Ok(())
}

#[test]
fn wrong_usage_of_replay_is_told_with_what_is_expected() -> TestResult {
    let folder = Folder::new(&file("thread", "", &[app("a", "faults.wasm", "*", "")]))?;
    let server = folder.serve(&[]);
    ask_until_loaded(server.address, "a.test", "/trap");
    let found = bundle_of(&folder.path().join("crashes"), "trap", "a");
    let other = folder.path().join("other.json");
    fs::write(&other, "{}")?;
    for (words, code, expected) in [
        (vec!["/no/such.json"], 1, "it cannot be read: No such file"),
        (vec![text(&other)], 1, "it is no crash bundle"),
        (vec!["/dev/zero"], 1, "it is no regular file"),
        (vec![text(&found), "/no/such.wasm"], 1, "there is no such file"),
        (vec![text(&found), "--listen", "127.0.0.1:0"], 2, "--listen: has no effect on a replay"),
        (vec![text(&found), "--store", "a", "--data-dir", "/tmp/none"], 2, "a replay has neither stores nor databases"),
        (vec![text(&found), "--header", "nothing"], 2, "is no header"),
        (vec![text(&found), "--target", "here"], 2, "must be a path"),
        (vec![text(&found), "--request", "999999"], 2, "the bundle has no request of this number"),
        (vec![text(&found), "--body", "/no/such"], 1, "the body `/no/such` cannot be read"),
        (vec![text(&found), "--cpu-limit", "fast"], 2, "--cpu-limit"),
        (vec![], 2, "BUNDLE"),
    ] {
        let told = replay(&words);
        assert_eq!(told.code, Some(code), "{words:?}: {}{}", told.stdout, told.stderr);
        assert!(told.stderr.contains(expected) && told.stderr.contains("hint: "), "{words:?}: {}", told.stderr);
    }
    Ok(())
}
