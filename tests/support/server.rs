//! The binary as a child: started, read, asked, signalled, ended.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{CEILING, get, guest};

/// What may be left of a server's memory after all was given back: pages of the program that were needed for the first time,
/// and what an allocator needs.
pub const MEMORY_LEFT_KIB: u64 = 10 << 10;

/// A running server; killed when dropped, its log printed when the test failed.
pub struct Server {
    child: Child,
    /// Where clients connect (unspecified when it listens on a Unix socket).
    pub address: SocketAddr,
    admin: Option<SocketAddr>,
    log: Arc<Log>,
}

/// Lines of standard error so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn push(&self, line: String) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        self.more.notify_all();
    }

    /// The first line for which `choose` gives something; waits for it, none at the ceiling.
    fn wait<T>(&self, ceiling: Duration, choose: impl Fn(&str) -> Option<T>) -> Option<T> {
        let began = Instant::now();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = 0;
        loop {
            if let Some(found) = lines[seen..].iter().find_map(|line| choose(line)) {
                return Some(found);
            }
            seen = lines.len();
            let left = ceiling.checked_sub(began.elapsed())?;
            (lines, _) = self.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The text of a line of the log.
pub fn message(record: &Value) -> &str {
    record["message"].as_str().unwrap_or_default()
}

/// The binary that is tested: of this build, unless `WASMHOST_TEST_PROGRAM` names another.
pub fn binary() -> &'static str {
    static BINARY: LazyLock<String> = LazyLock::new(|| {
        std::env::var("WASMHOST_TEST_PROGRAM").unwrap_or_else(|_| env!("CARGO_BIN_EXE_wasmhost").to_owned())
    });
    &BINARY
}

/// The binary, [prepared].
pub fn command() -> Command {
    prepared(Command::new(binary()))
}

/// The binary, [prepared], run by another command: the words of `place` come before it.
pub fn within(place: &[&str]) -> Command {
    let mut command = Command::new(place[0]);
    command.args(&place[1..]).arg(binary());
    prepared(command)
}

/// The kind of workers that all tests are run with.
fn kind_of_all() -> Option<OsString> {
    std::env::var_os("WASMHOST_TEST_WORKER_KIND")
}

/// A command that runs the binary in whatever way: with a cache that all tests share, and workers of the kind that
/// `WASMHOST_TEST_WORKER_KIND` names.
pub fn prepared(mut command: Command) -> Command {
    command.env("WASMHOST_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    know_clients(&mut command);
    // Hosts of tests are in nobody's list.
    command.env("WASMHOST_CONTROL", "off");
    if let Some(kind) = kind_of_all() {
        command.env("WASMHOST_WORKER_KIND", kind);
    }
    command
}

/// A file of settings with `component` as the only app, in a group. With `WASMHOST_TEST_GROUP` set, tests that start a
/// component by its name have all of their requests forwarded; those that are about the one component of a command line
/// fail then.
fn in_a_group(component: &str) -> PathBuf {
    let name = component.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or("app");
    let text = format!(
        "worker-kind = \"process\"\n[[app]]\nname = \"{name}\"\ncomponent = \"{}\"\nroutes = [\"*\"]\ngroup = \"group\"\n",
        guest(component)
    );
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("group-{}.toml", std::process::id()));
    std::fs::write(&file, text).expect("a file of settings");
    file
}

/// The variable of --admin-host.
const ADMIN_HOST: &str = "WASMHOST_ADMIN_HOST";

/// Has a host answer at its admin address to what clients of tests call it, unless the test says otherwise.
fn know_clients(command: &mut Command) {
    if command.get_envs().all(|(name, _)| name != ADMIN_HOST) {
        command.env(ADMIN_HOST, "test");
    }
}

impl Server {
    /// Serves `component` (a name for [`guest`]) on a free port with two workers, an admin page and a JSON log; `flags`
    /// are added, and win over these. Where nothing says of which kind workers are, they are threads, whatever the app is.
    #[track_caller]
    pub fn start(component: &str, flags: &[&str]) -> Self {
        Self::start_within(CEILING, component, flags)
    }

    /// [`Server::start`], for a component whose compilation takes longer than the ceiling of other waits.
    #[track_caller]
    pub fn start_within(ceiling: Duration, component: &str, flags: &[&str]) -> Self {
        let mut command = command();
        if std::env::var_os("WASMHOST_TEST_GROUP").is_some() {
            command.arg("serve").arg("-c").arg(in_a_group(component));
        } else {
            command.arg(guest(component));
            if kind_of_all().is_none() && !flags.contains(&"--worker-kind") {
                command.args(["--worker-kind", "thread"]);
            }
        }
        command.args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !flags.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        command.args(flags);
        Self::spawn_within(ceiling, command)
    }

    /// Runs a command that serves, and waits until it listens.
    #[track_caller]
    pub fn spawn(command: Command) -> Self {
        Self::spawn_within(CEILING, command)
    }

    #[track_caller]
    fn spawn_within(ceiling: Duration, mut command: Command) -> Self {
        know_clients(&mut command);
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let log = Arc::new(Log::default());
        let stderr = child.stderr.take().expect("stderr is piped");
        let reader = Arc::clone(&log);
        std::thread::Builder::new()
            .name("server-log".to_owned())
            .spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    reader.push(line);
                }
                reader.push("<end of the log>".to_owned());
            })
            .expect("a thread");
        let mut server = Self { child, address: SocketAddr::from(([0, 0, 0, 0], 0)), admin: None, log };
        let listening = server.log.wait(ceiling, |line| {
            if line == "<end of the log>" {
                return Some(None);
            }
            line.contains("listening on ").then(|| Some(addresses_in(line).first().copied()))
        });
        match listening {
            Some(Some(address)) => {
                server.address = address.unwrap_or(server.address);
                server.admin = server.lines().iter().find_map(|line| address_in(line, "admin page on http://"));
                server
            }
            Some(None) | None => panic!("the server did not listen:\n{}", server.lines().join("\n")),
        }
    }

    /// All TCP addresses on which it has listened from its start, in the order of its settings.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.lines()
            .iter()
            .find(|line| line.contains("listening on "))
            .map(|line| addresses_in(line))
            .unwrap_or_default()
    }

    /// All lines of the log so far.
    pub fn lines(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The first log record (JSON) for which `is` holds; waits for it.
    ///
    /// # Panics
    /// When it does not come within the ceiling.
    #[track_caller]
    pub fn wait_for_record(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let found = self.log.wait(CEILING, |line| serde_json::from_str::<Value>(line).ok().filter(|record| is(record)));
        found.unwrap_or_else(|| panic!("the log never said: {what}"))
    }

    /// All log records (JSON) so far for which `is` holds.
    pub fn records(&self, is: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.lines().iter().filter_map(|line| serde_json::from_str(line).ok()).filter(|record| is(record)).collect()
    }

    /// A page of the admin address.
    #[track_caller]
    pub fn admin(&self, path: &str) -> super::Response {
        get(self.admin_address(), path)
    }

    /// Where the admin page is.
    #[track_caller]
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.expect("the server has an admin page")
    }

    /// The status page.
    #[track_caller]
    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.admin("/status").body).expect("the status page is JSON")
    }

    /// The sum of a number over all workers of the status page, such as `generation` or `faults.trap`.
    #[track_caller]
    pub fn sum(&self, field: &str) -> u64 {
        let status = self.status();
        let pointer = format!("/{}", field.replace('.', "/"));
        let workers = status["workers"].as_array().expect("a list of workers");
        workers
            .iter()
            .map(|worker| {
                worker.pointer(&pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number {field}"))
            })
            .sum()
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The number of its spawner, which has started its other processes.
    pub fn spawner_pid(&self) -> Option<u32> {
        children(self.pid()).into_iter().find(|pid| words_of(*pid).get(1).is_some_and(|part| part == "spawner"))
    }

    /// The numbers of the compilers that its spawner has started.
    pub fn compiler_pids(&self) -> Vec<u32> {
        let mut pids = self.spawner_pid().map(children).unwrap_or_default();
        pids.retain(|pid| words_of(*pid).get(1).is_some_and(|part| part == "compile"));
        pids
    }

    /// The numbers of its workers, where these are processes, and of the one that loads a component.
    pub fn worker_pids(&self) -> Vec<u32> {
        let mut pids = self.spawner_pid().map(children).unwrap_or_default();
        pids.retain(|pid| words_of(*pid).get(1).is_some_and(|part| part == "worker"));
        pids
    }

    /// The number of the process that gets certificates by ACME.
    pub fn acme_pid(&self) -> Option<u32> {
        self.part_pid("acme")
    }

    /// The number of the process that has the databases.
    pub fn databases_pid(&self) -> Option<u32> {
        self.part_pid("databases")
    }

    fn part_pid(&self, part: &str) -> Option<u32> {
        let pids = self.spawner_pid().map(children).unwrap_or_default();
        pids.into_iter().find(|pid| words_of(*pid).get(1).is_some_and(|word| word == part))
    }

    /// All of its processes: the primary, the spawner, and what that has started.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.pid()];
        if let Some(spawner) = self.spawner_pid() {
            pids.push(spawner);
            pids.extend(children(spawner));
        }
        pids
    }

    /// Resident memory of all its processes in KiB. Pages that several of them share are counted for each.
    pub fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    /// The sum of the most that each of its processes has had resident so far, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    fn memory_kib(&self, field: &str) -> u64 {
        self.pids().into_iter().filter_map(|pid| status_field(pid, field)).sum()
    }

    /// Waits until its resident memory is what it was, but for [`MEMORY_LEFT_KIB`].
    ///
    /// # Panics
    /// When it does not come back within the ceiling.
    #[track_caller]
    pub fn memory_is_back(&self, before_kib: u64, after: &str) {
        let began = Instant::now();
        loop {
            let left = self.resident_kib().saturating_sub(before_kib);
            if left <= MEMORY_LEFT_KIB {
                return;
            }
            assert!(
                began.elapsed() < CEILING,
                "{after}: {left} KiB more than before are left:\n{}",
                self.pids().into_iter().map(largest_mappings).collect::<String>()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal, by `kill`'s name for it.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not come within the ceiling.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            assert!(began.elapsed() < CEILING, "the server did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// A number of `/proc/PID/status`, such as that of `VmRSS:` in kB.
pub fn status_field(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}

/// The words of a process's command line: the program, what part of it this is, and flags.
pub fn words_of(pid: u32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split_inclusive(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word.strip_suffix(&[0]).unwrap_or(word)).into_owned())
        .collect()
}

/// The mappings of a process that have more than a MiB resident, for the message of a failure.
fn largest_mappings(pid: u32) -> String {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut found = String::new();
    let mut mapping = "";
    for line in smaps.lines() {
        if let Some(rss) = line.strip_prefix("Rss:") {
            let kib = rss.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            if kib > 1024_u64 {
                found.extend([&kib.to_string(), " KiB in ", mapping, "\n"]);
            }
        } else if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            mapping = line;
        }
    }
    found
}

/// Sends a signal to a process, by `kill`'s name for it.
#[track_caller]
pub fn signal(pid: u32, name: &str) {
    assert!(try_signal(pid, name), "kill -{name}");
}

/// The same for a process that may be gone; false when it is.
pub fn try_signal(pid: u32, name: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([format!("-{name}"), pid.to_string()]).stderr(Stdio::null()).status().expect("kill runs").success()
}

/// CPU time of a process so far, in ticks of 10 ms.
#[track_caller]
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process lives");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

/// The state of a process (proc_pid_stat(5): `T` is stopped, `Z` has ended), or none when there is no such process.
pub fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sets the soft limit on a process's descriptors: they are numbered below it.
#[track_caller]
pub fn limit_descriptors(pid: u32, soft: usize) {
    let arguments = [format!("--nofile={soft}:"), format!("--pid={pid}")];
    let outcome = Command::new("prlimit").args(arguments).output().expect("prlimit runs");
    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
}

/// The number that the next descriptor of a process will have.
#[track_caller]
pub fn lowest_free_descriptor(pid: u32) -> usize {
    let is_open = |number: &usize| std::fs::symlink_metadata(format!("/proc/{pid}/fd/{number}")).is_ok();
    (0..).find(|number| !is_open(number)).expect("there is a free one")
}

/// The addresses that a line says the host listens on.
fn addresses_in(line: &str) -> Vec<SocketAddr> {
    let told = line.split_once("listening on ").map_or("", |(_, told)| told);
    told.split(" and ")
        .filter_map(|part| address_in(part, "http://").or_else(|| address_in(part, "https://")))
        .collect()
}

fn address_in(line: &str, before: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(before)?;
    let end = rest.find(|c: char| c == '"' || c.is_whitespace()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the server ---\n{}", self.lines().join("\n"));
        }
    }
}
