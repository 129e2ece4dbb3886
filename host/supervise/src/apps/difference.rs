//! What a new reading of the settings changes: which apps are new, changed, gone or the same, and which number each has.
//! Pure.

use std::collections::HashMap;
use std::sync::Arc;

use wasmhost_config::{APPS_MAX, App, AppId};

/// What becomes of an app that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// It has other routes or schedules, and is otherwise the same.
    Routes,
    /// It has to be loaded again.
    Settings,
}

/// `app` with the routes of `other`, and its schedules.
pub(crate) fn with_routes_of(app: &App, other: &App) -> App {
    let (routes, schedules) = (other.routes.clone(), other.schedules.clone());
    App { routes, strip_prefix: other.strip_prefix, schedules, ..app.clone() }
}

/// How two versions of an app differ.
pub(crate) fn compare(before: &App, after: &App) -> Change {
    match (is_same(before, after), is_same(&with_routes_of(before, after), after)) {
        (true, _) => Change::None,
        (false, true) => Change::Routes,
        (false, false) => Change::Settings,
    }
}

/// Whether two apps have the same settings: all that is written when they are handed to another process, and the
/// directories.
fn is_same(one: &App, other: &App) -> bool {
    // What cannot be written is other than anything.
    let text = |app: &App| serde_json::to_vec(app).ok();
    let dirs = |app: &App| -> Vec<_> {
        app.grants.dirs.iter().map(|dir| (dir.host.clone(), dir.guest.clone(), dir.writable, dir.purpose)).collect()
    };
    text(one).is_some_and(|one| Some(one) == text(other)) && dirs(one) == dirs(other)
}

/// The numbers of the apps, by name. A number is an app's for as long as the host runs, also when the app was removed and
/// comes back. It is never given to another: a worker that still has something of the former app would serve it.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    of: HashMap<String, AppId>,
    next: u32,
}

impl Numbers {
    /// The number of the app of this name; none when all are given away.
    pub(crate) fn of(&mut self, name: &str) -> Option<AppId> {
        if let Some(id) = self.of.get(name) {
            return Some(*id);
        }
        let id = Some(AppId(self.next)).filter(|id| id.index() < APPS_MAX)?;
        self.next += 1;
        self.of.insert(name.to_owned(), id);
        Some(id)
    }
}

/// What a new reading makes of the apps.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// New ones.
    pub(crate) added: Vec<(AppId, Arc<App>)>,
    /// Those that were there, and how they differ.
    pub(crate) kept: Vec<(AppId, Arc<App>, Change)>,
    /// Those that are gone.
    pub(crate) removed: Vec<AppId>,
    /// New ones for which there is no number left.
    pub(crate) too_many: Vec<Arc<App>>,
}

impl Difference {
    /// Apps that workers have to know of anew before they are told anything else of them: what they are given of an app,
    /// they serve by the settings in their table.
    pub(crate) fn to_be_known(&self) -> impl Iterator<Item = AppId> {
        let changed = self.kept.iter().filter(|(_, _, change)| *change != Change::None).map(|(id, ..)| *id);
        self.added.iter().map(|(id, _)| *id).chain(changed)
    }
}

/// Compares the apps as they are with those of a new reading.
pub(crate) fn difference<'a>(
    before: impl Iterator<Item = (AppId, &'a Arc<App>)>,
    after: &[Arc<App>],
    numbers: &mut Numbers,
) -> Difference {
    let mut before: HashMap<&str, (AppId, &Arc<App>)> = before.map(|(id, app)| (&*app.name, (id, app))).collect();
    let mut found = Difference::default();
    for app in after {
        if let Some((id, old)) = before.remove(&*app.name) {
            found.kept.push((id, Arc::clone(app), compare(old, app)));
        } else if let Some(id) = numbers.of(&app.name) {
            found.added.push((id, Arc::clone(app)));
        } else {
            found.too_many.push(Arc::clone(app));
        }
    }
    found.removed = before.into_values().map(|(id, _)| id).collect();
    found.removed.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, component: &str) -> Arc<App> {
        Arc::new(App { name: name.to_owned(), component: component.into(), ..App::default() })
    }

    #[test]
    fn apps_are_told_apart_by_name_and_keep_their_numbers() {
        let mut numbers = Numbers::default();
        let first = [app("a", "a.wasm"), app("b", "b.wasm"), app("c", "c.wasm")];
        let found = difference(std::iter::empty(), &first, &mut numbers);
        let ids = |apps: &[(AppId, Arc<App>)]| apps.iter().map(|(id, _)| id.0).collect::<Vec<_>>();
        assert_eq!(ids(&found.added), [0, 1, 2]);
        let before = found.added;
        let second = [app("c", "other.wasm"), app("d", "d.wasm"), app("a", "a.wasm")];
        let found = difference(before.iter().map(|(id, app)| (*id, app)), &second, &mut numbers);
        assert_eq!((ids(&found.added), &found.removed[..]), (vec![3], &[AppId(1)][..]));
        let kept: Vec<_> = found.kept.iter().map(|(id, _, change)| (id.0, *change)).collect();
        assert_eq!(kept, [(2, Change::Settings), (0, Change::None)]);
        let anew: Vec<u32> = found.to_be_known().map(|id| id.0).collect();
        assert_eq!(anew, [3, 2], "workers know `a` already, and `b` is gone");
        let third = [app("b", "b.wasm")];
        let found = difference(std::iter::empty(), &third, &mut numbers);
        assert_eq!(ids(&found.added), [1], "one that comes back has its number");
    }

    #[test]
    fn a_directory_that_is_granted_is_a_change() -> std::io::Result<()> {
        let mut other = App::default();
        let dir = wasmhost_config::Preopen::open("/".into(), "/root".to_owned(), false)?;
        other.grants.dirs.push(dir);
        assert_eq!(compare(&App::default(), &other), Change::Settings);
        assert_eq!(compare(&other, &other.clone()), Change::None);
        Ok(())
    }

    #[test]
    fn a_number_is_never_given_to_another_app() {
        let mut numbers = Numbers::default();
        for number in 0..APPS_MAX {
            assert!(numbers.of(&number.to_string()).is_some());
        }
        assert_eq!(numbers.of("one more"), None);
        assert_eq!(numbers.of("7"), Some(AppId(7)), "one that comes back has its own");
    }
}
