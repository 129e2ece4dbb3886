//! A request's query: parameters by name, percent-decoded.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A parameter that could not be read, by its name; the guests answer 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadParameter(pub &'static str);

impl fmt::Display for BadParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bad parameter: {}", self.0)
    }
}

/// The part of a URI after its `?`.
pub(crate) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(crate) fn new(query: &'a str) -> Self {
        Self(query)
    }

    /// A text, empty when missing.
    pub(crate) fn text(&self, name: &str) -> String {
        self.raw(name).map(percent_decode).unwrap_or_default()
    }

    /// A number, `default` when missing.
    pub(crate) fn number<T: FromStr>(&self, name: &'static str, default: T) -> Result<T, BadParameter> {
        match self.raw(name) {
            Some(value) => value.parse().map_err(|_| BadParameter(name)),
            None => Ok(default),
        }
    }

    /// A number of milliseconds, zero when missing.
    pub(crate) fn milliseconds(&self, name: &'static str) -> Result<Duration, BadParameter> {
        self.number(name, 0).map(Duration::from_millis)
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// `%41` becomes `A`; a `%` without two hex digits stands for itself.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%'
            && let Some((digits, tail)) = rest.split_at_checked(2)
            && let Some(decoded) = hex_byte(digits)
        {
            bytes.push(decoded);
            rest = tail;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(value(digits[0])? << 4 | value(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let query = Query::new("xms=1&ms=2&m=3&flag");
        assert_eq!(query.number("ms", 0), Ok(2));
        assert_eq!(query.number("m", 0), Ok(3));
        assert_eq!(query.number("missing", 9), Ok(9));
        assert_eq!(query.number::<u8>("ms", 0), Ok(2));
        assert_eq!(query.text("flag"), "");
    }

    #[test]
    fn percent_signs_are_decoded() {
        assert_eq!(percent_decode("a%20b%2fc%"), "a b/c%");
        assert_eq!(percent_decode("%zz%4"), "%zz%4");
        assert_eq!(percent_decode("%c3%a9+"), "é+");
    }
}
