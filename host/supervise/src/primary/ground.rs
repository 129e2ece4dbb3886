//! What the primary takes from the machine before it starts workers: it binds the addresses, starts the spawner, confines
//! itself, and works out how many connections its file descriptors are enough for.

use std::net::TcpListener;
use std::sync::Arc;

use http::uri::Authority;

use wasmhost_base::socket_file::SocketFile;
use wasmhost_config::Balance;
use wasmhost_config::{Config, Listen, WorkerKind};
use wasmhost_confine::spawner::{Settings, Spawner};
use wasmhost_confine::{self as confine, Cage, Report};
use wasmhost_sandbox::{OUTGOING_DESCRIPTORS_MAX, make_cache_dir};
use wasmhost_serve::clients::Clients;
use wasmhost_serve::listener::{Address, BindError, Bound, Listener, bind_for_each, listen};
use wasmhost_serve::worker::inbox::PerClient;

use super::error::{PrimaryError, system};

/// Descriptors that are not for clients: the log, the cache, event loops.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors that each worker needs for itself.
const DESCRIPTORS_A_WORKER: u64 = 16;

/// What the primary took from the machine while it was not confined. Made before any thread.
pub struct Ground {
    pub(super) config: Config,
    sockets: Sockets,
    admin: Option<Bound>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) confinement: Report,
    pub(super) files: BoundFiles,
}

/// The files of the Unix sockets that this host has bound. Whichever way the host ends, they go when this is dropped;
/// files that the host has found, or that have taken the place of its own, stay.
pub(super) struct BoundFiles {
    files: Vec<SocketFile>,
    /// Who removes them: this process until it confines itself, then the spawner.
    spawner: Option<Arc<Spawner>>,
}

impl BoundFiles {
    /// Removes them now; the second time does nothing.
    pub(super) fn remove(&mut self) {
        let files = std::mem::take(&mut self.files);
        let asked = self.spawner.as_ref().filter(|_| !files.is_empty()).map(|spawner| spawner.remove_sockets());
        if asked != Some(true) {
            // Not confined yet, or at all; else the files stay, and the next host replaces them.
            files.iter().for_each(SocketFile::remove);
        }
    }
}

impl Drop for BoundFiles {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Bound, and not listening yet (but for Unix sockets, and those that were handed over).
enum Sockets {
    /// The primary accepts.
    One(Bound),
    /// Each worker does.
    Each(Vec<TcpListener>, Address),
}

impl Sockets {
    /// The file that binding has made.
    fn file(&self) -> Option<&SocketFile> {
        match self {
            Self::One(bound) => bound.file(),
            Self::Each(..) => None,
        }
    }
}

impl Ground {
    /// Binds, starts the spawner, and confines this process, which must have no other thread.
    ///
    /// # Errors
    /// When an address cannot be had, the system refuses something, or the process cannot be confined as it must.
    pub fn lay(settings: Settings) -> Result<Self, PrimaryError> {
        let config = &settings.config;
        let sockets = match (&config.listen, config.balance) {
            (Listen::Tcp(address), Balance::Kernel) => {
                let (listeners, address) = bind_for_each(*address, config.workers)?;
                Sockets::Each(listeners, address)
            }
            (listen, _) => Sockets::One(Bound::new(listen)?),
        };
        let mut files = BoundFiles { files: sockets.file().cloned().into_iter().collect(), spawner: None };
        let admin = config.admin.as_ref().map(Bound::new).transpose()?;
        files.files.extend(admin.as_ref().and_then(Bound::file).cloned());
        if let Some(dir) = config.compilation.cache_dir() {
            // Landlock lets through what is there. One that cannot be made is told of when it is to be used.
            let _ = make_cache_dir(dir);
        }
        let spawner = Spawner::start(&settings, files.files.clone()).map_err(system("start the spawner"))?;
        let spawner = Arc::new(spawner);
        files.spawner = Some(Arc::clone(&spawner));
        let confinement = confine::apply(config.confine, &Cage::primary(config))?;
        Ok(Self { config: settings.config, sockets, admin, spawner, confinement, files })
    }

    /// Begins to listen for the admin page, before the component is loaded. Needs a tokio runtime.
    pub(super) fn listen_for_admin(&mut self) -> Result<Option<Listener>, BindError> {
        self.admin.take().map(Listener::new).transpose()
    }

    /// Begins to listen for clients: on the one listener, or on the workers' own. Needs a tokio runtime.
    pub(super) fn listen(self) -> Result<Listening, BindError> {
        match self.sockets {
            Sockets::One(bound) => {
                let listener = Listener::new(bound)?;
                let address = listener.address().clone();
                Ok(Listening { one: Some(listener), each: Vec::new(), address, files: self.files })
            }
            Sockets::Each(each, address) => {
                each.iter().try_for_each(listen)?;
                Ok(Listening { one: None, each, address, files: self.files })
            }
        }
    }
}

/// The listeners of a host that begins to serve.
pub(super) struct Listening {
    pub(super) one: Option<Listener>,
    pub(super) each: Vec<TcpListener>,
    pub(super) address: Address,
    pub(super) files: BoundFiles,
}

pub(super) fn authority(address: &Address) -> Authority {
    let parsed = match address {
        Address::Tcp(address) => address.to_string().parse().ok(),
        Address::Unix(_) => None,
    };
    parsed.unwrap_or_else(|| Authority::from_static("localhost"))
}

/// How many connections the descriptors allow: of all workers together, and of one worker that is a process.
pub(super) fn connections_by_descriptors(config: &Config) -> (usize, usize) {
    use rustix::process::{Resource, getrlimit};
    // Workers that are processes have this process's limit, each for itself.
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let workers = config.workers;
    // This host has each open once, and so has each instance.
    let directories = u64::try_from(config.grants.dirs.len()).unwrap_or(u64::MAX);
    let of_instances =
        u64::try_from(config.capacity.instances_per_worker).unwrap_or(u64::MAX).saturating_mul(directories);
    // Without a host that they may reach, guests open no connection.
    let outgoing = if config.grants.allow_hosts.is_empty() { 0 } else { OUTGOING_DESCRIPTORS_MAX as u64 };
    let of_a_worker = of_instances.saturating_add(outgoing);
    match config.worker_kind {
        WorkerKind::Thread => {
            let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER * u64::from(workers);
            let open = of_a_worker.saturating_mul(workers.into()).saturating_add(directories);
            let connections = beside(reserved.saturating_add(open), descriptors);
            (connections, connections)
        }
        WorkerKind::Process => {
            let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER;
            let connections = beside(reserved.saturating_add(of_a_worker).saturating_add(directories), descriptors);
            (connections.saturating_mul(workers.into()), connections)
        }
    }
}

/// Connections that fit into a process's descriptors beside those that are needed otherwise.
fn beside(reserved: u64, descriptors: u64) -> usize {
    usize::try_from(descriptors.saturating_sub(reserved).max(descriptors / 4).max(1)).unwrap_or(usize::MAX)
}

/// How many connections there may be at once.
pub(super) fn max_connections(config: &Config) -> usize {
    let (by_descriptors, _) = connections_by_descriptors(config);
    match config.limits.max_connections {
        Some(asked) if asked > by_descriptors => {
            tracing::warn!(
                asked,
                "--max-connections is lowered to {by_descriptors}, since there are no file descriptors for more; raise their limit (ulimit -n, LimitNOFILE=)"
            );
            by_descriptors
        }
        Some(asked) => asked,
        None => by_descriptors,
    }
}

/// What is done about the connections of one client, where this process accepts.
pub(super) fn per_client(config: &Config) -> PerClient {
    match config.limits.max_connections_per_client {
        Some(max) => PerClient::Counted(Clients::new(max, &config.trust_proxy)),
        None => PerClient::Unbounded,
    }
}
