//! Exponential delay with an upper bound. Pure: it reads no clock and no random source; jitter is an argument. The supervisor
//! and each worker's pool of instances use it to decide how long to wait before they try again.

use std::time::Duration;

/// Delay that doubles with each attempt, from `first` up to `cap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// `first` is the delay of attempt 0; no delay exceeds `cap` (before jitter it equals it at most).
    pub const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap }
    }

    /// The delay before try number `attempt` (counted from 0), shortened by up to a quarter.
    ///
    /// `jitter` is a number from 0.0 to 1.0 (values outside are clamped) that the caller draws: 0 takes nothing off, 1
    /// takes a quarter off, so that workers that failed together do not come back together.
    pub fn delay(&self, attempt: u32, jitter: f64) -> Duration {
        let factor = 1_u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(factor).min(self.cap);
        full.mul_f64(1.0 - 0.25 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

    #[test]
    fn delays_double_up_to_the_cap() {
        let delays: Vec<u128> = (0..8).map(|attempt| BACKOFF.delay(attempt, 0.0).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    proptest! {
        #[test]
        fn a_delay_is_never_zero_and_never_above_the_cap(attempt in 0_u32.., jitter in -2.0..3.0_f64) {
            let delay = BACKOFF.delay(attempt, jitter);
            prop_assert!(delay > Duration::ZERO);
            prop_assert!(delay <= Duration::from_secs(5));
        }
    }
}
