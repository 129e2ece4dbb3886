//! Opens and links the code of apps within a worker's process, in threads of their own, while requests go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use wasmhost_base::backoff::Backoff;
use wasmhost_base::heap;
use wasmhost_base::panics::caught;
use wasmhost_config::{App, AppId};
use wasmhost_sandbox::{Guest, LoadError, Sandbox};
use wasmhost_serve::worker::RevisionTag;

use crate::apps::book::OPENINGS_MAX;
use crate::apps::difference::{Change, compare};
use crate::loader::{CodeAtRest, short};

/// Why code is not linked.
#[derive(Debug)]
pub(super) enum Unlinked {
    /// It is not there any more.
    Vanished(LoadError),
    /// It cannot be linked.
    Broken(LoadError),
}

/// Opens and links code. Blocks.
///
/// # Errors
/// See [`Unlinked`].
pub(super) fn link(code: &CodeAtRest, app: &Arc<App>, sandbox: &Sandbox) -> Result<Arc<Guest>, Unlinked> {
    let opened = code.open(app).map_err(|error| match code {
        CodeAtRest::Stored(_) | CodeAtRest::Found(_) => Unlinked::Vanished(error),
        CodeAtRest::Held(..) => Unlinked::Broken(error),
    })?;
    Guest::link(&opened, app, sandbox).map(Arc::new).map_err(|error| match code {
        // Loading it anew tries it, and names what is wrong.
        CodeAtRest::Found(_) => Unlinked::Vanished(error),
        CodeAtRest::Stored(_) | CodeAtRest::Held(..) => Unlinked::Broken(error),
    })
}

/// How long code that cannot be linked waits until it is tried again. (It works elsewhere: most likely, this process is short of
/// memory or threads.)
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// Code that is to be linked.
#[derive(Debug, Clone)]
pub(super) struct ToLink {
    pub(super) app: Arc<App>,
    code: CodeAtRest,
    /// Which revision of the app it is.
    pub(super) tag: RevisionTag,
    /// How often it could not be.
    failed: u32,
}

impl ToLink {
    pub(super) fn new(app: Arc<App>, code: CodeAtRest, tag: RevisionTag) -> Self {
        Self { app, code, tag, failed: 0 }
    }

    /// Whether it could not be linked before.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }

    /// Whether the same comes of linking it: it is the same code, of an app with the same settings.
    fn is_same(&self, other: &Self) -> bool {
        self.code == other.code && compare(&self.app, &other.app) != Change::Settings
    }
}

/// What came of linking code of an app.
pub(super) struct LinkerAnswer {
    pub(super) id: AppId,
    pub(super) link: ToLink,
    /// No later code of the app is to be linked.
    pub(super) is_latest: bool,
    pub(super) outcome: LinkOutcome,
}

type LinkOutcome = Result<Arc<Guest>, Unlinked>;

/// Code that is being linked.
#[derive(Debug)]
struct RunningLink {
    link: ToLink,
    /// Nobody wants to know what comes of it any more.
    is_void: bool,
}

/// Code that could not be linked.
#[derive(Debug)]
struct Later {
    link: ToLink,
    reason: Arc<str>,
    /// When it is tried again.
    at: Instant,
}

/// Which code is linked when: of each app the latest, [`OPENINGS_MAX`] at once. Pure.
#[derive(Debug, Default)]
struct Schedule {
    waiting: BTreeMap<AppId, ToLink>,
    running: BTreeMap<AppId, RunningLink>,
    later: BTreeMap<AppId, Later>,
}

impl Schedule {
    /// This code of an app is to be linked. One that is on its way already goes on: what could not be linked is not tried
    /// earlier because it is given again. In that case answers why it could not be.
    fn add(&mut self, id: AppId, link: ToLink) -> Option<Arc<str>> {
        if let Some(running) = self.running.get_mut(&id).filter(|running| running.link.is_same(&link)) {
            (running.is_void, running.link.tag) = (false, link.tag);
            self.waiting.remove(&id);
            return None;
        }
        if let Some(later) = self.later.get_mut(&id).filter(|later| later.link.is_same(&link)) {
            later.link.tag = link.tag;
            return Some(Arc::clone(&later.reason));
        }
        self.later.remove(&id);
        match self.waiting.get_mut(&id).filter(|waiting| waiting.is_same(&link)) {
            Some(waiting) => waiting.tag = link.tag,
            None => drop(self.waiting.insert(id, link)),
        }
        None
    }

    fn forget(&mut self, id: AppId) {
        self.later.remove(&id);
        self.waiting.remove(&id);
        if let Some(running) = self.running.get_mut(&id) {
            running.is_void = true;
        }
    }

    /// The next one to begin with, if one may.
    fn next(&mut self, now: Instant) -> Option<(AppId, ToLink)> {
        for (id, Later { link, .. }) in self.later.extract_if(.., |_, later| later.at <= now) {
            self.waiting.entry(id).or_insert(link);
        }
        if self.running.len() >= OPENINGS_MAX {
            return None;
        }
        // One app at a time, so that the latest comes last.
        let id = self.waiting.keys().find(|id| !self.running.contains_key(id)).copied()?;
        let link = self.waiting.remove(&id)?;
        self.running.insert(id, RunningLink { link: link.clone(), is_void: false });
        Some((id, link))
    }

    /// Code of this app has been linked, or could not be: which, and whether it is the latest. None: what comes of it is void.
    fn ended(&mut self, id: AppId) -> Option<(ToLink, bool)> {
        let running = self.running.remove(&id).filter(|running| !running.is_void)?;
        Some((running.link, !self.waiting.contains_key(&id)))
    }

    /// Has it tried again later. (Of code that came meanwhile, the later counts.)
    fn again(&mut self, id: AppId, link: ToLink, reason: Arc<str>, now: Instant) {
        let at = now + AGAIN.delay(link.failed, 0.0);
        let link = ToLink { failed: link.failed.saturating_add(1), ..link };
        self.later.insert(id, Later { link, reason, at });
    }

    /// When [`Self::next`] has something to begin with that waits for its time.
    fn due_at(&self) -> Option<Instant> {
        self.later.values().map(|later| later.at).min()
    }
}

/// Links the code that it is given, of each app the latest.
pub(super) struct Linker {
    sandbox: Arc<Sandbox>,
    schedule: Schedule,
    answers: mpsc::Sender<(AppId, LinkOutcome)>,
    linked: mpsc::Receiver<(AppId, LinkOutcome)>,
}

impl Linker {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        let (answers, linked) = mpsc::channel(OPENINGS_MAX);
        Self { sandbox, schedule: Schedule::default(), answers, linked }
    }

    /// Links this code of an app, unless other code comes before it is its turn. Answers why it could not be linked before, if
    /// it waits for its time to be tried again.
    pub(super) fn link(&mut self, id: AppId, link: ToLink) -> Option<Arc<str>> {
        let behind = self.schedule.add(id, link);
        self.begin();
        behind
    }

    /// Links this code, which could not be linked for this reason, again after a while, unless other code comes before.
    pub(super) fn link_later(&mut self, id: AppId, link: ToLink, reason: Arc<str>) {
        self.schedule.again(id, link, reason, Instant::now());
    }

    /// What waits of this app, or is being linked, is void.
    pub(super) fn forget(&mut self, id: AppId) {
        self.schedule.forget(id);
    }

    /// What was linked; never ready while nothing is. May be dropped at any moment.
    pub(super) async fn next(&mut self) -> LinkerAnswer {
        loop {
            let due_at = self.schedule.due_at();
            tokio::select! {
                // It holds a sender itself.
                Some((id, outcome)) = self.linked.recv() => {
                    let ended = self.schedule.ended(id);
                    self.begin();
                    if let Some((link, is_latest)) = ended {
                        return LinkerAnswer { id, link, is_latest, outcome };
                    }
                }
                () = until(due_at) => self.begin(),
            }
        }
    }

    fn begin(&mut self) {
        while let Some((id, link)) = self.schedule.next(Instant::now()) {
            self.start(id, link);
        }
    }

    fn start(&self, id: AppId, ToLink { app, code, .. }: ToLink) {
        let (answer, sandbox, named) = (self.answers.clone(), Arc::clone(&self.sandbox), Arc::clone(&app));
        let fails = wasmhost_base::inject::goes_off("link");
        let linker = std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let _own = heap::own();
            let outcome = match fails {
                true => Err(Unlinked::Broken(short(&app, "a test made it fail".to_owned()))),
                false => caught(|| link(&code, &app, &sandbox)).unwrap_or_else(|panic| {
                    Err(Unlinked::Broken(short(&app, format!("linking it panicked, a bug of wasmhost: {panic}"))))
                }),
            };
            // Without a receiver the worker is at its end.
            let _ = answer.blocking_send((id, outcome));
        });
        if let Err(error) = linker {
            let error = short(&named, format!("there is no thread to link it in: {error}"));
            // There is room for one of each that may run.
            let _ = self.answers.try_send((id, Err(Unlinked::Broken(error))));
        }
    }
}

/// Waits until then; for ever without a moment.
pub(super) async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: AppId = AppId(1);

    /// Code that is in this file.
    fn code(file: &str) -> std::io::Result<ToLink> {
        let code = CodeAtRest::Held(Arc::new(std::fs::File::open(file)?.into()), "".into());
        Ok(ToLink::new(Arc::default(), code, RevisionTag::default()))
    }

    fn old() -> std::io::Result<ToLink> {
        code("/dev/null")
    }

    fn new() -> std::io::Result<ToLink> {
        code("/dev/zero")
    }

    /// Begins with what is next and has it fail.
    fn fail(schedule: &mut Schedule, now: Instant) -> ToLink {
        let (id, _) = schedule.next(now).expect("its time has come");
        let (link, is_latest) = schedule.ended(id).expect("it is wanted");
        assert!(is_latest);
        schedule.again(id, link.clone(), "short".into(), now);
        link
    }

    #[test]
    fn code_that_cannot_be_linked_is_tried_again_and_each_time_later() -> std::io::Result<()> {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.add(APP, old()?);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            let link = fail(&mut schedule, now);
            assert_eq!(link.has_failed(), seconds > 2);
            assert_eq!(schedule.due_at(), Some(now + Duration::from_secs(seconds)));
            assert!(schedule.next(now).is_none(), "not yet");
            now += Duration::from_secs(seconds);
        }
        Ok(())
    }

    #[test]
    fn code_that_is_given_again_is_not_tried_earlier_than_its_time() -> std::io::Result<()> {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        assert_eq!(schedule.add(APP, old()?), None);
        for seconds in [2, 4, 8] {
            fail(&mut schedule, now);
            for waited in 1..seconds {
                // The worker asks for the app every second.
                assert_eq!(schedule.add(APP, old()?).as_deref(), Some("short"));
                assert!(schedule.next(now + Duration::from_secs(waited)).is_none());
            }
            now += Duration::from_secs(seconds);
        }
        // Its time has come, and it waits for others.
        let (id, _) = schedule.next(now).expect("its time has come");
        assert_eq!(schedule.add(APP, old()?), None);
        assert!(schedule.ended(id).is_some_and(|(link, is_latest)| link.has_failed() && is_latest));
        assert!(schedule.next(now).is_none(), "it is not linked twice");
        Ok(())
    }

    #[test]
    fn code_with_other_settings_is_other_code_and_with_other_routes_the_same() -> std::io::Result<()> {
        let other = |change: fn(&mut App)| {
            let mut app = App::default();
            change(&mut app);
            old().map(|link| ToLink { app: Arc::new(app), ..link })
        };
        assert!(old()?.is_same(&old()?));
        assert!(old()?.is_same(&other(|app| app.routes.push("a.test/*".to_owned()))?));
        assert!(!old()?.is_same(&other(|app| app.component = "other.wasm".into())?));
        assert!(!old()?.is_same(&new()?));
        Ok(())
    }

    #[test]
    fn code_that_comes_meanwhile_takes_the_place_of_what_is_to_be_tried_again() -> std::io::Result<()> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.again(APP, old()?, "short".into(), now);
        assert_eq!(schedule.add(APP, new()?), None);
        assert_eq!(schedule.due_at(), None);
        let next = schedule.next(now).map(|(_, link)| link).expect("the new one");
        assert!(next.is_same(&new()?) && !next.has_failed());
        schedule.again(AppId(2), old()?, "short".into(), now);
        schedule.forget(AppId(2));
        assert_eq!(schedule.due_at(), None, "of an app that is gone, nothing is tried");
        Ok(())
    }

    #[test]
    fn what_was_being_linked_when_the_app_was_refused_or_gone_is_void() -> std::io::Result<()> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.add(APP, old()?);
        assert!(schedule.next(now).is_some());
        schedule.forget(APP);
        assert!(schedule.ended(APP).is_none());
        // It is ordered again meanwhile.
        schedule.add(APP, old()?);
        assert!(schedule.next(now).is_some());
        schedule.forget(APP);
        schedule.add(APP, old()?);
        assert!(schedule.ended(APP).is_some_and(|(_, is_latest)| is_latest));
        assert!(schedule.next(now).is_none());
        Ok(())
    }

    #[test]
    fn code_is_not_the_latest_while_later_code_is_to_be_linked() -> std::io::Result<()> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.add(APP, old()?);
        assert!(schedule.next(now).is_some());
        let later = new()?;
        schedule.add(APP, later.clone());
        assert!(schedule.next(now).is_none(), "one after the other");
        assert!(schedule.ended(APP).is_some_and(|(_, is_latest)| !is_latest));
        assert!(schedule.next(now).is_some());
        assert!(schedule.ended(APP).is_some_and(|(link, is_latest)| is_latest && link.is_same(&later)));
        // It was given up for what is being linked.
        schedule.add(APP, old()?);
        assert!(schedule.next(now).is_some());
        schedule.add(APP, new()?);
        schedule.add(APP, old()?);
        assert!(schedule.ended(APP).is_some_and(|(_, is_latest)| is_latest));
        assert!(schedule.next(now).is_none());
        Ok(())
    }

    #[test]
    fn as_many_are_linked_at_once_as_may_be_and_one_of_an_app() -> std::io::Result<()> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for number in 0..10 {
            schedule.add(AppId(number), old()?);
        }
        let running: Vec<AppId> = std::iter::from_fn(|| schedule.next(now)).map(|(id, _)| id).collect();
        assert_eq!(running.len(), OPENINGS_MAX);
        schedule.add(running[0], new()?);
        assert!(schedule.ended(running[1]).is_some());
        assert_eq!(schedule.next(now).map(|(id, _)| id), Some(AppId(4)), "the first is being linked still");
        Ok(())
    }
}
