//! What a test may need of the machine, or of the command that runs the tests, and how to find out whether it is there. This
//! is the only list. No probe asks wasmhost: a bug of ours must not switch off the tests that would find it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::cgroup::{Bound, Cgroups};

macro_rules! facilities {
    ($($(#[$comment:meta])* $facility:ident = $name:literal, $probe:expr;)*) => {
        /// Something that not every machine has.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Facility { $($(#[$comment])* $facility,)* }

        impl Facility {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$facility,)*];

            /// As `.ci/missing` and the messages name it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$facility => $name,)* }
            }

            fn try_out(self) -> Probed {
                match self { $(Self::$facility => $probe,)* }
            }
        }
    };
}

/// Where tests have their name server.
pub const NAME_SERVER: &str = "127.0.53.7:53";

/// Nothing, or why it is missing.
type Probed = Result<(), String>;

facilities! {
    /// A build with the header that makes the host fail.
    FaultInjection = "fault-injection", match cfg!(feature = "fault-injection") {
        true => Ok(()),
        false => Err("built without `--features fault-injection`".to_owned()),
    };
    /// The toolchains of the languages, and components that they made.
    Toolchains = "toolchains", folder("WASMHOST_TEST_TOOLCHAINS", "guest/toolchains.sh");
    /// Components of JavaScript.
    Javascript = "javascript", folder("WASMHOST_TEST_JAVASCRIPT", "guest/javascript.sh");
    /// Components of JavaScript that use packages of npm.
    Packages = "packages", folder("WASMHOST_TEST_PACKAGES", "guest/packages.sh");
    /// The proxy.
    Nginx = "nginx", server_program("nginx");
    /// The proxy.
    Haproxy = "haproxy", server_program("haproxy");
    /// The proxy; it only reads a configuration here.
    Caddy = "caddy", succeeds("caddy", &["version"]);
    /// Scrapes metrics, and checks rules for alerts.
    Prometheus = "prometheus", succeeds("sh", &["-c", "prometheus --version && promtool --version"]);
    /// A server of stores; the tests of the crate `storage` need it.
    Redis = "redis-server", succeeds("redis-server", &["--version"]);
    /// A client of HTTP/2, and one that sends many requests.
    Nghttp2 = "nghttp2-client", succeeds("sh", &["-c", "nghttp --version && h2load --version"]);
    /// A client of HTTP/2.
    Curl = "curl-http2", succeeds("sh", &["-c", "curl --version | grep -q HTTP2"]);
    /// A client of gRPC.
    Grpcio = "grpcio", succeeds(&grpcio(), &["-c", "import grpc"]);
    /// Checks of systemd's units.
    Systemd = "systemd-analyze", succeeds("systemd-analyze", &["--version"]);
    /// Containers without an image registry.
    Buildah = "buildah", succeeds("buildah", &["--version"]);
    /// Programs of the tests that need raw system calls.
    Python3 = "python3", succeeds("python3", &["-c", "pass"]);
    /// Limits on processes, set from outside.
    Prlimit = "prlimit", succeeds("prlimit", &["--as=unlimited", "--nofile", "true"]);
    /// Process namespaces, in which a process is number 1.
    ProcessNamespace = "process-namespace", succeeds("unshare", &["--pid", "--fork", "--kill-child", "true"]);
    /// Mounts, in a namespace.
    Mount = "mount", succeeds("unshare", &["--mount", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]);
    /// A network without IPv6, in a namespace.
    NetworkNamespace = "network-namespace", succeeds("unshare", &["--net", "sh", "-c", WITHOUT_IPV6, "true"]);
    /// Control groups that bound CPU time and memory.
    Cgroups = "cgroups", control_groups();
    /// Processes that stay on chosen CPUs.
    Taskset = "taskset", succeeds("taskset", &["--cpu-list", "0", "true"]);
    /// A terminal for a command.
    Script = "script", succeeds("script", &["--quiet", "--return", "--command", "true", "/dev/null"]);
    /// The port of the domain name service, on an address of this machine that nobody uses.
    NameServer = "name-server", std::net::UdpSocket::bind(NAME_SERVER).map(drop).map_err(|error| format!("{NAME_SERVER}: {error}"));
    /// Addresses of IPv6.
    Ipv6 = "ipv6", std::net::TcpListener::bind("[::1]:0").map(drop).map_err(|error| format!("[::1]: {error}"));
    /// Connections that are forgotten without a word, which takes CAP_NET_ADMIN.
    NetAdmin = "net-admin", succeeds("python3", &["-c", "import socket; socket.socket().setsockopt(6, 19, 1)"]);
    /// Device files.
    Mknod = "mknod", succeeds("sh", &["-c", "cd \"$(mktemp -d)\" && mknod device c 1 5 && cat < /dev/null > device"]);
    /// A second CPU, so that clients keep out of the host's way.
    TwoCpus = "two-cpus", two_cpus();
    /// A clock that is set for one process only.
    Faketime = "faketime", faketime().map(drop);
    /// Processes of another user.
    OtherUser = "other-user", succeeds("setpriv", &["--reuid=65534", "--clear-groups", "true"]);
    /// A kernel with all that `--confine require` asks for.
    Confinement = "confinement", confinement();
}

/// A script for `sh` in a network of its own, which gives up IPv6 and goes on.
pub const WITHOUT_IPV6: &str =
    "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6 && ! grep -q . /proc/net/if_inet6 && exec \"$0\" \"$@\"";

/// What was found so far: a probe may start a process.
static FOUND: Mutex<BTreeMap<Facility, Probed>> = Mutex::new(BTreeMap::new());

impl Facility {
    /// Whether it is here; an error says why not.
    pub fn probe(self) -> Probed {
        let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        found.entry(self).or_insert_with(|| self.try_out()).clone()
    }
}

/// Whether a command ends well.
fn succeeds(program: &str, arguments: &[&str]) -> Probed {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("`{program}` does not start: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{program} {}` failed: {}", arguments[0], said.trim().lines().last().unwrap_or("without a word")))
}

/// The Python that has grpcio, of PyPI: `.ci/install` makes this environment.
pub fn grpcio() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/grpcio/bin/python").to_owned()
}

/// A proxy's path, which may be one for administrators only.
pub fn server_program_path(program: &str) -> Option<String> {
    let places = [program.to_owned(), format!("/usr/sbin/{program}")];
    places.into_iter().find(|path| {
        let mut command = Command::new(path);
        command.arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    })
}

fn server_program(program: &str) -> Probed {
    server_program_path(program).map(drop).ok_or_else(|| format!("`{program}` is not installed"))
}

/// Where a script has put what a group of tests needs.
fn folder(variable: &str, script: &str) -> Probed {
    match std::env::var_os(variable) {
        Some(folder) if Path::new(&folder).is_dir() => Ok(()),
        Some(folder) => Err(format!("{variable} names no folder: {}", folder.display())),
        None => Err(format!("{variable} is not set; {script} fills the folder that it names")),
    }
}

/// The folder that `guest/toolchains.sh` has filled.
///
/// # Panics
/// When the test that asks does not say `needs(Toolchains)`.
pub fn toolchains() -> PathBuf {
    absolute("WASMHOST_TEST_TOOLCHAINS")
}

/// The folder that `guest/javascript.sh` has filled.
///
/// # Panics
/// When the test that asks does not say `needs(Javascript)`.
pub fn javascript() -> PathBuf {
    absolute("WASMHOST_TEST_JAVASCRIPT")
}

/// The folder that `guest/packages.sh` has filled.
///
/// # Panics
/// When the test that asks does not say `needs(Packages)`.
pub fn packages() -> PathBuf {
    absolute("WASMHOST_TEST_PACKAGES")
}

fn absolute(variable: &str) -> PathBuf {
    let folder = std::env::var_os(variable).unwrap_or_else(|| panic!("the test does not say that it needs {variable}"));
    std::path::absolute(folder).expect("a path")
}

fn two_cpus() -> Probed {
    match std::thread::available_parallelism().map_or(1, Into::into) {
        1 => Err("this process has one CPU only".to_owned()),
        _ => Ok(()),
    }
}

/// The library that gives a process a clock of its own.
///
/// # Errors
/// When it is not installed.
pub fn faketime() -> Result<PathBuf, String> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut places = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    places
        .find(|place| place.is_file())
        .ok_or_else(|| "libfaketime is not installed (`apt-get install faketime`)".to_owned())
}

fn control_groups() -> Probed {
    let words = |error: std::io::Error| format!("no control group can be made: {error}");
    let groups = Cgroups::new(&[Bound::Cpu(100), Bound::Memory(256 << 20)]).map_err(words)?;
    let mut child = Command::new("sleep").arg("60").spawn().map_err(words)?;
    let joined = groups.take_in(child.id());
    // It may have ended by itself; both are well.
    let _ = child.kill();
    let _ = child.wait();
    joined.map_err(words)
}

/// The version of Landlock's interface that restricts files, ports, abstract sockets and signals; Linux 6.12.
const LANDLOCK_ABI: i64 = 6;

fn confinement() -> Probed {
    const CREATE_RULESET_VERSION: libc::c_ulong = 1;
    #[expect(unsafe_code, reason = "no safe crate asks for the version; the call takes no memory of ours")]
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, CREATE_RULESET_VERSION)
    };
    if abi < 0 {
        return Err(format!("the kernel has no Landlock: {}", std::io::Error::last_os_error()));
    }
    if abi < LANDLOCK_ABI {
        return Err(format!("the kernel's Landlock has version {abi} of its interface, {LANDLOCK_ABI} is needed"));
    }
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.contains("errno") { Ok(()) } else { Err("the kernel has no seccomp filters".to_owned()) }
}

/// `.ci/missing`: what the machines of CI lack. Lines of a facility's name, blanks, and the reason; empty lines and those
/// that begin with `#` are comments.
#[derive(Debug, Default)]
pub struct Missing {
    is_ci: bool,
    reasons: BTreeMap<Facility, String>,
}

impl Missing {
    /// Reads the file; none there is an empty one.
    ///
    /// # Errors
    /// When a line is none of these, or names a facility that no test needs.
    pub fn read() -> Result<Self, String> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/missing");
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(format!("cannot read .ci/missing: {error}")),
        };
        let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        Ok(Self { is_ci, reasons: parse(&text)? })
    }

    /// Why a test that needs what was found to be missing is ignored.
    ///
    /// # Errors
    /// In CI, when the file does not name the facility.
    pub fn excuse(&self, facility: Facility, found: &str) -> Result<String, String> {
        match (self.is_ci, self.reasons.get(&facility)) {
            (false, _) => Ok(found.to_owned()),
            (true, Some(reason)) => Ok(format!("{found}; .ci/missing: {reason}")),
            (true, None) => Err(format!(
                "it needs {}: {found}\nhint: with CI=true this is a failure unless .ci/missing names `{}`",
                facility.name(),
                facility.name()
            )),
        }
    }
}

fn parse(text: &str) -> Result<BTreeMap<Facility, String>, String> {
    let mut reasons = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |why: &str| format!(".ci/missing:{}: {why}: {line}", number + 1);
        let (name, reason) = line.split_once(char::is_whitespace).ok_or_else(|| wrong("a reason is missing"))?;
        let facility = Facility::ALL.iter().find(|facility| facility.name() == name);
        let facility = facility.ok_or_else(|| wrong("no test needs this"))?;
        if reasons.insert(*facility, reason.trim().to_owned()).is_some() {
            return Err(wrong("it is named twice"));
        }
    }
    Ok(reasons)
}

#[test]
fn the_list_of_what_is_missing_is_read_or_refused() {
    let read = parse("# comment\n\n  nginx   not installed here \nipv6\tno addresses\n").expect("two lines");
    let read: Vec<(&str, &str)> = read.iter().map(|(facility, reason)| (facility.name(), reason.as_str())).collect();
    assert_eq!(read, [("nginx", "not installed here"), ("ipv6", "no addresses")]);
    for (text, word) in [
        ("nginx", ".ci/missing:1: a reason is missing"),
        ("\nngins not there", ".ci/missing:2: no test needs this"),
        ("nginx one\nnginx two", ".ci/missing:2: it is named twice"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.starts_with(word), "{error}");
    }
    let names: BTreeSet<&str> = Facility::ALL.iter().map(|facility| facility.name()).collect();
    assert_eq!(names.len(), Facility::ALL.len(), "two facilities have one name");
}

#[test]
fn in_ci_a_test_that_cannot_run_fails_unless_the_list_names_what_is_missing() {
    let reasons = BTreeMap::from([(Facility::Nginx, "not on this machine".to_owned())]);
    let at_home = Missing { is_ci: false, reasons: BTreeMap::new() };
    assert_eq!(at_home.excuse(Facility::Nginx, "not installed"), Ok("not installed".to_owned()));
    let in_ci = Missing { is_ci: true, reasons };
    let excused = in_ci.excuse(Facility::Nginx, "not installed").expect("it is named");
    assert!(excused.contains("not installed") && excused.contains("not on this machine"), "{excused}");
    let error = in_ci.excuse(Facility::Haproxy, "not installed").expect_err("it is not named");
    assert!(error.contains("haproxy") && error.contains(".ci/missing"), "{error}");
}
