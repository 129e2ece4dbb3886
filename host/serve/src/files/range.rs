//! Which part of a file a request asks for (RFC 9110, section 14). Pure.

use std::ops::Range;

use http::{HeaderMap, header};

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it. So is what asks for several parts, which nobody has to give (section 14.2), and what is not valid.
    Whole,
    /// These bytes, one at least.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Nothing,
}

/// What the `Range` of a request for something of this many bytes asks for.
pub(super) fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Wanted::Whole };
    part(value.as_bytes(), size).unwrap_or(Wanted::Whole)
}

/// None: not valid, of another unit, or several parts.
fn part(value: &[u8], size: u64) -> Option<Wanted> {
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let set = set.trim_ascii();
    let dash = set.iter().position(|byte| *byte == b'-')?;
    let (first, last) = (number(&set[..dash])?, number(&set[dash + 1..])?);
    let range = match (first, last) {
        (Some(first), None) => first..size,
        (Some(first), Some(last)) if first <= last => first..size.min(last.saturating_add(1)),
        // (Of an empty file no last bytes can be named in an answer.)
        (None, Some(_)) if size == 0 => return None,
        (None, Some(last)) => size.saturating_sub(last)..size,
        (Some(_), Some(_)) | (None, None) => return None,
    };
    Some(if range.is_empty() { Wanted::Nothing } else { Wanted::Part(range) })
}

/// Decimal digits, or none at all. Too large ones are larger than any file.
fn number(digits: &[u8]) -> Option<Option<u64>> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some((!digits.is_empty()).then(|| digits.iter().fold(0, add)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(value: &str, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_str(value).expect("a value"));
        wanted(&headers, size)
    }

    #[test]
    fn one_part_is_given() {
        for (value, range) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-99", 0..100),
            ("bytes=0-100", 0..100),
            ("bytes=10-", 10..100),
            ("bytes=99-", 99..100),
            ("bytes=-1", 99..100),
            ("bytes=-100", 0..100),
            ("bytes=-101", 0..100),
            ("Bytes=7-9", 7..10),
            ("bytes= 7-9 ", 7..10),
            ("bytes=007-9", 7..10),
            ("bytes=7-99999999999999999999999999", 7..100),
            ("bytes=-99999999999999999999999999", 0..100),
        ] {
            assert_eq!(of(value, 100), Wanted::Part(range), "{value}");
        }
    }

    #[test]
    fn what_asks_for_no_part_or_for_several_gets_all() {
        for value in [
            "bytes=",
            "bytes=-",
            "bytes",
            "bytes=1",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=1-b",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=--1",
            "bytes=0-1-2",
            "bytes=0-1,3-4",
            "bytes=0-1,",
            "bytes=,0-1",
            "items=0-1",
            "bytes =0-1",
            "",
            "0-1",
        ] {
            assert_eq!(of(value, 100), Wanted::Whole, "{value}");
        }
        assert_eq!(of("bytes=-1", 0), Wanted::Whole);
        assert_eq!(wanted(&HeaderMap::new(), 100), Wanted::Whole);
        let mut twice = HeaderMap::new();
        twice.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        twice.append(header::RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(wanted(&twice, 100), Wanted::Whole);
    }

    #[test]
    fn what_is_beyond_the_end_is_nothing() {
        for value in ["bytes=100-", "bytes=100-200", "bytes=99999999999999999999999999-", "bytes=-0"] {
            assert_eq!(of(value, 100), Wanted::Nothing, "{value}");
        }
        assert_eq!(of("bytes=0-", 0), Wanted::Nothing);
        assert_eq!(of("bytes=18446744073709551615-18446744073709551615", u64::MAX), Wanted::Nothing);
    }

    proptest! {
        #[test]
        fn a_part_is_never_more_than_there_is(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in any::<u64>()) {
            if let Wanted::Part(range) = of(&value, size) {
                prop_assert!(range.start < range.end && range.end <= size, "{value} of {size}: {range:?}");
            }
        }
    }
}
