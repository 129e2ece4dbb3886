//! Why an instance has to go, in the host's own words: read from wasmtime's errors here and nowhere else.

use std::fmt;
use std::sync::Arc;

use wasmtime::{Trap, WasmBacktrace};

use super::limits::{
    COMPONENT_HANDLES_MAX, FIELDS_BYTES_MAX, HANDLES_MAX, HOSTCALL_BYTES_MAX, Meter, RANDOM_BYTES_MAX, Refused,
};
use super::symbols::{self, Trace};

/// What ended an instance.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kind, for counting and for the answer's status.
    pub kind: FaultKind,
    /// What happened, on one line; for the log, never for the client.
    pub detail: Arc<str>,
    /// Where it happened, in development.
    pub trace: Option<Arc<Trace>>,
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
    /// There was no room for the instance, or for it to grow, within `--memory-total` or the pool.
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
        Self { kind, detail: detail.into(), trace: None }
    }

    /// Reads what wasmtime ended with, knowing what `meter` saw in that call.
    pub(super) fn from_error(error: &wasmtime::Error, meter: &Meter) -> Self {
        let kind = if meter.cpu_exceeded() {
            FaultKind::Cpu
        } else if let Some(exit) = error.downcast_ref::<wasmtime_wasi::I32Exit>() {
            return Self::new(FaultKind::Exit, format!("the guest called exit({})", exit.0));
        } else if error.downcast_ref::<Trap>() == Some(&Trap::StackOverflow) {
            FaultKind::StackOverflow
        } else {
            match meter.refused() {
                Some(Refused::Instance) => FaultKind::Memory,
                Some(Refused::Total) => FaultKind::Capacity,
                None => FaultKind::Trap,
            }
        };
        Self { trace: trace(error, meter), ..Self::new(kind, describe(error)) }
    }

    /// Reads why an instance did not come up.
    pub(super) fn from_start_error(error: &wasmtime::Error, meter: &Meter) -> Self {
        let out_of_pool = error.downcast_ref::<wasmtime::PoolConcurrencyLimitError>().is_some();
        if out_of_pool || meter.refused() == Some(Refused::Total) || is_shortage(error) {
            return Self::new(FaultKind::Capacity, describe(error));
        }
        let fault = Self::from_error(error, meter);
        match fault.kind {
            FaultKind::Cpu => fault,
            kind => {
                Self { trace: fault.trace, ..Self::new(FaultKind::Start, format!("{}: {}", kind.name(), fault.detail)) }
            }
        }
    }
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
    if let Some(bound) = causes.iter().find_map(|text| bound_met(text)) {
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

/// Which bound on the host's resources wasmtime speaks of: its words name neither the call nor whose bound it is, and
/// most of its types for this are private.
fn bound_met(text: &str) -> Option<String> {
    Some(match text {
        "resource table has no free keys" => format!("more than {HANDLES_MAX} handles in one instance"),
        "total size of fields exceeds limit" => format!("more than {FIELDS_BYTES_MAX} bytes in one `fields`"),
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
}
