//! The settings that compiled code depends on, in one place. Compiling and serving must use exactly the same settings, so no
//! flag of a run changes them; of the component, only whether it uses the component model's concurrency does. A run chooses
//! only where instances get their memory.

use std::hash::{Hash, Hasher};

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, ResourcesRequired};

use super::limits::CORE_INSTANCES_MAX;
use super::source::Problem;

/// Stack of a guest's call, above which it ends with a stack overflow.
const GUEST_STACK_BYTES: usize = 512 * 1024;
/// Stack on which a call and the host functions below it run.
const FIBER_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Frames of a guest's stack that a trap keeps.
const BACKTRACE_FRAMES: usize = 20;

/// How many instances the pool is made for, and how large.
#[derive(Debug, Clone, Copy)]
pub(super) struct PoolSize {
    pub(super) instances: u32,
    /// Calls at once in one instance.
    pub(super) calls_per_instance: u32,
    pub(super) memory_max_bytes: u64,
}

/// Where instances get their memory from.
pub(super) enum Allocation<'a> {
    /// From the system, as needed.
    OnDemand,
    /// From a pool reserved at start, for a component that needs so much.
    Pool(PoolSize, &'a ResourcesRequired),
}

fn settings(concurrent: bool) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // No toolchain for wasi:http emits them, and each is more of wasmtime for a guest to reach. Exceptions stay: C's
    // setjmp and C++ are compiled to them. (Threads, stack switching, custom page sizes, wide arithmetic and the
    // component model's own unfinished proposals are off unless they are asked for.)
    config.wasm_memory64(false).wasm_gc(false);
    config.wasm_component_model_async(concurrent);
    // Without it wasmtime keeps no record of tasks, and a call of a host function takes fewer steps.
    config.concurrency_support(concurrent);
    config.epoch_interruption(true);
    config.cranelift_opt_level(OptLevel::Speed);
    config.max_wasm_stack(GUEST_STACK_BYTES);
    config.async_stack_size(FIBER_STACK_BYTES);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
    // Source lines would be read from the component's debug information on the worker's thread.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config
}

/// Makes an engine; `concurrent`: for components that use the component model's concurrency
/// ([`Description::concurrent`](super::source::Description)).
pub(super) fn engine(concurrent: bool, allocation: Allocation<'_>) -> wasmtime::Result<Engine> {
    let mut config = settings(concurrent);
    if let Allocation::Pool(size, required) = allocation {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(size, required)));
    }
    Engine::new(&config)
}

fn pool(size: PoolSize, required: &ResourcesRequired) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::default();
    let instances = size.instances;
    let core_instances = u32::try_from(CORE_INSTANCES_MAX).unwrap_or(u32::MAX);
    pool.table_keep_resident(TABLE_KEPT_BYTES);
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(core_instances))
        .total_memories(instances.saturating_mul(required.num_memories.max(1)))
        .total_tables(instances.saturating_mul(required.num_tables.max(1)))
        .total_stacks(instances.saturating_mul(size.calls_per_instance.saturating_add(1)))
        .total_gc_heaps(instances)
        .max_component_instance_size(usize::MAX >> 1)
        .max_core_instance_size(usize::MAX >> 1)
        .max_tables_per_module(core_instances)
        .max_memories_per_module(core_instances)
        .max_memory_size(
            usize::try_from(size.memory_max_bytes).unwrap_or(usize::MAX).next_multiple_of(64 * 1024).min(1 << 32),
        );
    let initial_elements = required.max_initial_table_size.unwrap_or(0);
    pool.table_elements(usize::try_from(initial_elements).unwrap_or(usize::MAX).max(TABLE_ELEMENTS_MIN));
    pool
}

/// Bytes of a table that are zeroed in place when its instance goes; what is beyond is given back to the system and comes
/// back zeroed. Toolchains make tables of a few hundred to a few thousand elements of 8 bytes: to zero them costs less
/// than the system call and the page fault that giving them back does.
const TABLE_KEPT_BYTES: usize = 32 * 1024;

/// Room for tables to grow to in the pool; toolchains seldom grow them at all.
const TABLE_ELEMENTS_MIN: usize = 20_000;

/// A short text that is the same for engines that can run each other's compiled code, and differs otherwise: by version
/// of wasmtime, settings, and features of the CPU.
pub(super) fn compatibility(engine: &Engine) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// An engine to load code with before it is known what its instances need.
pub(super) fn probe(concurrent: bool) -> Result<Engine, Problem> {
    engine(concurrent, Allocation::OnDemand).map_err(|error| unusable(&error))
}

/// No engine can be had.
pub(super) fn unusable(error: &wasmtime::Error) -> Problem {
    Problem::new(
        format!("this machine cannot run wasmtime: {}", error.root_cause()),
        "wasmhost needs a 64-bit Linux on x86-64 or aarch64",
    )
}
