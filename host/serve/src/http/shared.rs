//! What all tasks of a worker share: its apps, its alarms, its counts, and how far it is from its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Authority;
use tokio::sync::Notify;

use wasmhost_base::quota::Quota;
use wasmhost_base::trace::Tracer;
use wasmhost_config::Config;

use super::forward::connections::ForwardConnections;
use super::forward::share::Shares;
use super::gzip::Gzip;
use super::lines::Lines;
use super::service_desk::ServiceDesk;
use crate::alarms::Alarms;
use crate::crash::Crash;
use crate::metrics::WorkerMetrics;
use crate::net::{Handshakes, ListenerId, ListenerSetup, Listeners};
use crate::pool::WorkerApps;
use crate::worker_id::WorkerId;

/// How long a connection waits for the word of its address.
const LISTENER_WITHIN: Duration = Duration::from_secs(2);

/// What a worker's thread shares with its connections and requests. Never leaves the thread.
pub(crate) struct WorkerShared {
    pub(crate) id: WorkerId,
    pub(crate) apps: Rc<WorkerApps>,
    pub(crate) alarms: Rc<Alarms>,
    pub(crate) metrics: &'static WorkerMetrics,
    pub(crate) config: Arc<Config>,
    /// The host stops: no request after the present ones.
    pub(crate) draining: Cell<bool>,
    /// The worker takes no more connections, and those that it has end with their next answer; as soon as `draining` is true, too.
    pub(crate) leaving: Cell<bool>,
    /// The host waits no longer: requests that are in flight now are broken off.
    pub(crate) stopping: Cell<bool>,
    pub(crate) requests: Cell<u64>,
    pub(crate) lines: Lines,
    /// Traces requests, if anybody wants that.
    pub(crate) tracer: Option<Tracer>,
    /// Where the calls of its apps by each other go.
    pub(crate) services: ServiceDesk,
    /// To workers of groups.
    pub(crate) connections: ForwardConnections,
    /// How many requests are under way to each group.
    pub(crate) shares: Shares,
    /// Stands for the authority where a client names none.
    pub(crate) authority: Authority,
    /// How connections begin that come to the host's addresses.
    pub(crate) listeners: RefCell<Arc<Listeners>>,
    pub(crate) listeners_changed: Notify,
    /// `draining` is true from now on.
    pub(crate) drain_begins: Notify,
    pub(crate) handshakes: Handshakes,
    /// What the responses take that clients of HTTP/2 have not read, in bytes.
    pub(crate) unread: Arc<Quota>,
    /// Tasks that outlive their connection: work after a response, bodies that nobody reads.
    pub(crate) tasks: Cell<usize>,
    /// For answers that are compressed all at once, one after the other.
    pub(crate) gzip: RefCell<Option<Gzip>>,
    /// What the drain waits for may have come: a connection or a task ended.
    pub(crate) changed: Notify,
    /// Where a task that panics is told of.
    pub(crate) crash: Rc<Crash>,
}

impl WorkerShared {
    /// The next request's number, unique in this worker.
    pub(crate) fn next_request(&self) -> u64 {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        number
    }

    /// How connections of this listener begin, once the worker hears of it: a connection may come before the word of a new
    /// address.
    pub(crate) async fn listener_in_time(&self, id: ListenerId) -> Option<Arc<ListenerSetup>> {
        let heard = async {
            loop {
                let changed = self.listeners_changed.notified();
                if let Some(setup) = self.listeners.borrow().get(id).cloned() {
                    return setup;
                }
                changed.await;
            }
        };
        tokio::time::timeout(LISTENER_WITHIN, heard).await.ok()
    }

    /// Waits until the host has been stopping for so long.
    pub(crate) async fn drained_for(&self, time: Duration) {
        let begins = self.drain_begins.notified();
        if !self.draining.get() {
            begins.await;
        }
        tokio::time::sleep(time).await;
    }

    /// Runs a task that the drain waits for.
    pub(crate) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let worker = Rc::clone(self);
        worker.tasks.set(worker.tasks.get() + 1);
        let task = Box::pin(task);
        tokio::task::spawn_local(async move {
            worker.crash.watch(task).await;
            worker.tasks.set(worker.tasks.get() - 1);
            if worker.leaving.get() {
                worker.changed.notify_one();
            }
        });
    }
}
