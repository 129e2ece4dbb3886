//! The state of the primary: its workers, what it serves with, and what it tells all workers. `dispatch`, `life`,
//! `heart` and `reload` act on it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use http::uri::Authority;
use tokio::sync::mpsc;

use wasmhost_config::Config;
use wasmhost_confine::spawner::Spawner;
use wasmhost_serve::worker::inbox::Permits;
use wasmhost_serve::worker::{Stage, WorkerEvent};

use super::error::{PrimaryError, system};
use super::ground::BoundFiles;
use super::kind::{Kind, Start};
use super::place::Place;
use crate::balancer::Balancer;
use crate::board::Board;
use crate::loader::Edition;
use crate::supervisor::Supervisor;

/// The state of the main thread.
pub(super) struct Primary {
    pub(super) config: Arc<Config>,
    pub(super) edition: Edition,
    pub(super) kind: Kind,
    pub(super) board: Arc<Board>,
    pub(super) permits: Arc<Permits>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) files: BoundFiles,
    pub(super) places: Vec<Place>,
    pub(super) supervisor: Supervisor,
    pub(super) balancer: Balancer,
    pub(super) events: mpsc::Sender<WorkerEvent>,
    pub(super) authority: Authority,
    /// Which workers are to be started again, and when.
    pub(super) respawns: BTreeMap<Instant, usize>,
    pub(super) stage: Stage,
}

impl Primary {
    /// Starts the worker at `index`.
    pub(super) fn start(&mut self, index: usize) -> Result<(), PrimaryError> {
        let start = Start {
            config: &self.config,
            edition: &self.edition,
            stage: self.stage,
            events: &self.events,
            authority: &self.authority,
            permits: &self.permits,
        };
        let place = &mut self.places[index];
        place.heart.take();
        place.liveness.take();
        place.handle = Some(self.kind.start(place, &start).map_err(system("start a worker"))?);
        place.running = true;
        Ok(())
    }

    /// Tells every worker to serve with `edition` from now on.
    pub(super) fn serve_with(&mut self, edition: Edition) {
        self.edition = edition;
        self.board.vitals.has_answered.set(false);
        self.order(self.stage);
    }

    /// Tells every worker, and those that are yet to start.
    pub(super) fn order(&mut self, stage: Stage) {
        self.stage = stage;
        for handle in self.places.iter().filter_map(|place| place.handle.as_ref()) {
            handle.order(&self.edition.code, stage);
        }
    }
}
