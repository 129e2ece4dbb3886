//! Why an instance was given up, as the primary is told.

use serde::{Deserialize, Serialize};

use wasmhost_sandbox::Fault;

/// Most bytes of what is said of a fault.
const DETAIL_BYTES_MAX: usize = 512;

/// Why an instance was given up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct InstanceFault {
    /// Its kind, as log and metrics name it.
    pub kind: String,
    /// What the engine or the host said: the first half KiB of it.
    pub detail: String,
    /// The number of the request on the worker; 0: the instance had none, or several.
    pub request: u64,
    /// The number of the revision that the instance was of.
    pub revision: u64,
}

impl InstanceFault {
    pub(crate) fn of(fault: &Fault, request: u64, revision: u64) -> Self {
        let detail = fault.detail[..fault.detail.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned();
        Self { kind: fault.kind.name().to_owned(), detail, request, revision }
    }
}
