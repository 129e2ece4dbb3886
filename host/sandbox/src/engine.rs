//! The settings that compiled code depends on, in one place. Compiling and serving must use exactly the same settings, so no
//! flag of a run changes them; of the component, only whether it uses the component model's concurrency does. A run chooses
//! only where instances get their memory.

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel};

use super::pool::PoolShape;
use super::source::Problem;

/// Stack of a guest's call, above which it ends with a stack overflow.
const GUEST_STACK_BYTES: usize = 512 * 1024;
/// Stack on which a call and the host functions below it run.
const FIBER_STACK_BYTES: usize = 2 * 1024 * 1024;
/// Frames of a guest's stack that a trap keeps.
const BACKTRACE_FRAMES: usize = 20;

/// Where instances get their memory from.
pub(super) enum Allocation {
    /// From the system, as needed.
    OnDemand,
    /// From a pool of this shape, reserved when the engine is made.
    Pool(PoolShape),
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
pub(super) fn engine(concurrent: bool, allocation: &Allocation) -> wasmtime::Result<Engine> {
    let mut config = settings(concurrent);
    if let Allocation::Pool(shape) = allocation {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(shape.allocation()));
    }
    Engine::new(&config)
}

/// A short text that is the same for engines that can run each other's compiled code, and differs otherwise: by version
/// of wasmtime, settings, and features of the CPU.
pub(super) fn compatibility(engine: &Engine) -> String {
    let mut hasher = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The same text for the engines of this process, of either kind. An engine is made once to know it.
pub(super) fn compatibility_here(concurrent: bool) -> Result<&'static str, Problem> {
    static KNOWN: [OnceLock<String>; 2] = [OnceLock::new(), OnceLock::new()];
    let [plain, with_concurrency] = &KNOWN;
    let known = if concurrent { with_concurrency } else { plain };
    if let Some(known) = known.get() {
        return Ok(known);
    }
    let probe = engine(concurrent, &Allocation::OnDemand).map_err(|error| unusable(&error))?;
    Ok(known.get_or_init(|| compatibility(&probe)))
}

/// No engine can be had.
pub(super) fn unusable(error: &wasmtime::Error) -> Problem {
    Problem::new(
        format!("this machine cannot run wasmtime: {}", error.root_cause()),
        "wasmhost needs a 64-bit Linux on x86-64 or aarch64",
    )
}
