//! What a guest may ask of other hosts, and how much of it: grants by scheme, method and path, bounds on calls, hosts and times, and
//! requests that go in circles.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::isolation::named;
use crate::support::{CEILING, Connection, FAULTS, Server, TestResult, eventually, get, request};

const KINDS: [&str; 2] = ["thread", "process"];

/// An upstream of HTTP/1.1 that answers `ok`, after a pause where the path begins with `/slow`.
struct Upstream {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    /// Requests at once, at most.
    at_once: Arc<AtomicUsize>,
}

const PAUSE: Duration = Duration::from_millis(300);

impl Upstream {
    fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (heads, at_once) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (noted, most, now) = (Arc::clone(&heads), Arc::clone(&at_once), Arc::<AtomicUsize>::default());
        thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let (noted, most, now) = (Arc::clone(&noted), Arc::clone(&most), Arc::clone(&now));
                let serve = move || {
                    let mut buffer = [0; 16384];
                    while let Ok(read @ 1..) = stream.read(&mut buffer) {
                        let head = String::from_utf8_lossy(&buffer[..read]).into_owned();
                        most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                        let is_slow = head.starts_with("GET /slow");
                        noted.lock().unwrap_or_else(PoisonError::into_inner).push(head);
                        if is_slow {
                            thread::sleep(PAUSE);
                        }
                        now.fetch_sub(1, SeqCst);
                        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                            return;
                        }
                    }
                };
                thread::Builder::new().name("connection".to_owned()).spawn(serve).expect("a thread");
            }
        })?;
        Ok(Self { address, heads, at_once })
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The field of this name in its last request.
    fn last(&self, name: &str) -> Option<String> {
        let head = self.heads().pop()?;
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let values: Vec<&str> =
            lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        (!values.is_empty()).then(|| values.join(" + "))
    }
}

#[test]
fn a_grant_covers_its_scheme_its_methods_and_the_paths_below_its_own() -> TestResult {
    let upstream = Upstream::start()?;
    let at = upstream.address;
    let grant = format!("http://{at}/v1/ GET");
    for kind in KINDS {
        for component in FAULTS {
            let server = Server::start(component, &["--allow-host", &grant, "--worker-kind", kind]);
            for path in ["/v1/", "/v1/a", "/v1/a%252Eb", "/%2576%2531/a"] {
                let response = get(server.address, &format!("/fetch?url=http://{at}{path}"));
                assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{kind} {component} {path}");
            }
            let before = upstream.heads().len();
            // (The guest decodes its parameter once.)
            for path in [
                "/",
                "/v1",
                "/v10/",
                "/v2/",
                "/v1/../v2/",
                "/v1/%252e%252e/v2",
                "/v1/.%252E/v2",
                "/v1//v2",
                "//v1/",
                "/v1/..%252fv2",
                "/v1/%25252e%25252e/v2",
                "/v1/..;/v2",
                "/v1/./a",
                "/v1/..",
                "/V1/",
            ] {
                let response = get(server.address, &format!("/fetch?url=http://{at}{path}"));
                let text = response.text();
                assert!(
                    response.status == 502 && named(&text, "HTTP-request-denied"),
                    "{kind} {component} {path}: {text}"
                );
            }
            let posted = request(server.address, "POST", &format!("/fetch-post?url=http://{at}/v1/"), b"body");
            assert!(named(&posted.text(), "HTTP-request-denied"), "{kind} {component}: {}", posted.text());
            let secure = get(server.address, &format!("/fetch?url=https://{at}/v1/"));
            assert!(named(&secure.text(), "HTTP-request-denied"), "{kind} {component}: {}", secure.text());
            assert_eq!(upstream.heads().len(), before, "{kind} {component}: nothing was sent");
            // What is missing is named.
            let told = |end: &str| {
                let is = |record: &serde_json::Value| {
                    let message = record["message"].as_str().unwrap_or_default();
                    record["limit"] == "--allow-host" && message.ends_with(end)
                };
                server.wait_for_record(end, is);
            };
            told(&format!("allow it with --allow-host \"http://{at}/v2/ GET\""));
            told(&format!("allow all paths with --allow-host {at}"));
            told(&format!("allow it with --allow-host \"http://{at}/v1/ POST\""));
        }
    }
    Ok(())
}

#[test]
fn a_guest_makes_so_many_calls_for_a_request_and_the_next_request_has_as_many() -> TestResult {
    let upstream = Upstream::start()?;
    for component in FAULTS {
        let flags =
            ["--allow-host", "127.0.0.1", "--outgoing-calls-max", "5", "--workers", "1", "--isolation", "worker"];
        let server = Server::start(component, &flags);
        for turn in 0..3 {
            let each = get(server.address, &format!("/fetch-each?count=8&url=http://{}/", upstream.address)).text();
            let (made, refused) = each.split_once('\n').ok_or("two outcomes")?;
            assert_eq!(made, "200: 5", "{component} {turn}: {each}");
            assert!(named(refused, "connection-limit-reached: 3"), "{component} {turn}: {each}");
        }
        server.wait_for_record("the bound", |record| record["limit"] == "--outgoing-calls-max");
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}");
    }
    Ok(())
}

#[test]
fn requests_to_one_host_wait_for_their_turn_and_those_to_another_do_not() -> TestResult {
    for component in FAULTS {
        let (upstream, other) = (Upstream::start()?, Upstream::start()?);
        // Whatever grants allow them.
        let narrow = format!("http://{}/slow/", upstream.address);
        let flags =
            ["--allow-host", "127.0.0.1", "--allow-host", &narrow, "--outgoing-host-max", "2", "--workers", "1"];
        let server = Server::start(component, &flags);
        let mut clients: Vec<Connection> = (0..6).map(|_| Connection::open(server.address)).collect();
        for (client, path) in clients.iter_mut().zip(["/slow", "/slow/"].into_iter().cycle()) {
            let url = format!("http://{}{path}", upstream.address);
            client.send(format!("GET /fetch?url={url} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        eventually("they are there", || upstream.heads().len() >= 2);
        let began = Instant::now();
        assert_eq!(get(server.address, &format!("/fetch?url=http://{}/", other.address)).text(), "ok", "{component}");
        assert!(began.elapsed() < PAUSE, "{component}: {:?}", began.elapsed());
        for client in &mut clients {
            assert_eq!(client.response().text(), "ok", "{component}");
        }
        assert_eq!(upstream.at_once.load(SeqCst), 2, "{component}");
    }
    Ok(())
}

#[test]
fn a_request_waits_for_its_turn_no_longer_than_it_may_take_to_connect() -> TestResult {
    let upstream = Upstream::start()?;
    let flags = [
        "--allow-host",
        "127.0.0.1",
        "--outgoing-host-max",
        "1",
        "--outgoing-connect-timeout",
        "100ms",
        "--workers",
        "1",
    ];
    let server = Server::start("faults-p3.wasm", &flags);
    let many = get(server.address, &format!("/fetch-many?count=3&url=http://{}/slow", upstream.address)).text();
    assert!(many.contains("200: 1") && named(&many, "connection-limit-reached: 2"), "{many}");
    server.wait_for_record("the bound", |record| record["limit"] == "--outgoing-host-max");
    Ok(())
}

/// An upstream that says these bytes to each who asks, and nothing else.
fn says(bytes: &'static [u8]) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new().name("upstream".to_owned()).spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]).and_then(|_| stream.write_all(bytes));
            held.push(stream);
        }
    })?;
    Ok(address)
}

#[test]
fn times_of_upstreams_are_bounded_by_flags_and_guests_lower_them_only() -> TestResult {
    let silent = says(b"")?;
    let half = says(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")?;
    for component in FAULTS {
        let asked = |server: &Server, path: &str| {
            let began = Instant::now();
            let response = get(server.address, path);
            (response.status, response.text(), response.whole, began.elapsed())
        };
        let short = Duration::from_millis(200)..Duration::from_secs(3);
        // By flags; a guest that asks for more gets no more.
        let flags = [
            "--allow-host",
            "127.0.0.1",
            "--outgoing-connect-timeout",
            "300ms",
            "--outgoing-first-byte-timeout",
            "300ms",
            "--outgoing-between-bytes-timeout",
            "300ms",
        ];
        let server = Server::start(component, &flags);
        for verb in ["fetch?", "fetch-within?ms=20000&"] {
            let what = format!("{component} {verb}");
            let (status, text, _, took) = asked(&server, &format!("/{verb}url=http://{silent}/"));
            assert!(status == 502 && named(&text, "connection-read-timeout"), "{what}: {text}");
            assert!(short.contains(&took), "{what}: {took:?}");
            let (status, text, _, took) = asked(&server, &format!("/{verb}url=https://{silent}/"));
            assert!(status == 502 && named(&text, "connection-timeout"), "{what}: {text}");
            assert!(short.contains(&took), "{what}: {took:?}");
            let (_, _, whole, took) = asked(&server, &format!("/{verb}url=http://{half}/"));
            assert!(!whole && short.contains(&took), "{what}: {took:?}");
        }
        // By the guest.
        let server = Server::start(component, &["--allow-host", "127.0.0.1"]);
        let verb = "fetch-within?ms=300&";
        let (status, text, _, took) = asked(&server, &format!("/{verb}url=http://{silent}/"));
        assert!(status == 502 && named(&text, "connection-read-timeout"), "{component}: {text}");
        assert!(short.contains(&took), "{component}: {took:?}");
        let (status, text, _, took) = asked(&server, &format!("/{verb}url=https://{silent}/"));
        assert!(status == 502 && named(&text, "connection-timeout"), "{component}: {text}");
        assert!(short.contains(&took), "{component}: {took:?}");
        let (_, _, whole, took) = asked(&server, &format!("/{verb}url=http://{half}/"));
        assert!(!whole && short.contains(&took), "{component}: {took:?}");
    }
    Ok(())
}

/// A GET with these lines in its head.
fn with_lines(server: &Server, path: &str, lines: &str) -> crate::support::Response {
    let mut client = Connection::open(server.address);
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"));
    client.response()
}

#[test]
fn every_hop_is_told_to_the_next_whatever_the_guest_does() -> TestResult {
    let upstream = Upstream::start()?;
    for kind in KINDS {
        for component in FAULTS {
            let flags = ["--allow-host", "127.0.0.1", "--worker-kind", kind, "--workers", "1", "--isolation", "worker"];
            let server = Server::start(component, &flags);
            let path = format!("/fetch?url=http://{}/", upstream.address);
            for (lines, expected) in [
                ("", "wasmhost"),
                ("CDN-Loop: other; v=\"1\"\r\n", "other; v=\"1\", wasmhost"),
                ("CDN-Loop: wasmhost\r\nCDN-Loop: a, Wasmhost;b\r\n", "wasmhost, a, Wasmhost;b, wasmhost"),
                // What came with one request is not told of the next.
                ("", "wasmhost"),
            ] {
                let response = with_lines(&server, &path, lines);
                assert_eq!(response.text(), "ok", "{kind} {component} {lines}");
                assert_eq!(upstream.last("cdn-loop").as_deref(), Some(expected), "{kind} {component} {lines}");
            }
            let fifteen = format!("CDN-Loop: {}\r\n", ["wasmhost"; 15].join(", "));
            assert_eq!(with_lines(&server, &path, &fifteen).text(), "ok", "{kind} {component}");
            let asked = upstream.heads().len();
            for lines in [
                format!("CDN-Loop: {}\r\n", ["wasmhost"; 16].join(", ")),
                format!("CDN-Loop: {}\r\n", "a".repeat(5_000)),
            ] {
                let refused = with_lines(&server, &path, &lines);
                assert_eq!(refused.status, 508, "{kind} {component}: {}", refused.text());
                assert_eq!(with_lines(&server, "/hello", &lines).status, 508, "{kind} {component}");
            }
            assert_eq!(upstream.heads().len(), asked, "{kind} {component}");
            eventually("they are counted", || server.sum("refusals.loop") == 4);
        }
    }
    Ok(())
}

#[test]
fn a_guest_that_asks_its_own_host_in_a_circle_is_told() -> TestResult {
    for component in FAULTS {
        let server = Server::start(component, &["--allow-host", "127.0.0.1", "--cpu-limit", "20s"]);
        // Each asks the next, more often than is allowed.
        let circle = (0..30).fold("/hello".to_owned(), |path, _| format!("/fetch?url=http://{}{path}", server.address));
        let response = get(server.address, &circle);
        assert_eq!(response.text(), "508 the request goes in a circle\n", "{component}");
        let few = (0..10).fold("/hello".to_owned(), |path, _| format!("/fetch?url=http://{}{path}", server.address));
        assert_eq!(get(server.address, &few).text(), "Hello, World!", "{component}");
        assert_eq!(server.sum("refusals.loop"), 1, "{component}");
    }
    Ok(())
}

#[test]
fn an_upstream_that_is_asked_slowly_by_many_has_one_connection_for_each() -> TestResult {
    let upstream = Upstream::start()?;
    let server = Server::start("faults-p3.wasm", &["--allow-host", "127.0.0.1", "--workers", "1"]);
    let began = Instant::now();
    let many = get(server.address, &format!("/fetch-many?count=100&url=http://{}/slow", upstream.address)).text();
    assert_eq!(many, "200: 100\n");
    assert!(began.elapsed() < CEILING);
    assert_eq!(upstream.at_once.load(SeqCst), 100);
    Ok(())
}
