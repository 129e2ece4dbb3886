//! The rows of the table: what every language's application must answer.

use std::io::Write;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::upstream::{BEGINNING, Request, Upstream};
use crate::support::{CEILING, Connection, Response, Server, get};

/// A question, and what tells whether the answers are right: it panics where they are not.
pub struct Row {
    /// As the table has it.
    pub name: &'static str,
    check: fn(&Server),
}

/// All of them.
pub const ROWS: [Row; 16] = [
    Row { name: "hello", check: hello },
    Row { name: "10 MiB echoed, as it comes", check: echo },
    Row { name: "routes", check: routes },
    Row { name: "404", check: not_found },
    Row { name: "headers: repeats, bytes", check: headers },
    Row { name: "query strings", check: query },
    Row { name: "wrong percent encoding", check: percent },
    Row { name: "HEAD", check: head },
    Row { name: "reused instance", check: count },
    Row { name: "error in the handler", check: error },
    Row { name: "requests at once", check: at_once },
    Row { name: "outgoing fetch", check: fetch },
    Row { name: "uploads passed on", check: uploads },
    Row { name: "an upstream that breaks off", check: breaks_off },
    Row { name: "memory limit met", check: memory },
    Row { name: "logs", check: logs },
];

/// A component that is asked.
pub struct Asked<'a> {
    component: &'a str,
    cache: &'a str,
}

impl<'a> Asked<'a> {
    pub fn new(component: &'a str, cache: &'a str) -> Self {
        Self { component, cache }
    }

    /// What came of a row, on a server of its own.
    pub fn ask(&self, row: &Row) -> Result<(), String> {
        let flags = ["--cache-dir", self.cache, "--allow-host", "127.0.0.1"];
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let server = Server::start_within(super::FIRST_START_CEILING, self.component, &flags);
            (row.check)(&server);
        }));
        outcome.map_err(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned())).unwrap_or_default()
        })
    }
}

#[track_caller]
fn is_text(address: SocketAddr, path: &str, status: u16, text: &str) {
    let response = get(address, path);
    assert_eq!((response.status, response.text().as_str(), response.whole), (status, text, true), "{path}");
}

fn hello(server: &Server) {
    for _ in 0..10 {
        is_text(server.address, "/", 200, "Hello, World!");
        let kind = get(server.address, "/").header("content-type").unwrap_or_default().to_owned();
        assert!(kind.starts_with("text/plain"), "{kind}");
    }
}

fn echo(server: &Server) {
    let body: Vec<u8> = (0..10 * 1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let (beginning, rest) = body.split_at(1000);
    let mut connection = Connection::open(server.address);
    for turn in 1..=2 {
        connection.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: x/y\r\nContent-Length: {}\r\n\r\n",
            body.len()
        ));
        connection.send(beginning);
        let came = connection.fill_until(|buffer| buffer.windows(100).position(|bytes| bytes == &beginning[..100]));
        assert!(came.is_some(), "turn {turn}: the beginning does not come back while the body is being sent");
        let mut sender = connection.stream.try_clone().expect("a second handle");
        let response = std::thread::scope(|scope| {
            scope.spawn(move || sender.write_all(rest).expect("the server reads"));
            connection.response()
        });
        assert_eq!((response.status, response.whole, response.body.len()), (200, true, body.len()), "turn {turn}");
        assert_eq!(response.header("content-type"), Some("x/y"));
        assert!(response.body == body, "turn {turn}: other bytes than were sent");
    }
}

fn routes(server: &Server) {
    is_text(server.address, "/hello/Ada", 200, "Hello, Ada!");
    not_cut_twice(server.address);
    is_text(server.address, "/hello/J%C3%BCrgen?greeting=Good%20day", 200, "Good day, Jürgen!");
}

/// What the template of `wasmhost new` has to do right, as the applications do.
pub fn template(server: &Server) {
    head(server);
    is_text(server.address, "/hello/Ada", 200, "Hello, Ada!");
    not_cut_twice(server.address);
    for path in ["/hello/%", "/hello/%zz"] {
        is_refused_or_literal(&get(server.address, path), &format!("Hello, {}!", &path[7..]), path);
    }
    let mut connection = Connection::open(server.address);
    connection.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
    let echoed = connection.response();
    assert_eq!((echoed.status, echoed.text().as_str(), echoed.whole), (200, "body", true), "/echo");
}

/// The prefix of a path is taken off once.
fn not_cut_twice(address: SocketAddr) {
    let twice = get(address, "/hello//hello/x");
    assert_ne!(twice.text(), "Hello, x!", "/hello//hello/x");
    assert!(twice.status < 500, "/hello//hello/x: {}", twice.status);
}

/// Wrong percent encoding is the client's mistake: 400, or taken as it is.
fn is_refused_or_literal(response: &Response, literal: &str, path: &str) {
    let text = response.text();
    assert!(
        response.status == 400 || (response.status == 200 && text == literal),
        "{path}: {} {text}",
        response.status
    );
}

fn percent(server: &Server) {
    for path in ["/hello/%", "/hello/%zz", "/hello/a%2"] {
        is_refused_or_literal(&get(server.address, path), &format!("Hello, {}!", &path[7..]), path);
    }
    let signed = get(server.address, "/query?a=%+5&b=%-5");
    assert!(signed.status < 500, "{}", signed.status);
    let control = signed.text().chars().any(|character| character.is_control() && character != '\n');
    assert!(!control, "%+5 was decoded: {:?}", signed.text());
    is_text(server.address, "/", 200, "Hello, World!");
}

fn head(server: &Server) {
    let mut connection = Connection::open(server.address);
    for path in ["/", "/hello/Ada", "/elsewhere"] {
        let get = connection.get(path);
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let head = connection.try_response(true).expect("an answer");
        assert_eq!((head.status, head.header("content-type")), (get.status, get.header("content-type")), "{path}");
    }
    // No byte of a body came: the next response is read as it should be.
    assert_eq!(connection.get("/").text(), "Hello, World!");
}

fn not_found(server: &Server) {
    is_text(server.address, "/elsewhere?path=/", 404, "not found");
}

fn headers(server: &Server) {
    let mut connection = Connection::open(server.address);
    connection.send(b"GET /headers HTTP/1.1\r\nHost: test\r\nX-Test: one\r\nX-Test: caf\xe9\r\n\r\n");
    let head = connection.fill_until(|buffer| buffer.windows(4).position(|end| end == b"\r\n\r\n")).expect("a head");
    let head = connection.buffer[..head + 2].to_vec();
    let field = b"x-bytes: caf\xe9\r\n";
    let told = head.windows(field.len()).any(|bytes| bytes.eq_ignore_ascii_case(field));
    assert!(told, "{}", head.escape_ascii());
    let response = connection.response();
    let cookies: Vec<&str> =
        response.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(response.body.escape_ascii().to_string(), "one\\ncaf\\xe9\\n");
}

fn query(server: &Server) {
    is_text(server.address, "/query?a=1&a=2&b=%20x+y&c=", 200, "a=1\na=2\nb= x y\nc=\n");
}

fn count(server: &Server) {
    let mut connection = Connection::open(server.address);
    let counted: Vec<String> = (0..3).map(|_| connection.get("/count").text()).collect();
    assert_eq!(counted, ["1", "2", "3"]);
}

fn error(server: &Server) {
    for _ in 0..3 {
        let response = get(server.address, "/error");
        assert_eq!((response.status, response.whole), (500, true));
        is_text(server.address, "/", 200, "Hello, World!");
    }
}

fn at_once(server: &Server) {
    std::thread::scope(|scope| {
        for client in 0..16 {
            let address = server.address;
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for asked in 0..20 {
                    let name = format!("{client}-{asked}");
                    assert_eq!(connection.get(&format!("/hello/{name}")).text(), format!("Hello, {name}!"));
                }
            });
        }
    });
}

fn fetch(server: &Server) {
    let upstream = Upstream::start();
    for _ in 0..3 {
        let path = format!("/fetch?url=http://{}/some?a=1", upstream.address);
        is_text(server.address, &path, 200, "203\nfrom upstream");
        let asked = upstream.asked.recv_timeout(CEILING).expect("a request");
        assert_eq!(framing(&asked), [None, None], "a GET without a body: {}", asked.head);
    }
    let refused = get(server.address, "/fetch?url=http://not-allowed.test/");
    assert_eq!(refused.status, 502, "{}", refused.text());
    is_text(server.address, "/", 200, "Hello, World!");
}

/// The values of `content-length` and `transfer-encoding`.
fn framing(request: &Request) -> [Option<&str>; 2] {
    let fields = || request.head.lines().filter_map(|line| line.split_once(": "));
    ["content-length", "transfer-encoding"]
        .map(|name| fields().find(|(given, _)| *given == name).map(|(_, value)| value))
}

/// A body whose length is known goes out with it: many servers answer 411 to one in chunks.
fn uploads(server: &Server) {
    let upstream = Upstream::start();
    let body: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
    let mut connection = Connection::open(server.address);
    let target = format!("POST /proxy?url=http://{}/upload HTTP/1.1\r\nHost: test\r\n", upstream.address);
    for length in [200_000, 1, 0] {
        connection.send(format!("{target}Content-Length: {length}\r\n\r\n"));
        connection.send(&body[..length]);
        let response = connection.response();
        assert_eq!((response.status, response.text().as_str()), (203, "from upstream"), "{length} bytes");
        let asked = upstream.asked.recv_timeout(CEILING).expect("a request");
        assert_eq!(framing(&asked), [Some(length.to_string().as_str()), None], "{length} bytes: {}", asked.head);
        assert!(asked.body == body[..length], "{length} bytes: others came than were sent");
    }
    connection.send(format!("{target}Transfer-Encoding: chunked\r\n\r\n"));
    for part in body.chunks(70_000) {
        connection.send(format!("{:x}\r\n", part.len()));
        connection.send(part);
        connection.send("\r\n");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    connection.send("0\r\n\r\n");
    let response = connection.response();
    assert_eq!((response.status, response.text().as_str()), (203, "from upstream"), "in chunks");
    let asked = upstream.asked.recv_timeout(CEILING).expect("a request");
    assert!(asked.body == body, "in chunks: {} bytes of {} came: {}", asked.body.len(), body.len(), asked.head);
}

/// What is passed on while the other side breaks off never looks whole.
fn breaks_off(server: &Server) {
    let upstream = Upstream::start();
    for path in ["/whole", "/short", "/no-last-chunk", "/half-a-chunk"] {
        let mut connection = Connection::open(server.address);
        connection.send(format!(
            "GET /proxy?url=http://{}{path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
            upstream.address
        ));
        // The beginning is here, so the response headers are, before the other side ends or breaks off.
        let beginning = BEGINNING.as_bytes();
        let came = connection.fill_until(|buffer| buffer.windows(beginning.len()).position(|bytes| bytes == beginning));
        assert!(came.is_some(), "{path}: {}", connection.buffer.escape_ascii());
        upstream.go_on.send(()).expect("the other side waits");
        let raw = connection.raw_to_end();
        connection.buffer = raw.clone();
        let response = connection.response();
        let is_framed = ["content-length", "transfer-encoding"].iter().any(|name| response.header(name).is_some());
        assert!(is_framed, "{path}: the end of the connection would be that of the body: {}", raw.escape_ascii());
        let whole = path == "/whole";
        assert_eq!((response.status, response.whole), (203, whole), "{path}: {}", raw.escape_ascii());
        if whole {
            assert_eq!(response.text(), format!("{BEGINNING}end"));
        }
        // One that reads it all before it answers is told as well.
        let url = format!("/fetch?url=http://{}{path}", upstream.address);
        let address = server.address;
        let asking = std::thread::Builder::new().name("asking".to_owned());
        let fetched = asking.spawn(move || get(address, &url)).expect("a thread");
        upstream.go_on.send(()).expect("the other side waits");
        let fetched = fetched.join().expect("an answer");
        let is_good = fetched.status == 200 && fetched.whole;
        assert_eq!(is_good, whole, "{path}: {} {}", fetched.status, fetched.text());
        is_text(server.address, "/", 200, "Hello, World!");
    }
}

fn memory(server: &Server) {
    let response = get(server.address, "/memory");
    assert_eq!(response.status, 500, "{}", response.text());
    server.wait_for_record("the limit", |record| record["limit"] == "--memory-max");
    is_text(server.address, "/", 200, "Hello, World!");
}

fn logs(server: &Server) {
    is_text(server.address, "/log", 200, "logged");
    for stream in ["stdout", "stderr"] {
        server.wait_for_record(stream, |record| {
            record["stream"] == stream
                && record["message"].as_str().is_some_and(|message| message.contains(&format!("to {stream}")))
        });
    }
}
