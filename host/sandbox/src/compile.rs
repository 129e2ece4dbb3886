//! Compiles a component, always in a child process that is bounded in time and address space: a compilation cannot be stopped
//! from within, and no component may block the host or take its memory. The child is `wasmhost compile` again; an
//! environment variable tells it to do the work itself.

use std::fs::File;
use std::io::{IsTerminal, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use wasmhost_config::{Compilation, Confine, Tier};
use wasmhost_confine::spawner::{Launcher, Process, Streams, open_component};

use super::artifact::{self, NewCode};
use super::source::{self, Description, LoadError, Problem};

/// Why compiling here failed.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The file is not a component that can be served.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Reading or writing failed.
    #[error("cannot {action} `{file}`: {error}")]
    Io {
        /// `read` or `write`.
        action: &'static str,
        /// The file's name.
        file: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The child could not write.
    #[error("cannot write {0}")]
    Output(String),
    /// The bounds could not be set.
    #[error("cannot bound the compilation: {0}")]
    Bound(std::io::Error),
}

/// Names standard input in the place of a file.
const STDIN: &str = "-";
/// Names standard output in the place of a file.
const STDOUT: &str = "-";
/// Beginning of the name of an artifact that is being written.
pub(super) const UNFINISHED_PREFIX: &str = ".wasmhost-";

/// Compiles `component` (`-`: standard input) into `output` (`-`: standard output), in a child that is bounded in time
/// and address space.
///
/// # Errors
/// When the component cannot be read, served or compiled within the bounds, or the output not written.
pub fn compile_ahead(component: &Path, output: &Path, bounds: &Compilation) -> Result<(), CompileError> {
    let (bytes, _) = component_of(component)?;
    let (name, confine) = (&*component.display().to_string(), Confine::Auto);
    let how = How { name, bounds, launcher: &Launcher::Own, confine, shows_progress: true };
    let compiled = if output == Path::new(STDOUT) {
        let stdout = std::io::stdout().as_fd().try_clone_to_owned().map(File::from);
        compile_in_child(&bytes, &stdout.map_err(io("write", output))?, &how)
    } else {
        compile_to_file(&bytes, output, OUTPUT_MODE, &how)
    };
    compiled.map_err(|error| match error {
        ChildError::Output(reason) => CompileError::Output(reason),
        ChildError::Problem(problem) => LoadError::new(component, problem).into(),
    })
}

fn io(action: &'static str, file: &Path) -> impl FnOnce(std::io::Error) -> CompileError {
    let file = file.display().to_string();
    move |error| CompileError::Io { action, file, error }
}

/// The component that `file` (`-`: standard input) holds, once it is known that it can be served.
fn component_of(file: &Path) -> Result<(Vec<u8>, Description), CompileError> {
    let problem = |problem| LoadError::new(file, problem);
    let (bytes, description) = if file == Path::new(STDIN) {
        let mut bytes = Vec::new();
        std::io::stdin().lock().take(source::COMPONENT_BYTES_MAX).read_to_end(&mut bytes).map_err(io("read", file))?;
        if bytes.len() as u64 >= source::COMPONENT_BYTES_MAX {
            return Err(problem(source::too_large()).into());
        }
        source::component(bytes, file).map_err(problem)?
    } else {
        let opened = open_component(file).map_err(|error| problem(source::unreadable(&error)))?;
        match source::read(&opened, file).map_err(problem)? {
            source::ReadSource::Component(bytes, description) => (bytes, description),
            source::ReadSource::Compiled => {
                let made_from = "name the .wasm file that it was made from";
                return Err(problem(Problem::new("it is compiled already", made_from)).into());
            }
        }
    };
    source::wasi_version(&description).map_err(problem)?;
    Ok((bytes, description))
}

/// By how much the priority of a process that compiles is lowered: beside a worker that wants the same core it gets a quarter
/// of it. So it is still done in time on a machine that is busy.
const COMPILING_NICENESS: i32 = 5;

/// Bounds this process, which is a child that compiles: it ends itself when the bounds are reached, and with its parent.
/// Requests of workers on the same cores go first.
///
/// # Errors
/// When the system refuses.
pub fn bound_compiling_child(bounds: &Compilation) -> Result<(), CompileError> {
    bound_this_process(bounds.timeout, bounds.memory_max_bytes).map_err(CompileError::Bound)?;
    // Of this thread and those that it starts. Where the system refuses that, it compiles all the same.
    let _ = rustix::process::nice(COMPILING_NICENESS);
    // A host that is gone wants nothing compiled. (The thread that waits for this child outlives it.)
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| CompileError::Bound(error.into()))
}

/// Compiles standard input to standard output, in this process; without optimisation where the tier says so and that can be
/// done.
///
/// # Errors
/// When the component cannot be read or served, or the output not written.
pub fn compile_here(tier: Tier) -> Result<(), CompileError> {
    let component = Path::new(STDIN);
    let (bytes, mut description) = component_of(component)?;
    let validated = source::validate(&bytes, &description);
    description.concurrent = validated.map_err(|problem| LoadError::new(component, problem))?;
    let not_compiled = |error: &wasmtime::Error| {
        let reason = format!("it cannot be compiled: {}", error.root_cause());
        LoadError::new(component, Problem::new(reason, "build it again with a current toolchain"))
    };
    let code = NewCode::of(&bytes, &description, tier).map_err(|error| not_compiled(&error))?;
    artifact::write(&mut std::io::stdout().lock(), &code, &description).map_err(io("write", Path::new(STDOUT)))
}

/// Sets the address space limit, and the CPU time limit that no compilation within `timeout` on all cores exceeds.
fn bound_this_process(timeout: Duration, memory_max_bytes: u64) -> std::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let cores = u64::try_from(num_cpus::get()).unwrap_or(1);
    let cpu_seconds = timeout.as_secs().saturating_add(1).saturating_mul(cores);
    for (resource, wanted) in [(Resource::As, memory_max_bytes), (Resource::Cpu, cpu_seconds)] {
        let hard = getrlimit(resource).maximum;
        let limit = hard.map_or(wanted, |hard| wanted.min(hard));
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) })?;
    }
    Ok(())
}

/// A compilation in a child that takes longer than this shows that it goes on, on a terminal.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);
/// How often the child is looked at; starts wait for it, so it is short.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Most of the child's error output that is read.
const CHILD_OUTPUT_MAX: u64 = 64 * 1024;

/// Why a child left no artifact.
pub(super) enum ChildError {
    /// The artifact could not be written where it should go.
    Output(String),
    /// Anything else.
    Problem(Problem),
}

impl From<Problem> for ChildError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl ChildError {
    /// As a reason not to serve.
    pub(super) fn into_problem(self) -> Problem {
        match self {
            Self::Output(reason) => Problem::new(
                format!("its compiled form cannot be written: {reason}"),
                "free memory, or name a --cache-dir with room",
            ),
            Self::Problem(problem) => problem,
        }
    }
}

/// As any new file's: of it, the umask takes away.
pub(super) const OUTPUT_MODE: u32 = 0o666;
/// Of an entry of the cache: nobody else reads or writes it, however open its directory is.
pub(super) const ENTRY_MODE: u32 = 0o600;

/// How a child compiles.
pub(super) struct How<'a> {
    /// The component's name, to be shown.
    pub(super) name: &'a str,
    pub(super) bounds: &'a Compilation,
    pub(super) launcher: &'a Launcher,
    pub(super) confine: Confine,
    /// On a terminal, one that takes long says so.
    pub(super) shows_progress: bool,
}

/// Compiles `component` in a child into a file of this name and with this mode, which appears when it is whole.
fn compile_to_file(component: &[u8], output: &Path, mode: u32, how: &How<'_>) -> Result<(), ChildError> {
    put(compile_beside(component, output, mode, how)?, output)
}

/// Gives a file its name.
pub(super) fn put(unfinished: NamedTempFile, output: &Path) -> Result<(), ChildError> {
    unfinished.persist(output).map_err(|error| cannot_write(output, &error.error))?;
    Ok(())
}

fn cannot_write(output: &Path, error: &std::io::Error) -> ChildError {
    ChildError::Output(format!("`{}`: {error}", output.display()))
}

/// Compiles `component` in a child into a file with this mode, which has no name of its own yet, in the directory of `output`.
pub(super) fn compile_beside(
    component: &[u8],
    output: &Path,
    mode: u32,
    how: &How<'_>,
) -> Result<NamedTempFile, ChildError> {
    let directory = output.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = std::fs::Permissions::from_mode(mode);
    let unfinished = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).permissions(mode).tempfile_in(directory);
    let unfinished = unfinished.map_err(|error| cannot_write(output, &error))?;
    compile_in_child(component, unfinished.as_file(), how).map_err(|error| match error {
        // The child knows no name.
        ChildError::Output(reason) => {
            ChildError::Output(reason.replacen(&format!("`{STDOUT}`"), &format!("`{}`", output.display()), 1))
        }
        error => error,
    })?;
    Ok(unfinished)
}

/// Compiles `component` in a child into an open file.
pub(super) fn compile_in_child(component: &[u8], output: &File, how: &How<'_>) -> Result<(), ChildError> {
    let cannot =
        |error: std::io::Error| Problem::new(format!("its compilation could not be started: {error}"), CANNOT_START);
    let (stdin, feed) = std::io::pipe().map_err(cannot)?;
    let (words, stderr) = std::io::pipe().map_err(cannot)?;
    let stdout = output.try_clone().map_err(cannot)?;
    let streams = Streams { stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() };
    // (Killed and waited for when dropped.)
    let child = how.launcher.start_compiler(how.bounds, how.confine, streams).map_err(cannot)?;
    feed_and_wait(child, component, (feed, words), how)
}

fn feed_and_wait(
    child: Process,
    component: &[u8],
    (mut feed, words): (PipeWriter, PipeReader),
    how: &How<'_>,
) -> Result<(), ChildError> {
    let broken = |error: std::io::Error| {
        Problem::new(format!("its compilation failed: {error}"), "start again; if it stays so, report it")
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        // Ended when this scope is left, so that both threads end.
        let child = child;
        let feeder = std::thread::Builder::new().name("compile-feed".to_owned());
        // A child that ends early closes the pipe; its own words below say why.
        feeder.spawn_scoped(scope, move || feed.write_all(component)).map_err(broken)?;
        let listener = std::thread::Builder::new().name("compile-errors".to_owned());
        let words = listener
            .spawn_scoped(scope, move || {
                let mut text = Vec::new();
                let _ = words.take(CHILD_OUTPUT_MAX).read_to_end(&mut text);
                String::from_utf8_lossy(&text).into_owned()
            })
            .map_err(broken)?;
        let status = wait(child, how, began)?;
        let words = words.join().unwrap_or_default();
        match status {
            None => Err(Problem::new(
                format!(
                    "its compilation took longer than {} (--compile-timeout)",
                    humantime::format_duration(how.bounds.timeout)
                ),
                "raise --compile-timeout, or compile ahead with `wasmhost compile`",
            )
            .into()),
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(failed(status, &words)),
        }
    })
}

/// Waits for the child's end; none when the time is over. The child is gone, or killed, when this returns.
fn wait(mut child: Process, how: &How<'_>, began: Instant) -> Result<Option<ExitStatus>, Problem> {
    let on_terminal = how.shows_progress && std::io::stderr().is_terminal();
    let mut progress = Progress { name: how.name, shown: None, on_terminal };
    loop {
        let status = child
            .try_wait()
            .map_err(|error| Problem::new(format!("its compilation could not be started: {error}"), CANNOT_START))?;
        if status.is_some() {
            return Ok(status);
        }
        if began.elapsed() >= how.bounds.timeout {
            return Ok(None);
        }
        progress.show(began.elapsed());
        std::thread::sleep(LOOK_EVERY);
    }
}

/// What to look at when no child can be had.
const CANNOT_START: &str =
    "see that the wasmhost program can be run by its user, and that processes and memory are left";

/// Words with which the system, the allocator or wasmtime say that memory is used up.
const OUT_OF_MEMORY: [&str; 5] =
    ["out of memory", "memory allocation", "Cannot allocate", "Resource temporarily unavailable", "failed to spawn"];

fn failed(status: ExitStatus, words: &str) -> ChildError {
    use std::os::unix::process::ExitStatusExt;
    if let Some(reason) = words.lines().find_map(|line| line.strip_prefix("error: cannot write ")) {
        return ChildError::Output(reason.to_owned());
    }
    let aborted = status.signal() == Some(6);
    let problem = if aborted || OUT_OF_MEMORY.iter().any(|sign| words.contains(sign)) {
        Problem::new("its compilation ran out of memory (--compile-memory-max)", "raise --compile-memory-max")
    } else if let Some(error) = words.lines().find_map(|line| line.strip_prefix("error: ")) {
        let reason = error.split_once("`: ").map_or(error, |(_, reason)| reason);
        let hint = words.lines().find_map(|line| line.trim_start().strip_prefix("hint: "));
        Problem::new(reason, hint.unwrap_or("build it again with a current toolchain"))
    } else {
        let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Problem::new(
            format!("its compilation ended with {status} {first}"),
            "raise --compile-timeout and --compile-memory-max; if it stays so, report it",
        )
    };
    problem.into()
}

/// One line on a terminal, rewritten in place.
struct Progress<'a> {
    name: &'a str,
    /// The seconds that are on the terminal.
    shown: Option<u64>,
    on_terminal: bool,
}

impl Progress<'_> {
    fn show(&mut self, elapsed: Duration) {
        let seconds = elapsed.as_secs();
        if self.on_terminal && elapsed >= PROGRESS_AFTER && self.shown.replace(seconds) != Some(seconds) {
            let line = format!("\rcompiling {} … {seconds} s ", self.name);
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = std::io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
