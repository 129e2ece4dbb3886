//! The settings that compiled code depends on, in one place. Compiling and serving must use exactly the same settings, so no
//! flag of a run changes them: only the kind of engine does, which compiled code says of itself. A run chooses only where
//! instances get their memory.

use std::hash::{Hash, Hasher};
use std::sync::OnceLock;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel, Strategy};

use wasmhost_config::Tier;

use super::pool::PoolShape;
use super::source::Problem;

/// Stack of a guest's call, above which it ends with a stack overflow.
const GUEST_STACK_BYTES: usize = 512 * 1024;
/// The same of code that is not optimised, whose frames have a place for every local variable: who recurses as deeply as in
/// production needs more.
const BASELINE_STACK_BYTES: usize = 3 * GUEST_STACK_BYTES;
/// Stack for the host functions below a call.
const HOST_STACK_BYTES: usize = 3 * 512 * 1024;
/// Frames of a guest's stack that a trap keeps, or a sample.
pub(super) const BACKTRACE_FRAMES: usize = 128;

/// What engines differ in, and with them the code that they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EngineKind {
    /// For components that use the component model's concurrency
    /// ([`Description::concurrent`](super::source::Description)).
    pub(super) concurrent: bool,
    /// How the code was compiled.
    pub(super) tier: Tier,
}

impl EngineKind {
    /// All of them; each at its [`Self::number`].
    pub(super) const ALL: [Self; 4] = [
        Self { concurrent: false, tier: Tier::Optimised },
        Self { concurrent: true, tier: Tier::Optimised },
        Self { concurrent: false, tier: Tier::Baseline },
        Self { concurrent: true, tier: Tier::Baseline },
    ];

    pub(super) fn number(self) -> usize {
        usize::from(self.concurrent) + if self.tier == Tier::Baseline { 2 } else { 0 }
    }
}

/// Where instances get their memory from.
pub(super) enum Allocation {
    /// From the system, as needed.
    OnDemand,
    /// From a pool of this shape, reserved when the engine is made.
    Pool(PoolShape),
}

fn settings(EngineKind { concurrent, tier }: EngineKind) -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    // No toolchain for wasi:http emits them, and each is more of wasmtime for a guest to reach. Exceptions stay: C's
    // setjmp and C++ are compiled to them. (Threads, stack switching, custom page sizes and the component model's own
    // unfinished proposals are off unless they are asked for; so is wide arithmetic before wasmtime 50.)
    config.wasm_memory64(false).wasm_gc(false).wasm_wide_arithmetic(false);
    config.wasm_component_model_async(concurrent);
    // Without it wasmtime keeps no record of tasks, and a call of a host function takes fewer steps.
    config.concurrency_support(concurrent);
    config.epoch_interruption(true);
    config.strategy(match tier {
        Tier::Optimised => Strategy::Cranelift,
        Tier::Baseline => Strategy::Winch,
    });
    config.cranelift_opt_level(OptLevel::Speed);
    let stack_bytes = match tier {
        Tier::Optimised => GUEST_STACK_BYTES,
        Tier::Baseline => BASELINE_STACK_BYTES,
    };
    config.max_wasm_stack(stack_bytes);
    // What a call and the host functions below it run on.
    config.async_stack_size(stack_bytes + HOST_STACK_BYTES);
    config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
    // Source lines would be read from the component's debug information on the worker's thread.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config
}

/// Makes an engine.
pub(super) fn engine(kind: EngineKind, allocation: &Allocation) -> wasmtime::Result<Engine> {
    let mut config = settings(kind);
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

/// The same text for the engines of this process, of this kind. An engine is made once to know it.
pub(super) fn compatibility_here(kind: EngineKind) -> Result<&'static str, Problem> {
    static KNOWN: [OnceLock<String>; EngineKind::ALL.len()] = [const { OnceLock::new() }; EngineKind::ALL.len()];
    let known = &KNOWN[kind.number()];
    if let Some(known) = known.get() {
        return Ok(known);
    }
    let probe = engine(kind, &Allocation::OnDemand).map_err(|error| unusable(&error))?;
    Ok(known.get_or_init(|| compatibility(&probe)))
}

/// By which the cache names code of this tier: it tells versions, settings and CPUs apart. Whether the code is for engines with
/// concurrency, it says itself.
pub(super) fn cached_as(tier: Tier) -> Result<&'static str, Problem> {
    compatibility_here(EngineKind { concurrent: true, tier })
}

/// [`cached_as`] of all code that may be served where this tier is wanted, the fastest first: whoever wants code soon takes what
/// is optimised already.
pub(super) fn usable_as(wanted: Tier) -> Result<Vec<&'static str>, Problem> {
    let usable: &[Tier] = match wanted {
        Tier::Optimised => &[Tier::Optimised],
        Tier::Baseline => &[Tier::Optimised, Tier::Baseline],
    };
    usable.iter().copied().map(cached_as).collect()
}

/// No engine can be had.
pub(super) fn unusable(error: &wasmtime::Error) -> Problem {
    Problem::new(
        format!("this machine cannot run wasmtime: {}", error.root_cause()),
        "wasmhost needs a 64-bit Linux on x86-64 or aarch64",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_kind_of_engine_has_its_own_number_and_code() -> Result<(), Problem> {
        let numbers: Vec<usize> = EngineKind::ALL.into_iter().map(EngineKind::number).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        let names = EngineKind::ALL.into_iter().map(compatibility_here).collect::<Result<BTreeSet<_>, _>>()?;
        assert_eq!(names.len(), EngineKind::ALL.len());
        Ok(())
    }
}
