//! The differences between worker threads and worker processes: where their counters lie, how the component is loaded, and
//! how a worker is started. Everything else in the primary is the same for both.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use http::uri::Authority;
use tokio::sync::mpsc;

use wasmhost_config::{Config, WorkerKind};
use wasmhost_confine::Report;
use wasmhost_confine::spawner::{Launcher, Spawner};
use wasmhost_sandbox::{MemoryBudget, Ticker};
use wasmhost_serve::vitals::{self, HostVitals, Vitals};
use wasmhost_serve::worker::inbox::Permits;
use wasmhost_serve::worker::{Orders, Stage, ThreadHandle, WorkerEvent, WorkerSetup};

use super::ground::connections_by_descriptors;
use super::place::Place;
use crate::handle::WorkerHandle;
use crate::loader::{Code, Edition, Loading, Trial, load_in_thread};
use crate::process::{ProcessHandle, ProcessSetup, Share, load_in_process};

/// The kind of the workers, with what it needs.
pub(super) enum Kind {
    Thread {
        trial: Arc<Trial>,
        host: &'static HostVitals,
        spawner: Arc<Spawner>,
    },
    Process {
        host: &'static HostVitals,
        host_file: Arc<OwnedFd>,
        spawner: Arc<Spawner>,
        /// What the loading process shows of itself, and its file.
        loader: (&'static Vitals, OwnedFd),
        /// Connections that a worker's descriptors allow.
        connections_max: usize,
        /// What of its confinement the primary lacks.
        missing: Vec<String>,
    },
}

/// What a worker of either kind gets at its start.
pub(super) struct Start<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) edition: &'a Edition,
    pub(super) stage: Stage,
    pub(super) events: &'a mpsc::Sender<WorkerEvent>,
    pub(super) authority: &'a Authority,
    pub(super) permits: &'a Arc<Permits>,
}

impl Kind {
    /// Makes ready for workers of the kind that was asked for.
    pub(super) fn new(config: &Config, spawner: &Arc<Spawner>, confinement: &Report) -> io::Result<Self> {
        let spawner = Arc::clone(spawner);
        match config.worker_kind {
            WorkerKind::Thread => {
                let host: &HostVitals = vitals::own();
                let own: &Vitals = vitals::own();
                let trial =
                    Trial { ticker: Ticker::start()?, budget: Arc::new(budget(config, host, own)), pulse: &own.pulse };
                Ok(Self::Thread { trial: Arc::new(trial), host, spawner })
            }
            WorkerKind::Process => {
                let (host, host_file) = vitals::shared()?;
                let (_, connections_max) = connections_by_descriptors(config);
                let (host_file, loader) = (Arc::new(host_file), vitals::shared()?);
                let missing = confinement.missing.clone();
                Ok(Self::Process { host, host_file, spawner, loader, connections_max, missing })
            }
        }
    }

    /// What all workers share.
    pub(super) fn host(&self) -> &'static HostVitals {
        match self {
            Self::Thread { host, .. } | Self::Process { host, .. } => host,
        }
    }

    /// Where a new worker shows itself, and the file of it where that is a process.
    pub(super) fn vitals(&self) -> io::Result<(&'static Vitals, Option<Arc<OwnedFd>>)> {
        match self {
            Self::Thread { .. } => Ok((vitals::own(), None)),
            Self::Process { .. } => vitals::shared().map(|(vitals, file)| (vitals, Some(Arc::new(file)))),
        }
    }

    /// Begins to load the component.
    pub(super) fn load(&self, config: &Arc<Config>) -> io::Result<Loading> {
        match self {
            Self::Thread { trial, spawner, .. } => {
                load_in_thread(config, trial, Launcher::Spawner(Arc::clone(spawner)))
            }
            Self::Process { host, host_file, spawner, loader: (vitals, file), missing, .. } => {
                load_in_process(config, spawner, (host, host_file), (vitals, file), missing.clone())
            }
        }
    }

    /// Starts the worker of `place`.
    pub(super) fn start(&self, place: &Place, start: &Start<'_>) -> io::Result<WorkerHandle> {
        let listener = place.listener.as_ref().map(std::net::TcpListener::try_clone).transpose()?;
        match (self, &start.edition.code, &place.vitals_file) {
            (Self::Thread { trial, host, .. }, Code::Linked(guest), _) => {
                let setup = WorkerSetup {
                    id: place.id,
                    config: Arc::clone(start.config),
                    vitals: place.vitals,
                    host,
                    ticker: Arc::clone(&trial.ticker),
                    budget: Arc::new(budget(start.config, host, place.vitals)),
                    authority: start.authority.clone(),
                    listener: listener.map(|listener| (listener, Arc::clone(start.permits))),
                };
                let orders = Orders { guest: Arc::clone(guest), stage: start.stage };
                ThreadHandle::start(setup, start.events.clone(), orders).map(WorkerHandle::Thread)
            }
            (
                Self::Process { host_file, spawner, connections_max, missing, .. },
                Code::File(code),
                Some(vitals_file),
            ) => {
                // Each has its part of the connections, since none sees the others' listeners.
                let workers = usize::from(start.config.workers);
                let share = Share {
                    connections: (start.permits.max() / workers).max(1),
                    per_client: start.config.limits.max_connections_per_client.map(|max| max.div_ceil(workers)),
                };
                let setup = ProcessSetup {
                    id: place.id,
                    code: Arc::clone(code),
                    vitals: (place.vitals, Arc::clone(vitals_file)),
                    host_vitals: Arc::clone(host_file),
                    events: start.events.clone(),
                    authority: start.authority.clone(),
                    listener: listener.map(|listener| (listener.into(), share)),
                    permits: Arc::clone(start.permits),
                    connections_max: *connections_max,
                    missing: missing.clone(),
                };
                ProcessHandle::start(setup, spawner, start.stage).map(WorkerHandle::Process)
            }
            (Self::Thread { .. } | Self::Process { .. }, _, _) => {
                Err(io::Error::other("the component was loaded for workers of another kind; a bug of the host"))
            }
        }
    }

    /// A worker has died: what it had taken of what all share is given back, and what it showed is not so any more.
    pub(super) fn clear(&self, gone: &Vitals) {
        // A thread that died has leaked its instances' memory, or given it back itself.
        if let Self::Process { host, .. } = self {
            vitals::give_back(host, gone);
            gone.pulse.reset();
            gone.is_short.set(false);
            gone.metrics.in_flight.set(0);
            gone.metrics.instances.set(0);
        }
    }

    /// The host is at its end.
    pub(super) fn stop(&self) {
        if let Self::Thread { trial, .. } = self {
            trial.ticker.stop();
        }
    }
}

fn budget(config: &Config, host: &'static HostVitals, own: &'static Vitals) -> MemoryBudget {
    MemoryBudget::new(config.limits.memory_total_bytes, &host.memory_bytes, &own.memory_bytes)
}
