//! The life of the workers: handles their events, and carries out what the supervisor decides.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use wasmhost_base::log::DETAILS;
use wasmhost_config::AppId;
use wasmhost_serve::metrics::WorkerMetrics;
use wasmhost_serve::worker::{Applied, Exit, InstanceFault, SentReport, Stage, WorkerEvent};

use super::dispatch::HeldConnection;
use super::division::FRONT;
use super::error::PrimaryError;
use super::state::Primary;
use crate::backend::Backend;
use crate::crashes::CrashFacts;
use crate::events::{HostEvent, OfWorker, shortened};
use crate::supervisor::{Action, Event, Supervisor};
use wasmhost_serve::worker::WorkerId;

/// How long the host waits at its end for workers that are told to stop at once. They tell the log which requests they
/// break off, which takes them some milliseconds; one that hangs is not waited for any longer.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long a worker of a group rests whose group has lost more workers than a host may; see
/// [`crate::supervisor::RestartIntensity`].
const GROUP_RESTS: Duration = Duration::from_secs(15);

impl<B: Backend> Primary<B> {
    pub(super) fn on_event(&mut self, event: WorkerEvent, draining: bool) -> Result<(), PrimaryError> {
        match event {
            WorkerEvent::Online(worker, thread) => {
                let generation = self.metrics(worker).respawns.fetch_add(1, Relaxed) + 1;
                let group = self.group_of(worker);
                if generation == 1 {
                    tracing::info!(target: DETAILS, worker = worker.0, group, thread, generation, "online");
                } else {
                    tracing::info!(worker = worker.0, group, thread, generation, "online");
                }
                self.note(&HostEvent::Online { worker: self.of_worker(worker), thread, generation });
            }
            WorkerEvent::Listening(worker) => {
                if self.metrics(worker).respawns.load(Relaxed) <= 1 {
                    tracing::info!(target: DETAILS, worker = worker.0, "worker listening");
                } else {
                    tracing::info!(worker = worker.0, "worker listening");
                }
                self.note(&HostEvent::Listening(self.of_worker(worker)));
                self.places[usize::from(worker.0) - 1].has_begun = true;
                // (Else it is the one that is to go, which has just begun.)
                if !self.leaves(worker) {
                    self.restarted(worker);
                }
                self.supervisor_of(worker).on_event(Instant::now(), Event::Listening(worker), fastrand::f64());
            }
            WorkerEvent::Disconnect(worker) => {
                tracing::info!(worker = worker.0, "disconnect");
                self.note(&HostEvent::Disconnect(self.of_worker(worker)));
            }
            WorkerEvent::Fault(worker, app, fault, report) => self.on_fault(worker, app, fault, report),
            WorkerEvent::Exited(worker, exit) => self.on_exit(worker, exit, draining)?,
            WorkerEvent::Profiled(worker, number, counted) => self.profiles.handed_over(worker, number, counted),
            WorkerEvent::Wants(worker, app) => self.on_wanted(worker, app),
            WorkerEvent::Vanished(worker, app) => self.on_vanished(worker, app),
            WorkerEvent::Behind(worker, app) => self.on_behind(worker, app),
            WorkerEvent::Forward(worker, group, socket) => self.forward(worker, &group, socket),
            WorkerEvent::Asleep(worker, app) => self.on_asleep(worker, app),
            WorkerEvent::LacksMemory(worker, app) => self.on_lack_of_memory(worker, app),
            WorkerEvent::FellBack(worker, app, revision) => self.on_fell_back(worker, app, revision),
            WorkerEvent::Applied(worker, Applied::Supply(app)) => self.on_applied(worker, app),
            // The permits were given back at the top of the loop.
            WorkerEvent::Freed | WorkerEvent::Applied(_, Applied::Table) => {}
        }
        Ok(())
    }

    /// An instance was given up.
    fn on_fault(&mut self, worker: WorkerId, app: AppId, fault: InstanceFault, report: Option<SentReport>) {
        if !self.serves(worker, app) {
            return;
        }
        let InstanceFault { kind, detail, trace, request, revision } = fault;
        // (A worker process may have been broken into.)
        let (fault, detail) = (shortened(kind), shortened(detail));
        let record = self.apps.book.get(app);
        let facts = record.map(|record| CrashFacts {
            app: Arc::clone(record.settings_of(revision)),
            revision,
            worker: worker.0,
            request,
            kind: fault.clone(),
            detail: detail.clone(),
        });
        let app = record.map(|record| record.app().name.clone()).unwrap_or_default();
        let bundle = match (&mut self.crashes, facts, report) {
            (Some(crashes), Some(facts), Some(report)) => crashes.leave(facts, report),
            (None, ..) | (_, None, _) | (.., None) => None,
        };
        let request = Some(request).filter(|request| *request > 0);
        self.note(&HostEvent::Fault { worker: self.of_worker(worker), app, request, fault, detail, bundle, trace });
    }

    /// Has all workers that still run end at once, and waits for them to tell the log what they break off: within
    /// [`LAST_WORDS`], since the host is to end.
    pub(super) async fn stop_workers(&mut self, heard: &mut mpsc::Receiver<WorkerEvent>) {
        self.go_on(Stage::Stop, |_| true);
        let deadline = Instant::now() + LAST_WORDS;
        while self.places.iter().any(|place| place.running) {
            let Ok(Some(event)) = tokio::time::timeout_at(deadline.into(), heard.recv()).await else { return };
            if let WorkerEvent::Exited(worker, exit) = event {
                self.note_exit(worker, &exit);
            }
        }
    }

    /// The spawner is gone. Workers that are threads go on without; they cannot be given another component.
    pub(super) fn on_spawner_lost(&self, lost: std::io::Result<()>, draining: bool) -> Result<(), PrimaryError> {
        match lost {
            _ if draining => {}
            Err(error) => tracing::error!(%error, "the spawner cannot be watched"),
            Ok(()) if B::ENDS_WITH_SPAWNER => return Err(PrimaryError::SpawnerLost),
            Ok(()) => tracing::error!(
                "the spawner has ended; the host goes on serving, but cannot load a component (SIGHUP) until it is started again"
            ),
        }
        Ok(())
    }

    /// Has whoever follows events hear of one.
    pub(super) fn note(&self, event: &HostEvent) {
        self.host_status.events.note(event);
    }

    pub(super) fn of_worker(&self, worker: WorkerId) -> OfWorker {
        OfWorker { worker: worker.0, group: self.group_of(worker).map(str::to_owned) }
    }

    fn metrics(&self, worker: WorkerId) -> &'static WorkerMetrics {
        &self.places[usize::from(worker.0) - 1].scoreboard.metrics
    }

    fn group_of(&self, worker: WorkerId) -> Option<&str> {
        self.place_of(worker)?.group.as_deref()
    }

    pub(super) fn supervisor_of(&mut self, worker: WorkerId) -> &mut Supervisor {
        let division = self.place_of(worker).map_or(FRONT, |place| place.division);
        &mut self.divisions[division].supervisor
    }

    /// Takes note of a worker's end. True when it was told to end, or was ended because it took too long over that.
    fn note_exit(&mut self, worker: WorkerId, exit: &Exit) -> bool {
        let index = usize::from(worker.0) - 1;
        let place = &mut self.places[index];
        place.handle = None;
        place.running = false;
        place.has_begun = true;
        self.profiles.ended(worker);
        let touched = self.host_status.touched();
        self.backend.clear(place.scoreboard, &mut touched.into_iter());
        let metrics = &place.scoreboard.metrics;
        let voluntary = *exit == Exit::Voluntary || place.is_put_down;
        let (thread, generation) = (metrics.thread.load(Relaxed), metrics.respawns.load(Relaxed));
        let cause = exit.to_string();
        let of_worker = OfWorker { worker: worker.0, group: place.group.as_deref().map(str::to_owned) };
        let shown = shortened(cause.clone());
        self.host_status.events.note(&HostEvent::Exit { worker: of_worker, generation, cause: shown, voluntary });
        let group = place.group.as_deref();
        if voluntary {
            tracing::info!(worker = worker.0, group, thread, generation, cause, voluntary, "exit");
        } else {
            tracing::error!(worker = worker.0, group, thread, generation, cause, voluntary, "exit");
        }
        for app in self.apps.book.gone(worker) {
            self.show(app);
        }
        voluntary
    }

    fn on_exit(&mut self, worker: WorkerId, exit: Exit, draining: bool) -> Result<(), PrimaryError> {
        let exit = match exit {
            Exit::Voluntary if self.stage == Stage::Serve && !self.leaves(worker) => {
                Exit::Killed("it ended without having been told to".into())
            }
            Exit::Killed(_) if self.place_of(worker).is_some_and(|place| place.is_put_down) => {
                Exit::Killed("it did not end within --drain-timeout, and was killed".to_owned())
            }
            exit => exit,
        };
        let voluntary = self.note_exit(worker, &exit);
        if draining {
            return Ok(());
        }
        if self.leaves_for_good(worker) {
            self.has_left(worker);
            return Ok(());
        }
        if voluntary && self.leaves(worker) {
            return self.start_anew(worker);
        }
        let event = Event::Exited { worker, voluntary };
        match self.supervisor_of(worker).on_event(Instant::now(), event, fastrand::f64()) {
            Action::None => {}
            Action::RespawnAfter(delay) => self.respawn_after(worker, delay),
            // The others go on. The requests of its apps get 503 meanwhile.
            Action::GiveUp if self.group_of(worker).is_some() => {
                let group = self.group_of(worker);
                tracing::error!(worker = worker.0, group, "workers of the group end again and again; this one rests");
                self.respawn_after(worker, GROUP_RESTS);
            }
            Action::GiveUp => {
                let intensity = self.supervisor_of(worker).intensity();
                return Err(PrimaryError::WorkerLost { worker, reason: exit, intensity });
            }
        }
        Ok(())
    }

    fn respawn_after(&mut self, worker: WorkerId, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(worker = worker.0, group = self.group_of(worker), delay_ms, "respawn");
        self.note(&HostEvent::Respawn { worker: self.of_worker(worker), delay_ms });
        self.respawn_at(Instant::now() + delay, worker);
    }

    /// Has a worker started at this time.
    pub(super) fn respawn_at(&mut self, mut due: Instant, worker: WorkerId) {
        while self.respawns.contains_key(&due) {
            due += Duration::from_nanos(1);
        }
        self.respawns.insert(due, usize::from(worker.0) - 1);
    }

    /// Accepting, or giving a connection to a worker, panicked: that connection is lost, and the next is as good as any.
    pub(super) fn on_panic(&mut self, panic: String) -> Result<Option<HeldConnection>, PrimaryError> {
        let supervisor = &mut self.divisions[FRONT].supervisor;
        match supervisor.on_event(Instant::now(), Event::PrimaryPanicked, 0.0) {
            Action::GiveUp => Err(PrimaryError::Panicked { panic, intensity: supervisor.intensity() }),
            Action::None | Action::RespawnAfter(_) => Ok(None),
        }
    }

    pub(super) fn respawn_due(&mut self) -> Result<(), PrimaryError> {
        let now = Instant::now();
        while let Some(entry) = self.respawns.first_entry() {
            if *entry.key() > now {
                break;
            }
            let index = entry.remove();
            if let Err(error) = self.start(index) {
                // As one that died at its start: tried again, within the same budget.
                self.on_exit(self.places[index].id, Exit::NotStarted(error.to_string()), false)?;
            }
        }
        Ok(())
    }
}
