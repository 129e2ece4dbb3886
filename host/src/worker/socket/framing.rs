//! Where a message ends in the bytes of a connection. hyper gets no byte of the next message beforehand, so that what has
//! come of the next head is known when it begins: its time and its size have limits. Pure.

/// Finds where a head, or a body in chunks, ends at the latest: at a blank line. There may be others before (between
/// chunks, or ahead of a head); to stop there costs a read and no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) enum BlankLine {
    /// In a line.
    #[default]
    Line,
    /// A line has just ended.
    Ended,
    /// And behind its end stands a return.
    Return,
}

impl BlankLine {
    /// How many of the bytes that came next belong to the message for sure: those up to its blank line, or all.
    pub(in super::super) fn belonging(&mut self, bytes: &[u8]) -> usize {
        let across = match (*self, bytes) {
            (Self::Ended | Self::Return, [b'\n', ..]) => Some(1),
            (Self::Ended, [b'\r', b'\n', ..]) => Some(2),
            _ => None,
        };
        let within = || {
            memchr::memchr_iter(b'\n', bytes).find_map(|at| match &bytes[at + 1..] {
                [b'\n', ..] => Some(at + 2),
                [b'\r', b'\n', ..] => Some(at + 3),
                _ => None,
            })
        };
        if let Some(end) = across.or_else(within) {
            *self = Self::Line;
            return end;
        }
        *self = match (*self, bytes) {
            (state, []) => state,
            (_, [.., b'\n']) => Self::Ended,
            (_, [.., b'\n', b'\r']) | (Self::Ended, [b'\r']) => Self::Return,
            _ => Self::Line,
        };
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_its_blank_line_however_its_bytes_are_cut() {
        for end in ["\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n"] {
            let message = format!("GET / HTTP/1.1\r\nHost: a\r\nX: \rb{end}");
            let bytes = format!("{message}GET /next");
            for cut in 0..message.len() {
                let mut line = BlankLine::default();
                assert_eq!(line.belonging(&bytes.as_bytes()[..cut]), cut, "{end:?} cut at {cut}");
                assert_eq!(line.belonging(&[]), 0, "nothing changes nothing");
                assert_eq!(line.belonging(&bytes.as_bytes()[cut..]), message.len() - cut, "{end:?} cut at {cut}");
                assert_eq!(line, BlankLine::Line);
            }
            let mut line = BlankLine::default();
            let each: usize = message.bytes().map(|byte| line.belonging(&[byte])).sum();
            assert_eq!((each, line), (message.len(), BlankLine::Line), "{end:?} byte by byte");
        }
    }
}
