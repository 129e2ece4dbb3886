//! What happened to each request of WASI 0.3 that a guest made. The second result of `request.new` depends on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

/// What happened to a request that a guest made.
#[derive(Debug, Clone, Default)]
pub(super) enum Fate {
    /// The guest has it, or has dropped it.
    #[default]
    Unsent,
    /// It is being sent, or was when the guest cancelled it.
    Sending,
    /// It was transmitted, or the guest has read its body itself.
    Done,
    /// It could not be sent.
    Failed(ErrorCode),
}

impl Fate {
    /// The result of the transmission, if wasmtime-wasi-http reports `known`. It reports success for every request that it
    /// loses track of.
    pub(super) fn outcome(self, known: Result<(), ErrorCode>) -> Result<(), ErrorCode> {
        known?;
        match self {
            Self::Done => Ok(()),
            Self::Failed(error) => Err(error),
            Self::Unsent => Err(ErrorCode::InternalError(Some("the request was never sent".to_owned()))),
            Self::Sending => Err(ErrorCode::ConnectionTerminated),
        }
    }
}

/// The fate of one request. Its handle and its result share it.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedFate(Arc<Mutex<Fate>>);

impl SharedFate {
    pub(super) fn set(&self, now: Fate) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn get(&self) -> Fate {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The requests that one instance has made and not sent, by handle.
#[derive(Debug, Default)]
pub(crate) struct Unsent(HashMap<u32, SharedFate>);

impl Unsent {
    /// Takes note of a new request.
    pub(super) fn insert(&mut self, request: u32) -> SharedFate {
        let fate = SharedFate::default();
        self.0.insert(request, fate.clone());
        fate
    }

    /// The guest has sent the request, dropped it, or reads it itself. None if it is not one that the guest made.
    pub(super) fn remove(&mut self, request: u32) -> Option<SharedFate> {
        // Most guests make none, and to look for one costs a hash.
        if self.0.is_empty() { None } else { self.0.remove(&request) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_transmitted_is_a_success() {
        let failed = Fate::Failed(ErrorCode::DnsTimeout);
        assert!(Fate::Done.outcome(Ok(())).is_ok());
        assert!(matches!(failed.outcome(Ok(())), Err(ErrorCode::DnsTimeout)));
        assert!(matches!(Fate::Unsent.outcome(Ok(())), Err(ErrorCode::InternalError(_))));
        assert!(matches!(Fate::Sending.outcome(Ok(())), Err(ErrorCode::ConnectionTerminated)));
        for fate in [Fate::Done, Fate::Unsent] {
            let known = fate.outcome(Err(ErrorCode::HttpRequestBodySize(Some(1))));
            assert!(matches!(known, Err(ErrorCode::HttpRequestBodySize(Some(1)))), "wasmtime's own errors stay");
        }
    }
}
