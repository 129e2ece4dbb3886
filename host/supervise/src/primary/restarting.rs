//! Replaces workers while the others serve.

use std::time::Instant;

use wasmhost_serve::worker::{Stage, WorkerId};

use super::error::PrimaryError;
use super::restarts::{LateStep, RestartReply};
use super::state::Primary;
use crate::backend::{Backend, Worker};

impl<B: Backend> Primary<B> {
    /// Has a worker replaced, or all, one after another.
    pub(super) fn restart(&mut self, worker: Option<u16>, reply: RestartReply) {
        let all = || self.wanted().map(|place| place.id);
        let workers: Vec<WorkerId> = match worker {
            Some(number) => all().filter(|id| id.0 == number).collect(),
            None => all().collect(),
        };
        if workers.is_empty() {
            let numbers = all().map(|id| id.0.to_string()).collect::<Vec<_>>().join(", ");
            // Who asked may have left.
            let _ = reply.send(Err(format!("there is no such worker: they have the numbers {numbers}")));
            return;
        }
        self.restarts.ask(workers, reply);
        self.next_restart();
    }

    /// Whether a worker is to end and to be started again.
    pub(super) fn leaves(&self, worker: WorkerId) -> bool {
        self.place_of(worker).is_some_and(|place| place.leaves)
    }

    /// A worker that was to be replaced has ended.
    pub(super) fn start_anew(&mut self, worker: WorkerId) -> Result<(), PrimaryError> {
        self.places[usize::from(worker.0) - 1].leaves = false;
        // If it cannot be started, it is tried again within the same budget as others.
        self.respawn_at(Instant::now(), worker);
        self.respawn_due()
    }

    /// A worker listens, or has left for good: the next one has its turn.
    pub(super) fn restarted(&mut self, worker: WorkerId) {
        self.restarts.is_ready(worker);
        self.next_restart();
    }

    /// The worker that is being replaced has had its time.
    pub(super) fn end_leaving(&mut self) {
        let Some((worker, step)) = self.restarts.is_late(Instant::now()) else { return };
        let leaving = self.place_of(worker).filter(|place| place.leaves).and_then(|place| place.handle.as_ref());
        match (step, leaving) {
            (LateStep::Stop, Some(handle)) => {
                tracing::warn!(
                    worker = worker.0,
                    limit = "--drain-timeout",
                    "--drain-timeout is over: requests of this worker, which is to end, that are still in flight are broken off"
                );
                handle.stage(Stage::Stop);
            }
            (LateStep::Kill, Some(handle)) => {
                handle.end_hung();
                self.places[usize::from(worker.0) - 1].is_put_down = true;
            }
            (LateStep::Stop | LateStep::Kill, None) => {}
            (LateStep::GiveUp, _) => {
                tracing::error!(worker = worker.0, "the worker is not ready in time, and is not waited for any longer");
                self.next_restart();
            }
        }
    }

    pub(super) fn next_restart(&mut self) {
        if let Some(worker) = self.restarts.next(Instant::now() + self.config.drain_timeout) {
            let place = &mut self.places[usize::from(worker.0) - 1];
            let Some(handle) = place.handle.as_ref().filter(|_| place.running) else {
                // It has ended by itself, and is started again: when it listens, that is another one.
                return;
            };
            tracing::info!(
                worker = worker.0,
                "restart: it takes no more connections, and is replaced when it has ended"
            );
            handle.stage(Stage::Leave);
            place.leaves = true;
        }
    }
}
