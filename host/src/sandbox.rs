//! Everything that knows wasmtime: loading a component, running its instances, and keeping them within their limits.
//! The rest of the host sees a [`Guest`], the [`Instance`]s made of it, and the [`Fault`]s they end with; errors of
//! wasmtime never leave this folder.

mod artifact;
mod cache;
mod call;
mod compile;
mod engine;
mod epoch;
mod fault;
mod guest;
mod instance;
mod limits;
mod outbound;
mod prepare;
mod shared;
mod source;
mod state;
mod stdio;
mod waking;

pub use call::Head;
pub use compile::{CompileError, compile_ahead, compile_here, is_compiling_child};
pub use epoch::{Pulse, PulseCells, TICK, Ticker};
pub use fault::{Fault, FaultKind};
pub use guest::{Guest, InstanceContext, WasiVersion};
pub use instance::Instance;
pub use limits::MemoryBudget;
pub use prepare::Artifact;
pub use shared::{Shared, SharedEnd, SharedPlace};
pub use source::{LoadError, REUSE_SECTION};

/// Body of requests and responses on their way in and out of a guest.
pub type Body = wasmtime_wasi_http::WasiBody;
/// What such a body ends with when it is broken off.
pub type BodyError = wasmtime_wasi_http::Error;
