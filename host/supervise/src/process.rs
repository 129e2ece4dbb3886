//! Workers that are processes (`--worker-kind process`): each is a child process with its own address space, so that a
//! crash of one (a bug of the sandbox, the kernel's out-of-memory killer) costs only its own connections. The child runs
//! this program (`wasmhost worker`); its main thread runs what a worker's thread runs. It gets its settings from the
//! spawner and its orders from the primary. `handle`, `unsent` and `loading` are the primary's side, `child` and `linker` the
//! other one, `protocol` and `table` what they say to each other.

mod child;
mod forwarded;
mod handle;
mod linker;
mod loading;
mod protocol;
mod service_lines;
mod span_line;
mod table;
mod unsent;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::sync::oneshot;

pub use self::child::{WorkerProcessError, run as run_child};

use wasmhost_base::log;
use wasmhost_base::wire::{Descriptor, Sent};
use wasmhost_config::{App, AppId, AppTable, Config};
use wasmhost_confine::Confinement;
use wasmhost_confine::spawner::Spawner;
use wasmhost_serve::scoreboard::{self, HostScoreboard, Scoreboard};
use wasmhost_serve::worker::ListenerRow;

use self::handle::{Hired, ProcessHandle};
use self::protocol::{Share, ToWorker};
use self::unsent::{ListenersOrder, code_of};
use crate::backend::{Backend, Loaded, Pending, Start, clear_rows};
use crate::descriptors::connections_by_descriptors;
use crate::kept::KeptForApps;
use crate::loader::CodeAtRest;

/// What processes need.
pub(crate) struct Processes {
    config: Arc<Config>,
    host: &'static HostScoreboard,
    host_file: Arc<OwnedFd>,
    spawner: Arc<Spawner>,
    /// Connections that a worker's descriptors allow.
    connections_max: usize,
    desks: loading::Desks,
    /// What of its confinement the primary lacks.
    missing: Vec<String>,
    kept: KeptForApps,
}

impl Backend for Processes {
    type Code = CodeAtRest;
    // A process opens and links it itself.
    type Guest = CodeAtRest;
    type VitalsFile = Arc<OwnedFd>;
    type Worker = ProcessHandle;
    type Table = Arc<OwnedFd>;
    type Listeners = Arc<ListenersOrder>;

    const CAN_BE_KILLED: bool = true;
    const ENDS_WITH_SPAWNER: bool = true;

    fn new(
        config: &Arc<Config>,
        spawner: &Arc<Spawner>,
        confinement: &Confinement,
        kept: &KeptForApps,
    ) -> io::Result<Self> {
        let (host, host_file) = scoreboard::shared()?;
        Ok(Self {
            config: Arc::clone(config),
            host,
            host_file: Arc::new(host_file),
            spawner: Arc::clone(spawner),
            connections_max: connections_by_descriptors(config).of_a_worker,
            desks: loading::Desks::default(),
            missing: confinement.missing.clone(),
            kept: kept.clone(),
        })
    }

    fn host(&self) -> &'static HostScoreboard {
        self.host
    }

    fn scoreboard(&self) -> io::Result<(&'static Scoreboard, Arc<OwnedFd>)> {
        scoreboard::shared().map(|(scoreboard, file)| (scoreboard, Arc::new(file)))
    }

    fn table(&self, table: AppTable) -> io::Result<Arc<OwnedFd>> {
        table::write(table.rows()).map(Arc::new)
    }

    fn listeners(&self, rows: Vec<ListenerRow>, tls: Vec<Arc<OwnedFd>>) -> io::Result<Arc<ListenersOrder>> {
        Ok(Arc::new(ListenersOrder { rows, tls }))
    }

    fn look_up(&self, app: &Arc<App>) -> io::Result<Pending<Option<Loaded<Self>>>> {
        Ok(loading::look_up(&self.config, app, &self.spawner))
    }

    fn load(&self, app: &Arc<App>) -> io::Result<Pending<Loaded<Self>>> {
        let place = (self.host, &self.host_file);
        loading::begin(&self.config, app, &self.spawner, place, (&self.desks, &self.missing, &self.kept))
    }

    fn at_hand(&self, code: &CodeAtRest) -> Option<CodeAtRest> {
        Some(code.clone())
    }

    fn is_there(&self, code: &CodeAtRest) -> bool {
        code.is_there()
    }

    fn open(&self, _app: &Arc<App>, code: &CodeAtRest) -> io::Result<Pending<(CodeAtRest, CodeAtRest)>> {
        let (answer, opened) = oneshot::channel();
        let _ = answer.send(Ok((code.clone(), code.clone())));
        Ok(opened)
    }

    fn start(&self, start: Start<'_, Self>) -> io::Result<ProcessHandle> {
        // Each has its part of the connections, since none sees the others' listeners.
        let workers = usize::from(self.config.workers);
        let share = (!start.own_listeners.is_empty()).then(|| Share {
            connections: (start.admission.max() / workers).max(1),
            per_client: self.config.limits.max_connections_per_client.map(|max| max.div_ceil(workers)),
        });
        let mut descriptors: Vec<Sent<'_>> = vec![
            (Descriptor::Table, start.table.as_fd()),
            (Descriptor::Scoreboard, start.scoreboard_file.as_fd()),
            (Descriptor::HostScoreboard, self.host_file.as_fd()),
        ];
        let own = start.own_listeners.iter().enumerate();
        descriptors.extend(own.map(|(number, (_, listener))| (Descriptor::Listener(number), listener.as_fd())));
        descriptors.extend(start.listeners.descriptors());
        let lines = self.kept.lines(start.group.map(|group| &**group))?;
        descriptors.extend(lines.iter().map(|(what, line)| (*what, line.as_fd())));
        let first = start.first.as_ref().map(|(app, code, tag)| {
            let (code, file) = code_of(*app, code, *tag);
            descriptors.extend(file);
            code
        });
        let word = ToWorker::Start {
            id: start.id.0,
            group: start.group.cloned(),
            authority: start.authority.to_string(),
            listeners: start.listeners.rows.clone(),
            own_listeners: start.own_listeners.iter().map(|(id, _)| *id).collect(),
            share,
            missing: self.missing.clone(),
            log: log::now(),
            first,
        };
        let hired = Hired {
            id: start.id,
            group: start.group.cloned(),
            scoreboard: start.scoreboard,
            events: start.events.clone(),
            admission: Arc::clone(start.admission),
            connections_max: self.connections_max,
            stage: start.stage,
            spans: start.spans.cloned(),
        };
        ProcessHandle::start(hired, &self.spawner, &word, &descriptors)
    }

    fn clear(&self, gone: &'static Scoreboard, apps: &mut dyn Iterator<Item = AppId>) {
        let apps: Vec<AppId> = apps.collect();
        scoreboard::give_back(self.host, gone, apps.iter().copied());
        gone.pulse.reset();
        gone.is_short.set(false);
        clear_rows(gone, apps.into_iter());
    }

    fn stop(&self) {
        // Workers are told to end as at any other time.
    }
}
