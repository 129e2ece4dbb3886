//! The functions of `wasi:keyvalue` by name, in its two versions. They have the same resources, so that what is behind them is
//! written once (`calls`); cursors, numbers and the shape of `get-many` differ.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, LinkerInstance, Resource, ResourceType};

use wasmhost_storage::Edit;

use super::calls;
use super::granted::KeyValueStores;
use super::shapes::{Bucket, Cas, KeyPage, KeyValueError, NumberedPage};
use crate::capability::moments::Holds;

/// The version that wasmtime and wasmCloud have.
pub(super) const DRAFT: &str = "0.2.0-draft";
/// The version that Spin has.
pub(super) const DRAFT2: &str = "0.2.0-draft2";

type Bytes = Vec<u8>;

/// Defines both versions.
pub(super) fn link<S: Holds<KeyValueStores>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    for version in [DRAFT, DRAFT2] {
        link_store(&mut linker.instance(&format!("wasi:keyvalue/store@{version}"))?)?;
        link_batch(&mut linker.instance(&format!("wasi:keyvalue/batch@{version}"))?)?;
    }
    link_draft(linker)?;
    link_draft2(linker)
}

/// What `store` has in both versions.
fn link_store<S: Holds<KeyValueStores>>(interface: &mut LinkerInstance<'_, S>) -> wasmtime::Result<()> {
    interface.resource("bucket", ResourceType::host::<Bucket>(), calls::drop_handle::<S, Bucket>)?;
    interface.func_wrap("open", |mut store: StoreContextMut<'_, S>, (name,): (String,)| {
        Ok((calls::open(&mut store, &name)?,))
    })?;
    of_bucket!(interface, "[method]bucket.get", |store, bucket, caller, key: String| {
        calls::get_one(&caller, key).await.map(|stored| stored.map(|stored| stored.value))
    });
    of_bucket!(interface, "[method]bucket.set", |store, bucket, caller, key: String, value: Bytes| {
        let edit = calls::set(&caller.granted, (key, value));
        calls::write(&caller, vec![edit]).await
    });
    of_bucket!(interface, "[method]bucket.delete", |store, bucket, caller, key: String| {
        calls::write(&caller, vec![Edit::Delete { key }]).await
    });
    of_bucket!(interface, "[method]bucket.exists", |store, bucket, caller, key: String| {
        calls::exists(&caller, key).await
    });
    Ok(())
}

/// What `batch` has in both versions.
fn link_batch<S: Holds<KeyValueStores>>(interface: &mut LinkerInstance<'_, S>) -> wasmtime::Result<()> {
    of_bucket!(interface, "set-many", |store, bucket, caller, pairs: Vec<(String, Bytes)>| {
        let edits = pairs.into_iter().map(|pair| calls::set(&caller.granted, pair)).collect();
        calls::write(&caller, edits).await
    });
    of_bucket!(interface, "delete-many", |store, bucket, caller, keys: Vec<String>| {
        calls::write(&caller, keys.into_iter().map(|key| Edit::Delete { key }).collect()).await
    });
    Ok(())
}

/// What only `0.2.0-draft` has.
fn link_draft<S: Holds<KeyValueStores>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("wasi:keyvalue/store@{DRAFT}"))?;
    of_bucket!(interface, "[method]bucket.list-keys", |store, bucket, caller, cursor: Option<u64>| {
        match calls::end(store, &bucket, cursor)? {
            Ok(after) => match calls::list(&caller, after).await {
                Ok(page) => {
                    let cursor = calls::number(store, &bucket, page.next)?;
                    Ok(NumberedPage { keys: page.keys, cursor })
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        }
    });
    let mut interface = linker.instance(&format!("wasi:keyvalue/atomics@{DRAFT}"))?;
    of_bucket!(interface, "increment", |store, bucket, caller, key: String, delta: u64| {
        match i64::try_from(delta) {
            Ok(by) => calls::increment(&caller, key, by).await.and_then(unsigned),
            Err(_) => {
                Err(KeyValueError::Other("a store counts to 9223372036854775807: nothing was changed".to_owned()))
            }
        }
    });
    let mut interface = linker.instance(&format!("wasi:keyvalue/batch@{DRAFT}"))?;
    of_bucket!(interface, "get-many", |store, bucket, caller, keys: Vec<String>| {
        let found = calls::get(&caller, keys.clone()).await;
        found.map(|values| -> Vec<Option<(String, Bytes)>> {
            keys.into_iter().zip(values).map(|(key, stored)| stored.map(|stored| (key, stored.value))).collect()
        })
    });
    Ok(())
}

/// A sum, of which this version says that it is not below zero. It was stored in either case.
fn unsigned(sum: i64) -> Result<u64, KeyValueError> {
    u64::try_from(sum).map_err(|_| KeyValueError::Other(format!("the number is {sum} now, which is below zero")))
}

/// What only `0.2.0-draft2` has.
fn link_draft2<S: Holds<KeyValueStores>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("wasi:keyvalue/store@{DRAFT2}"))?;
    of_bucket!(interface, "[method]bucket.list-keys", |store, bucket, caller, cursor: Option<String>| {
        calls::list(&caller, cursor).await.map(|page| KeyPage { keys: page.keys, cursor: page.next })
    });
    let mut interface = linker.instance(&format!("wasi:keyvalue/atomics@{DRAFT2}"))?;
    interface.resource("cas", ResourceType::host::<Cas>(), calls::drop_handle::<S, Cas>)?;
    of_bucket!(interface, "increment", |store, bucket, caller, key: String, delta: i64| {
        calls::increment(&caller, key, delta).await
    });
    of_bucket!(interface, "[static]cas.new", |store, bucket, caller, key: String| {
        calls::watch(store, caller.granted, key).await?
    });
    interface.func_wrap_async(
        "[method]cas.current",
        |mut store: StoreContextMut<'_, S>, (cas,): (Resource<Cas>,)| {
            Box::new(async move { Ok((calls::current(&mut store, cas).await?,)) })
        },
    )?;
    interface.func_wrap_async("swap", |mut store: StoreContextMut<'_, S>, (cas, value): (Resource<Cas>, Bytes)| {
        Box::new(async move { Ok((calls::swap(&mut store, cas, value).await?,)) })
    })?;
    let mut interface = linker.instance(&format!("wasi:keyvalue/batch@{DRAFT2}"))?;
    of_bucket!(interface, "get-many", |store, bucket, caller, keys: Vec<String>| {
        let found = calls::get(&caller, keys.clone()).await;
        found.map(|values| -> Vec<(String, Option<Bytes>)> {
            keys.into_iter().zip(values).map(|(key, stored)| (key, stored.map(|stored| stored.value))).collect()
        })
    });
    Ok(())
}
