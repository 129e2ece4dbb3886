//! What guests write to standard output and standard error. It is cut into lines; each is a log line with the app, the worker
//! and the request. The number of lines per second is bounded. A guest may choose the level of a line among those of programs
//! (see [`marked`]); it chooses nothing else.

use std::borrow::Cow;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use wasmhost_base::line_budget::LineBudget;

use super::meter::Meter;
use super::record::GuestStream;

/// A longer line is logged in pieces of this size.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Lines of a worker's guests that are logged in one second; the rest of that second is counted and left out.
pub(super) const LINES_PER_SECOND: u64 = 1_000;
/// How much a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// What stands behind the last line of a message whose level is chosen.
const MESSAGE_END: u8 = 0x17;

/// One stream of one instance.
#[derive(Clone)]
pub(super) struct GuestOutput(Arc<Writer>);

struct Writer {
    stream: GuestStream,
    meter: Arc<Meter>,
    budget: Arc<LineBudget>,
    pending: Mutex<UnloggedOutput>,
}

/// What a stream has begun.
#[derive(Default)]
struct UnloggedOutput {
    /// What came after the last newline.
    line: Vec<u8>,
    message: Option<Message>,
}

/// A message that has begun: its level, and what the line ends with that is its last.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    level: GuestLevel,
    end: Vec<u8>,
}

/// The level of a line of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GuestLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// The message that a line on standard error begins, and the rest of the line. Its first byte chooses the level: U+0001 to
/// U+0004, from `debug` to `error`. A space follows, and the message ends at the line that ends with a space and [`MESSAGE_END`];
/// or [`MESSAGE_END`], a word and a space follow, and the same word stands before the end: a text that is printed cannot know it.
/// No terminal shows these characters. Another message cannot begin before.
fn marked(line: &[u8]) -> Option<(Message, &[u8])> {
    let [mark @ 1..=4, rest @ ..] = line else { return None };
    let level = match mark {
        1 => GuestLevel::Debug,
        2 => GuestLevel::Info,
        3 => GuestLevel::Warn,
        _ => GuestLevel::Error,
    };
    let space = rest.iter().position(|byte| *byte == b' ')?;
    let (word, rest) = (&rest[..space], &rest[space + 1..]);
    let word = if word.is_empty() { word } else { word.strip_prefix(&[MESSAGE_END])? };
    Some((Message { level, end: [b" ", word, &[MESSAGE_END]].concat() }, rest))
}

impl GuestOutput {
    pub(super) fn new(stream: GuestStream, meter: Arc<Meter>, budget: Arc<LineBudget>) -> Self {
        Self(Arc::new(Writer { stream, meter, budget, pending: Mutex::default() }))
    }

    /// Logs what came after the last newline, for the request that wrote it.
    pub(super) fn end_line(&self) {
        let mut pending = self.0.pending.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.log_pending(&mut pending);
        pending.message = None;
    }
}

impl Writer {
    fn take_in(&self, mut bytes: &[u8]) {
        wasmhost_base::inject::panic_at("host-function");
        if let Some(record) = self.meter.record() {
            record.wrote(self.stream, bytes);
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - pending.line.len();
            let window = &bytes[..bytes.len().min(room)];
            let (piece, ends_line) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&window[..end], true),
                None => (window, window.len() == room),
            };
            let newline = usize::from(piece.len() < window.len());
            if ends_line {
                if pending.line.is_empty() {
                    self.log(&mut pending.message, piece);
                } else {
                    pending.line.extend_from_slice(piece);
                    self.log_pending(&mut pending);
                }
            } else {
                pending.line.extend_from_slice(piece);
            }
            bytes = &bytes[piece.len() + newline..];
        }
    }

    /// Logs a line without its end, if anything of one came.
    fn log_pending(&self, pending: &mut UnloggedOutput) {
        if !pending.line.is_empty() {
            self.log(&mut pending.message, &pending.line);
            pending.line.clear();
        }
    }

    fn log(&self, message: &mut Option<Message>, line: &[u8]) {
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if message.is_none()
            && self.stream == GuestStream::Stderr
            && let Some((begun, rest)) = marked(line)
        {
            (*message, line) = (Some(begun), rest);
        }
        let level = message.as_ref().map_or(GuestLevel::Info, |message| message.level);
        if let Some(rest) = message.as_ref().and_then(|message| line.strip_suffix(message.end.as_slice())) {
            (*message, line) = (None, rest);
        }
        self.log_at(level, line);
    }

    fn log_at(&self, level: GuestLevel, line: &[u8]) {
        let (admitted, left_out) = self.budget.admit();
        let (worker, request) = self.meter.whose();
        if left_out > 0 {
            tracing::warn!(
                app = self.meter.app(),
                worker,
                lines = left_out,
                "guest output above {LINES_PER_SECOND} lines a second was left out"
            );
        }
        if admitted {
            let line = String::from_utf8_lossy(line);
            let line = one_line(&line);
            let (app, stream) = (self.meter.app(), self.stream.name());
            match level {
                GuestLevel::Debug => tracing::debug!(target: "guest", app, worker, request, stream, "{line}"),
                GuestLevel::Info => tracing::info!(target: "guest", app, worker, request, stream, "{line}"),
                GuestLevel::Warn => tracing::warn!(target: "guest", app, worker, request, stream, "{line}"),
                GuestLevel::Error => tracing::error!(target: "guest", app, worker, request, stream, "{line}"),
            }
        }
    }
}

/// Without what would have a part of it look like another line of the log, or hide one: carriage returns and other control
/// characters, line separators, marks that turn the direction of text. (Escapes of terminals are the log's to show.)
fn one_line(line: &str) -> Cow<'_, str> {
    let acts = |character: char| match character {
        '\t' | '\x1b' => false,
        '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        character => character.is_control(),
    };
    if !line.contains(acts) {
        return Cow::Borrowed(line);
    }
    let escaped = line.chars().fold(String::with_capacity(line.len()), |mut escaped, character| {
        if acts(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
        escaped
    });
    Cow::Owned(escaped)
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut pending = std::mem::take(self.pending.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.log_pending(&mut pending);
    }
}

impl IsTerminal for GuestOutput {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestOutput {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for GuestOutput {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.take_in(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestOutput {
    async fn ready(&mut self) {}
}

impl OutputStream for GuestOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.take_in(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_guest_cannot_look_like_two() {
        assert!(matches!(one_line("plain\ttext with é and \x1b[31mcolours"), Cow::Borrowed(_)));
        assert_eq!(
            one_line("a\r2026-01-01 ERROR b\0\u{2028}\u{202e}c"),
            r"a\r2026-01-01 ERROR b\u{0}\u{2028}\u{202e}c"
        );
    }

    #[test]
    fn a_line_without_end_is_cut_and_the_rest_waits_for_its_end() {
        let meter = Arc::new(Meter::of_test(std::time::Duration::from_secs(1)));
        let output = GuestOutput::new(GuestStream::Stdout, meter, Arc::new(LineBudget::of(LINES_PER_SECOND)));
        output.0.take_in(&vec![b'x'; LINE_BYTES_MAX * 2 + 10]);
        assert_eq!(output.0.pending.lock().map(|pending| pending.line.len()).unwrap_or_default(), 10);
        output.0.take_in(b"\n\nab");
        assert_eq!(output.0.pending.lock().map(|pending| pending.line.clone()).unwrap_or_default(), b"ab");
    }

    #[test]
    fn a_message_has_the_level_that_it_chooses_until_its_end() {
        let meter = Arc::new(Meter::of_test(std::time::Duration::from_secs(1)));
        let output = |stream| GuestOutput::new(stream, Arc::clone(&meter), Arc::new(LineBudget::of(LINES_PER_SECOND)));
        let message_behind = |output: &GuestOutput, bytes: &[u8]| {
            output.0.take_in(bytes);
            output.0.pending.lock().ok()?.message.as_ref().map(|message| message.level)
        };
        let stderr = output(GuestStream::Stderr);
        assert_eq!(message_behind(&stderr, b"\x03 it failed:\n  here"), Some(GuestLevel::Warn));
        assert_eq!(message_behind(&stderr, b"\n\x01 no message within one\n"), Some(GuestLevel::Warn));
        assert_eq!(message_behind(&stderr, b"  and there \x17\r\n"), None);
        assert_eq!(message_behind(&stderr, b"\x04 a\n"), Some(GuestLevel::Error));
        stderr.end_line();
        assert_eq!(message_behind(&stderr, b"\x05 c\n\x04d\n \x04 e\n"), None);
        let info = Message { level: GuestLevel::Info, end: b" \x17".to_vec() };
        assert_eq!(marked(b"\x02  a"), Some((info, &b" a"[..])));
        // Of one that has a word, no text that is printed is the end.
        assert_eq!(message_behind(&stderr, b"\x03\x17w0rd a \x17\n\x01 b\n"), Some(GuestLevel::Warn));
        assert_eq!(message_behind(&stderr, b"c word\x17\n"), Some(GuestLevel::Warn));
        assert_eq!(message_behind(&stderr, b"c w0rd\x17\n"), None);
        assert_eq!(message_behind(&output(GuestStream::Stdout), b"\x04 a\n"), None);
    }
}
