//! The spawner's process: does what the primary asks for, and reports how the processes that it started end. It ends when
//! the primary does, and so do its children.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use wasmhost_base::log::LogSettings;
use wasmhost_base::socket_file::SocketFile;
use wasmhost_base::wire::{self, Descriptor, Descriptors, Sent, Wire, cut};
use wasmhost_config::{Capabilities, Config, Grants, Listen, MAX_WORKERS};

use super::reading::{self, Stamps};
use super::settings::{InheritError, SealedSettings, Settings, inherit};
use super::{FromSpawner, Order, Program, Streams, ToSpawner, compiler, open_component, own_program};
use crate::{Cage, Unconfined};

/// Processes at once: a worker each, the loading process, the compiler, and those that are being replaced.
const PROCESSES_MAX: usize = 2 * MAX_WORKERS as usize + 16;

/// Threads that open the component. One is enough, unless a file system does not answer; then later loads wait.
const OPENING_MAX: usize = 4;

/// How long to wait before looking again whether a descriptor has become free.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How long descriptors that cannot be sent now are tried again: the kernel bounds how many are on their way
/// (`ETOOMANYREFS`, unix(7)).
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Why a process is no spawner.
#[derive(Debug, thiserror::Error)]
pub enum AttendError {
    /// It was not started by a primary, or has no settings from it.
    #[error("`wasmhost spawner` cannot be run by hand, wasmhost starts it itself: {0}")]
    Inherit(#[from] InheritError),
    /// The system did not do its part.
    #[error("the spawner cannot start: {0}")]
    System(#[from] io::Error),
    /// It must be confined and cannot.
    #[error("the spawner {0}")]
    Unconfined(#[from] Unconfined),
}

/// Runs this process as a spawner, until the primary is gone. `capabilities` are those of this program.
///
/// # Errors
/// When it was not started by a primary, or cannot begin.
pub fn run(capabilities: Capabilities) -> Result<(), AttendError> {
    let Some(inherited) = inherit()? else { return Ok(()) };
    let config = &inherited.settings.config;
    crate::apply(config.confine, &Cage::spawner(config, capabilities))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.max_blocking_threads(OPENING_MAX).enable_all().build_local(tokio::runtime::LocalOptions::default())?;
    let Settings { config, log } = inherited.settings;
    let stamps = if config.source.is_some() { reading::stamps(&config) } else { Stamps::default() };
    let latest = RefCell::new(Rc::new(Given { config, settings: inherited.sealed }));
    let (reach, stamps) = (inherited.reach, RefCell::new(stamps));
    let known = Known { latest, log, capabilities, reach, stamps };
    runtime.block_on(attend(inherited.input, Rc::new(known)))?;
    Ok(())
}

/// What the spawner knows.
struct Known {
    /// From its latest reading.
    latest: RefCell<Rc<Given>>,
    log: LogSettings,
    capabilities: Capabilities,
    /// All that apps were granted at the start.
    reach: Grants,
    stamps: RefCell<Stamps>,
}

/// What all processes that the spawner starts get from it.
struct Given {
    config: Config,
    settings: SealedSettings,
}

async fn attend(line: OwnedFd, known: Rc<Known>) -> io::Result<()> {
    // A terminal, or a service manager, signals the whole group; the primary decides what follows.
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    let line = Wire::new(line)?;
    let sockets: Rc<RefCell<Option<Vec<SocketFile>>>> = Rc::default();
    let running = Rc::new(Cell::new(0_usize));
    loop {
        let (asked, mut descriptors) = match line.receive::<ToSpawner>().await {
            Ok(Some(heard)) => heard,
            Ok(None) => return Ok(()),
            // Nothing that can be asked for: no answer.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            // The system is short of descriptors or memory, and the message stays. Processes that end make room. No error
            // ends the spawner, and with it a host whose workers are processes.
            Err(_) => {
                tokio::time::sleep(SHORTAGE_PAUSE).await;
                continue;
            }
        };
        if let ToSpawner::Own(files) = asked {
            // What comes later is not believed: the primary may have been taken over by then.
            sockets.borrow_mut().get_or_insert(files);
            continue;
        }
        // Who asks without a line for the answer wants none.
        let Ok(answer) = descriptors.take(Descriptor::Answer) else { continue };
        // Who asks sees the end of that line; a later question may find room.
        let Ok(answer) = Wire::new(answer) else { continue };
        let given = Rc::clone(&known.latest.borrow());
        match asked {
            ToSpawner::Start(program) if running.get() < PROCESSES_MAX => {
                let running = Rc::clone(&running);
                running.set(running.get() + 1);
                tokio::task::spawn_local(async move {
                    match start(program, descriptors, &given).await {
                        Ok(child) => attend_to(child, &answer).await,
                        Err(error) => tell(&answer, &failed(&error), &[]),
                    }
                    running.set(running.get() - 1);
                });
            }
            ToSpawner::Start(_) => {
                tell(
                    &answer,
                    &FromSpawner::Failed(
                        None,
                        format!("{PROCESSES_MAX} processes, the most that are allowed, run already"),
                    ),
                    &[],
                );
            }
            ToSpawner::OpenComponent(name) => {
                let Some(app) = given.config.apps.iter().find(|app| app.name == name) else {
                    tell(&answer, &FromSpawner::Failed(None, "the settings name no such app".to_owned()), &[]);
                    continue;
                };
                let path = given.config.component_file(app);
                tokio::task::spawn_local(async move {
                    // In a thread: a file system that does not answer must not keep the spawner from its other work.
                    let opened = tokio::task::spawn_blocking(move || open_component(&path)).await;
                    match opened.map_err(io::Error::other).and_then(|opened| opened) {
                        Ok(file) => tell(&answer, &FromSpawner::Component, &[(Descriptor::Component, file.as_fd())]),
                        Err(error) => tell(&answer, &failed(&error), &[]),
                    }
                });
            }
            ToSpawner::ReadAgain => {
                let (known, sockets) = (Rc::clone(&known), Rc::clone(&sockets));
                tokio::task::spawn_local(async move {
                    match read_again(&known, &sockets).await {
                        Ok(read) => tell(&answer, &FromSpawner::Read, &read.descriptors()),
                        Err(error) => tell(&answer, &failed(&error), &[]),
                    }
                });
            }
            ToSpawner::Own(_) => {}
            ToSpawner::RemoveSockets => {
                // The second time, nothing.
                sockets.borrow_mut().iter_mut().flat_map(|files| files.drain(..)).for_each(|file| file.remove());
                tell(&answer, &FromSpawner::Removed, &[]);
            }
        }
    }
}

/// Reads the file of settings again, and goes by it from then on. Files of sockets that are not among the addresses any more
/// are removed.
async fn read_again(known: &Known, sockets: &RefCell<Option<Vec<SocketFile>>>) -> io::Result<reading::Answer> {
    let before = Rc::clone(&known.latest.borrow());
    let source = before.config.source.clone();
    let source = source.ok_or_else(|| io::Error::other("there is no file of settings"))?;
    let capabilities = known.capabilities;
    let read = tokio::task::spawn_blocking(move || reading::read(&source, capabilities));
    let read = read.await.map_err(io::Error::other)?;
    let answer = reading::answer(read, &before.config, &known.reach.dirs, &mut known.stamps.borrow_mut())?;
    if let Some(config) = &answer.config {
        let settings = SealedSettings::of(config.clone(), known.log, &known.reach)?;
        let mut sockets = sockets.borrow_mut();
        let files = sockets.get_or_insert_default();
        for gone in before.config.listeners.iter().filter(|listen| !config.listeners.contains(listen)) {
            if let Listen::Unix(path) = gone
                && let Ok(there) = SocketFile::at(path)
            {
                // Of those that are the host's own only.
                files.extract_if(.., |file| *file == there).for_each(|file| file.remove());
            }
        }
        files.extend(answer.files.iter().cloned());
        *known.latest.borrow_mut() = Rc::new(Given { config: config.clone(), settings });
    }
    Ok(answer)
}

fn tell(answer: &Wire, word: &FromSpawner, descriptors: &[Sent<'_>]) {
    // Its first word on a line always has room; who has gone away does not want to know.
    let _ = answer.try_send(word, descriptors);
}

fn failed(error: &io::Error) -> FromSpawner {
    FromSpawner::Failed(error.raw_os_error(), cut(&error.to_string()))
}

/// Starts a process as the settings say; whoever asks for it chooses nothing but its standard streams or its line.
async fn start(program: Program, mut descriptors: Descriptors, given: &Given) -> io::Result<Child> {
    match program {
        Program::Worker => {
            let line = descriptors.take(Descriptor::Line)?;
            let (ours, theirs) = wire::pair()?;
            let child = Command::from(own_program("worker")).stdin(theirs).kill_on_drop(true).spawn()?;
            let began = Instant::now();
            loop {
                match given.settings.send(ours.as_fd(), Some(line.as_fd())) {
                    Err(error) if wire::is_shortage(&error) && began.elapsed() < SEND_WITHIN => {
                        tokio::time::sleep(SHORTAGE_PAUSE).await;
                    }
                    // Why it has ended already, its end tells.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(child),
                    outcome => return outcome.map(|()| child),
                }
            }
        }
        Program::Compiler => {
            let mut take = |stream| descriptors.take(stream);
            let streams = Streams {
                stdin: take(Descriptor::Stdin)?,
                stdout: take(Descriptor::Stdout)?,
                stderr: take(Descriptor::Stderr)?,
            };
            let command = compiler(&given.config.compilation, given.config.confine, streams);
            Command::from(command).kill_on_drop(true).spawn()
        }
    }
}

/// Stays with a process to its end, or to that of whoever wanted it.
async fn attend_to(mut child: Child, answer: &Wire) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_process_is_confined_and_limited_cannot_be_asked_for() {
        for (message, is_known) in [
            (r#"{"Start":"Compiler"}"#, true),
            (r#"{"Start":"Worker"}"#, true),
            (r#"{"Start":{"Compiler":{"confine":"off","memory_max_bytes":1000000000000}}}"#, false),
            (r#"{"Start":{"Worker":{"confine":"off"}}}"#, false),
            (r#"{"Settings":{"directories":0}}"#, false),
        ] {
            assert_eq!(serde_json::from_str::<ToSpawner>(message).is_ok(), is_known, "{message}");
        }
    }
}
