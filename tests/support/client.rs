//! A client that hides nothing: it sends the bytes it is given and keeps the bytes it got.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Instant;

use super::CEILING;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names (lower case) and values, in the order given.
    pub headers: Vec<(String, String)>,
    /// The body, decoded when it came in chunks.
    pub body: Vec<u8>,
    /// Trailers.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended as HTTP says that it must.
    pub whole: bool,
}

impl Response {
    /// A header's first value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to the server.
pub struct Connection {
    /// The socket.
    pub stream: TcpStream,
    /// Bytes that were read and not yet used.
    pub buffer: Vec<u8>,
}

impl Connection {
    /// Connects; reads and writes give up at the ceiling.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::on(TcpStream::connect_timeout(&address, CEILING).expect("the server accepts"))
    }

    /// Connects from one of this machine's addresses.
    #[track_caller]
    pub fn open_from(local: IpAddr, address: SocketAddr) -> Self {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::new(local, 0).into()).expect("an address of this machine");
        socket.connect_timeout(&address.into(), CEILING).expect("the server accepts");
        Self::on(socket.into())
    }

    fn on(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(CEILING)).expect("a time-out");
        stream.set_write_timeout(Some(CEILING)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// Sends a GET with `Host` and reads the answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// Reads an answer to a GET or POST.
    ///
    /// # Panics
    /// When the connection ends before the head does.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response(false).expect("an answer")
    }

    /// Reads an answer; none when the connection ends before its head does. `head_only`: it answers a HEAD.
    pub fn try_response(&mut self, head_only: bool) -> Option<Response> {
        let end = self.fill_until(|buffer| find(buffer, b"\r\n\r\n"))?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = fields(lines);
        let mut response = Response { status, headers, body: Vec::new(), trailers: Vec::new(), whole: true };
        if (100..200).contains(&status) && status != 101 {
            return Some(response);
        }
        if head_only || status == 204 || status == 304 {
            return Some(response);
        }
        let is_chunked = response.header("transfer-encoding") == Some("chunked");
        let length = response.header("content-length").map(|length| length.parse::<usize>().expect("a length"));
        response.whole = match (is_chunked, length) {
            (true, _) => self.chunks(&mut response).is_some(),
            (false, Some(length)) => {
                let whole = self.fill_until(|buffer| (buffer.len() >= length).then_some(0)).is_some();
                let take = length.min(self.buffer.len());
                response.body = self.buffer.drain(..take).collect();
                whole
            }
            (false, None) => {
                self.fill_until(|_| None::<usize>);
                response.body = std::mem::take(&mut self.buffer);
                true
            }
        };
        Some(response)
    }

    fn chunks(&mut self, response: &mut Response) -> Option<()> {
        loop {
            let end = self.fill_until(|buffer| find(buffer, b"\r\n"))?;
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
            self.buffer.drain(..end + 2);
            if size == 0 {
                if self.fill_until(|buffer| {
                    buffer.starts_with(b"\r\n").then_some(0).or_else(|| find(buffer, b"\r\n\r\n"))
                })? == 0
                    && self.buffer.starts_with(b"\r\n")
                {
                    self.buffer.drain(..2);
                    return Some(());
                }
                let end = find(&self.buffer, b"\r\n\r\n")?;
                let text = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                response.trailers = fields(text.split("\r\n"));
                self.buffer.drain(..end + 4);
                return Some(());
            }
            let got = self.fill_until(|buffer| (buffer.len() >= size + 2).then_some(0));
            let take = size.min(self.buffer.len());
            response.body.extend(self.buffer.drain(..take));
            got?;
            self.buffer.drain(..2);
        }
    }

    /// Reads until `found` finds something in what was read; none at the connection's end.
    pub fn fill_until<T>(&mut self, found: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
        loop {
            if let Some(found) = found(&self.buffer) {
                return Some(found);
            }
            let mut chunk = [0_u8; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// All bytes up to the connection's end (or its reset), as they came.
    ///
    /// # Panics
    /// When the end does not come within the ceiling.
    #[track_caller]
    pub fn raw_to_end(&mut self) -> Vec<u8> {
        let began = Instant::now();
        self.fill_until(|_| None::<usize>);
        assert!(began.elapsed() < CEILING, "the connection did not end: {:?}", String::from_utf8_lossy(&self.buffer));
        std::mem::take(&mut self.buffer)
    }
}

fn fields<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// GET on a connection of its own.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    Connection::open(address).get(path)
}

/// A request with a body, on a connection of its own.
#[track_caller]
pub fn request(address: SocketAddr, method: &str, path: &str, body: &[u8]) -> Response {
    let mut connection = Connection::open(address);
    connection.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    connection.send(body);
    connection.try_response(method == "HEAD").expect("an answer")
}
