//! Answers that take long to make are given to several who ask: they are made on the thread that also accepts connections, and who
//! may read them may ask as often as they like.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What takes less CPU time than this is made for each who asks.
const CHEAP: Duration = Duration::from_millis(2);
/// So many times as long as it took to make is an answer given again: all answers together take a twentieth of the thread's time.
const REST: u32 = 19;
/// For so long at most.
const REST_MAX: Duration = Duration::from_secs(1);

/// The answer that was made last, by what it answers.
pub(super) struct Reused<K, A>(RefCell<Option<ReusedAnswer<K, A>>>);

struct ReusedAnswer<K, A> {
    of: K,
    answer: A,
    /// Before that, no other is made.
    until: Instant,
}

impl<K, A> Default for Reused<K, A> {
    fn default() -> Self {
        Self(RefCell::new(None))
    }
}

impl<K: PartialEq, A: Clone> Reused<K, A> {
    /// The answer to this question: the last one if it is to the same and new, else what `make` makes, in its turn.
    pub(super) async fn get(&self, of: K, make: impl FnOnce() -> A) -> A {
        loop {
            let rests_until = match &*self.0.borrow() {
                Some(kept) if kept.until <= Instant::now() => break,
                Some(kept) if kept.of == of => return kept.answer.clone(),
                Some(kept) => kept.until,
                None => break,
            };
            tokio::time::sleep_until(rests_until.into()).await;
        }
        let before = used();
        let answer = make();
        let until = Instant::now() + rest_after(used().saturating_sub(before));
        self.0.replace(Some(ReusedAnswer { of, answer: answer.clone(), until }));
        answer
    }
}

/// How long an answer is given again that took this CPU time. Pure.
fn rest_after(took: Duration) -> Duration {
    if took < CHEAP { Duration::ZERO } else { took.saturating_mul(REST).min(REST_MAX) }
}

/// CPU time of this thread.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_cheap_is_made_anew_and_what_is_not_rests() {
        let ms = Duration::from_millis;
        for (took, rests) in [(0, 0), (1, 0), (2, 38), (10, 190), (500, 1_000)] {
            assert_eq!(rest_after(ms(took)), ms(rests), "{took}");
        }
    }

    #[tokio::test(flavor = "local")]
    async fn who_asks_the_same_gets_the_same_and_others_wait() {
        let (reused, made) = (Reused::default(), Cell::new(0));
        let make = || {
            let before = used();
            while used() - before < Duration::from_millis(20) {}
            made.set(made.get() + 1);
            made.get()
        };
        let began = Instant::now();
        assert_eq!((reused.get("a", make).await, reused.get("a", make).await), (1, 1));
        assert_eq!((reused.get("b", make).await, reused.get("b", || 0).await), (2, 2));
        assert!(began.elapsed() >= Duration::from_millis(20 * 19), "{:?}", began.elapsed());
    }
}
