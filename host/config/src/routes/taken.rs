//! PURE: which apps of a new reading cannot have their routes, since an app has them that goes on with its old settings.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::pattern::RoutePattern;
use super::shown;

/// An app's name, and its routes as they are written.
type RoutesOfApp<'a> = (&'a str, &'a [String]);

/// Apps of `after`, by name, one of whose routes is still that of an app that goes on as it was in `before`, and what is to be
/// said of that. Those of `wrong` go on as they were, and so does each app that is found; `after` has none of `wrong`.
pub fn still_taken<'a>(
    before: impl IntoIterator<Item = RoutesOfApp<'a>>,
    after: impl IntoIterator<Item = RoutesOfApp<'a>>,
    wrong: &HashSet<&str>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    if wrong.is_empty() {
        return found;
    }
    let before: HashMap<&str, &[String]> = before.into_iter().collect();
    let mut wanted: HashMap<RoutePattern, (&str, &str)> = HashMap::new();
    for (app, routes) in after {
        wanted.extend(patterns(routes).map(|(pattern, route)| (pattern, (app, route))));
    }
    // Each app is looked at once.
    let going_on = |app: &str| before.get_key_value(app).map(|(app, routes)| (*app, *routes));
    let mut left: Vec<RoutesOfApp<'_>> = wrong.iter().filter_map(|app| going_on(app)).collect();
    left.sort_unstable();
    while let Some((old, routes)) = left.pop() {
        for (pattern, _) in patterns(routes) {
            let Some((app, route)) = wanted.get(&pattern) else { continue };
            if *app == old || found.contains_key(*app) {
                continue;
            }
            let reason = format!(
                "route `{}` of app `{app}` is still a route of app `{old}`, which goes on as it was because of a mistake; `{app}` \
                 changes once that is mended",
                shown(route)
            );
            found.insert((*app).to_owned(), reason);
            left.extend(going_on(app));
        }
    }
    found
}

/// The routes that can be read: what they match, and as they are written.
fn patterns(routes: &[String]) -> impl Iterator<Item = (RoutePattern, &str)> {
    routes.iter().filter_map(|route| Some((RoutePattern::parse(route).ok()?, &**route)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The apps of `a=x,y b=z`.
    fn apps(text: &str) -> Vec<(&str, Vec<String>)> {
        let app = |text| {
            let (name, routes) = str::split_once(text, '=').unwrap_or((text, ""));
            (name, routes.split(',').filter(|route| !route.is_empty()).map(str::to_owned).collect())
        };
        text.split_whitespace().map(app).collect()
    }

    fn found(before: &str, after: &str, wrong: &str) -> BTreeMap<String, String> {
        let (before, after) = (apps(before), apps(after));
        still_taken(
            before.iter().map(|(name, routes)| (*name, &**routes)),
            after.iter().map(|(name, routes)| (*name, &**routes)),
            &wrong.split_whitespace().collect(),
        )
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
            // Other routes of the same host.
            ("a=x b=", "b=x/api/*", "a", ""),
        ];
        for (before, after, wrong, expected) in rows {
            let found = found(before, after, wrong);
            let names: Vec<&str> = found.keys().map(String::as_str).collect();
            assert_eq!(names.join(" "), expected, "{before} -> {after}");
        }
    }

    #[test]
    fn it_says_which_route_of_which_apps() {
        let found = found("a=x/* b=y", "b=x", "a");
        let reason = &found["b"];
        assert!(["`x`", "`a`", "`b`"].iter().all(|word| reason.contains(word)), "{reason}");
    }
}
