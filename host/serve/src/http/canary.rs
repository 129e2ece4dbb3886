//! PURE: which requests go to a new revision that gets a share of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use http::HeaderMap;

use wasmhost_config::CanaryRules;

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
    let lot = rules.by.as_ref().and_then(|key| key.value_in(headers)).map_or_else(lot, lot_of);
    lot % PARTS < u64::from(rules.share_percent.unwrap_or(100)) * PARTS / 100
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use wasmhost_config::RequestKey;

    fn rules(share: u8, by: Option<RequestKey>) -> CanaryRules {
        CanaryRules { share_percent: Some(share), time: None, by }
    }

    #[test]
    fn so_many_of_a_hundred_are_chosen_and_each_time_the_same_ones() {
        for share in [1, 5, 50, 99] {
            let by_connection = rules(share, None);
            let chosen = (0..PARTS).filter(|lot| is_chosen(&by_connection, &HeaderMap::new(), || *lot)).count();
            assert_eq!(chosen, usize::from(share) * 100);
            let by_user = rules(share, Some(RequestKey::Header("x-user".to_owned())));
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
}
