//! Loads a component at the start and at each reload, outside the primary's thread: reading and compiling block, and the
//! test whether an instance starts runs guest code. With threads as workers this happens in a thread; with processes, in a
//! separate process (`worker::process`), so that the primary never maps guest code.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use wasmhost_base::heap;
use wasmhost_config::Config;
use wasmhost_confine::spawner::Launcher;
use wasmhost_sandbox::{Artifact, Guest, InstanceContext, LoadError, MemoryBudget, PulseCells, Ticker, WasiVersion};

/// A component that was loaded and tried.
#[derive(Clone)]
pub struct Edition {
    /// Version of wasi:http that it was made for.
    pub wasi: String,
    /// Isolation in effect: `worker` or `request`.
    pub isolation: String,
    /// What workers make their instances of.
    pub code: Code,
}

/// What workers make their instances of.
#[derive(Clone)]
pub enum Code {
    /// A linked guest, shared by threads.
    Linked(Arc<Guest>),
    /// A file of checked machine code, which each process maps and links.
    File(Arc<OwnedFd>),
}

/// The answer of a loader that was begun; it goes without one when the loader dies.
pub type Loading = oneshot::Receiver<Result<Edition, LoadError>>;

/// What a loader needs besides the settings.
pub struct Trial {
    /// Stops the trial when it computes for too long.
    pub ticker: Arc<Ticker>,
    /// Memory of all instances, the trial's included.
    pub budget: Arc<MemoryBudget>,
    /// The trial's sign of running guest code.
    pub pulse: &'static PulseCells,
}

/// Begins to load what `config` names in a thread; `launcher` starts the compiler. The answer says whether an instance of it came up, too.
///
/// # Errors
/// When the system has no thread to give.
pub fn load_in_thread(config: &Arc<Config>, trial: &Arc<Trial>, launcher: Launcher) -> std::io::Result<Loading> {
    let (answer, loaded) = oneshot::channel();
    let (config, trial) = (Arc::clone(config), Arc::clone(trial));
    std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
        // The trial runs guest code.
        let _own = heap::own();
        let edition =
            Artifact::prepare(&config, &launcher).and_then(|artifact| load_and_try(&artifact, &config, &trial));
        // Without a receiver the host is stopping, and nobody wants the guest.
        let _ = answer.send(edition);
        // The component's bytes, which nothing needs any more.
        heap::give_back(1 << 20);
    })?;
    Ok(loaded)
}

/// Links what was prepared, and makes an instance of it. Blocks.
///
/// # Errors
/// When it cannot be linked, or no instance comes up.
pub fn load_and_try(artifact: &Artifact, config: &Config, trial: &Trial) -> Result<Edition, LoadError> {
    let guest = Guest::link(artifact, config, &trial.ticker)?;
    try_instance(&guest, config, trial)?;
    warn_without_effect(&guest, config);
    let isolation = if guest.is_fresh_each_request(config.isolation) { "request" } else { "worker" };
    Ok(Edition {
        wasi: guest.version().to_string(),
        isolation: isolation.to_owned(),
        code: Code::Linked(Arc::new(guest)),
    })
}

/// Warns of a flag that has no effect because of the component or another flag.
fn warn_without_effect(guest: &Guest, config: &Config) {
    let asked = config.capacity.instance_concurrency;
    let why_alone = match guest.version() {
        WasiVersion::P2 => Some("a component of wasi 0.2 serves one request at a time"),
        WasiVersion::P3 if guest.is_fresh_each_request(config.isolation) => {
            Some("each request gets a fresh instance (--isolation request)")
        }
        WasiVersion::P3 => None,
    };
    if let Some(reason) = why_alone.filter(|_| asked > 1) {
        tracing::warn!("--instance-concurrency {asked} has no effect: {reason}");
    }
}

fn try_instance(guest: &Guest, config: &Config, trial: &Trial) -> Result<(), LoadError> {
    let failed = |reason: String, hint: &str| LoadError {
        file: config.component.display().to_string(),
        reason,
        hint: hint.to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    let runtime = runtime.map_err(|error| {
        failed(format!("there is no event loop to test it in: {error}"), "free descriptors or memory")
    })?;
    let Trial { ticker, budget, pulse } = trial;
    let pulse = ticker.watch_pulse(pulse);
    let grants = Arc::new(config.grants.clone());
    let context = InstanceContext::new(0, pulse, Arc::clone(ticker), Arc::clone(budget), grants, (&Rc::default(), 0));
    let tried = runtime.block_on(guest.instantiate(&context, None));
    runtime.shutdown_background();
    match tried {
        Ok(_instance) => Ok(()),
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
