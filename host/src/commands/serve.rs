//! `wasmhost serve`, and `wasmhost` without a command.

use std::sync::Arc;

use crate::config::{Config, Machine};
use crate::primary::{self, Ended, PrimaryError};

/// What this machine offers.
pub fn machine() -> Machine {
    Machine {
        cores: num_cpus::get().max(1),
        memory_bytes: memory_bytes(),
        has_inherited_socket: has_inherited_socket(),
    }
}

/// Serves until the host is told to stop.
///
/// # Errors
/// When the host cannot start, or has lost its workers.
pub fn run(config: Config) -> Result<Ended, PrimaryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build_local(tokio::runtime::LocalOptions::default());
    let runtime = runtime.map_err(|error| PrimaryError::System { action: "make an event loop", error })?;
    let ended = runtime.block_on(primary::run(Arc::new(config)));
    runtime.shutdown_background();
    ended
}

/// The smaller of the RAM and the limits of the process's cgroups (version 2).
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let ram = u64::from(info.mem_unit).saturating_mul(info.totalram);
    cgroup_limits().into_iter().fold(ram, u64::min)
}

fn cgroup_limits() -> Vec<u64> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = membership.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mut folder = std::path::Path::new("/sys/fs/cgroup").join(path);
    let mut limits = Vec::new();
    while folder.starts_with("/sys/fs/cgroup") {
        let limit = std::fs::read_to_string(folder.join("memory.max")).unwrap_or_default();
        limits.extend(limit.trim().parse::<u64>());
        if !folder.pop() {
            break;
        }
    }
    let version_1 = std::fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes").unwrap_or_default();
    limits.extend(version_1.trim().parse::<u64>());
    limits
}

/// Whether a service manager handed a socket to this very process (`sd_listen_fds(3)`).
fn has_inherited_socket() -> bool {
    let own = std::process::id().to_string();
    std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own)
        && std::env::var("LISTEN_FDS").is_ok_and(|count| count != "0")
}
