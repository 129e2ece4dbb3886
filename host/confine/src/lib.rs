//! The second wall: before a process of wasmhost runs any guest code, it gives up everything that serving does not need.
//! Whoever breaks out of wasmtime's sandbox can then reach little. `calls` defines which system calls remain, `files` which
//! files and ports. Each process calls this once, while it has only one thread and has opened what it needs; confinement
//! is never lifted.

mod calls;
mod files;
pub mod spawner;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use serde::Serialize;

use wasmhost_base::log::DETAILS;
use wasmhost_config::{Config, Confine, HostPattern, Listen, WorkerKind};

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
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
enum Access {
    Read,
    Write,
    Execute,
    RemoveFiles,
}

/// Where TCP connections may go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Connect {
    Nowhere,
    Ports(Vec<u16>),
    Anywhere,
}

/// What a process keeps.
#[derive(Debug, Clone)]
pub struct Cage {
    role: Role,
    paths: Vec<(PathBuf, Access)>,
    connect: Connect,
    grants: calls::Grants,
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
                cage.grants = calls::Grants { paths: true, changes: true, ..cage.grants };
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

    /// With reading this open file, which is mapped by way of `/proc/self/fd`: also when it, or the directory that it was
    /// in, was removed.
    pub fn reading(mut self, file: BorrowedFd<'_>) -> Self {
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        // Landlock takes no rule for an anonymous file in memory, and needs none: it never refuses one.
        let is_anonymous =
            std::fs::read_link(&path).is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"/memfd:"));
        if !is_anonymous {
            self.paths.push((path, Access::Read));
        }
        self
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
        cage.paths.extend(socket_files(config).map(|file| (parent(file).to_owned(), Access::RemoveFiles)));
        cage.grants = calls::Grants { reads: true, paths: true, changes: true, ..cage.grants };
        cage
    }

    fn empty(role: Role) -> Self {
        Self { role, paths: Vec::new(), connect: Connect::Nowhere, grants: calls::Grants::default() }
    }

    /// What the guest was granted.
    fn serving(role: Role, config: &Config) -> Self {
        let dirs = &config.grants.dirs;
        let mut paths: Vec<(PathBuf, Access)> = Vec::new();
        for dir in dirs {
            paths.push((dir.path(), if dir.writable { Access::Write } else { Access::Read }));
        }
        let hosts = &config.grants.allow_hosts;
        let outgoing = !hosts.is_empty();
        if outgoing {
            paths.extend(NAME_RESOLUTION.map(|path| (path.into(), Access::Read)));
            paths.extend(library_folders().into_iter().map(|folder| (folder, Access::Read)));
        }
        let ports: Option<Vec<u16>> = hosts.iter().map(|rule| rule.port).collect();
        let has_names = hosts.iter().any(|rule| matches!(rule.host, HostPattern::Name(_) | HostPattern::Any));
        let connect = match ports {
            _ if !outgoing => Connect::Nowhere,
            Some(mut ports) => {
                ports.extend(has_names.then_some(DOMAIN));
                Connect::Ports(ports)
            }
            None => Connect::Anywhere,
        };
        let grants = calls::Grants {
            reads: outgoing,
            paths: !dirs.is_empty(),
            changes: dirs.iter().any(|dir| dir.writable),
            outgoing,
        };
        Self { role, paths, connect, grants }
    }

    /// Whether no other process depends on its signals.
    fn is_leaf(&self) -> bool {
        matches!(self.role, Role::Worker | Role::Compiler)
    }
}

/// The paths of Unix sockets that the host makes.
fn socket_files(config: &Config) -> impl Iterator<Item = &Path> {
    [Some(&config.listen), config.admin.as_ref()].into_iter().flatten().filter_map(|listen| match listen {
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

/// What was applied, for the log and the status page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `--confine`.
    pub mode: &'static str,
    /// Programs that are executed get no new privileges.
    pub no_new_privs: bool,
    /// What Landlock guards, or why nothing.
    pub landlock: String,
    /// What of system calls is left, or why all are.
    pub seccomp: String,
    /// Memory can be dumped to a file when the process crashes.
    pub core_dumps: bool,
    /// What the kernel does not offer.
    pub missing: Vec<String>,
}

impl Report {
    fn off() -> Self {
        let off = || "off (--confine off)".to_owned();
        Self {
            mode: Confine::Off.name(),
            no_new_privs: false,
            landlock: off(),
            seccomp: off(),
            core_dumps: true,
            missing: Vec::new(),
        }
    }

    /// Tells the log.
    pub fn log(&self) {
        let Self { mode, no_new_privs, landlock, seccomp, core_dumps, missing } = self;
        if missing.is_empty() {
            tracing::info!(target: DETAILS, mode, no_new_privs, landlock, seccomp, core_dumps, "confined");
        } else {
            let missing = missing.join("; ");
            tracing::warn!(mode, no_new_privs, landlock, seccomp, core_dumps, missing, "confined in part");
        }
    }

    /// Tells the log what `process` lacks beyond what the primary lacks, which has told of that.
    pub fn log_beyond(&self, process: &'static str, told: &[String]) {
        let beyond: Vec<&str> = self.missing.iter().filter(|part| !told.contains(part)).map(String::as_str).collect();
        if !beyond.is_empty() {
            let missing = beyond.join("; ");
            tracing::warn!(missing, "{process} is confined in part");
        }
    }
}

/// A part of the wall is missing, and `--confine require` asks for all.
#[derive(Debug, thiserror::Error)]
#[error("cannot be confined as --confine require asks for: {}", .0.join("; "))]
pub struct Unconfined(Vec<String>);

impl Unconfined {
    /// A way out, for the user.
    pub fn hint(&self) -> &'static str {
        "use a kernel that offers it (Linux 6.12 or newer offers all), or `--confine auto`, which applies what the kernel offers"
    }
}

/// Confines this process. To be called in its only thread.
///
/// # Errors
/// When a part is missing and `mode` is to require all.
pub fn apply(mode: Confine, cage: &Cage) -> Result<Report, Unconfined> {
    if mode == Confine::Off {
        return Ok(Report::off());
    }
    let mut missing = Vec::new();
    // Threads that exist already would keep what they have.
    if !is_single_threaded() {
        missing.push("the process has several threads already (a bug of wasmhost)".to_owned());
    }
    let no_new_privs = rustix::thread::set_no_new_privs(true);
    if let Err(error) = no_new_privs {
        missing.push(format!("no_new_privs: {error}"));
    }
    let no_dumps = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .and_then(|()| rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }));
    if let Err(error) = no_dumps {
        missing.push(format!("no core dumps: {error}"));
    }
    let landlock = match files::wall(cage) {
        Ok(walled) => {
            missing.extend(walled.missing);
            walled.holds
        }
        Err(reason) => {
            missing.push(format!("Landlock: {reason}"));
            format!("not applied: {reason}")
        }
    };
    let seccomp = match filter(cage) {
        Ok(count) => format!("{count} system calls"),
        Err(reason) => {
            missing.push(format!("seccomp: {reason}"));
            format!("not applied: {reason}")
        }
    };
    if mode == Confine::Require && !missing.is_empty() {
        return Err(Unconfined(missing));
    }
    let (no_new_privs, core_dumps) = (no_new_privs.is_ok(), no_dumps.is_err());
    Ok(Report { mode: mode.name(), no_new_privs, landlock, seccomp, core_dumps, missing })
}

/// How long a thread that has been joined may take to be gone from the kernel's books.
const THREADS_GONE_WITHIN: Duration = Duration::from_millis(200);

fn is_single_threaded() -> bool {
    let began = Instant::now();
    loop {
        // (Without /proc nothing of this program works.)
        let threads = std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(0);
        if threads <= 1 || began.elapsed() > THREADS_GONE_WITHIN {
            return threads <= 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Installs the filters of system calls; how many calls are let through.
fn filter(cage: &Cage) -> Result<usize, String> {
    let (filters, count) = calls::filters(cage.role, cage.grants).map_err(|error| error.to_string())?;
    for filter in &filters {
        seccompiler::apply_filter_all_threads(filter).map_err(|error| match error {
            seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => error.to_string(),
            error => error.to_string(),
        })?;
    }
    Ok(count)
}
