//! Texts that others have chosen, for a terminal.

/// A text as one line that moves no cursor: control characters, line ends and what turns the direction of writing are shown as
/// escapes.
pub(crate) fn plain(text: &str) -> String {
    text.chars().flat_map(letter).collect()
}

fn letter(letter: char) -> impl Iterator<Item = char> {
    let is_plain = !letter.is_control()
        && !matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let (plain, escaped) = if is_plain { (Some(letter), None) } else { (None, Some(letter.escape_default())) };
    plain.into_iter().chain(escaped.into_iter().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_move_a_cursor_is_shown() {
        assert_eq!(plain("größe: \u{1b}[2J a\nb\u{202e}\u{2067}"), "größe: \\u{1b}[2J a\\nb\\u{202e}\\u{2067}");
    }
}
