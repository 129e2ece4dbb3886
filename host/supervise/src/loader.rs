//! Loads an app: reads and compiles its component or takes it from the cache, links it, and tries whether an instance
//! starts and answers the probe. All of it blocks, and the trial runs guest code, so that none of it happens in the primary's thread: for workers
//! that are threads in a thread of its own (`threads`), for processes in a separate process (`process`).

mod probe;

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::runtime::LocalRuntime;

use wasmhost_base::heap;
use wasmhost_config::{App, Config};
use wasmhost_sandbox::{
    AppBounds, Artifact, Fault, FaultKind, Guest, InstanceContext, LoadError, MemoryBudget, MemoryCount, PulseCells,
    Sandbox, StoredCode, WasiVersion,
};
use wasmhost_serve::worker::thread::event_loop;

use self::probe::probe;

/// The machine code of an app while no worker has it.
#[derive(Debug, Clone)]
pub(crate) enum CodeAtRest {
    /// A verified entry of the cache. It may vanish; then the app is loaded anew.
    Stored(StoredCode),
    /// The same, of an app that was never tried with it.
    Found(StoredCode),
    /// A sealed file in memory, where there is no cache; and the SHA-256 of its component, where that is known.
    Held(Arc<OwnedFd>, Arc<str>),
}

impl CodeAtRest {
    /// Of what was prepared.
    ///
    /// # Errors
    /// When its file cannot be opened once more.
    pub(crate) fn of(artifact: &Artifact) -> std::io::Result<Self> {
        Ok(match artifact.stored() {
            Some(stored) => Self::Stored(stored),
            None => Self::Held(Arc::new(artifact.file()?), artifact.component_sha256().into()),
        })
    }

    /// Whether it is where it was put. (That it is as it was shows when it is opened.)
    pub(crate) fn is_there(&self) -> bool {
        match self {
            Self::Stored(stored) | Self::Found(stored) => stored.is_there(),
            Self::Held(..) => true,
        }
    }

    /// Opens it. Blocks; compiles nothing.
    ///
    /// # Errors
    /// When the entry has vanished, or is not what it was.
    pub(crate) fn open(&self, app: &App) -> Result<Artifact, LoadError> {
        match self {
            Self::Stored(stored) | Self::Found(stored) => stored.open(app),
            Self::Held(file, _) => match file.try_clone() {
                Ok(file) => Artifact::received(file, app),
                Err(error) => Err(short(app, format!("its code cannot be opened: {error}"))),
            },
        }
    }
}

/// Whether it is the same code: the same entry of the cache, whether it was tried or not; or the same file, or another one that was
/// made of the same component.
impl PartialEq for CodeAtRest {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Stored(one) | Self::Found(one), Self::Stored(other) | Self::Found(other)) => one == other,
            (Self::Held(one, component), Self::Held(other, same)) => {
                let file = |code: &OwnedFd| rustix::fs::fstat(code).map(|file| (file.st_dev, file.st_ino)).ok();
                (component == same && !component.is_empty()) || file(one).is_some_and(|one| Some(one) == file(other))
            }
            (Self::Stored(_) | Self::Found(_) | Self::Held(..), _) => false,
        }
    }
}

/// An error of the system's, about an app.
pub(crate) fn short(app: &App, reason: String) -> LoadError {
    LoadError {
        file: app.component.display().to_string(),
        reason,
        hint: "check that the system has file descriptors, threads and memory left".to_owned(),
    }
}

/// What the trial of an app showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tried {
    /// Version of wasi:http that it was made for.
    pub(crate) wasi: String,
    /// Isolation in effect: `worker` or `request`.
    pub(crate) isolation: String,
    /// SHA-256, in hex, of the component.
    pub(crate) component_sha256: String,
}

/// What a loader needs besides the settings.
pub(crate) struct Trial {
    /// What the guests of this process share.
    pub(crate) sandbox: Arc<Sandbox>,
    /// There are other apps, whose instances may have all the memory at the moment: that says nothing of this one.
    pub(crate) among_others: bool,
    /// Memory of all instances, the trial's included.
    pub(crate) budget: Arc<MemoryBudget>,
    /// The trial's sign of running guest code.
    pub(crate) pulse: &'static PulseCells,
}

/// Links what was prepared, and makes an instance of it, which answers the probe of the app. Blocks. `runtime`: where what the
/// guest may ask of the host is answered, if that is so already.
///
/// # Errors
/// When it cannot be linked, no instance comes up, or its answer to the probe is not right.
pub(crate) fn link_and_try(
    artifact: &Artifact,
    app: &Arc<App>,
    trial: &Trial,
    runtime: Option<LocalRuntime>,
) -> Result<(Arc<Guest>, Tried), LoadError> {
    let guest = Guest::link(artifact, app, &trial.sandbox)?;
    try_instance(&guest, app, trial, runtime)?;
    warn_without_effect(&guest, app);
    warn_of_test_settings(app);
    let isolation = if guest.is_fresh_each_request() { "request" } else { "worker" };
    let component_sha256 = guest.component_sha256().to_owned();
    let tried = Tried { wasi: guest.version().to_string(), isolation: isolation.to_owned(), component_sha256 };
    Ok((Arc::new(guest), tried))
}

/// Warns that what the app serves is not for the world.
fn warn_of_test_settings(app: &App) {
    if let Some(seed) = app.deterministic {
        tracing::warn!(
            app = app.name,
            "--deterministic {seed}: the guest's random numbers can be predicted, and its clocks do not show the time; this is for tests"
        );
    }
}

/// Warns of a setting that has no effect because of the component or another setting.
fn warn_without_effect(guest: &Guest, app: &App) {
    let asked = app.capacity.instance_concurrency;
    let why_alone = match guest.version() {
        WasiVersion::P2 => Some("a component of wasi 0.2 serves one request at a time"),
        WasiVersion::P3 if guest.is_fresh_each_request() => {
            Some("each request gets a fresh instance (--isolation request)")
        }
        WasiVersion::P3 => None,
    };
    if let Some(reason) = why_alone.filter(|_| asked > 1) {
        tracing::warn!(app = app.name, "--instance-concurrency {asked} has no effect: {reason}");
    }
}

fn try_instance(guest: &Guest, app: &Arc<App>, trial: &Trial, runtime: Option<LocalRuntime>) -> Result<(), LoadError> {
    let failed = |reason: String, hint: &str| LoadError {
        file: app.component.display().to_string(),
        reason,
        hint: hint.to_owned(),
    };
    let runtime = runtime.map_or_else(|| event_loop("loader"), Ok).map_err(|error| {
        failed(format!("there is no event loop to test it in: {error}"), "free descriptors or memory")
    })?;
    let (ticker, budget) = (trial.sandbox.ticker(), Arc::clone(&trial.budget));
    let pulse = ticker.watch_pulse(trial.pulse);
    let context =
        InstanceContext::new(0, pulse, Arc::clone(ticker), budget, app, (&Rc::default(), 0), AppBounds::alone());
    let tried: Result<_, Fault> = runtime.block_on(async {
        let mut instance = guest.instantiate(&context, None).await?;
        let path = app.probe.path.as_deref();
        Ok(match path {
            Some(path) => probe(&mut instance, &app.probe, path).await.map_err(|reason| (path, reason)),
            None => Ok(()),
        })
    });
    runtime.shutdown_background();
    match tried {
        Ok(Ok(())) => Ok(()),
        Ok(Err((path, reason))) => Err(failed(
            format!("its probe {path} failed: {reason}"),
            "see what the app itself has logged; --probe-status, --probe-body and --probe-timeout say what is expected",
        )),
        Err(fault) if fault.kind == FaultKind::Capacity && trial.among_others && app.probe.path.is_none() => {
            tracing::debug!(
                app = app.name,
                detail = &*fault.detail,
                "not tried: there is no memory for an instance now"
            );
            Ok(())
        }
        Err(fault) => {
            let hint = match fault.flag() {
                Some(flag) => format!("raise {flag}"),
                None => "its start functions failed; what it needs may have to be granted with --env, --arg or --dir"
                    .to_owned(),
            };
            Err(failed(format!("it does not start: {} ({})", fault.detail, fault.kind), &hint))
        }
    }
}

/// Makes the engines that apps run in, in a thread, so that no app's first request waits for its kind of engine. For several
/// apps: a single one makes the one that it needs while it is loaded. Without a thread, each is made when it is first needed.
pub(crate) fn make_engines_ahead(config: &Config, sandbox: &Arc<Sandbox>) {
    if config.apps.len() > 1 {
        let sandbox = Arc::clone(sandbox);
        let make = move || {
            let _own = heap::own();
            sandbox.make_engines();
        };
        // Without a handle it ends by itself.
        drop(std::thread::Builder::new().name("loader".to_owned()).spawn(make));
    }
}

/// A budget of this host's memory, with the share of whoever shows `own_bytes`.
pub(crate) fn budget(
    config: &Config,
    used_bytes: &'static MemoryCount,
    own_bytes: &'static MemoryCount,
) -> Arc<MemoryBudget> {
    Arc::new(MemoryBudget::new(config.limits.memory_total_bytes, used_bytes, own_bytes))
}
