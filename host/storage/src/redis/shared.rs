//! What the handles of a server of stores and its line have in common: what is granted, and how long an answer is waited for.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::command::StoreKeys;
use crate::committer::WallClock;
use crate::error::StoreError;
use crate::operation::StoreQuota;
use crate::room::{AnswersRoom, WaitingQuestions};

/// A store that may be asked.
#[derive(Debug)]
pub(super) struct GrantedStore {
    pub(super) keys: StoreKeys,
    pub(super) quota: StoreQuota,
    pub(super) unanswered: Arc<WaitingQuestions>,
}

/// What the handles and the line have in common.
pub(super) struct ServerShared {
    pub(super) grants: RwLock<HashMap<String, Arc<GrantedStore>>>,
    pub(super) unanswered: Arc<WaitingQuestions>,
    pub(super) answers: AnswersRoom,
    pub(super) prefix: String,
    pub(super) patience: Duration,
    pub(super) clock: Option<WallClock>,
}

impl ServerShared {
    pub(super) fn now(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| clock())
    }

    pub(super) fn granted(&self, name: &str) -> Result<Arc<GrantedStore>, StoreError> {
        let grants = self.grants.read().unwrap_or_else(PoisonError::into_inner);
        grants.get(name).cloned().ok_or_else(|| StoreError::NoSuchStore { name: name.to_owned() })
    }

    pub(super) fn stores(&self) -> Vec<Arc<GrantedStore>> {
        self.grants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
