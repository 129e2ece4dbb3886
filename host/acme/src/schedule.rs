//! When a certificate is ordered. Pure: `now` and what is drawn are arguments.

use std::time::Duration;

use wasmhost_base::backoff::Backoff;

/// Seconds since 1970 (UTC).
pub(crate) type Seconds = i64;

/// How long to wait after an order of which nothing came.
const AFTER_FAILURE: Backoff = Backoff::new(Duration::from_mins(1), Duration::from_hours(6));
/// Orders of one certificate within [`HOUR`]. Let's Encrypt allows five failures of a name in an hour.
const ORDERS_MAX: usize = 5;
const HOUR: Seconds = 3_600;
/// Of a certificate's life: when it is renewed, and how much earlier at most, so that many hosts do not come at once.
const RENEWED_AT: f64 = 2.0 / 3.0;
const SPREAD: f64 = 0.03;

/// The certificate that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeldCertificate {
    /// From when to when it is valid.
    pub(crate) not_before: Seconds,
    pub(crate) not_after: Seconds,
    /// Whether it has the names that are wanted.
    pub(crate) has_names: bool,
}

/// What is known of earlier orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// When those of the last hour began, the first one first; also before a restart.
    pub(crate) begun: Vec<Seconds>,
    /// How many in a row have failed.
    pub(crate) failures: u32,
    /// Not before this is another one begun.
    pub(crate) wait_until: Seconds,
}

impl Tries {
    /// An order begins.
    pub(crate) fn begin(&mut self, now: Seconds) {
        self.begun.retain(|begun| is_recent(*begun, now));
        self.begun.push(now);
    }

    /// It has failed, and the authority has asked the host to come back at `retry_at` only. How long to wait.
    pub(crate) fn failed(&mut self, now: Seconds, retry_at: Option<Seconds>, drawn: f64) -> Duration {
        let wait = wasmhost_base::inject::hastened(AFTER_FAILURE.delay(self.failures, drawn));
        self.failures = self.failures.saturating_add(1);
        let seconds = Seconds::try_from(wait.as_secs()).unwrap_or(HOUR).max(1);
        self.wait_until = now.saturating_add(seconds).max(retry_at.unwrap_or(now)).max(self.free_at(now));
        Duration::from_secs(u64::try_from(self.wait_until - now).unwrap_or(0))
    }

    /// It was successful.
    pub(crate) fn issued(&mut self) {
        (self.failures, self.wait_until) = (0, 0);
    }

    /// When one more may be begun, for the number of those before.
    fn free_at(&self, now: Seconds) -> Seconds {
        let recent: Vec<Seconds> = self.begun.iter().copied().filter(|begun| is_recent(*begun, now)).collect();
        let oldest = recent.len().checked_sub(ORDERS_MAX).and_then(|at| recent.get(at));
        oldest.map_or(now, |oldest| oldest + HOUR)
    }
}

/// (What is later than now is of a clock that went wrong.)
fn is_recent(begun: Seconds, now: Seconds) -> bool {
    begun <= now && now.saturating_sub(begun) < HOUR
}

/// When a certificate is to be ordered; `drawn`: from 0 to 1, the same for each question of one certificate.
pub(crate) fn due(now: Seconds, held: Option<HeldCertificate>, tries: &Tries, drawn: f64) -> Seconds {
    let wanted = match held {
        Some(held) if held.has_names => {
            let life = held.not_after.saturating_sub(held.not_before).max(0);
            held.not_before.saturating_add(part(life, RENEWED_AT - SPREAD * drawn.clamp(0.0, 1.0)))
        }
        Some(_) | None => now,
    };
    wanted.max(tries.wait_until).max(tries.free_at(now))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a part of a number of seconds")]
fn part(of: Seconds, part: f64) -> Seconds {
    (of as f64 * part) as Seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: Seconds = 86_400;
    const NOW: Seconds = 1_700_000_000;

    fn held(not_before: Seconds, days: Seconds) -> HeldCertificate {
        HeldCertificate { not_before, not_after: not_before + days * DAY, has_names: true }
    }

    #[test]
    fn a_certificate_is_renewed_when_two_thirds_of_its_life_are_over_or_a_little_earlier() {
        let none = Tries::default();
        assert_eq!(due(NOW, None, &none, 0.5), NOW);
        assert_eq!(due(NOW, Some(held(NOW, 90)), &none, 0.0), NOW + 60 * DAY);
        let early = due(NOW, Some(held(NOW, 90)), &none, 1.0) - NOW;
        assert!((57 * DAY..58 * DAY).contains(&early), "{early}");
        let other = HeldCertificate { has_names: false, ..held(NOW, 90) };
        assert_eq!(due(NOW, Some(other), &none, 0.0), NOW);
        assert!(due(NOW, Some(held(NOW - 100 * DAY, 90)), &none, 0.0) <= NOW, "it has ended");
    }

    #[test]
    fn waits_double_up_to_six_hours_and_the_authority_may_ask_for_more() {
        let mut tries = Tries::default();
        let waits: Vec<u64> = (0..11).map(|_| tries.failed(NOW, None, 0.0).as_secs() / 60).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360]);
        assert_eq!(tries.failed(NOW, Some(NOW + 2 * DAY), 0.0).as_secs(), 2 * 86_400);
        assert_eq!(due(NOW, None, &tries, 0.0), NOW + 2 * DAY);
        tries.issued();
        assert_eq!((due(NOW, None, &tries, 0.0), tries.failed(NOW, None, 0.0).as_secs()), (NOW, 60));
    }

    #[test]
    fn no_more_than_five_orders_begin_within_an_hour() {
        let mut tries = Tries::default();
        (0..5).for_each(|at| tries.begin(NOW + at));
        assert_eq!(due(NOW + 10, None, &tries, 0.0), NOW + HOUR);
        assert_eq!(tries.failed(NOW + 10, None, 0.0).as_secs(), 3_590, "the line in the log says so");
        tries.issued();
        assert_eq!(due(NOW + HOUR, None, &tries, 0.0), NOW + HOUR);
        tries.begin(NOW + HOUR);
        assert_eq!((tries.begun.len(), due(NOW + HOUR, None, &tries, 0.0)), (5, NOW + 1 + HOUR));
        tries.begun = vec![NOW + 5 * DAY; 9];
        assert_eq!(due(NOW, None, &tries, 0.0), NOW, "the clock was wrong");
    }

    proptest! {
        #[test]
        fn whatever_happens_no_hour_has_more_than_five_orders(steps in proptest::collection::vec((0.0..1.0_f64, any::<bool>()), 1..60)) {
            let (mut tries, mut now, mut all) = (Tries::default(), NOW, Vec::new());
            for (drawn, is_issued) in steps {
                now = due(now, None, &tries, drawn).max(now);
                tries.begin(now);
                all.push(now);
                if is_issued { tries.issued() } else { tries.failed(now, None, drawn); }
            }
            for first in &all {
                let within = all.iter().filter(|at| (*first..*first + HOUR).contains(*at)).count();
                prop_assert!(within <= ORDERS_MAX, "{within}");
            }
        }

        #[test]
        fn no_number_overflows(not_before in any::<i64>(), not_after in any::<i64>(), wait_until in any::<i64>(), drawn in any::<f64>()) {
            let held = HeldCertificate { not_before, not_after, has_names: true };
            due(NOW, Some(held), &Tries { wait_until, ..Tries::default() }, drawn);
        }
    }
}
