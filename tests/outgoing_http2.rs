//! Upstreams that speak HTTP/2: do requests share a connection, and does one of them ever cost another something?

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::isolation::named;
use crate::support::http2::{Asked, END_HEADERS, END_STREAM, Frame, Http2, PREFACE, frame, kind};
use crate::support::tls::Authority;
use crate::support::{CEILING, Connection, FAULTS, Server, TestResult, eventually, get, request};

type Done<T> = Result<T, Box<dyn std::error::Error>>;

/// What upstreams have got: the number of a connection, and what of it.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(usize, String)>>>);

impl Seen {
    fn all(&self) -> Vec<(usize, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, number: usize, what: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((number, what.into()));
    }

    fn of(&self, what: &str) -> Vec<usize> {
        self.all().into_iter().filter(|(_, seen)| seen == what).map(|(number, _)| number).collect()
    }

    /// On how many connections requests came.
    fn connections(&self) -> usize {
        self.all().into_iter().map(|(number, _)| number).collect::<HashSet<_>>().len()
    }
}

struct Upstream {
    address: SocketAddr,
    seen: Seen,
    /// The root certificate.
    root: String,
    _folder: tempfile::TempDir,
}

/// How a server of the tests speaks that offers this by ALPN; and the root that vouches for it.
fn spoken(folder: &tempfile::TempDir, offered: &[&[u8]]) -> Done<(Arc<ServerConfig>, String)> {
    let authority = Authority::new();
    let files = authority.server(folder.path(), "upstream", &["localhost", "127.0.0.1"], 30);
    let root = folder.path().join("root.pem");
    std::fs::write(&root, authority.pem())?;
    let chain = CertificateDer::pem_file_iter(&files.cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&files.key)?;
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
    Ok((Arc::new(config), root.display().to_string()))
}

impl Upstream {
    /// One that keeps all rules, and takes so many requests at once on a connection.
    fn start(streams: u32) -> Done<Self> {
        let folder = tempfile::tempdir()?;
        let (config, root) = spoken(&folder, &[b"h2"])?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let noted = seen.clone();
        thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a loop");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                for number in 0.. {
                    let Ok((stream, _)) = listener.accept().await else { return };
                    let (acceptor, seen) = (TlsAcceptor::from(Arc::clone(&config)), noted.clone());
                    tokio::spawn(async move {
                        let stream = acceptor.accept(stream).await.ok()?;
                        let mut builder = h2::server::Builder::new();
                        builder.max_concurrent_streams(streams).initial_window_size(1 << 20);
                        let mut connection = builder.handshake::<_, Bytes>(stream).await.ok()?;
                        while let Some(Ok((request, answer))) = connection.accept().await {
                            seen.note(number, request.uri().path());
                            tokio::spawn(serve(request, answer, seen.clone(), number));
                        }
                        Some(())
                    });
                }
            });
        })?;
        Ok(Self { address, seen, root, _folder: folder })
    }

    /// One that hides nothing: `serve` gets each connection's number and stream, behind the prefaces.
    fn raw(serve: fn(usize, Raw, Seen)) -> Done<Self> {
        let folder = tempfile::tempdir()?;
        let (config, root) = spoken(&folder, &[b"h2"])?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let noted = seen.clone();
        thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let (config, seen) = (Arc::clone(&config), noted.clone());
                let serving = move || {
                    stream.set_read_timeout(Some(CEILING)).ok()?;
                    stream.set_nodelay(true).ok()?;
                    let mut stream = StreamOwned::new(ServerConnection::new(config).ok()?, stream);
                    let mut preface = [0; PREFACE.len()];
                    stream.read_exact(&mut preface).ok()?;
                    let mut raw = Raw(stream);
                    raw.send(&frame(kind::SETTINGS, 0, 0, &[]))?;
                    serve(number, raw, seen);
                    Some(())
                };
                thread::Builder::new().name("connection".to_owned()).spawn(serving).expect("a thread");
            }
        })?;
        Ok(Self { address, seen, root, _folder: folder })
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// A server that may ask it.
    fn asked_by(&self, component: &str, flags: &[&str]) -> Server {
        let own = ["--workers", "1", "--allow-host", "127.0.0.1", "--ca-file", &self.root];
        Server::start(component, &[&own[..], flags].concat())
    }
}

/// Does what the path asks for.
async fn serve(
    request: Request<h2::RecvStream>,
    mut answer: h2::server::SendResponse<Bytes>,
    seen: Seen,
    number: usize,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let mut received = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let _ = body.flow_control().release_capacity(piece.len());
        received.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?;
    let response = Response::new(());
    match path.as_str() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            answer.send_response(response, false)?.send_data(Bytes::from_static(b"ok"), true)?;
        }
        // As gRPC does: what it got, and how it went in the trailers.
        "/call" => {
            let mut sent = answer.send_response(response, false)?;
            sent.send_data(received.into(), false)?;
            let mut end =
                HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
            end.extend(trailers.unwrap_or_default());
            sent.send_trailers(end)?;
        }
        "/head" => {
            let text = format!("{} {} host={:?}", head.method, head.uri, head.headers.get("host"));
            answer.send_response(response, false)?.send_data(text.into(), true)?;
        }
        // More than the guest reads.
        "/long" => {
            let mut sent = answer.send_response(response, false)?;
            for _ in 0..64 {
                sent.send_data(Bytes::from_static(&[b'x'; 1 << 16]), false)?;
            }
            let end = std::future::poll_fn(|context| sent.poll_reset(context)).await;
            seen.note(number, format!("long: {end:?}"));
        }
        "/refused" => answer.send_reset(h2::Reason::REFUSED_STREAM),
        "/refused-once" if seen.of("/refused-once").len() == 1 => answer.send_reset(h2::Reason::REFUSED_STREAM),
        "/reset" => answer.send_reset(h2::Reason::INTERNAL_ERROR),
        // Its body is shorter than it says.
        "/short" => {
            let mut response = response;
            response.headers_mut().insert("content-length", HeaderValue::from_static("10"));
            answer.send_response(response, false)?.send_data(Bytes::from_static(b"half"), true)?;
        }
        "/silent" => std::future::pending().await,
        _ => answer.send_response(response, false)?.send_data(Bytes::from_static(b"ok"), true)?,
    }
    Ok(())
}

/// A connection of an upstream that hides nothing.
struct Raw(StreamOwned<ServerConnection, std::net::TcpStream>);

impl Raw {
    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).ok()
    }

    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The stream of the next request whose head and body are there.
    fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next()?;
            if matches!(frame.kind, kind::HEADERS | kind::DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// `:status: 200` (RFC 7541, appendix A), and `ok`.
    fn answer(&mut self, stream: u32) -> Option<()> {
        self.send(&frame(kind::HEADERS, END_HEADERS, stream, &[0x88]))?;
        self.send(&frame(kind::DATA, END_STREAM, stream, b"ok"))
    }

    /// It goes away, and has begun with no stream behind `last` (RFC 9113, section 6.8).
    fn goes_away(&mut self, last: u32) -> Option<()> {
        self.send(&frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat()))
    }
}

/// Has a guest ask for all of these at once, and returns what each got.
fn fetched(server: &Server, urls: &[String]) -> Vec<(u16, String)> {
    let mut clients: Vec<Connection> = urls.iter().map(|_| Connection::open(server.address)).collect();
    for (client, url) in clients.iter_mut().zip(urls) {
        client.send(format!("GET /fetch?url={url} HTTP/1.1\r\nHost: test\r\n\r\n"));
    }
    clients.iter_mut().map(|client| client.response()).map(|response| (response.status, response.text())).collect()
}

#[test]
fn requests_share_a_connection_one_after_the_other_and_at_once() -> TestResult {
    for component in FAULTS {
        for flags in [&["--isolation", "worker"][..], &["--isolation", "request", "--worker-kind", "process"]] {
            let upstream = Upstream::start(100)?;
            let server = upstream.asked_by(component, flags);
            for _ in 0..5 {
                let response = get(server.address, &format!("/fetch?url={}", upstream.url("/")));
                assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{component} {flags:?}");
            }
            let answers = fetched(&server, &vec![upstream.url("/slow"); 20]);
            assert!(answers.iter().all(|(status, text)| (*status, text.as_str()) == (200, "ok")), "{answers:?}");
            let seen = upstream.seen.all();
            assert_eq!((seen.len(), upstream.seen.connections()), (25, 1), "{component} {flags:?}: {seen:?}");
            let head = get(server.address, &format!("/fetch?url={}", upstream.url("/head?a=b"))).text();
            assert_eq!(head, format!("GET {} host=None", upstream.url("/head?a=b")), "{component}");
        }
    }
    Ok(())
}

#[test]
fn requests_that_come_before_it_is_known_what_is_spoken_wait_for_the_one_connection() -> TestResult {
    let upstream = Upstream::start(100)?;
    let server = upstream.asked_by("faults-p3.wasm", &[]);
    let answers = fetched(&server, &vec![upstream.url("/slow"); 30]);
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    assert_eq!(upstream.seen.connections(), 1);
    Ok(())
}

#[test]
fn no_more_requests_are_on_a_connection_than_its_upstream_takes() -> TestResult {
    let upstream = Upstream::start(4)?;
    let server = upstream.asked_by("faults-p3.wasm", &[]);
    // What it takes is known behind its first answer.
    assert_eq!(fetched(&server, &[upstream.url("/")])[0].0, 200);
    let answers = fetched(&server, &vec![upstream.url("/slow"); 12]);
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let slow = upstream.seen.of("/slow");
    for number in 0..3 {
        assert_eq!(slow.iter().filter(|of| **of == number).count(), 4, "{slow:?}");
    }
    Ok(())
}

#[test]
fn trailers_go_both_ways() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::start(100)?;
        let server = upstream.asked_by(component, &[]);
        let mut client = Http2::open(server.address);
        for turn in 0..3 {
            let mut asked = Asked::post(&format!("/fetch-post?url={}", upstream.url("/call")), &[b"mess", b"age"]);
            let checksum = (http::HeaderName::from_static("x-checksum"), HeaderValue::from(turn));
            asked.trailers = Some(HeaderMap::from_iter([checksum]));
            let answer = client.ask(asked)?;
            assert_eq!((answer.status, answer.text().as_str()), (200, "message"), "{component}");
            let trailers = answer.trailers.unwrap_or_default();
            let of = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            assert_eq!(
                (of("grpc-status").as_deref(), of("x-checksum")),
                (Some("0"), Some(turn.to_string())),
                "{component}"
            );
        }
        assert_eq!(upstream.seen.connections(), 1, "{component}");
    }
    Ok(())
}

#[test]
fn responses_that_nobody_reads_hold_up_no_other_and_are_given_up() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::start(100)?;
        let flags = ["--isolation", "worker", "--instances-per-worker", "2", "--body-idle-timeout", "8s"];
        let server = upstream.asked_by(component, &flags);
        let kept = get(server.address, &format!("/fetch-keep?count=20&url={}", upstream.url("/long")));
        assert_eq!(kept.text(), "200: 20\n", "{component}");
        let began = Instant::now();
        for _ in 0..10 {
            assert_eq!(fetched(&server, &[upstream.url("/")])[0].1, "ok", "{component}");
        }
        assert!(began.elapsed() < Duration::from_secs(6), "{component}: {:?}", began.elapsed());
        assert_eq!(upstream.seen.connections(), 1, "{component}");
        let cancelled = || upstream.seen.of("long: Ok(CANCEL)").len();
        assert_eq!(cancelled(), 0, "{component}: they are still there");
        eventually("what nobody reads is given up", || cancelled() == 20);
        assert_eq!(fetched(&server, &[upstream.url("/")])[0].1, "ok", "{component}: the connection goes on");
        assert_eq!(upstream.seen.connections(), 1, "{component}");
    }
    Ok(())
}

#[test]
fn a_response_that_is_not_read_to_its_end_costs_its_stream_and_not_the_connection() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::start(100)?;
        let server = upstream.asked_by(component, &[]);
        for _ in 0..3 {
            let each = get(server.address, &format!("/fetch-each?count=1&url={}", upstream.url("/long")));
            assert_eq!(each.text(), "200: 1\n", "{component}");
        }
        eventually("each is cancelled", || upstream.seen.of("long: Ok(CANCEL)").len() == 3);
        assert_eq!(upstream.seen.connections(), 1, "{component}");
    }
    Ok(())
}

#[test]
fn a_request_is_sent_again_only_where_the_upstream_says_that_it_has_not_begun_with_it() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::start(100)?;
        let server = upstream.asked_by(component, &[]);
        let [once, always, reset] = ["/refused-once", "/refused", "/reset"].map(|path| {
            let response = get(server.address, &format!("/fetch?url={}", upstream.url(path)));
            (response.status, upstream.seen.of(path).len())
        });
        assert_eq!(once, (200, 2), "{component}");
        assert_eq!(always, (502, 2), "{component}: once more");
        assert_eq!(reset, (502, 1), "{component}: it may have been done");
        // One with a body has begun to send it.
        let posted =
            request(server.address, "POST", &format!("/fetch-post?url={}", upstream.url("/refused")), b"order");
        assert_eq!(posted.status, 502, "{component}");
        let short = get(server.address, &format!("/fetch?url={}", upstream.url("/short")));
        assert!(!(short.status == 200 && short.whole), "{component}: {short:?}");
        assert_eq!(fetched(&server, &[upstream.url("/")])[0].1, "ok", "{component}");
        assert_eq!(upstream.seen.connections(), 1, "{component}: streams failed, the connection did not");
    }
    Ok(())
}

/// Its first connection goes away with the second request on it: it has begun with the first, and answers that later.
fn goes_away_once(number: usize, mut raw: Raw, seen: Seen) {
    let mut serve = || {
        let first = raw.request()?;
        seen.note(number, "request");
        if number > 0 {
            raw.answer(first)?;
        } else {
            let second = raw.request()?;
            seen.note(number, "request");
            raw.goes_away(first)?;
            assert!(second > first);
            thread::sleep(Duration::from_millis(300));
            raw.answer(first)?;
            seen.note(number, "answered");
        }
        while let Some(stream) = raw.request() {
            seen.note(number, "request");
            raw.answer(stream)?;
        }
        Some(())
    };
    let _ = serve();
}

#[test]
fn an_upstream_that_goes_away_finishes_what_it_began_and_the_rest_goes_elsewhere() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::raw(goes_away_once)?;
        let server = upstream.asked_by(component, &["--isolation", "request"]);
        let answers = fetched(&server, &[upstream.url("/one"), upstream.url("/two")]);
        assert!(
            answers.iter().all(|(status, text)| (*status, text.as_str()) == (200, "ok")),
            "{component}: {answers:?}"
        );
        let seen = upstream.seen.all();
        assert_eq!(upstream.seen.of("request"), [0, 0, 1], "{component}: {seen:?}");
        assert_eq!(upstream.seen.of("answered"), [0], "{component}: {seen:?}");
        assert_eq!(fetched(&server, &[upstream.url("/three")])[0].1, "ok", "{component}");
        assert_eq!(upstream.seen.of("request"), [0, 0, 1, 1], "{component}: no more on the first");
    }
    Ok(())
}

/// It answers one request, and floods the connection while nobody uses it.
fn floods(number: usize, mut raw: Raw, seen: Seen) {
    let mut serve = || {
        let stream = raw.request()?;
        raw.answer(stream)?;
        seen.note(number, "answered");
        // (Frames that need no answer: the window of the connection grows by nothing that matters.)
        let ping = frame(kind::PING, 1, 0, &[0; 8]).repeat(1_000);
        while raw.send(&ping).is_some() {}
        seen.note(number, "closed");
        Some(())
    };
    let _ = serve();
}

#[test]
fn a_connection_that_costs_cpu_time_while_nobody_uses_it_is_closed() -> TestResult {
    let upstream = Upstream::raw(floods)?;
    let server = upstream.asked_by("faults.wasm", &[]);
    assert_eq!(fetched(&server, &[upstream.url("/")])[0].1, "ok");
    eventually("the flood is ended", || upstream.seen.of("closed") == [0]);
    assert_eq!(get(server.address, "/hello").status, 200);
    assert_eq!(fetched(&server, &[upstream.url("/")])[0].1, "ok", "on another connection");
    Ok(())
}

/// It answers without end.
fn never_ends(_: usize, mut raw: Raw, _: Seen) {
    let mut serve = || {
        let stream = raw.request()?;
        raw.send(&frame(kind::HEADERS, END_HEADERS, stream, &[0x88]))?;
        // Frames that need no answer, and time all the same.
        let pings = frame(kind::PING, 1, 0, &[0; 8]).repeat(1_000);
        while raw.send(&pings).is_some() {}
        Some(())
    };
    let _ = serve();
}

#[test]
fn what_a_shared_connection_costs_is_charged_to_the_requests_on_it() -> TestResult {
    for component in FAULTS {
        let upstream = Upstream::raw(never_ends)?;
        let server = upstream.asked_by(component, &["--cpu-limit", "300ms"]);
        let began = Instant::now();
        let _ = get(server.address, &format!("/fetch?url={}", upstream.url("/")));
        assert!(began.elapsed() < CEILING, "{component}");
        server.wait_for_record("the limit", |record| record["limit"] == "--cpu-limit");
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
    }
    Ok(())
}

#[test]
fn a_connection_on_which_a_request_waited_in_vain_takes_no_other() -> TestResult {
    let upstream = Upstream::start(100)?;
    let server = upstream.asked_by("faults.wasm", &["--outgoing-first-byte-timeout", "300ms"]);
    let began = Instant::now();
    let silent = get(server.address, &format!("/fetch?url={}", upstream.url("/silent")));
    assert!(silent.status == 502 && named(&silent.text(), "connection-read-timeout"), "{}", silent.text());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(fetched(&server, &[upstream.url("/")])[0].1, "ok");
    assert_eq!(upstream.seen.connections(), 2);
    Ok(())
}

#[test]
fn apps_and_grants_share_no_connection() -> TestResult {
    use crate::support::apps::{Folder, app, ask_until_loaded};
    let upstream = Upstream::start(100)?;
    let grants = |of: &str| format!("allow-hosts = [{of}]\nca-file = \"{}\"", upstream.root);
    let two = "\"127.0.0.1/a\", \"127.0.0.1/b\"";
    let text = app("one", "faults.wasm", "one.test/*", &grants("\"127.0.0.1\""))
        + &app("two", "faults.wasm", "two.test/*", &grants(two));
    let server = Folder::new(&text)?.serve(&["--workers", "1"]);
    for _ in 0..3 {
        for (name, path) in [("one", "/a"), ("two", "/a"), ("two", "/b")] {
            let path = format!("/fetch?url={}", upstream.url(path));
            assert_eq!(ask_until_loaded(server.address, &format!("{name}.test"), &path).text(), "ok");
        }
    }
    assert_eq!(upstream.seen.all().len(), 9);
    assert_eq!(upstream.seen.connections(), 3, "{:?}", upstream.seen.all());
    Ok(())
}
