//! A real server of Redis for a test, in a process and a folder of its own, and a proxy before it that swallows, cuts and turns
//! to another server.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener as Listener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use wasmhost_storage::{Redis, RedisOptions, RedisPassword};

use crate::{PATIENCE, ROOMY};

/// What tests need, as `.ci/missing` names it.
const FACILITY: &str = "redis-server";

/// Whether the program is here. If not, a test that needs it is left out, with a word about it; in CI it fails unless
/// `.ci/missing` names the program.
fn is_here() -> bool {
    let found = Command::new(FACILITY).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    let missing = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.ci/missing")).expect("a list");
    let is_named = missing.lines().any(|line| line.split_whitespace().next() == Some(FACILITY));
    assert!(std::env::var_os("CI").is_none() || is_named, "it needs {FACILITY}, which .ci/missing does not name");
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    // Not by a macro, whose words the test's runner keeps to itself.
    writeln!(std::io::stderr(), "left out: {name} needs {FACILITY}").expect("standard error");
    false
}

/// A port that nobody has at this moment.
fn free_port() -> u16 {
    Listener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port").local_addr().expect("an address").port()
}

/// A server, which ends with this.
pub struct RedisServer {
    child: Child,
    arguments: Vec<String>,
    folder: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
    /// What `redis-cli` needs beside the port.
    login: Vec<String>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on a disk, but for what these arguments say. None: the program is not here.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        Self::start_with(arguments, &[])
    }

    /// The same, with what `redis-cli` needs to ask it.
    pub fn start_with(arguments: &[&str], login: &[&str]) -> Option<Self> {
        if !is_here() {
            return None;
        }
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let arguments = [owned(&["--save", "", "--enable-debug-command", "yes"]), owned(arguments)].concat();
        let port = free_port();
        let child = spawn_server(port, &arguments, &folder);
        let mut server = Self { child, arguments, folder, port, login: owned(login) };
        // Another process may take a free port before the server does.
        for _ in 0..5 {
            if server.comes_up() {
                return Some(server);
            }
            server.port = free_port();
            server.child = spawn_server(server.port, &server.arguments, &server.folder);
        }
        panic!("{FACILITY} does not start: {}", server.said());
    }

    fn comes_up(&mut self) -> bool {
        let ceiling = Instant::now() + PATIENCE;
        while self.child.try_wait().expect("a state").is_none() && Instant::now() < ceiling {
            // Not another test's, at a port that was free a moment ago.
            if self.info("process_id") == self.child.id().to_string() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// Asks it by `redis-cli`: what that prints.
    pub fn cli(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        let output = command.args(["-p", &port]).args(&self.login).args(words).stdin(Stdio::null()).output();
        let output = output.expect("redis-cli");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    /// A line of what it tells of itself.
    pub fn info(&self, name: &str) -> String {
        let said = self.cli(&["info"]);
        let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// How it is reached.
    pub fn options(&self) -> RedisOptions {
        options(self.port)
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let number = i32::try_from(self.child.id()).expect("a number");
        kill_process(Pid::from_raw(number).expect("a process"), signal).expect("a signal");
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().expect("a kill");
        self.child.wait().expect("an end");
    }

    /// Starts it again, with the same files and port.
    pub fn start_again(&mut self) {
        self.child = spawn_server(self.port, &self.arguments, &self.folder);
        assert!(self.comes_up(), "the server starts again");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn_server(port: u16, arguments: &[String], folder: &tempfile::TempDir) -> Child {
    let mut command = Command::new(FACILITY);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]).args(arguments);
    let log = std::fs::File::create(folder.path().join("log")).expect("a log");
    command.current_dir(folder.path()).stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
    command.spawn().expect("a server")
}

/// A server at this port, with the patience of tests in which nothing fails.
pub(crate) fn options(port: u16) -> RedisOptions {
    let address = format!("redis://127.0.0.1:{port}").parse().expect("an address");
    RedisOptions { patience: PATIENCE, ..RedisOptions::new(address) }
}

/// The same for another user and patience.
pub(crate) fn options_of(port: u16, user: &str, password: &str, patience: Duration) -> RedisOptions {
    let address = format!("redis://{user}127.0.0.1:{port}").parse().expect("an address");
    let password = Some(RedisPassword::new(password.to_owned()));
    RedisOptions { patience, password, ..RedisOptions::new(address) }
}

/// Stores `a` and `b` of a server.
pub(crate) fn spawn(options: RedisOptions) -> Redis {
    let stores = ["a", "b"].map(|name| (name.to_owned(), ROOMY)).to_vec();
    let (redis, line) = Redis::new(options, stores).expect("stores");
    tokio::task::spawn_local(line.run());
    redis
}

/// What a proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Passes them on.
    Open,
    /// Forgets what the server says.
    Deaf,
    /// Forgets all.
    Black,
}

/// A proxy before a server.
pub(crate) struct Proxy {
    /// Where it listens.
    pub port: u16,
    /// What it does.
    pub way: watch::Sender<Way>,
    /// Where it connects to, for connections from now on.
    pub target: watch::Sender<u16>,
    cut: watch::Sender<()>,
}

impl Proxy {
    /// Begins to listen, in the event loop of the test.
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let ((way, ways), (target, targets), (cut, cuts)) =
            (watch::channel(Way::Open), watch::channel(target), watch::channel(()));
        tokio::task::spawn_local(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = *targets.borrow();
                let (ways, mut cuts) = (ways.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::task::spawn_local(async move {
                    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        () = pass(from_client, to_server, ways.clone(), |way| way == Way::Black) => {}
                        () = pass(from_server, to_client, ways, |way| way != Way::Open) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { port, way, target, cut }
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    ways: watch::Receiver<Way>,
    forgets: impl Fn(Way) -> bool,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        let way = *ways.borrow();
        if !forgets(way) && to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
