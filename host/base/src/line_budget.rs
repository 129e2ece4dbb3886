//! Bounds the log lines of a kind of which guests can cause as many as they like.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Counts the lines of one kind, of an app on a worker, that were logged in the current second.
#[derive(Debug)]
pub struct LineBudget {
    per_second: u64,
    origin: Instant,
    second: AtomicU64,
    lines: AtomicU64,
}

impl LineBudget {
    /// For so many lines a second.
    pub fn of(per_second: u64) -> Self {
        Self { per_second, origin: Instant::now(), second: AtomicU64::new(0), lines: AtomicU64::new(0) }
    }

    /// Whether one more line may be logged; with the first line of a new second, how many the last one left out.
    pub fn admit(&self) -> (bool, u64) {
        let second = self.origin.elapsed().as_secs();
        let mut left_out = 0;
        if self.second.swap(second, Relaxed) != second {
            left_out = self.lines.swap(0, Relaxed).saturating_sub(self.per_second);
        }
        (self.lines.fetch_add(1, Relaxed) < self.per_second, left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_over_the_budget_are_left_out_and_counted() {
        const PER_SECOND: u64 = 1_000;
        let budget = LineBudget::of(PER_SECOND);
        let admitted = (0..PER_SECOND + 50).filter(|_| budget.admit().0).count() as u64;
        assert!((PER_SECOND..=2 * PER_SECOND).contains(&admitted));
    }
}
