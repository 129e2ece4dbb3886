//! A row of the table: what a client sends, and what the host does. With what many rows are made of.

use crate::support::http2::{END_HEADERS, END_STREAM, fields, frame, get, kind, raw_fields, request};

/// What the host does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It ends the connection for this error.
    Ends(u32),
    /// It resets the stream for this error. The connection goes on.
    Resets(u32),
    /// It answers with this status.
    Answers(u16),
    /// It goes on as if nothing had come.
    GoesOn,
    /// It ends the connection without a word.
    Closes,
}

/// Of which RFC a section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Of {
    Http,
    Hpack,
}

pub struct Row {
    pub of: Of,
    pub section: &'static str,
    pub what: &'static str,
    /// Sent behind the preface and settings.
    pub bytes: Vec<u8>,
    /// They are sent in the place of those.
    pub is_beginning: bool,
    /// The stream that they are about.
    pub stream: u32,
    pub then: Then,
    /// Where the answer is another one than the RFC names: why.
    pub why: &'static str,
}

pub fn row(section: &'static str, what: &'static str, bytes: Vec<u8>, then: Then) -> Row {
    Row { of: Of::Http, section, what, bytes, is_beginning: false, stream: 1, then, why: "" }
}

/// The same where the answer is another one than the section names.
pub fn other(section: &'static str, what: &'static str, bytes: Vec<u8>, then: Then, why: &'static str) -> Row {
    Row { why, ..row(section, what, bytes, then) }
}

pub fn headers(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, block)
}

/// A GET with this field more.
pub fn with(name: &str, value: &str) -> Vec<u8> {
    headers(1, &request("GET", "/count?bad", &[(name, value)]))
}

pub fn with_raw(name: &[u8], value: &[u8]) -> Vec<u8> {
    headers(1, &[request("GET", "/count?bad", &[]), raw_fields(&[(name, value)])].concat())
}

/// A head of these fields.
pub fn head(of: &[(&str, &str)]) -> Vec<u8> {
    headers(1, &fields(of))
}

/// An open stream, whose guest waits for its body.
pub fn open(more: &[(&str, &str)]) -> Vec<u8> {
    frame(kind::HEADERS, END_HEADERS, 1, &request("POST", "/body-size", more))
}

pub fn data(flags: u8, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, flags, 1, bytes)
}

/// A stream that the client has ended, and whose guest has not answered.
pub fn ended() -> Vec<u8> {
    headers(1, &get("/sleep?ms=300"))
}

pub fn setting(name: u16, value: u32) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &[&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
}

pub const METHOD: (&str, &str) = (":method", "GET");
pub const SCHEME: (&str, &str) = (":scheme", "http");
pub const AUTHORITY: (&str, &str) = (":authority", "test");
pub const PATH: (&str, &str) = (":path", "/count?bad");

/// Why h2's error is another one.
pub const H2_NAMES_IT_SO: &str = "h2 names the error so";
/// What the RFC calls a malformed request, and answers by a reset of its stream.
pub const AS_HPACK: &str = "h2 takes it for an error of HPACK, and ends the connection";
