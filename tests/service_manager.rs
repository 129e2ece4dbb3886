//! What systemd hears of the host (sd_notify(3)), with the test in systemd's place.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crate::starting::starts_slowly_from;
use crate::support::{CEILING, Server, TestResult, command, get, guest};

/// The test's end of a line to a host.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::bind(path)?;
        socket.set_read_timeout(Some(CEILING))?;
        Ok(Self(socket))
    }

    /// The next message, without signs of life.
    fn next(&self) -> io::Result<String> {
        loop {
            let mut bytes = [0; 512];
            let length = self.0.recv(&mut bytes)?;
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text != "WATCHDOG=1" {
                return Ok(text);
            }
        }
    }

    /// Signs of life within this time.
    fn signs_of_life(&self, within: Duration) -> io::Result<usize> {
        let end = Instant::now() + within;
        let mut signs = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.0.set_read_timeout(Some(CEILING))?;
                return Ok(signs);
            }
            self.0.set_read_timeout(Some(left))?;
            let mut bytes = [0; 512];
            if let Ok(length) = self.0.recv(&mut bytes) {
                signs += usize::from(&bytes[..length] == b"WATCHDOG=1");
            }
        }
    }
}

fn host(socket: &str) -> Command {
    let mut host = command();
    host.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json", "--admin", "127.0.0.1:0"]);
    host.env("NOTIFY_SOCKET", socket);
    host
}

#[test]
fn a_service_manager_hears_when_the_host_is_ready_reloads_and_stops() -> TestResult {
    for kind in ["thread", "process"] {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let manager = Manager::at(&path)?;
        let mut host = host(path.to_str().ok_or("a path in UTF-8")?);
        host.args(["--worker-kind", kind, "--drain-timeout", "7s"]);
        let mut server = Server::spawn(host);
        let start = manager.next()?;
        // Five minutes for compiling, and half a minute.
        assert_eq!(start, "STATUS=loading\nEXTEND_TIMEOUT_USEC=330000000", "{kind}");
        assert_eq!(manager.next()?, "READY=1\nSTATUS=serving", "{kind}");
        assert_eq!(get(server.address, "/").status, 200);
        server.signal("HUP");
        let reloading = manager.next()?;
        let time = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .and_then(|rest| rest.strip_suffix("\nSTATUS=reloading"));
        assert!(time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0)), "{reloading}");
        assert_eq!(manager.next()?, "READY=1\nSTATUS=serving", "{kind}");
        server.signal("TERM");
        assert_eq!(manager.next()?, "STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=37000000", "{kind}");
        assert!(server.wait_for_exit().success());
    }
    Ok(())
}

#[test]
fn each_reload_is_told_also_of_one_that_is_asked_for_during_another() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = Manager::at(&path)?;
    let moment = SystemTime::now() + Duration::from_secs(3);
    let file = starts_slowly_from(moment, Duration::from_secs(3_600))?;
    let mut host = command();
    host.arg(file.path()).args(["--listen", "127.0.0.1:0", "--log-format", "json", "--request-timeout", "4s"]);
    host.env("NOTIFY_SOCKET", &path);
    let server = Server::spawn(host);
    while !manager.next()?.starts_with("READY=1") {}
    std::thread::sleep(moment.duration_since(SystemTime::now()).unwrap_or_default());
    let mut times = Vec::new();
    for _ in 0..2 {
        // The second comes while the component of the first does not start.
        server.signal("HUP");
        let told = manager.next()?;
        let time = told.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok());
        times.push(time.ok_or_else(|| format!("{times:?} and then {told}"))?);
    }
    assert!(times[1] > times[0], "{times:?}");
    assert!(manager.next()?.starts_with("READY=1"));
    Ok(())
}

#[test]
fn a_host_with_a_watchdog_gives_signs_of_life_and_none_when_it_stands_still() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = Manager::at(&path)?;
    let mut host = host(path.to_str().ok_or("a path in UTF-8")?);
    host.env("WATCHDOG_USEC", "300000");
    let server = Server::spawn(host);
    while !manager.next()?.starts_with("READY=1") {}
    let signs = manager.signs_of_life(Duration::from_secs(2))?;
    // One in 100 ms; on a busy machine fewer.
    assert!((5..=30).contains(&signs), "{signs}");
    server.signal("STOP");
    manager.signs_of_life(Duration::from_millis(200))?;
    let while_stopped = manager.signs_of_life(Duration::from_secs(1));
    server.signal("CONT");
    assert_eq!(while_stopped?, 0);
    assert!(manager.signs_of_life(Duration::from_secs(1))? > 0);
    Ok(())
}

#[test]
fn a_watchdog_of_another_process_is_not_served() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("notify");
    let manager = Manager::at(&path)?;
    let mut host = host(path.to_str().ok_or("a path in UTF-8")?);
    host.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1");
    let _server = Server::spawn(host);
    while !manager.next()?.starts_with("READY=1") {}
    assert_eq!(manager.signs_of_life(Duration::from_millis(700))?, 0);
    Ok(())
}

#[test]
fn a_manager_in_the_abstract_namespace_hears_the_same_and_one_that_is_not_there_hinders_nothing() -> TestResult {
    let name = format!("wasmhost-test-{}", std::process::id());
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    socket.set_read_timeout(Some(CEILING))?;
    let manager = Manager(socket);
    let _server = Server::spawn(host(&format!("@{name}")));
    assert!(manager.next()?.starts_with("STATUS=loading"));
    assert!(manager.next()?.starts_with("READY=1"));
    let nobody = Server::spawn(host("/nowhere/notify"));
    assert_eq!(get(nobody.address, "/").status, 200);
    let warned = nobody.records(|record| record.to_string().contains("NOTIFY_SOCKET"));
    assert_eq!(warned.len(), 1);
    Ok(())
}
