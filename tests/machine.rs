//! What does a machine that fails cost: one that has no descriptors, memory, addresses or CPU to give, or that stops the
//! host or a part of it for a while? (Disks, standard streams and the log's reader are in `environment`, the death of
//! worker processes in `processes`.)

use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::connections::is_silent;
use crate::environment::serving_within;
use crate::support::cgroup::{Bound, Cgroups};
use crate::support::facility::{self, WITHOUT_IPV6};
use crate::support::server::{limit_descriptors, lowest_free_descriptor, signal, within};
use crate::support::{Connection, FAULTS, Server, TestResult, eventually, get, guest, message, run};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: test\r\n\r\n";

fn all_listen(server: &Server) -> bool {
    let status = server.status();
    status["workers"].as_array().is_some_and(|workers| workers.iter().all(|worker| worker["state"] == "listening"))
}

fn exits(server: &Server) -> usize {
    server.records(|record| record["message"] == "exit").len()
}

/// The process of the worker of this number, from 1.
fn pid_of_worker(server: &Server, number: usize) -> u32 {
    let status = server.status();
    let pid = status["workers"][number - 1]["thread"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    pid.expect("a number")
}

// -- descriptors ------------------------------------------------------------------------------------------------------

#[test(needs(Prlimit))]
fn a_worker_process_out_of_descriptors_loses_no_connection() {
    for workers in ["1", "2"] {
        let server = Server::start("faults.wasm", &["--worker-kind", "process", "--workers", workers]);
        let mut kept: Vec<Connection> = (0..2).map(|_| Connection::open(server.address)).collect();
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200);
        }
        let pid = pid_of_worker(&server, 1);
        limit_descriptors(pid, lowest_free_descriptor(pid));
        let mut more: Vec<Connection> = (0..8).map(|_| Connection::open(server.address)).collect();
        for connection in &mut more {
            connection.send(HELLO);
        }
        server.wait_for_record("the shortage", |record| message(record).starts_with("no descriptor is left"));
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200, "those who are in");
        }
        let mut waiting: Vec<Connection> = more.into_iter().filter(is_silent).collect();
        match workers {
            "1" => assert_eq!(waiting.len(), 8, "all wait"),
            // What it had been given before it said so waits, the others are served by the other worker.
            _ => assert!((1..=4).contains(&waiting.len()), "{} wait", waiting.len()),
        }
        // One that ends makes room for one that waits.
        drop(kept.remove(0));
        eventually("one of them is served", || {
            let (served, still): (Vec<_>, Vec<_>) =
                std::mem::take(&mut waiting).into_iter().partition(|connection| !is_silent(connection));
            waiting = still;
            // It keeps what it got: the next has to wait for its end.
            served.into_iter().map(|mut connection| assert_eq!(connection.response().text(), "Hello, World!")).count()
                > 0
        });
        limit_descriptors(pid, 1_000);
        for mut connection in waiting {
            assert_eq!(connection.response().text(), "Hello, World!", "descriptors again");
        }
        for _ in 0..4 {
            assert_eq!(get(server.address, "/hello").status, 200);
        }
        assert_eq!(exits(&server), 0);
    }
}

#[test(needs(Prlimit))]
fn a_worker_process_out_of_descriptors_drains_all_the_same() {
    let flags = ["--worker-kind", "process", "--workers", "1", "--drain-timeout", "15s"];
    let mut server = Server::start("faults.wasm", &flags);
    let mut idle = Connection::open(server.address);
    assert_eq!(idle.get("/hello").status, 200);
    let mut busy = Connection::open(server.address);
    busy.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it is busy", || server.sum("in_flight") == 1);
    let pid = pid_of_worker(&server, 1);
    limit_descriptors(pid, lowest_free_descriptor(pid));
    let mut waiting = Connection::open(server.address);
    waiting.send(HELLO);
    server.wait_for_record("the shortage", |record| message(record).starts_with("no descriptor is left"));
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(busy.response().text(), "slept");
    // The idle one is closed at once, and its descriptor is for the one that waits.
    assert_eq!(waiting.response().text(), "Hello, World!");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(14), "the drain's time ran out: {:?}", began.elapsed());
}

#[test(needs(FaultInjection))]
fn a_machine_without_a_free_descriptor_costs_a_pause_and_is_counted() {
    for balance in ["round-robin", "kernel"] {
        let server = Server::start("faults.wasm", &["--balance", balance, "--workers", "1"]);
        let mut kept = Connection::open(server.address);
        let head = "HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Inject: accept-enfile\r\n\r\n";
        let mut arming = match balance {
            "kernel" => Connection::open(server.address),
            _ => Connection::open(server.admin_address()),
        };
        arming.send(format!("GET /healthz {head}"));
        assert!(arming.try_response(false).is_some(), "{balance}");
        let mut waiting = Connection::open(server.address);
        waiting.send(HELLO);
        assert_eq!(waiting.response().status, 200, "{balance}: after the pause");
        let record = server.wait_for_record("the shortage", |record| message(record).contains("no connection can be"));
        assert!(record["error"].as_str().is_some_and(|error| error.contains("os error 23")), "{balance}: {record}");
        server.wait_for_record("the end", |record| message(record).contains("accepting connections again"));
        let metrics = server.admin("/metrics").text();
        assert!(metrics.contains("wasmhost_accept_errors_total{error=\"ENFILE\"} 1"), "{balance}: {metrics}");
        assert_eq!(kept.get("/hello").status, 200, "{balance}");
    }
}

// -- memory -----------------------------------------------------------------------------------------------------------

/// Two requests at once, of which only the first gets an instance; afterwards all is well.
fn check_no_memory_for_a_second(server: &Server, slow: usize) {
    let mut busy: Vec<Connection> = (0..slow).map(|_| Connection::open(server.address)).collect();
    for connection in &mut busy {
        connection.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    eventually("they are in flight", || server.sum("in_flight") == slow as u64);
    let refused = get(server.address, "/hello");
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    let record = server.wait_for_record("why", |record| record["fault"] == "capacity");
    assert!(message(&record).contains("did not start"), "{record}");
    assert_eq!(server.status()["workers"][0]["state"], "listening", "a shortage takes no slot down");
    for connection in &mut busy {
        assert_eq!(connection.response().text(), "slept");
    }
    eventually("there is an instance again", || get(server.address, "/hello").status == 200);
    assert_eq!(exits(server), 0);
    assert!(server.sum("sheds.memory") >= 1);
}

#[test(needs(Prlimit))]
fn no_address_space_for_a_second_instance_is_answered_503_and_the_first_goes_on() {
    // An instance on demand takes 4 GiB of addresses, and the pool, of which there are too few for one, hundreds.
    let place = ["prlimit", "--as=7000000000"];
    for component in FAULTS {
        let server = serving_within(&place, component, &["--workers", "1"]);
        let warned = server.records(|record| message(record).starts_with("instances get their memory on demand"));
        assert!(!warned.is_empty());
        check_no_memory_for_a_second(&server, 1);
    }
}

#[test(needs(FaultInjection))]
fn an_exhausted_pool_is_answered_503_and_what_is_in_it_goes_on() {
    for component in FAULTS {
        let mut command = crate::support::command();
        command.arg(guest(component)).args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]);
        command.args(["--workers", "1"]).env("WASMHOST_INJECT", "small-pool");
        check_no_memory_for_a_second(&Server::spawn(command), 2);
    }
}

#[test(needs(Prlimit))]
fn a_host_that_gets_no_more_address_space_serves_with_what_it_has() {
    for component in FAULTS {
        let server = Server::start(component, &["--workers", "1"]);
        assert_eq!(get(server.address, "/hello").status, 200);
        let pid = server.worker_pids().first().copied().unwrap_or_else(|| server.pid());
        let limit = |bytes: &str| {
            let arguments = [format!("--as={bytes}:"), format!("--pid={pid}")];
            assert!(Command::new("prlimit").args(arguments).status().expect("prlimit runs").success());
        };
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).expect("the field");
        let size_kib: u64 = size.trim().trim_end_matches(" kB").parse().expect("a number");
        // Room for the host's own small needs, and for no mapping of an instance's size.
        limit(&((size_kib + 16 * 1024) * 1024).to_string());
        let mut busy: Vec<Connection> = (0..40).map(|_| Connection::open(server.address)).collect();
        for connection in &mut busy {
            connection.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for connection in &mut busy {
            let response = connection.response();
            // The pool had its addresses before.
            assert_eq!((response.status, response.text().as_str()), (200, "slept"), "{component}");
        }
        let grown = get(server.address, "/memory?bytes=60000000");
        assert_eq!((grown.status, grown.text().as_str()), (200, "allocated 60000000"), "{component}: growth");
        limit("unlimited");
        eventually("all is as before", || get(server.address, "/hello").status == 200);
        assert_eq!(exits(&server), 0, "{component}");
    }
}

// -- time -------------------------------------------------------------------------------------------------------------

#[test]
fn only_dates_are_read_from_the_clock_that_can_be_set() -> TestResult {
    // Everything that waits or measures takes `Instant`, which no step of the clock moves. The others: the age of cache
    // entries, how long a component has not changed, and of what npm has installed, the `Date` of an answer (hyper has its own), certificates of a test,
    // times of log lines and events, and when the file of a socket was made, which is compared for equality only.
    const DATES: [&str; 37] = [
        // When events happened, and the lines of the log around them.
        "supervise/src/events.rs",
        "supervise/src/admin/event_details.rs",
        "base/src/log/recent.rs",
        // When faults happened, and how old what a killed host left about one is.
        "supervise/src/crashes.rs",
        "supervise/src/crashes/bundle.rs",
        "supervise/src/crashes/folder.rs",
        // When schedules are due.
        "config/src/cron.rs",
        "config/src/schedule.rs",
        "config/src/show.rs",
        "serve/src/http/scheduled.rs",
        "supervise/src/admin/status.rs",
        "supervise/src/primary/schedule_file.rs",
        "supervise/src/schedules.rs",
        "supervise/src/schedules/job.rs",
        "supervise/src/schedules/tests.rs",
        "supervise/src/primary/scheduled.rs",
        "supervise/src/upgrade.rs",
        // When certificates end.
        "config/src/tls.rs",
        "src/commands/config.rs",
        "confine/src/spawner/tls.rs",
        "supervise/src/primary/listeners.rs",
        "supervise/src/admin/table.rs",
        // When certificates are renewed, and when an authority asks the host to come back.
        "acme/src/keep.rs",
        "acme/src/client.rs",
        // When what is stored ends.
        "storage/src/embedded.rs",
        // When files of a folder changed.
        "serve/src/files.rs",
        "serve/src/files/tests.rs",
        "serve/src/files/version.rs",
        "toolchain/src/build/script.rs",
        "base/src/log/access.rs",
        // When spans began and ended.
        "base/src/trace/request.rs",
        "sandbox/src/cache.rs",
        "sandbox/src/known.rs",
        "sandbox/src/stored.rs",
        "sandbox/src/outbound/connect.rs",
        "base/src/socket_file.rs",
        "serve/src/net/last_answer.rs",
    ];
    let host = crate::tidy::host();
    let mut seen = 0;
    for path in crate::tidy::all_sources() {
        let name = path.strip_prefix(&host)?.to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path)?;
        seen += usize::from(text.contains("Instant::now()"));
        let settable = ["SystemTime", "ClockId::Realtime", "UNIX_EPOCH"].into_iter().find(|word| text.contains(word));
        assert!(settable.is_none() || DATES.contains(&&*name), "{name} reads {settable:?}");
    }
    assert!(seen > 10, "the sources were not found");
    Ok(())
}

/// Between two settings of the clock, by far more than any limit.
const TWO_DAYS: Duration = Duration::from_secs(2 * 24 * 3_600);

#[test(needs(Faketime))]
fn a_clock_that_is_set_moves_no_limit_and_no_wait() -> TestResult {
    // libfaketime gives the host a clock that follows a file; the monotonic one is the machine's.
    let dir = tempfile::tempdir()?;
    let clock = dir.path().join("clock");
    for component in FAULTS {
        std::fs::write(&clock, "+0")?;
        let mut command = crate::support::command();
        command.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.args(["--log-format", "json", "--access-log", "--workers", "2", "--worker-hang-timeout", "2s"]);
        command.args(["--request-timeout", "1500ms", "--keepalive-timeout", "1s"]);
        // The library reads the file each time, which a confined host may not.
        command.args(["--confine", "off"]).env("LD_PRELOAD", facility::faketime()?);
        command.env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        let server = Server::spawn(command);
        for (step, (offset, time)) in
            [("+2d", SystemTime::now() + TWO_DAYS), ("-2d", SystemTime::now() - TWO_DAYS), ("+0", SystemTime::now())]
                .into_iter()
                .enumerate()
        {
            let mut idle = Connection::open(server.address);
            assert_eq!(idle.get("/hello").status, 200);
            let mut sleeping = Connection::open(server.address);
            sleeping.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: test\r\n\r\n");
            let mut waiting = Connection::open(server.address);
            waiting.send("GET /wait-forever HTTP/1.1\r\nHost: test\r\n\r\n");
            let began = Instant::now();
            eventually("they are in flight", || server.sum("in_flight") == 2);
            std::fs::write(&clock, offset)?;
            assert_eq!(sleeping.response().text(), "slept", "{component} {offset}");
            assert!(began.elapsed() >= Duration::from_millis(650), "{component} {offset}: {:?}", began.elapsed());
            assert_eq!(waiting.response().status, 504, "{component} {offset}");
            let took = began.elapsed();
            assert!(
                took >= Duration::from_millis(1_400) && took < Duration::from_secs(5),
                "{component} {offset}: {took:?}"
            );
            idle.raw_to_end();
            // The step was seen: the log has the new date, and the idle connection was closed at its limit.
            let date = humantime::format_rfc3339_seconds(time).to_string()[..10].to_owned();
            eventually(&format!("{component}: the log has the date of {offset}"), || {
                get(server.address, &format!("/hello?step={step}"));
                !server
                    .records(|record| {
                        record["target"] == "access"
                            && record["timestamp"].as_str().is_some_and(|time| time.starts_with(&date))
                    })
                    .is_empty()
            });
        }
        assert_eq!(exits(&server), 0, "{component}: no worker was blamed");
        assert_eq!(server.sum("faults.wall"), 3, "{component}: no limit was met but those that were asked for");
    }
    Ok(())
}

/// Sends a signal to the primary and then to its workers' processes, if it has any, at once.
fn signal_all(server: &Server, name: &str) {
    let pids = std::iter::once(server.pid()).chain(server.worker_pids()).map(|pid| pid.to_string());
    let killed = Command::new("kill").arg(format!("-{name}")).args(pids).status();
    assert!(killed.expect("kill runs").success());
}

#[test]
fn a_host_that_is_stopped_and_continued_has_lost_nothing_and_blames_no_worker() {
    for component in FAULTS {
        let server = Server::start(component, &["--worker-hang-timeout", "1s"]);
        let mut kept: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200);
        }
        let mut busy = Connection::open(server.address);
        busy.send("GET /sleep?ms=700 HTTP/1.1\r\nHost: test\r\n\r\n");
        eventually("it is busy", || server.sum("in_flight") == 1);
        signal_all(&server, "STOP");
        let mut new: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        for connection in kept.iter_mut().chain(&mut new) {
            connection.send(HELLO);
        }
        // By far longer than a worker may be silent.
        std::thread::sleep(Duration::from_millis(2_500));
        signal_all(&server, "CONT");
        for connection in kept.iter_mut().chain(&mut new) {
            assert_eq!(connection.response().text(), "Hello, World!", "{component}");
        }
        assert_eq!(busy.response().text(), "slept", "{component}");
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200, "{component}");
        }
        std::thread::sleep(Duration::from_millis(1_200));
        assert_eq!(exits(&server), 0, "{component}: the host's own silence is no worker's");
    }
}

#[test]
fn a_worker_process_that_stays_stopped_is_replaced_and_the_others_go_on() {
    for balance in ["round-robin", "kernel"] {
        let flags = ["--worker-kind", "process", "--worker-hang-timeout", "2s", "--balance", balance];
        let server = Server::start("faults.wasm", &flags);
        let mut kept: Vec<Connection> = (0..16).map(|_| Connection::open(server.address)).collect();
        for connection in &mut kept {
            assert_eq!(connection.get("/hello").status, 200);
        }
        let before = server.status();
        let per_worker: Vec<u64> = (0..2).filter_map(|n| before["workers"][n]["open_connections"].as_u64()).collect();
        assert_eq!(per_worker.iter().sum::<u64>(), 16, "{before}");
        signal(pid_of_worker(&server, 1), "STOP");
        let began = Instant::now();
        for connection in &mut kept {
            connection.send(HELLO);
        }
        let answers = kept.iter_mut().filter_map(|connection| connection.try_response(false));
        let answered = answers.filter(|response| response.status == 200).count() as u64;
        assert_eq!(answered, per_worker[1], "{balance}: those of the other worker, and no more");
        let took = began.elapsed();
        let record = server.wait_for_record("its end", |record| record["limit"] == "--worker-hang-timeout");
        assert_eq!((&record["level"], &record["worker"]), (&Value::from("ERROR"), &Value::from(1)), "{record}");
        let exit = server.wait_for_record("exit", |record| record["message"] == "exit");
        assert_eq!(exit["cause"], "it gave no sign of life and was killed", "{exit}");
        eventually("both listen again", || all_listen(&server) && server.worker_pids().len() == 2);
        for _ in 0..8 {
            assert_eq!(get(server.address, "/hello").status, 200, "{balance}");
        }
        eprintln!("{balance}: a stopped worker was ended within {took:?} (2 s asked for)");
    }
}

// -- addresses --------------------------------------------------------------------------------------------------------

#[test]
fn an_address_that_cannot_be_had_is_named_with_a_way_out() -> TestResult {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    for balance in ["round-robin", "kernel"] {
        let mut command = crate::support::command();
        command.args([&guest("hello.wasm"), "--listen", &taken, "--balance", balance]);
        let finished = run(command);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        let error = format!("cannot listen on {taken}");
        assert!(finished.lines("error: ").iter().any(|line| line.contains(&error)), "{finished:?}");
        assert!(finished.lines("hint: ").iter().any(|line| line.contains("another port")), "{finished:?}");
    }
    Ok(())
}

#[test(needs(NetworkNamespace, Python3))]
fn a_machine_without_ipv6_serves_over_ipv4_and_says_so_where_ipv6_is_asked_for() {
    let place = ["unshare", "--net", "sh", "-c", WITHOUT_IPV6];
    let serving = |address| {
        let mut command = within(&place);
        command.args([&guest("hello.wasm"), "--listen", address]);
        command
    };
    let finished = run(serving("[::1]:0"));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.lines("error: ").iter().any(|line| line.contains("cannot listen on [::1]:0")), "{finished:?}");
    assert!(finished.lines("hint: ").iter().any(|line| line.contains("IPv4")), "{finished:?}");
    // Without addresses of its own it can still be bound, and serves IPv4 then.
    let server = Server::spawn(serving("[::]:0"));
    assert!(server.address.is_ipv6() && server.address.port() != 0, "{}", server.address);
    let of_ipv4 = "import sys,fcntl,socket,struct\n\
        s=socket.socket()\n\
        fcntl.ioctl(s,0x8914,struct.pack('16sh14x',b'lo',1))\n\
        s.connect(('127.0.0.1',int(sys.argv[1])))\n\
        s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')\n\
        sys.stdout.write(s.makefile().read())";
    let network = format!("--net=/proc/{}/ns/net", server.pid());
    let mut client = Command::new("nsenter");
    client.args([&network, "python3", "-c", of_ipv4, &server.address.port().to_string()]);
    let answer = run(client);
    assert!(answer.stdout.ends_with("Hello, World!"), "{answer:?}");
}

// -- CPU --------------------------------------------------------------------------------------------------------------

/// A process that takes all of the CPU that it gets, ended when dropped.
struct Busy(Child);

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test(needs(Taskset))]
fn half_a_core_is_enough_to_answer_all_and_to_stop_a_loop() {
    let flags = ["--workers", "2", "--cpu-limit", "200ms"];
    // With a quota where a cgroup can be made; else with a neighbour on the only CPU that it may use.
    let (server, _cgroups, _busy) = match Cgroups::new(&[Bound::Cpu(50)]) {
        Ok(cgroups) => {
            let joining = cgroups.joining();
            (serving_within(&joining.each_ref().map(String::as_str), "faults.wasm", &flags), Some(cgroups), None)
        }
        Err(_) => {
            let mut busy = Command::new("taskset");
            busy.args(["--cpu-list", "0", "sh", "-c", "while :; do :; done"]);
            let busy = Busy(busy.spawn().expect("a busy neighbour"));
            (serving_within(&["taskset", "--cpu-list", "0"], "faults.wasm", &flags), None, Some(busy))
        }
    };
    let mut looping = Connection::open(server.address);
    looping.send("GET /loop HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut clients: Vec<Connection> = (0..8).map(|_| Connection::open(server.address)).collect();
    for turn in 0..40 {
        for client in &mut clients {
            client.send(HELLO);
        }
        for client in &mut clients {
            assert_eq!(client.response().text(), "Hello, World!", "turn {turn}");
        }
    }
    assert_eq!(looping.response().status, 500, "stopped at its CPU limit");
    assert_eq!(server.sum("faults.cpu"), 1);
    assert_eq!(exits(&server), 0, "a slow worker is no silent one");
    drop(server);
}
