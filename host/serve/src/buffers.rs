//! What a worker holds in memory so that instances need not wait for slow clients: beginnings of request bodies, and parts of
//! responses that the client has not taken yet. Each sum has a bound, of which each app has a part
//! ([`wasmhost_sandbox::SharedBound`]); who finds no room goes on without, piece by piece.

use std::sync::Arc;

use tokio::sync::Semaphore;

use wasmhost_base::quota::{Account, Claim};
use wasmhost_config::Capacity;
use wasmhost_sandbox::{AppBounds, SharedBound};

/// How much of a request's body is read before the request takes an instance.
pub(crate) const REQUEST_AHEAD_MAX: u64 = 64 * 1024;
/// How much of a response is taken from the guest while its client does not read. One frame may come on top.
pub(crate) const RESPONSE_AHEAD_MAX: u64 = 256 * 1024;
/// What the responses of all connections of HTTP/2 take, in bytes, that clients have not read, before those that leave most of
/// it have to make room.
pub(crate) const UNREAD_MAX: u64 = 64 * 1024 * 1024;
/// What a frame takes beside its bytes.
const FRAME_BYTES: u64 = 128;

/// What an app may have held on a worker.
pub(crate) struct Buffers {
    pub(crate) requests: Arc<Account>,
    pub(crate) responses: Arc<Account>,
    /// Requests in chunks that may take an instance before their body has come: half as many as could have one.
    pub(crate) early: Arc<Semaphore>,
}

impl Buffers {
    pub(crate) fn new(capacity: &Capacity, bounds: &AppBounds) -> Self {
        let places = capacity.instances_per_worker.saturating_mul(capacity.instance_concurrency);
        let early = (places / 2).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            requests: Arc::clone(bounds.account(SharedBound::RequestBuffers)),
            responses: Arc::clone(bounds.account(SharedBound::ResponseBuffers)),
            early: Arc::new(Semaphore::new(early)),
        }
    }
}

/// What is held of one body. Dropped, it gives all of its room back.
#[derive(Debug)]
pub(crate) struct Held {
    room: Claim,
    /// It found no room since something of it went on.
    is_short: bool,
}

impl Held {
    pub(crate) fn none_of(account: &Arc<Account>) -> Self {
        Self { room: Claim::none_of(account), is_short: false }
    }

    /// Whether more of the body may be held: `max` bytes of it at most, and as much as its app has room for.
    pub(crate) fn has_room(&mut self, max: u64) -> bool {
        if self.room.amount() >= max {
            return false;
        }
        let has_room = self.room.may_grow();
        if !has_room && !std::mem::replace(&mut self.is_short, true) {
            self.room.account().note_shortage();
        }
        has_room
    }

    /// Counts a piece of `bytes`.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.room.grow_anyhow(frame(bytes));
    }

    /// A piece of `bytes` has gone on.
    pub(crate) fn remove(&mut self, bytes: usize) {
        self.is_short = false;
        self.room.shrink(frame(bytes));
    }

    /// All has gone on.
    pub(crate) fn clear(&mut self) {
        self.is_short = false;
        self.room.shrink(self.room.amount());
    }
}

/// What a piece of so many bytes takes.
fn frame(bytes: usize) -> u64 {
    (bytes as u64).saturating_add(FRAME_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_base::quota::Quota;

    #[test]
    fn what_is_held_is_given_back() {
        let quota = Quota::new(1_000);
        let account = Account::new(&quota, None);
        let [mut one, mut two] = std::array::from_fn(|_| Held::none_of(&account));
        one.add(500);
        assert!(two.has_room(1_000) && !one.has_room(500));
        two.add(500);
        assert!(!one.has_room(1_000) && !two.has_room(1_000));
        one.remove(500);
        assert!(one.has_room(1));
        drop((one, two));
        assert_eq!(quota.free(), 1_000);
    }

    #[test]
    fn what_is_held_for_one_app_leaves_room_for_another() {
        let quota = Quota::new(1_000_000);
        quota.keep_room_for_others(true);
        let [greedy, modest] = [(); 2].map(|()| Account::new(&quota, None));
        let mut bodies: Vec<Held> = (0..100).map(|_| Held::none_of(&greedy)).collect();
        for body in &mut bodies {
            while body.has_room(RESPONSE_AHEAD_MAX) {
                body.add(10_000);
            }
        }
        assert!((200_000..=250_000).contains(&quota.free()), "{}", quota.free());
        assert!(Held::none_of(&modest).has_room(1));
    }
}
