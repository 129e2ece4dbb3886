//! Databases of SQLite (`--sqlite`), as components for Spin ask for them by each version of the interface: one list of checks over
//! all of these and both kinds of workers, and what holds of grants, quotas, limits, killed processes and restarts.
//! `WASMHOST_TEST_TOOLCHAINS` names a folder that `guest/toolchains.sh` has filled, with which the components are built.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::programs::program;
use crate::stores::private;
use crate::support::apps::{Folder, app, ask_until_loaded, reload, status_of};
use crate::support::server::{signal, try_signal};
use crate::support::{
    Connection, Response, Server, TestResult, command, eventually, facility, get, guest, message, request, run,
};
use crate::table::{FIRST_START_CEILING, build, copy};
use crate::upgrade::Upgraded;

/// The programs, and the paths by which each asks.
const SPIN_2_AND_3: &str = "sqlite-spin-2";
const SPIN_4: &str = "sqlite-spin-4";
const ALL: [(&str, &str); 3] = [(SPIN_2_AND_3, "/2"), (SPIN_2_AND_3, "/3"), (SPIN_4, "/")];
const KINDS: [&str; 2] = ["thread", "process"];

/// Counts for ever.
const ENDLESS: &str = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c";

/// The component of a program, built once by this process.
fn component(name: &str) -> &'static str {
    static BUILT: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
    BUILT[usize::from(name == SPIN_4)].get_or_init(|| {
        // It is there as long as the tests run.
        let folder = tempfile::tempdir().expect("a folder").keep().join("project");
        copy(&program(name), &folder, name).expect("a copy");
        build(&facility::toolchains(), &folder).expect("a component");
        folder.join("spin-statements.wasm").to_str().expect("a path in UTF-8").to_owned()
    })
}

fn serve(name: &str, data: &Path, kind: &str, more: &[&str]) -> Server {
    let data = data.to_str().expect("a path in UTF-8");
    let flags = ["--workers", "2", "--worker-kind", kind, "--data-dir", data, "--sqlite", "default"];
    Server::start_within(FIRST_START_CEILING, component(name), &[&flags, more].concat())
}

/// A statement.
fn sql(text: &str) -> Value {
    json!({ "sql": text })
}

/// What came of these statements, on one connection.
fn answers(server: &Server, path: &str, statements: &[&str]) -> Vec<Value> {
    told(&post(server, path, &statements.iter().map(|text| sql(text)).collect::<Value>()))
}

fn post(server: &Server, path: &str, steps: &Value) -> Response {
    request(server.address, "POST", path, steps.to_string().as_bytes())
}

#[track_caller]
fn told(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.text());
    serde_json::from_slice(&response.body).expect("a list of JSON")
}

/// The error of a statement.
#[track_caller]
fn error(answer: &Value) -> &str {
    answer["error"].as_str().unwrap_or_else(|| panic!("no error: {answer}"))
}

/// The one value that a statement gave back.
fn value(answer: &Value) -> &Value {
    &answer["rows"][0][0]
}

/// A check of what a guest sees.
type Check = fn(&dyn Fn(Value) -> Response);

/// The contract: all of it holds for all versions of the interface, and both kinds of workers.
const CONTRACT: [(&str, Check); 9] = [
    ("values come back as they were stored", |ask| {
        let values = json!([null, -9_223_372_036_854_775_808_i64, 0.5, "ä\u{0}😀", "", [0, 255, 10]]);
        let mut steps = vec![sql("CREATE TABLE v (a, b, c, d, e, f)")];
        steps.push(json!({ "sql": "INSERT INTO v VALUES (?, ?, ?, ?, ?, ?)", "with": values }));
        steps.push(sql("SELECT *, typeof(f) FROM v"));
        let answers = told(&ask(steps.into()));
        let found = answers[2]["rows"][0].as_array().cloned().unwrap_or_default();
        assert_eq!(answers[2]["columns"], json!(["a", "b", "c", "d", "e", "f", "typeof(f)"]));
        assert_eq!((json!(found[..6]), &found[6]), (values, &json!("blob")));
    }),
    ("counts of what was changed", |ask| {
        let steps = ["CREATE TABLE n (a)", "INSERT INTO n VALUES (1), (2), (3)", "UPDATE n SET a = 0 WHERE a < 3"];
        let counts: Vec<_> =
            told(&ask(steps.map(sql).to_vec().into())).iter().map(|told| told["counts"].clone()).collect();
        if !counts[0].is_null() {
            assert_eq!(counts[1..], [json!([3, 3]), json!([2, 3])]);
        }
    }),
    ("large values, and a whole result of them", |ask| {
        let text = "x".repeat(1_000_000);
        let insert = json!({ "sql": "INSERT INTO large VALUES (?), (?), (?)", "with": [text, text, text] });
        let answers = told(&ask(json!([sql("CREATE TABLE large (a)"), insert, sql("SELECT a FROM large")])));
        let rows = answers[2]["rows"].as_array().cloned().unwrap_or_default();
        assert!(rows.len() == 3 && rows.iter().all(|row| row[0] == text.as_str()), "{}", rows.len());
        let double =
            told(&ask(vec![sql("SELECT a || a FROM large"), sql("SELECT a FROM large, (VALUES (1), (2))")].into()));
        assert!(error(&double[0]).contains("1048576 bytes") && error(&double[1]).contains("50000 rows"), "{double:?}");
    }),
    ("what is wrong is said", |ask| {
        let steps = ["SELEC 1", "SELECT 1; SELECT 2", "SELECT ?", "SELECT 1"];
        let answers = told(&ask(steps.map(sql).to_vec().into()));
        for (answer, said) in answers.iter().zip(["syntax error", "more than one statement", "was given 0"]) {
            assert!(error(answer).starts_with("Error::Io(") && error(answer).contains(said), "{answer}");
        }
        assert_eq!(value(&answers[3]), 1);
    }),
    ("a transaction is stored as a whole", |ask| {
        let stored = |end: &str| {
            let steps = ["DROP TABLE IF EXISTS t", "CREATE TABLE t (a)", "BEGIN", "INSERT INTO t VALUES (1)", end];
            let response = ask(steps.map(sql).to_vec().into());
            let counted = told(&ask(vec![sql("SELECT count(*) FROM t")].into()));
            (response.status, value(&counted[0]).clone())
        };
        assert_eq!(stored("COMMIT"), (200, json!(1)));
        assert_eq!(stored("ROLLBACK"), (200, json!(0)));
        assert_eq!(stored("SELECT 1"), (200, json!(0)), "it was left open");
        assert_eq!(stored("CLOSE"), (200, json!(0)), "its connection was closed");
        assert_eq!(stored("TRAP"), (500, json!(0)), "its guest has failed");
        let counted = told(&ask(["INSERT INTO t VALUES (1)", "SELECT count(*) FROM t"].map(sql).to_vec().into()));
        assert_eq!(value(&counted[1]), 1, "nothing of it is in anybody's way");
    }),
    ("connections are apart", |ask| {
        let on = |on: u32, text: &str| json!({ "on": on, "sql": text });
        let answers = told(&ask(json!([
            on(0, "CREATE TABLE apart (a)"),
            on(0, "BEGIN IMMEDIATE"),
            on(0, "INSERT INTO apart VALUES (1)"),
            on(1, "SELECT count(*) FROM apart"),
            on(0, "SELECT count(*) FROM apart"),
            on(0, "COMMIT"),
            on(1, "SELECT count(*) FROM apart"),
        ])));
        assert_eq!([3, 4, 6].map(|at| value(&answers[at]).clone()), [json!(0), json!(1), json!(1)]);
    }),
    ("other databases are closed", |ask| {
        for name in ["other", "", "../default", "statements/default"] {
            let answers = told(&ask(json!([{ "database": name, "sql": "SELECT 1" }])));
            assert_eq!(error(&answers[0]), "Error::AccessDenied", "{name}");
        }
    }),
    ("what would leave the database is refused", |ask| {
        for text in [
            "ATTACH '/etc/passwd' AS x",
            "VACUUM INTO '/tmp/x'",
            "PRAGMA synchronous = OFF",
            "SELECT load_extension('x')",
        ] {
            let answers = told(&ask(vec![sql(text)].into()));
            assert!(
                error(&answers[0]).contains("not allowed") || error(&answers[0]).contains("no such function"),
                "{answers:?}"
            );
        }
    }),
    ("an instance has eight connections", |ask| {
        let steps: Vec<_> = (0..9).map(|on| json!({ "on": on, "sql": "SELECT 1" })).collect();
        let answers = told(&ask(steps.into()));
        assert!(answers[..8].iter().all(|answer| value(answer) == 1), "{answers:?}");
        assert!(error(&answers[8]).contains("8 connections are open"), "{answers:?}");
        assert_eq!(value(&told(&ask(vec![sql("SELECT 2")].into()))[0]), 2, "they were closed");
    }),
];

#[test(needs(Toolchains))]
fn components_of_each_version_of_spin_have_databases() -> TestResult {
    for kind in KINDS {
        for (name, path) in ALL {
            let data = private()?;
            let server = serve(name, data.path(), kind, &[]);
            for (what, check) in CONTRACT {
                eprintln!("{name}{path}, {kind}: {what}");
                check(&|steps| post(&server, path, &steps));
            }
        }
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn a_database_that_is_not_granted_is_refused_and_the_log_names_the_grant() -> TestResult {
    for (name, path) in ALL {
        let server = Server::start_within(FIRST_START_CEILING, component(name), &[]);
        assert_eq!(error(&answers(&server, path, &["SELECT 1"])[0]), "Error::AccessDenied", "{name}");
        let record = server.wait_for_record("the grant", |record| record["limit"] == "--sqlite");
        assert!(message(&record).contains("`--sqlite default`"), "{record}");
        let denied = of_all(&server.status(), "database_failures", "denied");
        assert_eq!(denied, 1, "{name}");
    }
    let mut inspect = command();
    inspect.args(["inspect", component(SPIN_2_AND_3)]);
    let told = run(inspect);
    assert!(told.stdout.contains("databases of SQLite") && told.stdout.contains("--sqlite NAME"), "{}", told.stdout);
    Ok(())
}

/// A count of all workers, by its label.
fn of_all(status: &Value, field: &str, label: &str) -> u64 {
    let workers = status["workers"].as_array().into_iter().flatten();
    workers.map(|worker| worker[field][label].as_u64().unwrap_or(0)).sum()
}

#[test]
fn a_database_needs_a_place_and_the_error_says_which_flag_is_missing() -> TestResult {
    for (name, said) in [("default", "--data-dir DIR"), ("a/b", "the name of a database must be 1 to 63")] {
        let mut serve = command();
        serve
            .arg(guest("hello.wasm"))
            .args(["--sqlite", name, "--listen", "127.0.0.1:0"])
            .env_remove("STATE_DIRECTORY");
        let finished = run(serve);
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains("--sqlite") && finished.stderr.contains(said), "{}", finished.stderr);
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn a_statement_ends_with_the_time_of_its_request_and_the_database_is_there_for_others() -> TestResult {
    for kind in KINDS {
        for (name, path) in ALL {
            let data = private()?;
            let server = serve(name, data.path(), kind, &["--cpu-limit", "300ms", "--request-timeout", "2s"]);
            answers(&server, path, &["CREATE TABLE t (a)"]);
            let began = Instant::now();
            let response = post(&server, path, &json!([sql(ENDLESS), sql("SELECT 1")]));
            assert!(began.elapsed() < Duration::from_secs(2), "{kind} {name}: {:?}", began.elapsed());
            assert_ne!(response.status, 200, "{kind} {name}: {}", response.text());
            server.wait_for_record("the limit", |record| record["limit"] == "--cpu-limit");
            assert_eq!(of_all(&server.status(), "database_failures", "time"), 1, "{kind} {name}");
            assert!(answers(&server, path, &["INSERT INTO t VALUES (1)"])[0]["rows"].is_array(), "{kind} {name}");
            let spent: u64 = server.sum("database_cpu_us");
            assert!((250_000..2_000_000).contains(&spent), "{kind} {name}: {spent} µs");
            drop(server);
            // By the clock.
            let server = serve(name, data.path(), kind, &["--cpu-limit", "1h", "--request-timeout", "500ms"]);
            let steps = ["BEGIN IMMEDIATE", "INSERT INTO t VALUES (2)", ENDLESS].map(sql).to_vec();
            let began = Instant::now();
            assert_eq!(post(&server, path, &steps.into()).status, 504, "{kind} {name}");
            let counted = answers(&server, path, &["INSERT INTO t VALUES (3)", "SELECT sum(a) FROM t"]);
            assert_eq!(value(&counted[1]), 4, "{kind} {name}");
            assert!(began.elapsed() < Duration::from_secs(3), "{kind} {name}: {:?}", began.elapsed());
        }
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn status_and_metrics_tell_of_databases() -> TestResult {
    for kind in KINDS {
        let data = private()?;
        let server = serve(SPIN_2_AND_3, data.path(), kind, &["--sqlite-bytes-max", "1MiB"]);
        answers(&server, "/2", &["CREATE TABLE t (a)", "INSERT INTO t VALUES (zeroblob(100000))", "SELEC 1"]);
        let status = server.status();
        assert_eq!(status["apps"][0]["databases"], json!({ "default": "spin-statements/default" }));
        assert_eq!(server.sum("database_statements"), 3);
        assert_eq!(of_all(&status, "database_failures", "statement"), 1);
        let bytes = status["database_bytes"]["spin-statements/default"].as_u64().unwrap_or(0);
        assert!((100_000..2_000_000).contains(&bytes), "{status}");
        assert_eq!(status["database_bytes_max"]["spin-statements/default"], 1 << 20);
        let metrics = server.admin("/metrics").text();
        for (line, least) in [
            ("wasmhost_database_bytes{database=\"spin-statements/default\"}", 100_000.0),
            ("wasmhost_database_bytes_max{database=\"spin-statements/default\"}", 1_048_576.0),
        ] {
            let found = metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok());
            assert!(found.is_some_and(|found| found >= least), "{line}: {found:?}");
        }
        for name in [
            "wasmhost_database_statements_total",
            "wasmhost_database_failures_total",
            "wasmhost_database_wait_seconds_total",
        ] {
            assert!(metrics.contains(name), "{name}");
        }
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn a_quota_is_kept_to_and_a_reload_changes_it() -> TestResult {
    let data = private()?;
    let file = |bytes: &str| {
        let more = format!("sqlite = [\"default\"]\nlimits = {{ sqlite-bytes = \"{bytes}\" }}");
        format!("data-dir = \"{}\"\n", data.path().display()) + &app("one", component(SPIN_2_AND_3), "*", &more)
    };
    let folder = Folder::new(&file("64KiB"))?;
    let server = folder.serve(&[]);
    ask_until_loaded(server.address, "one.test", "/");
    answers(&server, "/2", &["CREATE TABLE t (a)"]);
    let fill = ["INSERT INTO t VALUES (zeroblob(100000))"];
    assert_eq!(error(&answers(&server, "/2", &fill)[0]), "Error::DatabaseFull");
    folder.write(&file("1MiB"))?;
    reload(&server);
    eventually("the quota counts", || answers(&server, "/2", &fill)[0]["rows"].is_array());
    Ok(())
}

#[test(needs(Toolchains))]
fn apps_have_databases_of_their_own_and_a_reload_grants_and_takes_away() -> TestResult {
    for (kind, groups) in [("thread", ["", ""]), ("process", ["", ""]), ("process", ["group = \"a\"", "group = \"b\""])]
    {
        let data = private()?;
        let top = format!("data-dir = \"{}\"\nworker-kind = \"{kind}\"\n", data.path().display());
        let one = app("one", component(SPIN_2_AND_3), "/2", &format!("sqlite = [\"default\"]\n{}", groups[0]));
        let two = |more: &str| app("two", component(SPIN_4), "/", &format!("{more}\n{}", groups[1]));
        let folder = Folder::new(&(top.clone() + &one + &two("sqlite = [\"default\", \"more\"]")))?;
        let server = folder.serve(&[]);
        for path in ["/2", "/"] {
            ask_until_loaded(server.address, "test", path);
        }
        let make = ["CREATE TABLE t (a)", "INSERT INTO t VALUES (1)"];
        for path in ["/2", "/"] {
            assert!(answers(&server, path, &make).iter().all(|answer| answer["rows"].is_array()), "{kind} {groups:?}");
        }
        let more = json!([{ "database": "more", "sql": "SELECT count(*) FROM sqlite_schema" }]);
        assert_eq!(value(&told(&post(&server, "/", &more))[0]), 0, "{kind}: another database");
        assert_eq!(status_of(&server, "two")["databases"], json!({ "default": "two/default", "more": "two/more" }));
        folder.write(&(top.clone() + &one + &two("sqlite = [\"more\"]")))?;
        reload(&server);
        let count = ["SELECT count(*) FROM t"];
        eventually("it is taken away", || answers(&server, "/", &count)[0]["error"] == "Error::AccessDenied");
        assert_eq!(value(&answers(&server, "/2", &count)[0]), 1);
        folder.write(&(top.clone() + &one + &two("sqlite = [\"default\"]")))?;
        reload(&server);
        eventually("what it held is there", || value(&answers(&server, "/", &count)[0]) == 1);
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn the_first_database_of_a_host_needs_a_restart_and_the_log_says_so() -> TestResult {
    let data = private()?;
    let top = format!("data-dir = \"{}\"\n", data.path().display());
    let one = |more: &str| app("one", component(SPIN_2_AND_3), "*", more);
    let folder = Folder::new(&(top.clone() + &one("")))?;
    let server = folder.serve(&[]);
    ask_until_loaded(server.address, "one.test", "/");
    assert!(server.databases_pid().is_none(), "nobody needs it");
    folder.write(&(top + &one("sqlite = [\"default\"]")))?;
    server.signal("HUP");
    let record =
        server.wait_for_record("what to do", |record| message(record).contains("databases, which no app was granted"));
    assert!(record.to_string().contains("restart the host"), "{record}");
    assert_eq!(answers(&server, "/2", &["SELECT 1"])[0]["error"], "Error::AccessDenied", "the old settings go on");
    Ok(())
}

#[test(needs(Toolchains))]
fn the_process_of_the_databases_is_confined_and_is_started_again_when_it_is_killed() -> TestResult {
    for kind in KINDS {
        let data = private()?;
        let mut server = serve(SPIN_2_AND_3, data.path(), kind, &[]);
        answers(&server, "/2", &["CREATE TABLE t (a)", "INSERT INTO t VALUES (1)"]);
        let pid = server.databases_pid().ok_or("a process")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
        signal(pid, "KILL");
        eventually("another one answers", || {
            let answers = answers(&server, "/2", &["SELECT count(*) FROM t"]);
            value(&answers[0]) == 1
        });
        assert!(server.databases_pid().is_some_and(|other| other != pid), "{kind}");
        assert_eq!(server.status()["database_process_deaths"], 1, "{kind}");
        server
            .wait_for_record("its end", |record| message(record).contains("process that has the databases has ended"));
        // It ends with the host, and closes what it has: there is no log any more.
        let pid = server.databases_pid().ok_or("a process")?;
        server.signal("TERM");
        assert!(server.wait_for_exit().success(), "{kind}");
        assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "{kind}");
        let files: Vec<_> =
            std::fs::read_dir(data.path().join("sqlite"))?.flatten().map(|file| file.file_name()).collect();
        assert_eq!(files, ["spin-statements@default.db"], "{kind}");
        let modes = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(
            data.path().join("sqlite/spin-statements@default.db"),
        )?);
        assert_eq!(modes & 0o777, 0o600, "{kind}");
    }
    Ok(())
}

/// How often the host is killed; `WASMHOST_TEST_SQLITE_KILLS` says another number.
fn kills() -> usize {
    std::env::var("WASMHOST_TEST_SQLITE_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

/// Writers insert numbers until the host is gone: those that were acknowledged.
fn write_until_killed(server: &Server, writer: u64, next: &mut u64) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    loop {
        let number = writer * 1_000_000 + *next;
        *next += 1;
        // After a `BEGIN` that failed, each statement would be stored by itself.
        let steps = json!([
            { "sql": "BEGIN IMMEDIATE", "vital": true },
            { "sql": "INSERT INTO t VALUES (?, 'one')", "with": [number], "vital": true },
            { "sql": "INSERT INTO t VALUES (?, 'two')", "with": [number], "vital": true },
            sql("COMMIT"),
        ])
        .to_string();
        let Ok(stream) = TcpStream::connect(server.address) else { return acknowledged };
        let mut connection = Connection { stream, buffer: Vec::new() };
        let head = format!("POST /3 HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", steps.len());
        if connection.stream.write_all((head + &steps).as_bytes()).is_err() {
            return acknowledged;
        }
        let Some(response) = connection.try_response(false) else { return acknowledged };
        let answers: Vec<Value> = serde_json::from_slice(&response.body).unwrap_or_default();
        if response.status == 200 && answers.len() == 4 && answers.iter().all(|answer| answer["rows"].is_array()) {
            acknowledged.push(number);
        }
    }
}

/// The whole host is killed at random moments, and now and then the process of the databases alone.
#[test(needs(Toolchains))]
fn acknowledged_transactions_survive_kill_and_no_half_of_one_is_there() -> TestResult {
    const WRITERS: u64 = 4;
    let data = private()?;
    let mut acknowledged = BTreeSet::new();
    let mut next = [0; WRITERS as usize];
    let mut random = 0x9e37_79b9_u64;
    for round in 0..kills() {
        let kind = KINDS[round % 2];
        let server = serve(SPIN_2_AND_3, data.path(), kind, &[]);
        assert!(answers(&server, "/3", &["CREATE TABLE IF NOT EXISTS t (n INTEGER, half TEXT)"])[0]["rows"].is_array());
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let delay = Duration::from_millis(50 + random % 700);
        thread::scope(|scope| {
            let server = &server;
            let writers: Vec<_> = (0..WRITERS)
                .zip(&mut next)
                .map(|(writer, next)| scope.spawn(move || write_until_killed(server, writer, next)))
                .collect();
            thread::sleep(delay);
            if round % 3 == 1 {
                server.databases_pid().map(|pid| try_signal(pid, "KILL"));
                thread::sleep(delay);
            }
            for pid in server.pids() {
                try_signal(pid, "KILL");
            }
            acknowledged.extend(writers.into_iter().flat_map(|writer| writer.join().expect("a writer")));
        });
        drop(server);
        let server = serve(SPIN_2_AND_3, data.path(), KINDS[(round + 1) % 2], &[]);
        let told = answers(&server, "/3", &["SELECT n, count(*) FROM t GROUP BY n", "PRAGMA quick_check"]);
        assert_eq!(value(&told[1]), "ok", "round {round}");
        let rows = told[0]["rows"].as_array().ok_or("rows")?;
        assert!(rows.iter().all(|row| row[1] == 2), "round {round}: a half is there");
        let found: BTreeSet<u64> = rows.iter().filter_map(|row| row[0].as_u64()).collect();
        let lost: Vec<_> = acknowledged.difference(&found).collect();
        assert!(lost.is_empty(), "round {round}: acknowledged and lost: {lost:?}");
        eprintln!("round {round}, {kind}: {} acknowledged, {} there", acknowledged.len(), found.len());
    }
    assert!(acknowledged.len() >= kills(), "nothing was tested: {} acknowledged", acknowledged.len());
    Ok(())
}

#[test(needs(Toolchains))]
fn a_file_that_is_damaged_is_named_in_the_log_and_not_to_the_guest() -> TestResult {
    let data = private()?;
    drop(serve(SPIN_2_AND_3, data.path(), "thread", &[]));
    std::fs::write(data.path().join("sqlite/spin-statements@default.db"), [b'x'; 8_192])?;
    let server = serve(SPIN_2_AND_3, data.path(), "process", &["--sqlite", "more"]);
    let told = answers(&server, "/2", &["SELECT 1"]);
    assert_eq!(error(&told[0]), "Error::Io(\"the database is damaged\")");
    let record = server.wait_for_record("the file", |record| message(record).contains("@default.db is damaged"));
    assert!(record["hint"].as_str().is_some_and(|hint| hint.contains("backup")), "{record}");
    let more = json!([{ "database": "more", "sql": "SELECT 1" }]);
    assert_eq!(value(&told_of(&server, &more)), 1, "the other one is served");
    assert_eq!(get(server.address, "/nowhere").status, 500, "no list of statements");
    Ok(())
}

fn told_of(server: &Server, steps: &Value) -> Value {
    told(&post(server, "/2", steps)).swap_remove(0)
}

#[test(needs(Toolchains))]
fn rows_are_there_after_upgrades_of_the_host_and_no_statement_fails() -> TestResult {
    for kind in KINDS {
        let data = private()?;
        // (Compiled here, the first time.)
        drop(self::serve(SPIN_4, data.path(), kind, &[]));
        let mut serve = command();
        serve.arg(component(SPIN_4)).args(["--listen", "127.0.0.1:0", "--workers", "2", "--worker-kind", kind]);
        serve.arg("--data-dir").arg(data.path()).args(["--sqlite", "default", "--log-format", "json"]);
        let host = Upgraded::spawn(serve)?;
        let execute = |text: &str| {
            let steps = json!([sql(text)]).to_string();
            told(&request(host.place, "POST", "/", steps.as_bytes()))
        };
        execute("CREATE TABLE n (n INTEGER)");
        thread::scope(|scope| -> TestResult {
            let inserts = scope.spawn(|| (0..100).for_each(|n| drop(execute(&format!("INSERT INTO n VALUES ({n})")))));
            host.upgraded(&[]);
            host.upgraded(&[]);
            inserts.join().map_err(|_| "a statement failed".into())
        })?;
        assert_eq!(value(&execute("SELECT count(*) FROM n")[0]), 100, "{kind}");
    }
    Ok(())
}
