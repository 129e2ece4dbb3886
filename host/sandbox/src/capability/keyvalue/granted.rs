//! What an app was granted: the names by which its guest opens stores, and what each stands for.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmhost_config::StoreGrant;
use wasmhost_storage::Stores;

/// The capability.
pub(crate) struct KeyValueStores;

/// The stores of an app, by the names by which its guest calls them.
pub(crate) struct AppStores(BTreeMap<String, AppStore>);

/// One of them.
#[derive(Clone)]
pub(super) struct AppStore {
    /// Where it is.
    pub(super) stores: Stores,
    /// What it is called there.
    pub(super) store: String,
    /// For how many milliseconds a key has its value; none: until it is changed.
    pub(super) ttl_ms: Option<u64>,
}

impl AppStores {
    pub(super) fn new(granted: &[StoreGrant], stores: &Stores) -> Self {
        let one = |grant: &StoreGrant| {
            let ttl_ms = grant.limits.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let store = AppStore { stores: stores.clone(), store: grant.store.clone(), ttl_ms };
            (grant.name.clone(), store)
        };
        Self(granted.iter().map(one).collect())
    }

    /// The store that the guest calls so, for one instance: calls of different workers count their uses apart.
    pub(super) fn open(&self, name: &str) -> Option<Arc<AppStore>> {
        self.0.get(name).cloned().map(Arc::new)
    }
}
