//! How long a request may wait for an instance. Pure.
//!
//! While requests come in bursts, the queue empties between them, and each request may wait its full time. A queue that has
//! not been empty for that time is no burst: more requests come than can be served, and a long wait only makes every answer
//! and every refusal late. A request may then wait a tenth of the time (the rule of "Fail at Scale", Maurer, ACM Queue 13/8,
//! 2015, after CoDel, RFC 8289). As many requests are served as before, but sooner, and the others are refused sooner.

use std::time::{Duration, Instant};

/// One who comes to a standing line may wait this part of the full time.
const SHARE_IN_A_STANDING_LINE: u32 = 10;

/// Since when the line has stood.
#[derive(Debug, Default)]
pub(super) struct CoDel {
    standing_since: Option<Instant>,
}

impl CoDel {
    /// How long one who comes `now` may wait, `max` at most; `is_first`: nobody waits before it.
    pub(super) fn of_one_who_comes(&mut self, now: Instant, is_first: bool, max: Duration) -> Duration {
        if is_first {
            self.standing_since = Some(now);
        }
        let since = *self.standing_since.get_or_insert(now);
        if now.duration_since(since) >= max { max / SHARE_IN_A_STANDING_LINE } else { max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn a_standing_line_shortens_the_wait_and_an_empty_one_gives_it_back() {
        let mut codel = CoDel::default();
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(codel.of_one_who_comes(at(0), true, MAX), MAX);
        assert_eq!(codel.of_one_who_comes(at(999), false, MAX), MAX);
        assert_eq!(codel.of_one_who_comes(at(1_000), false, MAX), MAX / 10);
        assert_eq!(codel.of_one_who_comes(at(60_000), false, MAX), MAX / 10);
        assert_eq!(codel.of_one_who_comes(at(60_001), true, MAX), MAX);
        assert_eq!(codel.of_one_who_comes(at(60_500), false, MAX), MAX);
    }
}
