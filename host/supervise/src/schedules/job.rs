//! PURE: one schedule: when it is due next, and its runs.

use std::time::{Duration, SystemTime};

use wasmhost_config::{AppId, CatchUp, CronTimes, Overlap, ScheduleSettings};
use wasmhost_serve::worker::{RunEnd, RunOutcome, ScheduledRequest};

/// A run that begins later than this after its time was missed.
pub(super) const LATE_MAX: Duration = Duration::from_secs(30);
/// Times that passed unseen are counted up to this.
const MISSED_MAX: usize = 1_000;

/// One schedule.
#[derive(Debug)]
pub(super) struct ScheduleRuns {
    pub(super) schedule: ScheduleSettings,
    times: CronTimes,
    /// The time that is due next, and when its run begins: later by chance. None: there is none.
    next: Option<(SystemTime, SystemTime)>,
    /// All times up to this one were run or left out, or wait.
    pub(super) dealt_with: SystemTime,
    /// The run that is due was seen in time, and has waited for its app since then.
    waits_for_app: bool,
    running: usize,
    /// The time whose run waits for the end of the one before.
    waiting: Option<SystemTime>,
    runs: u64,
    faults: u64,
    failures: u64,
    pub(super) left_out: u64,
    last: Option<LastRun>,
}

/// How the run went that ended last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastRun {
    /// When it was due.
    pub(crate) due: SystemTime,
    /// How long it took.
    pub(crate) took: Duration,
    /// How it ended.
    pub(crate) end: RunEnd,
}

/// A schedule, as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScheduleRow {
    /// What the settings say.
    pub(crate) schedule: ScheduleSettings,
    /// When it is due next.
    pub(crate) next: Option<SystemTime>,
    /// Runs under way.
    pub(crate) running: usize,
    /// Runs that have ended.
    pub(crate) runs: u64,
    /// Of these, those that ended with a fault of the guest.
    pub(crate) faults: u64,
    /// Those that did not go well otherwise.
    pub(crate) failures: u64,
    /// Times that were left out.
    pub(crate) left_out: u64,
    /// The last run that has ended.
    pub(crate) last: Option<LastRun>,
}

impl ScheduleRuns {
    /// A new one. None: its pattern cannot be read, which the settings would not have let through.
    pub(super) fn new(
        schedule: &ScheduleSettings,
        dealt_with: Option<SystemTime>,
        now: SystemTime,
        chance: f64,
    ) -> Option<Self> {
        let times = schedule.times(now)?;
        let mut job = Self {
            schedule: schedule.clone(),
            times,
            next: None,
            dealt_with: now,
            waits_for_app: false,
            running: 0,
            waiting: None,
            runs: 0,
            faults: 0,
            failures: 0,
            left_out: 0,
            last: None,
        };
        // What was missed while the host did not run is due now.
        job.plan(dealt_with.filter(|seen| *seen < now).unwrap_or(now), chance);
        Some(job)
    }

    /// The same with other settings: its runs go on, and are counted with the others. One that was due and put off by chance, or waits
    /// for its app, is still made.
    pub(super) fn changed(self, schedule: &ScheduleSettings, now: SystemTime, chance: f64) -> Option<Self> {
        let Self { running, waiting, runs, faults, failures, left_out, last, .. } = self;
        let queued = waiting.filter(|_| schedule.overlap == Overlap::Queue);
        let left_out = left_out + u64::from(waiting.is_some() && queued.is_none());
        let new = Self::new(schedule, None, now, chance)?;
        let mut new = Self { running, waiting: queued, runs, faults, failures, left_out, last, ..new };
        if let Some((due, begins)) = self.next.filter(|(due, _)| *due <= now) {
            new.next = Some((due, begins.min(due + schedule.jitter).max(now)));
            (new.dealt_with, new.waits_for_app) = (self.dealt_with, self.waits_for_app);
        }
        Some(new)
    }

    /// Its app is not loaded yet.
    pub(super) fn wait_for_app(&mut self, now: SystemTime) {
        self.waits_for_app |= self.next.is_some_and(|(_, begins)| !is_late(begins, now));
    }

    pub(super) fn catches_up(&self) -> bool {
        self.schedule.catch_up == CatchUp::Last
    }

    /// The first time after `from` is the next. By chance its run begins later, but before the time behind it.
    pub(super) fn plan(&mut self, from: SystemTime, chance: f64) {
        self.dealt_with = from;
        self.waits_for_app = false;
        self.next = self.times.next_after(from).map(|due| {
            let mut most = self.schedule.jitter;
            if most.is_zero() {
                return (due, due);
            }
            if let Some(behind) = self.times.next_after(due) {
                most = most.min(behind.duration_since(due).unwrap_or_default());
            }
            (due, due + most.mul_f64(chance.clamp(0.0, 1.0)))
        });
    }

    /// What is due now, if anything: the time that is to be run, and how many were missed. Plans the next.
    pub(super) fn due(&mut self, now: SystemTime, chance: f64) -> Option<(Option<SystemTime>, usize)> {
        let (due, begins) = self.next.filter(|(_, begins)| *begins <= now)?;
        let behind = self.times.last_within(due, now, MISSED_MAX);
        let (last, missed) = behind.map_or((due, 0), |(last, count)| (last, count));
        // The last of those behind has had no time put off by chance.
        let begins = if missed == 0 { begins } else { last };
        let is_missed = is_late(begins, now) && !self.waits_for_app;
        self.plan(now.max(last), chance);
        match is_missed && !self.catches_up() {
            true => Some((None, missed + 1)),
            false => Some((Some(last), missed)),
        }
    }

    /// For how long there is nothing to do; none: for ever.
    pub(super) fn wait_for(&self, now: SystemTime) -> Option<Duration> {
        self.next.map(|(_, begins)| begins.duration_since(now).unwrap_or_default())
    }

    /// Whether one more run may begin.
    pub(super) fn has_room(&self) -> bool {
        let most = if self.schedule.overlap == Overlap::Allow { Overlap::AT_ONCE_MAX } else { 1 };
        self.running < most
    }

    /// Whether the run of this time may wait for the end of the one before.
    pub(super) fn wait(&mut self, due: SystemTime) -> bool {
        let may = self.schedule.overlap == Overlap::Queue && self.waiting.is_none();
        if may {
            self.waiting = Some(due);
        }
        may
    }

    /// A run of this time begins.
    pub(super) fn begin(&mut self, app: AppId, due: SystemTime) -> ScheduledRequest {
        self.running += 1;
        let ScheduleSettings { name, cron, path, .. } = self.schedule.clone();
        ScheduledRequest { app, name, cron, path, due }
    }

    /// The time whose run waits, now that it may begin.
    pub(super) fn take_waiting(&mut self) -> Option<SystemTime> {
        self.waiting.take_if(|_| self.running == 0)
    }

    /// The time whose run waits, which this host does not begin any more. None: there is none, or another host catches up on it.
    pub(super) fn give_up_waiting(&mut self) -> Option<SystemTime> {
        let catches_up = self.catches_up();
        self.waiting.take().filter(|_| !catches_up)
    }

    /// Whether a time is due that has no run yet: it was put off by chance, or waits.
    pub(super) fn is_put_off(&self, now: SystemTime) -> bool {
        self.waiting.is_some() || self.next.is_some_and(|(due, _)| due <= now)
    }

    /// Up to when no time is to be run any more. (Times are whole seconds.)
    pub(super) fn done_with(&self) -> SystemTime {
        let before = |due: SystemTime| due.checked_sub(Duration::from_millis(1));
        self.waiting.and_then(before).unwrap_or(self.dealt_with)
    }

    /// A run has ended.
    pub(super) fn ended(&mut self, request: &ScheduledRequest, end: RunEnd, took: Duration) {
        self.running = self.running.saturating_sub(1);
        self.runs += 1;
        match end.outcome {
            RunOutcome::Done => {}
            RunOutcome::Fault => self.faults += 1,
            RunOutcome::Failed | RunOutcome::Refused | RunOutcome::Lost => self.failures += 1,
        }
        self.last = Some(LastRun { due: request.due, took, end });
    }

    pub(super) fn row(&self) -> ScheduleRow {
        ScheduleRow {
            schedule: self.schedule.clone(),
            next: self.next.map(|(due, _)| due),
            running: self.running,
            runs: self.runs,
            faults: self.faults,
            failures: self.failures,
            left_out: self.left_out,
            last: self.last.clone(),
        }
    }
}

/// Whether a run that was to begin then is too late by now.
fn is_late(begins: SystemTime, now: SystemTime) -> bool {
    now.duration_since(begins).is_ok_and(|late| late > LATE_MAX)
}
