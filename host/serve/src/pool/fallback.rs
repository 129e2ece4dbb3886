//! What a pool had before a new revision, while that is watched; and what becomes of a pool that gets a share of the requests.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use wasmhost_sandbox::{Guest, InstanceContext};

/// What a pool had.
pub(super) struct Fallback {
    pub(super) guest: Arc<Guest>,
    pub(super) context: Rc<InstanceContext>,
    pub(super) revision: u64,
    pub(super) until: Instant,
}

/// Whether a pool that gets a share of the requests still gets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CanaryState {
    Serves,
    GivenUp,
}
