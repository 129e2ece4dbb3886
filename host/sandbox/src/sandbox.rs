//! What all guests of a process share: the clock that preempts them, and the engines that run them. There are several kinds of
//! engines ([`EngineKind`]), and each takes the memory of instances from a pool. A component that does not fit into the
//! pool's shape runs in an engine of its kind without a pool. Each engine is made when it is first needed.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use wasmtime::Engine;
use wasmtime::component::Linker;

use wasmhost_base::quota::Quota;
use wasmhost_config::{App, Config, Development, Tier};

use super::capability::HostServices;
use super::engine::{self, Allocation, EngineKind};
use super::epoch::Ticker;
use super::pool::PoolShape;
use super::source::Problem;
use super::state::State;
use super::{capability, deterministic, files, outbound, response_p3};

/// What all guests of a process share.
pub struct Sandbox {
    ticker: Arc<Ticker>,
    /// Where the sources of guests are, in development.
    pub(super) development: Option<Development>,
    /// How the code of its guests is compiled. Code that is optimised is always served.
    pub(super) tier: Tier,
    /// What capabilities use of the host.
    pub(super) services: HostServices,
    /// By the numbers of their kinds.
    engines: [Engines; EngineKind::ALL.len()],
}

/// The engines of one kind.
struct Engines {
    kind: EngineKind,
    shape: PoolShape,
    /// With a pool, or why there is none.
    pooled: OnceLock<Result<Arc<SharedEngine>, Arc<str>>>,
    told_without_pool: AtomicBool,
    on_demand: Mutex<Option<Arc<SharedEngine>>>,
}

/// An engine, and what the host provides to the components in it.
pub(super) struct SharedEngine {
    pub(super) engine: Engine,
    pub(super) linker: Linker<State>,
    /// For its instances: guests share them.
    pub(super) places: Arc<Quota>,
}

impl Sandbox {
    /// For the apps of `config`, in a process with so many workers.
    pub fn new(config: &Config, workers: u16, ticker: Arc<Ticker>, services: HostServices) -> Arc<Self> {
        Arc::new(Self {
            services,
            development: config.development.clone(),
            tier: config.compilation.tier,
            ..Self::of(&config.apps, config.source.is_some(), workers, ticker)
        })
    }

    pub(super) fn of(apps: &[Arc<App>], may_grow: bool, workers: u16, ticker: Arc<Ticker>) -> Self {
        let instances_max = wasmhost_base::inject::pool_max();
        let engines = |kind: EngineKind| Engines {
            kind,
            shape: PoolShape::of(apps.iter().map(|app| &**app), may_grow, workers, kind.concurrent, instances_max),
            pooled: OnceLock::new(),
            told_without_pool: AtomicBool::new(false),
            on_demand: Mutex::new(None),
        };
        let (tier, services) = (Tier::Optimised, HostServices::default());
        Self { ticker, development: None, tier, services, engines: EngineKind::ALL.map(engines) }
    }

    /// Makes the engines now that are likely to be needed, each with a pool, which blocks for some 25 ms a kind: it maps thousands
    /// of stacks. Of one that cannot be made, the log tells when an app needs it.
    pub fn make_engines(&self) {
        for concurrent in [false, true] {
            let _ = self.pooled(EngineKind { concurrent, tier: self.tier });
        }
    }

    /// The clock that preempts guests.
    pub fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }

    fn engines(&self, kind: EngineKind) -> &Engines {
        &self.engines[kind.number()]
    }

    /// The engine of this kind with a pool; or why the machine has no room for one.
    pub(super) fn pooled(&self, kind: EngineKind) -> Result<Arc<SharedEngine>, Arc<str>> {
        let engines = self.engines(kind);
        let made = engines.pooled.get_or_init(|| {
            let made = self.make(engines, &Allocation::Pool(engines.shape));
            made.map_err(|error| {
                format!("no pool for {} instances: {}", engines.shape.instances, error.root_cause()).into()
            })
        });
        made.clone()
    }

    /// Warns once that an app of this kind gets no place in a pool, for there is none.
    pub(super) fn tell_without_pool(&self, kind: EngineKind, reason: &str) {
        if !self.engines(kind).told_without_pool.swap(true, Relaxed) {
            tracing::warn!("{ON_DEMAND}: {reason}");
        }
    }

    /// The engine of this kind without a pool.
    pub(super) fn on_demand(&self, kind: EngineKind) -> Result<Arc<SharedEngine>, Problem> {
        let engines = self.engines(kind);
        let mut on_demand = engines.on_demand.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*on_demand {
            return Ok(Arc::clone(made));
        }
        let made = self.make(engines, &Allocation::OnDemand).map_err(|error| engine::unusable(&error))?;
        Ok(Arc::clone(on_demand.insert(made)))
    }

    fn make(&self, engines: &Engines, allocation: &Allocation) -> wasmtime::Result<Arc<SharedEngine>> {
        let engine = engine::engine(engines.kind, allocation)?;
        let linker = linker(&engine, engines.kind.concurrent)?;
        self.ticker.watch_engine(&engine);
        Ok(Arc::new(SharedEngine { engine, linker, places: Quota::new(engines.shape.instances.into()) }))
    }
}

/// How each warning begins that tells of instances without a place in a pool.
pub(super) const ON_DEMAND: &str = "instances get their memory on demand, which is slower";

/// Provides all capabilities, with what this host does otherwise than wasmtime.
fn linker(engine: &Engine, concurrent: bool) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::<State>::new(engine);
    capability::link(&mut linker, concurrent)?;
    deterministic::attach(&mut linker, concurrent)?;
    files::guard(&mut linker, concurrent)?;
    outbound::mend(&mut linker, concurrent)?;
    if concurrent {
        response_p3::attach(&mut linker)?;
    }
    Ok(linker)
}
