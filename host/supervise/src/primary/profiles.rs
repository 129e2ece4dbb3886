//! PURE: the profile that is under way: which workers take part, and how long they are waited for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmhost_serve::worker::{ProfileOrder, SentProfile, WorkerId};

use crate::profile::{AppRevisions, GatheredProfile, ProfileReply, ProfileWish};

/// How often it is looked whether who asked is still there.
const LOOKS: Duration = Duration::from_millis(100);
/// How long workers may take to hand over what they have counted. One may be in a long call of the host.
const PARTS_WITHIN: Duration = Duration::from_secs(5);

/// The profile of the host.
#[derive(Default)]
pub(super) struct Profiles {
    /// How many there have been.
    last: u64,
    running: Option<RunningProfile>,
}

struct RunningProfile {
    wish: ProfileWish,
    began: Instant,
    /// Workers are told to end then; once they are: they are waited for until then.
    due: Instant,
    is_ending: bool,
    /// When it was last looked whether who asked is there.
    looked: Instant,
    /// Workers that have not handed over their part.
    awaited: BTreeSet<WorkerId>,
    gathered: GatheredProfile,
    reply: ProfileReply,
}

/// What workers are to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ProfileStep {
    pub(super) workers: Vec<WorkerId>,
    pub(super) order: ProfileOrder,
}

impl Profiles {
    /// Begins one, for which `workers` take part. What these are to be told, after those of one that nobody waits for any more.
    ///
    /// # Errors
    /// When one runs already that somebody waits for.
    pub(super) fn begin(
        &mut self,
        wish: ProfileWish,
        workers: Vec<WorkerId>,
        revisions: AppRevisions,
        now: Instant,
        reply: ProfileReply,
    ) -> Result<Vec<ProfileStep>, (String, ProfileReply)> {
        if let Some(running) = self.running.as_ref().filter(|running| !running.reply.is_closed()) {
            let left = running.due.saturating_duration_since(now).as_millis().div_ceil(1_000);
            return Err((
                format!("a profile is being made already, for another {left} s; there is one at a time"),
                reply,
            ));
        }
        let left = self.running.take().map(|left| ProfileStep {
            workers: left.awaited.into_iter().collect(),
            order: ProfileOrder::End { number: self.last },
        });
        self.last += 1;
        let gathered = GatheredProfile { app: wish.app.clone(), revisions, ..GatheredProfile::default() };
        let awaited = workers.iter().copied().collect();
        let order = self.order(&wish);
        self.running = Some(RunningProfile {
            due: now + wish.duration,
            wish,
            began: now,
            is_ending: false,
            looked: now,
            awaited,
            gathered,
            reply,
        });
        Ok(left.into_iter().chain([ProfileStep { workers, order }]).collect())
    }

    fn order(&self, wish: &ProfileWish) -> ProfileOrder {
        ProfileOrder::Begin { number: self.last, app: wish.app.as_deref().map(Arc::from) }
    }

    /// When [`Self::look`] has something to do.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.running.as_ref().map(|running| running.due.min(running.looked + LOOKS))
    }

    /// Looks at the time, and at who asked. What workers are to be told.
    pub(super) fn look(&mut self, now: Instant) -> Option<ProfileStep> {
        let running = self.running.as_mut()?;
        running.looked = now;
        let is_left = running.reply.is_closed();
        if !is_left && now < running.due {
            return None;
        }
        if running.is_ending {
            self.finish();
            return None;
        }
        running.is_ending = true;
        running.due = now + PARTS_WITHIN;
        let duration = now.saturating_duration_since(running.began);
        running.gathered.duration_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let step = ProfileStep {
            workers: running.awaited.iter().copied().collect(),
            order: ProfileOrder::End { number: self.last },
        };
        if is_left {
            self.running = None;
        } else {
            self.finish_if_whole();
        }
        Some(step)
    }

    /// A worker has handed over its part.
    pub(super) fn handed_over(&mut self, worker: WorkerId, number: u64, part: Option<SentProfile>) {
        let Some(running) = self.running.as_mut().filter(|running| running.is_ending && number == self.last) else {
            return;
        };
        if running.awaited.remove(&worker) {
            match part {
                Some(part) => running.gathered.parts.push((worker, part)),
                None => drop(running.gathered.lost.insert(worker)),
            }
        }
        self.finish_if_whole();
    }

    /// A worker has started. What it is to be told.
    pub(super) fn started(&mut self, worker: WorkerId) -> Option<ProfileStep> {
        let takes_part = |running: &&mut RunningProfile| {
            !running.is_ending && running.wish.worker.is_none_or(|only| only == worker.0)
        };
        let running = self.running.as_mut().filter(takes_part)?;
        running.awaited.insert(worker);
        let wish = running.wish.clone();
        Some(ProfileStep { workers: vec![worker], order: self.order(&wish) })
    }

    /// A worker has ended: what it had counted went with it.
    pub(super) fn ended(&mut self, worker: WorkerId) {
        let Some(running) = self.running.as_mut() else { return };
        if running.awaited.remove(&worker) {
            running.gathered.lost.insert(worker);
        }
        self.finish_if_whole();
    }

    /// Which revisions are served now.
    pub(super) fn note_revisions(&mut self, revisions: AppRevisions) {
        let Some(running) = self.running.as_mut() else { return };
        for (app, numbers) in revisions {
            running.gathered.revisions.entry(app).or_default().extend(numbers);
        }
    }

    fn finish_if_whole(&mut self) {
        if self.running.as_ref().is_some_and(|running| running.is_ending && running.awaited.is_empty()) {
            self.finish();
        }
    }

    fn finish(&mut self) {
        if let Some(RunningProfile { awaited, mut gathered, reply, .. }) = self.running.take() {
            gathered.lost.extend(awaited);
            // Who asked may have left.
            let _ = reply.send(Ok(gathered));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::{self, Receiver};

    fn wish(worker: Option<u16>) -> ProfileWish {
        ProfileWish { app: None, duration: Duration::from_secs(10), worker }
    }

    fn begun(profiles: &mut Profiles, workers: &[u16], now: Instant) -> Receiver<Result<GatheredProfile, String>> {
        let (reply, hears) = oneshot::channel();
        let workers = workers.iter().copied().map(WorkerId).collect();
        assert!(profiles.begin(wish(None), workers, AppRevisions::new(), now, reply).is_ok());
        hears
    }

    fn part() -> Option<SentProfile> {
        Some(SentProfile::Here(Arc::default()))
    }

    #[test]
    fn it_ends_in_time_with_what_workers_hand_over_and_says_which_are_lost() {
        let (mut profiles, now) = (Profiles::default(), Instant::now());
        let mut hears = begun(&mut profiles, &[1, 2, 3], now);
        assert_eq!(profiles.look(now + Duration::from_secs(9)), None);
        // One ends, and is started again; it takes part again.
        profiles.ended(WorkerId(2));
        let again = profiles.started(WorkerId(2));
        assert!(again.is_some_and(|step| matches!(step.order, ProfileOrder::Begin { number: 1, .. })));
        let step = profiles.look(now + Duration::from_secs(10)).expect("the end");
        assert_eq!((step.workers.len(), step.order), (3, ProfileOrder::End { number: 1 }));
        assert_eq!(profiles.started(WorkerId(4)), None, "too late");
        profiles.handed_over(WorkerId(1), 1, part());
        profiles.handed_over(WorkerId(2), 7, part());
        profiles.handed_over(WorkerId(2), 1, part());
        assert!(hears.try_recv().is_err(), "one is waited for");
        assert_eq!(profiles.look(now + Duration::from_secs(14)), None);
        assert!(profiles.look_at().is_some());
        profiles.look(now + Duration::from_secs(15));
        let gathered = hears.try_recv().ok().and_then(Result::ok).expect("the profile");
        assert_eq!((gathered.parts.len(), gathered.duration_ms), (2, 10_000));
        assert_eq!(gathered.lost, BTreeSet::from([WorkerId(2), WorkerId(3)]));
        assert_eq!(profiles.look_at(), None);
    }

    #[test]
    fn there_is_one_at_a_time_and_it_ends_when_who_asked_leaves() {
        let (mut profiles, now) = (Profiles::default(), Instant::now());
        let hears = begun(&mut profiles, &[1], now);
        let (reply, _other) = oneshot::channel();
        let second = profiles.begin(wish(None), vec![WorkerId(1)], AppRevisions::new(), now, reply);
        let reason = second.err().map(|(reason, _)| reason).expect("refused");
        assert_eq!(reason, "a profile is being made already, for another 10 s; there is one at a time");
        drop(hears);
        let step = profiles.look(now + LOOKS).expect("the end");
        assert_eq!(step.order, ProfileOrder::End { number: 1 });
        assert_eq!(profiles.look_at(), None);
        // The next need not wait for that; workers that take no part in it hear that the one before has ended.
        drop(begun(&mut profiles, &[1, 2], now));
        let (reply, mut hears) = oneshot::channel();
        let steps = profiles.begin(wish(Some(1)), vec![WorkerId(1)], AppRevisions::new(), now, reply);
        let steps = steps.map_err(|(reason, _)| reason).expect("it begins");
        let told: Vec<_> = steps.iter().map(|step| (step.workers.len(), &step.order)).collect();
        let begin = ProfileOrder::Begin { number: 3, app: None };
        assert_eq!(told, [(2, &ProfileOrder::End { number: 2 }), (1, &begin)]);
        profiles.look(now + Duration::from_secs(10));
        profiles.handed_over(WorkerId(1), 2, part());
        assert!(hears.try_recv().is_err(), "of the one before");
        profiles.ended(WorkerId(1));
        let gathered = hears.try_recv().ok().and_then(Result::ok).expect("the profile");
        assert_eq!((gathered.parts.len(), gathered.lost.len()), (0, 1));
    }

    #[test]
    fn of_one_worker_the_others_take_no_part() {
        let (mut profiles, now) = (Profiles::default(), Instant::now());
        let (reply, _hears) = oneshot::channel();
        assert!(profiles.begin(wish(Some(2)), vec![WorkerId(2)], AppRevisions::new(), now, reply).is_ok());
        assert_eq!(profiles.started(WorkerId(1)), None);
        assert!(profiles.started(WorkerId(2)).is_some());
    }
}
