//! PURE: which runs of schedules begin, and when it is to be looked again. The primary shows it the time and the apps, makes
//! the requests, and tells it how they ended.
//!
//! Times of schedules are the wall clock's, which may be set, and stands out against the monotonic clock after the machine was
//! asleep. So the wall clock is looked at every [`LOOK_EVERY`] at the latest. A time that was due longer than [`LATE_MAX`](job::LATE_MAX) ago
//! has passed unseen: what becomes of it, `catch-up` says. A clock that is set back by [`BACK_MAX`] or less repeats nothing: what
//! has been run is not run again. Set back further, it was wrong before, and schedules follow it.

mod job;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use wasmhost_config::{App, AppId, ScheduleSettings};
use wasmhost_serve::worker::{RunEnd, ScheduledRequest};

use self::job::ScheduleRuns;
pub(crate) use self::job::{LastRun, ScheduleRow};

/// How often the wall clock is looked at, while there are schedules.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// By how much the wall clock may be set back without a time being due again.
pub(crate) const BACK_MAX: Duration = Duration::from_secs(3 * 3_600);
/// How soon it is looked again while something is due of an app that is not loaded yet.
const NOT_READY_AGAIN: Duration = Duration::from_millis(200);
/// Runs of all schedules at once.
pub(crate) const RUNS_MAX: usize = 64;

/// A moment, on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) wall: SystemTime,
    pub(crate) steady: Instant,
}

impl Moment {
    /// This one.
    pub(crate) fn now() -> Self {
        Self { wall: SystemTime::now(), steady: Instant::now() }
    }
}

/// Why times were left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// The runs before have not ended.
    Overlap,
    /// They passed unseen.
    Missed,
    /// The host makes as many runs as it may.
    Full,
    /// The host stops before the run that they wait for has ended.
    Stops,
}

impl LeftOut {
    /// The name in logs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Overlap => "overlap",
            Self::Missed => "missed",
            Self::Full => "too many runs",
            Self::Stops => "the host stops",
        }
    }
}

/// What is to be done, or told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make this request.
    Run(ScheduledRequest),
    /// Something is due of an app that is not loaded yet, and waits for that.
    Load(AppId),
    /// So many times of a schedule were left out.
    LeftOut { app: AppId, schedule: String, times: usize, why: LeftOut },
}

/// All schedules of the host.
#[derive(Debug, Default)]
pub(crate) struct Schedules {
    jobs: BTreeMap<(AppId, String), ScheduleRuns>,
    running: usize,
    seen: Option<Moment>,
    /// Something is due and waits for its app.
    waits: bool,
}

impl Schedules {
    /// The apps are these now. What runs goes on, and a schedule that is the same keeps its next time. `dealt_with`: up to when
    /// the times of a schedule of this app were dealt with before the host started, where what passed since then is to be run. `chance` is between
    /// 0 and 1.
    pub(crate) fn follow<'a>(
        &mut self,
        apps: impl Iterator<Item = (AppId, &'a App)>,
        now: Moment,
        dealt_with: impl Fn(&str, &ScheduleSettings) -> Option<SystemTime>,
        mut chance: impl FnMut() -> f64,
    ) {
        let mut before = std::mem::take(&mut self.jobs);
        for (id, app) in apps {
            for schedule in &app.schedules {
                let key = (id, schedule.name.clone());
                let old = before.remove(&key);
                let job = match old {
                    Some(job) if job.schedule == *schedule => Some(job),
                    Some(job) => job.changed(schedule, now.wall, chance()),
                    None => ScheduleRuns::new(schedule, dealt_with(&app.name, schedule), now.wall, chance()),
                };
                if let Some(job) = job {
                    self.jobs.insert(key, job);
                }
            }
        }
    }

    /// What is due. `is_ready`: whether an app was loaded, or cannot be.
    pub(crate) fn look(
        &mut self,
        now: Moment,
        is_ready: impl Fn(AppId) -> bool,
        mut chance: impl FnMut() -> f64,
    ) -> Vec<Step> {
        let was_set_back = self.seen.replace(now).is_some_and(|seen| {
            let expected = seen.wall + now.steady.saturating_duration_since(seen.steady);
            expected.duration_since(now.wall).is_ok_and(|back| back > BACK_MAX)
        });
        let Self { jobs, running, waits, .. } = self;
        *waits = false;
        let mut steps = Vec::new();
        for ((app, name), job) in jobs {
            if was_set_back {
                job.plan(now.wall, chance());
            }
            if job.wait_for(now.wall) == Some(Duration::ZERO) && !is_ready(*app) {
                *waits = true;
                job.wait_for_app(now.wall);
                steps.push(Step::Load(*app));
                continue;
            }
            if *running < RUNS_MAX
                && let Some(due) = job.take_waiting()
            {
                // The run that it waited for ended when none was to begin.
                *running += 1;
                steps.push(Step::Run(job.begin(*app, due)));
            }
            let Some((due, missed)) = job.due(now.wall, chance()) else { continue };
            let begins = due.filter(|_| job.has_room() && *running < RUNS_MAX);
            let why = if job.has_room() { LeftOut::Full } else { LeftOut::Overlap };
            let is_left_out = due.is_some_and(|due| begins.is_none() && (job.has_room() || !job.wait(due)));
            for (times, why) in [(missed, LeftOut::Missed), (usize::from(is_left_out), why)] {
                if times > 0 {
                    job.left_out += u64::try_from(times).unwrap_or(u64::MAX);
                    steps.push(Step::LeftOut { app: *app, schedule: name.clone(), times, why });
                }
            }
            if let Some(due) = begins {
                *running += 1;
                steps.push(Step::Run(job.begin(*app, due)));
            }
        }
        steps
    }

    /// Runs a schedule beside its times.
    ///
    /// # Errors
    /// Why it cannot be run now.
    pub(crate) fn run_now(&mut self, app: AppId, name: &str, now: Moment) -> Result<ScheduledRequest, String> {
        let Some(job) = self.jobs.get_mut(&(app, name.to_owned())) else {
            return Err(format!("the app has no schedule `{name}`"));
        };
        if !job.has_room() {
            return Err("a run of it is under way, and `overlap` allows no other beside it".to_owned());
        }
        if self.running >= RUNS_MAX {
            return Err(format!("{RUNS_MAX} runs are under way, and the host makes no more at once"));
        }
        self.running += 1;
        Ok(job.begin(app, now.wall))
    }

    /// A run has ended, having taken so long. `may_begin`: the one that waited for it begins; else it waits on, for [`Self::look`] or
    /// another host.
    pub(crate) fn ended(
        &mut self,
        request: &ScheduledRequest,
        end: RunEnd,
        took: Duration,
        may_begin: bool,
    ) -> Option<Step> {
        self.running = self.running.saturating_sub(1);
        let job = self.jobs.get_mut(&(request.app, request.name.clone()))?;
        job.ended(request, end, took);
        let due = if may_begin { job.take_waiting()? } else { return None };
        self.running += 1;
        Some(Step::Run(job.begin(request.app, due)))
    }

    /// This host begins no run any more: those that wait, but for those that another host or the next start catches up on.
    pub(crate) fn give_up_waiting(&mut self) -> Vec<Step> {
        let given_up = self.jobs.iter_mut().filter_map(|((app, name), job)| {
            job.give_up_waiting()?;
            job.left_out += 1;
            Some(Step::LeftOut { app: *app, schedule: name.clone(), times: 1, why: LeftOut::Stops })
        });
        given_up.collect()
    }

    /// When [`Self::look`] may have something to do; none: there is no schedule.
    pub(crate) fn look_at(&self, now: Moment) -> Option<Instant> {
        let latest = now.steady + LOOK_EVERY;
        if self.waits {
            return Some(now.steady + NOT_READY_AGAIN);
        }
        let soonest = self.jobs.values().map(|job| job.wait_for(now.wall)).min()?;
        Some(soonest.and_then(|wait| now.steady.checked_add(wait)).map_or(latest, |at| at.min(latest)))
    }

    /// Whether a run is under way.
    pub(crate) fn is_running(&self) -> bool {
        self.running > 0
    }

    /// The schedules of an app, as they are shown.
    pub(crate) fn rows(&self, app: AppId) -> Vec<ScheduleRow> {
        self.jobs
            .range((app, String::new())..)
            .take_while(|((id, _), _)| *id == app)
            .map(|(_, job)| job.row())
            .collect()
    }

    /// Of schedules with a time that is due and has no run yet: up to when their times are dealt with.
    pub(crate) fn put_off(&self, now: SystemTime) -> impl Iterator<Item = (AppId, &str, SystemTime)> {
        let all = self.jobs.iter().filter(move |(_, job)| job.is_put_off(now));
        all.map(|((app, name), job)| (*app, &**name, job.done_with()))
    }

    /// Of schedules that catch up: up to when their times are dealt with.
    pub(crate) fn dealt_with(&self) -> impl Iterator<Item = (AppId, &str, SystemTime)> {
        let all = self.jobs.iter().filter(|(_, job)| job.catches_up());
        all.map(|((app, name), job)| (*app, &**name, job.done_with()))
    }
}

#[cfg(test)]
mod tests;
