//! `SIGHUP`: the component's file is loaded again beside the running one, and takes its place when it works.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::oneshot;

use super::{Primary, PrimaryError, system};
use crate::loader;
use crate::sandbox::{Guest, LoadError};

/// A reload under way, and whether another was asked for since.
#[derive(Default)]
pub(super) struct Reload {
    loading: Option<oneshot::Receiver<Result<Arc<Guest>, LoadError>>>,
    again: bool,
}

impl Reload {
    pub(super) fn begin(&mut self, primary: &Primary) -> Result<(), PrimaryError> {
        if self.loading.is_some() {
            self.again = true;
            return Ok(());
        }
        tracing::info!(component = %primary.config.component.display(), "reload: loading the component again");
        self.loading = Some(
            loader::load(&primary.config, &primary.ticker, &primary.board.budget)
                .map_err(system("start the loader"))?,
        );
        Ok(())
    }

    /// What was loaded; never ready while nothing is.
    pub(super) async fn next(&mut self) -> Option<Result<Arc<Guest>, LoadError>> {
        match &mut self.loading {
            Some(loading) => loading.await.ok(),
            None => std::future::pending().await,
        }
    }

    pub(super) fn take_effect(
        &mut self,
        primary: &mut Primary,
        loaded: Option<Result<Arc<Guest>, LoadError>>,
    ) -> Result<(), PrimaryError> {
        self.loading = None;
        match loaded {
            Some(Ok(guest)) => {
                primary.board.host.reloads.fetch_add(1, Relaxed);
                primary.board.set_guest(&primary.config, &guest);
                let (_, isolation, wasi) = primary.board.state();
                tracing::info!(isolation, wasi, "reload: the new component takes all new requests");
                primary.serve_with(guest);
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
        if std::mem::take(&mut self.again) { self.begin(primary) } else { Ok(()) }
    }
}
