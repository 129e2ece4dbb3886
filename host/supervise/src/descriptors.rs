//! How many connections the file descriptors are enough for. Pure, but for reading the limit.

use wasmhost_config::{Config, WorkerKind};
use wasmhost_sandbox::OUTGOING_DESCRIPTORS_MAX;

/// Descriptors that are not for clients: the log, the cache, event loops.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors that each worker needs for itself.
const DESCRIPTORS_A_WORKER: u64 = 16;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Connections {
    /// Of all workers together.
    pub(crate) of_all: usize,
    /// Of one worker that is a process.
    pub(crate) of_a_worker: usize,
}

/// How many connections the descriptors of this process, and of workers that are processes, allow. They have the same limit,
/// each for itself.
pub(crate) fn connections_by_descriptors(config: &Config) -> Connections {
    use rustix::process::{Resource, getrlimit};
    connections_within(config, getrlimit(Resource::Nofile).current.unwrap_or(1 << 20))
}

fn connections_within(config: &Config, descriptors: u64) -> Connections {
    let workers = config.workers;
    // This host has each open once, and so has each instance.
    let directories_of = |app: &wasmhost_config::App| u64::try_from(app.grants.dirs.len()).unwrap_or(u64::MAX);
    let directories = config.apps.iter().fold(0_u64, |sum, app| sum.saturating_add(directories_of(app)));
    let of_instances = config.apps.iter().fold(0_u64, |sum, app| {
        let instances = u64::try_from(app.capacity.instances_per_worker).unwrap_or(u64::MAX);
        sum.saturating_add(instances.saturating_mul(directories_of(app)))
    });
    // Without a host that they may reach, guests open no connection.
    let may_reach = config.apps.iter().any(|app| !app.grants.allow_hosts.is_empty());
    let outgoing = if may_reach { OUTGOING_DESCRIPTORS_MAX as u64 } else { 0 };
    let of_a_worker = of_instances.saturating_add(outgoing);
    match config.worker_kind {
        WorkerKind::Thread => {
            let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER * u64::from(workers);
            let open = of_a_worker.saturating_mul(workers.into()).saturating_add(directories);
            let connections = beside(reserved.saturating_add(open), descriptors);
            Connections { of_all: connections, of_a_worker: connections }
        }
        WorkerKind::Process => {
            let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER;
            let connections = beside(reserved.saturating_add(of_a_worker).saturating_add(directories), descriptors);
            // A request that is forwarded to a group needs one more.
            let connections = if config.groups().is_empty() { connections } else { (connections / 2).max(1) };
            Connections { of_all: connections.saturating_mul(workers.into()), of_a_worker: connections }
        }
    }
}

/// Connections that fit into a process's descriptors beside those that are needed otherwise.
fn beside(reserved: u64, descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(reserved).max(descriptors / 4).max(1)).unwrap_or(usize::MAX)
}
