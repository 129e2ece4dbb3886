//! A call that goes on after its response is whole. Its client may still send the request's body, and be slow with it.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmhost_sandbox::{Fault, FaultKind};

use super::deadline::{Deadline, upload_deadline};
use super::exchange::Exchange;
use super::pace::{Slow, SlowPart};
use super::upload::{FLAW_DETAIL, Flaw, Upload};
use crate::alarms::Alarm;
use crate::metrics::Refused;
use crate::pool::{Holder, Lease};

/// How a call ends before its own end.
enum LingerStop {
    Fault(Fault),
    SlowClient(Slow),
    /// Its client's body is not valid, or too large.
    Flaw(Flaw),
}

/// The client of such a call, which may keep its instance waiting.
struct LingerSender {
    upload: Arc<Upload>,
    alarm: Alarm,
    /// Others need the instance.
    in_the_way: Cell<bool>,
    armed: Cell<Option<Deadline>>,
    /// How long it may be silent, and how slow, in bytes a second.
    idle: Option<Duration>,
    rate: Option<u64>,
}

impl LingerSender {
    /// Ready when the call has had its time, until `end`, or its client is too slow.
    fn poll(&self, end: Option<Instant>, context: &Context<'_>) -> Poll<LingerStop> {
        if self.in_the_way.get() {
            return Poll::Ready(LingerStop::SlowClient(Slow::InTheWay));
        }
        let is_awaited = self.upload.is_awaited();
        let end = match end {
            Some(end) if is_awaited => Deadline::OfTheClient(end, Slow::Late),
            Some(end) => Deadline::OfTheGuest(end),
            None => Deadline::None,
        };
        let deadline =
            end.sooner(upload_deadline(&self.upload, self.idle, self.rate.filter(|_| !self.upload.is_in_chunks())));
        if self.armed.replace(Some(deadline)) != Some(deadline) {
            self.alarm.set(deadline.at());
        }
        if self.alarm.poll(context).is_pending() {
            return Poll::Pending;
        }
        match deadline {
            Deadline::OfTheClient(_, slow) => Poll::Ready(LingerStop::SlowClient(slow)),
            Deadline::OfTheGuest(_) => {
                Poll::Ready(LingerStop::Fault(Fault::new(FaultKind::Wall, "work went on too long after the response")))
            }
            // An alarm without a deadline does not go off.
            Deadline::None => Poll::Pending,
        }
    }
}

impl Holder for LingerSender {
    fn waited(&self, now: Instant) -> Option<Duration> {
        self.upload.keeps_waiting(now)
    }

    fn is_ended(&self) -> bool {
        self.in_the_way.get()
    }

    fn end(&self) {
        self.in_the_way.set(true);
        self.alarm.wake();
    }
}

impl Exchange {
    /// Lets a call whose response is whole go on by itself, within the CPU limit and `--request-timeout`, and the limits of
    /// a client that still sends.
    pub(super) fn linger(&self, mut lease: Lease) {
        if lease.is_idle() {
            lease.finish();
            return;
        }
        self.lingers.set(true);
        let worker = Rc::clone(&self.worker);
        let (number, peer) = (self.number, self.link().client());
        let sender = Rc::new(LingerSender {
            upload: Arc::clone(&self.upload),
            alarm: worker.alarms.alarm(),
            in_the_way: Cell::new(false),
            armed: Cell::new(None),
            idle: self.limits.body_idle_timeout,
            rate: worker.config.limits.body_rate_min,
        });
        let end = self.limits.request_timeout.map(|limit| Instant::now() + limit);
        let (tended, pool) = (Rc::clone(&worker), Rc::clone(&self.pool));
        worker.spawn(async move {
            wasmhost_base::inject::panic_at("linger");
            let worker = tended;
            let mut held = false;
            let outcome = poll_fn(|context| {
                if let Poll::Ready(fault) = lease.poll(context) {
                    return Poll::Ready(Err(LingerStop::Fault(fault)));
                }
                if lease.is_idle() {
                    return Poll::Ready(Ok(()));
                }
                // Others may be in an instance that is shared, and what is left of a call there keeps no place from them.
                if lease.is_alone() {
                    sender.upload.watch(context);
                    if let Some(flaw) = sender.upload.flaw() {
                        return Poll::Ready(Err(LingerStop::Flaw(flaw)));
                    }
                    if sender.upload.is_awaited() && !std::mem::replace(&mut held, true) {
                        let holder: Rc<dyn Holder> = Rc::clone(&sender) as _;
                        pool.holds(Rc::downgrade(&holder));
                    }
                }
                sender.poll(end, context).map(Err)
            })
            .await;
            if held {
                pool.holds_no_more(&*sender);
            }
            sender.upload.let_go(lease.is_alone());
            match outcome {
                Ok(()) => lease.finish(),
                Err(LingerStop::Fault(fault)) => lease.fail(number, &fault),
                // The response was whole, and the guest did nothing wrong.
                Err(LingerStop::Flaw(flaw)) => {
                    drop(lease);
                    pool.metrics.faulted(flaw.fault());
                    tracing::debug!(
                        worker = worker.id.0,
                        app = &*pool.name(),
                        request = number,
                        fault = flaw.fault().name(),
                        detail = FLAW_DETAIL,
                        "a call that went on after its response was cancelled"
                    );
                }
                Err(LingerStop::SlowClient(slow)) => {
                    drop(lease);
                    worker.lines.slow(worker.id.0, (pool.id(), &pool.name()), peer, slow, SlowPart::Request);
                    pool.metrics.refused(Refused::SlowClient);
                }
            }
        });
    }
}
