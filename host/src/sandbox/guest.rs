//! A component that was loaded, checked and linked, and of which instances can be made: immutable, and shared by all
//! workers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::ProxyPre;

pub use super::source::WasiVersion;

use super::artifact;
use super::cache::Cache;
use super::compile::{ChildError, Output, compile_in_child};
use super::engine::{self, Allocation, PoolSize, SPARE_INSTANCES};
use super::epoch::{Pulse, Ticker, preempt};
use super::fault::Fault;
use super::instance::{Calls, Instance, metered};
use super::limits::{HOSTCALL_BYTES_MAX, MemoryBudget, MemoryLimiter, Meter};
use super::source::{self, Description, LoadError, Problem, Source, wasi_version};
use super::state::{Common, State};
use crate::config::{Config, Grants, Isolation, Limits};

/// A component ready to run.
pub struct Guest {
    engine: Engine,
    pre: ProxyPre<State>,
    version: WasiVersion,
    bears_reuse: bool,
    calls: Calls,
    limits: Limits,
    /// Set by the first worker that it answered; read only at faults.
    has_answered: AtomicBool,
}

/// What a worker adds to a guest to make instances of it.
pub struct InstanceContext {
    worker: u16,
    pulse: Arc<Pulse>,
    ticker: Arc<Ticker>,
    budget: Arc<MemoryBudget>,
    common: Common,
}

impl InstanceContext {
    /// For instances of this worker.
    pub fn new(
        worker: u16,
        pulse: Arc<Pulse>,
        ticker: Arc<Ticker>,
        budget: Arc<MemoryBudget>,
        grants: Arc<Grants>,
    ) -> Self {
        Self { worker, pulse, ticker, budget, common: Common::new(grants) }
    }

    /// The sign that this worker runs guest code, and the clock it is read by.
    pub fn pulse(&self) -> (&Arc<Pulse>, &Arc<Ticker>) {
        (&self.pulse, &self.ticker)
    }
}

impl Guest {
    /// Loads the component that `config` names: reads and checks it, compiles it in a child or takes it from the cache,
    /// and links it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the file holds nothing that can be served.
    pub fn load(config: &Config, ticker: &Ticker) -> Result<Self, LoadError> {
        let file = config.component.as_path();
        Self::try_load(config, ticker).map_err(|problem| LoadError::new(file, problem))
    }

    fn try_load(config: &Config, ticker: &Ticker) -> Result<Self, Problem> {
        let file = config.component.as_path();
        let probe = |concurrent| engine::engine(concurrent, Allocation::OnDemand).map_err(|error| no_engine(&error));
        let (probe, artifact) = match source::read(file)? {
            Source::Compiled => {
                let place = Place::Memory(private_copy(file)?);
                let probe = probe(place.is_concurrent()?)?;
                let artifact = Artifact::of(place, &engine::compatibility(&probe))?;
                (probe, artifact)
            }
            Source::Component(bytes, description) => {
                wasi_version(&description)?;
                let probe = probe(description.concurrent)?;
                let artifact = compiled(&bytes, &engine::compatibility(&probe), config)?;
                (probe, artifact)
            }
        };
        let description = &artifact.description;
        let component = artifact.map(&probe)?;
        let version = wasi_version(description)?;
        let asked = config.capacity.instance_concurrency;
        let calls_per_instance = match version {
            WasiVersion::P2 => 1,
            WasiVersion::P3 => asked,
        };
        // Unknown imports are told before memory is reserved for the pool.
        link(&probe, &component, description)?;
        let (engine, component) =
            pooled(config, &component, &artifact, calls_per_instance).unwrap_or((probe, component));
        let pre = link(&engine, &component, description)?;
        ticker.watch_engine(&engine);
        let guest = Self {
            engine,
            pre,
            version,
            bears_reuse: description.bears_reuse(),
            calls: match calls_per_instance {
                _ if !description.concurrent => Calls::Plain,
                1 => Calls::One,
                many => Calls::Many(many),
            },
            limits: config.limits.clone(),
            has_answered: AtomicBool::new(false),
        };
        let why_alone = match version {
            WasiVersion::P2 => Some("a component of wasi 0.2 serves one request at a time"),
            WasiVersion::P3 if guest.is_fresh_each_request(config.isolation) => {
                Some("each request has an instance of its own (--isolation request)")
            }
            WasiVersion::P3 => None,
        };
        if let Some(reason) = why_alone.filter(|_| asked > 1) {
            tracing::warn!("--instance-concurrency {asked} has no effect: {reason}");
        }
        Ok(guest)
    }

    /// The wasi:http version that the component was made for.
    pub fn version(&self) -> WasiVersion {
        self.version
    }

    /// Requests at once in one instance; above 1, instances are shared.
    pub fn calls_per_instance(&self) -> usize {
        match self.calls {
            Calls::Plain | Calls::One => 1,
            Calls::Many(many) => many,
        }
    }

    /// An instance of it answered a request.
    pub fn note_answer(&self) {
        self.has_answered.store(true, Relaxed);
    }

    /// Whether any instance of it has answered.
    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Relaxed)
    }

    /// Whether instances live for one request only.
    pub fn is_fresh_each_request(&self, isolation: Isolation) -> bool {
        match isolation {
            Isolation::Auto => !self.bears_reuse,
            Isolation::Worker => false,
            Isolation::Request => true,
        }
    }

    /// Makes an instance, which runs the component's start functions, within the CPU limit.
    ///
    /// # Errors
    /// The fault that the start ended with.
    pub async fn instantiate(&self, context: &InstanceContext) -> Result<Instance, Fault> {
        let meter = Arc::new(Meter::new(context.worker, self.limits.cpu_limit));
        let made = async {
            let limiter =
                MemoryLimiter::new(self.limits.memory_max_bytes, Arc::clone(&context.budget), Arc::clone(&meter));
            let state = State::new(&context.common, limiter, &meter)?;
            let mut store = Store::new(&self.engine, state);
            store.limiter(|state| &mut state.limiter);
            store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
            preempt(&mut store, Arc::clone(&meter));
            let proxy = self.pre.instantiate_async(&mut store).await?;
            Ok((store, proxy))
        };
        let made = metered(made, &meter, &context.pulse, &context.ticker).await;
        let (store, proxy) = made.map_err(|error| Fault::from_start_error(&error, &meter))?;
        Ok(Instance::new(store, proxy, meter, context.pulse(), self.calls))
    }
}

fn no_engine(error: &wasmtime::Error) -> Problem {
    Problem::new(
        format!("this machine cannot run wasmtime: {}", error.root_cause()),
        "wasmhost needs a 64-bit Linux on x86-64 or aarch64",
    )
}

/// Machine code whose checksum was compared, and what it was made from.
struct Artifact {
    place: Place,
    description: Description,
}

/// Where the machine code is.
enum Place {
    File(PathBuf),
    /// An anonymous file in memory.
    Memory(std::fs::File),
}

impl Place {
    fn is_concurrent(&self) -> Result<bool, Problem> {
        artifact::is_concurrent(&self.path()).map_err(artifact::Unusable::into_problem)
    }

    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        match self {
            Self::File(path) => path.clone(),
            Self::Memory(file) => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        }
    }
}

impl Artifact {
    /// Checks what is in `place`, for an engine of compatibility `here`.
    fn of(place: Place, here: &str) -> Result<Self, Problem> {
        let description = artifact::check(&place.path(), here).map_err(artifact::Unusable::into_problem)?;
        Ok(Self { place, description })
    }

    fn map(&self, engine: &Engine) -> Result<Component, Problem> {
        artifact::map(engine, &self.place.path()).map_err(artifact::Unusable::into_problem)
    }
}

/// The machine code of a component, from the cache or newly compiled.
fn compiled(bytes: &[u8], here: &str, config: &Config) -> Result<Artifact, Problem> {
    let name = config.component.display().to_string();
    let compilation = &config.compilation;
    let cache = match Cache::open(compilation) {
        Ok(cache) => cache,
        Err(error) => {
            tracing::warn!(
                "no cache for compiled components: {error}; every start compiles anew (--cache-dir names another place, `off` silences this)"
            );
            None
        }
    };
    if let Some(cache) = cache {
        let entry = cache.entry(bytes, here);
        if entry.exists() {
            match Artifact::of(Place::File(entry.clone()), here) {
                Ok(artifact) => {
                    Cache::touch(&entry);
                    return Ok(artifact);
                }
                Err(problem) => {
                    tracing::warn!(entry = %entry.display(), reason = problem.reason, "a cache entry cannot be used; compiling anew");
                }
            }
        }
        let began = std::time::Instant::now();
        match compile_in_child(bytes, &Output::File(&entry), &name, compilation) {
            Ok(()) => {
                let elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(elapsed_ms, entry = %entry.display(), "compiled");
                cache.shrink(&entry);
                return Artifact::of(Place::File(entry), here);
            }
            Err(ChildError::Output(reason)) => {
                tracing::warn!("the cache cannot be written: {reason}; going on without");
            }
            Err(ChildError::Problem(problem)) => return Err(problem),
        }
    }
    let memory = memory_file()?;
    compile_in_child(bytes, &Output::Open(&memory), &name, compilation).map_err(ChildError::into_problem)?;
    Artifact::of(Place::Memory(memory), here)
}

/// An anonymous file in memory.
fn memory_file() -> Result<std::fs::File, Problem> {
    let made = rustix::fs::memfd_create("wasmhost-compiled", rustix::fs::MemfdFlags::CLOEXEC);
    made.map(std::fs::File::from).map_err(|error| {
        Problem::new(format!("no memory for its compiled form: {error}"), "free memory, or name a --cache-dir")
    })
}

/// A private copy of a compiled component that the user named: code that is mapped from a file which somebody truncates
/// would end the process.
fn private_copy(file: &Path) -> Result<std::fs::File, Problem> {
    let mut memory = memory_file()?;
    let copied = std::fs::File::open(file).and_then(|mut source| std::io::copy(&mut source, &mut memory));
    match copied {
        Ok(_) => Ok(memory),
        Err(error) => Err(Problem::new(format!("it cannot be read: {error}"), "check the file and the disk")),
    }
}

/// The same component in an engine whose instances come from a pool, or none when the machine has no room for one.
fn pooled(config: &Config, component: &Component, artifact: &Artifact, calls: usize) -> Option<(Engine, Component)> {
    let warn = |reason: String| {
        tracing::warn!("instances get their memory on demand, which is slower: {reason}");
        None
    };
    let Some(required) = component.resources_required() else {
        return warn("the component does not tell what its instances need".to_owned());
    };
    let per_worker = config.capacity.instances_per_worker.saturating_add(SPARE_INSTANCES);
    let instances = per_worker.saturating_mul(config.workers.into());
    let size = PoolSize {
        instances: u32::try_from(instances).unwrap_or(u32::MAX),
        calls_per_instance: u32::try_from(calls).unwrap_or(u32::MAX),
        memory_max_bytes: config.limits.memory_max_bytes,
    };
    let made = engine::engine(artifact.description.concurrent, Allocation::Pool(size, &required));
    let engine = match made {
        Ok(engine) => engine,
        Err(error) => return warn(format!("no pool for {instances} instances: {}", error.root_cause())),
    };
    match artifact.map(&engine) {
        Ok(component) => Some((engine, component)),
        Err(problem) => warn(problem.reason),
    }
}

/// Gives the component everything that toolchains import by default, with nothing granted behind it.
fn link(engine: &Engine, component: &Component, description: &Description) -> Result<ProxyPre<State>, Problem> {
    let mut linker = Linker::<State>::new(engine);
    let linked = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker));
    linked.map_err(|error| no_engine(&error))?;
    if description.concurrent {
        let linked = wasmtime_wasi::p3::add_to_linker(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p3::add_to_linker(&mut linker));
        linked.map_err(|error| no_engine(&error))?;
    }
    let pre = linker.instantiate_pre(component).map_err(|error| unknown_import(&error))?;
    let mismatch = |error: wasmtime::Error| {
        Problem::new(
            format!("its handler has another shape than wasi:http gives it: {}", error.root_cause()),
            "build it again with a current toolchain",
        )
    };
    match wasi_version(description)? {
        WasiVersion::P2 => wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre).map(ProxyPre::P2).map_err(mismatch),
        WasiVersion::P3 => wasmtime_wasi_http::p3::bindings::ServicePre::new(pre).map(ProxyPre::P3).map_err(mismatch),
    }
}

/// Names the import that the host does not have.
fn unknown_import(error: &wasmtime::Error) -> Problem {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    let text = causes.join(": ").replace('\n', " ");
    let name = text.split('`').nth(1);
    match name {
        Some(name) => Problem::new(
            format!("it imports `{name}`, which wasmhost does not provide in that form ({text})"),
            "wasmhost provides wasi:http, wasi:cli, wasi:clocks, wasi:random, wasi:filesystem and wasi:sockets of 0.2 and 0.3; compose other imports into the component, for example with `wac plug`",
        ),
        None => Problem::new(format!("it cannot be linked: {text}"), "build it again with a current toolchain"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_import_is_named() {
        let error = wasmtime::format_err!(
            "component imports instance `acme:secret/vault@1.0.0`, but a matching implementation was not found in the linker"
        );
        assert!(unknown_import(&error).reason.contains("imports `acme:secret/vault@1.0.0`"));
    }
}
