//! Commands for a host that runs: the socket on which it takes them, what they ask, and the side of who asks.

pub mod client;
mod server;
mod socket;

use tokio::sync::oneshot;

use wasmhost_base::log::LevelFilter;
use wasmhost_sandbox::LoadError;

pub(crate) use self::server::Control;
pub(crate) use self::socket::{bind, bind_beside, is_own};
use crate::profile::{ProfileReply, ProfileWish};
use crate::schedules::LastRun;
use crate::upgrade::{Departure, LeftSchedules, UpgradeOffer};

/// What a command asks of the primary.
pub(crate) enum ControlOrder {
    /// To reload; the other end hears when it has begun. (It ends when the host stops meanwhile.)
    Reload(oneshot::Sender<()>),
    /// To load the component of this app again, with the settings that the host has; the other end hears what came of it.
    ReloadApp { app: String, ended: LoadEnd },
    /// To go back to this revision of an app, or the latest good one before that which is served; the other ends hear from which to
    /// which, or why not, and when all workers serve it.
    RollBack { app: String, to: Option<u64>, begun: oneshot::Sender<Result<(u64, u64), String>>, ended: LoadEnd },
    /// To give all requests of an app to the new revision that gets a share of them; the other ends hear its number, or why not, and
    /// when all workers serve it.
    Promote { app: String, begun: oneshot::Sender<Result<u64, String>>, ended: LoadEnd },
    /// To stop as after `SIGTERM`.
    Stop,
    /// To replace this worker, or all, one after another; the other end hears which, or why none, when the last one listens again.
    Restart { worker: Option<u16>, ended: oneshot::Sender<Result<Vec<u16>, String>> },
    /// To take samples of guests' stacks; the other end hears what was counted when that has ended, or why it was not begun.
    Profile(ProfileWish, ProfileReply),
    /// To have this many workers, of a group or of those that take connections; the other end hears which have come or gone, or why none,
    /// when the last one listens or has ended.
    Scale { workers: u16, group: Option<String>, ended: oneshot::Sender<Result<Vec<u16>, String>> },
    /// To have the logs show this level and all above; the other end hears which it was.
    LogLevel { level: LevelFilter, ended: oneshot::Sender<LevelFilter> },
    /// To say what an upgrade begins with, or why there is none.
    Upgrade(oneshot::Sender<Result<UpgradeOffer, String>>),
    /// To begin with nothing that the new host would do, too, which is ready; the other end hears whether it may serve, and then what
    /// is left of schedules: it cannot load these apps.
    Yield { failed: Vec<(String, String)>, agrees: oneshot::Sender<Result<LeftSchedules, String>> },
    /// To leave to the new host what it has taken, and to end when the requests are finished.
    Leave(Departure),
    /// To go on with what rests for an upgrade: it has failed, for this reason.
    UpgradeFailed(String),
    /// To run this schedule of this app; the other end hears how that ended, or why it was not begun.
    RunSchedule { app: String, schedule: String, ended: oneshot::Sender<Result<LastRun, String>> },
}

/// Where it is heard how a load ended; without an answer, another took its place, or the app is gone.
pub(crate) type LoadEnd = oneshot::Sender<Result<(), LoadError>>;

/// Orders that may wait for the primary.
pub(crate) const ORDERS_MAX: usize = 16;
