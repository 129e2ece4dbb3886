//! PURE: which requests go to a new revision that gets a share of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use http::{HeaderMap, header};

use wasmhost_config::{CanaryBy, CanaryRules};

/// Shares are counted in so many parts.
const PARTS: u64 = 10_000;

/// A number by which a text is one of a share, the same on all workers of the host.
pub(super) fn lot_of(text: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Whether a request with these headers, on a connection with this number, goes to the new revision.
pub(super) fn is_chosen(rules: &CanaryRules, headers: &HeaderMap, lot: impl FnOnce() -> u64) -> bool {
    let value = match &rules.by {
        CanaryBy::Connection => None,
        CanaryBy::Header(name) => headers.get(name).map(|value| value.as_bytes()),
        CanaryBy::Cookie(name) => cookie(headers, name),
    };
    let lot = value.map_or_else(lot, lot_of);
    lot % PARTS < u64::from(rules.share_percent.unwrap_or(100)) * PARTS / 100
}

/// The value of a cookie (RFC 6265, section 5.4): of the first of this name.
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs =
        headers.get_all(header::COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn rules(share: u8, by: CanaryBy) -> CanaryRules {
        CanaryRules { share_percent: Some(share), time: None, by }
    }

    #[test]
    fn so_many_of_a_hundred_are_chosen_and_each_time_the_same_ones() {
        for share in [1, 5, 50, 99] {
            let by_connection = rules(share, CanaryBy::Connection);
            let chosen = (0..PARTS).filter(|lot| is_chosen(&by_connection, &HeaderMap::new(), || *lot)).count();
            assert_eq!(chosen, usize::from(share) * 100);
            let by_user = rules(share, CanaryBy::Header("x-user".to_owned()));
            let of = |user: u32| {
                let mut headers = HeaderMap::new();
                headers.insert("x-user", HeaderValue::from(user));
                // Whatever connection it is.
                let chosen = [0, 1, PARTS / 2].map(|lot| is_chosen(&by_user, &headers, || lot));
                assert!(chosen.iter().all(|is| *is == chosen[0]));
                chosen[0]
            };
            let chosen = (0..10_000).filter(|user| of(*user)).count();
            assert!(chosen.abs_diff(usize::from(share) * 100) < 200, "{share}: {chosen}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_wherever_it_stands() {
        let with = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            headers
        };
        for (lines, expected) in [
            (&["id=1"][..], Some(&b"1"[..])),
            (&["other=2; id=1; id=3"], Some(b"1")),
            (&["xid=2; idx=3", " id=1 "], Some(b"1")),
            (&["id="], Some(b"")),
            (&["id", "ID=2"], None),
            (&[], None),
        ] {
            assert_eq!(cookie(&with(lines), "id"), expected, "{lines:?}");
        }
        let by_cookie = rules(50, CanaryBy::Cookie("id".to_owned()));
        assert!(is_chosen(&by_cookie, &with(&[]), || 0) && !is_chosen(&by_cookie, &with(&[]), || PARTS - 1));
    }
}
