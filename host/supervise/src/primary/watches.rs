//! PURE: which new revisions of apps are watched.

use std::collections::BTreeMap;
use std::time::Instant;

use wasmhost_config::AppId;

use crate::apps::watch::Watch;

/// The revisions that are watched, and when each is looked at next.
#[derive(Debug, Default)]
pub(super) struct Watches(pub(super) BTreeMap<AppId, (Watch, Instant)>);

impl Watches {
    /// When `Primary::look_at_revisions` has something to do.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.0.values().map(|(_, at)| *at).min()
    }

    /// The revision of an app is not watched any more.
    pub(super) fn forget(&mut self, app: AppId) {
        self.0.remove(&app);
    }
}
