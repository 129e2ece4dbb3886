//! What the primary orders of a worker: all that it needs to start, and then which apps to serve with what, and whether to go
//! on. Orders are level-triggered: of each kind, and for each app, the latest counts, and a worker that was busy meanwhile
//! has missed nothing. So what waits is bounded by the number of apps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::uri::Authority;
use tokio::sync::Notify;

use wasmhost_base::trace::SpanQueue;
use wasmhost_config::{AppId, AppTable, Config};
use wasmhost_sandbox::Sandbox;

use super::profiling::ProfileOrder;
use crate::net::inbox::Admission;
use crate::net::{ListenerId, Listeners};
use crate::pool::Supply;
use crate::scoreboard::{HostScoreboard, Scoreboard};
use crate::worker_id::WorkerId;

/// All that a worker needs to start.
pub struct WorkerSetup {
    /// Its number.
    pub id: WorkerId,
    /// The group whose apps it serves; none: it takes clients' connections, and serves the apps without a group.
    pub group: Option<Arc<str>>,
    /// The settings of the host.
    pub config: Arc<Config>,
    /// Its counts and its sign of running guest code, kept over respawns.
    pub scoreboard: &'static Scoreboard,
    /// What all workers share.
    pub host: &'static HostScoreboard,
    /// What the guests of this process share.
    pub sandbox: Arc<Sandbox>,
    /// The address that stands for the authority where a client names none.
    pub authority: Authority,
    /// How connections begin that come to the host's addresses.
    pub listeners: Arc<Listeners>,
    /// Sockets that only this worker listens on, with `--balance kernel`, and the capacity that their connections take from.
    pub own_listeners: Vec<(ListenerId, TcpListener)>,
    /// See `own_listeners`.
    pub admission: Arc<Admission>,
    /// Where spans of requests go, if these are traced.
    pub spans: Option<Arc<SpanQueue>>,
}

/// How long connections on which no request is under way are kept open for the next one, when a worker leaves.
pub(super) const LEAVES_WITHIN: Duration = Duration::from_secs(2);

/// Whether a worker goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Take connections.
    Serve,
    /// Take no more connections, and end when those that there are have ended: each is told with its next answer that it is the
    /// last, and those without a request get two seconds for it. Then as `Drain`.
    Leave,
    /// Finish what is in flight and end.
    Drain,
    /// End at once: the drain's time is over, or a second signal came.
    Stop,
}

/// The latest orders that a worker has not seen yet.
pub struct Orders {
    /// Whether to go on.
    pub stage: Stage,
    /// The apps and their routes, if they have changed. Apps that are not in it any more are not served any more.
    pub table: Option<Arc<AppTable>>,
    /// How connections begin that come to the host's addresses, if that has changed.
    pub listeners: Option<Arc<Listeners>>,
    /// What was ordered for apps. Others stay as they are.
    pub supplies: BTreeMap<AppId, Supply>,
    /// Apps that lack memory on another worker: for each, an app that nobody uses is to go to sleep.
    pub make_room_for: BTreeSet<AppId>,
    /// What to do for a profile of the host, if that has changed.
    pub profile: Option<ProfileOrder>,
}

/// What both ends have in common.
struct SharedOrders {
    /// `Orders::stage` stays; the rest is taken. None: the sender has gone.
    latest: Mutex<Option<Orders>>,
    changed: Notify,
}

/// The primary's end. Dropped, it ends the worker.
pub struct OrderSender(Arc<SharedOrders>);

/// The worker's end.
pub struct OrderReceiver(Arc<SharedOrders>);

/// The two ends, with the first orders.
pub fn orders(table: Arc<AppTable>, stage: Stage, supplies: BTreeMap<AppId, Supply>) -> (OrderSender, OrderReceiver) {
    let latest = Mutex::new(Some(Orders { table: Some(table), supplies, ..Orders::to(stage) }));
    let shared = Arc::new(SharedOrders { latest, changed: Notify::new() });
    shared.changed.notify_one();
    (OrderSender(Arc::clone(&shared)), OrderReceiver(shared))
}

impl Orders {
    /// Only to go on so.
    pub(super) fn to(stage: Stage) -> Self {
        Self {
            stage,
            table: None,
            listeners: None,
            supplies: BTreeMap::new(),
            make_room_for: BTreeSet::new(),
            profile: None,
        }
    }
}

impl SharedOrders {
    fn change(&self, change: impl FnOnce(&mut Orders)) {
        if let Some(orders) = self.latest.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            change(orders);
        }
        self.changed.notify_one();
    }
}

impl OrderSender {
    /// Whether to go on. A later stage is never taken back.
    pub fn stage(&self, stage: Stage) {
        self.0.change(|orders| orders.stage = orders.stage.later(stage));
    }

    /// Which apps there are, and their routes.
    pub fn table(&self, table: Arc<AppTable>) {
        self.0.change(|orders| orders.table = Some(table));
    }

    /// How connections begin that come to the host's addresses.
    pub fn listeners(&self, listeners: Arc<Listeners>) {
        self.0.change(|orders| orders.listeners = Some(listeners));
    }

    /// What to serve an app with.
    pub fn supply(&self, app: AppId, supply: Supply) {
        self.0.change(|orders| {
            let supply = supply.after(orders.supplies.remove(&app));
            drop(orders.supplies.insert(app, supply));
        });
    }

    /// Another worker lacks memory for this app.
    pub fn make_room_for(&self, app: AppId) {
        self.0.change(|orders| orders.make_room_for.extend([app]));
    }

    /// What to do for a profile of the host.
    pub fn profile(&self, order: ProfileOrder) {
        self.0.change(|orders| orders.profile = Some(order));
    }

    /// The app is gone: what was ordered for it and not seen yet is void.
    pub fn forget(&self, app: AppId) {
        self.0.change(|orders| drop(orders.supplies.remove(&app)));
    }
}

impl Drop for OrderSender {
    fn drop(&mut self) {
        *self.0.latest.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.0.changed.notify_one();
    }
}

impl OrderReceiver {
    /// The orders that have come since the last time, once there are some; none when nobody gives any more.
    pub async fn changed(&mut self) -> Option<Orders> {
        self.0.changed.notified().await;
        let mut latest = self.0.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = latest.as_mut()?;
        let stage = orders.stage;
        Some(std::mem::replace(orders, Orders::to(stage)))
    }
}

impl Stage {
    /// The one of both that comes later.
    fn later(self, other: Self) -> Self {
        match (self, other) {
            (Self::Stop, _) | (_, Self::Stop) => Self::Stop,
            (Self::Drain, _) | (_, Self::Drain) => Self::Drain,
            (Self::Leave, _) | (_, Self::Leave) => Self::Leave,
            (Self::Serve, Self::Serve) => Self::Serve,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_kind_and_app_the_latest_counts_and_is_seen_once() -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let (sender, mut receiver) = orders(Arc::default(), Stage::Serve, BTreeMap::new());
        let reason = |text: &str| Supply::Unavailable(text.into());
        sender.supply(AppId(1), reason("old"));
        sender.supply(AppId(2), reason("two"));
        sender.supply(AppId(1), reason("new"));
        sender.supply(AppId(3), reason("gone"));
        sender.forget(AppId(3));
        sender.stage(Stage::Stop);
        sender.stage(Stage::Drain);
        sender.profile(ProfileOrder::Begin { number: 1, app: None });
        sender.profile(ProfileOrder::End { number: 1 });
        [1, 2, 1].into_iter().for_each(|app| sender.make_room_for(AppId(app)));
        let mut changed = || runtime.block_on(receiver.changed());
        let first = changed().map(|orders| {
            let reasons = orders.supplies.into_values().map(|supply| match supply {
                Supply::Unavailable(reason) => reason.to_string(),
                Supply::Guest(..) => String::new(),
            });
            let room = orders.make_room_for.len();
            (orders.stage, orders.table.is_some(), reasons.collect::<Vec<_>>(), room, orders.profile)
        });
        let profile = Some(ProfileOrder::End { number: 1 });
        assert_eq!(first, Some((Stage::Stop, true, vec!["new".to_owned(), "two".to_owned()], 2, profile)));
        sender.table(Arc::default());
        assert!(changed().is_some_and(|orders| {
            orders.table.is_some()
                && orders.supplies.is_empty()
                && orders.make_room_for.is_empty()
                && orders.profile.is_none()
        }));
        drop(sender);
        assert!(changed().is_none());
        Ok(())
    }
}
