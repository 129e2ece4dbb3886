//! Limits log lines that clients and guests can cause at will: one line in a given time, which says how many it stands for.
//! Pure.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// One kind of line. Any thread may use it; two that do so at once may both be let through.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    /// The last line's time in milliseconds since `origin`, plus one; 0: there was none.
    told: AtomicU64,
    held_back: AtomicU64,
}

impl Throttle {
    /// Lets one line through in each `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, told: AtomicU64::new(0), held_back: AtomicU64::new(0) }
    }

    /// Whether the line is told now, and then how many stand for it: itself, and those held back since the last.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let count = self.held_back.load(Relaxed).saturating_add(1);
        let since_origin = now.saturating_duration_since(origin(now));
        let last = self.told.load(Relaxed).checked_sub(1).map(Duration::from_millis);
        if last.is_some_and(|last| since_origin.saturating_sub(last) < self.every) {
            self.held_back.store(count, Relaxed);
            return None;
        }
        let now = u64::try_from(since_origin.as_millis()).unwrap_or(u64::MAX);
        self.told.store(now.saturating_add(1), Relaxed);
        self.held_back.store(0, Relaxed);
        Some(count)
    }

    /// Whether a line would be told now.
    fn is_at_rest(&self, now: Instant) -> bool {
        let last = self.told.load(Relaxed).checked_sub(1).map(Duration::from_millis);
        let since = last.map(|last| now.saturating_duration_since(origin(now)).saturating_sub(last));
        since.is_none_or(|since| since >= self.every)
    }
}

/// The same for each of several kinds of lines, so that none hides another. So many are told apart; further ones share one
/// throttle.
#[derive(Debug)]
pub struct Throttles<K> {
    every: Duration,
    max: usize,
    by_kind: RefCell<BTreeMap<K, Throttle>>,
    others: Throttle,
    /// When kinds that are at rest were looked for.
    swept: Throttle,
}

impl<K: Copy + Ord> Throttles<K> {
    /// Lets one line of each kind through in each `every`, and tells `max` kinds apart.
    pub const fn new(every: Duration, max: usize) -> Self {
        Self {
            every,
            max,
            by_kind: RefCell::new(BTreeMap::new()),
            others: Throttle::new(every),
            swept: Throttle::new(every),
        }
    }

    /// As [`Throttle::admit`], for a line of this kind.
    pub fn admit(&self, kind: K, now: Instant) -> Option<u64> {
        let mut by_kind = self.by_kind.borrow_mut();
        if !by_kind.contains_key(&kind) && by_kind.len() >= self.max {
            // Looked for once in a while only: this may be on a request's way.
            let mut rested = 0;
            if self.swept.admit(now).is_some() {
                by_kind.retain(|_, throttle| {
                    let is_at_rest = throttle.is_at_rest(now);
                    rested += if is_at_rest { throttle.held_back.load(Relaxed) } else { 0 };
                    !is_at_rest
                });
            }
            // What they held back is told with the others'.
            self.others.held_back.fetch_add(rested, Relaxed);
            if by_kind.len() >= self.max {
                return self.others.admit(now);
            }
        }
        by_kind.entry(kind).or_insert_with(|| Throttle::new(self.every)).admit(now)
    }
}

/// From when throttles count time: the first that any of them was given.
fn origin(first: Instant) -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while_is_told_with_the_count_of_those_held_back() {
        let throttle = Throttle::new(Duration::from_secs(1));
        let now = Instant::now();
        assert_eq!(throttle.admit(now), Some(1));
        assert_eq!(throttle.admit(now), None);
        assert_eq!(throttle.admit(now + Duration::from_millis(990)), None);
        assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(3));
        assert_eq!(throttle.admit(now + Duration::from_secs(2)), Some(1));
    }

    #[test]
    fn no_kind_of_line_hides_another_and_few_are_remembered() {
        let throttles = Throttles::new(Duration::from_secs(1), 2);
        let now = Instant::now();
        assert_eq!([1, 1, 2, 2].map(|kind| throttles.admit(kind, now)), [Some(1), None, Some(1), None]);
        assert_eq!([3, 4].map(|kind| throttles.admit(kind, now)), [Some(1), None], "those share one");
        let later = now + Duration::from_secs(1);
        assert_eq!([1, 2].map(|kind| throttles.admit(kind, later)), [Some(2), Some(2)]);
        let much_later = later + Duration::from_secs(1);
        assert_eq!([5, 6].map(|kind| throttles.admit(kind, much_later)), [Some(1), Some(1)], "others are forgotten");
        assert_eq!(throttles.by_kind.borrow().len(), 2);
    }
}
