//! What is under way of reloads (`SIGHUP`, or for `wasmhost dev`), and who waits for the outcome. `reading` carries them out.

use std::collections::BTreeSet;
use std::io;

use tokio::sync::{mpsc, oneshot};

use wasmhost_config::AppId;
use wasmhost_confine::spawner::Reading;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

/// An order to load the component again, with the end at which the outcome is heard.
pub struct Swap(pub oneshot::Sender<Result<(), LoadError>>);

/// What is under way of reloads, and who waits for it.
pub(super) struct Reload {
    /// Where a reading of the file goes; one at a time.
    pub(super) readings: mpsc::Sender<io::Result<Reading>>,
    pub(super) is_reading: bool,
    /// The number of the reading that is followed; 0: that of the start.
    pub(super) held: u64,
    /// Another was asked for meanwhile.
    pub(super) read_again: bool,
    /// Apps that are still loaded for the last reading; none: it is done.
    pub(super) loads: Option<BTreeSet<AppId>>,
    /// Who waits for the one under way, and for the next.
    waiting: Option<Swap>,
    waiting_for_next: Option<Swap>,
    /// Workers that have not begun yet to serve with what was loaded; who waits, waits for these, too.
    behind: Option<(AppId, BTreeSet<WorkerId>)>,
}

impl Reload {
    /// With nothing under way, and the end at which readings are heard.
    pub(super) fn new() -> (Self, mpsc::Receiver<io::Result<Reading>>) {
        let (readings, read) = mpsc::channel(1);
        let reload = Self {
            readings,
            is_reading: false,
            held: 0,
            read_again: false,
            loads: None,
            waiting: None,
            waiting_for_next: None,
            behind: None,
        };
        (reload, read)
    }

    /// Somebody waits for the outcome: of the next one, where one is under way.
    pub(super) fn wait(&mut self, swap: Swap, is_under_way: bool) {
        if is_under_way {
            self.waiting_for_next = Some(swap);
        } else {
            self.behind = None;
            self.waiting = Some(swap);
        }
    }

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

    /// The load that was asked for during another begins.
    pub(super) fn next_begins(&mut self) {
        if let Some(next) = self.waiting_for_next.take() {
            self.wait(next, false);
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
    }
}
