//! Until when what a request waits for has to come, and of whom.

use std::time::{Duration, Instant};

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

/// Until when the client has to send more of its body, while that is awaited: it may be silent for `idle`, and no slower than
/// `rate` bytes a second.
pub(super) fn upload_deadline(upload: &Upload, idle: Option<Duration>, rate: Option<u64>) -> Deadline {
    if !upload.is_awaited() {
        return Deadline::None;
    }
    let moved = upload.moved();
    let deadline = |wait: Duration, slow| Deadline::OfTheClient(moved + wait, slow);
    let silent = idle.map_or(Deadline::None, |limit| deadline(limit, Slow::Silent));
    match rate {
        Some(rate) => silent.sooner(deadline(upload.pace().time_left(rate), Slow::Behind)),
        None => silent,
    }
}
