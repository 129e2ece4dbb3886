//! How much is said of faults: each is counted, but clients can cause as many as they like.

use wasmhost_base::line_budget::LineBudget;

use crate::fault_report::REPORTS_PER_SECOND;

/// At most so many log lines in a second about faults of an app on a worker; each fault is counted.
const FAULT_LINES_PER_SECOND: u64 = 50;

/// How much is said of the faults of an app on a worker.
pub(super) struct FaultBudgets {
    pub(super) lines: LineBudget,
    pub(super) reports: LineBudget,
}

impl Default for FaultBudgets {
    fn default() -> Self {
        Self { lines: LineBudget::of(FAULT_LINES_PER_SECOND), reports: LineBudget::of(REPORTS_PER_SECOND) }
    }
}
