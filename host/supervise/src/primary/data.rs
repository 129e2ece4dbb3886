//! What only one host may have at a time: the file of stores, and the databases. A host that takes over from another opens them
//! when that one has let go of them.

use std::sync::Arc;
use std::time::Duration;

use wasmhost_base::inject;
use wasmhost_confine::spawner::Spawner;
use wasmhost_serve::metrics::HostMetrics;

use super::error::PrimaryError;
use crate::databases::DatabasesEnd;
use crate::kept::KeptForApps;
use crate::stores::{StoresBeginning, StoresEnd};

/// The data of a host.
#[derive(Default)]
pub(super) struct HostData {
    beginning: Option<StoresBeginning>,
    stores: Option<StoresEnd>,
    databases: Option<DatabasesEnd>,
}

impl HostData {
    /// Not open yet.
    pub(super) fn new(beginning: Option<StoresBeginning>) -> Self {
        Self { beginning, ..Self::default() }
    }

    /// Opens it. Needs a local tokio runtime.
    ///
    /// # Errors
    /// When the file of stores cannot be used.
    pub(super) fn open(
        &mut self,
        kept: &KeptForApps,
        spawner: &Arc<Spawner>,
        counts: &'static HostMetrics,
    ) -> Result<(), PrimaryError> {
        if inject::cannot_open_data() {
            return Err(PrimaryError::Data("a test does not let it be opened".to_owned()));
        }
        self.stores = self.beginning.take().map(StoresBeginning::begin).transpose()?;
        self.databases = kept.databases.as_ref().map(|databases| databases.start(Arc::clone(spawner), counts));
        Ok(())
    }

    /// Has it closed, and waits for that. False: it is not closed in time.
    pub(super) async fn close(self, within: Duration) -> bool {
        let databases = match self.databases {
            Some(databases) => databases.wait(within).await,
            None => true,
        };
        let stores = match self.stores {
            Some(stores) => stores.wait(within).await,
            None => true,
        };
        stores && databases
    }
}
