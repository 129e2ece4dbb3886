//! What the apps of a worker share besides CPU time and memory, and the part of it that each app has: one that takes all that it
//! can get leaves some to the others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use tokio::runtime::Handle;
use wasmhost_base::quota::{Account, Label, Quota};

use super::database_counts::DatabaseCounters;
use super::file_threads::FileThreads;
use super::store_counts::StoreCounters;

/// Outgoing requests of one worker at once.
pub(super) const REQUESTS_MAX: usize = 256;
/// Threads of one worker for look-ups of names. Further look-ups wait, at most their request's time to connect.
pub(super) const LOOK_UPS_MAX: usize = 32;
/// Connections that outgoing requests of one worker have left open for further ones.
pub(super) const KEPT_MAX: usize = 64;
/// Calls of one worker's guests that wait for stores and databases at once: as many as wait on the way to another process.
const STORE_CALLS_MAX: u64 = 256;
/// How much of the bodies of requests a worker holds in memory before their requests have an instance.
const REQUEST_BUFFERS_BYTES_MAX: u64 = 16 << 20;
/// How much of responses a worker holds in memory that their clients have not taken yet.
const RESPONSE_BUFFERS_BYTES_MAX: u64 = 32 << 20;

/// What the apps of a worker share a bounded amount of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedBound {
    /// Outgoing requests at once. A guest that gets none has an error.
    OutgoingRequests,
    /// Threads that look up names. A look-up waits for one, within its request's time to connect.
    NameLookUps,
    /// Connections that outgoing requests have left open, or share. Without room, the app's own that would be given up first is
    /// closed, or the further one after its request.
    KeptConnections,
    /// Bytes of request bodies that are held for slow clients. Without room, the guest reads from the connection.
    RequestBuffers,
    /// Bytes of responses that are held for slow clients. Without room, the guest waits for its client.
    ResponseBuffers,
    /// Calls that wait for stores of keys and values, and statements that wait for databases. A guest that gets none has an error.
    StoreCalls,
}

impl SharedBound {
    /// All of them, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [
        Self::OutgoingRequests,
        Self::NameLookUps,
        Self::KeptConnections,
        Self::RequestBuffers,
        Self::ResponseBuffers,
        Self::StoreCalls,
    ];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in log fields and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OutgoingRequests => "outgoing-requests",
            Self::NameLookUps => "name-look-ups",
            Self::KeptConnections => "kept-connections",
            Self::RequestBuffers => "request-buffers",
            Self::ResponseBuffers => "response-buffers",
            Self::StoreCalls => "store-calls",
        }
    }

    /// How much of it a worker has.
    const fn max(self) -> u64 {
        match self {
            Self::OutgoingRequests => REQUESTS_MAX as u64,
            Self::NameLookUps => LOOK_UPS_MAX as u64,
            Self::KeptConnections => KEPT_MAX as u64,
            Self::RequestBuffers => REQUEST_BUFFERS_BYTES_MAX,
            Self::ResponseBuffers => RESPONSE_BUFFERS_BYTES_MAX,
            Self::StoreCalls => STORE_CALLS_MAX,
        }
    }
}

/// The connection of an outgoing request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionUse {
    /// It was made for the request.
    New,
    /// Another request had left it open.
    Kept,
    /// None: another app of the host answers.
    Service,
}

impl ConnectionUse {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 3] = [Self::New, Self::Kept, Self::Service];

    /// The value of the metric's label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Kept => "kept",
            Self::Service => "service",
        }
    }
}

/// What is counted of an app on a worker.
#[derive(Debug, Clone, Copy)]
pub struct AppCounters {
    /// How often it got no more of what is shared, by [`SharedBound::index`].
    pub shortages: &'static [AtomicU64; SharedBound::ALL.len()],
    /// Outgoing requests that got a connection, in the order of [`ConnectionUse::ALL`].
    pub outgoing: &'static [AtomicU64; ConnectionUse::ALL.len()],
    /// Calls of stores.
    pub stores: StoreCounters,
    /// Statements of databases.
    pub databases: DatabaseCounters,
}

/// What the apps of one worker share.
pub struct WorkerBounds {
    quotas: [Arc<Quota>; SharedBound::ALL.len()],
}

impl Default for WorkerBounds {
    fn default() -> Self {
        Self { quotas: SharedBound::ALL.map(|bound| Quota::new(bound.max())) }
    }
}

impl WorkerBounds {
    /// So many apps may come to share it. A single one may take all.
    pub fn serve(&self, apps: usize) {
        self.quotas.iter().for_each(|quota| quota.keep_room_for_others(apps > 1));
    }
}

/// What an app has of it.
pub struct AppBounds {
    /// For its file system calls, once it has an instance that may make some; none if the system could not provide them.
    files: OnceLock<Option<FileThreads>>,
    accounts: [Arc<Account>; SharedBound::ALL.len()],
    /// None of an app that is tried.
    outgoing: Option<&'static [AtomicU64; ConnectionUse::ALL.len()]>,
    /// None of an app that is tried.
    stores: Option<StoreCounters>,
    /// None of an app that is tried.
    databases: Option<DatabaseCounters>,
}

impl AppBounds {
    /// Of the app of this name on the worker of this number.
    pub fn new(worker: &WorkerBounds, (number, app): (u16, &str), counters: AppCounters) -> Arc<Self> {
        let app: Arc<str> = app.into();
        let account = |bound: SharedBound| {
            let label = Label {
                app: Arc::clone(&app),
                worker: number,
                what: bound.name(),
                shortages: &counters.shortages[bound.index()],
            };
            Account::new(&worker.quotas[bound.index()], Some(label))
        };
        let accounts = SharedBound::ALL.map(account);
        let (outgoing, stores, databases) = (Some(counters.outgoing), Some(counters.stores), Some(counters.databases));
        Arc::new(Self { files: OnceLock::new(), accounts, outgoing, stores, databases })
    }

    /// Of an app that is tried, and shares nothing with others.
    pub fn alone() -> Arc<Self> {
        let quotas = WorkerBounds::default().quotas;
        let accounts = quotas.each_ref().map(|quota| Account::new(quota, None));
        Arc::new(Self { files: OnceLock::new(), accounts, outgoing: None, stores: None, databases: None })
    }

    /// The runtime whose threads do its file system calls; none: the worker's.
    pub(super) fn files(&self) -> Option<&Handle> {
        let made = self.files.get_or_init(|| {
            let made = FileThreads::start().inspect_err(|error| {
                tracing::error!(%error, "an app shares the threads of its worker for file system calls: it cannot have its own");
            });
            made.ok()
        });
        made.as_ref().map(FileThreads::handle)
    }

    /// Whether it has something of it, or had file system calls lately: they may go on when its instances have gone.
    pub fn is_in_use(&self) -> bool {
        let has_threads = self.files.get().is_some_and(|files| files.as_ref().is_some_and(FileThreads::are_there));
        has_threads || self.accounts.iter().any(|account| account.held() > 0)
    }

    /// Counts an outgoing request that has a connection.
    pub(super) fn count_request(&self, connection: ConnectionUse) {
        if let Some(counters) = self.outgoing {
            counters[connection as usize].fetch_add(1, Relaxed);
        }
    }

    /// Where its calls of stores are counted.
    pub(super) fn store_counters(&self) -> Option<StoreCounters> {
        self.stores
    }

    /// Where its statements of databases are counted.
    pub(super) fn database_counters(&self) -> Option<DatabaseCounters> {
        self.databases
    }

    /// What it has of this.
    pub fn account(&self, bound: SharedBound) -> &Arc<Account> {
        &self.accounts[bound.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::super::database_counts::DatabaseFailure;
    use super::super::store_counts::{StoreCall, StoreFailure};
    use super::*;

    #[test]
    fn the_index_of_a_bound_is_its_position() {
        for (position, bound) in SharedBound::ALL.into_iter().enumerate() {
            assert_eq!(bound.index(), position);
        }
    }

    #[test]
    fn an_app_that_takes_all_it_can_get_leaves_a_quarter_to_one_that_comes_later() {
        static SHORTAGES: [[AtomicU64; SharedBound::ALL.len()]; 2] =
            [const { [const { AtomicU64::new(0) }; SharedBound::ALL.len()] }; 2];
        static OUTGOING: [AtomicU64; ConnectionUse::ALL.len()] =
            [const { AtomicU64::new(0) }; ConnectionUse::ALL.len()];
        static CALLS: [AtomicU64; StoreCall::ALL.len()] = [const { AtomicU64::new(0) }; StoreCall::ALL.len()];
        static FAILURES: [AtomicU64; StoreFailure::ALL.len()] = [const { AtomicU64::new(0) }; StoreFailure::ALL.len()];
        static WAITED: AtomicU64 = AtomicU64::new(0);
        let stores = StoreCounters { calls: &CALLS, failures: &FAILURES, waited_us: &WAITED };
        static COUNT: AtomicU64 = AtomicU64::new(0);
        static FAILED: [AtomicU64; DatabaseFailure::ALL.len()] =
            [const { AtomicU64::new(0) }; DatabaseFailure::ALL.len()];
        let databases = DatabaseCounters { statements: &COUNT, failures: &FAILED, waited_us: &WAITED, cpu_us: &COUNT };
        let worker = WorkerBounds::default();
        worker.serve(2);
        let [greedy, modest] = [0, 1].map(|app| {
            let counters = AppCounters { shortages: &SHORTAGES[app], outgoing: &OUTGOING, stores, databases };
            AppBounds::new(&worker, (1, "app"), counters)
        });
        for bound in SharedBound::ALL {
            let piece = bound.max() / 16;
            let all_of = |app: &AppBounds| std::iter::from_fn(|| app.account(bound).take(piece)).collect::<Vec<_>>();
            let (taken, rest) = (all_of(&greedy), all_of(&modest));
            assert_eq!((taken.len(), rest.len()), (12, 4), "{bound:?}");
        }
    }
}
