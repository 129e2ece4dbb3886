//! How connections are served, and by what.

use crate::draft::{COUNT_MAX, REQUESTS_MAX, count, names, put, size_or_none};
use crate::listener::ListenerDraft;
use crate::parse::{self, choice};
use crate::request_key::RequestKey;
use crate::shown::{self, Shown};
use crate::{Balance, Compress, Confine, DIRECTORIES_MAX, DirectoryPurpose, Isolation, MAX_WORKERS, WorkerKind};

use super::entry::{Form, Group, Setting, Takes, app, app_list, host, host_list, listener, listener_list};

/// (None: `auto`.)
const WORKER_KINDS: &[(&str, Option<WorkerKind>)] = &[
    ("auto", None),
    (WorkerKind::Thread.name(), Some(WorkerKind::Thread)),
    (WorkerKind::Process.name(), Some(WorkerKind::Process)),
];
const BALANCES: &[(&str, Balance)] = &[
    ("round-robin", Balance::RoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("client", Balance::Client),
    ("kernel", Balance::Kernel),
];
const ISOLATIONS: &[(&str, Isolation)] =
    &[("auto", Isolation::Auto), ("worker", Isolation::Worker), ("request", Isolation::Request)];
const COMPRESSES: &[(&str, Compress)] = &[("off", Compress::Off), ("public", Compress::Public), ("all", Compress::All)];
const CONFINES: &[(&str, Confine)] = &[
    (Confine::Off.name(), Confine::Off),
    (Confine::Auto.name(), Confine::Auto),
    (Confine::Require.name(), Confine::Require),
];

pub(super) const GROUP: Group = Group {
    heading: "Serving",
    settings: &[
        Setting {
            name: "listen",
            key: "listen",
            form: Form::Text("ADDRESS"),
            default: None,
            help: "Address to listen on: ADDRESS:PORT (port 0: any free port), unix:PATH, systemd (the sockets passed by systemd, also used if the flag is not given) or systemd:NAME (those of this name). Several with commas, or by several flags [default: 127.0.0.1:8080]",
            takes: Takes::Commas,
            of: listener_list(
                |draft| draft.listens.clear(),
                ListenerDraft::listen,
                |listener| Shown::Text(shown::listen(&listener.listen)),
            ),
        },
        Setting {
            name: "proxy-protocol",
            key: "proxy-protocol",
            form: Form::Switch,
            default: None,
            help: "Require a header of the PROXY protocol (version 1 or 2) at the beginning of each connection, in which a balancer of a --trust-proxy network names the client. It comes before TLS. Connections without one, or from elsewhere, are closed",
            takes: Takes::One,
            of: listener(
                |draft, text| put(&mut draft.has_proxy_header, parse::switch(text)),
                |listener| Shown::Switch(listener.has_proxy_header),
            ),
        },
        Setting {
            name: "workers",
            key: "workers",
            form: Form::Count,
            default: None,
            help: "Number of workers, each one thread or one process (--worker-kind) with its own instances [default: CPU cores, or the cgroup's CPU quota]",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.workers, count(text, 1, MAX_WORKERS.into())),
                |config| shown::count(config.workers.into()),
            ),
        },
        Setting {
            name: "workers-max",
            key: "workers-max",
            form: Form::Count,
            default: None,
            help: "Most workers that `wasmhost scale`, or a reload of the file, may bring the number to [default: --workers or the CPU cores, whichever are more; with --balance kernel the number does not change]",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.workers_max, count(text, 1, MAX_WORKERS.into()).map(Some)),
                |config| shown::count(config.workers_max.into()),
            ),
        },
        Setting {
            name: "worker-kind",
            key: "worker-kind",
            form: Form::Choice("KIND", || names(WORKER_KINDS)),
            default: Some("auto"),
            help: "What a worker is: thread, process (its own address space: a crash ends only that worker's connections), or auto (process where an app has a `group`, or `isolation` request and there is more than one worker; else thread)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.worker_kind, choice(text, WORKER_KINDS)),
                |config| shown::choice(Some(config.worker_kind), WORKER_KINDS),
            ),
        },
        Setting {
            name: "worker-hang-timeout",
            key: "worker-hang-timeout",
            form: Form::Time,
            default: Some("10s"),
            help: "Time without a sign of life after which a worker process is killed and replaced (none: never). It gets no connections after the first second",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.worker_hang_timeout, parse::duration_or_none(text)),
                |config| shown::time_or_none(config.worker_hang_timeout),
            ),
        },
        Setting {
            name: "worker-max-age",
            key: "worker-max-age",
            form: Form::Time,
            default: Some("none"),
            help: "Replace a worker after this time, varied at random by 20 % (none: never). Workers are replaced one after another, as by `wasmhost restart`",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.worker_limits.age_max, parse::duration_or_none(text)),
                |config| shown::time_or_none(config.worker_limits.age_max),
            ),
        },
        Setting {
            name: "worker-max-requests",
            key: "worker-max-requests",
            form: Form::Count,
            default: Some("none"),
            help: "Replace a worker after this many requests, varied at random by 20 % (none: never). --max-requests replaces instances, which takes less",
            takes: Takes::One,
            of: host(
                |draft, text| {
                    put(&mut draft.config.worker_limits.requests_max, parse::count_or_none(text, REQUESTS_MAX))
                },
                |config| shown::count_or_none(config.worker_limits.requests_max),
            ),
        },
        Setting {
            name: "worker-max-memory",
            key: "worker-max-memory",
            form: Form::Size,
            default: Some("none"),
            help: "Replace a worker whose instances together take more memory than this (none: never)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.worker_limits.memory_max_bytes, size_or_none(text)),
                |config| shown::size_or_none(config.worker_limits.memory_max_bytes),
            ),
        },
        Setting {
            name: "balance",
            key: "balance",
            form: Form::Choice("POLICY", || names(BALANCES)),
            default: Some("round-robin"),
            help: "Which worker gets the next connection: round-robin (the next that is ready), least-connections, client (one client address, or /64 of IPv6, keeps its worker), or kernel (SO_REUSEPORT: the kernel chooses)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.balance, choice(text, BALANCES)),
                |config| shown::choice(config.balance, BALANCES),
            ),
        },
        Setting {
            name: "balance-by",
            key: "balance-by",
            form: Form::Text("WHAT"),
            default: Some("address"),
            help: "What a client is for --balance client: an address, or the value of header:NAME or cookie:NAME in the first request of a connection, as in Node's sticky sessions. By their address go connections whose first request has no such value, those with TLS, HTTP/2 or a PROXY header, whose headers the primary does not read, and those whose headers do not come whole in time (--header-timeout)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.balance_by, RequestKey::parse(text, "address")),
                |config| Shown::Text(RequestKey::shown(config.balance_by.as_ref(), "address")),
            ),
        },
        Setting {
            name: "isolation",
            key: "isolation",
            form: Form::Choice("MODE", || names(ISOLATIONS)),
            default: Some("auto"),
            help: "Instance reuse: worker (an instance serves one request after another, and requests can see what earlier ones left in memory), request (a fresh instance for each request: use it for code that serves several tenants), or auto (worker, but request for guests known not to survive reuse)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.isolation, choice(text, ISOLATIONS)),
                |app| shown::choice(app.isolation, ISOLATIONS),
            ),
        },
        Setting {
            name: "deterministic",
            key: "deterministic",
            form: Form::Count,
            default: Some("none"),
            help: "For tests only: take the guest's random numbers from this seed, and let its clocks begin at a fixed moment in each instance and go on only when it waits or reads them. With --isolation request, each request sees the same",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.deterministic, parse::count_or_none(text, REQUESTS_MAX)),
                |app| shown::count_or_none(app.deterministic),
            ),
        },
        Setting {
            name: "instances-per-worker",
            key: "instances-per-worker",
            form: Form::Count,
            default: Some("128"),
            help: "Maximum number of instances of a worker. Further ones are made while the others wait for something (a timer, an upstream, a client) or compute for long (1: one request at a time); when all are busy, requests queue",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.capacity.instances_per_worker, count(text, 1, COUNT_MAX)),
                |app| shown::whole(app.capacity.instances_per_worker),
            ),
        },
        Setting {
            name: "instance-concurrency",
            key: "instance-concurrency",
            form: Form::Count,
            default: Some("1"),
            help: "Maximum number of requests at once in one instance (WASI 0.3 only). Above 1, requests share an instance, and a fault (a trap, a limit, a time-out) ends all requests in it, because a single 0.3 task cannot be cancelled",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.capacity.instance_concurrency, count(text, 1, COUNT_MAX)),
                |app| shown::whole(app.capacity.instance_concurrency),
            ),
        },
        Setting {
            name: "max-requests",
            key: "max-requests",
            form: Form::Count,
            default: Some("none"),
            help: "Replace an instance after this many requests, varied at random by 20 % (none: never)",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.capacity.max_requests, parse::count_or_none(text, REQUESTS_MAX)),
                |app| shown::count_or_none(app.capacity.max_requests),
            ),
        },
        Setting {
            name: "queue-max",
            key: "queue-max",
            form: Form::Count,
            default: Some("1024"),
            help: "Maximum number of requests per worker that wait for an instance; more get 503",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.capacity.queue_max, count(text, 0, COUNT_MAX)),
                |app| shown::whole(app.capacity.queue_max),
            ),
        },
        Setting {
            name: "queue-timeout",
            key: "queue-timeout",
            form: Form::Time,
            default: Some("1s"),
            help: "Time that a request may wait for an instance; then it gets 503",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.capacity.queue_timeout, parse::positive_duration(text)),
                |app| shown::time(app.capacity.queue_timeout),
            ),
        },
        Setting {
            name: "confine",
            key: "confine",
            form: Form::Choice("MODE", || names(CONFINES)),
            default: Some("auto"),
            help: "Kernel sandbox around the host's own processes (Landlock, seccomp, no core dumps): off, auto (as much as the kernel offers), or require (all of it, or exit with 1)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.confine, choice(text, CONFINES)),
                |config| shown::choice(config.confine, CONFINES),
            ),
        },
        Setting {
            name: "static",
            key: "static",
            form: Form::Text("PREFIX::DIR"),
            default: None,
            help: "Answer requests whose path begins with PREFIX with files of this directory, in front of the guest, which gets those for which there is no file. With index.html, ranges, ETag, and .br, .zst and .gz forms that stand beside a file; without dot files, and links only within the directory",
            takes: Takes::Lines { most: DIRECTORIES_MAX, beyond: "directories at most" },
            of: app_list(
                |draft| draft.app.grants.dirs.retain(|dir| dir.purpose != DirectoryPurpose::Static),
                |draft, text| {
                    parse::static_folder(text, draft.folder.as_path()).map(|dir| draft.app.grants.dirs.push(dir))
                },
                |app| shown::list(app.grants.of_purpose(DirectoryPurpose::Static).map(shown::static_folder)),
            ),
        },
        Setting {
            name: "compress",
            key: "compress",
            form: Form::Choice("ANSWERS", || names(COMPRESSES)),
            default: Some("off"),
            help: "Compress answers of the guest (gzip) for clients that take them so: off, public (not where the request has Cookie, Authorization or a client certificate), or all (then others may learn secrets in an answer from its length: see BREACH in docs/SECURITY.md). Texts, JSON, XML, fonts and the like of 1 KiB and more",
            takes: Takes::One,
            of: app(
                |draft, text| put(&mut draft.app.compress, choice(text, COMPRESSES)),
                |app| shown::choice(app.compress, COMPRESSES),
            ),
        },
        Setting {
            name: "trust-proxy",
            key: "trust-proxy",
            form: Form::Text("CIDR"),
            default: None,
            help: "Networks of proxies that may set Forwarded, X-Forwarded-* and X-Real-IP; from all other clients these headers are removed",
            takes: Takes::Commas,
            of: host_list(
                |draft| draft.config.trust_proxy.clear(),
                |draft, text| parse::network(text).map(|network| draft.config.trust_proxy.push(network)),
                |config| shown::list(config.trust_proxy.iter().map(ToString::to_string)),
            ),
        },
        Setting {
            name: "drain-timeout",
            key: "drain-timeout",
            form: Form::Time,
            default: Some("10s"),
            help: "Time that requests in flight may take to finish after SIGTERM or SIGINT; then they are broken off",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.drain_timeout, parse::duration(text)),
                |config| shown::time(config.drain_timeout),
            ),
        },
        Setting {
            name: "app-idle-timeout",
            key: "app-idle-timeout",
            form: Form::Time,
            default: Some("5m"),
            help: "Time without a request after which an app is put to sleep, if there are several: none of it stays in memory, and its next request loads it from the cache (none: never)",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.app_idle_timeout, parse::duration_or_none(text)),
                |config| shown::time_or_none(config.app_idle_timeout),
            ),
        },
        Setting {
            name: "data-dir",
            key: "data-dir",
            form: Form::Text("DIR"),
            default: None,
            help: "Directory for what is kept beyond a restart: certificates and their keys (--tls-acme), stores (--store) and databases (--sqlite). It is made with mode 0700, and refused if others can read or write it [default: $STATE_DIRECTORY, which systemd sets, where something is to be kept]",
            takes: Takes::One,
            of: host(
                |draft, text| put(&mut draft.config.data_dir, draft.folder.path(text).map(Some)),
                |config| config.data_dir.as_deref().map_or(Shown::Nothing, shown::path),
            ),
        },
    ],
};
