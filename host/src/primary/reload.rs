//! `SIGHUP`: the component's file is loaded again beside the running one, and takes its place when it works.

use std::sync::atomic::Ordering::Relaxed;

use super::Primary;
use crate::loader::{Edition, Loading};
use crate::sandbox::LoadError;

/// A reload under way, and whether another was asked for since.
#[derive(Default)]
pub(super) struct Reload {
    loading: Option<Loading>,
    again: bool,
}

impl Reload {
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
                    hint = "see that descriptors, threads and memory are left",
                    "reload failed, the old component goes on: the loader cannot be started: {error}"
                );
            }
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
                tracing::info!(isolation, wasi, "reload: the new component takes all new requests");
                primary.serve_with(edition);
            }
            Some(Err(error)) => {
                primary.board.host.failed_reloads.fetch_add(1, Relaxed);
                tracing::error!(hint = error.hint, "reload failed, the old component goes on: {error}");
            }
            None => {
                primary.board.host.failed_reloads.fetch_add(1, Relaxed);
                tracing::error!("reload failed, the old component goes on: the loader ended; a bug of the host");
            }
        }
        if std::mem::take(&mut self.again) {
            self.begin(primary);
        }
    }
}
