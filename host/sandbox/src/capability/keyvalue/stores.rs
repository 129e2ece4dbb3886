//! Who has the stores that this process's guests ask: this process, or another.

use wasmhost_storage::{Embedded, KeyValue, Operation, Remote, Reply, StoreError};

/// Where the stores of a process's guests are.
#[derive(Clone, Default)]
pub enum Stores {
    /// Nowhere: no app was granted one, or this process only tries a component.
    #[default]
    None,
    /// In this process.
    Here(Embedded),
    /// In another process, behind a socket.
    Elsewhere(Remote),
}

impl Stores {
    /// Whether an operation may have to wait for something else than this thread.
    pub(super) fn waits_for(&self, operation: &Operation) -> bool {
        match self {
            Self::None => false,
            Self::Here(_) => operation.changes(),
            Self::Elsewhere(_) => true,
        }
    }
}

impl KeyValue for Stores {
    async fn perform(&self, store: &str, operation: Operation) -> Result<Reply, StoreError> {
        match self {
            Self::None => Err(StoreError::Unavailable),
            Self::Here(embedded) => embedded.perform(store, operation).await,
            Self::Elsewhere(remote) => remote.perform(store, operation).await,
        }
    }
}
