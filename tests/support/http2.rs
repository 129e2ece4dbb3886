//! Clients of HTTP/2: one that keeps all rules ([`Http2`], of the crate `h2`), and one that sends the frames it is given and
//! keeps the frames it got ([`Frames`]).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::CEILING;
use super::hpack::integer;

/// What a connection begins with.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head's fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// Trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The method; GET without one.
    pub method: Option<Method>,
    /// The path and query.
    pub path: String,
    /// The authority; `test` without one.
    pub authority: Option<String>,
    /// The head's fields.
    pub headers: HeaderMap,
    /// The body in pieces; none: the request ends with its head.
    pub body: Option<Vec<Vec<u8>>>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
}

impl Asked {
    /// A GET.
    pub fn get(path: &str) -> Self {
        Self { path: path.to_owned(), ..Self::default() }
    }

    /// A POST.
    pub fn post(path: &str, body: &[&[u8]]) -> Self {
        let body = body.iter().map(|piece| piece.to_vec()).collect();
        Self { method: Some(Method::POST), body: Some(body), ..Self::get(path) }
    }
}

/// A client that keeps all rules, with one connection.
pub struct Http2 {
    runtime: Runtime,
    sender: h2::client::SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Http2 {
    /// Connects.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a loop");
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.expect("the server accepts");
            stream.set_nodelay(true).expect("no delay");
            let (sender, connection) = h2::client::handshake(stream).await.expect("a connection");
            (sender, tokio::spawn(connection))
        });
        Self { runtime, sender, connection }
    }

    /// Connects with TLS, to a server of this name.
    ///
    /// # Errors
    /// What went wrong with the handshake.
    pub fn open_tls(address: SocketAddr, config: ClientConfig, name: &str) -> std::io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a loop");
        let mut config = config;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let (sender, connection) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            let (sender, connection) = h2::client::handshake(stream).await.map_err(std::io::Error::other)?;
            std::io::Result::Ok((sender, tokio::spawn(connection)))
        })?;
        Ok(Self { runtime, sender, connection })
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// Why there is no whole answer.
    pub fn ask(&mut self, asked: Asked) -> Result<Answer, h2::Error> {
        self.all(vec![asked]).pop().expect("one answer").1
    }

    /// GET.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.ask(Asked::get(path)).expect("an answer")
    }

    /// Requests at once, and their answers, with the time when each was whole.
    pub fn all(&mut self, asked: Vec<Asked>) -> Vec<(Duration, Result<Answer, h2::Error>)> {
        let began = Instant::now();
        let tasks: Vec<_> = asked
            .into_iter()
            .map(|asked| {
                let mut sender = self.sender.clone();
                self.runtime.spawn(async move {
                    let answer = tokio::time::timeout(CEILING, exchange(&mut sender, asked)).await;
                    (began.elapsed(), answer.expect("an answer within the ceiling"))
                })
            })
            .collect();
        tasks.into_iter().map(|task| self.runtime.block_on(task).expect("a task")).collect()
    }

    /// Waits until the server has ended the connection: how.
    pub fn closed(self) -> Result<(), h2::Error> {
        drop(self.sender);
        let ended = self.runtime.block_on(async { tokio::time::timeout(CEILING, self.connection).await });
        ended.expect("the connection ends").expect("a task")
    }

    /// The client, for what only it can do.
    pub fn parts(&mut self) -> (&Runtime, &mut h2::client::SendRequest<Bytes>) {
        (&self.runtime, &mut self.sender)
    }
}

async fn exchange(sender: &mut h2::client::SendRequest<Bytes>, asked: Asked) -> Result<Answer, h2::Error> {
    let mut ready = sender.clone().ready().await?;
    let authority = asked.authority.as_deref().unwrap_or("test");
    let mut request = Request::builder()
        .method(asked.method.unwrap_or(Method::GET))
        .uri(format!("http://{authority}{}", asked.path))
        .body(())
        .expect("a request");
    *request.headers_mut() = asked.headers;
    let ends = asked.body.is_none() && asked.trailers.is_none();
    let (answer, mut body) = ready.send_request(request, ends)?;
    let pieces = asked.body.unwrap_or_default();
    let sending = async move {
        if ends {
            return Ok(());
        }
        let count = pieces.len();
        for (index, piece) in pieces.into_iter().enumerate() {
            let mut piece = Bytes::from(piece);
            while !piece.is_empty() {
                body.reserve_capacity(piece.len());
                match std::future::poll_fn(|context| body.poll_capacity(context)).await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Ok(()),
                }
                let room = body.capacity().min(piece.len());
                if room == 0 {
                    continue;
                }
                let is_last = index + 1 == count && room == piece.len() && asked.trailers.is_none();
                body.send_data(piece.split_to(room), is_last)?;
            }
        }
        match asked.trailers {
            Some(trailers) => body.send_trailers(trailers),
            None if count == 0 => body.send_data(Bytes::new(), true),
            None => Ok(()),
        }
    };
    let sent = tokio::spawn(sending);
    let (head, mut body) = answer.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        let _ = body.flow_control().release_capacity(piece.len());
        bytes.extend_from_slice(&piece);
    }
    let trailers = body.trailers().await?;
    drop(sent);
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: bytes, trailers })
}

/// Types of frames.
pub mod kind {
    #![allow(missing_docs, reason = "RFC 9113, section 6")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// `END_STREAM`, and `ACK` of SETTINGS and PING.
pub const END_STREAM: u8 = 1;
/// The headers end with this frame.
pub const END_HEADERS: u8 = 4;
/// The payload is padded.
pub const PADDED: u8 = 8;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number of 32 bits that stands there in the payload.
    pub fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().expect("four bytes"))
    }
}

/// The bytes of a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a length").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HPACK's form of fields (RFC 7541, section 6.2.2): literal, without an index, without Huffman's code.
pub fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields: Vec<(&[u8], &[u8])> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    raw_fields(&fields)
}

/// The same of any bytes.
pub fn raw_fields(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, 0, 7, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// The head of a GET.
pub fn get(path: &str) -> Vec<u8> {
    request("GET", path, &[])
}

/// The head of a request to `test`.
pub fn request(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let head = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", path)];
    fields(&[&head[..], more].concat())
}

/// A client that hides nothing.
pub struct Frames {
    /// The socket.
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Frames {
    /// Connects, and sends nothing.
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, CEILING).expect("the server accepts");
        stream.set_read_timeout(Some(CEILING)).expect("a time-out");
        stream.set_write_timeout(Some(CEILING)).expect("a time-out");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, buffer: Vec::new() }
    }

    /// Connects, and sends the preface and settings that forbid indexed fields in answers.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Self {
        Self::open_with(address, &[])
    }

    /// The same with these settings (section 6.5.2).
    #[track_caller]
    pub fn open_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut client = Self::connect(address);
        let settings = [&[(1, 0)][..], settings].concat();
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        client.send([PREFACE, &frame(kind::SETTINGS, 0, 0, &payload)].concat());
        client
    }

    /// The same connection, to be read in the place of the other.
    #[track_caller]
    pub fn share(other: &Self) -> Self {
        Self { stream: other.stream.try_clone().expect("a socket"), buffer: other.buffer.clone() }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server reads");
    }

    /// The same; false when the server has closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a GET, whole.
    #[track_caller]
    pub fn ask(&mut self, stream: u32, path: &str) {
        self.send(frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &get(path)));
    }

    /// The next frame; none at the connection's end. Settings are acknowledged, and PINGs answered.
    ///
    /// # Panics
    /// When none comes within the ceiling.
    #[track_caller]
    pub fn next(&mut self) -> Option<Frame> {
        let began = Instant::now();
        loop {
            if let Some(next) = self.take() {
                match (next.kind, next.flags & 1) {
                    (kind::SETTINGS, 0) => drop(self.try_send(frame(kind::SETTINGS, 1, 0, &[]))),
                    (kind::PING, 0) => drop(self.try_send(frame(kind::PING, 1, 0, &next.payload))),
                    _ => {}
                }
                return Some(next);
            }
            let mut chunk = [0_u8; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame after {:?}: {error}", began.elapsed()),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.get(..9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..9].try_into().expect("four bytes"));
        if self.buffer.len() < 9 + length {
            return None;
        }
        let payload = self.buffer[9..9 + length].to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// The first frame that is wanted; none when the connection ends before it.
    #[track_caller]
    pub fn wait_for(&mut self, mut is: impl FnMut(&Frame) -> bool) -> Option<Frame> {
        loop {
            let next = self.next()?;
            if is(&next) {
                return Some(next);
            }
        }
    }

    /// What becomes of a stream, to its end.
    #[track_caller]
    pub fn outcome(&mut self, stream: u32) -> Outcome {
        self.outcomes(&[stream]).pop().expect("one")
    }

    /// The same of several.
    #[track_caller]
    pub fn outcomes(&mut self, streams: &[u32]) -> Vec<Outcome> {
        let mut found: Vec<(Option<u16>, Vec<u8>, Option<Outcome>)> = vec![(None, Vec::new(), None); streams.len()];
        while found.iter().any(|(_, _, outcome)| outcome.is_none()) {
            let next = self.next();
            let end = match &next {
                None => Some(Outcome::Closed),
                Some(next) if next.kind == kind::GOAWAY && next.number(4) != 0 => Some(Outcome::GoAway(next.number(4))),
                Some(_) => None,
            };
            if let Some(end) = end {
                found.iter_mut().for_each(|(_, _, outcome)| *outcome = outcome.take().or_else(|| Some(end.clone())));
                break;
            }
            let Some(next) = next else { break };
            let Some(index) = streams.iter().position(|stream| *stream == next.stream) else { continue };
            let (status, body, outcome) = &mut found[index];
            match (next.kind, &status) {
                (kind::RST_STREAM, None) => *outcome = Some(Outcome::Reset(next.number(0))),
                (kind::RST_STREAM, Some(status)) if outcome.is_none() => {
                    *outcome = Some(Outcome::Broken(*status, body.clone(), next.number(0)));
                }
                (kind::HEADERS, None) => *status = Some(status_of(&next.payload)),
                (kind::DATA, _) => body.extend_from_slice(&next.payload),
                _ => {}
            }
            if matches!(next.kind, kind::DATA | kind::HEADERS) && next.flags & END_STREAM != 0 {
                *outcome = status.map(|status| Outcome::Answered(status, body.clone()));
            }
        }
        found.into_iter().map(|(_, _, outcome)| outcome.unwrap_or(Outcome::Closed)).collect()
    }

    /// Every frame up to the connection's end.
    #[track_caller]
    pub fn until_end(&mut self) -> Vec<Frame> {
        std::iter::from_fn(|| self.next()).collect()
    }

    /// The reason of the GOAWAY that the connection ends with; none: it ends without one.
    #[track_caller]
    pub fn goaway(&mut self) -> Option<u32> {
        let frames = self.until_end();
        frames.iter().rev().find(|frame| frame.kind == kind::GOAWAY).map(|frame| frame.number(4))
    }
}

/// What became of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An answer of this status, with this body.
    Answered(u16, Vec<u8>),
    /// The stream was reset, for this reason, before its answer.
    Reset(u32),
    /// The same within its answer.
    Broken(u16, Vec<u8>, u32),
    /// The connection ended, for this reason.
    GoAway(u32),
    /// Without a word.
    Closed,
}

impl Outcome {
    /// The status; 0: there was none.
    pub fn status(&self) -> u16 {
        match self {
            Self::Answered(status, _) | Self::Broken(status, _, _) => *status,
            Self::Reset(_) | Self::GoAway(_) | Self::Closed => 0,
        }
    }
}

/// The status in a block of fields that has no dynamic table (RFC 7541, appendix A, and B for digits).
fn status_of(block: &[u8]) -> u16 {
    let mut block = block;
    // Sizes of the table (section 6.3).
    while let [first @ 0x20..=0x3f, rest @ ..] = block {
        let more = if *first == 0x3f { rest.iter().take_while(|byte| **byte >= 128).count() + 1 } else { 0 };
        block = &rest[more..];
    }
    match block {
        [indexed @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(indexed - 0x88)],
        [0x08 | 0x48, length, rest @ ..] => {
            let text = &rest[..usize::from(length & 0x7f)];
            if length & 0x80 == 0 {
                return std::str::from_utf8(text).expect("digits").parse().expect("a status");
            }
            let bits: Vec<bool> =
                text.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1)).collect();
            let (mut at, mut status) = (0, 0);
            for _ in 0..3 {
                let value = |bits: &[bool]| bits.iter().fold(0, |value, bit| value * 2 + u16::from(*bit));
                let five = value(&bits[at..at + 5]);
                let (digit, length) = if five < 3 { (five, 5) } else { (value(&bits[at..at + 6]) - 0b01_1001 + 3, 6) };
                at += length;
                status = status * 10 + digit;
            }
            status
        }
        other => panic!("a status in another form: {other:x?}"),
    }
}
