//! Every setting of serving, written down once: its name, how its values are written, its default, its help, and where a
//! checked value goes. The flags, the variables and `docs/REFERENCE.md` are made from this table.

use super::draft::{Draft, choice, count, put, size};
use super::parse;
use super::{Balance, CacheChoice, Confine, DIRECTORIES_MAX, Isolation, WorkerKind};

/// A setting: the flag `--NAME`, and the variable `WASMHOST_NAME` with underscores.
#[derive(Debug)]
pub struct Setting {
    /// Words with hyphens between them.
    pub name: &'static str,
    /// What the help calls its value.
    pub value: &'static str,
    /// How it is written when it is not given; none: nothing, or what the help says.
    pub default: Option<&'static str>,
    /// What it does, with units and bounds.
    pub help: &'static str,
    /// How many values it takes.
    pub takes: Takes,
    /// Checks one value and stores it; an error says what is wrong with it and what is expected.
    pub(super) set: fn(&mut Draft, &str) -> Result<(), String>,
}

/// How many values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// None: it is on or off.
    Switch,
    /// One.
    One,
    /// Any number: the flag several times, or commas between them.
    Commas,
    /// The flag several times, or one on each line of the variable.
    Lines {
        /// How many at most.
        most: usize,
        /// What the message about more says behind that number.
        beyond: &'static str,
    },
}

/// Settings that stand together in the help.
#[derive(Debug)]
pub struct Group {
    /// Above them.
    pub heading: &'static str,
    /// In the order of the help.
    pub settings: &'static [Setting],
}

impl Setting {
    /// The flag, with its dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// The variable of the environment.
    pub fn variable(&self) -> String {
        format!("WASMHOST_{}", self.name.replace('-', "_").to_uppercase())
    }
}

/// All settings, in the order of the help.
pub fn all() -> impl Iterator<Item = &'static Setting> {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// Largest count that any setting takes, but for requests; far above what a machine can handle.
const COUNT_MAX: u64 = 1_000_000;
/// Requests are counted for as long as a host runs.
const REQUESTS_MAX: u64 = u64::MAX >> 1;
/// Below, ordinary requests with cookies fail.
const HEADER_MAX_RANGE: std::ops::RangeInclusive<u64> = 8 * 1024..=1024 * 1024;
/// As many as the system lets a command line or a variable hold (`ARG_MAX`).
const LINES: Takes = Takes::Lines { most: usize::MAX, beyond: "" };

/// All settings by their headings.
pub const GROUPS: &[Group] = &[
    Group {
        heading: "Serving",
        settings: &[
            Setting {
                name: "listen",
                value: "ADDRESS",
                default: None,
                help: "Address to listen on: ADDRESS:PORT (port 0: any free port), unix:PATH, or systemd (a socket passed by systemd, also used if the flag is not given) [default: 127.0.0.1:8080]",
                takes: Takes::Commas,
                set: Draft::listen,
            },
            Setting {
                name: "workers",
                value: "N",
                default: None,
                help: "Number of workers, each one thread or one process (--worker-kind) with its own instances [default: CPU cores, or the cgroup's CPU quota]",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.workers, count(text, 1, super::MAX_WORKERS.into())),
            },
            Setting {
                name: "worker-kind",
                value: "KIND",
                default: Some("thread"),
                help: "What a worker is: thread, or process (its own address space: a crash ends only that worker's connections)",
                takes: Takes::One,
                set: |draft, text| {
                    let kinds = [WorkerKind::Thread, WorkerKind::Process];
                    put(&mut draft.config.worker_kind, choice(text, &kinds.map(|kind| (kind.name(), kind))))
                },
            },
            Setting {
                name: "worker-hang-timeout",
                value: "TIME",
                default: Some("10s"),
                help: "Time without a sign of life after which a worker process is killed and replaced (none: never). It gets no connections after the first second",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.worker_hang_timeout, parse::duration_or_none(text)),
            },
            Setting {
                name: "balance",
                value: "POLICY",
                default: Some("round-robin"),
                help: "Which worker gets the next connection: round-robin (the next that is ready), least-connections, or kernel (SO_REUSEPORT: the kernel chooses)",
                takes: Takes::One,
                set: |draft, text| {
                    let policies = [
                        ("round-robin", Balance::RoundRobin),
                        ("least-connections", Balance::LeastConnections),
                        ("kernel", Balance::Kernel),
                    ];
                    put(&mut draft.config.balance, choice(text, &policies))
                },
            },
            Setting {
                name: "isolation",
                value: "MODE",
                default: Some("auto"),
                help: "Instance reuse: worker (an instance serves one request after another, and requests can see what earlier ones left in memory), request (a fresh instance for each request: use it for code that serves several tenants), or auto (worker, but request for guests known not to survive reuse)",
                takes: Takes::One,
                set: |draft, text| {
                    let modes =
                        [("auto", Isolation::Auto), ("worker", Isolation::Worker), ("request", Isolation::Request)];
                    put(&mut draft.app.isolation, choice(text, &modes))
                },
            },
            Setting {
                name: "instances-per-worker",
                value: "N",
                default: Some("128"),
                help: "Maximum number of instances of a worker. More than one exist only while the others wait (1: one request at a time); when all are busy, requests queue",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.capacity.instances_per_worker, count(text, 1, COUNT_MAX)),
            },
            Setting {
                name: "instance-concurrency",
                value: "N",
                default: Some("1"),
                help: "Maximum number of requests at once in one instance (WASI 0.3 only). Above 1, requests share an instance, and a fault (a trap, a limit, a time-out) ends all requests in it, because a single 0.3 task cannot be cancelled",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.capacity.instance_concurrency, count(text, 1, COUNT_MAX)),
            },
            Setting {
                name: "max-requests",
                value: "N",
                default: Some("none"),
                help: "Replace an instance after this many requests, varied at random by 20 % (none: never)",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.capacity.max_requests, parse::count_or_none(text, REQUESTS_MAX)),
            },
            Setting {
                name: "queue-max",
                value: "N",
                default: Some("1024"),
                help: "Maximum number of requests per worker that wait for an instance; more get 503",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.capacity.queue_max, count(text, 0, COUNT_MAX)),
            },
            Setting {
                name: "queue-timeout",
                value: "TIME",
                default: Some("1s"),
                help: "Time that a request may wait for an instance; then it gets 503",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.capacity.queue_timeout, parse::positive_duration(text)),
            },
            Setting {
                name: "confine",
                value: "MODE",
                default: Some("auto"),
                help: "Kernel sandbox around the host's own processes (Landlock, seccomp, no core dumps): off, auto (as much as the kernel offers), or require (all of it, or exit with 1)",
                takes: Takes::One,
                set: |draft, text| {
                    put(&mut draft.config.confine, choice(text, &Confine::ALL.map(|mode| (mode.name(), mode))))
                },
            },
            Setting {
                name: "trust-proxy",
                value: "CIDR",
                default: None,
                help: "Networks of proxies that may set Forwarded, X-Forwarded-* and X-Real-IP; from all other clients these headers are removed",
                takes: Takes::Commas,
                set: |draft, text| parse::network(text).map(|network| draft.config.trust_proxy.push(network)),
            },
            Setting {
                name: "drain-timeout",
                value: "TIME",
                default: Some("10s"),
                help: "Time that requests in flight may take to finish after SIGTERM or SIGINT; then they are broken off",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.drain_timeout, parse::duration(text)),
            },
        ],
    },
    Group {
        heading: "Limits",
        settings: &[
            Setting {
                name: "memory-max",
                value: "SIZE",
                default: Some("128MiB"),
                help: "Memory of one instance (all memories and tables together). More growth is refused, and the instance is replaced",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.limits.memory_max_bytes, size(text)),
            },
            Setting {
                name: "memory-total",
                value: "SIZE",
                default: None,
                help: "Memory of all instances, and of the host's heap above 64MiB per process. Then growth is refused, and requests that need an instance get 503 [default: 75 % of the smaller of RAM and cgroup limit]",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.limits.memory_total_bytes, size(text)),
            },
            Setting {
                name: "cpu-limit",
                value: "TIME",
                default: Some("5s"),
                help: "CPU time of a request in the guest, including its bodies; then it gets 500, or is broken off if the response headers were sent",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.limits.cpu_limit, parse::positive_duration(text)),
            },
            Setting {
                name: "request-timeout",
                value: "TIME",
                default: Some("30s"),
                help: "Time of the guest until the response headers; then the request gets 504. The client has as much time to send the request's body; then it gets 408 (none: no limit)",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.limits.request_timeout, parse::duration_or_none(text)),
            },
            Setting {
                name: "body-idle-timeout",
                value: "TIME",
                default: Some("60s"),
                help: "Silence within a request or response body, after which the transfer is broken off (408 before the response headers; none: no limit)",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.limits.body_idle_timeout, parse::duration_or_none(text)),
            },
            Setting {
                name: "body-rate-min",
                value: "SIZE",
                default: Some("500B"),
                help: "Minimum rate, in bytes per second, of a client that sends a request body or reads a response, after the host has waited for it for 10s. A slower client gets 408, or its response is broken off (none: no limit). Does not apply to a chunked request body once the response has begun",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.limits.body_rate_min, size_or_none(text)),
            },
            Setting {
                name: "response-timeout",
                value: "TIME",
                default: Some("none"),
                help: "Time until the end of the response; then it is broken off (none: no limit)",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.limits.response_timeout, parse::duration_or_none(text)),
            },
            Setting {
                name: "header-timeout",
                value: "TIME",
                default: Some("10s"),
                help: "Time for the request headers to arrive; then the client gets 408",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.limits.header_timeout, parse::positive_duration(text)),
            },
            Setting {
                name: "keepalive-timeout",
                value: "TIME",
                default: Some("60s"),
                help: "Idle time of a connection between requests; then it is closed",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.limits.keepalive_timeout, parse::positive_duration(text)),
            },
            Setting {
                name: "header-max",
                value: "SIZE",
                default: Some("64KiB"),
                help: "Size of the request line and headers; larger ones get 431 (414 for the request line). From 8KiB to 1MiB",
                takes: Takes::One,
                set: |draft, text| {
                    let size = parse::size(text)?;
                    if !HEADER_MAX_RANGE.contains(&size) {
                        return Err("must be from 8KiB to 1MiB".to_owned());
                    }
                    draft.config.limits.header_max_bytes = usize::try_from(size).unwrap_or(usize::MAX);
                    Ok(())
                },
            },
            Setting {
                name: "body-max",
                value: "SIZE",
                default: Some("100MiB"),
                help: "Size of a request body; larger ones get 413, or are broken off if the response headers were sent (none: no limit)",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.app.limits.body_max_bytes, size_or_none(text)),
            },
            Setting {
                name: "max-connections",
                value: "N",
                default: None,
                help: "Maximum number of connections; more wait in the kernel's backlog [default: what the file descriptor limit allows]",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.limits.max_connections, count(text, 1, COUNT_MAX).map(Some)),
            },
            Setting {
                name: "max-connections-per-client",
                value: "N",
                default: Some("none"),
                help: "Maximum number of connections of one client (an IPv4 address, or an IPv6 /64 network); more get 503 and are closed. Clients in --trust-proxy networks and of a Unix socket are not counted (none: no limit)",
                takes: Takes::One,
                set: |draft, text| {
                    let count = parse::count_or_none(text, COUNT_MAX)?;
                    draft.config.limits.max_connections_per_client =
                        count.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
                    Ok(())
                },
            },
            Setting {
                name: "max-requests-per-connection",
                value: "N",
                default: Some("none"),
                help: "Maximum number of requests of one connection; the last gets `Connection: close` (none: no limit)",
                takes: Takes::One,
                set: |draft, text| {
                    let count = parse::count_or_none(text, REQUESTS_MAX);
                    put(&mut draft.config.limits.max_requests_per_connection, count)
                },
            },
        ],
    },
    Group {
        heading: "Grants (nothing is granted by default)",
        settings: &[
            Setting {
                name: "env",
                value: "NAME=VALUE",
                default: None,
                help: "Give the guest an environment variable",
                takes: LINES,
                set: |draft, text| parse::key_value(text).map(|variable| draft.env.push(variable)),
            },
            Setting {
                name: "env-file",
                value: "FILE",
                default: None,
                help: "Give the guest the environment variables of a file: one NAME=VALUE per line, `#` comments, quotes as in dotenv. --env wins",
                takes: LINES,
                set: Draft::env_file,
            },
            Setting {
                name: "arg",
                value: "ARGUMENT",
                default: None,
                help: "Give the guest a command line argument",
                takes: LINES,
                set: |draft, text| {
                    draft.app.grants.args.push(text.to_owned());
                    Ok(())
                },
            },
            Setting {
                name: "dir",
                value: "HOST::GUEST[:rw]",
                default: None,
                help: "Give the guest a directory: read-only, or writable with `:rw` at the end",
                takes: Takes::Lines {
                    most: DIRECTORIES_MAX,
                    beyond: "directories at most; grant one that holds several",
                },
                set: |draft, text| parse::preopen(text).map(|dir| draft.app.grants.dirs.push(dir)),
            },
            Setting {
                name: "allow-host",
                value: "HOST[:PORT][:private]",
                default: None,
                help: "Let outgoing HTTP requests reach this host: a name, an address, a network (10.0.0.0/8), or `*` for every host. A name, or `*`, reaches public addresses only; with `:private` behind it also loopback and private ones (`db.internal:5432:private`). Link-local addresses and cloud metadata services are reached only when they are themselves written as addresses",
                takes: Takes::Commas,
                set: |draft, text| parse::host_rule(text).map(|rule| draft.app.grants.allow_hosts.push(rule)),
            },
            Setting {
                name: "ca-file",
                value: "FILE",
                default: None,
                help: "Trust the root certificates in this file (PEM) for outgoing HTTPS, besides Mozilla's. Read once, at the start",
                takes: Takes::One,
                set: |draft, text| match text {
                    "" => Ok(()),
                    file => put(&mut draft.app.grants.ca_pem, parse::ca_file(file)),
                },
            },
        ],
    },
    Group {
        heading: "Output",
        settings: &[
            Setting {
                name: "log-format",
                value: "FORMAT",
                default: Some("auto"),
                help: "Format of the log on standard error: text, json, or auto (text)",
                takes: Takes::One,
                // The log reads it.
                set: |_, _| Ok(()),
            },
            Setting {
                name: "log-level",
                value: "LEVEL",
                default: Some("info"),
                help: "Lowest level that is logged: error, warn, info, debug or trace",
                takes: Takes::One,
                // The log reads it.
                set: |_, _| Ok(()),
            },
            Setting {
                name: "access-log",
                value: "",
                default: None,
                help: "Log a line for each request",
                takes: Takes::Switch,
                set: |draft, _| {
                    draft.config.access_log = true;
                    Ok(())
                },
            },
            Setting {
                name: "admin",
                value: "ADDRESS",
                default: None,
                help: "Serve /healthz, /readyz, /status and /metrics on this address (ADDRESS:PORT or unix:PATH)",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.admin, parse::admin(text).map(Some)),
            },
        ],
    },
    Group {
        heading: "Compilation",
        settings: &[
            Setting {
                name: "cache-dir",
                value: "DIR",
                default: None,
                help: "Directory of the cache for compiled components, or off [default: wasmhost in $XDG_CACHE_HOME or ~/.cache]",
                takes: Takes::One,
                set: |draft, text| {
                    match text {
                        "" => {}
                        "off" => draft.config.compilation.cache = CacheChoice::Off,
                        dir => draft.config.compilation.cache = CacheChoice::Dir(dir.into()),
                    }
                    Ok(())
                },
            },
            Setting {
                name: "cache-max",
                value: "SIZE",
                default: Some("1GiB"),
                help: "Size of the cache; entries not used for the longest time are deleted first",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.compilation.cache_max_bytes, size(text)),
            },
            Setting {
                name: "compile-timeout",
                value: "TIME",
                default: Some("5m"),
                help: "Time that a compilation may take; then it is ended",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.compilation.timeout, parse::positive_duration(text)),
            },
            Setting {
                name: "compile-memory-max",
                value: "SIZE",
                default: Some("8GiB"),
                help: "Address space that a compilation may use; then it is ended",
                takes: Takes::One,
                set: |draft, text| put(&mut draft.config.compilation.memory_max_bytes, size(text)),
            },
        ],
    },
];

fn size_or_none(text: &str) -> Result<Option<u64>, String> {
    match text.trim() {
        "none" => Ok(None),
        text => size(text).map(Some),
    }
}
