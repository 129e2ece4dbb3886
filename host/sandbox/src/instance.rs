//! A running guest: one store and one instantiation. An [`Instance`] owns its `driver`, so the connection that has the
//! instance polls guest code in its own task. A shared instance (`shared`) is polled in a separate task.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use wasmtime_wasi_http::handler::Proxy;

use wasmhost_base::panics::LeakedByPanic;

use super::call::{Answer, Call, Desk, Head, Job, NeverAnswered};
use super::cpu::CpuUser;
use super::driver::{Calls, Driver, driver};
use super::epoch::{Pulse, Ticker};
use super::fault::{Fault, FaultKind};
use super::meter::Meter;
use super::record::{CallRecord, Recorded};
use super::state::GuestStore;
use super::waking::Waking;

/// Polls in a row that a driver gets which woke itself; then other tasks have their turn. A call of wasi 0.3 takes two:
/// its answer, and the task that writes the body.
const TURNS_MAX: usize = 4;

/// An instance that serves one call at a time, polled by its holder.
pub struct Instance {
    driver: LeakedByPanic<Driver>,
    waking: Waking,
    /// Nothing runs in it between calls.
    rests: bool,
    desk: Rc<Desk>,
    answer: Option<Arc<Answer>>,
    meter: Arc<Meter>,
    cpu: CpuUser,
    pulse: Arc<Pulse>,
    ticker: Arc<Ticker>,
    /// The runtime that is entered while it runs; none: the worker's.
    files: Option<Handle>,
    computing: bool,
    served: u64,
}

impl Instance {
    pub(super) fn new(
        store: GuestStore,
        proxy: Proxy,
        (meter, cpu): (Arc<Meter>, CpuUser),
        (pulse, ticker): (&Arc<Pulse>, &Arc<Ticker>),
        calls: Calls,
        files: Option<Handle>,
    ) -> Self {
        let desk = Rc::new(Desk::default());
        Self {
            driver: LeakedByPanic::new(driver(store, proxy, calls, Rc::clone(&desk))),
            waking: Waking::default(),
            rests: !matches!(calls, Calls::Many(_)),
            desk,
            answer: None,
            meter,
            cpu,
            pulse: Arc::clone(pulse),
            ticker: Arc::clone(ticker),
            files,
            computing: false,
            served: 0,
        }
    }

    /// Begins a call, on an idle instance; `request_number` stands in the log lines that it causes. Nothing runs before the
    /// next poll.
    pub fn begin(&mut self, mut call: Call, request_number: u64) {
        let answer = renewed(self.answer.take());
        self.meter.begin_call(request_number);
        self.meter.is_led_to_by(call.take_chain(), false);
        if let Some(record) = self.meter.record() {
            let Call::Http(request) = &call;
            record.begins(request_number, request, false);
        }
        self.served += 1;
        self.desk.put(Job { call, answer: Arc::clone(&answer) });
        self.answer = Some(answer);
    }

    /// Runs the guest until it waits, if it may run now. Ready when the instance is at its end, and may not be polled again.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        let polled = self.turns(context);
        self.show_computing(polled.is_pending() && self.meter.is_computing());
        polled.map(|outcome| fault_of(outcome, &self.meter))
    }

    /// Its holder does not poll it for now, because its client is slow: until the next poll it computes nothing, so the
    /// balancer need not spare its worker.
    pub fn pause(&mut self) {
        self.cpu.leave();
        self.show_computing(false);
    }

    fn show_computing(&mut self, computing: bool) {
        if computing != self.computing {
            self.computing = computing;
            self.pulse.set_computing(computing);
        }
    }

    /// Polls the driver for as long as it goes on at once.
    fn turns(&mut self, context: &mut Context<'_>) -> Poll<wasmtime::Result<()>> {
        wasmhost_base::inject::panic_at("call");
        let Self { driver, waking, rests, desk, meter, cpu, pulse, ticker, files, .. } = self;
        let Some(driver) = driver.get() else { return Poll::Pending };
        let is_idle = || desk.active.get() == 0;
        cpu.run(context, meter, |context| {
            let _entered = files.as_ref().map(Handle::enter);
            for _ in 0..TURNS_MAX {
                // Outside tokio's budget for a turn, which is 128 timers and sockets: to a guest that polls more of them than
                // that, those beyond would never seem ready. The ticks bound a guest's turn.
                let mut driver = pin!(tokio::task::unconstrained(&mut *driver));
                let (polled, woken) = waking
                    .poll(context, |context| metered_poll(meter, ticker, pulse, || driver.as_mut().poll(context)));
                if polled.is_ready() {
                    return polled;
                }
                if *rests && is_idle() {
                    waking.rest();
                    return polled;
                }
                // One that computes waits for its next turn (`cpu`).
                if !woken || meter.is_computing() {
                    return polled;
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// What a shared instance and its callers have in common.
    pub(super) fn desk_and_meter(&self) -> (Rc<Desk>, Arc<Meter>) {
        (Rc::clone(&self.desk), Arc::clone(&self.meter))
    }

    /// What is known of its calls when it faults: of the present one, or the last; none: nothing was to be recorded. It can be
    /// asked for when the instance is gone, which may still have something to say until then.
    pub fn record(&self) -> Option<InstanceRecord> {
        InstanceRecord::new(&self.meter, self.served)
    }

    /// It rests: what is known of its last call is let go.
    pub fn rests(&self) {
        self.meter.record().into_iter().for_each(CallRecord::rests);
    }

    /// The answer of the current call, once.
    pub fn take_head(&self) -> Option<Head> {
        self.answer.as_ref().and_then(|answer| answer.take())
    }

    /// Whether the call has ended and all that it left running.
    pub fn is_idle(&self) -> bool {
        self.desk.active.get() == 0
    }

    /// The limit that it met, or is about to meet after many calls: it has to go after this one.
    pub fn limit_met(&self) -> Option<&'static str> {
        self.meter.wants_to_retire(self.served)
    }

    /// Calls that it has begun.
    pub fn served(&self) -> u64 {
        self.served
    }

    /// CPU time of the current call so far.
    pub fn cpu(&self) -> Duration {
        self.meter.cpu()
    }
}

/// The record of an instance, which outlives it.
pub struct InstanceRecord(Arc<Meter>, u64);

impl InstanceRecord {
    pub(super) fn new(meter: &Arc<Meter>, served: u64) -> Option<Self> {
        meter.record().map(|_| Self(Arc::clone(meter), served))
    }

    /// What is known.
    pub fn recorded(&self) -> Recorded {
        self.0.record().map(CallRecord::recorded).unwrap_or_default()
    }

    /// Calls that the instance had begun, with the present one.
    pub fn served(&self) -> u64 {
        self.1
    }

    /// CPU time of its current call.
    pub fn cpu(&self) -> Duration {
        self.0.cpu()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.meter.is_led_to_by(None, false);
        self.show_computing(false);
    }
}

/// The place of the last call's answer for the next one, unless somebody still has it.
fn renewed(answer: Option<Arc<Answer>>) -> Arc<Answer> {
    let mut answer = answer.unwrap_or_default();
    match Arc::get_mut(&mut answer) {
        Some(old) => *old = Answer::default(),
        None => answer = Arc::default(),
    }
    answer
}

fn fault_of(outcome: wasmtime::Result<()>, meter: &Meter) -> Fault {
    match outcome {
        Ok(()) => Fault::new(FaultKind::Host, "the driver of an instance ended"),
        Err(error) if error.downcast_ref::<NeverAnswered>().is_some() => {
            Fault::new(FaultKind::NeverAnswered, error.to_string())
        }
        Err(error) => Fault::from_error(&error, meter),
    }
}

/// Polls `future` as guest code: counted by `meter`, shown by `pulse`, and when it may have the CPU.
pub(super) async fn metered<F: Future>(
    future: F,
    (meter, cpu): (&Meter, &mut CpuUser),
    pulse: &Pulse,
    ticker: &Ticker,
) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        cpu.run(context, meter, |context| metered_poll(meter, ticker, pulse, || future.as_mut().poll(context)))
    })
    .await
}

fn metered_poll<T>(meter: &Meter, ticker: &Ticker, pulse: &Pulse, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
    let now = Instant::now();
    meter.begin_poll(now);
    let polled = ticker.during(pulse, now, poll);
    meter.end_poll();
    polled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_an_answer_is_used_again_empty_and_only_if_nobody_has_it() {
        let first = renewed(None);
        let place = Arc::as_ptr(&first);
        first.give(Head::Error("of the last call".to_owned()));
        let again = renewed(Some(first));
        assert!(std::ptr::eq(place, Arc::as_ptr(&again)));
        assert!(!again.was_given() && again.take().is_none());
        let kept = Arc::clone(&again);
        let other = renewed(Some(again));
        assert!(!Arc::ptr_eq(&kept, &other));
    }
}
