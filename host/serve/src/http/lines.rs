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
    last_request: Throttle,
    silent: Throttle,
    idle: Throttle,
    head_late: Throttle,
    pub(crate) header_max: Throttle,
    pub(crate) unreadable: Throttle,
    pub(crate) handshakes: Throttle,
    pub(crate) broken_frames: Throttle,
    pub(crate) flood: Throttle,
    pub(crate) gone: Throttle,
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
        let [last_request, silent, idle, head_late, header_max, unreadable, broken_frames, flood, gone, handshakes] =
            std::array::from_fn(|_| Throttle::new(LINE_EVERY));
        let by_app = Throttles::new(LINE_EVERY, KINDS_MAX);
        Self {
            last_request,
            silent,
            idle,
            head_late,
            header_max,
            unreadable,
            broken_frames,
            flood,
            gone,
            handshakes,
            by_app,
        }
    }
}

impl Lines {
    /// Whether such a line of this app is written now, and then how many it stands for.
    pub(super) fn admit(&self, app: Option<AppId>, kind: LineKind) -> Option<u64> {
        self.by_app.admit((app, kind), Instant::now())
    }

    /// A connection has had as many requests as it may.
    pub(crate) fn last_request(&self, worker: u16, peer: Peer) {
        if let Some(count) = self.last_request.admit(Instant::now()) {
            tracing::info!(worker, count, %peer, limit = "--max-requests-per-connection", "connections were closed after their last request (count: since the last such line); raise --max-requests-per-connection to allow more");
        }
    }

    /// The head of a request did not come in time.
    pub(crate) fn head_late(&self, worker: u16, peer: Peer) {
        if let Some(count) = self.head_late.admit(Instant::now()) {
            tracing::info!(worker, count, %peer, limit = "--header-timeout", "request headers did not arrive in time (count: since the last such line); raise --header-timeout to wait longer");
        }
    }

    /// A client connected and sent nothing.
    pub(crate) fn silent(&self, worker: u16, peer: Peer) {
        if let Some(count) = self.silent.admit(Instant::now()) {
            tracing::info!(worker, count, %peer, limit = "--header-timeout", "connections that sent nothing were closed (count: since the last such line); raise --header-timeout to wait longer");
        }
    }

    /// A connection had no request for too long.
    pub(crate) fn idle(&self, worker: u16, peer: Peer) {
        if let Some(count) = self.idle.admit(Instant::now()) {
            tracing::info!(worker, count, %peer, limit = "--keepalive-timeout", "idle connections were closed (count: since the last such line); raise --keepalive-timeout to keep them longer");
        }
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
