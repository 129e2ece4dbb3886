//! Where workers are processes (`--worker-kind process`): what does the death of one cost, and whom? All other tests can be
//! run with this kind too (`WASMHOST_TEST_WORKER_KIND=process`).

use serde_json::Value;

use std::time::{Duration, Instant};

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::cgroup::{Bound, Cgroups};
use crate::support::server::{command, limit_descriptors, signal, try_signal};
use crate::support::{Connection, FAULTS, Server, TestResult, eventually, get, guest, run};

fn start(component: &str, flags: &[&str]) -> Server {
    Server::start(component, &[&["--worker-kind", "process"][..], flags].concat())
}

/// A connection to each of two workers, and the process of the first.
fn on_both(server: &Server) -> (Connection, Connection, u32) {
    let [mut first, mut second] = [(); 2].map(|()| Connection::open(server.address));
    assert_eq!((first.get("/hello").status, second.get("/hello").status), (200, 200));
    let status = server.status();
    let pid = status["workers"][0]["thread"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("a number");
    assert!(server.worker_pids().contains(&pid), "{status}");
    (first, second, pid)
}

fn states(server: &Server) -> Vec<Value> {
    let status = server.status();
    status["workers"].as_array().expect("workers").iter().map(|worker| worker["state"].clone()).collect()
}

#[test]
fn workers_are_processes_by_default_where_instances_are_fresh_or_apps_have_groups() -> TestResult {
    let are_processes = |flags: &[&str]| {
        let mut command = command();
        command.env_remove("WASMHOST_WORKER_KIND").args(flags);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        let server = Server::spawn(command);
        let start = server.wait_for_record("the start", |record| record["message"] == "starting");
        let workers = server.worker_pids().len();
        assert_eq!(get(server.address, "/hello").status, 200);
        assert_eq!(start["worker_kind"], if workers == 0 { "thread" } else { "process" }, "{start}");
        workers > 0
    };
    let faults = &*guest("faults.wasm");
    let fresh = [faults, "--isolation", "request", "--workers"];
    assert!(!are_processes(&[faults, "--workers", "2"]));
    assert!(are_processes(&[&fresh[..], &["2"]].concat()));
    assert!(!are_processes(&[&fresh[..], &["1"]].concat()), "one worker shares its memory with no other");
    assert!(!are_processes(&[&fresh[..], &["2", "--worker-kind", "thread"]].concat()));
    for (more, expected) in [("", false), ("isolation = \"request\"", true), ("group = \"alone\"", true)] {
        let apps = app("first", "faults.wasm", "*", more) + &app("second", "hello.wasm", "second/*", "");
        let folder = Folder::new(&apps)?;
        let file = folder.file();
        let file = file.to_str().ok_or("a path in UTF-8")?;
        assert_eq!(are_processes(&["serve", "-c", file, "--workers", "2"]), expected, "{more}");
    }
    Ok(())
}

#[test]
fn a_worker_process_that_is_killed_costs_only_its_own_connections_and_is_replaced() {
    for (component, name, number) in [(FAULTS[0], "KILL", 9), (FAULTS[1], "SEGV", 11)] {
        let server = start(component, &[]);
        let (mut first, mut second, pid) = on_both(&server);
        first.send("GET /sleep?ms=60000 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("the request is in flight", || server.sum("in_flight") == 1);
        let memory_before = server.status()["instance_memory_bytes"].as_u64();
        signal(pid, name);
        // The first SIGSEGV that is not a fault of its own code only takes wasmtime's handler away.
        eventually("it is gone", || {
            // It may be gone by now.
            try_signal(pid, name);
            !server.worker_pids().contains(&pid)
        });
        assert!(first.try_response(false).is_none(), "{component}: its connections are lost");
        assert_eq!(second.get("/hello").status, 200, "{component}: the other worker's are not");
        let exit = server.wait_for_record("exit", |record| record["message"] == "exit");
        assert_eq!(exit["cause"], format!("killed by signal {number}"), "{exit}");
        assert_eq!((&exit["worker"], &exit["voluntary"]), (&Value::from(1), &Value::Bool(false)), "{exit}");
        server.wait_for_record("respawn", |record| record["message"] == "respawn" && record["worker"] == 1);
        eventually("both listen again", || states(&server) == ["listening", "listening"]);
        for _ in 0..4 {
            assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        }
        eventually("only the second's connection is counted", || server.sum("open_connections") == 1);
        assert_eq!(server.sum("in_flight"), 0, "{component}");
        assert!(
            server.status()["instance_memory_bytes"].as_u64() <= memory_before,
            "{component}: memory is given back"
        );
    }
}

#[test]
fn a_worker_process_that_is_killed_is_back_within_100_ms() {
    const BACK_WITHIN: Duration = Duration::from_millis(100);
    // A busy machine may take longer at any one time, and this counts the test's own looking: the best of several.
    const TRIES: usize = 10;
    for component in FAULTS {
        let mut best = Duration::MAX;
        for _ in 0..TRIES {
            // A new one for each, since a worker that dies again and again is made to wait.
            let server = start(component, &[]);
            let (_first, _second, pid) = on_both(&server);
            let began = Instant::now();
            signal(pid, "KILL");
            eventually("it is gone, and another listens", || {
                !server.worker_pids().contains(&pid) && states(&server) == ["listening", "listening"]
            });
            best = best.min(began.elapsed());
            if best < BACK_WITHIN {
                break;
            }
        }
        assert!(best < BACK_WITHIN, "{component}: the best of {TRIES} was {best:?}");
    }
}

#[test(needs(Cgroups))]
fn a_worker_process_that_the_kernel_kills_for_memory_costs_only_its_own_connections() {
    let cgroups = Cgroups::new(&[Bound::Memory(48 << 20)]).expect("a control group");
    for component in FAULTS {
        let server = start(component, &["--memory-max", "512MiB"]);
        let (mut first, mut second, pid) = on_both(&server);
        cgroups.take_in(pid).expect("the worker is put into it");
        let memory_before = server.status()["instance_memory_bytes"].as_u64();
        first.send("GET /leak?bytes=200000000 HTTP/1.1\r\nHost: test\r\n\r\n");
        assert!(first.try_response(false).is_none(), "{component}: the kernel let it have the memory");
        assert_eq!(second.get("/hello").status, 200, "{component}");
        let exit = server.wait_for_record("exit", |record| record["message"] == "exit");
        assert_eq!(exit["cause"], "killed by signal 9", "{exit}");
        eventually("both listen again", || states(&server) == ["listening", "listening"]);
        for _ in 0..4 {
            assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        }
        assert!(server.status()["instance_memory_bytes"].as_u64() <= memory_before, "{component}: given back");
    }
}

#[test]
fn all_capacity_comes_back_from_workers_that_are_killed() {
    let server = start("faults.wasm", &["--max-connections", "4", "--workers", "1"]);
    for round in 0..5 {
        let mut held = [(); 4].map(|()| Connection::open(server.address));
        for connection in &mut held {
            assert_eq!(connection.get("/hello").status, 200, "round {round}");
        }
        signal(server.worker_pids()[0], "KILL");
        eventually("it is gone", || held[0].try_response(false).is_none());
    }
}

#[test]
fn workers_that_were_silent_serve_again_when_they_go_on_although_no_client_is_left() {
    for workers in [1, 2] {
        let server = start("faults.wasm", &["--workers", &workers.to_string()]);
        let clients: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        eventually("they are connected", || server.sum("open_connections") == 4);
        for pid in server.worker_pids() {
            signal(pid, "STOP");
        }
        let silent = || {
            let text = |record: &Value| record["message"].as_str().unwrap_or_default().to_owned();
            server.records(|record| text(record).starts_with("the worker does not respond;")).len()
        };
        eventually("they are seen to be silent", || silent() == workers);
        // They go before the workers go on.
        drop(clients);
        for pid in server.worker_pids() {
            signal(pid, "CONT");
        }
        for _ in 0..4 {
            assert_eq!(get(server.address, "/hello").status, 200, "{workers}");
        }
    }
}

#[test]
fn a_worker_process_that_is_stopped_gets_no_new_connections_and_goes_on_when_continued() {
    let server = start("faults.wasm", &[]);
    let (mut first, _second, pid) = on_both(&server);
    signal(pid, "STOP");
    first.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    // One or two connections go to it before it is seen to be late; they are not lost.
    let mut waiting = Vec::new();
    let mut answered_in_a_row = 0;
    while answered_in_a_row < 20 {
        let mut connection = Connection::open(server.address);
        let wait = Duration::from_millis(500);
        connection.stream.set_read_timeout(Some(wait)).expect("a time-out");
        connection.send("GET /hello HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        if connection.try_response(false).is_some() {
            answered_in_a_row += 1;
        } else {
            answered_in_a_row = 0;
            waiting.push(connection);
            assert!(waiting.len() <= 2, "a stopped worker still gets connections");
        }
    }
    signal(pid, "CONT");
    assert_eq!(first.response().status, 200);
    for mut connection in waiting {
        connection.stream.set_read_timeout(Some(crate::support::CEILING)).expect("a time-out");
        assert_eq!(connection.response().status, 200, "a connection that waited");
    }
}

#[test]
fn workers_end_with_a_primary_that_is_killed() {
    let mut server = start("hello.wasm", &[]);
    let workers = server.worker_pids();
    assert_eq!(workers.len(), 2);
    server.signal("KILL");
    server.wait_for_exit();
    for pid in workers {
        eventually("the worker is gone", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        });
    }
}

#[test]
fn the_primary_never_maps_the_components_code_nor_its_memory() {
    let server = start("hello.wasm", &[]);
    assert_eq!(get(server.address, "/").status, 200);
    let maps = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process lives");
    assert!(maps(server.worker_pids()[0]).contains(".cwasm"), "a worker maps it");
    let primary = maps(server.pid());
    assert!(!primary.contains(".cwasm"), "{primary}");
    let largest = primary.lines().filter_map(|line| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        Some(u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?)
    });
    assert!(largest.max() < Some(1 << 30), "the primary reserves no memory for instances: {primary}");
}

#[test]
fn signals_to_the_whole_group_drain_all_the_same() {
    let mut server = start("faults.wasm", &[]);
    let mut connection = Connection::open(server.address);
    connection.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request is in flight", || server.sum("in_flight") == 1);
    for pid in server.worker_pids() {
        signal(pid, "TERM");
    }
    server.signal("TERM");
    assert_eq!(connection.response().text(), "slept");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn the_default_address_can_be_listened_on_by_each_worker() {
    // Without --listen: the default port may be taken by another test's, or by anybody's.
    let mut by_default = command();
    by_default.args([&crate::support::guest("hello.wasm"), "--worker-kind", "process", "--balance", "kernel"]);
    by_default.args(["--cache-dir", "off", "--log-format", "json", "--drain-timeout", "0s"]);
    let mut child = by_default.stderr(std::process::Stdio::piped()).spawn().expect("the binary starts");
    let stderr = std::io::BufReader::new(child.stderr.take().expect("stderr is piped"));
    let lines = std::io::BufRead::lines(stderr).map_while(Result::ok);
    let outcome = lines.into_iter().find(|line| line.contains("listening on http") || line.starts_with("error:"));
    child.kill().expect("it can be ended");
    child.wait().expect("it can be waited for");
    let outcome = outcome.expect("a word");
    assert!(outcome.contains("listening on") || outcome.contains("cannot listen on 127.0.0.1:8080"), "{outcome}");
}

#[test]
fn a_loading_process_that_is_killed_costs_a_reload_and_no_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("app.wasm");
    std::fs::copy(crate::support::guest("hello.wasm"), &file).expect("a component");
    let server = start(file.to_str().expect("a path in UTF-8"), &["--cpu-limit", "60s"]);
    let workers = server.worker_pids();
    let memory = |server: &Server| server.status()["instance_memory_bytes"].as_u64().expect("a number");
    let before = memory(&server);
    let looping = std::fs::read_to_string(crate::support::guest("wat/start-loop.wat")).expect("a text component");
    let with_memory = looping.replacen("(core module $guest", "(core module $guest (memory 512)", 1);
    std::fs::write(&file, with_memory).expect("another component");
    server.signal("HUP");
    let mut loader = None;
    eventually("its trial runs", || {
        loader = server.worker_pids().into_iter().find(|pid| !workers.contains(pid));
        loader.is_some() && memory(&server) > before + (16 << 20)
    });
    signal(loader.expect("a loader"), "KILL");
    server.wait_for_record("the reload failed", |record| {
        record["message"].as_str().is_some_and(|text| text.starts_with("reload failed"))
    });
    assert_eq!(memory(&server), before);
    assert_eq!(get(server.address, "/").status, 200);
}

#[test(needs(Prlimit))]
fn a_worker_that_cannot_be_started_again_is_tried_later_and_the_others_go_on() {
    let server = start("faults.wasm", &[]);
    let (_first, mut second, pid) = on_both(&server);
    limit_descriptors(server.pid(), 6);
    signal(pid, "KILL");
    server.wait_for_record("it cannot be started", |record| {
        record["message"] == "exit" && record["cause"].as_str().is_some_and(|cause| cause.contains("cannot start"))
    });
    assert_eq!(second.get("/hello").status, 200);
    limit_descriptors(server.pid(), 1_000);
    eventually("both listen again", || states(&server) == ["listening", "listening"]);
}

#[test]
fn nobody_is_a_worker_by_hand() {
    let mut by_hand = command();
    by_hand.arg("worker");
    let finished = run(by_hand);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("--worker-kind process"), "{finished:?}");
}

#[test]
fn all_of_sixteen_worker_processes_may_be_killed_at_once() {
    let server = start("hello.wasm", &["--workers", "16"]);
    let generations = |server: &Server| -> Vec<(Value, Value)> {
        let status = server.status();
        let workers = status["workers"].as_array().expect("workers");
        workers.iter().map(|worker| (worker["state"].clone(), worker["thread_generation"].clone())).collect()
    };
    for generation in 2..=3 {
        let began = Instant::now();
        let pids = server.worker_pids();
        assert_eq!(pids.len(), 16);
        for pid in pids {
            signal(pid, "KILL");
        }
        eventually("all are back", || {
            generations(&server).iter().all(|worker| *worker == ("listening".into(), generation.into()))
        });
        eprintln!("sixteen workers are back after {:?}", began.elapsed());
        for _ in 0..16 {
            assert_eq!(get(server.address, "/").status, 200);
        }
    }
}

/// A component whose instances take a while to start: so many turns of a loop.
fn slow_to_start(turns: u64) -> String {
    let quick = std::fs::read_to_string(crate::support::guest("wat/start-loop.wat")).expect("the guest");
    let start = format!(
        "(func $start (local $left i64) (local.set $left (i64.const {turns})) (loop $again \
         (br_if $again (i64.ne (i64.const 0) (local.tee $left (i64.sub (local.get $left) (i64.const 1)))))))"
    );
    let slow = quick.replace("(func $start (loop $again (br $again)))", &start);
    assert_ne!(slow, quick);
    slow
}

#[test]
fn a_worker_process_that_hangs_while_it_starts_is_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = folder.path().join("slow.wat");
    std::fs::write(&component, slow_to_start(1_000_000_000)).expect("a component");
    let component = component.to_str().expect("text");
    let server = start(component, &["--worker-hang-timeout", "1s", "--cpu-limit", "1m"]);
    let before = server.worker_pids();
    assert_eq!(before.len(), 2);
    signal(before[0], "KILL");
    let mut starting = None;
    eventually("its successor starts", || {
        starting = server.worker_pids().into_iter().find(|pid| !before.contains(pid));
        starting.is_some()
    });
    let starting = starting.expect("a process");
    signal(starting, "STOP");
    assert!(states(&server).contains(&"stopped".into()), "it was stopped before it listened");
    server.wait_for_record("the worker is killed", |record| record["limit"] == "--worker-hang-timeout");
    eventually("both listen again", || states(&server) == ["listening", "listening"]);
    assert!(!server.worker_pids().contains(&starting));
}

#[test]
fn a_worker_process_that_hangs_is_killed_even_when_its_line_is_full() {
    let server = start("hello.wasm", &["--workers", "1", "--worker-hang-timeout", "4s"]);
    assert_eq!(get(server.address, "/").status, 200);
    let [hung] = server.worker_pids()[..] else { panic!("one worker") };
    signal(hung, "STOP");
    // More than its line holds (some 278), before it is seen to be late.
    let _waiting: Vec<Connection> = (0..600).map(|_| Connection::open(server.address)).collect();
    // An order for it, which finds no room.
    server.signal("HUP");
    server.wait_for_record("the component is loaded again", |record| {
        record["message"].as_str().is_some_and(|text| text.starts_with("reload: new requests"))
    });
    server.wait_for_record("it is to be killed", |record| record["limit"] == "--worker-hang-timeout");
    let began = Instant::now();
    eventually("it is gone", || !server.worker_pids().contains(&hung));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    eventually("another listens", || states(&server) == ["listening"]);
    assert_eq!(get(server.address, "/").status, 200);
}

#[test(needs(FaultInjection))]
fn an_order_that_the_system_has_no_room_for_is_given_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let component = folder.path().join("app.wasm");
    std::fs::copy(crate::support::guest("hello.wasm"), &component).expect("a component");
    let server = start(component.to_str().expect("text"), &["--workers", "1"]);
    std::fs::copy(crate::support::guest("faults.wasm"), &component).expect("another component");
    let mut admin = Connection::open(server.admin_address());
    admin.send("GET /healthz HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: order\r\n\r\n");
    assert_eq!(admin.response().status, 200);
    server.signal("HUP");
    eventually("the worker serves the new component", || get(server.address, "/sleep?ms=1").text() == "slept");
    assert_eq!(server.sum("thread_generation"), 1, "the same worker");
}

#[test(needs(FaultInjection))]
fn a_worker_that_dies_at_every_start_does_not_keep_the_others_from_serving() {
    let mut command = command();
    command.arg(crate::support::guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.args(["--workers", "8", "--worker-kind", "process", "--log-format", "json"]);
    command.env("WASMHOST_INJECT", "dead-worker");
    // It waits until the host listens.
    let server = Server::spawn(command);
    assert_eq!(server.admin("/readyz").status, 200);
    assert_eq!(get(server.address, "/").status, 200);
    eventually("seven listen", || states(&server).iter().filter(|state| **state == "listening").count() == 7);
    assert_ne!(states(&server)[1], "listening");
}

#[test]
fn a_variable_of_the_operator_is_in_no_process_that_could_run_a_guest() {
    let mut command = command();
    command.arg(crate::support::guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    // (Of a confined process, only root may look at the variables.)
    command.args(["--workers", "2", "--worker-kind", "process", "--log-format", "json", "--confine", "off"]);
    command.env("OPERATORS_SECRET", "dear").env("WASMHOST_ENV", "SECRET=of the guest").env("TZ", "UTC");
    let server = Server::spawn(command);
    let variables = |pid: u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).expect("the process lives");
        String::from_utf8_lossy(&environ).into_owned()
    };
    assert!(variables(server.pid()).contains("OPERATORS_SECRET=dear"), "the test sees the primary's");
    let others = [server.spawner_pid().expect("a spawner")].into_iter().chain(server.worker_pids());
    for pid in others {
        let seen = variables(pid);
        assert!(!seen.contains("SECRET"), "{pid}: {seen}");
        assert!(seen.contains("TZ=UTC"), "{pid}: {seen}");
    }
}

#[test]
fn what_the_cache_has_is_served_without_a_process_that_loads_it() -> TestResult {
    let file = app("cached", "hello.wasm", "cached.test/*", "") + &app("other", "faults.wasm", "other.test/*", "");
    let folder = Folder::new(&file)?;
    let cache = folder.path().join("cache");
    let flags = ["--worker-kind", "process", "--cache-dir", cache.to_str().ok_or("a path")?];
    let is_found = |record: &serde_json::Value| {
        let message = record["message"].as_str().unwrap_or_default();
        record["app"] == "cached" && message == "its compiled code was found in the cache"
    };
    for is_second in [false, true] {
        let mut server = folder.serve(&flags);
        assert_eq!(ask_until_loaded(server.address, "cached.test", "/").status, 200);
        assert_eq!(server.records(is_found).len(), usize::from(is_second));
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
    Ok(())
}
