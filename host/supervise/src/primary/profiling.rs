//! Has workers take samples of their guests' stacks, for whoever asks for a profile.

use std::time::Instant;

use wasmhost_config::nearest;
use wasmhost_serve::worker::WorkerId;

use super::profiles::ProfileStep;
use super::state::Primary;
use crate::backend::{Backend, Worker};
use crate::profile::{AppRevisions, ProfileReply, ProfileWish};

impl<B: Backend> Primary<B> {
    /// For somebody who waits for the outcome: begins a profile.
    pub(super) fn profile(&mut self, wish: ProfileWish, reply: ProfileReply) {
        let numbers = |places: &[WorkerId]| places.iter().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ");
        let all: Vec<WorkerId> = self.wanted().map(|place| place.id).collect();
        let takes_part = |id: &WorkerId| wish.worker.is_none_or(|only| only == id.0);
        let refusal = if let Some(refusal) = wish.app.as_deref().and_then(|app| self.unknown_app(app)) {
            Some(refusal)
        } else if all.iter().any(takes_part) {
            None
        } else {
            Some(format!("there is no such worker: they have the numbers {}", numbers(&all)))
        };
        // (Who asked may have left.)
        if let Some(refusal) = refusal {
            drop(reply.send(Err(refusal)));
            return;
        }
        let running = self.places.iter().filter(|place| place.running).map(|place| place.id);
        let workers = running.filter(takes_part).collect();
        let revisions = self.served_revisions();
        match self.profiles.begin(wish, workers, revisions, Instant::now(), reply) {
            Ok(steps) => steps.into_iter().for_each(|step| self.tell_profile(step)),
            Err((reason, reply)) => drop(reply.send(Err(reason))),
        }
    }

    /// Why there is no profile of an app of this name; none: there is such an app.
    fn unknown_app(&self, name: &str) -> Option<String> {
        let names = || self.apps.book.iter().map(|(_, record)| record.app().name.as_str());
        if names().any(|known| known == name) {
            return None;
        }
        let meant = nearest(name, names()).map(|near| format!(", is `{near}` meant?"));
        Some(format!("there is no app `{name}`{}", meant.unwrap_or_default()))
    }

    fn served_revisions(&self) -> AppRevisions {
        let served = self.apps.book.iter().filter_map(|(_, record)| {
            let revision = record.revision()?.number;
            Some((record.app().name.clone(), [revision].into()))
        });
        served.collect()
    }

    /// A profile is due to end, or it is looked whether who asked is still there.
    pub(super) fn look_at_profile(&mut self) {
        if let Some(step) = self.profiles.look(Instant::now()) {
            self.profiles.note_revisions(self.served_revisions());
            self.tell_profile(step);
        }
    }

    /// A worker was started: it takes part.
    pub(super) fn profile_started(&mut self, worker: WorkerId) {
        if let Some(step) = self.profiles.started(worker) {
            self.tell_profile(step);
        }
    }

    fn tell_profile(&self, ProfileStep { workers, order }: ProfileStep) {
        for worker in workers {
            if let Some(handle) = self.place_of(worker).and_then(|place| place.handle.as_ref()) {
                handle.profile(order.clone());
            }
        }
    }
}
