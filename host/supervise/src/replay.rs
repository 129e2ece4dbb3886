//! Runs the request of a crash bundle once more: on one worker of this process, a thread, which serves it as a host serves what
//! other workers forward. Nothing listens, and each request has an instance of its own.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::Authority;
use tokio::sync::mpsc;

use wasmhost_config::{App, AppId, AppTable, Config, Listed, WorkerKind};
use wasmhost_confine::spawner::Launcher;
use wasmhost_confine::{Cage, Unconfined, apply};
use wasmhost_sandbox::{
    Artifact, FaultKind, Guest, HostServices, LoadError, Sandbox, Ticker, Trace, TrapFrame, capabilities, describe,
    make_cache_dir, places_of,
};
use wasmhost_serve::scoreboard::{self, HostScoreboard, Scoreboard};
use wasmhost_serve::worker::inbox::{Accepted, Admission, Connection, PerClient, Permit};
use wasmhost_serve::worker::{
    FaultReport, InstanceFault, Listeners, Peer, ReplayedAnswer, ReplayedRequest, RevisionTag, Stage, Supply,
    ThreadHandle, WorkerEvent, WorkerId, WorkerSetup, orders,
};

/// Events of the worker that may wait.
const EVENTS_MAX: usize = 64;
/// How long the worker may take to begin.
const BEGINS_WITHIN: Duration = Duration::from_secs(30);
/// How long what a call leaves running may go on beyond its limit, until it is ended.
const ENDS_WITHIN: Duration = Duration::from_secs(5);
/// The same where it has no limit.
const LINGERS_MAX: Duration = Duration::from_secs(60);
/// Larger components are not read for their debug information.
const COMPONENT_BYTES_MAX: u64 = 1 << 30;
/// The longest report of a fault.
const REPORT_BYTES_MAX: u64 = 8 << 20;

/// Why a request is not run.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The component cannot be served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The process cannot be confined as it must.
    #[error("the process {0}")]
    Confine(#[from] Unconfined),
    /// The system refused something.
    #[error("cannot {action}: {error}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The worker did not serve it.
    #[error("the request was not served: {0}")]
    NotServed(String),
}

impl ReplayError {
    /// A way out, for the user.
    pub fn hint(&self) -> &str {
        match self {
            Self::Load(error) => &error.hint,
            Self::Confine(error) => error.hint(),
            Self::System { .. } => "check that the system has file descriptors, threads and memory left",
            Self::NotServed(_) => "see the log lines above",
        }
    }
}

fn system(action: &'static str) -> impl Fn(io::Error) -> ReplayError {
    move |error| ReplayError::System { action, error }
}

/// A fault that the guest ended with.
#[derive(Debug, Clone)]
pub struct ReplayFault {
    /// What happened.
    pub fault: InstanceFault,
    /// What is known of it.
    pub report: Option<FaultReport>,
}

/// What came of a request.
#[derive(Debug)]
pub struct Replayed {
    /// What the client would have got; or why it got nothing.
    pub answer: Result<ReplayedAnswer, String>,
    /// The kinds of faults that were counted.
    pub kinds: Vec<FaultKind>,
    /// What is known of those that ended an instance.
    pub faults: Vec<ReplayFault>,
    /// How long it took.
    pub took: Duration,
}

/// A component that is ready to serve.
pub struct Replay {
    config: Arc<Config>,
    app: Arc<App>,
    guest: Arc<Guest>,
    sandbox: Arc<Sandbox>,
    component: Vec<u8>,
}

/// What is read of a component for the lines of its source; nothing, where it is not in the binary format, or cannot be read.
fn debug_information(file: &Path) -> Vec<u8> {
    let is_short = std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.len() <= COMPONENT_BYTES_MAX);
    let bytes = if is_short { std::fs::read(file).unwrap_or_default() } else { Vec::new() };
    if bytes.starts_with(b"\0asm") { bytes } else { Vec::new() }
}

/// The places in the source of a stack of the component in this file: none, where it has no debug information, or is not the one of
/// this SHA-256.
pub fn places_in(component: &Path, sha256: &str, frames: &[TrapFrame]) -> Trace {
    let bytes = debug_information(component);
    let is_same = describe(&bytes).is_ok_and(|found| found.sha256 == sha256);
    places_of(if is_same { bytes } else { Vec::new() }, Path::new(""), frames)
}

impl Replay {
    /// Reads and compiles the component of the only app of `config`, confines this process (which must have one thread), and
    /// makes ready. Blocks.
    ///
    /// # Errors
    /// When the component cannot be served, or the process not be confined as it must.
    pub fn prepare(mut config: Config) -> Result<Self, ReplayError> {
        config.workers = 1;
        config.worker_kind = WorkerKind::Thread;
        config.app_idle_timeout = None;
        // Faults are recorded; nothing is written.
        config.crashes.dir = Some(PathBuf::new());
        if let Some(dir) = config.compilation.cache_dir() {
            // Without it nothing is kept.
            let _ = make_cache_dir(dir);
        }
        for app in &mut config.apps {
            // The recorded head has what it tells.
            Arc::make_mut(app).forwarded_headers = false;
        }
        let app = config.apps.first().cloned().unwrap_or_default();
        let artifact = Artifact::prepare(&config, &app, &Launcher::Own)?;
        let component = debug_information(&app.component);
        apply(config.confine, &Cage::primary(&config, capabilities()))?;
        let ticker = Ticker::start().map_err(system("start a thread"))?;
        let sandbox = Sandbox::new(&config, 1, ticker, HostServices::default());
        let guest = Arc::new(Guest::link(&artifact, &app, &sandbox)?);
        Ok(Self { config: Arc::new(config), app, guest, sandbox, component })
    }

    /// SHA-256, in hex, of the component in the binary format.
    pub fn component_sha256(&self) -> &str {
        self.guest.component_sha256()
    }

    /// The places in the source of a stack of this component.
    pub fn places(&self, frames: &[TrapFrame]) -> Trace {
        places_of(self.component.clone(), Path::new(""), frames)
    }

    /// Runs a request. Blocks, for as long as the limits let it take.
    ///
    /// # Errors
    /// When there is no worker for it.
    pub fn run(&self, request: &ReplayedRequest) -> Result<Replayed, ReplayError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(system("make an event loop"))?;
        runtime.block_on(self.serve(request))
    }

    async fn serve(&self, request: &ReplayedRequest) -> Result<Replayed, ReplayError> {
        let host: &HostScoreboard = scoreboard::own().map_err(system("make room for counts"))?;
        let own: &Scoreboard = scoreboard::own().map_err(system("make room for counts"))?;
        let (events, mut heard) = mpsc::channel(EVENTS_MAX);
        let setup = WorkerSetup {
            id: WorkerId(1),
            group: None,
            config: Arc::clone(&self.config),
            scoreboard: own,
            host,
            sandbox: Arc::clone(&self.sandbox),
            authority: request.authority.parse().unwrap_or_else(|_| Authority::from_static("localhost")),
            listeners: Arc::new(Listeners::default()),
            own_listeners: Vec::new(),
            admission: Admission::new(EVENTS_MAX, PerClient::Unbounded),
            spans: None,
        };
        let table = AppTable::new([Listed { id: request.app, born: 0, app: Arc::clone(&self.app) }]);
        let supplies = BTreeMap::from([(
            request.app,
            Supply::Guest(Arc::clone(&self.guest), RevisionTag { number: 1, ..RevisionTag::default() }),
        )]);
        let orders = orders(Arc::new(table), Stage::Serve, supplies);
        let worker = ThreadHandle::start(setup, events, orders).map_err(system("start a thread"))?;
        let mut seen = VecDeque::new();
        tokio::time::timeout(
            BEGINS_WITHIN,
            until(&mut heard, &mut seen, |event| matches!(event, WorkerEvent::Listening(_))),
        )
        .await
        .map_err(|_| ReplayError::NotServed("the worker does not begin".to_owned()))?;
        let (ours, theirs) = UnixStream::pair().map_err(system("make a pair of sockets"))?;
        theirs.set_nonblocking(true).map_err(system("make a pair of sockets"))?;
        let (socket, permit) = (Accepted::Unix(theirs), Permit::of_host());
        let given = worker.try_send(Connection { socket, peer: Peer::Front, listener: None, permit });
        given.map_err(|_| ReplayError::NotServed("the worker takes no connection".to_owned()))?;
        let began = Instant::now();
        let answer = {
            let running = request.run(ours);
            tokio::pin!(running);
            loop {
                tokio::select! {
                    answer = &mut running => break answer,
                    Some(event) = heard.recv() => seen.push_back(event),
                }
            }
        };
        // What the call has left running has its own limit.
        worker.orders.stage(Stage::Drain);
        let lingers = self.app.limits.request_timeout.unwrap_or(LINGERS_MAX).saturating_add(ENDS_WITHIN);
        let is_exit = |event: &WorkerEvent| matches!(event, WorkerEvent::Exited(..));
        if tokio::time::timeout(lingers, until(&mut heard, &mut seen, is_exit)).await.is_err() {
            worker.orders.stage(Stage::Stop);
            let _ = tokio::time::timeout(ENDS_WITHIN, until(&mut heard, &mut seen, is_exit)).await;
        }
        let took = began.elapsed();
        let counts = own.apps.get(request.app.index());
        let kinds = counts.map(|counts| counts.faults().map(|(kind, _)| kind).collect()).unwrap_or_default();
        let faults = seen.into_iter().filter_map(|event| match event {
            WorkerEvent::Fault(_, _, fault, report) => {
                Some(ReplayFault { fault, report: report.and_then(|report| report.read(REPORT_BYTES_MAX).ok()) })
            }
            _ => None,
        });
        let answer = answer.map_err(|error| error.to_string());
        Ok(Replayed { answer, kinds, faults: faults.collect(), took })
    }
}

/// The number of the only app.
pub const ONLY: AppId = AppId(0);

/// Waits for an event, or until there are no more, and keeps those before it.
async fn until(
    heard: &mut mpsc::Receiver<WorkerEvent>,
    seen: &mut VecDeque<WorkerEvent>,
    is_it: impl Fn(&WorkerEvent) -> bool,
) {
    while let Some(event) = heard.recv().await {
        if is_it(&event) {
            return;
        }
        seen.push_back(event);
    }
}
