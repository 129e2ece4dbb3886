//! Decides what happens when a worker ends: start it again after a delay, do nothing, or end the host. Pure: the primary
//! passes it events with their time, and carries out the [`Action`] that it returns.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use wasmhost_base::backoff::Backoff;
use wasmhost_serve::worker::WorkerId;

/// How many worker exits the host tolerates before it gives up; an Erlang supervisor calls this its restart intensity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartIntensity {
    /// Involuntary exits of all workers together that are tolerated within `window`; one more ends the host.
    pub budget: usize,
    /// Length of the sliding window.
    pub window: Duration,
}

/// A healthy host loses no worker at all; ten deaths in a minute are a bug that restarting does not cure. What ends many
/// workers at once (the kernel's out-of-memory killer, an operator's `kill`) is no such bug, so a host of many workers
/// tolerates three deaths of each.
const BUDGET_AT_LEAST: usize = 10;
const BUDGET_A_WORKER: usize = 3;
const BUDGET_WINDOW: Duration = Duration::from_secs(60);

impl RestartIntensity {
    /// The intensity for a host of so many workers.
    pub fn of(workers: u16) -> Self {
        let budget = BUDGET_AT_LEAST.max(BUDGET_A_WORKER * usize::from(workers));
        Self { budget, window: BUDGET_WINDOW }
    }
}

impl std::fmt::Display for RestartIntensity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {} s", self.budget, self.window.as_secs())
    }
}

/// First and longest delay before a dead worker is started again.
const RESPAWN_BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(5));

/// A worker that lived this long before it died starts again without counting its earlier deaths.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// What the supervisor is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The worker takes connections.
    Listening(WorkerId),
    /// The worker's thread ended; `voluntary` if the primary had asked for it.
    Exited {
        /// Which worker.
        worker: WorkerId,
        /// Whether it was told to stop.
        voluntary: bool,
    },
    /// The primary panicked on its way from the listener to a worker, and has gone on.
    PrimaryPanicked,
}

/// What the primary shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    None,
    /// Start the worker again after this delay.
    RespawnAfter(Duration),
    /// The restart budget is spent: stop the host and exit with 1.
    GiveUp,
}

#[derive(Debug, Default)]
struct StartRecord {
    listening_since: Option<Instant>,
    deaths_in_a_row: u32,
}

/// The policy and what it remembers.
#[derive(Debug)]
pub struct Supervisor {
    intensity: RestartIntensity,
    deaths: VecDeque<Instant>,
    workers: HashMap<WorkerId, StartRecord>,
}

impl Supervisor {
    /// A supervisor that has seen nothing yet.
    pub fn new(intensity: RestartIntensity) -> Self {
        Self { intensity, deaths: VecDeque::new(), workers: HashMap::new() }
    }

    /// The host is to have so many workers. (Where that is fewer than before, those that end still count.)
    pub fn grows_to(&mut self, workers: u16) {
        let intensity = RestartIntensity::of(workers);
        if intensity.budget > self.intensity.budget {
            self.intensity = intensity;
        }
    }

    /// The intensity that it keeps to.
    pub fn intensity(&self) -> RestartIntensity {
        self.intensity
    }

    /// Takes note of `event`, which happened at `now`, and says what to do. `jitter` is drawn by the caller, 0.0 to 1.0.
    pub fn on_event(&mut self, now: Instant, event: Event, jitter: f64) -> Action {
        match event {
            Event::Listening(worker) => {
                self.workers.entry(worker).or_default().listening_since = Some(now);
                Action::None
            }
            Event::Exited { worker, voluntary: true } => {
                self.workers.remove(&worker);
                Action::None
            }
            Event::Exited { worker, voluntary: false } => self.on_death(now, worker, jitter),
            Event::PrimaryPanicked if self.exceeds_budget(now) => Action::GiveUp,
            Event::PrimaryPanicked => Action::None,
        }
    }

    fn on_death(&mut self, now: Instant, worker: WorkerId, jitter: f64) -> Action {
        // Where others have served for long, one that cannot even start (it is one more, or takes the place of another) is no
        // reason to end them.
        let has_listened = self.workers.get(&worker).is_some_and(|record| record.listening_since.is_some());
        let is_excused = !has_listened && self.serve_for_long(now);
        if !is_excused && self.exceeds_budget(now) {
            return Action::GiveUp;
        }
        let record = self.workers.entry(worker).or_default();
        let lived = record.listening_since.take().map_or(Duration::ZERO, |since| now.duration_since(since));
        if lived >= STABLE_AFTER {
            record.deaths_in_a_row = 0;
        }
        let delay = RESPAWN_BACKOFF.delay(record.deaths_in_a_row, jitter);
        record.deaths_in_a_row = record.deaths_in_a_row.saturating_add(1);
        Action::RespawnAfter(delay)
    }

    /// Whether some worker has listened for [`STABLE_AFTER`].
    fn serve_for_long(&self, now: Instant) -> bool {
        let mut since = self.workers.values().filter_map(|record| record.listening_since);
        since.any(|since| now.saturating_duration_since(since) >= STABLE_AFTER)
    }

    /// Takes note of one more death, or what counts as one.
    fn exceeds_budget(&mut self, now: Instant) -> bool {
        let window = self.intensity.window;
        self.deaths.push_back(now);
        while self.deaths.front().is_some_and(|death| now.duration_since(*death) > window) {
            self.deaths.pop_front();
        }
        self.deaths.len() > self.intensity.budget
    }
}

/// How often a worker that is a process is asked for a sign of life.
pub const BEAT: Duration = Duration::from_millis(500);

/// A worker that has left so many calls in a row unanswered gets no connections: by far more than a busy machine keeps
/// one waiting.
const SILENT_AFTER_BEATS: u32 = 2;

/// What a worker's answers, or their absence, say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Liveness {
    /// Its loop turns.
    #[default]
    Answers,
    /// It gets no connections until it answers.
    Silent,
    /// It shall be ended, and replaced.
    Hung,
}

/// The calls to one worker's process. Counted in calls and not in time: a primary that was stopped itself (or its whole
/// machine was) finds its workers no more silent than before.
#[derive(Debug, Clone, Copy, Default)]
pub struct Heartbeat {
    missed: u32,
}

impl Heartbeat {
    /// Takes note, once a [`BEAT`], of whether the last call was answered by now. `hung_after`: how long a worker may be
    /// silent; none: for ever.
    pub fn on_beat(&mut self, answered: bool, hung_after: Option<Duration>) -> Liveness {
        self.missed = if answered { 0 } else { self.missed.saturating_add(1) };
        let is_hung = hung_after.is_some_and(|limit| self.missed > 0 && BEAT * self.missed >= limit);
        match self.missed {
            _ if is_hung => Liveness::Hung,
            missed if missed >= SILENT_AFTER_BEATS => Liveness::Silent,
            _ => Liveness::Answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: WorkerId = WorkerId(1);

    fn died(worker: WorkerId) -> Event {
        Event::Exited { worker, voluntary: false }
    }

    #[test]
    fn a_dead_worker_respawns_with_growing_delays() {
        let mut supervisor = Supervisor::new(RestartIntensity::of(1));
        let start = Instant::now();
        let delays: Vec<Action> =
            (0..4).map(|nth| supervisor.on_event(start + Duration::from_secs(nth), died(ONE), 0.0)).collect();
        let expected = [10, 20, 40, 80].map(|ms| Action::RespawnAfter(Duration::from_millis(ms)));
        assert_eq!(delays, expected);
    }

    #[test]
    fn a_worker_that_ran_well_for_long_starts_from_the_first_delay_again() {
        let mut supervisor = Supervisor::new(RestartIntensity::of(1));
        let start = Instant::now();
        supervisor.on_event(start, died(ONE), 0.0);
        supervisor.on_event(start, Event::Listening(ONE), 0.0);
        let action = supervisor.on_event(start + STABLE_AFTER, died(ONE), 0.0);
        assert_eq!(action, Action::RespawnAfter(Duration::from_millis(10)));
    }

    #[test]
    fn the_budget_is_for_all_workers_together_and_then_the_host_gives_up() {
        let intensity = RestartIntensity { budget: 3, window: Duration::from_secs(60) };
        let mut supervisor = Supervisor::new(intensity);
        let start = Instant::now();
        for nth in 1..=3 {
            assert_ne!(supervisor.on_event(start, died(WorkerId(nth)), 0.0), Action::GiveUp);
        }
        assert_eq!(supervisor.on_event(start, died(WorkerId(1)), 0.0), Action::GiveUp);
    }

    #[test]
    fn one_that_cannot_start_ends_no_workers_that_have_served_for_long() {
        let intensity = RestartIntensity { budget: 3, window: Duration::from_secs(60) };
        let (start, two) = (Instant::now(), WorkerId(2));
        for (served_for, listens, gives_up) in
            [(STABLE_AFTER, false, false), (STABLE_AFTER, true, true), (Duration::from_secs(29), false, true)]
        {
            let mut supervisor = Supervisor::new(intensity);
            supervisor.on_event(start, Event::Listening(ONE), 0.0);
            let now = start + served_for;
            let actions: Vec<Action> = (0..20)
                .map(|_| {
                    if listens {
                        supervisor.on_event(now, Event::Listening(two), 0.0);
                    }
                    supervisor.on_event(now, died(two), 0.0)
                })
                .collect();
            assert_eq!(actions.contains(&Action::GiveUp), gives_up, "{served_for:?} {listens}: {actions:?}");
        }
        // What it did is not held against one that serves and dies.
        let mut supervisor = Supervisor::new(intensity);
        supervisor.on_event(start, Event::Listening(ONE), 0.0);
        for _ in 0..20 {
            supervisor.on_event(start + STABLE_AFTER, died(two), 0.0);
        }
        assert_ne!(supervisor.on_event(start + STABLE_AFTER, died(ONE), 0.0), Action::GiveUp);
    }

    #[test]
    fn the_budget_grows_with_the_number_of_workers() {
        let table = [(1, 10), (2, 10), (3, 10), (4, 12), (16, 48), (512, 1_536)];
        for (workers, budget) in table {
            let mut supervisor = Supervisor::new(RestartIntensity::of(workers));
            let now = Instant::now();
            for nth in 0..budget {
                let worker = WorkerId(nth % workers + 1);
                let action = supervisor.on_event(now, died(worker), 0.0);
                assert!(matches!(action, Action::RespawnAfter(_)), "{workers} workers, death {nth}: {action:?}");
            }
            assert_eq!(supervisor.on_event(now, died(ONE), 0.0), Action::GiveUp, "{workers} workers");
        }
    }

    #[test]
    fn all_workers_may_die_at_once_after_there_are_more() {
        let mut supervisor = Supervisor::new(RestartIntensity::of(2));
        supervisor.grows_to(16);
        supervisor.grows_to(8);
        for worker in 1..=16 {
            let action = supervisor.on_event(Instant::now(), died(WorkerId(worker)), 0.0);
            assert!(matches!(action, Action::RespawnAfter(_)), "the death of {worker}");
        }
    }

    #[test]
    fn all_workers_of_any_host_may_die_at_once() {
        for workers in 1..=512 {
            let mut supervisor = Supervisor::new(RestartIntensity::of(workers));
            let now = Instant::now();
            for worker in 1..=workers {
                let action = supervisor.on_event(now, died(WorkerId(worker)), 1.0);
                assert!(matches!(action, Action::RespawnAfter(_)), "{workers} workers, the death of {worker}");
            }
        }
    }

    #[test]
    fn deaths_outside_the_window_are_forgotten() {
        let intensity = RestartIntensity { budget: 1, window: Duration::from_secs(60) };
        let mut supervisor = Supervisor::new(intensity);
        let start = Instant::now();
        for minute in 0..20 {
            let now = start + Duration::from_secs(61 * minute);
            assert_ne!(supervisor.on_event(now, died(ONE), 0.0), Action::GiveUp);
        }
    }

    #[test]
    fn panics_of_the_primary_count_as_deaths() {
        let intensity = RestartIntensity { budget: 2, window: Duration::from_secs(60) };
        let mut supervisor = Supervisor::new(intensity);
        let now = Instant::now();
        assert_eq!(supervisor.on_event(now, Event::PrimaryPanicked, 0.0), Action::None);
        assert_ne!(supervisor.on_event(now, died(ONE), 0.0), Action::GiveUp);
        assert_eq!(supervisor.on_event(now, Event::PrimaryPanicked, 0.0), Action::GiveUp);
    }

    #[test]
    fn a_silent_worker_is_passed_over_then_hung_and_as_before_once_it_answers() {
        let mut heart = Heartbeat::default();
        let limit = Some(BEAT * 4);
        let beats =
            [false, false, false, true, false, false, false, false].map(|answered| heart.on_beat(answered, limit));
        use Liveness::{Answers, Hung, Silent};
        assert_eq!(beats, [Answers, Silent, Silent, Answers, Answers, Silent, Silent, Hung]);
        let mut for_ever = Heartbeat::default();
        assert!((0..10_000).all(|_| for_ever.on_beat(false, None) != Hung));
        let mut at_once = Heartbeat::default();
        assert_eq!(at_once.on_beat(true, Some(Duration::ZERO)), Answers);
    }

    #[test]
    fn a_voluntary_exit_asks_for_nothing_and_costs_nothing() {
        let intensity = RestartIntensity { budget: 0, window: Duration::from_secs(60) };
        let mut supervisor = Supervisor::new(intensity);
        for _ in 0..10 {
            let event = Event::Exited { worker: ONE, voluntary: true };
            assert_eq!(supervisor.on_event(Instant::now(), event, 0.0), Action::None);
        }
    }
}
