//! What can a guest do to its host? Every row of the two tables is an attack, by a request or by a component that is loaded.
//! Each is made alone and by several at once, beside well-behaved clients of the same worker. After each: the
//! answer or the broken transfer is the one that stands in the row, the log names the bound, the neighbours met no error,
//! and the host's memory is what it was.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;
use std::{fs, io, thread};

use serde_json::Value;

use crate::support::server::{MEMORY_LEFT_KIB, cpu_ticks};
use crate::support::wat::{More, WAIT, WAIT_FUNCTION, WAIT_IMPORTS};
use crate::support::{
    CEILING, Connection, FAULTS, Neighbours, Server, TestResult, eventually, eventually_within, get, guest,
};

/// The longest that a neighbour's request may take, whatever the attack.
const STALL_MAX: Duration = Duration::from_secs(1);
/// Ceiling of a wait for a component to compile: a hundred thousand functions take some 10 s of CPU time.
const COMPILATION_CEILING: Duration = Duration::from_secs(120);
/// How long an attacker waits for an answer: longer than its guest has (`--request-timeout` in [`LIMITS`]).
const PATIENCE: Duration = Duration::from_secs(40);
/// Attackers at once, after one alone.
const AT_ONCE: usize = 3;

/// What becomes of the attacker's request.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// The host answers in the guest's place.
    Fault(u16),
    /// The head is sent, and the transfer broken off.
    Broken,
    /// The guest answers: its status, and words of its body.
    Answers(u16, &'static str),
}
use Ends::{Answers, Broken, Fault};

/// What becomes of the request, and the words that the log tells of it: flags, or a bound that has none.
type Outcome = (Ends, &'static [&'static str]);

/// An attack by a request.
struct Attack {
    /// Path and query. `{upstream}` is an HTTP server of the test, `{silent}` one that never answers; below `/data`, if that is named, there are a file, a
    /// pipe that nobody writes to, a socket, and where a path names it a device.
    path: &'static str,
    flags: &'static [&'static str],
    /// For wasi 0.2 and 0.3; none: it cannot be made there.
    outcomes: [Option<Outcome>; 2],
    /// Guests: another than the fault guests.
    component: Option<&'static str>,
}

/// Limits that the attacks meet, but for those that a row has of its own: CPU time first, whatever else the machine does.
const LIMITS: [(&str, &str); 4] =
    [("--workers", "1"), ("--cpu-limit", "200ms"), ("--request-timeout", "30s"), ("--body-idle-timeout", "1s")];
/// No attack but by what it holds.
const SLOW: &str = "60s";

macro_rules! attacks {
    ($($name:ident: $path:literal, $flags:expr, $outcomes:expr;)*) => {
        $(#[test] fn $name() -> TestResult {
            survived(&Attack { path: $path, flags: &$flags, outcomes: $outcomes, component: None })
        })*
    };
}

/// The same for both versions.
const fn both(ends: Ends, told: &'static [&'static str]) -> [Option<Outcome>; 2] {
    [Some((ends, told)), Some((ends, told))]
}

const HANDLES: &str = "more than 10000 handles in one instance";
const CALLS: &str = "more than 25000 handles, futures, streams and calls in one instance";
const FIELDS: &str = "more than 131072 bytes in one `fields`";

attacks! {
    // Time.
    an_endless_loop_in_handle: "/loop", [], both(Fault(500), &["--cpu-limit"]);
    an_endless_loop_after_the_head: "/loop-after-head", [], both(Broken, &["--cpu-limit"]);
    an_endless_loop_after_a_whole_answer: "/loop-after-body", [], both(Answers(200, "whole"), &["--cpu-limit"]);
    an_endless_loop_in_realloc: "/realloc-loop", [], both(Fault(500), &["--cpu-limit"]);
    endless_recursion: "/stack", [], both(Fault(500), &["call stack exhausted"]);
    sleeping_for_ever: "/wait-forever", ["--request-timeout", "1s"], both(Fault(504), &["--request-timeout"]);
    waiting_for_what_never_comes: "/never-answer", ["--request-timeout", "1s"],
        [Some((Fault(500), &["returned without an answer"])), Some((Fault(504), &["--request-timeout"]))];
    // Memory of the guest.
    memory_by_a_page_for_ever: "/grow?pages=1&times=0", [], both(Fault(500), &["--memory-max", "--cpu-limit"]);
    memory_by_4_gib_at_once: "/grow?pages=65536&times=1000", [], both(Answers(200, "0"), &["--memory-max"]);
    memory_until_the_allocator_aborts: "/alloc", [], both(Fault(500), &["--memory-max"]);
    // What the host holds for it.
    a_million_handles: "/handles?count=1000000", ["--cpu-limit", SLOW], both(Fault(500), &[HANDLES]);
    a_million_futures: "/futures?count=1000000", ["--cpu-limit", SLOW], [None, Some((Fault(500), &[CALLS]))];
    waiting_on_a_million_pollables: "/many-timers?count=1000000&ms=60000",
        ["--cpu-limit", SLOW, "--memory-max", "1GiB", "--isolation", "request"],
        [Some((Fault(500), &[HANDLES])), Some((Fault(500), &[CALLS]))];
    fifty_thousand_headers_in_a_response: "/headers?count=50000", ["--cpu-limit", SLOW, "--isolation", "request"],
        [Some((Fault(500), &[FIELDS])), Some((Answers(500, "SizeExceeded"), &[]))];
    a_header_value_of_a_mib: "/headers?bytes=1048576", ["--isolation", "request"],
        [Some((Fault(500), &[FIELDS])), Some((Answers(500, "SizeExceeded"), &[]))];
    a_million_unsent_bodies: "/unsent?count=1000000&bytes=60000", ["--cpu-limit", SLOW],
        [Some((Fault(500), &[HANDLES])), None];
    fields_of_128_kib_in_every_handle: "/handles?count=9000&bytes=120000",
        ["--cpu-limit", SLOW, "--memory-total", "400MiB"], both(Fault(503), &["--memory-total"]);
    methods_of_a_mib_in_every_handle: "/long-methods?count=2000&bytes=1000000",
        ["--cpu-limit", SLOW, "--memory-total", "400MiB"], both(Fault(503), &["--memory-total"]);
    more_random_bytes_than_there_is_memory: "/random?bytes=18446744073709551615", ["--isolation", "request"],
        [Some((Fault(500), &["more than 1048576 random bytes in one call"])), Some((Answers(200, ""), &[]))];
    a_million_headers_in_a_response: "/headers?count=1000000", ["--cpu-limit", SLOW, "--isolation", "request"],
        both(Fault(500), &["more than 4259840 bytes from the guest"]);
    a_call_of_100_mb: "/big-copy?bytes=100000000", [], both(Fault(500), &["more than 4259840 bytes from the guest"]);
    // Bodies.
    a_body_that_is_never_finished: "/never-finish", [], both(Broken, &["--body-idle-timeout"]);
    a_body_that_is_dropped: "/drop-body", [], both(Broken, &["unfinished-body"]);
    a_body_shorter_than_its_length: "/length?declared=100000&actual=50000", [], both(Fault(500), &[]);
    a_long_body_shorter_than_its_length: "/length?declared=200000&actual=140000", [],
        both(Broken, &["unfinished-body"]);
    a_body_longer_than_its_length: "/length?declared=50000&actual=100000", [], both(Fault(500), &[]);
    a_body_without_end: "/stream?chunks=18446744073709551615&bytes=65536",
        ["--response-timeout", "1s", "--cpu-limit", SLOW], both(Broken, &["--response-timeout"]);
    sixty_four_mib_of_output: "/log?lines=8192&bytes=8192", ["--cpu-limit", SLOW],
        both(Answers(200, "logged"), &["lines a second was left out"]);
    // Outgoing requests.
    a_million_outgoing_requests_at_once: "/fetch-many?count=1000000&url=http://{silent}/",
        ["--cpu-limit", SLOW, "--allow-host", "127.0.0.1", "--memory-max", "1GiB", "--isolation", "request"],
        [Some((Fault(500), &[HANDLES])), Some((Fault(500), &[CALLS]))];
    a_million_outgoing_requests_one_by_one: "/fetch-each?count=1000000&url=http://{upstream}/",
        ["--cpu-limit", SLOW, "--request-timeout", "2s", "--allow-host", "127.0.0.1"],
        both(Fault(504), &["--request-timeout"]);
    a_million_outgoing_requests_that_are_not_allowed: "/fetch-each?count=1000000&url=http://{upstream}/",
        ["--outgoing-calls-max", "none"],
        both(Fault(500), &["--allow-host", "--cpu-limit", "refusals of outgoing requests were left out"]);
    // The rules of the component model and of wasi:http.
    a_call_on_a_handle_that_was_dropped: "/use-after-drop", [], both(Fault(500), &["unknown handle index"]);
    writing_to_a_body_that_was_finished: "/write-after-finish", [],
        [Some((Fault(500), &["resource has children"])), Some((Answers(200, "half of the "), &[]))];
    answering_twice: "/answer-twice", [],
        [Some((Fault(500), &["unknown handle index"])), Some((Fault(500), &["called more than once"]))];
    // Files.
    a_pipe_in_a_granted_directory: "/read?path=/data/pipe", [],
        both(Answers(404, "Operation not permitted"), &["--dir", "neither a file nor a directory"]);
    the_times_of_a_pipe: "/touch?path=/data/pipe", [], both(Answers(403, "0, then"), &["--dir"]);
    // The kernel opens no socket (ENXIO), and the guest learns of an error.
    a_socket_in_a_granted_directory: "/read?path=/data/socket", [], both(Answers(404, "error"), &[]);
    the_times_of_a_socket: "/touch?path=/data/socket", [], both(Answers(403, "0, then"), &[]);
    a_thousand_pipes_at_once: "/files?count=1000&path=/data/pipe", [], both(Answers(403, "0, then"), &["--dir"]);
}

#[test]
fn tables_of_a_guest_that_grow() -> TestResult {
    for (path, ends, told) in [
        ("/slowly", Fault(500), &["--memory-max", "--cpu-limit"][..]),
        ("/to-the-end", Answers(200, "Hello, World!"), &["--memory-max"][..]),
    ] {
        let outcomes = [Some((ends, told)), None];
        survived(&Attack { path, flags: &[], outcomes, component: Some("wat/tables.wat") })?;
    }
    Ok(())
}

#[test(needs(Mknod))]
fn a_device_in_a_granted_directory() -> TestResult {
    for (path, ends) in [
        ("/read?path=/data/device", Answers(404, "Operation not permitted")),
        ("/touch?path=/data/device", Answers(403, "0, then")),
        ("/files?count=1000&path=/data/device", Answers(403, "0, then")),
    ] {
        survived(&Attack { path, flags: &[], outcomes: both(ends, &["--dir"]), component: None })?;
    }
    Ok(())
}

/// Makes the attack, in both versions, and checks all that holds after each.
fn survived(attack: &Attack) -> TestResult {
    let folder = tempfile::tempdir()?;
    let upstream = answers_all()?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let path = attack.path.replace("{upstream}", &upstream.to_string());
    let path = path.replace("{silent}", &silent.local_addr()?.to_string());
    let grant = format!("{}::/data:rw", folder.path().display());
    let mut flags = attack.flags.to_vec();
    for (flag, value) in LIMITS {
        if !attack.flags.contains(&flag) {
            flags.extend([flag, value]);
        }
    }
    if path.contains("/data/") {
        fs::write(folder.path().join("file"), "content")?;
        assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status()?.success(), "mkfifo");
        UnixListener::bind(folder.path().join("socket"))?;
        if path.ends_with("device") {
            // /dev/zero, which would give bytes for ever.
            let mut mknod = Command::new("mknod");
            assert!(mknod.arg(folder.path().join("device")).args(["c", "1", "5"]).status()?.success(), "mknod");
        }
        flags.extend(["--dir", &grant]);
    }
    for (component, outcome) in FAULTS.into_iter().zip(attack.outcomes) {
        let Some((ends, told)) = outcome else { continue };
        let component = attack.component.unwrap_or(component);
        let what = format!("{component}{path}");
        let server = Server::start(component, &flags);
        let neighbours = Neighbours::begin(server.address);
        // What a fault needs for the first time is not what the attack left.
        get(server.address, "/trap");
        let before = server.resident_kib();
        let processes = server.pids().len();

        attacked(server.address, &path, ends, &what);
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| attacked(server.address, &path, ends, &what));
            }
        });
        for words in told {
            server.wait_for_record(&format!("{what}: {words}"), |record| tells(record, words));
        }
        let slowest = neighbours.end(&what);
        assert!(slowest < STALL_MAX, "{what}: a neighbour's request took {slowest:?}");
        assert_eq!(server.pids().len(), processes, "{what}");
        server.memory_is_back(before, &what);
        assert_eq!(get(server.address, "/hello").text(), "Hello, World!", "{what}");
    }
    Ok(())
}

/// One attacker's request.
#[track_caller]
fn attacked(address: SocketAddr, path: &str, ends: Ends, what: &str) {
    let mut connection = Connection::open(address);
    connection.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"));
    let Broken = ends else {
        let response = connection.try_response(false).unwrap_or_else(|| panic!("{what}: no answer"));
        let (status, words) = match ends {
            Answers(status, words) => (status, words),
            Fault(status) => (status, status_words(status)),
            Broken => unreachable!("above"),
        };
        let text = response.text();
        assert_eq!((response.status, response.whole), (status, true), "{what}: {text}");
        assert!(text.contains(words), "{what}: {text}");
        assert!(status != 503 || response.header("retry-after").is_some(), "{what}: when to come back");
        return;
    };
    // Not more than a moment's worth of a body without end is kept.
    let mut last = Vec::new();
    let mut piece = vec![0; 1 << 16];
    let mut first = None;
    while let Ok(read @ 1..) = connection.stream.read(&mut piece) {
        first.get_or_insert_with(|| piece[..read.min(15)].to_vec());
        last.extend_from_slice(&piece[..read]);
        let surplus = last.len().saturating_sub(16);
        last.drain(..surplus);
    }
    assert_eq!(first.as_deref(), Some(&b"HTTP/1.1 200 OK"[..]), "{what}");
    assert!(!last.ends_with(b"\r\n0\r\n\r\n"), "{what}: it looks whole");
}

/// What the host says in the guest's place.
fn status_words(status: u16) -> &'static str {
    match status {
        500 => "the application failed",
        503 => "the application is busy",
        _ => "the application took too long",
    }
}

/// Whether a log record names a flag, or has the words.
fn tells(record: &Value, words: &str) -> bool {
    ["limit", "detail", "message", "fault", "hint"]
        .iter()
        .any(|field| record[field].as_str().is_some_and(|text| text.contains(words)))
}

/// An upstream that answers every request, one for each connection.
fn answers_all() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A client that left is no concern of this one.
            let _ = stream.set_read_timeout(Some(CEILING));
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    };
    thread::Builder::new().name("upstream".to_owned()).spawn(serve)?;
    Ok(address)
}

/// An attack by what is loaded: put in the place of a component that is served.
struct Load {
    component: fn() -> Vec<u8>,
    flags: &'static [&'static str],
    /// Words of the error or its hint; none: it is served.
    refused_for: Option<&'static str>,
}

macro_rules! loads {
    ($($name:ident: $component:expr, $flags:expr, $refused_for:expr;)*) => {
        $(#[test] fn $name() -> TestResult {
            load_survived(&Load { component: $component, flags: &$flags, refused_for: $refused_for }, stringify!($name))
        })*
    };
}

loads! {
    an_endless_loop_at_the_start: || fs::read(guest("wat/start-loop.wat")).expect("a text"),
        ["--cpu-limit", "200ms"], Some("--cpu-limit");
    a_trap_at_the_start: || fs::read(guest("wat/start-trap.wat")).expect("a text"), [], Some("does not start");
    code_that_takes_long_to_compile: || component(&compute(8_000, 60)),
        ["--compile-timeout", "1s", "--cache-dir", "off"], Some("--compile-timeout");
    code_that_takes_much_memory_to_compile: || component(&compute(1, 100_000)),
        ["--compile-memory-max", "256MiB", "--cache-dir", "off"], Some("--compile-memory-max");
    blocks_in_blocks: || component(&format!("(func {}{})", "block ".repeat(100_000), "end ".repeat(100_000))),
        ["--cache-dir", "off"], None;
    twenty_thousand_functions: || component(&"(func)".repeat(20_000)), ["--cache-dir", "off"], None;
    a_memory_of_4_gib: || component("(memory 65536)"), [], Some("--memory-max");
    a_table_of_10_million_elements: || component("(table 10000000 funcref)"), ["--memory-max", "64MiB"], Some("--memory-max");
    a_table_of_64_bits_whose_growth_overflows: || component(&ten_memories("i64 1", "i64.const -1")), [], Some("64");
    a_memory_of_64_bits: || component("(memory i64 1)"), [], Some("64");
    a_thousand_and_one_memories: || component(&"(memory 0)".repeat(1_001)), [], Some("memor");
}

/// Ten memories and a table in a guest's module, and a function that grows each memory by 1 MiB, fills what is new, and has
/// the table grow by more than it can, so many times.
fn ten_memories(table: &str, too_many: &str) -> String {
    let memories: String = (0..10).map(|nth| format!("(memory $m{nth} 0)\n")).collect();
    let turns = (0..10).map(|nth| {
        format!(
            "(local.set $old (memory.grow $m{nth} (i32.const 16)))
             (if (i32.ne (local.get $old) (i32.const -1)) (then
                (memory.fill $m{nth} (i32.mul (local.get $old) (i32.const 65536)) (i32.const 1) (i32.const 1048576))))
             (drop (table.grow $full (ref.null func) ({too_many})))\n"
        )
    });
    let turns: String = turns.collect();
    format!(
        "{memories}
         (table $full {table} funcref)
         (func $fill (param $times i32) (local $old i32)
            (loop $again
                {turns}
                (local.set $times (i32.sub (local.get $times) (i32.const 1)))
                (br_if $again (local.get $times))))"
    )
}

/// What is charged for an instance is what it has, whatever fails beside it.
#[test]
fn ten_memories_and_a_table_that_fails_to_grow() -> TestResult {
    const MIB: u64 = 1 << 10;
    // By 10 MiB a turn: within the limit, and far beyond it.
    for (times, flags, held_mib) in [(20, ["--memory-max", "1GiB"], 200), (60, ["--memory-max", "128MiB"], 0)] {
        let module = ten_memories("1 1000", "i32.const 1000");
        let handle = format!("(call $fill (i32.const {times}))");
        let file = More { module: &module, handle: &handle, ..More::default() }.file();
        let flags = [&["--workers", "1", "--cpu-limit", "30s"][..], &flags].concat();
        let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &flags);
        let before = server.pids().into_iter().map(peak_kib).sum::<u64>();
        assert_eq!(get(server.address, "/").text(), "Hello, World!", "{flags:?}");
        let grown = server.pids().into_iter().map(peak_kib).sum::<u64>().saturating_sub(before);
        let charged = server.status()["instance_memory_bytes"].as_u64().ok_or("a number")? >> 10;
        if held_mib > 0 {
            assert!(grown >= held_mib * MIB, "{grown} KiB: the guest has what it asked for");
            assert!(charged + MEMORY_LEFT_KIB >= grown, "{charged} KiB are charged for {grown} KiB");
        } else {
            server.wait_for_record("refused", |record| record["limit"] == "--memory-max");
            assert!((100 * MIB..=128 * MIB + MEMORY_LEFT_KIB).contains(&grown), "{grown} KiB in 128 MiB");
        }
    }
    Ok(())
}

/// The most that a process had resident, in KiB.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
}

/// In a call of the host no tick is heard. What it takes is counted all the same, and it is short.
#[test]
fn calls_of_the_host_and_short_waits_count_as_cpu_time() -> TestResult {
    for (bytes, words) in [(60_000_000, "more than 4259840 bytes from the guest"), (4_000_000, "--cpu-limit")] {
        let module = format!(
            "{WAIT_FUNCTION}
             (func $burn
                (drop (memory.grow (i32.const 1000)))
                (loop $again
                    (call $append (call $new-fields) (i32.const 1024) (i32.const {bytes})
                        (i32.const 1024) (i32.const 1) (global.get $result))
                    (call $wait (i64.const 1))
                    (br $again)))"
        );
        // On a path that begins with /b.
        let handle = "(if (i32.eq (i32.load8_u (i32.const 1025)) (i32.const 98)) (then (call $burn)))";
        let file = More { component: WAIT, imports: &WAIT_IMPORTS, module: &module, handle }.file();
        let flags = ["--workers", "1", "--cpu-limit", "1s", "--request-timeout", "none"];
        let server = Server::start(file.path().to_str().ok_or("a path in UTF-8")?, &flags);
        assert_eq!(get(server.address, "/").text(), "Hello, World!");
        let ticks = |server: &Server| server.pids().into_iter().map(cpu_ticks).sum::<u64>();
        let neighbours = Neighbours::begin(server.address);
        let before = ticks(&server);
        assert_eq!(get(server.address, "/burn").status, 500, "{bytes}");
        let used = ticks(&server) - before;
        let slowest = neighbours.end("/burn");
        assert!(slowest <= Duration::from_secs(1), "{bytes}: a neighbour's request took {slowest:?}");
        server.wait_for_record(words, |record| tells(record, words));
        assert!(used <= 200, "{} ms of CPU time within --cpu-limit 1s", used * 10);
    }
    Ok(())
}

/// hello.wat with more in its guest's module.
fn component(more: &str) -> Vec<u8> {
    let text = fs::read_to_string(guest("wat/hello.wat")).expect("a text");
    let (before, after) = text.split_once("    (global $result").expect("its guest's module");
    wat::parse_str(format!("{before}{more}\n    (global $result{after}")).expect("a component")
}

/// So many functions of so many steps, which a compiler has to think about.
fn compute(functions: usize, steps: usize) -> String {
    let step = "(local.set $a (i32.add (i32.mul (local.get $a) (i32.const 77)) (i32.load (local.get $b))))
        (if (i32.gt_u (local.get $a) (local.get $b)) (then (local.set $b (i32.xor (local.get $a) (local.get $b)))))\n";
    let function = format!("(func (param $a i32) (param $b i32) (result i32) {} (local.get $a))\n", step.repeat(steps));
    function.repeat(functions)
}

/// Has it loaded while another is served, and that one again after it.
fn load_survived(load: &Load, what: &str) -> TestResult {
    let folder = tempfile::tempdir()?;
    let app = folder.path().join("app.wasm");
    let deploy = |bytes: &[u8]| -> io::Result<()> {
        let new = folder.path().join("new");
        fs::write(&new, bytes)?;
        fs::rename(&new, &app)
    };
    // Where the attack is refused, one that takes a moment to compile: `--compile-timeout` holds for it, too, and other tests
    // keep the machine busy. Else one that answers otherwise than the attack.
    let served = if load.refused_for.is_some() { component("") } else { fs::read(guest("faults.wasm"))? };
    let attack = (load.component)();
    deploy(&served)?;
    let flags = [&["--workers", "1"], load.flags].concat();
    let server = Server::start(app.to_str().ok_or("a path in UTF-8")?, &flags);
    let neighbours = Neighbours::begin(server.address);
    let count = |field: &str| server.status()[field].as_u64().expect("a number");
    let reload = |bytes: &[u8]| -> io::Result<()> {
        let before = count("reloads") + count("failed_reloads");
        deploy(bytes)?;
        server.signal("HUP");
        // How long it takes to compile is not what is asked here.
        eventually_within(COMPILATION_CEILING, &format!("{what}: it is loaded, or refused"), || {
            count("reloads") + count("failed_reloads") > before
        });
        Ok(())
    };
    // Once as it should be, so that what the first reload needs is not what the attack left.
    reload(&served)?;
    let before = server.resident_kib();
    let processes = server.pids().len();
    for _ in 0..2 {
        let failed = count("failed_reloads");
        reload(&attack)?;
        if let Some(words) = load.refused_for {
            assert_eq!(count("failed_reloads"), failed + 1, "{what}");
            server.wait_for_record(words, |record| {
                record["message"].as_str().is_some_and(|text| text.starts_with("reload failed")) && tells(record, words)
            });
        } else {
            assert_eq!(count("failed_reloads"), failed, "{what}: {:?}", server.lines().last());
            // hello.wat answers what the fault guest does not know.
            eventually("the new one is served", || get(server.address, "/no-such-verb").status == 200);
            reload(&served)?;
        }
    }
    let slowest = neighbours.end(what);
    assert!(slowest < STALL_MAX, "{what}: a neighbour's request took {slowest:?}");
    eventually(&format!("{what}: no process is left"), || server.pids().len() == processes);
    server.memory_is_back(before, what);
    Ok(())
}
