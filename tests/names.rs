//! Names of upstreams: which addresses may they lead to, and what does a name server cost that never answers? The hosts
//! file and the name server are the test's own, in a mount namespace.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::isolation::named;
use crate::support::facility::NAME_SERVER;
use crate::support::server::within;
use crate::support::{Connection, FAULTS, Server, TestResult, get, guest};

const KINDS: [&str; 2] = ["thread", "process"];
/// How long those wait who have nothing to do with slow names.
const PROMPT: Duration = Duration::from_secs(1);

/// A server that sees `content` in the place of `file`.
fn with_file(
    file: &str,
    content: &str,
    component: &str,
    flags: &[&str],
) -> std::io::Result<(Server, tempfile::TempDir)> {
    let dir = tempfile::tempdir()?;
    let own = dir.path().join("file");
    fs::write(&own, content)?;
    let script = format!("set -e; mount --bind \"$0\" {file}; exec \"$@\"");
    let mut command = within(&["unshare", "--mount", "sh", "-c", &script, &own.to_string_lossy()]);
    command.arg(guest(component)).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    command.args(["--workers", "1"]).args(flags);
    Ok((Server::spawn(command), dir))
}

/// An upstream that answers every request with `found`.
fn upstream(address: &str) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address)?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            // A client that left is no concern of this one.
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfound");
        }
    })?;
    Ok(address)
}

#[test(needs(Mount))]
fn a_third_partys_name_leads_neither_to_this_machine_nor_to_the_link() -> TestResult {
    let port = upstream("127.0.0.1:0")?.port();
    let hosts = "127.0.0.1 localhost app.localhost\n127.0.0.1 party.test\n169.254.169.254 metadata.test\n\
        fe80::1 link.test\nfd00:ec2::254 metadata6.test\n10.0.0.1 private.test\n::ffff:169.254.169.254 mapped.test\n";
    // Rules; names that are refused, and how the log's advice ends; names that are reached.
    type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);
    let rows: [Row; 4] = [
        (
            "party.test,private.test,localhost,metadata.test:private,link.test:private,metadata6.test:private,\
             mapped.test:private",
            &[
                ("party.test", " party.test:PORT:private"),
                ("private.test", " private.test:PORT:private"),
                ("metadata.test", " 169.254.169.254:PORT"),
                ("link.test", " [fe80::1]:PORT"),
                ("metadata6.test", " [fd00:ec2::254]:PORT"),
                ("mapped.test", ":PORT"),
            ],
            &["localhost"],
        ),
        ("*", &[("party.test", " party.test:PORT:private"), ("localhost", " localhost:PORT:private")], &[]),
        (
            "*:private",
            &[("metadata.test", " 169.254.169.254:PORT"), ("metadata6.test", " [fd00:ec2::254]:PORT")],
            &["party.test", "localhost"],
        ),
        (
            "party.test,app.localhost,127.0.0.0/8,169.254.169.254,metadata.test:private",
            &[("metadata.test", " 169.254.169.254:PORT")],
            &["party.test", "app.localhost"],
        ),
    ];
    for kind in KINDS {
        for component in FAULTS {
            for (rules, refused, reached) in rows {
                let what = format!("{kind} {component} {rules}");
                let flags = ["--allow-host", rules, "--worker-kind", kind];
                let (server, _dir) = with_file("/etc/hosts", hosts, component, &flags)?;
                for (host, advice) in refused {
                    let response = get(server.address, &format!("/fetch?url=http://{host}:{port}/"));
                    let text = response.text();
                    assert_eq!(response.status, 502, "{what} {host}: {text}");
                    assert!(named(&text, "DestinationIPProhibited"), "{what} {host}: {text}");
                    let request = format!("outgoing request to {host}:{port} refused");
                    let of_it = |record: &serde_json::Value| {
                        let message = record["message"].as_str().filter(|message| message.starts_with(&request));
                        message.filter(|_| record["limit"] == "--allow-host").is_some()
                    };
                    let record = server.wait_for_record(&request, of_it);
                    let message = record["message"].as_str().unwrap_or_default();
                    assert!(message.ends_with(&advice.replace("PORT", &port.to_string())), "{what}: {message}");
                }
                for host in reached {
                    let response = get(server.address, &format!("/fetch?url=http://{host}:{port}/"));
                    assert_eq!(response.text(), "found", "{what} {host}: {:?}", server.lines());
                }
            }
        }
    }
    Ok(())
}

#[test(needs(Mount))]
fn all_addresses_of_a_name_are_tried() -> TestResult {
    let port = upstream("127.0.0.1:0")?.port();
    // Nobody listens at the first ones.
    let hosts = "::1 localhost\n127.0.0.2 localhost\n127.0.0.1 localhost\n";
    for kind in KINDS {
        for component in FAULTS {
            let flags = ["--allow-host", "localhost", "--worker-kind", kind];
            let (server, _dir) = with_file("/etc/hosts", hosts, component, &flags)?;
            let response = get(server.address, &format!("/fetch?url=http://localhost:{port}/"));
            assert_eq!(response.text(), "found", "{kind} {component}");
            let gone = get(server.address, "/fetch?url=http://localhost:9/");
            assert!(named(&gone.text(), "ConnectionRefused"), "{kind} {component}: {}", gone.text());
        }
    }
    Ok(())
}

/// A name server that knows names below `good.test`, and never says a word about those below `pit.test`.
fn name_server() -> std::io::Result<()> {
    let socket = UdpSocket::bind(NAME_SERVER)?;
    thread::Builder::new().name("name-server".to_owned()).spawn(move || {
        let mut question = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut question) {
            let question = &question[..length];
            if question.windows(4).any(|bytes| bytes == b"\x03pit") || length < 17 {
                continue;
            }
            // The same question (a header of 12 bytes, a name, type and class), as an answer (RFC 1035, section 4).
            let Some(end) = question[12..].iter().position(|byte| *byte == 0).map(|end| 12 + end + 5) else { continue };
            let is_a = question.get(end - 4..end - 2) == Some(&[0, 1]);
            let mut answer = question[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
            answer.extend(&question[12..end]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
            }
            // A client that left is no concern of this one.
            let _ = socket.send_to(&answer, client);
        }
    })?;
    Ok(())
}

#[test(needs(Mount, NameServer))]
fn names_that_are_never_answered_hold_up_neither_other_names_nor_files() -> TestResult {
    name_server()?;
    let port = upstream("127.0.0.1:0")?.port();
    let files = tempfile::tempdir()?;
    fs::write(files.path().join("note"), "a file")?;
    let grant = format!("{}::/data", files.path().display());
    let address = NAME_SERVER.trim_end_matches(":53");
    let resolv = format!("nameserver {address}\noptions timeout:10 attempts:2\n");
    for kind in KINDS {
        for component in FAULTS {
            let flags = ["--allow-host", "*:private", "--dir", &grant, "--worker-kind", kind];
            let (server, _dir) = with_file("/etc/resolv.conf", &resolv, component, &flags)?;
            assert_eq!(
                get(server.address, &format!("/fetch?url=http://a.good.test:{port}/")).text(),
                "found",
                "{component}"
            );
            // More than there are threads for files, and more than there are for names.
            let mut pits: Vec<Connection> = (0..40).map(|_| Connection::open(server.address)).collect();
            for (index, pit) in pits.iter_mut().enumerate() {
                pit.send(format!("GET /fetch?url=http://{index}.pit.test:{port}/ HTTP/1.1\r\nHost: test\r\n\r\n"));
            }
            thread::sleep(Duration::from_millis(300));
            for round in 0..3 {
                let began = Instant::now();
                assert_eq!(get(server.address, "/read?path=/data/note").text(), "a file", "{kind} {component}");
                let file = began.elapsed();
                let began = Instant::now();
                let url = format!("/fetch?url=http://{round}.good.test:{port}/");
                assert_eq!(get(server.address, &url).text(), "found", "{kind} {component}");
                let name = began.elapsed();
                assert!(file < PROMPT && name < PROMPT, "{kind} {component}: a file {file:?}, a name {name:?}");
            }
            drop(pits);
        }
    }
    Ok(())
}
