//! What every backend of stores can do, whether it is in this process, behind a line, or another program.

use std::future::Future;

use crate::error::StoreError;
use crate::operation::{Edit, Listing, Operation, Reply, StoreUsage, Stored};

/// Stores of keys and values, by name.
pub trait KeyValue: Clone + Send + Sync + 'static {
    /// Carries out an operation on a store, as a whole or not at all, and at most once: nothing here is tried again. What was
    /// acknowledged survives a crash. The wait is bounded by the backend's patience; it needs a tokio runtime with time.
    ///
    /// A future that is dropped may have changed the store nonetheless.
    ///
    /// # Errors
    /// See [`StoreError`]; only after `Unknown` may something have been changed.
    fn perform(&self, store: &str, operation: Operation) -> impl Future<Output = Result<Reply, StoreError>> + Send;

    /// The values of these keys at one moment.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn get_many(
        &self,
        store: &str,
        keys: Vec<String>,
    ) -> impl Future<Output = Result<Vec<Option<Stored>>, StoreError>> + Send {
        let asked = keys.len();
        let performed = self.perform(store, Operation::Get { keys });
        async move {
            match performed.await? {
                Reply::Values(values) if values.len() == asked => Ok(values),
                _ => Err(StoreError::Invalid),
            }
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn get(&self, store: &str, key: &str) -> impl Future<Output = Result<Option<Stored>, StoreError>> + Send {
        let got = self.get_many(store, vec![key.to_owned()]);
        async move { Ok(got.await?.pop().flatten()) }
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn exists(&self, store: &str, key: &str) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let performed = self.perform(store, Operation::Exists { key: key.to_owned() });
        async move {
            match performed.await? {
                Reply::Exists(exists) => Ok(exists),
                _ => Err(StoreError::Invalid),
            }
        }
    }

    /// A page of keys: see [`Operation::List`].
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn list(
        &self,
        store: &str,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> impl Future<Output = Result<Listing, StoreError>> + Send {
        let performed = self.perform(store, Operation::List { prefix: prefix.to_owned(), after, limit });
        async move {
            match performed.await? {
                Reply::Page(listing) => Ok(listing),
                _ => Err(StoreError::Invalid),
            }
        }
    }

    /// How much a store holds.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn usage(&self, store: &str) -> impl Future<Output = Result<StoreUsage, StoreError>> + Send {
        let performed = self.perform(store, Operation::Usage);
        async move {
            match performed.await? {
                Reply::Usage(usage) => Ok(usage),
                _ => Err(StoreError::Invalid),
            }
        }
    }

    /// Does these edits, all or none.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn write(&self, store: &str, edits: Vec<Edit>) -> impl Future<Output = Result<(), StoreError>> + Send {
        let performed = self.perform(store, Operation::Write { edits });
        async move {
            match performed.await? {
                Reply::Written => Ok(()),
                _ => Err(StoreError::Invalid),
            }
        }
    }

    /// Gives a key this value, until it is changed.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn set(&self, store: &str, key: &str, value: &[u8]) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.write(store, vec![Edit::Set { key: key.to_owned(), value: value.to_vec(), ttl_ms: None }])
    }

    /// Deletes a key, whether it is there or not.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn delete(&self, store: &str, key: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.write(store, vec![Edit::Delete { key: key.to_owned() }])
    }

    /// Adds to a number; the sum.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn increment(&self, store: &str, key: &str, by: i64) -> impl Future<Output = Result<i64, StoreError>> + Send {
        let performed = self.perform(store, Operation::Increment { key: key.to_owned(), by });
        async move {
            match performed.await? {
                Reply::Number(number) => Ok(number),
                _ => Err(StoreError::Invalid),
            }
        }
    }

    /// Does an edit if the key still has this version (none: no value); whether it had.
    ///
    /// # Errors
    /// See [`Self::perform`].
    fn swap(
        &self,
        store: &str,
        expected: Option<u64>,
        edit: Edit,
    ) -> impl Future<Output = Result<bool, StoreError>> + Send {
        let performed = self.perform(store, Operation::Swap { expected, edit });
        async move {
            match performed.await? {
                Reply::Swapped(swapped) => Ok(swapped),
                _ => Err(StoreError::Invalid),
            }
        }
    }
}
