//! The second wall: before a process of wasmhost runs any guest code, it gives up everything that serving does not need.
//! Whoever breaks out of wasmtime's sandbox can then reach little. `cage` says what remains to a process of each role; `calls`
//! (system calls) and `files` (files and ports) have the kernel refuse the rest. Each process calls this once, while it has
//! only one thread and has opened what it needs; confinement is never lifted.

mod cage;
mod calls;
mod files;
pub mod spawner;

use std::time::{Duration, Instant};

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use serde::Serialize;

use wasmhost_base::log::DETAILS;
use wasmhost_config::Confine;

pub use self::cage::{Cage, has_databases};

/// What was applied, for the log and the status page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confinement {
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

impl Confinement {
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
pub fn apply(mode: Confine, cage: &Cage) -> Result<Confinement, Unconfined> {
    if mode == Confine::Off {
        return Ok(Confinement::off());
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
    // (Those that the spawner starts have none.)
    if cage.has_capabilities()
        && let Err(error) = drop_capabilities(cage.grants.binds)
    {
        missing.push(format!("capabilities: {error}"));
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
    Ok(Confinement { mode: mode.name(), no_new_privs, landlock, seccomp, core_dumps, missing })
}

/// Gives up what a process that is not root's may do beyond others, such as binding ports below 1024, which systemd or a
/// file's capabilities gave it. `binds`: but for that. (What root may do follows from its number; files of others, which an
/// operator grants to a guest, are part of it.)
fn drop_capabilities(binds: bool) -> rustix::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let mut sets = capabilities(None)?;
    let kept = if binds { CapabilitySet::NET_BIND_SERVICE } else { CapabilitySet::empty() };
    sets.effective &= kept;
    sets.permitted &= kept;
    sets.inheritable = CapabilitySet::empty();
    // Programs that it starts get none of them either: those that are ambient go with those that are inheritable.
    set_capabilities(None, sets)
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

#[cfg(test)]
mod fixtures;
