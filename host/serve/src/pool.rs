//! The pools of a worker's instances, one for each app (`apps`). A pool gives an instance to each request, makes new ones while
//! others wait, queues requests when no more may be made, and replaces each instance that had to go. Everything here runs on
//! the worker's thread.

mod apps;
mod codel;
mod common;
mod fallback;
mod falling_back;
mod fault_budgets;
mod faults;
mod health;
mod holders;
mod instances;
mod lease;
mod lingering;
mod queue;
mod ready;
mod sharing;
mod shortage;
mod supply;
mod take;
mod trim;

pub use self::apps::AWAKE_MAX;
pub(crate) use self::apps::{Elsewhere, Route, WorkerApps, WorkerParts};
pub(crate) use self::common::{Common, PoolNotice};
pub(crate) use self::holders::Holder;
pub(crate) use self::instances::Pool;
pub(crate) use self::lease::Lease;
pub use self::supply::{RevisionTag, Supply};
pub(crate) use self::take::{Refusal, TakeNotes};
