//! Do the files of `docs/deploy` work as they are? The units of systemd are checked by systemd itself, their restrictions
//! against what the host needs, the container is built and serves, the proxies read their configurations, and the program is
//! upgraded behind a socket that stays open.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::shutdown::with_handed_over;
use crate::support::tls::{Authority, TlsClient, VERSIONS};
use crate::support::{Connection, Server, TestResult, eventually, facility, free_address, get, guest, run};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/deploy");

fn deployed(file: &str) -> std::io::Result<String> {
    fs::read_to_string(format!("{FOLDER}/{file}"))
}

/// Runs it; its output when it succeeds.
#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// These units, with the program of the tests in the place of the installed one.
fn units(dir: &Path, names: &[&str]) -> std::io::Result<Vec<std::path::PathBuf>> {
    let unit = |name: &&str| {
        let text = deployed(name)?;
        let file = dir.join(name.rsplit('/').next().unwrap_or(name));
        assert!(name.ends_with(".socket") || text.contains("ExecStart=/usr/local/bin/wasmhost "), "{text}");
        fs::write(&file, text.replace("/usr/local/bin/wasmhost", crate::support::server::binary()))?;
        Ok(file)
    };
    names.iter().map(unit).collect()
}

#[test(needs(Systemd))]
fn systemd_finds_nothing_wrong_with_the_units() -> TestResult {
    let edge = ["edge/wasmhost.service", "edge/wasmhost-http.socket", "edge/wasmhost-https.socket"];
    for names in [&["wasmhost.service", "wasmhost.socket"][..], &edge] {
        let dir = tempfile::tempdir()?;
        let files = units(dir.path(), names)?;
        let drop_in = dir.path().join("wasmhost.service.d");
        fs::create_dir(&drop_in)?;
        let upgrade = deployed("upgrade.conf")?.replace("/usr/local/bin/wasmhost", crate::support::server::binary());
        fs::write(drop_in.join("upgrade.conf"), &upgrade)?;
        let verify = || {
            let mut command = Command::new("systemd-analyze");
            command.arg("verify").args(&files);
            let finished = run(command);
            (finished.code, finished.stdout + &finished.stderr)
        };
        assert_eq!(verify(), (Some(0), String::new()));
        // A mistake would be found.
        fs::write(&files[0], fs::read_to_string(&files[0])?.replace("ProtectHome=", "ProtectHouse="))?;
        assert!(verify().1.contains("ProtectHouse"), "{:?}", verify());
        fs::write(drop_in.join("upgrade.conf"), upgrade.replace("NotifyAccess=", "NotifyAxis="))?;
        assert!(verify().1.contains("NotifyAxis"), "{:?}", verify());
    }
    Ok(())
}

#[test]
fn the_unit_for_ports_80_and_443_differs_from_the_other_in_what_these_need() -> TestResult {
    let [plain, edge] = ["wasmhost.service", "edge/wasmhost.service"].map(deployed);
    let (plain, edge) = (plain?, edge?);
    let is_own = |line: &&str| {
        let own = ["#", "Requires=", "After=", "ExecStart=", "LoadCredential="];
        !own.iter().any(|begin| line.starts_with(begin))
    };
    let [plain, edge] = [&plain, &edge].map(|text| text.lines().filter(is_own).collect::<Vec<_>>());
    assert_eq!(plain, edge);
    Ok(())
}

/// The settings for ports 80 and 443, with the sockets that systemd would make and its copies of the files.
#[test(needs(Python3))]
fn the_settings_for_ports_80_and_443_serve_with_the_sockets_of_the_units() -> TestResult {
    let dir = tempfile::tempdir()?;
    let authority = Authority::new();
    authority.server(dir.path(), "cert", &["a.test"], 30);
    fs::rename(dir.path().join("cert.key"), dir.path().join("key.pem"))?;
    fs::copy(guest("hello.wasm"), dir.path().join("app.wasm"))?;
    let unit = deployed("edge/wasmhost.service")?;
    let credentials = "/run/credentials/wasmhost.service";
    let settings = deployed("edge/wasmhost.toml")?;
    let named: Vec<&str> = settings.split(credentials).skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(named, ["/cert.pem", "/key.pem"]);
    assert!(named.iter().all(|name| unit.contains(&format!("LoadCredential={}:", &name[1..]))), "{unit}");
    let settings = settings.replace(credentials, &dir.path().display().to_string());
    fs::write(dir.path().join("wasmhost.toml"), settings)?;
    let mut names = Vec::new();
    for socket in ["edge/wasmhost-http.socket", "edge/wasmhost-https.socket"] {
        let text = deployed(socket)?;
        let name = text.lines().find_map(|line| line.strip_prefix("FileDescriptorName=")).ok_or("a name")?;
        names.push(name.to_owned());
    }
    let two = "import os, socket, sys
sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
for number, one in zip((13, 14), sockets):
    os.dup2(one.fileno(), number)
for number in (3, 4):
    os.dup2(number + 10, number)
    os.close(number + 10)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2', LISTEN_FDNAMES=sys.argv[1])
os.execv(sys.argv[2], sys.argv[2:])";
    let mut command = crate::support::server::within(&["python3", "-c", two, &names.join(":")]);
    command.args(["serve", "-c"]).arg(dir.path().join("wasmhost.toml")).args(["--log-format", "json"]);
    let server = Server::spawn(command);
    let [plain, secure] = server.addresses()[..] else { return Err(format!("{:?}", server.addresses()).into()) };
    let config = authority.trusted(VERSIONS, None);
    eventually("the app is loaded", || {
        let answer = TlsClient::open(secure, &config, "a.test").and_then(|mut client| client.get("/", ""));
        answer.is_ok_and(|answer| answer.text() == "Hello, World!")
    });
    assert_eq!(get(plain, "/").status, 308);
    Ok(())
}

#[test]
fn the_flags_of_the_service_are_understood() -> TestResult {
    let service = deployed("wasmhost.service")?;
    let line = service.lines().find_map(|line| line.strip_prefix("ExecStart=")).ok_or("a command")?;
    let words: Vec<&str> = line.split(' ').skip(1).filter(|word| *word != "/etc/wasmhost/app.wasm").collect();
    let dir = tempfile::tempdir()?;
    let admin = format!("unix:{}", dir.path().join("admin.sock").display());
    let words: Vec<&str> =
        words.into_iter().map(|word| if word.starts_with("unix:") { &*admin } else { word }).collect();
    assert_eq!((words[0], words[1], words[2]), ("serve", "--listen", "systemd"), "{line}");
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut command = with_handed_over("hello.wasm", listener.try_clone()?, &words[1..]);
    for line in deployed("wasmhost.env")?.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.split_once('=').ok_or("a variable")?;
        command.env(name, value.trim_matches('"'));
    }
    let server = Server::spawn(command);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    Ok(())
}

/// The system calls of a group of systemd, and of those in it.
fn group(name: &str) -> BTreeSet<String> {
    let text = output(Command::new("systemd-analyze").args(["syscall-filter", name]));
    let mut calls = BTreeSet::new();
    for line in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if line.starts_with('@') {
            calls.extend(group(line));
        } else {
            calls.insert(line.to_owned());
        }
    }
    calls
}

#[test(needs(Systemd))]
fn the_service_may_make_every_system_call_that_the_host_allows_itself() -> TestResult {
    let service = deployed("wasmhost.service")?;
    let words =
        service.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).flat_map(|line| line.split(' '));
    let mut granted = BTreeSet::new();
    for word in words {
        if word.starts_with('@') {
            granted.extend(group(word));
        } else {
            granted.insert(word.to_owned());
        }
    }
    let tables = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/confine/src/calls.rs"))?;
    let (allowed, _) = tables.split_once("\nconst REFUSED").ok_or("the table of refused calls")?;
    let name =
        |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default().to_owned();
    let mut needed: BTreeSet<String> = allowed.split("libc::SYS_").skip(1).map(name).collect();
    assert!(needed.len() > 100, "{needed:?}");
    // To confine itself, and to start others.
    let before = [
        "seccomp",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "prctl",
        "execve",
        "capget",
        "capset",
    ];
    needed.extend(before.map(str::to_owned));
    let missing: Vec<_> = needed.difference(&granted).collect();
    assert!(missing.is_empty(), "SystemCallFilter= lacks {missing:?}");
    assert!(!service.lines().any(|line| line.starts_with("MemoryDenyWriteExecute=yes")));
    Ok(())
}

#[test]
fn the_program_is_replaced_behind_the_socket_of_the_service_manager_and_nobody_is_refused() -> TestResult {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let flags = ["--listen", "systemd", "--admin", "127.0.0.1:0"];
    let mut first = Server::spawn(with_handed_over("faults.wasm", listener.try_clone()?, &flags));
    let mut long = Connection::open(address);
    long.send("GET /sleep?ms=1500 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("the request runs", || first.sum("in_flight") == 1);
    first.signal("TERM");
    eventually("the first drains", || first.admin("/readyz").status == 503);
    // These come between the two.
    let mut between: Vec<Connection> = (0..20).map(|_| Connection::open(address)).collect();
    for client in &mut between {
        client.send("GET /hello HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    assert_eq!(long.response().status, 200, "a request in flight");
    assert_eq!(first.wait_for_exit().code(), Some(0));
    let second = Server::spawn(with_handed_over("faults.wasm", listener, &flags));
    assert_eq!(second.address, address);
    for client in &mut between {
        assert_eq!(client.response().text(), "Hello, World!");
    }
    Ok(())
}

/// A container that runs; removed when dropped, with all that was made for it.
struct Container {
    child: Child,
    address: SocketAddr,
    /// Kept open: it goes on writing its log there.
    _log: BufReader<ChildStderr>,
    /// Holds the images.
    dir: tempfile::TempDir,
}

/// buildah, with all that it keeps below `dir`.
fn buildah(dir: &Path, command: &str) -> Command {
    let mut buildah = Command::new("buildah");
    buildah.args(["--storage-driver", "vfs", "--root"]).arg(dir.join("storage"));
    buildah.arg("--runroot").arg(dir.join("run")).arg(command);
    buildah
}

impl Container {
    fn start(flags: &[&str]) -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let image = dir.path().join("image");
        output(
            Command::new(format!("{FOLDER}/rootfs"))
                .args([crate::support::server::binary(), &guest("hello.wasm")])
                .arg(&image),
        );
        let mut build = buildah(dir.path(), "bud");
        build.args(["--isolation", "chroot", "-t", "test", "-f"]).arg(format!("{FOLDER}/Containerfile")).arg(&image);
        output(&mut build);
        let name = output(buildah(dir.path(), "from").arg("test"));
        let mut inspect = buildah(dir.path(), "inspect");
        let words = "{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}{{range .OCIv1.Config.Cmd}}{{.}} {{end}}";
        inspect.args(["--type", "image", "--format", words]);
        let words = output(inspect.arg("test"));
        let mut command = buildah(dir.path(), "run");
        command.args(["--isolation", "chroot", name.trim(), "--"]).args(words.split_whitespace()).args(flags);
        // What the program writes to standard error, `buildah run` writes there too.
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(child.stderr.take().ok_or("standard error")?);
        let mut lines = Vec::new();
        for line in log.by_ref().lines() {
            let line = line?;
            let address = line.split_once("listening on http://").map(|(_, rest)| rest.to_owned());
            lines.push(line);
            let address = address.and_then(|rest| rest.split('"').next().and_then(|address| address.parse().ok()));
            if let Some(address) = address {
                return Ok(Self { child, address, _log: log, dir });
            }
        }
        Err(format!("the container did not listen: {}", lines.join("\n")).into())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It ends what it has started.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        // `vfs` has files that only it may remove.
        let _ = buildah(self.dir.path(), "rm").arg("--all").output();
    }
}

#[test(needs(Buildah))]
fn a_container_with_nothing_else_in_it_serves() -> TestResult {
    let admin = free_address();
    let flags = ["--listen", "127.0.0.1:0", "--admin", &admin.to_string(), "--admin-host", "test", "--workers", "2"];
    let container = Container::start(&flags)?;
    assert_eq!(get(container.address, "/").text(), "Hello, World!");
    let status: serde_json::Value = serde_json::from_slice(&get(admin, "/status").body)?;
    assert_eq!((&status["phase"], &status["component"]), (&"running".into(), &"/app.wasm".into()));
    assert_eq!(get(admin, "/readyz").status, 200);
    Ok(())
}

#[test(needs(Nginx))]
fn nginx_reads_its_configuration() -> TestResult {
    let dir = tempfile::tempdir()?;
    let site = dir.path().join("nginx.conf");
    let main = format!("pid {}/pid; events {{}} http {{\n{}\n}}", dir.path().display(), deployed("nginx.conf")?);
    fs::write(&site, main)?;
    let nginx = facility::server_program_path("nginx").ok_or("nginx")?;
    output(Command::new(nginx).arg("-t").arg("-p").arg(dir.path()).arg("-c").arg(&site));
    Ok(())
}

#[test(needs(Haproxy))]
fn haproxy_reads_its_configuration() -> TestResult {
    let haproxy = facility::server_program_path("haproxy").ok_or("haproxy")?;
    output(Command::new(haproxy).args(["-c", "-f"]).arg(format!("{FOLDER}/haproxy.cfg")));
    Ok(())
}

#[test(needs(Caddy))]
fn caddy_reads_its_configuration() -> TestResult {
    let mut caddy = Command::new("caddy");
    caddy.args(["adapt", "--adapter", "caddyfile", "--config"]).arg(format!("{FOLDER}/Caddyfile"));
    let adapted: serde_json::Value = serde_json::from_str(&output(&mut caddy))?;
    assert!(adapted.to_string().contains("127.0.0.1:8080"), "{adapted}");
    Ok(())
}
