//! Starts processes, which a confined process cannot do. The spawner is a second process of this program. The primary
//! starts it before it confines itself. It runs no guest code, and does a few things when the primary asks, on a line of
//! [`wasmhost_base::wire`]: it starts one of four fixed programs, opens components and the file of settings, and binds and removes sockets.
//! The settings that it got at its start decide how those processes are confined and limited; a request cannot change them.
//! This file is the side that asks. `attend` is the spawner itself, `reading` a new reading of the file, `readings` which of
//! them count, `stamps` which components' files have changed, `binding` its new addresses, `opening` and `openings` how components are opened, `settings`
//! what a process gets at its start.

mod attend;
mod binding;
mod opening;
mod openings;
mod reading;
mod readings;
mod settings;
mod stamps;
mod tls;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use self::attend::{AttendError, run};
pub use self::openings::OPENINGS_ON_ONE_MAX;
pub use self::reading::{NewListener, Reading};
pub use self::tls::{TlsLook, TlsReading};

use wasmhost_base::backoff::Backoff;
use wasmhost_base::sealed::seal;
use wasmhost_base::socket_file::SocketFile;
use wasmhost_base::wire::{self, Descriptor, Descriptors, Sent, Wire};
use wasmhost_config::{App, Capabilities, Compilation, Config, Confine, Listen};

use self::settings::SealedSettings;
pub use self::settings::{Directory, InheritError, Inheritance, Settings, among, inherit};

/// This very program, whatever has become of its file since.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How long the spawner may take to hear, and to answer what it answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// No descriptor is left (`EMFILE`).
const MFILE: i32 = rustix::io::Errno::MFILE.raw_os_error();
/// How long to wait before looking again whether there is a descriptor for an answer, and how often: some 10 s in all.
const RECEIVE_AGAIN: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));
const RECEIVED_AGAIN_MAX: u32 = 16;

/// What can be started: this program in four of its parts, and nothing else. Neither reads the command line beyond the
/// name of its part, but for a compiler's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Program {
    /// `wasmhost worker` for the apps of this group, or for those without one. It takes its settings and its line to the
    /// primary from standard input.
    Worker(Option<String>),
    /// `wasmhost acme`. It takes its settings and its line to the primary from standard input.
    Acme,
    /// `wasmhost databases`. It takes its settings and its line to the primary from standard input.
    Databases,
    /// `wasmhost compile` from standard input to standard output.
    Compiler,
}

/// Variable that tells a compiling process that it is a host's child, and how it is to confine itself.
pub const COMPILING_CHILD: &str = "WASMHOST_COMPILE_CHILD";

/// Variable that tells it the tier of the code that is wanted.
pub const COMPILING_TIER: &str = "WASMHOST_COMPILE_TIER";

/// Standard input, output and error of a process.
#[derive(Debug)]
pub struct Streams {
    /// Where it reads.
    pub stdin: OwnedFd,
    /// Where it writes.
    pub stdout: OwnedFd,
    /// Where it reports.
    pub stderr: OwnedFd,
}

/// The variables of the operator's environment that reach the spawner and the workers: for the dynamic linker and the C
/// library (its clock, its name look-ups, its memory), where temporary files go, and how the log looks. No other does: a
/// guest that breaks out of a worker could read it.
const KEPT_VARIABLES: &[&str] = &[
    "GLIBC_TUNABLES",
    "HOSTALIASES",
    "JOURNAL_STREAM",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LOCALDOMAIN",
    "NO_COLOR",
    "RES_OPTIONS",
    "TMPDIR",
    "TZ",
    "TZDIR",
];

/// With which tests change what a process does, or its clock.
#[cfg(feature = "fault-injection")]
const INJECTED_VARIABLES: &[&str] =
    &["FAKETIME_DONT_FAKE_MONOTONIC", "FAKETIME_NO_CACHE", "FAKETIME_TIMESTAMP_FILE", "WASMHOST_INJECT"];
#[cfg(not(feature = "fault-injection"))]
const INJECTED_VARIABLES: &[&str] = &[];

/// This program once more, in the part of this name, with [`KEPT_VARIABLES`] only.
fn own_program(part: &str) -> Command {
    let mut command = Command::new(OWN_PROGRAM);
    let kept = KEPT_VARIABLES.iter().chain(INJECTED_VARIABLES);
    let kept = kept.filter_map(|name| std::env::var_os(name).map(|value| (name, value)));
    command.arg0("wasmhost").arg(part).env_clear().envs(kept);
    command
}

/// A compiler within these bounds.
fn compiler(bounds: &Compilation, confine: Confine, streams: Streams) -> Command {
    let mut command = own_program("compile");
    command.args(["-", "--output", "-"]);
    command.arg(format!("--compile-timeout={}ms", bounds.timeout.as_millis()));
    command.arg(format!("--compile-memory-max={}", bounds.memory_max_bytes));
    // Confined, it cannot read the cgroup's quota.
    let threads = num_cpus::get().to_string();
    command.env_clear().env(COMPILING_CHILD, confine.name()).env(COMPILING_TIER, bounds.tier.name());
    command.env("RAYON_NUM_THREADS", threads);
    command.stdin(streams.stdin).stdout(streams.stdout).stderr(streams.stderr);
    command
}

/// What the spawner is asked for. With [`Descriptor::Answer`], the end of a line of its own on which it answers.
#[derive(Debug, Serialize, Deserialize)]
enum ToSpawner {
    /// These files are the primary's, and may be removed; and `later`, once it has them. Said once, before anything else.
    Own {
        files: Vec<SocketFile>,
        later: Vec<SocketFile>,
    },
    /// The primary has the later ones from now on.
    TakesOver,
    /// This file is another host's from now on.
    LeaveSocket(SocketFile),
    /// This file of the primary's is to be removed.
    RemoveSocket(SocketFile),
    /// Start this: a worker with [`Descriptor::Line`], a compiler with its three standard streams.
    Start(Program),
    /// Open the component of the app of this name, as the reading of this number named it; `look_up`: and find its code in
    /// the cache.
    OpenComponent {
        app: String,
        reading: u64,
        look_up: bool,
    },
    /// Read the file of settings again; the primary follows the reading of this number. With [`Descriptor::Settings`], a
    /// sealed list of the addresses on which the primary listens.
    ReadAgain {
        held: u64,
    },
    /// Look whether the files of TLS are still those of the reading of this number, and read them if they are not.
    LookAtTls(u64),
    /// The primary follows the reading of this number from now on.
    Follows(u64),
    RemoveSockets,
}

/// What the spawner answers. A process that it has started is killed when the other side of its line is gone.
#[derive(Debug, Serialize, Deserialize)]
enum FromSpawner {
    /// The process has ended, with this status as wait(2) gives it.
    Exited(i32),
    /// It was not started, or the file not opened: the system's number, if there is one, and its words.
    Failed(Option<i32>, String),
    /// The component was opened: [`Descriptor::Component`]. With what the look-up has found.
    Component(Option<serde_json::Value>),
    /// The file was read: what came of it is in [`Descriptor::Settings`], with new sockets beside.
    Read,
    /// The files of TLS are those that are known.
    SameTls,
    /// They were read, for the time of this number: [`Descriptor::Tls(0)`], and what the operator sees of the certificates in
    /// [`Descriptor::Settings`].
    Tls(u64),
    /// They are others, and cannot be used, for this reason.
    WrongTls(String),
    /// The sockets' files are gone.
    Removed,
}

/// What the spawner is told of a process while it runs.
#[derive(Debug, Serialize, Deserialize)]
enum SpawnerOrder {
    Kill,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// By itself, or killed.
    Exited(ExitStatus),
    /// Never begun.
    NotStarted(String),
    /// The spawner is gone, and the process with it.
    Lost,
}

impl End {
    fn of(answer: io::Result<Option<(FromSpawner, Descriptors)>>) -> Self {
        match answer {
            Ok(Some((FromSpawner::Exited(status), _))) => Self::Exited(ExitStatus::from_raw(status)),
            Ok(Some((FromSpawner::Failed(_, words), _))) => Self::NotStarted(words),
            Ok(_) | Err(_) => Self::Lost,
        }
    }
}

/// The primary's line to the spawner. The spawner ends when this does.
#[derive(Debug)]
pub struct Spawner {
    line: OwnedFd,
    /// The spawner itself; it has no other parent to wait for it.
    process: Child,
}

impl Spawner {
    /// Starts the spawner, and gives it the settings and the files of `sockets`, which it may remove; those of `later` after
    /// [`Self::takes_over`]. To be called before this process confines itself.
    ///
    /// # Errors
    /// When the system has no process, sockets or memory to give.
    pub fn start(settings: &Settings, sockets: Vec<SocketFile>, later: Vec<SocketFile>) -> io::Result<Self> {
        let (line, theirs) = wire::pair()?;
        let spawner = Self { line, process: own_program("spawner").stdin(theirs).spawn()? };
        SealedSettings::new(settings)?.send(spawner.line.as_fd(), None)?;
        // The first messages of a new line have room.
        wire::send(spawner.line.as_fd(), &ToSpawner::Own { files: sockets, later }, &[])?;
        Ok(spawner)
    }

    /// Asks, and gives the line on which the answer comes.
    fn ask(&self, what: &ToSpawner, descriptors: &[Sent<'_>]) -> io::Result<OwnedFd> {
        let (ours, theirs) = wire::pair()?;
        let all: Vec<_> = [(Descriptor::Answer, theirs.as_fd())].iter().chain(descriptors).copied().collect();
        let began = Instant::now();
        loop {
            match wire::send(self.line.as_fd(), what, &all) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < ANSWER_WITHIN => {
                    wait_for(&self.line, PollFlags::OUT, ANSWER_WITHIN)?;
                }
                outcome => return outcome.map(|()| ours),
            }
        }
    }

    /// Asks for what is answered at once.
    fn ask_and_hear(&self, what: &ToSpawner) -> io::Result<(FromSpawner, Descriptors)> {
        let answer = self.ask(what, &[])?;
        wait_for(&answer, PollFlags::IN, ANSWER_WITHIN)?;
        wire::receive(answer.as_fd())?.ok_or_else(|| io::Error::other("the spawner has ended"))
    }

    /// Starts a worker, or a loading process, for the apps of this group (or those without one), with this line to the
    /// primary. It has the settings of these apps, and is confined to what they were granted at the start. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the spawner cannot be asked. Whether it could start the process is known from its end.
    pub fn start_worker(&self, line: &OwnedFd, group: Option<&str>) -> io::Result<Attended> {
        let start = ToSpawner::Start(Program::Worker(group.map(str::to_owned)));
        Wire::new(self.ask(&start, &[(Descriptor::Line, line.as_fd())])?).map(Attended)
    }

    /// Starts the process that gets certificates by ACME, with this line to the primary. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`Self::start_worker`].
    pub fn start_acme(&self, line: &OwnedFd) -> io::Result<Attended> {
        let start = ToSpawner::Start(Program::Acme);
        Wire::new(self.ask(&start, &[(Descriptor::Line, line.as_fd())])?).map(Attended)
    }

    /// Starts the process that has the databases, with this line to the primary. Needs a tokio runtime.
    ///
    /// # Errors
    /// As [`Self::start_worker`].
    pub fn start_databases(&self, line: &OwnedFd) -> io::Result<Attended> {
        let start = ToSpawner::Start(Program::Databases);
        Wire::new(self.ask(&start, &[(Descriptor::Line, line.as_fd())])?).map(Attended)
    }

    /// Starts a compiler. Its end is reported on the line that is returned.
    fn start_compiler(&self, streams: &Streams) -> io::Result<OwnedFd> {
        let Streams { stdin, stdout, stderr } = streams;
        self.ask(
            &ToSpawner::Start(Program::Compiler),
            &[
                (Descriptor::Stdin, stdin.as_fd()),
                (Descriptor::Stdout, stdout.as_fd()),
                (Descriptor::Stderr, stderr.as_fd()),
            ],
        )
    }

    /// The files of sockets that another host has handed over are this host's from now on.
    pub fn takes_over(&self) {
        self.say(&ToSpawner::TakesOver);
    }

    /// Another host has this file of a socket from now on, and this one does not remove it.
    pub fn leave_socket(&self, file: &SocketFile) {
        self.say(&ToSpawner::LeaveSocket(file.clone()));
    }

    /// Removes one file of a socket of this host.
    pub fn remove_socket(&self, file: &SocketFile) {
        self.say(&ToSpawner::RemoveSocket(file.clone()));
    }

    /// Says what has no answer.
    fn say(&self, what: &ToSpawner) {
        let began = Instant::now();
        loop {
            match wire::send(self.line.as_fd(), what, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && began.elapsed() < ANSWER_WITHIN => {
                    // What comes of the wait, the next try tells.
                    let _ = wait_for(&self.line, PollFlags::OUT, ANSWER_WITHIN);
                }
                // Without a spawner nobody removes files.
                Ok(()) | Err(_) => return,
            }
        }
    }

    /// Removes the files of the Unix sockets that this host has bound. True when that is done.
    pub fn remove_sockets(&self) -> bool {
        matches!(self.ask_and_hear(&ToSpawner::RemoveSockets), Ok((FromSpawner::Removed, _)))
    }

    /// Reads the file of settings again, which takes as long as the files that it names. `start`: the settings of the
    /// start; `held`: the number of the last reading that was followed, with which it is compared; `listening`: addresses on
    /// which the host listens: all others of the file are bound. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the spawner does not do it. Nothing has changed then, and the next reading tells of all that this one would have.
    pub async fn read_again(
        &self,
        start: &Config,
        held: u64,
        listening: &[Listen],
        capabilities: Capabilities,
    ) -> io::Result<Reading> {
        let listening = seal(&serde_json::to_vec(listening)?)?;
        let beside = [(Descriptor::Settings, listening.as_fd())];
        let answer = Wire::new(self.ask(&ToSpawner::ReadAgain { held }, &beside)?)?;
        match received(&answer).await? {
            Some((FromSpawner::Read, descriptors)) => {
                let reading = reading::open(descriptors, start, capabilities)?;
                if reading.config.is_some() {
                    // Else it hears it with the next question.
                    let _ = wire::send(self.line.as_fd(), &ToSpawner::Follows(reading.number), &[]);
                }
                Ok(reading)
            }
            Some((FromSpawner::Failed(_, words), _)) => Err(io::Error::other(words)),
            Some((answer, _)) => Err(io::Error::other(format!("the spawner answered {answer:?}"))),
            None => Err(io::Error::other("the spawner has ended")),
        }
    }

    /// Looks at the files of TLS, at the start: waits for it.
    ///
    /// # Errors
    /// When the spawner does not do it.
    pub fn look_at_tls_first(&self) -> io::Result<TlsLook> {
        looked(self.ask_and_hear(&ToSpawner::LookAtTls(0))?)
    }

    /// Looks whether the files of TLS are still those of the reading of this number. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the spawner does not do it.
    pub async fn look_at_tls(&self, known: u64) -> io::Result<TlsLook> {
        let answer = Wire::new(self.ask(&ToSpawner::LookAtTls(known), &[])?)?;
        looked(received(&answer).await?.ok_or_else(|| io::Error::other("the spawner has ended"))?)
    }

    /// Opens the component of an app, as the reading named it that the app is from; `look_up`: and finds its code in the
    /// cache, if it is there ([`CacheLookUp::find`]). Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says; when the spawner does not do it.
    pub async fn open_component(&self, app: &App, look_up: bool) -> io::Result<(File, Option<serde_json::Value>)> {
        let answer = Wire::new(self.ask(&component_of(app, look_up), &[])?)?;
        let heard = received(&answer).await?;
        opened(heard.ok_or_else(|| io::Error::other("the spawner has ended"))?)
    }

    /// Waits for the spawner's end, which comes only by a bug or by the hand of another. Needs a tokio runtime.
    ///
    /// # Errors
    /// When its line cannot be watched.
    pub async fn ended(&self) -> io::Result<()> {
        // It never says anything on this line.
        Wire::new(self.line.try_clone()?)?.receive::<FromSpawner>().await.map(drop)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        // What is still to be done is done: it would be killed with this process.
        let ended = rustix::net::shutdown(&self.line, rustix::net::Shutdown::Both);
        let began = Instant::now();
        while ended.is_ok() && began.elapsed() < Duration::from_millis(100) {
            match self.process.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(_)) | Err(_) => return,
            }
        }
    }
}

/// The question for an app's component.
fn component_of(app: &App, look_up: bool) -> ToSpawner {
    ToSpawner::OpenComponent { app: app.name.clone(), reading: app.reading, look_up }
}

/// How the code of a component is found in the cache, where the spawner is to do that: what is below in the crates knows how
/// entries are named and checked. It only hashes; it parses nothing of a component.
#[derive(Debug, Clone, Copy)]
pub struct CacheLookUp {
    /// Makes ready, while the process is not confined.
    pub make_ready: fn(),
    /// What the cache has of an open component, for whoever asks. Blocks, and leaves the file's position as it is.
    pub find: fn(&Compilation, &File) -> Option<serde_json::Value>,
}

/// What came of looking at the files of TLS.
fn looked(heard: (FromSpawner, Descriptors)) -> io::Result<TlsLook> {
    match heard {
        (FromSpawner::SameTls, _) => Ok(TlsLook::Same),
        (FromSpawner::Tls(number), mut descriptors) => TlsReading::received(number, &mut descriptors).map(TlsLook::New),
        (FromSpawner::WrongTls(reason), _) => Ok(TlsLook::Wrong(reason)),
        (FromSpawner::Failed(_, words), _) => Err(io::Error::other(words)),
        (answer, _) => Err(io::Error::other(format!("the spawner answered {answer:?}"))),
    }
}

/// The component of which the spawner tells.
fn opened(heard: (FromSpawner, Descriptors)) -> io::Result<(File, Option<serde_json::Value>)> {
    match heard {
        (FromSpawner::Component(found), mut descriptors) => {
            descriptors.take(Descriptor::Component).map(|file| (file.into(), found))
        }
        (FromSpawner::Failed(Some(number), _), _) => Err(io::Error::from_raw_os_error(number)),
        (FromSpawner::Failed(None, words), _) => Err(io::Error::other(words)),
        (answer, _) => Err(io::Error::other(format!("the spawner answered {answer:?}"))),
    }
}

/// The spawner's answer. While this process has no descriptor for what comes with it, the answer stays on its line: a
/// shortage that is soon over loses nothing.
async fn received(answer: &Wire) -> io::Result<Option<(FromSpawner, Descriptors)>> {
    let mut pauses = 0;
    loop {
        match answer.receive().await {
            Err(error) if error.raw_os_error() == Some(MFILE) && pauses < RECEIVED_AGAIN_MAX => {
                tokio::time::sleep(RECEIVE_AGAIN.delay(pauses, 0.0)).await;
                pauses += 1;
            }
            outcome => return outcome,
        }
    }
}

/// Waits until the line can be read or written.
fn wait_for(line: &OwnedFd, what: PollFlags, at_most: Duration) -> io::Result<()> {
    let began = Instant::now();
    loop {
        let left = at_most.saturating_sub(began.elapsed());
        let time = Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(line, what)], Some(&time)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the spawner does not answer")),
            Ok(_) => return Ok(()),
            // A signal: the wait goes on.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A process that the spawner has started, as an event loop sees it. Killed when dropped.
#[derive(Debug)]
pub struct Attended(Wire);

impl Attended {
    /// Waits for its end.
    pub async fn ended(&self) -> End {
        End::of(self.0.receive().await)
    }

    /// Kills it.
    pub fn kill(&self) {
        // One that has ended needs no killing.
        let _ = self.0.try_send(&SpawnerOrder::Kill, &[]);
    }
}

/// By whom a process starts others: a confined one by the spawner, another by itself.
#[derive(Debug, Clone)]
pub enum Launcher {
    /// By itself.
    Own,
    /// By the spawner.
    Spawner(Arc<Spawner>),
}

impl Launcher {
    /// Starts a compiler, which is waited for without an event loop. The spawner sets the bounds that its own settings
    /// name, which are the same.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_compiler(&self, bounds: &Compilation, confine: Confine, streams: Streams) -> io::Result<Process> {
        match self {
            Self::Own => compiler(bounds, confine, streams).spawn().map(Process::Child),
            Self::Spawner(spawner) => spawner.start_compiler(&streams).map(Process::Spawned),
        }
    }

    /// Opens the component of an app for reading; without blocking, should it be a pipe that nobody writes to. The
    /// spawner opens the one that the reading named which the app is from.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_component(&self, config: &Config, app: &App) -> io::Result<File> {
        match self {
            Self::Own => open_component(&config.component_file(app)),
            Self::Spawner(spawner) => opened(spawner.ask_and_hear(&component_of(app, false))?).map(|(file, _)| file),
        }
    }
}

/// Opens a component that a command names, as [`Launcher::open_component`] does it.
///
/// # Errors
/// What the system says.
pub fn open_component(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// A process that is waited for without an event loop. Killed when dropped.
#[derive(Debug)]
pub enum Process {
    /// A child of this one.
    Child(Child),
    /// A child of the spawner; its line.
    Spawned(OwnedFd),
}

impl Process {
    /// How it ended, if it has.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self {
            Self::Child(child) => child.try_wait(),
            Self::Spawned(line) => match wire::receive(line.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                answer => match End::of(answer) {
                    End::Exited(status) => Ok(Some(status)),
                    End::NotStarted(reason) => Err(io::Error::other(reason)),
                    End::Lost => Err(io::Error::other("the spawner has ended")),
                },
            },
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // (Of a spawned one, the end of its line tells.)
        if let Self::Child(child) = self {
            // One that is gone cannot be killed; waiting is right in both cases.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
