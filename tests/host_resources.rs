//! What the host holds for a guest beside its memory: is each bound kept, does the guest learn of it, do the others notice
//! nothing, and is all given back?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::isolation::named;
use crate::support::server::{MEMORY_LEFT_KIB, status_field};
use crate::support::wat::More;
use crate::support::{Connection, FAULTS, Neighbours, Response, Server, TestResult, command, eventually, get, guest};

/// The longest that one request may wait because of another's work in the same worker.
const STALL_MAX: Duration = Duration::from_secs(1);

const ONE_WORKER: [&str; 2] = ["--workers", "1"];

/// GET, while other clients have their requests served by the same worker.
#[track_caller]
fn get_beside_others(server: &Server, path: &str) -> Response {
    let neighbours = Neighbours::begin(server.address);
    let response = get(server.address, path);
    let slowest = neighbours.end(path);
    assert!(slowest < STALL_MAX, "{path}: a request beside took {slowest:?}");
    response
}

/// Asks for what is above a bound that ends in a trap: 500, one fault, and `words` in the log line.
#[track_caller]
fn trapped(server: &Server, path: &str, words: &str) {
    let faults = server.sum("faults.trap");
    assert_eq!(get_beside_others(server, path).status, 500, "{path}");
    eventually("the fault is counted", || server.sum("faults.trap") == faults + 1);
    server.wait_for_record(&format!("{path} met: {words}"), |record| {
        record["fault"] == "trap" && record["detail"].as_str().is_some_and(|detail| detail.contains(words))
    });
    assert_eq!(get(server.address, "/hello").status, 200, "after {path}");
}

/// Asks for what is within a bound.
#[track_caller]
fn given(server: &Server, path: &str, answer: &str) {
    let response = get_beside_others(server, path);
    assert_eq!((response.status, response.text().as_str()), (200, answer), "{path}");
}

/// A server with one worker that has answered once, and its memory then.
#[track_caller]
fn start(component: &str, flags: &[&str]) -> (Server, u64) {
    let server = Server::start(component, &[&ONE_WORKER, flags].concat());
    assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    let before = server.resident_kib();
    (server, before)
}

#[track_caller]
fn memory_is_back(server: &Server, before_kib: u64) {
    server.memory_is_back(before_kib, "all was freed");
}

#[test]
fn handles_of_an_instance_are_bounded_over_all_its_requests() {
    for component in FAULTS {
        let (server, before) = start(component, &[]);
        let mut connection = Connection::open(server.address);
        for round in 0..3 {
            let generation = server.sum("generation");
            assert_eq!(connection.get("/handles?count=6000").text(), "6000", "{component}: a new instance has none");
            assert_eq!(connection.get("/handles?count=6000").status, 500, "{component}: handles of two requests");
            eventually("a new generation", || server.sum("generation") == generation + 1);
            assert_eq!(server.sum("faults.trap"), round + 1, "{component}");
        }
        given(&server, "/handles?count=9000", "9000");
        trapped(&server, "/handles?count=11000", "more than 10000 handles in one instance");
        memory_is_back(&server, before);
    }
}

/// A slow leak: before it meets the bound, and costs a request, the instance goes.
#[test]
fn an_instance_that_is_nearly_out_of_handles_retires_between_two_requests() {
    for component in FAULTS {
        let (server, _) = start(component, &[]);
        let mut connection = Connection::open(server.address);
        for request in 0..12_000 {
            let response = connection.get("/handles?count=1");
            assert_eq!(response.status, 200, "{component}: request {request}");
        }
        let retired = server.records(|record| record["limit"] == "handles");
        assert_eq!(retired.len(), 1, "{component}: {retired:?}");
        assert!(retired[0]["served"].as_u64() >= Some(7_000), "{component}: {retired:?}");
        assert_eq!(server.sum("faults.trap"), 0, "{component}");
    }
}

/// A guest that prints without a newline, and never flushes anything.
#[test]
fn a_line_without_an_end_is_logged_for_the_request_that_wrote_it() -> TestResult {
    let component = r#"
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream-type (type $stdout-stream-outer))
    (export "output-stream" (type $stdout-stream (eq $stdout-stream-outer)))
    (export "get-stdout" (func (result (own $stdout-stream))))))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
"#;
    let handle = r#"
      (local.set $stream (call $get-stdout))
      (call $check-write (local.get $stream) (global.get $result))
      (call $check)
      (call $write (local.get $stream) (i32.const 600) (i32.const 7) (global.get $result))
      (call $check)
      (call $drop-stream (local.get $stream))
"#;
    let imports = [("get-stdout", "(result i32)")];
    let file = More { component, imports: &imports, module: r#"(data (i32.const 600) "partial")"#, handle }.file();
    let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &ONE_WORKER);
    for request in 1..=3 {
        assert_eq!(get(server.address, "/").text(), "Hello, World!");
        server.wait_for_record(&format!("the line of request {request}"), |record| {
            record["stream"] == "stdout" && record["message"] == "partial" && record["request"] == request
        });
    }
    Ok(())
}

#[test]
fn waits_of_an_instance_are_bounded() {
    for component in FAULTS {
        let (server, before) = start(component, &[]);
        given(&server, "/many-timers?count=4000&ms=20", "4000");
        if component == "faults.wasm" {
            // A timer is a resource, and so is what it is waited for by.
            trapped(&server, "/many-timers?count=6000&ms=20", "more than 10000 handles in one instance");
        } else {
            trapped(&server, "/many-timers?count=120000&ms=20", "handle limit exceeded");
        }
        memory_is_back(&server, before);
    }
}

#[test]
fn futures_that_a_guest_keeps_are_bounded() {
    let (server, before) = start("faults-p3.wasm", &[]);
    given(&server, "/futures?count=4000", "4000");
    trapped(&server, "/futures?count=60000", "handle limit exceeded");
    memory_is_back(&server, before);
}

#[test]
fn random_bytes_of_a_call_are_bounded() {
    const BOUND: usize = 1 << 20;
    for component in FAULTS {
        let (server, before) = start(component, &[]);
        let digits = |bytes: u64| get_beside_others(&server, &format!("/random?bytes={bytes}")).body.len();
        assert_eq!(digits(BOUND as u64), 2 * BOUND, "{component}");
        for above in [(1 << 20) + 1, u64::MAX] {
            match component {
                "faults.wasm" => {
                    trapped(&server, &format!("/random?bytes={above}"), "more than 1048576 random bytes in one call");
                }
                // It says that the guest may get fewer.
                _ => assert_eq!(digits(above), 2 * BOUND, "{component}"),
            }
        }
        memory_is_back(&server, before);
    }
}

#[test]
fn bytes_that_a_call_copies_are_bounded() {
    for component in FAULTS {
        // Else the guest's own bytes would stay with its instance.
        let (server, before) = start(component, &["--isolation", "request"]);
        given(&server, "/big-copy?bytes=4000000", "4000000");
        trapped(&server, "/big-copy?bytes=4300000", "more than 4259840 bytes from the guest in one call");
        memory_is_back(&server, before);
    }
}

#[test]
fn bytes_of_fields_are_bounded() {
    for component in FAULTS {
        let (server, before) = start(component, &[]);
        given(&server, "/handles?bytes=130000", "1");
        if component == "faults.wasm" {
            for path in ["/handles?bytes=140000", "/headers?bytes=140000"] {
                trapped(&server, path, "more than 131072 bytes in one `fields`");
            }
        } else {
            for (path, status) in [("/handles?bytes=140000", 403), ("/headers?bytes=140000", 500)] {
                let refused = get_beside_others(&server, path);
                assert_eq!(refused.status, status, "{component}{path}");
                assert!(named(&refused.text(), "size-exceeded"), "{component}{path}: {}", refused.text());
            }
            assert_eq!(server.sum("faults.trap"), 0, "{component}: an error is no fault");
        }
        memory_is_back(&server, before);
    }
}

#[test]
fn what_an_instance_had_the_host_keep_is_freed_with_it() {
    for component in FAULTS {
        let (server, before) = start(component, &[]);
        let mut highest = 0;
        for round in 0..4 {
            given(&server, "/handles?count=1000&bytes=100000", "1000");
            let held = server.resident_kib() - before;
            if round == 0 {
                highest = held;
            }
            assert!(held < highest + MEMORY_LEFT_KIB, "{component}: {held} KiB in round {round}, {highest} at first");
            assert_eq!(get(server.address, "/trap").status, 500, "{component}");
        }
        memory_is_back(&server, before);
    }
}

#[test]
fn requests_that_are_never_sent_are_bounded_and_freed_with_their_instance() {
    let (server, before) = start("faults.wasm", &[]);
    given(&server, "/unsent?count=3000&bytes=60000", "3000");
    assert_eq!(get(server.address, "/trap").status, 500);
    memory_is_back(&server, before);
    trapped(&server, "/unsent?count=4000&bytes=100", "more than 10000 handles in one instance");
}

#[test]
fn a_flood_of_output_is_left_out_of_the_log_and_takes_no_memory() {
    for component in FAULTS {
        let (server, before) = start(component, &["--cpu-limit", "60s"]);
        let began = Instant::now();
        // 64 MiB in two streams.
        given(&server, "/log?lines=16384&bytes=4096", "logged");
        memory_is_back(&server, before);
        eventually("a count of what was left out", || {
            get(server.address, "/log");
            !server.records(|record| record["lines"].as_u64().is_some_and(|lines| lines > 1000)).is_empty()
        });
        let logged = server.records(|record| record["target"] == "guest").len();
        let seconds = usize::try_from(began.elapsed().as_secs()).expect("a short time");
        assert!(logged >= 1000 && logged <= 1000 * (seconds + 2), "{component}: {logged} lines in {seconds} s");
    }
}

/// An upstream that answers each group of connections, of these sizes, when the last of it has come.
fn answers_in_groups(sizes: &'static [usize]) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = move || {
        for size in sizes {
            let group: Vec<_> = listener.incoming().map_while(Result::ok).take(*size).collect();
            // Until the guest has asked for all that it wants, and been refused what is beyond the bound.
            thread::sleep(Duration::from_millis(500));
            for mut stream in group {
                // A client that left is no concern of this one.
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
            }
        }
    };
    thread::Builder::new().name("upstream".to_owned()).spawn(serve)?;
    Ok(address)
}

#[test]
fn outgoing_requests_of_a_worker_are_bounded() -> io::Result<()> {
    for component in FAULTS {
        // An instance alone has half of the worker's 256.
        let upstream = answers_in_groups(&[100, 128, 128])?;
        let (server, before) = start(component, &["--allow-host", "127.0.0.1"]);
        given(&server, &format!("/fetch-many?count=100&url=http://{upstream}/"), "200: 100\n");
        for _ in 0..2 {
            let response = get_beside_others(&server, &format!("/fetch-many?count=300&url=http://{upstream}/"));
            let text = response.text();
            let (answered, refused) = text.split_once('\n').expect("two outcomes");
            assert_eq!(answered, "200: 128", "{component}: {text}");
            assert!(named(refused, "connection-limit-reached: 172"), "{component}: {text}");
        }
        assert_eq!(server.sum("faults.trap"), 0, "{component}: an error is no fault");
        memory_is_back(&server, before);
    }
    Ok(())
}

/// Threads of the server for file system calls.
fn file_threads(server: &Server) -> usize {
    let names = server.pids().into_iter().flat_map(|pid| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
    });
    names.filter(|name| name.trim_end() == "files").count()
}

#[test]
fn threads_for_files_are_bounded_and_all_calls_get_their_turn() -> io::Result<()> {
    for component in FAULTS {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("file"), "content")?;
        let (server, before) = start(component, &["--dir", &format!("{}::/data", folder.path().display())]);
        let mut connections: Vec<Connection> = (0..64).map(|_| Connection::open(server.address)).collect();
        for connection in &mut connections {
            connection.send("GET /files?count=50&path=/data/file HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for connection in &mut connections {
            assert_eq!(connection.response().text(), "50", "{component}");
        }
        given(&server, "/files?count=2000&path=/data/file", "2000");
        // They live on for 10 s.
        let threads = file_threads(&server);
        assert!((1..=8).contains(&threads), "{component}: {threads} threads");
        memory_is_back(&server, before);
    }
    Ok(())
}

#[test]
fn a_guest_that_opens_all_files_that_the_host_can_is_told_so_and_the_host_goes_on() -> io::Result<()> {
    for component in FAULTS {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("file"), "content")?;
        let grant = format!("{}::/data", folder.path().display());
        let with_few = |own: &Command| {
            let mut limited = Command::new("sh");
            limited.args(["-c", "ulimit -n 300 && exec \"$@\"", "sh"]).arg(own.get_program());
            limited.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
            limited
        };
        let mut limited = with_few(&command());
        limited.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        limited.args(["--log-format", "json", "--dir", &grant]).args(ONE_WORKER);
        let server = Server::spawn(limited);
        given(&server, "/files?count=100&path=/data/file", "100");
        for _ in 0..3 {
            // No others beside: for a new instance, too, the granted directory is opened.
            let refused = get(server.address, "/files?count=1000&path=/data/file");
            let text = refused.text();
            assert_eq!(refused.status, 403, "{component}: {text}");
            assert!(named(&text, ", then") && named(&text, "io"), "{component}: {text}");
        }
        assert_eq!(server.sum("faults.trap"), 0, "{component}: an error is no fault");
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
    Ok(())
}

/// The kernel makes the table of descriptors larger while a process waits, which took a worker up to 30 ms.
#[test]
fn each_process_has_room_for_thousands_of_descriptors_from_the_start() {
    let (server, _) = start("faults.wasm", &[]);
    let serving = [vec![server.pid()], server.worker_pids()].concat();
    for pid in serving {
        assert!(status_field(pid, "FDSize:") >= Some(4_096), "process {pid}: {:?}", status_field(pid, "FDSize:"));
    }
}
