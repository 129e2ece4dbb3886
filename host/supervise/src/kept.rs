//! What a host keeps for its apps beyond requests: stores of keys and values, and databases. Who asks for them gets what it asks
//! with, here or in another process, and both hear of new grants.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::{fmt, io};

use wasmhost_base::wire::Descriptor;
use wasmhost_config::App;
use wasmhost_sandbox::HostServices;
use wasmhost_storage::LineEnd;

use crate::databases::DatabaseOwner;
use crate::stores::StoreOwner;

/// What the host has of it, from its start on.
#[derive(Clone, Default)]
pub(crate) struct KeptForApps {
    /// The stores, if an app was granted one at the start.
    pub(crate) stores: Option<Rc<StoreOwner>>,
    /// The databases, if an app was granted one at the start.
    pub(crate) databases: Option<Rc<DatabaseOwner>>,
}

impl KeptForApps {
    /// For guests of this process.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn services(&self) -> io::Result<HostServices> {
        let mut services = self.stores.as_ref().map(|stores| stores.services()).unwrap_or_default();
        if let Some(databases) = &self.databases {
            services.databases = databases.here()?;
        }
        Ok(services)
    }

    /// With which a process asks for what the apps of this group, or those without one, are granted.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn lines(&self, group: Option<&str>) -> io::Result<Vec<(Descriptor, OwnedFd)>> {
        let mut lines = Vec::new();
        if let Some(stores) = &self.stores {
            let LineEnd { reads, writes } = stores.line(group)?;
            lines.extend([(Descriptor::StoreReplies, reads), (Descriptor::StoreQuestions, writes)]);
        }
        if let Some(databases) = &self.databases {
            lines.push((Descriptor::Databases, databases.line(group)?));
        }
        Ok(lines)
    }

    /// Grants what these apps are granted, besides what is granted already: before workers hear of them. False: not all of it, as the
    /// log tells.
    pub(crate) async fn grant_also(&self, apps: &[Arc<App>]) -> bool {
        let mut is_granted = true;
        if let Some(stores) = &self.stores {
            is_granted &= is_told_as_granted("stores", stores.grant_also(apps).await);
        }
        if let Some(databases) = &self.databases {
            is_granted &= is_told_as_granted("databases", databases.grant_also(apps).await);
        }
        is_granted
    }

    /// Grants what these apps are granted, and nothing else. False: not so, as the log tells.
    pub(crate) async fn grant_only(&self, apps: Vec<Arc<App>>) -> bool {
        let mut is_granted = true;
        if let Some(databases) = &self.databases {
            is_granted &= is_told_as_granted("databases", databases.grant_only(apps.clone()).await);
        }
        if let Some(stores) = &self.stores {
            is_granted &= is_told_as_granted("stores", stores.grant_only(apps).await);
        }
        is_granted
    }
}

fn is_told_as_granted(of: &str, granted: Result<(), impl fmt::Display>) -> bool {
    if let Err(error) = &granted {
        tracing::error!(hint = "reload again", "reload: the grants and quotas of {of} go on as they were: {error}");
    }
    granted.is_ok()
}
