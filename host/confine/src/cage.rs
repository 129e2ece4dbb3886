//! What a process of each role keeps when it confines itself: files, ports and system calls. This file only
//! says so: `files` and `calls` have the kernel enforce it.

use std::path::{Path, PathBuf};

use wasmhost_config::{App, Config, HostPattern, Listen, WorkerKind};

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Accepts, and has the workers that are threads.
    Primary,
    /// Serves, in a process of its own; or tries a component that was loaded.
    Worker,
    /// Compiles from standard input to standard output.
    Compiler,
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
/// Port of the domain name service.
const DOMAIN: u16 = 53;

impl Cage {
    /// For the primary.
    pub fn primary(config: &Config) -> Self {
        match config.worker_kind {
            WorkerKind::Thread => {
                let mut cage = Self::serving(Role::Primary, config);
                cage.paths.extend(config.compilation.cache_dir().map(|dir| (dir.to_owned(), Access::Write)));
                cage.paths.push(("/proc/self".into(), Access::Read));
                cage.grants = CallGrants { paths: true, changes: true, ..cage.grants };
                cage
            }
            // It opens nothing: loading is another process's.
            WorkerKind::Process => Self::empty(Role::Primary),
        }
    }

    /// For a worker that is a process, and for the process that has loaded a component and tries it.
    pub fn worker(config: &Config) -> Self {
        let mut cage = Self::serving(Role::Worker, config);
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

    /// For the spawner, all of whose children are within what is said here: they confine themselves further.
    pub fn spawner(config: &Config) -> Self {
        let mut cage = Self::serving(Role::Spawner, config);
        // The component, by whatever way its path leads when it is loaded again. No guest runs here.
        cage.paths.push(("/".into(), Access::Read));
        cage.paths.push(("/dev/null".into(), Access::Write));
        cage.paths.extend(own_program().into_iter().map(|file| (file, Access::Execute)));
        cage.paths.extend(config.compilation.cache_dir().map(|dir| (dir.to_owned(), Access::Write)));
        // A new reading of the file can bring new addresses.
        let binds = config.source.is_some();
        let access = if binds { Access::Sockets } else { Access::RemoveFiles };
        cage.paths.extend(socket_files(config).map(|file| (parent(file).to_owned(), access)));
        cage.grants = CallGrants { reads: true, paths: true, changes: true, binds, ..cage.grants };
        cage
    }

    fn empty(role: Role) -> Self {
        Self { role, paths: Vec::new(), connect: Connect::Nowhere, grants: CallGrants::default() }
    }

    /// For a process that serves, or whose children do: what the guest was granted.
    fn serving(role: Role, config: &Config) -> Self {
        let grants = || config.apps.iter().map(|app| &app.grants);
        let dirs = || grants().flat_map(|grants| &grants.dirs);
        let mut paths: Vec<(PathBuf, Access)> = Vec::new();
        for dir in dirs() {
            paths.push((dir.path(), if dir.writable { Access::Write } else { Access::Read }));
        }
        let hosts = || grants().flat_map(|grants| &grants.allow_hosts);
        let outgoing = hosts().next().is_some();
        if outgoing {
            paths.extend(NAME_RESOLUTION.map(|path| (path.into(), Access::Read)));
            paths.extend(library_folders().into_iter().map(|folder| (folder, Access::Read)));
        }
        let connect = connect(config);
        let grants = CallGrants {
            reads: outgoing,
            paths: dirs().next().is_some(),
            changes: dirs().any(|dir| dir.writable),
            outgoing,
            binds: false,
        };
        Self { role, paths, connect, grants }
    }

    /// Whether no other process depends on its signals.
    pub(super) fn is_leaf(&self) -> bool {
        matches!(self.role, Role::Worker | Role::Compiler)
    }
}

/// Where processes may connect to that serve all of these apps.
fn connect(config: &Config) -> Connect {
    let hosts = || config.apps.iter().flat_map(|app| &app.grants.allow_hosts);
    if hosts().next().is_none() {
        return Connect::Nowhere;
    }
    let has_names = hosts().any(|rule| matches!(rule.host, HostPattern::Name(_) | HostPattern::Any));
    match hosts().map(|rule| rule.port).collect::<Option<Vec<u16>>>() {
        Some(mut ports) => {
            ports.extend(has_names.then_some(DOMAIN));
            Connect::Ports(ports)
        }
        None => Connect::Anywhere,
    }
}

/// What an app wants to reach beyond what processes are confined to that were started with these settings; nothing: it is
/// within. (Of directories, whoever opens them knows.)
pub(super) fn beyond(start: &Config, app: &App) -> Option<String> {
    let rules = &app.grants.allow_hosts;
    let restart = |what: String| Some(format!("{what}, which no app was granted when the host started"));
    if rules.is_empty() {
        return None;
    }
    match connect(start) {
        Connect::Anywhere => None,
        Connect::Nowhere => restart("outgoing requests".to_owned()),
        Connect::Ports(ports) => {
            let has_name = rules.iter().any(|rule| matches!(rule.host, HostPattern::Name(_) | HostPattern::Any));
            if has_name && !ports.contains(&DOMAIN) {
                return restart("hosts by name".to_owned());
            }
            rules.iter().find_map(|rule| match rule.port {
                Some(port) if ports.contains(&port) => None,
                Some(port) => restart(format!("port {port} of other hosts")),
                None => restart("all ports of other hosts".to_owned()),
            })
        }
    }
}

/// The paths of Unix sockets that the host makes.
fn socket_files(config: &Config) -> impl Iterator<Item = &Path> {
    config.listeners.iter().chain(&config.admin).filter_map(|listen| match listen {
        Listen::Unix(path) => Some(path.as_path()),
        Listen::Tcp(_) | Listen::Inherited => None,
    })
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
