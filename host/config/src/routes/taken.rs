//! PURE: which apps of a new reading cannot have their routes, since an app has them that goes on with its old settings.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::pattern::RoutePattern;
use super::shown;
use crate::App;

/// Apps of `after`, by name, one of whose routes is still that of an app that goes on as it was in `before`, and what is to be
/// said of that. Those of `wrong` go on as they were, and so does each app that is found; `after` has none of `wrong`.
pub fn still_taken(before: &[Arc<App>], after: &[Arc<App>], wrong: &HashSet<&str>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if wrong.is_empty() {
        return found;
    }
    let before: HashMap<&str, &App> = before.iter().map(|app| (&*app.name, &**app)).collect();
    let mut wanted: HashMap<RoutePattern, (&App, &str)> = HashMap::new();
    for app in after {
        wanted.extend(patterns(app).map(|(pattern, route)| (pattern, (&**app, route))));
    }
    // Each app is looked at once.
    let mut going_on: Vec<&App> = wrong.iter().filter_map(|name| before.get(name).copied()).collect();
    going_on.sort_by(|one, other| one.name.cmp(&other.name));
    while let Some(old) = going_on.pop() {
        for (pattern, _) in patterns(old) {
            let Some((app, route)) = wanted.get(&pattern) else { continue };
            if app.name == old.name || found.contains_key(&app.name) {
                continue;
            }
            let reason = format!(
                "route `{}` of app `{}` is still a route of app `{}`, which goes on as it was because of a mistake; `{}` changes once that is mended",
                shown(route),
                app.name,
                old.name,
                app.name
            );
            found.insert(app.name.clone(), reason);
            going_on.extend(before.get(&*app.name));
        }
    }
    found
}

/// The routes of an app that can be read: what they match, and as they are written.
fn patterns(app: &App) -> impl Iterator<Item = (RoutePattern, &str)> {
    app.routes.iter().filter_map(|route| Some((RoutePattern::parse(route).ok()?, &**route)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a=x,y b=z`
    fn apps(text: &str) -> Vec<Arc<App>> {
        let app = |text: &str| {
            let (name, routes) = text.split_once('=').unwrap_or((text, ""));
            let routes = routes.split(',').filter(|route| !route.is_empty()).map(str::to_owned).collect();
            Arc::new(App { name: name.to_owned(), routes, ..App::default() })
        };
        text.split_whitespace().map(app).collect()
    }

    #[test]
    fn an_app_waits_for_a_route_until_the_app_that_has_it_lets_go_of_it() {
        // Before, after (without those that are wrong), wrong; found.
        let rows = [
            ("a=x b=y any=*", "b=x any=*", "a", "b"),
            ("a=x b=y any=*", "b=y any=*", "a", ""),
            // The same requests, written otherwise.
            ("a=x b=y", "b=X/*", "a", "b"),
            // All that follow.
            ("a=x b=y c=z d=w", "b=x c=y d=w", "a", "b c"),
            ("a=x b=y c=z", "b=x c=y,z", "a", "b c"),
            // A new app.
            ("a=x", "new=x other=y", "a", "new"),
            // A new app that is wrong has nothing.
            ("a=x", "a=y", "new", ""),
            ("a=x b=y", "a=y b=x", "", ""),
            // Two apps in a circle.
            ("a=x b=y c=z", "b=x c=y", "a", "b c"),
            ("a=x b=", "b=x/api/*", "a", ""),
        ];
        for (before, after, wrong, expected) in rows {
            let found = still_taken(&apps(before), &apps(after), &wrong.split_whitespace().collect());
            let names: Vec<&str> = found.keys().map(String::as_str).collect();
            assert_eq!(names.join(" "), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn it_says_which_route_of_which_apps() {
        let found = still_taken(&apps("a=x/* b=y"), &apps("b=x"), &HashSet::from(["a"]));
        let reason = &found["b"];
        assert!(["`x`", "`a`", "`b`"].iter().all(|word| reason.contains(word)), "{reason}");
    }
}
