//! The apps of a host at one moment, by number, and how a request finds its app. A reload makes a new table. An app keeps its
//! number for as long as the host runs and the app exists, so that its counts and instances go on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::App;
use super::routes::{AppRoute, Router};

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

/// An app of a table.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its number.
    pub id: AppId,
    /// Counts how often an app has appeared since the host began: one that was removed and added again has the same number
    /// and another birth, by which a worker that missed the table in between knows that it is another app.
    pub born: u64,
    /// The app.
    pub app: Arc<App>,
}

/// The apps of a host at one moment.
#[derive(Debug)]
pub struct AppTable {
    apps: Vec<Option<Listed>>,
    router: Router<AppId>,
    /// Those that others call, by name.
    called: HashMap<String, AppId>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routed {
    /// To this app.
    pub app: AppId,
    /// Bytes at the beginning of the path that the route matched and the app does not see.
    pub stripped: usize,
}

impl Default for AppTable {
    fn default() -> Self {
        Self::new([])
    }
}

impl AppTable {
    /// Of these apps, each with its number. Where two have the same route (a reload gave it to another app, and the first
    /// could not be changed), the lower number gets its requests.
    pub fn new(apps: impl IntoIterator<Item = Listed>) -> Self {
        let mut all = Vec::new();
        for listed in apps.into_iter().filter(|listed| listed.id.index() < APPS_MAX) {
            let at = listed.id.index();
            if all.len() <= at {
                all.resize(at + 1, None);
            }
            if let Some(place) = all.get_mut(at) {
                *place = Some(listed);
            }
        }
        let router = router_of(&all);
        let names: HashSet<&str> =
            all.iter().flatten().flat_map(|listed| &listed.app.services).map(|service| &*service.app).collect();
        let called = all.iter().flatten().filter(|listed| names.contains(&*listed.app.name));
        let called = called.map(|listed| (listed.app.name.clone(), listed.id)).collect();
        Self { apps: all, router, called }
    }

    /// The app of this number, if there is one.
    pub fn get(&self, id: AppId) -> Option<&Arc<App>> {
        self.listed(id).map(|listed| &listed.app)
    }

    /// The app of this name, if another calls it.
    pub fn named(&self, name: &str) -> Option<AppId> {
        self.called.get(name).copied()
    }

    /// The birth of the app of this number; none if there is no such app. See [`Listed::born`].
    pub fn born(&self, id: AppId) -> Option<u64> {
        self.listed(id).map(|listed| listed.born)
    }

    /// Whether the app of this number is here, and was the same one in another table.
    pub fn has_same(&self, id: AppId, other: &Self) -> bool {
        self.born(id).is_some_and(|born| other.born(id) == Some(born))
    }

    fn listed(&self, id: AppId) -> Option<&Listed> {
        self.apps.get(id.index())?.as_ref()
    }

    /// How many apps there are.
    pub fn len(&self) -> usize {
        self.rows().count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All apps, by number.
    pub fn iter(&self) -> impl Iterator<Item = (AppId, &Arc<App>)> {
        self.rows().map(|listed| (listed.id, &listed.app))
    }

    /// All that is known of all apps, by number.
    pub fn rows(&self) -> impl Iterator<Item = &Listed> {
        self.apps.iter().flatten()
    }

    /// The app for a request to this host (without a port) and path, if any has a route for it.
    pub fn route<'h>(&self, host: impl FnOnce() -> &'h str, path: &str) -> Option<Routed> {
        let found = self.router.find_by(host, path)?;
        let is_stripped = self.get(found.app).is_some_and(|app| app.strip_prefix);
        Some(Routed { app: found.app, stripped: if is_stripped { found.matched } else { 0 } })
    }
}

/// Of all routes that can be used. (Those of one file all can; the file was checked.)
fn router_of(apps: &[Option<Listed>]) -> Router<AppId> {
    let apps = || apps.iter().flatten().map(|listed| (listed.id, &listed.app));
    let mut left_out: HashSet<(AppId, usize)> = HashSet::new();
    loop {
        let routes = apps().flat_map(|(app, settings)| {
            let route = move |(number, route)| AppRoute { name: &settings.name, app, route, place: (app, number) };
            settings.routes.iter().map(String::as_str).enumerate().map(route)
        });
        match Router::build(routes.filter(|route| !left_out.contains(&route.place))) {
            Ok(router) => return router,
            // Each round leaves out one at least.
            Err(wrong) => left_out.extend(wrong.into_iter().map(|wrong| wrong.place)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::AppDraft;
    use crate::environment::HostEnvironment;

    fn app(id: u32, name: &str, routes: &[&str], strip_prefix: bool) -> Listed {
        let routes = routes.iter().map(|route| (*route).to_owned()).collect();
        let app = App { name: name.to_owned(), routes, strip_prefix, ..AppDraft::new(HostEnvironment::NONE).app };
        Listed { id: AppId(id), born: 0, app: Arc::new(app) }
    }

    #[test]
    fn a_request_goes_to_the_app_of_its_most_specific_route() {
        let apps =
            [app(0, "all", &["*"], false), app(2, "api", &["example.com/api/*"], true), app(5, "none", &[], false)];
        let table = AppTable::new(apps);
        let routed = |app, stripped| Some(Routed { app: AppId(app), stripped });
        assert_eq!(table.route(|| "example.com", "/api/x"), routed(2, 4));
        assert_eq!(table.route(|| "example.com", "/other"), routed(0, 0));
        assert_eq!(AppTable::default().route(|| "example.com", "/"), None);
        assert_eq!(table.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 2, 5]);
    }

    #[test]
    fn of_two_apps_with_one_route_the_lower_number_gets_its_requests() {
        let table = AppTable::new([app(1, "new", &["*", "a.b"], false), app(0, "old", &["*"], false)]);
        assert_eq!(table.route(|| "x", "/").map(|routed| routed.app), Some(AppId(0)));
        assert_eq!(table.route(|| "a.b", "/").map(|routed| routed.app), Some(AppId(1)));
    }

    #[test]
    fn an_app_that_was_removed_and_added_again_is_another_app() {
        let table = |born| AppTable::new([Listed { born, ..app(1, "back", &["*"], false) }]);
        assert!(table(1).has_same(AppId(1), &table(1)));
        assert!(!table(2).has_same(AppId(1), &table(1)));
        assert!(!AppTable::default().has_same(AppId(1), &table(1)));
        assert!(!table(1).has_same(AppId(2), &table(1)), "no such app");
    }
}
