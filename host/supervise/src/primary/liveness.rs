//! Asks worker processes whether they still respond, and kills those that do not for too long: a worker that was stopped,
//! or whose event loop hangs, keeps its connections waiting without a word. (A thread cannot be killed.)

use std::sync::atomic::Ordering::Relaxed;

use wasmhost_config::Balance;

use super::place::Place;
use super::state::Primary;
use crate::backend::{Backend, Worker};
use crate::supervisor::Liveness;

/// A process that does not listen (it is starting, or it drains) may be silent for so many times the limit: it links the
/// component before it hears anything.
const STARTING_HANG_TIMES: u32 = 3;

fn is_starting<B: Backend>(place: &Place<B>) -> bool {
    place.running && !place.scoreboard.metrics.listening.get()
}

impl<B: Backend> Primary<B> {
    /// Whether it matters that a worker hangs: while no client is connected and no schedule runs, nobody is woken to ask. One that
    /// gave no answer is asked until it does, or is ended: without, it gets no connection.
    pub(super) fn wants_beats(&self) -> bool {
        // What a worker with a listener of its own is given is not known here.
        let may_have_clients = |place: &Place<B>| {
            self.config.balance == Balance::Kernel || place.scoreboard.metrics.open_connections.load(Relaxed) > 0
        };
        let has_answered = |place: &Place<B>| place.liveness.get() == Liveness::Answers;
        let is_wanted = |place: &Place<B>| may_have_clients(place) || is_starting(place) || !has_answered(place);
        B::CAN_BE_KILLED && (self.scheduling.schedules.is_running() || self.places.iter().any(is_wanted))
    }

    /// Asks every worker, and acts on what the answers to the last time say.
    pub(super) fn beat(&self) {
        for place in &self.places {
            let Some(process) = &place.handle else { continue };
            let is_starting = is_starting(place);
            let limit = self.config.worker_hang_timeout;
            let limit = if is_starting { limit.map(|limit| limit * STARTING_HANG_TIMES) } else { limit };
            let mut heart = place.heart.get();
            let mut liveness = heart.on_beat(process.ask(), limit);
            place.heart.set(heart);
            if is_starting && liveness == Liveness::Silent {
                // It gets no connections yet.
                liveness = Liveness::Answers;
            }
            let before = place.liveness.replace(liveness);
            let worker = place.id.0;
            match liveness {
                Liveness::Answers if before != liveness => tracing::info!(worker, "the worker responds again"),
                Liveness::Silent if before != liveness => {
                    tracing::warn!(worker, "the worker does not respond; it gets no new connections until it does");
                }
                Liveness::Hung if before != liveness => {
                    tracing::error!(
                        worker,
                        limit = "--worker-hang-timeout",
                        "the worker did not respond for too long and is killed; raise --worker-hang-timeout to wait longer"
                    );
                    process.end_hung();
                }
                Liveness::Answers | Liveness::Silent | Liveness::Hung => {}
            }
        }
    }
}
