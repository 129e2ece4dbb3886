//! Loops of requests: how often a request has left a host of ours, as the field `CDN-Loop` tells (RFC 8586). Pure.
//!
//! Every outgoing request of a guest carries what came in the field, and one element more: this host. Guests neither take it
//! away nor write it. So a request that comes back to a host that sent it is known, by whichever address it comes.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field.
pub const FIELD: HeaderName = HeaderName::from_static("cdn-loop");
/// The element of a host of ours.
const OURS: &str = "wasmhost";
/// How often a request may have left a host of ours.
pub const HOPS_MAX: usize = 16;
/// How long the field may be in all, in bytes: other elements are passed on as they came.
const TRAIL_BYTES_MAX: usize = 4_096;

/// How often a request has left a host of ours; none: too often, or its field is too long to be passed on.
pub fn hops(headers: &HeaderMap) -> Option<usize> {
    let (mut hops, mut bytes) = (0, 0);
    for value in headers.get_all(FIELD) {
        bytes += value.len() + 2;
        hops += value.as_bytes().split(|byte| *byte == b',').filter(|element| is_ours(element)).count();
    }
    (hops < HOPS_MAX && bytes <= TRAIL_BYTES_MAX).then_some(hops)
}

/// Whether an element names a host of ours; parameters may stand behind it (RFC 8586, section 2).
fn is_ours(element: &[u8]) -> bool {
    let name = element.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(OURS.as_bytes())
}

/// Where the requests that an instance serves have been.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    hops: usize,
    came_with: Option<HeaderValue>,
}

impl Trail {
    /// Of a request with these fields.
    pub fn of(headers: &HeaderMap) -> Self {
        if !headers.contains_key(FIELD) {
            return Self::default();
        }
        let values: Vec<&[u8]> = headers.get_all(FIELD).into_iter().map(HeaderValue::as_bytes).collect();
        let came_with = HeaderValue::from_bytes(&values.join(&b", "[..])).ok();
        Self { hops: hops(headers).unwrap_or(HOPS_MAX), came_with }
    }

    /// The longer one.
    pub fn or(&mut self, other: Self) {
        if other.hops > self.hops || self.came_with.is_none() {
            *self = other;
        }
    }

    /// What the field says of a request that leaves now; none: it has left too often.
    pub fn next(&self) -> Option<HeaderValue> {
        if self.hops >= HOPS_MAX {
            return None;
        }
        match &self.came_with {
            None => Some(HeaderValue::from_static(OURS)),
            Some(value) => HeaderValue::from_bytes(&[value.as_bytes(), b", ", OURS.as_bytes()].concat()).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(values: &[&str]) -> HeaderMap {
        values.iter().filter_map(|value| Some((FIELD, HeaderValue::from_str(value).ok()?))).collect()
    }

    #[test]
    fn elements_of_ours_are_counted_in_all_fields_and_with_parameters() {
        let long = "a".repeat(TRAIL_BYTES_MAX);
        let fifteen = ["wasmhost"; 15].join(",");
        for (values, expected) in [
            (&[][..], Some(0)),
            (&["other"], Some(0)),
            (&["wasmhost"], Some(1)),
            (&["other; a=b, WasmHost;x ,wasmhost2", " wasmhost"], Some(2)),
            (&[&fifteen], Some(15)),
            (&[&fifteen, "wasmhost"], None),
            (&[&long], None),
        ] {
            assert_eq!(hops(&with(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn a_trail_grows_by_one_until_it_is_too_long() {
        let mut headers = with(&["cdn; v=1", "wasmhost"]);
        for hop in 2..=HOPS_MAX {
            let next = Trail::of(&headers).next();
            let text = next.as_ref().and_then(|value| value.to_str().ok()).map(str::to_owned);
            let expected = format!("cdn; v=1, {}", vec!["wasmhost"; hop].join(", "));
            assert_eq!(text, Some(expected));
            headers = next.map(|value| HeaderMap::from_iter([(FIELD, value)])).unwrap_or_default();
        }
        assert_eq!(Trail::of(&headers).next(), None);
        assert_eq!(Trail::default().next(), Some(HeaderValue::from_static("wasmhost")));
    }

    #[test]
    fn of_several_requests_the_one_that_has_been_farthest_counts() {
        let mut trail = Trail::of(&with(&["a"]));
        trail.or(Trail::of(&with(&["wasmhost, wasmhost"])));
        trail.or(Trail::of(&with(&["wasmhost"])));
        trail.or(Trail::default());
        assert_eq!(trail.next(), Some(HeaderValue::from_static("wasmhost, wasmhost, wasmhost")));
    }
}
