//! Stores as components of Spin ask for them: with functions of wasi 0.2 (Spin 2 and 3), or with asynchronous ones (Spin 4).

use wasmtime::component::{
    Accessor, ComponentType, FutureReader, Lift, Linker, Lower, Resource, ResourceType, StreamReader,
};
use wasmtime::{AsContextMut, StoreContextMut};

use wasmhost_storage::{Edit, OPERATION_BYTES_MAX};

use super::calls::{self, Caller};
use super::granted::KeyValueStores;
use super::shapes::{Bucket, KeyValueError};
use crate::capability::moments::Holds;

pub(super) const OF_0_2: &str = "fermyon:spin/key-value";
pub(super) const VERSION_OF_0_2: &str = "2.0.0";
pub(super) const OF_0_3: &str = "spin:key-value/key-value";
pub(super) const VERSION_OF_0_3: &str = "3.0.0";

/// Pages that are read for one answer.
const PAGES_MAX: usize = 256;

/// What a key counts beyond its length, among those that are answered at once.
const KEY_BYTES: usize = 64;

/// `key-value.error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum SpinError {
    /// (How many stores are open is bounded as all handles are.)
    #[component(name = "store-table-full")]
    StoreTableFull,
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<KeyValueError> for SpinError {
    fn from(error: KeyValueError) -> Self {
        match error {
            KeyValueError::NoSuchStore => Self::NoSuchStore,
            KeyValueError::AccessDenied => Self::AccessDenied,
            KeyValueError::Other(text) => Self::Other(text),
        }
    }
}

/// All keys, as far as they fit into one answer.
async fn keys(caller: &Caller) -> Result<Vec<String>, SpinError> {
    let (mut keys, mut bytes, mut after, mut pages) = (Vec::new(), 0, None, 0);
    loop {
        let page = calls::list(caller, after).await?;
        bytes += page.keys.iter().map(|key| key.len() + KEY_BYTES).sum::<usize>();
        if bytes > OPERATION_BYTES_MAX {
            return Err(SpinError::Other(format!(
                "the store has more keys than fit into one answer ({OPERATION_BYTES_MAX} bytes, {KEY_BYTES} for each key and its length); list them page by page through wasi:keyvalue"
            )));
        }
        keys.extend(page.keys);
        pages += 1;
        match page.next {
            None => return Ok(keys),
            Some(_) if pages == PAGES_MAX => {
                return Err(SpinError::Other(format!(
                    "the store has more keys than are listed at once ({PAGES_MAX} pages); list them page by page through wasi:keyvalue"
                )));
            }
            next => after = next,
        }
        // Each page is read at once, and others of this worker wait meanwhile.
        tokio::task::yield_now().await;
    }
}

async fn get(caller: &Caller, key: String) -> Result<Option<Vec<u8>>, SpinError> {
    Ok(calls::get_one(caller, key).await?.map(|stored| stored.value))
}

async fn set(caller: &Caller, key: String, value: Vec<u8>) -> Result<(), SpinError> {
    let edit = calls::set(&caller.granted, (key, value));
    Ok(calls::write(caller, vec![edit]).await?)
}

async fn delete(caller: &Caller, key: String) -> Result<(), SpinError> {
    Ok(calls::write(caller, vec![Edit::Delete { key }]).await?)
}

async fn exists(caller: &Caller, key: String) -> Result<bool, SpinError> {
    Ok(calls::exists(caller, key).await?)
}

/// Defines the functions of Spin 2 and 3.
pub(super) fn link<S: Holds<KeyValueStores>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("{OF_0_2}@{VERSION_OF_0_2}"))?;
    interface.resource("store", ResourceType::host::<Bucket>(), calls::drop_handle::<S, Bucket>)?;
    interface.func_wrap("[static]store.open", |mut store: StoreContextMut<'_, S>, (label,): (String,)| {
        Ok((calls::open(&mut store, &label)?.map_err(SpinError::from),))
    })?;
    of_bucket!(interface, "[method]store.get", |store, bucket, caller, key: String| get(&caller, key).await);
    of_bucket!(interface, "[method]store.set", |store, bucket, caller, key: String, value: Vec<u8>| {
        set(&caller, key, value).await
    });
    of_bucket!(interface, "[method]store.delete", |store, bucket, caller, key: String| delete(&caller, key).await);
    of_bucket!(interface, "[method]store.exists", |store, bucket, caller, key: String| exists(&caller, key).await);
    of_bucket!(interface, "[method]store.get-keys", |store, bucket, caller| keys(&caller).await);
    Ok(())
}

/// Defines an asynchronous function that takes a bucket and more. `$told` is what the guest gets.
macro_rules! of_bucket_concurrent {
    ($interface:expr, $name:literal, |$accessor:ident, $caller:ident $(, $argument:ident: $type:ty)*| $told:expr) => {
        $interface.func_wrap_concurrent(
            $name,
            |$accessor: &Accessor<S>, (bucket, $($argument,)*): (Resource<Bucket>, $($type,)*)| {
                Box::pin(async move {
                    let $caller = $accessor.with(|mut access| calls::caller(&mut access.as_context_mut(), &bucket))?;
                    Ok(($told,))
                })
            },
        )?
    };
}

/// Keys as they come, and how that ended.
type KeysRead = (StreamReader<String>, FutureReader<Result<(), SpinError>>);

/// Defines the functions of Spin 4.
pub(super) fn link_concurrent<S: Holds<KeyValueStores>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("{OF_0_3}@{VERSION_OF_0_3}"))?;
    interface.resource("store", ResourceType::host::<Bucket>(), calls::drop_handle::<S, Bucket>)?;
    interface.func_wrap_concurrent("[static]store.open", |accessor: &Accessor<S>, (label,): (String,)| {
        let opened = accessor.with(|mut access| calls::open(&mut access.as_context_mut(), &label));
        Box::pin(async move { Ok((opened?.map_err(SpinError::from),)) })
    })?;
    of_bucket_concurrent!(interface, "[method]store.get", |accessor, caller, key: String| get(&caller, key).await);
    of_bucket_concurrent!(interface, "[method]store.set", |accessor, caller, key: String, value: Vec<u8>| {
        set(&caller, key, value).await
    });
    of_bucket_concurrent!(interface, "[method]store.delete", |accessor, caller, key: String| {
        delete(&caller, key).await
    });
    of_bucket_concurrent!(interface, "[method]store.exists", |accessor, caller, key: String| {
        exists(&caller, key).await
    });
    of_bucket_concurrent!(interface, "[method]store.get-keys", |accessor, caller| {
        let (keys, ended) = match keys(&caller).await {
            Ok(keys) => (keys, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        accessor.with(|mut access| {
            let stream = StreamReader::new(access.as_context_mut(), keys)?;
            let ended = FutureReader::new(access.as_context_mut(), async move { wasmtime::error::Ok(ended) })?;
            wasmtime::error::Ok::<KeysRead>((stream, ended))
        })?
    });
    Ok(())
}
