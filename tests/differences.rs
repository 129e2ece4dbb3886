//! Where programs are known to read HTTP/1.1 in different ways, does the host take the same requests as Debian's nginx, or
//! fewer? The rows are those of `smuggling`, which says what the host answers. Here they go to nginx, too, and to the host
//! over HTTP/2 in the form that a proxy would give them that does not look at them. The table is also `docs/HTTP1.md`.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use crate::proxies::{Kind, Proxy};
use crate::smuggling::{Row, SMUGGLED, Then, answers, table};
use crate::support::document::check_part;
use crate::support::http2::{END_HEADERS, END_STREAM, Frames, Outcome, frame, kind, raw_fields};
use crate::support::{Connection, Server, TestResult, eventually, facility};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/HTTP1.md");
const BEGIN: &str = "<!-- table: begin -->\n";
const END: &str = "<!-- table: end -->";

/// How long nginx's first answer is waited for, and how long another.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
const ANOTHER_WITHIN: Duration = Duration::from_millis(80);

/// A request as somebody took it. The body counts where the path asks for its size.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Taken {
    method: String,
    target: String,
    body: Option<usize>,
}

impl Taken {
    fn new(method: &str, target: &str, body: usize) -> Self {
        let body = (target == "/body-size").then_some(body);
        Self { method: method.to_owned(), target: target.to_owned(), body }
    }
}

/// Whether whoever took `ours` took none that whoever took `theirs` did not, and read each in the same way.
fn are_among(ours: &[Taken], theirs: &[Taken]) -> bool {
    let mut theirs = theirs.iter();
    ours.iter().all(|taken| theirs.any(|other| other == taken))
}

#[test]
fn requests_are_among_others_in_their_order_and_with_their_bodies() {
    let [a, b] = ["/body-size", "/b"].map(|target| Taken::new("GET", target, 1));
    let longer = Taken::new("GET", "/body-size", 2);
    let among = |ours: &[&Taken], theirs: &[&Taken]| {
        let [ours, theirs] = [ours, theirs].map(|of| of.iter().map(|taken| (*taken).clone()).collect::<Vec<_>>());
        are_among(&ours, &theirs)
    };
    assert!(among(&[], &[]) && among(&[], &[&a]) && among(&[&a, &b], &[&a, &b]) && among(&[&b], &[&a, &b]));
    assert!(!among(&[&a], &[]) && !among(&[&b, &a], &[&a, &b]) && !among(&[&longer], &[&a]));
}

/// What stands behind nginx: it takes whatever is forwarded, and keeps what it was.
struct Upstream {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
}

impl Upstream {
    fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let upstream = Self { address: listener.local_addr()?, taken: Arc::default() };
        let taken = Arc::clone(&upstream.taken);
        let accept = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let taken = Arc::clone(&taken);
                let serve = move || while Self::serve(&stream, &taken).is_some() {};
                Builder::new().name("upstream".to_owned()).spawn(serve).expect("a thread");
            }
        };
        Builder::new().name("upstream".to_owned()).spawn(accept)?;
        Ok(upstream)
    }

    /// Reads a request, which nginx has put into its own form, and answers. None at the connection's end.
    fn serve(mut stream: &TcpStream, taken: &Mutex<Vec<Taken>>) -> Option<()> {
        let (mut bytes, mut some) = (Vec::new(), [0; 64 * 1024]);
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            let read = stream.read(&mut some).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&some[..read]);
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        let length = length.unwrap_or(0);
        while bytes.len() < end + 4 + length {
            let read = stream.read(&mut some).ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&some[..read]);
        }
        // (A target may have spaces for all that is known.)
        let line = head.lines().next()?.rsplit_once(' ')?.0;
        let (method, target) = line.split_once(' ')?;
        taken.lock().unwrap_or_else(PoisonError::into_inner).push(Taken::new(method, target, length));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").ok()
    }

    /// What was taken since it was last asked.
    fn take(&self) -> Vec<Taken> {
        std::mem::take(&mut *self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The statuses that nginx answers with. It may close at once what it takes for no request at all.
fn ask_nginx(nginx: SocketAddr, row: &Row) -> Vec<u16> {
    let mut connection = Connection::open(nginx);
    let _ = connection.stream.write_all(&row.bytes);
    let mut statuses = Vec::new();
    let mut wait = ANSWER_WITHIN;
    loop {
        connection.stream.set_read_timeout(Some(wait)).expect("a time-out");
        let Some(answer) = connection.try_response(false) else { return statuses };
        statuses.push(answer.status);
        wait = ANOTHER_WITHIN;
    }
}

/// The host, and how many lines of its access log are known.
struct Ours {
    server: Server,
    known: usize,
}

impl Ours {
    /// What the guest has got since this was last asked, when it is `expected`.
    fn take(&mut self, expected: usize) -> Vec<(String, String)> {
        // The host's own refusals have other statuses.
        let is_taken = |record: &serde_json::Value| record["status"] == 200 || record["status"] == 404;
        let records = || self.server.records(|record| record["target"] == "access" && is_taken(record));
        eventually("the log tells of them", || records().len() >= self.known + expected);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let taken: Vec<_> =
            records()[self.known..].iter().map(|record| (text(&record["method"]), text(&record["path"]))).collect();
        self.known += taken.len();
        taken
    }

    fn ask(&mut self, row: &Row) -> (Vec<u16>, Vec<Taken>) {
        let mut connection = Connection::open(self.server.address);
        // It may be refused before all of it was sent.
        let _ = connection.stream.write_all(&row.bytes);
        if row.then == Then::Closed {
            let _ = connection.stream.shutdown(Shutdown::Write);
        }
        let answers = answers(&mut connection, row);
        let statuses = answers.iter().map(|answer| answer.status).collect();
        let mut sizes = answers
            .iter()
            .filter(|answer| [200, 404].contains(&answer.status))
            .map(|answer| answer.text().trim().strip_prefix("bytes: ").and_then(|size| size.parse().ok()).unwrap_or(0));
        let taken = self.take(sizes.clone().count()).into_iter();
        let taken = taken.map(|(method, target)| Taken::new(&method, &target, sizes.next().unwrap_or(0))).collect();
        (statuses, taken)
    }

    /// What becomes of the row over HTTP/2, and how many requests the guest got.
    fn ask_over_http2(&mut self, form: &Http2Form) -> (Outcome, Vec<(String, String)>) {
        let mut client = Frames::open(self.server.address);
        let ends = if form.body.is_empty() { END_STREAM } else { 0 };
        let mut bytes = frame(kind::HEADERS, END_HEADERS | ends, 1, &form.head);
        if !form.body.is_empty() {
            bytes.extend(frame(kind::DATA, END_STREAM, 1, &form.body));
        }
        client.try_send(bytes);
        let outcome = client.outcome(1);
        let taken = self.take(usize::from([200, 404].contains(&outcome.status())));
        (outcome, taken)
    }
}

/// A request as HTTP/2 carries it: HPACK's block, and the body.
struct Http2Form {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Http2Form {
    /// The request of a row, translated without a look at what it says. None, where it is about lines, versions, chunks or
    /// what follows a request: HTTP/2 has no such thing.
    fn of(row: &Row) -> Option<Self> {
        let bytes = row.bytes.strip_suffix(SMUGGLED.as_bytes())?;
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let (head, body) = (&bytes[..end], &bytes[end + 4..]);
        let lines: Vec<&[u8]> = head.split(|byte| *byte == b'\n').collect();
        let (last, others) = lines.split_last()?;
        let mut lines: Vec<&[u8]> = others.iter().map(|line| line.strip_suffix(b"\r")).collect::<Option<_>>()?;
        lines.push(last);
        let line: Vec<&[u8]> = lines.first()?.split(|byte| *byte == b' ').collect();
        let [method, target, b"HTTP/1.1"] = line[..] else { return None };
        let mut fields =
            vec![(b":method".to_vec(), method), (b":scheme".to_vec(), &b"http"[..]), (b":path".to_vec(), target)];
        let mut is_about_chunks = false;
        for line in &lines[1..] {
            let colon = line.iter().position(|byte| *byte == b':').filter(|_| line[0] != b' ' && line[0] != b'\t')?;
            let (name, value) = (line[..colon].to_ascii_lowercase(), &line[colon + 1..]);
            let value = value.strip_prefix(b" ").unwrap_or(value);
            is_about_chunks |= (&name[..], value) == (b"transfer-encoding", b"chunked");
            let is_first_host = name == b"host" && fields.len() == 3;
            fields.push((if is_first_host { b":authority".to_vec() } else { name }, value));
        }
        // Pseudo-headers come first.
        let at = fields.iter().position(|(name, _)| name == b":authority")?;
        fields[..=at].rotate_right(1);
        let only_asks = fields.len() == 4 && method == b"GET" && target == b"/count" && fields[0].1 == b"a";
        let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (&name[..], *value)).collect();
        let says_nothing = only_asks || (is_about_chunks && fields.len() == 5);
        (!says_nothing).then(|| Self { head: raw_fields(&fields), body: body.to_vec() })
    }
}

/// Over HTTP/2 these are taken, though not over HTTP/1.1: why.
const TAKEN_OVER_HTTP2: [(&str, &str); 3] = [
    ("two hosts", "`host` says what `:authority` says"),
    ("a fragment", "h2 leaves it out"),
    ("a fragment behind a query", "h2 leaves it out"),
];

/// What nginx does not take, although an RFC says that it is one request.
const MORE_THAN_NGINX: [&str; 3] = ["two lists of tags", "two other lists of tags", "an asterisk with OPTIONS"];

fn words(statuses: &[u16], taken: &[Taken]) -> String {
    match statuses {
        [] if taken.is_empty() => "no answer".to_owned(),
        [] => "an answer without a status".to_owned(),
        _ => statuses.iter().map(u16::to_string).collect::<Vec<_>>().join(", "),
    }
}

fn words_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(status, _) => status.to_string(),
        Outcome::Reset(_) => "reset".to_owned(),
        Outcome::Broken(status, ..) => format!("{status}, reset"),
        Outcome::GoAway(_) | Outcome::Closed => "closed".to_owned(),
    }
}

#[test(needs(Nginx))]
fn the_host_takes_no_request_that_nginx_does_not_take() -> TestResult {
    let program = facility::server_program_path("nginx").ok_or("nginx is not installed")?;
    let version = Command::new(&program).arg("-v").output()?.stderr;
    let version = String::from_utf8(version)?.trim().trim_start_matches("nginx version: ").replace('/', " ");
    let upstream = Upstream::start()?;
    let nginx = Proxy::start(Kind::Nginx, &program, upstream.address)?;
    let flags = ["--workers", "1", "--access-log"];
    let mut ours = Ours { server: Server::start("faults.wasm", &flags), known: 0 };
    let (mut lines, mut wrong) = (String::new(), Vec::new());
    let (mut same, mut fewer, mut more) = (0, 0, 0);
    for row in table() {
        let theirs = ask_nginx(nginx.address, &row);
        let they_took = upstream.take();
        let (statuses, we_took) = ours.ask(&row);
        let is_strict = are_among(&we_took, &they_took);
        let counted = match (we_took == they_took, is_strict) {
            (true, _) => &mut same,
            (false, true) => &mut fewer,
            (false, false) => &mut more,
        };
        *counted += 1;
        let is_explained = row.why.is_empty() == (we_took == they_took);
        let what =
            |of: &str| format!("{}: {of}\n  nginx {theirs:?} {they_took:?}\n  ours {statuses:?} {we_took:?}", row.name);
        if row.source.is_empty() || !is_explained {
            wrong.push(what("the reason is missing, or there is nothing to explain"));
        }
        if is_strict == MORE_THAN_NGINX.contains(&row.name) {
            wrong.push(what("the host takes more, or it should"));
        }
        let mut over_http2 = String::from("—");
        if let Some(form) = Http2Form::of(&row) {
            let (outcome, took) = ours.ask_over_http2(&form);
            over_http2 = words_of(&outcome);
            // The first one of HTTP/1.1, if it was taken at all.
            let first = we_took.first().filter(|taken| taken.target != "/count?smuggled");
            let is_first = took
                .first()
                .is_none_or(|took| first.is_some_and(|first| (&first.method, &first.target) == (&took.0, &took.1)));
            let known = TAKEN_OVER_HTTP2.iter().find(|(name, _)| *name == row.name);
            if took.len() > 1 || is_first == known.is_some() {
                wrong.push(what(&format!("over HTTP/2: {outcome:?} {took:?}")));
            }
            if let Some((_, why)) = known {
                over_http2 = format!("{over_http2} ({why})");
            }
        }
        let (theirs, own) = (words(&theirs, &they_took), words(&statuses, &we_took));
        lines += &format!("| {} | {} | {theirs} | {own} | {over_http2} | {} |\n", row.name, row.source, row.why);
    }
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
    let text = format!(
        "\nOf {} rows, {version} and wasmhost take the same requests in {same}. wasmhost takes fewer in {fewer}, and more in {more}.\n\n\
        | what is sent | where it is described | nginx | wasmhost | over HTTP/2 | why they differ |\n|---|---|---|---|---|---|\n{lines}\n",
        same + fewer + more
    );
    check_part(DOCUMENT, BEGIN, END, &text)
}
