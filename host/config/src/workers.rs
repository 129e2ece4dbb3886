//! The settings of workers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Highest number of workers, those of groups included; above it, memory for their instances cannot be reserved.
pub const MAX_WORKERS: u16 = 512;

/// What a worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum WorkerKind {
    /// A thread of the host.
    #[default]
    Thread,
    /// A process of its own, with its own address space.
    Process,
}

impl WorkerKind {
    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Thread => "thread",
            Self::Process => "process",
        }
    }
}

/// How connections are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Balance {
    /// To the next ready worker in turn, as Node's `SCHED_RR`.
    #[default]
    RoundRobin,
    /// To the ready worker with the fewest open connections; among equals, the next in turn.
    LeastConnections,
    /// To the worker that the client's address belongs to, as Node's sticky sessions do.
    Client,
    /// By the kernel: each worker has a listener of its own on the same port (`SO_REUSEPORT`).
    Kernel,
}

/// When a worker is replaced although nothing is wrong with it; what is none is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// After this time.
    pub age_max: Option<Duration>,
    /// After this many requests.
    pub requests_max: Option<u64>,
    /// When its instances take more memory than this.
    pub memory_max_bytes: Option<u64>,
}
