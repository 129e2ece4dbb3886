//! Orders for a worker's process that have not been sent yet. They are level-triggered: of each kind, and for each app, the
//! latest counts, so that what waits for a line that is full is bounded by the number of apps.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use wasmhost_base::log::LogNow;
use wasmhost_base::wire::{self, Descriptor, Sent, Wire};
use wasmhost_config::AppId;
use wasmhost_serve::worker::{ListenerRow, ProfileOrder, RevisionTag, Stage};

use super::protocol::{Code, ToWorker};
use crate::loader::CodeAtRest;

/// How long an order that the system has no room for (too many descriptors on their way, too little memory) is sent again.
const ORDER_WITHIN: Duration = Duration::from_secs(5);
const ORDER_AGAIN: Duration = Duration::from_millis(10);

/// What is said of an app.
#[derive(Debug, Clone)]
pub(super) enum GivenSupply {
    Code(CodeAtRest, RevisionTag),
    Refusal(Arc<str>),
}

/// How connections begin that come to the host's addresses, and what is needed for TLS, sealed.
#[derive(Debug)]
pub(crate) struct ListenersOrder {
    pub(super) rows: Vec<ListenerRow>,
    pub(super) tls: Vec<Arc<OwnedFd>>,
}

impl ListenersOrder {
    /// What goes with it.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = Sent<'_>> {
        self.tls.iter().enumerate().map(|(number, tls)| (Descriptor::Tls(number), tls.as_fd()))
    }
}

/// Orders that wait, each with the number by which it is known whether a later one has taken its place.
#[derive(Debug, Default)]
struct WaitingOrders {
    latest: u64,
    stage: Option<(u64, Stage)>,
    log: Option<(u64, LogNow)>,
    table: Option<(u64, Arc<OwnedFd>)>,
    listeners: Option<(u64, Arc<ListenersOrder>)>,
    apps: BTreeMap<AppId, (u64, GivenSupply)>,
    profile: Option<(u64, ProfileOrder)>,
    /// Answers to claims, in their order: each counts.
    claimed: Vec<bool>,
}

/// Most answers that wait: more than a process has connections.
const CLAIMED_MAX: usize = 1 << 20;
/// Most answers of a message.
const ANSWERS_MAX: usize = 1_000;

/// An order that is being sent.
enum WorkerOrder {
    Stage(Stage),
    Log(LogNow),
    Table(Arc<OwnedFd>),
    Listeners(Arc<ListenersOrder>),
    App(AppId, GivenSupply),
    Claimed(Vec<bool>),
    Profile(ProfileOrder),
}

/// Orders that have not been sent yet.
#[derive(Debug, Default)]
pub(super) struct UnsentOrders {
    waiting: RefCell<WaitingOrders>,
    changed: Notify,
    closed: Cell<bool>,
    /// Since when the system has had no room for the one that is first.
    short_since: Cell<Option<Instant>>,
}

impl UnsentOrders {
    /// Whether to go on.
    pub(super) fn stage(&self, stage: Stage) {
        self.change(|waiting, number| waiting.stage = Some((number, stage)));
    }

    /// What its log shows.
    pub(super) fn log(&self, shown: LogNow) {
        self.change(|waiting, number| waiting.log = Some((number, shown)));
    }

    /// Which apps there are.
    pub(super) fn table(&self, table: Arc<OwnedFd>) {
        self.change(|waiting, number| waiting.table = Some((number, table)));
    }

    /// How connections begin that come to the host's addresses.
    pub(super) fn listeners(&self, listeners: Arc<ListenersOrder>) {
        self.change(|waiting, number| waiting.listeners = Some((number, listeners)));
    }

    /// What is said of an app.
    pub(super) fn app(&self, app: AppId, given: GivenSupply) {
        self.change(|waiting, number| drop(waiting.apps.insert(app, (number, given))));
    }

    /// What to do for a profile of the host.
    pub(super) fn profile(&self, order: ProfileOrder) {
        self.change(|waiting, number| waiting.profile = Some((number, order)));
    }

    /// The next claims are answered so. False: too many answers wait.
    pub(super) fn claimed(&self, mut answers: Vec<bool>) -> bool {
        let has_room = self.waiting.borrow().claimed.len() + answers.len() <= CLAIMED_MAX;
        if has_room {
            self.change(|waiting, _| waiting.claimed.append(&mut answers));
        }
        has_room
    }

    /// The app is gone: nothing is said of it.
    pub(super) fn forget(&self, app: AppId) {
        drop(self.waiting.borrow_mut().apps.remove(&app));
    }

    /// Whether no more come.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// No more come.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    fn change(&self, change: impl FnOnce(&mut WaitingOrders, u64)) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.latest += 1;
        let number = waiting.latest;
        change(&mut waiting, number);
        self.changed.notify_one();
    }

    /// The one that goes first: whether to go on before which apps there are before what they are served with.
    fn first(&self) -> Option<(u64, WorkerOrder)> {
        let waiting = self.waiting.borrow();
        if let Some((number, stage)) = waiting.stage {
            return Some((number, WorkerOrder::Stage(stage)));
        }
        if let Some((number, shown)) = waiting.log {
            return Some((number, WorkerOrder::Log(shown)));
        }
        if let Some((number, listeners)) = &waiting.listeners {
            return Some((*number, WorkerOrder::Listeners(Arc::clone(listeners))));
        }
        if !waiting.claimed.is_empty() {
            return Some((0, WorkerOrder::Claimed(waiting.claimed.iter().copied().take(ANSWERS_MAX).collect())));
        }
        if let Some((number, order)) = &waiting.profile {
            return Some((*number, WorkerOrder::Profile(order.clone())));
        }
        if let Some((number, table)) = &waiting.table {
            return Some((*number, WorkerOrder::Table(Arc::clone(table))));
        }
        let (app, (number, given)) = waiting.apps.first_key_value()?;
        Some((*number, WorkerOrder::App(*app, given.clone())))
    }

    /// One was sent. A later one that has taken its place meanwhile stays.
    fn was_sent(&self, number: u64, order: &WorkerOrder) {
        let mut waiting = self.waiting.borrow_mut();
        match order {
            WorkerOrder::Stage(_) => drop(waiting.stage.take_if(|(at, _)| *at == number)),
            WorkerOrder::Log(_) => drop(waiting.log.take_if(|(at, _)| *at == number)),
            WorkerOrder::Table(_) => drop(waiting.table.take_if(|(at, _)| *at == number)),
            WorkerOrder::Listeners(_) => drop(waiting.listeners.take_if(|(at, _)| *at == number)),
            WorkerOrder::Profile(_) => drop(waiting.profile.take_if(|(at, _)| *at == number)),
            WorkerOrder::Claimed(answers) => waiting.claimed.drain(..answers.len()).for_each(drop),
            WorkerOrder::App(app, _) => {
                if waiting.apps.get(app).is_some_and(|(at, _)| *at == number) {
                    waiting.apps.remove(app);
                }
            }
        }
    }

    /// Sends the next one, when there is one. False: no more come. May be dropped at any moment; nothing is lost then.
    ///
    /// # Errors
    /// When the other side is gone, or the system has had no room for so long.
    pub(super) async fn send_next(&self, wire: &Wire) -> io::Result<bool> {
        loop {
            if self.closed.get() {
                return Ok(false);
            }
            let Some((number, order)) = self.first() else {
                self.changed.notified().await;
                continue;
            };
            match send(wire, &order).await {
                Ok(()) => {
                    self.was_sent(number, &order);
                    self.short_since.set(None);
                    return Ok(true);
                }
                Err(error) if wire::is_shortage(&error) => {
                    let since = self.short_since.get().unwrap_or_else(Instant::now);
                    self.short_since.set(Some(since));
                    if since.elapsed() >= ORDER_WITHIN {
                        return Err(error);
                    }
                    tokio::time::sleep(ORDER_AGAIN).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

async fn send(wire: &Wire, order: &WorkerOrder) -> io::Result<()> {
    if wasmhost_base::inject::goes_off("order") {
        return Err(rustix::io::Errno::TOOMANYREFS.into());
    }
    match order {
        // A worker begins with it.
        WorkerOrder::Stage(Stage::Serve) => Ok(()),
        WorkerOrder::Stage(Stage::Leave) => wire.send(&ToWorker::Leave, &[]).await,
        WorkerOrder::Stage(Stage::Drain) => wire.send(&ToWorker::Drain, &[]).await,
        WorkerOrder::Stage(Stage::Stop) => wire.send(&ToWorker::Stop, &[]).await,
        WorkerOrder::Log(shown) => wire.send(&ToWorker::Log(*shown), &[]).await,
        WorkerOrder::Table(table) => wire.send(&ToWorker::Table, &[(Descriptor::Table, table.as_fd())]).await,
        WorkerOrder::Listeners(listeners) => {
            let tls: Vec<Sent<'_>> = listeners.descriptors().collect();
            wire.send(&ToWorker::Listeners(listeners.rows.clone()), &tls).await
        }
        WorkerOrder::Profile(order) => wire.send(&ToWorker::Profile(order.clone()), &[]).await,
        WorkerOrder::Claimed(answers) => wire.send(&ToWorker::Claimed(answers.clone()), &[]).await,
        WorkerOrder::App(app, GivenSupply::Code(code, tag)) => {
            let (code, file) = code_of(*app, code, *tag);
            wire.send(&ToWorker::Supply(code), &file.into_iter().collect::<Vec<_>>()).await
        }
        WorkerOrder::App(app, GivenSupply::Refusal(reason)) => {
            let reason = wire::cut(reason).into();
            wire.send(&ToWorker::Unavailable { app: *app, reason }, &[]).await
        }
    }
}

/// Code as it is told of, and the descriptor that goes with it.
pub(super) fn code_of(app: AppId, code: &CodeAtRest, tag: RevisionTag) -> (Code, Option<Sent<'_>>) {
    let (stored, is_tried, file) = match code {
        CodeAtRest::Stored(stored) => (Some(stored.clone()), true, None),
        CodeAtRest::Found(stored) => (Some(stored.clone()), false, None),
        CodeAtRest::Held(file, _) => (None, true, Some((Descriptor::Code, file.as_fd()))),
    };
    (Code { app, stored, is_tried, tag }, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_line_that_is_full_the_latest_order_of_each_kind_and_app_waits() -> Result<(), Box<dyn std::error::Error>>
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let (one, other) = wire::pair()?;
            let (one, other) = (Wire::new(one)?, Wire::new(other)?);
            let mut full = 0;
            while one.try_send(&ToWorker::Call, &[]).is_ok() {
                full += 1;
            }
            let unsent = UnsentOrders::default();
            let refuse = |app, reason: &str| unsent.app(AppId(app), GivenSupply::Refusal(reason.into()));
            refuse(1, "old");
            refuse(2, "two");
            // It is being sent when another takes its place.
            assert!(tokio::time::timeout(Duration::from_millis(20), unsent.send_next(&one)).await.is_err());
            refuse(1, "new");
            refuse(3, "gone");
            unsent.forget(AppId(3));
            unsent.stage(Stage::Drain);
            for _ in 0..full {
                other.receive::<ToWorker>().await?;
            }
            let mut told = Vec::new();
            for _ in 0..3 {
                assert!(unsent.send_next(&one).await?);
                match other.receive::<ToWorker>().await? {
                    Some((ToWorker::Unavailable { app, reason }, _)) => told.push(format!("{} {reason}", app.0)),
                    Some((ToWorker::Drain, _)) => told.push("drain".to_owned()),
                    _ => return Err("another message".into()),
                }
            }
            assert_eq!(told, ["drain", "1 new", "2 two"]);
            unsent.close();
            assert!(!unsent.send_next(&one).await?);
            Ok(())
        })
    }

    #[test]
    fn what_was_replaced_while_it_was_sent_is_sent_again() {
        let unsent = UnsentOrders::default();
        unsent.app(AppId(1), GivenSupply::Refusal("old".into()));
        let (number, order) = unsent.first().expect("one");
        unsent.app(AppId(1), GivenSupply::Refusal("new".into()));
        unsent.was_sent(number, &order);
        let (number, order) = unsent.first().expect("the later one");
        unsent.was_sent(number, &order);
        assert!(unsent.first().is_none());
    }
}
