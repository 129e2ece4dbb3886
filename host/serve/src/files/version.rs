//! Whether a client has a file already, or wants another version of it (RFC 9110, sections 8.8 and 13). Pure.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use crate::coding::Coding;

/// Which version of a file is there.
#[derive(Debug)]
pub(super) struct FileVersion {
    /// `ETag`: when the file was changed, its size, and how it is coded. It is a strong one: whoever changes a file within the
    /// clock's grain, in place and to the same size, gets what he asks for.
    tag: String,
    /// When it was changed, in whole seconds; none where that is no time that HTTP can tell of.
    modified: Option<SystemTime>,
    now: SystemTime,
}

impl FileVersion {
    pub(super) fn new(seconds: i64, nanoseconds: u32, size: u64, coding: Option<Coding>, now: SystemTime) -> Self {
        let coding = coding.map(|coding| format!("-{}", coding.name())).unwrap_or_default();
        let tag = format!("\"{seconds:x}.{nanoseconds:x}-{size:x}{coding}\"");
        let modified =
            u64::try_from(seconds).ok().and_then(|s| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(s)));
        // RFC 9110, section 8.8.2.1: never later than the answer.
        Self { tag, modified: modified.filter(|modified| *modified <= now), now }
    }

    /// What every answer with or about it says.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        let modified = self.modified.map(httpdate::fmt_http_date);
        if let Some(modified) = modified.and_then(|date| HeaderValue::try_from(date).ok()) {
            headers.insert(header::LAST_MODIFIED, modified);
        }
    }

    /// The status of an answer without the file, if its conditions are not met (section 13.2.2).
    pub(super) fn refusal(&self, headers: &HeaderMap) -> Option<StatusCode> {
        let is_met = match self.is_named(headers, &header::IF_MATCH, Comparison::Strong) {
            Some(is_named) => is_named,
            None => self.changed_since(headers, &header::IF_UNMODIFIED_SINCE) != Some(true),
        };
        if !is_met {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
        let is_known = match self.is_named(headers, &header::IF_NONE_MATCH, Comparison::Weak) {
            Some(is_named) => is_named,
            None => self.changed_since(headers, &header::IF_MODIFIED_SINCE) == Some(false),
        };
        is_known.then_some(StatusCode::NOT_MODIFIED)
    }

    /// Whether a part of it fits to what the client has (section 13.1.5).
    pub(super) fn may_be_divided(&self, headers: &HeaderMap) -> bool {
        let Some(value) = headers.get(header::IF_RANGE) else { return true };
        if value.as_bytes() == self.tag.as_bytes() {
            return true;
        }
        // A date tells versions apart only when its second is over (section 8.8.2.2).
        let is_over = |date: &SystemTime| self.now.duration_since(*date).is_ok_and(|age| age >= Duration::from_secs(1));
        self.modified.filter(is_over).is_some_and(|modified| date(value) == Some(modified))
    }

    /// Whether it was changed after the date in this field; none: there is no date, or nobody knows.
    fn changed_since(&self, headers: &HeaderMap, name: &HeaderName) -> Option<bool> {
        let mut values = headers.get_all(name).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return None };
        Some(self.modified? > date(value)?)
    }

    /// Whether this field names it; none: there is none.
    fn is_named(&self, headers: &HeaderMap, name: &HeaderName, by: Comparison) -> Option<bool> {
        let values = headers.get_all(name);
        values.iter().next()?;
        Some(values.iter().any(|value| {
            let value = value.as_bytes();
            value == b"*"
                || tags(value).any(|(tag, is_weak)| tag == self.tag.as_bytes() && !(is_weak && by.is_strong()))
        }))
    }
}

/// How tags are compared (section 8.8.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Strong,
    Weak,
}

impl Comparison {
    fn is_strong(self) -> bool {
        self == Self::Strong
    }
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// The tags of a list, with their quotes, and whether each is a weak one; as far as it is valid.
fn tags(mut list: &[u8]) -> impl Iterator<Item = (&[u8], bool)> {
    std::iter::from_fn(move || {
        while let [b',' | b' ' | b'\t', rest @ ..] = list {
            list = rest;
        }
        let (rest, is_weak) = list.strip_prefix(b"W/").map_or((list, false), |rest| (rest, true));
        let end = rest.strip_prefix(b"\"")?.iter().position(|byte| *byte == b'"')? + 2;
        let tag;
        (tag, list) = rest.split_at(end);
        Some((tag, is_weak))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGED: i64 = 1_700_000_000;
    const TAG: &str = "\"6553f100.5-64\"";

    fn version(coding: Option<Coding>, age: u64) -> FileVersion {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(CHANGED).expect("a time") + age);
        FileVersion::new(CHANGED, 5, 100, coding, now)
    }

    fn date_of(offset: i64) -> String {
        let seconds = u64::try_from(CHANGED + offset).expect("a time");
        httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    #[test]
    fn a_version_is_told_by_tag_and_date() {
        let mut told = HeaderMap::new();
        version(None, 10).put(&mut told);
        assert_eq!(
            (&told["etag"], &told["last-modified"]),
            (&TAG.parse().expect("a value"), &date_of(0).parse().expect("a value"))
        );
        version(Some(Coding::Gzip), 10).put(&mut told);
        assert_eq!(told["etag"], "\"6553f100.5-64-gzip\"");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        for seconds in [10, -1, i64::MIN, i64::MAX] {
            let mut told = HeaderMap::new();
            FileVersion::new(seconds, 0, 1, None, now).put(&mut told);
            assert!(told.contains_key("etag") && !told.contains_key("last-modified"), "{seconds}");
        }
    }

    #[test]
    fn conditions_are_taken_in_their_order() {
        let (old, new, same) = (&*date_of(-1), &*date_of(1), &*date_of(0));
        let weak = &*format!("W/{TAG}");
        let listed = &*format!("\"a,b\", W/\"c\" ,{TAG},\"d\"");
        let (some, not_modified, failed) =
            (None::<u16>, Some(StatusCode::NOT_MODIFIED.as_u16()), Some(StatusCode::PRECONDITION_FAILED.as_u16()));
        for (fields, expected) in [
            (&[][..], some),
            (&[("if-none-match", TAG)], not_modified),
            (&[("if-none-match", weak)], not_modified),
            (&[("if-none-match", "*")], not_modified),
            (&[("if-none-match", listed)], not_modified),
            (&[("if-none-match", "\"other\""), ("if-none-match", TAG)], not_modified),
            (&[("if-none-match", "\"other\"")], some),
            (&[("if-none-match", "6553f100.5-64")], some),
            (&[("if-none-match", "x, \"other")], some),
            (&[("if-none-match", "\"other\""), ("if-modified-since", same)], some),
            (&[("if-none-match", TAG), ("if-modified-since", old)], not_modified),
            (&[("if-modified-since", same)], not_modified),
            (&[("if-modified-since", new)], not_modified),
            (&[("if-modified-since", old)], some),
            (&[("if-modified-since", "yesterday")], some),
            (&[("if-modified-since", same), ("if-modified-since", same)], some),
            (&[("if-match", TAG)], some),
            (&[("if-match", "*")], some),
            (&[("if-match", listed)], some),
            (&[("if-match", weak)], failed),
            (&[("if-match", "\"other\"")], failed),
            (&[("if-match", "\"other\""), ("if-none-match", TAG)], failed),
            (&[("if-match", TAG), ("if-unmodified-since", old)], some),
            (&[("if-match", TAG), ("if-none-match", TAG)], not_modified),
            (&[("if-unmodified-since", old)], failed),
            (&[("if-unmodified-since", same)], some),
            (&[("if-unmodified-since", new)], some),
            (&[("if-unmodified-since", "yesterday")], some),
        ] {
            let refusal = version(None, 10).refusal(&headers(fields)).map(|status| status.as_u16());
            assert_eq!(refusal, expected, "{fields:?}");
        }
        // Another coding is another version.
        assert_eq!(version(Some(Coding::Brotli), 10).refusal(&headers(&[("if-none-match", TAG)])), None);
    }

    #[test]
    fn parts_are_given_of_the_version_that_the_client_has() {
        let weak = format!("W/{TAG}");
        for (value, age, is_one) in [
            (TAG, 10, true),
            (TAG, 0, true),
            (&*weak, 10, false),
            ("\"other\"", 10, false),
            ("*", 10, false),
            (&*date_of(0), 1, true),
            (&*date_of(0), 0, false),
            (&*date_of(1), 10, false),
            (&*date_of(-1), 10, false),
            ("yesterday", 10, false),
        ] {
            assert_eq!(version(None, age).may_be_divided(&headers(&[("if-range", value)])), is_one, "{value}");
        }
        assert!(version(None, 0).may_be_divided(&headers(&[])));
    }
}
