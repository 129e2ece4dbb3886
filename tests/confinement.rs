//! The second wall: what can a guest that broke out of wasmtime's sandbox do? Its deeds are the host's own, asked for by a
//! header (`host/serve/src/http/misdeeds.rs`, in builds with the feature `fault-injection`): the kernel refuses them. With
//! `--confine off` they succeed, so that these checks can fail.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::server::{command, signal};
use crate::support::{Connection, FAULTS, Server, TestResult, eventually, get, guest, message, run};

const KINDS: [&str; 2] = ["thread", "process"];
const EPERM: &str = "1";
const EACCES: &str = "13";
const DONE: &str = "done";

/// What came of a deed: `done`, or the number of the system's error; none when it ended the connection.
fn deed(server: &Server, what: &str) -> Option<String> {
    let mut connection = Connection::open(server.address);
    connection.send(format!("GET /hello HTTP/1.1\r\nHost: test\r\nX-Wasmhost-Misdeed: {what}\r\n\r\n"));
    connection.try_response(false).map(|response| response.text())
}

#[track_caller]
fn assert_refused(server: &Server, kind: &str, what: &str) {
    let outcome = deed(server, what).unwrap_or_else(|| panic!("{kind}: no answer to {what}"));
    // By Landlock, by a filter as not permitted, or as a call that there is not (ENOSYS).
    assert!([EPERM, EACCES, "38"].contains(&outcome.as_str()), "{kind}: {what} came to {outcome}");
}

#[test(needs(FaultInjection, Confinement))]
fn the_kernel_refuses_what_a_guest_that_broke_out_would_do() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let connect = format!("connect {}", elsewhere.local_addr().expect("an address"));
    for mode in ["auto", "require"] {
        for kind in KINDS {
            let server = Server::start("faults.wasm", &["--confine", mode, "--worker-kind", kind]);
            for what in [
                "open /etc/passwd",
                "open /proc/1/environ",
                "create /tmp/wasmhost-misdeed",
                "list /",
                "exec /bin/true",
                "spawn /bin/true",
                "trace",
                "listen 127.0.0.1:0",
                &connect,
                &format!("signal {}", std::process::id()),
                &format!("signal {}", server.spawner_pid().expect("a spawner")),
            ] {
                assert_refused(&server, kind, what);
            }
            for _ in 0..2 {
                assert_eq!(get(server.address, "/hello").status, 200, "{kind}: it goes on");
            }
            assert_eq!(server.records(|record| record["message"] == "exit").len(), 0, "{kind}: nothing was killed");
        }
    }
    assert!(!Path::new("/tmp/wasmhost-misdeed").exists());
}

#[test(needs(FaultInjection, Confinement))]
fn a_workers_process_has_less_than_the_host_as_a_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("cache");
    let file = cache.join("planted");
    for (kind, may) in [("thread", true), ("process", false)] {
        let server = Server::start(
            "faults.wasm",
            &["--worker-kind", kind, "--confine", "auto", "--cache-dir", cache.to_str().expect("a path in UTF-8")],
        );
        // The host writes compiled components there; a worker's process has nothing to write at all.
        let create = deed(&server, &format!("create {}", file.display())).expect("an answer");
        assert_eq!(create == DONE, may, "{kind}: {create}");
        let remove = deed(&server, &format!("remove {}", file.display())).expect("an answer");
        assert_eq!(remove == DONE, may, "{kind}: {remove}");
    }
}

#[test(needs(FaultInjection))]
fn without_confinement_the_same_deeds_succeed() {
    for kind in KINDS {
        let mut server = Server::start("faults.wasm", &["--confine", "off", "--worker-kind", kind, "--workers", "1"]);
        let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let connect = format!("connect {}", elsewhere.local_addr().expect("an address"));
        for what in ["open /etc/passwd", "list /", "spawn /bin/true", "listen 127.0.0.1:0", &connect] {
            assert_eq!(deed(&server, what).as_deref(), Some(DONE), "{kind}: {what}");
        }
        assert_eq!(server.status()["confinement"]["mode"], "off");
        if kind == "thread" {
            // Last: it takes the place of the whole host.
            assert_eq!(deed(&server, "exec /bin/true"), None, "{kind}");
            assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
        } else {
            // (A thread that its parent traces would keep the test from waiting for the host.)
            assert_eq!(deed(&server, "trace").as_deref(), Some(DONE), "{kind}");
        }
    }
}

#[test]
fn what_was_applied_is_one_line_of_the_log_and_shown_on_the_status_page() {
    for kind in KINDS {
        let server = Server::start("hello.wasm", &["--confine", "auto", "--worker-kind", kind]);
        let lines = server.records(|record| message(record).starts_with("confined"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        let status = server.status();
        let shown = &status["confinement"];
        for field in ["mode", "no_new_privs", "landlock", "seccomp", "core_dumps"] {
            assert_eq!(shown[field], lines[0][field], "{field}: {status}");
        }
        assert_eq!(
            (&shown["no_new_privs"], &shown["core_dumps"]),
            (&Value::Bool(true), &Value::Bool(false)),
            "{shown}"
        );
        // As the kernel sees it, of all of the host's processes.
        for pid in [server.pid(), server.spawner_pid().expect("a spawner")].into_iter().chain(server.worker_pids()) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
            assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
            let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process lives");
            let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
            assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
        }
    }
}

#[test]
fn every_thread_is_confined() {
    for kind in KINDS {
        let server = Server::start("faults.wasm", &["--confine", "auto", "--worker-kind", kind]);
        assert_eq!(get(server.address, "/hello").status, 200);
        for pid in server.pids() {
            let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
            for task in tasks.flatten() {
                let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
                assert!(status.is_empty() || status.contains("Seccomp_filters:\t"), "{status}");
                assert!(status.is_empty() || status.contains("Seccomp:\t2"), "{status}");
            }
        }
    }
}

#[test]
fn a_reload_finds_a_new_file_at_the_components_path_even_behind_another_link() -> TestResult {
    for kind in KINDS {
        let dir = tempfile::tempdir()?;
        let release = |name: &str, component: &str| -> std::io::Result<()> {
            std::fs::create_dir(dir.path().join(name))?;
            std::fs::copy(guest(component), dir.path().join(name).join("app.wasm")).map(drop)
        };
        release("one", "hello.wasm")?;
        let current = dir.path().join("current");
        std::os::unix::fs::symlink("one", &current)?;
        let app = current.join("app.wasm");
        let cache = dir.path().join("cache");
        let server = Server::start(
            app.to_str().ok_or("UTF-8")?,
            &["--worker-kind", kind, "--confine", "auto", "--cache-dir", cache.to_str().ok_or("UTF-8")?],
        );
        assert_eq!(get(server.address, "/").text(), "Hello, World!", "{kind}");
        // Another release, made after the start; the cache is written, too.
        release("two", "faults.wasm")?;
        let next = dir.path().join("next");
        std::os::unix::fs::symlink("two", &next)?;
        std::fs::rename(next, &current)?;
        server.signal("HUP");
        eventually("the new component serves", || get(server.address, "/trap").status == 500);
        // A new file of the same name.
        std::fs::copy(guest("hello.wasm"), dir.path().join("two").join("new.wasm"))?;
        std::fs::rename(dir.path().join("two").join("new.wasm"), dir.path().join("two").join("app.wasm"))?;
        server.signal("HUP");
        eventually("the newest component serves", || get(server.address, "/trap").text() == "Hello, World!");
        let is_code = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|ending| ending == "cwasm");
        assert_eq!(std::fs::read_dir(&cache)?.flatten().filter(is_code).count(), 2, "{kind}: both were kept");
        assert_eq!(server.status()["failed_reloads"], 0, "{kind}");
    }
    Ok(())
}

#[test(needs(Python3))]
fn where_a_part_is_missing_require_names_it_and_auto_goes_on_without() -> TestResult {
    // A filter under which Landlock's calls are not there, as on an older kernel.
    let hide = "import ctypes,os,sys,struct\n\
        prctl=ctypes.CDLL(None).prctl\n\
        prctl.argtypes=[ctypes.c_int]+[ctypes.c_ulong]*4\n\
        rules=[(0x20,0,0,0),(0x35,0,2,444),(0x25,1,0,446),(0x06,0,0,0x50000|38),(0x06,0,0,0x7fff0000)]\n\
        code=ctypes.create_string_buffer(b''.join(struct.pack('HBBI',*rule) for rule in rules))\n\
        program=ctypes.create_string_buffer(struct.pack('HxxxxxxQ',len(rules),ctypes.addressof(code)))\n\
        assert prctl(38,1,0,0,0)==0 and prctl(22,2,ctypes.addressof(program),0,0)==0\n\
        os.execv(sys.argv[1],sys.argv[1:])";
    let hidden = |flags: &[&str]| {
        let mut words = std::process::Command::new("python3");
        words.args(["-c", hide, crate::support::server::binary()]).arg(guest("hello.wasm"));
        words.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]).args(flags);
        words.env("WASMHOST_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
        words
    };
    let finished = run(hidden(&["--confine", "require"]));
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let error = finished.lines("error: ").join(" ");
    assert!(error.contains("Landlock") && error.contains("--confine require"), "{finished:?}");
    assert!(finished.lines("hint: ").join(" ").contains("--confine auto"), "{finished:?}");
    for kind in KINDS {
        let server = Server::spawn(hidden(&["--confine", "auto", "--worker-kind", kind]));
        assert_eq!(get(server.address, "/").text(), "Hello, World!");
        let status = server.status();
        let shown = &status["confinement"];
        assert!(shown["missing"].to_string().contains("Landlock"), "{shown}");
        assert!(shown["seccomp"].as_str().is_some_and(|text| text.ends_with("system calls")), "{shown}");
        server.wait_for_record("the warning", |record| message(record) == "confined in part");
    }
    Ok(())
}

#[test]
fn a_spawner_that_is_killed_ends_processes_and_costs_threads_only_their_reloads() {
    let server = Server::start("hello.wasm", &["--worker-kind", "thread"]);
    signal(server.spawner_pid().expect("a spawner"), "KILL");
    server.wait_for_record("it is told", |record| message(record).starts_with("the spawner has ended"));
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    server.signal("HUP");
    server.wait_for_record("the reload failed", |record| message(record).starts_with("reload failed"));
    assert_eq!(get(server.address, "/").text(), "Hello, World!");

    let mut server = Server::start("hello.wasm", &["--worker-kind", "process"]);
    let workers = server.worker_pids();
    signal(server.spawner_pid().expect("a spawner"), "KILL");
    assert_eq!(server.wait_for_exit().code(), Some(1));
    eventually("it says why", || server.lines().iter().any(|line| line.contains("the spawner process has ended")));
    for pid in workers {
        eventually("the worker is gone", || {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.is_empty() || status.contains("State:\tZ")
        });
    }
}

#[test(needs(FaultInjection, Confinement))]
fn a_worker_process_is_confined_in_full_also_where_its_code_is_in_memory_only() {
    let flags = ["--worker-kind", "process", "--confine", "require", "--cache-dir", "off"];
    let server = Server::start("faults.wasm", &flags);
    assert_refused(&server, "process", "open /etc/passwd");
    signal(server.worker_pids()[0], "KILL");
    server.wait_for_record("its successor", |record| record["message"] == "online" && record["generation"] == 2);
    assert_eq!(get(server.address, "/hello").status, 200);
    assert_refused(&server, "process", "open /etc/passwd");
}

#[test(needs(FaultInjection, Confinement))]
fn a_host_that_was_broken_into_gets_no_compiler_with_less_confinement_or_other_limits() {
    let flags = ["--worker-kind", "thread", "--confine", "auto", "--compile-memory-max", "777MiB"];
    let server = Server::start("faults.wasm", &flags);
    let filters = |pid: u32| -> Option<u32> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"))?.trim().parse().ok()
    };
    let spawners = filters(server.spawner_pid().expect("a spawner"));
    let with_wishes =
        r#"{"Start":{"Compiler":{"timeout":{"secs":9,"nanos":0},"memory_max_bytes":1000000000000,"confine":"off"}}}"#;
    for message in [with_wishes, r#"{"Start":"Compiler"}"#] {
        assert_eq!(deed(&server, &format!("ask-spawner {message}")).as_deref(), Some(DONE), "{message}");
    }
    eventually("a compiler runs, confined further than the spawner", || {
        server.compiler_pids().iter().any(|pid| filters(*pid) > spawners)
    });
    // One that has compiled the component may be about to end; those that were asked for wait for their input.
    let mut compilers = Vec::new();
    eventually("no word of confinement or limits is understood: there is one compiler", || {
        compilers = server.compiler_pids();
        compilers.len() == 1
    });
    eventually("it has bounded itself as the host was told to", || {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", compilers[0])).expect("it lives");
        let space = limits.lines().find(|line| line.starts_with("Max address space")).expect("a limit");
        space.contains(&(777 << 20).to_string())
    });
    let niceness = |pid: u32| -> Option<i64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The nineteenth field; the second one ends with the last parenthesis (proc_pid_stat(5)).
        stat.rsplit_once(") ")?.1.split(' ').nth(16)?.parse().ok()
    };
    let spawners = niceness(server.spawner_pid().expect("a spawner")).expect("its niceness");
    eventually("requests go first", || niceness(compilers[0]) == Some((spawners + 5).min(19)));
    // It serves on, and its spawner with it.
    server.signal("HUP");
    eventually("it is loaded again", || server.status()["reloads"] == 1);
}

#[test]
fn nobody_is_a_spawner_by_hand() {
    let mut by_hand = command();
    by_hand.arg("spawner");
    let finished = run(by_hand);
    assert_eq!(finished.code, Some(2), "{finished:?}");
}

#[test(needs(FaultInjection, Confinement, OtherUser))]
fn a_user_without_privileges_is_confined_just_so() -> TestResult {
    let dir = tempfile::tempdir()?;
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777))?;
    // Where anybody may read and execute.
    let program = dir.path().join("wasmhost");
    std::fs::copy(crate::support::server::binary(), &program)?;
    let app = dir.path().join("app.wasm");
    std::fs::copy(guest(FAULTS[0]), &app)?;
    for kind in KINDS {
        let mut words = std::process::Command::new("setpriv");
        words.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).arg(&app);
        words.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json", "--workers", "2"]);
        words.args(["--worker-kind", kind, "--confine", "auto"]);
        words.arg("--cache-dir").arg(dir.path().join(format!("cache-{kind}")));
        words.arg("--dir").arg(format!("{}::/data", dir.path().display()));
        let server = Server::spawn(words);
        assert_refused(&server, kind, "open /etc/passwd");
        assert_refused(&server, kind, "exec /bin/true");
        assert_eq!(get(server.address, "/hello").status, 200, "{kind}");
        server.signal("HUP");
        eventually("it is loaded again", || server.status()["reloads"] == 1);
        assert_eq!(get(server.address, "/hello").status, 200, "{kind}");
    }
    Ok(())
}
