//! The spawner's process: hears what the primary asks for, and tells how the processes that it started end. It goes with
//! the primary, and its children with it.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::{FromSpawner, Order, Program, ToSpawner, open_component};
use crate::config::{Config, MAX_WORKERS};
use crate::confine::{self, Cage, Unconfined};
use crate::wire::{Wire, cut};

/// Processes at once: a worker each, the loading process, the compiler, and those that are being replaced.
const PROCESSES_MAX: usize = 2 * MAX_WORKERS as usize + 16;

/// How long to wait before looking again whether a descriptor has become free.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Why a process is no spawner.
#[derive(Debug, thiserror::Error)]
pub enum AttendError {
    /// Nobody is at the other end of standard input.
    #[error("`wasmhost spawner` is what wasmhost starts by itself: {0}")]
    NotAChild(io::Error),
    /// The system did not do its part.
    #[error("the spawner cannot start: {0}")]
    System(#[from] io::Error),
    /// It must be confined and cannot.
    #[error("the spawner {0}")]
    Unconfined(#[from] Unconfined),
}

/// Runs this process as a spawner, until the primary is gone.
///
/// # Errors
/// When it was not started by a primary, or cannot begin.
pub fn run(config: &Config) -> Result<(), AttendError> {
    let line = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::net::sockopt::socket_type(&line).map_err(|error| AttendError::NotAChild(error.into()))?;
    // What does not end by the end of its line ends with the primary all the same.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(io::Error::from)?;
    confine::apply(config.confine, &Cage::spawner(config))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(attend(line, config))?;
    Ok(())
}

async fn attend(line: OwnedFd, config: &Config) -> io::Result<()> {
    // A terminal, or a service manager, signals the whole group; the primary decides what follows.
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    let line = Wire::new(line)?;
    let mut sockets = SocketFiles::of(config);
    let running = Rc::new(Cell::new(0_usize));
    loop {
        let (asked, descriptors) = match line.receive::<ToSpawner>().await {
            Ok(Some(heard)) => heard,
            Ok(None) => return Ok(()),
            // The message stays. Processes that end make room.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                tokio::time::sleep(SHORTAGE_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let mut descriptors = descriptors.into_iter();
        // (There was no descriptor left for it; the primary hears of an answer that does not come.)
        let Some(answer) = descriptors.next() else { continue };
        let answer = Wire::new(answer)?;
        match asked {
            ToSpawner::Start(program) if running.get() < PROCESSES_MAX => {
                let running = Rc::clone(&running);
                running.set(running.get() + 1);
                tokio::task::spawn_local(async move {
                    run_process(&program, descriptors.collect(), &answer).await;
                    running.set(running.get() - 1);
                });
            }
            ToSpawner::Start(_) => {
                tell(&answer, &FromSpawner::Failed(None, format!("{PROCESSES_MAX} processes run already")), &[]);
            }
            ToSpawner::OpenComponent => match open_component(config.component_file()) {
                Ok(file) => tell(&answer, &FromSpawner::Component, &[file.into()]),
                Err(error) => tell(&answer, &failed(&error), &[]),
            },
            ToSpawner::RemoveSockets => {
                sockets.remove();
                tell(&answer, &FromSpawner::Removed, &[]);
            }
        }
    }
}

/// The files of the Unix sockets that the primary listens on: those that were there when it began to, and no others that
/// have taken their places since.
struct SocketFiles(Vec<(PathBuf, (u64, u64))>);

impl SocketFiles {
    fn of(config: &Config) -> Self {
        let files = confine::socket_files(config);
        Self(files.filter_map(|file| identity(file).map(|known| (file.to_owned(), known))).collect())
    }

    /// Removes them; the second time, nothing.
    fn remove(&mut self) {
        for (file, known) in self.0.drain(..) {
            if identity(&file) == Some(known) {
                // It may have gone just now.
                let _ = std::fs::remove_file(file);
            }
        }
    }
}

/// Device and number of a file itself, not of what it links to.
fn identity(file: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(file).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn tell(answer: &Wire, word: &FromSpawner, descriptors: &[OwnedFd]) {
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    // Its first word on a line always has room; who has gone away does not want to know.
    let _ = answer.try_send(word, &descriptors);
}

fn failed(error: &io::Error) -> FromSpawner {
    FromSpawner::Failed(error.raw_os_error(), cut(&error.to_string()))
}

/// Starts a process, and stays with it to its end, or to that of whoever wanted it.
async fn run_process(program: &Program, descriptors: Vec<OwnedFd>, answer: &Wire) {
    if descriptors.len() != program.descriptors() {
        return tell(answer, &failed(&rustix::io::Errno::MFILE.into()), &[]);
    }
    let started = Command::from(program.command(descriptors)).kill_on_drop(true).spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return tell(answer, &failed(&error), &[]),
    };
    loop {
        tokio::select! {
            status = child.wait() => {
                return match status {
                    Ok(status) => tell(answer, &FromSpawner::Exited(status.into_raw()), &[]),
                    Err(error) => tell(answer, &failed(&error), &[]),
                };
            }
            order = answer.receive::<Order>() => {
                // It may have ended just now.
                let _ = child.start_kill();
                if !matches!(order, Ok(Some(_))) {
                    // Nobody waits for it any more but this process.
                    let _ = child.wait().await;
                    return;
                }
            }
        }
    }
}
