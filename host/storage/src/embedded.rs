//! Stores in a file of this process. Whoever reads looks into the file itself, in its own thread; whoever writes asks the
//! [committer](crate::committer) through a bounded queue.

use std::collections::HashMap;
use std::future::Future;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use crate::asked::{Answered, Wait, ask};
use crate::backend::KeyValue;
use crate::committer::{Committer, Granted, Order, Queued, SharedStores, WallClock, grant};
use crate::engine::Engine;
use crate::error::{OpenError, StoreError};
use crate::file::StoreFile;
use crate::operation::{NAME_BYTES_MAX, Operation, StoreQuota, StoreUsage};
use crate::read::{answer, names};
use crate::room::QuestionRoom;

/// Operations that wait for the committer, of all stores, without those of the transaction that it is in.
const QUEUE_MAX: usize = 1_024;
/// Places in the queue for what is no operation, such as new grants.
const RESERVED: usize = 16;

/// How the stores of a process are kept.
#[derive(Clone)]
pub struct StoreOptions {
    /// Memory for pages of the file, in bytes.
    pub cache_bytes: usize,
    /// How long a caller waits for an answer.
    pub patience: Duration,
    /// The time that expiries are measured by.
    pub clock: WallClock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, patience: Duration::from_secs(5), clock: Arc::new(system_clock) }
    }
}

/// The system's time, in milliseconds since 1970.
pub fn system_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The stores of this process. Clones are the same stores.
#[derive(Clone)]
pub struct Embedded {
    /// Empty until this process has the file; then it answers `Unavailable`.
    opened: Arc<OnceLock<OpenedStores>>,
    patience: Duration,
}

struct OpenedStores {
    shared: Arc<SharedStores>,
    orders: SyncSender<Order>,
}

/// The thread of the stores, which ends when the last [`Embedded`] is gone.
#[derive(Debug)]
pub struct Closing(JoinHandle<()>);

impl Closing {
    /// Whether the file is closed.
    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits until the file is closed. Blocks.
    pub fn wait(self) {
        // It catches the panics of the engine, and has none of its own to tell of.
        let _ = self.0.join();
    }
}

impl Embedded {
    /// Takes the file for this process, compares all of it with its checksums, and starts the thread that writes. These stores
    /// may be asked; what others hold stays in the file.
    ///
    /// # Errors
    /// `InUse`, `Format`, `Damaged`, `Name`, `Io`.
    pub fn start(
        file: StoreFile,
        stores: Vec<(String, StoreQuota)>,
        options: StoreOptions,
    ) -> Result<(Self, Closing), OpenError> {
        let embedded = Self::unopened(options.patience);
        let closing = embedded.open(file, stores, options)?;
        Ok((embedded, closing))
    }

    /// Stores whose file another process still has: until [`Self::open`] they answer `Unavailable`. `patience`: how long a
    /// caller waits for an answer.
    pub fn unopened(patience: Duration) -> Self {
        Self { opened: Arc::default(), patience }
    }

    /// Takes the file, for this and its clones, as [`Self::start`] does. To be called once.
    ///
    /// # Errors
    /// As [`Self::start`]; `InUse` also where this was called before.
    pub fn open(
        &self,
        file: StoreFile,
        stores: Vec<(String, StoreQuota)>,
        options: StoreOptions,
    ) -> Result<Closing, OpenError> {
        let cache_bytes = options.cache_bytes;
        self.open_over(Engine::open_file(file, cache_bytes)?, stores, options.clock)
    }

    #[cfg(test)]
    pub(crate) fn start_over(
        engine: Engine,
        stores: Vec<(String, StoreQuota)>,
        options: StoreOptions,
    ) -> Result<(Self, Closing), OpenError> {
        let embedded = Self::unopened(options.patience);
        let closing = embedded.open_over(engine, stores, options.clock)?;
        Ok((embedded, closing))
    }

    fn open_over(
        &self,
        engine: Engine,
        stores: Vec<(String, StoreQuota)>,
        clock: WallClock,
    ) -> Result<Closing, OpenError> {
        check_names(&stores)?;
        let file = engine.path().to_path_buf();
        let grants = RwLock::new(HashMap::new());
        let shared = Arc::new(SharedStores { engine, clock, grants, unanswered: Arc::default() });
        grant(&shared, stores).map_err(|error| match error {
            StoreError::Damaged { reason, .. } => OpenError::Damaged { file: file.clone(), reason },
            other => OpenError::Io { file: file.clone(), source: std::io::Error::other(other.to_string()) },
        })?;
        let (orders, receiver) = sync_channel(QUEUE_MAX);
        let committer = Committer::new(Arc::clone(&shared), receiver);
        if self.opened.set(OpenedStores { shared, orders }).is_err() {
            return Err(OpenError::InUse { file });
        }
        let thread = std::thread::Builder::new().name("stores".to_owned()).spawn(move || committer.run());
        thread.map(Closing).map_err(|source| OpenError::Io { file, source })
    }

    fn opened(&self) -> Result<&OpenedStores, StoreError> {
        self.opened.get().ok_or(StoreError::Unavailable)
    }

    /// From now on these stores may be asked, and no others, as after a reload. What others hold stays in the file.
    ///
    /// # Errors
    /// `Busy`, `Invalid` (a name), `Damaged`, `Io`.
    pub async fn grant(&self, stores: Vec<(String, StoreQuota)>) -> Result<(), StoreError> {
        check_names(&stores).map_err(|_| StoreError::Invalid)?;
        let (done, wait) = oneshot::channel();
        self.order(Order::Grant { stores, done })?;
        match tokio::time::timeout(self.patience, wait).await {
            Ok(Ok(granted)) => granted,
            Ok(Err(_)) => Err(StoreError::Unavailable),
            Err(_) => Err(StoreError::Busy),
        }
    }

    /// Closes the file when what waits is done, whoever still has a clone of this: from then on it answers `Unavailable`.
    pub fn close(&self) {
        // Without room, the file is closed when the process ends, and the next start looks at it for longer.
        let _ = self.order(Order::Close);
    }

    /// Answers an operation that changes nothing, at once: it waits for no writer, but blocks for as long as the disk takes to
    /// give pages that are not in memory.
    ///
    /// # Errors
    /// As [`KeyValue::perform`].
    pub fn look(&self, store: &str, operation: &Operation) -> Answered {
        let OpenedStores { shared, .. } = self.opened()?;
        let store = self.granted(store)?;
        operation.check(&store.quota)?;
        let now = (shared.clock)();
        let told = shared.engine.read(|reading| answer(reading, store.place(), operation, now));
        if matches!(told, Err(StoreError::Damaged { .. } | StoreError::Io { .. })) {
            // If there is no room, whoever writes next meets the same error.
            let _ = self.order(Order::Look);
        }
        told
    }

    /// The names of all stores that the file has, granted or not. Blocks, as [`Self::look`].
    ///
    /// # Errors
    /// `Damaged`, `Io`, `Busy`, `Unavailable`.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        self.opened()?.shared.engine.read(names)
    }

    /// What a store that may be asked holds, as of the last transaction. Does not wait for the disk.
    pub fn usage_known(&self, store: &str) -> Option<StoreUsage> {
        self.opened.get()?.shared.granted(store).map(|store| store.usage())
    }

    fn granted(&self, name: &str) -> Result<Arc<Granted>, StoreError> {
        self.opened()?.shared.granted(name).ok_or_else(|| StoreError::NoSuchStore { name: name.to_owned() })
    }

    /// Queues an operation that changes something.
    fn queue(&self, store: &str, operation: Operation) -> Result<Wait, StoreError> {
        let store = self.granted(store)?;
        operation.check(&store.quota)?;
        let OpenedStores { shared, orders } = self.opened()?;
        let unanswered = (&store.unanswered, &shared.unanswered);
        let room = QuestionRoom::take(unanswered, operation.bytes(), QUEUE_MAX - RESERVED)?;
        let (asked, wait) = ask(true);
        orders.try_send(Order::Operate(Queued { store, operation, asked, room })).map(|()| wait).map_err(not_taken)
    }

    /// Carries out an operation that changes something.
    pub(crate) fn change(&self, store: &str, operation: Operation) -> impl Future<Output = Answered> + Send + use<> {
        let (queued, patience) = (self.queue(store, operation), self.patience);
        async move { queued?.told(patience).await }
    }

    fn order(&self, order: Order) -> Result<(), StoreError> {
        self.opened()?.orders.try_send(order).map_err(not_taken)
    }
}

impl KeyValue for Embedded {
    async fn perform(&self, store: &str, operation: Operation) -> Answered {
        if operation.changes() { self.change(store, operation).await } else { self.look(store, &operation) }
    }
}

/// An order that was not taken. (What is sent by value gives back its room.)
#[expect(clippy::needless_pass_by_value, reason = "an adapter for `map_err`")]
fn not_taken(error: TrySendError<Order>) -> StoreError {
    match error {
        TrySendError::Full(_) => StoreError::Busy,
        TrySendError::Disconnected(_) => StoreError::Unavailable,
    }
}

fn check_names(stores: &[(String, StoreQuota)]) -> Result<(), OpenError> {
    let wrong = stores.iter().find(|(name, _)| name.is_empty() || name.len() > NAME_BYTES_MAX);
    wrong.map_or(Ok(()), |(name, _)| Err(OpenError::Name { name: name.clone(), max: NAME_BYTES_MAX }))
}
