//! The revisions of an app that are kept, and which of them is served.

use std::sync::Arc;
use std::time::Instant;

use wasmhost_config::AppId;
use wasmhost_serve::worker::WorkerId;

use super::Book;
use super::record::{Record, Revision, Work};
use crate::apps::difference::{Change, compare, with_routes_of};

/// What is known of a revision that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeptState {
    /// It is served.
    Served,
    /// It is new, and gets a share of the requests.
    Canary,
    /// It was served, or is a later one than what is served.
    Kept,
    /// The host went back from it.
    Bad,
}

impl KeptState {
    /// The name on the status page.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Canary => "canary",
            Self::Kept => "kept",
            Self::Bad => "bad",
        }
    }
}

/// Another revision is served from now on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RolledBack {
    /// The number of the one that was served.
    pub(crate) from: u64,
    /// That of the one that is.
    pub(crate) to: u64,
    /// The app has other settings than before.
    pub(crate) has_new_settings: bool,
    /// Workers that are to be given it: they are as those that wait for the app.
    pub(crate) workers: Vec<WorkerId>,
}

impl<C: Clone + PartialEq> Record<C> {
    /// A revision that was loaded is served from now on. Where the one before has other code or settings, it is kept, if any is:
    /// its number.
    pub(super) fn begin(&mut self, revision: Revision<C>, keeps: bool) -> Option<u64> {
        self.loads = self.loads.max(revision.number);
        let rules = revision.app.rollback;
        let is_same = |before: &Revision<C>| {
            before.code == revision.code && compare(&before.app, &revision.app) != Change::Settings
        };
        let before = self.revision.take().filter(|before| keeps && rules.kept > 0 && !is_same(before));
        self.revision = Some(revision);
        let number = before.as_ref().map(|before| before.number);
        let canary = self.canary.take().filter(|_| keeps);
        self.kept.extend(before.into_iter().chain(canary).map(|earlier| (earlier.number, earlier)));
        self.forget_kept(if keeps { rules.kept } else { 0 });
        number
    }

    /// Whether a revision that was loaded gets a share of the requests only: it is wanted so, and nothing but its code is new.
    pub(super) fn takes_as_canary(&self, revision: &Revision<C>) -> bool {
        let before = self.revision.as_ref().filter(|_| !self.has_vanished && !self.awake_on.is_empty());
        let is_new = |before: &Revision<C>| {
            before.code != revision.code
                && compare(&before.app, &revision.app) != Change::Settings
                && compare(&self.app, &revision.app) != Change::Settings
        };
        revision.app.canary.share_percent.is_some() && revision.app.rollback.kept > 0 && before.is_some_and(is_new)
    }

    /// A revision that was loaded gets a share of the requests: the number of the one that gets the others.
    pub(super) fn begin_canary(&mut self, revision: Revision<C>) -> Option<u64> {
        self.loads = revision.number;
        let most = revision.app.rollback.kept;
        if let Some(earlier) = self.canary.replace(revision) {
            self.kept.insert(earlier.number, earlier);
            self.forget_kept(most);
        }
        self.revision.as_ref().map(|served| served.number)
    }
}

impl<C> Record<C> {
    fn forget_kept(&mut self, most: usize) {
        while self.kept.len() > most {
            // Those that nobody wants go first, and then the oldest.
            let bad = self.kept.values().find(|kept| kept.is_bad).map(|kept| kept.number);
            let goes = bad.or_else(|| self.kept.keys().next().copied());
            let _ = goes.map(|number| self.kept.remove(&number));
        }
    }

    /// A new revision that gets a share of the requests.
    pub(crate) fn canary(&self) -> Option<&Revision<C>> {
        self.canary.as_ref()
    }

    /// Loads that worked.
    pub(crate) fn times_loaded(&self) -> u64 {
        self.loads
    }

    /// The revisions that can be served, by number.
    pub(crate) fn revisions(&self) -> Vec<(u64, KeptState)> {
        let kept =
            self.kept.values().map(|kept| (kept.number, if kept.is_bad { KeptState::Bad } else { KeptState::Kept }));
        let mut all: Vec<_> = kept
            .chain(self.canary.iter().map(|canary| (canary.number, KeptState::Canary)))
            .chain(self.revision.iter().map(|served| (served.number, KeptState::Served)))
            .collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all
    }

    /// The revision to go back to: this one, or the latest before the one that is served from which the host did not go back.
    fn target(&self, to: Option<u64>) -> Result<u64, String> {
        let served = self.revision.as_ref().ok_or("it was not loaded yet")?.number;
        let is_wanted = |kept: &&Revision<C>| match to {
            Some(number) => kept.number == number,
            None => kept.number < served && !kept.is_bad,
        };
        if to == Some(served) {
            return Err(format!("its revision {served} is served already"));
        }
        if let Some(kept) = self.kept.values().rev().find(is_wanted) {
            return Ok(kept.number);
        }
        let which = to.map_or_else(|| "no earlier revision".to_owned(), |to| format!("no revision {to}"));
        let kept: Vec<String> = self.kept.keys().map(u64::to_string).collect();
        Err(match kept.is_empty() {
            true => format!("{which} of it is kept, nor another; revision {served} is served"),
            false => {
                format!("{which} of it is kept; revision {served} is served, and these are kept: {}", kept.join(", "))
            }
        })
    }
}

impl<C: Clone + PartialEq> Book<C> {
    /// Has another revision served, which is kept: this one, or the latest good one before the one that is served.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn roll_back(&mut self, id: AppId, to: Option<u64>, now: Instant) -> Result<RolledBack, String> {
        let record = self.records.get_mut(&id).ok_or("there is no such app")?;
        let served = record.revision.as_ref().map(|served| served.number);
        if let Some(canary) = record.canary.take_if(|_| to.is_none() || to == served) {
            return Ok(self.give_up_canary(id, canary, now));
        }
        let to = record.target(to)?;
        if let Some(canary) = record.canary.take() {
            record.kept.insert(canary.number, Revision { is_bad: true, ..canary });
        }
        let (Some(mut target), Some(mut served)) = (record.kept.remove(&to), record.revision.take()) else {
            return Err("it was not loaded yet".to_owned());
        };
        let (latest, from) = (Arc::clone(record.latest()), served.number);
        target.is_bad = false;
        served.is_bad = to < from;
        let app = Arc::new(with_routes_of(&target.app, &record.app));
        let has_new_settings = compare(&record.app, &app) != Change::None;
        record.kept.insert(from, served);
        record.set_aside = (to != record.loads).then_some(latest);
        (record.app, record.next) = (app, record.next.take().filter(|_| record.load != Work::None));
        (record.revision, record.has_vanished, record.failure) = (Some(target), false, None);
        Ok(RolledBack { from, to, has_new_settings, workers: self.give_anew(id, now) })
    }

    /// A new revision gets no requests any more. (Its file is as it was when it was loaded: a reload that finds it so does not load it
    /// again.)
    fn give_up_canary(&mut self, id: AppId, canary: Revision<C>, now: Instant) -> RolledBack {
        let (from, most, mut to) = (canary.number, canary.app.rollback.kept, 0);
        if let Some(record) = self.records.get_mut(&id) {
            to = record.revision.as_ref().map_or(0, |served| served.number);
            record.kept.insert(from, Revision { is_bad: true, ..canary });
            while record.kept.len() > most && record.kept.pop_first().is_some() {}
        }
        RolledBack { from, to, has_new_settings: false, workers: self.give_anew(id, now) }
    }

    /// The new revision that gets a share of the requests gets all: its number, the one before that, and the workers that are to be
    /// given it.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn promote(&mut self, id: AppId, now: Instant) -> Result<(u64, Option<u64>, Vec<WorkerId>), String> {
        let keeps = self.keeps_revisions;
        let record = self.records.get_mut(&id).ok_or("there is no such app")?;
        let canary = record.canary.take().ok_or("no new revision of it gets a share of its requests (--canary)")?;
        let number = canary.number;
        let before = record.begin(canary, keeps);
        (record.has_vanished, record.failure) = (false, None);
        Ok((number, before, self.give_anew(id, now)))
    }

    /// Workers that have an app, or were refused it, are given it as it is served now.
    fn give_anew(&mut self, id: AppId, now: Instant) -> Vec<WorkerId> {
        let Some(record) = self.records.get(&id) else { return Vec::new() };
        let workers: Vec<WorkerId> = record.awake_on.union(&record.refused_on).copied().collect();
        for worker in &workers {
            self.wants(*worker, id, now);
        }
        workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_config::{App, RollbackRules};
    use wasmhost_sandbox::LoadError;

    const APP: AppId = AppId(1);
    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);

    fn app(component: &str, route: &str) -> Arc<App> {
        let rollback = RollbackRules { kept: 2, ..RollbackRules::default() };
        let (component, routes) = (component.into(), vec![route.to_owned()]);
        Arc::new(App { name: "one".to_owned(), component, routes, rollback, ..App::default() })
    }

    /// With an app on two workers, and a revision of it for each of these codes.
    fn book(codes: &[&'static str]) -> (Book<&'static str>, Instant) {
        let (mut book, now) = (Book::new(false, true), Instant::now());
        book.add(APP, app("a", "/"));
        book.wants(ONE, APP, now);
        book.wants(TWO, APP, now);
        for (number, code) in codes.iter().enumerate() {
            if number > 0 {
                book.reload(APP, None);
            }
            load(&mut book, code);
        }
        (book, now)
    }

    fn load(book: &mut Book<&'static str>, code: &'static str) -> Option<u64> {
        let (id, with) = book.next_load().expect("a load");
        book.served(id, &with, ("0.2".to_owned(), "worker".to_owned(), code)).expect("the app is there").before
    }

    /// Workers that wait for code that is kept get it.
    fn open(book: &mut Book<&'static str>, now: Instant) {
        let (id, _, which, _) = book.next_opening().expect("an opening");
        book.opened(id, which, Ok(None), now);
    }

    fn shown(book: &Book<&'static str>) -> Vec<(u64, &'static str)> {
        let revisions = book.get(APP).map(Record::revisions).unwrap_or_default();
        revisions.into_iter().map(|(number, state)| (number, state.name())).collect()
    }

    fn served(book: &Book<&'static str>) -> (u64, &'static str) {
        let revision = book.get(APP).and_then(Record::revision);
        revision.map_or((0, ""), |revision| (revision.number, revision.code))
    }

    #[test]
    fn the_last_revisions_are_kept_and_one_that_is_the_same_as_before_is_not() {
        let (mut book, _) = book(&["a", "b", "c", "d"]);
        assert_eq!(shown(&book), [(2, "kept"), (3, "kept"), (4, "served")]);
        book.reload(APP, None);
        assert_eq!(load(&mut book, "d"), None, "nothing has changed");
        assert_eq!(shown(&book), [(2, "kept"), (3, "kept"), (5, "served")]);
        book.reload(APP, Some(app("other", "/")));
        assert_eq!(load(&mut book, "d"), Some(5), "it has other settings");
        let mut none = Book::new(false, false);
        none.add(APP, app("a", "/"));
        none.wants(ONE, APP, Instant::now());
        load(&mut none, "a");
        none.reload(APP, None);
        assert_eq!((load(&mut none, "b"), shown(&none)), (None, vec![(2, "served")]));
    }

    #[test]
    fn the_host_goes_back_to_the_latest_good_revision_or_the_one_that_is_named() {
        let (mut book, now) = book(&["a", "b", "c"]);
        let back = book.roll_back(APP, None, now).expect("it goes back");
        assert_eq!(back, RolledBack { from: 3, to: 2, has_new_settings: false, workers: vec![ONE, TWO] });
        let (id, _, which, code) = book.next_opening().expect("its code is opened");
        assert_eq!((code, which.number()), ("b", 2));
        assert_eq!(book.opened(id, which, Ok(None), now).to, [ONE, TWO]);
        assert_eq!(shown(&book), [(1, "kept"), (2, "served"), (3, "bad")]);
        assert_eq!(book.roll_back(APP, Some(2), now).err().as_deref(), Some("its revision 2 is served already"));
        assert_eq!(
            book.roll_back(APP, Some(7), now).err().as_deref(),
            Some("no revision 7 of it is kept; revision 2 is served, and these are kept: 1, 3")
        );
        assert_eq!(book.roll_back(APP, None, now).map(|back| back.to), Ok(1));
        let none = book.roll_back(APP, None, now);
        assert!(none.is_err_and(|reason| reason.starts_with("no earlier revision of it is kept; revision 1")));
        assert_eq!(book.roll_back(APP, Some(3), now).map(|back| (back.from, back.to)), Ok((1, 3)));
        assert_eq!(
            shown(&book),
            [(1, "kept"), (2, "bad"), (3, "served")],
            "going forward says nothing against the first"
        );
        book.reload(APP, None);
        load(&mut book, "d");
        assert_eq!((served(&book), shown(&book)), ((4, "d"), vec![(1, "kept"), (3, "kept"), (4, "served")]));
    }

    #[test]
    fn an_app_without_an_earlier_revision_cannot_go_back() {
        let (mut book, now) = book(&["a"]);
        let none = book.roll_back(APP, None, now);
        assert_eq!(none, Err("no earlier revision of it is kept, nor another; revision 1 is served".to_owned()));
        assert_eq!(served(&book), (1, "a"));
        assert!(book.roll_back(AppId(9), None, now).is_err());
    }

    #[test]
    fn settings_go_back_with_the_code_and_the_file_is_compared_with_what_it_said_last() {
        let (mut book, now) = book(&["a"]);
        book.reload(APP, Some(app("bad", "/")));
        load(&mut book, "b");
        assert!(book.roll_back(APP, None, now).is_ok_and(|back| back.has_new_settings));
        let settings = |book: &Book<&'static str>| {
            let record = book.get(APP).expect("an app");
            let text = |app: &App| format!("{} {}", app.component.display(), app.routes[0]);
            (text(record.app()), text(record.latest()))
        };
        assert_eq!(settings(&book), ("a /".to_owned(), "bad /".to_owned()));
        // Other routes have an effect, and nothing else.
        book.route(APP, app("bad", "/new"));
        assert_eq!(settings(&book), ("a /new".to_owned(), "bad /new".to_owned()));
        // A load that fails leaves what the file said.
        book.reload(APP, None);
        let (id, with) = book.next_load().expect("a load");
        assert_eq!(with.component.to_str(), Some("bad"), "it is loaded with what the file says");
        let error = LoadError { file: "bad".to_owned(), reason: "broken".to_owned(), hint: String::new() };
        book.failed(id, &with, error, now);
        assert_eq!(settings(&book), ("a /new".to_owned(), "bad /new".to_owned()));
        book.reload(APP, Some(app("mended", "/new")));
        load(&mut book, "c");
        assert_eq!(settings(&book), ("mended /new".to_owned(), "mended /new".to_owned()));
    }

    #[test]
    fn a_canary_is_beside_what_is_served_until_it_gets_all_or_nothing() {
        let with_canary = |component: &str, env: &str| {
            let mut app = App::clone(&app(component, "/"));
            app.canary.share_percent = Some(5);
            app.grants.args.push(env.to_owned());
            Arc::new(app)
        };
        let (mut book, now) = book(&[]);
        book.set(APP, with_canary("a", ""));
        assert_eq!(load(&mut book, "a"), None, "there is nothing that it could be beside");
        book.reload(APP, None);
        assert_eq!(load(&mut book, "b"), Some(1));
        assert_eq!((served(&book), shown(&book)), ((1, "a"), vec![(1, "served"), (2, "canary")]));
        // Another takes its place.
        book.reload(APP, None);
        assert_eq!(load(&mut book, "c"), Some(1));
        assert_eq!(shown(&book), [(1, "served"), (2, "kept"), (3, "canary")]);
        let promoted = book.promote(APP, now).expect("there is one");
        assert_eq!((promoted, served(&book)), ((3, Some(1), vec![ONE, TWO]), (3, "c")));
        assert!(book.promote(APP, now).is_err());
        open(&mut book, now);
        book.reload(APP, None);
        load(&mut book, "d");
        assert_eq!(shown(&book), [(1, "kept"), (2, "kept"), (3, "served"), (4, "canary")]);
        let back = book.roll_back(APP, None, now).map(|back| (back.from, back.to));
        assert_eq!((back, shown(&book)), (Ok((4, 3)), vec![(2, "kept"), (3, "served"), (4, "bad")]));
        open(&mut book, now);
        // New settings are for all requests at once, and end it.
        book.reload(APP, None);
        load(&mut book, "e");
        book.reload(APP, Some(with_canary("a", "other")));
        assert_eq!((load(&mut book, "f"), served(&book)), (Some(3), (6, "f")));
        assert_eq!(shown(&book), [(3, "kept"), (5, "kept"), (6, "served")]);
        // Nor where no worker has it.
        book.asleep(ONE, APP);
        book.asleep(TWO, APP);
        book.reload(APP, None);
        load(&mut book, "g");
        assert_eq!(served(&book), (7, "g"));
    }
}
