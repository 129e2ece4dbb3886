//! Limits log lines that clients can cause at will: one line in a given time, which says how many it stands for. Pure.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// One kind of line. Used by one thread.
#[derive(Debug)]
pub struct Throttle {
    every: Duration,
    told: Cell<Option<Instant>>,
    held_back: Cell<u64>,
}

impl Throttle {
    /// Lets one line through in each `every`.
    pub const fn new(every: Duration) -> Self {
        Self { every, told: Cell::new(None), held_back: Cell::new(0) }
    }

    /// Whether the line is told now, and then how many stand for it: itself, and those held back since the last.
    pub fn admit(&self, now: Instant) -> Option<u64> {
        let count = self.held_back.get().saturating_add(1);
        if self.told.get().is_some_and(|told| now.duration_since(told) < self.every) {
            self.held_back.set(count);
            return None;
        }
        self.told.set(Some(now));
        self.held_back.set(0);
        Some(count)
    }
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
        assert_eq!(throttle.admit(now + Duration::from_millis(999)), None);
        assert_eq!(throttle.admit(now + Duration::from_secs(1)), Some(3));
        assert_eq!(throttle.admit(now + Duration::from_secs(2)), Some(1));
    }
}
