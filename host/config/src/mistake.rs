//! What is wrong with the settings, and where: all of it, in the order in which it is read.

use std::collections::HashSet;
use std::fmt;

/// Most mistakes that are reported of one file; whoever has more has one that repeats.
const FILE_MISTAKES_MAX: usize = 1_000;

/// Something wrong in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where: `--workers` or `WASMHOST_WORKERS` with the value, or `wasmhost.toml:LINE:COLUMN`.
    pub place: String,
    /// In the file, which app alone is wrong, if its name can be read; none: the host cannot use the file.
    pub app: Option<String>,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

/// A place in the text of a file, in bytes from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Offset(pub(super) usize);

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    /// Of flags and variables, and of the file as a whole.
    others: Vec<Mistake>,
    in_file: Vec<InFile>,
}

#[derive(Debug)]
struct InFile {
    at: Offset,
    app: Option<String>,
    kind: MistakeKind,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MistakeKind {
    /// Something is wrong; with another place that the reason speaks of.
    Wrong(Option<Offset>),
    /// Something should be there.
    Absent,
    Syntax,
}

impl Mistakes {
    /// Notes a mistake outside the file's text.
    pub(super) fn note(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.others.push(Mistake { place: place.into(), app: None, reason: reason.into() });
    }

    /// Notes a mistake in the file; `app`: if it is that app's alone.
    pub(super) fn at(&mut self, at: Offset, app: Option<&str>, reason: impl Into<String>) {
        self.add(at, app, MistakeKind::Wrong(None), reason);
    }

    /// [`Self::at`], with a second place, which the message names at its end.
    pub(super) fn at_both(&mut self, at: Offset, other: Option<Offset>, app: Option<&str>, reason: impl Into<String>) {
        self.add(at, app, MistakeKind::Wrong(other), reason);
    }

    /// Notes that something is not there, which does not count where the text could not be read in full.
    pub(super) fn absent(&mut self, at: Offset, app: Option<&str>, reason: impl Into<String>) {
        self.add(at, app, MistakeKind::Absent, reason);
    }

    /// Notes an error of syntax. What follows from it is not reported: absences, and other mistakes on its line.
    pub(super) fn syntax(&mut self, at: Offset, reason: impl Into<String>) {
        self.add(at, None, MistakeKind::Syntax, reason);
    }

    fn add(&mut self, at: Offset, app: Option<&str>, kind: MistakeKind, reason: impl Into<String>) {
        // One more than are reported says that there are more.
        if self.in_file.len() <= FILE_MISTAKES_MAX {
            self.in_file.push(InFile { at, app: app.map(str::to_owned), kind, reason: reason.into() });
        }
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.in_file.is_empty()
    }

    /// The apps that are wrong.
    pub(super) fn apps(&self) -> HashSet<String> {
        self.in_file.iter().filter_map(|mistake| mistake.app.clone()).collect()
    }

    /// All of them; `name` is the file's, and `text` what is in it.
    pub(super) fn finish(mut self, name: &str, text: &str) -> Vec<Mistake> {
        if self.in_file.is_empty() {
            return self.others;
        }
        let lines = LineStarts::of(text);
        let more = self.in_file.len() > FILE_MISTAKES_MAX;
        let line = |mistake: &InFile| lines.place(text, mistake.at).0;
        let broken: HashSet<usize> =
            self.in_file.iter().filter(|mistake| mistake.kind == MistakeKind::Syntax).map(line).collect();
        self.in_file.retain(|mistake| match mistake.kind {
            MistakeKind::Syntax => true,
            MistakeKind::Absent => broken.is_empty(),
            MistakeKind::Wrong(_) => !broken.contains(&line(mistake)),
        });
        self.in_file.sort_by_key(|mistake| mistake.at);
        self.in_file.truncate(FILE_MISTAKES_MAX);
        let mut all = self.others;
        all.extend(self.in_file.into_iter().map(|mistake| {
            let (line, column) = lines.place(text, mistake.at);
            let other = match mistake.kind {
                MistakeKind::Wrong(Some(other)) => Some(lines.place(text, other)),
                _ => None,
            };
            let other = other.map_or_else(String::new, |(line, column)| format!(" (the other one: {line}:{column})"));
            let reason = mistake.reason + &other;
            Mistake { place: format!("{name}:{line}:{column}"), app: mistake.app, reason }
        }));
        if more {
            let reason = format!("has more than {FILE_MISTAKES_MAX} mistakes; the others are not shown");
            all.push(Mistake { place: name.to_owned(), app: None, reason });
        }
        all
    }
}

/// Where lines begin.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn of(text: &str) -> Self {
        let after = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(after).collect())
    }

    /// Line and column from 1; a column is a character.
    fn place(&self, text: &str, at: Offset) -> (usize, usize) {
        let line = self.0.partition_point(|begin| *begin <= at.0).max(1);
        let begin = self.0.get(line - 1).copied().unwrap_or_default();
        let before = text.get(begin..).unwrap_or_default().char_indices().take_while(|(byte, _)| begin + byte < at.0);
        (line, before.count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_lines_and_characters_from_one() {
        let text = "a\nöb\n\nc";
        let lines = LineStarts::of(text);
        let rows =
            [(0, (1, 1)), (1, (1, 2)), (2, (2, 1)), (4, (2, 2)), (5, (2, 3)), (6, (3, 1)), (7, (4, 1)), (99, (4, 2))];
        for (at, place) in rows {
            assert_eq!(lines.place(text, Offset(at)), place, "{at}");
        }
    }

    #[test]
    fn mistakes_are_told_in_the_order_of_the_file_and_their_number_is_bounded() {
        let mut mistakes = Mistakes::default();
        mistakes.at(Offset(2), Some("x"), "second");
        mistakes.at_both(Offset(0), Some(Offset(2)), None, "first");
        mistakes.note("--workers `x`", "flag");
        let told: Vec<String> = mistakes.finish("f", "a\nb").iter().map(ToString::to_string).collect();
        assert_eq!(told, ["--workers `x`: flag", "f:1:1: first (the other one: 2:1)", "f:2:1: second"]);
        let mut mistakes = Mistakes::default();
        for _ in 0..3 * FILE_MISTAKES_MAX {
            mistakes.at(Offset(0), Some("x"), "again");
        }
        let told = mistakes.finish("f", "");
        assert_eq!(told.len(), FILE_MISTAKES_MAX + 1);
        assert!(told.last().is_some_and(|last| last.app.is_none()), "not all are known, so no app can be used");
    }
}
