//! The last lines of a log, in memory that its process may share with another one: what they said can be read when the process that
//! wrote them is gone. One writes at a time; whoever reads takes what is whole.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::SystemTime;

/// Bytes that are kept of the lines of a process; the oldest make room.
const KEPT_BYTES: usize = 128 * 1024;
/// Longest line that is kept whole, in bytes; of longer ones, the beginning is.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Begins a line; after it stand the microseconds since 1970, in hexadecimal digits. (RS of ASCII; lines have none.)
const MARK: u8 = 0x1e;
const TIME_DIGITS: usize = 16;

/// The last lines of a process. Made of atomic numbers only, all zero at first, so that it may lie in shared memory.
#[derive(Debug)]
pub struct RecentLines {
    /// Bytes that were written so far, and those with what is being written.
    written: AtomicU64,
    begun: AtomicU64,
    bytes: [AtomicU8; KEPT_BYTES],
}

/// Those of this process, unless they are kept elsewhere.
static OWN: RecentLines = RecentLines::new();
static ELSEWHERE: OnceLock<&'static RecentLines> = OnceLock::new();

/// Has the lines of this process kept there, from now on.
pub fn keep_lines_in(elsewhere: &'static RecentLines) {
    // A process has one place for them.
    let _ = ELSEWHERE.set(elsewhere);
}

/// The last lines of this process.
pub fn recent_lines() -> &'static RecentLines {
    ELSEWHERE.get().copied().unwrap_or(&OWN)
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentLine {
    /// When it was written, in microseconds since 1970.
    pub time_us: u64,
    /// What it says, without its end and without colours. In development it may have several lines.
    pub text: String,
}

impl RecentLines {
    pub(super) const fn new() -> Self {
        Self { written: AtomicU64::new(0), begun: AtomicU64::new(0), bytes: [const { AtomicU8::new(0) }; KEPT_BYTES] }
    }

    /// Keeps a line. Only one may do so at a time.
    pub(super) fn keep(&self, line: &[u8]) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.keep_at(u64::try_from(since.as_micros()).unwrap_or(u64::MAX), line);
    }

    fn keep_at(&self, time_us: u64, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.get(..LINE_BYTES_MAX).unwrap_or(line);
        let head = format!("{}{time_us:016x}", char::from(MARK));
        let all = head.bytes().chain(line.iter().map(|byte| if *byte == MARK { b'?' } else { *byte }));
        let mut at = self.written.load(Relaxed);
        self.begun.store(at.wrapping_add((head.len() + line.len()) as u64), SeqCst);
        for byte in all {
            if let Some(cell) = self.bytes.get(place(at)) {
                cell.store(byte, Relaxed);
            }
            at = at.wrapping_add(1);
        }
        self.written.store(at, SeqCst);
    }

    /// The lines that are whole, the oldest first.
    pub fn read(&self) -> Vec<RecentLine> {
        let written = self.written.load(SeqCst);
        let first = written.saturating_sub(KEPT_BYTES as u64);
        let mut bytes: Vec<u8> =
            (first..written).filter_map(|at| self.bytes.get(place(at))).map(|cell| cell.load(Relaxed)).collect();
        // What was written meanwhile stands in the place of the oldest.
        let begun = self.begun.load(SeqCst);
        let gone = begun.saturating_sub(KEPT_BYTES as u64).saturating_sub(first);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(bytes.len());
        bytes.drain(..gone);
        let whole = bytes.iter().position(|byte| *byte == MARK).unwrap_or(bytes.len());
        bytes[whole..].split(|byte| *byte == MARK).filter_map(line_of).collect()
    }
}

/// Where a byte stands.
fn place(at: u64) -> usize {
    usize::try_from(at % KEPT_BYTES as u64).unwrap_or(0)
}

fn line_of(record: &[u8]) -> Option<RecentLine> {
    let (time, text) = record.split_at_checked(TIME_DIGITS)?;
    let time_us = u64::from_str_radix(std::str::from_utf8(time).ok()?, 16).ok()?;
    Some(RecentLine { time_us, text: without_colours(&String::from_utf8_lossy(text)) })
}

/// A text without what turns colours on and off (ECMA-48, CSI).
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        let end = after.find(|letter: char| ('\u{40}'..='\u{7e}').contains(&letter));
        rest = end.and_then(|end| after.get(end + 1..)).unwrap_or_default();
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &RecentLines) -> Vec<String> {
        lines.read().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn the_last_lines_are_kept_whole_with_their_times_and_without_colours() {
        let lines = Box::new(RecentLines::new());
        assert_eq!(lines.read(), []);
        lines.keep_at(7, b"one\n");
        lines.keep_at(8, "\u{1b}[2mtw\u{1b}[0mo \u{1e}\u{e4}\nof two lines\n".as_bytes());
        let line = |time_us, text: &str| RecentLine { time_us, text: text.to_owned() };
        assert_eq!(lines.read(), [line(7, "one"), line(8, "two ?\u{e4}\nof two lines")]);
        for number in 0..10_000_u64 {
            lines.keep_at(number, format!("{number} {}", "x".repeat(100)).as_bytes());
        }
        let kept = lines.read();
        let (first, last) = (kept.first().map_or(0, |line| line.time_us), kept.last().map(|line| line.time_us));
        assert_eq!((last, kept.len() as u64), (Some(9_999), 10_000 - first));
        assert!(kept.len() > 1_000 && kept.iter().all(|line| line.text.starts_with(&format!("{} x", line.time_us))));
        lines.keep_at(1, &vec![b'y'; 10 * LINE_BYTES_MAX]);
        assert_eq!(texts(&lines).last().map(String::len), Some(LINE_BYTES_MAX));
    }

    #[test]
    fn whatever_stands_there_is_read_within_bounds() {
        let lines = Box::new(RecentLines::new());
        for (written, begun) in [(u64::MAX, 0), (5, u64::MAX), (1 << 40, 7), (300_000, 300_100)] {
            lines.written.store(written, Relaxed);
            lines.begun.store(begun, Relaxed);
            assert!(lines.read().len() <= KEPT_BYTES);
        }
        lines.keep_at(3, b"after");
        assert_eq!(texts(&lines), ["after"]);
        lines.bytes.iter().for_each(|cell| cell.store(MARK, Relaxed));
        assert_eq!(lines.read(), []);
    }
}
