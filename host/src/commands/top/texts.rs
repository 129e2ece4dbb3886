//! PURE: numbers as short texts, texts of a width, and rows of bars.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::rates::{TopTime, float};

/// What stands where there is nothing to say.
pub(super) const NOTHING: &str = "-";

/// A count in at most four characters: `9999`, `12k`, `3M`.
pub(super) fn count(count: u64) -> String {
    let units = [(1_000_000_000_000, 'T'), (1_000_000_000, 'G'), (1_000_000, 'M'), (1_000, 'k')];
    match units.into_iter().find(|(unit, _)| count >= 10_000 && count >= *unit) {
        Some((unit, letter)) if count / unit > 999 => format!("999{letter}"),
        Some((unit, letter)) => format!("{}{letter}", count / unit),
        None => count.to_string(),
    }
}

/// A number of events in a second, in at most five characters: `0`, `0.3`, `99999`, `123k`.
pub(super) fn rate(rate: f64) -> String {
    match rate {
        rate if rate <= 0.0 => "0".to_owned(),
        rate if rate < 9.95 => format!("{rate:.1}"),
        rate if rate < 99_999.5 => format!("{rate:.0}"),
        rate if rate < 9_999_500.0 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.0}M", rate / 1e6),
    }
}

/// A share in at most four characters: `0%`, `2.5%`, `145%`.
pub(super) fn percent(percent: f64) -> String {
    match percent {
        percent if percent < 0.05 => "0%".to_owned(),
        percent if percent < 9.95 => format!("{percent:.1}%"),
        percent if percent < 999.5 => format!("{percent:.0}%"),
        percent => format!("{:.0}c", percent / 100.0),
    }
}

/// Microseconds in at most five characters: `87us`, `2.5ms`, `120ms`, `1.2s`, `>30s`.
pub(super) fn time(time: TopTime) -> String {
    let text = match time.us {
        us if us < 999.5 => format!("{us:.0}us"),
        us if us < 9_950.0 => format!("{:.1}ms", us / 1e3),
        us if us < 999_500.0 => format!("{:.0}ms", us / 1e3),
        us if us < 9_950_000.0 => format!("{:.1}s", us / 1e6),
        us => format!("{:.0}s", us / 1e6),
    };
    if time.is_above { format!(">{text}") } else { text }
}

/// Bytes in at most five characters, by powers of 1,024: `512B`, `1.2M`, `120M`, `2.0G`.
pub(in crate::commands) fn bytes(bytes: u64) -> String {
    let mut value = float(bytes);
    let mut letters = ["B", "K", "M", "G", "T", "P", "E"].into_iter();
    let mut letter = letters.next().unwrap_or_default();
    for next in letters {
        if value < 999.5 {
            break;
        }
        (value, letter) = (value / 1024.0, next);
    }
    if value < 9.95 && letter != "B" { format!("{value:.1}{letter}") } else { format!("{value:.0}{letter}") }
}

/// A time in at most six characters, of its two greatest units: `5s`, `3m20s`, `2h5m`, `14d3h`, `400d`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{}m", minutes % 60),
        (1..100, _, _) => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

/// Names and counts, without those of 0: `trap 3, memory 1`.
pub(super) fn by_name<'a>(counts: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let some = counts.into_iter().filter(|(_, count)| **count > 0);
    some.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// How many columns of a terminal a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// A text in exactly `columns`: cut, with a mark at its end, or with spaces behind it (with `is_number`, before it).
pub(super) fn fit(text: &str, columns: usize, is_number: bool) -> String {
    let mut cut = cut(text, columns);
    let room = " ".repeat(columns.saturating_sub(width(&cut)));
    if is_number {
        cut.insert_str(0, &room);
    } else {
        cut.push_str(&room);
    }
    cut
}

/// A text in at most `columns`; `~` stands for what is left out.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else { return String::new() };
    let (mut cut, mut used) = (String::new(), 0);
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used > room {
            break;
        }
        cut.push(letter);
    }
    cut + "~"
}

/// A text in lines of at most `columns`, `lines` of them at most; the last is cut.
pub(super) fn wrapped(text: &str, columns: usize, lines: usize) -> Vec<String> {
    let (mut all, mut line, mut used) = (Vec::new(), String::new(), 0);
    for letter in text.chars() {
        let more = letter.width().unwrap_or(0);
        if used + more > columns && all.len() + 1 < lines {
            all.push(std::mem::take(&mut line));
            used = 0;
        }
        line.push(letter);
        used += more;
    }
    all.push(cut(&line, columns));
    all.truncate(lines);
    all
}

/// Which letters a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopLetters {
    /// All of Unicode.
    Unicode,
    /// ASCII: other letters are shown as `?`.
    Ascii,
}

impl TopLetters {
    /// Those of a terminal with these variables (locale(7)). Linux's console has only some of the bars.
    pub(super) fn of(term: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| variable(name).is_some_and(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find(set).and_then(&variable).unwrap_or_default();
        let is_utf8 = ["UTF-8", "UTF8"].iter().any(|name| locale.to_ascii_uppercase().ends_with(name));
        if is_utf8 && term != Some("linux") { Self::Unicode } else { Self::Ascii }
    }

    /// A text in these letters.
    pub(super) fn shown(self, text: &str) -> String {
        let one = |letter: char| if letter.is_ascii() { letter } else { '?' };
        match self {
            Self::Unicode => text.to_owned(),
            // (As wide as before.)
            Self::Ascii => {
                text.chars().flat_map(|letter| std::iter::repeat_n(one(letter), letter.width().unwrap_or(0))).collect()
            }
        }
    }

    /// The last values as bars in exactly `columns`, the greatest of which is full.
    pub(super) fn bars(self, values: impl DoubleEndedIterator<Item = f64>, columns: usize) -> String {
        let bars: &[char] = match self {
            Self::Unicode => &['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'],
            Self::Ascii => &['.', ':', '-', '=', '+', '*', '#', '@'],
        };
        let last: Vec<f64> = values.rev().take(columns).collect();
        let greatest = last.iter().copied().fold(0.0, f64::max);
        let bar = |value: &f64| {
            let steps = float(u64::try_from(bars.len()).unwrap_or(1)) - 1.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to the number of bars")]
            let step = if greatest > 0.0 { (value / greatest * steps).round() as usize } else { 0 };
            if *value > 0.0 { bars.get(step).copied().unwrap_or(' ') } else { ' ' }
        };
        let shown: String = last.iter().rev().map(bar).collect();
        format!("{shown:>columns$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_within_their_columns() {
        for number in (0..64).map(|bit| 1_u64 << bit).flat_map(|power| [power - 1, power, power + 1]) {
            assert!(count(number).len() <= 4, "{}", count(number));
            assert!(bytes(number).len() <= 5, "{}", bytes(number));
            let us = float(number.min(9_999_000_000));
            assert!(time(TopTime { us, is_above: false }).len() <= 5, "{us}");
            assert!(rate(us).len() <= 5, "{}", rate(us));
            assert!(percent(us / 1e5).len() <= 5, "{}", percent(us / 1e5));
            assert!(span(Duration::from_secs(number.min(800 * 86_400))).len() <= 6, "{number}");
        }
    }

    #[test]
    fn numbers_are_as_people_write_them() {
        let us = |us: f64| time(TopTime { us, is_above: false });
        assert_eq!([us(87.2), us(2_500.0), us(120_000.0), us(1_234_567.0)], ["87us", "2.5ms", "120ms", "1.2s"]);
        assert_eq!(time(TopTime { us: 3e7, is_above: true }), ">30s");
        assert_eq!([bytes(512), bytes(1_300_000), bytes(2 << 30)], ["512B", "1.2M", "2.0G"]);
        assert_eq!([count(9_999), count(12_345), count(3_400_000)], ["9999", "12k", "3M"]);
        assert_eq!([percent(0.0), percent(2.51), percent(145.2), percent(6_400.0)], ["0%", "2.5%", "145%", "64c"]);
        assert_eq!([rate(0.0), rate(0.3), rate(1234.4), rate(123_456.0)], ["0", "0.3", "1234", "123k"]);
        let spans = [5, 200, 7_500, 14 * 86_400 + 3 * 3_600].map(|seconds| span(Duration::from_secs(seconds)));
        assert_eq!(spans, ["5s", "3m20s", "2h5m", "14d3h"]);
    }

    #[test]
    fn texts_are_cut_by_columns() {
        assert_eq!(fit("shop", 6, false), "shop  ");
        assert_eq!(fit("12", 4, true), "  12");
        assert_eq!(fit("a longer name", 6, false), "a lon~");
        // Each takes two columns.
        assert_eq!(fit("商店です", 5, false), "商店~");
        assert_eq!(wrapped("abcdefgh", 3, 2), ["abc", "de~"]);
        assert_eq!(wrapped("", 3, 2), [""]);
        assert_eq!(cut("abc", 0), "");
    }

    #[test]
    fn a_terminal_without_unicode_gets_ascii() {
        let of = |term, value: &str| TopLetters::of(term, |name| (name == "LANG").then(|| value.to_owned()));
        assert_eq!(of(Some("xterm"), "de_DE.UTF-8"), TopLetters::Unicode);
        assert_eq!(of(Some("xterm"), "C.utf8"), TopLetters::Unicode);
        assert_eq!(of(Some("linux"), "C.UTF-8"), TopLetters::Ascii);
        assert_eq!(of(Some("xterm"), "C"), TopLetters::Ascii);
        let over = |name: &str| Some(if name == "LC_ALL" { "C" } else { "C.UTF-8" }.to_owned());
        assert_eq!(TopLetters::of(Some("xterm"), over), TopLetters::Ascii, "the first that is set counts");
        assert_eq!(TopLetters::Ascii.shown("größe 商"), "gr??e ??");
    }

    #[test]
    fn bars_are_of_the_last_values_and_nothing_is_no_bar() {
        let values = [9.0, 0.0, 1.0, 4.0, 8.0];
        assert_eq!(TopLetters::Unicode.bars(values.into_iter(), 4), " ▂▅█");
        assert_eq!(TopLetters::Ascii.bars(values.into_iter(), 7), "  @ :=#");
        assert_eq!(TopLetters::Ascii.bars(std::iter::empty(), 3), "   ");
    }
}
