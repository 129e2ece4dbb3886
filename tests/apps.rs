//! Several apps in one host (`wasmhost.toml`): does each request reach its app, has each app its own limits, grants and
//! faults, and does a reload change only what it names?

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::isolation::{self, named};
use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload, status_of};
use crate::support::server::status_field;
use crate::support::{Connection, FAULTS, Server, TestResult, eventually, get, guest, message};

/// An app of wasi 0.2 and one of wasi 0.3, side by side.
fn two() -> String {
    app("two", "faults.wasm", "two.test/*", "env = { NAME = \"app two\" }")
        + &app("three", "faults-p3.wasm", "three.test/*", "env = { NAME = \"app three\" }")
}

#[test]
fn requests_reach_their_apps_by_host_and_path() -> TestResult {
    let file = two()
        + &app("api", "faults.wasm", "two.test/api/*", "env = { NAME = \"the api\" }\nstrip-prefix = true")
        + &app("wild", "faults-p3.wasm", "*.example.test/*", "env = { NAME = \"wild\" }");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&[]);
    for (host, path, name) in [
        ("two.test", "/env", "app two"),
        ("TWO.test.:8080", "/env", "app two"),
        ("three.test", "/env", "app three"),
        ("two.test", "/api/env", "the api"),
        ("a.b.example.test", "/env", "wild"),
    ] {
        let response = ask_until_loaded(server.address, host, path);
        assert_eq!(response.status, 200, "{host}{path}");
        assert!(response.text().contains(name), "{host}{path}: {}", response.text());
    }
    let stripped = ask(server.address, "two.test", "/api/request?a=b");
    assert!(stripped.text().contains("path: /request?a=b"), "{}", stripped.text());
    for (host, path) in [("nobody.test", "/"), ("example.test", "/env"), ("127.0.0.1", "/")] {
        assert_eq!(ask(server.address, host, path).status, 404, "{host}{path}");
    }
    // One connection goes from app to app.
    let mut connection = Connection::open(server.address);
    for (host, name) in [("two.test", "app two"), ("three.test", "app three"), ("two.test", "app two")] {
        connection.send(format!("GET /env HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert!(connection.response().text().contains(name), "{host}");
    }
    // An absolute target wins over `Host` (RFC 9112, section 3.2.2).
    connection.send("GET http://three.test/env HTTP/1.1\r\nHost: two.test\r\n\r\n");
    assert!(connection.response().text().contains("app three"));
    Ok(())
}

#[test]
fn faults_and_limits_are_those_of_one_app() -> TestResult {
    let file = app("small", "faults.wasm", "small.test/*", "limits = { memory = \"16MiB\", cpu = \"100ms\" }")
        + &app("large", "faults.wasm", "large.test/*", "limits = { memory = \"200MiB\", cpu = \"20s\" }")
        + &app("third", "faults-p3.wasm", "third.test/*", "");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&[]);
    for host in ["small.test", "large.test", "third.test"] {
        assert_eq!(ask_until_loaded(server.address, host, "/hello").status, 200, "{host}");
    }
    assert_eq!(ask(server.address, "small.test", "/memory?bytes=100000000").text(), "refused");
    assert_eq!(ask(server.address, "large.test", "/memory?bytes=100000000").text(), "allocated 100000000");
    assert_eq!(ask(server.address, "small.test", "/spin?ms=2000").status, 500);
    assert_eq!(ask(server.address, "large.test", "/spin?ms=300").status, 200);
    let mut kept: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
    let count = |connection: &mut Connection| -> u64 {
        connection.send("GET /count HTTP/1.1\r\nHost: large.test\r\n\r\n");
        connection.response().text().trim().parse().expect("a number")
    };
    let before: u64 = kept.iter_mut().map(count).max().unwrap_or_default();
    for _ in 0..20 {
        for path in ["/trap", "/panic", "/exit", "/stack"] {
            assert_eq!(ask(server.address, "small.test", path).status, 500, "{path}");
        }
    }
    // Nobody took the instances of the other app away.
    assert!(kept.iter_mut().map(count).max() > Some(before));
    eventually("the faults are those of the app", || {
        status_of(&server, "small")["faults"]["trap"].as_u64() >= Some(20)
            && status_of(&server, "large")["faults"]["trap"] == 0
            && status_of(&server, "third")["faults"]["trap"] == 0
    });
    let record = server.wait_for_record("a fault", |record| record["fault"] == "trap");
    assert_eq!(record["app"], "small", "{record}");
    let metrics = server.admin("/metrics").text();
    let has = |parts: &[&str]| metrics.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["app=\"small\"", "fault=\"trap\""]) && has(&["app=\"third\""]), "{metrics}");
    Ok(())
}

#[test]
fn an_app_that_cannot_be_loaded_answers_503_and_the_others_go_on() -> TestResult {
    let file = two()
        + &app("broken", "./broken.wasm", "broken.test/*", "")
        + &app("gone", "./gone.wasm", "gone.test/*", "")
        + &app("trapping", "wat/start-trap.wat", "trapping.test/*", "");
    let folder = Folder::new(&file)?;
    folder.bytes("broken.wasm", b"garbage")?;
    let server = folder.serve(&[]);
    for host in ["two.test", "three.test"] {
        assert_eq!(ask_until_loaded(server.address, host, "/hello").status, 200, "{host}");
    }
    for name in ["broken", "gone", "trapping"] {
        let record = server.wait_for_record("that it is not loaded", |record| {
            record["app"] == name && record["level"] == "ERROR" && record["hint"].is_string()
        });
        assert!(message(&record).contains("load"), "{record}");
        let response = ask(server.address, &format!("{name}.test"), "/");
        assert_eq!((response.status, response.header("retry-after").is_some()), (503, true), "{name}");
        assert_eq!(status_of(&server, name)["state"], "failed", "{}", server.status());
    }
    for host in ["two.test", "three.test"] {
        assert_eq!(ask(server.address, host, "/hello").status, 200, "{host}");
    }
    Ok(())
}

#[test]
fn a_reload_changes_the_apps_that_it_names_and_no_others() -> TestResult {
    let component =
        |name: &str| app("changing", "./app.wasm", "changing.test/*", &format!("env = {{ NAME = \"{name}\" }}"));
    let folder = Folder::new(&(two() + &component("first")))?;
    folder.component("app.wasm", "faults.wasm")?;
    let server = folder.serve(&["--workers", "1"]);
    let text = |host: &str, path: &str| ask_until_loaded(server.address, host, path).text();
    assert!(text("changing.test", "/env").contains("first"));
    assert_eq!(text("two.test", "/count").trim(), "1");

    // Settings of one app.
    folder.write(&(two() + &component("second")))?;
    reload(&server);
    eventually("it has its new variable", || text("changing.test", "/env").contains("second"));
    assert_eq!(text("two.test", "/count").trim(), "2", "the same instance goes on");

    // Its component.
    folder.component("app.wasm", "hello.wasm")?;
    reload(&server);
    eventually("it has its new component", || text("changing.test", "/env").contains("Hello, World!"));
    assert_eq!(text("two.test", "/count").trim(), "3", "the same instance goes on");

    // A component that is broken: the old one serves, and the others are not asked.
    folder.bytes("app.wasm", b"garbage")?;
    reload(&server);
    server.wait_for_record("the failure", |record| record["app"] == "changing" && record["level"] == "ERROR");
    assert!(text("changing.test", "/env").contains("Hello, World!"));
    assert_eq!(text("two.test", "/count").trim(), "4", "the same instance goes on");

    // One goes, one comes.
    folder.write(&(two() + &app("new", "faults-p3.wasm", "new.test/*", "env = { NAME = \"new\" }")))?;
    reload(&server);
    assert!(text("new.test", "/env").contains("new"));
    eventually("the old one has gone", || ask(server.address, "changing.test", "/").status == 404);
    assert_eq!(text("two.test", "/count").trim(), "5", "the same instance goes on");

    // A mistake in one app leaves the others alone, and all mistakes are named. The app keeps what it had.
    let two_alone = app("two", "faults.wasm", "two.test/*", "env = { NAME = \"app two\" }");
    let wrong = app("three", "faults-p3.wasm", "three.test/*", "limits = { cpus = \"1s\" }\nisolation = \"none\"");
    folder.write(&(two_alone + &wrong + &app("newer", "faults.wasm", "newer.test/*", "env = { NAME = \"newer\" }")))?;
    reload(&server);
    for part in ["cpus", "isolation"] {
        server.wait_for_record(part, |record| record["level"] == "ERROR" && message(record).contains(part));
    }
    assert!(text("newer.test", "/env").contains("newer"));
    assert!(text("three.test", "/env").contains("app three"), "as it was");
    assert_eq!(ask(server.address, "new.test", "/").status, 404, "it is not in the file any more");
    assert_eq!(text("two.test", "/count").trim(), "6", "the same instance goes on");

    // A file that cannot be read as a whole changes nothing.
    folder.write("workers = ")?;
    server.signal("HUP");
    server.wait_for_record("the mistake", |record| record["level"] == "ERROR" && message(record).contains("TOML"));
    assert!(text("newer.test", "/env").contains("newer"));
    assert_eq!(text("two.test", "/count").trim(), "7", "the same instance goes on");
    Ok(())
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request() -> TestResult {
    let file = |number: usize| {
        two() + &app("changing", "faults.wasm", "changing.test/*", &format!("env = {{ NUMBER = \"{number}\" }}"))
    };
    let folder = Folder::new(&file(0))?;
    let server = folder.serve(&[]);
    for host in ["two.test", "three.test", "changing.test"] {
        ask_until_loaded(server.address, host, "/hello");
    }
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = ["two.test", "three.test", "changing.test", "changing.test"]
        .into_iter()
        .map(|host| {
            let (over, address) = (Arc::clone(&over), server.address);
            let live = move || {
                let (mut served, mut failed) = (0_u64, 0_u64);
                let mut kept = Connection::open(address);
                while !over.load(Relaxed) {
                    kept.send(format!("GET /hello HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                    if kept.response().status == 200 {
                        served += 1
                    } else {
                        failed += 1
                    }
                    if ask(address, host, "/hello").status == 200 { served += 1 } else { failed += 1 }
                }
                (served, failed)
            };
            std::thread::Builder::new().name("client".to_owned()).spawn(live).expect("a thread")
        })
        .collect();
    for number in 1..=100 {
        folder.write(&file(number))?;
        reload(&server);
    }
    eventually("the last one is served", || {
        let text = ask(server.address, "changing.test", "/env").text();
        text.contains("100")
    });
    over.store(true, Relaxed);
    for client in clients {
        let (served, failed) = client.join().expect("a client's thread");
        assert!(served > 100 && failed == 0, "{served} served, {failed} failed");
    }
    Ok(())
}

#[test]
fn an_app_that_computes_leaves_the_others_their_time() -> TestResult {
    let folder = Folder::new(&two())?;
    let server = folder.serve(&["--workers", "1"]);
    for host in ["two.test", "three.test"] {
        ask_until_loaded(server.address, host, "/hello");
    }
    for (busy, calm) in [("two.test", "three.test"), ("three.test", "two.test")] {
        let mut loops: Vec<Connection> = (0..64).map(|_| Connection::open(server.address)).collect();
        for connection in &mut loops {
            connection.send(format!("GET /spin?ms=3000 HTTP/1.1\r\nHost: {busy}\r\n\r\n"));
        }
        eventually("all compute", || status_of(&server, busy.trim_end_matches(".test"))["in_flight"] == 64);
        let mut connection = Connection::open(server.address);
        let mut waits: Vec<Duration> = (0..50)
            .map(|_| {
                let began = Instant::now();
                connection.send(format!("GET /hello HTTP/1.1\r\nHost: {calm}\r\n\r\n"));
                assert_eq!(connection.response().status, 200);
                began.elapsed()
            })
            .collect();
        waits.sort();
        // Turn by turn, 64 loops of a millisecond each would keep it waiting for 64 ms or more.
        assert!(waits[25] < Duration::from_millis(30), "{calm} beside {busy}: {waits:?}");
        // Half of the worker's time is its own, too: a call that computes is not one of 65.
        let began = Instant::now();
        connection.send(format!("GET /spin?ms=50 HTTP/1.1\r\nHost: {calm}\r\n\r\n"));
        assert_eq!(connection.response().status, 200);
        let elapsed = began.elapsed();
        assert!(elapsed < Duration::from_millis(1_000), "{calm} beside {busy}: 50 ms took {elapsed:?}");
        drop(loops);
        eventually("the loops have ended", || server.sum("in_flight") == 0);
    }
    Ok(())
}

#[test]
fn a_folder_with_a_file_is_served_without_a_flag_and_listeners_are_shared() -> TestResult {
    let folder = Folder::new(
        &("listen = [\"127.0.0.1:0\", \"unix:web.sock\"]\naccess-log = true\nlog-format = \"json\"\nadmin = \"127.0.0.1:0\"\n".to_owned() + &two()),
    )?;
    let mut command = crate::support::command();
    command.current_dir(folder.path());
    let server = Server::spawn(command);
    assert_eq!(ask_until_loaded(server.address, "two.test", "/hello").status, 200);
    assert_eq!(get(server.address, "/").status, 404);
    let record =
        server.wait_for_record("an access line", |record| record["target"] == "access" && record["status"] == 200);
    assert_eq!(record["app"], "two", "{record}");
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(folder.path().join("web.sock"))?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: three.test\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    Ok(())
}

#[test]
fn mistakes_are_all_reported_with_their_places() -> TestResult {
    let folder = Folder::new(
        "workers = 0\nlissten = \"x\"\n[[app]]\nname = \"a\"\ncomponent = \"a.wasm\"\nroutes = [\"a.test/*\"]\nlimits = { cpux = \"1s\" }\n",
    )?;
    let mut command = crate::support::command();
    command.arg("serve").arg("-c").arg(folder.file());
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in ["wasmhost.toml:1:", "wasmhost.toml:2:1", "`listen`", "wasmhost.toml:7:", "cpux"] {
        assert!(text.contains(part), "no {part} in:\n{text}");
    }
    Ok(())
}

/// A host with memory for the instances of a few of these apps only, which have 1 MiB and more each.
fn short_of_memory(workers: &str) -> std::io::Result<(Folder, Server, Vec<String>)> {
    let names: Vec<String> = (0..16).map(|nth| format!("a{nth}")).collect();
    let file = (0..)
        .zip(&names)
        .map(|(nth, name)| app(name, ["hello.wasm", "hello-p3.wasm"][nth % 2], &format!("{name}.test/*"), ""));
    let folder = Folder::new(&file.collect::<String>())?;
    let server = folder.serve(&["--workers", workers, "--memory-total", "12MiB", "--balance", "round-robin"]);
    Ok((folder, server, names))
}

#[test]
fn apps_that_have_no_memory_together_are_served_one_after_the_other() -> TestResult {
    let (_folder, server, names) = short_of_memory("1")?;
    for name in &names {
        ask_until_loaded(server.address, &format!("{name}.test"), "/");
    }
    for name in (0..3).flat_map(|_| &names) {
        // Longer than an app is spared that was just used.
        std::thread::sleep(Duration::from_millis(10));
        let answer = ask(server.address, &format!("{name}.test"), "/");
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    assert!(server.status()["instance_memory_bytes"].as_u64().is_some_and(|bytes| bytes <= 12 << 20));
    Ok(())
}

#[test]
fn apps_that_idle_on_one_worker_make_room_for_requests_to_another() -> TestResult {
    let (_folder, server, names) = short_of_memory("2")?;
    // Each is another worker's: the first has all the memory before the second worker has an app.
    let mut connections = [Connection::open(server.address), Connection::open(server.address)];
    for name in &names {
        eventually("it is loaded", || {
            connections[0].send(format!("GET / HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
            connections[0].response().status == 200
        });
    }
    for turn in 0..4 {
        let connection = &mut connections[turn % 2];
        for name in &names {
            // Longer than an app is spared that was just used.
            std::thread::sleep(Duration::from_millis(10));
            connection.send(format!("GET / HTTP/1.1\r\nHost: {name}.test\r\n\r\n"));
            let answer = connection.response();
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
        }
    }
    assert!(server.status()["instance_memory_bytes"].as_u64().is_some_and(|bytes| bytes <= 12 << 20));
    Ok(())
}

#[test]
fn an_instance_that_grows_has_apps_that_nobody_uses_make_room_at_once() -> TestResult {
    // An instance has 1 MiB and more; `hello-p3.wasm` is shared here, and gone a moment after its app fell asleep.
    let idle: Vec<String> = (0..8).map(|nth| format!("a{nth}")).collect();
    for (component, more, tries) in [("hello.wasm", "", 1), ("hello-p3.wasm", "instance-concurrency = 4", 8)] {
        let apps = idle.iter().map(|name| app(name, component, &format!("{name}.test/*"), more));
        let folder = Folder::new(&(apps.collect::<String>() + &app("grows", "faults.wasm", "grows.test/*", "")))?;
        let server = folder.serve(&["--workers", "1", "--memory-total", "13MiB"]);
        assert_eq!(ask_until_loaded(server.address, "grows.test", "/hello").status, 200);
        for name in &idle {
            ask_until_loaded(server.address, &format!("{name}.test"), "/");
        }
        // Longer than an app is spared for one that has more than an equal part.
        std::thread::sleep(Duration::from_millis(1_100));
        // More than is free, and than one of them has.
        let grow = || ask(server.address, "grows.test", "/memory?bytes=4000000").text();
        let grown = (0..tries).find(|_| grow() == "allocated 4000000");
        assert!(grown.is_some(), "{component}: {}", server.status());
        let awake = || idle.iter().filter(|name| status_of(&server, name)["instances"] == 1).count();
        let left = awake();
        assert!((1..idle.len()).contains(&left), "{component}: {left} have an instance");
        // What cannot be had puts nobody to sleep.
        assert_eq!(ask(server.address, "grows.test", "/memory?bytes=60000000").text(), "refused");
        assert_eq!(awake(), left, "{component}");
        for name in &idle {
            assert_eq!(ask(server.address, &format!("{name}.test"), "/").status, 200, "{component}: {name}");
        }
    }
    Ok(())
}

#[test]
fn an_app_that_nobody_asks_for_is_asleep_and_wakes_for_its_next_request() -> TestResult {
    let folder = Folder::new(&("app-idle-timeout = \"300ms\"\n".to_owned() + &two()))?;
    let server = folder.serve(&["--workers", "1"]);
    for host in ["two.test", "three.test"] {
        assert_eq!(ask_until_loaded(server.address, host, "/count").status, 200);
    }
    for round in 0..3 {
        eventually("both are asleep", || {
            ["two", "three"].iter().all(|app| status_of(&server, app)["state"] == "asleep")
        });
        assert_eq!(server.sum("instances"), 0, "round {round}");
        for host in ["two.test", "three.test"] {
            let response = ask(server.address, host, "/count");
            assert_eq!((response.status, response.text().trim()), (200, "1"), "{host}: a new instance, round {round}");
        }
    }
    // One that is used stays awake while the other falls asleep.
    let mut connection = Connection::open(server.address);
    let mut count = 1;
    for round in 0..3 {
        assert_eq!(ask(server.address, "three.test", "/count").status, 200);
        eventually("the other is asleep", || {
            count += 1;
            connection.send("GET /count HTTP/1.1\r\nHost: two.test\r\n\r\n");
            assert_eq!(connection.response().text().trim(), count.to_string(), "round {round}");
            status_of(&server, "three")["state"] == "asleep"
        });
    }
    Ok(())
}

#[test]
fn how_long_nobody_has_asked_for_an_app_counts_from_its_last_answer() -> TestResult {
    let folder = Folder::new(&("app-idle-timeout = \"2s\"\n".to_owned() + &two()))?;
    let server = folder.serve(&["--workers", "1"]);
    assert_eq!(ask_until_loaded(server.address, "two.test", "/count").status, 200);
    assert_eq!(ask(server.address, "two.test", "/sleep?ms=3000").status, 200);
    // Whether an app has had its time is looked at every half second.
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(ask(server.address, "two.test", "/count").text().trim(), "2", "the same instance");
    Ok(())
}

/// An upstream that takes every connection and never says a word.
fn silent() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        let _held: Vec<_> = listener.incoming().map_while(Result::ok).collect();
    })?;
    Ok(address)
}

#[test]
fn an_app_that_takes_all_outgoing_requests_that_it_can_get_leaves_some_to_the_others() -> TestResult {
    const ROUNDS: usize = 16;
    let (silent, upstream) = (silent()?, isolation::upstream());
    let grants = "allow-hosts = [\"127.0.0.1\"]\nisolation = \"worker\"";
    for kind in ["thread", "process"] {
        for component in FAULTS {
            let what = format!("{kind} {component}");
            let file =
                app("greedy", component, "greedy.test/*", grants) + &app("modest", component, "modest.test/*", grants);
            let folder = Folder::new(&file)?;
            let server = folder.serve(&["--workers", "1", "--worker-kind", kind, "--instances-per-worker", "64"]);
            for host in ["greedy.test", "modest.test"] {
                ask_until_loaded(server.address, host, "/hello");
            }
            let mut hoarders: Vec<Connection> = (0..ROUNDS).map(|_| Connection::open(server.address)).collect();
            for hoarder in &mut hoarders {
                hoarder.send(format!(
                    "GET /fetch-keep?count=100&url=http://{silent}/ HTTP/1.1\r\nHost: greedy.test\r\n\r\n"
                ));
            }
            // Those that get nothing have an answer; the others wait.
            eventually("the app has its part", || {
                status_of(&server, "greedy")["shortages"]["outgoing-requests"].as_u64() >= Some(100)
            });
            for _ in 0..3 {
                let fetched = ask(server.address, "modest.test", &format!("/fetch?url=http://{upstream}/"));
                assert_eq!(fetched.header("x-upstream-status"), Some("203"), "{what}: {}", fetched.text());
            }
            let refused = ask(server.address, "greedy.test", &format!("/fetch?url=http://{upstream}/"));
            assert!(named(&refused.text(), "connection-limit-reached"), "{what}: {}", refused.text());
            assert_eq!(status_of(&server, "modest")["shortages"]["outgoing-requests"], 0, "{what}");
            let told = |record: &Value| record["bound"] == "outgoing-requests" && record["app"] == "greedy";
            server.wait_for_record("a line about the app", told);
        }
    }
    Ok(())
}

#[test]
fn the_time_in_which_an_app_is_loaded_is_not_its_requests_time() -> TestResult {
    let folder = Folder::new(&app("slow", "./slow.wasm", "slow.test/*", "limits = { request-timeout = \"300ms\" }"))?;
    folder.bytes("slow.wasm", &slow_to_compile()?)?;
    let server = folder.serve(&["--workers", "1", "--queue-timeout", "60s", "--cache-dir", "off"]);
    let began = Instant::now();
    let response = ask(server.address, "slow.test", "/");
    assert!(began.elapsed() > Duration::from_millis(600), "{:?} is too short to see anything", began.elapsed());
    assert_eq!(response.status, 200, "{}", response.text());
    Ok(())
}

/// A guest that takes about a second to compile, and then answers "Hello, World!".
fn slow_to_compile() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let step = "(local.set $a (i32.add (i32.mul (local.get $a) (i32.const 77)) (i32.load (i32.and (local.get $b) (i32.const 1020)))))
        (if (i32.gt_u (local.get $a) (local.get $b)) (then (local.set $b (i32.xor (local.get $a) (local.get $b)))))\n";
    let function = format!("(func (param $a i32) (param $b i32) (result i32) {} (local.get $a))\n", step.repeat(60));
    let small = std::fs::read_to_string(guest("wat/hello.wat"))?;
    let (before, after) = small.split_once("(func (export \"handle\")").ok_or("its handler")?;
    Ok(wat::parse_str(format!("{before}{}(func (export \"handle\"){after}", function.repeat(2_000)))?)
}

#[test]
fn no_request_waits_for_the_engine_of_its_version_of_wasi() -> TestResult {
    let one = app("one", "faults.wasm", "one.test/*", "");
    let alone = Folder::new(&one)?;
    let alone = alone.serve(&[]);
    assert_eq!(ask_until_loaded(alone.address, "one.test", "/hello").status, 200);
    let among_others = Folder::new(&(one + &app("other", "faults.wasm", "other.test/*", "")))?;
    let among_others = among_others.serve(&[]);
    // Each engine reserves the same addresses for its pool of memory, some 24 TiB, and little else counts beside it.
    let addresses = |server: &Server| {
        let workers = server.worker_pids();
        let serving = workers.first().copied().unwrap_or_else(|| server.pid());
        status_field(serving, "VmSize:").unwrap_or_default() as f64
    };
    eventually("there is a second engine before an app of wasi 0.3 is", || {
        addresses(&among_others) > 1.9 * addresses(&alone)
    });
    Ok(())
}
