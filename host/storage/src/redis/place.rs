//! The room that questions take while they wait or are on their way: of one store, so that it leaves room for others, and of all.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::command::StoreKeys;
use crate::error::StoreError;
use crate::operation::StoreQuota;

/// Questions of one store that have no answer yet.
const QUESTIONS_OF_STORE_MAX: usize = 256;
/// Bytes of all questions that have no answer yet.
const BYTES_MAX: usize = 64 << 20;

/// A store that may be asked.
#[derive(Debug)]
pub(super) struct GrantedStore {
    pub(super) keys: StoreKeys,
    pub(super) quota: StoreQuota,
    /// Questions that have no answer yet.
    pub(super) waiting: AtomicUsize,
}

/// The place of a question, until it is dropped.
pub(super) struct QuestionPlace {
    store: Arc<GrantedStore>,
    waiting_bytes: Arc<AtomicUsize>,
    bytes: usize,
}

impl QuestionPlace {
    /// # Errors
    /// `Busy` when there is no room.
    pub(super) fn take(
        store: Arc<GrantedStore>,
        waiting_bytes: &Arc<AtomicUsize>,
        bytes: usize,
    ) -> Result<Self, StoreError> {
        // Counted first, so that several threads do not take the same room; a refusal gives it back.
        let place = Self { store, waiting_bytes: Arc::clone(waiting_bytes), bytes };
        let of_store = place.store.waiting.fetch_add(1, Relaxed);
        let of_all = place.waiting_bytes.fetch_add(bytes, Relaxed);
        let fits = of_store < QUESTIONS_OF_STORE_MAX && of_all.saturating_add(bytes) <= BYTES_MAX;
        if fits { Ok(place) } else { Err(StoreError::Busy) }
    }

    pub(super) fn store(&self) -> &GrantedStore {
        &self.store
    }
}

impl Drop for QuestionPlace {
    fn drop(&mut self) {
        self.store.waiting.fetch_sub(1, Relaxed);
        self.waiting_bytes.fetch_sub(self.bytes, Relaxed);
    }
}
