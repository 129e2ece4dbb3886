//! The settings while they are read: what holds until a value is given, and where checked values are put.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use wasmhost_base::redis_address::AddressError;

use super::environment::{GuestVariable, HostEnvironment};
use super::machine::Machine;
use super::secret::SecretSource;
use super::stores::StoreSettings;
use super::traces::CollectorHeader;
use super::{
    AdminAccess, AdminToken, App, Balance, CacheChoice, CanaryRules, Capacity, Compilation, Compress, Config, Confine,
    ControlSocket, CrashSettings, Grants, HostLimits, Isolation, Limits, Listen, LogChoice, MAX_WORKERS, Probe,
    RollbackRules, TraceSettings, WorkerKind, WorkerLimits,
};
use super::{env_file, parse};

/// Largest count that any setting takes, but for requests; far above what a machine can handle.
pub(super) const COUNT_MAX: u64 = 1_000_000;
/// Requests are counted for as long as a host runs.
pub(super) const REQUESTS_MAX: u64 = u64::MAX >> 1;
/// What an instance may ask for is bounded by 32-bit memories in practice; tables and further memories come on top.
const MEMORY_MAX_BYTES: u64 = 1 << 46;

/// Where relative paths begin: the file's folder, or the current one.
#[derive(Debug, Clone)]
pub(super) struct Folder(Arc<Path>);

impl Folder {
    /// The current folder of the process.
    pub(super) fn current() -> Self {
        Self(Path::new("").into())
    }

    pub(super) fn of(path: &Path) -> Self {
        Self(path.into())
    }

    /// A path from here.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        match text {
            "" => Err("names no file".to_owned()),
            text if text.contains('\0') => Err("holds a NUL byte".to_owned()),
            text => Ok(self.0.join(text)),
        }
    }

    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }

    /// A Unix socket's path from here; other addresses as they are.
    pub(super) fn listen(&self, listen: Listen) -> Listen {
        match listen {
            Listen::Unix(path) => Listen::Unix(self.0.join(path)),
            other => other,
        }
    }
}

/// The host's settings as far as they have been read.
#[derive(Debug, Clone)]
pub(super) struct HostDraft {
    /// All but the apps.
    pub(super) config: Config,
    /// None: it follows from the apps ([`together::kind_of`](super::together::kind_of)).
    pub(super) worker_kind: Option<WorkerKind>,
    /// None: it follows from the number of workers ([`together::workers_max`](super::together::workers_max)).
    pub(super) workers_max: Option<u16>,
    pub(super) folder: Folder,
    environment: Arc<HostEnvironment>,
}

impl HostDraft {
    /// What holds where nothing is given and the table has no default.
    pub(super) fn new(machine: &Machine) -> Self {
        let config = Config {
            apps: Vec::new(),
            listeners: Vec::new(),
            workers: u16::try_from(machine.cores).unwrap_or(MAX_WORKERS).clamp(1, MAX_WORKERS),
            workers_max: 0,
            worker_kind: WorkerKind::default(),
            is_worker_kind_auto: false,
            worker_hang_timeout: None,
            worker_limits: WorkerLimits::default(),
            balance: Balance::default(),
            balance_by: None,
            trust_proxy: Vec::new(),
            drain_timeout: Duration::ZERO,
            app_idle_timeout: None,
            limits: HostLimits { memory_total_bytes: machine.memory_bytes / 4 * 3, ..HostLimits::default() },
            admin: None,
            admin_access: AdminAccess::default(),
            control: ControlSocket::default(),
            runtime_dir: machine.runtime.clone(),
            log: LogChoice::default(),
            access_log: false,
            watch: false,
            confine: Confine::default(),
            compilation: Compilation { cache: machine.cache.clone(), ..Compilation::default() },
            data_dir: None,
            stores: Vec::new(),
            crashes: CrashSettings::default(),
            traces: TraceSettings::default(),
            development: None,
            source: None,
        };
        let environment = Arc::new(machine.environment.clone());
        Self { config, worker_kind: None, workers_max: None, folder: Folder::current(), environment }
    }

    pub(super) fn admin_token(&mut self, text: &str) -> Result<(), String> {
        let source = SecretSource::parse(text, |file| self.folder.path(file))?;
        self.config.admin_access.token = Some(AdminToken::read(&source, &self.environment)?);
        Ok(())
    }

    /// Of several with one name, the last counts.
    pub(super) fn otlp_header(&mut self, pair: &str) -> Result<(), String> {
        let header = CollectorHeader::read(pair, |file| self.folder.path(file), &self.environment)?;
        let headers = &mut self.config.traces.headers;
        headers.retain(|other| other.name != header.name);
        headers.push(header);
        Ok(())
    }

    /// No text is no file.
    pub(super) fn otlp_ca_file(&mut self, file: &str) -> Result<(), String> {
        let path = if file.is_empty() { PathBuf::new() } else { self.folder.path(file)? };
        let pem = if file.is_empty() { String::new() } else { parse::ca_file(&path)? };
        (self.config.traces.ca_file, self.config.traces.ca_pem) = (path, pem);
        Ok(())
    }

    pub(super) fn cache_dir(&mut self, text: &str) -> Result<(), String> {
        match text {
            "" => {}
            "off" => self.config.compilation.cache = CacheChoice::Off,
            dir => self.config.compilation.cache = CacheChoice::Dir(self.folder.path(dir)?),
        }
        Ok(())
    }
}

/// A store's settings as far as they have been read.
#[derive(Debug, Clone)]
pub(super) struct StoreDraft {
    pub(super) settings: StoreSettings,
    pub(super) folder: Folder,
    environment: Arc<HostEnvironment>,
}

impl StoreDraft {
    /// What holds where nothing is given.
    pub(super) fn new(environment: HostEnvironment) -> Self {
        let settings = StoreSettings::default();
        Self { settings, folder: Folder::current(), environment: Arc::new(environment) }
    }

    pub(super) fn backend(&mut self, text: &str) -> Result<(), String> {
        // The text is not repeated: it may have a password.
        let address = text.parse().map_err(|error: AddressError| error.to_string())?;
        self.settings.server.address = Some(address);
        Ok(())
    }

    pub(super) fn password(&mut self, text: &str) -> Result<(), String> {
        let source = SecretSource::parse(text, |file| self.folder.path(file))?;
        let server = &mut self.settings.server;
        server.files.extend(source.file(&self.environment));
        server.password = Some(source.read(&self.environment)?);
        server.password_source = Some(source.to_string());
        Ok(())
    }

    pub(super) fn ca_file(&mut self, file: &str) -> Result<(), String> {
        let path = self.folder.path(file)?;
        let server = &mut self.settings.server;
        server.ca_pem = Some(parse::ca_file(&path)?);
        server.files.push(path.clone());
        server.ca_file = path;
        Ok(())
    }
}

/// An app's settings as far as they have been read.
#[derive(Debug, Clone)]
pub(super) struct AppDraft {
    pub(super) app: App,
    pub(super) folder: Folder,
    /// `env` of the place that is being read.
    env: Vec<GuestVariable>,
    /// The variables of its files, which count less.
    env_of_files: Vec<GuestVariable>,
    environment: Arc<HostEnvironment>,
    /// Its `secrets`, which count more.
    secrets: Vec<GuestVariable>,
    /// Wrong lines of files: which, and why.
    pub(super) wrong_lines: Vec<(String, String)>,
}

impl AppDraft {
    /// What holds where nothing is given and the table has no default.
    pub(super) fn new(environment: HostEnvironment) -> Self {
        let app = App {
            reading: 0,
            name: String::new(),
            component: PathBuf::new(),
            project: PathBuf::new(),
            routes: Vec::new(),
            strip_prefix: false,
            forwarded_headers: false,
            compress: Compress::default(),
            group: None,
            services: Vec::new(),
            schedules: Vec::new(),
            deterministic: None,
            isolation: Isolation::default(),
            capacity: Capacity::default(),
            limits: Limits::default(),
            grants: Grants::default(),
            probe: Probe::default(),
            rollback: RollbackRules::default(),
            canary: CanaryRules::default(),
        };
        Self {
            app,
            folder: Folder::current(),
            env: Vec::new(),
            env_of_files: Vec::new(),
            environment: Arc::new(environment),
            secrets: Vec::new(),
            wrong_lines: Vec::new(),
        }
    }

    pub(super) fn component(&mut self, text: &str) -> Result<(), String> {
        put(&mut self.app.component, self.folder.path(text))
    }

    pub(super) fn project(&mut self, text: &str) -> Result<(), String> {
        put(&mut self.app.project, self.folder.path(text))
    }

    pub(super) fn env(&mut self, pair: &str) -> Result<(), String> {
        parse::variable(pair).map(|pair| self.env.push(pair.into()))
    }

    pub(super) fn secret(&mut self, pair: &str) -> Result<(), String> {
        if !pair.contains('=') {
            // The text is not repeated: it may be the secret itself.
            return Err("write `NAME=SOURCE`; `TOKEN=env:TOKEN` takes it from your variable of that name".to_owned());
        }
        let (name, from) = parse::variable(pair)?;
        let source = SecretSource::parse(&from, |file| self.folder.path(file))?;
        self.app.grants.files.extend(source.file(&self.environment));
        self.secrets.push(GuestVariable {
            name,
            value: source.read(&self.environment)?,
            source: Some(source.to_string()),
        });
        Ok(())
    }

    /// Each wrong line of the file is a mistake.
    pub(super) fn env_file(&mut self, file: &str) -> Result<(), String> {
        let path = self.folder.path(file)?;
        let read = env_file::read(&path);
        self.app.grants.files.push(path);
        match read {
            Ok(read) => self.env_of_files.extend(read.into_iter().map(GuestVariable::from)),
            Err(wrong) => self.wrong_lines.extend(wrong.into_iter().map(|wrong| {
                let place = wrong.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
                (place, wrong.reason)
            })),
        }
        Ok(())
    }

    /// No text is no file.
    pub(super) fn ca_file(&mut self, file: &str) -> Result<(), String> {
        let path = if file.is_empty() { PathBuf::new() } else { self.folder.path(file)? };
        let pem = if file.is_empty() { String::new() } else { parse::ca_file(&path)? };
        self.app.grants.files.extend((!file.is_empty()).then(|| path.clone()));
        (self.app.grants.ca_file, self.app.grants.ca_pem) = (path, pem.into());
        Ok(())
    }

    /// The variables of the place that was read: of its files, then its own, and its secrets.
    pub(super) fn take_variables(&mut self) -> Vec<GuestVariable> {
        let mut variables = std::mem::take(&mut self.env_of_files);
        variables.append(&mut self.env);
        variables.append(&mut self.secrets);
        variables
    }

    /// Takes the variables of the place that was read as the app's; they count more than those before them.
    pub(super) fn end_place(&mut self) {
        let variables = self.take_variables();
        self.app.grants.env.extend(variables);
    }
}

/// Of values with one name, the last.
pub(super) fn latest<T>(values: &mut Vec<T>, name: fn(&T) -> &str) {
    if values.len() < 2 {
        return;
    }
    let mut names = HashSet::new();
    let is_latest: Vec<bool> = values.iter().rev().map(|value| names.insert(name(value))).collect();
    let mut is_latest = is_latest.into_iter().rev();
    values.retain(|_| is_latest.next().unwrap_or(true));
}

/// Stores a value that is right.
pub(super) fn put<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

/// The names of a choice.
pub(super) fn names<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(name, _)| *name).collect()
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

/// [`size`], or `none`.
pub(super) fn size_or_none(text: &str) -> Result<Option<u64>, String> {
    match text.trim() {
        "none" => Ok(None),
        text => size(text).map(Some),
    }
}
