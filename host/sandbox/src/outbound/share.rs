//! How many outgoing requests there may be at once: of a worker, of an app on it (by `bounds`), and of one instance.

use std::sync::Arc;

use wasmhost_base::quota::{Account, Claim};

/// Whether an instance that holds `held` requests may start one more while its worker has `free` left. An instance may
/// hold as many as it leaves free: one alone half of them, the next one half of the rest. So up to eight instances that
/// hoard requests leave one to every other.
fn may_take(held: usize, free: u64) -> bool {
    (held as u64) < free
}

/// The requests of one instance.
#[derive(Debug)]
pub(super) struct InstanceRequests {
    /// Its app's.
    account: Arc<Account>,
    /// Each permit has a clone.
    held: Arc<()>,
}

impl InstanceRequests {
    pub(super) fn of(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), held: Arc::new(()) }
    }

    /// Takes one more request; dropping the permit gives it back. None if the instance or its app has its part. All requests
    /// of a worker start on its thread, so no other can come between the check and the count.
    pub(super) fn take(&self) -> Option<OutgoingPermit> {
        let held = Arc::strong_count(&self.held) - 1;
        let claim = may_take(held, self.account.quota().free()).then(|| self.account.take(1)).flatten();
        if claim.is_none() {
            self.account.note_shortage();
        }
        Some(OutgoingPermit { _of_app: claim?, _of_instance: Arc::clone(&self.held) })
    }
}

/// Counts one request, until it is dropped.
#[derive(Debug)]
pub(super) struct OutgoingPermit {
    _of_app: Claim,
    _of_instance: Arc<()>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasmhost_base::quota::Quota;

    use super::*;
    use crate::bounds::REQUESTS_MAX;

    fn worker() -> Arc<Quota> {
        Quota::new(REQUESTS_MAX as u64)
    }

    #[test]
    fn an_instance_alone_has_half() {
        let instance = InstanceRequests::of(&Account::new(&worker(), None));
        let admission: Vec<OutgoingPermit> = std::iter::from_fn(|| instance.take()).collect();
        assert_eq!(admission.len(), REQUESTS_MAX / 2);
        drop(admission);
        assert!(instance.take().is_some(), "given back");
    }

    #[test]
    fn the_instances_of_one_app_leave_a_quarter_to_another_app() {
        let worker = worker();
        worker.keep_room_for_others(true);
        let [greedy, modest] = [(); 2].map(|()| Account::new(&worker, None));
        let instances: Vec<_> = (0..100).map(|_| InstanceRequests::of(&greedy)).collect();
        let admission: Vec<OutgoingPermit> =
            instances.iter().flat_map(|instance| std::iter::from_fn(|| instance.take())).collect();
        assert_eq!(admission.len(), REQUESTS_MAX / 4 * 3);
        let instance = InstanceRequests::of(&modest);
        assert_eq!(std::iter::from_fn(|| instance.take()).collect::<Vec<_>>().len(), REQUESTS_MAX / 4 / 2);
    }

    proptest! {
        #[test]
        fn whatever_eight_instances_hoard_another_gets_one(
            turns in proptest::collection::vec(0_usize..8, 0..2_000),
        ) {
            let worker = worker();
            let account = Account::new(&worker, None);
            let instances: Vec<_> = (0..8).map(|_| InstanceRequests::of(&account)).collect();
            let mut admission = Vec::new();
            for turn in turns {
                admission.extend(instances[turn].take());
                prop_assert!(InstanceRequests::of(&account).take().is_some());
            }
            drop(admission);
            prop_assert_eq!(worker.free(), REQUESTS_MAX as u64);
        }
    }
}
