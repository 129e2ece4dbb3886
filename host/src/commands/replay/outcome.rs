//! PURE: what came of a replay.

use wasmhost_supervise::replay::Replayed;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayOutcome {
    NoFault,
    Faulted,
    /// The guest was not asked.
    NotRun,
}

/// What came of one.
pub(super) fn outcome(replayed: &Replayed) -> ReplayOutcome {
    let by_host = replayed.answer.as_ref().map(|answer| answer.by_host.as_deref());
    match by_host {
        _ if !replayed.kinds.is_empty() => ReplayOutcome::Faulted,
        Err(_) | Ok(Some("refused")) => ReplayOutcome::NotRun,
        // An error code in the place of a response is an answer.
        Ok(Some(_) | None) => ReplayOutcome::NoFault,
    }
}
