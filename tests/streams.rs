//! Streams that last, such as server-sent events: does one stay whole whatever happens beside it, and does the guest's work
//! end within a second of its client's leaving? An hour is made short by limits that are a fraction of the stream's length.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::ClientConfig;

use crate::abandoned::reset;
use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload};
use crate::support::http2::{Asked, Frames, Http2, frame, kind};
use crate::support::tls::{Authority, TlsClient, VERSIONS};
use crate::support::{Connection, FAULTS, Server, TestResult, eventually};

const KINDS: [&str; 2] = ["thread", "process"];
/// What a guest must do about a client that leaves, and how long that may take.
const GONE_WITHIN: Duration = Duration::from_secs(1);

/// How a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Http1,
    Http2,
    Http1Tls,
    Http2Tls,
}

const WAYS: [Way; 4] = [Way::Http1, Way::Http2, Way::Http1Tls, Way::Http2Tls];

/// How the body of a stream came, and whether it was whole.
fn body(
    way: Way,
    [plain, secure]: [SocketAddr; 2],
    config: &Arc<ClientConfig>,
    host: &str,
    path: &str,
) -> Result<Vec<u8>, String> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let said = |error: std::io::Error| error.to_string();
    let asked = Asked { authority: Some(host.to_owned()), ..Asked::get(path) };
    match way {
        Way::Http1 => {
            let mut client = Connection::open(plain);
            client.send(head);
            let response = client.response();
            if response.whole { Ok(response.body) } else { Err(format!("half of it: {}", response.text())) }
        }
        Way::Http1Tls => {
            let mut client = TlsClient::open(secure, config, "a.test").map_err(said)?;
            client.stream.write_all(head.as_bytes()).map_err(said)?;
            // The chunks, as they are.
            let mut bytes = Vec::new();
            client.stream.read_to_end(&mut bytes).map_err(said)?;
            let text = String::from_utf8_lossy(&bytes);
            let (_, chunks) = text.split_once("\r\n\r\n").ok_or("no head")?;
            let chunks = chunks.strip_suffix("0\r\n\r\n").ok_or("no last chunk")?;
            Ok(chunks.split("\r\n").skip(1).step_by(2).collect::<String>().into_bytes())
        }
        Way::Http2 => Http2::open(plain).ask(asked).map(|answer| answer.body).map_err(|error| error.to_string()),
        Way::Http2Tls => {
            let mut client = Http2::open_tls(secure, ClientConfig::clone(config), "a.test").map_err(said)?;
            client.ask(asked).map(|answer| answer.body).map_err(|error| error.to_string())
        }
    }
}

#[test(alone)]
fn a_stream_stays_whole_over_limits_retirement_and_the_reload_of_another_app() -> TestResult {
    const EVENTS: usize = 45;
    let expected: Vec<u8> = (0..EVENTS).flat_map(|event| [b'a' + (event % 26) as u8; 8]).collect();
    let path = format!("/stream?chunks={EVENTS}&bytes=8&ms=150");
    for kind in KINDS {
        let (tls, authority) = (tempfile::tempdir()?, Authority::new());
        let files = authority.server(tls.path(), "a", &["a.test"], 30);
        let config = authority.trusted(VERSIONS, None);
        // Each a fraction of the stream's six seconds.
        let text = |turn: usize| {
            let limits = "limits = { request-timeout = \"2s\", cpu = \"1s\", body-idle-timeout = \"2s\" }";
            let retired = format!("max-requests = 1\n{limits}\n");
            format!(
                "worker-kind = \"{kind}\"\nkeepalive-timeout = \"2s\"\nheader-timeout = \"2s\"\n\
                 [[listener]]\nlisten = \"127.0.0.2:0\"\n\
                 [[listener]]\nlisten = \"127.0.0.1:0\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n{}{}{}{}",
                files.cert.display(),
                files.key.display(),
                app("old", "faults.wasm", "old.test/*", &retired),
                app("new", "faults-p3.wasm", "new.test/*", &retired),
                app("shared", "faults-p3.wasm", "shared.test/*", &format!("{retired}instance-concurrency = 4\n")),
                app("other", "faults.wasm", "other.test/*", &format!("env = {{ TURN = \"{turn}\" }}\n")),
            )
        };
        let folder = Folder::new(&text(0))?;
        let mut command = crate::support::command();
        command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0", "--workers", "2"]);
        command.env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(command);
        let addresses: [SocketAddr; 2] = server.addresses().try_into().map_err(|found| format!("{found:?}"))?;
        let hosts = ["old.test", "new.test", "shared.test"];
        for host in hosts.iter().chain(&["other.test"]) {
            ask_until_loaded(server.address, host, "/hello");
        }
        let are_over = AtomicBool::new(false);
        let (config, path, expected) = (&config, &path, &expected);
        let reloads = std::thread::scope(|scope| -> Result<usize, Box<dyn std::error::Error>> {
            let streams: Vec<_> = hosts
                .iter()
                .flat_map(|host| WAYS.map(|way| (host, way)))
                .map(|(host, way)| (host, way, scope.spawn(move || body(way, addresses, config, host, path))))
                .collect();
            eventually("all are under way", || server.sum("in_flight") == streams.len() as u64);
            let beside = scope.spawn(|| -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
                let mut turn = 0;
                while !are_over.load(Ordering::Relaxed) {
                    turn += 1;
                    folder.write(&text(turn))?;
                    reload(&server);
                    eventually("the other app is new", || {
                        ask(server.address, "other.test", "/env").text().contains(&format!("TURN={turn}\n"))
                    });
                    // Each instance has retired that has had a request, those of the streams too.
                    for host in hosts {
                        assert_eq!(ask(server.address, host, "/count").text(), "1", "{kind} {host}");
                    }
                    std::thread::sleep(Duration::from_millis(300));
                }
                Ok(turn)
            });
            let mut wrong = Vec::new();
            for (host, way, stream) in streams {
                match stream.join() {
                    Ok(Ok(came)) if came == *expected => {}
                    Ok(came) => wrong.push(format!("{host} {way:?}: {:?}", came.map(|came| came.len()))),
                    Err(_) => wrong.push(format!("{host} {way:?}: no answer")),
                }
            }
            are_over.store(true, Ordering::Relaxed);
            assert!(wrong.is_empty(), "{kind}: {wrong:?}");
            beside.join().map_err(|_| "what went on beside failed")?.map_err(|error| error.to_string().into())
        })?;
        assert!(reloads >= 3, "{kind}: {reloads} reloads fell into the streams");
        assert_eq!(server.sum("client_left"), 0, "{kind}");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{kind}");
    }
    Ok(())
}

/// A client in the middle of a stream: what it does to leave.
type Leaving = Box<dyn FnOnce()>;

#[test(alone)]
fn a_guest_learns_of_a_client_that_left_within_a_second() -> TestResult {
    let (tls, authority) = (tempfile::tempdir()?, Authority::new());
    let files = authority.server(tls.path(), "a", &["a.test"], 30);
    let secure = files.flags();
    let config = authority.trusted(VERSIONS, None);
    let guests = [(FAULTS[0], "1"), (FAULTS[1], "1"), (FAULTS[1], "4")];
    for ((component, calls), kind) in guests.iter().flat_map(|guest| KINDS.map(|kind| (guest, kind))) {
        for is_secure in [false, true] {
            let mut flags = vec!["--worker-kind", kind, "--workers", "1"];
            if *calls != "1" {
                flags.extend(["--instance-concurrency", calls]);
            }
            if is_secure {
                flags.extend(secure.iter().map(String::as_str));
            }
            let server = Server::start(component, &flags);
            // One that is silent for long, and one that writes all the time.
            for path in ["/stream?chunks=9&bytes=10&ms=20000", "/stream?chunks=1000000&bytes=10&ms=20"] {
                let hows: &[&str] = if is_secure {
                    &["end", "stream", "connection"]
                } else {
                    &["end", "reset", "stream", "connection"]
                };
                for how in hows {
                    let at = format!("{component} ({calls}) {kind} TLS: {is_secure}, {path}, {how}");
                    let (left, generation) = (server.sum("client_left"), server.sum("generation"));
                    let leave = enter(&server, is_secure.then_some(&config), path, how)?;
                    eventually("it is under way", || server.sum("in_flight") == 1);
                    let began = Instant::now();
                    leave();
                    eventually(&at, || server.sum("in_flight") == 0);
                    let gone = began.elapsed();
                    assert!(gone < GONE_WITHIN, "{at}: {gone:?}");
                    assert_eq!(server.sum("client_left"), left + 1, "{at}");
                    // A guest that has the instance for itself ends with it; another sees its own writing fail.
                    if *calls == "1" {
                        eventually("a new generation", || server.sum("generation") > generation);
                    }
                }
            }
            assert_eq!(
                server.records(|record| record["fault"].is_string()).len(),
                0,
                "{component}: leaving is no fault"
            );
        }
    }
    Ok(())
}

/// Asks for a stream, and waits for its first bytes.
fn enter(
    server: &Server,
    config: Option<&Arc<ClientConfig>>,
    path: &str,
    how: &str,
) -> Result<Leaving, Box<dyn std::error::Error>> {
    let head = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    let has_begun = |bytes: &[u8]| bytes.windows(10).any(|window| window == b"aaaaaaaaaa").then_some(());
    Ok(match (config, how) {
        (None, "end" | "reset") => {
            let mut client = Connection::open(server.address);
            client.send(head);
            client.fill_until(has_begun).ok_or("no first bytes")?;
            if how == "end" { Box::new(move || drop(client)) } else { Box::new(move || reset(client)) }
        }
        (None, _) => {
            let mut client = Frames::open(server.address);
            client.ask(1, path);
            client.wait_for(|frame| frame.kind == kind::DATA).ok_or("no first bytes")?;
            if how == "connection" {
                Box::new(move || drop(client))
            } else {
                Box::new(move || {
                    client.send(frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
                    // The connection stays.
                    std::mem::forget(client);
                })
            }
        }
        (Some(config), "end") => {
            let mut client = TlsClient::open(server.address, config, "a.test")?;
            client.stream.write_all(head.as_bytes())?;
            let (mut came, mut part) = (Vec::new(), [0; 4_096]);
            while has_begun(&came).is_none() {
                let read = client.stream.read(&mut part)?;
                assert!(read > 0, "no first bytes");
                came.extend_from_slice(&part[..read]);
            }
            Box::new(move || drop(client))
        }
        (Some(config), _) => {
            let mut client = Http2::open_tls(server.address, ClientConfig::clone(config), "a.test")?;
            let (runtime, sender) = client.parts();
            let request = http::Request::get(format!("https://a.test{path}")).body(())?;
            let body = runtime.block_on(async {
                let (answer, _) = sender.clone().ready().await?.send_request(request, true)?;
                let mut body = answer.await?.into_body();
                body.data().await.transpose()?;
                Result::<_, h2::Error>::Ok(body)
            })?;
            if how == "connection" {
                Box::new(move || drop((body, client)))
            } else {
                // Its stream is reset when nobody waits for it any more; the connection stays.
                Box::new(move || {
                    drop(body);
                    std::mem::forget(client);
                })
            }
        }
    })
}
