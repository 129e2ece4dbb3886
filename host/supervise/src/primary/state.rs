//! The state of the primary: its workers, what it serves with, and what it tells all workers. `dispatch`, `life`, `heart`,
//! `serving` and `reading` act on it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::uri::Authority;
use tokio::sync::{Notify, mpsc};

use wasmhost_config::{AppId, Config};
use wasmhost_confine::spawner::Spawner;
use wasmhost_serve::worker::inbox::Admission;
use wasmhost_serve::worker::{Stage, WorkerEvent};

use super::bootstrap::BoundFiles;
use super::data::HostData;
use super::division::{Division, FRONT};
use super::error::{PrimaryError, system};
use super::file_watching::WatchedFiles;
use super::host_listeners::HostListeners;
use super::place::Place;
use super::profiles::Profiles;
use super::reload::Reload;
use super::restarts::Restarts;
use super::scheduling::Scheduling;
use super::swaps::Swaps;
use super::unpublished::Unpublished;
use super::upgrades::Upgrades;
use crate::apps::watch::Watches;
use crate::apps::{Apps, Tell};
use crate::backend::{Backend, Start, Worker};
use crate::crashes::Crashes;
use crate::events::HostEvent;
use crate::host_status::HostStatus;
use crate::kept::KeptForApps;
use crate::service_manager::ServiceManager;
use crate::traces::Traces;

/// The state of the main thread.
pub(super) struct Primary<B: Backend> {
    pub(super) config: Arc<Config>,
    pub(super) backend: B,
    pub(super) apps: Apps<B>,
    /// By number; see [`FRONT`](super::division::FRONT).
    pub(super) divisions: Vec<Division<B>>,
    /// The app that workers have from their beginning: the only one, where the command line names it.
    pub(super) only: Option<AppId>,
    /// Changes of apps of which workers are not told yet.
    pub(super) unpublished: Unpublished<Tell<B::Guest>>,
    pub(super) reload: Reload,
    pub(super) scheduling: Scheduling,
    pub(super) listeners: HostListeners<B::Listeners>,
    pub(super) host_status: Arc<HostStatus>,
    /// What clients' connections take from.
    pub(super) admission: Arc<Admission>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) files: BoundFiles,
    pub(super) places: Vec<Place<B>>,
    pub(super) events: mpsc::Sender<WorkerEvent>,
    pub(super) authority: Authority,
    /// Which workers are to be started again, and when.
    pub(super) respawns: BTreeMap<Instant, usize>,
    pub(super) stage: Stage,
    /// Tells who keeps the process that gets certificates that it is to follow other settings.
    pub(super) acme_changed: Rc<Notify>,
    /// Stores and databases.
    pub(super) kept: KeptForApps,
    /// Workers of groups have been told to drain.
    pub(super) groups_drain: bool,
    pub(super) service_manager: ServiceManager,
    pub(super) upgrades: Upgrades,
    /// What only one host may have.
    pub(super) data: HostData,
    pub(super) restarts: Restarts,
    /// When it is looked which workers have reached a limit.
    pub(super) retires_at: Instant,
    /// New revisions of apps that are watched.
    pub(super) watches: Watches,
    /// Workers that are given new revisions one after another.
    pub(super) swaps: Swaps<Tell<B::Guest>>,
    /// The files that `--watch` looks at.
    pub(super) watched_files: WatchedFiles,
    /// Where bundles about faults are left.
    pub(super) crashes: Option<Crashes>,
    /// The profile that is under way.
    pub(super) profiles: Profiles,
    /// Where spans of requests go.
    pub(super) traces: Option<Traces>,
}

impl<B: Backend> Primary<B> {
    /// Starts the worker at `index`.
    pub(super) fn start(&mut self, index: usize) -> Result<(), PrimaryError> {
        let beginning = self.beginning(&self.places[index]);
        let place = &mut self.places[index];
        let division = &self.divisions[place.division];
        place.beginning = Some(beginning);
        (place.leaves, place.is_put_down) = (false, false);
        place.heart.take();
        place.liveness.take();
        let cloned = place.listeners.iter().map(|(id, listener)| Ok((*id, listener.try_clone()?)));
        let own_listeners: std::io::Result<Vec<_>> = cloned.collect();
        let own_listeners = own_listeners.map_err(system("start a worker"))?;
        let is_front = place.division == FRONT;
        let first = self.only.filter(|_| is_front).and_then(|app| self.apps.first(place.id, app, &self.backend));
        let start = Start {
            id: place.id,
            group: division.group.as_ref(),
            scoreboard: place.scoreboard,
            scoreboard_file: &place.scoreboard_file,
            events: &self.events,
            authority: &self.authority,
            admission: &division.admission,
            listeners: if is_front { &self.listeners.told } else { &self.listeners.none },
            own_listeners,
            stage: self.stage,
            table: &division.table,
            first,
            spans: self.traces.as_ref().map(Traces::queue),
        };
        place.handle = Some(self.backend.start(start).map_err(system("start a worker"))?);
        place.running = true;
        let id = place.id;
        self.profile_started(id);
        self.note(&HostEvent::Fork(self.of_worker(id)));
        Ok(())
    }

    /// The places where a worker is or shall be.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &Place<B>> {
        self.places.iter().filter(|place| place.is_wanted)
    }

    /// Tells these workers, and all that are yet to start, whether to go on.
    pub(super) fn go_on(&mut self, stage: Stage, is_told: impl Fn(&Place<B>) -> bool) {
        self.stage = stage;
        for place in self.places.iter().filter(|place| is_told(place)) {
            if let Some(handle) = &place.handle {
                handle.stage(stage);
            }
        }
    }
}
