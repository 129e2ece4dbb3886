//! What is under way of reloads (`SIGHUP`, or for `wasmhost dev`), and who waits for the outcome. `reading` carries them out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use tokio::sync::{mpsc, oneshot};

use wasmhost_base::log::LogNow;
use wasmhost_config::{AppId, Listen};
use wasmhost_confine::spawner::Reading;
use wasmhost_sandbox::LoadError;
use wasmhost_serve::worker::WorkerId;

/// What `wasmhost dev` orders.
pub enum DevOrder {
    /// Load the component of the app of this name again; the outcome goes to the other end, once workers serve with it.
    Load(String, LoadOutcome),
    /// Read the file of settings again; the other end hears when that is done.
    ReadFile(oneshot::Sender<()>),
}

/// Where the outcome of a load is heard.
pub type LoadOutcome = oneshot::Sender<Result<(), LoadError>>;

/// What is under way of reloads, and who waits for it.
pub(super) struct Reload {
    /// Where a reading of the file goes; one at a time.
    pub(super) readings: mpsc::Sender<io::Result<Reading>>,
    pub(super) is_reading: bool,
    /// The number of the reading that is followed; 0: that of the start.
    pub(super) held: u64,
    /// Another was asked for meanwhile.
    pub(super) read_again: bool,
    /// Who waits for the end of the reading.
    pub(super) reader: Option<oneshot::Sender<()>>,
    /// Addresses on which the host listens. A reading binds all others of the file.
    pub(super) listening: Vec<Listen>,
    /// Another reading is to come by itself, as soon as the addresses are closed that are given up.
    pub(super) is_due: bool,
    /// The next reading is that one: no other comes by itself.
    pub(super) is_by_itself: bool,
    /// The number of workers that the reading names which is followed.
    pub(super) workers: u16,
    /// What it says of the log.
    pub(super) log: LogNow,
    /// Apps that are still loaded for the last reading; none: it is done.
    pub(super) loads: Option<BTreeSet<AppId>>,
    /// Who waits for the load of an app.
    awaited: BTreeMap<AppId, Awaited>,
}

/// Who waits for the load of an app.
#[derive(Default)]
struct Awaited {
    /// For the one under way, and for the next.
    now: Option<LoadOutcome>,
    next: Option<LoadOutcome>,
    /// Workers that have not begun yet to serve with what was loaded; who waits, waits for these, too.
    behind: BTreeSet<WorkerId>,
}

impl Awaited {
    fn tell(&mut self, outcome: Result<(), LoadError>) {
        self.behind.clear();
        answer(&mut self.now, outcome);
    }
}

fn answer(waiting: &mut Option<LoadOutcome>, outcome: Result<(), LoadError>) {
    if let Some(waiting) = waiting.take() {
        // Who asked may have ended.
        let _ = waiting.send(outcome);
    }
}

impl Reload {
    /// With nothing under way, and the end at which readings are heard; of the start: the addresses, how many workers
    /// there are, and what the log shows.
    pub(super) fn new(
        listening: Vec<Listen>,
        workers: u16,
        log: LogNow,
    ) -> (Self, mpsc::Receiver<io::Result<Reading>>) {
        let (readings, read) = mpsc::channel(1);
        let reload = Self {
            readings,
            is_reading: false,
            held: 0,
            read_again: false,
            reader: None,
            listening,
            workers,
            log,
            is_due: false,
            is_by_itself: false,
            loads: None,
            awaited: BTreeMap::new(),
        };
        (reload, read)
    }

    /// Somebody waits for the outcome: of the next load, where one is under way.
    pub(super) fn wait(&mut self, app: AppId, outcome: LoadOutcome, is_under_way: bool) {
        let awaited = self.awaited.entry(app).or_default();
        if is_under_way {
            awaited.next = Some(outcome);
        } else {
            awaited.behind.clear();
            awaited.now = Some(outcome);
        }
    }

    /// Whether somebody waits for the outcome of the load under way.
    pub(super) fn is_awaited(&self, app: AppId) -> bool {
        self.awaited.get(&app).is_some_and(|awaited| awaited.now.is_some())
    }

    /// A new revision is loaded, and these workers are to begin with it.
    pub(super) fn wait_for(&mut self, app: AppId, behind: BTreeSet<WorkerId>) {
        let Some(awaited) = self.awaited.get_mut(&app) else { return };
        awaited.behind = behind;
        if awaited.behind.is_empty() {
            // All are to be started again, or ask for it when they want it.
            awaited.tell(Ok(()));
        }
    }

    /// A worker serves an app with the latest revision, or has ended (its successor will).
    pub(super) fn caught_up(&mut self, worker: WorkerId, served: Option<AppId>) {
        for (app, awaited) in &mut self.awaited {
            let is_it = served.is_none_or(|served| served == *app);
            if is_it && awaited.behind.remove(&worker) && awaited.behind.is_empty() {
                awaited.tell(Ok(()));
            }
        }
    }

    /// The load that was asked for during another begins.
    pub(super) fn next_begins(&mut self, app: AppId) {
        if let Some(next) = self.awaited.get_mut(&app).and_then(|awaited| awaited.next.take()) {
            self.wait(app, next, false);
        }
    }

    /// Nothing new is served.
    pub(super) fn failed(&mut self, app: AppId, error: LoadError) {
        if let Some(awaited) = self.awaited.get_mut(&app) {
            awaited.tell(Err(error));
        }
    }

    /// An app may not be loaded, for this reason: the load under way is void, and no other begins.
    pub(super) fn barred(&mut self, app: AppId, error: LoadError) {
        if let Some(awaited) = self.awaited.get_mut(&app) {
            answer(&mut awaited.next, Err(error.clone()));
            awaited.tell(Err(error));
        }
    }

    /// There is no such app any more; its end tells who waits that nothing comes of it.
    pub(super) fn gone(&mut self, app: AppId) {
        self.awaited.remove(&app);
    }
}

#[cfg(test)]
mod tests {
    use wasmhost_base::log;

    use super::*;

    const APP: AppId = AppId(3);
    const OTHER: AppId = AppId(4);

    fn workers(numbers: &[u16]) -> BTreeSet<WorkerId> {
        numbers.iter().copied().map(WorkerId).collect()
    }

    fn waiting(reload: &mut Reload, app: AppId, is_under_way: bool) -> oneshot::Receiver<Result<(), LoadError>> {
        let (answer, outcome) = oneshot::channel();
        reload.wait(app, answer, is_under_way);
        outcome
    }

    #[test]
    fn who_waits_hears_of_their_own_app_once_all_workers_serve_with_it() {
        let (mut reload, _read) = Reload::new(Vec::new(), 1, log::now());
        let (mut one, mut other) = (waiting(&mut reload, APP, false), waiting(&mut reload, OTHER, false));
        reload.wait_for(APP, workers(&[1, 2]));
        reload.wait_for(OTHER, workers(&[1, 2]));
        reload.caught_up(WorkerId(1), Some(APP));
        reload.caught_up(WorkerId(1), Some(OTHER));
        assert!(one.try_recv().is_err() && other.try_recv().is_err());
        reload.caught_up(WorkerId(2), Some(OTHER));
        assert!(one.try_recv().is_err() && other.try_recv().is_ok_and(|outcome| outcome.is_ok()));
        // It has ended.
        reload.caught_up(WorkerId(2), None);
        assert!(one.try_recv().is_ok_and(|outcome| outcome.is_ok()));
    }

    #[test]
    fn who_asks_during_a_load_waits_for_the_next() {
        let (mut reload, _read) = Reload::new(Vec::new(), 1, log::now());
        let mut next = waiting(&mut reload, APP, true);
        reload.wait_for(APP, workers(&[]));
        assert!(next.try_recv().is_err() && !reload.is_awaited(APP));
        reload.next_begins(APP);
        assert!(reload.is_awaited(APP) && !reload.is_awaited(OTHER));
        let error = LoadError { file: "a".into(), reason: "b".into(), hint: String::new() };
        reload.failed(APP, error);
        assert!(next.try_recv().is_ok_and(|outcome| outcome.is_err()));
    }

    #[test]
    fn who_waits_for_an_app_that_is_barred_hears_so_also_of_the_next_load() {
        let (mut reload, _read) = Reload::new(Vec::new(), 1, log::now());
        let (mut now, mut next) = (waiting(&mut reload, APP, false), waiting(&mut reload, APP, true));
        let mut other = waiting(&mut reload, OTHER, true);
        reload.barred(APP, LoadError { file: "a".into(), reason: "b".into(), hint: String::new() });
        for outcome in [&mut now, &mut next] {
            assert!(outcome.try_recv().is_ok_and(|outcome| outcome.is_err_and(|error| error.reason == "b")));
        }
        assert!(other.try_recv().is_err() && !reload.is_awaited(APP));
    }

    #[test]
    fn who_waits_for_an_app_that_goes_hears_the_end_of_the_line() {
        let (mut reload, _read) = Reload::new(Vec::new(), 1, log::now());
        let mut gone = waiting(&mut reload, APP, false);
        reload.gone(APP);
        assert_eq!(gone.try_recv().err(), Some(oneshot::error::TryRecvError::Closed));
    }
}
