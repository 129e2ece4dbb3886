//! A question on its way to whoever answers it, with the one thing that both sides must agree on: has it begun, or was it given
//! up before? So whoever waited too long can tell "nothing was changed" from "nobody knows".

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering::AcqRel, Ordering::Acquire};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::operation::Reply;
use crate::room::AnswerRoom;

const WAITS: u8 = 0;
const BEGUN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// What comes back.
pub(crate) type Answered = Result<Reply, StoreError>;

/// The side that answers. Dropped without an answer, it says that the answerer is gone.
pub(crate) struct Asked {
    state: Arc<AtomicU8>,
    answer: oneshot::Sender<(Answered, Option<AnswerRoom>)>,
}

/// The side that waits. Dropped, it gives the question up.
pub(crate) struct Wait {
    state: Arc<AtomicU8>,
    answer: oneshot::Receiver<(Answered, Option<AnswerRoom>)>,
    changes: bool,
}

/// A question; `changes`: whether it matters if it was done without an answer.
pub(crate) fn ask(changes: bool) -> (Asked, Wait) {
    let (sender, receiver) = oneshot::channel();
    let state = Arc::new(AtomicU8::new(WAITS));
    (Asked { state: Arc::clone(&state), answer: sender }, Wait { state, answer: receiver, changes })
}

impl Asked {
    /// Whether the question still is to be answered; if so, it has begun from now on.
    pub(crate) fn begin(&self) -> bool {
        self.state.compare_exchange(WAITS, BEGUN, AcqRel, Acquire).is_ok()
    }

    /// Answers.
    pub(crate) fn tell(self, told: Answered) {
        self.tell_with(told, None);
    }

    /// Answers with what has this room until it is taken.
    pub(crate) fn tell_with(self, told: Answered, room: Option<AnswerRoom>) {
        // Nobody may wait any more.
        let _ = self.answer.send((told, room));
    }
}

impl Wait {
    /// The answer, if it comes in time. Needs a tokio runtime with time.
    pub(crate) async fn told(mut self, patience: Duration) -> Answered {
        match tokio::time::timeout(patience, &mut self.answer).await {
            Ok(Ok((told, _room))) => told,
            Ok(Err(_)) => {
                Err(if self.give_up() || !self.changes { StoreError::Unavailable } else { StoreError::Unknown })
            }
            Err(_) if self.give_up() => Err(StoreError::Busy),
            Err(_) => Err(if self.changes { StoreError::Unknown } else { StoreError::Unavailable }),
        }
    }

    /// Whether it had not begun, and will not.
    fn give_up(&self) -> bool {
        self.state.compare_exchange(WAITS, GIVEN_UP, AcqRel, Acquire).is_ok()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(5);

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(future)
    }

    #[test]
    fn what_has_not_begun_in_time_never_begins() {
        let (asked, wait) = ask(true);
        assert_eq!(run(wait.told(SOON)), Err(StoreError::Busy));
        assert!(!asked.begin());
        let (asked, wait) = ask(true);
        drop(wait);
        assert!(!asked.begin(), "nobody waits");
    }

    #[test]
    fn a_lost_answer_is_unknown_only_if_something_may_have_changed() {
        for (changes, late, lost) in [
            (true, StoreError::Unknown, StoreError::Unknown),
            (false, StoreError::Unavailable, StoreError::Unavailable),
        ] {
            let (asked, wait) = ask(changes);
            assert!(asked.begin());
            assert_eq!(run(wait.told(SOON)), Err(late));
            let (asked, wait) = ask(changes);
            assert!(asked.begin());
            drop(asked);
            assert_eq!(run(wait.told(SOON)), Err(lost));
        }
        let (asked, wait) = ask(true);
        drop(asked);
        assert_eq!(run(wait.told(SOON)), Err(StoreError::Unavailable), "it had not begun");
    }

    #[test]
    fn an_answer_arrives() {
        let (asked, wait) = ask(true);
        assert!(asked.begin());
        asked.tell(Ok(Reply::Number(3)));
        assert_eq!(run(wait.told(SOON)), Ok(Reply::Number(3)));
    }
}
