//! Reloads, on `SIGHUP` or for `wasmhost dev`: the component's file is loaded beside the running component, and replaces it
//! if it works.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;

use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

use super::state::Primary;
use crate::loader::{Edition, Loading};

/// An order to load the component again, with the end at which the outcome is heard.
pub struct Swap(pub oneshot::Sender<Result<(), LoadError>>);

/// A reload under way, and whether another was asked for since.
#[derive(Default)]
pub(super) struct Reload {
    loading: Option<Loading>,
    again: bool,
    /// Who waits for the one under way, and for the next.
    waiting: Option<Swap>,
    waiting_for_next: Option<Swap>,
    /// Workers that have not begun yet to serve with what was loaded; who waits, waits for these, too.
    behind: BTreeSet<WorkerId>,
}

impl Reload {
    /// As [`Self::begin`], and somebody waits for the outcome.
    pub(super) fn begin_for(&mut self, primary: &Primary, swap: Swap) {
        if self.loading.is_some() {
            self.waiting_for_next = Some(swap);
        } else {
            self.behind.clear();
            self.waiting = Some(swap);
        }
        self.begin(primary);
    }

    pub(super) fn begin(&mut self, primary: &Primary) {
        if self.loading.is_some() {
            self.again = true;
            return;
        }
        tracing::info!(component = %primary.config.component.display(), "reload: loading the component again");
        match primary.kind.load(&primary.config) {
            Ok(loading) => self.loading = Some(loading),
            Err(error) => {
                primary.board.host.failed_reloads.fetch_add(1, Relaxed);
                tracing::error!(
                    hint = "check that the system has file descriptors, threads and memory left",
                    "reload failed, the old component goes on: the loader cannot be started: {error}"
                );
                self.tell(Err(LoadError {
                    file: primary.config.component.display().to_string(),
                    reason: format!("the loader cannot be started: {error}"),
                    hint: "check that the system has file descriptors, threads and memory left".to_owned(),
                }));
            }
        }
    }

    /// A worker serves with the latest code, or has ended (its successor will).
    pub(super) fn caught_up(&mut self, worker: WorkerId) {
        if self.behind.remove(&worker) && self.behind.is_empty() && self.loading.is_none() {
            self.tell(Ok(()));
        }
    }

    fn tell(&mut self, outcome: Result<(), LoadError>) {
        if let Some(Swap(answer)) = self.waiting.take() {
            // Who asked may have ended.
            let _ = answer.send(outcome);
        }
    }

    /// What was loaded; never ready while nothing is.
    pub(super) async fn next(&mut self) -> Option<Result<Edition, LoadError>> {
        match &mut self.loading {
            Some(loading) => loading.await.ok(),
            None => std::future::pending().await,
        }
    }

    pub(super) fn take_effect(&mut self, primary: &mut Primary, loaded: Option<Result<Edition, LoadError>>) {
        self.loading = None;
        match loaded {
            Some(Ok(edition)) => {
                primary.board.host.reloads.fetch_add(1, Relaxed);
                primary.board.set_edition(&edition);
                let (isolation, wasi) = (&*edition.isolation, &*edition.wasi);
                tracing::info!(isolation, wasi, "reload: new requests go to the new component");
                primary.serve_with(edition);
                let running = primary.places.iter().filter(|place| place.running);
                self.behind = running.map(|place| place.id).collect();
                // All are to be started again, and will serve it.
                if self.behind.is_empty() {
                    self.tell(Ok(()));
                }
            }
            Some(Err(error)) => {
                primary.board.host.failed_reloads.fetch_add(1, Relaxed);
                // `wasmhost dev` tells of it in its own way.
                if self.waiting.is_none() {
                    tracing::error!(hint = error.hint, "reload failed, the old component goes on: {error}");
                }
                self.tell(Err(error));
            }
            None => {
                primary.board.host.failed_reloads.fetch_add(1, Relaxed);
                tracing::error!(
                    "reload failed, the old component goes on: the loader ended without a result, a bug in wasmhost"
                );
                self.waiting = None;
            }
        }
        if std::mem::take(&mut self.again) {
            self.waiting = self.waiting_for_next.take().or(self.waiting.take());
            self.begin(primary);
        }
    }
}
