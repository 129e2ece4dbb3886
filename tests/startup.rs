//! What can be seen of the host while it starts: the admin page from the beginning, and little on a terminal.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::shutdown::get_over_unix;
use crate::support::server::{command, signal};
use crate::support::{CEILING, TestResult, eventually, guest};

/// A host that starts; killed when dropped.
struct Starting(Child);

impl Starting {
    fn new(component: &str, admin: &Path, flags: &[&str]) -> Self {
        let mut command = command();
        command.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--workers", "2"]);
        command.arg("--admin").arg(format!("unix:{}", admin.display())).args(flags);
        Self(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary starts"))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn asks(admin: &Path, page: &str, status: u16, says: &str) -> bool {
    get_over_unix(admin, page)
        .is_ok_and(|answer| answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(says))
}

#[test]
fn the_admin_page_answers_while_the_component_loads() -> TestResult {
    let dir = tempfile::tempdir()?;
    let admin = dir.path().join("admin");
    // The trial of whether an instance comes up lasts until the CPU limit.
    let mut host = Starting::new("wat/start-loop.wat", &admin, &["--cpu-limit", "10m", "--request-timeout", "10m"]);
    eventually("it lives", || asks(&admin, "/healthz", 200, "ok"));
    for _ in 0..5 {
        assert!(asks(&admin, "/healthz", 200, "ok"), "alive");
        assert!(asks(&admin, "/readyz", 503, "not ready"), "not ready");
        assert!(asks(&admin, "/status", 200, "\"phase\": \"starting\""), "{:?}", get_over_unix(&admin, "/status"));
        assert!(asks(&admin, "/metrics", 200, "wasmhost_worker_up{worker=\"2\"} 0"), "no worker");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    signal(host.0.id(), "TERM");
    assert_eq!(host.0.wait()?.code(), Some(0), "a stop is heard while the component loads");
    assert!(!admin.exists());
    Ok(())
}

#[test]
fn the_host_is_alive_first_and_ready_once_its_workers_listen() -> TestResult {
    let dir = tempfile::tempdir()?;
    let admin = dir.path().join("admin");
    let _host = Starting::new("faults.wasm", &admin, &["--cache-dir", "off"]);
    eventually("it lives", || asks(&admin, "/healthz", 200, "ok"));
    assert!(asks(&admin, "/readyz", 503, "not ready"), "it compiles for longer than this takes");
    eventually("it is ready", || asks(&admin, "/readyz", 200, "ready"));
    assert!(asks(&admin, "/status", 200, "\"phase\": \"running\""));
    Ok(())
}

/// Runs a command with a new terminal as its standard error, and copies what it writes there to standard output. Ends
/// the command when it is told to end.
const ON_A_TERMINAL: &str = "
import os, pty, signal, subprocess, sys
master, slave = pty.openpty()
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=slave)
os.close(slave)
signal.signal(signal.SIGTERM, lambda *_: child.terminate())
try:
    while True:
        said = os.read(master, 4096)
        sys.stdout.buffer.write(said)
        sys.stdout.buffer.flush()
except OSError:
    pass
finally:
    child.kill()
    child.wait()
";

/// The lines that a host writes to its terminal up to the one with its address.
fn on_a_terminal(flags: &[&str]) -> Vec<String> {
    let host = command();
    let mut python = Command::new("python3");
    python.args(["-c", ON_A_TERMINAL]).arg(host.get_program()).arg(guest("hello.wasm"));
    for (name, value) in host.get_envs() {
        python.env(name, value.unwrap_or_default());
    }
    python.env_remove("NO_COLOR").args(["--listen", "127.0.0.1:0", "--workers", "3"]).args(flags);
    let mut python = python.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("python3 runs");
    let stdout = BufReader::new(python.stdout.take().expect("stdout is piped"));
    let began = std::time::Instant::now();
    let mut lines = Vec::new();
    for line in stdout.lines().map_while(Result::ok) {
        let is_last = line.contains("listening on ");
        lines.push(line.trim_end().to_owned());
        if is_last || began.elapsed() > CEILING {
            break;
        }
    }
    signal(python.id(), "TERM");
    python.wait().expect("it ends");
    lines
}

#[test]
fn on_a_terminal_the_start_is_three_short_lines_with_the_address_last() {
    for kind in ["thread", "process"] {
        let lines = on_a_terminal(&["--admin", "127.0.0.1:0", "--worker-kind", kind, "--access-log"]);
        let [first, admin, listening] = &lines[..] else { panic!("{kind}: {lines:#?}") };
        let version = env!("CARGO_PKG_VERSION");
        assert!(first.starts_with(&format!("wasmhost {version} serves ")), "{kind}: {lines:#?}");
        assert!(first.ends_with("hello.wasm with 3 workers; Ctrl-C stops it"), "{kind}: {lines:#?}");
        assert!(admin.starts_with("admin page on http://127.0.0.1:"), "{kind}: {lines:#?}");
        // Bold and green.
        assert!(listening.starts_with("listening on \u{1b}[1;32mhttp://127.0.0.1:"), "{kind}: {lines:#?}");
        assert!(listening.ends_with("\u{1b}[0m") && listening.len() < 60, "{kind}: {lines:#?}");
    }
    assert_eq!(on_a_terminal(&[]).len(), 2, "without an admin page");
}

#[test]
fn who_asks_for_more_on_a_terminal_gets_the_details_and_a_named_form_is_kept() {
    let lines = on_a_terminal(&["--log-level", "debug"]);
    for event in ["confined", "online"] {
        assert!(lines.iter().any(|line| line.contains(event)), "{event}: {lines:#?}");
    }
    let lines = on_a_terminal(&["--log-format", "json"]);
    let records: Vec<serde_json::Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(records.len(), lines.len(), "{lines:#?}");
    assert!(records.iter().any(|record| record["message"] == "online"), "{lines:#?}");
}
