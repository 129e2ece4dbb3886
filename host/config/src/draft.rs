//! The settings while they are read: what holds until a value is given, the mistakes found so far, and what several settings
//! say together.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::machine::Machine;
use super::{
    App, Balance, CacheChoice, Capacity, Compilation, Config, Confine, Grants, HostLimits, Isolation, Limits, Listen,
    MAX_WORKERS, WorkerKind,
};
use super::{env_file, parse};

/// One wrong value: of which setting, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The flag, with its dashes.
    pub flag: String,
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

/// What an instance may ask for is bounded by 32-bit memories in practice; tables and further memories come on top.
const MEMORY_MAX_BYTES: u64 = 1 << 46;
/// The guest's variables in sum; no process gets more from the system by far.
const ENVIRONMENT_BYTES_MAX: usize = 4 << 20;

/// The settings as far as they have been read.
#[derive(Debug)]
pub(super) struct Draft {
    /// All but the apps.
    pub(super) config: Config,
    pub(super) app: App,
    /// Of `--env`, in their order.
    pub(super) env: Vec<(String, String)>,
    /// Of the files of `--env-file`, in their order.
    env_of_files: Vec<(String, String)>,
    machine: Machine,
    mistakes: Vec<Mistake>,
}

impl Draft {
    /// What holds where nothing is given and the table has no default.
    pub(super) fn new(machine: Machine) -> Self {
        let config = Config {
            apps: Vec::new(),
            listeners: Vec::new(),
            workers: u16::try_from(machine.cores).unwrap_or(MAX_WORKERS).clamp(1, MAX_WORKERS),
            worker_kind: WorkerKind::default(),
            worker_hang_timeout: None,
            balance: Balance::default(),
            trust_proxy: Vec::new(),
            drain_timeout: Duration::ZERO,
            limits: HostLimits { memory_total_bytes: machine.memory_bytes / 4 * 3, ..HostLimits::default() },
            admin: None,
            access_log: false,
            confine: Confine::default(),
            compilation: Compilation { cache: cache_of_user(), ..Compilation::default() },
            development: None,
        };
        let app = App {
            name: String::new(),
            component: PathBuf::new(),
            isolation: Isolation::default(),
            capacity: Capacity::default(),
            limits: Limits::default(),
            grants: Grants::default(),
        };
        Self { config, app, env: Vec::new(), env_of_files: Vec::new(), machine, mistakes: Vec::new() }
    }

    /// Notes a wrong value.
    pub(super) fn wrong(&mut self, flag: &str, value: impl Into<String>, reason: impl Into<String>) {
        self.mistakes.push(Mistake { flag: flag.to_owned(), value: value.into(), reason: reason.into() });
    }

    pub(super) fn listen(&mut self, text: &str) -> Result<(), String> {
        let listen = parse::listen(text)?;
        if listen == Listen::Inherited && !self.machine.has_inherited_socket {
            return Err(
                "no socket was handed over: LISTEN_FDS is not set for this process (see sd_listen_fds(3))".to_owned()
            );
        }
        self.config.listeners.push(listen);
        Ok(())
    }

    /// Each wrong line of the file is a mistake.
    pub(super) fn env_file(&mut self, file: &str) -> Result<(), String> {
        match env_file::read(Path::new(file)) {
            Ok(read) => self.env_of_files.extend(read),
            Err(wrong) => {
                for wrong in wrong {
                    let place = wrong.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
                    self.wrong("--env-file", place, wrong.reason);
                }
            }
        }
        Ok(())
    }

    /// Checks what several settings say together.
    ///
    /// # Errors
    /// All mistakes, in the order in which they were found.
    pub(super) fn finish(mut self) -> Result<Config, Vec<Mistake>> {
        self.app.grants.env = self.environment();
        if self.config.listeners.is_empty() {
            let local = Listen::Tcp(([127, 0, 0, 1], 8080).into());
            self.config.listeners.push(if self.machine.has_inherited_socket { Listen::Inherited } else { local });
        }
        let is_tcp = |listen: &Listen| matches!(listen, Listen::Tcp(_));
        if self.config.balance == Balance::Kernel && !self.config.listeners.iter().all(is_tcp) {
            self.wrong("--balance", "kernel", "needs a TCP address to listen on (`--listen ADDRESS:PORT`)");
        }
        self.config.apps.push(Arc::new(self.app));
        if self.mistakes.is_empty() { Ok(self.config) } else { Err(self.mistakes) }
    }

    /// The guest's variables: those of the files, and then those of `--env`. Of two with one name, the later counts.
    fn environment(&mut self) -> Vec<(String, String)> {
        let mut variables = std::mem::take(&mut self.env_of_files);
        variables.append(&mut self.env);
        let bytes: usize = variables.iter().map(|(name, value)| name.len() + value.len() + 2).sum();
        if bytes > ENVIRONMENT_BYTES_MAX {
            let reason =
                format!("with --env and all files, the guest has more than {} MiB", ENVIRONMENT_BYTES_MAX >> 20);
            self.wrong("--env-file", format!("{bytes} bytes"), reason);
        }
        let mut latest = HashSet::new();
        let mut kept: Vec<_> = variables.into_iter().rev().filter(|(name, _)| latest.insert(name.clone())).collect();
        kept.reverse();
        kept
    }
}

/// `wasmhost` below `$XDG_CACHE_HOME`, or below `$HOME/.cache`.
fn cache_of_user() -> CacheChoice {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    let base = base.or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map_or(CacheChoice::NoHome, |base| CacheChoice::Dir(base.join("wasmhost")))
}

/// Stores a value that is right.
pub(super) fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// One of the values with a name.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("must be one of {}", names.join(", "))
    })
}

/// A count from `min` to `max`.
pub(super) fn count<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Result<T, String> {
    let count = parse::count(text, min, max)?;
    T::try_from(count).map_err(|_| format!("must be a whole number from {min} to {max}"))
}

/// A size that some machine has.
pub(super) fn size(text: &str) -> Result<u64, String> {
    match parse::size(text)? {
        size if size <= MEMORY_MAX_BYTES => Ok(size),
        _ => Err("is larger than the memory of any machine (64 TiB)".to_owned()),
    }
}
