//! Files of environment variables for the guest (`--env-file`), in the form that Docker Compose and dotenv libraries
//! have in common. `docs/OPERATIONS.md` describes it; nothing is replaced within values (`$NAME` stays as it is).

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Largest file.
const BYTES_MAX: u64 = 1 << 20;

/// The variable that tells a guest that it runs in `wasmhost dev`.
pub const DEVELOPMENT_VARIABLE: &str = "WASMHOST_DEVELOPMENT";

/// Whether a variable of this name may be granted.
pub(super) fn grantable(name: &str) -> Result<(), String> {
    if name == DEVELOPMENT_VARIABLE {
        return Err(format!(
            "`{name}` cannot be granted, since applications would show clients their errors and source; leave it out: `wasmhost dev` sets it"
        ));
    }
    Ok(())
}

/// What is wrong, and in which line (from 1) if in one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: Option<usize>,
    pub(super) reason: String,
}

impl Wrong {
    fn whole(reason: String) -> Self {
        Self { line: None, reason }
    }
}

/// The variables of a file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, Vec<Wrong>> {
    let text = read_text(path).map_err(|reason| vec![Wrong::whole(reason)])?;
    parse(&text)
}

/// Opens a regular file for reading; without waiting, should it be a pipe that nobody writes to.
pub(super) fn open_regular(path: &Path) -> Result<File, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| cannot(errno.into()))?;
    let file = File::from(opened);
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("is not a regular file".to_owned());
    }
    Ok(file)
}

fn read_text(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot be read: {error}");
    let file = open_regular(path)?;
    let mut text = String::new();
    let read = file.take(BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Ok(bytes) if bytes as u64 > BYTES_MAX => Err(format!("is larger than {} MiB", BYTES_MAX >> 20)),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err("is not text in UTF-8".to_owned()),
        Err(error) => Err(cannot(error)),
    }
}

/// The variables that a text sets; or what is wrong with each line that is.
fn parse(text: &str) -> Result<Vec<(String, String)>, Vec<Wrong>> {
    let mut variables = Vec::new();
    let mut wrong = Vec::new();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        match variable(line) {
            Ok(variable) => variables.extend(variable),
            Err(reason) => wrong.push(Wrong { line: Some(number + 1), reason }),
        }
    }
    if wrong.is_empty() { Ok(variables) } else { Err(wrong) }
}

/// What a line sets; nothing, if it is empty or a comment.
fn variable(line: &str) -> Result<Option<(String, String)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let set = line.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(line);
    let Some((name, value)) = set.split_once('=') else {
        return Err("sets nothing; write `NAME=VALUE`, or `#` before a comment".to_owned());
    };
    let name = name.trim();
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || "'\"#".contains(c)) {
        return Err(format!("`{name}` is not a name; write `NAME=VALUE` without spaces or quotes in the name"));
    }
    grantable(name)?;
    let value = value.trim_start();
    let value = match value.chars().next() {
        Some(quote @ ('"' | '\'')) => quoted(&value[1..], quote)?,
        _ => unquoted(value).to_owned(),
    };
    if value.contains('\0') {
        return Err("holds a NUL byte".to_owned());
    }
    Ok(Some((name.to_owned(), value)))
}

/// Up to a comment, which begins with a `#` after a space.
fn unquoted(value: &str) -> &str {
    let comment = value
        .char_indices()
        .find(|(at, c)| *c == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace));
    value[..comment.map_or(value.len(), |(at, _)| at)].trim_end()
}

/// What stands before the closing quote, with nothing but a comment behind it. Within double quotes, a backslash and a
/// character stand for another one.
fn quoted(text: &str, quote: char) -> Result<String, String> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next() {
            None => return Err(format!("the quote {quote} is not closed in this line")),
            Some(c) if c == quote => break,
            Some('\\') if quote == '"' => value.push(match characters.next() {
                Some('n') => '\n',
                Some('r') => '\r',
                Some('t') => '\t',
                Some(same @ ('\\' | '"' | '\'' | '$')) => same,
                Some(other) => {
                    return Err(format!("`\\{other}` means nothing; there are `\\n \\r \\t \\\\ \\\" \\' \\$`"));
                }
                None => return Err(format!("the quote {quote} is not closed in this line")),
            }),
            Some(c) => value.push(c),
        }
    }
    let rest = characters.as_str().trim();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(value)
    } else {
        Err(format!("`{rest}` stands behind the closing quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<Option<(String, String)>, String> {
        variable(line)
    }

    #[test]
    fn each_form_of_a_line_has_its_meaning() {
        let rows = [
            ("A=b", "A", "b"),
            ("A=", "A", ""),
            ("  A = b c  ", "A", "b c"),
            ("export A=b", "A", "b"),
            ("export=b", "export", "b"),
            ("A=b=c", "A", "b=c"),
            ("A=b#c", "A", "b#c"),
            ("A=b # c", "A", "b"),
            ("A=# c", "A", ""),
            ("A='b # c' # d", "A", "b # c"),
            (r#"A="b # c""#, "A", "b # c"),
            (r#"A="b\n\"\\\$c""#, "A", "b\n\"\\$c"),
            (r"A='b\nc'", "A", r"b\nc"),
            (r"A=b\nc", "A", r"b\nc"),
            ("A=$B", "A", "$B"),
            ("A=b'c'", "A", "b'c'"),
            ("dotted.name-1=ä", "dotted.name-1", "ä"),
        ];
        for (line, name, value) in rows {
            assert_eq!(one(line), Ok(Some((name.to_owned(), value.to_owned()))), "{line}");
        }
        for nothing in ["", "   ", "# A=b", "  #", "\t"] {
            assert_eq!(one(nothing), Ok(None), "{nothing}");
        }
        for wrong in ["A", "=b", "A b=c", "'A'=b", "A='b", "A=\"b", r#"A="b\"#, r#"A="\x""#, "A='b'c", "A=b\0c"] {
            assert!(one(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_wrong_lines_are_named_with_their_numbers() {
        let text = "\u{feff}A=1\r\nB\r\n# C\r\nD='x\r\nE=2";
        let lines = parse(text).map_err(|wrong| wrong.iter().map(|wrong| wrong.line).collect::<Vec<_>>());
        assert_eq!(lines, Err(vec![Some(2), Some(4)]));
        let right = parse("\u{feff}A=1\r\n\r\nB=2\n");
        assert_eq!(right, Ok(vec![("A".to_owned(), "1".to_owned()), ("B".to_owned(), "2".to_owned())]));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_in_double_quotes_is_read_back(value in "[^\0\r\n]{0,40}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            proptest::prop_assert_eq!(one(&format!("A=\"{escaped}\" # c")), Ok(Some(("A".to_owned(), value))));
        }

        #[test]
        fn no_text_makes_it_fail_otherwise_than_by_a_reason(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
