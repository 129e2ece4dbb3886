//! PURE: what is asked for with `/profile/{seconds}` and `/apps/{app}/profile/{seconds}`, and `?worker=`.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::profile::ProfileWish;

/// How long samples may be taken, in seconds.
const SECONDS: RangeInclusive<u64> = 1..=300;

/// What these parts of the path, and the query, ask for; none: there is no such path.
pub(super) fn wish(parts: &[&str], query: Option<&str>) -> Option<ProfileWish> {
    let (app, seconds) = match parts {
        [seconds] => (None, seconds),
        [app, seconds] => (Some((*app).to_owned()), seconds),
        _ => return None,
    };
    let seconds = seconds.parse().ok().filter(|seconds| SECONDS.contains(seconds))?;
    let worker = query.unwrap_or_default().split('&').find_map(|part| part.strip_prefix("worker="));
    let worker = match worker {
        Some(number) => Some(number.parse().ok()?),
        None => None,
    };
    Some(ProfileWish { app, duration: Duration::from_secs(seconds), worker })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read() {
        let shown =
            |parts: &[&str], query| wish(parts, query).map(|wish| (wish.app, wish.duration.as_secs(), wish.worker));
        assert_eq!(shown(&["10"], None), Some((None, 10, None)));
        assert_eq!(shown(&["shop", "300"], Some("a=b&worker=2")), Some((Some("shop".to_owned()), 300, Some(2))));
        for (parts, query) in [(&["0"], None), (&["301"], None), (&["x"], None), (&["1"], Some("worker=x"))] {
            assert_eq!(shown(parts, query), None, "{parts:?} {query:?}");
        }
    }
}
