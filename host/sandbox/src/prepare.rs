//! From the file that the user names to machine code that can be mapped: its content is identified, compiled in a child or
//! taken from the cache, and checked.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::fs::{MemfdFlags, OFlags, SealFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use wasmhost_base::log::{DETAILS, DEV};
use wasmhost_base::sealed::{SEALS, make_unchangeable};
use wasmhost_config::{App, Compilation, Config, Tier};
use wasmhost_confine::spawner::Launcher;

use super::cache::{Cache, is_ours};
use super::compile::{ChildError, ENTRY_MODE, How, compile_beside, compile_in_child, put};
use super::engine::EngineKind;
use super::known::KnownComponent;
use super::source::{self, Description, LoadError, Problem, ReadSource, wasi_version};
use super::stored::StoredCode;
use super::{artifact, engine};

/// Machine code whose checksum was compared, and what it was made from.
pub struct Artifact {
    /// An entry of the cache, which may lose its name, or an anonymous file in memory.
    file: File,
    pub(super) description: Description,
    pub(super) tier: Tier,
    /// Where it is in the cache.
    entry: Option<StoredCode>,
    /// It was compiled for this.
    is_new: bool,
}

/// Another way to an open file: one that is handed to several processes has one position for all of them.
fn reopening(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

impl Artifact {
    /// Checks what is in a file.
    fn of(file: File) -> Result<Self, Problem> {
        let (description, tier) = artifact::check(&reopening(&file))?;
        Ok(Self { file, description, tier, entry: None, is_new: false })
    }

    /// Checks an entry of the cache, and notes that it is used.
    pub(super) fn of_entry(file: File, entry: &Path) -> Result<Self, Problem> {
        if !file.metadata().is_ok_and(|file| is_ours(&file)) {
            return Err(Problem::new(
                format!("others can write to its compiled code: `{}`", entry.display()),
                "remove the file, and see to it that only this user can write to --cache-dir",
            ));
        }
        Cache::touch(&file, entry);
        // Before the check: what changes meanwhile is not what was checked.
        let stored = StoredCode::of(entry, &file);
        Ok(Self { entry: stored, ..Self::of(file)? })
    }

    /// The code that was noted in the cache for this file and for engines of these compatibilities, if it is there still.
    pub(super) fn noted(known: &KnownComponent, cache: &Cache, usable: &[&str]) -> Option<Self> {
        known.find(cache, usable)?.try_open().ok()
    }

    /// Itself, where code of this tier is wanted.
    pub(super) fn for_tier(self, wanted: Tier) -> Result<Self, Problem> {
        if self.tier.may_serve(wanted) { Ok(self) } else { Err(artifact::not_optimised()) }
    }

    /// The kind of engine that it is for.
    pub(super) fn kind(&self) -> EngineKind {
        EngineKind { concurrent: self.description.concurrent, tier: self.tier }
    }

    /// Whether it was compiled for this. It was found otherwise: in the cache, or in a file of `wasmhost compile`.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// SHA-256, in hex, of the component.
    pub fn component_sha256(&self) -> &str {
        &self.description.sha256
    }

    /// Where this code is kept when it is not loaded; none if it is only in memory, or another process opened it.
    pub fn stored(&self) -> Option<StoredCode> {
        self.entry.clone()
    }

    /// Prepares the component of an app of `config`: reads and checks it, and compiles it in a child or takes its code from
    /// the cache. Blocks for as long as that takes. Whatever of it this process may not do itself, `launcher` has done.
    ///
    /// # Errors
    /// When the file holds nothing that can be served.
    pub fn prepare(config: &Config, app: &App, launcher: &Launcher) -> Result<Self, LoadError> {
        let file = launcher.open_component(config, app).map_err(|error| LoadError::unreadable(app, &error))?;
        Self::prepare_opened(file, config, app, launcher)
    }

    /// [`Self::prepare`], of a component that is open already.
    ///
    /// # Errors
    /// As [`Self::prepare`].
    pub fn prepare_opened(file: File, config: &Config, app: &App, launcher: &Launcher) -> Result<Self, LoadError> {
        Self::try_prepare(file, config, app, launcher).map_err(|problem| LoadError::new(&app.component, problem))
    }

    fn try_prepare(file: File, config: &Config, app: &App, launcher: &Launcher) -> Result<Self, Problem> {
        let cache = open_cache(&config.compilation);
        // Before it is read: what changes meanwhile is not what was read.
        let is_now = || file.metadata().ok().as_ref().map(KnownComponent::of);
        let known = is_now().map(|known| (known, known.is_settled()));
        if let (Some(cache), Some((known, _))) = (&cache, known)
            && let Some(artifact) = Self::noted(&known, cache, &engine::usable_as(config.compilation.tier)?)
            && let Ok(artifact) = artifact.for_tier(config.compilation.tier)
        {
            return Ok(artifact);
        }
        // By the name that the user gave it, also where it is a copy.
        match source::read(&file, &app.component)? {
            ReadSource::Compiled => Self::of(private_copy(file)?),
            ReadSource::Component(bytes, description) => {
                wasi_version(&description)?;
                let known = known.filter(|(known, is_settled)| *is_settled && is_now() == Some(*known));
                let artifact = compiled(&bytes, cache.as_ref(), config, app, launcher)?;
                if let (Some(cache), Some((known, _)), Some(code)) = (&cache, known, artifact.stored()) {
                    known.write(cache, code, &artifact.file);
                }
                Ok(artifact)
            }
        }
    }

    /// The file with the code, to be handed to another process of this program.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn file(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }

    /// What [`Self::file`] of another process of this program handed over.
    ///
    /// # Errors
    /// When it is not such a file.
    pub fn received(file: OwnedFd, app: &App) -> Result<Self, LoadError> {
        let file = File::from(file);
        let checked = if is_fixed(&file) { Self::of(file) } else { Err(not_fixed()) };
        checked.map_err(|problem| LoadError::new(&app.component, problem))
    }

    pub(super) fn map(&self, engine: &Engine) -> wasmtime::Result<Component> {
        artifact::map(engine, &reopening(&self.file))
    }
}

impl StoredCode {
    /// Opens the code of `app` again. An entry that has changed since it was checked is checked in full; then
    /// [`Artifact::stored`] differs from this. One that has not is not hashed: it takes some system calls, and reads little.
    ///
    /// # Errors
    /// When the entry is gone or no longer whole. The app has to be loaded anew then, with [`Artifact::prepare`].
    pub fn open(&self, app: &App) -> Result<Artifact, LoadError> {
        self.try_open().map_err(|problem| LoadError::new(&app.component, problem))
    }

    fn try_open(&self) -> Result<Artifact, Problem> {
        let entry = self.entry();
        let (file, is_same) = self.reopen().map_err(|error| {
            Problem::new(
                format!("its compiled code cannot be read from `{}`: {error}", entry.display()),
                "the component has to be compiled again; raise --cache-max if the cache is too small for all apps",
            )
        })?;
        if !is_same {
            return Artifact::of_entry(file, entry);
        }
        Cache::touch(&file, entry);
        let (description, tier) = artifact::trust(&reopening(&file))?;
        Ok(Artifact { file, description, tier, entry: Some(self.clone()), is_new: false })
    }
}

/// The cache, if there is one.
fn open_cache(compilation: &Compilation) -> Option<Cache> {
    match Cache::open(compilation) {
        Ok(cache) => cache,
        Err(error) => {
            static WARNED: AtomicBool = AtomicBool::new(false);
            if !WARNED.swap(true, Relaxed) {
                tracing::warn!(
                    "no cache for compiled components: {error}; every start compiles again (choose another directory with --cache-dir, or `off` to hide this warning)"
                );
            }
            None
        }
    }
}

/// The machine code of a component, from the cache or newly compiled.
fn compiled(
    bytes: &[u8],
    cache: Option<&Cache>,
    config: &Config,
    app: &App,
    launcher: &Launcher,
) -> Result<Artifact, Problem> {
    let name = app.component.display().to_string();
    // (Several at once would write over each other's line.)
    let shows_progress = config.apps.len() == 1;
    let how = How { name: &name, bounds: &config.compilation, launcher, confine: config.confine, shows_progress };
    if let Some(cache) = cache {
        let (digest, wanted) = (Sha256::digest(bytes), config.compilation.tier);
        for compatibility in engine::usable_as(wanted)? {
            let entry = cache.entry_of(&digest, compatibility);
            // Opened once: another host with the same cache may remove it at any moment.
            let Ok(file) = File::open(&entry) else { continue };
            match Artifact::of_entry(file, &entry).and_then(|artifact| artifact.for_tier(wanted)) {
                Ok(artifact) => return Ok(artifact),
                Err(problem) => {
                    tracing::warn!(entry = %entry.display(), reason = problem.reason, "a cache entry cannot be used; the component is compiled again");
                }
            }
        }
        let began = std::time::Instant::now();
        match compile_entry(bytes, (cache, &digest), &how) {
            Ok((entry, tier)) => {
                tell_compiled(tier, began.elapsed(), &entry, (config, app));
                let opened = File::open(&entry);
                cache.shrink(&entry);
                match opened {
                    Ok(file) => return Ok(Artifact { is_new: true, ..Artifact::of_entry(file, &entry)? }),
                    Err(error) => {
                        tracing::warn!(entry = %entry.display(), "the new cache entry cannot be read: {error}; this run does not use the cache");
                    }
                }
            }
            Err(ChildError::Output(reason)) => {
                tracing::warn!("the cache cannot be written: {reason}; this run does not use the cache");
            }
            Err(ChildError::Problem(problem)) => return Err(problem),
        }
    }
    let memory = memory_file()?;
    compile_in_child(bytes, &memory, &how).map_err(ChildError::into_problem)?;
    Ok(Artifact { is_new: true, ..Artifact::of(fixed(memory)?)? })
}

/// Compiles into an entry of the cache, and names it by what has come of it: what was optimised after all is for hosts, too, that
/// serve nothing else.
fn compile_entry(bytes: &[u8], (cache, digest): (&Cache, &[u8]), how: &How<'_>) -> Result<(PathBuf, Tier), ChildError> {
    let entry_as = |tier| engine::cached_as(tier).map(|compatibility| cache.entry_of(digest, compatibility));
    let unfinished = compile_beside(bytes, &entry_as(how.bounds.tier)?, ENTRY_MODE, how)?;
    let (_, tier) = artifact::trust(unfinished.path())?;
    let entry = entry_as(tier)?;
    put(unfinished, &entry)?;
    Ok((entry, tier))
}

/// Compilations that took longer are told on the terminal of who develops.
const TOLD_AFTER: Duration = Duration::from_millis(100);

fn tell_compiled(tier: Tier, elapsed: Duration, entry: &Path, (config, app): (&Config, &App)) {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    let how = if tier == Tier::Optimised { "with" } else { "without" };
    let (tier, entry) = (tier.name(), entry.display());
    if config.development.is_some() && elapsed >= TOLD_AFTER {
        let (app, seconds) = (config.source.is_some().then_some(&*app.name), elapsed.as_secs_f64());
        tracing::info!(target: DEV, app, tier, elapsed_ms, %entry, "compiled in {seconds:.1} s, {how} optimisation");
    } else {
        tracing::info!(target: DETAILS, tier, elapsed_ms, %entry, "compiled");
    }
}

/// An anonymous file in memory, which can be written until it is [`fixed`].
fn memory_file() -> Result<File, Problem> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    rustix::fs::memfd_create("wasmhost-compiled", flags).map(File::from).map_err(no_memory_file)
}

fn not_sealed(error: std::io::Error) -> Problem {
    Problem::new(format!("its compiled form cannot be sealed: {error}"), "try again; or name a --cache-dir")
}

fn no_memory_file(error: Errno) -> Problem {
    Problem::new(format!("no memory for its compiled form: {error}"), "free memory, or name a --cache-dir")
}

/// Lets nobody write a file in memory any more: the code that all workers run stays as it was checked, even if a guest takes
/// over one of them.
fn fixed(memory: File) -> Result<File, Problem> {
    make_unchangeable(&memory).map_err(not_sealed)?;
    Ok(memory)
}

/// Whether nobody who holds this open file can write to it: a file in memory is sealed, an entry of the cache is open for
/// reading only.
fn is_fixed(file: &File) -> bool {
    match rustix::fs::fcntl_get_seals(file) {
        // As an entry of a cache on tmpfs has it, which can have no other seals.
        Err(_) | Ok(SealFlags::SEAL) => {
            rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags & OFlags::ACCMODE == OFlags::RDONLY)
        }
        Ok(seals) => seals.contains(SEALS),
    }
}

fn not_fixed() -> Problem {
    Problem::new("its code was handed over in a file that can still be written", "this is a bug of wasmhost: report it")
}

/// Largest compiled component that is read; of the largest component that is compiled it has some eight times the size.
const COMPILED_BYTES_MAX: u64 = 2 << 30;

/// A private copy of a compiled component that the user named: code that is mapped from a file which somebody truncates
/// would end the process.
fn private_copy(mut file: File) -> Result<File, Problem> {
    let mut memory = memory_file()?;
    let copied = file.rewind().and_then(|()| std::io::copy(&mut file.take(COMPILED_BYTES_MAX), &mut memory));
    match copied {
        Ok(COMPILED_BYTES_MAX..) => Err(Problem::new(
            format!("it is larger than {} GiB", COMPILED_BYTES_MAX >> 30),
            "leave data out of the component, and grant it as files with --dir",
        )),
        Ok(_) => fixed(memory),
        Err(error) => Err(Problem::new(format!("it cannot be read: {error}"), "check the file and the disk")),
    }
}

/// The code of a component, compiled in this process into an entry of this name.
#[cfg(test)]
pub(super) fn compiled_in_test(component: &[u8], entry: &Path) -> Result<Artifact, Problem> {
    compiled_as_in_test(component, entry, Tier::Optimised)
}

/// The same, for this tier.
#[cfg(test)]
pub(super) fn compiled_as_in_test(component: &[u8], entry: &Path, wanted: Tier) -> Result<Artifact, Problem> {
    let (bytes, mut description) = source::component(component.to_vec(), Path::new("app.wat"))?;
    description.concurrent = source::validate(&bytes, &description)?;
    let code = artifact::NewCode::of(&bytes, &description, wanted).map_err(|error| engine::unusable(&error))?;
    let io = |error: std::io::Error| Problem::new(error.to_string(), "");
    let mut file = File::create(entry).map_err(io)?;
    artifact::write(&mut file, &code, &description).map_err(io)?;
    Artifact::of_entry(File::open(entry).map_err(io)?, entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_project_that_was_not_built_is_told_as_such() {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        let mut app = super::super::testing::app_of_test();
        assert_eq!(LoadError::unreadable(&app, &error).reason, "there is no such file");
        app.project = "shop".into();
        let problem = LoadError::unreadable(&app, &error);
        assert!(problem.reason.contains("`shop` has not been built"), "{}", problem.reason);
        assert!(problem.hint.contains("wasmhost build") && problem.hint.contains("wasmhost dev"), "{}", problem.hint);
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(LoadError::unreadable(&app, &refused).reason.contains("permission denied"));
    }

    #[test]
    fn code_in_memory_cannot_be_written_once_it_is_whole() -> Result<(), Box<dyn std::error::Error>> {
        let mut source = tempfile::tempfile()?;
        source.write_all(b"machine code")?;
        let copy = private_copy(source).map_err(|problem| problem.reason)?;
        assert!(is_fixed(&copy));
        // Also not by opening it anew, as a process that may write files could.
        for mut file in [copy.try_clone()?, File::options().write(true).open(reopening(&copy))?] {
            file.rewind()?;
            let written = file.write(b"other").map_err(|error| error.raw_os_error());
            assert_eq!(written, Err(Some(Errno::PERM.raw_os_error())));
            assert!(file.set_len(0).is_err());
        }
        Ok(())
    }

    #[test]
    fn code_that_could_still_be_written_is_not_taken() -> Result<(), Box<dyn std::error::Error>> {
        let memory = memory_file().map_err(|problem| problem.reason)?;
        assert!(!is_fixed(&memory));
        assert!(!is_fixed(&File::open(reopening(&memory))?), "another descriptor may write");
        let named = tempfile::NamedTempFile::new()?;
        assert!(!is_fixed(named.as_file()));
        assert!(is_fixed(&File::open(named.path())?));
        Ok(())
    }
}
