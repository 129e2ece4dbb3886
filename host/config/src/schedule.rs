//! The schedules of an app: requests that the host makes at certain times.

use std::time::{Duration, SystemTime};

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::cron::{CronMistake, CronTimes};
use super::draft::put;
use super::parse;
use super::parse::choice;
use super::shown::{self, Shown};

/// Most schedules of an app.
pub const SCHEDULES_MAX: usize = 32;

/// Where a schedule's requests go that names no path.
pub const SCHEDULE_PATH: &str = "/.well-known/wasmhost/schedule";

/// What happens when a schedule is due and its last run has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Overlap {
    /// It is left out.
    #[default]
    Skip,
    /// One run waits for the end of the one before; further ones are left out.
    Queue,
    /// Several run at once, [`Overlap::AT_ONCE_MAX`] at most; further ones are left out.
    Allow,
}

impl Overlap {
    /// Runs of a schedule at once.
    pub const AT_ONCE_MAX: usize = 8;

    /// All, with their names.
    pub(super) const NAMES: &[(&str, Self)] = &[("skip", Self::Skip), ("queue", Self::Queue), ("allow", Self::Allow)];
}

/// What happens to times that have passed unseen: the machine was asleep, the clock was set, the host did not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CatchUp {
    /// They are left out.
    #[default]
    None,
    /// The last of them is run.
    Last,
}

impl CatchUp {
    /// All, with their names.
    pub(super) const NAMES: &[(&str, Self)] = &[("none", Self::None), ("last", Self::Last)];
}

/// A schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleSettings {
    /// Its name, of the form of an app's; no two of an app have the same.
    pub name: String,
    /// When it is due, as it is written; see [`CronTimes`].
    pub cron: String,
    /// In which time zone, by its name in the IANA's database.
    pub timezone: String,
    /// Path and query of its requests.
    pub path: String,
    /// See [`Overlap`].
    pub overlap: Overlap,
    /// See [`CatchUp`].
    pub catch_up: CatchUp,
    /// By how much runs are put off at most, by chance.
    pub jitter: Duration,
}

impl ScheduleSettings {
    /// When it is due. (None: it was not checked.)
    pub fn times(&self, now: SystemTime) -> Option<CronTimes> {
        CronTimes::new(&self.cron, &self.timezone, now).ok()
    }
}

/// A schedule while it is read.
#[derive(Debug, Clone, Default)]
pub(super) struct ScheduleDraft {
    name: String,
    cron: String,
    timezone: String,
    path: String,
    overlap: Overlap,
    catch_up: CatchUp,
    jitter: Duration,
}

impl ScheduleDraft {
    pub(super) fn name(&mut self, text: &str) -> Result<(), String> {
        put(&mut self.name, parse::name(text))
    }

    pub(super) fn cron(&mut self, text: &str) -> Result<(), String> {
        // In which time zone does not matter for what may be wrong.
        let checked = CronTimes::new(text, "UTC", SystemTime::now()).map_err(reason);
        put(&mut self.cron, checked.map(|_| text.to_owned()))
    }

    pub(super) fn timezone(&mut self, text: &str) -> Result<(), String> {
        let checked = CronTimes::new("@daily", text, SystemTime::now()).map_err(reason);
        put(&mut self.timezone, checked.map(|_| text.to_owned()))
    }

    pub(super) fn path(&mut self, text: &str) -> Result<(), String> {
        const EXPECTED: &str = "must be a path, with a query or without, as in `/cleanup?all=1`";
        let parsed =
            PathAndQuery::try_from(text).ok().filter(|parsed| text.starts_with('/') && parsed.as_str() == text);
        let path = parsed.ok_or_else(|| EXPECTED.to_owned())?;
        if path.path().contains(['%', '#']) || path.path().split('/').any(|part| part == ".." || part == ".") {
            return Err(format!("{EXPECTED}, and have no `.` and `..` as parts, and no `%`"));
        }
        put(&mut self.path, Ok(text.to_owned()))
    }

    pub(super) fn overlap(&mut self, text: &str) -> Result<(), String> {
        put(&mut self.overlap, choice(text, Overlap::NAMES))
    }

    pub(super) fn catch_up(&mut self, text: &str) -> Result<(), String> {
        put(&mut self.catch_up, choice(text, CatchUp::NAMES))
    }

    pub(super) fn jitter(&mut self, text: &str) -> Result<(), String> {
        const LONGEST: Duration = Duration::from_secs(24 * 3_600);
        let jitter = parse::duration(text)?;
        put(&mut self.jitter, if jitter <= LONGEST { Ok(jitter) } else { Err("must be a day at most".to_owned()) })
    }

    /// The whole; `number` stands for the name where there is none.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn finish(self, number: usize) -> Result<ScheduleSettings, String> {
        let Self { name, cron, timezone, path, overlap, catch_up, jitter } = self;
        if cron.is_empty() {
            return Err("this schedule is never due: write `cron = \"*/5 * * * *\"`".to_owned());
        }
        let or = |text: String, other: &str| if text.is_empty() { other.to_owned() } else { text };
        Ok(ScheduleSettings {
            name: or(name, &format!("schedule-{number}")),
            cron,
            timezone: or(timezone, "UTC"),
            path: or(path, SCHEDULE_PATH),
            overlap,
            catch_up,
            jitter,
        })
    }
}

fn reason(mistake: CronMistake) -> String {
    match mistake {
        CronMistake::Pattern(reason) | CronMistake::Zone(reason) => reason,
    }
}

/// When a schedule is due next, for people.
pub(super) fn next_times(schedule: &ScheduleSettings, count: usize, now: SystemTime) -> String {
    let Some(times) = schedule.times(now) else { return String::new() };
    let shown: Vec<String> = times.next_some(now, count).into_iter().map(|time| times.shown(time)).collect();
    shown.join(", ")
}

pub(super) fn jitter(schedule: &ScheduleSettings) -> Shown {
    shown::time(schedule.jitter)
}
