//! A server that the applications' outgoing requests go to. It answers each connection's first request, by its path.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::support::CEILING;

/// The beginning of a response that breaks off.
pub const BEGINNING: &str = "the beginning of a body that is longer";

/// The server, and what it was asked.
pub struct Upstream {
    pub address: SocketAddr,
    /// Requests in the order of their ends.
    pub asked: Receiver<Request>,
    /// A response that has begun waits for this before it breaks off or ends.
    pub go_on: SyncSender<()>,
}

/// A request as it came.
#[derive(Debug)]
pub struct Request {
    /// Request line and header fields, in lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Upstream {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (asking, asked) = sync_channel(64);
        let (go_on, waits) = sync_channel(64);
        let waits = Arc::new(Mutex::new(waits));
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asking, waits) = (asking.clone(), waits.clone());
                let answer = move || answer(stream, &asking, &waits);
                std::thread::Builder::new().name("upstream".to_owned()).spawn(answer).expect("a thread");
            }
        };
        std::thread::Builder::new().name("upstream".to_owned()).spawn(serve).expect("a thread");
        Self { address, asked, go_on }
    }
}

fn answer(mut stream: TcpStream, asking: &SyncSender<Request>, waits: &Mutex<Receiver<()>>) {
    stream.set_read_timeout(Some(CEILING)).expect("a time-out");
    let Some(request) = read_request(&mut stream) else { return };
    let path = request.head.split(' ').nth(1).unwrap_or_default().to_owned();
    // Of a test that has ended already.
    let _ = asking.send(request);
    let chunk = format!("{:x}\r\n{BEGINNING}\r\n", BEGINNING.len());
    let (begins, ends) = match path.as_str() {
        "/short" => (format!("content-length: 1000\r\n\r\n{BEGINNING}"), ""),
        "/no-last-chunk" => (format!("transfer-encoding: chunked\r\n\r\n{chunk}"), ""),
        "/half-a-chunk" => (format!("transfer-encoding: chunked\r\n\r\n{chunk}fff\r\nhalf"), ""),
        "/whole" => (format!("transfer-encoding: chunked\r\n\r\n{chunk}"), "3\r\nend\r\n0\r\n\r\n"),
        _ => ("content-length: 13\r\n\r\nfrom upstream".to_owned(), ""),
    };
    let _ = stream.write_all(format!("HTTP/1.1 203 Fine\r\nconnection: close\r\n{begins}").as_bytes());
    if begins.contains(BEGINNING) {
        let _ = waits.lock().expect("no panic").recv_timeout(CEILING);
        let _ = stream.write_all(ends.as_bytes());
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut end = None;
    let mut more = [0; 64 * 1024];
    loop {
        if end.is_none() {
            end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4);
        }
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let mut fields = head.lines().filter_map(|line| line.split_once(": "));
            let length: Option<usize> =
                fields.find(|(name, _)| *name == "content-length").and_then(|(_, value)| value.parse().ok());
            let body = match length {
                Some(length) => (bytes.len() >= end + length).then(|| bytes[end..].to_vec()),
                None if head.contains("\r\ntransfer-encoding: chunked\r\n") => unchunked(&bytes[end..]),
                None => Some(bytes[end..].to_vec()),
            };
            if let Some(body) = body {
                return Some(Request { head, body });
            }
        }
        match stream.read(&mut more) {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend_from_slice(&more[..read]),
        }
    }
}

/// The content of a body in chunks; none before its last chunk is there.
fn unchunked(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|window| window == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&chunks[..line]).ok()?, 16).ok()?;
        let content = chunks.get(line + 2..line + 2 + size)?;
        chunks = chunks.get(line + 4 + size..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(content);
    }
}
