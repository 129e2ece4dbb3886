//! Opens and links the code of apps within a worker's process, in threads of their own, while requests go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;

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

/// What came of linking code of an app, and that app's birth ([`wasmhost_config::Listed::born`]).
type LinkerAnswer = (AppId, u64, Result<Arc<Guest>, Unlinked>);

/// The code that waits to be linked, of each app the latest; [`OPENINGS_MAX`] at once.
pub(super) struct Linker {
    sandbox: Arc<Sandbox>,
    waiting: BTreeMap<AppId, (u64, Arc<App>, CodeAtRest)>,
    running: BTreeSet<AppId>,
    answers: mpsc::Sender<LinkerAnswer>,
    linked: mpsc::Receiver<LinkerAnswer>,
}

impl Linker {
    pub(super) fn new(sandbox: Arc<Sandbox>) -> Self {
        let (answers, linked) = mpsc::channel(OPENINGS_MAX);
        Self { sandbox, waiting: BTreeMap::new(), running: BTreeSet::new(), answers, linked }
    }

    /// Links this code of an app, unless other code comes before it is its turn.
    pub(super) fn link(&mut self, id: AppId, born: u64, app: Arc<App>, code: CodeAtRest) {
        self.waiting.insert(id, (born, app, code));
        self.begin();
    }

    /// What waits of this app is void.
    pub(super) fn forget(&mut self, id: AppId) {
        self.waiting.remove(&id);
    }

    /// Whether later code of this app is to be linked: what came of earlier code does not matter then.
    pub(super) fn has_later(&self, id: AppId) -> bool {
        self.waiting.contains_key(&id) || self.running.contains(&id)
    }

    /// What was linked; never ready while nothing is. May be dropped at any moment.
    pub(super) async fn next(&mut self) -> LinkerAnswer {
        match self.linked.recv().await {
            Some(answer) => {
                self.running.remove(&answer.0);
                self.begin();
                answer
            }
            // It holds a sender itself.
            None => std::future::pending().await,
        }
    }

    fn begin(&mut self) {
        while self.running.len() < OPENINGS_MAX {
            // One app at a time, so that the latest comes last.
            let Some(id) = self.waiting.keys().find(|id| !self.running.contains(id)).copied() else { return };
            let Some((born, app, code)) = self.waiting.remove(&id) else { return };
            self.running.insert(id);
            self.start((id, born), app, code);
        }
    }

    fn start(&self, (id, born): (AppId, u64), app: Arc<App>, code: CodeAtRest) {
        let (answer, sandbox) = (self.answers.clone(), Arc::clone(&self.sandbox));
        let fails = wasmhost_base::inject::goes_off("link");
        let file = Arc::clone(&app);
        let linker = std::thread::Builder::new().name("loader".to_owned()).spawn(move || {
            let _own = heap::own();
            let linked = match fails {
                true => Err(Unlinked::Broken(short(&app, "a test made it fail".to_owned()))),
                false => caught(|| link(&code, &app, &sandbox)).unwrap_or_else(|panic| {
                    Err(Unlinked::Broken(short(&app, format!("linking it panicked, a bug of wasmhost: {panic}"))))
                }),
            };
            // Without a receiver the worker is at its end.
            let _ = answer.blocking_send((id, born, linked));
        });
        if let Err(error) = linker {
            let error = short(&file, format!("there is no thread to link it in: {error}"));
            // There is room for one of each that may run.
            let _ = self.answers.try_send((id, born, Err(Unlinked::Broken(error))));
        }
    }
}
