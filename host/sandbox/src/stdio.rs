//! What guests write to standard output and standard error. It is cut into lines; each is a log line with the app, the worker
//! and the request. The number of lines per second is bounded.

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

/// A longer line is logged in pieces of this size.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Lines of a worker's guests that are logged in one second; the rest of that second is counted and left out.
pub(super) const LINES_PER_SECOND: u64 = 1_000;
/// How much a guest may write at once.
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestStream {
    Stdout,
    Stderr,
}

impl GuestStream {
    const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// One stream of one instance.
#[derive(Clone)]
pub(super) struct GuestOutput(Arc<Writer>);

struct Writer {
    stream: GuestStream,
    meter: Arc<Meter>,
    budget: Arc<LineBudget>,
    partial: Mutex<Vec<u8>>,
}

impl GuestOutput {
    pub(super) fn new(stream: GuestStream, meter: Arc<Meter>, budget: Arc<LineBudget>) -> Self {
        Self(Arc::new(Writer { stream, meter, budget, partial: Mutex::new(Vec::new()) }))
    }

    /// Logs what came after the last newline, for the request that wrote it.
    pub(super) fn end_line(&self) {
        let mut partial = self.0.partial.lock().unwrap_or_else(PoisonError::into_inner);
        if !partial.is_empty() {
            self.0.log(&partial);
            partial.clear();
        }
    }
}

impl Writer {
    fn take_in(&self, mut bytes: &[u8]) {
        wasmhost_base::inject::panic_at("host-function");
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        while !bytes.is_empty() {
            let room = LINE_BYTES_MAX - partial.len();
            let window = &bytes[..bytes.len().min(room)];
            let (piece, ends_line) = match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => (&window[..end], true),
                None => (window, window.len() == room),
            };
            let newline = usize::from(piece.len() < window.len());
            if ends_line {
                if partial.is_empty() {
                    self.log(piece);
                } else {
                    partial.extend_from_slice(piece);
                    self.log(&partial);
                    partial.clear();
                }
            } else {
                partial.extend_from_slice(piece);
            }
            bytes = &bytes[piece.len() + newline..];
        }
    }

    fn log(&self, line: &[u8]) {
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
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
            let line = one_line(&line);
            let (app, stream) = (self.meter.app(), self.stream.name());
            tracing::info!(target: "guest", app, worker, request, stream, "{line}");
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
        let partial = std::mem::take(self.partial.get_mut().unwrap_or_else(PoisonError::into_inner));
        if !partial.is_empty() {
            self.log(&partial);
        }
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
        assert_eq!(output.0.partial.lock().map(|partial| partial.len()).unwrap_or_default(), 10);
        output.0.take_in(b"\n\nab");
        assert_eq!(output.0.partial.lock().map(|partial| partial.clone()).unwrap_or_default(), b"ab");
    }
}
