//! Which faults are worth a bundle: each fault once in a while, and not many of one app, or of all, in a short time. So a guest
//! that faults at each request costs neither the disk nor the CPU, and hides no other fault. Pure.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// The same fault (app, kind, and what was said, without numbers) has another bundle after this time.
const SAME_EVERY: Duration = Duration::from_secs(60);
/// Bundles of one app at once, and the time after which it has one more.
const OF_APP: (u32, Duration) = (8, Duration::from_secs(10));
/// The same of all apps.
const OF_ALL: (u32, Duration) = (32, Duration::from_secs(2));
/// Faults, and apps, that are told apart.
const KNOWN_MAX: usize = 1_024;

/// What becomes of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Paced {
    Write,
    /// It had a bundle a moment ago.
    Same,
    /// There were many.
    Many,
}

/// The faults of late.
#[derive(Debug, Default)]
pub(super) struct CrashPace {
    seen: HashMap<u64, Instant>,
    apps: HashMap<String, FaultBucket>,
    all: FaultBucket,
}

/// Lets some through at once, and then one in a time.
#[derive(Debug, Clone, Copy, Default)]
struct FaultBucket {
    /// When all that it has let through is made up for.
    even_at: Option<Instant>,
}

impl FaultBucket {
    fn admits(&self, now: Instant, (at_once, every): (u32, Duration)) -> bool {
        let behind = self.even_at.map_or(Duration::ZERO, |even| even.saturating_duration_since(now));
        behind + every <= every * at_once
    }

    fn take(&mut self, now: Instant, (_, every): (u32, Duration)) {
        self.even_at = Some(self.even_at.map_or(now, |even| even.max(now)) + every);
    }

    fn is_even(&self, now: Instant) -> bool {
        self.even_at.is_none_or(|even| even <= now)
    }
}

impl CrashPace {
    /// A fault: of this app, of this kind, with these words.
    pub(super) fn admit(&mut self, now: Instant, fault: (&str, &str, &str)) -> Paced {
        let (app, ..) = fault;
        let fingerprint = fingerprint(fault);
        let is_fresh = |seen: &Instant| now.saturating_duration_since(*seen) < SAME_EVERY;
        if self.seen.get(&fingerprint).is_some_and(is_fresh) {
            return Paced::Same;
        }
        if self.seen.len() >= KNOWN_MAX {
            self.seen.retain(|_, seen| is_fresh(seen));
        }
        if self.apps.len() >= KNOWN_MAX {
            self.apps.retain(|_, bucket| !bucket.is_even(now));
        }
        let mut of_app = self.apps.get(app).copied().unwrap_or_default();
        let is_known = self.seen.len() < KNOWN_MAX && (self.apps.len() < KNOWN_MAX || self.apps.contains_key(app));
        if !is_known || !of_app.admits(now, OF_APP) || !self.all.admits(now, OF_ALL) {
            return Paced::Many;
        }
        of_app.take(now, OF_APP);
        self.all.take(now, OF_ALL);
        self.apps.insert(app.to_owned(), of_app);
        self.seen.insert(fingerprint, now);
        Paced::Write
    }
}

/// Numbers differ between faults that are the same: addresses, sizes.
fn fingerprint((app, kind, detail): (&str, &str, &str)) -> u64 {
    let mut hasher = DefaultHasher::new();
    (app, kind).hash(&mut hasher);
    detail.chars().filter(|character| !character.is_ascii_digit()).for_each(|character| character.hash(&mut hasher));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_has_one_bundle_a_minute_whatever_numbers_it_names() {
        let (mut pace, now) = (CrashPace::default(), Instant::now());
        let mut admit = |seconds, detail| pace.admit(now + Duration::from_secs(seconds), ("a", "trap", detail));
        assert_eq!(admit(0, "at 12"), Paced::Write);
        assert_eq!(admit(1, "at 345"), Paced::Same);
        assert_eq!(admit(1, "elsewhere"), Paced::Write);
        assert_eq!(admit(59, "at 1"), Paced::Same);
        assert_eq!(admit(60, "at 1"), Paced::Write);
    }

    #[test]
    fn an_app_has_some_at_once_then_one_in_a_while_and_hides_no_other() {
        let (mut pace, now) = (CrashPace::default(), Instant::now());
        let words = |number: u32| format!("f{}", "x".repeat(number as usize));
        let mut admit =
            |seconds, app: &str, number| pace.admit(now + Duration::from_secs(seconds), (app, "trap", &words(number)));
        let written = (0..50).filter(|number| admit(0, "a", *number) == Paced::Write).count();
        assert_eq!(written, OF_APP.0 as usize);
        assert_eq!(admit(0, "b", 0), Paced::Write);
        assert_eq!(admit(9, "a", 60), Paced::Many);
        assert_eq!(admit(10, "a", 60), Paced::Write);
        assert_eq!(admit(10, "a", 61), Paced::Many);
    }

    #[test]
    fn all_apps_together_have_a_bound_and_little_is_remembered() {
        let (mut pace, now) = (CrashPace::default(), Instant::now());
        let written = (0..5_000).filter(|number| pace.admit(now, (&format!("a{number}"), "trap", "")) == Paced::Write);
        assert_eq!(written.count(), OF_ALL.0 as usize);
        for number in 0..5_000_u64 {
            pace.admit(now + Duration::from_secs(number), (&format!("b{number}"), "trap", ""));
        }
        assert!(pace.seen.len() <= KNOWN_MAX && pace.apps.len() <= KNOWN_MAX);
    }
}
