//! What does the host make of the place that it runs in: as process 1, in a cgroup, with too few descriptors, on a disk
//! that is full or read-only, without its standard streams?

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::connections::is_silent;
use crate::shutdown::get_over_unix;
use crate::support::cgroup::{Bound, Cgroups};
use crate::support::server::{cpu_ticks, limit_descriptors, lowest_free_descriptor, within};
use crate::support::{CEILING, Connection, FAULTS, Finished, Server, TestResult, eventually, get, guest, message, run};

/// The binary behind these words, serving `component`.
pub fn serving_within(place: &[&str], component: &str, flags: &[&str]) -> Server {
    let mut command = within(place);
    command.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    command.args(flags);
    Server::spawn(command)
}

/// A line of `/proc/PID/status`.
fn process_status(pid: u32, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("the field");
    line.trim_start_matches(':').trim().to_owned()
}

#[test(needs(ProcessNamespace))]
fn process_1_of_a_container_drains_on_both_signals_and_ends_at_once_on_a_second() {
    let place = ["unshare", "--pid", "--fork", "--kill-child"];
    for (component, signal, second) in
        [(FAULTS[0], "TERM", false), (FAULTS[1], "INT", false), (FAULTS[0], "TERM", true), (FAULTS[0], "INT", true)]
    {
        let what = format!("{component} SIG{signal}");
        let mut server = serving_within(&place, component, &["--workers", "2"]);
        let children = format!("/proc/{0}/task/{0}/children", server.pid());
        let process: u32 = fs::read_to_string(children).expect("its child").trim().parse().expect("one child");
        assert!(process_status(process, "NSpid").ends_with("\t1"), "it is process 1");
        let kill = |name: &str| {
            let killed = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
            assert!(killed.expect("kill runs").success());
        };
        let mut sleeping = Connection::open(server.address);
        sleeping.send(format!("GET /sleep?ms={} HTTP/1.1\r\nHost: test\r\n\r\n", if second { 600_000 } else { 500 }));
        eventually("the request is served", || server.sum("in_flight") == 1);
        kill(signal);
        server.wait_for_record("stopping", |record| record["signal"] == format!("SIG{signal}"));
        if second {
            kill(signal);
            assert_eq!(server.wait_for_exit().code(), Some(1), "{what}");
            assert!(sleeping.try_response(false).is_none(), "{what}");
        } else {
            assert_eq!(sleeping.response().text(), "slept", "{what}");
            assert_eq!(server.wait_for_exit().code(), Some(0), "{what}");
        }
    }
}

#[test(needs(Prlimit))]
fn a_host_out_of_descriptors_waits_serves_those_who_are_in_and_accepts_again() {
    for balance in ["round-robin", "kernel"] {
        let server = Server::start("hello.wasm", &["--balance", balance]);
        let mut kept: Vec<Connection> = (0..4).map(|_| Connection::open(server.address)).collect();
        for connection in &mut kept {
            assert_eq!(connection.get("/").status, 200);
        }
        // Whoever accepts: the host, or with workers that are processes and have listeners of their own, these.
        let workers = Some(server.worker_pids()).filter(|workers| balance == "kernel" && !workers.is_empty());
        let accepting = workers.unwrap_or_else(|| vec![server.pid()]);
        for pid in &accepting {
            limit_descriptors(*pid, lowest_free_descriptor(*pid));
        }
        let mut waiting: Vec<Connection> = (0..3).map(|_| Connection::open(server.address)).collect();
        for connection in &mut waiting {
            connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        let record = server.wait_for_record("the shortage", |record| message(record).contains("no connection can be"));
        assert_eq!(record["level"], "ERROR", "{balance}: {record}");
        let (began, before) = (Instant::now(), accepting.iter().copied().map(cpu_ticks).sum::<u64>());
        while began.elapsed() < Duration::from_secs(1) {
            for connection in &mut kept {
                assert_eq!(connection.get("/").text(), "Hello, World!", "{balance}: those who are in");
            }
            // One request in a while: what is measured is the host, not the client.
            std::thread::sleep(Duration::from_millis(50));
        }
        let spent = accepting.iter().copied().map(cpu_ticks).sum::<u64>() - before;
        assert!(spent < 20, "{balance}: {spent} ticks of 10 ms in a second of waiting");
        assert!(waiting.iter().all(is_silent), "{balance}: a connection without a descriptor");

        for pid in &accepting {
            limit_descriptors(*pid, 1_000);
        }
        for mut connection in waiting {
            assert_eq!(connection.response().text(), "Hello, World!", "{balance}: descriptors again");
        }
        assert_eq!(get(server.address, "/").status, 200, "{balance}");
        server.wait_for_record("the end", |record| message(record).contains("accepting connections again"));
        let metrics = server.admin("/metrics").text();
        let counted = metrics.lines().any(|line| {
            line.strip_prefix("wasmhost_accept_errors_total{error=\"EMFILE\"} ")
                .is_some_and(|count| count.parse::<f64>().is_ok_and(|count| count >= 1.0))
        });
        assert!(counted, "{balance}: {metrics}");
    }
}

#[test(needs(Cgroups))]
fn workers_and_memory_follow_the_limits_of_the_cgroup() {
    const MEMORY_BYTES: u64 = 256 << 20;
    let cgroups = Cgroups::new(&[Bound::Cpu(100), Bound::Memory(MEMORY_BYTES)]).expect("control groups");
    let joining = cgroups.joining();
    let server = serving_within(&joining.each_ref().map(String::as_str), "faults.wasm", &["--memory-max", "1GiB"]);
    let record = server.wait_for_record("listening", |record| message(record).starts_with("listening"));
    assert_eq!(record["workers"], 1, "a quota of one CPU: {record}");
    // Three quarters of the limit are 201,326,592 bytes.
    assert_eq!(get(server.address, "/memory?bytes=210000000").text(), "refused");
    server.wait_for_record("the limit", |record| record["limit"] == "--memory-total");
    assert_eq!(get(server.address, "/memory?bytes=100000000").text(), "allocated 100000000");
    drop(server);
}

/// A script for `sh` that makes `$0` a disk of 64 KiB, less than any compiled component has, and goes on.
const TINY_DISK: &str = "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$0\"";
/// A script for `sh` that makes `$0` read-only.
const READ_ONLY: &str = "mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"";

#[test(needs(Mount))]
fn a_cache_on_a_disk_that_is_full_or_read_only_costs_a_warning_and_leaves_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let cache = dir.path().to_str().ok_or("a path in UTF-8")?;
    for (disk, warning, word) in [
        (TINY_DISK, "the cache cannot be written", "space"),
        (READ_ONLY, "no cache for compiled components", "Read-only"),
    ] {
        let script = format!("set -e; {disk}; exec \"$@\"");
        let place = ["unshare", "--mount", "sh", "-c", &script, cache];
        let mut server = serving_within(&place, "faults.wasm", &["--cache-dir", cache, "--workers", "2"]);
        let warnings = server.records(|record| record["level"] == "WARN");
        assert!(
            warnings.len() == 1 && message(&warnings[0]).contains(warning) && message(&warnings[0]).contains(word),
            "{warnings:?}"
        );
        // As the server sees its directory.
        let seen = format!("/proc/{}/root{cache}", server.pid());
        let left: Vec<_> = fs::read_dir(seen)?.collect();
        assert!(left.is_empty(), "{left:?}");
        for _ in 0..4 {
            assert_eq!(get(server.address, "/hello").text(), "Hello, World!");
        }
        assert_eq!(get(server.address, "/trap").status, 500);
        assert_eq!(get(server.address, "/hello").status, 200, "a new instance needs no disk");
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0));
    }
    Ok(())
}

#[test(needs(Mount))]
fn compiling_onto_a_full_disk_fails_and_leaves_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let disk = dir.path().to_str().ok_or("a path in UTF-8")?;
    let script = format!("set -e; {TINY_DISK}; set +e; \"$@\"; code=$?; ls -A \"$0\"; exit $code");
    let mut command = within(&["unshare", "--mount", "sh", "-c", &script, disk]);
    command.arg("compile").arg(guest("hello.wasm")).arg("-o").arg(dir.path().join("hello.cwasm"));
    let Finished { code, stdout, stderr } = run(command);
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.starts_with("error: cannot write") && stderr.contains("\nhint: "), "{stderr}");
    Ok(())
}

/// A server without a log that the test could read; killed when dropped.
struct Mute(Child);

impl Drop for Mute {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Mute {
    fn stop(mut self) -> Option<i32> {
        let killed = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status();
        assert!(killed.expect("kill runs").success());
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("the child can be waited for") {
                return status.code();
            }
            assert!(began.elapsed() < CEILING, "the host does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn a_host_without_standard_streams_serves_and_writes_its_log_to_no_client() -> TestResult {
    for closed in ["2>&-", ">&-", "<&- >&- 2>&-"] {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("socket");
        let mut command = within(&["sh", "-c", &format!("exec \"$0\" \"$@\" {closed}")]);
        command.arg(guest("faults.wasm")).arg("--listen").arg(format!("unix:{}", socket.display()));
        // Without a cache: the compiler's process is started without the streams, too.
        command.args(["--access-log", "--workers", "2", "--cache-dir", "off"]);
        let server = Mute(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        eventually("it listens", || UnixStream::connect(&socket).is_ok());
        for _ in 0..20 {
            let answer = get_over_unix(&socket, "/log?lines=3")?;
            assert!(
                answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nlogged"),
                "{closed}: {answer}"
            );
        }
        assert_eq!(server.stop(), Some(0), "{closed}");
    }
    Ok(())
}

/// A server whose log is read up to the line that tells its address.
fn with_log_pipe() -> Result<(Mute, std::net::SocketAddr, impl BufRead), Box<dyn std::error::Error>> {
    let mut command = crate::support::command();
    command.arg(guest("faults.wasm")).args(["--listen", "127.0.0.1:0", "--access-log", "--log-format", "json"]);
    let mut server = Mute(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?);
    let mut log = BufReader::new(server.0.stderr.take().ok_or("a pipe")?);
    loop {
        let mut line = String::new();
        assert!(log.read_line(&mut line)? > 0, "the server does not listen");
        let record: Value = serde_json::from_str(&line)?;
        if let Some(address) = message(&record).strip_prefix("listening on http://") {
            return Ok((server, address.parse()?, log));
        }
    }
}

#[test]
fn a_log_that_nobody_reads_costs_no_request_and_does_not_hold_up_the_end() -> TestResult {
    for stays in [true, false] {
        let (server, address, log) = with_log_pipe()?;
        // The pipe stays and is never read, or it breaks.
        let log = stays.then_some(log);
        let mut connection = Connection::open(address);
        let began = Instant::now();
        // Two megabytes of the guest's words alone, where a pipe holds 64 KiB.
        for _ in 0..400 {
            assert_eq!(connection.get("/log?lines=3&bytes=1000").text(), "logged");
        }
        let took = began.elapsed();
        assert!(took < Duration::from_secs(10), "{took:?}");
        let began = Instant::now();
        assert_eq!(server.stop(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        drop(log);
    }
    Ok(())
}

#[test(needs(Prlimit))]
fn descriptors_are_reserved_for_outgoing_requests_where_there_may_be_any() {
    let place = ["prlimit", "--nofile=100:4000"];
    // 256 requests of three attempts each, 32 look-ups with two each, and 64 connections that are kept.
    let outgoing = 256 * 3 + 32 * 2 + 64;
    for (kind, bound) in [("thread", 4_000 - 64 - 2 * (16 + outgoing)), ("process", 2 * (4_000 - 64 - 16 - outgoing))] {
        let flags = ["--workers", "2", "--worker-kind", kind, "--allow-host", "upstream.example"];
        let server = serving_within(&place, "hello.wasm", &flags);
        let listening = server.wait_for_record("it listens", |record| record["max_connections"].is_number());
        assert_eq!(listening["max_connections"], bound, "{kind}");
    }
    // However few there are, a quarter is for connections.
    let flags = ["--workers", "2", "--worker-kind", "thread", "--allow-host", "upstream.example"];
    let server = serving_within(&["prlimit", "--nofile=100:400"], "hello.wasm", &flags);
    let listening = server.wait_for_record("it listens", |record| record["max_connections"].is_number());
    assert_eq!(listening["max_connections"], 100);
}

#[test(needs(Prlimit))]
fn connections_are_bounded_by_the_descriptors_of_whoever_keeps_them_and_the_soft_limit_is_raised() {
    let place = ["prlimit", "--nofile=100:400"];
    // Of 400 each: 64, and 16 a worker, are for something else.
    for (kind, bound) in [("thread", 400 - 64 - 2 * 16), ("process", 2 * (400 - 64 - 16))] {
        for asked in [None, Some("100000")] {
            let asked = asked.map(|asked| ["--max-connections", asked]);
            let flags = [&["--workers", "2", "--worker-kind", kind][..], asked.as_ref().map_or(&[], |asked| asked)];
            let server = serving_within(&place, "hello.wasm", &flags.concat());
            for pid in server.pids() {
                let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process lives");
                let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
                assert_eq!(files.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["400", "400"], "{kind}");
            }
            let listening = server.wait_for_record("it listens", |record| record["max_connections"].is_number());
            assert_eq!(listening["max_connections"], bound, "{kind}");
            let lowered = format!("--max-connections is lowered to {bound}");
            let warnings = server.records(|record| message(record).starts_with(&lowered));
            assert_eq!(warnings.len(), usize::from(asked.is_some()), "{kind}: {warnings:?}");
            let mut kept: Vec<Connection> = (0..bound).map(|_| Connection::open(server.address)).collect();
            for connection in &mut kept {
                assert_eq!(connection.get("/").status, 200, "{kind}");
            }
            let mut waiting = Connection::open(server.address);
            waiting.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert!(is_silent(&waiting), "{kind}: there is one more than {bound}");
            assert_eq!(server.sum("open_connections"), bound, "{kind}");
            // What closes makes room.
            drop(kept.pop());
            assert_eq!(waiting.response().status, 200, "{kind}");
            assert_eq!(server.records(|record| record["level"] == "ERROR").len(), 0, "{kind}");
        }
    }
}
