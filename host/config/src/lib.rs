//! The settings of one run, checked and in their final types. `settings` lists every setting and what its value means, `cli`
//! what can be typed, `document` reads `wasmhost.toml`, and `build` makes a [`Config`] of all, or a list of all mistakes. No
//! other crate reads flags, the file or the environment. Names of hosts are resolved, and files and directories opened, here
//! and once; other processes of the host get the result.

pub mod acme;
mod admin;
mod build;
mod capability;
pub mod cli;
pub mod control;
mod crash_settings;
mod cron;
mod document;
mod draft;
mod encoding;
mod env_file;
mod environment;
mod file;
mod given;
mod host_name;
mod host_rule;
pub mod links;
mod listener;
mod log_choice;
mod machine;
mod mistake;
mod nearest;
mod outline;
mod overlap;
mod parse;
mod plain_path;
mod recorded;
mod request_key;
mod revisions;
pub mod routes;
mod schedule;
mod schema;
mod secret;
mod service;
pub mod settings;
mod show;
mod shown;
mod stores;
mod table;
pub mod tls;
mod together;
mod traces;
mod variables;
mod ways;
mod workers;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use acme::AcmeSettings;
pub use admin::{AdminAccess, AdminToken};
pub use build::{
    FILE_NAME, build, build_for_development, build_for_replay, compile_bounds, read_again, read_apps_again,
};
pub use capability::{Capabilities, Declaration, Declared, Interface, Needs, Port, Versions};
pub use control::ControlSocket;
pub use crash_settings::CrashSettings;
pub use cron::{CronMistake, CronTimes};
pub use env_file::DEVELOPMENT_VARIABLE;
pub use environment::{GuestVariable, HostEnvironment};
pub use given::Source;
pub use host_rule::{HostPattern, HostRule, UpstreamScheme};
pub use listener::{ClientAuth, ListenerConfig, TlsFiles, acme_of};
pub use log_choice::{LogChoice, LogForm, LogLevel};
pub use machine::{Machine, available_bytes, machine};
pub use mistake::Mistake;
pub use nearest::nearest;
pub use outline::{Outline, data_dir, outline};
pub use overlap::components_within;
pub use parse::{certificates, positive_duration as parse_duration};
pub use plain_path::{covers, plain_path};
pub use recorded::{guarded_values, recorded_grants, recorded_settings};
pub use request_key::RequestKey;
pub use revisions::{CanaryRules, Probe, RollbackRules};
pub use schedule::{CatchUp, Overlap, SCHEDULE_PATH, SCHEDULES_MAX, ScheduleSettings};
pub use schema::schema;
pub use service::{SERVICES_MAX, Service};
pub use settings::{Form, Setting, Takes};
pub use show::{changed_host_settings, show};
pub use stores::{
    DatabaseGrant, DatabaseLimits, StoreGrant, StoreLimits, StoreServer, StoreSettings, databases_folder,
};
pub use table::{APPS_MAX, AppId, AppTable, Listed, Routed};
pub use traces::{Collector, CollectorHeader, TraceSettings};
pub use workers::{Balance, MAX_WORKERS, WorkerKind, WorkerLimits};

/// Which answers of an app are compressed, for clients that take them so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Compress {
    /// None.
    #[default]
    Off,
    /// Those to requests that carry nothing by which the client is known.
    Public,
    /// All.
    All,
}

/// All settings of one run of `wasmhost serve`: those of the host, and its apps.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// What is served; one app at least, [`APPS_MAX`] at most. No two have the same name.
    pub apps: Vec<Arc<App>>,
    /// Where clients connect, and how; one at least. No two have the same address.
    pub listeners: Vec<ListenerConfig>,
    /// Number of workers, 1 to [`MAX_WORKERS`]; each group has as many more.
    pub workers: u16,
    /// How many there may be at most while the host runs, [`Self::workers`] to [`MAX_WORKERS`]; those of each group likewise.
    pub workers_max: u16,
    /// What a worker is.
    pub worker_kind: WorkerKind,
    /// Nobody has said what a worker is: it follows from the apps.
    pub is_worker_kind_auto: bool,
    /// How long a worker's process may give no sign of life.
    pub worker_hang_timeout: Option<Duration>,
    /// When a worker is replaced although nothing is wrong with it.
    pub worker_limits: WorkerLimits,
    /// How connections are given to workers.
    pub balance: Balance,
    /// With [`Balance::Client`], connections whose first request has the same value of this are of one client; without it, those
    /// from the same address.
    pub balance_by: Option<RequestKey>,
    /// Bounds on clients, and on all apps together.
    pub limits: HostLimits,
    /// Networks whose clients may set forwarded headers.
    #[serde(with = "encoding::networks")]
    pub trust_proxy: Vec<ipnet::IpNet>,
    /// Where health, status and metrics are shown, if anywhere.
    pub admin: Option<Listen>,
    /// Who may use that address.
    pub admin_access: AdminAccess,
    /// Where commands such as `wasmhost ps` reach the host.
    pub control: ControlSocket,
    /// Where this user's hosts have their control sockets.
    #[serde(with = "encoding::path_or_none")]
    pub runtime_dir: Option<PathBuf>,
    /// How the log is written.
    pub log: LogChoice,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether it reloads when a file that it serves, or `wasmhost.toml`, has changed.
    pub watch: bool,
    /// How compilation is bounded and where its results are kept.
    pub compilation: Compilation,
    /// How far the host's processes confine themselves.
    pub confine: Confine,
    /// How long requests in flight may take to finish after a signal to stop.
    pub drain_timeout: Duration,
    /// After so long without a request an app is put to sleep, where there are several.
    pub app_idle_timeout: Option<Duration>,
    /// Where what apps keep beyond a restart is stored, if anywhere.
    #[serde(with = "encoding::path_or_none")]
    pub data_dir: Option<PathBuf>,
    /// The stores that apps share.
    pub stores: Vec<StoreSettings>,
    /// What it leaves about faults of guests.
    pub crashes: CrashSettings,
    /// Where traces of requests go.
    pub traces: TraceSettings,
    /// What `wasmhost dev` changes; none in production.
    pub development: Option<Development>,
    /// What [`read_again`] reads; none where a component was named instead of a file.
    pub source: Option<Source>,
}

impl Config {
    /// The groups of its apps, each once.
    pub fn groups(&self) -> BTreeSet<&str> {
        self.apps.iter().filter_map(|app| app.group.as_deref()).collect()
    }

    /// The addresses of the listeners.
    pub fn addresses(&self) -> impl Iterator<Item = &Listen> {
        self.listeners.iter().map(|listener| &listener.listen)
    }

    /// The certificates that are to be had by ACME, each once.
    pub fn acme(&self) -> Vec<&AcmeSettings> {
        acme_of(&self.listeners)
    }

    /// How many workers there are in all: [`Self::workers`] that take connections, and as many for each group.
    pub fn all_workers(&self) -> usize {
        usize::from(self.workers).saturating_mul(1 + self.groups().len())
    }

    /// What processes know that serve the apps of this group, or those without one: of apps, these alone; and nothing of what
    /// flags and variables said.
    #[must_use]
    pub fn of_group(&self, group: Option<&str>) -> Self {
        let is_of_group = |app: &&Arc<App>| app.group.as_deref() == group;
        let apps = self.apps.iter().filter(is_of_group).cloned().collect();
        // What lets the host into servers of stores and to the collector of traces, and others into the host, is the primary's
        // alone.
        let (stores, admin_access) = (Vec::new(), AdminAccess::default());
        let traces = TraceSettings { headers: Vec::new(), ..self.traces.clone() };
        Self {
            apps,
            stores,
            admin_access,
            traces,
            source: self.source.as_ref().map(Source::of_file_alone),
            ..self.clone()
        }
    }

    /// What processes know that serve no app: nothing of apps, and nothing of what was typed.
    #[must_use]
    pub fn of_no_app(&self) -> Self {
        Self { apps: Vec::new(), source: None, ..self.of_group(None) }
    }

    /// The file that an app's component is read from.
    pub fn component_file(&self, app: &App) -> PathBuf {
        self.development.as_ref().map_or_else(|| app.component.clone(), |development| development.component(&app.name))
    }
}

/// An app: a component with its limits and grants.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct App {
    /// The reading of the file that it is from, by number; 0: that of the start. Known to the primary only, which has to say
    /// of which reading it wants a component. It is no setting.
    #[serde(skip)]
    pub reading: u64,
    /// Its name in logs and metrics: 1 to 63 ASCII letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// File that holds the component (`.wasm`, `.wat` or `.cwasm`).
    #[serde(with = "encoding::path")]
    pub component: PathBuf,
    /// The folder of the project that `wasmhost build` makes the component of; empty: something else makes it.
    #[serde(with = "encoding::path")]
    pub project: PathBuf,
    /// Which requests it gets, as they are written; none: no requests.
    pub routes: Vec<String>,
    /// Whether it sees paths without what its route matched.
    pub strip_prefix: bool,
    /// Whether it sees who its clients are, in headers.
    pub forwarded_headers: bool,
    /// Which of its answers are compressed.
    pub compress: Compress,
    /// With which other apps it shares worker processes, of the same form as a name; none: with all that have none.
    pub group: Option<String>,
    /// The apps that it may call.
    pub services: Vec<Service>,
    /// Requests that the host makes to it at certain times; [`SCHEDULES_MAX`] at most.
    pub schedules: Vec<ScheduleSettings>,
    /// How long an instance lives.
    pub isolation: Isolation,
    /// The seed of its random numbers, in a test; its clocks show no real time then.
    pub deterministic: Option<u64>,
    /// Bounds on instances and on the queue in front of them.
    pub capacity: Capacity,
    /// Bounds on the guest.
    pub limits: Limits,
    /// What the guest was granted.
    pub grants: Grants,
    /// What a new revision of it answers before it is served.
    pub probe: Probe,
    /// When the host goes back to an earlier one.
    pub rollback: RollbackRules,
    /// Which requests it gets at first.
    pub canary: CanaryRules,
}

impl App {
    /// Whether its guest may make outgoing requests, to hosts or to other apps.
    pub fn calls_others(&self) -> bool {
        !self.grants.allow_hosts.is_empty() || !self.services.is_empty()
    }

    /// What a process knows of an app that it does not serve itself: which requests it gets, of which group it is, and how
    /// long its requests may take.
    #[must_use]
    pub fn seen_from_outside(&self) -> Self {
        Self {
            name: self.name.clone(),
            routes: self.routes.clone(),
            strip_prefix: self.strip_prefix,
            group: self.group.clone(),
            limits: self.limits,
            capacity: Capacity { queue_timeout: self.capacity.queue_timeout, ..Capacity::default() },
            ..Self::default()
        }
    }

    /// The file of the component that `wasmhost build` makes of an app's project where the file of settings names no other.
    pub fn component_of(project: &Path, name: &str) -> PathBuf {
        project.join(format!("{name}.wasm"))
    }
}

/// Settings of `wasmhost dev`: clients and the terminal see reasons of failures, and components come from a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Development {
    #[serde(with = "encoding::path")]
    stage: PathBuf,
    #[serde(with = "encoding::path")]
    root: PathBuf,
}

impl Development {
    /// With this stage: the folder between `wasmhost dev` and the host that it runs, which is nobody else's. Of apps without
    /// a project, sources below `root` are shown.
    pub fn new(stage: &Path, root: &Path) -> Self {
        Self { stage: stage.to_owned(), root: root.to_owned() }
    }

    /// The folder of an app on the stage.
    pub fn folder(&self, app: &str) -> PathBuf {
        // (A name may be `..`.)
        self.stage.join(format!("app-{app}"))
    }

    /// The component of an app that was staged last.
    pub fn component(&self, app: &str) -> PathBuf {
        self.folder(app).join("component")
    }

    /// While this file exists, clients of an app get its text instead of the component's answer.
    pub fn notice(&self, app: &str) -> PathBuf {
        self.folder(app).join("notice.json")
    }

    /// The folder whose source files are shown where the guest of an app fails in them.
    pub fn root<'a>(&'a self, app: &'a App) -> &'a Path {
        if app.project.as_os_str().is_empty() { &self.root } else { &app.project }
    }
}

/// An address that the host listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listen {
    /// `HOST:PORT`; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// `unix:PATH`, a Unix stream socket.
    Unix(#[serde(with = "encoding::path")] PathBuf),
    /// The sockets that systemd (or another manager that sets `LISTEN_FDS`) handed over: those of this name
    /// (`FileDescriptorName=`), or all.
    Inherited(Option<String>),
}

impl Listen {
    /// Whether only processes of this machine can connect to it.
    pub fn is_of_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => true,
            Self::Inherited(_) => false,
        }
    }
}

/// As the settings name it.
impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inherited(None) => f.write_str("systemd"),
            Self::Inherited(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// Who may bind a port that others may not, for messages.
pub const LOW_PORTS: &str = "ports below 1024 need the capability CAP_NET_BIND_SERVICE, or a socket that systemd hands over (`--listen systemd`); docs/DEPLOY.md shows both";

/// How far the host's processes confine themselves, beyond the guest's sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Confine {
    /// Not at all.
    Off,
    /// As far as the kernel offers it.
    #[default]
    Auto,
    /// In full, or the host does not start.
    Require,
}

impl Confine {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Auto, Self::Require];

    /// As it is written on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Require => "require",
        }
    }

    /// What has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Isolation {
    /// `Worker`, but `Request` for guests that are known not to work when an instance is reused.
    #[default]
    Auto,
    /// From request to request.
    Worker,
    /// For one request.
    Request,
}

/// Bounds on the instances of an app on a worker, and on the queue in front of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Instances of a worker, at least 1.
    pub instances_per_worker: usize,
    /// Requests at once in one instance (wasi 0.3 only), at least 1.
    pub instance_concurrency: usize,
    /// Requests of a worker that may wait for an instance.
    pub queue_max: usize,
    /// How long a request may wait for an instance.
    pub queue_timeout: Duration,
    /// Requests that an instance serves before it is retired (spread by 20 % up and down); none: for ever.
    pub max_requests: Option<u64>,
}

/// Bounds on the guest of an app, and on its requests. `None` means without a bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memories and tables of one instance, in sum.
    pub memory_max_bytes: u64,
    /// Memories and tables of all instances of the app, in sum; none: those of the host are the bound.
    pub app_memory_max_bytes: Option<u64>,
    /// CPU time that a request may spend in the guest.
    pub cpu_limit: Duration,
    /// Wall clock until the head of the response.
    pub request_timeout: Option<Duration>,
    /// Silence within a body, either way.
    pub body_idle_timeout: Option<Duration>,
    /// Wall clock until the end of the response.
    pub response_timeout: Option<Duration>,
    /// Size of a request's body.
    pub body_max_bytes: Option<u64>,
    /// What each store of its own may hold.
    pub stores: StoreLimits,
    /// What each of the app's databases may hold.
    pub databases: DatabaseLimits,
    /// What the guest may ask of other hosts.
    pub outgoing: OutgoingLimits,
}

/// Bounds on the outgoing requests of an app. A guest can lower the times for a request of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutgoingLimits {
    /// Until there is a connection: the name, the turn at the host, TCP and TLS.
    pub connect_timeout: Duration,
    /// From when the upstream has the request until its response's head.
    pub first_byte_timeout: Duration,
    /// Silence within a body, either way.
    pub between_bytes_timeout: Duration,
    /// Requests at once to one scheme, host and port, on a worker.
    pub host_max: usize,
    /// Outgoing requests that one request may cause; none: without a bound.
    pub calls_max: Option<u64>,
}

/// Bounds on clients, and on all apps together. `None` means without a bound.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostLimits {
    /// Memories and tables of all instances, in sum.
    pub memory_total_bytes: u64,
    /// The least pace of a client that sends a request's body or reads a response, in bytes a second; it counts once the
    /// host has waited for the client for ten seconds.
    pub body_rate_min: Option<u64>,
    /// Wall clock from the first to the last byte of a request's head.
    pub header_timeout: Duration,
    /// How long a connection may rest between requests.
    pub keepalive_timeout: Duration,
    /// Size of a request's head, and of its request line.
    pub header_max_bytes: usize,
    /// Connections at once; none: by the process's file descriptors.
    pub max_connections: Option<usize>,
    /// Connections at once of one client.
    pub max_connections_per_client: Option<usize>,
    /// Requests at once of one connection of HTTP/2; 0: HTTP/2 is not spoken.
    pub http2_streams_max: u32,
    /// Requests that one connection may carry.
    pub max_requests_per_connection: Option<u64>,
}

impl Limits {
    /// Wall clock within which an instance must have started: that of a request, or a minute where requests have none.
    pub fn start_timeout(&self) -> Duration {
        self.request_timeout.unwrap_or(Duration::from_secs(60))
    }
}

/// What the guest may reach beyond its own memory and the request.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Grants {
    /// Environment variables, in the order given. No two have the same name.
    pub env: Vec<GuestVariable>,
    /// Command line arguments.
    pub args: Vec<String>,
    /// Directories. (Another process of the host gets them as open descriptors, beside its settings.)
    #[serde(skip)]
    pub dirs: Vec<Preopen>,
    /// Hosts that outgoing requests may reach.
    pub allow_hosts: Vec<HostRule>,
    /// Stores of keys and values. No two have the same name.
    pub stores: Vec<StoreGrant>,
    /// Databases. No two have the same name.
    pub databases: Vec<DatabaseGrant>,
    /// The file of `--ca-file`; empty: none.
    #[serde(with = "encoding::path")]
    pub ca_file: PathBuf,
    /// The files that some of this was read from: of variables, of secrets, of root certificates. (Only who reads settings
    /// needs them.)
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// Root certificates that outgoing HTTPS trusts besides Mozilla's, in PEM; [`certificates`] reads them. Apps that
    /// have them from `[defaults]` share them.
    pub ca_pem: Arc<str>,
    /// What the settings of capabilities say.
    pub declared: Declared,
}

/// Most directories that all guests together are granted; each costs every process a descriptor.
pub const DIRECTORIES_MAX: usize = 1_024;

/// A directory of the host, and under which name the guest sees it, or clients do. It is opened when the flags are read and stays the
/// one that was opened then, also when it is removed or another one takes its name.
#[derive(Debug, Clone)]
pub struct Preopen {
    /// The directory's name when it was opened.
    pub host: PathBuf,
    /// The guest's name for it.
    pub guest: String,
    /// Whether the guest may write in it.
    pub writable: bool,
    /// What it is for.
    pub purpose: DirectoryPurpose,
    /// The directory itself (`O_PATH`).
    pub opened: Arc<OwnedFd>,
}

/// What an app has a directory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DirectoryPurpose {
    /// Its guest sees it.
    #[default]
    Guest,
    /// The host answers requests with its files, in front of the guest, which does not see it. Its name is how the paths of
    /// these requests begin.
    Static,
}

impl Grants {
    /// The directories that it has for this.
    pub fn of_purpose(&self, purpose: DirectoryPurpose) -> impl Iterator<Item = &Preopen> {
        self.dirs.iter().filter(move |dir| dir.purpose == purpose)
    }
}

impl Preopen {
    /// Opens the directory `host`.
    ///
    /// # Errors
    /// When it is no directory or cannot be opened.
    pub fn open(host: PathBuf, guest: String, writable: bool) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = Arc::new(rustix::fs::open(&host, flags, Mode::empty())?);
        Ok(Self { host, guest, writable, purpose: DirectoryPurpose::Guest, opened })
    }

    /// A path to what was opened, valid in this process while the descriptor is open.
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.opened.as_raw_fd()).into()
    }
}

/// How compilation is bounded and where its results are kept.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Compilation {
    /// Wall clock of one compilation.
    pub timeout: Duration,
    /// Address space of the compiling process.
    pub memory_max_bytes: u64,
    /// Where compiled components are kept.
    pub cache: CacheChoice,
    /// Size of all that the cache keeps.
    pub cache_max_bytes: u64,
    /// How much is done for the speed of the code. It is no setting: `wasmhost dev` changes it.
    pub tier: Tier,
}

/// How much is done for the speed of compiled code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Cranelift optimises it.
    #[default]
    Optimised,
    /// Winch translates it in one pass: it is there much sooner, and runs slower. What Winch cannot compile is optimised.
    Baseline,
}

impl Tier {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Optimised, Self::Baseline];

    /// The one whose code is there soonest. On aarch64 that is Cranelift's: there, Winch is not complete (it lacks SIMD).
    pub const fn soonest() -> Self {
        if cfg!(target_arch = "x86_64") { Self::Baseline } else { Self::Optimised }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Optimised => "optimised",
            Self::Baseline => "baseline",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }

    /// Whether code of this tier may be served where `wanted` is: what is optimised, anywhere.
    pub fn may_serve(self, wanted: Self) -> bool {
        self == Self::Optimised || self == wanted
    }
}

/// Where compiled components are kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum CacheChoice {
    /// In this directory.
    Dir(#[serde(with = "encoding::path")] PathBuf),
    /// Nowhere, since the user's own directory for it is not known: neither `$XDG_CACHE_HOME` nor `$HOME` is set.
    NoHome,
    /// Nowhere: compile at every start.
    #[default]
    Off,
}

impl Compilation {
    /// The directory of compiled components, if there is one.
    pub fn cache_dir(&self) -> Option<&Path> {
        match &self.cache {
            CacheChoice::Off | CacheChoice::NoHome => None,
            CacheChoice::Dir(dir) => Some(dir),
        }
    }
}
