//! PURE: how a request says of which trace it is, in the fields `traceparent` and `tracestate` (W3C Trace Context, Level 1).
//!
//! A field that is not valid, or that stands there several times, is none: the request begins a trace.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// The field that names the trace, and the span that the request was sent in.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The field with what tracing systems add to it, which is passed on as it came.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is passed on, in bytes (section 3.3.1.5 asks for 512 at least).
const STATE_BYTES_MAX: usize = 512;
/// Length of a `traceparent` of version 00.
const PARENT_BYTES: usize = 55;
/// The flag of a trace that is recorded.
const SAMPLED: u8 = 1;
/// A probability of one, in parts per million.
pub const ALL_PPM: u32 = 1_000_000;

/// The number of a trace; not zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TraceId(pub [u8; 16]);

/// The number of a span; not zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SpanId(pub [u8; 8]);

/// As it is written, in hexadecimal digits.
impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As it is written, in hexadecimal digits.
impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TraceId {
    /// Whether a trace is recorded of which so many in a million are: the same for all who ask, by the 56 bits of the number that
    /// are random in any case (W3C Trace Context, Level 2, section 4.2.3.2).
    pub fn is_chosen(self, ppm: u32) -> bool {
        let bits = u128::from_be_bytes(self.0) & ((1 << 56) - 1);
        bits * u128::from(ALL_PPM) < u128::from(ppm) << 56
    }
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span in which it was sent.
    pub span: SpanId,
    /// Whether the sender records the trace.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Of a request with these fields; none: it begins a trace.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).into_iter();
        let first = values.next()?;
        if values.next().is_some() { None } else { Self::read(first.as_bytes()) }
    }

    /// Reads a value (section 3.2). Of later versions, what version 00 has is read.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (known, rest) = value.split_at_checked(PARENT_BYTES)?;
        let mut parts = known.split(|byte| *byte == b'-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let [version] = digits(version)?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        let (trace, span, [flags]) = (digits(trace)?, digits(span)?, digits(flags)?);
        let is_valid = fits && parts.next().is_none() && trace != [0; 16] && span != [0; 8];
        is_valid.then_some(Self { trace: TraceId(trace), span: SpanId(span), is_sampled: flags & SAMPLED != 0 })
    }

    /// As it is written. (By hand: the guest of every request that is traced or might have been gets one.)
    pub fn value(&self) -> Option<HeaderValue> {
        let mut text = *b"00-................................-................-..";
        write_digits(&self.trace.0, &mut text[3..35]);
        write_digits(&self.span.0, &mut text[36..52]);
        write_digits(&[u8::from(self.is_sampled) * SAMPLED], &mut text[53..]);
        HeaderValue::from_bytes(&text).ok()
    }
}

/// Bytes as twice as many lower-case hexadecimal digits.
fn write_digits(bytes: &[u8], text: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(text.as_chunks_mut::<2>().0) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 0xf)]];
    }
}

/// So many bytes in twice as many lower-case hexadecimal digits, and nothing else.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// What `tracestate` says, of all its fields together; none: nothing, or more than is passed on.
pub fn state_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut values = headers.get_all(TRACESTATE).into_iter();
    let first = values.next()?;
    let all = values.fold(first.as_bytes().to_vec(), |mut all, value| {
        if all.len() <= STATE_BYTES_MAX {
            all.push(b',');
            all.extend_from_slice(value.as_bytes());
        }
        all
    });
    let is_text = all.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    (!all.is_empty() && all.len() <= STATE_BYTES_MAX && is_text).then(|| HeaderValue::from_bytes(&all).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(values: &[(HeaderName, &str)]) -> HeaderMap {
        values.iter().filter_map(|(name, value)| Some((name.clone(), HeaderValue::from_str(value).ok()?))).collect()
    }

    #[test]
    fn what_is_valid_is_read_and_written_again() {
        let read = TraceParent::read(VALID.as_bytes()).expect("valid");
        assert_eq!(read.trace.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((read.span.to_string().as_str(), read.is_sampled), ("00f067aa0ba902b7", true));
        assert_eq!(read.value().as_ref().map(HeaderValue::as_bytes), Some(VALID.as_bytes()));
        for (flags, sampled) in [("00", false), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("{}{flags}", VALID.get(..53).unwrap_or_default());
            assert_eq!(TraceParent::read(text.as_bytes()).map(|read| read.is_sampled), Some(sampled), "{flags}");
        }
    }

    #[test]
    fn what_is_not_valid_is_none() {
        let with = |from: &str, to: &str| VALID.replacen(from, to, 1);
        for wrong in [
            String::new(),
            "00".to_owned(),
            with("00-", "ff-"),
            with("00-", "0g-"),
            with("4bf9", "4BF9"),
            with("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            with("00f067aa0ba902b7", &"0".repeat(16)),
            with("-01", "-1"),
            with("-01", "-0x"),
            with("-01", "-01-"),
            with("-01", "-01-more"),
            with("4736-", "4736"),
            with("2b7-", "2b7_"),
            with("00f067", "-0f067"),
            format!(" {VALID}"),
            format!("{VALID} "),
        ] {
            assert_eq!(TraceParent::read(wrong.as_bytes()), None, "{wrong}");
        }
        assert!(TraceParent::read(with("00-", "01-").as_bytes()).is_some(), "a later version");
        assert!(TraceParent::read(format!("{}-more", with("00-", "cc-")).as_bytes()).is_some(), "with more behind it");
        assert!(TraceParent::read(format!("{}more", with("00-", "cc-")).as_bytes()).is_none());
        assert!(TraceParent::of(&headers(&[(TRACEPARENT, VALID)])).is_some());
        assert!(TraceParent::of(&headers(&[(TRACEPARENT, VALID), (TRACEPARENT, VALID)])).is_none(), "which of them?");
    }

    #[test]
    fn a_state_is_passed_on_unless_it_is_too_long() {
        let long = "a".repeat(STATE_BYTES_MAX);
        let text = |values: &[&str]| {
            let fields: Vec<_> = values.iter().map(|value| (TRACESTATE, *value)).collect();
            state_of(&headers(&fields)).and_then(|state| state.to_str().ok().map(str::to_owned))
        };
        assert_eq!(text(&["a=1, b=2", "c=3"]).as_deref(), Some("a=1, b=2,c=3"));
        assert_eq!((text(&[]), text(&[""])), (None, None));
        assert_eq!(text(&[&long]).as_deref(), Some(&*long));
        assert_eq!(text(&[&long, "b"]), None);
        let bytes = HeaderMap::from_iter([(TRACESTATE, HeaderValue::from_bytes(b"a=\xff").expect("a value"))]);
        assert_eq!(state_of(&bytes), None);
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_written_as_it_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            if let Some(read) = TraceParent::read(&bytes) {
                let again = read.value().and_then(|value| TraceParent::read(value.as_bytes()));
                prop_assert_eq!(again, Some(read));
            }
        }

        #[test]
        fn nothing_like_a_parent_is_read_otherwise_than_it_is_written(text in "[0-9a-fA-F-]{50,60}") {
            let read = TraceParent::read(text.as_bytes());
            prop_assert!(read.is_none_or(|read| text.contains(&read.trace.to_string()) && text.contains(&read.span.to_string())));
        }

        #[test]
        fn whoever_chooses_more_traces_chooses_all_that_others_choose(id: [u8; 16], few in 0..=ALL_PPM, more in 0..=ALL_PPM) {
            let (few, more) = (few.min(more), few.max(more));
            prop_assert!(!TraceId(id).is_chosen(few) || TraceId(id).is_chosen(more));
            prop_assert!(TraceId(id).is_chosen(ALL_PPM) && !TraceId(id).is_chosen(0));
        }
    }

    #[test]
    fn so_many_in_a_million_are_chosen() {
        let chosen = |ppm| (0..100_000).filter(|_| TraceId(fastrand::u128(..).to_be_bytes()).is_chosen(ppm)).count();
        assert!((9_000..11_000).contains(&chosen(100_000)), "10%");
    }
}
