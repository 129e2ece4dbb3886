//! A worker's part in a profile of the host: what the primary orders of it, and what it hands over.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmhost_sandbox::Profiler;

use super::events::WorkerEvent;
use crate::reported::Reported;
use crate::worker_id::WorkerId;

/// What a worker is to do for a profile. Of several orders that it has not seen yet the latest counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProfileOrder {
    /// To take samples, for the profile of this number, of the guests of this app or of all; one that it is at is given up.
    Begin {
        /// The profile's number.
        number: u64,
        /// The name of the app.
        app: Option<Arc<str>>,
    },
    /// To end the profile of this number, and to hand over what it has counted.
    End {
        /// The profile's number.
        number: u64,
    },
}

/// Does what was ordered. What to tell the primary.
pub(super) fn follow(order: ProfileOrder, worker: WorkerId, profiler: &Profiler) -> Option<WorkerEvent> {
    match order {
        ProfileOrder::Begin { number, app } => {
            profiler.begin(number, app);
            None
        }
        ProfileOrder::End { number } => {
            let counted = Reported::Here(Arc::new(profiler.end(number)));
            Some(WorkerEvent::Profiled(worker, number, Some(counted)))
        }
    }
}
