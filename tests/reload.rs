//! SIGHUP: another component takes the place of the one that is served.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::support::server::limit_descriptors;
use crate::support::{Connection, Server, TestResult, eventually, get, guest, message};

/// A file that is served, in a directory of its own.
struct Deployed {
    dir: tempfile::TempDir,
}

impl Deployed {
    fn new(component: &str) -> std::io::Result<Self> {
        let deployed = Self { dir: tempfile::tempdir()? };
        deployed.replace(&std::fs::read(guest(component))?)?;
        Ok(deployed)
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.wasm")
    }

    fn serve(&self) -> Server {
        Server::start(self.path().to_str().expect("a path in UTF-8"), &[])
    }

    fn replace(&self, bytes: &[u8]) -> std::io::Result<()> {
        let new: &Path = &self.dir.path().join("new");
        std::fs::write(new, bytes)?;
        std::fs::rename(new, self.path())
    }

    /// Puts another component in its place and has it loaded.
    #[track_caller]
    fn reload(&self, server: &Server, component: &str) -> std::io::Result<()> {
        let before = reloads(server);
        self.replace(&std::fs::read(guest(component))?)?;
        server.signal("HUP");
        eventually("the component is loaded", || reloads(server) > before);
        Ok(())
    }
}

fn reloads(server: &Server) -> u64 {
    server.status()["reloads"].as_u64().expect("a number")
}

#[test]
fn the_new_component_takes_new_requests_and_the_old_one_finishes_its_own() -> TestResult {
    let deployed = Deployed::new("hello.wasm")?;
    let server = deployed.serve();
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.get("/status?code=201").status, 200, "hello knows no verbs");

    deployed.reload(&server, "faults.wasm")?;
    eventually("all workers serve the new one", || {
        (0..4).all(|_| get(server.address, "/status?code=201").status == 201)
    });
    assert_eq!(kept.get("/status?code=201").status, 201, "on kept connections, too");
    server.wait_for_record("the reload", |record| {
        message(record).starts_with("reload: new requests go to the new component")
    });

    let mut sleeping = Connection::open(server.address);
    sleeping.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut streaming = Connection::open(server.address);
    streaming.send("GET /stream?chunks=15&bytes=10&ms=100 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("both are served", || server.sum("in_flight") == 2);
    deployed.reload(&server, "hello-p3.wasm")?;
    eventually("all workers serve the new one", || {
        (0..4).all(|_| get(server.address, "/status?code=201").status == 200)
    });
    assert_eq!(server.sum("in_flight"), 2, "the old one still serves");
    let slept = sleeping.response();
    assert_eq!((slept.status, slept.text()), (200, "slept".to_owned()));
    let streamed = streaming.response();
    assert!(streamed.whole && streamed.body.len() == 150);
    assert_eq!(sleeping.get("/").text(), "Hello, World!", "its connection goes on with the new one");
    assert_eq!((&server.status()["wasi"], reloads(&server)), (&"0.3".into(), 2));
    Ok(())
}

#[test]
fn a_file_that_fails_to_load_changes_nothing() -> TestResult {
    let deployed = Deployed::new("faults.wasm")?;
    let server = deployed.serve();
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.get("/count").text().trim(), "1");
    let whole = std::fs::read(guest("faults.wasm"))?;
    let trap = std::fs::read(guest("wat/start-trap.wat"))?;
    for (failed, (bytes, reason)) in (1_u64..).zip([
        (&b"garbage"[..], "neither a component"),
        (&whole[..1_000], "truncated"),
        (&trap[..], "does not start"),
    ]) {
        deployed.replace(bytes)?;
        server.signal("HUP");
        let record = server.wait_for_record(reason, |record| {
            message(record).starts_with("reload failed") && message(record).contains(reason)
        });
        assert!(record["level"] == "ERROR" && record["hint"].is_string(), "{record}");
        assert_eq!(server.status()["failed_reloads"], failed);
        assert_eq!(kept.get("/count").text().trim(), (failed + 1).to_string(), "the same instance goes on");
    }
    std::fs::remove_file(deployed.path())?;
    server.signal("HUP");
    server.wait_for_record("no file", |record| {
        message(record).starts_with("reload failed") && message(record).contains("no such file")
    });
    assert_eq!((kept.get("/count").text().trim(), reloads(&server)), ("5", 0));

    deployed.reload(&server, "hello.wasm")?;
    eventually("the repaired file is served", || kept.get("/count").text() == "Hello, World!");
    Ok(())
}

#[test]
fn no_request_fails_during_reloads() -> TestResult {
    let deployed = Deployed::new("hello.wasm")?;
    let server = deployed.serve();
    let stop = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let address = server.address;
    std::thread::scope(|scope| -> TestResult {
        let hammer = |keeps: bool| {
            let mut connection = Connection::open(address);
            while !stop.load(Relaxed) {
                if !keeps {
                    connection = Connection::open(address);
                }
                let response = connection.get("/");
                assert_eq!((response.status, response.text()), (200, "Hello, World!".to_owned()));
                answered.fetch_add(1, Relaxed);
            }
        };
        let clients = [true, true, false].map(|keeps| scope.spawn(move || hammer(keeps)));
        let outcome =
            ["hello-p3.wasm", "hello.wasm", "hello-p3.wasm", "hello.wasm"].into_iter().try_for_each(|component| {
                let before = answered.load(Relaxed);
                deployed.reload(&server, component)?;
                eventually("requests go on", || {
                    answered.load(Relaxed) >= before + 500 || clients.iter().all(|client| client.is_finished())
                });
                Ok(())
            });
        stop.store(true, Relaxed);
        for client in clients {
            client.join().map_err(|_| "a request failed")?;
        }
        outcome
    })?;
    assert_eq!(reloads(&server), 4);
    Ok(())
}

#[test]
fn a_request_that_waited_over_a_reload_is_served_by_the_new_component() -> TestResult {
    let deployed = Deployed::new("faults.wasm")?;
    let path = deployed.path();
    let flags = ["--workers", "1", "--instances-per-worker", "1", "--queue-timeout", "20s"];
    let server = Server::start(path.to_str().expect("a path in UTF-8"), &flags);
    let mut first = Connection::open(server.address);
    first.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the instance is taken", || server.sum("in_flight") == 1);
    let mut queued = Connection::open(server.address);
    queued.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhalf \r\n");
    eventually("the second waits", || server.sum("queued") == 1);
    deployed.reload(&server, "faults-p3.wasm")?;
    assert_eq!(first.response().text(), "slept", "by the old component");
    queued.send("5\r\nwhole\r\n0\r\n\r\n");
    let response = queued.response();
    assert_eq!((response.status, response.text().as_str(), response.whole), (200, "half whole", true));
    Ok(())
}

#[test]
fn a_reload_works_after_the_programs_file_was_replaced() -> TestResult {
    let dir = tempfile::tempdir()?;
    let program = dir.path().join("wasmhost");
    std::fs::copy(crate::support::server::binary(), &program)?;
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("hello.wasm")?;
        let mut command = std::process::Command::new(&program);
        command.arg(deployed.path()).args([
            "--listen",
            "127.0.0.1:0",
            "--log-format",
            "json",
            "--admin",
            "127.0.0.1:0",
        ]);
        // A cache of its own, so that there is something to compile.
        command.args(["--workers", "1", "--worker-kind", kind, "--cache-dir"]).arg(dir.path().join(kind));
        let server = Server::spawn(command);
        std::fs::rename(&program, dir.path().join("old"))?;
        std::fs::write(&program, b"another program")?;
        deployed.reload(&server, "faults.wasm")?;
        eventually("the new component answers", || get(server.address, "/status?code=201").status == 201);
        std::fs::rename(dir.path().join("old"), &program)?;
    }
    Ok(())
}

#[test]
fn a_shortage_at_a_reload_changes_nothing() -> TestResult {
    for kind in ["thread", "process"] {
        let deployed = Deployed::new("faults.wasm")?;
        let path = deployed.path();
        let server = Server::start(path.to_str().expect("a path in UTF-8"), &["--worker-kind", kind]);
        let mut kept = Connection::open(server.address);
        assert_eq!(kept.get("/hello").status, 200);
        limit_descriptors(server.pid(), 6);
        server.signal("HUP");
        let failed = server.wait_for_record("the reload failed", |record| message(record).contains("reload failed"));
        assert!(failed["hint"].is_string(), "{failed}");
        assert_eq!(kept.get("/hello").status, 200, "{kind}: the old component goes on");
        limit_descriptors(server.pid(), 1_000);
        deployed.reload(&server, "faults.wasm")?;
        assert_eq!(kept.get("/hello").status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn a_file_too_large_for_a_component_is_refused_without_being_read_in_whole() -> TestResult {
    let deployed = Deployed::new("hello.wasm")?;
    let server = deployed.serve();
    let before = server.resident_kib();
    let most = std::cell::Cell::new(before);
    let huge = std::fs::File::create(deployed.dir.path().join("new"))?;
    huge.set_len(3 << 30)?;
    std::fs::write(deployed.dir.path().join("magic"), b"")?;
    std::fs::rename(deployed.dir.path().join("new"), deployed.path())?;
    server.signal("HUP");
    eventually("the reload failed", || {
        // Of all its processes; the one that reads the file is there for the reload only.
        most.set(most.get().max(server.resident_kib()));
        !server.records(|record| message(record).contains("reload failed")).is_empty()
    });
    let failed = &server.records(|record| message(record).contains("reload failed"))[0];
    assert!(message(failed).contains("larger than 256 MiB"), "{failed}");
    // No more of it than is taken for a component at most.
    assert!(most.get() < before + (256 + 64) * 1024, "{} KiB more", most.get() - before);
    eventually("its memory is given back", || server.resident_kib() < before + 64 * 1024);
    assert_eq!(get(server.address, "/").status, 200);
    Ok(())
}

#[test(needs(FaultInjection))]
fn a_worker_process_that_cannot_serve_the_new_component_is_replaced_by_one_that_can() -> TestResult {
    let deployed = Deployed::new("faults.wasm")?;
    let path = deployed.path();
    let server =
        Server::start(path.to_str().expect("a path in UTF-8"), &["--worker-kind", "process", "--drain-timeout", "20s"]);
    let mut kept = Connection::open(server.address);
    kept.send("GET /hello HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: link\r\n\r\n");
    assert_eq!(kept.response().status, 200);
    // In flight on the worker that is to fail.
    kept.send("GET /sleep?ms=1000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request is in flight", || server.sum("in_flight") == 1);
    deployed.reload(&server, "hello.wasm")?;
    let exit = server.wait_for_record("it ends", |record| record["message"] == "exit");
    assert!(exit["cause"].as_str().is_some_and(|cause| cause.contains("cannot serve the component")), "{exit}");
    assert_eq!(kept.response().text(), "slept", "what was in flight has finished");
    eventually("all workers listen", || {
        let status = server.status();
        status["workers"].as_array().is_some_and(|all| all.iter().all(|worker| worker["state"] == "listening"))
    });
    // The old one answers 404 here, by its own words.
    for _ in 0..6 {
        assert_eq!(get(server.address, "/").text(), "Hello, World!", "every worker serves what the status page names");
    }
    assert_eq!(server.records(|record| record["message"] == "exit").len(), 1);
    Ok(())
}
