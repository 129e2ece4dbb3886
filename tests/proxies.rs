//! Behind nginx and HAProxy: does the host see no request that the proxy has not forwarded, whatever a client sends, and
//! does traffic that is good pass? The proxies are Debian's, started here on loopback with the configurations of
//! `docs/deploy`.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::smuggling::{Row, table};
use crate::support::{CEILING, Connection, FAULTS, Neighbours, Server, TestResult, eventually, facility, free_address};

/// How long the first answer to a row is waited for, and how long another.
const ANSWER_WITHIN: Duration = Duration::from_millis(400);
const ANOTHER_WITHIN: Duration = Duration::from_millis(40);
/// So many rows are sent at the same time.
const ROWS_AT_ONCE: usize = 8;

/// A kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Reads a body whole before it forwards the request.
    Nginx,
    /// Forwards a body as it comes.
    NginxUnbuffered,
    /// Forwards requests that are valid.
    Haproxy,
    /// Forwards what it would refuse (`option accept-invalid-http-request`).
    HaproxyLenient,
}

/// A running proxy; killed when dropped.
pub struct Proxy {
    kind: Kind,
    child: Child,
    /// Where its clients connect.
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Nginx | Self::NginxUnbuffered => "nginx",
            Self::Haproxy | Self::HaproxyLenient => "haproxy",
        }
    }

    /// The configuration that `docs/DEPLOY.md` recommends, with the addresses of the test, short time-outs, and a log of
    /// what was forwarded.
    fn configuration(self, dir: &Path, own: SocketAddr, upstream: SocketAddr) -> String {
        let (own, upstream) = (own.to_string(), upstream.to_string());
        let dir = dir.display();
        match self {
            Self::Nginx | Self::NginxUnbuffered => {
                let buffering = if self == Self::Nginx { "on" } else { "off" };
                let site = changed(
                    include_str!("../docs/deploy/nginx.conf"),
                    &[
                        ("127.0.0.1:8080;", &format!("{upstream};")),
                        ("listen 80;", &format!("listen {own};")),
                        ("proxy_request_buffering on;", &format!("proxy_request_buffering {buffering};")),
                    ],
                );
                format!(
                    r#"
daemon off;
master_process off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format forwarded escape=none '$upstream_addr|$request';
    access_log {dir}/access.log forwarded;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_header_timeout 2s;
    client_body_timeout 2s;
    lingering_timeout 1s;
{site}
}}
"#
                )
            }
            Self::Haproxy | Self::HaproxyLenient => {
                let lenient = if self == Self::HaproxyLenient { "option accept-invalid-http-request" } else { "" };
                let site = changed(
                    include_str!("../docs/deploy/haproxy.cfg"),
                    &[
                        ("127.0.0.1:8080 check addr 127.0.0.1 port 9090", &upstream),
                        ("bind :80\n", &format!("bind {own}\n    {lenient}\n")),
                        ("timeout client 60s", "timeout client 5s"),
                        ("timeout server 60s", "timeout server 10s"),
                        ("timeout http-request 10s", "timeout http-request 2s\n    log global\n    log-format %s|%r"),
                        ("option httpchk GET /readyz", ""),
                    ],
                );
                format!("global\n    log stdout format raw local0\n    maxconn 256\n{site}")
            }
        }
    }
}

impl Kind {
    /// Each of the proxies with one version of wasi, and in its other configuration with the other.
    fn guest(self) -> &'static str {
        match self {
            Self::Nginx | Self::HaproxyLenient => FAULTS[0],
            Self::NginxUnbuffered | Self::Haproxy => FAULTS[1],
        }
    }
}

impl Proxy {
    /// Starts it in front of `upstream`, and waits until it listens.
    ///
    /// # Errors
    /// When it does not start.
    #[track_caller]
    pub fn start(kind: Kind, program: &str, upstream: SocketAddr) -> Result<Self, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let address = free_address();
        let file = dir.path().join("proxy.conf");
        std::fs::write(&file, kind.configuration(dir.path(), address, upstream))?;
        let mut command = Command::new(program);
        match kind {
            Kind::Nginx | Kind::NginxUnbuffered => command.arg("-p").arg(dir.path()).arg("-c").arg(&file),
            Kind::Haproxy | Kind::HaproxyLenient => command.arg("-db").arg("-f").arg(&file),
        };
        command.stdin(Stdio::null()).stderr(File::create(dir.path().join("stderr"))?);
        match kind {
            Kind::Nginx | Kind::NginxUnbuffered => command.stdout(Stdio::null()),
            Kind::Haproxy | Kind::HaproxyLenient => command.stdout(File::create(dir.path().join("access.log"))?),
        };
        let child = command.spawn()?;
        let proxy = Self { kind, child, address, dir };
        eventually(&format!("{kind:?} listens"), || TcpStream::connect(address).is_ok());
        Ok(proxy)
    }

    /// How many requests of each path it has forwarded.
    fn forwarded(&self) -> HashMap<String, usize> {
        let log = std::fs::read(self.dir.path().join("access.log")).unwrap_or_default();
        let mut counts = HashMap::new();
        for line in String::from_utf8_lossy(&log).lines() {
            let line =
                if matches!(self.kind, Kind::Haproxy | Kind::HaproxyLenient) { decoded(line) } else { line.to_owned() };
            let Some((to, request)) = line.split_once('|') else { continue };
            if !["-", "", "<NOSRV>"].contains(&to) {
                *counts.entry(path_of(request.split(' ').nth(1).unwrap_or_default())).or_default() += 1;
            }
        }
        counts
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for file in ["proxy.conf", "stderr", "error.log", "access.log"] {
                let text = std::fs::read(self.dir.path().join(file)).unwrap_or_default();
                eprintln!("--- {:?}: {file} ---\n{}", self.kind, String::from_utf8_lossy(&text));
            }
        }
    }
}

/// A line of HAProxy's log, which writes unusual bytes, and `#` itself, as `#` and two hexadecimal digits.
fn decoded(line: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('#') {
        bytes.extend(before.as_bytes());
        match behind.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &behind[2..];
            }
            None => {
                bytes.push(b'#');
                rest = behind;
            }
        }
    }
    bytes.extend(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `text` with each of these replaced, which must occur once.
#[track_caller]
fn changed(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "`{from}` in the document's configuration");
        text.replace(from, to)
    })
}

/// The path of a target, without the authority of an absolute one and without a fragment; none of an authority alone.
fn path_of(target: &str) -> String {
    let target = target.split('#').next().unwrap_or_default();
    if !target.starts_with(['/', '*']) && !target.contains("://") {
        return String::new();
    }
    let rest = target.split_once("://").map_or(target, |(_, rest)| rest.find(['/', '?']).map_or("/", |at| &rest[at..]));
    // (A query without a path is one of the root.)
    if rest.starts_with('?') { format!("/{rest}") } else { rest.to_owned() }
}

/// How many requests of each path the host has seen.
fn seen(server: &Server) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for record in server.records(|record| record["target"] == "access") {
        let path = record["path"].as_str().map(path_of).unwrap_or_default();
        *counts.entry(path).or_default() += 1;
    }
    counts
}

/// Sends these bytes, and reads whatever comes for as long as something does.
fn send(address: SocketAddr, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, CEILING)?;
    stream.set_write_timeout(Some(CEILING))?;
    stream.write_all(bytes)?;
    let (mut got, mut some) = (Vec::new(), [0; 64 * 1024]);
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    while let Ok(read @ 1..) = stream.read(&mut some) {
        got.extend_from_slice(&some[..read]);
        stream.set_read_timeout(Some(ANOTHER_WITHIN))?;
    }
    Ok(got)
}

#[track_caller]
fn attack_through(kind: Kind) -> TestResult {
    let program = facility::server_program_path(kind.program()).ok_or("the proxy is not installed")?;
    let server = Server::start(kind.guest(), &["--access-log", "--trust-proxy", "127.0.0.1"]);
    let proxy = Proxy::start(kind, &program, server.address)?;

    // Good traffic, over connections that the proxy keeps.
    let mut client = Connection::open(proxy.address);
    for number in 1..=200 {
        assert_eq!(client.get("/hello").text(), "Hello, World!", "{kind:?}: number {number}");
        client.send("POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        assert!(client.response().text().starts_with("bytes: 3"), "{kind:?}: number {number}");
    }
    assert!(server.sum("connections") <= 40, "{kind:?}: {} connections for 400 requests", server.sum("connections"));

    let neighbours = Neighbours::that_upload(proxy.address);
    let mut refused = 0;
    for rows in table().chunks(ROWS_AT_ONCE) {
        // A proxy may close at once what it takes for no request at all.
        let ask = |row: &Row| send(proxy.address, &row.bytes).unwrap_or_default().starts_with(b"HTTP/1.1 400");
        refused += std::thread::scope(|scope| {
            let asked: Vec<_> = rows.iter().map(|row| scope.spawn(move || ask(row))).collect();
            asked.into_iter().map(|row| usize::from(row.join().expect("the row is sent"))).sum::<usize>()
        });
        let names: Vec<_> = rows.iter().map(|row| row.name).collect();
        // The neighbour asks for other paths than those that are counted.
        let others = |(path, _): &(&String, &usize)| !["/hello", "/echo"].contains(&path.as_str());
        eventually(&format!("{kind:?}: the guest saw no more than was forwarded of {names:?}"), || {
            // The proxy tells of a request at its end, after the host.
            let (seen, forwarded) = (seen(&server), proxy.forwarded());
            let mut counted = seen.iter().filter(others);
            counted.all(|(path, count)| forwarded.get(path).is_some_and(|forwarded| forwarded >= count))
        });
    }
    assert!(refused > 20, "{kind:?}: {refused} rows were refused");
    neighbours.end("beside them");
    eventually("no request is left", || server.sum("in_flight") == 0);
    Ok(())
}

#[test(needs(Nginx))]
fn behind_nginx_the_guest_sees_no_more_requests_than_were_forwarded() -> TestResult {
    attack_through(Kind::Nginx)
}

#[test(needs(Nginx))]
fn behind_nginx_that_does_not_buffer_the_guest_sees_no_more_requests_than_were_forwarded() -> TestResult {
    attack_through(Kind::NginxUnbuffered)
}

#[test(needs(Haproxy))]
fn behind_haproxy_the_guest_sees_no_more_requests_than_were_forwarded() -> TestResult {
    attack_through(Kind::Haproxy)
}

#[test(needs(Haproxy))]
fn behind_haproxy_that_forwards_invalid_requests_the_guest_sees_no_more_than_were_forwarded() -> TestResult {
    attack_through(Kind::HaproxyLenient)
}
