//! Where a request really goes: names that lead elsewhere, addresses in disguise, the machine itself, and the host's own pages. Nothing
//! that was not granted is let through.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::isolation::named;
use crate::support::facility::NAME_SERVER;
use crate::support::server::within;
use crate::support::{FAULTS, Server, TestResult, get, guest};

const KINDS: [&str; 2] = ["thread", "process"];

/// An upstream that must not be reached, or must be: it counts its connections, and answers the head that it got.
struct Upstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    fn start(address: &str, answer: &'static str) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, SeqCst);
                let mut buffer = [0; 4096];
                let read = stream.read(&mut buffer).unwrap_or(0);
                let head = String::from_utf8_lossy(&buffer[..read]);
                let body = if answer.is_empty() { head.into_owned() } else { answer.to_owned() };
                // A client that left is no concern of this one.
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        })?;
        Ok(Self { address, connections })
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// A server that sees these contents in the places of these files.
fn with_files(files: &[(&str, &str)], component: &str, flags: &[&str]) -> std::io::Result<(Server, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let mut script = "set -e; ".to_owned();
    for (index, (file, content)) in files.iter().enumerate() {
        fs::write(dir.path().join(index.to_string()), content)?;
        script += &format!("mount --bind \"$0/{index}\" {file}; ");
    }
    script += "exec \"$@\"";
    let mut command = within(&["unshare", "--mount", "sh", "-c", &script, &dir.path().to_string_lossy()]);
    command.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    command.args(["--workers", "1"]).args(flags);
    Ok((Server::spawn(command), dir))
}

fn fetched(server: &Server, url: &str) -> (u16, String) {
    let response = get(server.address, &format!("/fetch?url={url}"));
    (response.status, response.text())
}

#[test(needs(Mount))]
#[allow(clippy::too_many_lines, reason = "a table")]
fn no_address_in_disguise_is_let_through() -> TestResult {
    let upstream = Upstream::start("0.0.0.0:0", "secret")?;
    let port = upstream.address.port();
    let hosts = "127.0.0.1 localhost\n::ffff:127.0.0.1 mapped.test\n0.0.0.0 any.test\n:: any6.test\n\
        64:ff9b::7f00:1 nat64.test\n64:ff9b:1::7f00:1 local64.test\n2002:7f00:1:: six.test\n2001:0:7f00:1::80ff:fffe teredo.test\n\
        ::7f00:1 compatible.test\n169.254.169.254 metadata.test\nfd00:ec2::254 metadata6.test\n::ffff:169.254.169.254 mapped-metadata.test\n\
        64:ff9b::a9fe:a9fe nat64-metadata.test\n2002:a9fe:a9fe:: six-metadata.test\n10.0.0.1 private.test\n\
        fe80::1 link.test\n127.0.0.1 party.test\n127.0.0.1 sub.party.test\n";
    // Hosts and what becomes of a request to them; `*` is granted.
    let prohibited = "destination-IP-prohibited";
    let invalid = "HTTP-request-URI-invalid";
    let rows: [(&[&str], &str); 3] = [
        (
            &[
                "127.0.0.1",
                "127.1.2.3",
                "[::1]",
                "[::ffff:127.0.0.1]",
                "[::ffff:7f00:1]",
                "0.0.0.0",
                "[::]",
                "[::ffff:0.0.0.0]",
                "[64:ff9b::7f00:1]",
                "[64:ff9b:1::7f00:1]",
                "[2002:7f00:1::]",
                "[::7f00:1]",
                "[::ffff:0:127.0.0.1]",
                "169.254.169.254",
                "[::ffff:169.254.169.254]",
                "[64:ff9b::a9fe:a9fe]",
                "[2002:a9fe:a9fe::]",
                "[fd00:ec2::254]",
                "[fe80::1]",
                "10.0.0.1",
                "100.100.100.200",
                "168.63.129.16",
                "255.255.255.255",
                "localhost",
                "LOCALHOST",
                "mapped.test",
                "any.test",
                "any6.test",
                "nat64.test",
                "local64.test",
                "six.test",
                "teredo.test",
                "compatible.test",
                "metadata.test",
                "metadata6.test",
                "mapped-metadata.test",
                "nat64-metadata.test",
                "six-metadata.test",
                "private.test",
                "link.test",
                "party.test",
                "sub.party.test",
            ],
            prohibited,
        ),
        (
            &[
                "127.1",
                "127.0.1",
                "0",
                "0177.0.0.1",
                "0x7f.0.0.1",
                "0x7f000001",
                "0X7F000001",
                "2130706433",
                "017700000001",
                "127.0.0.1.",
                "127.0.0.01",
                "0xa9fea9fe",
                "2852039166",
                "0251.0376.0251.0376",
                "1.2.3.4.5",
                "public.test@127.0.0.1",
                "127.0.0.1:80@public.test",
            ],
            invalid,
        ),
        (&["party.test", "localhost"], prohibited),
    ];
    for kind in KINDS {
        for component in FAULTS {
            let flags = ["--allow-host", "*", "--worker-kind", kind, "--cpu-limit", "20s"];
            let (server, _dir) = with_files(&[("/etc/hosts", hosts)], component, &flags)?;
            for (hosts, error) in rows {
                for host in hosts {
                    let (status, text) = fetched(&server, &format!("http://{host}:{port}/"));
                    assert!(status == 502 && named(&text, error), "{kind} {component} {host}: {status} {text}");
                }
            }
            // With all that names may be granted, metadata services and disguises stay out of reach.
            let flags = ["--allow-host", "*:private", "--worker-kind", kind];
            let (server, _dir) = with_files(&[("/etc/hosts", hosts)], component, &flags)?;
            for (host, error) in [
                ("metadata.test", prohibited),
                ("metadata6.test", prohibited),
                ("mapped-metadata.test", prohibited),
                ("nat64-metadata.test", prohibited),
                ("six-metadata.test", prohibited),
                ("link.test", prohibited),
                ("169.254.169.254", prohibited),
                ("0xa9fea9fe", invalid),
                ("2852039166", invalid),
                ("127.1", invalid),
            ] {
                let (status, text) = fetched(&server, &format!("http://{host}:{port}/"));
                assert!(status == 502 && named(&text, error), "{kind} {component} {host}: {status} {text}");
            }
        }
    }
    assert_eq!(upstream.connections(), 0, "nothing was let through");
    // It is there.
    let server = Server::start("faults.wasm", &["--allow-host", "127.0.0.1"]);
    assert_eq!(fetched(&server, &format!("http://127.0.0.1:{port}/")).1, "secret");
    Ok(())
}

#[test]
fn the_authority_that_was_checked_is_the_one_that_is_asked_and_redirects_are_the_guests() -> TestResult {
    let (granted, other) = (Upstream::start("127.0.0.1:0", "")?, Upstream::start("127.0.0.1:0", "secret")?);
    let elsewhere = format!("http://{}/", other.address);
    let location = TcpListener::bind("127.0.0.1:0")?;
    let redirects = location.local_addr()?;
    let target = elsewhere.clone();
    thread::Builder::new().name("redirects".to_owned()).spawn(move || {
        for mut stream in location.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = write!(
                stream,
                "HTTP/1.1 302 Found\r\nlocation: {target}\r\nconnection: close\r\ncontent-length: 5\r\n\r\nmoved"
            );
        }
    })?;
    let grants = format!("{},{redirects}", granted.address);
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", &grants]);
        // What the guest writes into `Host` is refused or replaced; the guest of the tests writes none.
        let (_, head) = fetched(&server, &format!("http://{}/a", granted.address));
        let hosts: Vec<&str> = head.lines().filter(|line| line.to_ascii_lowercase().starts_with("host:")).collect();
        assert_eq!(hosts, [format!("host: {}", granted.address)], "{component}: {head}");
        // The host follows no redirect.
        let response = get(server.address, &format!("/fetch?url=http://{redirects}/"));
        assert_eq!(response.header("x-upstream-status"), Some("302"), "{component}");
        assert_eq!(response.text(), "moved", "{component}");
        let (status, text) = fetched(&server, &elsewhere);
        assert!(status == 502 && named(&text, "HTTP-request-denied"), "{component}: {text}");
    }
    assert_eq!(other.connections(), 0);
    Ok(())
}

/// A name server whose answers for `a.rebind.test` are these, one after the other; the last one stays.
fn rebinding(answers: &'static [[u8; 4]]) -> std::io::Result<Arc<Mutex<usize>>> {
    let socket = UdpSocket::bind(NAME_SERVER)?;
    let asked = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&asked);
    thread::Builder::new().name("name-server".to_owned()).spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut question) {
            let question = &question[..length];
            if length < 17 {
                continue;
            }
            let Some(end) = question[12..].iter().position(|byte| *byte == 0).map(|end| 12 + end + 5) else { continue };
            let is_a = question.get(end - 4..end - 2) == Some(&[0, 1]);
            let mut answer = question[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(&question[12..end]);
            if is_a {
                let mut asked = counted.lock().unwrap_or_else(PoisonError::into_inner);
                let address = answers[(*asked).min(answers.len() - 1)];
                *asked += 1;
                // It may be used for no time at all.
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(address);
            }
            let _ = socket.send_to(&answer, client);
        }
    })?;
    Ok(asked)
}

#[test(needs(Mount, NameServer))]
fn a_name_that_leads_elsewhere_the_second_time_is_checked_anew_and_connected_as_checked() -> TestResult {
    let asked = rebinding(&[[127, 0, 0, 2], [127, 0, 0, 3]])?;
    let granted = Upstream::start("127.0.0.2:0", "granted")?;
    let port = granted.address.port();
    let secret = Upstream::start(&format!("127.0.0.3:{port}"), "secret")?;
    let resolv = format!("nameserver {}\noptions timeout:2 attempts:1\n", NAME_SERVER.trim_end_matches(":53"));
    let files = [("/etc/resolv.conf", resolv.as_str())];
    for (turn, component) in FAULTS.into_iter().enumerate() {
        *asked.lock().unwrap_or_else(PoisonError::into_inner) = 0;
        let (server, _dir) = with_files(&files, component, &["--allow-host", "a.rebind.test,127.0.0.2"])?;
        let url = format!("http://a.rebind.test:{port}/");
        assert_eq!(fetched(&server, &url), (200, "granted".to_owned()), "{component}");
        assert_eq!(*asked.lock().unwrap_or_else(PoisonError::into_inner), 1, "{component}: looked up once");
        // What was found serves for a few seconds; then the name leads elsewhere.
        assert_eq!(fetched(&server, &url), (200, "granted".to_owned()), "{component}");
        assert_eq!(*asked.lock().unwrap_or_else(PoisonError::into_inner), 1, "{component}: looked up once");
        thread::sleep(Duration::from_millis(5_200));
        let (status, text) = fetched(&server, &url);
        assert!(status == 502 && named(&text, "destination-IP-prohibited"), "{component}: {text}");
        assert_eq!(granted.connections(), 2 * (turn + 1), "{component}");
    }
    assert_eq!(secret.connections(), 0);
    Ok(())
}

#[test]
fn the_admin_page_answers_no_guest() -> TestResult {
    for kind in KINDS {
        for component in FAULTS {
            let server = Server::start(component, &["--allow-host", "127.0.0.1,localhost", "--worker-kind", kind]);
            let admin = server.admin_address();
            for host in [admin.to_string(), format!("localhost:{}", admin.port())] {
                for path in ["metrics", "status", "healthz", ""] {
                    let response = get(server.address, &format!("/fetch?url=http://{host}/{path}"));
                    assert_eq!(response.header("x-upstream-status"), Some("403"), "{kind} {component} {host} {path}");
                    assert_eq!(response.text(), "403 this page answers no guest\n", "{kind} {component} {host} {path}");
                }
            }
            assert_eq!(server.admin("/healthz").status, 200, "{kind} {component}");
        }
    }
    Ok(())
}

#[test(needs(NetworkNamespace, Python3))]
fn a_public_address_of_this_machine_is_no_public_one() -> TestResult {
    // All in one network: the host, an upstream on that address, and who asks. What they print is compared.
    let script = r#"
import fcntl, http.client, json, socket, struct, subprocess, sys, threading

# The loopback device of this network gets an address that looks public (SIOCSIFADDR), and goes up (SIOCSIFFLAGS).
device = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for name, address in (b"lo", "127.0.0.1"), (b"lo:1", "93.184.215.14"):
    fcntl.ioctl(device, 0x8916, struct.pack("16sH2x4s8x", name, socket.AF_INET, socket.inet_aton(address)))
    fcntl.ioctl(device, 0x8914, struct.pack("16sH22x", name, 0x41))

host, component, kind, *rules = sys.argv[1:]
upstream = socket.create_server(("93.184.215.14", 0))
port = upstream.getsockname()[1]
count = 0

def serve():
    global count
    while True:
        stream, _ = upstream.accept()
        count += 1
        stream.recv(4096)
        stream.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nfound")
        stream.close()

threading.Thread(target=serve, daemon=True).start()
for rule in rules:
    argv = [host, component, "--listen", "127.0.0.1:0", "--worker-kind", kind, "--workers", "1", "--allow-host", rule, "--log-format", "json"]
    server = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    at = next(line.split("listening on http://")[1].split('"')[0] for line in server.stderr if "listening on http://" in line)
    threading.Thread(target=server.stderr.read, daemon=True).start()
    client = http.client.HTTPConnection(at, timeout=30)
    client.request("GET", f"/fetch?url=http://93.184.215.14:{port}/")
    text = client.getresponse().read().decode()
    print(rule, count, text.split("\n")[0], flush=True)
    server.terminate()
    server.wait()
"#;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("ask.py");
    fs::write(&file, script)?;
    for kind in KINDS {
        for component in FAULTS {
            let mut command = std::process::Command::new("unshare");
            command.args(["--net", "python3"]).arg(&file);
            command.arg(crate::support::server::binary()).arg(guest(component)).args([kind, "*", "93.184.215.14"]);
            let output = crate::support::server::prepared(command).output()?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let [first, second] = said.lines().collect::<Vec<_>>()[..] else {
                return Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)).into());
            };
            assert!(
                first.starts_with("* 0 ") && named(first, "destination-IP-prohibited"),
                "{kind} {component}: {first}"
            );
            assert_eq!(second, "93.184.215.14 1 found", "{kind} {component}");
        }
    }
    Ok(())
}
