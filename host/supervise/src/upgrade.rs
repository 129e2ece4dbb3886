//! Upgrades of the program. A command (`wasmhost upgrade`), which is not confined, starts the new program with one end of a line
//! to the host that runs as standard input. Over it the old host hands its sockets to the new one; when the new one is ready, the
//! old one has it serve and leaves. `handing_over` is the old host's side, [`command`] that of the command, `predecessor` what the
//! new host gets, `started` what a host notes of its own start for the next upgrade.

pub mod command;
mod handing_over;
mod predecessor;
mod started;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, oneshot};

use wasmhost_base::log::LogNow;
use wasmhost_base::path_encoding;
use wasmhost_base::socket_file::SocketFile;
use wasmhost_config::Listen;

pub(crate) use self::handing_over::{UPGRADE_PROTOCOL, begin, with_signs};
pub use self::predecessor::{Predecessor, PredecessorError};
pub(crate) use self::started::StartText;
pub use self::started::StartedWith;
use crate::service_manager::ServiceManager;

/// Tells a new host that standard input is a line to the host that it takes over from.
pub const TAKES_OVER: &str = "WASMHOST_TAKES_OVER";

/// Apps that could not be loaded of which the new host tells the reason, too: no message is longer than it may be.
pub(crate) const FAILED_REASONS_TOLD: usize = 8;

/// What a socket is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SocketUse {
    /// Clients connect there. With the address as the settings name it, so that port 0 stays the same port.
    Clients(Listen),
    /// Clients connect there; it is the socket of the worker of this place, with `--balance kernel`.
    Worker(Listen, u16),
    /// The admin page.
    Admin(Listen),
    /// Commands.
    Control,
    /// `wasmhost kv`, in this data directory.
    Stores(#[serde(with = "path_encoding")] PathBuf),
}

/// A socket of the old host.
#[derive(Debug)]
pub(crate) struct HostSocket {
    pub(crate) used: SocketUse,
    pub(crate) socket: OwnedFd,
    /// The file that binding has made.
    pub(crate) file: Option<SocketFile>,
}

/// What the old host says to the new one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSuccessor {
    /// A socket, which comes beside; with the file that binding has made.
    Socket(SocketUse, Option<SocketFile>),
    /// Those were all sockets. What an operator has changed since the old host began comes with it. Before [`Self::Go`] it comes once
    /// more, with the schedules. (Hosts of versions that know nothing of that pass over it.)
    AllSockets(SteeredState),
    /// The new host serves from now on. The old one has let go of all that only one host may have.
    Go,
    /// The service manager takes the new host for the main process of the service.
    Main,
    /// The old host goes on, and the new one ends.
    End,
}

/// What an operator has changed while a host ran, and no file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SteeredState {
    /// It was told to say that it is not ready (`wasmhost drain`).
    pub(crate) is_withdrawn: bool,
    /// The number of workers of its settings.
    pub(crate) workers: u16,
    /// Another number of workers, by `wasmhost scale`: of a group, or of those that take connections.
    pub(crate) scaled: Vec<(Option<String>, u16)>,
    /// What its settings say of the log, and what the log shows; none: the old host is of a version that tells nothing of it.
    #[serde(default)]
    pub(crate) log: Option<(LogNow, LogNow)>,
    /// What the old host has not dealt with of its schedules, once it begins no run any more.
    #[serde(default)]
    pub(crate) schedules: Option<LeftSchedules>,
}

/// What a host that leaves has not dealt with of its schedules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftSchedules {
    /// Since then it begins no run.
    pub(crate) since: SystemTime,
    /// Apps and schedules of which a time was due before that and has no run yet: up to when each was dealt with. At most
    /// [`LEFT_SCHEDULES_MAX`].
    pub(crate) put_off: Vec<(String, String, SystemTime)>,
}

/// Those that fit into a message.
pub(crate) const LEFT_SCHEDULES_MAX: usize = 50;

impl LeftSchedules {
    /// Up to when the times of a schedule were dealt with.
    pub(crate) fn of(&self, app: &str, schedule: &str) -> SystemTime {
        let put_off = self.put_off.iter().find(|(of, name, _)| of == app && name == schedule);
        put_off.map_or(self.since, |(.., dealt_with)| *dealt_with)
    }
}

/// What the new host says to the old one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromSuccessor {
    /// It would serve. Beside may come a socket on which the old host takes commands from now on.
    Ready(Readiness),
    /// It serves.
    Serving,
    /// It does not start, for this reason.
    Failed(String),
}

/// What the new host says of itself before it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Readiness {
    pub(crate) pid: u32,
    /// The addresses whose sockets it has taken.
    pub(crate) taken: Vec<Listen>,
    /// The files of all sockets that it has taken: it removes them at its end.
    pub(crate) files: Vec<SocketFile>,
    /// Those of the apps that are loaded first which it cannot load, and why; of those after the first [`FAILED_REASONS_TOLD`] without a
    /// reason.
    pub(crate) failed: Vec<(String, String)>,
}

/// What the command says to the old host.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromUpgrader {
    /// It hears. Its process comes beside.
    Hears,
    /// It waits no longer: the new program ends, unless it serves already.
    GivesUp,
}

/// What the old host says to the command.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToUpgrader {
    /// Start the new program, or, where that has failed and this host cannot go on, the program of this host. How it is to be
    /// started, its line, its standard streams and the old program come beside.
    Start { old_program: bool },
    /// The new host is ready, and the old one finishes its requests before that one serves.
    Drains,
    /// The new host serves, which is the process of this number.
    Serves(u32),
    /// Nothing has changed, for this reason.
    Failed(String),
    /// The new program has failed after this host had let go of its data; the old program serves, as the process of this number.
    FellBack(u32, String),
}

/// What an upgrade begins with, from the primary.
pub(crate) struct UpgradeOffer {
    pub(crate) sockets: Vec<HostSocket>,
    pub(crate) steered: SteeredState,
    /// A sealed [`StartText`].
    pub(crate) started: OwnedFd,
    /// This host's program.
    pub(crate) program: OwnedFd,
    /// The host has data that only one process may have: it leaves before the new one serves.
    pub(crate) keeps_data: bool,
    /// While somebody has it, no other upgrade begins.
    pub(crate) _underway: Rc<()>,
    /// The host is told to stop.
    pub(crate) stops: Rc<Notify>,
}

/// That the host is to leave: the new one is ready, or serves.
pub(crate) struct Departure {
    /// The process of the new host.
    pub(crate) pid: u32,
    /// The addresses that it has, and the files of its sockets.
    pub(crate) taken: Vec<Listen>,
    pub(crate) files: Vec<SocketFile>,
    /// Where commands reach the old host from now on.
    pub(crate) control: Option<OwnedFd>,
    pub(crate) then: DepartureEnd,
}

/// What is still to be done when a host leaves.
pub(crate) enum DepartureEnd {
    /// The new host serves already. Who tells the service manager so has the other end of the first; the host does not end before that of
    /// the second is gone.
    Serves(oneshot::Sender<ServiceManager>, oneshot::Receiver<()>),
    /// The new host waits.
    Waits(LetGo),
}

/// A host that leaves has let go of its data, and waits until another serves.
pub(crate) struct LetGo {
    pub(crate) gone: oneshot::Sender<ServiceManager>,
    /// Whether this host may end: another serves, or it was told to stop.
    pub(crate) may_end: oneshot::Receiver<bool>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_directory_is_named_to_the_new_host_whatever_its_path() -> serde_json::Result<()> {
        use std::os::unix::ffi::OsStringExt as _;
        let used = SocketUse::Stores(PathBuf::from(std::ffi::OsString::from_vec(b"/data/\xff".to_vec())));
        let word = serde_json::to_vec(&ToSuccessor::Socket(used.clone(), None))?;
        let ToSuccessor::Socket(read, None) = serde_json::from_slice(&word)? else { unreachable!("{word:?}") };
        assert_eq!(read, used);
        Ok(())
    }
}
