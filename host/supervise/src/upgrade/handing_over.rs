//! The old host's side of an upgrade: a task beside the primary, which gives the new host its sockets, waits until that one is
//! ready, and then has the primary leave. Until then this host serves as before, whatever becomes of the new one or of the command.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use wasmhost_base::wire::{self, Descriptor, Wire, cut};

use super::{
    Departure, DepartureEnd, FromSuccessor, FromUpgrader, LetGo, Readiness, SteeredState, ToSuccessor, ToUpgrader,
    UpgradeOffer,
};
use crate::control::ControlOrder;
use crate::service_manager::ServiceManager;

/// What the control socket speaks after `POST /upgrade`.
pub(crate) const UPGRADE_PROTOCOL: &str = "wasmhost-upgrade";

/// How long the command may take to take the line, and to start the old program.
const COMMAND_WITHIN: Duration = Duration::from_secs(10);
/// At most how long the new program is waited for; the command ends the wait before.
const READY_WITHIN: Duration = Duration::from_hours(1);
/// How long a new host that is ready may take to serve: with stores, it checks their file first.
const SERVES_WITHIN: Duration = Duration::from_secs(10);
const OPENS_WITHIN: Duration = Duration::from_mins(5);
/// How long the command may take to end once it has heard the outcome.
const COMMAND_ENDS_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether it has.
const ENDS_AGAIN: Duration = Duration::from_millis(2);
/// Why an upgrade ends with the host.
const STOPS: &str = "this host was told to stop";
/// How often the service manager hears that this host lives, while it waits.
const SIGNS_EVERY: Duration = Duration::from_millis(100);

/// Carries out an upgrade on the connection of a command.
pub(crate) async fn begin(upgraded: OnUpgrade, offer: UpgradeOffer, orders: mpsc::Sender<ControlOrder>) {
    let heard = tokio::select! {
        heard = timeout(COMMAND_WITHIN, line_to_command(upgraded)) => heard,
        () = offer.stops.notified() => return,
    };
    let (command, process) = match heard {
        Ok(Ok(heard)) => heard,
        Ok(Err(error)) => return tracing::debug!(%error, "a command for an upgrade has left"),
        Err(_) => return tracing::debug!("a command for an upgrade does not take its line"),
    };
    tracing::info!("upgrade: the new program is being started; this host serves meanwhile");
    let upgrade = Upgrade { command, process, offer, orders };
    match upgrade.conduct().await {
        Ok(_line) => {
            drop(upgrade);
            // The other end of the line tells when this host is gone.
            std::future::pending().await
        }
        Err(reason) => {
            tracing::error!("upgrade failed, and this host goes on as before: {reason}");
            // Who asked may have left.
            let _ = upgrade.command.try_send(&ToUpgrader::Failed(cut(&reason)), &[]);
            let orders = upgrade.orders.clone();
            drop(upgrade);
            // The primary looks what rests. It may have stopped.
            let _ = orders.send(ControlOrder::UpgradeFailed(reason)).await;
        }
    }
}

/// The end of a line, once the command has said that it hears, and its process.
async fn line_to_command(upgraded: OnUpgrade) -> io::Result<(Wire, OwnedFd)> {
    let mut stream = TokioIo::new(upgraded.await.map_err(io::Error::other)?);
    stream.read_exact(&mut [0]).await?;
    let parts = stream.into_inner().downcast::<TokioIo<UnixStream>>();
    let stream = parts.map_err(|_| io::Error::other("the command came by another way than the control socket"))?;
    let (ours, theirs) = wire::pair()?;
    wire::pass_end(stream.io.into_inner().as_fd(), theirs.as_fd())?;
    let line = Wire::new(ours)?;
    match line.receive().await? {
        Some((FromUpgrader::Hears, mut descriptors)) => Ok((line, descriptors.take(Descriptor::Process)?)),
        Some((FromUpgrader::GivesUp, _)) | None => Err(io::Error::other("the command has ended")),
    }
}

struct Upgrade {
    command: Wire,
    process: OwnedFd,
    offer: UpgradeOffer,
    orders: mpsc::Sender<ControlOrder>,
}

/// A new host that would serve.
struct Successor {
    line: Wire,
    readiness: Readiness,
    control: Option<OwnedFd>,
}

impl Upgrade {
    /// Gives the line to the new host, when that serves.
    ///
    /// # Errors
    /// Why nothing has changed.
    async fn conduct(&self) -> Result<Option<Wire>, String> {
        let successor = self.successor(false).await?;
        let (agrees, hears) = oneshot::channel();
        let failed = successor.readiness.failed.clone();
        self.order(ControlOrder::Yield { failed, agrees }).await?;
        let agreed = hears.await.map_err(|_| STOPS.to_owned()).and_then(|agreed| agreed);
        let left = match agreed {
            Ok(left) => SteeredState { schedules: Some(left), ..SteeredState::default() },
            Err(reason) => {
                successor.end();
                return Err(reason);
            }
        };
        if self.offer.keeps_data {
            self.leave_and_hand_over(successor, &left).await
        } else {
            self.hand_over_and_leave(successor, &left).await
        }
    }

    async fn order(&self, order: ControlOrder) -> Result<(), String> {
        self.orders.send(order).await.map_err(|_| STOPS.to_owned())
    }

    /// Starts the new program, or the old one anew, and waits until it is ready.
    async fn successor(&self, old_program: bool) -> Result<Successor, String> {
        let (ours, theirs) = wire::pair().map_err(words)?;
        let line = Wire::new(ours).map_err(words)?;
        self.tell_to_start(theirs, old_program).map_err(|error| format!("the command cannot be told: {error}"))?;
        let ready = tokio::select! {
            ready = self.readiness(&line) => ready,
            _ = self.command.receive::<FromUpgrader>() => Err("the command has ended, or waits no longer".to_owned()),
            () = self.offer.stops.notified() => Err(STOPS.to_owned()),
            () = tokio::time::sleep(READY_WITHIN) => Err("the new program is not ready in time".to_owned()),
        };
        match ready {
            Ok((readiness, control)) => Ok(Successor { line, readiness, control }),
            Err(reason) => {
                end(&line);
                Err(reason)
            }
        }
    }

    fn tell_to_start(&self, line: OwnedFd, old_program: bool) -> io::Result<()> {
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let UpgradeOffer { started, program, .. } = &self.offer;
        let beside = [
            (Descriptor::Settings, started.as_fd()),
            (Descriptor::Program, program.as_fd()),
            (Descriptor::Stdout, stdout.as_fd()),
            (Descriptor::Stderr, stderr.as_fd()),
            (Descriptor::Line, line.as_fd()),
        ];
        self.command.try_send(&ToUpgrader::Start { old_program }, &beside)
    }

    async fn readiness(&self, line: &Wire) -> Result<(Readiness, Option<OwnedFd>), String> {
        // (It may have ended: then it says so, or its end is heard.)
        let handed = async {
            for socket in &self.offer.sockets {
                let (word, beside) = socket.message();
                line.send(&word, &beside).await?;
            }
            line.send(&ToSuccessor::AllSockets(self.offer.steered.clone()), &[]).await
        };
        let handed = handed.await;
        match line.receive::<FromSuccessor>().await {
            Ok(Some((FromSuccessor::Ready(readiness), mut descriptors))) => {
                Ok((readiness, descriptors.take(Descriptor::Listener(0)).ok()))
            }
            Ok(Some((FromSuccessor::Failed(reason), _))) => Err(format!("the new program does not start: {reason}")),
            Ok(Some((FromSuccessor::Serving, _))) => Err("the new program does not wait to be told".to_owned()),
            Ok(None) | Err(_) => Err(match handed {
                Ok(()) => "the new program has ended before it was ready".to_owned(),
                Err(error) => format!("the new program has not taken the sockets: {error}"),
            }),
        }
    }

    /// Both serve for a moment, and then this host leaves.
    async fn hand_over_and_leave(&self, mut successor: Successor, left: &SteeredState) -> Result<Option<Wire>, String> {
        if let Err(reason) =
            self.unless_stopped(successor.go(left, SERVES_WITHIN)).await.unwrap_or(Err(STOPS.to_owned()))
        {
            successor.end();
            return Err(reason);
        }
        let ((told, hears), (_over, ends)) = (oneshot::channel(), oneshot::channel());
        successor.depart(&self.orders, DepartureEnd::Serves(told, ends)).await?;
        let Ok(service_manager) = hears.await else {
            // It was told to stop just then.
            successor.end();
            return Err(STOPS.to_owned());
        };
        self.served(successor.readiness.pid);
        self.pass_over(&successor, service_manager).await;
        Ok(Some(successor.line))
    }

    /// This host leaves, lets go of its data, and then the new one serves. If that one fails now, the old program is started again.
    async fn leave_and_hand_over(&self, mut successor: Successor, left: &SteeredState) -> Result<Option<Wire>, String> {
        // Who asked may have left.
        let _ = self.command.try_send(&ToUpgrader::Drains, &[]);
        let ((gone, hears_gone), (tells, may_end)) = (oneshot::channel(), oneshot::channel());
        let then = DepartureEnd::Waits(LetGo { gone, may_end });
        successor.depart(&self.orders, then).await?;
        let Some(gone) = self.unless_stopped(hears_gone).await else { return Ok(self.stop(&successor, tells)) };
        let Ok(mut service_manager) = gone else {
            // The new one serves when it sees the end of this one.
            return Ok(Some(successor.line));
        };
        let mut reason = None;
        let went = self.unless_stopped(with_signs(&mut service_manager, successor.go(left, OPENS_WITHIN))).await;
        let Some(went) = went else { return Ok(self.stop(&successor, tells)) };
        if let Err(failure) = went {
            tracing::error!(
                "upgrade: the new program fails after this host has let go of its data; the old program is started again: {failure}"
            );
            successor.end();
            successor = match with_signs(&mut service_manager, self.fall_back(left)).await {
                Ok(successor) => successor,
                Err(error) => {
                    tracing::error!("upgrade: the old program cannot be started again, and nobody serves: {error}");
                    let told = format!("{failure}; then the old program did not start again: {error}");
                    let _ = self.command.try_send(&ToUpgrader::Failed(cut(&told)), &[]);
                    // (Who waits is the end of this host.)
                    let _ = tells.send(false);
                    return Ok(None);
                }
            };
            reason = Some(failure);
        }
        let pid = successor.readiness.pid;
        match reason {
            None => self.served(pid),
            Some(reason) => {
                let _ = self.command.try_send(&ToUpgrader::FellBack(pid, cut(&reason)), &[]);
            }
        }
        self.pass_over(&successor, service_manager).await;
        let _ = tells.send(true);
        Ok(Some(successor.line))
    }

    /// This host was told to stop, and the new one is not to serve in its place.
    fn stop(&self, successor: &Successor, tells: oneshot::Sender<bool>) -> Option<Wire> {
        successor.end();
        let _ = self.command.try_send(&ToUpgrader::Failed(STOPS.to_owned()), &[]);
        // (Who waits is the end of this host.)
        let _ = tells.send(true);
        None
    }

    /// What comes of it; none: this host was told to stop before.
    async fn unless_stopped<T>(&self, what: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = what => Some(done),
            () = self.offer.stops.notified() => None,
        }
    }

    /// The old program once more, which serves.
    async fn fall_back(&self, left: &SteeredState) -> Result<Successor, String> {
        let successor = self.successor(true).await?;
        // Opening the data may take long.
        let _ = self.command.try_send(&ToUpgrader::Drains, &[]);
        successor.go(left, OPENS_WITHIN).await?;
        Ok(successor)
    }

    fn served(&self, pid: u32) {
        // Who asked may have left.
        let _ = self.command.try_send(&ToUpgrader::Serves(pid), &[]);
        tracing::info!(pid, "upgrade: the new program serves; this host finishes its requests and ends");
    }

    /// Tells the service manager which process is the main one from now on, and that process that it is.
    async fn pass_over(&self, successor: &Successor, mut service_manager: ServiceManager) {
        with_signs(&mut service_manager, self.command_ends()).await;
        service_manager.hands_over(successor.readiness.pid);
        // It may have ended.
        let _ = successor.line.try_send(&ToSuccessor::Main, &[]);
    }

    /// Waits until the command, which has heard the outcome, has ended. The new host, its child, is systemd's from then on. (systemd
    /// sees the end only of children, and kills a service whose main process is another's at once when it is to stop.)
    async fn command_ends(&self) {
        let until = Instant::now() + COMMAND_ENDS_WITHIN;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        while matches!(poll(&mut [PollFd::new(&self.process, PollFlags::IN)], Some(&now)), Ok(0) | Err(Errno::INTR)) {
            if Instant::now() >= until {
                tracing::warn!(
                    "upgrade: the command does not end; a service manager may not see the end of the new process"
                );
                return;
            }
            tokio::time::sleep(ENDS_AGAIN).await;
        }
    }
}

impl Successor {
    /// Has it serve, with the schedules that are left, and waits until it does.
    async fn go(&self, left: &SteeredState, within: Duration) -> Result<(), String> {
        for word in [ToSuccessor::AllSockets(left.clone()), ToSuccessor::Go] {
            self.line.send(&word, &[]).await.map_err(|error| format!("the new program has ended: {error}"))?;
        }
        match timeout(within, self.line.receive::<FromSuccessor>()).await {
            Ok(Ok(Some((FromSuccessor::Serving, _)))) => Ok(()),
            Ok(Ok(Some((FromSuccessor::Failed(reason), _)))) => {
                Err(format!("the new program does not serve: {reason}"))
            }
            Ok(_) => Err("the new program has ended when it was to serve".to_owned()),
            Err(_) => Err(format!("the new program does not serve within {} s", within.as_secs())),
        }
    }

    /// Has the primary leave.
    async fn depart(&mut self, orders: &mpsc::Sender<ControlOrder>, then: DepartureEnd) -> Result<(), String> {
        let Readiness { pid, taken, files, .. } = &mut self.readiness;
        let (pid, taken, files) = (*pid, std::mem::take(taken), std::mem::take(files));
        let departure = Departure { pid, taken, files, control: self.control.take(), then };
        orders.send(ControlOrder::Leave(departure)).await.map_err(|_| STOPS.to_owned())
    }

    fn end(&self) {
        end(&self.line);
    }
}

/// Tells the new host that this one goes on. (An end without a word means that this one is gone.)
fn end(line: &Wire) {
    // It may have ended.
    let _ = line.try_send(&ToSuccessor::End, &[]);
}

fn words(error: io::Error) -> String {
    error.to_string()
}

/// Waits, and has the service manager hear that this process lives.
pub(crate) async fn with_signs<T>(service_manager: &mut ServiceManager, what: impl Future<Output = T>) -> T {
    let mut what = std::pin::pin!(what);
    loop {
        tokio::select! {
            done = &mut what => return done,
            () = tokio::time::sleep(SIGNS_EVERY) => service_manager.is_due(),
        }
    }
}
