//! Everything that knows wasmtime: loading a component, running its instances, and keeping them within their limits.
//! The rest of the host sees a [`Guest`], the [`Instance`]s made of it, and the [`Fault`]s they end with; errors of
//! wasmtime never leave this folder.

mod artifact;
mod bounds;
mod cache;
mod call;
mod capability;
mod check;
mod compile;
mod cpu;
mod database_counts;
mod deterministic;
mod driver;
mod engine;
mod epoch;
mod error_code;
mod fairness;
mod fault;
mod file_threads;
mod files;
mod found;
mod guest;
mod hex;
mod instance;
mod known;
mod limits;
mod memory;
mod meter;
mod outbound;
mod pool;
mod preempt;
mod prepare;
mod profile;
mod provided;
mod record;
mod relief;
mod replacing;
mod reset;
mod response_p2;
mod response_p3;
mod sandbox;
mod shared;
mod soon_free;
mod source;
mod stack_counts;
mod state;
mod stdio;
mod store_counts;
mod stored;
mod symbols;
#[cfg(test)]
mod testing;
mod waking;

pub use artifact::{Survey, survey};
pub use bounds::{AppBounds, AppCounters, ConnectionUse, SharedBound, WorkerBounds};
pub use cache::{has_cache, make_dir as make_cache_dir};
pub use call::{Call, Head};
pub use capability::{HostServices, capabilities};
pub use check::{Checked, check};
pub use compile::{CompileError, bound_compiling_child, compile_ahead, compile_here};
pub use cpu::WorkerCpu;
pub use database_counts::{DatabaseCounters, DatabaseFailure};
pub use epoch::{Pulse, PulseCells, TICK, Ticker};
pub use fault::{Fault, FaultKind};
pub use found::{Found, look_up};
pub use guest::{Guest, InstanceContext, WasiVersion};
pub use instance::{Instance, InstanceRecord};
pub use memory::{AppMemory, MemoryBudget, MemoryCount};
pub use meter::{CallChain, SERVICE_DEPTH_MAX};
pub use outbound::DESCRIPTORS_MAX as OUTGOING_DESCRIPTORS_MAX;
pub use outbound::{CallerLeft, NoServices, ServiceAnswer, ServiceCall, ServicePieces, Services, charged};
pub use prepare::Artifact;
pub use profile::Profiler;
pub use provided::provided;
pub use record::{OutputEnd, Recorded, RecordedRequest};
pub use relief::{MemoryLack, MemoryRelief, relieved_by};
pub use sandbox::Sandbox;
pub use shared::{Shared, SharedEnd, SharedPlace};
pub use soon_free::SoonFree;
pub use source::{
    Binary, Content, Description, NESTING_MAX, Problem, binary, content, core_module, damaged, describe, too_deep,
    validate, wasi_version, with_lines,
};
pub use source::{LoadError, REUSE_SECTION};
pub use stack_counts::{CountedStack, StackBook, StackCounts};
pub use store_counts::{StoreCall, StoreCounters, StoreFailure};
pub use stored::StoredCode;
pub use symbols::{SourcePlace, Trace, TraceFrame, TrapFrame, places_of};

/// Body of requests and responses on their way in and out of a guest.
pub type Body = wasmtime_wasi_http::WasiBody;
/// What such a body ends with when it is broken off.
pub type BodyError = wasmtime_wasi_http::Error;
