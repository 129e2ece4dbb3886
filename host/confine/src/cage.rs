//! What a process of each role keeps when it confines itself: files, ports and system calls. This file only
//! says so: `files` and `calls` have the kernel enforce it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use wasmhost_config::{App, Capabilities, Config, Listen, Needs, Port, WorkerKind, acme, control, databases_folder};

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Accepts, and has the workers that are threads.
    Primary,
    /// Serves, in a process of its own; or tries a component that was loaded.
    Worker,
    /// Compiles from standard input to standard output.
    Compiler,
    /// Gets certificates by ACME.
    Acme,
    /// Has the databases: SQLite reads there what guests write.
    Databases,
    /// Starts the others, and reads the component.
    Spawner,
}

/// What may be done with a file, or with all below a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    Execute,
    RemoveFiles,
    /// Make and remove sockets.
    Sockets,
}

/// Where TCP connections may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Connect {
    Nowhere,
    Ports(Vec<u16>),
    Anywhere,
}

/// System calls that a process may make beyond those that all may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CallGrants {
    /// Open files for reading only; `false` and no `paths`: none at all.
    pub(super) reads: bool,
    /// Use paths.
    pub(super) paths: bool,
    /// Change directories.
    pub(super) changes: bool,
    /// Connect to others and look up names.
    pub(super) outgoing: bool,
    /// Bind addresses.
    pub(super) binds: bool,
    /// Lock parts of files: that of stores, and those of databases.
    pub(super) locks: bool,
}

/// What a process keeps.
#[derive(Debug, Clone)]
pub struct Cage {
    pub(super) role: Role,
    pub(super) paths: Vec<(PathBuf, Access)>,
    pub(super) connect: Connect,
    pub(super) grants: CallGrants,
}

/// Read by the C library when it looks up a name (`nsswitch.conf(5)`, `resolv.conf(5)`, `gai.conf(5)`), its modules
/// included.
const NAME_RESOLUTION: [&str; 9] = [
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/nsswitch.conf",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    // To which resolv.conf leads, and in which it is replaced.
    "/run/systemd/resolve",
];
/// Whence SQLite has chance.
const CHANCE: &str = "/dev/urandom";
/// Port of the domain name service.
const DOMAIN: u16 = 53;

impl Cage {
    /// For the primary.
    pub fn primary(config: &Config, capabilities: Capabilities) -> Self {
        let of_primary = needs_of_servers(config).into_iter().chain(needs_of_collector(config));
        let mut cage = match config.worker_kind {
            WorkerKind::Thread => {
                let needs = config.apps.iter().flat_map(|app| capabilities.needs(app)).chain(of_primary);
                let mut cage = Self::with(Role::Primary, &needs.collect::<Vec<_>>());
                cage.paths.extend(config.compilation.cache_dir().map(|dir| (dir.to_owned(), Access::Write)));
                cage.paths.push(("/proc/self".into(), Access::Read));
                cage.grants = CallGrants { paths: true, changes: true, ..cage.grants };
                cage
            }
            // It opens nothing: loading is another process's. It asks servers of stores, and sends traces, so that no worker can.
            WorkerKind::Process => Self::with(Role::Primary, &of_primary.collect::<Vec<_>>()),
        };
        if let Some(dir) = &config.crashes.dir {
            // It writes bundles about faults: workers that are processes write nothing.
            cage.paths.push((dir.clone(), Access::Write));
            cage.grants = CallGrants { paths: true, changes: true, ..cage.grants };
        }
        // It has the file of all stores, whatever its workers are.
        cage.grants.locks = asks_stores(config.apps.iter().map(|app| &**app), capabilities);
        cage
    }

    /// For a worker that is a process, and for the process that has loaded a component and tries it.
    pub fn worker(config: &Config, capabilities: Capabilities) -> Self {
        let mut cage = Self::serving(Role::Worker, config, capabilities);
        // The code of a component that was loaded again is mapped by way of `/proc/self/fd`, which Landlock takes for the
        // file itself.
        cage.paths.extend(config.compilation.cache_dir().map(|dir| (dir.to_owned(), Access::Read)));
        cage.grants.reads = true;
        cage
    }

    /// For the process that compiles.
    pub fn compiler() -> Self {
        Self::empty(Role::Compiler)
    }

    /// For the process that gets certificates by ACME: it reaches their authorities and writes where they are kept.
    pub fn acme(config: &Config) -> Self {
        Self::with(Role::Acme, needs_of_acme(config).as_slice())
    }

    /// For the process that has the databases: it reads and writes where they are, and reaches nothing else.
    pub fn databases(config: &Config) -> Self {
        let mut cage = Self::with(Role::Databases, needs_of_databases(config).as_slice());
        cage.paths.push((CHANCE.into(), Access::Read));
        cage.grants.locks = true;
        cage
    }

    /// For the spawner, all of whose children are within what is said here: they confine themselves further.
    pub fn spawner(config: &Config, capabilities: Capabilities) -> Self {
        let databases = has_databases(config, capabilities).then(|| needs_of_databases(config)).flatten();
        let locks = databases.is_some();
        let of_others = needs_of_acme(config).into_iter().chain(databases);
        let needs = config.apps.iter().flat_map(|app| capabilities.needs(app)).chain(of_others);
        let mut cage = Self::with(Role::Spawner, &needs.collect::<Vec<_>>());
        // The component, by whatever way its path leads when it is loaded again. No guest runs here.
        cage.paths.push(("/".into(), Access::Read));
        cage.paths.push(("/dev/null".into(), Access::Write));
        cage.paths.extend(own_program().into_iter().map(|file| (file, Access::Execute)));
        cage.paths.extend(config.compilation.cache_dir().map(|dir| (dir.to_owned(), Access::Write)));
        // A new reading of the file can bring new addresses.
        let binds = config.source.is_some();
        let access = if binds { Access::Sockets } else { Access::RemoveFiles };
        cage.paths.extend(socket_files(config).map(|file| (parent(&file).to_owned(), access)));
        cage.grants = CallGrants { reads: true, paths: true, changes: true, binds, locks, ..cage.grants };
        cage
    }

    fn empty(role: Role) -> Self {
        Self { role, paths: Vec::new(), connect: Connect::Nowhere, grants: CallGrants::default() }
    }

    /// For a process that serves, or whose children do: what the apps need for the capabilities that they were granted.
    fn serving(role: Role, config: &Config, capabilities: Capabilities) -> Self {
        Self::with(role, &config.apps.iter().flat_map(|app| capabilities.needs(app)).collect::<Vec<_>>())
    }

    /// For a process that needs all this.
    fn with(role: Role, all: &[Needs]) -> Self {
        let directories = || all.iter().flat_map(|needs| &needs.directories);
        let mut paths: Vec<(PathBuf, Access)> = Vec::new();
        for (path, is_changed) in directories() {
            paths.push((path.clone(), if *is_changed { Access::Write } else { Access::Read }));
        }
        let connect = connect(all);
        let outgoing = connect != Connect::Nowhere;
        if outgoing {
            paths.extend(NAME_RESOLUTION.map(|path| (path.into(), Access::Read)));
            paths.extend(library_folders().into_iter().map(|folder| (folder, Access::Read)));
        }
        let grants = CallGrants {
            reads: outgoing,
            paths: directories().next().is_some(),
            changes: directories().any(|(_, is_changed)| *is_changed),
            outgoing,
            binds: false,
            locks: false,
        };
        Self { role, paths, connect, grants }
    }

    /// Whether the operator may have given it capabilities: those that the spawner starts get none.
    pub(super) fn has_capabilities(&self) -> bool {
        matches!(self.role, Role::Primary | Role::Spawner)
    }

    /// Whether no other process depends on its signals.
    pub(super) fn is_leaf(&self) -> bool {
        matches!(self.role, Role::Worker | Role::Compiler | Role::Acme | Role::Databases)
    }
}

/// What getting certificates by ACME needs; none: there are none to be got.
fn needs_of_acme(config: &Config) -> Option<Needs> {
    let folder = acme::folder(config.data_dir.as_deref()?);
    let ports: Vec<Port> = config.acme().iter().map(|acme| Port::One(acme.port())).collect();
    (!ports.is_empty()).then(|| Needs { directories: vec![(folder, true)], ports, names: true, ..Needs::default() })
}

/// What having databases needs; none: they have no folder.
fn needs_of_databases(config: &Config) -> Option<Needs> {
    let folder = databases_folder(config.data_dir.as_deref()?);
    Some(Needs { directories: vec![(folder, true)], ..Needs::default() })
}

/// Whether one of the apps is granted a database.
pub fn has_databases(config: &Config, capabilities: Capabilities) -> bool {
    config.apps.iter().flat_map(|app| capabilities.needs(app)).any(|needs| !needs.databases.is_empty())
}

/// What asking the servers of stores needs; none: there are none.
fn needs_of_servers(config: &Config) -> Option<Needs> {
    let servers = || config.stores.iter().filter_map(|store| store.server.address.as_ref());
    let ports: Vec<Port> = servers().map(|address| Port::One(address.port)).collect();
    let names = servers().any(|address| address.host.parse::<IpAddr>().is_err());
    (!ports.is_empty()).then(|| Needs { ports, names, ..Needs::default() })
}

/// What sending traces needs; none: none are sent.
fn needs_of_collector(config: &Config) -> Option<Needs> {
    let collector = config.traces.collector.as_ref()?;
    let names = collector.host.parse::<IpAddr>().is_err();
    Some(Needs { ports: vec![Port::One(collector.port)], names, ..Needs::default() })
}

/// Whether one of these apps is granted a store.
fn asks_stores<'a>(apps: impl IntoIterator<Item = &'a App>, capabilities: Capabilities) -> bool {
    apps.into_iter().flat_map(|app| capabilities.needs(app)).any(|needs| !needs.stores.is_empty())
}

/// Where connections go for all these needs.
fn connect(all: &[Needs]) -> Connect {
    let ports = || all.iter().flat_map(|needs| &needs.ports);
    if ports().next().is_none() {
        return Connect::Nowhere;
    }
    let ports: Option<Vec<u16>> =
        ports().map(|port| if let Port::One(port) = port { Some(*port) } else { None }).collect();
    let names = all.iter().any(|needs| needs.names);
    ports.map_or(Connect::Anywhere, |ports| {
        let mut ports: Vec<u16> = ports.into_iter().chain(names.then_some(DOMAIN)).collect();
        ports.sort_unstable();
        ports.dedup();
        Connect::Ports(ports)
    })
}

/// Where the processes may connect that were started with some settings, by the group of their apps. Made once for all apps
/// of a reading.
pub(super) struct ProcessReach {
    connect: BTreeMap<Option<String>, Connect>,
    /// The host has the file of stores open.
    has_stores: bool,
    /// The process of databases can be started.
    has_databases: bool,
    /// The servers of stores that the primary asks.
    servers: BTreeSet<String>,
}

impl ProcessReach {
    /// Of the settings of the start.
    pub(super) fn of(start: &Config, capabilities: Capabilities) -> Self {
        let mut needs: BTreeMap<Option<String>, Vec<Needs>> = BTreeMap::from([(None, Vec::new())]);
        for app in &start.apps {
            needs.entry(app.group.clone()).or_default().extend(capabilities.needs(app));
        }
        let connect = needs.into_iter().map(|(group, needs)| (group, connect(&needs))).collect();
        let servers = start.stores.iter().filter_map(|store| store.server.address.as_ref().map(ToString::to_string));
        let has_stores = asks_stores(start.apps.iter().map(|app| &**app), capabilities);
        let has_databases = has_databases(start, capabilities);
        Self { connect, has_stores, has_databases, servers: servers.collect() }
    }

    /// What an app wants to reach beyond what the processes of its group are confined to; nothing: it is within. (Of
    /// directories, whoever opens them knows.)
    pub(super) fn beyond(&self, app: &App, capabilities: Capabilities) -> Option<String> {
        let wanted: Vec<Needs> = capabilities.needs(app).collect();
        let Some(granted) = self.connect.get(&app.group) else {
            let group = app.group.as_deref().unwrap_or_default();
            return Some(format!("processes of the group `{group}`, of which no app was when the host started"));
        };
        let whom = if app.group.is_some() { "no app of its group" } else { "no app" };
        let restart = |what: String| Some(format!("{what}, which {whom} was granted when the host started"));
        if !self.has_stores && wanted.iter().any(|needs| !needs.stores.is_empty()) {
            return Some("stores, which no app was granted when the host started".to_owned());
        }
        if !self.has_databases && wanted.iter().any(|needs| !needs.databases.is_empty()) {
            return Some("databases, which no app was granted when the host started".to_owned());
        }
        let mut servers = wanted.iter().flat_map(|needs| &needs.stores).filter_map(|store| store.server.as_ref());
        if let Some(server) = servers.find(|server| !self.servers.contains(&server.to_string())) {
            return Some(format!("the server {server}, which no `[[store]]` named when the host started"));
        }
        match (granted, connect(&wanted)) {
            (_, Connect::Nowhere) | (Connect::Anywhere, _) => None,
            (Connect::Nowhere, _) => restart("outgoing requests".to_owned()),
            (Connect::Ports(ports), _) if !ports.contains(&DOMAIN) && wanted.iter().any(|needs| needs.names) => {
                restart("hosts by name".to_owned())
            }
            (Connect::Ports(_), Connect::Anywhere) => restart("all ports of other hosts".to_owned()),
            (Connect::Ports(ports), Connect::Ports(wanted)) => {
                let beyond = wanted.iter().find(|port| !ports.contains(port))?;
                restart(format!("port {beyond} of other hosts"))
            }
        }
    }
}

/// The paths of Unix sockets that the host makes.
fn socket_files(config: &Config) -> impl Iterator<Item = PathBuf> {
    let of_clients = config.addresses().chain(&config.admin).filter_map(|listen| match listen {
        Listen::Unix(path) => Some(path.clone()),
        Listen::Tcp(_) | Listen::Inherited(_) => None,
    });
    // (It may get another name, in the same directory.)
    of_clients.chain(control::socket_file(config))
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Files that are mapped into this process.
fn mapped_files() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut files: Vec<PathBuf> = maps.lines().filter_map(|line| line.find('/').map(|at| line[at..].into())).collect();
    files.sort();
    files.dedup();
    files
}

/// This program's file, and the dynamic linker's, which the kernel executes with it.
fn own_program() -> Vec<PathBuf> {
    let is_linker = |file: &PathBuf| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("ld-") || name.starts_with("ld64")
    };
    let mut files: Vec<PathBuf> = mapped_files().into_iter().filter(is_linker).collect();
    files.push("/proc/self/exe".into());
    files
}

/// Where the C library is, and its modules for looking up names.
fn library_folders() -> Vec<PathBuf> {
    let is_library = |file: &PathBuf| file.to_string_lossy().contains(".so");
    let mut folders: Vec<PathBuf> =
        mapped_files().into_iter().filter(is_library).map(|file| parent(&file).to_owned()).collect();
    folders.dedup();
    folders
}

#[cfg(test)]
mod tests {
    use wasmhost_config::{DatabaseGrant, DatabaseLimits, Declaration, StoreGrant};

    use super::*;
    use crate::fixtures;

    /// An app needs its name: `directory`, ports, and names where one begins with a letter.
    fn needs(app: &App) -> Needs {
        let words = || app.name.split('-');
        let port = |word: &str| match word {
            "any" => Some(Port::Any),
            number => number.parse().ok().map(Port::One),
        };
        Needs {
            directories: words().filter(|word| *word == "rw").map(|_| ("/rw".into(), true)).collect(),
            ports: words().filter_map(port).collect(),
            names: words().any(|word| word == "names"),
            stores: words().filter(|word| *word == "store").map(|_| store()).collect(),
            databases: words().filter(|word| *word == "database").map(|_| database()).collect(),
        }
    }

    fn database() -> DatabaseGrant {
        DatabaseGrant { name: "a".to_owned(), database: "app/a".to_owned(), limits: DatabaseLimits::default() }
    }

    fn store() -> StoreGrant {
        StoreGrant {
            name: "a".to_owned(),
            shared: None,
            store: "app/a".to_owned(),
            limits: wasmhost_config::StoreLimits::default(),
            server: None,
        }
    }

    const DECLARATIONS: &[Declaration] = &[fixtures::declaration(needs)];
    const CAPABILITIES: Capabilities = Capabilities::new(&[DECLARATIONS]);

    fn config(apps: &[&str]) -> Config {
        let app = |name: &&str| App { name: (*name).to_owned(), ..App::default() }.into();
        let config = fixtures::config(["a.wasm"], CAPABILITIES).expect("settings");
        Config { apps: apps.iter().map(app).collect(), ..config }
    }

    #[test]
    fn a_process_keeps_what_capabilities_need_for_its_apps_and_nothing_else() {
        let cage = |apps: &[&str]| Cage::worker(&config(apps), CAPABILITIES);
        let none = cage(&["a", "b"]);
        assert_eq!(
            (&none.connect, none.grants),
            (&Connect::Nowhere, CallGrants { reads: true, ..CallGrants::default() })
        );
        let both = cage(&["a", "rw", "443"]);
        assert_eq!(both.connect, Connect::Ports(vec![443]));
        assert!(both.paths.contains(&("/rw".into(), Access::Write)) && both.grants.changes && both.grants.outgoing);
        assert_eq!(cage(&["80", "443-names"]).connect, Connect::Ports(vec![DOMAIN, 80, 443]));
        assert_eq!(cage(&["80", "any"]).connect, Connect::Anywhere);
    }

    #[test]
    fn only_the_primary_writes_where_bundles_about_faults_are_left() {
        let without = Config { worker_kind: WorkerKind::Process, ..config(&["a"]) };
        let mut with = without.clone();
        with.crashes.dir = Some("/crashes".into());
        let written = ("/crashes".into(), Access::Write);
        let (before, after) = (Cage::primary(&without, CAPABILITIES), Cage::primary(&with, CAPABILITIES));
        assert!(!before.grants.paths && !before.grants.changes, "it opens nothing");
        assert!(after.paths.contains(&written) && after.grants.paths && after.grants.changes);
        for other in [Cage::worker(&with, CAPABILITIES), Cage::spawner(&with, CAPABILITIES), Cage::acme(&with)] {
            assert!(!other.paths.contains(&written), "{:?}", other.role);
        }
    }

    #[test]
    fn only_the_process_that_has_the_file_of_stores_may_lock_it() {
        let locks = |apps: &[&str]| {
            let config = config(apps);
            let of_processes = Config { worker_kind: WorkerKind::Process, ..config.clone() };
            let primaries = [&config, &of_processes].map(|config| Cage::primary(config, CAPABILITIES).grants.locks);
            let others = [
                Cage::worker(&config, CAPABILITIES),
                Cage::spawner(&config, CAPABILITIES),
                Cage::compiler(),
                Cage::acme(&config),
            ];
            assert!(others.iter().all(|cage| !cage.grants.locks), "{apps:?}");
            primaries
        };
        assert_eq!((locks(&["a"]), locks(&["a", "store"])), ([false; 2], [true; 2]));
    }

    #[test]
    fn only_the_process_of_the_databases_and_the_spawner_reach_their_folder() {
        let of = |apps: &[&str]| Config { data_dir: Some("/state".into()), ..config(apps) };
        let reaches = |cage: &Cage| cage.paths.contains(&("/state/sqlite".into(), Access::Write));
        for (apps, is_there) in [(&["a", "database"][..], true), (&["a", "store"], false)] {
            let config = of(apps);
            let spawner = Cage::spawner(&config, CAPABILITIES);
            assert_eq!((reaches(&spawner), spawner.grants.locks), (is_there, is_there), "{apps:?}");
            let of_processes = Config { worker_kind: WorkerKind::Process, ..config.clone() };
            for cage in [
                Cage::primary(&config, CAPABILITIES),
                Cage::primary(&of_processes, CAPABILITIES),
                Cage::worker(&config, CAPABILITIES),
                Cage::compiler(),
                Cage::acme(&config),
            ] {
                assert!(!reaches(&cage), "{:?}", cage.role);
            }
        }
        let own = Cage::databases(&of(&["rw-443-database"]));
        assert_eq!(own.paths, [("/state/sqlite".into(), Access::Write), (CHANCE.into(), Access::Read)]);
        assert!(own.connect == Connect::Nowhere && !own.grants.outgoing && !own.grants.binds && own.grants.locks);
    }

    #[test]
    fn only_the_process_for_acme_and_the_spawner_reach_authorities() -> Result<(), Box<dyn std::error::Error>> {
        let directory = "--tls-acme-directory=https://ca.test:14000/dir";
        let words = ["a.wasm", "--data-dir=/state", "--tls-acme=a.test", "--tls-acme-agree-to-terms", directory];
        let config = fixtures::config(words, CAPABILITIES)?;
        let reach = |cage: &Cage| (cage.connect.clone(), cage.paths.contains(&("/state/acme".into(), Access::Write)));
        for cage in [Cage::acme(&config), Cage::spawner(&config, CAPABILITIES)] {
            assert_eq!(reach(&cage), (Connect::Ports(vec![DOMAIN, 14_000]), true), "{:?}", cage.role);
        }
        for cage in [Cage::primary(&config, CAPABILITIES), Cage::worker(&config, CAPABILITIES), Cage::compiler()] {
            assert_eq!(reach(&cage), (Connect::Nowhere, false), "{:?}", cage.role);
        }
        Ok(())
    }

    #[test]
    fn only_the_primary_reaches_the_collector_of_traces() -> Result<(), Box<dyn std::error::Error>> {
        for (url, ports) in [("http://127.0.0.1:4318", vec![4_318]), ("https://otel.test", vec![DOMAIN, 443])] {
            let config = fixtures::config(["a.wasm", &format!("--otlp={url}")], CAPABILITIES)?;
            let of_processes = Config { worker_kind: WorkerKind::Process, ..config.clone() };
            for config in [&config, &of_processes] {
                assert_eq!(Cage::primary(config, CAPABILITIES).connect, Connect::Ports(ports.clone()), "{url}");
            }
            for cage in [
                Cage::worker(&config, CAPABILITIES),
                Cage::spawner(&config, CAPABILITIES),
                Cage::acme(&config),
                Cage::databases(&Config { data_dir: Some("/state".into()), ..config.clone() }),
            ] {
                assert_eq!(cage.connect, Connect::Nowhere, "{url} {:?}", cage.role);
            }
        }
        Ok(())
    }

    #[test]
    fn what_an_app_wants_beyond_the_start_is_named() {
        for (start, wanted, beyond) in [
            ("a", "b", None),
            ("a", "443", Some("outgoing requests")),
            ("443", "443", None),
            ("443", "80", Some("port 80 of other hosts")),
            ("443", "443-names", Some("hosts by name")),
            ("443-names", "443-names", None),
            ("443", "any", Some("all ports of other hosts")),
            ("any", "80-names", None),
            ("a", "database", Some("databases")),
            ("database", "database", None),
        ] {
            let app = App { name: wanted.to_owned(), ..App::default() };
            let found = super::ProcessReach::of(&config(&[start]), CAPABILITIES).beyond(&app, CAPABILITIES);
            let found = found.as_deref().and_then(|text| text.split(", which").next());
            assert_eq!(found, beyond, "{wanted} after {start}");
        }
        let mut start = config(&["443"]);
        let mut app = App { name: "443".to_owned(), group: Some("g".to_owned()), ..App::default() };
        let found = super::ProcessReach::of(&start, CAPABILITIES).beyond(&app, CAPABILITIES).unwrap_or_default();
        assert!(found.starts_with("processes of the group `g`"), "{found}");
        start.apps.push(App { name: "a".to_owned(), group: app.group.clone(), ..App::default() }.into());
        let found = super::ProcessReach::of(&start, CAPABILITIES).beyond(&app, CAPABILITIES).unwrap_or_default();
        assert!(found.starts_with("outgoing requests, which no app of its group"), "{found}");
        app.group = None;
        assert_eq!(super::ProcessReach::of(&start, CAPABILITIES).beyond(&app, CAPABILITIES), None);
    }
}
