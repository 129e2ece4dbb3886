//! The room of questions that have no answer yet, and of answers that nobody has taken yet. All backends count in the same way: a
//! store has no more than half of what the others leave, so that others find room, whatever a store is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::StoreError;
use crate::operation::{Operation, StoreQuota};

/// Questions of one store that have no answer yet.
const OF_STORE_MAX: usize = 256;
/// Bytes of all questions that have no answer yet.
pub(crate) const QUESTION_BYTES_MAX: usize = 64 << 20;
/// Bytes of all answers of servers that are expected, or have come and are not taken yet.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How many questions have no answer yet, and their bytes: of a store, or of all.
#[derive(Debug, Default)]
pub(crate) struct WaitingQuestions {
    questions: AtomicUsize,
    bytes: AtomicUsize,
}

impl WaitingQuestions {
    fn add(&self, bytes: usize) -> (usize, usize) {
        (self.questions.fetch_add(1, Relaxed), self.bytes.fetch_add(bytes, Relaxed))
    }

    fn remove(&self, bytes: usize) {
        self.questions.fetch_sub(1, Relaxed);
        self.bytes.fetch_sub(bytes, Relaxed);
    }
}

/// The room of a question, until it is dropped.
pub(crate) struct QuestionRoom {
    of_store: Arc<WaitingQuestions>,
    of_all: Arc<WaitingQuestions>,
    bytes: usize,
}

impl QuestionRoom {
    /// Of at most `max` questions of all stores.
    ///
    /// # Errors
    /// `Busy` when there is no room.
    pub(crate) fn take(
        (of_store, of_all): (&Arc<WaitingQuestions>, &Arc<WaitingQuestions>),
        bytes: usize,
        max: usize,
    ) -> Result<Self, StoreError> {
        // Counted first, so that several threads do not take the same room; a refusal gives it back.
        let room = Self { of_store: Arc::clone(of_store), of_all: Arc::clone(of_all), bytes };
        let (questions, bytes_before) = of_store.add(bytes);
        let (all_questions, all_bytes) = of_all.add(bytes);
        let fits = questions < OF_STORE_MAX
            && has_share(questions, all_questions, 1, max)
            && has_share(bytes_before, all_bytes, bytes, QUESTION_BYTES_MAX);
        if fits { Ok(room) } else { Err(StoreError::Busy) }
    }
}

impl Drop for QuestionRoom {
    fn drop(&mut self) {
        self.of_store.remove(self.bytes);
        self.of_all.remove(self.bytes);
    }
}

/// Whether a store that has so much may have `more`.
fn has_share(of_store: usize, of_all: usize, more: usize, max: usize) -> bool {
    let others = of_all.saturating_sub(of_store);
    of_store.saturating_add(more) <= max.saturating_sub(others) / 2
}

/// The room of answers of a server. A question waits until what it may be answered with has room; whoever takes the answer gives
/// the room back.
pub(crate) struct AnswersRoom(Arc<Semaphore>);

/// The room of an answer, until it is dropped.
pub(crate) struct AnswerRoom(OwnedSemaphorePermit);

impl Default for AnswersRoom {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ANSWER_BYTES_MAX >> 10)))
    }
}

impl AnswersRoom {
    /// Waits for the room of the longest answer. None: it is small, whatever it is.
    pub(crate) async fn take(&self, operation: &Operation, quota: &StoreQuota) -> Option<AnswerRoom> {
        let kib = kib(operation.answer_bytes_max(quota));
        if kib == 0 {
            return None;
        }
        // (Nobody closes it.)
        Arc::clone(&self.0).acquire_many_owned(kib).await.ok().map(AnswerRoom)
    }
}

impl AnswerRoom {
    /// Keeps what an answer of so many bytes needs, and gives back the rest.
    pub(crate) fn shrink(self, bytes: usize) -> Option<Self> {
        let Self(mut permit) = self;
        let needed = usize::try_from(kib(bytes)).unwrap_or(usize::MAX).min(permit.num_permits());
        permit.split(needed).map(Self)
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{Reply, Stored, VALUE_BYTES_MAX};

    #[test]
    fn a_store_that_takes_what_it_can_leaves_room_for_others() {
        let [all, greedy, other] = [(); 3].map(|()| Arc::<WaitingQuestions>::default());
        let take = |store, bytes| QuestionRoom::take((store, &all), bytes, 1_000);
        let questions: Vec<_> = std::iter::from_fn(|| take(&greedy, 1).ok()).collect();
        assert_eq!(questions.len(), OF_STORE_MAX);
        assert!(take(&other, 1).is_ok());
        drop(questions);
        let large: Vec<_> = std::iter::from_fn(|| take(&greedy, 8 << 20).ok()).collect();
        assert_eq!(large.len(), QUESTION_BYTES_MAX / 2 / (8 << 20));
        assert!(take(&greedy, 1).is_err() && take(&other, 8 << 20).is_ok());
        drop(large);
        assert!(take(&greedy, 8 << 20).is_ok(), "what was refused has taken nothing");
    }

    #[tokio::test]
    async fn answers_have_room_until_they_are_taken() {
        let (answers, quota) = (AnswersRoom::default(), StoreQuota::LOOSEST);
        let get = |keys: usize| Operation::Get { keys: vec!["k".to_owned(); keys] };
        let free = || answers.0.available_permits();
        let all = free();
        let room = answers.take(&get(1), &quota).await.expect("an answer that may be long");
        assert_eq!(free(), all - (VALUE_BYTES_MAX >> 10));
        let stored = Stored { value: vec![0; 3_000], version: 1, expires_at: None };
        let kept = room.shrink(Reply::Values(vec![Some(stored)]).bytes());
        assert_eq!(free(), all - 3);
        drop(kept);
        assert_eq!(free(), all);
        assert!(answers.take(&Operation::Usage, &quota).await.is_none());
        let room = answers.take(&get(1_000), &quota).await.expect("an answer that may be long");
        let _of_nothing = room.shrink(0);
        assert_eq!(free(), all);
    }
}
