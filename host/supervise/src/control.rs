//! Commands for a host that runs: the socket on which it takes them, what they ask, and the side of who asks.

pub mod client;
mod server;
mod socket;

use tokio::sync::oneshot;

pub(crate) use self::server::Control;
pub(crate) use self::socket::{bind, bind_beside, is_own};
use crate::schedules::LastRun;
use crate::upgrade::{Departure, UpgradeOffer};

/// What a command asks of the primary.
pub(crate) enum ControlOrder {
    /// To reload; the other end hears when it has begun. (It ends when the host stops meanwhile.)
    Reload(oneshot::Sender<()>),
    /// To stop as after `SIGTERM`.
    Stop,
    /// To replace this worker, or all, one after another; the other end hears which, or why none, when the last one listens again.
    Restart { worker: Option<u16>, ended: oneshot::Sender<Result<Vec<u16>, String>> },
    /// To have this many workers, of a group or of those that take connections; the other end hears which have come or gone, or why none,
    /// when the last one listens or has ended.
    Scale { workers: u16, group: Option<String>, ended: oneshot::Sender<Result<Vec<u16>, String>> },
    /// To say what an upgrade begins with, or why there is none.
    Upgrade(oneshot::Sender<Result<UpgradeOffer, String>>),
    /// To begin with nothing that the new host would do, too, which is ready; the other end hears whether it may serve: it cannot
    /// load these apps.
    Yield { failed: Vec<(String, String)>, agrees: oneshot::Sender<Result<(), String>> },
    /// To leave to the new host what it has taken, and to end when the requests are finished.
    Leave(Departure),
    /// To go on with what rests for an upgrade: it has failed.
    UpgradeFailed,
    /// To run this schedule of this app; the other end hears how that ended, or why it was not begun.
    RunSchedule { app: String, schedule: String, ended: oneshot::Sender<Result<LastRun, String>> },
}

/// Orders that may wait for the primary.
pub(crate) const ORDERS_MAX: usize = 16;
