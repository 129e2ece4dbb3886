//! Connections to upstreams that are kept for further requests: which are used again, and does a guest ever get an error, or an
//! answer that is not its own, because of it?

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::isolation::named;
use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::{
    CEILING, Connection, FAULTS, Response, Server, TestResult, eventually, eventually_within, get, request,
};

/// What an upstream has got: by the number of the connection, the request's first line.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<(usize, String)>>>);

impl Seen {
    fn all(&self) -> Vec<(usize, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// On how many connections these requests came.
    fn connections(&self) -> usize {
        let mut numbers: Vec<usize> = self.all().into_iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers.len()
    }

    fn note(&self, number: usize, line: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((number, line.to_owned()));
    }
}

/// An upstream that does what the path of a request asks for.
struct Upstream {
    address: SocketAddr,
    seen: Seen,
}

/// Within which a connection without requests is closed: half a minute, and time to see it.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(45);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

impl Upstream {
    fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let seen = Seen::default();
        let noted = seen.clone();
        thread::Builder::new().name("upstream".to_owned()).spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let seen = noted.clone();
                let serving = move || serve(stream, number, &seen);
                if thread::Builder::new().name("upstream".to_owned()).spawn(serving).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, seen })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Has a guest ask for this.
    #[track_caller]
    fn fetched(&self, server: &Server, path: &str) -> Response {
        get(server.address, &format!("/fetch?url={}", self.url(path)))
    }
}

/// A request, with its body unless it asks for an answer before that; nothing at the end.
fn next_request(stream: &mut TcpStream) -> Option<String> {
    let mut read = String::new();
    while !is_whole(&read) {
        let mut some = [0; 4096];
        match stream.read(&mut some) {
            Ok(0) | Err(_) => return None,
            Ok(count) => read.push_str(&String::from_utf8_lossy(&some[..count])),
        }
    }
    Some(read)
}

fn is_whole(read: &str) -> bool {
    let Some((head, body)) = read.split_once("\r\n\r\n") else { return false };
    let has = |field: &str| head.to_ascii_lowercase().contains(field);
    head.contains(" /early ") || !has("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n")
}

fn serve(mut stream: TcpStream, number: usize, seen: &Seen) -> Option<()> {
    stream.set_read_timeout(Some(GIVEN_UP_WITHIN + CEILING)).ok()?;
    // What it says comes at once.
    stream.set_nodelay(true).ok()?;
    for turn in 0.. {
        let head = next_request(&mut stream)?;
        let line = head.lines().next()?.to_owned();
        seen.note(number, &line);
        let answer = |stream: &mut TcpStream, text: &str| stream.write_all(text.as_bytes()).ok();
        match line.split(' ').nth(1)?.trim_start_matches('/') {
            // It closes without a word, a moment after its answer.
            "closes" => {
                answer(&mut stream, OK)?;
                thread::sleep(Duration::from_millis(20));
                return None;
            }
            // It takes a second request on a connection, and closes.
            "drops-second" if turn > 0 => return None,
            // The same after a piece of an answer.
            "breaks-second" if turn > 0 => {
                answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-le")?;
                return None;
            }
            "two" => answer(&mut stream, &format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"))?,
            "late" => {
                answer(&mut stream, OK)?;
                thread::sleep(Duration::from_millis(20));
                answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")?;
                seen.note(number, "said more");
            }
            // Its body is longer than it says.
            "longer" => answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok, and more")?,
            // Its body is shorter than it says: the next answer seems to be a part of it.
            "shorter" => {
                answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok")?;
                thread::sleep(Duration::from_millis(50));
                return None;
            }
            "says-close" => {
                answer(&mut stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok")?;
            }
            "of-1.0" => answer(&mut stream, "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok")?,
            "one-second" => {
                answer(&mut stream, "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok")?;
            }
            "chunks" => {
                answer(&mut stream, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")?;
            }
            "slow" => {
                thread::sleep(Duration::from_millis(500));
                answer(&mut stream, OK)?;
            }
            // It answers at once, and takes nothing more of the request.
            "early" => {
                answer(&mut stream, "HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nok")?;
                thread::sleep(Duration::from_millis(300));
                return None;
            }
            // More than is read.
            "long" => {
                answer(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")?;
                stream.write_all(&[b'x'; 1_000_000]).ok()?;
            }
            _ => answer(&mut stream, OK)?,
        }
    }
    None
}

const ONE: [&str; 4] = ["--workers", "1", "--allow-host", "127.0.0.1"];

fn serving(component: &str, flags: &[&str]) -> Server {
    Server::start(component, &[&ONE[..], flags].concat())
}

/// Outgoing requests that were counted, on new connections and on kept ones.
fn counted(server: &Server) -> (u64, u64) {
    let metrics = server.admin("/metrics").text();
    let of = |label: &str| -> u64 {
        let begin = format!("wasmhost_outgoing_requests_total{{worker=\"1\",connection=\"{label}\"}} ");
        let found = metrics.lines().find_map(|line| line.strip_prefix(&begin)?.parse::<f64>().ok());
        found.map_or(u64::MAX, |count| count as u64)
    };
    (of("new"), of("kept"))
}

#[test]
fn requests_of_an_app_one_after_the_other_share_a_connection() -> TestResult {
    for component in FAULTS {
        for flags in [&["--isolation", "worker"][..], &["--isolation", "request", "--worker-kind", "process"]] {
            let (upstream, server) = (Upstream::start()?, serving(component, flags));
            for path in ["/", "/chunks"] {
                for _ in 0..10 {
                    let response = upstream.fetched(&server, path);
                    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{component} {flags:?}");
                }
            }
            let posted = request(server.address, "POST", &format!("/fetch-post?url={}", upstream.url("/")), b"body");
            assert_eq!(posted.text(), "ok", "{component} {flags:?}");
            let seen = upstream.seen.all();
            assert_eq!((seen.len(), upstream.seen.connections()), (21, 1), "{component} {flags:?}: {seen:?}");
            assert_eq!(counted(&server), (1, 20), "{component} {flags:?}");
        }
    }
    Ok(())
}

#[test]
fn a_connection_that_its_upstream_closes_costs_no_request() -> TestResult {
    for component in FAULTS {
        let server = serving(component, &[]);
        // The guest may ask before or after the host has learnt of the end.
        for path in ["/closes", "/drops-second", "/breaks-second"] {
            let upstream = Upstream::start()?;
            for turn in 0..20 {
                let response = upstream.fetched(&server, path);
                assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{component} {path} {turn}");
                thread::sleep(Duration::from_millis(turn * 3));
            }
        }
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{component}");
    }
    Ok(())
}

#[test]
fn a_request_that_may_have_been_done_is_not_sent_again() -> TestResult {
    for component in FAULTS {
        let server = serving(component, &[]);
        let post = |upstream: &Upstream| {
            let target = format!("/fetch-post?url={}", upstream.url("/drops-second"));
            request(server.address, "POST", &target, b"an order")
        };
        // (The host keeps the connection a moment after the guest has the answer: a second request that is faster gets another.)
        let mut upstreams = (0..10).map(|_| Upstream::start());
        let upstream = loop {
            let upstream = upstreams.next().ok_or("never on the kept connection")??;
            assert_eq!(post(&upstream).text(), "ok", "{component}: the first");
            let second = post(&upstream);
            let seen = upstream.seen.all();
            assert_eq!(seen.len(), 2, "{component}: {seen:?}");
            if seen[0].0 == seen[1].0 {
                assert_eq!(second.status, 502, "{component}: {}", second.text());
                break upstream;
            }
        };
        // The next one has a new connection.
        assert_eq!(post(&upstream).text(), "ok", "{component}: the third");
    }
    Ok(())
}

#[test]
fn no_answer_goes_to_a_request_that_did_not_ask_for_it() -> TestResult {
    for component in FAULTS {
        let (upstream, server) = (Upstream::start()?, serving(component, &[]));
        for turn in 0_usize..10 {
            let response = upstream.fetched(&server, if turn % 2 == 0 { "/two" } else { "/late" });
            assert_eq!(response.text(), "ok", "{component}");
            // (What comes while the next request is under way nobody can tell from its answer.)
            let said = || upstream.seen.all().iter().filter(|(_, line)| line == "said more").count();
            eventually("the upstream has said more", || said() == turn.div_ceil(2));
            let next = upstream.fetched(&server, "/");
            assert_eq!(next.text(), "ok", "{component} {turn}: {:?}", upstream.seen.all());
        }
    }
    Ok(())
}

#[test]
fn a_connection_is_not_used_again_when_one_side_has_had_enough() -> TestResult {
    for component in FAULTS {
        let server = serving(component, &[]);
        for path in ["/says-close", "/of-1.0", "/one-second"] {
            let upstream = Upstream::start()?;
            for _ in 0..3 {
                assert_eq!(upstream.fetched(&server, path).text(), "ok", "{component} {path}");
            }
            assert_eq!(upstream.seen.connections(), 3, "{component} {path}: {:?}", upstream.seen.all());
        }
        // A body that is longer, or shorter, than it says.
        let upstream = Upstream::start()?;
        for _ in 0..3 {
            assert_eq!(upstream.fetched(&server, "/longer").text(), "ok", "{component}");
            let shorter = upstream.fetched(&server, "/shorter");
            assert!(!(shorter.status == 200 && shorter.whole), "{component}: {shorter:?}");
        }
        assert_eq!(upstream.seen.connections(), 6, "{component}: {:?}", upstream.seen.all());
        // A response that the guest does not read to its end.
        let upstream = Upstream::start()?;
        for _ in 0..3 {
            let each = get(server.address, &format!("/fetch-each?count=1&url={}", upstream.url("/long")));
            assert_eq!(each.text(), "200: 1\n", "{component}");
        }
        assert_eq!(upstream.seen.connections(), 3, "{component}: {:?}", upstream.seen.all());
        // An answer that came before the end of the request.
        let upstream = Upstream::start()?;
        let body = vec![b'x'; 16 << 20];
        for _ in 0..3 {
            let path = format!("/fetch-post?url={}", upstream.url("/early"));
            let response = request(server.address, "POST", &path, &body);
            let is_told = response.header("x-upstream-status") == Some("413") || response.status == 502;
            assert!(is_told, "{component}: {} {}", response.status, response.text());
        }
        let heads = upstream.seen.all().into_iter().filter(|(_, line)| line.starts_with("POST")).count();
        assert_eq!((heads, upstream.seen.connections()), (3, 3), "{component}: {:?}", upstream.seen.all());
    }
    Ok(())
}

#[test]
fn apps_do_not_share_connections() -> TestResult {
    for kind in ["thread", "process"] {
        let upstream = Upstream::start()?;
        let text = |name| app(name, "faults.wasm", &format!("{name}.test/*"), "allow-hosts = [\"127.0.0.1\"]");
        let folder = Folder::new(&(text("one") + &text("two")))?;
        let server = folder.serve(&["--workers", "1", "--worker-kind", kind]);
        for _ in 0..3 {
            for name in ["one", "two"] {
                let path = format!("/fetch?url={}", upstream.url(&format!("/of-{name}")));
                assert_eq!(ask_until_loaded(server.address, &format!("{name}.test"), &path).text(), "ok");
            }
        }
        let mut by_app: Vec<(usize, String)> = upstream.seen.all();
        by_app.sort();
        by_app.dedup();
        assert_eq!(by_app.len(), 2, "{kind}: each connection has requests of one app: {by_app:?}");
    }
    Ok(())
}

#[test]
fn kept_connections_are_bounded_and_given_up() -> TestResult {
    let upstream = Upstream::start()?;
    let server = serving("faults-p3.wasm", &["--isolation", "worker", "--cpu-limit", "5s"]);
    let open = || {
        // Of `/proc/net/tcp`: to the upstream, and established.
        let to = format!(":{:04X} 01 ", upstream.address.port());
        std::fs::read_to_string("/proc/net/tcp").unwrap_or_default().matches(&to).count()
    };
    let mut clients: Vec<Connection> = (0..100).map(|_| Connection::open(server.address)).collect();
    for client in &mut clients {
        client.send(format!("GET /fetch?url={} HTTP/1.1\r\nHost: test\r\n\r\n", upstream.url("/slow")));
    }
    for client in &mut clients {
        assert_eq!(client.response().text(), "ok");
    }
    eventually("those without room are closed", || open() <= 64);
    assert!(open() > 32, "{} are kept", open());
    // Nobody uses them.
    let began = Instant::now();
    eventually_within(GIVEN_UP_WITHIN, "all are given up", || open() == 0);
    assert!(began.elapsed() > GIVEN_UP_WITHIN / 2, "{:?}", began.elapsed());
    Ok(())
}

#[test]
fn a_host_that_is_not_granted_stays_so_beside_kept_connections() -> TestResult {
    let (upstream, server) = (Upstream::start()?, serving("faults.wasm", &[]));
    for _ in 0..2 {
        assert_eq!(upstream.fetched(&server, "/").text(), "ok");
        let other = format!("/fetch?url=http://localhost:{}/", upstream.address.port());
        let refused = get(server.address, &other);
        assert!(named(&refused.text(), "HttpRequestDenied"), "{}", refused.text());
    }
    assert_eq!(upstream.seen.connections(), 1);
    Ok(())
}
