//! Which workers are being replaced, one after another; which come and which leave. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use wasmhost_serve::worker::WorkerId;

/// Restarts that may wait at once; a host has no more workers.
const WAITING_MAX: usize = 1_024;

/// What whoever asked hears: the workers that were replaced, have come or have left, or why not.
pub(super) type RestartReply = oneshot::Sender<Result<Vec<u16>, String>>;

/// Workers that are to be replaced, to come or to leave.
#[derive(Default)]
pub(super) struct Restarts {
    /// To be replaced.
    waiting: VecDeque<WorkerId>,
    underway: Vec<Underway>,
    asked: Vec<AskedRestart>,
}

/// One that comes, leaves, or does both.
#[derive(Debug, Clone, Copy)]
struct Underway {
    worker: WorkerId,
    /// What is done next about it, and when.
    step: LateStep,
    due: Instant,
    /// Until it is over, no other is replaced.
    is_restart: bool,
}

/// What is done about a worker that is not ready in time.
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

impl AskedRestart {
    fn answer(self) {
        // Who asked may have left.
        let _ = self.reply.send(Ok(self.workers.into_iter().map(|worker| worker.0).collect()));
    }
}

impl Restarts {
    /// Has these workers replaced. Those that are to be already are replaced once more, if their turn has begun.
    pub(super) fn ask(&mut self, workers: Vec<WorkerId>, reply: RestartReply) {
        for worker in &workers {
            if !self.waiting.contains(worker) && self.waiting.len() < WAITING_MAX {
                self.waiting.push_back(*worker);
            }
        }
        self.wait(workers, reply);
    }

    /// These are started at `now`.
    pub(super) fn come(&mut self, workers: Vec<WorkerId>, now: Instant, reply: RestartReply) {
        for worker in &workers {
            // (One that still leaves is started when it has ended.)
            if !self.is_underway(*worker) {
                let (step, due) = (LateStep::GiveUp, now + GIVEN_UP_AFTER);
                self.underway.push(Underway { worker: *worker, step, due, is_restart: false });
            }
        }
        self.wait(workers, reply);
    }

    /// These leave for good, and may finish what they have until `deadline`; those that are `leaving` already, until theirs. They are
    /// not replaced any more.
    pub(super) fn leave(
        &mut self,
        workers: Vec<WorkerId>,
        leaving: &[WorkerId],
        deadline: Instant,
        reply: RestartReply,
    ) {
        self.waiting.retain(|waiting| !workers.contains(waiting));
        for asked in &mut self.asked {
            asked.workers.retain(|worker| !workers.contains(worker));
            asked.left.retain(|worker| !workers.contains(worker));
        }
        self.answer();
        for worker in &workers {
            match self.underway.iter_mut().find(|underway| underway.worker == *worker) {
                Some(Underway { step: LateStep::Stop | LateStep::Kill, is_restart, .. })
                    if leaving.contains(worker) =>
                {
                    *is_restart = false;
                }
                Some(found) => *found = Underway::leaves(*worker, deadline, false),
                None => self.underway.push(Underway::leaves(*worker, deadline, false)),
            }
        }
        self.wait(workers, reply);
    }

    fn wait(&mut self, workers: Vec<WorkerId>, reply: RestartReply) {
        self.asked.retain(|asked| !asked.reply.is_closed());
        self.asked.push(AskedRestart { left: workers.clone(), workers, reply });
        self.answer();
    }

    /// Whether a worker is being replaced, or is to be.
    pub(super) fn replaces(&self, worker: WorkerId) -> bool {
        self.waiting.contains(&worker) || self.is_underway(worker)
    }

    fn is_underway(&self, worker: WorkerId) -> bool {
        self.underway.iter().any(|underway| underway.worker == worker)
    }

    /// The next one whose turn it is to be replaced: it may finish what it has until `deadline`.
    pub(super) fn next(&mut self, deadline: Instant) -> Option<WorkerId> {
        if self.underway.iter().any(|underway| underway.is_restart) {
            return None;
        }
        let worker = self.waiting.pop_front()?;
        self.underway.retain(|underway| underway.worker != worker);
        self.underway.push(Underway::leaves(worker, deadline, true));
        Some(worker)
    }

    /// When [`Self::is_late`] has an answer.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.underway.iter().map(|underway| underway.due).min()
    }

    /// One that has had its time by `now`, and what is done about it.
    pub(super) fn is_late(&mut self, now: Instant) -> Option<(WorkerId, LateStep)> {
        let late = self.underway.iter_mut().find(|underway| underway.due <= now)?;
        let (worker, step) = (late.worker, late.step);
        match step {
            LateStep::Stop => (late.step, late.due) = (LateStep::Kill, now + KILLED_AFTER),
            LateStep::Kill => (late.step, late.due) = (LateStep::GiveUp, now + GIVEN_UP_AFTER),
            LateStep::GiveUp => {
                let is_restart = late.is_restart;
                self.underway.retain(|underway| underway.worker != worker);
                // What one did not survive, the others may not: who serves goes on.
                let spared: Vec<WorkerId> = if is_restart { self.waiting.drain(..).collect() } else { Vec::new() };
                let is_spared = |asked: &mut AskedRestart| spared.iter().any(|spared| asked.left.contains(spared));
                for asked in self.asked.extract_if(.., is_spared) {
                    // Who asked may have left.
                    let _ = asked.reply.send(Err(format!(
                        "worker {} is not ready in time, and those that had not been replaced yet are not: {}; see the log",
                        worker.0,
                        spared.iter().map(|spared| spared.0.to_string()).collect::<Vec<_>>().join(", ")
                    )));
                }
                for asked in self.asked.extract_if(.., |asked| asked.left.contains(&worker)) {
                    // Who asked may have left.
                    let _ = asked.reply.send(Err(format!("worker {} is not ready in time; see the log", worker.0)));
                }
            }
        }
        Some((worker, step))
    }

    /// A worker listens, or has left for good: it may be one that was waited for.
    pub(super) fn is_ready(&mut self, worker: WorkerId) {
        if self.underway.extract_if(.., |underway| underway.worker == worker).next().is_none() {
            return;
        }
        for asked in &mut self.asked {
            asked.left.retain(|left| *left != worker);
        }
        self.answer();
    }

    /// Tells those who wait for nothing any more.
    fn answer(&mut self) {
        self.asked.extract_if(.., |asked| asked.left.is_empty()).for_each(AskedRestart::answer);
    }
}

impl Underway {
    fn leaves(worker: WorkerId, deadline: Instant, is_restart: bool) -> Self {
        Self { worker, step: LateStep::Stop, due: deadline, is_restart }
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
        restarts.is_ready(WorkerId(2));
        assert_eq!(restarts.next(deadline), None, "that was another one");
        restarts.is_ready(WorkerId(1));
        assert!(all.try_recv().is_err());
        assert_eq!(restarts.next(deadline), Some(WorkerId(2)));
        restarts.is_ready(WorkerId(2));
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
        // It does not come back. Others are left alone then.
        let later = later + GIVEN_UP_AFTER;
        let (reply, mut others) = oneshot::channel();
        restarts.ask(vec![WorkerId(2), WorkerId(3)], reply);
        assert_eq!(restarts.is_late(later), Some((WorkerId(1), LateStep::GiveUp)));
        assert!(hears.try_recv().is_ok_and(|told| told.is_err()));
        let told = others.try_recv().ok().and_then(Result::err).unwrap_or_default();
        assert!(told.starts_with("worker 1 is not ready") && told.contains("2, 3"), "{told}");
        assert_eq!((restarts.due_at(), restarts.next(later)), (None, None));
    }

    #[test]
    fn workers_that_leave_for_good_do_so_at_once_and_are_not_replaced_any_more() {
        let (now, mut restarts) = (Instant::now(), Restarts::default());
        let asked = |restarts: &mut Restarts, workers: &[u16]| {
            let (reply, hears) = oneshot::channel();
            restarts.ask(workers.iter().copied().map(WorkerId).collect(), reply);
            hears
        };
        let (mut all, mut gone) = (asked(&mut restarts, &[1, 2, 3]), asked(&mut restarts, &[3]));
        assert_eq!(restarts.next(now), Some(WorkerId(1)));
        let (reply, mut left) = oneshot::channel();
        restarts.leave(vec![WorkerId(1), WorkerId(3)], &[WorkerId(1)], now, reply);
        assert_eq!(gone.try_recv(), Ok(Ok(vec![])), "none is left that could be replaced");
        assert_eq!(restarts.next(now), Some(WorkerId(2)), "no other is waited for");
        restarts.is_ready(WorkerId(1));
        assert!(left.try_recv().is_err());
        restarts.is_ready(WorkerId(2));
        restarts.is_ready(WorkerId(3));
        assert_eq!((all.try_recv(), left.try_recv()), (Ok(Ok(vec![2])), Ok(Ok(vec![1, 3]))));
        assert_eq!((restarts.due_at(), restarts.next(now)), (None, None));
    }

    #[test]
    fn one_that_comes_back_while_it_leaves_is_waited_for_and_one_that_does_not_come_is_given_up() {
        let (now, mut restarts) = (Instant::now(), Restarts::default());
        let (reply, mut left) = oneshot::channel();
        restarts.leave(vec![WorkerId(2)], &[], now, reply);
        let (reply, mut came) = oneshot::channel();
        restarts.come(vec![WorkerId(2), WorkerId(3)], now, reply);
        assert_eq!(restarts.is_late(now), Some((WorkerId(2), LateStep::Stop)), "its time goes on");
        restarts.is_ready(WorkerId(2));
        assert_eq!(left.try_recv(), Ok(Ok(vec![2])));
        assert_eq!(restarts.is_late(now + GIVEN_UP_AFTER), Some((WorkerId(3), LateStep::GiveUp)));
        assert!(came.try_recv().is_ok_and(|told| told.is_err()));
        assert_eq!(restarts.due_at(), None);
    }

    #[test]
    fn one_that_was_just_started_anew_and_leaves_has_all_of_its_time() {
        let (now, mut restarts) = (Instant::now(), Restarts::default());
        let (reply, _hears) = oneshot::channel();
        restarts.ask(vec![WorkerId(1), WorkerId(2)], reply);
        assert_eq!(restarts.next(now), Some(WorkerId(1)));
        // Its predecessor has ended, and it does not listen yet.
        let (reply, _left) = oneshot::channel();
        let later = now + Duration::from_secs(30);
        restarts.leave(vec![WorkerId(1)], &[], later, reply);
        assert_eq!((restarts.due_at(), restarts.is_late(now)), (Some(later), None));
        // One that leaves already does not get more.
        assert_eq!(restarts.next(now), Some(WorkerId(2)));
        let (reply, _left) = oneshot::channel();
        restarts.leave(vec![WorkerId(2)], &[WorkerId(2)], later, reply);
        assert_eq!(restarts.is_late(now), Some((WorkerId(2), LateStep::Stop)));
    }
}
