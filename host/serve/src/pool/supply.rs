//! What a worker is given to serve an app with.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use wasmhost_sandbox::Guest;

/// Which revision of an app a guest is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionTag {
    /// Its number, from 1 on.
    pub number: u64,
    /// For so long what was served before is kept: where the new one faults again and again, the worker goes back to it.
    pub watched_for: Option<Duration>,
    /// It gets a share of the requests, beside what was served before.
    pub is_canary: bool,
}

/// What a worker has for an app.
#[derive(Clone)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub enum Supply<G = Guest> {
    /// A guest, to make instances of.
    Guest(Arc<G>, RevisionTag),
    /// Nothing, for this reason: the app's requests get 503 until something else is ordered. A guest that the worker has
    /// already goes on.
    Unavailable(Arc<str>),
}

impl<G> Supply<G> {
    /// What a worker is to follow that has not seen the one before this yet: it comes to the same as both in turn.
    pub(crate) fn after(self, unseen: Option<Self>) -> Self {
        match (self, unseen) {
            (Self::Unavailable(_), Some(guest @ Self::Guest(..))) => guest,
            (latest, _) => latest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_the_worker_has_not_seen_yet_goes_on_when_nothing_comes_after_it() {
        let (guest, nothing) = (
            |number: u8| Supply::Guest(Arc::new(number), RevisionTag::default()),
            |why: &str| Supply::Unavailable(why.into()),
        );
        assert_eq!(nothing("later").after(Some(guest(1))), guest(1));
        assert_eq!(guest(2).after(Some(guest(1))), guest(2));
        assert_eq!(guest(2).after(Some(nothing("before"))), guest(2));
        assert_eq!(nothing("later").after(Some(nothing("before"))), nothing("later"));
        assert_eq!(nothing("later").after(None), nothing("later"));
    }
}
