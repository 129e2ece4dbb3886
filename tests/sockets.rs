//! Unix sockets: the host removes the files that it has bound itself, at every way out, and no others.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shutdown::get_over_unix;
use crate::support::server::command;
use crate::support::{Connection, Server, TestResult, eventually, get, guest, run};

/// The flags for clients and for the admin page.
const FLAGS: [&str; 2] = ["--listen", "--admin"];

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// The host, with `theirs` as the socket of `flag`, and an own one for the other flag.
fn start_with(flag: &str, theirs: &Path, own: &Path) -> Command {
    let other = if flag == FLAGS[0] { FLAGS[1] } else { FLAGS[0] };
    let mut command = command();
    command.arg(guest("hello.wasm")).args([flag, &unix(theirs), other, &unix(own)]);
    command
}

#[test]
fn a_start_that_fails_leaves_a_regular_file_untouched() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (file, own) = (dir.path().join("file"), dir.path().join("own"));
    for flag in FLAGS {
        std::fs::write(&file, "dear")?;
        let finished = run(start_with(flag, &file, &own));
        assert_eq!(finished.code, Some(1), "{flag}: {}", finished.stderr);
        assert!(!finished.lines("hint: ").is_empty(), "{flag}: {}", finished.stderr);
        assert_eq!(std::fs::read_to_string(&file)?, "dear", "{flag}");
        assert!(!own.exists(), "{flag}: its own socket is left behind");
    }
    Ok(())
}

#[test]
fn a_start_that_fails_leaves_the_socket_of_a_running_host_alone() -> TestResult {
    let dir = tempfile::tempdir()?;
    let (theirs, own) = (dir.path().join("theirs"), dir.path().join("own"));
    let _first = Server::start("hello.wasm", &["--listen", &unix(&theirs)]);
    for flag in FLAGS {
        let finished = run(start_with(flag, &theirs, &own));
        assert_eq!(finished.code, Some(1), "{flag}: {}", finished.stderr);
        assert!(get_over_unix(&theirs, "/")?.ends_with("Hello, World!"), "{flag}: it cannot be reached any more");
        assert!(!own.exists(), "{flag}: its own socket is left behind");
    }
    Ok(())
}

#[test]
fn wherever_a_start_fails_the_host_takes_its_own_sockets_away() -> TestResult {
    let dir = tempfile::tempdir()?;
    let [listen, admin] = ["listen", "admin"].map(|name| dir.path().join(name));
    let mut reasons = std::collections::BTreeSet::new();
    // With ever more descriptors the start comes ever farther; in the end the component is not there.
    for descriptors in 4..=40 {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {descriptors}; exec \"$0\" \"$@\""));
        shell.arg(crate::support::server::binary()).arg(dir.path().join("nothing.wasm"));
        shell.args(["--listen", &unix(&listen), "--admin", &unix(&admin), "--cache-dir", "off"]);
        // A confined host whose spawner could not start cannot remove files.
        shell.args(["--confine", "off"]);
        let finished = run(shell);
        assert_ne!(finished.code, Some(0), "{descriptors}: {}", finished.stderr);
        for file in [&listen, &admin] {
            assert!(!file.exists(), "{} is left behind: {}", file.display(), finished.stderr);
        }
        reasons.extend(finished.lines("error: ").first().map(ToString::to_string));
    }
    eprintln!("{reasons:#?}");
    assert!(reasons.len() >= 3, "the start failed at few steps: {reasons:#?}");
    assert!(reasons.iter().any(|reason| reason.contains("nothing.wasm")), "it never came to the end: {reasons:#?}");
    Ok(())
}

#[test]
fn a_component_that_cannot_be_served_leaves_no_socket_behind() -> TestResult {
    let dir = tempfile::tempdir()?;
    let [listen, admin] = ["listen", "admin"].map(|name| dir.path().join(name));
    let mut command = command();
    command.arg(guest("wat/start-trap.wat")).args(["--listen", &unix(&listen), "--admin", &unix(&admin)]);
    assert_eq!(run(command).code, Some(1));
    assert!(!listen.exists() && !admin.exists());
    Ok(())
}

/// Puts another program's socket in the place of the host's.
fn take_the_place(of: &Path) -> std::io::Result<UnixListener> {
    std::fs::rename(of, moved(of))?;
    UnixListener::bind(of)
}

fn moved(file: &Path) -> PathBuf {
    file.with_extension("moved")
}

#[test]
fn a_socket_that_took_the_place_of_the_hosts_own_stays_however_the_host_ends() -> TestResult {
    // A drain, a second signal, and an end that was not asked for.
    for ending in ["drain", "second-signal", "gives-up"] {
        let dir = tempfile::tempdir()?;
        let [listen, admin] = ["listen", "admin"].map(|name| dir.path().join(name));
        for (theirs, own) in [(&listen, &admin), (&admin, &listen)] {
            let mut command = command();
            command.arg(guest("faults.wasm")).args(["--listen", &unix(&listen), "--admin", &unix(&admin)]);
            command.args(["--workers", "1", "--log-format", "json", "--drain-timeout", "10m"]);
            if ending == "gives-up" {
                command.args(["--worker-kind", "process"]);
            }
            let mut server = Server::spawn(command);
            let _others = take_the_place(theirs)?;
            match ending {
                "drain" => server.signal("TERM"),
                "second-signal" => {
                    // Nobody can connect to the one that was moved but by its new name.
                    let socket = if theirs == &listen { moved(&listen) } else { listen.clone() };
                    let mut long = std::os::unix::net::UnixStream::connect(socket)?;
                    std::io::Write::write_all(&mut long, b"GET /sleep?ms=600000 HTTP/1.1\r\nHost: test\r\n\r\n")?;
                    server.wait_for_record("it listens", |record| record["message"] == "worker listening");
                    let socket = if theirs == &admin { moved(&admin) } else { admin.clone() };
                    eventually("the request runs", || {
                        get_over_unix(&socket, "/status").is_ok_and(|page| page.contains("\"in_flight\": 1"))
                    });
                    server.signal("TERM");
                    server.wait_for_record("stopping", |record| {
                        record["message"].as_str().is_some_and(|text| text.starts_with("stopping"))
                    });
                    server.signal("TERM");
                }
                _ => {
                    let spawner = server.spawner_pid().ok_or("no spawner")?;
                    crate::support::server::signal(spawner, "KILL");
                }
            }
            let code = server.wait_for_exit().code();
            assert_eq!(code == Some(0), ending == "drain", "{ending}: {code:?}");
            assert!(theirs.exists(), "{ending}: {} was another's", theirs.display());
            // A confined host without its spawner cannot remove any; the next one replaces what nobody listens on.
            assert!(ending == "gives-up" || !own.exists(), "{ending}: {} is left behind", own.display());
            for file in [theirs, own] {
                let _ = std::fs::remove_file(file);
                let _ = std::fs::remove_file(moved(file));
            }
        }
    }
    Ok(())
}

#[test]
fn a_start_that_fails_beside_a_tcp_port_that_is_taken_touches_no_file() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    std::fs::write(&file, "dear")?;
    let first = Server::start("hello.wasm", &[]);
    let mut second = command();
    second.arg(guest("hello.wasm")).args(["--listen", &first.address.to_string(), "--admin", &unix(&file)]);
    assert_eq!(run(second).code, Some(1));
    assert_eq!(std::fs::read_to_string(&file)?, "dear");
    let mut connection = Connection::open(first.address);
    assert_eq!((connection.get("/").status, get(first.address, "/").status), (200, 200));
    Ok(())
}

/// The binary with two sockets that were handed over.
fn with_two_handed_over(socket: std::net::TcpListener, flags: &[&str]) -> Command {
    let two = "export LISTEN_PID=$$ LISTEN_FDS=2; exec \"$0\" \"$@\" 3>&1 4>&1 1>&2";
    let mut shell = crate::support::server::within(&["sh", "-c", two]);
    shell.arg(guest("hello.wasm")).args(["--workers", "1", "--worker-kind", "process"]).args(flags);
    shell.stdout(std::process::Stdio::from(std::os::fd::OwnedFd::from(socket)));
    shell
}

#[test]
fn sockets_that_were_handed_over_and_are_not_served_reach_no_other_process() -> TestResult {
    let handed = std::net::TcpListener::bind("127.0.0.1:0")?;
    let server = Server::spawn(with_two_handed_over(handed, &["--listen", "127.0.0.1:0"]));
    let open = |pid: u32| -> std::io::Result<Vec<PathBuf>> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
        Ok(entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect())
    };
    let socket = std::fs::read_link(format!("/proc/{}/fd/4", server.pid()))?;
    assert!(socket.to_string_lossy().starts_with("socket:"), "{}", socket.display());
    for pid in [server.spawner_pid().ok_or("a spawner")?].into_iter().chain(server.worker_pids()) {
        let open = open(pid)?;
        assert!(open.len() > 3 && !open.contains(&socket), "{pid}: {} in {open:?}", socket.display());
    }
    Ok(())
}

#[test]
fn all_sockets_that_were_handed_over_are_served() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("web.sock");
    // The second one is a Unix socket.
    let two = "import os, socket, sys
one = socket.create_server(('127.0.0.1', 0))
other = socket.socket(socket.AF_UNIX)
other.bind(sys.argv[1])
other.listen()
os.dup2(one.fileno(), 3)
os.dup2(other.fileno(), 4)
[os.set_inheritable(number, True) for number in (3, 4)]
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')
os.execv(sys.argv[2], sys.argv[2:])";
    let mut python = crate::support::server::within(&["python3", "-c", two, path.to_str().ok_or("a text")?]);
    python.arg(guest("hello.wasm")).args(["--listen", "systemd", "--log-format", "json", "--admin", "127.0.0.1:0"]);
    let server = Server::spawn(python);
    for _ in 0..4 {
        assert_eq!(get(server.address, "/").status, 200);
        assert!(get_over_unix(&path, "/")?.starts_with("HTTP/1.1 200"));
    }
    Ok(())
}

/// `--listen` several times, TCP and Unix together.
#[test]
fn every_address_is_served_and_every_file_is_removed_at_the_end() -> TestResult {
    let folder = tempfile::tempdir()?;
    let paths = ["one.sock", "two.sock"].map(|name| folder.path().join(name));
    for kind in ["thread", "process"] {
        let flags =
            ["--listen", &unix(&paths[0]), "--listen", &unix(&paths[1]), "--worker-kind", kind].map(String::from);
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let mut command = command();
        command.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(flags);
        let mut server = Server::spawn(command);
        for _ in 0..3 {
            assert_eq!(get(server.address, "/").status, 200, "{kind}");
            for path in &paths {
                assert!(get_over_unix(path, "/")?.starts_with("HTTP/1.1 200"), "{kind}");
            }
        }
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
        assert!(paths.iter().all(|path| !path.exists()), "{kind}: the files are removed");
    }
    Ok(())
}
