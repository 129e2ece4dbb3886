//! Where a new revision that is watched would have its pool go down, the pool goes back to what it had, at once, and the primary is
//! told. The same goes for a pool beside another, which gets a share of the requests: it gets no more.

use std::rc::Rc;
use std::time::Instant;

use super::common::PoolNotice;
use super::fallback::{CanaryState, Fallback};
use super::instances::Pool;
use super::supply::RevisionTag;

/// Instances of a pool that gets a share of the requests: beside those of the other one, there is room for so many.
const CANARY_INSTANCES_MAX: usize = 4;

impl Pool {
    /// The same, beside the pool of its app.
    pub(super) fn into_canary(self: Rc<Self>) -> Rc<Self> {
        self.canary.set(Some(CanaryState::Serves));
        let mut capacity = self.capacity.get();
        capacity.instances_per_worker = capacity.instances_per_worker.min(CANARY_INSTANCES_MAX);
        self.capacity.set(capacity);
        self
    }

    /// Whether it is to get no more requests.
    pub(super) fn is_given_up(&self) -> bool {
        self.canary.get() == Some(CanaryState::GivenUp)
    }

    /// Whether one who comes now would have to wait: the pool of its app may have more instances.
    pub(super) fn is_full(&self) -> bool {
        let is_taken = if self.is_shared() { !self.queue.is_empty() } else { self.idle.borrow().is_empty() };
        self.free_rooms() == 0 && is_taken
    }

    /// A revision comes that is watched, or not: keeps what there is for as long as that takes. Where what there is is watched still,
    /// what was kept for it is kept on: that has held, and this has not.
    pub(super) fn keep_fallback(self: &Rc<Self>, tag: RevisionTag) {
        let earlier = self.fallback.take();
        let before = self.guest.borrow().clone().filter(|_| tag.number > self.revision.get() && !self.retired.get());
        let Some((guest, time)) = before.zip(tag.watched_for) else { return };
        let until = Instant::now() + time;
        let fallback = match earlier.filter(|earlier| earlier.until > Instant::now()) {
            Some(earlier) => Fallback { until, ..earlier },
            None => {
                let context = Rc::clone(&self.context.borrow());
                Fallback { guest, context, revision: self.revision.get(), until }
            }
        };
        *self.fallback.borrow_mut() = Some(fallback);
        let (pool, crash) = (Rc::downgrade(self), Rc::clone(&self.common.crash));
        let let_go = async move {
            tokio::time::sleep(time).await;
            if let Some(pool) = pool.upgrade() {
                let now = Instant::now();
                drop(pool.fallback.borrow_mut().take_if(|fallback| fallback.until <= now));
            }
        };
        tokio::task::spawn_local(async move { crash.watch(Box::pin(let_go)).await });
    }

    /// Goes back from this revision to what was served before, if that is kept and the revision is still served.
    pub(super) fn falls_back(self: &Rc<Self>, from: u64) -> bool {
        if from != self.revision() {
            return false;
        }
        if self.canary.get().is_some() {
            self.canary.set(Some(CanaryState::GivenUp));
            let _ = self.id().map(|app| self.common.tell(PoolNotice::FellBack(app, from)));
            return true;
        }
        let Some(Fallback { guest, context, revision, .. }) = self.fallback.take() else { return false };
        tracing::error!(
            worker = self.worker.0,
            app = &*self.name(),
            from,
            to = revision,
            "the new revision faults again and again, and this worker serves the one before it"
        );
        self.serve_with(guest, revision, context);
        let _ = self.id().map(|app| self.common.tell(PoolNotice::FellBack(app, from)));
        true
    }
}
