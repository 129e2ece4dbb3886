//! `wasmhost:keyvalue/entries` (`wit/keyvalue-entries.wit`): keys with an expiry and metadata, which `wasi:keyvalue` has not, in the same
//! stores. The runtime of JavaScript makes KV namespaces and caches of it.
//!
//! Metadata has a key of its own in the same store, which is changed together with the key that it is of and expires with it.
//! Such a key is there for each that has metadata or an expiry, so that a list asks for these short values only. It is one more
//! for quotas, and other languages and `wasmhost kv` see it.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};

use wasmhost_storage::{Edit, KEY_BYTES_MAX, Listing, Operation, PAGE_KEYS_MAX, Reply, Stored};

use super::calls::{self, Caller};
use super::granted::KeyValueStores;
use super::shapes::KeyValueError;
use crate::capability::moments::Holds;

/// The name of the interface, and its version.
pub(super) const NAME: &str = "wasmhost:keyvalue/entries";
/// See [`NAME`].
pub(super) const VERSION: &str = "0.1.0";

/// How the key of metadata begins; the key that it is of follows. It is the last character of Unicode, so that a list has such keys
/// at its end.
const METADATA: char = '\u{10ffff}';
/// Longest key, in bytes: the one of its metadata must fit, too.
const WITH_METADATA_BYTES_MAX: usize = KEY_BYTES_MAX - METADATA.len_utf8();
/// Longest metadata, in bytes, as Workers has it.
const METADATA_BYTES_MAX: usize = 1_024;
/// Most keys of one call: with those of their metadata, as many as an operation may name.
const KEYS_MAX: usize = wasmhost_storage::KEYS_PER_OPERATION_MAX / 2;

/// `entry`.
#[derive(Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
struct StoreEntry {
    value: Vec<u8>,
    metadata: Option<String>,
}

/// `key`.
#[derive(Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
struct Key {
    name: String,
    #[component(name = "expires-at")]
    expires_at: Option<u64>,
    metadata: Option<String>,
}

/// `page`.
#[derive(Debug, PartialEq, Eq, ComponentType, Lower)]
#[component(record)]
struct EntryPage {
    keys: Vec<Key>,
    next: Option<String>,
}

/// What the guest gets.
type EntriesAnswer<T> = Result<T, String>;

/// Defines it.
pub(super) fn link<S: Holds<KeyValueStores>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("{NAME}@{VERSION}"))?;
    interface.func_wrap_async("get", |mut store: StoreContextMut<'_, S>, (name, keys): (String, Vec<String>)| {
        Box::new(async move { Ok((get(&mut store, &name, keys).await,)) })
    })?;
    interface.func_wrap_async(
        "set",
        |mut store: StoreContextMut<'_, S>,
         (name, key, value, metadata, ttl): (String, String, Vec<u8>, Option<String>, Option<u64>)| {
            Box::new(async move {
                let told = async {
                    let caller = calls::caller_named(&mut store, &name).ok_or_else(|| denied(&name))?;
                    let edits = setting(key, value, metadata, shorter(ttl, caller.granted.ttl_ms))?;
                    calls::write(&caller, edits).await.map_err(|error| said(error, &name))
                };
                Ok((told.await,))
            })
        },
    )?;
    interface.func_wrap_async("delete", |mut store: StoreContextMut<'_, S>, (name, keys): (String, Vec<String>)| {
        Box::new(async move {
            let told = async {
                let caller = calls::caller_named(&mut store, &name).ok_or_else(|| denied(&name))?;
                let edits = with_metadata(keys)?.into_iter().map(|key| Edit::Delete { key }).collect();
                calls::write(&caller, edits).await.map_err(|error| said(error, &name))
            };
            Ok((told.await,))
        })
    })?;
    interface.func_wrap_async(
        "list",
        |mut store: StoreContextMut<'_, S>, (name, prefix, after, limit): (String, String, Option<String>, u32)| {
            Box::new(async move { Ok((list(&mut store, &name, prefix, after, limit).await,)) })
        },
    )?;
    Ok(())
}

async fn get<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    name: &str,
    keys: Vec<String>,
) -> EntriesAnswer<Vec<Option<StoreEntry>>> {
    let caller = calls::caller_named(store, name).ok_or_else(|| denied(name))?;
    let asked = with_metadata(keys)?;
    let found = calls::get(&caller, asked).await.map_err(|error| said(error, name))?;
    let mut found = found.into_iter();
    let mut entries = Vec::with_capacity(found.len() / 2);
    while let (Some(value), Some(metadata)) = (found.next(), found.next()) {
        entries.push(value.map(|value| StoreEntry { value: value.value, metadata: metadata.and_then(text) }));
    }
    Ok(entries)
}

async fn list<S: Holds<KeyValueStores>>(
    store: &mut StoreContextMut<'_, S>,
    name: &str,
    prefix: String,
    after: Option<String>,
    limit: u32,
) -> EntriesAnswer<EntryPage> {
    let caller = calls::caller_named(store, name).ok_or_else(|| denied(name))?;
    let limit = usize::try_from(limit).unwrap_or(PAGE_KEYS_MAX).min(PAGE_KEYS_MAX);
    let page = page(&caller, Operation::List { prefix, after, limit }).await.map_err(|error| said(error, name))?;
    let Listing { keys, next } = without_metadata(page);
    let asked: Vec<String> = keys.iter().filter(|key| may_have_metadata(key)).map(|key| metadata_of(key)).collect();
    let found = match asked.is_empty() {
        true => Vec::new(),
        false => calls::get(&caller, asked).await.map_err(|error| said(error, name))?,
    };
    let mut found = found.into_iter();
    let keys = keys.into_iter().map(|name| {
        let stored = if may_have_metadata(&name) { found.next().flatten() } else { None };
        let expires_at = stored.as_ref().and_then(|stored| stored.expires_at);
        Key { name, expires_at, metadata: stored.and_then(text) }
    });
    Ok(EntryPage { keys: keys.collect(), next })
}

async fn page(caller: &Caller, operation: Operation) -> Result<Listing, KeyValueError> {
    match caller.perform(operation).await? {
        Reply::Page(page) => Ok(page),
        _ => Err(calls::no_answer()),
    }
}

/// The key that has the metadata of this one.
fn metadata_of(key: &str) -> String {
    format!("{METADATA}{key}")
}

/// Whether there can be metadata of a key. Longer ones come by `wasi:keyvalue`, which has none.
fn may_have_metadata(key: &str) -> bool {
    key.len() <= WITH_METADATA_BYTES_MAX
}

/// Metadata as it was set; an empty value stands for none.
fn text(stored: Stored) -> Option<String> {
    String::from_utf8(stored.value).ok().filter(|text| !text.is_empty())
}

/// These keys, and behind each the one of its metadata.
fn with_metadata(keys: Vec<String>) -> EntriesAnswer<Vec<String>> {
    if keys.len() > KEYS_MAX {
        return Err(format!("a call names {} keys, and may name {KEYS_MAX}", keys.len()));
    }
    let mut all = Vec::with_capacity(keys.len().saturating_mul(2));
    for key in keys {
        let metadata = metadata_of(checked(&key)?);
        all.extend([key, metadata]);
    }
    Ok(all)
}

fn checked(key: &str) -> EntriesAnswer<&str> {
    if key.starts_with(METADATA) {
        return Err("keys that begin with U+10FFFF are for metadata".to_owned());
    }
    if !may_have_metadata(key) {
        let (bytes, max) = (key.len(), WITH_METADATA_BYTES_MAX);
        return Err(format!("a key has {bytes} bytes, and may have {max} here"));
    }
    Ok(key)
}

/// How long a value stays that is to stay so long, in a store that keeps values so long.
fn shorter(wanted: Option<u64>, most: Option<u64>) -> Option<u64> {
    wanted.into_iter().chain(most).min()
}

/// What setting a key changes.
fn setting(key: String, value: Vec<u8>, metadata: Option<String>, ttl_ms: Option<u64>) -> EntriesAnswer<Vec<Edit>> {
    let of_metadata = metadata_of(checked(&key)?);
    let length = metadata.as_ref().map_or(0, String::len);
    if length > METADATA_BYTES_MAX {
        return Err(format!("metadata has {length} bytes, and may have {METADATA_BYTES_MAX}"));
    }
    let beside = match (metadata, ttl_ms) {
        (None, None) => Edit::Delete { key: of_metadata },
        (metadata, _) => Edit::Set { key: of_metadata, value: metadata.unwrap_or_default().into_bytes(), ttl_ms },
    };
    Ok(vec![Edit::Set { key, value, ttl_ms }, beside])
}

/// A page without the keys of metadata, behind which there is nothing else.
fn without_metadata(page: Listing) -> Listing {
    let Listing { mut keys, next } = page;
    let found = keys.len();
    keys.retain(|key| !key.starts_with(METADATA));
    let next = next.filter(|_| keys.len() == found);
    Listing { keys, next }
}

fn denied(name: &str) -> String {
    format!(
        "the store `{name}` is not granted; to grant it: `--store {name}`, or `stores = [\"{name}\"]` of the app in wasmhost.toml"
    )
}

fn said(error: KeyValueError, name: &str) -> String {
    match error {
        KeyValueError::AccessDenied | KeyValueError::NoSuchStore => denied(name),
        KeyValueError::Other(text) => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_stays_longer_than_the_store_keeps_values() {
        for (wanted, most, stays) in [
            (None, None, None),
            (Some(5), None, Some(5)),
            (None, Some(9), Some(9)),
            (Some(5), Some(9), Some(5)),
            (Some(99), Some(9), Some(9)),
        ] {
            assert_eq!(shorter(wanted, most), stays, "{wanted:?} {most:?}");
        }
    }

    fn edits(metadata: Option<&str>, ttl_ms: Option<u64>) -> EntriesAnswer<Vec<Edit>> {
        setting("a".to_owned(), b"1".to_vec(), metadata.map(str::to_owned), ttl_ms)
    }

    #[test]
    fn metadata_is_changed_with_its_key_and_expires_with_it() {
        let set = |key: &str, value: &str, ttl_ms| Edit::Set { key: key.to_owned(), value: value.into(), ttl_ms };
        let beside = "\u{10ffff}a";
        assert_eq!(edits(Some("m"), Some(5)), Ok(vec![set("a", "1", Some(5)), set(beside, "m", Some(5))]));
        assert_eq!(edits(Some("m"), None), Ok(vec![set("a", "1", None), set(beside, "m", None)]));
        // So that a list knows when it expires.
        assert_eq!(edits(None, Some(5)), Ok(vec![set("a", "1", Some(5)), set(beside, "", Some(5))]));
        assert_eq!(edits(None, None), Ok(vec![set("a", "1", None), Edit::Delete { key: beside.to_owned() }]));
        assert!(edits(Some(&"x".repeat(1_025)), None).is_err_and(|error| error.contains("1025 bytes")));
    }

    #[test]
    fn guests_see_no_keys_of_metadata() {
        let keys = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        let listed = |all: &[&str], next: Option<&str>| {
            let Listing { keys, next } = without_metadata(Listing { keys: keys(all), next: next.map(str::to_owned) });
            (keys, next)
        };
        assert_eq!(listed(&["a", "b"], Some("b")), (keys(&["a", "b"]), Some("b".to_owned())));
        assert_eq!(listed(&["b", "\u{10ffff}a"], Some("\u{10ffff}a")), (keys(&["b"]), None));
        // A page that ended early goes on.
        assert_eq!(listed(&[], Some("b")), (keys(&[]), Some("b".to_owned())));
        assert_eq!(with_metadata(keys(&["a", "b"])), Ok(keys(&["a", "\u{10ffff}a", "b", "\u{10ffff}b"])));
        assert!(
            with_metadata(keys(&["\u{10ffff}a"])).is_err()
                && setting(metadata_of("a"), Vec::new(), None, None).is_err()
        );
        assert!(with_metadata(keys(&[&"k".repeat(1_020)])).is_ok());
        assert!(with_metadata(keys(&[&"k".repeat(1_021)])).is_err_and(|error| error.contains("may have 1020 here")));
        assert!(with_metadata(keys(&["a"; 501])).is_err_and(|error| error.contains("501 keys")));
    }
}
