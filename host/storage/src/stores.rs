//! The stores that one process asks, wherever they are.

use crate::backend::KeyValue;
use crate::error::StoreError;
use crate::operation::{Operation, Reply};
use crate::owned::OwnedStores;
use crate::remote::Remote;

/// Where the stores of a process are.
#[derive(Clone, Default)]
pub enum Stores {
    /// Nowhere.
    #[default]
    None,
    /// This process has them.
    Here(OwnedStores),
    /// In another process, behind a line.
    Elsewhere(Remote),
}

impl Stores {
    /// Whether an operation may have to wait for something else than this thread.
    pub fn waits_for(&self, store: &str, operation: &Operation) -> bool {
        match self {
            Self::None => false,
            Self::Here(owned) => owned.waits_for(store, operation),
            Self::Elsewhere(_) => true,
        }
    }
}

impl KeyValue for Stores {
    async fn perform(&self, store: &str, operation: Operation) -> Result<Reply, StoreError> {
        match self {
            Self::None => Err(StoreError::Unavailable),
            Self::Here(owned) => owned.perform(store, operation).await,
            Self::Elsewhere(remote) => remote.perform(store, operation).await,
        }
    }
}
