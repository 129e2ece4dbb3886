//! What is shown of traces.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::exemplars::Exemplars;

/// What became of spans.
#[derive(Debug, Default)]
pub(crate) struct TraceCounts {
    pub(crate) exported: AtomicU64,
    /// The collector could not be reached, or failed, until the queue was full.
    pub(crate) given_up: AtomicU64,
    /// The collector refused them.
    pub(crate) refused: AtomicU64,
    /// Their requests had too many.
    pub(crate) left_out: AtomicU64,
    /// Attempts that failed.
    pub(crate) failed_exports: AtomicU64,
}

impl TraceCounts {
    pub(super) fn add(count: &AtomicU64, spans: usize) {
        count.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Relaxed);
    }
}

/// What is shown of traces.
#[derive(Debug, Clone, Default)]
pub(crate) struct TracesView {
    pub(crate) counts: Arc<TraceCounts>,
    pub(crate) exemplars: Arc<Exemplars>,
}
