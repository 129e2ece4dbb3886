//! How trailers are passed on between workers, those of requests and of responses. hyper sends only those that the head has
//! announced, and neither clients nor guests need to announce them. So each goes as a value of one field, which is announced.
//! Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::elements::elements_of;

/// The field.
const PACKED: HeaderName = HeaderName::from_static("x-wasmhost-trailer");

/// So much longer is a trailer as it is sent: by the field's name, and a space in the place of a colon.
pub(crate) const PACKED_BYTES_MAX: usize = "x-wasmhost-trailer: ".len();

/// Announces what [`packed`] makes.
pub(crate) fn announce(head: &mut HeaderMap) {
    head.append(header::TRAILER, HeaderValue::from_static("x-wasmhost-trailer"));
}

/// Takes the announcement away, and leaves the others. (hyper joins those of a response.)
pub(crate) fn take_announcement(head: &mut HeaderMap) {
    let values = head.get_all(header::TRAILER).into_iter();
    let others: Vec<HeaderValue> = values.filter_map(without_own).collect();
    head.remove(header::TRAILER);
    for value in others {
        head.append(header::TRAILER, value);
    }
}

fn without_own(value: &HeaderValue) -> Option<HeaderValue> {
    let is_own = |name: &&[u8]| *name == PACKED.as_str().as_bytes();
    if !elements_of(value).any(|name| is_own(&name)) {
        return Some(value.clone());
    }
    let others: Vec<&[u8]> = elements_of(value).filter(|name| !is_own(name)).collect();
    HeaderValue::from_bytes(&others.join(&b", "[..])).ok().filter(|value| !value.is_empty())
}

/// Trailers as they are sent.
pub(crate) fn packed(trailers: &HeaderMap) -> HeaderMap {
    let one = |(name, value): (&HeaderName, &HeaderValue)| {
        HeaderValue::from_bytes(&[name.as_str().as_bytes(), b" ", value.as_bytes()].concat()).ok()
    };
    trailers.iter().filter_map(one).map(|value| (PACKED, value)).collect()
}

/// The trailers that were sent.
pub(crate) fn unpacked(packed: &HeaderMap) -> HeaderMap {
    let one = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        let (name, rest) =
            bytes.split_at_checked(bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len()))?;
        let value = rest.strip_prefix(b" ").unwrap_or_default();
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    packed.get_all(PACKED).iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_what_was_packed() {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("x-sum", "1"), ("x-sum", "2 3"), ("x-empty", ""), ("etag", "\"a b\"")] {
            trailers.append(name, HeaderValue::from_static(value));
        }
        assert_eq!(unpacked(&packed(&trailers)), trailers);
        let length = |fields: &HeaderMap| -> usize {
            fields.iter().map(|(name, value)| name.as_str().len() + ": \r\n".len() + value.len()).sum()
        };
        assert!(length(&packed(&trailers)) <= length(&trailers) + trailers.len() * PACKED_BYTES_MAX);
        assert!(unpacked(&trailers).is_empty());
    }

    #[test]
    fn what_the_client_announced_stays() {
        let mut head = HeaderMap::new();
        head.append(header::TRAILER, HeaderValue::from_static("x-sum, x-more"));
        let before = head.clone();
        announce(&mut head);
        assert_ne!(head, before);
        take_announcement(&mut head);
        assert_eq!(head, before);
        head.insert(header::TRAILER, HeaderValue::from_static("x-sum, x-more, x-wasmhost-trailer"));
        take_announcement(&mut head);
        assert_eq!(head, before);
        head.insert(header::TRAILER, HeaderValue::from_static("x-wasmhost-trailer"));
        take_announcement(&mut head);
        assert!(head.is_empty());
    }
}
