//! Which worker is being replaced, one after another. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

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
    /// The one that is being replaced, what is done next about it, and when.
    present: Option<(WorkerId, LateStep, Instant)>,
    asked: Vec<AskedRestart>,
}

/// What is done about a worker that has not been replaced in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LateStep {
    /// Its requests are broken off.
    Stop,
    /// It is killed, if it is a process.
    Kill,
    /// It is not waited for any longer.
    GiveUp,
}

/// How long after it was told to end at once a worker is killed, and how long the next one is waited for then.
const KILLED_AFTER: Duration = Duration::from_secs(1);
const GIVEN_UP_AFTER: Duration = Duration::from_secs(60);

/// Somebody waits for these.
struct AskedRestart {
    workers: Vec<WorkerId>,
    left: Vec<WorkerId>,
    reply: RestartReply,
}

impl Restarts {
    /// Has these workers replaced. Those that are to be already are replaced once more, if their turn has begun.
    pub(super) fn ask(&mut self, workers: Vec<WorkerId>, reply: RestartReply) {
        self.asked.retain(|asked| !asked.reply.is_closed());
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
        self.present = Some((worker, LateStep::Stop, deadline));
        Some(worker)
    }

    /// When [`Self::is_late`] has an answer.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.present.map(|(.., deadline)| deadline)
    }

    /// The one that has had its time by `now`, and what is done about it.
    pub(super) fn is_late(&mut self, now: Instant) -> Option<(WorkerId, LateStep)> {
        let (worker, step, _) = self.present.filter(|(.., deadline)| *deadline <= now)?;
        match step {
            LateStep::Stop => self.present = Some((worker, LateStep::Kill, now + KILLED_AFTER)),
            LateStep::Kill => self.present = Some((worker, LateStep::GiveUp, now + GIVEN_UP_AFTER)),
            LateStep::GiveUp => {
                self.present = None;
                for asked in self.asked.extract_if(.., |asked| asked.left.contains(&worker)) {
                    // Who asked may have left.
                    let _ = asked.reply.send(Err(format!("worker {} does not come back; see the log", worker.0)));
                }
            }
        }
        Some((worker, step))
    }

    /// A worker listens: it may be the one that was replaced.
    pub(super) fn listens(&mut self, worker: WorkerId) {
        if self.present.take_if(|(present, ..)| *present == worker).is_none() {
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
    fn one_that_does_not_end_is_stopped_killed_and_given_up() {
        let (now, mut restarts) = (Instant::now(), Restarts::default());
        let (reply, mut hears) = oneshot::channel();
        restarts.ask(vec![WorkerId(1)], reply);
        assert_eq!(restarts.due_at(), None);
        restarts.next(now);
        assert_eq!(restarts.due_at(), Some(now));
        assert_eq!(restarts.is_late(now - Duration::from_secs(1)), None);
        assert_eq!(restarts.is_late(now), Some((WorkerId(1), LateStep::Stop)));
        assert_eq!(restarts.is_late(now), None);
        let later = now + KILLED_AFTER;
        assert_eq!((restarts.due_at(), restarts.is_late(later)), (Some(later), Some((WorkerId(1), LateStep::Kill))));
        // It does not come back.
        let later = later + GIVEN_UP_AFTER;
        assert_eq!(restarts.is_late(later), Some((WorkerId(1), LateStep::GiveUp)));
        assert!(hears.try_recv().is_ok_and(|told| told.is_err()));
        assert_eq!((restarts.due_at(), restarts.next(later)), (None, None));
    }
}
