//! Log lines that clients can cause at will: each kind is written once in a while, with the number of those that it stands for.

use std::time::{Duration, Instant};

use wasmhost_base::throttle::Throttle;

use super::pace::{Of, Slow};
use crate::net::Peer;

/// Each kind of line is written once in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What a worker's log tells of all clients together, and not of each one.
pub(crate) struct Lines {
    pub(crate) last_request: Throttle,
    pub(super) body_max: Throttle,
    pub(crate) silent: Throttle,
    pub(crate) idle: Throttle,
    pub(crate) header_max: Throttle,
    pub(crate) header_timeout: Throttle,
    pub(super) error_code: Throttle,
    pub(crate) unreadable: Throttle,
    pub(super) no_worker: Throttle,
    slow: [[Throttle; Slow::COUNT]; 2],
}

impl Default for Lines {
    fn default() -> Self {
        let [last_request, body_max, silent, idle, header_max, header_timeout, error_code, unreadable, no_worker] =
            std::array::from_fn(|_| Throttle::new(LINE_EVERY));
        let slow = std::array::from_fn(|_| std::array::from_fn(|_| Throttle::new(LINE_EVERY)));
        Self {
            last_request,
            body_max,
            silent,
            idle,
            header_max,
            header_timeout,
            error_code,
            unreadable,
            no_worker,
            slow,
        }
    }
}

impl Lines {
    /// A client was too slow, and is not waited for any longer.
    pub(super) fn slow(&self, worker: u16, peer: Peer, slow: Slow, of: Of) {
        if let Some(count) = self.slow[of as usize][slow as usize].admit(Instant::now()) {
            let (limit, text, hint) = (slow.flag(), slow.text(of), slow.hint());
            tracing::info!(worker, count, %peer, limit, "{text} (count: since the last such line); {hint}");
        }
    }
}
