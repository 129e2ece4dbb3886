//! What the responses of a connection take that its client has not read. All connections of a worker share a bound: when they
//! are beyond it, those end that have more than an equal part and whose clients hardly read. A client asks for all streams of
//! a connection at once with a few bytes, and each answer may be there at once.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmhost_base::quota::{Account, Claim, Quota};

use crate::alarms::Alarm;

/// What those of one connection may take in any case, in bytes: about as much as HTTP/1.1 takes of its one response.
const OWN_MAX: u64 = 512 * 1024;
/// What a file counts for, in bytes, as long as it is open: descriptors are fewer than bytes.
pub(super) const OPEN_FILE: usize = 64 * 1024;
/// How often a connection is looked at that has more than [`OWN_MAX`].
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The part of what there is that a client reads between two looks, at least: an eighth in a second.
const READ_PART: u64 = 32;

/// What the responses of one connection take.
pub(super) struct Unread {
    account: Arc<Account>,
    claim: RefCell<Claim>,
    /// When to look whether the client reads.
    alarm: Alarm,
    /// What there was at the last look; none: little enough.
    seen: Cell<Option<u64>>,
    /// What the client has taken since.
    taken: Cell<u64>,
}

impl Unread {
    pub(super) fn new(quota: &Arc<Quota>, alarm: Alarm) -> Self {
        let account = Account::new(quota, None);
        let claim = RefCell::new(Claim::none_of(&account));
        Self { account, claim, alarm, seen: Cell::new(None), taken: Cell::new(0) }
    }

    /// So many bytes more of a response are there.
    pub(super) fn add(&self, bytes: usize) {
        self.claim.borrow_mut().grow_anyhow(bytes as u64);
    }

    /// So many bytes are no longer there, whatever became of them.
    pub(super) fn remove(&self, bytes: usize) {
        self.claim.borrow_mut().shrink(bytes as u64);
    }

    /// The client has taken so many bytes.
    pub(super) fn took(&self, bytes: usize) {
        self.taken.set(self.taken.get().saturating_add(bytes as u64));
    }

    /// Ready when the connection has to make room for others.
    pub(super) fn poll(&self, context: &Context<'_>) -> Poll<()> {
        loop {
            let Some(seen) = self.seen.get() else {
                let held = self.account.held();
                if held <= OWN_MAX {
                    return Poll::Pending;
                }
                self.seen.set(Some(held));
                self.taken.set(0);
                self.alarm.set(Some(Instant::now() + LOOK_EVERY));
                continue;
            };
            if self.alarm.poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.account.is_beyond_part() && !reads(seen, self.taken.get()) {
                return Poll::Ready(());
            }
            self.alarm.set(None);
            self.seen.set(None);
        }
    }
}

/// Whether a client reads that has taken so much between two looks, of so much.
fn reads(seen: u64, taken: u64) -> bool {
    taken >= seen / READ_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_reads_that_takes_an_eighth_in_a_second() {
        assert!(reads(8_000_000, 250_000) && !reads(8_000_000, 249_999));
        assert!(!reads(OWN_MAX, 0) && reads(0, 0));
    }
}
