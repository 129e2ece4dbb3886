//! How many connections the file descriptors are enough for. Pure, but for reading the limit.

use wasmhost_config::{Config, DirectoryPurpose, WorkerKind};
use wasmhost_sandbox::OUTGOING_DESCRIPTORS_MAX;
use wasmhost_serve::worker::AWAKE_MAX;

/// Descriptors that are not for clients: the log, the cache, event loops.
const DESCRIPTORS_RESERVED: u64 = 64;
/// What the threads hold open that do the file system calls of one app on a worker: an epoll, an event, and sockets for signals.
const FILE_RUNTIME_DESCRIPTORS: u64 = 4;
/// Descriptors that each worker needs for itself.
const DESCRIPTORS_A_WORKER: u64 = 16;

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionBounds {
    /// Of all workers together.
    pub(crate) of_all: usize,
    /// Of one worker that is a process.
    pub(crate) of_a_worker: usize,
}

/// How many connections the descriptors of this process, and of workers that are processes, allow. They have the same limit,
/// each for itself.
pub(crate) fn connections_by_descriptors(config: &Config) -> ConnectionBounds {
    use rustix::process::{Resource, getrlimit};
    connections_within(config, getrlimit(Resource::Nofile).current.unwrap_or(1 << 20))
}

/// Apps whose compiled code this process keeps open while they are loaded: it has no name in the cache.
fn kept_open(config: &Config) -> u64 {
    let has_cache = config.compilation.cache_dir().is_some();
    let is_compiled = |app: &wasmhost_config::App| app.component.extension().is_some_and(|ending| ending == "cwasm");
    config.apps.iter().map(|app| u64::from(!has_cache || is_compiled(app))).sum()
}

/// Whether the descriptors are enough for the code of all apps; else how many it takes, and how many there are.
pub(crate) fn too_few_for_code(config: &Config) -> Option<(u64, u64)> {
    use rustix::process::{Resource, getrlimit};
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    Some((kept_open(config), descriptors)).filter(|(kept, descriptors)| !is_enough_for_code(*kept, *descriptors))
}

/// Half of the descriptors is for other things.
fn is_enough_for_code(kept: u64, descriptors: u64) -> bool {
    kept <= descriptors / 2
}

fn connections_within(config: &Config, descriptors: u64) -> ConnectionBounds {
    let workers = config.workers_max;
    // Each guest that is awake keeps the file open that its code is mapped from. (Those of one app are reserved already.)
    let kept = kept_open(config).saturating_sub(1);
    let guests = u64::try_from(config.apps.len().saturating_sub(1)).unwrap_or(u64::MAX);
    let awake_on = |workers: u16| guests.min((AWAKE_MAX as u64).saturating_mul(workers.into()));
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
    // An app with directories has threads of its own for them while it is awake, with a runtime.
    let with_directories = config.apps.iter().filter(|app| !app.grants.dirs.is_empty()).count().min(AWAKE_MAX);
    let of_runtimes = FILE_RUNTIME_DESCRIPTORS * with_directories as u64;
    let of_a_worker = of_instances.saturating_add(outgoing).saturating_add(of_runtimes);
    // A request that is answered with a file of a folder needs one more, and so does one that is forwarded to a group.
    let has_files = config.apps.iter().any(|app| app.grants.of_purpose(DirectoryPurpose::Static).next().is_some());
    let with_requests = |connections: usize| {
        if has_files || !config.groups().is_empty() { (connections / 2).max(1) } else { connections }
    };
    match config.worker_kind {
        WorkerKind::Thread => {
            let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER * u64::from(workers);
            let code = kept.saturating_add(awake_on(workers));
            let open = of_a_worker.saturating_mul(workers.into()).saturating_add(directories).saturating_add(code);
            let connections = with_requests(beside(reserved.saturating_add(open), descriptors));
            ConnectionBounds { of_all: connections, of_a_worker: connections }
        }
        WorkerKind::Process => {
            let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER;
            let open = of_a_worker.saturating_add(directories).saturating_add(awake_on(1));
            let connections = with_requests(beside(reserved.saturating_add(open), descriptors));
            ConnectionBounds { of_all: connections.saturating_mul(workers.into()), of_a_worker: connections }
        }
    }
}

/// Connections that fit into a process's descriptors beside those that are needed otherwise.
fn beside(reserved: u64, descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(reserved).max(descriptors / 4).max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use wasmhost_config::{App, CacheChoice, Capabilities, HostEnvironment, Machine, build};

    fn config(apps: &[&str], cache: CacheChoice, kind: WorkerKind) -> Config {
        let machine = Machine {
            cores: 1,
            memory_bytes: 1 << 30,
            has_inherited_socket: false,
            cache,
            state: None,
            runtime: None,
            environment: HostEnvironment::NONE,
        };
        let parsed = wasmhost_config::cli::parse(["wasmhost", "a.wasm"].map(Into::into), Capabilities::NONE);
        let wasmhost_config::cli::Parsed::Cli(cli, _) = parsed else { panic!("{parsed:?}") };
        let config = build(&cli.serve, Capabilities::NONE, machine).expect("settings");
        let app = |name: &&str| Arc::new(App { component: name.into(), ..App::clone(&config.apps[0]) });
        Config { apps: apps.iter().map(app).collect(), worker_kind: kind, ..config }
    }

    #[test]
    fn code_without_a_name_in_the_cache_is_kept_open_and_counted() {
        let cache = || CacheChoice::Dir("/cache".into());
        for (apps, cache, kept) in [
            (&["a.wasm", "b.wat"][..], cache(), 0),
            (&["a.wasm", "b.cwasm"], cache(), 1),
            (&["a.wasm", "b.cwasm"], CacheChoice::Off, 2),
        ] {
            let config = config(apps, cache, WorkerKind::Thread);
            assert_eq!(kept_open(&config), kept, "{apps:?}");
        }
        assert!(is_enough_for_code(512, 1_024) && !is_enough_for_code(513, 1_024));
    }

    #[test]
    fn each_app_that_is_awake_takes_a_descriptor_from_the_connections() {
        let connections = |count: usize, cache, kind| {
            connections_within(&config(&vec!["a.wasm"; count], cache, kind), 100_000).of_a_worker
        };
        let cache = || CacheChoice::Dir("/cache".into());
        let one = connections(1, cache(), WorkerKind::Process);
        assert_eq!(connections(11, cache(), WorkerKind::Process), one - 10);
        assert_eq!(connections(AWAKE_MAX + 500, cache(), WorkerKind::Process), one - AWAKE_MAX);
        let one = connections(1, CacheChoice::Off, WorkerKind::Thread);
        assert_eq!(connections(11, CacheChoice::Off, WorkerKind::Thread), one - 20, "at rest and awake");
    }
}
