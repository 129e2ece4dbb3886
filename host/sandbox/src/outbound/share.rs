//! How many outgoing requests there may be at once: of a worker, and of one instance.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Outgoing requests of one worker at once.
pub(super) const REQUESTS_MAX: usize = 256;

/// Whether an instance that holds `held` requests may start one more while its worker has `free` left. An instance may
/// hold as many as it leaves free: one alone half of them, the next one half of the rest. So up to eight instances that
/// hoard requests leave one to every other.
fn may_take(held: usize, free: usize) -> bool {
    held < free
}

/// The requests of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerRequests {
    taken: AtomicUsize,
}

/// The requests of one instance.
#[derive(Debug)]
pub(super) struct InstanceRequests {
    worker: Arc<WorkerRequests>,
    held: AtomicUsize,
}

impl InstanceRequests {
    pub(super) fn of(worker: &Arc<WorkerRequests>) -> Arc<Self> {
        Arc::new(Self { worker: Arc::clone(worker), held: AtomicUsize::new(0) })
    }

    /// Takes one more request; dropping the permit gives it back. None if the instance has its share. All requests of a
    /// worker start on its thread, so no other can come between the check and the count.
    pub(super) fn take(self: &Arc<Self>) -> Option<Permit> {
        let free = REQUESTS_MAX.saturating_sub(self.worker.taken.load(Relaxed));
        if !may_take(self.held.load(Relaxed), free) {
            return None;
        }
        self.worker.taken.fetch_add(1, Relaxed);
        self.held.fetch_add(1, Relaxed);
        Some(Permit(Arc::clone(self)))
    }
}

/// Counts one request, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<InstanceRequests>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Relaxed);
        self.0.worker.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_instance_alone_has_half() {
        let instance = InstanceRequests::of(&Arc::default());
        let permits: Vec<Permit> = std::iter::from_fn(|| instance.take()).collect();
        assert_eq!(permits.len(), REQUESTS_MAX / 2);
        drop(permits);
        assert!(instance.take().is_some(), "given back");
    }

    proptest! {
        #[test]
        fn whatever_eight_instances_hoard_another_gets_one(
            turns in proptest::collection::vec(0_usize..8, 0..2_000),
        ) {
            let worker = Arc::default();
            let instances: Vec<_> = (0..8).map(|_| InstanceRequests::of(&worker)).collect();
            let mut permits = Vec::new();
            for turn in turns {
                permits.extend(instances[turn].take());
                prop_assert!(worker.taken.load(Relaxed) <= REQUESTS_MAX);
                prop_assert!(InstanceRequests::of(&worker).take().is_some());
            }
            drop(permits);
            prop_assert_eq!(worker.taken.load(Relaxed), 0);
        }
    }
}
