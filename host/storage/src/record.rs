//! The bytes of the file's rows, each with a checksum of its own, so that no damaged value is taken for a right one: the engine
//! looks at its own checksums only when it opens the file. Pure.
//!
//! A row of an entry: checksum (4 bytes) · version (8) · expiry in milliseconds since 1970 (8; 0: never) · the value. Its key:
//! the number of the store (4) · the key. A row of expiries: the number of the store (4) · expiry (8) · the key. A row of a
//! store: checksum (4) · its number (4) · keys (8) · bytes (8) · the last version (8). Numbers in rows are little-endian, those
//! in keys are big-endian, so that they sort.

use crate::operation::StoreUsage;

/// Bytes in front of the value.
pub(crate) const HEADER_BYTES: usize = 20;

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DamagedRow;

/// A row of an entry, as it lies in a page of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entered<'a> {
    pub(crate) version: u64,
    /// Milliseconds since 1970; 0: never.
    pub(crate) expiry: u64,
    pub(crate) value: &'a [u8],
}

impl Entered<'_> {
    /// Whether it is not there any more.
    pub(crate) fn has_expired(&self, now: u64) -> bool {
        self.expiry != 0 && self.expiry <= now
    }
}

/// What is known of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreRow {
    pub(crate) number: u32,
    pub(crate) usage: StoreUsage,
    /// The largest version that was given.
    pub(crate) version: u64,
}

fn checksum(key: &[u8], rest: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(rest);
    hasher.finalize().to_le_bytes()
}

/// Where an entry stands.
pub(crate) fn entry_key(store: u32, key: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + key.len());
    bytes.extend_from_slice(&store.to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// Where an expiry stands.
pub(crate) fn expiry_key(store: u32, expiry: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(12 + key.len());
    bytes.extend_from_slice(&store.to_be_bytes());
    bytes.extend_from_slice(&expiry.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

/// The expiry and the key of a row of expiries.
pub(crate) fn read_expiry_key(row: &[u8]) -> Result<(u64, &[u8]), DamagedRow> {
    let (expiry, key) = row.get(4..).and_then(|rest| rest.split_first_chunk()).ok_or(DamagedRow)?;
    Ok((u64::from_be_bytes(*expiry), key))
}

/// The row of an entry that stands at `at`.
pub(crate) fn write_entry(at: &[u8], version: u64, expiry: u64, value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER_BYTES + value.len());
    row.extend_from_slice(&[0; 4]);
    row.extend_from_slice(&version.to_le_bytes());
    row.extend_from_slice(&expiry.to_le_bytes());
    row.extend_from_slice(value);
    let sum = checksum(at, &row[4..]);
    row[..4].copy_from_slice(&sum);
    row
}

/// Reads the row that stands at `at`.
pub(crate) fn read_entry<'a>(at: &[u8], row: &'a [u8]) -> Result<Entered<'a>, DamagedRow> {
    let (sum, rest) = row.split_first_chunk::<4>().ok_or(DamagedRow)?;
    if *sum != checksum(at, rest) {
        return Err(DamagedRow);
    }
    let (version, rest) = rest.split_first_chunk().ok_or(DamagedRow)?;
    let (expiry, value) = rest.split_first_chunk().ok_or(DamagedRow)?;
    Ok(Entered { version: u64::from_le_bytes(*version), expiry: u64::from_le_bytes(*expiry), value })
}

/// The row of the store with this name.
pub(crate) fn write_store(name: &str, row: &StoreRow) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[4..8].copy_from_slice(&row.number.to_le_bytes());
    bytes[8..16].copy_from_slice(&row.usage.keys.to_le_bytes());
    bytes[16..24].copy_from_slice(&row.usage.bytes.to_le_bytes());
    bytes[24..].copy_from_slice(&row.version.to_le_bytes());
    let sum = checksum(name.as_bytes(), &bytes[4..]);
    bytes[..4].copy_from_slice(&sum);
    bytes
}

/// Reads the row of the store with this name.
pub(crate) fn read_store(name: &str, row: &[u8]) -> Result<StoreRow, DamagedRow> {
    let (sum, rest) = row.split_first_chunk::<4>().ok_or(DamagedRow)?;
    if *sum != checksum(name.as_bytes(), rest) {
        return Err(DamagedRow);
    }
    let (number, rest) = rest.split_first_chunk().ok_or(DamagedRow)?;
    let (keys, rest) = rest.split_first_chunk().ok_or(DamagedRow)?;
    let (bytes, rest) = rest.split_first_chunk().ok_or(DamagedRow)?;
    let usage = StoreUsage { keys: u64::from_le_bytes(*keys), bytes: u64::from_le_bytes(*bytes) };
    let version = u64::from_le_bytes(rest.try_into().map_err(|_| DamagedRow)?);
    Ok(StoreRow { number: u32::from_le_bytes(*number), usage, version })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_row_is_read_as_it_was_written(
            store: u32, key in ".{0,20}", version: u64, expiry: u64, value: Vec<u8>, keys: u64, bytes: u64,
        ) {
            let at = entry_key(store, &key);
            let row = write_entry(&at, version, expiry, &value);
            prop_assert_eq!(read_entry(&at, &row), Ok(Entered { version, expiry, value: &value }));
            let other = entry_key(store ^ 1, &key);
            prop_assert_eq!(read_entry(&other, &row), Err(DamagedRow), "of another store");
            let row = StoreRow { number: store, usage: StoreUsage { keys, bytes }, version };
            prop_assert_eq!(read_store(&key, &write_store(&key, &row)), Ok(row));
            let row = expiry_key(store, expiry, key.as_bytes());
            prop_assert_eq!(read_expiry_key(&row), Ok((expiry, key.as_bytes())));
        }

        #[test]
        fn a_changed_or_shortened_row_is_damaged(value: Vec<u8>, at in 0_usize..1_000, bit in 0_u8..8, keys: u64) {
            let mut row = write_entry(b"key", 1, 2, &value);
            let place = at % row.len();
            row[place] ^= 1 << bit;
            prop_assert_eq!(read_entry(b"key", &row), Err(DamagedRow));
            row[place] ^= 1 << bit;
            prop_assert_eq!(read_entry(b"key", &row[..place]), Err(DamagedRow));
            let whole = StoreRow { number: 1, usage: StoreUsage { keys, bytes: 3 }, version: 4 };
            let mut row = write_store("a", &whole);
            row[at % 32] ^= 1 << bit;
            prop_assert_eq!(read_store("a", &row), Err(DamagedRow));
            prop_assert_eq!(read_store("a", &row[..at % 32]), Err(DamagedRow));
        }
    }
}
