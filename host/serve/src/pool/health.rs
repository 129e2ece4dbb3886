//! Decides whether a pool may make another instance. Pure: the caller passes faults and answers with their times.
//!
//! One fault changes nothing: the next instance replaces the faulty one at once. But a component whose every start or every
//! call faults must not be started again in a hot loop. After a number of faults in a row the pool is down for a while; then
//! the next try decides, and each failed try doubles the wait.

use std::time::{Duration, Instant};

use wasmhost_base::backoff::Backoff;

/// Faults in a row before a pool goes down whose guest has never answered, here or in another worker.
const FAULTS_BEFORE_FIRST_ANSWER: u32 = 16;
/// Faults in a row before a pool goes down whose guest has answered before, and for how long there must have been
/// nothing but faults: much, since a client that asks for a faulty path again and again shall not take the others'
/// answers from them.
const FAULTS_AFTER_AN_ANSWER: u32 = 512;
const NOTHING_BUT_FAULTS: Duration = Duration::from_secs(30);
/// Failed starts in a row before a pool goes down; a failed start costs the request nothing but time.
const FAILED_STARTS: u32 = 1;

const BACKOFF: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));

/// How often a pool had gone down, or been given a new guest, when a call, or a start, began: a try. One that had begun before
/// tells nothing new, however late it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Try(u64);

/// The state of one pool.
#[derive(Debug, Default)]
pub(super) struct Health {
    times_down: u64,
    has_answered: bool,
    faults_in_a_row: u32,
    first_of_them: Option<Instant>,
    failed_starts_in_a_row: u32,
    times_down_in_a_row: u32,
    down_until: Option<Instant>,
}

/// What a fault led to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing changes: a new instance takes the place of the one that went.
    Up,
    /// Refuse requests for so long.
    DownFor(Duration),
}

impl Health {
    /// Whether requests may have to be refused: whether [`Self::down_for`] has to be asked.
    pub(super) fn may_be_down(&self) -> bool {
        self.down_until.is_some()
    }

    /// For how long requests are still refused; none: admit them.
    pub(super) fn down_for(&self, now: Instant) -> Option<Duration> {
        self.down_until.and_then(|until| until.checked_duration_since(now)).filter(|rest| !rest.is_zero())
    }

    /// What a call, or a start, that begins now belongs to.
    pub(super) fn begin(&self) -> Try {
        Try(self.times_down)
    }

    /// There is a new guest, of which nothing is known. What was begun before says nothing of it.
    pub(super) fn begin_anew(&mut self) {
        *self = Self { times_down: self.times_down.wrapping_add(1), ..Self::default() };
    }

    /// The guest answered. True when the pool had been down before.
    pub(super) fn on_answer(&mut self) -> bool {
        let had_been_down = self.times_down_in_a_row > 0;
        *self = Self { has_answered: true, times_down: self.times_down, ..Self::default() };
        had_been_down
    }

    /// Whether the guest has answered here before.
    pub(super) fn has_answered(&self) -> bool {
        self.has_answered
    }

    /// A call that began in `tried` faulted, of a guest that has answered some worker before, or has not.
    pub(super) fn on_fault(&mut self, now: Instant, tried: Try, answers_elsewhere: bool, jitter: f64) -> Verdict {
        if tried != self.begin() {
            return Verdict::Up;
        }
        self.faults_in_a_row = self.faults_in_a_row.saturating_add(1);
        self.failed_starts_in_a_row = 0;
        let first = *self.first_of_them.get_or_insert(now);
        let too_many = if self.has_answered || answers_elsewhere {
            self.faults_in_a_row >= FAULTS_AFTER_AN_ANSWER && now.duration_since(first) >= NOTHING_BUT_FAULTS
        } else {
            self.faults_in_a_row >= FAULTS_BEFORE_FIRST_ANSWER
        };
        // Once down, the one try that is let in decides.
        if too_many || self.times_down_in_a_row > 0 { self.go_down(now, jitter) } else { Verdict::Up }
    }

    /// An instance whose start began in `tried` did not come up.
    pub(super) fn on_failed_start(&mut self, now: Instant, tried: Try, jitter: f64) -> Verdict {
        if tried != self.begin() {
            return Verdict::Up;
        }
        self.failed_starts_in_a_row = self.failed_starts_in_a_row.saturating_add(1);
        if self.failed_starts_in_a_row >= FAILED_STARTS { self.go_down(now, jitter) } else { Verdict::Up }
    }

    fn go_down(&mut self, now: Instant, jitter: f64) -> Verdict {
        let delay = BACKOFF.delay(self.times_down_in_a_row, jitter);
        self.times_down = self.times_down.wrapping_add(1);
        self.times_down_in_a_row = self.times_down_in_a_row.saturating_add(1);
        self.down_until = Some(now + delay);
        Verdict::DownFor(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_never_answered_goes_down_after_some_faults_and_longer_each_time() {
        let mut health = Health::default();
        let now = Instant::now();
        for _ in 1..FAULTS_BEFORE_FIRST_ANSWER {
            assert_eq!(health.on_fault(now, health.begin(), false, 0.0), Verdict::Up);
        }
        assert_eq!(health.on_fault(now, health.begin(), false, 0.0), Verdict::DownFor(Duration::from_millis(100)));
        assert!(health.down_for(now).is_some());
        let later = now + Duration::from_millis(100);
        assert_eq!(health.down_for(later), None);
        assert_eq!(health.on_fault(later, health.begin(), false, 0.0), Verdict::DownFor(Duration::from_millis(200)));
    }

    #[test]
    fn a_late_failure_of_the_old_guest_says_nothing_of_the_new_one() {
        let (mut health, now) = (Health::default(), Instant::now());
        let tried = health.begin();
        health.begin_anew();
        assert_eq!(health.on_failed_start(now, tried, 0.0), Verdict::Up);
        assert_eq!(health.on_fault(now, tried, false, 0.0), Verdict::Up);
        assert_ne!(health.on_failed_start(now, health.begin(), 0.0), Verdict::Up);
    }

    #[test]
    fn a_guest_that_answers_other_workers_is_borne_with_for_longer() {
        let mut health = Health::default();
        let now = Instant::now();
        for _ in 0..FAULTS_AFTER_AN_ANSWER * 4 {
            assert_eq!(health.on_fault(now, health.begin(), true, 0.0), Verdict::Up, "a burst");
        }
        assert_ne!(health.on_fault(now + NOTHING_BUT_FAULTS, health.begin(), true, 0.0), Verdict::Up);
        let mut seldom = Health::default();
        assert_eq!(seldom.on_fault(now, seldom.begin(), true, 0.0), Verdict::Up);
        assert_eq!(seldom.on_fault(now + NOTHING_BUT_FAULTS, seldom.begin(), true, 0.0), Verdict::Up, "few");
    }

    #[test]
    fn faults_between_answers_never_take_a_pool_down() {
        let mut health = Health::default();
        let now = Instant::now();
        for _ in 0..100 {
            health.on_answer();
            for _ in 1..FAULTS_AFTER_AN_ANSWER {
                assert_eq!(health.on_fault(now + NOTHING_BUT_FAULTS, health.begin(), false, 0.0), Verdict::Up);
            }
        }
    }

    #[test]
    fn a_failed_start_takes_the_pool_down_and_an_answer_brings_it_back() {
        let mut health = Health::default();
        let now = Instant::now();
        assert_eq!(health.on_failed_start(now, health.begin(), 0.0), Verdict::DownFor(Duration::from_millis(100)));
        assert_eq!(health.on_failed_start(now, health.begin(), 0.0), Verdict::DownFor(Duration::from_millis(200)));
        assert!(health.on_answer());
        assert_eq!(health.down_for(now), None);
        assert_eq!(health.on_fault(now, health.begin(), false, 0.0), Verdict::Up);
    }

    #[test]
    fn calls_in_flight_when_the_pool_goes_down_double_no_wait() {
        let mut health = Health::default();
        let now = Instant::now();
        let began = health.begin();
        let downs = (0..64).filter(|_| health.on_fault(now, began, false, 0.0) != Verdict::Up).count();
        assert_eq!(downs, 1, "64 calls at once are one try");
        // One that fails long after is of that try still.
        let later = now + Duration::from_secs(10);
        assert_eq!(health.on_fault(later, began, false, 0.0), Verdict::Up);
        assert_eq!(health.on_fault(later, health.begin(), false, 0.0), Verdict::DownFor(Duration::from_millis(200)));
    }

    proptest::proptest! {
        /// Calls and starts begin when the pool lets them in, and fail at any time, in any order: each wait is followed by
        /// at least one try that began after it, before the next, longer one.
        #[test]
        fn each_wait_is_earned_by_a_try_of_its_own(
            steps in proptest::collection::vec((0..400_u64, 0..4_u8, proptest::arbitrary::any::<proptest::sample::Index>()), 1..300)
        ) {
            let mut health = Health::default();
            let mut now = Instant::now();
            let mut in_flight: Vec<Try> = Vec::new();
            let (mut downs, mut last_down, mut last_delay) = (0_u32, None, Duration::ZERO);
            for (ms, what, which) in steps {
                now += Duration::from_millis(ms);
                if what > 1 {
                    if health.down_for(now).is_none() {
                        in_flight.push(health.begin());
                    }
                    continue;
                }
                if in_flight.is_empty() {
                    continue;
                }
                let tried = in_flight.swap_remove(which.index(in_flight.len()));
                let verdict = match what {
                    0 => health.on_fault(now, tried, false, 0.0),
                    _ => health.on_failed_start(now, tried, 0.0),
                };
                if let Verdict::DownFor(delay) = verdict {
                    proptest::prop_assert!(last_down.is_none_or(|until| now >= until), "went down while it was down");
                    proptest::prop_assert!(downs == 0 || delay <= last_delay * 2, "{last_delay:?}, then {delay:?}");
                    (downs, last_down, last_delay) = (downs + 1, Some(now + delay), delay);
                }
            }
        }
    }
}
