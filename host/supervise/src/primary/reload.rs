//! Reloads, on `SIGHUP` or for `wasmhost dev`: what is loaded takes the place of what is served, if it works. This file says
//! who waits for the outcome.

use std::collections::BTreeSet;

use tokio::sync::oneshot;

use wasmhost_config::AppId;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

use super::state::Primary;
use crate::backend::Backend;

/// An order to load the component again, with the end at which the outcome is heard.
pub struct Swap(pub oneshot::Sender<Result<(), LoadError>>);

/// Who waits for what of reloads.
#[derive(Default)]
pub(super) struct Reload {
    /// Who waits for the one under way, and for the next.
    waiting: Option<Swap>,
    waiting_for_next: Option<Swap>,
    /// Workers that have not begun yet to serve with what was loaded; who waits, waits for these, too.
    behind: Option<(AppId, BTreeSet<WorkerId>)>,
}

impl Reload {
    /// Whether somebody waits for the outcome of the one under way.
    pub(super) fn is_awaited(&self) -> bool {
        self.waiting.is_some()
    }

    /// A new revision is loaded, and these workers are to begin with it.
    pub(super) fn wait_for(&mut self, app: AppId, behind: BTreeSet<WorkerId>) {
        if behind.is_empty() {
            // All are to be started again, or ask for it when they want it.
            self.tell(Ok(()));
        } else {
            self.behind = Some((app, behind));
        }
    }

    /// A worker serves an app with the latest revision, or has ended (its successor will).
    pub(super) fn caught_up(&mut self, worker: WorkerId, served: Option<AppId>) {
        let Some((app, behind)) = &mut self.behind else { return };
        if served.is_none_or(|served| served == *app) && behind.remove(&worker) && behind.is_empty() {
            self.tell(Ok(()));
        }
    }

    /// Nothing new is served.
    pub(super) fn failed(&mut self, error: LoadError) {
        self.tell(Err(error));
    }

    fn tell(&mut self, outcome: Result<(), LoadError>) {
        self.behind = None;
        if let Some(Swap(answer)) = self.waiting.take() {
            // Who asked may have ended.
            let _ = answer.send(outcome);
        }
        self.waiting = self.waiting_for_next.take();
    }
}

impl<B: Backend> Primary<B> {
    /// As [`Self::begin_reload`], and somebody waits for the outcome.
    pub(super) fn begin_reload_for(&mut self, swap: Swap) {
        let Some(app) = self.only else {
            // Its end tells who waits that nothing came of it.
            return drop(swap);
        };
        let is_under_way = self.apps.book.get(app).is_some_and(|record| !record.is_settled());
        if is_under_way {
            self.reload.waiting_for_next = Some(swap);
        } else {
            self.reload.behind = None;
            self.reload.waiting = Some(swap);
        }
        self.begin_reload_of(app);
    }

    /// Begins a reload.
    pub(super) fn begin_reload(&mut self) {
        if let Some(app) = self.only {
            self.begin_reload_of(app);
        }
    }

    fn begin_reload_of(&mut self, app: AppId) {
        let Some(record) = self.apps.book.get(app) else { return };
        tracing::info!(
            app = record.app().name,
            component = %record.app().component.display(),
            "reload: loading the component again"
        );
        self.apps.book.reload(app, None);
    }
}
