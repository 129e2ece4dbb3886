//! The revisions of an app that are kept, and which of them is served.

use std::sync::Arc;
use std::time::Instant;

use wasmhost_config::{App, AppId};
use wasmhost_serve::worker::WorkerId;

use super::record::{Record, Revision, RevisionProof, Work};
use super::{Book, OpenedRevision};
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
    /// A revision that was loaded is served from now on. Where the one before has other code or settings, it is kept, if any is. The
    /// number of the one with which the new one is compared, and to which the host goes back: the latest that has held. (One that was
    /// watched still when this one came may be what this one mends.)
    pub(super) fn begin(&mut self, mut revision: Revision<C>, keeps: bool) -> Option<u64> {
        self.loads = self.loads.max(revision.number);
        let rules = revision.app.rollback;
        let most = if keeps { rules.kept } else { 0 };
        let is_same = |before: &Revision<C>| {
            before.code == revision.code && compare(&before.app, &revision.app) != Change::Settings
        };
        let (same, before) = match self.revision.take() {
            Some(before) if is_same(&before) => (Some(before.proof), None),
            before => (None, before),
        };
        self.kept.extend(before.map(|earlier| (earlier.number, earlier)));
        self.end_canary();
        self.forget_kept(most);
        let held = self.latest_that_held(revision.number);
        let is_watched = rules.window.is_some() && held.is_some();
        revision.proof = same.unwrap_or(if is_watched { RevisionProof::Served } else { RevisionProof::Held });
        self.revision = Some(revision);
        held.filter(|_| same != Some(RevisionProof::Held))
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

    /// A revision that was loaded gets a share of the requests: the number of the one that gets the others, and the workers that are
    /// to be given it now. (Those that do not serve the other one yet are given it once they do.)
    pub(super) fn begin_canary(&mut self, revision: Revision<C>) -> (Option<u64>, Vec<WorkerId>) {
        self.loads = revision.number;
        let most = revision.app.rollback.kept;
        self.end_canary();
        self.forget_kept(most);
        self.canary = Some(revision);
        self.canary_on = self.awake_on.difference(&self.unapplied).copied().collect();
        (self.revision.as_ref().map(|served| served.number), self.canary_on.iter().copied().collect())
    }
}

impl<C> Record<C> {
    /// Leaves so many of those that are kept.
    fn forget_kept(&mut self, most: usize) {
        while self.kept.len() > most {
            // Those that nobody wants go first, then those of which least is known, and then the oldest.
            let goes = self.kept.values().min_by_key(|kept| (!kept.is_bad, kept.proof, kept.number));
            let _ = goes.map(|kept| kept.number).map(|number| self.kept.remove(&number));
        }
    }

    /// The latest of those that are kept before this one that has held, and from which the host did not go back.
    fn latest_that_held(&self, before: u64) -> Option<u64> {
        let has_held = |kept: &&Revision<C>| kept.number < before && !kept.is_bad && kept.proof == RevisionProof::Held;
        self.kept.values().rev().find(has_held).map(|kept| kept.number)
    }

    /// No revision gets a share of the requests any more; the one that did is kept.
    pub(super) fn end_canary(&mut self) {
        self.canary_on.clear();
        if let Some(canary) = self.canary.take() {
            self.kept.insert(canary.number, canary);
        }
    }

    /// A worker does not have it any more.
    pub(super) fn loses(&mut self, worker: WorkerId) {
        for workers in [&mut self.awake_on, &mut self.unapplied, &mut self.canary_on] {
            workers.remove(&worker);
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

    /// The revision to go back to: this one, or the latest before the one that is served from which the host did not go back, and of
    /// which so much is known.
    fn target(&self, to: Option<u64>, at_least: RevisionProof) -> Result<u64, String> {
        let served = self.revision.as_ref().ok_or("it was not loaded yet")?.number;
        let is_wanted = |kept: &&Revision<C>| match to {
            Some(number) => kept.number == number,
            None => kept.number < served && !kept.is_bad && kept.proof >= at_least,
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
    /// Has another revision served, which is kept, for a command: this one, or the latest good one before the one that is served that
    /// has had all requests.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn roll_back(&mut self, id: AppId, to: Option<u64>, now: Instant) -> Result<RolledBack, String> {
        self.serve_earlier(id, to, RevisionProof::Served, now)
    }

    /// Has the latest earlier revision served that has held, since the one that is served has not.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn go_back(&mut self, id: AppId, now: Instant) -> Result<RolledBack, String> {
        self.serve_earlier(id, None, RevisionProof::Held, now)
    }

    fn serve_earlier(
        &mut self,
        id: AppId,
        to: Option<u64>,
        at_least: RevisionProof,
        now: Instant,
    ) -> Result<RolledBack, String> {
        let record = self.records.get_mut(&id).ok_or("there is no such app")?;
        let served = record.revision.as_ref().map(|served| served.number);
        if record.has_vanished && record.failure.is_some() && to.is_none_or(|to| Some(to) == served) {
            return Ok(self.take_up(id, now));
        }
        if let Some(canary) = record.canary.take_if(|_| to.is_none() || to == served) {
            return Ok(self.give_up_canary(id, canary, now));
        }
        let to = record.target(to, at_least)?;
        if let Some(canary) = record.canary.take() {
            record.kept.insert(canary.number, Revision { is_bad: true, ..canary });
        }
        record.canary_on.clear();
        let (Some(mut target), Some(mut served)) = (record.kept.remove(&to), record.revision.take()) else {
            return Err("it was not loaded yet".to_owned());
        };
        let (latest, from) = (Arc::clone(record.latest()), served.number);
        // (It is not watched.)
        (target.is_bad, target.proof) = (false, RevisionProof::Held);
        served.is_bad = to < from;
        let app = Arc::new(with_routes_of(&target.app, &record.app));
        let has_new_settings = compare(&record.app, &app) != Change::None;
        let most = target.app.rollback.kept.max(1);
        record.kept.insert(from, served);
        record.forget_kept(most);
        record.set_aside = (to != record.loads).then_some(latest);
        (record.app, record.next) = (app, record.next.take().filter(|_| record.load != Work::None));
        (record.revision, record.has_vanished, record.failure) = (Some(target), false, None);
        Ok(RolledBack { from, to, has_new_settings, workers: self.give_anew(id, now) })
    }

    /// What a worker had last is served again: nobody had the app when a new component came, which cannot be loaded.
    fn take_up(&mut self, id: AppId, now: Instant) -> RolledBack {
        let (mut number, mut has_new_settings) = (0, false);
        if let Some(record) = self.records.get_mut(&id)
            && let Some(revision) = &record.revision
        {
            let (app, latest) = (Arc::new(with_routes_of(&revision.app, &record.app)), Arc::clone(record.latest()));
            (number, has_new_settings) = (revision.number, compare(&record.app, &app) != Change::None);
            (record.app, record.next, record.set_aside) = (app, None, Some(latest));
            (record.has_vanished, record.failure) = (false, None);
        }
        RolledBack { from: number, to: number, has_new_settings, workers: self.give_anew(id, now) }
    }

    /// A new revision gets no requests any more. (Its file is as it was when it was loaded: a reload that finds it so does not load it
    /// again.)
    fn give_up_canary(&mut self, id: AppId, canary: Revision<C>, now: Instant) -> RolledBack {
        let (from, most, mut to) = (canary.number, canary.app.rollback.kept, 0);
        if let Some(record) = self.records.get_mut(&id) {
            to = record.revision.as_ref().map_or(0, |served| served.number);
            record.kept.insert(from, Revision { is_bad: true, ..canary });
            record.canary_on.clear();
            record.forget_kept(most);
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

    /// The revision of this number has held, if it is served.
    pub(crate) fn held(&mut self, id: AppId, number: u64) {
        let served = self.records.get_mut(&id).and_then(|record| record.revision.as_mut());
        if let Some(served) = served.filter(|served| served.number == number) {
            served.proof = RevisionProof::Held;
        }
    }

    /// Forgets those of the kept revisions of an app whose code is not there any more: their numbers.
    pub(crate) fn forget_lost(&mut self, id: AppId, is_there: impl Fn(&C) -> bool) -> Vec<u64> {
        let Some(record) = self.records.get_mut(&id) else { return Vec::new() };
        record.kept.extract_if(.., |_, kept| !is_there(&kept.code)).map(|(number, _)| number).collect()
    }

    /// The canary of an app, its settings and its code, if this worker serves the app without it. It is given it from now on.
    pub(crate) fn canary_for(&mut self, worker: WorkerId, id: AppId) -> Option<(OpenedRevision, Arc<App>, C)> {
        let record = self.records.get_mut(&id)?;
        let canary = record.canary.as_ref()?;
        let serves = record.awake_on.contains(&worker) && !record.unapplied.contains(&worker);
        let which = OpenedRevision { born: record.born, number: canary.number };
        let lacks = serves && record.canary_on.insert(worker);
        lacks.then(|| (which, Arc::clone(&record.app), canary.code.clone()))
    }

    /// Whether this revision of an app is its canary still, and this worker is to have it.
    pub(crate) fn is_canary_of(&self, worker: WorkerId, id: AppId, which: OpenedRevision) -> bool {
        self.records.get(&id).is_some_and(|record| {
            let number = record.canary.as_ref().map(|canary| canary.number);
            record.born == which.born && number == Some(which.number) && record.canary_on.contains(&worker)
        })
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
    use wasmhost_config::RollbackRules;
    use wasmhost_sandbox::LoadError;

    const APP: AppId = AppId(1);
    const ONE: WorkerId = WorkerId(1);
    const TWO: WorkerId = WorkerId(2);

    const WINDOW: std::time::Duration = std::time::Duration::from_secs(30);

    fn app(component: &str, route: &str) -> Arc<App> {
        let rollback = RollbackRules { kept: 2, window: Some(WINDOW), ..RollbackRules::default() };
        let (component, routes) = (component.into(), vec![route.to_owned()]);
        Arc::new(App { name: "one".to_owned(), component, routes, rollback, ..App::default() })
    }

    /// With an app on two workers, and a revision of it for each of these codes. Each has held.
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
            hold(&mut book);
        }
        (book, now)
    }

    /// What is served has held.
    fn hold(book: &mut Book<&'static str>) {
        let served = served(book).0;
        book.held(APP, served);
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

    fn with_canary(component: &str, argument: &str) -> Arc<App> {
        let mut app = App::clone(&app(component, "/"));
        app.canary.share_percent = Some(5);
        app.grants.args.push(argument.to_owned());
        Arc::new(app)
    }

    /// The same, with canaries; the first revision is served.
    fn book_with_canaries() -> (Book<&'static str>, Instant) {
        let (mut book, now) = book(&[]);
        book.set(APP, with_canary("a", ""));
        load(&mut book, "a");
        (book, now)
    }

    #[test]
    fn a_revision_that_is_loaded_again_before_it_has_held_is_compared_with_what_has() {
        let (mut book, now) = book(&["a"]);
        book.reload(APP, None);
        assert_eq!(load(&mut book, "b"), Some(1));
        book.reload(APP, None);
        assert_eq!(
            (load(&mut book, "b"), served(&book)),
            (Some(1), (3, "b")),
            "nothing has changed, and it has not held"
        );
        assert_eq!(book.go_back(APP, now).map(|back| (back.from, back.to)), Ok((3, 1)));
        book.reload(APP, None);
        load(&mut book, "c");
        hold(&mut book);
        book.reload(APP, None);
        assert_eq!(load(&mut book, "c"), None, "it has held, and so has this one");
        book.reload(APP, None);
        assert_eq!(load(&mut book, "d"), Some(5));
    }

    #[test]
    fn the_host_goes_back_by_itself_to_what_has_held_and_nothing_else() {
        // A bad one, and one soon after it that is no better.
        let (mut both, now) = book(&["a"]);
        for code in ["b", "c"] {
            both.reload(APP, None);
            assert_eq!(load(&mut both, code), Some(1), "{code}");
        }
        assert_eq!(both.go_back(APP, now).map(|back| back.to), Ok(1));
        assert!(both.go_back(APP, now).is_err(), "there is none before");
        // A command may want what came in between.
        let (mut both, now) = book(&["a"]);
        for code in ["b", "c"] {
            both.reload(APP, None);
            load(&mut both, code);
        }
        assert_eq!(both.roll_back(APP, None, now).map(|back| back.to), Ok(2));
        // It is not watched then, as any that a command chose.
        both.reload(APP, None);
        assert_eq!(load(&mut both, "d"), Some(2));
        // A canary that another one took the place of.
        for promotes in [true, false] {
            let (mut both, now) = book_with_canaries();
            both.reload(APP, None);
            load(&mut both, "b");
            both.reload(APP, if promotes { None } else { Some(with_canary("a", "other")) });
            load(&mut both, "c");
            assert_eq!(both.promote(APP, now).is_ok(), promotes);
            assert_eq!((served(&both), shown(&both)), ((3, "c"), vec![(1, "kept"), (2, "kept"), (3, "served")]));
            let mut back = if promotes { both.go_back(APP, now) } else { both.roll_back(APP, None, now) };
            assert_eq!(back.as_mut().map(|back| back.to), Ok(1), "{promotes}");
        }
    }

    #[test]
    fn without_a_watch_each_has_held_at_once() {
        let unwatched = |component: &str| {
            let mut app = App::clone(&app(component, "/"));
            app.rollback.window = None;
            Arc::new(app)
        };
        let (mut book, now) = book(&[]);
        book.set(APP, unwatched("a"));
        load(&mut book, "a");
        for (code, before) in [("b", 1), ("c", 2)] {
            book.reload(APP, None);
            assert_eq!(load(&mut book, code), Some(before));
        }
        assert_eq!(book.roll_back(APP, None, now).map(|back| back.to), Ok(2));
    }

    #[test]
    fn a_bad_canary_costs_no_good_revision_its_place() {
        let one = |text: &str| {
            let mut app = App::clone(&with_canary("a", text));
            app.rollback.kept = 1;
            Arc::new(app)
        };
        let (mut book, now) = book(&[]);
        book.set(APP, one(""));
        load(&mut book, "a");
        book.reload(APP, Some(one("other")));
        load(&mut book, "b");
        hold(&mut book);
        book.reload(APP, None);
        assert_eq!(load(&mut book, "c"), Some(2), "a canary");
        assert_eq!(book.go_back(APP, now).map(|back| (back.from, back.to)), Ok((3, 2)));
        assert_eq!(shown(&book), [(1, "kept"), (2, "served")]);
    }

    #[test]
    fn a_worker_is_given_the_canary_once_it_serves_what_it_is_beside() {
        let (mut book, now) = book_with_canaries();
        assert!(book.applied(ONE, APP) || book.canary_for(ONE, APP).is_none());
        book.reload(APP, None);
        let (id, with) = book.next_load().expect("a load");
        let canary = book.served(id, &with, ("0.2".to_owned(), "worker".to_owned(), "b")).expect("the app is there");
        assert_eq!((canary.is_canary, canary.to), (true, vec![ONE]), "the other one has not begun yet");
        assert!(book.canary_for(ONE, APP).is_none() && book.canary_for(TWO, APP).is_none());
        let given = |book: &mut Book<&'static str>, worker| {
            book.applied(worker, APP);
            book.canary_for(worker, APP).map(|(which, _, code)| (which.number(), code))
        };
        assert_eq!((given(&mut book, TWO), given(&mut book, TWO)), (Some((2, "b")), None), "once");
        // One that slept.
        book.asleep(ONE, APP);
        book.wants(ONE, APP, now);
        assert_eq!(given(&mut book, ONE), None, "it waits for what is served");
        open(&mut book, now);
        assert!(book.canary_for(ONE, APP).is_none(), "it does not serve that yet");
        assert_eq!(given(&mut book, ONE), Some((2, "b")));
        // One that was started with it.
        book.gone(TWO);
        book.has(TWO, APP);
        let (which, ..) = book.canary_for(TWO, APP).expect("it lacks it");
        assert!(book.is_canary_of(TWO, APP, which) && !book.is_canary_of(WorkerId(3), APP, which));
        assert!(book.promote(APP, now).is_ok());
        assert!(!book.is_canary_of(TWO, APP, which) && given(&mut book, TWO).is_none());
    }

    #[test]
    fn a_component_that_comes_while_an_app_with_a_canary_sleeps_is_loaded_at_its_next_wake() {
        let (mut book, now) = book_with_canaries();
        book.reload(APP, None);
        load(&mut book, "b");
        for worker in [ONE, TWO] {
            book.asleep(worker, APP);
        }
        book.renew(APP, None);
        assert!(book.promote(APP, now).is_err(), "it is a canary no more");
        assert_eq!(shown(&book), [(1, "served"), (2, "kept")]);
        book.wants(ONE, APP, now);
        assert_eq!((load(&mut book, "c"), served(&book)), (Some(1), (3, "c")));
    }

    #[test]
    fn what_an_app_had_before_it_slept_is_gone_back_to_when_its_new_component_cannot_be_loaded() {
        let (mut book, now) = book(&["a", "b"]);
        for worker in [ONE, TWO] {
            book.asleep(worker, APP);
        }
        book.renew(APP, Some(app("bad", "/new")));
        book.wants(ONE, APP, now);
        let (id, with) = book.next_load().expect("a load");
        let error = LoadError { file: "bad".to_owned(), reason: "broken".to_owned(), hint: String::new() };
        book.failed(id, &with, error, now);
        assert!(format!("{:?}", book.wants(TWO, APP, now)).starts_with("Refused"));
        let back = book.roll_back(APP, None, now).expect("it goes back");
        assert_eq!(back, RolledBack { from: 2, to: 2, has_new_settings: true, workers: vec![ONE, TWO] });
        let (id, _, which, code) = book.next_opening().expect("its code is opened");
        assert_eq!((code, which.number()), ("b", 2));
        assert_eq!(book.opened(id, which, Ok(None), now).to, [ONE, TWO]);
        let record = book.get(APP).expect("an app");
        assert_eq!((&*record.app().routes[0], &*record.latest().component.to_string_lossy()), ("/new", "bad"));
        assert!(!record.serves_latest() && record.failure().is_none());
        assert!(book.roll_back(APP, Some(2), now).is_err(), "it is served now");
    }

    #[test]
    fn what_is_not_there_any_more_is_not_gone_back_to() {
        let (mut book, now) = book(&["a", "b", "c"]);
        assert_eq!(book.forget_lost(APP, |code| *code != "b"), [2]);
        assert_eq!(book.forget_lost(APP, |code| *code != "c"), [0; 0], "what is served stays");
        assert_eq!(book.roll_back(APP, None, now).map(|back| back.to), Ok(1));
    }

    #[test]
    fn the_numbers_of_an_app_that_comes_back_go_on() {
        let (mut book, now) = book(&["a", "b"]);
        book.remove(APP);
        book.add(APP, app("a", "/"));
        book.wants(ONE, APP, now);
        assert_eq!((load(&mut book, "c"), served(&book)), (None, (3, "c")));
    }

    #[test]
    fn a_canary_is_beside_what_is_served_until_it_gets_all_or_nothing() {
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
        assert_eq!(
            (back, shown(&book)),
            (Ok((4, 3)), vec![(1, "kept"), (2, "kept"), (3, "served")]),
            "the bad one goes"
        );
        open(&mut book, now);
        hold(&mut book);
        // New settings are for all requests at once, and end it.
        book.reload(APP, None);
        load(&mut book, "e");
        book.reload(APP, Some(with_canary("a", "other")));
        assert_eq!((load(&mut book, "f"), served(&book)), (Some(3), (6, "f")));
        assert_eq!(shown(&book), [(1, "kept"), (3, "kept"), (6, "served")], "canaries that nobody knows go first");
        // Nor where no worker has it.
        book.asleep(ONE, APP);
        book.asleep(TWO, APP);
        book.reload(APP, None);
        load(&mut book, "g");
        assert_eq!(served(&book), (7, "g"));
    }
}
