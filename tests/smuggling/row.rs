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
    /// Where it is described: a section of an RFC, or a weakness of some program.
    pub source: &'static str,
    /// Whether nobody reads its body: where that has not come whole when the answer is given, the host closes the connection
    /// behind the first answer (RFC 9112, section 9.6).
    pub is_unread: bool,
    /// Where nginx takes more requests than the host, or fewer: why. (`differences`.)
    pub why: &'static str,
}

/// The request that is to be smuggled.
pub const SMUGGLED: &str = "GET /count?smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Where weaknesses stand that have no number: `docs/HTTP1.md` says where it is.
pub const GARDEN: &str = "HTTP Garden";

/// Why the host takes fewer requests than nginx.
pub const BARE_LINE_FEED: &str = "nginx takes a bare line feed for the end of a line, and not all do";
/// The same.
pub const NO_TOKEN: &str =
    "it is no name (RFC 9110, 5.6.2); nginx leaves out such a field, and others take it for another name";

/// The same.
pub const NO_COLON: &str = "nginx passes over a line without a colon, and others take it for a part of the line before";
/// The same.
pub const RETURN: &str = "a return that no line feed follows is no white space (RFC 9112, 2.2)";

pub fn row(name: &'static str, bytes: impl AsRef<[u8]>, statuses: &'static [u16], then: Then, seen: u64) -> Row {
    Row { name, bytes: bytes.as_ref().to_vec(), statuses, then, seen, source: "", is_unread: false, why: "" }
}

/// The bytes of a text of which each character is one.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().map(|character| u8::try_from(character).expect("a byte")).collect()
}

/// These rows, all described there, but for those that say another source.
pub fn from(source: &'static str, rows: Vec<Row>) -> Vec<Row> {
    let of = |row: Row| if row.source.is_empty() { row.known(source) } else { row };
    rows.into_iter().map(of).collect()
}

/// A POST whose framing can be read in more than one way, the smuggled request within or behind its body. Refused.
pub fn post(name: &'static str, fields: &str, body: &str) -> Row {
    let bytes = format!("POST /body-size HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}{SMUGGLED}");
    row(name, bytes_of(&bytes), &[400], Then::Closed, 0)
}

/// A GET with these lines behind its request line, and a second request. Refused.
pub fn lines(name: &'static str, lines: &str) -> Row {
    let bytes = format!("GET /count HTTP/1.1\r\n{lines}\r\n{SMUGGLED}");
    row(name, bytes_of(&bytes), &[400], Then::Closed, 0)
}

/// A request with this request line, and a second request. Refused.
pub fn line(name: &'static str, line: &str) -> Row {
    row(name, bytes_of(&format!("{line}\r\nHost: a\r\n\r\n{SMUGGLED}")), &[400], Then::Closed, 0)
}

/// A body in chunks that is not one. The guest that reads it is stopped, and what stands behind it is no request.
pub fn chunks(name: &'static str, body: &str) -> Row {
    post(name, "Transfer-Encoding: chunked\r\n", body)
}

/// A body in chunks that is one.
pub fn fine_chunks(name: &'static str, body: impl AsRef<str>) -> Row {
    chunks(name, body.as_ref()).passes(1)
}

impl Row {
    /// It is as good as any request, and the one behind it is answered too.
    pub fn passes(self, seen: u64) -> Self {
        self.gets(&[200, 200], Then::Kept, seen)
    }

    /// It is answered otherwise.
    pub fn gets(self, statuses: &'static [u16], then: Then, seen: u64) -> Self {
        Self { statuses, then, seen, ..self }
    }

    /// Nobody reads its body.
    pub fn unread(self) -> Self {
        Self { is_unread: true, ..self }
    }

    /// The same in HTTP/1.0.
    pub fn in_http10(mut self, connection: &str) -> Self {
        let text = String::from_utf8_lossy(&self.bytes).into_owned();
        let from = " HTTP/1.1\r\n";
        self.bytes = text.replacen(from, &format!(" HTTP/1.0\r\nConnection: {connection}\r\n"), 1).into_bytes();
        self
    }

    /// It is described there.
    pub fn known(self, source: &'static str) -> Self {
        Self { source, ..self }
    }

    /// Why nginx takes other requests.
    pub fn because(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    /// The client sends nothing behind it: without the smuggled request.
    pub fn cut_short(mut self) -> Self {
        self.bytes.truncate(self.bytes.len() - SMUGGLED.len());
        self
    }
}
