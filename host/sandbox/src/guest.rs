//! A component that was loaded, checked and linked, from which instances are made. It is immutable, and all workers share it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::runtime::Handle;
use wasmtime::component::Component;
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::handler::ProxyPre;

pub use super::source::WasiVersion;

use wasmhost_base::quota::Account;
use wasmhost_config::App;

use super::artifact;
use super::bounds::AppBounds;
use super::capability::Parts;
use super::cpu::{CpuUser, WorkerCpu};
use super::driver::Calls;
use super::epoch::{Pulse, Ticker};
use super::fault::{Fault, FaultKind};
use super::file_threads::within;
use super::found::is_fresh_each_request;
use super::instance::{Instance, metered};
use super::limits::{COMPONENT_HANDLES_MAX, HOSTCALL_BYTES_MAX};
use super::memory::{MemoryBudget, MemoryLimiter};
use super::meter::Meter;
use super::outbound::Services;
use super::preempt::preempt;
use super::prepare::Artifact;
use super::profile::Profiler;
use super::provided::hint;
use super::sandbox::{ON_DEMAND, Sandbox, SharedEngine};
use super::soon_free::SoonFree;
use super::source::{LoadError, Problem, wasi_version};
use super::state::{GuestStore, State, StoreCommon};
use super::symbols::Symbols;

/// A component ready to run.
pub struct Guest {
    engine: Engine,
    pre: ProxyPre<State>,
    version: WasiVersion,
    bears_reuse: bool,
    calls: Calls,
    app: Arc<App>,
    /// What the app has for each capability.
    parts: Parts,
    /// SHA-256, in hex, of the component in the binary format.
    component_sha256: Arc<str>,
    /// In development, where faults find their place in the source.
    symbols: Option<Arc<Symbols>>,
    /// Of the places for instances that its engine has.
    places: Arc<Account>,
    on_demand: Option<Arc<str>>,
}

/// What a worker adds to the guest of an app to make instances of it.
pub struct InstanceContext {
    worker: u16,
    pulse: Arc<Pulse>,
    ticker: Arc<Ticker>,
    budget: Arc<MemoryBudget>,
    cpu: CpuUser,
    common: StoreCommon,
    records: bool,
    profiler: Arc<Profiler>,
}

impl InstanceContext {
    /// For instances of this app on this worker. With the key `key` they share `cpu` with those of other apps, and within
    /// `bounds` the rest.
    pub fn new(
        worker: u16,
        pulse: Arc<Pulse>,
        ticker: Arc<Ticker>,
        budget: Arc<MemoryBudget>,
        app: &Arc<App>,
        (cpu, key): (&Rc<WorkerCpu>, u32),
        bounds: Arc<AppBounds>,
    ) -> Self {
        let common = StoreCommon::new(Arc::clone(app), bounds);
        Self { worker, pulse, ticker, budget, cpu: cpu.user(key), common, records: false, profiler: Arc::default() }
    }

    /// Calls of other apps go there.
    #[must_use]
    pub fn with_services(mut self, services: Arc<dyn Services>) -> Self {
        self.common.call_with(services);
        self
    }

    /// Its instances keep a record of their calls, for whoever looks into a fault.
    #[must_use]
    pub fn with_records(self, are_wanted: bool) -> Self {
        Self { records: are_wanted, ..self }
    }

    /// Samples of its instances' stacks are taken by this.
    #[must_use]
    pub fn with_profiler(self, profiler: &Arc<Profiler>) -> Self {
        Self { profiler: Arc::clone(profiler), ..self }
    }

    /// The app's instances on this worker that will soon be free.
    pub fn soon_free(&self) -> &Rc<SoonFree> {
        self.cpu.soon()
    }

    /// The sign that this worker runs guest code, and the clock it is read by.
    pub fn pulse(&self) -> (&Arc<Pulse>, &Arc<Ticker>) {
        (&self.pulse, &self.ticker)
    }
}

impl Guest {
    /// Links what was prepared of an app.
    ///
    /// # Errors
    /// When the component wants something that the host does not provide, or the code does not fit this host.
    pub fn link(artifact: &Artifact, app: &Arc<App>, sandbox: &Sandbox) -> Result<Self, LoadError> {
        Self::try_link(artifact, app, sandbox).map_err(|problem| LoadError::new(&app.component, problem))
    }

    fn try_link(artifact: &Artifact, app: &Arc<App>, sandbox: &Sandbox) -> Result<Self, Problem> {
        if !artifact.tier.may_serve(sandbox.tier) {
            return Err(artifact::not_optimised());
        }
        let description = &artifact.description;
        let version = wasi_version(description)?;
        let Mapped { shared, component, on_demand } = mapped(artifact, app, sandbox)?;
        let pre = linked(&shared, &component, version)?;
        let parts = Parts::configure(app, &sandbox.services)?;
        let calls_per_instance = match version {
            WasiVersion::P2 => 1,
            WasiVersion::P3 => app.capacity.instance_concurrency,
        };
        Ok(Self {
            engine: shared.engine.clone(),
            pre,
            version,
            bears_reuse: description.bears_reuse(),
            calls: match calls_per_instance {
                _ if !description.concurrent => Calls::Plain,
                1 => Calls::One,
                many => Calls::Many(many),
            },
            app: Arc::clone(app),
            parts,
            component_sha256: description.sha256.as_str().into(),
            symbols: sandbox.development.as_ref().and_then(|served| Symbols::of(served, app)).map(Arc::new),
            places: Account::new(&shared.places, None),
            on_demand,
        })
    }

    /// Whose component it is, with the settings that it was linked with.
    pub fn app(&self) -> &Arc<App> {
        &self.app
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
    pub fn is_fresh_each_request(&self) -> bool {
        is_fresh_each_request(self.app.isolation, self.bears_reuse)
    }

    /// SHA-256, in hex, of the component that it was made of, in the binary format.
    pub fn component_sha256(&self) -> &str {
        &self.component_sha256
    }

    /// Why its instances get their memory from the system as they need it, which is slower, in the place of the pool; none
    /// when the pool has room for them.
    pub fn on_demand(&self) -> Option<&str> {
        self.on_demand.as_deref()
    }

    /// Makes an instance, which runs the component's start functions, within the CPU limit and
    /// [`wasmhost_config::Limits::start_timeout`]; for a request that waits for it, no longer than until its `deadline`. Needs a tokio
    /// runtime with timers.
    ///
    /// # Errors
    /// The fault that the start ended with: [`FaultKind::Wall`] at the deadline of the request, [`FaultKind::Capacity`]
    /// when the process has no place for one more instance of this guest.
    pub async fn instantiate(&self, context: &InstanceContext, deadline: Option<Instant>) -> Result<Instance, Fault> {
        let place = self.places.take(1).ok_or_else(|| Fault::no_place(self.places.quota().max()))?;
        let meter = Meter::new(context.worker, self.app.limits.cpu_limit, Arc::clone(&context.common.app));
        let meter = meter.with_symbols(self.symbols.clone()).with_growth_lines(&context.common.growth_lines);
        let meter = Arc::new(meter.with_record(context.records));
        let (worker, files) = (Handle::current(), context.common.files());
        // In a box: wasmtime's future takes some 17 kB, which whoever may have to wait for an instance would have in place, and
        // move about.
        let made = Box::pin(async {
            let limiter =
                MemoryLimiter::new(self.app.limits.memory_max_bytes, Arc::clone(&context.budget), Arc::clone(&meter));
            let (held, body_idle) = (self.parts.prepare(), self.app.limits.body_idle_timeout);
            let state = State::new(&context.common, held, limiter, &meter, body_idle, (place, worker))?;
            let mut store = Store::new(&self.engine, state);
            store.limiter(|state| &mut state.limiter);
            store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
            store.set_max_component_handles(COMPONENT_HANDLES_MAX);
            let (profiler, ticker) = (Arc::clone(&context.profiler), Arc::clone(&context.ticker));
            preempt(&mut store, Arc::clone(&meter), profiler, ticker);
            // Start functions call the host, too.
            let mut store = GuestStore::new(store);
            wasmhost_base::inject::panic_at("instance");
            let Some(unready) = store.get() else { return Err(wasmtime::format_err!("a store was lost")) };
            let proxy = self.pre.instantiate_async(unready).await?;
            Ok((store, proxy))
        });
        let mut cpu = context.cpu.another();
        let made = metered(within(files, made), (&meter, &mut cpu), &context.pulse, &context.ticker);
        let limit = self.app.limits.start_timeout();
        let at_latest = Instant::now() + limit;
        let until = deadline.map_or(at_latest, |deadline| deadline.min(at_latest));
        // To let go of what is being made drops its store, with the start that waits in it.
        let Ok(made) = tokio::time::timeout_at(until.into(), made).await else {
            let kind = if until < at_latest { FaultKind::Wall } else { FaultKind::Start };
            return Err(Fault::too_slow_to_start(kind, limit).with_record(&meter));
        };
        let (store, proxy) = made.map_err(|error| Fault::from_start_error(&error, &meter).with_record(&meter))?;
        Ok(Instance::new(store, proxy, (meter, cpu), context.pulse(), self.calls, files.cloned()))
    }
}

/// Code that is mapped into an engine.
struct Mapped {
    shared: Arc<SharedEngine>,
    component: Component,
    /// Why it does not fit into the pool, if so.
    on_demand: Option<Arc<str>>,
}

/// Maps the code into the engine with the pool if it fits there, and otherwise into the one without.
fn mapped(artifact: &Artifact, app: &App, sandbox: &Sandbox) -> Result<Mapped, Problem> {
    let kind = artifact.kind();
    let (reason, is_told) = match sandbox.pooled(kind) {
        Ok(shared) => match artifact.map(&shared.engine) {
            Ok(component) => return Ok(Mapped { shared, component, on_demand: None }),
            Err(error) => (error.root_cause().to_string().into(), false),
        },
        Err(reason) => {
            sandbox.tell_without_pool(kind, &reason);
            (reason, true)
        }
    };
    let shared = sandbox.on_demand(kind)?;
    let component = artifact.map(&shared.engine).map_err(|error| artifact::unmappable(&error))?;
    if !is_told {
        tracing::warn!(app = app.name, "{ON_DEMAND}: {reason}");
    }
    Ok(Mapped { shared, component, on_demand: Some(reason) })
}

/// Finds what the component imports in what the host provides.
fn linked(shared: &SharedEngine, component: &Component, version: WasiVersion) -> Result<ProxyPre<State>, Problem> {
    let pre = shared.linker.instantiate_pre(component).map_err(|error| unknown_import(&error))?;
    let mismatch = |error: wasmtime::Error| {
        Problem::new(
            format!("its handler does not have the signature that wasi:http gives it: {}", error.root_cause()),
            "build it again with a current toolchain",
        )
    };
    match version {
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
            hint(name),
        ),
        None => Problem::new(format!("it cannot be linked: {text}"), "build it again with a current toolchain"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::call::Call;
    use super::super::memory::{AppMemory, MemoryCount};
    use super::super::prepare::{compiled_as_in_test, compiled_in_test};
    use super::super::relief::{MemoryLack, MemoryRelief, relieved_by};
    use super::super::testing::app_of_test;
    use super::*;
    use std::cell::RefCell;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use std::task::Poll;
    use wasmhost_config::Tier;

    use wasmhost_config::AppId;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn an_unknown_import_is_named() {
        let error = wasmtime::format_err!(
            "component imports instance `acme:secret/vault@1.0.0`, but a matching implementation was not found in the linker"
        );
        assert!(unknown_import(&error).reason.contains("imports `acme:secret/vault@1.0.0`"));
    }

    /// A handler of wasi 0.2 with `more` in its core module.
    fn handler(more: &str) -> String {
        format!(
            r#"(component
                (import "wasi:http/types@0.2.0" (instance $types
                    (export "incoming-request" (type (sub resource)))
                    (export "response-outparam" (type (sub resource)))))
                (alias export $types "incoming-request" (type $request))
                (alias export $types "response-outparam" (type $out))
                (core module $guest {more} (memory 1) (func (export "handle") (param i32 i32)))
                (core instance $guest (instantiate $guest))
                (func $handle (param "request" (own $request)) (param "response-out" (own $out))
                    (canon lift (core func $guest "handle")))
                (instance $handler (export "handle" (func $handle)))
                (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#
        )
    }

    /// A host of one worker.
    pub(crate) struct Host {
        pub(crate) folder: tempfile::TempDir,
        sandbox: Sandbox,
        app: Arc<App>,
        context: InstanceContext,
        pub(crate) runtime: tokio::runtime::Runtime,
    }

    impl Host {
        pub(crate) fn new(memory_max_bytes: u64) -> std::io::Result<Self> {
            let ticker = Ticker::start()?;
            let mut app = app_of_test();
            app.limits.memory_max_bytes = memory_max_bytes;
            let app = Arc::new(app);
            let budget = MemoryBudget::new(1 << 40, Box::leak(Box::default()), Box::leak(Box::default()));
            let pulse = ticker.watch_pulse(Box::leak(Box::default()));
            Ok(Self {
                folder: tempfile::tempdir()?,
                sandbox: Sandbox::of(&[Arc::clone(&app)], false, 1, Arc::clone(&ticker)),
                context: InstanceContext::new(
                    1,
                    pulse,
                    ticker,
                    Arc::new(budget),
                    &app,
                    (&Rc::default(), 0),
                    AppBounds::alone(),
                ),
                app,
                runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            })
        }

        /// Another revision of the app, which the guests and instances have that are made from now on.
        pub(crate) fn set_app(&mut self, change: impl FnOnce(&mut App)) {
            let mut app = App::clone(&self.app);
            change(&mut app);
            self.app = Arc::new(app);
            self.context.common.app = Arc::clone(&self.app);
        }

        pub(crate) fn link(&self, component: &str) -> Result<Guest, Problem> {
            let entry = self.folder.path().join("entry");
            self.link_artifact(&compiled_in_test(component.as_bytes(), &entry)?)
        }

        pub(crate) fn link_artifact(&self, artifact: &Artifact) -> Result<Guest, Problem> {
            Guest::try_link(artifact, &self.app, &self.sandbox)
        }

        pub(crate) fn instance(&self, guest: &Guest) -> Result<Instance, Fault> {
            self.runtime.block_on(guest.instantiate(&self.context, None))
        }
    }

    fn reason(problem: Problem) -> String {
        problem.reason
    }

    fn detail(fault: Fault) -> String {
        fault.detail.to_string()
    }

    #[test]
    fn guests_of_a_kind_share_an_engine_whose_pool_ends_with_its_places() -> Outcome {
        let host = Host::new(1 << 30)?;
        let guests = [
            host.link(&handler("")).map_err(reason)?,
            host.link(&handler("(global i32 (i32.const 1))")).map_err(reason)?,
        ];
        assert!(Engine::same(&guests[0].engine, &guests[1].engine));
        assert_eq!(guests.each_ref().map(Guest::on_demand), [None, None]);
        let last = host.instance(&guests[1]).map_err(detail)?;
        let mut instances = Vec::new();
        let refused = loop {
            match host.instance(&guests[0]) {
                Ok(instance) => instances.push(instance),
                Err(fault) => break fault,
            }
        };
        assert_eq!((refused.kind, refused.flag()), (FaultKind::Capacity, Some("--instances-per-worker")));
        // One app has room for 1 + 8 instances; with two guests, the last two are for the one that has less.
        assert_eq!(instances.len(), 6, "{}", refused.detail);
        drop((last, host.instance(&guests[1]).map_err(detail)?));
        drop(instances);
        host.instance(&guests[0]).map_err(detail)?;
        Ok(())
    }

    #[test]
    fn code_that_is_not_optimised_is_for_development_only_and_runs_in_a_pool_there() -> Outcome {
        let mut host = Host::new(1 << 30)?;
        let entry = host.folder.path().join("soon");
        let soon = compiled_as_in_test(handler("").as_bytes(), &entry, Tier::Baseline).map_err(reason)?;
        assert_eq!(soon.tier, Tier::Baseline);
        let refused = host.link_artifact(&soon).err().ok_or("it was served")?;
        assert!(refused.reason.contains("without optimisation"), "{}", refused.reason);
        host.sandbox.tier = Tier::Baseline;
        let optimised = host.link(&handler("")).map_err(reason)?;
        for guest in [host.link_artifact(&soon).map_err(reason)?, optimised] {
            assert_eq!(guest.on_demand(), None);
            host.instance(&guest).map_err(detail)?;
        }
        Ok(())
    }

    #[test]
    fn what_the_baseline_compiler_cannot_compile_is_optimised() -> Outcome {
        let host = Host::new(1 << 30)?;
        let entry = host.folder.path().join("entry");
        for lacking in ["(tag $t) (func (throw $t))", "(func $last) (func (return_call $last))"] {
            let component = handler(lacking);
            let artifact = compiled_as_in_test(component.as_bytes(), &entry, Tier::Baseline).map_err(reason)?;
            assert_eq!(artifact.tier, Tier::Optimised, "{lacking}");
            host.link_artifact(&artifact).map_err(reason)?;
        }
        Ok(())
    }

    #[test]
    fn a_component_that_does_not_fit_into_the_pool_runs_on_demand_and_the_others_do_not() -> Outcome {
        let host = Host::new(1 << 30)?;
        let memories = "(memory 1)".repeat(8);
        for (what, words) in [("(table 40000 funcref)", "minimum element size"), (memories.as_str(), "memories")] {
            let guest = host.link(&handler(what)).map_err(reason)?;
            let why = guest.on_demand().unwrap_or_default();
            assert!(why.contains(words), "{why}");
            host.instance(&guest).map_err(detail)?;
        }
        assert_eq!(host.link(&handler("")).map_err(reason)?.on_demand(), None);
        Ok(())
    }

    #[test]
    fn a_larger_memory_limit_after_a_reload_stays_in_the_pool() -> Outcome {
        let mut host = Host::new(1 << 20)?;
        let component = handler("(memory 512)");
        let before = host.link(&component).map_err(reason)?;
        let fault = host.instance(&before).map(drop).err().ok_or("32 MiB within 1 MiB")?;
        assert_eq!((fault.kind, fault.flag()), (FaultKind::Start, Some("--memory-max")));
        host.set_app(|app| app.limits.memory_max_bytes = 4 << 30);
        let after = host.link(&component).map_err(reason)?;
        assert_eq!(after.on_demand(), None);
        host.instance(&after).map_err(detail)?;
        Ok(())
    }

    #[test]
    fn a_component_with_an_unknown_import_is_not_linked() -> Outcome {
        let host = Host::new(1 << 30)?;
        let component = handler("").replacen("(component", r#"(component (import "acme:a/b@1.0.0" (func))"#, 1);
        let problem = host.link(&component).map(drop).err().ok_or("it was linked")?;
        assert!(problem.reason.starts_with("it imports `acme:a/b@1.0.0`"), "{}", problem.reason);
        Ok(())
    }

    /// An instance that is let go of when memory is short.
    struct LetGo(RefCell<Option<Instance>>);

    impl MemoryRelief for LetGo {
        fn relieve(&self, _: MemoryLack) -> bool {
            self.0.take().is_some()
        }
    }

    /// Has an instance serve a request to its end: whether it answered, or its fault.
    fn serve_one(host: &Host, instance: &mut Instance) -> Result<bool, Fault> {
        let request = http::Request::builder().uri("http://a.test/").body(Default::default());
        instance.begin(Call::Http(request.expect("a request")), 1);
        let mut answered = false;
        host.runtime.block_on(std::future::poll_fn(|context| {
            if let Poll::Ready(fault) = instance.poll(context) {
                return Poll::Ready(Err(fault));
            }
            answered |= instance.take_head().is_some();
            if instance.is_idle() { Poll::Ready(Ok(answered)) } else { Poll::Pending }
        }))
    }

    #[test]
    fn an_instance_at_rest_may_be_dropped_within_the_growth_of_another() -> Outcome {
        let host = Host::new(64 << 20)?;
        fn leaked<T: Default>() -> &'static T {
            Box::leak(Box::default())
        }
        let (used_bytes, share_bytes, apps_with_memory) =
            (leaked::<MemoryCount>(), leaked::<MemoryCount>(), leaked::<AtomicU64>());
        let context = |app| {
            let (max_bytes, (pulse, ticker)) = (u64::MAX, host.context.pulse());
            let own =
                AppMemory { app: AppId(app), max_bytes, used_bytes: leaked(), share_bytes: leaked(), apps_with_memory };
            let budget = Arc::new(MemoryBudget::new(2 << 20, used_bytes, share_bytes).for_app(own, false));
            let (cpu, bounds) = (Rc::default(), AppBounds::alone());
            InstanceContext::new(1, Arc::clone(pulse), Arc::clone(ticker), budget, &host.app, (&cpu, app), bounds)
        };
        let [rests_in, grows_in] = [1, 2].map(context);
        let instance = |guest: &Guest, context| host.runtime.block_on(guest.instantiate(context, None)).map_err(detail);
        let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/hello-p3.wasm");
        let artifact = compiled_in_test(&std::fs::read(component)?, &host.folder.path().join("p3")).map_err(reason)?;
        let rests = Guest::try_link(&artifact, &host.app, &host.sandbox).map_err(reason)?;
        // It traps when it gets no memory, and else returns without an answer.
        let grow = "(param i32 i32) (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)))";
        let grows = handler("").replace("(param i32 i32))", grow);
        let concurrent = grows.replacen("(core module", "(core func (canon waitable-set.new)) (core module", 1);
        for (component, is_concurrent) in [(grows, false), (concurrent, true)] {
            let guest = host.link(&component).map_err(reason)?;
            assert_eq!(Engine::same(&guest.engine, &rests.engine), is_concurrent);
            for is_there in [true, false] {
                let mut resting = instance(&rests, &rests_in)?;
                assert_eq!(serve_one(&host, &mut resting).map_err(detail), Ok(true));
                let mut growing = instance(&guest, &grows_in)?;
                let (let_go, kept) = if is_there { (Some(resting), None) } else { (None, Some(resting)) };
                let let_go = Rc::new(LetGo(RefCell::new(let_go)));
                let relief: Rc<dyn MemoryRelief> = Rc::clone(&let_go) as _;
                relieved_by(&relief);
                let fault = serve_one(&host, &mut growing).err().ok_or("it answers nothing")?;
                let expected = if is_there { FaultKind::NeverAnswered } else { FaultKind::Capacity };
                assert_eq!(fault.kind, expected, "{}", fault.detail);
                assert!(let_go.0.borrow().is_none());
                drop((growing, kept));
                assert_eq!([used_bytes.get(), share_bytes.get(), apps_with_memory.load(Relaxed)], [0; 3]);
            }
        }
        Ok(())
    }

    #[test]
    fn a_component_of_wasi_0_3_has_an_engine_of_the_other_kind() -> Outcome {
        let host = Host::new(1 << 30)?;
        let plain = host.link(&handler("")).map_err(reason)?;
        let component = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/hello-p3.wasm");
        let artifact = compiled_in_test(&std::fs::read(component)?, &host.folder.path().join("p3")).map_err(reason)?;
        let concurrent = Guest::try_link(&artifact, &host.app, &host.sandbox).map_err(reason)?;
        assert!(!Engine::same(&plain.engine, &concurrent.engine));
        host.instance(&concurrent).map_err(detail)?;
        Ok(())
    }
}
