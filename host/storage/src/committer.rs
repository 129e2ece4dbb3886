//! The thread that alone changes the file. It does all that waits for it in one transaction, so that many writers share one wait
//! for the disk, and answers when the disk has it. It also removes what has expired, and opens the file again after an error.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmhost_base::throttle::Throttle;

use crate::asked::{Answered, Asked};
use crate::engine::{BATCH, Engine, META, TransactionError};
use crate::error::StoreError;
use crate::operation::{Operation, StoreQuota, StoreUsage};
use crate::read::{StorePlace, usage};
use crate::room::{QuestionRoom, WaitingQuestions};
use crate::write::Writing;

/// On a full disk, guests can have as many fail as they like.
static FAILURES: Throttle = Throttle::new(Duration::from_secs(1));

/// Most operations that share a transaction.
const BATCH_MAX: usize = 256;
/// A transaction takes no more operations when it has so many bytes of them.
const BATCH_BYTES: usize = 16 << 20;
/// For at most so long a transaction waits for those who were in the last one and may ask again.
const GATHER_MAX: Duration = Duration::from_millis(2);
/// Entries that one sweep removes at most, so that writers do not wait for long.
const SWEEP_ROWS_MAX: usize = 1_000;
/// Time between two sweeps.
const SWEEP_PAUSE: Duration = Duration::from_millis(100);
/// Time between two attempts to open the file after an error. A damaged file is not tried again.
const OPEN_PAUSE: Duration = Duration::from_millis(500);
/// A clock that was set is noticed after this time.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// The time, in milliseconds since 1970. Tests and deterministic runs have one of their own.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A store that may be asked.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) name: String,
    pub(crate) number: u32,
    pub(crate) quota: StoreQuota,
    pub(crate) unanswered: Arc<WaitingQuestions>,
    /// What it holds, as of the last transaction: for those who must not wait for the disk.
    usage: Mutex<StoreUsage>,
}

impl Granted {
    pub(crate) fn usage(&self) -> StoreUsage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, usage: StoreUsage) {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner) = usage;
    }

    pub(crate) fn place(&self) -> StorePlace<'_> {
        StorePlace { name: &self.name, number: self.number }
    }
}

/// The stores that may be asked, by name. The committer writes it, everybody reads it.
pub(crate) type GrantedStores = RwLock<HashMap<String, Arc<Granted>>>;

/// An operation that changes something.
pub(crate) struct Queued {
    pub(crate) store: Arc<Granted>,
    pub(crate) operation: Operation,
    pub(crate) asked: Asked,
    pub(crate) room: QuestionRoom,
}

impl Queued {
    fn tell(self, answered: Answered) {
        // Whoever hears it may ask again at once.
        drop(self.room);
        self.asked.tell(answered);
    }
}

/// What the committer is to do.
pub(crate) enum Order {
    /// An operation that changes something.
    Operate(Queued),
    /// From now on these stores may be asked, and no others.
    Grant { stores: Vec<(String, StoreQuota)>, done: oneshot::Sender<Result<(), StoreError>> },
    /// A reader met an error: the file may have to be opened again.
    Look,
    /// The host ends: the file is closed, whoever could still ask.
    Close,
}

/// What the committer shares with those who ask.
pub(crate) struct SharedStores {
    pub(crate) engine: Engine,
    pub(crate) clock: WallClock,
    pub(crate) grants: GrantedStores,
    pub(crate) unanswered: Arc<WaitingQuestions>,
}

impl SharedStores {
    pub(crate) fn granted(&self, name: &str) -> Option<Arc<Granted>> {
        self.grants.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// These stores hold this now.
    fn hold(&self, usage: Vec<(String, StoreUsage)>) {
        for (name, usage) in usage {
            if let Some(store) = self.granted(&name) {
                store.holds(usage);
            }
        }
    }
}

/// The state of the thread.
pub(crate) struct Committer {
    shared: Arc<SharedStores>,
    orders: Receiver<Order>,
    last_batch: usize,
    last_commit: Duration,
    /// Not before this expiry is there something to sweep.
    next_expiry: Option<u64>,
    next_sweep: Instant,
    /// Why the file is closed, and when to open it again; none: not before the next start.
    broken: Option<(StoreError, Option<Instant>)>,
    is_closing: bool,
    /// With which store the next sweep begins: what one of them leaves of a sweep is the others'.
    sweep_from: usize,
}

impl Committer {
    /// Not running yet.
    pub(crate) fn new(shared: Arc<SharedStores>, orders: Receiver<Order>) -> Self {
        let now = Instant::now();
        Self {
            shared,
            orders,
            last_batch: 0,
            last_commit: Duration::ZERO,
            // What is in the file already.
            next_expiry: Some(0),
            next_sweep: now,
            broken: None,
            is_closing: false,
            sweep_from: 0,
        }
    }

    /// Runs until nobody can ask any more, or the host ends, and closes the file.
    pub(crate) fn run(mut self) {
        while !self.is_closing {
            match self.orders.recv_timeout(self.sleep()) {
                Ok(order) => self.begin(order),
                Err(RecvTimeoutError::Timeout) => self.sweep(),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.shared.engine.close();
    }

    fn sleep(&self) -> Duration {
        let Some(expiry) = self.next_expiry else { return SLEEP_MAX };
        let until_expiry = Duration::from_millis(expiry.saturating_sub((self.shared.clock)()));
        until_expiry.max(self.next_sweep.saturating_duration_since(Instant::now())).min(SLEEP_MAX)
    }

    /// Carries out an order, with all that can be done in the same transaction.
    fn begin(&mut self, first: Order) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut last = Some(first);
        let gathering = Instant::now();
        while let Some(order) = last.take() {
            match order {
                Order::Operate(queued) if queued.asked.begin() => {
                    bytes += queued.operation.bytes();
                    batch.push(queued);
                }
                // Nobody waits for it.
                Order::Operate(queued) => queued.tell(Err(StoreError::Busy)),
                other => {
                    self.commit(std::mem::take(&mut batch));
                    self.obey(other);
                    return;
                }
            }
            if batch.len() < BATCH_MAX && bytes < BATCH_BYTES {
                let wait = gather_for(self.last_batch, batch.len(), self.last_commit);
                last = self.orders.recv_timeout(wait.saturating_sub(gathering.elapsed())).ok();
            }
        }
        self.commit(batch);
        if self.next_sweep <= Instant::now() && self.next_expiry.is_some_and(|next| next <= (self.shared.clock)()) {
            self.sweep();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Grant { stores, done } => {
                let _ = done.send(grant(&self.shared, stores));
                // Of what has expired in them nobody knows yet.
                self.next_expiry = Some(0);
            }
            Order::Look => {
                let look = self.shared.engine.read(|reading| Ok(reading.open_table(META)?.get(BATCH)?.is_some()));
                if let Err(error) = look {
                    self.broken.get_or_insert((error, Some(Instant::now())));
                    let _ = self.is_usable();
                }
            }
            Order::Close => self.is_closing = true,
            Order::Operate(_) => {}
        }
    }

    /// Does all of it in one transaction, and answers.
    fn commit(&mut self, batch: Vec<Queued>) {
        if batch.is_empty() {
            return;
        }
        if let Err(error) = self.is_usable() {
            batch.into_iter().for_each(|queued| queued.tell(Err(error.clone())));
            return;
        }
        self.last_batch = batch.len();
        let now = (self.shared.clock)();
        let begun = Instant::now();
        let mut told_in_it = Vec::with_capacity(batch.len());
        let mut number = None;
        let engine = &self.shared.engine;
        let committed = engine.write(|transaction| {
            let mut writing = Writing::begin(&transaction, now)?;
            for Queued { store, operation, .. } in &batch {
                match writing.apply(store.place(), &store.quota, operation) {
                    Err(trouble @ TransactionError::Engine(_)) => return Err(trouble),
                    applied => told_in_it.push(applied.map_err(|trouble| engine.said(trouble))),
                }
            }
            let next_expiry = writing.next_expiry;
            let written = writing.end()?;
            number = Some(written.number);
            transaction.commit()?;
            Ok((next_expiry, written.usage))
        });
        match committed {
            Ok((next, usage)) => {
                self.shared.hold(usage);
                self.next_expiry = self.next_expiry.into_iter().chain(next).min();
                for (queued, told) in batch.into_iter().zip(told_in_it) {
                    queued.tell(told);
                }
            }
            Err(trouble) => {
                let error = self.shared.engine.said(trouble);
                if let Some(count) = FAILURES.admit(Instant::now()) {
                    tracing::error!(count, %error, "stores: transactions failed (count: since the last such line)");
                }
                let error = self.failed(error, number);
                // Those that were refused are told why.
                let refusals = told_in_it.into_iter().map(Result::err).chain(std::iter::repeat(None));
                for (queued, refusal) in batch.into_iter().zip(refusals) {
                    queued.tell(refusal.map_or_else(|| Err(error.clone()), Err));
                }
            }
        }
        self.last_commit = begun.elapsed();
    }

    /// Opens the file again after a transaction that failed, and looks whether it is there nonetheless.
    fn failed(&mut self, error: StoreError, number: Option<u64>) -> StoreError {
        self.broken = Some((error.clone(), Some(Instant::now())));
        let is_there =
            self.is_usable().and_then(|()| self.last_number()).map(|last| number.is_some_and(|it| last >= it));
        // What the disk said it could not keep may be lost later, even if it is there now.
        if is_there == Ok(false) || number.is_none() { error } else { StoreError::Unknown }
    }

    fn last_number(&self) -> Result<u64, StoreError> {
        self.shared.engine.read(|reading| Ok(reading.open_table(META)?.get(BATCH)?.map_or(0, |number| number.value())))
    }

    /// Whether the file can be used; opens it again if it is time to.
    fn is_usable(&mut self) -> Result<(), StoreError> {
        let Some((error, again_at)) = &self.broken else { return Ok(()) };
        if again_at.is_none_or(|again_at| Instant::now() < again_at) {
            return Err(error.clone());
        }
        match self.shared.engine.reopen() {
            Ok(()) => {
                self.broken = None;
                // A transaction of which nobody knew may be there.
                self.look_at_usage()
            }
            Err(error) => {
                tracing::error!(%error, "stores: the file cannot be opened again");
                let is_damaged = matches!(error, StoreError::Damaged { .. });
                self.broken = Some((error.clone(), (!is_damaged).then(|| Instant::now() + OPEN_PAUSE)));
                Err(error)
            }
        }
    }

    /// Reads what the stores hold.
    fn look_at_usage(&self) -> Result<(), StoreError> {
        let grants = self.shared.grants.read().unwrap_or_else(PoisonError::into_inner);
        for store in grants.values() {
            let usage = self.shared.engine.read(|reading| usage(reading, &store.name))?;
            store.holds(usage);
        }
        Ok(())
    }

    /// Removes some of what has expired, and finds out when there is more to do.
    fn sweep(&mut self) {
        self.next_sweep = Instant::now() + SWEEP_PAUSE;
        if self.is_usable().is_err() {
            return;
        }
        let now = (self.shared.clock)();
        let mut stores: Vec<Arc<Granted>> = match self.shared.grants.read() {
            Ok(grants) => grants.values().cloned().collect(),
            Err(_) => return,
        };
        stores.sort_by_key(|store| store.number);
        if !stores.is_empty() {
            self.sweep_from = (self.sweep_from + 1) % stores.len();
            stores.rotate_left(self.sweep_from);
        }
        let swept = self.shared.engine.write(|transaction| {
            let mut writing = Writing::begin(&transaction, now)?;
            let (mut left, mut next) = (SWEEP_ROWS_MAX, None::<u64>);
            for store in &stores {
                match writing.sweep(store.place(), left) {
                    Ok(removed) => left -= removed.min(left),
                    // Its reader is told of it.
                    Err(TransactionError::Row) => continue,
                    Err(trouble) => return Err(trouble),
                }
                next = next.into_iter().chain(writing.next_expiry_of(store.number)?).min();
            }
            let mut usage = Vec::new();
            if left < SWEEP_ROWS_MAX {
                usage = writing.end()?.usage;
                transaction.commit()?;
            }
            Ok((next, usage))
        });
        match swept {
            Ok((next, usage)) => {
                self.next_expiry = next;
                self.shared.hold(usage);
            }
            Err(trouble) => {
                let error = self.shared.engine.said(trouble);
                tracing::error!(%error, "stores: a sweep failed");
                self.broken = Some((error, Some(Instant::now())));
            }
        }
    }
}

/// Has these stores, and no others, answer from now on. What others hold stays in the file.
pub(crate) fn grant(shared: &SharedStores, stores: Vec<(String, StoreQuota)>) -> Result<(), StoreError> {
    let rows = shared.engine.write(|transaction| {
        let mut writing = Writing::begin(&transaction, 0)?;
        let rows = stores.iter().map(|(name, _)| writing.row_of(name)).collect::<Result<Vec<_>, _>>()?;
        writing.end()?;
        transaction.commit()?;
        Ok(rows)
    });
    let rows = rows.map_err(|trouble| shared.engine.said(trouble))?;
    let grants = stores.into_iter().zip(rows).map(|((name, quota), row)| {
        let granted = Granted {
            name: name.clone(),
            number: row.number,
            quota,
            unanswered: Arc::default(),
            usage: Mutex::new(row.usage),
        };
        (name, Arc::new(granted))
    });
    *shared.grants.write().unwrap_or_else(PoisonError::into_inner) = grants.collect();
    Ok(())
}

/// For how long a transaction waits for more: those who were in the last one were just answered, and many ask again at once. It
/// costs less than a wait for the disk that they would have without this one.
fn gather_for(last_batch: usize, gathered: usize, last_commit: Duration) -> Duration {
    if gathered >= last_batch { Duration::ZERO } else { (last_commit / 4).min(GATHER_MAX) }
}
