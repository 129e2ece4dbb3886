//! The command's side of an upgrade: it starts the new program where the host that runs tells it to, and waits for the outcome.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use wasmhost_base::sealed::unseal;
use wasmhost_base::wire::{self, Descriptor, Descriptors, Wire};

use super::{FromUpgrader, StartText, TAKES_OVER, ToUpgrader, UPGRADE_PROTOCOL};
use crate::control::client::{ControlError, FoundHost, begin_upgrade, body_of};

/// How long the host that runs may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a host may take to finish its requests, before the new one serves.
const DRAIN_PATIENCE: Duration = Duration::from_hours(1);
/// How long the host may take to say what came of an upgrade that the command has given up: the new program may just begin to serve.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(15);
/// How long a program that has failed is waited for before it is killed.
const ENDS_WITHIN: Duration = Duration::from_millis(500);
/// How often it is looked whether it has ended.
const ENDS_AGAIN: Duration = Duration::from_millis(5);

/// What came of an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// The process of the new host.
    pub pid: u32,
}

/// Why there was none.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The host was not reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It refuses.
    #[error("the host refuses: {0}")]
    Refused(String),
    /// A process that this command starts would be elsewhere.
    #[error("the new program would not run where the host does: {what}")]
    Elsewhere {
        /// What differs.
        what: String,
        /// A way out.
        hint: &'static str,
    },
    /// The new program cannot be started.
    #[error("`{program}` cannot be started: {error}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The new program is not ready; the host goes on as before.
    #[error("nothing has changed: {0}")]
    Failed(String),
    /// The new program has failed when the old host had let go of its data; the old program serves again.
    #[error("the old program serves again, as process {pid}: {reason}")]
    FellBack {
        /// Its process.
        pid: u32,
        /// Why the new one does not.
        reason: String,
    },
    /// The host has ended meanwhile.
    #[error("the host has ended during the upgrade: {0}")]
    Lost(String),
}

impl UpgradeError {
    /// A way out.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Control(_) => "`wasmhost ps` shows the hosts that run",
            Self::Refused(reason) if reason.contains("process 1") => {
                "start a container with the new image beside this one, then stop this one: a rolling update of the orchestrator"
            }
            Self::Refused(reason) if reason.contains("under way") => "wait until that one has ended",
            Self::Refused(_) => "restart the host",
            Self::Elsewhere { hint, .. } => hint,
            Self::Start { .. } => "name a program that this user may execute, with --program",
            Self::Failed(_) => "the log of the host says more; `--timeout` bounds the wait",
            Self::FellBack { .. } => "the log of the host says more",
            Self::Lost(_) => "`wasmhost ps` shows whether the new one serves; the log says more",
        }
    }
}

/// Has a host replaced by a new process of `program`. Blocks: until the new one is ready, `patience` at most, and then as long as
/// the old one takes to finish its requests, if the new one waits for that.
///
/// # Errors
/// Why the host goes on as before, or what has become of it.
pub fn upgrade(host: &FoundHost, program: &Path, patience: Duration) -> Result<Upgraded, UpgradeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ControlError::NoAnswer(host.socket.clone(), error.to_string()))?;
    runtime.block_on(async {
        let line = tokio::time::timeout(PATIENCE, line_to(host)).await;
        let line = line.map_err(|_| ControlError::NoAnswer(host.socket.clone(), "not in time".to_owned()))??;
        conduct(&line, program, patience).await
    })
}

/// Asks for an upgrade, and gets a line on which it is carried out.
async fn line_to(host: &FoundHost) -> Result<Wire, UpgradeError> {
    let no_answer = |error: &dyn std::fmt::Display| ControlError::NoAnswer(host.socket.clone(), error.to_string());
    let response = begin_upgrade(host, Method::POST, "/upgrade", UPGRADE_PROTOCOL).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let text = body_of(host, response).await?;
        let text = String::from_utf8_lossy(&text);
        return Err(UpgradeError::Refused(text.trim().to_owned()));
    }
    let upgraded = hyper::upgrade::on(response).await.map_err(|error| no_answer(&error))?;
    let mut stream = TokioIo::new(upgraded);
    stream.write_all(&[0]).await.map_err(|error| no_answer(&error))?;
    stream.flush().await.map_err(|error| no_answer(&error))?;
    let parts = stream.into_inner().downcast::<TokioIo<UnixStream>>();
    let stream = parts.map_err(|_| no_answer(&"it is no Unix socket"))?.io.into_inner();
    // What another user's process says is not run as this user.
    let peer = stream.peer_cred().map_err(|error| no_answer(&error))?;
    if let Some((what, hint)) = StartText::here().is_of_other_user((peer.uid(), peer.gid())) {
        return Err(UpgradeError::Elsewhere { what, hint });
    }
    let end = stream.async_io(Interest::READABLE, || wire::passed_end(stream.as_fd())).await;
    let line = end.and_then(Wire::new).map_err(|error| no_answer(&error))?;
    let own = pidfd_open(getpid(), PidfdFlags::empty()).map_err(|error| no_answer(&error))?;
    let beside = [(Descriptor::Process, own.as_fd())];
    line.send(&FromUpgrader::Hears, &beside).await.map_err(|error| no_answer(&error))?;
    Ok(line)
}

/// The process that was started last. Killed when dropped, unless it is let go.
struct NewHost(Option<Child>);

impl NewHost {
    /// How it ended, if it does so within a moment.
    async fn status(&mut self) -> Option<ExitStatus> {
        let (child, until) = (self.0.as_mut()?, Instant::now() + ENDS_WITHIN);
        while Instant::now() < until {
            if let Some(status) = child.try_wait().ok()? {
                return Some(status);
            }
            tokio::time::sleep(ENDS_AGAIN).await;
        }
        None
    }
}

impl Drop for NewHost {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let until = Instant::now() + ENDS_WITHIN;
        while Instant::now() < until {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(ENDS_AGAIN);
        }
        // It may have ended just now.
        let _ = child.kill();
        let _ = child.wait();
    }
}

async fn conduct(line: &Wire, program: &Path, patience: Duration) -> Result<Upgraded, UpgradeError> {
    let mut until = Instant::now() + patience;
    let mut started = NewHost(None);
    let not_in_time = || UpgradeError::Failed(format!("the new program is not ready within {}", humantime(patience)));
    let mut gives_up = false;
    loop {
        let heard = tokio::time::timeout_at(until.into(), line.receive::<ToUpgrader>()).await;
        let Ok(heard) = heard else {
            if std::mem::replace(&mut gives_up, true) || line.try_send(&FromUpgrader::GivesUp, &[]).is_err() {
                return Err(not_in_time());
            }
            until = Instant::now() + GIVEN_UP_WITHIN;
            continue;
        };
        match heard {
            Ok(Some((ToUpgrader::Start { old_program }, descriptors))) => {
                drop(std::mem::replace(&mut started, NewHost(None)));
                until = Instant::now() + patience;
                started = start(descriptors, program, old_program)?;
            }
            Ok(Some((ToUpgrader::Drains, _))) => until = Instant::now() + DRAIN_PATIENCE,
            Ok(Some((ToUpgrader::Serves(pid), _))) => {
                started.0 = None;
                return Ok(Upgraded { pid });
            }
            Ok(Some((ToUpgrader::FellBack(pid, reason), _))) => {
                started.0 = None;
                return Err(UpgradeError::FellBack { pid, reason });
            }
            Ok(Some((ToUpgrader::Failed(_), _))) if gives_up => return Err(not_in_time()),
            Ok(Some((ToUpgrader::Failed(reason), _))) => {
                return Err(UpgradeError::Failed(reason + &ending(started.status().await)));
            }
            Ok(None) | Err(_) => {
                // The new one goes on without the old one.
                started.0 = None;
                return Err(UpgradeError::Lost("it says nothing more".to_owned()));
            }
        }
    }
}

/// How a program ended, to be said after why it has failed.
fn ending(status: Option<ExitStatus>) -> String {
    match (status.and_then(|status| status.code()), status.and_then(|status| status.signal())) {
        (Some(code), _) => format!(" (exit code {code})"),
        (None, Some(signal)) => format!(" (signal {signal})"),
        (None, None) => String::new(),
    }
}

fn humantime(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Starts the new program as the host was started, or the old one.
fn start(mut descriptors: Descriptors, program: &Path, old_program: bool) -> Result<NewHost, UpgradeError> {
    let failed = |error: io::Error| UpgradeError::Start { program: program.to_owned(), error };
    let mut take = |what| descriptors.take(what).map_err(failed);
    let (settings, old) = (take(Descriptor::Settings)?, take(Descriptor::Program)?);
    let (stdout, stderr, line) = (take(Descriptor::Stdout)?, take(Descriptor::Stderr)?, take(Descriptor::Line)?);
    let text: StartText = unseal(&settings).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)).map_err(failed)?;
    if let Some((what, hint)) = text.differs_from(&StartText::here()) {
        return Err(UpgradeError::Elsewhere { what, hint });
    }
    let old_path = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd()));
    let chosen = if old_program { old_path.as_path() } else { program };
    let child = command(chosen, &text).stdin(line).stdout(stdout).stderr(stderr).spawn();
    drop::<OwnedFd>(old);
    Ok(NewHost(Some(child.map_err(failed)?)))
}

fn command(program: &Path, text: &StartText) -> Command {
    let mut command = Command::new(program);
    command.args(&text.arguments).env_clear().envs(text.variables.iter().map(|(name, value)| (name, value)));
    // It is no process of a terminal's, should this command be.
    command.env(TAKES_OVER, "1").current_dir(&text.directory).process_group(0);
    if program.as_os_str().as_bytes().starts_with(b"/proc/self/fd/") {
        command.arg0(OsString::from("wasmhost"));
    }
    command
}
