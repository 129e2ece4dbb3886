//! Why an instance had to go, in the host's own words. Only this file interprets wasmtime's errors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Trap, WasmBacktrace};

use super::limits::{COMPONENT_HANDLES_MAX, FIELDS_BYTES_MAX, HANDLES_MAX, HOSTCALL_BYTES_MAX, RANDOM_BYTES_MAX};
use super::meter::{Meter, RefusedGrowth};
use super::record::{CallRecord, Recorded};
use super::symbols::{self, Trace, TrapFrame};

/// What ended an instance.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kind, for counting and for the answer's status.
    pub kind: FaultKind,
    /// What happened, on one line; for the log, never for the client.
    pub detail: Arc<str>,
    /// Where it happened, in development.
    pub trace: Option<Arc<Trace>>,
    /// The guest's stack, innermost first, 64 functions of it at most.
    pub frames: Arc<[TrapFrame]>,
    /// Of an instance that did not start: what it wrote until then, where that is recorded.
    pub recorded: Option<Arc<Recorded>>,
    /// The flag of the limit that was met, where the kind does not name it.
    met: Option<&'static str>,
}

/// The kinds of faults, as log and metrics name them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Wasm stopped itself: `unreachable`, a panic, an access out of bounds, …
    Trap,
    /// The guest called `exit`.
    Exit,
    /// The guest's stack was used up.
    StackOverflow,
    /// The guest ended after growth of its memory had been refused.
    Memory,
    /// There was no room for the instance, or for it to grow: within `--memory-total`, the memory of the app, or the pool.
    Capacity,
    /// CPU time above `--cpu-limit`.
    Cpu,
    /// No head within `--request-timeout`.
    Wall,
    /// The guest returned without an answer.
    NeverAnswered,
    /// The guest ended or left its body before it had finished it.
    Unfinished,
    /// A body was silent for longer than `--body-idle-timeout`.
    BodyIdle,
    /// The client's body was larger than `--body-max`.
    BodyTooLarge,
    /// The client's body broke HTTP's rules, or its connection ended before it did.
    BadBody,
    /// The response took longer than `--response-timeout`.
    ResponseTimeout,
    /// The instance did not come up.
    Start,
    /// A bug of the host.
    Host,
}

impl FaultKind {
    /// All kinds, in the order of [`Self::index`].
    pub const ALL: [Self; 15] = [
        Self::Trap,
        Self::Exit,
        Self::StackOverflow,
        Self::Memory,
        Self::Capacity,
        Self::Cpu,
        Self::Wall,
        Self::NeverAnswered,
        Self::Unfinished,
        Self::BodyIdle,
        Self::BodyTooLarge,
        Self::BadBody,
        Self::ResponseTimeout,
        Self::Start,
        Self::Host,
    ];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in log fields and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Exit => "exit",
            Self::StackOverflow => "stack-overflow",
            Self::Memory => "memory",
            Self::Capacity => "capacity",
            Self::Cpu => "cpu",
            Self::Wall => "wall",
            Self::NeverAnswered => "never-answered",
            Self::Unfinished => "unfinished-body",
            Self::BodyIdle => "body-idle",
            Self::BodyTooLarge => "body-too-large",
            Self::BadBody => "bad-body",
            Self::ResponseTimeout => "response-timeout",
            Self::Start => "start",
            Self::Host => "host",
        }
    }

    /// The flag that raises the limit that was met, if one was.
    pub const fn flag(self) -> Option<&'static str> {
        match self {
            Self::Memory => Some("--memory-max"),
            Self::Capacity => Some("--memory-total"),
            Self::Cpu => Some("--cpu-limit"),
            Self::Wall => Some("--request-timeout"),
            Self::BodyIdle => Some("--body-idle-timeout"),
            Self::BodyTooLarge => Some("--body-max"),
            Self::ResponseTimeout => Some("--response-timeout"),
            _ => None,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Fault {
    /// A fault that the host itself found.
    pub fn new(kind: FaultKind, detail: impl Into<Arc<str>>) -> Self {
        Self { kind, detail: detail.into(), trace: None, frames: Arc::new([]), recorded: None, met: None }
    }

    /// The flag that raises the limit that was met, if one was.
    pub fn flag(&self) -> Option<&'static str> {
        self.met.or(self.kind.flag())
    }

    /// An instance did not come up in time.
    pub(super) fn too_slow_to_start(kind: FaultKind, limit: Duration) -> Self {
        let detail = format!("the instance did not start within {}", humantime::format_duration(limit));
        Self { met: Some("--request-timeout"), ..Self::new(kind, detail) }
    }

    /// All of the process's places for instances are taken, or the few that are left are for other guests.
    pub(super) fn no_place(max: u64) -> Self {
        let detail = format!("the process has {max} places for instances, and none for one more of this component");
        Self { met: Some("--instances-per-worker"), ..Self::new(FaultKind::Capacity, detail) }
    }

    /// Reads what wasmtime ended with, knowing what `meter` saw in that call.
    pub(super) fn from_error(error: &wasmtime::Error, meter: &Meter) -> Self {
        let kind = if meter.cpu_exceeded() {
            FaultKind::Cpu
        } else if let Some(fault) = Self::of_pool(error) {
            return fault;
        } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return Self::new(FaultKind::Exit, format!("the guest called exit({})", exit.0));
        } else if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
            FaultKind::StackOverflow
        } else {
            match meter.refused() {
                Some(RefusedGrowth::Instance) => FaultKind::Memory,
                Some(RefusedGrowth::Total | RefusedGrowth::App) => FaultKind::Capacity,
                None => FaultKind::Trap,
            }
        };
        Self {
            trace: trace(error, meter),
            frames: frames(error),
            met: limit_of_app(kind, meter),
            ..Self::new(kind, describe(error))
        }
    }

    /// What there is none left of in the pool that the workers share, also within a call (a stack for one more call of a
    /// subcomponent): others have it, which says nothing of this component.
    fn of_pool(error: &wasmtime::Error) -> Option<Self> {
        error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>()?;
        Some(Self { met: Some("--instances-per-worker"), ..Self::new(FaultKind::Capacity, describe(error)) })
    }

    /// With what the instance wrote that did not start.
    pub(super) fn with_record(self, meter: &Meter) -> Self {
        Self { recorded: meter.record().map(CallRecord::recorded).map(Arc::new), ..self }
    }

    /// Reads why an instance did not come up.
    pub(super) fn from_start_error(error: &wasmtime::Error, meter: &Meter) -> Self {
        if let Some(fault) = Self::of_pool(error) {
            return fault;
        }
        if matches!(meter.refused(), Some(RefusedGrowth::Total | RefusedGrowth::App)) || is_shortage(error) {
            let kind = FaultKind::Capacity;
            return Self { met: limit_of_app(kind, meter), ..Self::new(kind, describe(error)) };
        }
        let fault = Self::from_error(error, meter);
        match fault.kind {
            FaultKind::Cpu => fault,
            kind => Self {
                trace: fault.trace,
                frames: fault.frames,
                // Also where the guest was refused a memory that it cannot do without.
                met: meter.refused().map(RefusedGrowth::flag),
                ..Self::new(FaultKind::Start, format!("{}: {}", kind.name(), fault.detail))
            },
        }
    }
}

/// The limit to name where other instances of the same app have what it may have of the memory.
fn limit_of_app(kind: FaultKind, meter: &Meter) -> Option<&'static str> {
    let is_met = kind == FaultKind::Capacity && meter.refused() == Some(RefusedGrowth::App);
    is_met.then_some(RefusedGrowth::App.flag())
}

/// Whether the system had no memory, or no descriptors, for an instance: others may have some later.
fn is_shortage(error: &wasmtime::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::NOMEM, Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error);
    error.chain().any(|cause| {
        let of_system = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let code = of_system.or_else(|| cause.downcast_ref::<Errno>().map(|errno| errno.raw_os_error()));
        code.is_some_and(|code| shortages.contains(&code))
    })
}

/// The guest's stack with its source, where the meter knows how to find that.
fn trace(error: &wasmtime::Error, meter: &Meter) -> Option<Arc<Trace>> {
    let symbols = meter.symbols()?;
    error.downcast_ref::<WasmBacktrace>().map(|backtrace| Arc::new(symbols.trace(backtrace)))
}

/// Most frames of a guest's stack that are kept.
const FRAMES_MAX: usize = 64;

/// The guest's stack.
fn frames(error: &wasmtime::Error) -> Arc<[TrapFrame]> {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    backtrace.map_or_else(|| Arc::from([]), |backtrace| symbols::frames(backtrace, FRAMES_MAX).into())
}

/// Most frames of a guest's stack that a log line shows.
const FRAMES_SHOWN: usize = 12;

/// The error's causes and the guest's frames on one line. Never formats the host's own back-trace: with
/// `RUST_BACKTRACE` set that would read all symbols of the program on the worker's thread.
fn describe(error: &wasmtime::Error) -> String {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let is_frames = text.starts_with("error while executing at wasm backtrace");
        if !is_frames && !causes.contains(&text) {
            causes.push(text);
        }
    }
    if let Some(bound) = known_bound(error).or_else(|| causes.iter().find_map(|text| bound_met(text))) {
        causes.insert(0, bound);
    }
    let mut line = causes.join(": ").replace('\n', " ");
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        let names =
            backtrace.frames().iter().take(FRAMES_SHOWN).map(|frame| {
                frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), symbols::name)
            });
        let names: Vec<String> = names.collect();
        if !names.is_empty() {
            line.push_str("; in ");
            line.push_str(&names.join(" < "));
        }
    }
    line
}

/// Which bound on the host's resources was met, by the types of wasmtime's errors.
fn known_bound(error: &wasmtime::Error) -> Option<String> {
    use wasmtime::component::ResourceTableError;
    use wasmtime_wasi_http::FieldMapError;
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(format!("more than {HANDLES_MAX} handles in one instance"));
    }
    if let Some(FieldMapError::TotalSizeTooBig) = error.downcast_ref::<FieldMapError>() {
        return Some(format!("more than {FIELDS_BYTES_MAX} bytes in one `fields`"));
    }
    None
}

/// The same by wasmtime's words, where it has no type for it that can be named. Only the text in the log depends on it;
/// `tests/host_resources.rs` and `tests/hostile_guests.rs` provoke each, so that other words fail a test.
fn bound_met(text: &str) -> Option<String> {
    Some(match text {
        _ if text.ends_with("store handle limit exceeded") => {
            format!("more than {COMPONENT_HANDLES_MAX} handles, futures, streams and calls in one instance")
        }
        _ if text.starts_with("requested len ") => format!("more than {RANDOM_BYTES_MAX} random bytes in one call"),
        _ if text.starts_with("too much data is being copied") => {
            format!("more than {HOSTCALL_BYTES_MAX} bytes from the guest in one call of the host")
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_of_the_host_is_named_before_the_words_of_wasmtime() {
        let error = wasmtime::Error::from(wasmtime::component::ResourceTableError::Full).context("pushing fields");
        let line = describe(&error);
        let expected = format!("more than {HANDLES_MAX} handles in one instance: pushing fields: resource table has");
        assert!(line.starts_with(&expected), "{line}");
    }

    #[test]
    fn a_shortage_of_the_system_is_told_from_a_fault_of_the_component() {
        let of_mapping = wasmtime::Error::from(rustix::io::Errno::NOMEM).context("mmap failed");
        let of_opening = wasmtime::Error::from(std::io::Error::from(rustix::io::Errno::MFILE)).context("a directory");
        assert!(is_shortage(&of_mapping) && is_shortage(&of_opening));
        assert!(!is_shortage(&wasmtime::Error::from(rustix::io::Errno::INVAL)));
    }

    #[test]
    fn the_index_is_the_position() {
        for (position, kind) in FaultKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), position);
        }
    }

    #[test]
    fn what_the_pool_has_none_left_of_is_a_want_of_capacity_whenever_it_is_met() -> wasmtime::Result<()> {
        let mut pool = wasmtime::PoolingAllocationConfig::default();
        pool.total_memories(1);
        let mut config = wasmtime::Config::new();
        config.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
        let engine = wasmtime::Engine::new(&config)?;
        let module = wasmtime::Module::new(&engine, "(module (memory 1))")?;
        let mut store = wasmtime::Store::new(&engine, ());
        let _first = wasmtime::Instance::new(&mut store, &module, &[])?;
        let Err(error) = wasmtime::Instance::new(&mut store, &module, &[]) else {
            return Err(wasmtime::format_err!("a second memory in a pool of one"));
        };
        let error = error.context("within a call");
        let meter = Meter::of_test(Duration::from_secs(1));
        for fault in [Fault::from_error(&error, &meter), Fault::from_start_error(&error, &meter)] {
            assert_eq!((fault.kind, fault.flag()), (FaultKind::Capacity, Some("--instances-per-worker")));
        }
        Ok(())
    }

    #[test]
    fn a_start_that_was_refused_memory_names_the_flag() {
        let meter = Meter::of_test(Duration::from_secs(1));
        let error = wasmtime::format_err!("whatever wasmtime says");
        assert_eq!(Fault::from_start_error(&error, &meter).flag(), None);
        meter.refuse(RefusedGrowth::Instance, 0, 1);
        let fault = Fault::from_start_error(&error, &meter);
        assert_eq!((fault.kind, fault.flag()), (FaultKind::Start, Some("--memory-max")));
    }

    #[test]
    fn a_refusal_for_what_others_hold_is_a_want_of_capacity_and_names_its_limit() {
        let error = wasmtime::format_err!("whatever wasmtime says");
        for (refused, limit) in [(RefusedGrowth::Total, "--memory-total"), (RefusedGrowth::App, "--app-memory-max")] {
            let meter = Meter::of_test(Duration::from_secs(1));
            meter.refuse(refused, 0, 1);
            for fault in [Fault::from_error(&error, &meter), Fault::from_start_error(&error, &meter)] {
                assert_eq!((fault.kind, fault.flag()), (FaultKind::Capacity, Some(limit)));
            }
        }
    }
}
