//! The apps of the primary: has done what the [`book`] says, by the kind of workers, and notes what comes of it. What
//! workers are to be told of it goes back to the primary as [`Tell`]s.

pub(crate) mod book;
pub(crate) mod difference;
pub(crate) mod watch;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use wasmhost_config::{App, AppId, Listed};
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::{RevisionTag, WorkerId};

use self::book::{AppAnswer, Book, Failed, LOADS_MAX, OPENINGS_MAX, OpenedRevision, RevisionProof, RolledBack, Served};
use self::difference::Numbers;
use crate::backend::{Backend, Loaded, Pending};
use crate::loader::short;

/// What came of a change of the revision that is served, and what workers are to hear of it; or why there was none.
type RevisionChange<T, B> = Result<(T, Vec<Tell<<B as Backend>::Guest>>), String>;

/// What is to be said to a worker about an app.
pub(crate) enum Tell<G> {
    /// What to serve it with.
    Supply(WorkerId, AppId, G, RevisionTag),
    /// Why it cannot be served.
    Refuse(WorkerId, AppId, Arc<str>),
}

impl<G> Tell<G> {
    /// Whom.
    pub(crate) fn worker(&self) -> WorkerId {
        let (Self::Supply(worker, ..) | Self::Refuse(worker, ..)) = self;
        *worker
    }
}

/// Work that has ended.
pub(crate) enum Done<B: Backend> {
    /// A look into the cache for an app with these settings: what it has.
    LookedUp(AppId, Arc<App>, Result<Option<Loaded<B>>, LoadError>),
    /// A load of an app with these settings.
    Loaded(AppId, Arc<App>, Result<Loaded<B>, LoadError>),
    /// The opening of this revision of an app.
    Opened(AppId, OpenedRevision, Result<(B::Guest, B::Code), LoadError>),
    /// The opening of the canary of an app for a worker.
    CanaryOpened(WorkerId, AppId, OpenedRevision, Result<(B::Guest, B::Code), LoadError>),
}

/// A revision that gets all requests from now on: its number, the one before that, and who is to be given it.
pub(crate) type Promoted = (u64, Option<u64>, Vec<WorkerId>);

/// The apps of the host.
pub(crate) struct Apps<B: Backend> {
    /// What is known of them.
    pub(crate) book: Book<B::Code>,
    /// Their numbers.
    pub(crate) numbers: Numbers,
    done: mpsc::Sender<Done<B>>,
}

impl<B: Backend> Apps<B> {
    /// These apps, in their order, of which none is loaded. Work that has ended is heard at the other end.
    pub(crate) fn new(apps: &[Arc<App>], has_cache: bool, keeps_revisions: bool) -> (Self, mpsc::Receiver<Done<B>>) {
        // No more runs at once.
        let (done, heard) = mpsc::channel(LOADS_MAX + book::LOOK_UPS_MAX + OPENINGS_MAX);
        let (mut book, mut numbers) = (Book::new(has_cache, keeps_revisions), Numbers::default());
        for app in apps {
            // (The settings have no more apps than there are numbers.)
            if let Some(id) = numbers.of(&app.name) {
                book.add(id, Arc::clone(app));
            }
        }
        (Self { book, numbers, done }, heard)
    }

    /// All apps as they are served now.
    pub(crate) fn served_now(&self) -> impl Iterator<Item = Listed> {
        self.book.iter().map(|(id, record)| Listed { id, born: record.born(), app: Arc::clone(record.app()) })
    }

    /// Begins what is to be done now. Needs the primary's local runtime.
    pub(crate) fn run(&mut self, backend: &B) -> Vec<Tell<B::Guest>> {
        while let Some((id, with)) = self.book.next_look_up() {
            let done = self.done.clone();
            let begun = backend.look_up(&with);
            tokio::task::spawn_local(async move {
                let came = wait(begun, &with, "find").await;
                let _ = done.send(Done::LookedUp(id, with, came)).await;
            });
        }
        while let Some((id, with)) = self.book.next_load() {
            let done = self.done.clone();
            let begun = backend.load(&with);
            tokio::task::spawn_local(async move {
                let came = wait(begun, &with, "load").await;
                // Without a receiver the host is stopping.
                let _ = done.send(Done::Loaded(id, with, came)).await;
            });
        }
        let mut tell = Vec::new();
        while let Some((id, app, which, code)) = self.book.next_opening() {
            if let Some(guest) = backend.at_hand(&code) {
                tell.extend(self.opened(id, which, Ok((guest, code))));
                continue;
            }
            let done = self.done.clone();
            let begun = backend.open(&app, &code);
            tokio::task::spawn_local(async move {
                let came = wait(begun, &app, "open").await;
                let _ = done.send(Done::Opened(id, which, came)).await;
            });
        }
        tell
    }

    /// The opening of an app has ended.
    pub(crate) fn opened(
        &mut self,
        id: AppId,
        which: OpenedRevision,
        came: Result<(B::Guest, B::Code), LoadError>,
    ) -> Vec<Tell<B::Guest>> {
        let (guest, came) = match came {
            Ok((guest, code)) => (Some(guest), Ok(Some(code))),
            Err(error) => (None, Err(error)),
        };
        let tag = self.tag(id, which.number());
        let opened = self.book.opened(id, which, came, Instant::now());
        let supplies = guest.into_iter().flat_map(|guest| {
            opened.to.iter().map(move |worker| Tell::Supply(*worker, id, guest.clone(), tag)).collect::<Vec<_>>()
        });
        supplies.chain(self.refusals(id, &opened.refused)).collect()
    }

    /// A load of an app with these settings has worked. None: the app is gone meanwhile.
    pub(crate) fn served(
        &mut self,
        id: AppId,
        with: &Arc<App>,
        Loaded { wasi, isolation, code, guest }: Loaded<B>,
    ) -> Option<(Served, Vec<Tell<B::Guest>>)> {
        let served = self.book.served(id, with, (wasi, isolation, code))?;
        let number = self.book.get(id).map_or(0, |record| record.times_loaded());
        let tag = if served.is_canary { tag_of_canary(number) } else { self.tag(id, number) };
        let tell = served.to.iter().map(|worker| Tell::Supply(*worker, id, guest.clone(), tag)).collect();
        Some((served, tell))
    }

    /// A load of an app with these settings has failed. None: the app is gone meanwhile.
    pub(crate) fn failed(
        &mut self,
        id: AppId,
        with: &Arc<App>,
        error: &LoadError,
    ) -> Option<(Failed, Vec<Tell<B::Guest>>)> {
        let failed = self.book.failed(id, with, error.clone(), Instant::now())?;
        let tell = self.refusals(id, &failed.refused);
        Some((failed, tell))
    }

    /// An app may not be loaded, for this reason.
    pub(crate) fn bar(&mut self, id: AppId, error: LoadError) -> Vec<Tell<B::Guest>> {
        let refused = self.book.bar(id, error);
        self.refusals(id, &refused)
    }

    /// A worker's requests wait for an app.
    pub(crate) fn wants(&mut self, worker: WorkerId, id: AppId) -> Option<Tell<B::Guest>> {
        refusal(worker, id, self.book.wants(worker, id, Instant::now()))
    }

    /// What a worker was given of an app is not there any more.
    pub(crate) fn vanished(&mut self, worker: WorkerId, id: AppId) -> Option<Tell<B::Guest>> {
        refusal(worker, id, self.book.vanished(worker, id, Instant::now()))
    }

    /// What a worker that starts has of an app from its beginning, if that is at hand.
    pub(crate) fn first(&mut self, worker: WorkerId, id: AppId, backend: &B) -> Option<(AppId, B::Guest, RevisionTag)> {
        let revision = self.book.get(id)?.revision()?;
        let (guest, tag) = (backend.at_hand(&revision.code)?, self.tag(id, revision.number));
        self.book.has(worker, id);
        Some((id, guest, tag))
    }

    /// A worker serves an app with what it was given: it is given the canary, too, if there is one that it lacks.
    pub(crate) fn canary_for(&mut self, worker: WorkerId, id: AppId, backend: &B) -> Option<Tell<B::Guest>> {
        let (which, app, code) = self.book.canary_for(worker, id)?;
        if let Some(guest) = backend.at_hand(&code) {
            return Some(Tell::Supply(worker, id, guest, tag_of_canary(which.number())));
        }
        let (done, begun) = (self.done.clone(), backend.open(&app, &code));
        tokio::task::spawn_local(async move {
            let came = wait(begun, &app, "open").await;
            let _ = done.send(Done::CanaryOpened(worker, id, which, came)).await;
        });
        None
    }

    /// The canary of an app was opened for a worker.
    pub(crate) fn canary_opened(
        &self,
        worker: WorkerId,
        id: AppId,
        which: OpenedRevision,
        guest: B::Guest,
    ) -> Option<Tell<B::Guest>> {
        let is_wanted = self.book.is_canary_of(worker, id, which);
        is_wanted.then(|| Tell::Supply(worker, id, guest, tag_of_canary(which.number())))
    }

    /// What workers are told of the revision of an app that is served. (A canary is given up instead of going back from it.)
    fn tag(&self, id: AppId, number: u64) -> RevisionTag {
        let revision = self.book.get(id).and_then(|record| record.revision()).filter(|served| served.number == number);
        let watched = revision.filter(|served| served.proof != RevisionProof::Held);
        RevisionTag { number, watched_for: watched.and_then(|served| served.app.rollback.window), is_canary: false }
    }

    /// Another revision of an app is served from now on, which is kept: the latest that has held, since the one that is served is
    /// `bad`, or else as [`Book::roll_back`] says.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn roll_back(
        &mut self,
        id: AppId,
        to: Option<u64>,
        is_bad: bool,
        backend: &B,
    ) -> RevisionChange<RolledBack, B> {
        for revision in self.book.forget_lost(id, |code| backend.is_there(code)) {
            let app = self.book.get(id).map_or("", |record| &*record.app().name);
            tracing::warn!(
                app,
                revision,
                "the code of an earlier revision is not in the cache any more: it cannot be served again"
            );
        }
        if is_bad {
            let gone_back = self.book.go_back(id, Instant::now())?;
            return Ok((gone_back, self.run(backend)));
        }
        let rolled_back = self.book.roll_back(id, to, Instant::now())?;
        Ok((rolled_back, self.run(backend)))
    }

    /// The revision of an app that gets a share of its requests gets all: see [`Book::promote`].
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn promote(&mut self, id: AppId, backend: &B) -> RevisionChange<Promoted, B> {
        let promoted = self.book.promote(id, Instant::now())?;
        Ok((promoted, self.run(backend)))
    }

    fn refusals(&self, id: AppId, workers: &[WorkerId]) -> Vec<Tell<B::Guest>> {
        let failure = self.book.get(id).and_then(|record| record.failure());
        let reason: Arc<str> = failure.map_or_else(String::new, |failure| failure.error.to_string()).into();
        workers.iter().map(|worker| Tell::Refuse(*worker, id, Arc::clone(&reason))).collect()
    }
}

fn tag_of_canary(number: u64) -> RevisionTag {
    RevisionTag { number, watched_for: None, is_canary: true }
}

fn refusal<G>(worker: WorkerId, id: AppId, answer: AppAnswer) -> Option<Tell<G>> {
    match answer {
        AppAnswer::Later => None,
        AppAnswer::Refused(reason) => Some(Tell::Refuse(worker, id, reason.into())),
    }
}

/// What comes of work that was begun to do `what` with an app.
pub(crate) async fn wait<T>(begun: std::io::Result<Pending<T>>, app: &App, what: &str) -> Result<T, LoadError> {
    match begun {
        Ok(pending) => pending.await.unwrap_or_else(|_| {
            Err(LoadError {
                file: app.component.display().to_string(),
                reason: format!("whoever was to {what} it ended without a result"),
                hint: "this is a bug of wasmhost: report it with the log lines above".to_owned(),
            })
        }),
        Err(error) => Err(short(app, format!("the loader cannot be started: {error}"))),
    }
}
