//! The rows of the table: what every language's application must answer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{CEILING, Connection, Server, get};

/// A question, and what tells whether the answers are right: it panics where they are not.
pub struct Row {
    /// As the table has it.
    pub name: &'static str,
    check: fn(&Server),
}

/// All of them.
pub const ROWS: [Row; 12] = [
    Row { name: "hello", check: hello },
    Row { name: "10 MiB echoed, as it comes", check: echo },
    Row { name: "routes", check: routes },
    Row { name: "404", check: not_found },
    Row { name: "headers: repeats, bytes", check: headers },
    Row { name: "query strings", check: query },
    Row { name: "reused instance", check: count },
    Row { name: "error in the handler", check: error },
    Row { name: "requests at once", check: at_once },
    Row { name: "outgoing fetch", check: fetch },
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
    is_text(server.address, "/hello/J%C3%BCrgen?greeting=Good%20day", 200, "Good day, Jürgen!");
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

/// Answers each connection's first request.
fn upstream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serve = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(CEILING)).expect("a time-out");
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            }
            let answer = "HTTP/1.1 203 Fine\r\ncontent-length: 13\r\nconnection: close\r\n\r\nfrom upstream";
            let _ = stream.write_all(answer.as_bytes());
        }
    };
    std::thread::Builder::new().name("upstream".to_owned()).spawn(serve).expect("a thread");
    address
}

fn fetch(server: &Server) {
    let upstream = upstream();
    for _ in 0..3 {
        is_text(server.address, &format!("/fetch?url=http://{upstream}/some?a=1"), 200, "203\nfrom upstream");
    }
    let refused = get(server.address, "/fetch?url=http://not-allowed.test/");
    assert_eq!(refused.status, 502, "{}", refused.text());
    is_text(server.address, "/", 200, "Hello, World!");
}

fn memory(server: &Server) {
    let response = get(server.address, "/memory");
    assert_eq!(response.status, 500, "{}", response.text());
    server.wait_for_record("memory", |record| {
        record["message"].as_str().is_some_and(|message| message.contains("memory")) && record["level"] != "DEBUG"
    });
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
