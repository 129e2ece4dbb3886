//! Log lines that clients can cause at will: each kind is written once in a while, with the number of those that it stands for.
//! Lines about requests are counted by app, so that those of one do not hide another's.

use std::time::{Duration, Instant};

use wasmhost_base::throttle::{Throttle, Throttles};
use wasmhost_config::AppId;

use super::pace::{Slow, SlowPart};
use crate::net::Peer;

/// Each kind of line is written once in this time.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// So many apps and kinds of lines are told apart at once.
const KINDS_MAX: usize = 1_024;

/// What a worker's log tells of all clients together, and not of each one.
pub(crate) struct Lines {
    pub(crate) last_request: Throttle,
    pub(crate) silent: Throttle,
    pub(crate) idle: Throttle,
    pub(crate) header_max: Throttle,
    pub(crate) header_timeout: Throttle,
    pub(crate) unreadable: Throttle,
    pub(crate) handshakes: Throttle,
    /// Those about requests for an app; none: for no app.
    by_app: Throttles<(Option<AppId>, LineKind)>,
}

/// What a line about an app's requests says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LineKind {
    BodyTooLarge,
    BodyInvalid,
    ErrorCode,
    NoWorker,
    GroupFull,
    GroupLate,
    Slow(SlowPart, Slow),
}

impl Default for Lines {
    fn default() -> Self {
        let [last_request, silent, idle, header_max, header_timeout, unreadable, handshakes] =
            std::array::from_fn(|_| Throttle::new(LINE_EVERY));
        let by_app = Throttles::new(LINE_EVERY, KINDS_MAX);
        Self { last_request, silent, idle, header_max, header_timeout, unreadable, handshakes, by_app }
    }
}

impl Lines {
    /// Whether such a line of this app is written now, and then how many it stands for.
    pub(super) fn admit(&self, app: Option<AppId>, kind: LineKind) -> Option<u64> {
        self.by_app.admit((app, kind), Instant::now())
    }

    /// A client was too slow, and is not waited for any longer. `app`: the number and the name of the one that its request
    /// is for.
    pub(super) fn slow(&self, worker: u16, (id, app): (Option<AppId>, &str), peer: Peer, slow: Slow, of: SlowPart) {
        if let Some(count) = self.admit(id, LineKind::Slow(of, slow)) {
            let (limit, text, hint) = (slow.flag(), slow.text(of), slow.hint());
            tracing::info!(worker, app, count, %peer, limit, "{text} (count: since the last such line); {hint}");
        }
    }
}
