//! Tests of the book of apps: table tests of what follows what, and a property over any order of events.

use proptest::prelude::*;

use super::*;

const APP: AppId = AppId(3);
const ONE: WorkerId = WorkerId(1);
const TWO: WorkerId = WorkerId(2);

fn app(name: &str) -> Arc<App> {
    Arc::new(App { name: name.to_owned(), component: format!("{name}.wasm").into(), ..App::default() })
}

fn error(reason: &str) -> LoadError {
    LoadError { file: "app.wasm".to_owned(), reason: reason.to_owned(), hint: String::new() }
}

fn code(text: &'static str) -> Result<(String, String, &'static str), LoadError> {
    Ok(("0.2".to_owned(), "worker".to_owned(), text))
}

fn book_of_one() -> Book<&'static str> {
    let mut book = Book::default();
    book.add(APP, app("one"));
    book
}

/// What a load came to.
#[derive(Debug)]
enum Outcome {
    Served(Served),
    Failed(Failed),
}

fn end(
    book: &mut Book<&'static str>,
    id: AppId,
    with: &Arc<App>,
    came: Result<(String, String, &'static str), LoadError>,
    now: Instant,
) -> Option<Outcome> {
    match came {
        Ok(revision) => book.served(id, with, revision).map(Outcome::Served),
        Err(error) => book.failed(id, with, error, now).map(Outcome::Failed),
    }
}

/// Begins the next load and ends it.
fn load(
    book: &mut Book<&'static str>,
    came: Result<(String, String, &'static str), LoadError>,
    now: Instant,
) -> Outcome {
    let (id, with) = book.next_load().expect("a load to begin");
    end(book, id, &with, came, now).expect("the app is there")
}

fn may_be_found(book: &Book<&'static str>) -> bool {
    book.get(APP).is_some_and(Record::may_be_found)
}

fn open(book: &mut Book<&'static str>, came: Result<Option<&'static str>, LoadError>, now: Instant) -> Opened {
    let (id, _, which, _) = book.next_opening().expect("an opening to begin");
    book.opened(id, which, came, now)
}

#[test]
fn an_app_is_loaded_when_a_worker_wants_it_and_then_opened_only() {
    let (mut book, now) = (book_of_one(), Instant::now());
    assert!(book.next_load().is_none());
    assert_eq!(book.get(APP).map(Record::state), Some(AppState::Unloaded));
    assert_eq!(book.wants(ONE, APP, now), AppAnswer::Later);
    assert_eq!(book.get(APP).map(Record::state), Some(AppState::Loading));
    let outcome = load(&mut book, code("first"), now);
    assert!(matches!(&outcome, Outcome::Served(Served { to, is_reload: false, .. }) if *to == [ONE]), "{outcome:?}");
    assert_eq!(book.get(APP).map(Record::state), Some(AppState::Awake));
    book.asleep(ONE, APP);
    assert_eq!(book.get(APP).map(Record::state), Some(AppState::Asleep));
    assert_eq!(book.wants(TWO, APP, now), AppAnswer::Later);
    assert!(book.next_load().is_none(), "its code is there");
    assert_eq!(open(&mut book, Ok(None), now).to, [TWO]);
    assert!(book.next_opening().is_none());
}

#[test]
fn an_app_that_the_cache_has_waits_for_no_app_that_compiles() {
    let (mut book, now) = (Book::new(true, true), Instant::now());
    (0..20).for_each(|id| book.add(AppId(id), app("one")));
    (0..10).for_each(|id| book.load_in_time(AppId(id)));
    (10..20).for_each(|id| drop(book.wants(ONE, AppId(id), now)));
    // Those that somebody waits for go first, and the cache has none of the first ten.
    let mut compile = Vec::new();
    for nth in 0..10 {
        let (id, with) = book.next_look_up().expect("a look-up to begin");
        assert_eq!(id, AppId(10 + nth));
        book.looked_up(id, &with, false);
        compile.extend(book.next_load().map(|(id, _)| id));
    }
    assert_eq!(compile, [AppId(10), AppId(11)], "as many compile as may");
    for nth in 0..10 {
        let (id, with) = book.next_look_up().expect("a look-up to begin");
        assert_eq!(id, AppId(nth));
        book.looked_up(id, &with, true);
        assert!(book.served(id, &with, code("found").expect("code")).is_some());
        assert!(book.next_load().is_none(), "it is none of those that compile");
    }
    assert!(book.next_look_up().is_none(), "each was looked up once");
    // So many at once.
    let others: Vec<AppId> = (20..40).map(AppId).collect();
    for id in &others {
        book.add(*id, app("one"));
        book.wants(ONE, *id, now);
    }
    let begun: Vec<_> = std::iter::from_fn(|| book.next_look_up()).collect();
    assert_eq!(begun.len(), LOOK_UPS_MAX);
    // A reload during a look-up, or before it, wants the app loaded anew.
    book.reload(others[0], Some(app("changed")));
    book.looked_up(begun[0].0, &begun[0].1, false);
    assert_eq!(book.get(others[0]).map(|record| &*record.latest().name), Some("changed"));
    book.reload(others[LOOK_UPS_MAX], None);
    book.looked_up(begun[1].0, &begun[1].1, false);
    assert!(book.next_look_up().is_some_and(|(id, _)| id == others[LOOK_UPS_MAX + 1]));
}

#[test]
fn a_failed_app_is_refused_until_its_time_has_come_and_each_failure_doubles_it() {
    let (mut book, mut now) = (book_of_one(), Instant::now());
    for seconds in [10, 20, 40, 80, 160, 300, 300] {
        assert_eq!(book.wants(ONE, APP, now), AppAnswer::Later);
        let outcome = load(&mut book, Err(error("broken")), now);
        let Outcome::Failed(Failed { refused, retry_in, keeps_old: false, is_reload: false }) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((refused, retry_in), (vec![ONE], Duration::from_secs(seconds)));
        assert!(matches!(book.wants(TWO, APP, now), AppAnswer::Refused(reason) if reason.contains("broken")));
        assert!(book.next_load().is_none());
        assert_eq!(book.get(APP).map(Record::state), Some(AppState::Failed));
        now += retry_in;
    }
    book.reload(APP, None);
    let outcome = load(&mut book, code("mended"), now);
    assert!(
        matches!(&outcome, Outcome::Served(Served { to, is_reload: true, .. }) if *to == [ONE, TWO]),
        "{outcome:?}"
    );
}

#[test]
fn a_load_of_an_app_that_was_barred_meanwhile_comes_to_nothing() {
    let (mut book, now) = (book_of_one(), Instant::now());
    // While the load runs, and while it waits.
    for runs in [true, false] {
        assert_eq!(book.wants(ONE, APP, now), AppAnswer::Later);
        let begun = if runs { book.next_load() } else { None };
        assert_eq!(book.bar(APP, error("it wants more")), [ONE], "who waits is told");
        if let Some((id, with)) = begun {
            assert!(end(&mut book, id, &with, code("with the old settings"), now).is_none());
        }
        assert!(book.next_load().is_none());
        let record = book.get(APP).expect("it is there");
        assert!(record.revision().is_none() && record.barred().is_some());
        assert!(matches!(book.wants(TWO, APP, now), AppAnswer::Refused(reason) if reason.contains("it wants more")));
        // The next reading has something that can be had.
        book.reload(APP, Some(app("one")));
        let outcome = load(&mut book, code("with others"), now);
        assert!(matches!(&outcome, Outcome::Served(Served { to, .. }) if *to == [ONE, TWO]), "{outcome:?}");
        book = book_of_one();
    }
    // What was loaded before serves on, and not with what a reload has begun to load.
    book.wants(ONE, APP, now);
    load(&mut book, code("old"), now);
    book.reload(APP, Some(app("one")));
    let (id, with) = book.next_load().expect("a load");
    assert!(book.bar(APP, error("it wants more")).is_empty());
    assert!(end(&mut book, id, &with, code("newer"), now).is_none());
    assert_eq!(book.get(APP).and_then(Record::revision).map(|revision| revision.code), Some("old"));
    assert_eq!(book.next_load().map(|_| ()), None);
}

#[test]
fn a_failed_app_is_tried_again_by_itself_only_while_workers_have_requests_for_it() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, Err(error("broken")), now);
    let at = book.next_retry().expect("a moment");
    assert_eq!(at, now + Duration::from_secs(10));
    book.retry(at - Duration::from_millis(1));
    assert!(book.next_load().is_none());
    book.retry(at);
    assert!(matches!(load(&mut book, Err(error("broken")), at), Outcome::Failed(Failed { .. })));
    book.asleep(ONE, APP);
    let at = book.next_retry().expect("a moment");
    book.retry(at);
    assert!(book.next_load().is_none() && book.next_retry().is_none(), "nobody asks");
    assert_eq!(book.wants(TWO, APP, at), AppAnswer::Later);
    assert!(book.next_load().is_some());
}

#[test]
fn a_reload_serves_those_that_have_the_app_and_a_failed_one_keeps_the_old_settings() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, code("first"), now);
    book.reload(APP, Some(app("changed")));
    let outcome = load(&mut book, Err(error("broken")), now);
    assert!(matches!(outcome, Outcome::Failed(Failed { keeps_old: true, is_reload: true, .. })), "{outcome:?}");
    assert_eq!(book.get(APP).map(|record| &*record.app().name), Some("one"));
    assert_eq!(book.wants(TWO, APP, now), AppAnswer::Later, "the old one goes on");
    assert_eq!(open(&mut book, Ok(None), now).to, [TWO]);
    book.reload(APP, Some(app("changed")));
    let outcome = load(&mut book, code("second"), now);
    assert!(
        matches!(&outcome, Outcome::Served(Served { to, has_new_settings: true, is_reload: true, .. }) if *to == [ONE, TWO]),
        "{outcome:?}"
    );
    let record = book.get(APP).expect("it is there");
    assert_eq!((&*record.app().name, record.revision().map(|revision| revision.number)), ("changed", Some(2)));
}

#[test]
fn a_reload_during_a_load_is_done_after_it_with_the_latest_settings() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    let (_, first) = book.next_load().expect("a load");
    book.reload(APP, Some(app("two")));
    book.reload(APP, Some(app("three")));
    assert!(book.next_load().is_none(), "an app is loaded once at a time");
    end(&mut book, APP, &first, code("first"), now);
    let (_, second) = book.next_load().expect("another load");
    assert_eq!(second.name, "three");
    end(&mut book, APP, &second, code("second"), now);
    assert!(book.next_load().is_none());
    assert_eq!(book.get(APP).map(|record| &*record.app().name), Some("three"));
}

#[test]
fn a_reload_of_an_app_that_nobody_asked_for_loads_nothing() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.reload(APP, Some(app("changed")));
    assert!(book.next_load().is_none());
    book.wants(ONE, APP, now);
    assert_eq!(book.next_load().map(|(_, with)| with.name.clone()), Some("changed".to_owned()));
}

#[test]
fn code_that_has_vanished_is_loaded_anew_but_not_for_ever() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, code("first"), now);
    for round in 0..2 {
        assert_eq!(book.vanished(ONE, APP, now), AppAnswer::Later, "{round}");
        assert_eq!(book.vanished(TWO, APP, now), AppAnswer::Later, "{round}: the same is said by all");
        let outcome = load(&mut book, code("again"), now);
        assert!(matches!(&outcome, Outcome::Served(Served { to, .. }) if *to == [ONE, TWO]), "{outcome:?}");
    }
    assert!(matches!(book.vanished(ONE, APP, now), AppAnswer::Refused(_)));
    assert!(book.next_load().is_none());
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, code("first"), now);
    for _ in 0..10 {
        book.applied(ONE, APP);
        assert_eq!(book.vanished(ONE, APP, now), AppAnswer::Later, "it was served in between");
        load(&mut book, code("again"), now);
    }
}

#[test]
fn an_app_that_was_removed_and_another_with_its_number_are_not_mixed_up() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    let (_, old) = book.next_load().expect("a load");
    book.remove(APP);
    book.add(APP, app("other"));
    book.wants(ONE, APP, now);
    let (_, new) = book.next_load().expect("a load");
    assert!(end(&mut book, APP, &old, code("old"), now).is_none());
    assert!(matches!(end(&mut book, APP, &new, code("new"), now), Some(Outcome::Served(_))));
}

#[test]
fn what_is_wanted_is_loaded_before_the_rest() {
    let (mut book, now) = (Book::<&str>::default(), Instant::now());
    for number in 0..5 {
        book.add(AppId(number), app("any"));
        book.load_in_time(AppId(number));
    }
    book.wants(ONE, AppId(4), now);
    let order = [(); LOADS_MAX].map(|()| book.next_load().map(|(id, _)| id));
    assert_eq!(order[..2], [Some(AppId(4)), Some(AppId(0))]);
    assert!(book.next_load().is_none(), "no more at once");
}

#[test]
fn an_app_that_may_not_be_loaded_is_refused_until_a_reload_says_otherwise() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.bar(APP, error("it needs a restart"));
    let is_barred = |book: &Book<&'static str>| book.get(APP).is_some_and(|record| record.barred().is_some());
    assert!(is_barred(&book));
    let later = now + Duration::from_secs(100_000);
    assert!(matches!(book.wants(ONE, APP, later), AppAnswer::Refused(reason) if reason.contains("restart")));
    book.reload(APP, Some(app("mended")));
    assert!(matches!(load(&mut book, code("first"), now), Outcome::Served(Served { to, .. }) if to == [ONE]));
    assert!(!is_barred(&book));
}

#[test]
fn a_barred_app_goes_on_as_it_was_also_when_its_code_has_to_be_loaded_anew() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, code("old"), now);
    assert!(book.bar(APP, error("it wants more")).is_empty());
    assert_eq!(book.vanished(ONE, APP, now), AppAnswer::Later);
    assert_eq!(book.wants(TWO, APP, now), AppAnswer::Later);
    let outcome = load(&mut book, code("old, once more"), now);
    assert!(matches!(&outcome, Outcome::Served(Served { to, .. }) if *to == [ONE, TWO]), "{outcome:?}");
}

/// Something that happens.
#[derive(Debug, Clone)]
enum Step {
    Wants(u16, u32),
    Asleep(u16, u32),
    Vanished(u16, u32),
    Gone(u16),
    Reload(u32),
    Renew(u32),
    InTime(u32),
    BeginLoad,
    EndLoad(bool),
    BeginOpening,
    EndOpening(bool),
    Later,
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, number) = (1_u16..4, 0_u32..6);
    prop_oneof![
        4 => (worker.clone(), number.clone()).prop_map(|(worker, app)| Step::Wants(worker, app)),
        1 => (worker.clone(), number.clone()).prop_map(|(worker, app)| Step::Asleep(worker, app)),
        1 => (worker.clone(), number.clone()).prop_map(|(worker, app)| Step::Vanished(worker, app)),
        1 => worker.prop_map(Step::Gone),
        1 => number.clone().prop_map(Step::Reload),
        1 => number.clone().prop_map(Step::Renew),
        1 => number.prop_map(Step::InTime),
        4 => Just(Step::BeginLoad),
        4 => any::<bool>().prop_map(Step::EndLoad),
        4 => Just(Step::BeginOpening),
        4 => any::<bool>().prop_map(Step::EndOpening),
        1 => Just(Step::Later),
    ]
}

proptest! {
    #[test]
    fn never_too_many_run_and_no_wish_is_lost(steps in prop::collection::vec(step(), 0..200), has_cache in any::<bool>()) {
        let mut book = Book::<&'static str>::new(has_cache, false);
        let mut look_ups = VecDeque::<(AppId, Arc<App>)>::new();
        for number in 0..6 {
            book.add(AppId(number), app("any"));
        }
        let mut now = Instant::now();
        // Workers that wait for an answer, by app; and what runs.
        let mut waits: BTreeSet<(u16, u32)> = BTreeSet::new();
        let (mut loads, mut openings) = (VecDeque::new(), VecDeque::new());
        let settle = |waits: &mut BTreeSet<(u16, u32)>, id: AppId, told: &[WorkerId]| {
            for worker in told {
                waits.remove(&(worker.0, id.0));
            }
        };
        let end_load = |book: &mut Book<&'static str>, waits: &mut BTreeSet<(u16, u32)>, (id, with): (AppId, Arc<App>), works, now| {
            let came = if works { code("code") } else { Err(error("broken")) };
            match end(book, id, &with, came, now) {
                Some(Outcome::Served(Served { to, .. })) => settle(waits, id, &to),
                Some(Outcome::Failed(Failed { refused, .. })) => settle(waits, id, &refused),
                None => {}
            }
        };
        for step in steps {
            match step {
                Step::Wants(worker, app) | Step::Vanished(worker, app) => {
                    let (id, by) = (AppId(app), WorkerId(worker));
                    let is_vanished = matches!(step, Step::Vanished(..));
                    let answer = if is_vanished { book.vanished(by, id, now) } else { book.wants(by, id, now) };
                    match answer {
                        AppAnswer::Later => waits.insert((worker, app)),
                        AppAnswer::Refused(_) => waits.remove(&(worker, app)),
                    };
                }
                // (It says so only of what it has.)
                Step::Asleep(worker, app) => book.asleep(WorkerId(worker), AppId(app)),
                Step::Gone(worker) => {
                    book.gone(WorkerId(worker));
                    waits.retain(|(other, _)| *other != worker);
                }
                Step::Reload(app) => book.reload(AppId(app), None),
                Step::Renew(app) => book.renew(AppId(app), None),
                Step::InTime(app) => book.load_in_time(AppId(app)),
                Step::BeginLoad => {
                    look_ups.extend(book.next_look_up());
                    loads.extend(book.next_load());
                }
                Step::EndLoad(works) => {
                    if let Some((id, with)) = look_ups.pop_front() {
                        book.looked_up(id, &with, works);
                        if works {
                            end_load(&mut book, &mut waits, (id, with), works, now);
                        }
                    }
                    if let Some(load) = loads.pop_front() {
                        end_load(&mut book, &mut waits, load, works, now);
                    }
                }
                Step::BeginOpening => openings.extend(book.next_opening()),
                Step::EndOpening(works) => {
                    if let Some((id, _, which, _)) = openings.pop_front() {
                        let opened = book.opened(id, which, if works { Ok(None) } else { Err(error("gone")) }, now);
                        settle(&mut waits, id, &opened.to);
                        settle(&mut waits, id, &opened.refused);
                    }
                }
                Step::Later => now += Duration::from_secs(7),
            }
            prop_assert!(loads.len() <= LOADS_MAX && openings.len() <= OPENINGS_MAX && look_ups.len() <= LOOK_UPS_MAX);
            let ids: BTreeSet<AppId> = loads.iter().chain(&look_ups).map(|(id, _): &(AppId, Arc<App>)| *id).collect();
            prop_assert_eq!(ids.len(), loads.len() + look_ups.len(), "an app is loaded once at a time");
        }
        // All that runs and waits comes to its end.
        for _ in 0..1_000 {
            look_ups.extend(book.next_look_up());
            if let Some((id, with)) = look_ups.pop_front() {
                book.looked_up(id, &with, false);
            }
            loads.extend(book.next_load());
            openings.extend(book.next_opening());
            if let Some(load) = loads.pop_front() {
                end_load(&mut book, &mut waits, load, true, now);
            }
            if let Some((id, _, which, _)) = openings.pop_front() {
                let opened = book.opened(id, which, Ok(None), now);
                settle(&mut waits, id, &opened.to);
            }
        }
        prop_assert!(loads.is_empty() && openings.is_empty() && look_ups.is_empty());
        prop_assert!(waits.is_empty(), "{waits:?}");
    }
}

#[test]
fn a_worker_is_behind_until_it_serves_what_it_was_given_or_has_it_no_more() {
    let (mut book, now) = (book_of_one(), Instant::now());
    let behind = |book: &Book<&'static str>| book.get(APP).map(|record| record.behind().collect::<Vec<_>>());
    book.behind(ONE, APP);
    assert_eq!(behind(&book), Some(vec![]), "it has nothing of the app");
    for worker in [ONE, TWO] {
        book.wants(worker, APP, now);
    }
    load(&mut book, code("first"), now);
    for ends in [0, 1, 2] {
        book.has(ONE, APP);
        book.behind(ONE, APP);
        assert!(!book.applied(TWO, APP));
        assert_eq!(behind(&book), Some(vec![ONE]));
        match ends {
            0 => assert!(book.applied(ONE, APP)),
            1 => book.asleep(ONE, APP),
            _ => assert_eq!(book.gone(ONE), [APP]),
        }
        assert_eq!(behind(&book), Some(vec![]));
    }
}

#[test]
fn an_app_that_comes_back_is_another_one() {
    let mut book = book_of_one();
    let born = book.get(APP).map(Record::born);
    book.remove(APP);
    book.add(APP, app("one"));
    assert_ne!(book.get(APP).map(Record::born), born);
}

#[test]
fn an_opening_of_a_former_app_gives_nothing_to_the_one_that_came_back() {
    let (mut book, now) = (book_of_one(), Instant::now());
    let loaded = |book: &mut Book<&'static str>, text| {
        book.wants(ONE, APP, now);
        load(book, code(text), now);
        book.asleep(ONE, APP);
        book.wants(TWO, APP, now);
    };
    loaded(&mut book, "former");
    let (_, _, former, _) = book.next_opening().expect("an opening to begin");
    book.remove(APP);
    book.add(APP, app("one"));
    loaded(&mut book, "present");
    let (_, _, present, code) = book.next_opening().expect("an opening to begin");
    assert_eq!(code, "present");
    let opened = book.opened(APP, former, Ok(Some("former")), now);
    assert!(opened.to.is_empty() && opened.refused.is_empty(), "{opened:?}");
    assert!(book.next_opening().is_none(), "its own is under way");
    assert_eq!(book.opened(APP, present, Ok(None), now).to, [TWO]);
    assert_eq!(book.get(APP).and_then(Record::revision).map(|revision| revision.code), Some("present"));
}

#[test]
fn a_reload_of_an_app_that_nobody_has_is_taken_at_its_next_wake() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, code("first"), now);
    book.asleep(ONE, APP);
    let next = app("next");
    book.renew(APP, Some(Arc::clone(&next)));
    assert!(book.next_load().is_none(), "nobody asks for it");
    assert_eq!(book.get(APP).map(Record::state), Some(AppState::Asleep));
    assert!(book.get(APP).is_some_and(|record| Arc::ptr_eq(record.app(), &next)), "its settings are those of now");
    assert_eq!(book.wants(TWO, APP, now), AppAnswer::Later);
    assert!(book.next_opening().is_none(), "the old code is not opened");
    // A mistake is found now, and the old code is not served for it.
    let outcome = load(&mut book, Err(error("broken")), now);
    let Outcome::Failed(Failed { refused, keeps_old: false, is_reload: false, .. }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(refused, [TWO]);
    // Mended, and nobody waits: with the next request.
    book.asleep(TWO, APP);
    book.renew(APP, None);
    assert_eq!(book.wants(ONE, APP, now), AppAnswer::Later, "it is not refused for what was wrong before");
    assert!(matches!(load(&mut book, code("mended"), now), Outcome::Served(Served { to, .. }) if to == [ONE]));
}

#[test]
fn a_reload_of_an_app_that_a_worker_has_is_loaded_at_once() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    load(&mut book, code("first"), now);
    book.renew(APP, Some(app("next")));
    let outcome = load(&mut book, Err(error("broken")), now);
    assert!(matches!(outcome, Outcome::Failed(Failed { keeps_old: true, is_reload: true, .. })), "{outcome:?}");
}

#[test]
fn only_what_nothing_is_known_of_may_be_served_untried() {
    let (mut book, now) = (book_of_one(), Instant::now());
    book.wants(ONE, APP, now);
    assert!(may_be_found(&book));
    load(&mut book, Err(error("broken")), now);
    assert!(!may_be_found(&book), "it has failed");
    book.reload(APP, None);
    assert!(!may_be_found(&book), "a reload asks for it");
    load(&mut book, code("first"), now);
    book.vanished(ONE, APP, now);
    assert!(!may_be_found(&book), "a worker could not link it");
}
