//! What a worker holds in memory so that instances need not wait for slow clients: beginnings of request bodies, and parts of
//! responses that the client has not taken yet. Each sum has a bound; who finds no room goes on without, piece by piece.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;

use wasmhost_config::Capacity;

/// How much of a request's body is read before the request takes an instance.
pub(crate) const REQUEST_AHEAD_MAX: usize = 64 * 1024;
/// How much of a response is taken from the guest while its client does not read. One frame may come on top.
pub(crate) const RESPONSE_AHEAD_MAX: usize = 256 * 1024;
/// Of all requests of a worker.
const REQUESTS_AHEAD_MAX: usize = 16 * 1024 * 1024;
/// Of all responses of a worker.
const RESPONSES_AHEAD_MAX: usize = 32 * 1024 * 1024;
/// What a frame takes beside its bytes.
const FRAME_BYTES: usize = 128;

/// A worker's bounds.
pub(crate) struct Buffers {
    pub(crate) requests: Arc<Allowance>,
    pub(crate) responses: Arc<Allowance>,
    /// Requests in chunks that may take an instance before their body has come: half as many as could have one.
    pub(crate) early: Arc<Semaphore>,
}

impl Buffers {
    pub(crate) fn new(capacity: &Capacity) -> Self {
        let places = capacity.instances_per_worker.saturating_mul(capacity.instance_concurrency);
        let early = (places / 2).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            requests: Arc::new(Allowance::new(REQUESTS_AHEAD_MAX)),
            responses: Arc::new(Allowance::new(RESPONSES_AHEAD_MAX)),
            early: Arc::new(Semaphore::new(early)),
        }
    }
}

/// A sum with a bound. Atomic only because bodies lie in stores, which must be `Send`: one thread uses it.
#[derive(Debug)]
pub(crate) struct Allowance {
    used: AtomicUsize,
    max: usize,
}

impl Allowance {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }
}

/// What one body takes of a [`Allowance`]. Dropped, it gives all of it back.
#[derive(Debug)]
pub(crate) struct Held {
    room: Arc<Allowance>,
    bytes: usize,
}

impl Held {
    pub(crate) fn none_of(room: &Arc<Allowance>) -> Self {
        Self { room: Arc::clone(room), bytes: 0 }
    }

    /// How much this body has taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the sum leaves room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.room.used.load(Relaxed) < self.room.max
    }

    /// Counts a piece of `bytes`.
    pub(crate) fn add(&mut self, bytes: usize) {
        let bytes = bytes.saturating_add(FRAME_BYTES);
        self.bytes += bytes;
        self.room.used.fetch_add(bytes, Relaxed);
    }

    /// A piece of `bytes` has gone on.
    pub(crate) fn remove(&mut self, bytes: usize) {
        let bytes = bytes.saturating_add(FRAME_BYTES).min(self.bytes);
        self.bytes -= bytes;
        self.room.used.fetch_sub(bytes, Relaxed);
    }

    /// All has gone on.
    pub(crate) fn clear(&mut self) {
        self.room.used.fetch_sub(self.bytes, Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_given_back() {
        let room = Arc::new(Allowance::new(1_000));
        let [mut one, mut two] = std::array::from_fn(|_| Held::none_of(&room));
        one.add(500);
        assert!(two.has_room());
        two.add(500);
        assert!(!one.has_room() && !two.has_room());
        one.remove(500);
        assert!(one.has_room() && one.bytes() == 0);
        drop(two);
        assert_eq!(room.used.load(Relaxed), 0);
    }
}
