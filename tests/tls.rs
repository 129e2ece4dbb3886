//! TLS towards clients: who gets which certificate, who is asked for one, what a guest learns of it, how sessions are
//! resumed, what becomes of files that change, and what a client that does it wrong costs others.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio_rustls::rustls::{ClientConfig, version};

use crate::support::apps::{Folder, app, reload};
use crate::support::http2::{Asked, Http2};
use crate::support::tls::{Authority, Files, TlsClient, VERSIONS};
use crate::support::{CEILING, Connection, FAULTS, Server, TestResult, command, eventually, get, guest, message, run};

const KINDS: [&str; 2] = ["thread", "process"];

/// A server that speaks TLS with this certificate.
fn speaking(component: &str, files: &Files, flags: &[&str]) -> Server {
    let tls = files.flags();
    let all: Vec<&str> = tls.iter().map(String::as_str).chain(flags.iter().copied()).collect();
    Server::start(component, &all)
}

#[test]
fn both_versions_are_spoken_and_the_guest_sees_https() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    for (component, kind) in FAULTS.iter().flat_map(|component| KINDS.map(|kind| (component, kind))) {
        let server = speaking(component, &files, &["--worker-kind", kind, "--access-log"]);
        for spoken in [&version::TLS12, &version::TLS13] {
            let config = authority.trusted(&[spoken], None);
            let mut client = TlsClient::open(server.address, &config, "a.test")?;
            assert_eq!(client.stream.conn.protocol_version(), Some(spoken.version));
            assert_eq!(client.stream.conn.alpn_protocol(), None, "the client named no protocol");
            for _ in 0..3 {
                let seen = client.get("/request?x=1", "")?.text();
                assert!(seen.contains("https"), "{component} {kind}: {seen}");
            }
        }
        assert_eq!(server.sum("tls_handshakes"), 2, "{component} {kind}");
        assert_eq!(get_plain(&server).unwrap_or_default(), "", "who speaks no TLS gets no answer in plain text");
        eventually("it is counted", || server.sum("handshake_failures.failed") == 1);
    }
    Ok(())
}

#[test]
fn http2_is_chosen_in_the_handshake() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for (component, kind) in FAULTS.iter().flat_map(|component| KINDS.map(|kind| (component, kind))) {
        let server = speaking(component, &files, &["--worker-kind", kind, "--hsts", "max-age=9"]);
        let mut client = Http2::open_tls(server.address, ClientConfig::clone(&config), "a.test")?;
        let mut asked: Vec<Asked> = (0..40).map(|_| Asked::get("/sleep?ms=50")).collect();
        asked.push(Asked::get("/request"));
        asked.push(Asked::get("/trailers"));
        let piece = vec![7; 30_000];
        asked.push(Asked::post("/echo", &[piece.as_slice(); 20]));
        asked.push(Asked::get("/stream?chunks=100&bytes=20000"));
        let answers: Vec<_> = client.all(asked).into_iter().map(|(_, answer)| answer).collect::<Result<_, _>>()?;
        assert!(answers.iter().all(|answer| answer.status == 200), "{component} {kind}");
        assert!(answers.iter().all(|answer| answer.headers["strict-transport-security"] == "max-age=9"));
        assert!(answers[40].text().contains("scheme: https"), "{component}: {}", answers[40].text());
        assert!(answers[41].trailers.is_some(), "{component}");
        assert_eq!((answers[42].body.len(), answers[43].body.len()), (600_000, 2_000_000), "{component}");
        assert_eq!(server.sum("http2_connections"), 1, "{component} {kind}");
        // Who offers HTTP/1.1 alone gets that.
        assert_eq!(TlsClient::open(server.address, &config, "a.test")?.get("/hello", "")?.status, 200);
        assert_eq!(server.sum("http2_connections"), 1, "{component} {kind}");
    }
    // Switched off, nobody is offered it, and who speaks nothing else hears so in the handshake.
    let server = speaking("hello.wasm", &files, &["--http2-streams-max", "0"]);
    let refused = Http2::open_tls(server.address, ClientConfig::clone(&config), "a.test").err();
    assert!(refused.is_some_and(|error| error.to_string().contains("NoApplicationProtocol")));
    assert_eq!(TlsClient::open(server.address, &config, "a.test")?.get("/", "")?.status, 200);
    Ok(())
}

/// What a client gets that speaks no TLS.
fn get_plain(server: &Server) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.set_read_timeout(Some(CEILING))?;
    stream.write_all(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    // An alert (RFC 8446, section 6): type 21.
    Ok(if bytes.first() == Some(&21) { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() })
}

#[test]
fn bodies_of_any_size_pass_both_ways_and_a_slow_reader_gets_all() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for component in FAULTS {
        let server = speaking(component, &files, &[]);
        let mut client = TlsClient::open(server.address, &config, "a.test")?;
        for bytes in [0, 1, 16_384, 16_385, 100_000, 3_000_000] {
            let body: Vec<u8> = (0..bytes).map(|at: u32| u8::try_from(at % 251).unwrap_or(0)).collect();
            let head = format!("POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
            let said = client.ask(&[head.as_bytes(), &body].concat())?;
            assert_eq!(said.text().trim(), format!("bytes: {bytes}"), "{component}");
        }
        // Many times what sockets and sessions hold.
        let head = "GET /stream?chunks=400&bytes=20000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        client.stream.write_all(head.as_bytes())?;
        client.stream.flush()?;
        let (mut all, mut part) = (0, vec![0; 50_000]);
        loop {
            let read = client.stream.read(&mut part)?;
            if read == 0 {
                break;
            }
            all += read;
            if all < 1_000_000 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(all > 8_000_000, "{component}: {all} bytes, and a closing word");
    }
    Ok(())
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let first = authority.server(folder.path(), "first", &["first.test", "www.first.test"], 30);
    let wild = authority.server(folder.path(), "wild", &["*.wild.test"], 30);
    let third = authority.server(folder.path(), "third", &["third.test"], 30);
    let flags: Vec<String> = [&first, &wild, &third].iter().flat_map(|files| files.flags()).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let server = Server::start("hello.wasm", &flags);
    let config = authority.trusted(VERSIONS, None);
    let given = |name: &str| TlsClient::open(server.address, &config, name).map(|client| client.certificate());
    let of = |name: &str| given(name).map_err(|error| format!("{name}: {error}"));
    assert_eq!(of("first.test")?, of("www.first.test")?);
    assert_eq!(of("FIRST.test")?, of("first.test")?);
    assert_eq!(of("a.wild.test")?, of("b.wild.test")?);
    assert_ne!(of("a.wild.test")?, of("third.test")?);
    assert_ne!(of("first.test")?, of("third.test")?);
    // A wildcard stands for one label; and for no name there is the first, which such a client does not trust.
    for stranger in ["wild.test", "a.b.wild.test", "nobody.test"] {
        let error = given(stranger).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("certificate"), "{stranger}: {error}");
    }
    Ok(())
}

#[test]
fn a_session_is_resumed_by_any_worker() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    for (spoken, kind) in [&version::TLS12, &version::TLS13].iter().flat_map(|spoken| KINDS.map(|kind| (spoken, kind)))
    {
        let server = speaking("hello.wasm", &files, &["--worker-kind", kind, "--workers", "3"]);
        let config = authority.trusted(&[spoken], None);
        let mut resumed = Vec::new();
        // Connections go to the workers in turn.
        for _ in 0..7 {
            let mut client = TlsClient::open(server.address, &config, "a.test")?;
            assert_eq!(client.get("/", "")?.status, 200);
            resumed.push(client.is_resumed());
        }
        assert_eq!(resumed, [false, true, true, true, true, true, true], "{kind} {spoken:?}");
        assert_eq!(server.sum("tls_resumptions"), 6, "{kind}");
    }
    Ok(())
}

#[test]
fn clients_are_asked_for_certificates_and_guests_see_whose_they_are() -> TestResult {
    let folder = tempfile::tempdir()?;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let (known, unknown) =
        (authority.client(folder.path(), "known", "Ann\r\nX: y, é"), stranger.client(folder.path(), "unknown", "Eve"));
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, authority.pem())?;
    let roots = roots.display().to_string();
    // Whatever a client says of certificates itself, and however it writes it.
    let forged = "client-cert: :AAAA:\r\nClient-Cert-Subject: CN=root\r\nCLIENT-CERT: x\r\nclient-cert-chain: :AAAA:\r\nclient_cert: :AAAA:\r\n";
    for (component, when) in FAULTS.iter().flat_map(|component| ["required", "optional"].map(|when| (component, when)))
    {
        let flags = ["--tls-client-ca", &roots, "--tls-client-auth", when];
        let server = speaking(component, &files, &flags);
        let open = |client: Option<&Files>| -> std::io::Result<String> {
            let mut client = TlsClient::open(server.address, &authority.trusted(VERSIONS, client), "a.test")?;
            client.get("/request", forged).map(|seen| seen.text())
        };
        let seen = open(Some(&known))?;
        let lower = seen.to_ascii_lowercase();
        assert!(lower.contains("client-cert: :mi"), "{component}: {seen}");
        assert!(seen.contains("O=Tests, CN=Ann\\0D\\0AX: y\\, \\C3\\A9"), "{component}: {seen}");
        assert!(!seen.contains("root") && !seen.contains(":AAAA:"), "{component}: {seen}");
        // (With TLS 1.3, the client hears of it after its own last word.)
        assert!(open(Some(&unknown)).is_err(), "{component} {when}: nobody that is known has signed it");
        match open(None) {
            Err(_) => assert_eq!(when, "required", "{component}"),
            Ok(seen) => {
                assert_eq!(when, "optional", "{component}");
                assert!(!seen.contains("AAAA") && !seen.contains("root"), "{component}: {seen}");
            }
        }
    }
    // Without TLS, or without a certificate to be asked for, nobody can say who it is.
    let plain = Server::start("faults.wasm", &[]);
    let mut client = Connection::open(plain.address);
    client.send(format!("GET /request HTTP/1.1\r\nHost: a\r\n{forged}\r\n"));
    let seen = client.response().text();
    assert!(!seen.contains("AAAA") && !seen.contains("root"), "{seen}");
    // But a proxy that is trusted and shakes hands in the host's place (RFC 9440).
    let behind = Server::start("faults.wasm", &["--trust-proxy", "127.0.0.1/32"]);
    let mut proxy = Connection::open(behind.address);
    proxy.send(format!("GET /request HTTP/1.1\r\nHost: a\r\n{forged}\r\n"));
    assert!(proxy.response().text().contains("client-cert: :AAAA:"));
    Ok(())
}

#[test]
fn no_session_takes_a_client_past_the_question_for_its_certificate() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let ann = authority.client(folder.path(), "ann", "Ann");
    fs::write(folder.path().join("roots.pem"), authority.pem())?;
    let tls = format!("cert = \"{}\", key = \"{}\"", files.cert.display(), files.key.display());
    let settings = Folder::new(&format!(
        "[[listener]]\nlisten = \"127.0.0.1:0\"\ntls = {{ {tls} }}\n[[listener]]\nlisten = \"127.0.0.2:0\"\ntls = {{ {tls}, client-ca = \"{}\" }}\n{}",
        folder.path().join("roots.pem").display(),
        app("hello", "hello.wasm", "*", "")
    ))?;
    let mut command = command();
    command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    let [open, asking] = server.addresses()[..] else { return Err("two addresses".into()) };
    for spoken in [&version::TLS12, &version::TLS13] {
        let config = authority.trusted(&[spoken], None);
        eventually("the app is loaded", || {
            let answer = TlsClient::open(open, &config, "a.test").and_then(|mut client| client.get("/", ""));
            answer.is_ok_and(|answer| answer.status == 200)
        });
        let mut again = TlsClient::open(open, &config, "a.test")?;
        assert!(again.get("/", "")?.status == 200 && again.is_resumed(), "it has a session");
        let passed = TlsClient::open(asking, &config, "a.test").and_then(|mut client| client.get("/", ""));
        assert!(passed.is_err(), "{spoken:?}: a session of the other address is no certificate");
        // Where clients are asked, each handshake is a whole one: what is revoked or ended is seen.
        let config = authority.trusted(&[spoken], Some(&ann));
        for _ in 0..3 {
            let mut client = TlsClient::open(asking, &config, "a.test")?;
            assert!(client.get("/", "")?.status == 200 && !client.is_resumed(), "{spoken:?}");
        }
    }
    Ok(())
}

#[test]
fn a_client_that_reads_is_never_taken_for_one_that_does_not() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    let server = speaking("faults.wasm", &files, &["--body-idle-timeout", "600ms", "--keepalive-timeout", "20s"]);
    // Of sizes about those at which sockets and sessions are full, read at once.
    let mut waiting = Vec::new();
    for bytes in (1..60).map(|times| times * 31_000) {
        let mut client = TlsClient::open(server.address, &config, "a.test")?;
        let head = format!("GET /stream?chunks=1&bytes={bytes} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.stream.write_all(head.as_bytes())?;
        client.stream.flush()?;
        let (mut all, mut part) = (Vec::new(), vec![0; 65_536]);
        // In chunks, or with its length.
        let is_whole = |all: &[u8]| {
            let head = all.windows(4).position(|four| four == b"\r\n\r\n");
            head.is_some_and(|head| all.ends_with(b"\r\n0\r\n\r\n") || all.len() == head + 4 + bytes)
        };
        while !is_whole(&all) {
            let read = client.stream.read(&mut part)?;
            assert!(read > 0, "{bytes}");
            all.extend_from_slice(&part[..read]);
        }
        waiting.push((bytes, client));
    }
    std::thread::sleep(Duration::from_millis(1_200));
    for (bytes, client) in &mut waiting {
        client.stream.write_all(b"GET /sleep?ms=1 HTTP/1.1\r\nHost: a\r\n\r\n")?;
        client.stream.flush()?;
        assert_eq!(client.response().map_err(|error| format!("{bytes}: {error}"))?.text(), "slept");
    }
    assert!(server.records(|record| message(record).contains("stopped reading")).is_empty());
    Ok(())
}

#[test]
fn a_last_word_that_comes_with_the_request_ends_the_connection() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let server = speaking("hello.wasm", &files, &[]);
    for spoken in [&version::TLS12, &version::TLS13] {
        let mut client = TlsClient::open(server.address, &authority.trusted(&[spoken], None), "a.test")?;
        client.stream.conn.writer().write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")?;
        client.stream.conn.send_close_notify();
        let mut bytes = Vec::new();
        while client.stream.conn.wants_write() {
            client.stream.conn.write_tls(&mut bytes)?;
        }
        client.stream.sock.write_all(&bytes)?;
        let began = Instant::now();
        let mut all = Vec::new();
        client.stream.read_to_end(&mut all)?;
        assert!(String::from_utf8_lossy(&all).starts_with("HTTP/1.1 200"), "{spoken:?}");
        assert!(began.elapsed() < CEILING / 4, "{spoken:?}: it is ended at once");
    }
    Ok(())
}

#[test]
fn clients_that_say_nothing_keep_neither_others_out_nor_the_host_from_stopping() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for kind in KINDS {
        let mut server = speaking("hello.wasm", &files, &["--worker-kind", kind, "--workers", "1"]);
        let silent: Vec<TcpStream> =
            (0..1_200).map(|_| TcpStream::connect(server.address)).collect::<Result<_, _>>()?;
        eventually("all are there", || server.sum("open_connections") >= 1_200);
        assert_eq!(TlsClient::open(server.address, &config, "a.test")?.get("/", "")?.status, 200, "{kind}");
        server.signal("TERM");
        let began = Instant::now();
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
        assert!(began.elapsed() < Duration::from_secs(7), "{kind}: {:?}", began.elapsed());
        drop(silent);
    }
    Ok(())
}

#[test]
fn a_certificate_that_ends_while_the_host_runs_keeps_no_other_change_back() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let ended = authority.server(folder.path(), "ended", &["a.test"], -2);
    let text = |path: &str| {
        format!(
            "listen = \"127.0.0.1:0\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n{}",
            files.cert.display(),
            files.key.display(),
            app("hello", "hello.wasm", path, "")
        )
    };
    let settings = Folder::new(&text("*"))?;
    let mut command = command();
    command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    let server = Server::spawn(command);
    fs::copy(&ended.cert, &files.cert)?;
    fs::copy(&ended.key, &files.key)?;
    settings.write(&text("b.test/*"))?;
    reload(&server);
    server.wait_for_record("that it has ended", |record| message(record).contains("a certificate has ended"));
    let apps = server.status()["apps"].to_string();
    assert!(server.records(|record| message(record).contains("reload failed")).is_empty(), "{apps}");
    Ok(())
}

#[test]
fn a_group_hears_what_its_front_knows_of_a_client() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let known = authority.client(folder.path(), "known", "Ann");
    fs::write(folder.path().join("roots.pem"), authority.pem())?;
    let path = folder.path().display();
    let settings = Folder::new(&format!(
        "listen = \"127.0.0.1:0\"\ntls = {{ cert = \"{}\", key = \"{}\", client-ca = \"{path}/roots.pem\", client-auth = \"optional\" }}\n{}",
        files.cert.display(),
        files.key.display(),
        app("one", "faults.wasm", "*", "group = \"g\""),
    ))?;
    let mut command = command();
    command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    command.env_remove("WASMHOST_WORKER_KIND");
    let server = Server::spawn(command);
    let forged = "client-cert: :AAAA:\r\nclient-cert-subject: CN=root\r\n";
    for (client, has) in [(Some(&known), true), (None, false)] {
        let mut client = TlsClient::open(server.address, &authority.trusted(VERSIONS, client), "a.test")?;
        let mut seen = String::new();
        eventually("the app is loaded", || {
            let response = client.get("/request", forged);
            seen = response.as_ref().map(|response| response.text()).unwrap_or_default();
            response.is_ok_and(|response| response.status == 200)
        });
        assert!(seen.contains("https"), "{seen}");
        assert_eq!(seen.contains("CN=Ann"), has, "{seen}");
        assert!(!seen.contains("root") && !seen.contains(":AAAA:"), "{seen}");
    }
    Ok(())
}

#[test]
fn files_that_change_are_taken_without_a_word_and_broken_ones_are_not() -> TestResult {
    for kind in KINDS {
        let folder = tempfile::tempdir()?;
        let (authority, other) = (Authority::new(), tempfile::tempdir()?);
        let files = authority.server(folder.path(), "a", &["a.test"], 30);
        let server = speaking("hello.wasm", &files, &["--worker-kind", kind]);
        let config = authority.trusted(&[&version::TLS12], None);
        let open = || TlsClient::open(server.address, &authority.trusted(VERSIONS, None), "a.test");
        let mut kept = TlsClient::open(server.address, &config, "a.test")?;
        assert_eq!(kept.get("/", "")?.status, 200, "{kind}");
        let before = open()?.certificate();
        assert_eq!(kept.certificate(), before);

        let newer = authority.server(other.path(), "b", &["a.test"], 300);
        // A moment in which the two do not belong together.
        fs::copy(&newer.cert, &files.cert)?;
        server.signal("HUP");
        let wrong = server.wait_for_record("that they do not belong together", |record| {
            message(record).contains("certificates that were read last go on")
        });
        assert!(message(&wrong).contains("is not that of the certificate"), "{wrong}");
        assert_eq!(open()?.certificate(), before, "{kind}");

        fs::copy(&newer.key, &files.key)?;
        // Without a word: within ten seconds.
        eventually("new connections get the new one", || open().is_ok_and(|client| client.certificate() != before));
        assert_eq!(kept.get("/", "")?.status, 200, "{kind}: the old connection goes on");
        let days = |server: &Server| server.status()["tls_certificate_days_left"].to_string();
        assert!(days(&server).contains("300"), "{kind}: {}", days(&server));
        // A worker that is started later has it, too.
        assert_eq!(open()?.get("/", "")?.status, 200);
    }
    Ok(())
}

#[test]
fn files_that_cannot_be_used_are_told_of_at_the_start_and_by_config_check() -> TestResult {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let authority = Authority::new();
    let good = authority.server(folder.path(), "good", &["a.test"], 30);
    let other = authority.server(folder.path(), "other", &["a.test"], 30);
    let ended = authority.server(folder.path(), "ended", &["a.test"], -3);
    fs::write(path("empty.pem"), "nothing\n")?;
    fs::write(path("binary.pem"), [0x30, 0x82, 0xff, 0xfe])?;
    fs::write(
        path("locked.key"),
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    )?;
    let rows: [(&Path, &Path, &str); 8] = [
        (&good.cert, &other.key, "is not that of the certificate"),
        (&ended.cert, &ended.key, "ended 3 days ago"),
        (&path("none.pem"), &good.key, "cannot be read"),
        (&path("empty.pem"), &good.key, "holds no certificate"),
        (&path("binary.pem"), &good.key, "must be in PEM"),
        (&good.cert, &path("empty.pem"), "holds no private key"),
        (&good.cert, &path("locked.key"), "is encrypted"),
        (&good.cert, folder.path(), "is not a regular file"),
    ];
    for (cert, key, expected) in rows {
        let mut start = command();
        start.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0"]);
        let failed = run({
            start.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key);
            start
        });
        assert_eq!(failed.code, Some(1), "{expected}: {}", failed.stderr);
        assert!(failed.stderr.contains(expected), "{expected}: {}", failed.stderr);
        assert!(!failed.stderr.contains("listening on"), "{expected}");
        let settings = Folder::new(&format!(
            "tls = {{ cert = \"{}\", key = \"{}\" }}\n{}",
            cert.display(),
            key.display(),
            app("a", "hello.wasm", "*", "")
        ))?;
        let mut check = command();
        check.args(["config", "check", "-c"]).arg(settings.file());
        let checked = run(check);
        assert_eq!(checked.code, Some(2), "{expected}: {}", checked.stderr);
        assert!(checked.stderr.contains(expected), "{expected}: {}", checked.stderr);
    }
    for (text, expected) in [("", "no whole OCSP response"), ("0\u{3}\n\u{1}\u{3}", "without an answer (status 3)")] {
        fs::write(path("ocsp.der"), text)?;
        let mut start = command();
        start.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0"]).args(good.flags());
        let failed = run({
            start.arg("--tls-ocsp").arg(path("ocsp.der"));
            start
        });
        assert_eq!(failed.code, Some(1), "{expected}: {}", failed.stderr);
        assert!(failed.stderr.contains(expected), "{expected}: {}", failed.stderr);
    }
    // One that ends soon is told of, and served.
    let soon = authority.server(folder.path(), "soon", &["a.test"], 5);
    let server = speaking("hello.wasm", &soon, &[]);
    let told =
        server.wait_for_record("that it ends soon", |record| message(record).contains("a certificate ends soon"));
    assert_eq!(told["days_left"], 5, "{told}");
    Ok(())
}

#[test]
fn addresses_have_their_own_settings_and_a_reload_changes_them() -> TestResult {
    for kind in KINDS {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new();
        let files = authority.server(folder.path(), "a", &["a.test"], 30);
        let tls = format!("tls = {{ cert = \"{}\", key = \"{}\" }}", files.cert.display(), files.key.display());
        let hello = app("hello", "hello.wasm", "*", "");
        let one = |more: &str| {
            format!(
                "worker-kind = \"{kind}\"\n[[listener]]\nlisten = \"127.0.0.2:0\"\nhttps-redirect = true\n[[listener]]\nlisten = \"127.0.0.1:0\"\n{tls}\nhsts = \"max-age=1000; includeSubDomains\"\n{more}{hello}"
            )
        };
        let settings = Folder::new(&one(""))?;
        let mut command = command();
        command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        command.env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(command);
        let [plain, secure] = server.addresses()[..] else { return Err(format!("{:?}", server.addresses()).into()) };
        // Plain: to the same with https, whatever the method is.
        let mut client = Connection::open(plain);
        client.send("POST /a/b?c=d%20e HTTP/1.1\r\nHost: a.test:8080\r\nContent-Length: 2\r\n\r\nhi");
        let response = client.response();
        assert_eq!((response.status, response.header("location")), (308, Some("https://a.test/a/b?c=d%20e")), "{kind}");
        assert_eq!(response.header("strict-transport-security"), None);
        client.send("GET / HTTP/1.1\r\nHost: a.test/@b\r\n\r\n");
        assert_eq!(client.response().status, 400, "{kind}: a host that is none");
        let config = authority.trusted(VERSIONS, None);
        let ask = |address| -> std::io::Result<_> { TlsClient::open(address, &config, "a.test")?.get("/", "") };
        eventually("the app is loaded", || ask(secure).is_ok_and(|response| response.status == 200));
        let response = ask(secure)?;
        assert_eq!(response.header("strict-transport-security"), Some("max-age=1000; includeSubDomains"), "{kind}");

        // Another address, with the same certificate.
        settings.write(&one(&format!("[[listener]]\nlisten = \"127.0.0.3:0\"\n{tls}\n")))?;
        reload(&server);
        let told = server
            .wait_for_record("the new address", |record| message(record).contains("now also listening on https://"));
        let address = message(&told).rsplit("https://").next().unwrap_or_default().parse()?;
        assert_eq!(ask(address)?.status, 200, "{kind}");
        assert_eq!(ask(secure)?.status, 200, "{kind}: the first goes on");

        // A file that is wrong changes nothing.
        fs::write(&files.key, "no key")?;
        settings.write(&one(&format!("[[listener]]\nlisten = \"127.0.0.4:0\"\n{tls}\n")))?;
        server.signal("HUP");
        server.wait_for_record("the mistake", |record| message(record).contains("holds no private key"));
        assert_eq!(ask(secure)?.status, 200, "{kind}");
        assert_eq!(ask(address)?.status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn clients_that_do_not_shake_hands_are_sent_away_and_keep_nobody_waiting() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for kind in KINDS {
        let server = speaking("hello.wasm", &files, &["--worker-kind", kind, "--header-timeout", "1s"]);
        let mut silent: Vec<TcpStream> =
            (0..100).map(|_| TcpStream::connect(server.address)).collect::<Result<_, _>>()?;
        // Half of a record, and what is none.
        for (number, stream) in silent.iter_mut().enumerate() {
            match number % 3 {
                0 => stream.write_all(&[22, 3, 1, 2, 0, 1, 0])?,
                1 => stream.write_all(&[0xff; 40])?,
                _ => {}
            }
        }
        let mut client = TlsClient::open(server.address, &config, "a.test")?;
        for _ in 0..50 {
            let began = Instant::now();
            assert_eq!(client.get("/", "")?.status, 200);
            assert!(began.elapsed() < CEILING / 2, "{kind}");
        }
        for stream in &mut silent {
            stream.set_read_timeout(Some(CEILING))?;
            let mut rest = Vec::new();
            // A reset where bytes were left unread.
            let ended = stream.read_to_end(&mut rest);
            assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
        }
        eventually("they are counted", || {
            (server.sum("handshake_failures.late"), server.sum("handshake_failures.failed")) == (67, 33)
        });
        eventually("they are gone", || server.sum("open_connections") == 1);
        assert_eq!(client.get("/", "")?.status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn clients_that_begin_a_handshake_and_stop_do_not_keep_others_out() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for kind in KINDS {
        let flags = ["--worker-kind", kind, "--workers", "1", "--header-timeout", "60s"];
        let server = speaking("hello.wasm", &files, &flags);
        let mut client = TlsClient::open(server.address, &config, "a.test")?;
        // As many as a worker has at once: a byte of a record each.
        let half =
            |_| TcpStream::connect(server.address).and_then(|mut stream| stream.write_all(&[22]).map(|()| stream));
        let begun: Vec<TcpStream> = (0..1_024).map(half).collect::<Result<_, _>>()?;
        eventually("all are there", || server.sum("open_connections") == 1_025);
        std::thread::sleep(Duration::from_millis(600));
        for number in 1..=20 {
            assert_eq!(TlsClient::open(server.address, &config, "a.test")?.get("/", "")?.status, 200, "{kind}");
            // Each place that is taken comes back, so that only the first one takes it from somebody.
            eventually("one has given way", || server.sum("handshake_failures.shed") == 1);
            assert!(server.sum("tls_handshakes") > number, "{kind}");
        }
        assert_eq!(client.get("/", "")?.status, 200, "{kind}");
        drop(begun);
    }
    Ok(())
}

#[test]
fn each_worker_listens_itself_and_speaks_tls() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for kind in KINDS {
        let server = speaking("hello.wasm", &files, &["--worker-kind", kind, "--balance", "kernel"]);
        for _ in 0..8 {
            assert_eq!(TlsClient::open(server.address, &config, "a.test")?.get("/", "")?.status, 200, "{kind}");
        }
        server.signal("TERM");
        let mut server = server;
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
    }
    Ok(())
}

#[test]
fn a_drain_ends_connections_after_the_request_in_flight() -> TestResult {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let config = authority.trusted(VERSIONS, None);
    for kind in KINDS {
        let mut server = speaking("faults.wasm", &files, &["--worker-kind", kind]);
        let mut client = TlsClient::open(server.address, &config, "a.test")?;
        client.stream.write_all(b"GET /sleep?ms=700 HTTP/1.1\r\nHost: a\r\n\r\n")?;
        client.stream.flush()?;
        eventually("it is in flight", || server.sum("in_flight") == 1);
        server.signal("TERM");
        let response = client.response()?;
        assert_eq!((response.status, response.header("connection")), (200, Some("close")), "{kind}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
    }
    Ok(())
}

#[test]
fn what_flags_and_the_file_say_of_tls_must_fit_together() -> TestResult {
    let check = |text: &str| -> Result<String, Box<dyn std::error::Error>> {
        let settings = Folder::new(&format!("{text}\n{}", app("a", "hello.wasm", "*", "")))?;
        let mut check = command();
        check.args(["config", "check", "-c"]).arg(settings.file());
        Ok(run(check).stderr)
    };
    for (text, expected) in [
        ("tls = { cert = \"a.pem\" }", "1:16: tls.cert: there are 1 certificates"),
        ("tls = { key = \"a.key\" }", "tls.key: there are 0 certificates"),
        ("tls = { client-ca = \"a.pem\" }", "tls.client-ca: has no effect without a certificate"),
        (
            "tls = { cert = \"a\", key = \"b\", client-auth = \"optional\" }",
            "tls.client-auth: has no effect without `tls.client-ca`",
        ),
        ("hsts = \"max-age=1\"", "hsts: is for addresses whose clients speak TLS"),
        (
            "[[listener]]\nlisten = \"127.0.0.1:1\"\ntls = { cert = \"a\", key = \"b\" }\nhsts = \"soon\"",
            "is no value of Strict-Transport-Security",
        ),
        ("[[listener]]\nhttps-redirect = true", "this listener has no address"),
        (
            "tls = { cert = \"a\", key = \"b\" }\n[[listener]]\nlisten = \"127.0.0.1:1\"",
            "`tls.cert` is for addresses that are named in the same place",
        ),
        ("[[listener]]\nlisten = \"127.0.0.1:1\"\nworkers = 2", "`workers` is a setting of the host"),
        ("listen = \"127.0.0.1:1\"\n[[listener]]\nlisten = \"127.0.0.1:1\"", "is already listened on"),
        ("tls = \"a.pem\"", "`tls` must be a table"),
        ("listener = 3", "`listener` must be a list of tables"),
    ] {
        let said = check(text)?;
        assert!(said.contains(expected), "{text}: {said}");
    }
    let server = Server::start("hello.wasm", &[]);
    assert_eq!(get(server.address, "/").status, 200);
    Ok(())
}
