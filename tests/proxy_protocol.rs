//! A TCP balancer in front of the host names clients in a PROXY header: whom is it believed, what does the guest see, and what
//! becomes of connections without one?

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::tls::{Authority, TlsClient, VERSIONS};
use crate::support::{CEILING, Connection, FAULTS, Server, TestResult, eventually, message};

const KINDS: [&str; 2] = ["thread", "process"];
const BALANCED: [&str; 3] = ["--proxy-protocol", "--trust-proxy", "127.0.0.1/32"];

/// A header of version 2 for a client of IPv4.
fn version_2(client: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[127, 0, 0, 1]);
    header.extend_from_slice(&port.to_be_bytes());
    header.extend_from_slice(&443_u16.to_be_bytes());
    header
}

#[test]
fn the_client_that_a_balancer_names_is_the_one_that_counts() -> TestResult {
    for (component, kind) in FAULTS.iter().flat_map(|component| KINDS.map(|kind| (component, kind))) {
        let flags = [&BALANCED[..], &["--worker-kind", kind, "--access-log"]].concat();
        let server = Server::start(component, &flags);
        let headers = [
            (b"PROXY TCP4 192.0.2.7 127.0.0.1 5555 80\r\n".to_vec(), "192.0.2.7:5555"),
            (b"PROXY TCP6 2001:db8::1 ::1 1 80\r\n".to_vec(), "[2001:db8::1]:1"),
            (version_2([198, 51, 100, 9], 77), "198.51.100.9:77"),
            (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1:"),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "127.0.0.1:"),
        ];
        for (header, client) in &headers {
            for is_split in [false, true] {
                let mut connection = Connection::open(server.address);
                if is_split {
                    // Byte by byte, with the request on the heels of the header.
                    for byte in &header[..header.len() - 1] {
                        connection.send([*byte]);
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    connection.send(&header[header.len() - 1..]);
                } else {
                    connection.send(header);
                }
                let path = format!("/hello?of={}", server.records(|record| record["path"].is_string()).len());
                assert_eq!(connection.get(&path).status, 200, "{component} {kind} {client}");
                assert_eq!(connection.get("/count").status, 200, "{component} {kind}: and the next");
                let line = server.wait_for_record("its line", |record| record["path"] == path.as_str());
                assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with(client)), "{client}: {line}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_connection_without_a_valid_header_or_from_elsewhere_is_closed() -> TestResult {
    for kind in KINDS {
        let flags = [&BALANCED[..], &["--worker-kind", kind, "--header-timeout", "1s"]].concat();
        let server = Server::start("hello.wasm", &flags);
        let ended = |bytes: &[u8]| -> std::io::Result<Vec<u8>> {
            let mut stream = TcpStream::connect(server.address)?;
            stream.set_read_timeout(Some(CEILING))?;
            stream.write_all(bytes)?;
            let mut answer = Vec::new();
            match stream.read_to_end(&mut answer) {
                Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error),
                _ => Ok(answer),
            }
        };
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".as_slice(),
            b"PROXY TCP4 192.0.2.7 127.0.0.1 05 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"PROXY TCP4 192.0.2.7\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c0123456789ab",
            &long,
            // Not whole in time.
            b"PROXY TCP4 192.0.2.7",
            b"",
        ] {
            assert_eq!(ended(bytes)?, b"", "{kind}: {:?}", String::from_utf8_lossy(bytes));
        }
        eventually("they are counted", || {
            let count = |reason: &str| server.sum(&format!("handshake_failures.{reason}"));
            (count("proxy-header"), count("late")) == (5, 2)
        });
        let mut good = Connection::open(server.address);
        good.send("PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\n");
        assert_eq!(good.get("/").status, 200, "{kind}");

        let flags = ["--proxy-protocol", "--trust-proxy", "192.0.2.0/24", "--worker-kind", kind];
        let elsewhere = Server::start("hello.wasm", &flags);
        let mut stream = TcpStream::connect(elsewhere.address)?;
        stream.set_read_timeout(Some(CEILING))?;
        stream.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{kind}");
        eventually("it is counted", || elsewhere.sum("handshake_failures.untrusted-proxy") == 1);
    }
    Ok(())
}

#[test]
fn a_client_behind_a_balancer_has_no_more_connections_than_one_in_front() -> TestResult {
    for kind in KINDS {
        let flags = [&BALANCED[..], &["--worker-kind", kind, "--max-connections-per-client", "4"]].concat();
        let server = Server::start("hello.wasm", &flags);
        let open = |client: &str| {
            let mut connection = Connection::open(server.address);
            connection.send(format!("PROXY TCP4 {client} 127.0.0.1 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
            connection
        };
        let mut kept: Vec<Connection> = (0..4).map(|_| open("192.0.2.1")).collect();
        assert!(kept.iter_mut().all(|connection| connection.response().status == 200), "{kind}");
        assert!(open("192.0.2.1").try_response(false).is_none(), "{kind}: one too many");
        assert_eq!(open("192.0.2.2").response().status, 200, "{kind}: another client");
        drop(kept);
        eventually("those that end make room", || {
            open("192.0.2.1").try_response(false).is_some_and(|response| response.status == 200)
        });
    }
    Ok(())
}

#[test]
fn the_connections_of_such_a_client_are_counted_on_all_workers_together() -> TestResult {
    for kind in KINDS {
        let flags = ["--worker-kind", kind, "--workers", "2", "--max-connections-per-client", "3"];
        let server = Server::start("hello.wasm", &[&BALANCED[..], &flags].concat());
        let open = |client: &str| {
            let mut connection = Connection::open(server.address);
            connection.send(format!("PROXY TCP4 {client} 127.0.0.1 5 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"));
            let status = connection.try_response(false).map(|response| response.status);
            (connection, status)
        };
        // Workers get connections in turn: all of the one are on one worker, and all of the other on the other.
        let mut kept = Vec::new();
        for _ in 0..3 {
            for client in ["192.0.2.1", "192.0.2.2"] {
                let (connection, status) = open(client);
                assert_eq!(status, Some(200), "{kind}: {client}");
                kept.push(connection);
            }
        }
        // On whatever worker.
        for client in ["192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.2", "192.0.2.2"] {
            assert_eq!(open(client).1, None, "{kind}: {client}");
        }
        assert_eq!(server.sum("handshake_failures.per-client"), 5, "{kind}");
        // What a process had that is killed is free.
        if kind == "process" {
            let workers = server.worker_pids();
            workers.iter().for_each(|pid| crate::support::server::signal(*pid, "KILL"));
            eventually("others are there", || {
                let now = server.worker_pids();
                now.len() == workers.len() && now.iter().all(|pid| !workers.contains(pid))
            });
        } else {
            drop(kept);
        }
        let mut again = Vec::new();
        eventually("they make room", || {
            let (connection, status) = open("192.0.2.1");
            again.extend(status.is_some().then_some(connection));
            again.len() == 3
        });
        assert_eq!(open("192.0.2.1").1, None, "{kind}");
    }
    Ok(())
}

#[test]
fn the_header_comes_before_tls_and_guests_hear_of_the_client() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let text = format!(
        "listen = \"127.0.0.1:0\"\nproxy-protocol = true\ntrust-proxy = [\"127.0.0.0/8\"]\ntls = {{ cert = \"{}\", key = \"{}\" }}\n{}",
        files.cert.display(),
        files.key.display(),
        crate::support::apps::app("one", "faults.wasm", "*", "forwarded-headers = true"),
    );
    let settings = crate::support::apps::Folder::new(&text)?;
    let mut command = crate::support::command();
    command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    let config = authority.trusted(VERSIONS, None);
    let open = || TlsClient::open_behind(server.address, &config, "a.test", &version_2([203, 0, 113, 5], 999));
    eventually("the app is loaded", || {
        open().and_then(|mut client| client.get("/hello", "")).is_ok_and(|response| response.status == 200)
    });
    let seen = open()?.get("/request", "x-forwarded-for: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n")?.text();
    assert!(seen.contains("forwarded: for=\"203.0.113.5:999\";host=test;proto=https"), "{seen}");
    assert!(seen.contains("x-forwarded-for: 203.0.113.5\n"), "{seen}");
    assert!(seen.contains("x-forwarded-proto: https") && seen.contains("x-forwarded-host: test"), "{seen}");
    assert!(!seen.contains("6.6.6.6"), "{seen}");
    // A balancer that does not know the client passes on what somebody says: nobody may claim to be another one.
    for unnamed in
        [b"PROXY UNKNOWN\r\n".as_slice(), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0"]
    {
        let mut somebody = TlsClient::open_behind(server.address, &config, "a.test", unnamed)?;
        let claims = "x-forwarded-for: 6.6.6.6\r\nx-forwarded-host: evil\r\nclient-cert: :ZXZpbA==:\r\nclient-cert-subject: CN=root\r\n";
        let seen = somebody.get("/request", claims)?.text();
        assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{unnamed:?}: {seen}");
        assert!(!["6.6.6.6", "evil", "client-cert"].iter().any(|claim| seen.contains(claim)), "{unnamed:?}: {seen}");
    }
    Ok(())
}

#[test]
fn a_listener_that_believes_everybody_is_refused() {
    let mut command = crate::support::command();
    command.arg(crate::support::guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--proxy-protocol"]);
    let failed = crate::support::run(command);
    assert_eq!(failed.code, Some(2), "{}", failed.stderr);
    assert!(failed.stderr.contains("needs `trust-proxy`"), "{}", failed.stderr);
    let server = Server::start("hello.wasm", &BALANCED);
    let told = server.records(|record| message(record).contains("listening on http://"));
    assert_eq!(told.len(), 1);
}
