//! Starting processes, which a confined process cannot. The spawner is this program once more, started before the primary
//! confines itself; it runs no guest code, and does three things that the primary asks for on a line of [`crate::wire`]:
//! start one of two fixed programs, open the component's file, and remove the files of Unix sockets. This file is the
//! asking side; `attend` is the spawner itself.

mod attend;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use self::attend::{AttendError, run};
use crate::config::{Config, Development};
use crate::wire::{self, Wire};

/// This very program, whatever has become of its file since.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How long the spawner may take to hear, and to answer what it answers at once.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What can be started: this program in two of its parts, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// `wasmhost worker` with the flags of this process. Goes with one descriptor: standard input.
    Worker,
    /// `wasmhost compile` from standard input to standard output. Goes with three: standard input, output and error.
    Compiler {
        /// `--compile-timeout`.
        timeout: Duration,
        /// `--compile-memory-max`.
        memory_max_bytes: u64,
        /// Its `--confine`.
        confine: String,
    },
}

/// Variable that tells a compiling process that it is a host's child, and how it is to confine itself.
pub const COMPILING_CHILD: &str = "WASMHOST_COMPILE_CHILD";

impl Program {
    /// The command that starts it. Standard output and error of a worker are this process's.
    fn command(&self, descriptors: Vec<OwnedFd>) -> Command {
        let mut command = Command::new(OWN_PROGRAM);
        command.arg0("wasmhost");
        match self {
            Self::Worker => {
                command.arg("worker").args(own_arguments());
            }
            Self::Compiler { timeout, memory_max_bytes, confine } => {
                command.args(["compile", "-", "--output", "-"]);
                command.arg(format!("--compile-timeout={}ms", timeout.as_millis()));
                command.arg(format!("--compile-memory-max={memory_max_bytes}"));
                // Confined, it cannot read the cgroup's quota.
                let threads = num_cpus::get().to_string();
                command.env_clear().env(COMPILING_CHILD, confine).env("RAYON_NUM_THREADS", threads);
            }
        }
        let mut descriptors = descriptors.into_iter().map(Stdio::from);
        descriptors.next().map(|descriptor| command.stdin(descriptor));
        descriptors.next().map(|descriptor| command.stdout(descriptor));
        descriptors.next().map(|descriptor| command.stderr(descriptor));
        command
    }

    /// How many descriptors go with it.
    const fn descriptors(&self) -> usize {
        match self {
            Self::Worker => 1,
            Self::Compiler { .. } => 3,
        }
    }
}

/// Variables that tell the primary's children of [`Development`].
const DEVELOPMENT_STAGE: &str = "WASMHOST_DEVELOPMENT_STAGE";
const DEVELOPMENT_ROOT: &str = "WASMHOST_DEVELOPMENT_ROOT";

/// What the primary of this process is developing, if it does.
pub fn development_of_primary() -> Option<Development> {
    let (stage, root) = (std::env::var_os(DEVELOPMENT_STAGE)?, std::env::var_os(DEVELOPMENT_ROOT)?);
    Some(Development::new(stage.as_ref(), root.as_ref()))
}

/// The flags that this process was started with, without the name of its part.
fn own_arguments() -> Vec<OsString> {
    let mut words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match words.first().and_then(|word| word.to_str()) {
        Some("serve" | "spawner") => drop(words.remove(0)),
        Some("dev") => {
            words.remove(0);
            // The one flag of its own is nothing to those that serve.
            words.retain(|word| word != "--release");
        }
        _ => {}
    }
    words
}

/// What the spawner is asked for. With the end of a line of its own, on which it answers, and what else goes with it.
#[derive(Debug, Serialize, Deserialize)]
enum ToSpawner {
    Start(Program),
    OpenComponent,
    RemoveSockets,
}

/// What the spawner answers. A process that it has started is killed when the other side of its line is gone.
#[derive(Debug, Serialize, Deserialize)]
enum FromSpawner {
    /// The process has ended, with this status as wait(2) gives it.
    Exited(i32),
    /// It was not started, or the file not opened: the system's number, if there is one, and its words.
    Failed(Option<i32>, String),
    /// The component. With its file.
    Component,
    /// The sockets' files are gone.
    Removed,
}

/// What the spawner is told of a process while it runs.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
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
    fn of(answer: io::Result<Option<(FromSpawner, Vec<OwnedFd>)>>) -> Self {
        match answer {
            Ok(Some((FromSpawner::Exited(status), _))) => Self::Exited(ExitStatus::from_raw(status)),
            Ok(Some((FromSpawner::Failed(_, words), _))) => Self::NotStarted(words),
            Ok(Some((FromSpawner::Component | FromSpawner::Removed, _)) | None) | Err(_) => Self::Lost,
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
    /// Starts the spawner, which reads the same flags as this process. To be called before this process confines itself.
    ///
    /// # Errors
    /// When the system has no process or sockets to give.
    pub fn start(config: &Config) -> io::Result<Self> {
        let (line, theirs) = wire::pair()?;
        let mut command = Command::new(OWN_PROGRAM);
        command.arg0("wasmhost").arg("spawner").args(own_arguments()).stdin(Stdio::from(theirs));
        if let Some(Development { stage, root, .. }) = &config.development {
            // (What is developed may be named by no word.)
            command.env(DEVELOPMENT_STAGE, stage).env(DEVELOPMENT_ROOT, root);
            command.env("WASMHOST_COMPONENT", config.component_file());
        }
        Ok(Self { line, process: command.spawn()? })
    }

    /// Asks, and gives the line on which the answer comes.
    fn ask(&self, what: &ToSpawner, descriptors: &[OwnedFd]) -> io::Result<OwnedFd> {
        let (ours, theirs) = wire::pair()?;
        let all: Vec<_> = [&theirs].into_iter().chain(descriptors).map(AsFd::as_fd).collect();
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
    fn ask_and_hear(&self, what: &ToSpawner) -> io::Result<(FromSpawner, Vec<OwnedFd>)> {
        let answer = self.ask(what, &[])?;
        wait_for(&answer, PollFlags::IN, ANSWER_WITHIN)?;
        wire::receive(answer.as_fd())?.ok_or_else(|| io::Error::other("the spawner has ended"))
    }

    /// Starts a process, which is heard of on the line that is given back.
    fn start_process(&self, program: Program, descriptors: &[OwnedFd]) -> io::Result<OwnedFd> {
        self.ask(&ToSpawner::Start(program), descriptors)
    }

    /// Starts a worker, or a loading process, with this standard input. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the spawner cannot be asked. Whether it could start the process is known from its end.
    pub fn start_worker(&self, stdin: OwnedFd) -> io::Result<Attended> {
        let line = self.start_process(Program::Worker, &[stdin])?;
        Wire::new(line).map(Attended)
    }

    /// Removes the files of the Unix sockets that the flags name. True when that is done.
    pub fn remove_sockets(&self) -> bool {
        matches!(self.ask_and_hear(&ToSpawner::RemoveSockets), Ok((FromSpawner::Removed, _)))
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

/// Waits until the line can be read or written.
fn wait_for(line: &OwnedFd, what: PollFlags, at_most: Duration) -> io::Result<()> {
    let time = Timespec { tv_sec: i64::try_from(at_most.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    match poll(&mut [PollFd::new(line, what)], Some(&time)) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "the spawner does not answer")),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
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
        let _ = self.0.try_send(&Order::Kill, &[]);
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
    /// Starts a process that is waited for without an event loop.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(&self, program: Program, descriptors: Vec<OwnedFd>) -> io::Result<Process> {
        match self {
            Self::Own => program.command(descriptors).spawn().map(Process::Child),
            Self::Spawner(spawner) => spawner.start_process(program, &descriptors).map(Process::Spawned),
        }
    }

    /// Opens the component at `path` for reading; without blocking, should it be a pipe that nobody writes to. The
    /// spawner opens the one that the flags name, which is the same.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_component(&self, path: &Path) -> io::Result<File> {
        match self {
            Self::Own => open_component(path),
            Self::Spawner(spawner) => match spawner.ask_and_hear(&ToSpawner::OpenComponent)? {
                (FromSpawner::Component, descriptors) => match descriptors.into_iter().next() {
                    Some(file) => Ok(file.into()),
                    None => Err(rustix::io::Errno::MFILE.into()),
                },
                (FromSpawner::Failed(Some(number), _), _) => Err(io::Error::from_raw_os_error(number)),
                (answer, _) => Err(io::Error::other(format!("the spawner answered {answer:?}"))),
            },
        }
    }
}

fn open_component(path: &Path) -> io::Result<File> {
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
