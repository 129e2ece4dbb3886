//! What operations change, in the tables of one transaction that many operations share. Each is planned first, from what the
//! tables hold and what the quota allows, and then done: one that is refused has changed nothing, and the others go on.

use std::borrow::Cow;
use std::collections::BTreeMap;

use redb::{ReadableTable, Table, WriteTransaction};

use crate::engine::{BATCH, ENTRIES, EXPIRIES, META, STORES, TransactionError};
use crate::error::StoreError;
use crate::operation::{Edit, Operation, Reply, StoreQuota, StoreUsage};
use crate::read::StorePlace;
use crate::record::{
    DamagedRow, StoreRow, entry_key, expiry_key, read_entry, read_expiry_key, read_store, write_entry, write_store,
};

/// A write for which there is no room removes this many expired entries of its store before it looks again.
const ROOM_ROWS: usize = 1_024;
/// It looks again at most so often; what has expired besides is removed by sweeps.
const ROOM_ROUNDS: usize = 4;
/// Bytes of the values that an operation takes the place of, or that are removed at once because they have expired: they are read
/// and compared with their checksums while all other writers wait.
const OLD_BYTES_MAX: usize = 32 << 20;
/// Longest text of a number.
const NUMBER_BYTES_MAX: usize = 20;

/// What a key is to have.
struct Effect<'a> {
    /// A value and its expiry (0: never); none: it is deleted.
    to: Option<(Cow<'a, [u8]>, u64)>,
}

/// An effect, and what it takes the place of.
struct Planned<'a> {
    at: Vec<u8>,
    effect: &'a Effect<'a>,
    /// The expiry of the entry that is there, expired or not.
    old_expiry: Option<u64>,
}

/// A transaction whose operations are done.
pub(crate) struct EndedWriting {
    /// Its number, by which it is looked for when it is not known whether it was committed.
    pub(crate) number: u64,
    /// What the stores that it changed hold.
    pub(crate) usage: Vec<(String, StoreUsage)>,
}

/// The tables of a transaction, while operations are done in it.
pub(crate) struct Writing<'t> {
    entries: Table<'t, &'static [u8], &'static [u8]>,
    expiries: Table<'t, &'static [u8], ()>,
    stores: Table<'t, &'static str, &'static [u8]>,
    meta: Table<'t, &'static str, u64>,
    /// The stores that operations of this transaction have changed; they are written at its end.
    changed: BTreeMap<String, StoreRow>,
    now: u64,
    /// The earliest expiry that was written here.
    pub(crate) next_expiry: Option<u64>,
}

impl<'t> Writing<'t> {
    /// Opens the tables. `now` is in milliseconds since 1970.
    pub(crate) fn begin(transaction: &'t WriteTransaction, now: u64) -> Result<Self, TransactionError> {
        Ok(Self {
            entries: transaction.open_table(ENTRIES)?,
            expiries: transaction.open_table(EXPIRIES)?,
            stores: transaction.open_table(STORES)?,
            meta: transaction.open_table(META)?,
            changed: BTreeMap::new(),
            now,
            next_expiry: None,
        })
    }

    /// Writes what is known of the stores that were changed, and the number of this transaction.
    pub(crate) fn end(mut self) -> Result<EndedWriting, TransactionError> {
        for (name, row) in &self.changed {
            self.stores.insert(&**name, &write_store(name, row)[..])?;
        }
        let number = self.meta.get(BATCH)?.map_or(0, |number| number.value()).saturating_add(1);
        self.meta.insert(BATCH, number)?;
        Ok(EndedWriting { number, usage: self.changed.into_iter().map(|(name, row)| (name, row.usage)).collect() })
    }

    /// What is known of a store, which gets its number when its name is first heard of.
    pub(crate) fn row_of(&mut self, name: &str) -> Result<StoreRow, TransactionError> {
        if let Some(row) = self.stores.get(name)? {
            return Ok(read_store(name, row.value())?);
        }
        let mut last = 0;
        for row in self.stores.iter()? {
            let (other, row) = row?;
            last = last.max(read_store(other.value(), row.value())?.number);
        }
        let number = last.checked_add(1).ok_or(TransactionError::Refused(StoreError::Overflow))?;
        let row = StoreRow { number, usage: StoreUsage::default(), version: 0 };
        self.stores.insert(name, &write_store(name, &row)[..])?;
        Ok(row)
    }

    /// Does one operation. After `Refused` and `Row` the transaction is as before, but for expired entries; after `Engine` it
    /// must not be committed.
    pub(crate) fn apply(
        &mut self,
        store: StorePlace<'_>,
        quota: &StoreQuota,
        operation: &Operation,
    ) -> Result<Reply, TransactionError> {
        match operation {
            Operation::Write { edits } => {
                let effects = edits.iter().map(|edit| (edit.key(), self.effect(edit))).collect();
                self.change(store, quota, &effects)?;
                Ok(Reply::Written)
            }
            Operation::Increment { key, by } => {
                let (number, expiry) = match self.number(&entry_key(store.number, key))? {
                    Some(found) => found,
                    // A new one expires as what guests set.
                    None => (0, self.expiry(quota.ttl_ms)),
                };
                let number = number.checked_add(*by).ok_or(TransactionError::Refused(StoreError::Overflow))?;
                let to = Some((number.to_string().into_bytes().into(), expiry));
                self.change(store, quota, &BTreeMap::from([(&**key, Effect { to })]))?;
                Ok(Reply::Number(number))
            }
            Operation::Swap { expected, edit } => {
                if self.version(&entry_key(store.number, edit.key()))? != *expected {
                    return Ok(Reply::Swapped(false));
                }
                self.change(store, quota, &BTreeMap::from([(edit.key(), self.effect(edit))]))?;
                Ok(Reply::Swapped(true))
            }
            // These do not come here.
            Operation::Get { .. } | Operation::Exists { .. } | Operation::List { .. } | Operation::Usage => {
                Err(TransactionError::Refused(StoreError::Invalid))
            }
        }
    }

    fn effect<'a>(&self, edit: &'a Edit) -> Effect<'a> {
        let Edit::Set { value, ttl_ms, .. } = edit else { return Effect { to: None } };
        Effect { to: Some((value.into(), self.expiry(*ttl_ms))) }
    }

    /// When what is written now for so many milliseconds expires; 0: never.
    fn expiry(&self, ttl_ms: Option<u64>) -> u64 {
        ttl_ms.map_or(0, |ttl| self.now.saturating_add(ttl).max(1))
    }

    /// The number at a place, and its expiry, if it has not expired. A long value is none, and is not copied.
    fn number(&self, at: &[u8]) -> Result<Option<(i64, u64)>, TransactionError> {
        let Some(row) = self.entries.get(at)? else { return Ok(None) };
        let found = read_entry(at, row.value())?;
        if found.has_expired(self.now) {
            return Ok(None);
        }
        if found.value.len() > NUMBER_BYTES_MAX {
            return Err(TransactionError::Refused(StoreError::NotANumber));
        }
        Ok(Some((read_number(found.value)?, found.expiry)))
    }

    /// The version of the entry at a place, if it has not expired.
    fn version(&self, at: &[u8]) -> Result<Option<u64>, TransactionError> {
        let Some(row) = self.entries.get(at)? else { return Ok(None) };
        let found = read_entry(at, row.value())?;
        Ok((!found.has_expired(self.now)).then_some(found.version))
    }

    fn change(
        &mut self,
        store: StorePlace<'_>,
        quota: &StoreQuota,
        effects: &BTreeMap<&str, Effect<'_>>,
    ) -> Result<(), TransactionError> {
        let mut row = self.row(store)?;
        let mut rounds = 0;
        let planned = loop {
            let (planned, usage) = self.plan(store, effects, row.usage)?;
            let Some(refusal) = refusal(row.usage, usage, quota) else {
                row.usage = usage;
                break planned;
            };
            let (removed, row_then) = self.remove_expired(store, row, ROOM_ROWS)?;
            row = row_then;
            rounds += 1;
            if removed == 0 || rounds == ROOM_ROUNDS {
                return Err(TransactionError::Refused(refusal));
            }
        };
        for Planned { at, effect, old_expiry } in planned {
            let key = at.get(4..).unwrap_or_default();
            if let Some(expiry) = old_expiry.filter(|expiry| *expiry != 0) {
                self.expiries.remove(&*expiry_key(store.number, expiry, key))?;
            }
            row.version = row.version.saturating_add(1);
            match &effect.to {
                Some((value, expiry)) => {
                    self.entries.insert(&*at, &*write_entry(&at, row.version, *expiry, value))?;
                    if *expiry != 0 {
                        self.expiries.insert(&*expiry_key(store.number, *expiry, key), ())?;
                        self.next_expiry = Some(self.next_expiry.map_or(*expiry, |next| next.min(*expiry)));
                    }
                }
                None => {
                    self.entries.remove(&*at)?;
                }
            }
        }
        self.changed.insert(store.name.to_owned(), row);
        Ok(())
    }

    /// What has to be done, and what the store holds then.
    fn plan<'a>(
        &self,
        store: StorePlace<'_>,
        effects: &'a BTreeMap<&str, Effect<'_>>,
        mut usage: StoreUsage,
    ) -> Result<(Vec<Planned<'a>>, StoreUsage), TransactionError> {
        let mut planned = Vec::with_capacity(effects.len());
        let mut old_bytes = 0_usize;
        for (key, effect) in effects {
            let at = entry_key(store.number, key);
            let old = match self.entries.get(&*at)? {
                Some(row) => {
                    let old = read_entry(&at, row.value())?;
                    Some((old.value.len(), old.expiry))
                }
                None => None,
            };
            if let Some((bytes, _)) = old {
                usage = less(usage, key.len().saturating_add(bytes))?;
                old_bytes = old_bytes.saturating_add(bytes);
                if old_bytes > OLD_BYTES_MAX {
                    return Err(TransactionError::Refused(StoreError::TooLarge {
                        bytes: old_bytes,
                        max: OLD_BYTES_MAX,
                    }));
                }
            }
            if let Some((value, _)) = &effect.to {
                usage.keys = usage.keys.saturating_add(1);
                usage.bytes = usage.bytes.saturating_add(key.len().saturating_add(value.len()) as u64);
            }
            if old.is_some() || effect.to.is_some() {
                planned.push(Planned { at, effect, old_expiry: old.map(|(_, expiry)| expiry) });
            }
        }
        Ok((planned, usage))
    }

    fn row(&self, store: StorePlace<'_>) -> Result<StoreRow, TransactionError> {
        if let Some(row) = self.changed.get(store.name) {
            return Ok(*row);
        }
        let row = self.stores.get(store.name)?.ok_or(DamagedRow)?;
        Ok(read_store(store.name, row.value())?)
    }

    /// Removes entries of a store that have expired, the earliest first, at most so many; how many it has removed.
    pub(crate) fn sweep(&mut self, store: StorePlace<'_>, rows_max: usize) -> Result<usize, TransactionError> {
        let row = self.row(store)?;
        Ok(self.remove_expired(store, row, rows_max)?.0)
    }

    /// When the next entry of a store expires.
    pub(crate) fn next_expiry_of(&self, store: u32) -> Result<Option<u64>, TransactionError> {
        let (begin, end) = (expiry_key(store, 0, &[]), expiry_key(store, u64::MAX, &[]));
        let Some(next) = self.expiries.range::<&[u8]>(&*begin..&*end)?.next() else { return Ok(None) };
        Ok(Some(read_expiry_key(next?.0.value())?.0))
    }

    fn remove_expired(
        &mut self,
        store: StorePlace<'_>,
        mut row: StoreRow,
        rows_max: usize,
    ) -> Result<(usize, StoreRow), TransactionError> {
        let (begin, end) =
            (expiry_key(store.number, 0, &[]), expiry_key(store.number, self.now.saturating_add(1), &[]));
        let mut expired = Vec::new();
        for found in self.expiries.range::<&[u8]>(&*begin..&*end)?.take(rows_max) {
            expired.push(found?.0.value().to_vec());
        }
        // Looked at before anything is removed: a damaged row leaves all as it is.
        let mut usage = row.usage;
        let mut places = Vec::with_capacity(expired.len());
        let mut bytes = 0_usize;
        for found in &expired {
            if bytes > OLD_BYTES_MAX {
                break;
            }
            let (_, key) = read_expiry_key(found)?;
            let at = entry_key(store.number, std::str::from_utf8(key).map_err(|_| DamagedRow)?);
            let entry = self.entries.get(&*at)?.ok_or(DamagedRow)?;
            let entry = read_entry(&at, entry.value())?;
            usage = less(usage, key.len().saturating_add(entry.value.len()))?;
            bytes = bytes.saturating_add(entry.value.len());
            places.push(at);
        }
        row.usage = usage;
        for (found, at) in expired.iter().zip(&places) {
            self.expiries.remove(&**found)?;
            self.entries.remove(&**at)?;
        }
        if !places.is_empty() {
            self.changed.insert(store.name.to_owned(), row);
        }
        Ok((places.len(), row))
    }
}

/// What is held without an entry of so many bytes.
fn less(usage: StoreUsage, bytes: usize) -> Result<StoreUsage, DamagedRow> {
    let keys = usage.keys.checked_sub(1).ok_or(DamagedRow)?;
    Ok(StoreUsage { keys, bytes: usage.bytes.checked_sub(bytes as u64).ok_or(DamagedRow)? })
}

/// Whether a store may come to hold this. One that holds more than its quota, because that was lowered, may shrink.
fn refusal(before: StoreUsage, after: StoreUsage, quota: &StoreQuota) -> Option<StoreError> {
    if after.keys > quota.keys_max && after.keys > before.keys {
        return Some(StoreError::KeysFull { max: quota.keys_max });
    }
    let is_full = after.bytes > quota.bytes_max && after.bytes > before.bytes;
    is_full.then_some(StoreError::BytesFull { bytes: after.bytes, max: quota.bytes_max })
}

/// A number as it is stored, in the one form that has no other.
fn read_number(value: &[u8]) -> Result<i64, TransactionError> {
    let text = std::str::from_utf8(value).map_err(|_| TransactionError::Refused(StoreError::NotANumber))?;
    let number: i64 = text.parse().map_err(|_| TransactionError::Refused(StoreError::NotANumber))?;
    if number.to_string() == text { Ok(number) } else { Err(TransactionError::Refused(StoreError::NotANumber)) }
}
