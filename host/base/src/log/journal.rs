//! Priorities of lines, where the journal of systemd reads them: `<3>` begins an error, and so on (sd-daemon(3)). The journal takes
//! them off (`SyslogLevelPrefix=`, systemd.exec(5)), and `journalctl -p err` finds what is wrong.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::OnceLock;

use tracing::Level;

use super::LogDestination;

/// Whether the journal reads what this process writes to standard error. To be asked for the first time before the process
/// confines itself.
pub fn is_for_journal() -> bool {
    static IS_IT: OnceLock<bool> = OnceLock::new();
    let is_there = || std::env::var_os("JOURNAL_STREAM").is_some();
    *IS_IT.get_or_init(|| is_there() && matches!(LogDestination::of_stderr(), LogDestination::Journal { .. }))
}

/// How long a priority is.
const MARK_BYTES: usize = 3;

/// What begins a line of this level.
pub(super) const fn mark(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Each line with its priority: whatever a guest has written, none begins as it likes.
pub(super) fn marked(level: Level, lines: &[u8]) -> Vec<u8> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| [mark(level).as_bytes(), line]).flatten().copied().collect()
}

/// What [`marked`] has made of lines of the log, as it was before. Pure.
fn without_marks(lines: &[u8]) -> Vec<u8> {
    let lines = lines.split_inclusive(|byte| *byte == b'\n');
    lines.flat_map(|line| line.get(MARK_BYTES..).unwrap_or_default()).copied().collect()
}

/// Lines of the log without the priorities that only the journal is to read.
pub(super) fn unmarked(lines: &[u8]) -> Cow<'_, [u8]> {
    if is_for_journal() { without_marks(lines).into() } else { lines.into() }
}

/// Writes lines to standard error that are no events of the log: the last words of a program.
pub fn say(level: Level, lines: &str) {
    let marked = if is_for_journal() { marked(level, lines.as_bytes()) } else { lines.into() };
    // Without a standard error there is nobody to tell.
    let _ = std::io::stderr().lock().write_all(&marked);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_a_priority() {
        for (level, lines, expected) in [
            (Level::ERROR, "a\n", "<3>a\n"),
            (Level::WARN, "a\n<0>b\n", "<4>a\n<4><0>b\n"),
            (Level::INFO, "a\n\nb", "<6>a\n<6>\n<6>b"),
            (Level::TRACE, "", ""),
        ] {
            let marked = marked(level, lines.as_bytes());
            assert_eq!(String::from_utf8_lossy(&marked), expected);
            assert_eq!(without_marks(&marked), lines.as_bytes());
        }
    }
}
