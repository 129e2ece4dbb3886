//! What the primary takes from the machine before it starts workers: it binds the addresses, starts the spawner, confines
//! itself, and says how many connections there may be.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use http::uri::Authority;

use wasmhost_base::log::LogDestination;
use wasmhost_base::private_files::make_directory;
use wasmhost_base::socket_file::SocketFile;
use wasmhost_config::{Balance, Config, Listen, acme, databases_folder};
use wasmhost_confine::spawner::{Settings, Spawner, TlsLook};
use wasmhost_confine::{self as confine, Cage, Confinement};
use wasmhost_sandbox::{capabilities, make_cache_dir};
use wasmhost_serve::clients::Clients;
use wasmhost_serve::listener::{Address, BindError, Bound, HandedOver, Listener, bind_for_each, listen};
use wasmhost_serve::worker::inbox::PerClient;
use wasmhost_storage::{FILE_NAME, OpenError, StoreFile, command_socket};

use super::error::{PrimaryError, system};
use super::held_tls::HeldTls;
use super::schedule_file::ScheduleFile;
use crate::control;
use crate::descriptors::{connections_by_descriptors, too_few_for_code};
use crate::service_manager::ServiceManager;

/// What the primary took from the machine while it was not confined. Made before any thread.
pub struct Bootstrap {
    pub(super) config: Config,
    sockets: Vec<BootstrapSocket>,
    admin: Option<Bound>,
    control: Option<Bound>,
    pub(super) spawner: Arc<Spawner>,
    pub(super) confinement: Confinement,
    /// Where the log goes.
    pub(super) log: LogDestination,
    pub(super) files: BoundFiles,
    /// What the spawner has read of TLS.
    pub(super) tls: Option<HeldTls>,
    /// Where schedules keep what they have dealt with.
    pub(super) schedules: Option<ScheduleFile>,
    pub(super) service_manager: ServiceManager,
    /// The file of stores, if some app is granted one, and where commands ask for them.
    pub(super) stores: Option<(StoreFile, Option<UnixListener>)>,
}

/// The files of the Unix sockets that this host has bound. Whichever way the host ends, they go when this is dropped;
/// files that the host has found, or that have taken the place of its own, stay.
pub(super) struct BoundFiles {
    files: Vec<SocketFile>,
    /// Who removes them: this process until it confines itself, then the spawner.
    spawner: Option<Arc<Spawner>>,
}

impl BoundFiles {
    /// One more.
    pub(super) fn add(&mut self, file: Option<SocketFile>) {
        self.files.extend(file);
    }

    /// Removes them now; the second time does nothing. (The spawner may know of some that this process does not: of a
    /// reading that was lost.)
    pub(super) fn remove(&mut self) {
        let files = std::mem::take(&mut self.files);
        let asked = self.spawner.take().map(|spawner| spawner.remove_sockets());
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
enum BootstrapSocket {
    /// The primary accepts. With the address as the settings name it.
    One(Bound, Listen),
    /// Each worker does, on a listener of its own.
    Each(Vec<TcpListener>, Address, Listen),
}

impl BootstrapSocket {
    /// Binds an address. (Several sockets may have been handed over.)
    fn bind(listen: &Listen, config: &Config, handed: &mut HandedOver) -> Result<Vec<Self>, BindError> {
        match (listen, config.balance) {
            (Listen::Tcp(address), Balance::Kernel) => {
                let (listeners, address) = bind_for_each(*address, config.workers)?;
                Ok(vec![Self::Each(listeners, address, listen.clone())])
            }
            (Listen::Inherited(name), _) => {
                let sockets = handed.take(name.as_deref())?.into_iter();
                Ok(sockets.map(|bound| Self::One(bound, listen.clone())).collect())
            }
            (listen, _) => Ok(vec![Self::One(Bound::new(listen)?, listen.clone())]),
        }
    }

    /// The file that binding has made.
    fn file(&self) -> Option<&SocketFile> {
        match self {
            Self::One(bound, _) => bound.file(),
            Self::Each(..) => None,
        }
    }
}

impl Bootstrap {
    /// Binds, starts the spawner, and confines this process, which must have no other thread.
    ///
    /// # Errors
    /// When an address cannot be had, the system refuses something, or the process cannot be confined as it must.
    pub fn prepare(settings: Settings) -> Result<Self, PrimaryError> {
        let config = &settings.config;
        if let Some((needed, limit)) = too_few_for_code(config) {
            return Err(PrimaryError::Descriptors { needed, limit });
        }
        let mut files = BoundFiles { files: Vec::new(), spawner: None };
        let (mut sockets, mut handed) = (Vec::new(), HandedOver::default());
        for listen in config.addresses() {
            // The files of those that were bound go when a later one cannot be.
            let bound = BootstrapSocket::bind(listen, config, &mut handed)?;
            files.files.extend(bound.iter().filter_map(BootstrapSocket::file).cloned());
            sockets.extend(bound);
        }
        let admin = config.admin.as_ref().map(Bound::new).transpose()?;
        files.files.extend(admin.as_ref().and_then(Bound::file).cloned());
        let control = control::bind(config)?;
        files.files.extend(control.as_ref().and_then(Bound::file).cloned());
        if let Some(dir) = config.compilation.cache_dir() {
            // Landlock lets through what is there. One that cannot be made is told of when it is to be used.
            let _ = make_cache_dir(dir);
        }
        if let Some(dir) = config.data_dir.as_deref().filter(|_| !config.acme().is_empty()) {
            // Before, so that the spawner may let others write it.
            make_directory(dir).and_then(|()| make_directory(&acme::folder(dir))).map_err(PrimaryError::Data)?;
        }
        if let Some(dir) = config.data_dir.as_deref().filter(|_| confine::has_databases(config, capabilities())) {
            make_directory(dir).and_then(|()| make_directory(&databases_folder(dir))).map_err(PrimaryError::Data)?;
        }
        if let Some(dir) = &config.crashes.dir {
            make_directory(dir).map_err(PrimaryError::CrashDir)?;
        }
        let has_stores = config.apps.iter().any(|app| capabilities().needs(app).any(|needs| !needs.stores.is_empty()));
        let stores = match config.data_dir.as_deref().filter(|_| has_stores) {
            Some(dir) => {
                make_directory(dir).map_err(PrimaryError::Data)?;
                Some((StoreFile::open(dir)?, commands_in(dir)?))
            }
            None => None,
        };
        let spawner = Spawner::start(&settings, files.files.clone()).map_err(system("start the spawner"))?;
        let spawner = Arc::new(spawner);
        files.spawner = Some(Arc::clone(&spawner));
        let speaks_tls = config.listeners.iter().any(|listener| listener.tls.is_some());
        let tls = match speaks_tls.then(|| spawner.look_at_tls_first()).transpose() {
            Ok(None) => None,
            Ok(Some(TlsLook::New(reading))) => Some(HeldTls::from(reading)),
            Ok(Some(TlsLook::Wrong(reason))) => return Err(PrimaryError::Tls(reason)),
            Ok(Some(TlsLook::Same)) => return Err(PrimaryError::Tls("the spawner has read no file of TLS".to_owned())),
            Err(error) => return Err(PrimaryError::Tls(error.to_string())),
        };
        let schedules = ScheduleFile::open(config).map_err(PrimaryError::Data)?;
        let (service_manager, log) = (ServiceManager::connect(), LogDestination::of_stderr());
        let confinement = confine::apply(config.confine, &Cage::primary(config, capabilities()))?;
        Ok(Self {
            config: settings.config,
            sockets,
            admin,
            control,
            spawner,
            confinement,
            log,
            files,
            tls,
            service_manager,
            stores,
            schedules,
        })
    }

    /// Begins to listen for the admin page, before anything is loaded. Needs a tokio runtime.
    pub(super) fn listen_for_admin(&mut self) -> Result<Option<Listener>, BindError> {
        self.admin.take().map(Listener::new).transpose()
    }

    /// Begins to listen for commands.
    pub(super) fn listen_for_commands(&mut self) -> Result<Option<Listener>, BindError> {
        self.control.take().map(Listener::new).transpose()
    }

    /// Begins to listen for clients, on all addresses. Needs a tokio runtime.
    pub(super) fn listen(self) -> Result<Listening, BindError> {
        let each = (0..self.config.workers).map(|_| Vec::new()).collect();
        let mut listening = Listening { own: Vec::new(), each, addresses: Vec::new(), files: self.files };
        for socket in self.sockets {
            match socket {
                BootstrapSocket::One(bound, listen) => {
                    let listener = Listener::new(bound)?;
                    listening.addresses.push((listener.address().clone(), listen.clone()));
                    listening.own.push((listener, listen));
                }
                BootstrapSocket::Each(listeners, address, listen_on) => {
                    listeners.iter().try_for_each(listen)?;
                    listening.addresses.push((address, listen_on.clone()));
                    for (worker, listener) in listening.each.iter_mut().zip(listeners) {
                        worker.push((listen_on.clone(), listener));
                    }
                }
            }
        }
        Ok(listening)
    }
}

/// Where `wasmhost kv` asks for stores. Without it the host serves all the same.
///
/// # Errors
/// When another host has the directory.
fn commands_in(data_dir: &Path) -> Result<Option<UnixListener>, OpenError> {
    match command_socket::listen(data_dir) {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(OpenError::InUse { file: data_dir.join(FILE_NAME) })
        }
        Err(error) => {
            tracing::warn!(%error, "`wasmhost kv` cannot reach this host: there is no socket in its data directory");
            Ok(None)
        }
    }
}

/// The listeners of a host that begins to serve.
pub(super) struct Listening {
    /// On which the primary accepts, and their addresses as the settings name them.
    pub(super) own: Vec<(Listener, Listen)>,
    /// On which each worker does.
    pub(super) each: Vec<Vec<(Listen, TcpListener)>>,
    /// Of all, in the order of the settings, also as these name them.
    pub(super) addresses: Vec<(Address, Listen)>,
    pub(super) files: BoundFiles,
}

/// What stands for the authority where a client names none: the first address.
pub(super) fn authority(addresses: &[(Address, Listen)]) -> Authority {
    let parsed = addresses.iter().find_map(|(address, _)| match address {
        Address::Tcp(address) => address.to_string().parse().ok(),
        Address::Unix(_) => None,
    });
    parsed.unwrap_or_else(|| Authority::from_static("localhost"))
}

/// How many connections there may be at once.
pub(super) fn max_connections(config: &Config) -> usize {
    let by_descriptors = connections_by_descriptors(config).of_all;
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

/// How many connections there may be at once on which requests are forwarded to the workers of one group.
pub(super) fn forwarded_connections(config: &Config) -> usize {
    connections_by_descriptors(config).of_all
}

/// What is done about the connections of one client, where this process accepts.
pub(super) fn per_client(config: &Config) -> PerClient {
    match config.limits.max_connections_per_client {
        Some(max) => PerClient::Counted(Clients::new(max, &config.trust_proxy)),
        None => PerClient::Unbounded,
    }
}
