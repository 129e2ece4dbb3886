//! What the primary does at its time.

use std::time::Instant;

use super::state::Primary;
use crate::backend::Backend;

/// What has its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DueTask {
    Apps,
    HeldForwards,
    EndOfDrain,
    Respawn,
    Beat,
    LookAtTls,
    Schedules,
    ServiceManager,
    Retire,
    Restart,
    Revisions,
    Profile,
}

/// When each is due that is.
pub(super) type DueTimes = [(DueTask, Option<Instant>); 12];

impl<B: Backend> Primary<B> {
    /// When each is due. `announced`: the host serves.
    pub(super) fn due_times(&self, announced: bool, end_of_drain: Option<Instant>, beat: Option<Instant>) -> DueTimes {
        [
            (DueTask::Apps, self.apps_due_at()),
            (DueTask::HeldForwards, self.held_due_at()),
            (DueTask::EndOfDrain, end_of_drain),
            (DueTask::Respawn, self.respawns.keys().next().copied()),
            (DueTask::Beat, beat),
            (DueTask::LookAtTls, self.listeners.look_at().filter(|_| end_of_drain.is_none())),
            (
                DueTask::Schedules,
                self.scheduling.look_at().filter(|_| end_of_drain.is_none() && !self.upgrades.rests()),
            ),
            (DueTask::ServiceManager, self.service_manager.due_at()),
            (DueTask::Retire, self.retire_at().filter(|_| announced && end_of_drain.is_none())),
            (DueTask::Restart, self.restarts.due_at().filter(|_| end_of_drain.is_none())),
            (DueTask::Profile, self.profiles.look_at()),
            (DueTask::Revisions, self.watches.due_at().filter(|_| end_of_drain.is_none())),
        ]
    }
}
