//! Opens and links the code of apps within a worker's process, in threads of their own, while requests go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use wasmhost_base::backoff::Backoff;
use wasmhost_base::heap;
use wasmhost_base::panics::caught;
use wasmhost_config::{App, AppId};
use wasmhost_sandbox::{Guest, LoadError, Sandbox};

use crate::apps::book::OPENINGS_MAX;
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
        CodeAtRest::Held(_) => Unlinked::Broken(error),
    })?;
    Guest::link(&opened, app, sandbox).map(Arc::new).map_err(|error| match code {
        // Loading it anew tries it, and names what is wrong.
        CodeAtRest::Found(_) => Unlinked::Vanished(error),
        CodeAtRest::Stored(_) | CodeAtRest::Held(_) => Unlinked::Broken(error),
    })
}

/// How long code that cannot be linked waits until it is tried again. (It works elsewhere: most likely, this process is short of
/// memory or threads.)
const AGAIN: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60));

/// Code that is to be linked.
#[derive(Debug)]
pub(super) struct ToLink {
    /// See [`wasmhost_config::Listed::born`].
    pub(super) born: u64,
    pub(super) app: Arc<App>,
    pub(super) code: CodeAtRest,
    /// How often it could not be.
    failed: u32,
}

impl ToLink {
    pub(super) fn new(born: u64, app: Arc<App>, code: CodeAtRest) -> Self {
        Self { born, app, code, failed: 0 }
    }

    /// Whether it could not be linked before.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > 0
    }
}

/// What came of linking code of an app.
pub(super) struct LinkerAnswer {
    pub(super) id: AppId,
    pub(super) link: ToLink,
    pub(super) outcome: Result<Arc<Guest>, Unlinked>,
}

/// Which code is linked when: of each app the latest, [`OPENINGS_MAX`] at once. Pure.
#[derive(Debug, Default)]
struct Schedule {
    waiting: BTreeMap<AppId, ToLink>,
    running: BTreeSet<AppId>,
    /// What could not be linked, and when it is tried again.
    later: BTreeMap<AppId, (Instant, ToLink)>,
}

impl Schedule {
    fn add(&mut self, id: AppId, link: ToLink) {
        self.later.remove(&id);
        self.waiting.insert(id, link);
    }

    fn forget(&mut self, id: AppId) {
        self.later.remove(&id);
        self.waiting.remove(&id);
    }

    fn has_later(&self, id: AppId) -> bool {
        self.waiting.contains_key(&id) || self.running.contains(&id)
    }

    /// The next one to begin with, if one may.
    fn next(&mut self, now: Instant) -> Option<(AppId, ToLink)> {
        for (id, (_, link)) in self.later.extract_if(.., |_, (at, _)| *at <= now) {
            self.waiting.entry(id).or_insert(link);
        }
        if self.running.len() >= OPENINGS_MAX {
            return None;
        }
        // One app at a time, so that the latest comes last.
        let id = self.waiting.keys().find(|id| !self.running.contains(id)).copied()?;
        let link = self.waiting.remove(&id)?;
        self.running.insert(id);
        Some((id, link))
    }

    fn ended(&mut self, id: AppId) {
        self.running.remove(&id);
    }

    /// Has it tried again later. (Of code that came meanwhile, the later counts.)
    fn again(&mut self, id: AppId, link: ToLink, now: Instant) {
        let at = now + AGAIN.delay(link.failed, 0.0);
        self.later.insert(id, (at, ToLink { failed: link.failed.saturating_add(1), ..link }));
    }

    /// When [`Self::next`] has something to begin with that waits for its time.
    fn due_at(&self) -> Option<Instant> {
        self.later.values().map(|(at, _)| *at).min()
    }
}

/// Links the code that it is given, of each app the latest.
pub(super) struct Linker {
    sandbox: Arc<Sandbox>,
    schedule: Schedule,
    answers: mpsc::Sender<LinkerAnswer>,
    linked: mpsc::Receiver<LinkerAnswer>,
}

impl Linker {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        let (answers, linked) = mpsc::channel(OPENINGS_MAX);
        Self { sandbox, schedule: Schedule::default(), answers, linked }
    }

    /// Links this code of an app, unless other code comes before it is its turn.
    pub(super) fn link(&mut self, id: AppId, link: ToLink) {
        self.schedule.add(id, link);
        self.begin();
    }

    /// Links this code again after a while, unless other code comes before.
    pub(super) fn link_later(&mut self, id: AppId, link: ToLink) {
        self.schedule.again(id, link, Instant::now());
    }

    /// What waits of this app is void.
    pub(super) fn forget(&mut self, id: AppId) {
        self.schedule.forget(id);
    }

    /// Whether later code of this app is to be linked: what came of earlier code does not matter then.
    pub(super) fn has_later(&self, id: AppId) -> bool {
        self.schedule.has_later(id)
    }

    /// What was linked; never ready while nothing is. May be dropped at any moment.
    pub(super) async fn next(&mut self) -> LinkerAnswer {
        loop {
            let due_at = self.schedule.due_at();
            tokio::select! {
                // It holds a sender itself.
                Some(answer) = self.linked.recv() => {
                    self.schedule.ended(answer.id);
                    self.begin();
                    return answer;
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

    fn start(&self, id: AppId, to_link: ToLink) {
        let (answer, sandbox) = (self.answers.clone(), Arc::clone(&self.sandbox));
        let fails = wasmhost_base::inject::goes_off("link");
        let (app, code) = (Arc::clone(&to_link.app), to_link.code.clone());
        let (born, failed) = (to_link.born, to_link.failed);
        let linker = std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let _own = heap::own();
            let outcome = match fails {
                true => Err(Unlinked::Broken(short(&app, "a test made it fail".to_owned()))),
                false => caught(|| link(&code, &app, &sandbox)).unwrap_or_else(|panic| {
                    Err(Unlinked::Broken(short(&app, format!("linking it panicked, a bug of wasmhost: {panic}"))))
                }),
            };
            // Without a receiver the worker is at its end.
            let _ = answer.blocking_send(LinkerAnswer { id, link: ToLink { born, app, code, failed }, outcome });
        });
        if let Err(error) = linker {
            let error = short(&to_link.app, format!("there is no thread to link it in: {error}"));
            // There is room for one of each that may run.
            let _ = self.answers.try_send(LinkerAnswer { id, link: to_link, outcome: Err(Unlinked::Broken(error)) });
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

    fn code(born: u64) -> std::io::Result<ToLink> {
        let file = std::fs::File::open("/dev/null")?;
        Ok(ToLink::new(born, Arc::default(), CodeAtRest::Held(Arc::new(file.into()))))
    }

    #[test]
    fn code_that_cannot_be_linked_is_tried_again_and_each_time_later() -> std::io::Result<()> {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.add(APP, code(1)?);
        for seconds in [2, 4, 8, 16, 32, 60, 60] {
            let (id, link) = schedule.next(now).expect("its time has come");
            assert_eq!(link.has_failed(), seconds > 2);
            schedule.ended(id);
            schedule.again(id, link, now);
            assert_eq!(schedule.due_at(), Some(now + Duration::from_secs(seconds)));
            assert!(schedule.next(now).is_none() && !schedule.has_later(APP), "not yet");
            now += Duration::from_secs(seconds);
        }
        Ok(())
    }

    #[test]
    fn code_that_comes_meanwhile_takes_the_place_of_what_is_to_be_tried_again() -> std::io::Result<()> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        schedule.again(APP, code(1)?, now);
        schedule.add(APP, code(2)?);
        assert_eq!(schedule.due_at(), None);
        assert_eq!(schedule.next(now).map(|(_, link)| (link.born, link.has_failed())), Some((2, false)));
        schedule.again(AppId(2), code(1)?, now);
        schedule.forget(AppId(2));
        assert_eq!(schedule.due_at(), None, "of an app that is gone, nothing is tried");
        Ok(())
    }

    #[test]
    fn as_many_are_linked_at_once_as_may_be_and_one_of_an_app() -> std::io::Result<()> {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for number in 0..10 {
            schedule.add(AppId(number), code(1)?);
        }
        let running: Vec<AppId> = std::iter::from_fn(|| schedule.next(now)).map(|(id, _)| id).collect();
        assert_eq!(running.len(), OPENINGS_MAX);
        schedule.add(running[0], code(2)?);
        schedule.ended(running[1]);
        assert_eq!(schedule.next(now).map(|(id, _)| id), Some(AppId(4)), "the first is being linked still");
        Ok(())
    }
}
