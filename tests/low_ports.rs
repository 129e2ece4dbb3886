//! Ports 80 and 443 without root: by sockets that a service manager hands over, and by a capability, which no process keeps
//! that does not need it. In a network of their own, where these ports are free; the host is a user's who may do nothing else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::apps::{app, reload};
use crate::support::run::Finished;
use crate::support::server::prepared;
use crate::support::tls::{Authority, Files};
use crate::support::{Server, TestResult, eventually, guest, message, run};

/// Gives up root. What follows are words for `setpriv`.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
/// Lets ports below 1024 be bound, by whatever is executed.
const MAY_BIND: [&str; 2] = ["--inh-caps=-all,+net_bind_service", "--ambient-caps=-all,+net_bind_service"];
/// The loopback device of a new network is off; then the program in the arguments.
const LOOPBACK: &str = "import fcntl, os, socket, struct, sys
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh14x', b'lo', 1))
os.execvp(sys.argv[1], sys.argv[1:])";
/// Binds both ports, as a service manager does, and hands them over; then the program in the arguments.
const HAND_OVER: &str = "import os, socket, sys
sockets = [socket.create_server(('127.0.0.1', port)) for port in (80, 443)]
for number, one in zip((13, 14), sockets):
    os.dup2(one.fileno(), number)
for number in (3, 4):
    os.dup2(number + 10, number)
    os.close(number + 10)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES='http:https')
os.execvp(sys.argv[1], sys.argv[1:])";

/// Bit 10 of a set of capabilities: `CAP_NET_BIND_SERVICE`.
const NET_BIND_SERVICE: u64 = 1 << 10;

/// A place where nobody may read all that the host needs, in a folder.
struct Place {
    dir: tempfile::TempDir,
    authority: Authority,
    files: Files,
}

impl Place {
    fn new() -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755))?;
        std::fs::copy(crate::support::server::binary(), dir.path().join("wasmhost"))?;
        std::fs::copy(guest("hello.wasm"), dir.path().join("hello.wasm"))?;
        std::fs::create_dir(dir.path().join("cache"))?;
        std::fs::set_permissions(dir.path().join("cache"), Permissions::from_mode(0o777))?;
        let authority = Authority::new();
        let files = authority.server(dir.path(), "a", &["a.test"], 30);
        std::fs::write(dir.path().join("roots.pem"), authority.pem())?;
        let place = Self { dir, authority, files };
        place.may_read(&place.files.key, true)?;
        Ok(place)
    }

    /// Whether the host may read a key: otherwise root alone may.
    fn may_read(&self, key: &Path, may: bool) -> std::io::Result<()> {
        std::os::unix::fs::chown(key, Some(if may { 65534 } else { 0 }), None)?;
        std::fs::set_permissions(key, Permissions::from_mode(0o400))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Settings for these two addresses, of which the first leads to the other, and more.
    fn write(&self, kind: &str, [plain, secure]: [&str; 2], more: &str) -> std::io::Result<()> {
        let tls =
            format!("tls = {{ cert = \"{}\", key = \"{}\" }}", self.files.cert.display(), self.files.key.display());
        let listener = |address: &str, of: &str| format!("[[listener]]\nlisten = \"{address}\"\n{of}\n");
        let text = format!(
            "worker-kind = \"{kind}\"\nworkers = 2\n{}{}{more}{}",
            listener(plain, "https-redirect = true"),
            listener(secure, &tls),
            app("hello", &self.path("hello.wasm").display().to_string(), "*", "")
        );
        std::fs::write(self.path("wasmhost.toml"), text)
    }

    /// The host in a network of its own, started by these words.
    fn command(&self, words: &[&str], flags: &[&str]) -> Command {
        let mut command = prepared(Command::new("unshare"));
        command.args(["--net", "python3", "-c", LOOPBACK]).args(words).arg(self.path("wasmhost")).args(flags);
        command.env_remove("WASMHOST_WORKER_KIND").env("WASMHOST_CACHE_DIR", self.path("cache"));
        command.args(["--log-format", "json"]);
        command
    }

    /// The same with the settings.
    fn serve(&self, words: &[&str]) -> Server {
        let settings = self.path("wasmhost.toml").display().to_string();
        Server::spawn(self.command(words, &["serve", "-c", &settings]))
    }

    /// A client in the host's network.
    fn curl(&self, server: &Server, url: &str) -> Finished {
        let mut client = Command::new("nsenter");
        client.arg(format!("--net=/proc/{}/ns/net", server.pid())).args([
            "curl",
            "--silent",
            "--show-error",
            "--cacert",
        ]);
        client.arg(self.path("roots.pem")).args([
            "--connect-to",
            "::127.0.0.1:",
            "--write-out",
            " %{http_code} %{redirect_url}",
        ]);
        client.arg(url);
        run(client)
    }

    #[track_caller]
    fn serves_on_80_and_443(&self, server: &Server, what: &str) {
        eventually(&format!("{what}: it serves"), || {
            self.curl(server, "https://a.test/").stdout == "Hello, World! 200 "
        });
        let redirected = self.curl(server, "http://a.test/x");
        assert!(redirected.stdout.ends_with(" 308 https://a.test/x"), "{what}: {redirected:?}");
    }
}

/// What every thread of a process may do beyond others, of whatever set.
fn capabilities(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = threads.map(|thread| std::fs::read_to_string(thread.path().join("status")).unwrap_or_default());
    let sets = |status: String| -> u64 {
        let of = |name: &str| {
            let set = status.lines().find_map(|line| line.strip_prefix(name));
            set.map_or(u64::MAX, |set| u64::from_str_radix(set.trim(), 16).expect("a number"))
        };
        ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"].into_iter().map(of).fold(0, |all, set| all | set)
    };
    statuses.map(sets).fold(0, |all, set| all | set)
}

/// Only the spawner may have any: that of binding, where a reading of the settings can bring new addresses.
#[track_caller]
fn has_no_capabilities(server: &Server, spawner: u64, what: &str) {
    let spawner_pid = server.spawner_pid().expect("a spawner");
    let pids = server.pids();
    assert!(pids.len() >= 2, "{what}: {pids:?}");
    for pid in pids {
        let expected = if pid == spawner_pid { spawner } else { 0 };
        assert_eq!(capabilities(pid), expected, "{what}: process {pid} of {}", server.pid());
    }
}

const ADDRESSES: [&str; 2] = ["127.0.0.1:80", "127.0.0.1:443"];

#[test(alone, needs(NetworkNamespace, OtherUser, Python3, Curl, Confinement))]
fn with_the_capability_a_user_serves_on_both_ports_and_no_worker_keeps_it() -> TestResult {
    let place = Place::new()?;
    let words = [&NOBODY[..], &MAY_BIND].concat();
    for kind in ["thread", "process"] {
        place.write(kind, ADDRESSES, "")?;
        let server = place.serve(&words);
        place.serves_on_80_and_443(&server, kind);
        has_no_capabilities(&server, NET_BIND_SERVICE, kind);

        // The spawner binds what a reload brings.
        place.write(kind, ADDRESSES, "[[listener]]\nlisten = \"127.0.0.1:81\"\n")?;
        reload(&server);
        server.wait_for_record("the new address", |record| {
            message(record).contains("now also listening on http://127.0.0.1:81")
        });
        eventually("it serves there, too", || place.curl(&server, "http://a.test:81/").stdout == "Hello, World! 200 ");
        place.serves_on_80_and_443(&server, kind);
        has_no_capabilities(&server, NET_BIND_SERVICE, kind);
    }
    // Without a file there is no reload that brings addresses.
    let [cert, key] = [&place.files.cert, &place.files.key].map(|file| file.display().to_string());
    let component = place.path("hello.wasm").display().to_string();
    let flags =
        [&component, "--listen", "127.0.0.1:443", "--tls-cert", &cert, "--tls-key", &key, "--worker-kind", "process"];
    let server = Server::spawn(place.command(&words, &flags));
    eventually("it serves", || place.curl(&server, "https://a.test/").stdout == "Hello, World! 200 ");
    has_no_capabilities(&server, 0, "flags");
    Ok(())
}

#[test(alone, needs(NetworkNamespace, OtherUser, Python3, Curl, Confinement))]
fn with_sockets_that_are_handed_over_a_user_serves_on_both_ports() -> TestResult {
    let place = Place::new()?;
    let words = [&["python3", "-c", HAND_OVER][..], &NOBODY].concat();
    for kind in ["thread", "process"] {
        place.write(kind, ["systemd:http", "systemd:https"], "")?;
        let server = place.serve(&words);
        place.serves_on_80_and_443(&server, kind);
        has_no_capabilities(&server, 0, kind);
        // A new certificate is taken; the sockets stay.
        reload(&server);
        place.serves_on_80_and_443(&server, kind);
    }
    // A name that no socket has.
    place.write("thread", ["systemd:http", "systemd:web"], "")?;
    let settings = place.path("wasmhost.toml").display().to_string();
    let failed = run(place.command(&words, &["serve", "-c", &settings]));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.stderr.contains("the name `web`: there is none; there are: `https`"), "{failed:?}");
    assert!(failed.stderr.contains("FileDescriptorName="), "{failed:?}");
    Ok(())
}

#[test(alone, needs(NetworkNamespace, OtherUser, Python3, Curl, Confinement))]
fn without_either_the_error_names_the_ways_out() -> TestResult {
    let place = Place::new()?;
    let component = place.path("hello.wasm").display().to_string();
    let failed = run(place.command(&NOBODY, &[&component, "--listen", "127.0.0.1:443"]));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for part in [
        "cannot listen on 127.0.0.1:443: Permission denied",
        "CAP_NET_BIND_SERVICE",
        "--listen systemd",
        "docs/DEPLOY.md",
        "than 443",
    ] {
        assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
    }
    // The same at a reload: the log says it, and all else goes on.
    place.write("process", ["127.0.0.1:8080", "127.0.0.1:8443"], "")?;
    let server = place.serve(&NOBODY);
    place.write("process", ["127.0.0.1:8080", "127.0.0.1:8443"], "[[listener]]\nlisten = \"127.0.0.1:81\"\n")?;
    server.signal("HUP");
    let told = server.wait_for_record("why", |record| message(record).contains("cannot listen on 127.0.0.1:81"));
    assert!(message(&told).contains("CAP_NET_BIND_SERVICE") && message(&told).contains("--listen systemd"), "{told}");
    eventually("it goes on", || place.curl(&server, "https://a.test:8443/").stdout == "Hello, World! 200 ");
    Ok(())
}

#[test(alone, needs(NetworkNamespace, OtherUser, Python3, Curl, Confinement))]
fn a_key_that_only_root_may_read_is_told_of_with_a_way_out() -> TestResult {
    let place = Place::new()?;
    let other = place.authority.server(place.dir.path(), "root", &["a.test"], 30);
    place.may_read(&other.key, false)?;
    let component = place.path("hello.wasm").display().to_string();
    let [cert, key] = [&other.cert, &other.key].map(|file| file.display().to_string());
    let flags = [&component, "--listen", "127.0.0.1:8443", "--tls-cert", &cert, "--tls-key", &key];
    let failed = run(place.command(&NOBODY, &flags));
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for part in ["root.key", "Permission denied", "LoadCredential="] {
        assert!(failed.stderr.contains(part), "{part}: {}", failed.stderr);
    }
    Ok(())
}
