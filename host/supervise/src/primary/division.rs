//! The workers in their divisions: those that take clients' connections and serve the apps without a group, and those of each
//! group. The primary balances, replaces and tells each division by itself.

use std::sync::Arc;

use wasmhost_config::{App, AppTable, Config, Listed};
use wasmhost_serve::worker::inbox::Admission;

use super::first_requests::Arrived;
use super::held::HeldForwards;
use crate::backend::Backend;
use crate::balancer::Balancer;
use crate::supervisor::{RestartIntensity, Supervisor};

/// The number of the division that takes clients' connections.
pub(super) const FRONT: usize = 0;

/// Workers that serve the same apps.
pub(super) struct Division<B: Backend> {
    /// The group whose apps they serve; none: they take clients' connections.
    pub(super) group: Option<Arc<str>>,
    /// Which of the primary's places are theirs, in order, whether a worker is there or not.
    pub(super) places: Vec<usize>,
    pub(super) balancer: Balancer,
    pub(super) supervisor: Supervisor,
    /// What their connections take from.
    pub(super) admission: Arc<Admission>,
    /// Connections for them that none of them can take now; of a group only.
    pub(super) held: HeldForwards<Arrived>,
    /// The apps and their routes, as they were told last.
    pub(super) table: B::Table,
}

/// The group of each division, and how many workers it has.
pub(super) fn groups_of(config: &Config) -> Vec<Option<Arc<str>>> {
    [None].into_iter().chain(config.groups().into_iter().map(|group| Some(Arc::from(group)))).collect()
}

impl<B: Backend> Division<B> {
    /// A division that begins with so many workers.
    pub(super) fn new(
        group: Option<Arc<str>>,
        (places, workers): (Vec<usize>, u16),
        admission: Arc<Admission>,
        table: B::Table,
    ) -> Self {
        Self {
            group,
            places,
            balancer: Balancer::default(),
            supervisor: Supervisor::new(RestartIntensity::of(workers)),
            admission,
            held: HeldForwards::new(),
            table,
        }
    }

    /// Whether its workers serve this app themselves.
    pub(super) fn serves(&self, app: &App) -> bool {
        app.group.as_deref() == self.group.as_deref()
    }
}

/// What the workers of a group, or those that take clients' connections, are told of these apps. Of others, a worker of a
/// group hears nothing, and one that takes connections hears which requests they get.
pub(super) fn seen_by(group: Option<&str>, apps: impl Iterator<Item = Listed>) -> AppTable {
    let seen = |listed: Listed| match (listed.app.group.as_deref() == group, group) {
        (true, _) => Some(listed),
        (false, None) => Some(Listed { app: Arc::new(listed.app.seen_from_outside()), ..listed }),
        (false, Some(_)) => None,
    };
    AppTable::new(apps.filter_map(seen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_config::AppId;

    #[test]
    fn who_takes_connections_knows_the_routes_of_all_and_a_group_knows_its_own_apps_alone() {
        let app = |name: &str, group: Option<&str>| {
            let mut app = App { name: name.to_owned(), group: group.map(str::to_owned), ..App::default() };
            app.routes = vec![format!("{name}.test/*")];
            app.grants.env = vec![("SECRET".to_owned(), name.to_owned()).into()];
            Arc::new(app)
        };
        let all = [app("none", None), app("one", Some("g")), app("two", Some("h"))];
        let numbered = || (0..).zip(&all).map(|(id, app)| Listed { id: AppId(id), born: 0, app: Arc::clone(app) });
        let secrets = |group| -> Vec<(String, usize)> {
            let table = seen_by(group, numbered());
            table.iter().map(|(_, app)| (app.name.clone(), app.grants.env.len())).collect()
        };
        let named =
            |list: &[(&str, usize)]| list.iter().map(|(name, env)| ((*name).to_owned(), *env)).collect::<Vec<_>>();
        assert_eq!(secrets(None), named(&[("none", 1), ("one", 0), ("two", 0)]));
        assert_eq!(secrets(Some("g")), named(&[("one", 1)]));
        let front = seen_by(None, numbered());
        assert_eq!(front.route(|| "two.test", "/").map(|routed| routed.app), Some(AppId(2)));
    }
}
