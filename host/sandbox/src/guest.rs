//! A component that was loaded, checked and linked, from which instances are made. It is immutable, and all workers share it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::ProxyPre;

pub use super::source::WasiVersion;

use wasmhost_config::{Config, Grants, Isolation, Limits};
use wasmhost_confine::spawner::Launcher;

use super::cpu::{CpuUser, WorkerCpu};
use super::driver::Calls;
use super::engine::{self, Allocation, PoolSize};
use super::epoch::{Pulse, Ticker};
use super::fault::{Fault, FaultKind};
use super::files;
use super::instance::{Instance, metered};
use super::limits::{COMPONENT_HANDLES_MAX, HOSTCALL_BYTES_MAX};
use super::memory::{MemoryBudget, MemoryLimiter};
use super::meter::Meter;
use super::outbound;
use super::preempt::preempt;
use super::prepare::Artifact;
use super::provided::PROVIDED_HINT;
use super::source::{Description, LoadError, Problem, wasi_version};
use super::state::{Common, GuestStore, State};
use super::symbols::Symbols;

/// Instances of a worker that may exist beyond `--instances-per-worker` for a moment: those that are being made while
/// others of the same slot are being dropped, and those of a component that a reload has replaced.
const SPARE_INSTANCES: usize = 8;

/// A component ready to run.
pub struct Guest {
    engine: Engine,
    pre: ProxyPre<State>,
    version: WasiVersion,
    bears_reuse: bool,
    calls: Calls,
    limits: Limits,
    /// In development, where faults find their place in the source.
    symbols: Option<Arc<Symbols>>,
}

/// What a worker adds to a guest to make instances of it.
pub struct InstanceContext {
    worker: u16,
    pulse: Arc<Pulse>,
    ticker: Arc<Ticker>,
    budget: Arc<MemoryBudget>,
    cpu: CpuUser,
    common: Common,
}

impl InstanceContext {
    /// For instances of this worker, of an app with the key `app`, which share `cpu` with those of other apps.
    pub fn new(
        worker: u16,
        pulse: Arc<Pulse>,
        ticker: Arc<Ticker>,
        budget: Arc<MemoryBudget>,
        grants: Arc<Grants>,
        (cpu, app): (&Rc<WorkerCpu>, u32),
    ) -> Self {
        Self { worker, pulse, ticker, budget, cpu: cpu.user(app), common: Common::new(grants) }
    }

    /// The sign that this worker runs guest code, and the clock it is read by.
    pub fn pulse(&self) -> (&Arc<Pulse>, &Arc<Ticker>) {
        (&self.pulse, &self.ticker)
    }
}

impl Guest {
    /// Loads the component that `config` names, in a process that is not confined. Blocks for as long as that takes.
    ///
    /// # Errors
    /// When the file holds nothing that can be served.
    pub fn load(config: &Config, ticker: &Ticker) -> Result<Self, LoadError> {
        Self::link(&Artifact::prepare(config, &Launcher::Own)?, config, ticker)
    }

    /// Links what was prepared, as `config` says, in an engine that `ticker` ticks for.
    ///
    /// # Errors
    /// When the component wants something that the host does not provide, or the code does not fit this host.
    pub fn link(artifact: &Artifact, config: &Config, ticker: &Ticker) -> Result<Self, LoadError> {
        Self::try_link(artifact, config, ticker).map_err(|problem| LoadError::new(&config.component, problem))
    }

    fn try_link(artifact: &Artifact, config: &Config, ticker: &Ticker) -> Result<Self, Problem> {
        let description = &artifact.description;
        let probe = engine::probe(description.concurrent)?;
        let component = artifact.map(&probe)?;
        let version = wasi_version(description)?;
        let calls_per_instance = match version {
            WasiVersion::P2 => 1,
            WasiVersion::P3 => config.capacity.instance_concurrency,
        };
        // Unknown imports are reported before memory is reserved for the pool.
        linked(&probe, &component, description)?;
        let (engine, component) =
            pooled(config, &component, artifact, calls_per_instance).unwrap_or((probe, component));
        let pre = linked(&engine, &component, description)?;
        ticker.watch_engine(&engine);
        Ok(Self {
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
            symbols: config.development.as_ref().and_then(Symbols::of).map(Arc::new),
        })
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

    /// Whether instances live for one request only.
    pub fn is_fresh_each_request(&self, isolation: Isolation) -> bool {
        match isolation {
            Isolation::Auto => !self.bears_reuse,
            Isolation::Worker => false,
            Isolation::Request => true,
        }
    }

    /// Makes an instance, which runs the component's start functions, within the CPU limit and
    /// [`Limits::start_timeout`]; for a request that waits for it, no longer than until its `deadline`. Needs a tokio
    /// runtime with timers.
    ///
    /// # Errors
    /// The fault that the start ended with: [`FaultKind::Wall`] at the deadline of the request.
    pub async fn instantiate(&self, context: &InstanceContext, deadline: Option<Instant>) -> Result<Instance, Fault> {
        let meter = Meter::new(context.worker, self.limits.cpu_limit);
        let meter = Arc::new(meter.with_symbols(self.symbols.clone()));
        let made = async {
            let limiter =
                MemoryLimiter::new(self.limits.memory_max_bytes, Arc::clone(&context.budget), Arc::clone(&meter));
            let state = State::new(&context.common, limiter, &meter, self.limits.body_idle_timeout)?;
            let mut store = Store::new(&self.engine, state);
            store.limiter(|state| &mut state.limiter);
            store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
            store.set_max_component_handles(COMPONENT_HANDLES_MAX);
            preempt(&mut store, Arc::clone(&meter));
            // Start functions call the host, too.
            let mut store = GuestStore::new(store);
            wasmhost_base::inject::panic_at("instance");
            let Some(unready) = store.get() else { return Err(wasmtime::format_err!("a store was lost")) };
            let proxy = self.pre.instantiate_async(unready).await?;
            Ok((store, proxy))
        };
        let mut cpu = context.cpu.another();
        let made = metered(made, (&meter, &mut cpu), &context.pulse, &context.ticker);
        let limit = self.limits.start_timeout();
        let at_latest = Instant::now() + limit;
        let until = deadline.map_or(at_latest, |deadline| deadline.min(at_latest));
        // To let go of what is being made drops its store, with the start that waits in it.
        let Ok(made) = tokio::time::timeout_at(until.into(), made).await else {
            let kind = if until < at_latest { FaultKind::Wall } else { FaultKind::Start };
            return Err(Fault::too_slow_to_start(kind, limit));
        };
        let (store, proxy) = made.map_err(|error| Fault::from_start_error(&error, &meter))?;
        Ok(Instance::new(store, proxy, (meter, cpu), context.pulse(), self.calls))
    }
}

/// The same component in an engine whose instances come from a pool, or none when the machine has no room for one.
fn pooled(config: &Config, component: &Component, artifact: &Artifact, calls: usize) -> Option<(Engine, Component)> {
    let warn = |reason: String| {
        tracing::warn!("instances get their memory on demand, which is slower: {reason}");
        None
    };
    let Some(required) = component.resources_required() else {
        return warn("the component does not say how much its instances need".to_owned());
    };
    let per_worker = config.capacity.instances_per_worker.saturating_add(SPARE_INSTANCES);
    let instances = per_worker.saturating_mul(config.workers.into());
    let size = PoolSize {
        instances: u32::try_from(instances).unwrap_or(u32::MAX).min(wasmhost_base::inject::pool_max()),
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
fn linked(engine: &Engine, component: &Component, description: &Description) -> Result<ProxyPre<State>, Problem> {
    let mut linker = Linker::<State>::new(engine);
    let added = wasmtime_wasi::p2::add_to_linker_async(&mut linker)
        .and_then(|()| wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker));
    added.map_err(|error| engine::unusable(&error))?;
    if description.concurrent {
        let added = wasmtime_wasi::p3::add_to_linker(&mut linker)
            .and_then(|()| wasmtime_wasi_http::p3::add_to_linker(&mut linker));
        added.map_err(|error| engine::unusable(&error))?;
    }
    files::guard(&mut linker, description.concurrent).map_err(|error| engine::unusable(&error))?;
    outbound::mend(&mut linker, description.concurrent).map_err(|error| engine::unusable(&error))?;
    let pre = linker.instantiate_pre(component).map_err(|error| unknown_import(&error))?;
    let mismatch = |error: wasmtime::Error| {
        Problem::new(
            format!("its handler does not have the signature that wasi:http gives it: {}", error.root_cause()),
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
            PROVIDED_HINT,
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
