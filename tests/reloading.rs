//! Reloads of `wasmhost.toml` beyond its apps' own settings: addresses, and what the host's processes were confined to.

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::shutdown::get_over_unix;
use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload, status_of};
use crate::support::{Connection, Server, TestResult, eventually, free_port, message};

#[test]
fn addresses_come_and_go_without_a_restart() -> TestResult {
    for kind in ["thread", "process"] {
        let hello = app("hello", "hello.wasm", "*", "");
        let [first, second] = [free_port(), free_port()];
        let listen = |addresses: &[String]| format!("listen = {addresses:?}\n{hello}");
        // An address that is this test's alone: on 127.0.0.1 another test may take a port that was free just now.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let (one, two) = (format!("127.77.{high}.{low}:{first}"), format!("127.77.{high}.{low}:{second}"));
        let (kept, new) = ("unix:kept.sock".to_owned(), "unix:new.sock".to_owned());
        let folder = Folder::new(&listen(&[one.clone(), kept.clone()]))?;
        let mut command = crate::support::command();
        command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        let mut server = Server::spawn({
            command.args(["--worker-kind", kind]);
            command
        });
        assert_eq!(ask_until_loaded(one.parse()?, "a.test", "/").status, 200, "{kind}");

        folder.write(&listen(&[two.clone(), kept.clone(), new.clone()]))?;
        reload(&server);
        let unix = |name: &str| get_over_unix(&folder.path().join(name), "/");
        assert_eq!(ask(two.parse()?, "a.test", "/").status, 200, "{kind}");
        for name in ["kept.sock", "new.sock"] {
            assert!(unix(name)?.starts_with("HTTP/1.1 200"), "{kind} {name}");
        }
        eventually("the first address is given up", || TcpListener::bind(&one).is_ok());

        folder.write(&listen(&[two, kept]))?;
        reload(&server);
        eventually("its file is gone", || !Path::exists(&folder.path().join("new.sock")));
        assert!(unix("kept.sock")?.starts_with("HTTP/1.1 200"), "{kind}");
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
        assert!(!folder.path().join("kept.sock").exists(), "{kind}: the file is removed");
    }
    Ok(())
}

#[test]
fn old_addresses_answer_until_the_host_listens_on_all_new_ones() -> TestResult {
    for kind in ["thread", "process"] {
        let hello = app("hello", "hello.wasm", "*", "");
        let listen = |addresses: &str| format!("listen = [\"unix:kept.sock\", {addresses}]\n{hello}");
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let (port, free) = (free_port(), free_port());
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // An address that is this test's alone.
        let one = format!("127.77.{high}.{low}:{port}");
        let folder = Folder::new(&listen(&format!("\"{one}\", \"unix:gone.sock\"")))?;
        let mut command = crate::support::command();
        command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        command.args(["--worker-kind", kind]);
        let server = Server::spawn(command);
        assert_eq!(ask_until_loaded(one.parse()?, "a.test", "/").status, 200, "{kind}");

        // Another socket has the new address.
        folder.write(&listen(&format!("\"{}\", \"127.77.{high}.{low}:{free}\"", taken.local_addr()?)))?;
        reload(&server);
        server.wait_for_record("that the old one goes on", |record| {
            record["level"] == "WARN" && message(record).contains(&format!("still listening on {one}"))
        });
        let is_answered = |address: &str| -> Result<bool, Box<dyn std::error::Error>> {
            Ok(ask(address.parse()?, "a.test", "/").status == 200)
        };
        assert!(is_answered(&one)? && is_answered(&format!("127.77.{high}.{low}:{free}"))?, "{kind}");
        assert!(get_over_unix(&folder.path().join("gone.sock"), "/")?.starts_with("HTTP/1.1 200"), "{kind}");
        assert_eq!(server.status()["not_listening"].as_object().map(serde_json::Map::len), Some(1), "{kind}");
        // It is named again, and is still the same socket.
        let errors = || server.records(|record| record["level"] == "ERROR").len();
        folder.write(&listen(&format!("\"{one}\", \"unix:gone.sock\"")))?;
        let before = errors();
        reload(&server);
        assert!(is_answered(&one)? && errors() == before, "{kind}");
        assert!(server.status()["not_listening"].is_null(), "{kind}");

        // The host's own socket is in the way.
        folder.write(&listen(&format!("\"0.0.0.0:{port}\"")))?;
        reload(&server);
        server.wait_for_record("the new address", |record| {
            message(record).contains(&format!("now also listening on http://0.0.0.0:{port}"))
        });
        assert!(is_answered(&one)? && is_answered(&format!("127.0.0.1:{port}"))?, "{kind}");
        eventually("nothing is missing", || server.status()["not_listening"].is_null());
        eventually("its file is gone", || !Path::exists(&folder.path().join("gone.sock")));
        assert_eq!(errors(), before, "{kind}: nothing is wrong with it");
        assert!(get_over_unix(&folder.path().join("kept.sock"), "/")?.starts_with("HTTP/1.1 200"), "{kind}");
    }
    Ok(())
}

#[test]
fn an_app_goes_on_as_it_was_while_a_mistake_of_another_keeps_its_new_route() -> TestResult {
    let apps = |one: &str, other: &str, more: &str| {
        app("one", "faults.wasm", one, &format!("env = {{ NAME = \"one\" }}\n{more}"))
            + &app("other", "faults.wasm", other, "env = { NAME = \"other\" }")
            + &app("any", "hello.wasm", "*", "")
    };
    let folder = Folder::new(&apps("x.test/*", "y.test/*", ""))?;
    let server = folder.serve(&[]);
    let who = |host: &str| ask_until_loaded(server.address, host, "/env").text();
    assert!(who("x.test").contains("one") && who("y.test").contains("other"));
    folder.write(&apps("y.test/*", "x.test/*", "foo = 1"))?;
    reload(&server);
    let record = server.wait_for_record("what is wrong with the other", |record| {
        record["app"] == "other" && record["level"] == "ERROR"
    });
    assert!(["`x.test/*`", "`one`"].iter().all(|word| message(&record).contains(word)), "{record}");
    assert!(who("x.test").contains("one") && who("y.test").contains("other"), "both go on");
    folder.write(&apps("y.test/*", "x.test/*", ""))?;
    reload(&server);
    eventually("they have changed places", || who("x.test").contains("other") && who("y.test").contains("one"));
    Ok(())
}

#[test]
fn a_directory_that_is_all_that_an_app_wants_more_needs_a_restart_too() -> TestResult {
    let folder = Folder::new(&app("grows", "hello.wasm", "*", ""))?;
    std::fs::create_dir(folder.path().join("secret"))?;
    let server = folder.serve(&[]);
    assert_eq!(ask_until_loaded(server.address, "a.test", "/").status, 200);
    folder.write(&app("grows", "hello.wasm", "*", "dirs = [\"secret::/secret\"]"))?;
    reload(&server);
    server.wait_for_record("that it needs a restart", |record| {
        record["app"] == "grows" && record["level"] == "ERROR" && message(record).contains("restart")
    });
    assert_eq!(ask(server.address, "a.test", "/").status, 200, "the old revision goes on");
    Ok(())
}

#[test]
fn an_app_that_wants_more_than_the_host_had_at_its_start_needs_a_restart() -> TestResult {
    for kind in ["thread", "process"] {
        let grows = |more: &str| app("grows", "faults.wasm", "grows.test/*", more);
        let other = app("other", "faults.wasm", "other.test/*", "dirs = [\"data::/data\"]");
        let folder = Folder::new(&(grows("env = { NAME = \"old\" }") + &other))?;
        for name in ["data", "secret"] {
            std::fs::create_dir_all(folder.path().join(name))?;
        }
        let server = folder.serve(&["--worker-kind", kind]);
        for host in ["grows.test", "other.test"] {
            assert_eq!(ask_until_loaded(server.address, host, "/hello").status, 200, "{kind} {host}");
        }
        let wide = "dirs = [\"secret::/secret\"]\nenv = { NAME = \"new\" }";
        let reaching = app("reaching", "faults.wasm", "reaching.test/*", "allow-hosts = [\"example.com:443\"]");
        folder.write(&(grows(wide) + &other + &reaching))?;
        reload(&server);
        for name in ["grows", "reaching"] {
            let record = server.wait_for_record("that it needs a restart", |record| {
                record["app"] == name && record["level"] == "ERROR" && message(record).contains("restart")
            });
            assert!(record["hint"].is_string(), "{record}");
        }
        assert!(ask(server.address, "grows.test", "/env").text().contains("old"), "{kind}: the old revision goes on");
        assert_eq!(ask(server.address, "reaching.test", "/").status, 503, "{kind}");
        assert_eq!(status_of(&server, "reaching")["state"], "failed");
        // What another app had may be granted.
        folder.write(&(grows("dirs = [\"data::/data\"]\nenv = { NAME = \"new\" }") + &other))?;
        reload(&server);
        eventually("it has its new settings", || ask(server.address, "grows.test", "/env").text().contains("new"));
        assert_eq!(ask_until_loaded(server.address, "other.test", "/hello").status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn settings_of_the_host_that_a_reload_cannot_change_are_named() -> TestResult {
    let hello = app("hello", "hello.wasm", "*", "");
    let folder = Folder::new(&hello)?;
    let server = folder.serve(&[]);
    folder.write(&("drain-timeout = \"3s\"\n".to_owned() + &hello))?;
    reload(&server);
    server.wait_for_record("the warning", |record| {
        record["level"] == "WARN" && message(record).contains("drain-timeout") && message(record).contains("restart")
    });
    Ok(())
}

#[test]
fn an_app_that_is_asleep_takes_a_reload_at_its_next_wake() -> TestResult {
    for kind in ["thread", "process"] {
        let file = |name: &str| {
            let env = format!("env = {{ NAME = \"{name}\" }}");
            "app-idle-timeout = \"300ms\"\n".to_owned()
                + &app("sleeps", "./app.wasm", "sleeps.test/*", &env)
                + &app("other", "hello.wasm", "other.test/*", "")
        };
        let folder = Folder::new(&file("old"))?;
        folder.component("app.wasm", "faults.wasm")?;
        let server = folder.serve(&["--workers", "1", "--worker-kind", kind]);
        assert!(ask_until_loaded(server.address, "sleeps.test", "/env").text().contains("old"), "{kind}");
        let falls_asleep = || eventually("it is asleep", || status_of(&server, "sleeps")["state"] == "asleep");
        falls_asleep();
        let revision = status_of(&server, "sleeps")["revision"].clone();
        folder.write(&file("new"))?;
        reload(&server);
        assert_eq!(status_of(&server, "sleeps")["revision"], revision, "{kind}: nobody has asked for it");
        assert!(ask(server.address, "sleeps.test", "/env").text().contains("new"), "{kind}");
        falls_asleep();
        folder.bytes("app.wasm", b"garbage")?;
        reload(&server);
        assert_eq!(ask(server.address, "sleeps.test", "/env").status, 503, "{kind}");
        let record = server.wait_for_record("the mistake", |record| {
            record["app"] == "sleeps" && record["level"] == "ERROR" && record["hint"].is_string()
        });
        assert!(message(&record).contains("app.wasm"), "{kind}: {record}");
    }
    Ok(())
}

#[test]
fn an_app_whose_reload_failed_is_loaded_anew_from_its_old_component() -> TestResult {
    for kind in ["thread", "process"] {
        let file = |component: &str| {
            "app-idle-timeout = \"300ms\"\n".to_owned()
                + &app("changing", component, "changing.test/*", "")
                + &app("other", "hello.wasm", "other.test/*", "")
        };
        let folder = Folder::new(&file("./old.wasm"))?;
        folder.component("old.wasm", "faults.wasm")?;
        folder.bytes("new.wasm", b"garbage")?;
        let cache = folder.path().join("cache");
        let cache_dir = cache.to_str().ok_or("a path")?;
        let server = folder.serve(&["--workers", "1", "--worker-kind", kind, "--cache-dir", cache_dir]);
        assert_eq!(ask_until_loaded(server.address, "changing.test", "/hello").status, 200, "{kind}");
        folder.write(&file("./new.wasm"))?;
        reload(&server);
        server.wait_for_record("the failure", |record| record["app"] == "changing" && record["level"] == "ERROR");
        eventually("it is asleep", || status_of(&server, "changing")["state"] == "asleep");
        for entry in std::fs::read_dir(&cache)? {
            std::fs::remove_file(entry?.path())?;
        }
        assert_eq!(ask_until_loaded(server.address, "changing.test", "/hello").status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn a_directory_from_which_a_guest_could_write_the_cache_is_refused() -> TestResult {
    let with = |mode: &str| {
        app("writes", "hello.wasm", "writes.test/*", &format!("dirs = [\"keep::/keep{mode}\"]"))
            + &app("other", "hello.wasm", "other.test/*", "")
    };
    let folder = Folder::new(&with(":rw"))?;
    std::fs::create_dir(folder.path().join("keep"))?;
    let cache = folder.path().join("keep/cache").display().to_string();
    let mut serve = crate::support::command();
    serve.arg("serve").arg("-c").arg(folder.file()).args(["--cache-dir", &cache, "--listen", "127.0.0.1:0"]);
    let refused = crate::support::run(serve);
    assert!(refused.code == Some(2) && refused.stderr.contains("the cache (`cache-dir`) is in it"), "{refused:?}");
    folder.write(&with(""))?;
    let server = folder.serve(&["--cache-dir", &cache]);
    folder.write(&with(":rw"))?;
    reload(&server);
    server.wait_for_record("the mistake", |record| {
        record["level"] == "ERROR" && message(record).contains("the cache (`cache-dir`) is in it")
    });
    assert_eq!(ask_until_loaded(server.address, "writes.test", "/").status, 200, "as it was");
    Ok(())
}

#[test]
fn a_socket_that_nobody_listens_on_any_more_is_replaced_at_a_reload() -> TestResult {
    let listen = |more: &str| {
        format!("listen = [\"127.0.0.1:0\", \"unix:one.sock\"{more}]\n") + &app("hello", "hello.wasm", "*", "")
    };
    let folder = Folder::new(&listen(""))?;
    let mut command = crate::support::command();
    command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("two.sock"))?);
    folder.write(&listen(", \"unix:two.sock\""))?;
    reload(&server);
    eventually("it is served there, too", || {
        get_over_unix(&folder.path().join("two.sock"), "/").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    Ok(())
}

#[test(needs(FaultInjection))]
fn an_address_that_the_host_could_not_listen_on_is_shown_and_tried_again_at_the_next_reload() -> TestResult {
    let listen = |more: &str| {
        format!("listen = [\"127.0.0.1:0\", \"unix:one.sock\"{more}]\n") + &app("hello", "hello.wasm", "*", "")
    };
    for kind in ["thread", "process"] {
        let folder = Folder::new(&listen(""))?;
        let mut command = crate::support::command();
        command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        command.args(["--worker-kind", kind]);
        let server = Server::spawn(command);
        let mut admin = Connection::open(server.admin_address());
        admin.send("GET /healthz HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: listen\r\n\r\n");
        assert_eq!(admin.response().status, 200);
        folder.write(&listen(", \"unix:new.sock\""))?;
        reload(&server);
        let record = server.wait_for_record("that it does not listen there", |record| {
            record["level"] == "ERROR" && message(record).contains("cannot listen on")
        });
        assert!(message(&record).contains("tried again") && record["hint"].is_string(), "{kind}: {record}");
        let shown = server.status()["not_listening"].clone();
        assert!(
            shown.as_object().is_some_and(|all| all.keys().all(|name| name.ends_with("new.sock"))),
            "{kind}: {shown}"
        );
        assert!(get_over_unix(&folder.path().join("new.sock"), "/").is_err(), "{kind}: nobody listens");
        // The same file.
        reload(&server);
        eventually("it is served there", || {
            get_over_unix(&folder.path().join("new.sock"), "/").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        assert!(server.status()["not_listening"].is_null(), "{kind}");
    }
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_worker_process_that_cannot_take_new_code_over_is_shown_as_behind_and_tries_again() -> TestResult {
    let file = app("changing", "./app.wasm", "changing.test/*", "") + &app("other", "hello.wasm", "other.test/*", "");
    let folder = Folder::new(&file)?;
    folder.component("app.wasm", "faults.wasm")?;
    let server = folder.serve(&["--worker-kind", "process"]);
    for host in ["changing.test", "other.test"] {
        assert_eq!(ask_until_loaded(server.address, host, "/").status, 200);
    }
    let mut kept = Connection::open(server.address);
    let head = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: changing.test\r\n{more}\r\n");
    let mut of_kept = |path: &str, more: &str| {
        kept.send(head(path, more));
        kept.response().status
    };
    eventually("its worker has the app", || of_kept("/status?code=201", "") == 201);
    assert_eq!(of_kept("/status?code=201", "X-Wasmhost-Inject: link\r\n"), 201);
    folder.component("app.wasm", "hello.wasm")?;
    reload(&server);
    let failed = server.wait_for_record("that it cannot be linked", |record| {
        record["level"] == "ERROR" && message(record).contains("the worker cannot serve the app")
    });
    eventually("the page says so", || {
        status_of(&server, "changing")["behind"] == serde_json::json!([failed["worker"]])
    });
    assert_eq!(of_kept("/status?code=201", ""), 201, "what it had goes on");
    eventually("it serves the new one after all", || of_kept("/status?code=201", "") == 200);
    eventually("nobody is behind", || status_of(&server, "changing")["behind"].is_null());
    assert_eq!(ask(server.address, "other.test", "/").status, 200);
    assert!(server.records(|record| record["message"] == "exit").is_empty(), "no worker had to end for it");
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_worker_process_that_cannot_serve_an_app_tries_again_no_earlier_because_requests_come() -> TestResult {
    let file = app("late", "faults.wasm", "late.test/*", "") + &app("other", "hello.wasm", "other.test/*", "");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&["--worker-kind", "process", "--workers", "1"]);
    assert_eq!(ask_until_loaded(server.address, "other.test", "/").status, 200);
    eventually("the app is loaded", || status_of(&server, "late")["state"] == "asleep");
    let mut kept = Connection::open(server.address);
    kept.send("GET / HTTP/1.1\r\nHost: other.test\r\nX-Wasmhost-Inject: link\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    let began = Instant::now();
    assert_eq!(ask(server.address, "late.test", "/status?code=200").status, 503, "it has nothing to serve it with");
    // Each second, the worker asks for the app again.
    assert_eq!(ask_until_loaded(server.address, "late.test", "/status?code=200").status, 200);
    assert!(began.elapsed() >= Duration::from_secs(2), "it was tried again after {:?}", began.elapsed());
    let told = server
        .records(|record| record["level"] == "ERROR" && message(record).contains("the worker cannot serve the app"));
    assert_eq!(told.len(), 1, "{told:?}");
    eventually("nobody is behind", || status_of(&server, "late")["behind"].is_null());
    Ok(())
}

#[test]
fn a_component_where_an_app_could_write_until_now_is_refused_until_a_restart() -> TestResult {
    let writes = |mode: &str| app("writes", "hello.wasm", "writes.test/*", &format!("dirs = [\"data::/data{mode}\"]"));
    for kind in ["thread", "process"] {
        let folder = Folder::new(&writes(":rw"))?;
        std::fs::create_dir(folder.path().join("data"))?;
        let server = folder.serve(&["--worker-kind", kind]);
        assert_eq!(ask_until_loaded(server.address, "writes.test", "/").status, 200, "{kind}");
        folder.component("data/new.wasm", "hello.wasm")?;
        folder.component("beside.wasm", "hello.wasm")?;
        let beside = app("beside", "./beside.wasm", "beside.test/*", "");
        folder.write(&(writes("") + &app("new", "./data/new.wasm", "new.test/*", "") + &beside))?;
        for round in 0..2 {
            let seen = || server.records(|record| record["app"] == "new" && record["level"] == "ERROR").len();
            let before = seen();
            reload(&server);
            eventually("it is refused", || seen() > before);
            let record = server.wait_for_record("why", |record| record["app"] == "new" && record["level"] == "ERROR");
            assert!(message(&record).contains("restart the host"), "{kind} {round}: {record}");
            assert_eq!(ask(server.address, "new.test", "/").status, 404, "{kind} {round}");
            assert_eq!(ask_until_loaded(server.address, "beside.test", "/").status, 200, "{kind} {round}");
        }
    }
    Ok(())
}
