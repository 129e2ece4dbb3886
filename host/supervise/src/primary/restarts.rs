//! Which worker is being replaced, one after another. Pure.

use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::oneshot;

use wasmhost_serve::worker::WorkerId;

/// Restarts that may wait at once; a host has no more workers.
const WAITING_MAX: usize = 1_024;

/// What whoever asked hears: the workers that were replaced, or why none was.
pub(super) type RestartReply = oneshot::Sender<Result<Vec<u16>, String>>;

/// Workers that are to be replaced.
#[derive(Default)]
pub(super) struct Restarts {
    waiting: VecDeque<WorkerId>,
    /// The one that is being replaced, and until when it may finish what it has; none: it was told to end at once.
    present: Option<(WorkerId, Option<Instant>)>,
    asked: Vec<AskedRestart>,
}

/// Somebody waits for these.
struct AskedRestart {
    workers: Vec<WorkerId>,
    left: Vec<WorkerId>,
    reply: RestartReply,
}

impl Restarts {
    /// Has these workers replaced. Those that are to be already are replaced once more, if their turn has begun.
    pub(super) fn ask(&mut self, workers: Vec<WorkerId>, reply: RestartReply) {
        for worker in &workers {
            if !self.waiting.contains(worker) && self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(*worker);
            }
        }
        self.asked.push(AskedRestart { left: workers.clone(), workers, reply });
    }

    /// The next one whose turn it is: it may finish what it has until `deadline`.
    pub(super) fn next(&mut self, deadline: Instant) -> Option<WorkerId> {
        if self.present.is_some() {
            return None;
        }
        let worker = self.waiting.pop_front()?;
        self.present = Some((worker, Some(deadline)));
        Some(worker)
    }

    /// When [`Self::is_late`] has an answer.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.present.and_then(|(_, deadline)| deadline)
    }

    /// The one that has had its time by `now`, which is said once.
    pub(super) fn is_late(&mut self, now: Instant) -> Option<WorkerId> {
        let (worker, deadline) = self.present.as_mut()?;
        deadline.take_if(|deadline| *deadline <= now).map(|_| *worker)
    }

    /// A worker listens: it may be the one that was replaced.
    pub(super) fn listens(&mut self, worker: WorkerId) {
        if self.present.take_if(|(present, _)| *present == worker).is_none() {
            return;
        }
        let (mut asked, mut ended) = (std::mem::take(&mut self.asked), Vec::new());
        for (index, one) in asked.iter_mut().enumerate().rev() {
            one.left.retain(|left| *left != worker);
            if one.left.is_empty() {
                ended.push(index);
            }
        }
        for index in ended {
            let AskedRestart { workers, reply, .. } = asked.remove(index);
            // Who asked may have left.
            let _ = reply.send(Ok(workers.into_iter().map(|worker| worker.0).collect()));
        }
        self.asked = asked;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn workers_are_replaced_one_after_another_and_whoever_asked_hears_of_the_last() {
        let (now, mut restarts) = (Instant::now(), Restarts::default());
        let deadline = now + Duration::from_secs(1);
        let (reply, mut all) = oneshot::channel();
        restarts.ask(vec![WorkerId(1), WorkerId(2)], reply);
        assert_eq!(restarts.next(deadline), Some(WorkerId(1)));
        assert_eq!(restarts.next(deadline), None, "one at a time");
        // Another asks for the one that waits.
        let (reply, mut one) = oneshot::channel();
        restarts.ask(vec![WorkerId(2)], reply);
        restarts.listens(WorkerId(2));
        assert_eq!(restarts.next(deadline), None, "that was another one");
        restarts.listens(WorkerId(1));
        assert!(all.try_recv().is_err());
        assert_eq!(restarts.next(deadline), Some(WorkerId(2)));
        restarts.listens(WorkerId(2));
        assert_eq!((all.try_recv(), one.try_recv()), (Ok(Ok(vec![1, 2])), Ok(Ok(vec![2]))));
        assert_eq!(restarts.next(deadline), None);
    }

    #[test]
    fn one_that_does_not_end_is_told_once_that_its_time_is_over() {
        let (now, mut restarts) = (Instant::now(), Restarts::default());
        let (reply, _hears) = oneshot::channel();
        restarts.ask(vec![WorkerId(1)], reply);
        assert_eq!(restarts.due_at(), None);
        restarts.next(now);
        assert_eq!(restarts.due_at(), Some(now));
        assert_eq!(restarts.is_late(now - Duration::from_secs(1)), None);
        assert_eq!((restarts.is_late(now), restarts.is_late(now), restarts.due_at()), (Some(WorkerId(1)), None, None));
    }
}
