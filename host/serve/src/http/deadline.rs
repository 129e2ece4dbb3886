//! Until when what a request waits for has to come, and of whom.

use std::time::{Duration, Instant};

use wasmhost_config::Limits;

use super::pace::Slow;
use super::upload::Upload;

/// Until when what is waited for has to come, and of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deadline {
    None,
    OfTheGuest(Instant),
    OfTheClient(Instant, Slow),
}

impl Deadline {
    pub(super) fn at(self) -> Option<Instant> {
        match self {
            Self::None => None,
            Self::OfTheGuest(at) | Self::OfTheClient(at, _) => Some(at),
        }
    }

    pub(super) fn sooner(self, other: Self) -> Self {
        match (self.at(), other.at()) {
            (Some(one), Some(two)) if two < one => other,
            (None, Some(_)) => other,
            _ => self,
        }
    }
}

/// Until when the client has to send more of its body, while that is awaited; `has_pace`: no slower than
/// `--body-rate-min`.
pub(super) fn upload_deadline(upload: &Upload, limits: &Limits, has_pace: bool) -> Deadline {
    if !upload.is_awaited() {
        return Deadline::None;
    }
    let moved = upload.moved();
    let deadline = |wait: Duration, slow| Deadline::OfTheClient(moved + wait, slow);
    let silent = limits.body_idle_timeout.map_or(Deadline::None, |limit| deadline(limit, Slow::Silent));
    match limits.body_rate_min {
        Some(rate) if has_pace => silent.sooner(deadline(upload.pace().patience(rate), Slow::Behind)),
        _ => silent,
    }
}
