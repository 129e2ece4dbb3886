//! What does a guest learn of an upstream that cannot be trusted, or that does not answer? (Which ones it may reach at all
//! is asked in `isolation`.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CertifiedKey, IsCa, KeyPair, generate_simple_self_signed,
};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::isolation::{self, named};
use crate::support::{
    CEILING, Connection, FAULTS, Finished, Server, TestResult, command, eventually, free_address, get, guest, run,
};

const KINDS: [&str; 2] = ["thread", "process"];

/// An upstream that does this with each connection, and what that gave.
fn upstream<T: Send + 'static>(
    serve: impl Fn(TcpStream) -> T + Send + 'static,
) -> std::io::Result<(SocketAddr, Receiver<T>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tell, told) = channel();
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(CEILING)).expect("a time-out");
            if tell.send(serve(stream)).is_err() {
                return;
            }
        }
    })?;
    Ok((address, told))
}

/// An upstream with a certificate that it has signed itself, for all names that this machine has. Tells whether a client
/// sent it a request all the same.
fn self_signed() -> Result<(SocketAddr, Receiver<bool>), Box<dyn std::error::Error>> {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    let key = PrivateKeyDer::try_from(signing_key.serialize_der())?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![cert.der().clone()], key)?;
    let config = Arc::new(config);
    Ok(upstream(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
        let mut stream = StreamOwned::new(connection, stream);
        let asked = stream.read(&mut [0; 1024]).is_ok_and(|read| read > 0);
        // Were the client content, it would have its answer.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        asked
    })?)
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_an_error_for_the_guest_and_no_request_is_sent() -> TestResult {
    let (address, asked) = self_signed()?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "localhost,127.0.0.1"]);
        for host in ["localhost", "127.0.0.1"] {
            let began = Instant::now();
            let response = get(server.address, &format!("/fetch?url=https://{host}:{}/secret", address.port()));
            let text = response.text();
            assert_eq!(response.status, 502, "{component} {host}: {text}");
            assert!(named(&text, "TlsCertificateError"), "{component} {host}: {text}");
            assert!(began.elapsed() < Duration::from_secs(5), "{component} {host}: {:?}", began.elapsed());
            assert!(!asked.recv_timeout(CEILING)?, "{component} {host}: the request was sent");
        }
        assert_eq!(get(server.address, "/hello").status, 200, "{component}: an error is no fault");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_speaks_no_tls_is_an_error_of_the_protocol() -> TestResult {
    let (address, _told) = upstream(|mut stream| {
        let read = stream.read(&mut [0; 1024]);
        read.and_then(|_| stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")).is_ok()
    })?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
        let response = get(server.address, &format!("/fetch?url=https://{address}/"));
        assert_eq!(response.status, 502, "{component}");
        assert!(named(&response.text(), "TlsProtocolError"), "{component}: {}", response.text());
    }
    Ok(())
}

/// An upstream that says only these bytes, and tells whether the client then closed its connection.
fn says_only(bytes: &'static [u8]) -> std::io::Result<(SocketAddr, Receiver<bool>)> {
    upstream(move |mut stream| {
        let mut some = [0; 1024];
        // A request, or a TLS client's first words.
        let mut read = stream.read(&mut some);
        if stream.write_all(bytes).is_err() {
            return true;
        }
        loop {
            match read {
                Ok(0) => return true,
                Ok(_) => read = stream.read(&mut some),
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    })
}

#[test]
fn an_upstream_that_never_answers_is_given_up_with_its_request_and_its_connection_closed() -> TestResult {
    let (address, closed) = says_only(b"")?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1", "--request-timeout", "400ms"]);
        // The response never comes; the handshake never ends.
        for scheme in ["http", "https"] {
            let began = Instant::now();
            let response = get(server.address, &format!("/fetch?url={scheme}://{address}/"));
            assert_eq!(response.status, 504, "{component} {scheme}: {}", response.text());
            let took = began.elapsed();
            assert!(
                took >= Duration::from_millis(350) && took < Duration::from_secs(5),
                "{component} {scheme}: {took:?}"
            );
            assert!(closed.recv_timeout(CEILING)?, "{component} {scheme}: the upstream's connection stays");
        }
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_falls_silent_breaks_the_response_off() -> TestResult {
    let (address, closed) = says_only(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1", "--body-idle-timeout", "400ms"]);
        let response = get(server.address, &format!("/fetch?url=http://{address}/"));
        assert_eq!((response.status, response.text().as_str()), (200, "half"), "{component}");
        assert!(!response.whole, "{component}: half a body looks whole");
        assert!(closed.recv_timeout(CEILING)?, "{component}: the upstream's connection stays");
    }
    Ok(())
}

#[test]
fn an_upstream_that_breaks_off_its_answer_never_makes_a_whole_one() -> TestResult {
    for bytes in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let (address, _told) = upstream(move |mut stream| {
            let read = stream.read(&mut [0; 1024]);
            read.and_then(|_| stream.write_all(bytes)).is_ok()
        })?;
        for component in FAULTS {
            let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
            let response = get(server.address, &format!("/fetch?url=http://{address}/"));
            assert!(!(response.status == 200 && response.whole), "{component}: {response:?}");
            assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        }
    }
    Ok(())
}

/// A certificate authority, its root certificate in a file, and a server that it vouches for, which answers every
/// request with `secure`.
fn vouched_for(root: &std::path::Path) -> Result<SocketAddr, Box<dyn std::error::Error>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let der = root.with_extension("der");
    std::fs::write(&der, authority.der())?;
    let base64 = std::process::Command::new("base64").args(["-w", "64"]).arg(&der).output()?;
    let base64 = String::from_utf8(base64.stdout)?;
    let pem = format!("# A comment.\n-----BEGIN CERTIFICATE-----\n{base64}-----END CERTIFICATE-----\n");
    std::fs::write(root, pem)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
    let config = Arc::new(config);
    let (address, told) = upstream(move |stream| {
        let connection = ServerConnection::new(Arc::clone(&config)).expect("a TLS session");
        let mut stream = StreamOwned::new(connection, stream);
        // A client that does not trust it leaves.
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 6\r\n\r\nsecure");
        let _ = stream.flush();
    })?;
    // Nobody asks what came of it; without this it would end after the first connection.
    std::mem::forget(told);
    Ok(address)
}

#[test]
fn a_root_certificate_that_was_given_is_trusted_besides_mozillas() -> TestResult {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("root.pem");
    let address = vouched_for(&root)?;
    let stranger = dir.path().join("stranger.pem");
    vouched_for(&stranger)?;
    for kind in KINDS {
        for component in FAULTS {
            for (file, trusted) in [(&root, true), (&stranger, false)] {
                let file = file.to_str().ok_or("UTF-8")?;
                let flags = ["--allow-host", "localhost,127.0.0.1", "--ca-file", file, "--worker-kind", kind];
                let server = Server::start(component, &flags);
                for host in ["localhost", "127.0.0.1"] {
                    let what = format!("{kind} {component} {host} {file}");
                    let response = get(server.address, &format!("/fetch?url=https://{host}:{}/", address.port()));
                    let text = response.text();
                    if trusted {
                        assert_eq!((response.status, text.as_str()), (200, "secure"), "{what}");
                        assert_eq!(response.header("x-upstream-status"), Some("201"), "{what}");
                        assert!(response.whole, "{what}");
                    } else {
                        assert_eq!(response.status, 502, "{what}: {text}");
                        assert!(named(&text, "TlsCertificateError"), "{what}: {text}");
                    }
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_file_of_root_certificates_that_cannot_be_used_is_told_before_the_start() -> TestResult {
    let dir = tempfile::tempdir()?;
    let damaged = dir.path().join("damaged.pem");
    std::fs::write(&damaged, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")?;
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n")?;
    let bytes = dir.path().join("bytes.der");
    std::fs::write(&bytes, [0xff; 100])?;
    for (file, reason) in [
        (&damaged, "certificate 1 cannot be a root"),
        (&empty, "holds no certificate"),
        (&bytes, "is not a text"),
        (&dir.path().join("gone.pem"), "cannot be read"),
        (&dir.path().to_owned(), "is not a regular file"),
    ] {
        let mut command = command();
        command.arg(guest("hello.wasm")).arg("--ca-file").arg(file);
        let Finished { code, stderr, .. } = run(command);
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("--ca-file") && stderr.contains(reason), "{reason}: {stderr}");
    }
    Ok(())
}

/// An upstream whose responses never end, and who tells of each connection that is closed.
fn never_ends() -> std::io::Result<(SocketAddr, Receiver<()>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (tell, told) = channel();
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            let serve = move || {
                let begun = stream
                    .read(&mut [0; 1024])
                    .and_then(|_| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nhalf"));
                if begun.is_ok() {
                    // Until the client closes it.
                    while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
                }
                // The test may be over.
                let _ = tell.send(());
            };
            thread::Builder::new().name("connection".to_owned()).spawn(serve).expect("a thread");
        }
    })?;
    Ok((address, told))
}

#[test]
fn responses_that_an_instance_keeps_unread_leave_the_others_their_requests_and_are_closed() -> TestResult {
    let upstream = isolation::upstream();
    for kind in KINDS {
        for component in FAULTS {
            let what = format!("{kind} {component}");
            let (hoarded, closed) = never_ends()?;
            let server = Server::start(
                component,
                &[
                    "--workers",
                    "1",
                    "--worker-kind",
                    kind,
                    "--allow-host",
                    "127.0.0.1",
                    "--isolation",
                    "worker",
                    "--body-idle-timeout",
                    "3s",
                ],
            );
            let kept = get(server.address, &format!("/fetch-keep?count=256&url=http://{hoarded}/"));
            let text = kept.text();
            let (taken, refused) = text.split_once('\n').ok_or("two outcomes")?;
            assert_eq!(taken, "200: 128", "{what}: an instance alone has half: {text}");
            assert!(named(refused, "connection-limit-reached: 128"), "{what}: {text}");
            eventually("the hoarder is at rest", || server.sum("in_flight") == 0);
            // While the hoarder is busy, another instance has the next requests.
            let mut busy = Connection::open(server.address);
            busy.send("GET /sleep?ms=2000 HTTP/1.1\r\nHost: test\r\n\r\n");
            eventually("the hoarder is busy", || server.sum("in_flight") == 1);
            for _ in 0..3 {
                let fetched = get(server.address, &format!("/fetch?url=http://{upstream}/"));
                assert_eq!(fetched.header("x-upstream-status"), Some("203"), "{what}: {}", fetched.text());
            }
            assert_eq!(busy.response().text(), "slept", "{what}");
            // Nobody reads what was kept.
            let began = Instant::now();
            for _ in 0..128 {
                closed.recv_timeout(CEILING)?;
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
            eventually("the hoarder has its share again", || {
                get(server.address, &format!("/fetch-keep?count=128&url=http://{hoarded}/")).text() == "200: 128\n"
            });
        }
    }
    Ok(())
}

/// An upstream that sends without end, as fast as it can.
fn floods() -> std::io::Result<SocketAddr> {
    let (address, told) = upstream(|mut stream| {
        let begun = stream
            .read(&mut [0; 1024])
            .and_then(|_| stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n"));
        let piece = vec![b'x'; 1 << 16];
        while begun.is_ok() && stream.write_all(&piece).is_ok() {}
    })?;
    // Nobody asks what came of it; without this it would end after the first connection.
    std::mem::forget(told);
    Ok(address)
}

#[test]
fn what_the_host_does_for_an_outgoing_request_counts_as_cpu_time_of_its_request() -> TestResult {
    let address = floods()?;
    for kind in KINDS {
        // Of the first, the guest copies; of the second, the host passes the body on and the guest has nothing to do.
        for component in FAULTS {
            let flags = ["--allow-host", "127.0.0.1", "--cpu-limit", "300ms", "--worker-kind", kind];
            let server = Server::start(component, &flags);
            let mut client = TcpStream::connect(server.address)?;
            client.set_read_timeout(Some(CEILING))?;
            client.write_all(format!("GET /fetch?url=http://{address}/ HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
            let began = Instant::now();
            let mut piece = vec![0; 1 << 20];
            while began.elapsed() < CEILING && client.read(&mut piece).is_ok_and(|read| read > 0) {}
            assert!(began.elapsed() < CEILING, "{kind} {component}: {:?}", began.elapsed());
            server.wait_for_record("the limit", |record| record["limit"] == "--cpu-limit");
            assert_eq!(get(server.address, "/hello").status, 200, "{kind} {component}");
        }
    }
    Ok(())
}

#[test]
fn a_request_without_a_path_is_for_the_root() -> TestResult {
    let upstream = isolation::upstream();
    for kind in KINDS {
        for component in FAULTS {
            let server = Server::start(component, &["--allow-host", "127.0.0.1", "--worker-kind", kind]);
            let response = get(server.address, &format!("/fetch-bare?url=http://{upstream}/not/this"));
            let text = response.text();
            assert_eq!(response.status, 200, "{kind} {component}: {text}");
            assert!(text.starts_with("GET / HTTP/1.1\r\n"), "{kind} {component}: {text}");
        }
    }
    Ok(())
}

#[test]
fn a_request_that_was_never_transmitted_does_not_say_that_it_was() -> TestResult {
    let upstream = isolation::upstream();
    let gone = free_address();
    for kind in KINDS {
        // wasi 0.3 only: 0.2 has no such result.
        let server = Server::start("faults-p3.wasm", &["--allow-host", "127.0.0.1", "--worker-kind", kind]);
        let told = |url: &str| get(server.address, &format!("/transmitted?url={url}")).text();
        assert_eq!(told(&format!("http://{upstream}/")), "Ok(())", "{kind}");
        let refused = told(&format!("http://{gone}/"));
        assert!(named(&refused, "Err(") && named(&refused, "ConnectionRefused"), "{kind}: {refused}");
        let denied = told("http://elsewhere.test/");
        assert!(named(&denied, "HttpRequestDenied"), "{kind}: {denied}");
        let dropped = told("");
        assert!(dropped.starts_with("Err("), "{kind}: {dropped}");
    }
    Ok(())
}
