//! What the primary knows of schedules, and how runs that are under way tell of their ends.

use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use wasmhost_config::AppId;
use wasmhost_serve::worker::{RunEnd, ScheduledRequest};

use super::schedule_file::ScheduleFile;
use crate::schedules::{LastRun, Moment, RUNS_MAX, ScheduleRow, Schedules};
use crate::upgrade::LeftSchedules;

/// The schedules of the host, and how the runs that are under way tell of their ends.
pub(super) struct Scheduling {
    pub(super) schedules: Schedules,
    pub(super) file: Option<ScheduleFile>,
    /// What the host that this one takes over from has not dealt with, until this one begins with schedules.
    pub(super) left: Option<LeftSchedules>,
    pub(super) ended: mpsc::Sender<EndedRun>,
    /// Who waits for the end of runs that were asked for by hand.
    pub(super) asked: Vec<(ScheduledRequest, AskedRun)>,
}

/// Hears how a run ended, or why it was not begun.
pub(super) type AskedRun = oneshot::Sender<Result<LastRun, String>>;

/// A run that has ended.
#[derive(Debug)]
pub(super) struct EndedRun {
    pub(super) request: ScheduledRequest,
    pub(super) end: RunEnd,
    pub(super) took: Duration,
}

impl Scheduling {
    /// No schedules yet, and where ends of runs are heard of.
    pub(super) fn new(file: Option<ScheduleFile>) -> (Self, mpsc::Receiver<EndedRun>) {
        let (ended, heard) = mpsc::channel(RUNS_MAX);
        (Self { schedules: Schedules::default(), file, left: None, ended, asked: Vec::new() }, heard)
    }

    /// When [`Primary::run_schedules`] is to look whether something is due.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.schedules.look_at(Moment::now())
    }

    /// The schedules of an app, as they are shown.
    pub(super) fn rows(&self, app: AppId) -> Vec<ScheduleRow> {
        self.schedules.rows(app)
    }
}
