//! What apps that are asleep still have of what the apps of a worker share: look-ups of names and calls of the file system
//! cannot be interrupted, and may go on when their guest has gone. An app that wakes goes on with that part of it, and gets no
//! second one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use wasmhost_config::AppId;
use wasmhost_sandbox::AppBounds;

/// So many apps are remembered at most; beyond, the one that fell asleep first is forgotten. (Each may have some threads.)
const REMEMBERED_MAX: usize = 64;

/// Those of a worker, in the order in which they fell asleep.
#[derive(Default)]
pub(super) struct LingeringBounds(RefCell<VecDeque<(AppId, Arc<AppBounds>)>>);

impl LingeringBounds {
    /// An app goes to sleep that has these.
    pub(super) fn keep(&self, app: AppId, bounds: &Arc<AppBounds>) {
        if bounds.is_in_use() {
            self.sweep(|other| other != app);
            let mut remembered = self.0.borrow_mut();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.pop_front();
            }
            remembered.push_back((app, Arc::clone(bounds)));
        }
    }

    /// An app wakes: what it has still.
    pub(super) fn take(&self, app: AppId) -> Option<Arc<AppBounds>> {
        let mut remembered = self.0.borrow_mut();
        let at = remembered.iter().position(|(other, _)| *other == app)?;
        remembered.remove(at).map(|(_, bounds)| bounds)
    }

    /// Lets go of what has ended meanwhile, and of what belongs to apps that are not there any more.
    pub(super) fn sweep(&self, is_there: impl Fn(AppId) -> bool) {
        self.0.borrow_mut().retain(|(app, bounds)| is_there(*app) && bounds.is_in_use());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_sandbox::SharedBound;

    #[test]
    fn an_app_that_slept_while_its_calls_went_on_has_no_second_part() {
        const APP: AppId = AppId(7);
        let (lingering, bounds) = (LingeringBounds::default(), AppBounds::alone());
        lingering.keep(APP, &bounds);
        assert!(lingering.take(APP).is_none(), "nothing of it goes on");
        let account = bounds.account(SharedBound::NameLookUps);
        let all: Vec<_> = std::iter::from_fn(|| account.take(1)).collect();
        lingering.keep(APP, &bounds);
        lingering.sweep(|_| true);
        let woken = lingering.take(APP).expect("its look-ups go on");
        assert!(woken.account(SharedBound::NameLookUps).take(1).is_none());
        lingering.keep(APP, &woken);
        drop(all);
        lingering.sweep(|_| true);
        assert!(lingering.take(APP).is_none(), "they have ended");
        let one = woken.account(SharedBound::NameLookUps).take(1);
        lingering.keep(APP, &woken);
        lingering.sweep(|_| false);
        assert!(one.is_some() && lingering.take(APP).is_none(), "another app has its number");
        (0..1_000).for_each(|app| lingering.keep(AppId(app), &woken));
        assert_eq!(lingering.0.borrow().len(), REMEMBERED_MAX);
        assert!(lingering.take(AppId(999)).is_some() && lingering.take(AppId(0)).is_none());
    }
}
