//! What the primary orders of a worker: all that it needs to start, and then what to serve and whether to go on.

use std::net::TcpListener;
use std::sync::Arc;

use http::uri::Authority;

use wasmhost_config::Config;
use wasmhost_sandbox::{Guest, MemoryBudget, Ticker};

use crate::net::inbox::Permits;
use crate::vitals::{HostVitals, Vitals};
use crate::worker_id::WorkerId;

/// All that a worker needs to start.
pub struct WorkerSetup {
    /// Its number.
    pub id: WorkerId,
    /// How to serve.
    pub config: Arc<Config>,
    /// Its counts and its sign of running guest code, kept over respawns.
    pub vitals: &'static Vitals,
    /// What all workers share.
    pub host: &'static HostVitals,
    /// The clock that preempts guests.
    pub ticker: Arc<Ticker>,
    /// Memory of all instances.
    pub budget: Arc<MemoryBudget>,
    /// The address that stands for the authority where a client names none.
    pub authority: Authority,
    /// A listener of its own, with `--balance kernel`, and the capacity that its connections take from.
    pub listener: Option<(TcpListener, Arc<Permits>)>,
}

/// What the primary wants of a worker. The latest counts: a worker that was busy meanwhile has missed nothing.
#[derive(Clone)]
pub struct Orders {
    /// What to serve.
    pub guest: Arc<Guest>,
    /// Whether to go on.
    pub stage: Stage,
}

/// Whether a worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Take connections.
    Serve,
    /// Finish what is in flight and end.
    Drain,
    /// End at once: the drain's time is over, or a second signal came.
    Stop,
}
