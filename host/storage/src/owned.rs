//! The stores that a process has: those in its file, and those in servers that it is connected to.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::future::Either;

use crate::asked::Answered;
use crate::backend::KeyValue;
use crate::embedded::Embedded;
use crate::operation::Operation;
use crate::redis::Redis;

/// The stores of a process. What no server has is in the file. Clones are the same stores.
#[derive(Clone)]
pub struct OwnedStores {
    embedded: Embedded,
    /// The stores that servers have, by their names.
    servers: Arc<RwLock<HashMap<String, Redis>>>,
}

impl From<Embedded> for OwnedStores {
    fn from(embedded: Embedded) -> Self {
        Self { embedded, servers: Arc::default() }
    }
}

impl OwnedStores {
    /// From now on these stores are in servers, and all others in the file.
    pub fn are_in(&self, servers: HashMap<String, Redis>) {
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = servers;
    }

    /// Those in the file.
    pub fn embedded(&self) -> &Embedded {
        &self.embedded
    }

    fn server_of(&self, store: &str) -> Option<Redis> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// Whether an operation waits for another thread or a server.
    pub fn waits_for(&self, store: &str, operation: &Operation) -> bool {
        operation.changes() || self.servers.read().unwrap_or_else(PoisonError::into_inner).contains_key(store)
    }

    /// Begins with an operation that [waits](Self::waits_for).
    pub(crate) fn begin(&self, store: &str, operation: Operation) -> impl Future<Output = Answered> + Send + use<> {
        match self.server_of(store) {
            Some(redis) => Either::Left(redis.begin(store, operation)),
            None => Either::Right(self.embedded.change(store, operation)),
        }
    }
}

impl KeyValue for OwnedStores {
    async fn perform(&self, store: &str, operation: Operation) -> Answered {
        if self.waits_for(store, &operation) {
            self.begin(store, operation).await
        } else {
            self.embedded.look(store, &operation)
        }
    }
}
