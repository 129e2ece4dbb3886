//! The pools of a worker's instances, one for each app (`apps`). A pool gives one to each request, makes new ones while others wait, queues requests when no
//! more may be made, and replaces each instance that had to go. Everything here runs on the worker's thread.

mod apps;
mod common;
mod health;
mod holders;
mod patience;
mod queue;
mod ready;
mod seat;
mod sharing;
mod slot;
mod supply;
mod take;
mod trim;

pub(crate) use self::apps::{Apps, Parts};
pub(crate) use self::common::{Common, Notice};
pub(crate) use self::holders::Holder;
pub(crate) use self::seat::Seat;
pub(crate) use self::slot::Slot;
pub use self::supply::Supply;
pub(crate) use self::take::Refusal;
