//! The apps of a host at one moment, by number, and how a request finds its app. A reload makes a new table. An app keeps its
//! number for as long as the host runs and the app exists, so that its counts and instances go on.

use std::collections::HashSet;
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

/// The apps of a host at one moment.
#[derive(Debug)]
pub struct AppTable {
    apps: Vec<Option<Arc<App>>>,
    router: Router<AppId>,
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
    pub fn new(apps: impl IntoIterator<Item = (AppId, Arc<App>)>) -> Self {
        let mut all = Vec::new();
        for (id, app) in apps.into_iter().filter(|(id, _)| id.index() < APPS_MAX) {
            if all.len() <= id.index() {
                all.resize(id.index() + 1, None);
            }
            if let Some(place) = all.get_mut(id.index()) {
                *place = Some(app);
            }
        }
        let router = router_of(&all);
        Self { apps: all, router }
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
    pub fn route(&self, host: &str, path: &str) -> Option<Routed> {
        let found = self.router.find(host, path)?;
        let is_stripped = self.get(found.app).is_some_and(|app| app.strip_prefix);
        Some(Routed { app: found.app, stripped: if is_stripped { found.matched } else { 0 } })
    }
}

/// Of all routes that can be used. (Those of one file all can; the file was checked.)
fn router_of(apps: &[Option<Arc<App>>]) -> Router<AppId> {
    let apps = || (0..).map(AppId).zip(apps).filter_map(|(id, app)| Some((id, app.as_ref()?)));
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

    fn app(name: &str, routes: &[&str], strip_prefix: bool) -> Arc<App> {
        let routes = routes.iter().map(|route| (*route).to_owned()).collect();
        Arc::new(App { name: name.to_owned(), routes, strip_prefix, ..AppDraft::new().app })
    }

    #[test]
    fn a_request_goes_to_the_app_of_its_most_specific_route() {
        let apps = [
            (AppId(0), app("all", &["*"], false)),
            (AppId(2), app("api", &["example.com/api/*"], true)),
            (AppId(5), app("none", &[], false)),
        ];
        let table = AppTable::new(apps);
        let routed = |app, stripped| Some(Routed { app: AppId(app), stripped });
        assert_eq!(table.route("example.com", "/api/x"), routed(2, 4));
        assert_eq!(table.route("example.com", "/other"), routed(0, 0));
        assert_eq!(AppTable::default().route("example.com", "/"), None);
        assert_eq!(table.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [0, 2, 5]);
    }

    #[test]
    fn of_two_apps_with_one_route_the_lower_number_gets_its_requests() {
        let table =
            AppTable::new([(AppId(1), app("new", &["*", "a.b"], false)), (AppId(0), app("old", &["*"], false))]);
        assert_eq!(table.route("x", "/").map(|routed| routed.app), Some(AppId(0)));
        assert_eq!(table.route("a.b", "/").map(|routed| routed.app), Some(AppId(1)));
    }
}
