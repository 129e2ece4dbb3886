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
use wasmhost_base::resident;
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
use super::succession::{SocketsToBe, SuccessionToBe};
use crate::control;
use crate::descriptors::{connections_by_descriptors, too_few_for_code};
use crate::service_manager::ServiceManager;
use crate::upgrade::{Predecessor, StartedWith};

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
    /// How this process was started; none: it cannot be upgraded.
    pub(super) started: Option<StartedWith>,
    /// The host that this one takes over from.
    pub(super) succession: Option<SuccessionToBe>,
}

/// How this process was started, and why.
#[derive(Default)]
pub struct Beginnings {
    /// For an upgrade; none: there is none.
    pub started: Option<StartedWith>,
    /// The host that this one takes over from.
    pub predecessor: Option<Predecessor>,
}

/// The files of the Unix sockets that this host has bound. Whichever way the host ends, they go when this is dropped;
/// files that the host has found, or that have taken the place of its own, stay.
pub(super) struct BoundFiles {
    files: Vec<SocketFile>,
    /// Those of the host that this one takes over from.
    later: Vec<SocketFile>,
    /// Who removes them: this process until it confines itself, then the spawner.
    spawner: Option<Arc<Spawner>>,
}

impl BoundFiles {
    /// One more.
    pub(super) fn add(&mut self, file: Option<SocketFile>) {
        self.files.extend(file);
    }

    /// Those of the host that this one takes over from are this host's from now on.
    pub(super) fn take_over(&mut self) {
        self.files.append(&mut self.later);
        if let Some(spawner) = &self.spawner {
            spawner.takes_over();
        }
    }

    /// Those of the host that this one takes over from, until it does.
    pub(super) fn later(&self) -> &[SocketFile] {
        &self.later
    }

    /// Leaves those that `is_left` names to another host.
    pub(super) fn leave(&mut self, is_left: impl Fn(&SocketFile) -> bool) {
        for file in self.files.extract_if(.., |file| is_left(file)) {
            if let Some(spawner) = &self.spawner {
                spawner.leave_socket(&file);
            }
        }
    }

    /// Removes one of them.
    pub(super) fn remove_one(&mut self, file: &SocketFile) {
        self.files.retain(|own| own != file);
        if let Some(spawner) = &self.spawner {
            spawner.remove_socket(file);
        }
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
    /// Binds an address, or takes it from the host before this one. (Several sockets may have been handed over.)
    fn bind(
        listen: &Listen,
        config: &Config,
        handed: &mut HandedOver,
        predecessor: Option<&mut Predecessor>,
    ) -> Result<Vec<Self>, BindError> {
        if let Some(predecessor) = predecessor {
            if let (Listen::Tcp(_), Balance::Kernel) = (listen, config.balance) {
                let of_workers = predecessor.take_of_workers(listen);
                if !of_workers.is_empty() {
                    return Self::of_workers(of_workers, listen, config).map(|all| vec![all]);
                }
            }
            let bound = predecessor.take_address(listen)?;
            if !bound.is_empty() || matches!(listen, Listen::Inherited(_)) {
                if bound.is_empty() {
                    return Err(not_handed_over(listen));
                }
                return Ok(bound.into_iter().map(|bound| Self::One(bound, listen.clone())).collect());
            }
        }
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

    /// The sockets of the workers of the host before this one: what waits at each stays there only if it goes on.
    fn of_workers(listeners: Vec<TcpListener>, listen: &Listen, config: &Config) -> Result<Self, BindError> {
        let failed =
            |reason: String, hint: &str| BindError { address: listen.to_string(), reason, hint: hint.to_owned() };
        let (had, wants) = (listeners.len(), usize::from(config.workers));
        if had != wants {
            let reason = format!(
                "with --balance kernel each worker has a socket: there are {had}, and {wants} workers are wanted"
            );
            return Err(failed(reason, "restart the host to change the number of workers"));
        }
        let address = listeners.first().map(TcpListener::local_addr);
        match address {
            Some(Ok(address)) => Ok(Self::Each(listeners, Address::Tcp(address), listen.clone())),
            Some(Err(error)) => Err(failed(error.to_string(), "restart the host")),
            None => Err(failed("it has no socket".to_owned(), "restart the host")),
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
    pub fn prepare(settings: Settings, beginnings: Beginnings) -> Result<Self, PrimaryError> {
        let config = &settings.config;
        if let Some((needed, limit)) = too_few_for_code(config) {
            return Err(PrimaryError::Descriptors { needed, limit });
        }
        let Beginnings { started, mut predecessor } = beginnings;
        let mut files = BoundFiles { files: Vec::new(), later: Vec::new(), spawner: None };
        let (mut sockets, mut handed) = (Vec::new(), HandedOver::default());
        for listen in config.addresses() {
            // The files of those that were bound go when a later one cannot be.
            let is_taken = predecessor.as_ref().is_some_and(|predecessor| predecessor.has(listen));
            let bound = BootstrapSocket::bind(listen, config, &mut handed, predecessor.as_mut())?;
            let to = if is_taken { &mut files.later } else { &mut files.files };
            to.extend(bound.iter().filter_map(BootstrapSocket::file).cloned());
            sockets.extend(bound);
        }
        let mut of_predecessor = SocketsToBe::take(predecessor.as_mut(), config)?;
        files.later.extend(of_predecessor.files().cloned());
        let admin = match (&of_predecessor.admin, &config.admin) {
            (None, Some(admin)) => Some(Bound::new(admin)?),
            _ => None,
        };
        files.files.extend(admin.as_ref().and_then(Bound::file).cloned());
        let control = match of_predecessor.control.as_ref().and_then(Bound::file) {
            Some(file) => control::bind_beside(config, file.path()),
            None => control::bind(config)?,
        };
        of_predecessor.beside =
            control.as_ref().filter(|_| of_predecessor.control.is_some()).and_then(Bound::file).cloned();
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
                let handed = predecessor.as_mut().and_then(|predecessor| predecessor.take_stores(dir));
                let commands = handed.map(|socket| Ok(Some(UnixListener::from(socket))));
                Some((StoreFile::open(dir)?, commands.unwrap_or_else(|| commands_in(dir))?))
            }
            None => None,
        };
        let spawner = Spawner::start(&settings, files.files.clone(), files.later.clone());
        let spawner = spawner.map_err(system("start the spawner"))?;
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
        let (mut service_manager, log) = (ServiceManager::connect(), LogDestination::of_stderr());
        if predecessor.is_some() {
            service_manager.be_silent();
        }
        resident::prepare();
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
            started,
            succession: predecessor.map(|predecessor| SuccessionToBe { predecessor, sockets: of_predecessor }),
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

fn not_handed_over(listen: &Listen) -> BindError {
    BindError {
        address: format!("the inherited sockets of `{listen}`"),
        reason: "the host that runs has none".to_owned(),
        hint: "restart the service: its manager hands sockets over at a start only".to_owned(),
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
