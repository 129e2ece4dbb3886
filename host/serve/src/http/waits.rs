//! What a request waits for, and for how long: for its client's body, for its guest's answer, and for more of the guest's
//! body. Whose time it is decides who is at fault.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body::Body as _;

use wasmhost_sandbox::{Fault, FaultKind};

use super::deadline::{Deadline, upload_deadline};
use super::exchange::Exchange;
use super::pace::{Late, Slow, SlowPart, who_is_late};
use super::request_body::RequestBody;
use super::upload::Flaw;
use crate::buffers::REQUEST_AHEAD_MAX;
use crate::pool::Holder;

/// How often it is looked at most whether a response is late: the time that is left shrinks while client and guest take turns.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(10);

/// Why a request is stopped before its head.
pub(super) enum Stop {
    Fault(Fault),
    /// The request's body is not valid, or too large.
    Flaw(Flaw),
    /// The request's body does not come, or comes too slowly.
    SlowClient(Slow),
}

/// What a request waits for before its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    /// For its body: it has no instance yet.
    ForClient,
    /// For its instance.
    ForGuest,
}

/// Who lets a response wait.
pub(super) enum Silence {
    OfTheGuest,
    OfTheClient,
}

impl Exchange {
    /// Reads the request's body before the request takes an instance, which would wait for the client: all of a body whose
    /// length is small and known; of one that is longer, or in chunks, what comes until there is leave to start early, since
    /// its client may wait for the response's beginning before it sends on. Of a body whose client waits for
    /// `100 Continue` nothing, while there is leave to start early; else the host asks for it in the guest's place.
    pub(super) async fn gather(self: &Rc<Self>, body: &mut RequestBody) -> Result<(), Stop> {
        if body.is_expected()
            && let Ok(permit) = Arc::clone(&self.buffers.early).try_acquire_owned()
        {
            body.gathered(Some(permit));
            return Ok(());
        }
        let mut early = pin!(Arc::clone(&self.buffers.early).acquire_owned());
        let streams = self.upload.is_in_chunks() || body.size_hint().lower() > REQUEST_AHEAD_MAX;
        let (mut armed, mut had_turn) = (None, !streams);
        let outcome = poll_fn(|context| {
            if body.poll_gather(context).is_ready() {
                return Poll::Ready(Ok(None));
            }
            if !std::mem::replace(&mut had_turn, true) {
                // What came with the headers is read in hyper's next turn.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if streams && let Poll::Ready(Ok(permit)) = early.as_mut().poll(context) {
                return Poll::Ready(Ok(Some(permit)));
            }
            self.poll_for_head(&mut armed, Waiting::ForClient, context).map(Err)
        })
        .await;
        self.link().request_alarm.set(None);
        body.gathered(outcome?);
        match self.upload.flaw() {
            Some(flaw) => Err(Stop::Flaw(flaw)),
            None => Ok(()),
        }
    }

    /// Waits for the head within its limits; reached only by a request that waits. `armed` is what the alarm is set for.
    pub(super) fn poll_for_head(
        self: &Rc<Self>,
        armed: &mut Option<Deadline>,
        waiting: Waiting,
        context: &Context<'_>,
    ) -> Poll<Stop> {
        wasmhost_base::inject::panic_at("wait");
        if self.link().in_the_way.take() {
            return Poll::Ready(Stop::SlowClient(Slow::InTheWay));
        }
        if waiting == Waiting::ForGuest && self.upload.is_awaited() {
            self.holds();
        }
        let alarm = &self.link().request_alarm;
        // The upload's deadline moves with it; the head's stands.
        let deadline = self.next_deadline();
        if *armed != Some(deadline) {
            *armed = Some(deadline);
            alarm.set(deadline.at());
        }
        if alarm.poll(context).is_pending() {
            return Poll::Pending;
        }
        match deadline {
            Deadline::OfTheGuest(_) if waiting == Waiting::ForClient => Poll::Ready(Stop::SlowClient(Slow::Late)),
            Deadline::OfTheGuest(_) => {
                let limit = self.request_timeout().unwrap_or_default();
                let detail = format!("no answer within {}", humantime::format_duration(limit));
                Poll::Ready(Stop::Fault(Fault::new(FaultKind::Wall, detail)))
            }
            Deadline::OfTheClient(_, slow) => Poll::Ready(Stop::SlowClient(slow)),
            // An alarm without a deadline does not go off.
            Deadline::None => Poll::Pending,
        }
    }

    fn request_timeout(&self) -> Option<Duration> {
        self.limits.request_timeout
    }

    /// By when the guest must have answered. The time in which the host waited for the client, or loaded the app, is not
    /// the guest's.
    pub(super) fn head_deadline(&self) -> Option<Instant> {
        self.request_timeout().map(|limit| self.began + limit + self.upload.pace().waited + self.notes.loading.get())
    }

    /// Client and guest have `--request-timeout` each: it runs for the client while its body is awaited.
    fn next_deadline(&self) -> Deadline {
        let head = if self.upload.is_awaited() {
            let left = |limit: Duration| limit.saturating_sub(self.upload.pace().waited);
            let late = |limit| Deadline::OfTheClient(self.upload.moved() + left(limit), Slow::Late);
            self.request_timeout().map_or(Deadline::None, late)
        } else {
            self.head_deadline().map_or(Deadline::None, Deadline::OfTheGuest)
        };
        head.sooner(self.upload_deadline(true))
    }

    fn rate_min(&self) -> Option<u64> {
        self.worker.config.limits.body_rate_min
    }

    fn upload_deadline(&self, has_pace: bool) -> Deadline {
        upload_deadline(&self.upload, self.limits.body_idle_timeout, self.rate_min().filter(|_| has_pace))
    }

    /// The guest gave some of its body. Its silence begins when it is asked for more and has none: the time that the
    /// client takes to read is not the guest's.
    pub(super) fn body_moved(&self) {
        if self.silence.take().is_some() {
            self.link().request_alarm.set(None);
        }
    }

    /// The guest has no more of its body for now. Ready when that has lasted for too long, or the guest waits for a client
    /// that does not send.
    pub(super) fn poll_silence(self: &Rc<Self>, context: &Context<'_>) -> Poll<Silence> {
        let alarm = &self.link().request_alarm;
        let before = self.silence.get();
        let (since, armed) = before.unwrap_or_else(|| (Instant::now(), Deadline::None));
        // A client that sends in chunks what it likes and when it likes, while it reads the response, has no pace.
        let mut deadline = self.upload_deadline(!self.upload.is_in_chunks());
        if self.upload.is_awaited() {
            self.holds();
        } else if let Some(idle) = self.limits.body_idle_timeout {
            // A guest that reads its client's body is not silent meanwhile.
            deadline = Deadline::OfTheGuest(since.max(self.upload.moved()) + idle);
        }
        if before.is_none() || armed != deadline {
            self.silence.set(Some((since, deadline)));
            alarm.set(deadline.at());
        }
        if alarm.poll(context).is_pending() {
            return Poll::Pending;
        }
        match deadline {
            Deadline::OfTheGuest(_) => Poll::Ready(Silence::OfTheGuest),
            Deadline::OfTheClient(_, slow) => {
                self.tell_slow_client(slow);
                Poll::Ready(Silence::OfTheClient)
            }
            // An alarm without a deadline does not go off.
            Deadline::None => Poll::Pending,
        }
    }

    /// Who has had the whole time of the response; nobody yet: sets the alarm for when to look again.
    pub(super) fn who_is_late(&self) -> Option<Late> {
        let limit = self.limits.response_timeout?;
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.began).saturating_sub(self.notes.loading.get());
        let reading = self.link().waited_for_reader(now);
        match who_is_late(limit, elapsed, reading, self.upload.waited(now)) {
            Ok(late) => Some(late),
            Err(left) => {
                self.link().response_alarm.set(Some(now + left.max(LOOK_AGAIN_MIN)));
                None
            }
        }
    }

    /// The response's body begins, whose whole has a time.
    pub(super) fn begin_body(&self) {
        if self.who_is_late().is_some() {
            self.link().response_alarm.set(Some(Instant::now()));
        }
    }

    pub(super) fn tell_slow_client(&self, slow: Slow) {
        let (worker, pool) = (&self.worker, &self.pool);
        worker.lines.slow(worker.id.0, (pool.id(), &pool.name()), self.link().client(), slow, SlowPart::Request);
    }

    /// As much of the response waits for the client as may, or less.
    pub(super) fn is_full(&self, is: bool) {
        self.full.set(is);
    }

    /// Whether it has an instance now.
    pub(super) fn has_instance(&self, has: bool) {
        self.has_lease.set(has);
    }

    /// The request's instance may wait for its client from now on.
    pub(super) fn holds(self: &Rc<Self>) {
        if !self.held.replace(true) {
            let holder: Rc<dyn Holder> = Rc::clone(self) as _;
            self.pool.holds(Rc::downgrade(&holder));
        }
    }
}

impl Holder for Exchange {
    fn waited(&self, now: Instant) -> Option<Duration> {
        if !self.has_lease.get() {
            return None;
        }
        let rate = self.rate_min();
        let sends = self.upload.keeps_waiting(now);
        let reads = if self.full.get() { self.link().stalled_for(now, rate) } else { None };
        sends.max(reads)
    }

    fn is_ended(&self) -> bool {
        self.link().in_the_way.get()
    }

    fn end(&self) {
        self.link().make_way();
    }
}
