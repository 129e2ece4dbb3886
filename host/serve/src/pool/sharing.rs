//! Instances that several requests share (wasi 0.3, `--instance-concurrency` above 1). Each runs in its own task. Its places
//! go to waiting requests. It retires when it has served enough, when a reload replaced its component, or when all its
//! clients have left.

use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;

use wasmhost_sandbox::{Shared, SharedEnd, SharedPlace};

use super::instances::{Grant, Kept, KeptShared, Pool};

impl Pool {
    /// Gives an instance a task of its own, and offers it to other requests. The first place in it is the caller's.
    pub(super) fn share(self: &Rc<Self>, kept: Kept) -> (KeptShared, SharedPlace) {
        let calls = self.guest.borrow().as_ref().map_or(1, |guest| guest.calls_per_instance());
        let (shared, first, task) = Shared::new(*kept.instance, calls, self.linger_max());
        let kept = KeptShared { shared, origin: Rc::new(kept.origin), is_busy: Rc::default() };
        self.shared.borrow_mut().push(kept.clone());
        self.offer_places(&kept);
        let pool = Rc::clone(self);
        let member = kept.clone();
        let crash = Rc::clone(&self.common.crash);
        let running = async move {
            let mut task = pin!(task);
            let end = std::future::poll_fn(|context| {
                wasmhost_base::inject::panic_at("shared");
                let polled = task.as_mut().poll(context);
                pool.note_busy(&member, polled.is_pending() && !member.shared.is_quiet());
                if polled.is_pending() {
                    // A call whose client had left may have ended, and its place be free.
                    pool.offer_places(&member);
                }
                polled
            })
            .await;
            pool.forget(&member);
            if let SharedEnd::Fault(fault) = end {
                pool.faulted(&member.origin, 0, &fault, member.shared.record());
            }
        };
        tokio::task::spawn_local(async move { crash.watch(Box::pin(running)).await });
        (kept, first)
    }

    /// Counts the instance as busy, or no longer.
    fn note_busy(&self, kept: &KeptShared, is: bool) {
        if is != kept.is_busy.replace(is) {
            self.common.note_busy(is);
        }
    }

    pub(super) fn forget(&self, kept: &KeptShared) {
        self.shared.borrow_mut().retain(|other| !Rc::ptr_eq(&other.shared, &kept.shared));
    }

    /// Gives the free places of a shared instance to those who wait.
    pub(super) fn offer_places(&self, kept: &KeptShared) {
        while !self.queue.is_empty() {
            let Some(place) = kept.shared.place() else { return };
            // Back if all who waited had waited for too long.
            drop(self.queue.grant(Grant::Place(kept.clone(), place)));
        }
    }

    /// A place in a shared instance was given back: it goes on, unless it is worn, outdated, or met its memory limit.
    pub(super) fn released(&self, kept: &KeptShared) {
        // Its task has nothing to do that would have it look.
        if kept.shared.is_quiet() {
            self.note_busy(kept, false);
        }
        let worn = kept.origin.is_worn(kept.shared.served());
        let at_its_end = kept.shared.is_abandoned() || kept.shared.met_limit();
        let is_last = kept.origin.pool.retired.get() && kept.shared.is_empty();
        if worn || at_its_end || is_last || kept.origin.is_outdated() {
            self.forget(kept);
            kept.origin.release_room();
            kept.shared.retire();
        } else {
            self.offer_places(kept);
            if kept.shared.is_empty() {
                kept.origin.emptied.set(Instant::now());
                self.note_surplus();
            }
        }
    }
}
