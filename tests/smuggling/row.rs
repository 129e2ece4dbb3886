//! A row of the table, and how the rows of a kind are made.

/// What becomes of the connection behind the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is closed, and nothing else came.
    Closed,
    /// It serves the next request.
    Kept,
}

/// One attack, or something that only looks like one.
pub struct Row {
    /// What it is.
    pub name: &'static str,
    /// What is sent, whole, on a new connection.
    pub bytes: Vec<u8>,
    /// The statuses that come back, in order.
    pub statuses: &'static [u16],
    /// And then.
    pub then: Then,
    /// How many of these requests to `/count` the guest sees.
    pub seen: u64,
}

/// Where the body has not come whole when the answer is given, the host closes the connection behind it.
pub const UNREAD: &str = "a request in a body that nobody reads";

/// The request that is to be smuggled.
pub const SMUGGLED: &str = "GET /count?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

pub fn row(name: &'static str, bytes: impl AsRef<[u8]>, statuses: &'static [u16], then: Then, seen: u64) -> Row {
    Row { name, bytes: bytes.as_ref().to_vec(), statuses, then, seen }
}

/// A POST whose framing can be read in more than one way, the smuggled request within or behind its body. Refused.
pub fn post(name: &'static str, fields: &str, body: &str) -> Row {
    let bytes = format!("POST /body-size HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{SMUGGLED}");
    row(name, bytes, &[400], Then::Closed, 0)
}

/// A GET with these lines behind its request line, and a second request. Refused.
pub fn lines(name: &'static str, lines: &str) -> Row {
    row(name, format!("GET /count HTTP/1.1\r\n{lines}\r\n{SMUGGLED}"), &[400], Then::Closed, 0)
}

/// A request with this request line, and a second request. Refused.
pub fn line(name: &'static str, line: &str) -> Row {
    row(name, format!("{line}\r\nHost: a\r\n\r\n{SMUGGLED}"), &[400], Then::Closed, 0)
}

/// A body in chunks that is not one. The guest that reads it is stopped, and what stands behind it is no request.
pub fn chunks(name: &'static str, body: &str) -> Row {
    post(name, "Transfer-Encoding: chunked\r\n", body)
}

/// A body in chunks that is one.
pub fn fine_chunks(name: &'static str, body: impl AsRef<str>) -> Row {
    Row { statuses: &[200, 200], then: Then::Kept, seen: 1, ..chunks(name, body.as_ref()) }
}

impl Row {
    /// The client sends nothing behind it: without the smuggled request.
    pub fn cut_short(mut self) -> Self {
        self.bytes.truncate(self.bytes.len() - SMUGGLED.len());
        self
    }
}
