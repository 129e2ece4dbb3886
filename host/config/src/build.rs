//! Turns the text of all flags into a [`Config`], or into a list of all mistakes in them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{
    CacheChoice, Capacity, Compilation, Config, Confine, DIRECTORIES_MAX, Grants, Isolation, Limits, Listen,
    MAX_WORKERS, Preopen, WorkerKind,
};
use super::{env_file, parse};
use crate::Balance;
use crate::cli::ServeArgs;

/// One wrong value: which flag, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The flag, with its dashes, or a name in capitals for the component.
    pub flag: &'static str,
    /// The value as typed.
    pub value: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} `{}`: {}", self.flag, self.value, self.reason)
    }
}

/// What the machine offers, read by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Machine {
    /// CPU cores, cgroup quota counted, at least 1.
    pub cores: usize,
    /// The smaller of RAM and the cgroup's limit, in bytes.
    pub memory_bytes: u64,
    /// Whether a service manager handed a socket over.
    pub has_inherited_socket: bool,
}

/// Largest count that any flag takes; far above what a machine can handle.
const COUNT_MAX: u64 = 1_000_000;
/// What an instance may ask for is bounded by 32-bit memories in practice; tables and further memories come on top.
const MEMORY_MAX_BYTES: u64 = 1 << 46;
/// The guest's variables in sum; no process gets more from the system by far.
const ENVIRONMENT_BYTES_MAX: usize = 4 << 20;
/// Below, ordinary requests with cookies fail.
const HEADER_MAX_RANGE: std::ops::RangeInclusive<u64> = 8 * 1024..=1024 * 1024;

struct Mistakes(Vec<Mistake>);

impl Mistakes {
    /// The value, or its stand-in with the mistake noted.
    fn note<T>(&mut self, flag: &'static str, value: &str, outcome: Result<T, String>, stand_in: T) -> T {
        match outcome {
            Ok(parsed) => parsed,
            Err(reason) => {
                self.0.push(Mistake { flag, value: value.to_owned(), reason });
                stand_in
            }
        }
    }

    fn each<T>(&mut self, flag: &'static str, values: &[String], parse: fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut parsed = Vec::with_capacity(values.len());
        for value in values {
            match parse(value) {
                Ok(value) => parsed.push(value),
                Err(reason) => self.0.push(Mistake { flag, value: value.clone(), reason }),
            }
        }
        parsed
    }

    fn count(&mut self, flag: &'static str, value: &str, min: u64) -> usize {
        let outcome = parse::count(value, min, COUNT_MAX);
        usize::try_from(self.note(flag, value, outcome, min)).unwrap_or(usize::MAX)
    }

    fn size(&mut self, flag: &'static str, value: &str) -> u64 {
        let outcome = parse::size(value).and_then(|size| match size {
            size if size <= MEMORY_MAX_BYTES => Ok(size),
            _ => Err("is larger than the memory of any machine (64 TiB)".to_owned()),
        });
        self.note(flag, value, outcome, 1)
    }

    fn time(&mut self, flag: &'static str, value: &str) -> std::time::Duration {
        self.note(flag, value, parse::positive_duration(value), std::time::Duration::ZERO)
    }

    fn time_or_none(&mut self, flag: &'static str, value: &str) -> Option<std::time::Duration> {
        self.note(flag, value, parse::duration_or_none(value), None)
    }
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// A list's values: those of the command line, or else the lines of the variable.
fn listed(values: &[String], variable: &str) -> Vec<String> {
    if !values.is_empty() {
        return values.to_vec();
    }
    let lines = std::env::var(variable).unwrap_or_default();
    lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Checks every value of `args`.
///
/// # Errors
/// All mistakes, in the order of the flags in the help.
pub fn build(args: &ServeArgs, machine: Machine) -> Result<Config, Vec<Mistake>> {
    let mut mistakes = Mistakes(Vec::new());
    let config = Config {
        component: args.component.clone().unwrap_or_default(),
        listen: listen(args, machine, &mut mistakes),
        workers: workers(args, machine, &mut mistakes),
        worker_kind: mistakes.note(
            "--worker-kind",
            &args.worker_kind,
            choice(&args.worker_kind, &[("thread", WorkerKind::Thread), ("process", WorkerKind::Process)]),
            WorkerKind::default(),
        ),
        worker_hang_timeout: mistakes.time_or_none("--worker-hang-timeout", &args.worker_hang_timeout),
        balance: mistakes.note("--balance", &args.balance, balance(&args.balance), Balance::default()),
        isolation: mistakes.note("--isolation", &args.isolation, isolation(&args.isolation), Isolation::default()),
        capacity: capacity(args, &mut mistakes),
        trust_proxy: mistakes.each("--trust-proxy", &args.trust_proxy, network),
        drain_timeout: mistakes.note(
            "--drain-timeout",
            &args.drain_timeout,
            parse::duration(&args.drain_timeout),
            Default::default(),
        ),
        limits: limits(args, machine, &mut mistakes),
        grants: grants(args, &mut mistakes),
        admin: args.admin.as_ref().and_then(|value| {
            let outcome = parse::admin(value).map(Some);
            mistakes.note("--admin", value, outcome, None)
        }),
        access_log: args.access_log,
        confine: mistakes.note("--confine", &args.confine, confine(&args.confine), Confine::default()),
        compilation: compilation(args, &mut mistakes),
        development: None,
    };
    let kernel_needs_tcp = config.balance == Balance::Kernel && !matches!(config.listen, Listen::Tcp(_));
    if kernel_needs_tcp {
        mistakes.0.push(Mistake {
            flag: "--balance",
            value: args.balance.clone(),
            reason: "needs a TCP address to listen on (`--listen ADDRESS:PORT`)".to_owned(),
        });
    }
    if mistakes.0.is_empty() { Ok(config) } else { Err(mistakes.0) }
}

fn listen(args: &ServeArgs, machine: Machine, mistakes: &mut Mistakes) -> Listen {
    match &args.listen {
        Some(value) => {
            let outcome = parse::listen(value).and_then(|listen| match listen {
                Listen::Inherited if !machine.has_inherited_socket => {
                    Err("no socket was handed over: LISTEN_FDS is not set for this process (see sd_listen_fds(3))"
                        .to_owned())
                }
                listen => Ok(listen),
            });
            mistakes.note("--listen", value, outcome, Listen::Inherited)
        }
        None if machine.has_inherited_socket => Listen::Inherited,
        None => Listen::Tcp(([127, 0, 0, 1], 8080).into()),
    }
}

fn workers(args: &ServeArgs, machine: Machine, mistakes: &mut Mistakes) -> u16 {
    let by_cores = u16::try_from(machine.cores).unwrap_or(MAX_WORKERS).clamp(1, MAX_WORKERS);
    match &args.workers {
        Some(value) => {
            let outcome = parse::count(value, 1, MAX_WORKERS.into());
            let count = mistakes.note("--workers", value, outcome, 1);
            u16::try_from(count).unwrap_or(by_cores)
        }
        None => by_cores,
    }
}

fn balance(value: &str) -> Result<Balance, String> {
    choice(
        value,
        &[
            ("round-robin", Balance::RoundRobin),
            ("least-connections", Balance::LeastConnections),
            ("kernel", Balance::Kernel),
        ],
    )
}

fn isolation(value: &str) -> Result<Isolation, String> {
    choice(value, &[("auto", Isolation::Auto), ("worker", Isolation::Worker), ("request", Isolation::Request)])
}

fn confine(value: &str) -> Result<Confine, String> {
    Confine::named(value).ok_or_else(|| "must be one of `off`, `auto`, `require`".to_owned())
}

fn network(value: &str) -> Result<ipnet::IpNet, String> {
    let address = value.parse::<std::net::IpAddr>().map(ipnet::IpNet::from);
    address
        .or_else(|_| value.parse::<ipnet::IpNet>())
        .map_err(|_| "not a network; write `ADDRESS` or `ADDRESS/BITS` (`10.0.0.0/8`, `::1`)".to_owned())
}

fn capacity(args: &ServeArgs, mistakes: &mut Mistakes) -> Capacity {
    Capacity {
        instances_per_worker: mistakes.count("--instances-per-worker", &args.instances_per_worker, 1),
        instance_concurrency: mistakes.count("--instance-concurrency", &args.instance_concurrency, 1),
        max_requests: {
            let outcome = parse::count_or_none(&args.max_requests, u64::MAX >> 1);
            mistakes.note("--max-requests", &args.max_requests, outcome, None)
        },
        queue_max: mistakes.count("--queue-max", &args.queue_max, 0),
        queue_timeout: mistakes.time("--queue-timeout", &args.queue_timeout),
    }
}

fn limits(args: &ServeArgs, machine: Machine, mistakes: &mut Mistakes) -> Limits {
    Limits {
        memory_max_bytes: mistakes.size("--memory-max", &args.memory_max),
        memory_total_bytes: match &args.memory_total {
            Some(value) => mistakes.size("--memory-total", value),
            None => machine.memory_bytes / 4 * 3,
        },
        cpu_limit: mistakes.time("--cpu-limit", &args.cpu_limit),
        request_timeout: mistakes.time_or_none("--request-timeout", &args.request_timeout),
        body_idle_timeout: mistakes.time_or_none("--body-idle-timeout", &args.body_idle_timeout),
        response_timeout: mistakes.time_or_none("--response-timeout", &args.response_timeout),
        header_timeout: mistakes.time("--header-timeout", &args.header_timeout),
        keepalive_timeout: mistakes.time("--keepalive-timeout", &args.keepalive_timeout),
        header_max_bytes: {
            let outcome = parse::size(&args.header_max).and_then(|size| {
                if HEADER_MAX_RANGE.contains(&size) { Ok(size) } else { Err("must be from 8KiB to 1MiB".to_owned()) }
            });
            let size = mistakes.note("--header-max", &args.header_max, outcome, *HEADER_MAX_RANGE.start());
            usize::try_from(size).unwrap_or(usize::MAX)
        },
        body_rate_min: match args.body_rate_min.trim() {
            "none" => None,
            size => Some(mistakes.size("--body-rate-min", size)),
        },
        body_max_bytes: match args.body_max.trim() {
            "none" => None,
            size => Some(mistakes.size("--body-max", size)),
        },
        max_connections_per_client: {
            let value = &args.max_connections_per_client;
            let outcome = parse::count_or_none(value, COUNT_MAX);
            let count = mistakes.note("--max-connections-per-client", value, outcome, None);
            count.map(|count| usize::try_from(count).unwrap_or(usize::MAX))
        },
        max_connections: args.max_connections.as_ref().map(|value| mistakes.count("--max-connections", value, 1)),
        max_requests_per_connection: {
            let value = &args.max_requests_per_connection;
            let outcome = parse::count_or_none(value, u64::MAX >> 1);
            mistakes.note("--max-requests-per-connection", value, outcome, None)
        },
    }
}

fn grants(args: &ServeArgs, mistakes: &mut Mistakes) -> Grants {
    Grants {
        env: environment(args, mistakes),
        args: listed(&args.arg, "WASMHOST_ARG"),
        dirs: directories(&listed(&args.dir, "WASMHOST_DIR"), mistakes),
        allow_hosts: mistakes.each("--allow-host", &args.allow_host, parse::host_rule),
        ca_pem: match args.ca_file.as_deref() {
            None | Some("") => String::new(),
            Some(file) => mistakes.note("--ca-file", file, parse::ca_file(file), String::new()),
        },
    }
}

/// The guest's variables: those of the files, in their order, and then those of `--env`. Of two with one name, the later
/// counts.
fn environment(args: &ServeArgs, mistakes: &mut Mistakes) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for file in listed(&args.env_file, "WASMHOST_ENV_FILE") {
        match env_file::read(Path::new(&file)) {
            Ok(read) => variables.extend(read),
            Err(wrong) => mistakes.0.extend(wrong.into_iter().map(|wrong| Mistake {
                flag: "--env-file",
                value: wrong.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")),
                reason: wrong.reason,
            })),
        }
    }
    variables.extend(mistakes.each("--env", &listed(&args.env, "WASMHOST_ENV"), parse::key_value));
    let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
    if bytes > ENVIRONMENT_BYTES_MAX {
        let reason = format!("with --env and all files, the guest has more than {} MiB", ENVIRONMENT_BYTES_MAX >> 20);
        mistakes.0.push(Mistake { flag: "--env-file", value: format!("{bytes} bytes"), reason });
    }
    let mut latest = HashSet::new();
    let mut kept: Vec<_> = variables.into_iter().rev().filter(|(name, _)| latest.insert(name.clone())).collect();
    kept.reverse();
    kept
}

fn directories(values: &[String], mistakes: &mut Mistakes) -> Vec<Preopen> {
    if values.len() > DIRECTORIES_MAX {
        let reason = format!("a guest is granted {DIRECTORIES_MAX} directories at most; grant one that holds several");
        mistakes.0.push(Mistake { flag: "--dir", value: format!("{} times", values.len()), reason });
        return Vec::new();
    }
    mistakes.each("--dir", values, parse::preopen)
}

fn compilation(args: &ServeArgs, mistakes: &mut Mistakes) -> Compilation {
    Compilation {
        timeout: mistakes.time("--compile-timeout", &args.compile_timeout),
        memory_max_bytes: mistakes.size("--compile-memory-max", &args.compile_memory_max),
        cache: match args.cache_dir.as_deref() {
            None | Some("") => cache_of_user(),
            Some("off") => CacheChoice::Off,
            Some(dir) => CacheChoice::Dir(PathBuf::from(dir)),
        },
        cache_max_bytes: mistakes.size("--cache-max", &args.cache_max),
    }
}

/// `wasmhost` below `$XDG_CACHE_HOME`, or below `$HOME/.cache`.
fn cache_of_user() -> CacheChoice {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    let base = base.or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map_or(CacheChoice::NoHome, |base| CacheChoice::Dir(base.join("wasmhost")))
}

/// The bounds of `wasmhost compile`, which keeps nothing in the cache.
///
/// # Errors
/// The mistakes in both.
pub fn compile_bounds(timeout: &str, memory_max: &str) -> Result<Compilation, Vec<Mistake>> {
    let mut mistakes = Mistakes(Vec::new());
    let bounds = Compilation {
        timeout: mistakes.time("--compile-timeout", timeout),
        memory_max_bytes: mistakes.size("--compile-memory-max", memory_max),
        cache: CacheChoice::Off,
        cache_max_bytes: 0,
    };
    if mistakes.0.is_empty() { Ok(bounds) } else { Err(mistakes.0) }
}
