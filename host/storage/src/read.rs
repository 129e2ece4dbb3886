//! Answers of operations that change nothing, from the tables of one moment.

use std::ops::Bound;

use redb::{ReadTransaction, ReadableTable};

use crate::engine::{ENTRIES, STORES, TransactionError};
use crate::error::StoreError;
use crate::operation::{Listing, OPERATION_BYTES_MAX, Operation, PAGE_KEYS_MAX, Reply, StoreUsage, Stored};
use crate::record::{DamagedRow, entry_key, read_entry, read_store};

/// A page of a listing ends when this many bytes of keys and values were read for it: the engine keeps both together.
const PAGE_READ_BYTES_MAX: usize = 2 << 20;
/// A page of a listing ends when so many entries were looked at, of which some had expired.
const PAGE_ROWS_MAX: usize = 10_000;

/// Which store is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StorePlace<'a> {
    pub(crate) name: &'a str,
    pub(crate) number: u32,
}

/// Answers an operation that changes nothing.
pub(crate) fn answer(
    reading: &ReadTransaction,
    store: StorePlace<'_>,
    operation: &Operation,
    now: u64,
) -> Result<Reply, TransactionError> {
    match operation {
        Operation::Get { keys } => {
            let entries = reading.open_table(ENTRIES)?;
            let mut bytes = 0_usize;
            let values = keys.iter().map(|key| {
                let found = stored(&entries, &entry_key(store.number, key), now)?;
                bytes = bytes.saturating_add(found.as_ref().map_or(0, |found| found.value.len()));
                if bytes > OPERATION_BYTES_MAX {
                    return Err(TransactionError::Refused(StoreError::TooLarge { bytes, max: OPERATION_BYTES_MAX }));
                }
                Ok(found)
            });
            Ok(Reply::Values(values.collect::<Result<_, _>>()?))
        }
        Operation::Exists { key } => {
            let at = entry_key(store.number, key);
            let row = reading.open_table(ENTRIES)?.get(&*at)?;
            let found =
                row.map(|row| Ok::<_, DamagedRow>(!read_entry(&at, row.value())?.has_expired(now))).transpose()?;
            Ok(Reply::Exists(found.unwrap_or(false)))
        }
        Operation::List { prefix, after, limit } => {
            let entries = reading.open_table(ENTRIES)?;
            let limit = (*limit).clamp(1, PAGE_KEYS_MAX);
            Ok(Reply::Page(page(&entries, store.number, prefix, after.as_deref(), limit, now)?))
        }
        Operation::Usage => Ok(Reply::Usage(usage(reading, store.name)?)),
        // These go through the queue.
        Operation::Write { .. } | Operation::Increment { .. } | Operation::Swap { .. } => {
            Err(TransactionError::Refused(StoreError::Invalid))
        }
    }
}

/// The names of all stores.
pub(crate) fn names(reading: &ReadTransaction) -> Result<Vec<String>, TransactionError> {
    let stores = reading.open_table(STORES)?;
    stores.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
}

/// What a store holds.
pub(crate) fn usage(reading: &ReadTransaction, store: &str) -> Result<StoreUsage, TransactionError> {
    let row = reading.open_table(STORES)?.get(store)?;
    let usage = row.map(|row| read_store(store, row.value())).transpose()?.map(|row| row.usage);
    Ok(usage.unwrap_or_default())
}

/// The value at a place, if it has not expired.
pub(crate) fn stored(
    entries: &impl ReadableTable<&'static [u8], &'static [u8]>,
    at: &[u8],
    now: u64,
) -> Result<Option<Stored>, TransactionError> {
    let Some(row) = entries.get(at)? else { return Ok(None) };
    let found = read_entry(at, row.value())?;
    let expires_at = (found.expiry != 0).then_some(found.expiry);
    let there = !found.has_expired(now);
    Ok(there.then(|| Stored { value: found.value.to_vec(), version: found.version, expires_at }))
}

fn page(
    entries: &impl ReadableTable<&'static [u8], &'static [u8]>,
    store: u32,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
    now: u64,
) -> Result<Listing, TransactionError> {
    let first = entry_key(store, prefix);
    let begin = match after {
        Some(after) if after >= prefix => Bound::Excluded(entry_key(store, after)),
        _ => Bound::Included(first.clone()),
    };
    let begin = begin.as_ref().map(Vec::as_slice);
    let (mut listing, mut last, mut bytes) = (Listing::default(), None, 0_usize);
    for (rows, entry) in entries.range::<&[u8]>((begin, Bound::Unbounded))?.enumerate() {
        let (at, row) = entry?;
        let at = at.value();
        if !at.starts_with(&first) {
            return Ok(listing);
        }
        let found = read_entry(at, row.value())?;
        let key = at.get(4..).and_then(|key| std::str::from_utf8(key).ok()).ok_or(DamagedRow)?;
        if listing.keys.len() == limit || rows == PAGE_ROWS_MAX || bytes > PAGE_READ_BYTES_MAX {
            listing.next = last;
            return Ok(listing);
        }
        if !found.has_expired(now) {
            listing.keys.push(key.to_owned());
        }
        bytes = bytes.saturating_add(at.len()).saturating_add(row.value().len());
        last = Some(key.to_owned());
    }
    Ok(listing)
}
