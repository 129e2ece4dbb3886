//! What the functions of both versions do: an operation on a store, or more of them, within the bounds of the app.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use wasmhost_base::line_budget::LineBudget;
use wasmhost_storage::{Edit, KeyValue as _, Listing, Operation, PAGE_KEYS_MAX, Reply, StoreError, Stored};
use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceTable};

use super::granted::{AppStore, KeyValueStores};
use super::shapes::{Bucket, Cas, CasError, KeyValueError};
use crate::bounds::{AppBounds, SharedBound};
use crate::capability::moments::{Holds, REFUSALS_LOGGED_PER_SECOND, Surroundings, name_for_log};
use crate::file_threads::within;
use crate::meter::Meter;
use crate::store_counts::{StoreCall, StoreCounters, StoreFailure};

/// What a request is charged for an operation that another thread or process carries out, and for each KiB that it has: about
/// what it costs there, of which nobody measures each one's part (changes of many are written together).
const OWNER_CPU: Duration = Duration::from_micros(20);
const OWNER_CPU_PER_KIB: Duration = Duration::from_micros(1);

/// The outer error is a trap, the inner one what the guest gets.
pub(super) type GuestAnswer<T> = wasmtime::Result<Result<T, KeyValueError>>;

fn table<'a, S: Holds<KeyValueStores>>(store: &'a mut StoreContextMut<'_, S>) -> &'a mut ResourceTable {
    store.data_mut().ctx().table
}

/// `store.open`.
pub(super) fn open<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    name: &str,
) -> GuestAnswer<Resource<Bucket>> {
    match grant(store, name) {
        Some(granted) => Ok(Ok(table(store).push(Bucket::new(granted))?)),
        None => Ok(Err(KeyValueError::AccessDenied)),
    }
}

/// A guest that asks the store that it calls so, if it is granted; else the log tells of it.
pub(super) fn caller_named<S: Holds<KeyValueStores>>(store: &mut StoreContextMut<'_, S>, name: &str) -> Option<Caller> {
    let granted = grant(store, name)?;
    Some(Caller::new(store.data(), granted))
}

/// The store that the guest calls so, if it is granted; else the log tells of it.
fn grant<S: Holds<KeyValueStores>>(store: &mut StoreContextMut<'_, S>, name: &str) -> Option<Arc<AppStore>> {
    let granted = store.data_mut().held().as_ref().and_then(|stores| stores.open(name));
    if granted.is_none() {
        refuse(&store.data().surroundings(), name);
    }
    granted
}

/// Tells the log which grant would let the guest open this store.
fn refuse(surroundings: &Surroundings<'_>, name: &str) {
    static REFUSALS: LazyLock<LineBudget> = LazyLock::new(|| LineBudget::of(REFUSALS_LOGGED_PER_SECOND));
    if let Some(counters) = surroundings.bounds.store_counters() {
        counters.failed(StoreFailure::Denied);
    }
    let (app, (worker, request)) = (surroundings.meter.app(), surroundings.meter.whose());
    let (is_told, left_out) = REFUSALS.admit();
    if left_out > 0 {
        tracing::warn!(worker, lines = left_out, "refusals to open a store were left out");
    }
    if is_told {
        let name = name_for_log(name);
        tracing::warn!(
            app,
            worker,
            request,
            limit = "--store",
            "the guest asked for the store \"{name}\", which it is not granted; to grant it: `--store {name}`, or `stores = [\"{name}\"]` of the app"
        );
    }
}

/// A guest that asks the store behind this bucket.
pub(super) fn caller<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    bucket: &Resource<Bucket>,
) -> wasmtime::Result<Caller> {
    let granted = Arc::clone(&table(store).get(bucket)?.granted);
    Ok(Caller::new(store.data(), granted))
}

/// Who asks a store: what a call needs of its instance, from which nothing is borrowed while it waits.
pub(super) struct Caller {
    pub(super) granted: Arc<AppStore>,
    bounds: Arc<AppBounds>,
    meter: Arc<Meter>,
    /// The request for which it asks.
    request: u64,
    /// The event loop of the worker, with its timers, whatever runtime the guest is polled in.
    worker: Handle,
}

impl Caller {
    /// A guest that asks this store.
    pub(super) fn new<S: Holds<KeyValueStores>>(store: &S, granted: Arc<AppStore>) -> Self {
        let Surroundings { bounds, meter, worker } = store.surroundings();
        let request = meter.whose().1;
        Self { granted, bounds: Arc::clone(bounds), meter: Arc::clone(meter), request, worker: worker.clone() }
    }

    /// Carries out an operation. A guest that is ended while it waits has changed the store or not, and never in part.
    pub(super) async fn perform(&self, operation: Operation) -> Result<Reply, KeyValueError> {
        let (granted, counters) = (&self.granted, self.bounds.store_counters());
        if let Some(counters) = counters {
            counters.called(StoreCall::of(&operation));
        }
        let told = match granted.stores.waits_for(&granted.store, &operation) {
            true => self.wait(operation, counters).await,
            false => granted.stores.perform(&granted.store, operation).await,
        };
        told.map_err(|error| {
            if let Some(counters) = counters {
                counters.failed(StoreFailure::of(&error));
            }
            if let StoreError::Damaged { .. } | StoreError::Io { .. } = &error {
                tracing::debug!(app = self.meter.app(), store = granted.store, %error, "a store failed");
            }
            error.into()
        })
    }

    /// Carries out one that waits for another thread or process. Apps of a worker share how many may wait.
    async fn wait(&self, operation: Operation, counters: Option<StoreCounters>) -> Result<Reply, StoreError> {
        let account = self.bounds.account(SharedBound::StoreCalls);
        let Some(place) = account.take(1) else {
            account.note_shortage();
            return Err(StoreError::Busy);
        };
        let began = Instant::now();
        let asked_bytes = operation.bytes();
        let told = within(Some(&self.worker), self.granted.stores.perform(&self.granted.store, operation)).await;
        if let Some(counters) = counters {
            counters.waited(began.elapsed());
        }
        drop(place);
        let bytes = asked_bytes.saturating_add(told.as_ref().map_or(0, Reply::bytes));
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
        // A request over its limit is ended by the next tick.
        self.meter.charge(self.request, OWNER_CPU.saturating_add(OWNER_CPU_PER_KIB.saturating_mul(kib)));
        told
    }
}

/// What is no answer to what was asked.
pub(super) fn no_answer() -> KeyValueError {
    StoreError::Invalid.into()
}

/// Values, in the order of their keys.
pub(super) async fn get(caller: &Caller, keys: Vec<String>) -> Result<Vec<Option<Stored>>, KeyValueError> {
    let asked = keys.len();
    match caller.perform(Operation::Get { keys }).await? {
        Reply::Values(values) if values.len() == asked => Ok(values),
        _ => Err(no_answer()),
    }
}

/// One value.
pub(super) async fn get_one(caller: &Caller, key: String) -> Result<Option<Stored>, KeyValueError> {
    Ok(get(caller, vec![key]).await?.pop().flatten())
}

/// Whether a key has a value.
pub(super) async fn exists(caller: &Caller, key: String) -> Result<bool, KeyValueError> {
    match caller.perform(Operation::Exists { key }).await? {
        Reply::Exists(exists) => Ok(exists),
        _ => Err(no_answer()),
    }
}

/// Does these edits.
pub(super) async fn write(caller: &Caller, edits: Vec<Edit>) -> Result<(), KeyValueError> {
    match caller.perform(Operation::Write { edits }).await? {
        Reply::Written => Ok(()),
        _ => Err(no_answer()),
    }
}

/// That a key has a value, in this store.
pub(super) fn set(granted: &AppStore, (key, value): (String, Vec<u8>)) -> Edit {
    Edit::Set { key, value, ttl_ms: granted.ttl_ms }
}

/// A page of keys.
pub(super) async fn list(caller: &Caller, after: Option<String>) -> Result<Listing, KeyValueError> {
    let operation = Operation::List { prefix: String::new(), after, limit: PAGE_KEYS_MAX };
    match caller.perform(operation).await? {
        Reply::Page(page) => Ok(page),
        _ => Err(no_answer()),
    }
}

/// The sum.
pub(super) async fn increment(caller: &Caller, key: String, by: i64) -> Result<i64, KeyValueError> {
    match caller.perform(Operation::Increment { key, by }).await? {
        Reply::Number(number) => Ok(number),
        _ => Err(no_answer()),
    }
}

/// `cas.new`: from here on, the key must stay as it is.
pub(super) async fn watch<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    granted: Arc<AppStore>,
    key: String,
) -> GuestAnswer<Resource<Cas>> {
    match get_one(&Caller::new(store.data(), Arc::clone(&granted)), key.clone()).await {
        Ok(stored) => {
            let seen = stored.map(|stored| stored.version);
            Ok(Ok(table(store).push(Cas { granted, key, seen })?))
        }
        Err(error) => Ok(Err(error)),
    }
}

/// `cas.current`: the value, which must stay as it is from here on.
pub(super) async fn current<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    cas: Resource<Cas>,
) -> GuestAnswer<Option<Vec<u8>>> {
    let Cas { granted, key, .. } = table(store).get(&cas)?;
    let (granted, key) = (Arc::clone(granted), key.clone());
    let stored = match get_one(&Caller::new(store.data(), granted), key).await {
        Ok(stored) => stored,
        Err(error) => return Ok(Err(error)),
    };
    table(store).get_mut(&cas)?.seen = stored.as_ref().map(|stored| stored.version);
    Ok(Ok(stored.map(|stored| stored.value)))
}

/// `atomics.swap`: sets the key if it is as it was seen last. If not, the guest gets another `cas`, of what it is now.
pub(super) async fn swap<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    cas: Resource<Cas>,
    value: Vec<u8>,
) -> wasmtime::Result<Result<(), CasError>> {
    let Cas { granted, key, seen } = table(store).delete(cas)?;
    let operation = Operation::Swap { expected: seen, edit: set(&granted, (key.clone(), value)) };
    match Caller::new(store.data(), Arc::clone(&granted)).perform(operation).await {
        Ok(Reply::Swapped(true)) => Ok(Ok(())),
        Ok(Reply::Swapped(false)) => Ok(Err(match watch(store, granted, key).await? {
            Ok(again) => CasError::CasFailed(again),
            Err(error) => CasError::StoreError(error),
        })),
        Ok(_) => Ok(Err(CasError::StoreError(no_answer()))),
        Err(error) => Ok(Err(CasError::StoreError(error))),
    }
}

/// Drops what a handle stands for.
pub(super) fn drop_handle<S: Holds<KeyValueStores>, T: 'static>(
    mut store: StoreContextMut<'_, S>,
    handle: u32,
) -> wasmtime::Result<()> {
    table(&mut store).delete(Resource::<T>::new_own(handle))?;
    Ok(())
}

/// A number for where a page of this bucket ended.
pub(super) fn number<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    bucket: &Resource<Bucket>,
    end: Option<String>,
) -> wasmtime::Result<Option<u64>> {
    let bucket = table(store).get_mut(bucket)?;
    Ok(end.map(|end| bucket.number(end)))
}

/// Where the page of this number ended.
pub(super) fn end<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    bucket: &Resource<Bucket>,
    number: Option<u64>,
) -> GuestAnswer<Option<String>> {
    let Some(number) = number else { return Ok(Ok(None)) };
    let end = table(store).get(bucket)?.end(number);
    Ok(end.map(Some).ok_or_else(|| {
        KeyValueError::Other(
            "the cursor is not one of the last that this bucket gave: list from the beginning".to_owned(),
        )
    }))
}
