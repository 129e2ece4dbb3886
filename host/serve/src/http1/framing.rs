//! Where a message ends in the bytes of a connection, and whether its framing can be read in one way only. hyper gets no
//! byte of the next message beforehand, so that what has come of the next head is known when it begins: its time and its
//! size have limits. And what hyper lets pass although another program on the way might read it differently (request
//! smuggling: RFC 9112, section 11.2) is found here. Pure.

use crate::http::Framing;

/// The bytes of a head, line by line, from its first to its blank line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HeadLines {
    /// The beginning of a line that has not ended yet.
    start: [u8; START_BYTES],
    /// How many bytes of that line there are, as far as it matters.
    length: u8,
    /// The last of them is a return.
    after_return: bool,
    /// What has come of that line [is odd](is_odd).
    odd: bool,
    /// The request line has ended. Empty lines before it are none (RFC 9112, section 2.2).
    has_request_line: bool,
    lengths: u8,
    has_coding: bool,
    /// A line of framing or the request line is odd, or a line does not end with CR LF.
    is_ambiguous: bool,
}

/// As long as the longest name that is looked for, with its colon, and one more: such a line is not empty.
const START_BYTES: usize = TRANSFER_ENCODING.len() + 1;
const CONTENT_LENGTH: &[u8] = b"content-length:";
const TRANSFER_ENCODING: &[u8] = b"transfer-encoding:";

impl HeadLines {
    /// How many of the bytes that came next belong to the head: those up to its blank line, which ends it, or all.
    pub(super) fn take(&mut self, bytes: &[u8]) -> (usize, Option<Framing>) {
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            let is_blank = self.end_line(&bytes[from..at]);
            from = at + 1;
            if is_blank && self.has_request_line {
                let framing = self.framing();
                *self = Self::default();
                return (from, Some(framing));
            }
            self.has_request_line |= !is_blank;
        }
        self.begin_line(&bytes[from..]);
        (bytes.len(), None)
    }

    /// Whether the request line has come whole.
    pub(super) fn has_request_line(&self) -> bool {
        self.has_request_line
    }

    /// Keeps what of an unfinished line may matter.
    fn begin_line(&mut self, piece: &[u8]) {
        let Some(last) = piece.last() else { return };
        let kept = usize::from(self.length);
        let more = piece.len().min(START_BYTES - kept);
        self.start[kept..kept + more].copy_from_slice(&piece[..more]);
        self.length = u8::try_from(kept + more).unwrap_or(u8::MAX);
        self.after_return = *last == b'\r';
        self.odd |= is_odd(piece);
    }

    /// A line ends behind `piece`. Whether it is blank.
    fn end_line(&mut self, piece: &[u8]) -> bool {
        if self.length == 0 {
            return self.note_line(piece, piece.last() == Some(&b'\r'), || is_odd(piece));
        }
        self.begin_line(piece);
        let (start, length, after_return, odd) = (self.start, usize::from(self.length), self.after_return, self.odd);
        self.length = 0;
        self.after_return = false;
        self.odd = false;
        self.note_line(&start[..length], after_return, || odd)
    }

    /// Takes note of a line, of which the beginning is given.
    fn note_line(&mut self, line: &[u8], after_return: bool, odd: impl FnOnce() -> bool) -> bool {
        self.is_ambiguous |= !after_return;
        let begins_with = |name: &[u8]| line.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
        match line {
            [] | [b'\r'] => return true,
            _ if !self.has_request_line => {}
            [b'c' | b'C', ..] if begins_with(CONTENT_LENGTH) => self.lengths = self.lengths.saturating_add(1),
            [b't' | b'T', ..] if begins_with(TRANSFER_ENCODING) => self.has_coding = true,
            _ => return false,
        }
        self.is_ambiguous |= odd();
        false
    }

    fn framing(&self) -> Framing {
        let is_ambiguous = self.lengths > 1 || (self.lengths > 0 && self.has_coding) || self.is_ambiguous;
        if is_ambiguous { Framing::Ambiguous } else { Framing::Clear }
    }
}

/// Whether a piece of the request line or of a line of framing has a `#` or a tab. No target has a fragment (RFC 9112,
/// section 3.2), but some take it for a part of the path and others leave it out, as hyper does. And a tab beside a value
/// is a part of it to some.
fn is_odd(piece: &[u8]) -> bool {
    memchr::memchr2(b'#', b'\t', piece).is_some()
}

/// A body in chunks (RFC 9112, section 7.1), to its last byte. Stricter than hyper's reader: no space behind a size, no
/// bare line feed or return in extensions and trailers, and a bound on the line of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunks {
    part: Part,
    /// Bytes that the chunk still has.
    left: u64,
    /// Bytes of the size's line so far.
    line: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Size,
    Blank,
    Extension,
    SizeEnd,
    Data,
    DataReturn,
    DataEnd,
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
    Over,
}

/// Most bytes of a size's line, its extensions with it. (hyper bounds those of all chunks together, at 16 KiB.)
const SIZE_LINE_BYTES_MAX: u16 = 4_096;
/// Hexadecimal digits of a size, leading zeros with them.
const SIZE_DIGITS_MAX: u16 = 16;

/// The bytes are no body in chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body's chunks are not valid")]
pub(super) struct Unframed;

impl Chunks {
    /// Before the first chunk.
    pub(super) const fn new() -> Self {
        Self { part: Part::Size, left: 0, line: 0 }
    }

    /// Whether all of the body has come.
    pub(super) fn is_over(&self) -> bool {
        self.part == Part::Over
    }

    /// How many of the bytes that came next belong to the body: those up to its end, or all.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<usize, Unframed> {
        let mut at = 0;
        while at < bytes.len() && self.part != Part::Over {
            if self.part == Part::Data {
                let come = bytes.len() - at;
                let of_it = usize::try_from(self.left).map_or(come, |left| left.min(come));
                at += of_it;
                self.left -= of_it as u64;
                if self.left == 0 {
                    self.part = Part::DataReturn;
                }
                continue;
            }
            self.part = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, byte: u8) -> Result<Part, Unframed> {
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        if matches!(self.part, Part::Size | Part::Blank | Part::Extension) {
            self.line += 1;
            if self.line > SIZE_LINE_BYTES_MAX {
                return Err(Unframed);
            }
        }
        Ok(match (self.part, byte) {
            (Part::Size, _) if byte.is_ascii_hexdigit() && self.line <= SIZE_DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.left = (self.left << 4) | u64::from(digit);
                Part::Size
            }
            (Part::Size, b' ' | b'\t') if self.line > 1 => Part::Blank,
            (Part::Size, b';') if self.line > 1 => Part::Extension,
            (Part::Size, b'\r') if self.line > 1 => Part::SizeEnd,
            (Part::Blank, b' ' | b'\t') => Part::Blank,
            (Part::Blank, b';') => Part::Extension,
            (Part::Extension, b'\r') => Part::SizeEnd,
            (Part::Extension, _) if is_text => Part::Extension,
            (Part::SizeEnd, b'\n') if self.left == 0 => Part::TrailerStart,
            (Part::SizeEnd, b'\n') => Part::Data,
            (Part::DataReturn, b'\r') => Part::DataEnd,
            (Part::DataEnd, b'\n') => {
                self.line = 0;
                Part::Size
            }
            (Part::TrailerStart, b'\r') => Part::LastEnd,
            (Part::TrailerStart | Part::Trailer, _) if is_text => Part::Trailer,
            (Part::Trailer, b'\r') => Part::TrailerEnd,
            (Part::TrailerEnd, b'\n') => Part::TrailerStart,
            (Part::LastEnd, b'\n') => Part::Over,
            _ => return Err(Unframed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_blank_line_however_its_bytes_are_cut() {
        for (end, framing) in [
            ("\r\n\r\n", Framing::Clear),
            ("\n\n", Framing::Ambiguous),
            ("\r\n\n", Framing::Ambiguous),
            ("\n\r\n", Framing::Ambiguous),
        ] {
            for before in ["", "\r\n", "\r\n\r\n"] {
                let head = format!("{before}GET / HTTP/1.1\r\nHost: a\r\nX: \rb{end}");
                let bytes = format!("{head}GET /next");
                for cut in 0..head.len() {
                    let what = format!("{before:?} {end:?} cut at {cut}");
                    let mut lines = HeadLines::default();
                    assert_eq!(lines.take(&bytes.as_bytes()[..cut]), (cut, None), "{what}");
                    assert_eq!(lines.take(&[]), (0, None), "nothing changes nothing");
                    assert_eq!(lines.take(&bytes.as_bytes()[cut..]), (head.len() - cut, Some(framing)), "{what}");
                    assert_eq!(lines, HeadLines::default());
                }
                let mut lines = HeadLines::default();
                let each = head.bytes().map(|byte| lines.take(&[byte])).collect::<Vec<_>>();
                assert!(each.iter().rev().skip(1).all(|taken| *taken == (1, None)), "{end:?} byte by byte");
                assert_eq!(each.last(), Some(&(1, Some(framing))), "{end:?} byte by byte");
            }
        }
    }

    #[test]
    fn a_body_has_its_length_from_one_field_at_most() {
        let cases = [
            ("", Framing::Clear),
            ("Content-Length: 1\r\n", Framing::Clear),
            ("transfer-encoding:chunked\r\n", Framing::Clear),
            (
                "X-Content-Length: 1\r\nContent-Length-X: 1\r\nContent-Length: 1\r\nTransfer-Encodin: a\r\n",
                Framing::Clear,
            ),
            ("Content-Length: 1\r\nContent-Length: 1\r\n", Framing::Ambiguous),
            ("CONTENT-LENGTH:1\r\nX: a\r\ncontent-length:2\r\n", Framing::Ambiguous),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", Framing::Ambiguous),
            ("Transfer-Encoding: chunked\r\nX: a\r\nContent-Length: 1\r\n", Framing::Ambiguous),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Framing::Clear),
            ("X: a\nContent-Length: 1\r\n", Framing::Ambiguous),
            ("X:\ta#b\r\nContent-Length: 1\r\nX: c\td\r\n", Framing::Clear),
            ("Content-Length:\t1\r\n", Framing::Ambiguous),
            ("Content-Length: 1 \t\r\n", Framing::Ambiguous),
            ("Transfer-Encoding: \tchunked\r\n", Framing::Ambiguous),
            ("Transfer-Encoding: chunked\t\r\nX: a\r\n", Framing::Ambiguous),
        ];
        for (fields, framing) in cases {
            let head = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            for piece in [1, 2, 3, 7, 16, 17, 18, 19, 20, head.len()] {
                let mut lines = HeadLines::default();
                let found = head.as_bytes().chunks(piece).find_map(|bytes| lines.take(bytes).1);
                assert_eq!(found, Some(framing), "{fields:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_target_has_no_fragment() {
        for (line, framing) in [
            ("GET /a?b HTTP/1.1", Framing::Clear),
            ("GET /a#b HTTP/1.1", Framing::Ambiguous),
            ("GET /a-path-that-is-longer-than-what-is-kept# HTTP/1.1", Framing::Ambiguous),
            ("\r\n\r\nGET /#", Framing::Ambiguous),
        ] {
            let head = format!("{line}\r\nHost: a\r\nX: #\r\n\r\n");
            for piece in 1..=head.len() {
                let mut lines = HeadLines::default();
                let found = head.as_bytes().chunks(piece).find_map(|bytes| lines.take(bytes).1);
                assert_eq!(found, Some(framing), "{line:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn a_request_line_is_told_from_empty_lines_before_it() {
        let mut lines = HeadLines::default();
        lines.take(b"\r\n\r\nGET / HTTP/1.1");
        assert!(!lines.has_request_line());
        lines.take(b"\r\n");
        assert!(lines.has_request_line());
    }

    fn read(body: &str, piece: usize) -> Result<(usize, bool), Unframed> {
        let mut chunks = Chunks::new();
        let mut taken = 0;
        for bytes in body.as_bytes().chunks(piece) {
            let took = chunks.take(bytes)?;
            taken += took;
            if took < bytes.len() {
                break;
            }
        }
        Ok((taken, chunks.is_over()))
    }

    #[test]
    fn a_body_in_chunks_ends_where_its_framing_says_however_it_is_cut() {
        for body in [
            "0\r\n\r\n",
            "1\r\na\r\n0\r\n\r\n",
            "A;name=value\r\n0123\r\n\r\n89\r\n0\r\n\r\n",
            "3 ; a = \"b;c\"\r\nabc\r\n000\r\nX-Sum: 1\r\nX-More: yes\r\n\r\n",
            "0000000000000002\r\n\r\n\r\n0\r\n\r\n",
        ] {
            let bytes = format!("{body}GET /next");
            for piece in 1..=bytes.len() {
                assert_eq!(read(&bytes, piece), Ok((body.len(), true)), "{body:?} in pieces of {piece}");
            }
            let unfinished = &body[..body.len() - 1];
            assert_eq!(read(unfinished, 2), Ok((unfinished.len(), false)), "{body:?}");
        }
    }

    #[test]
    fn what_is_no_body_in_chunks_is_refused() {
        let long = format!("1;{}\r\n", "x".repeat(SIZE_LINE_BYTES_MAX.into()));
        for body in [
            "\r\n",
            ";a\r\n",
            " 1\r\n",
            "+1\r\n",
            "-1\r\n",
            "0x1\r\n",
            "g\r\n",
            "1 \r\n",
            "1 1\r\n",
            "1\n",
            "1\ra",
            "1\r\r\n",
            "1;a\n",
            "1;a\rb",
            "1;\0\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "1\r\na\r\r",
            "2\r\na\r\n0\r\n",
            "0\r\n\n",
            "0\r\nX: a\n",
            "0\r\nX: a\r\r",
            "0\r\n\r\r",
            "00000000000000001\r\n",
            "10000000000000000\r\n",
            &long,
        ] {
            for piece in [1, 3, body.len()] {
                assert_eq!(read(body, piece), Err(Unframed), "{body:?} in pieces of {piece}");
            }
        }
        let largest = "ffffffffffffffff\r\nabc";
        assert_eq!(read(largest, 4), Ok((largest.len(), false)));
    }
}
