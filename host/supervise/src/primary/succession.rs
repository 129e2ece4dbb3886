//! What the primary knows of the host that it takes over from, in an upgrade of the program.

use std::rc::Rc;

use wasmhost_base::socket_file::SocketFile;
use wasmhost_base::wire::Wire;
use wasmhost_config::{Config, Listen};
use wasmhost_serve::listener::{BindError, Bound};

use super::error::{PrimaryError, system};
use crate::control;
use crate::upgrade::{Predecessor, SteeredState};

/// How far this host has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SuccessionStage {
    /// Its workers start.
    Starts,
    /// The first apps are loaded.
    Loads,
    /// The old host knows that it is ready.
    Waits,
    /// It may serve.
    Goes,
    /// It serves.
    Serves,
}

/// The host that this one takes over from.
pub(super) struct Succession {
    pub(super) line: Rc<Wire>,
    pub(super) taken: Vec<Listen>,
    pub(super) sockets: SocketsToBe,
    pub(super) stage: SuccessionStage,
    pub(super) steered: SteeredState,
    /// The old host is gone.
    pub(super) is_alone: bool,
}

/// Sockets of the old host on which this one answers once it serves.
#[derive(Default)]
pub(super) struct SocketsToBe {
    pub(super) admin: Option<Bound>,
    pub(super) control: Option<Bound>,
    /// The file of the socket on which it takes commands until then, and the old host after that.
    pub(super) beside: Option<SocketFile>,
}

impl SocketsToBe {
    /// Those that the old host hands over.
    ///
    /// # Errors
    /// When one cannot be used.
    pub(super) fn take(predecessor: Option<&mut Predecessor>, config: &Config) -> Result<Self, BindError> {
        let Some(predecessor) = predecessor else { return Ok(Self::default()) };
        let admin = config.admin.as_ref().map(|listen| predecessor.take_admin(listen)).transpose()?.flatten();
        let control = predecessor.take_control(|path| control::is_own(config, path))?;
        Ok(Self { admin, control, beside: None })
    }

    /// Their files.
    pub(super) fn files(&self) -> impl Iterator<Item = &SocketFile> {
        self.admin.iter().chain(&self.control).filter_map(Bound::file)
    }
}

impl Succession {
    /// The line to the old host.
    pub(super) fn line(&self) -> Rc<Wire> {
        Rc::clone(&self.line)
    }
}

/// The host that this one takes over from, before there is an event loop.
pub(super) struct SuccessionToBe {
    pub(super) predecessor: Predecessor,
    pub(super) sockets: SocketsToBe,
}

impl SuccessionToBe {
    /// Begins to hear the old host. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn listen(self) -> Result<Succession, PrimaryError> {
        let (line, taken, steered) = self.predecessor.into_parts();
        let line = Rc::new(Wire::new(line).map_err(system("hear the host that runs"))?);
        let stage = SuccessionStage::Starts;
        Ok(Succession { line, taken, sockets: self.sockets, stage, steered, is_alone: false })
    }
}
