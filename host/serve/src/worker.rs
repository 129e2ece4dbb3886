//! A worker: one event loop with its connections and instances, in a thread of the host or in the main thread of a process.
//! `orders` and `events` are what the primary and a worker tell each other, `handle` starts a worker as a thread, [`thread`]
//! is what runs in it.

mod events;
mod handle;
mod orders;
mod profiling;
pub mod thread;

pub use self::events::{Applied, Events, Exit, SentProfile, WorkerEvent};
pub use self::handle::ThreadHandle;
pub use self::orders::{OrderReceiver, OrderSender, Orders, Stage, WorkerSetup, orders};
pub use self::profiling::ProfileOrder;
pub use crate::fault_report::{FaultReport, ReportedField, ReportedOutput, ReportedRequest, SentReport};
pub use crate::http::{ReplayedAnswer, ReplayedRequest, RunEnd, RunOutcome, ScheduledRequest};
pub use crate::instance_fault::InstanceFault;
pub use crate::net::{ListenerId, ListenerRow, Listeners, Peer, inbox};
pub use crate::pool::{AWAKE_MAX, RevisionTag, Supply};
pub use crate::worker_id::WorkerId;
