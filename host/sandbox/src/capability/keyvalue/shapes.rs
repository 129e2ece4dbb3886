//! The types of `wasi:keyvalue`, as both versions have them.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lower, Resource};

use wasmhost_storage::StoreError;

use super::granted::AppStore;

/// `store.error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub(super) enum KeyValueError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<StoreError> for KeyValueError {
    fn from(error: StoreError) -> Self {
        match error {
            // The grant was taken away since the guest opened it.
            StoreError::NoSuchStore { .. } => Self::NoSuchStore,
            // Of the host's files, the guest learns nothing.
            StoreError::Damaged { .. } => Self::Other("the store is damaged".to_owned()),
            StoreError::Io { .. } => Self::Other("the store cannot be read or written: nothing was changed".to_owned()),
            other => Self::Other(other.to_string()),
        }
    }
}

/// `store.key-response` of `0.2.0-draft`.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct NumberedPage {
    pub(super) keys: Vec<String>,
    pub(super) cursor: Option<u64>,
}

/// `store.key-response` of `0.2.0-draft2`.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub(super) struct KeyPage {
    pub(super) keys: Vec<String>,
    pub(super) cursor: Option<String>,
}

/// `atomics.cas-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
pub(super) enum CasError {
    #[component(name = "store-error")]
    StoreError(KeyValueError),
    #[component(name = "cas-failed")]
    CasFailed(Resource<Cas>),
}

/// Ends of pages that a bucket remembers.
const CURSORS_MAX: usize = 16;

/// `store.bucket`: a store that was opened.
pub(super) struct Bucket {
    pub(super) granted: Arc<AppStore>,
    /// Where the last pages ended: cursors of `0.2.0-draft` are numbers. The earliest first.
    cursors: Vec<(u64, String)>,
    last_cursor: u64,
}

impl Bucket {
    pub(super) fn new(granted: Arc<AppStore>) -> Self {
        Self { granted, cursors: Vec::new(), last_cursor: 0 }
    }

    /// A number for where a page ended.
    pub(super) fn number(&mut self, end: String) -> u64 {
        if self.cursors.len() == CURSORS_MAX {
            self.cursors.remove(0);
        }
        self.last_cursor += 1;
        self.cursors.push((self.last_cursor, end));
        self.last_cursor
    }

    /// Where the page ended that has this number.
    pub(super) fn end(&self, number: u64) -> Option<String> {
        self.cursors.iter().find(|(known, _)| *known == number).map(|(_, end)| end.clone())
    }
}

/// `atomics.cas`: a key, and the version of it that was seen last. (Of the value nothing is kept: guests can hold many.)
pub(super) struct Cas {
    pub(super) granted: Arc<AppStore>,
    pub(super) key: String,
    pub(super) seen: Option<u64>,
}

#[cfg(test)]
mod tests {
    use wasmhost_storage::Stores;

    use super::*;

    #[test]
    fn a_bucket_remembers_where_its_last_pages_ended() {
        let granted = AppStore { stores: Stores::None, store: "a/b".to_owned(), ttl_ms: None };
        let mut bucket = Bucket::new(Arc::new(granted));
        let numbers: Vec<u64> = (0..CURSORS_MAX + 1).map(|page| bucket.number(page.to_string())).collect();
        assert_eq!(bucket.end(numbers[0]), None, "forgotten");
        assert_eq!(bucket.end(numbers[1]).as_deref(), Some("1"));
        assert_eq!(bucket.end(numbers[CURSORS_MAX]), Some(CURSORS_MAX.to_string()));
        assert_eq!(bucket.end(0), None, "of none");
    }

    #[test]
    fn guests_learn_nothing_of_the_hosts_files() {
        let file = "/var/lib/secret/stores.redb".to_owned();
        for error in [
            StoreError::Damaged { file: file.clone(), reason: "a row".to_owned() },
            StoreError::Io { file, reason: "no space".to_owned() },
        ] {
            let KeyValueError::Other(text) = KeyValueError::from(error) else { panic!("another error") };
            assert!(!text.contains("secret"), "{text}");
        }
    }
}
