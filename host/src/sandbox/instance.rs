//! A running guest: one store and one instantiation, driven by whoever polls it.
//!
//! The store lives in a future, the *driver*, which takes calls from a [`Desk`], runs them, and goes back to wait; it
//! ends only with a fault. An [`Instance`] owns its driver, so that the connection that has the instance polls guest
//! code in its own task; of a [`Shared`] instance (wasi 0.3, several calls at once) the driver is a task of its own.
//! Time-outs are never inside the driver: while a guest holds the store, nothing in it runs. To stop a call is to drop
//! the driver, and the store with it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, Stream};
use wasmtime::component::Accessor;
use wasmtime::{AsContextMut, Store};
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types as p2_types;
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p3};

use super::epoch::{Pulse, Ticker};
use super::fault::{Fault, FaultKind};
use super::limits::Meter;
use super::state::State;

/// What a guest answered.
pub enum Head {
    /// A response, whose body follows.
    Response(http::Response<WasiBody>),
    /// An error code in the place of a response.
    Error(String),
}

/// Where a call's answer is left: by the driver (or a host function within it), for the one who waits for it.
#[derive(Default)]
struct Answer(Mutex<AnswerState>);

#[derive(Default)]
struct AnswerState {
    head: Option<Head>,
    given: bool,
    waker: Option<Waker>,
}

impl Answer {
    fn give(&self, head: Head) {
        let waker = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.head = Some(head);
            state.given = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn was_given(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).given
    }

    fn take(&self) -> Option<Head> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).head.take()
    }

    fn wake_on_change(&self, context: &Context<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(context.waker().clone());
    }
}

struct Job {
    request: http::Request<WasiBody>,
    answer: Arc<Answer>,
}

/// Calls on their way into an instance. Used on the worker's thread only: by the driver, which takes, and by the
/// instance's holder, who puts in.
#[derive(Default)]
struct Desk {
    jobs: RefCell<VecDeque<Job>>,
    /// Calls taken and not yet ended.
    active: Cell<usize>,
    /// The driver, when it waits for a job in a task of its own.
    driver: RefCell<Option<Waker>>,
}

impl Desk {
    fn put(&self, job: Job) {
        self.active.set(self.active.get() + 1);
        self.jobs.borrow_mut().push_back(job);
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    fn end(&self) {
        self.active.set(self.active.get().saturating_sub(1));
    }
}

type Driver = Pin<Box<dyn Future<Output = wasmtime::Result<()>>>>;

/// An instance that serves one call at a time, polled by its holder.
pub struct Instance {
    driver: Driver,
    desk: Rc<Desk>,
    answer: Option<Arc<Answer>>,
    meter: Arc<Meter>,
    pulse: Arc<Pulse>,
    ticker: Arc<Ticker>,
    computing: bool,
    served: u64,
}

impl Instance {
    pub(super) fn new(
        store: Store<State>,
        proxy: Proxy,
        meter: Arc<Meter>,
        (pulse, ticker): (&Arc<Pulse>, &Arc<Ticker>),
        calls: usize,
    ) -> Self {
        let desk = Rc::new(Desk::default());
        let driver: Driver = if calls > 1 {
            Box::pin(drive_many(store, proxy, Rc::clone(&desk)))
        } else {
            Box::pin(drive_one(store, proxy, Rc::clone(&desk)))
        };
        Self {
            driver,
            desk,
            answer: None,
            meter,
            pulse: Arc::clone(pulse),
            ticker: Arc::clone(ticker),
            computing: false,
            served: 0,
        }
    }

    /// Begins a call, on an idle instance; `request_number` stands in the log lines that it causes. The URI has scheme
    /// and authority. Nothing runs before the next poll.
    pub fn begin(&mut self, request: http::Request<WasiBody>, request_number: u64) {
        let answer = Arc::new(Answer::default());
        self.meter.begin_call(request_number);
        self.served += 1;
        self.desk.put(Job { request, answer: Arc::clone(&answer) });
        self.answer = Some(answer);
    }

    /// Runs the guest until it waits. Ready when the instance is at its end, and may not be polled again.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        self.meter.begin_poll();
        let driver = self.driver.as_mut();
        let polled = self.ticker.during(&self.pulse, || driver.poll(context));
        self.meter.end_poll();
        let computing = polled.is_pending() && self.meter.is_computing();
        if computing != self.computing {
            self.computing = computing;
            self.pulse.set_computing(computing);
        }
        polled.map(|outcome| fault_of(outcome, &self.meter))
    }

    /// The answer of the current call, once.
    pub fn take_head(&self) -> Option<Head> {
        self.answer.as_ref().and_then(|answer| answer.take())
    }

    /// Whether the call has ended and all that it left running.
    pub fn is_idle(&self) -> bool {
        self.desk.active.get() == 0
    }

    /// Whether growth of its memory was refused, so that it has to go after this call.
    pub fn met_memory_limit(&self) -> bool {
        self.meter.refused().is_some()
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

impl Drop for Instance {
    fn drop(&mut self) {
        if self.computing {
            self.pulse.set_computing(false);
        }
    }
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

/// An instance that serves several calls at once; its driver is a task.
pub struct Shared {
    desk: Rc<Desk>,
    ended: Rc<Ended>,
    capacity: usize,
    held: Cell<usize>,
    served: Cell<u64>,
    meter: Arc<Meter>,
}

#[derive(Default)]
struct Ended {
    fault: RefCell<Option<Fault>>,
    /// Answers of the calls that are held, to wake those who wait for them.
    waiting: RefCell<Vec<Arc<Answer>>>,
    stop: RefCell<Option<Fault>>,
    driver: RefCell<Option<Waker>>,
}

/// One call in a shared instance.
pub struct SharedCall {
    shared: Rc<Shared>,
    answer: Arc<Answer>,
}

impl Shared {
    /// Gives the instance a task of its own, which must be spawned on this thread.
    pub fn new(mut instance: Instance, capacity: usize) -> (Rc<Self>, impl Future<Output = Fault> + 'static) {
        let ended = Rc::new(Ended::default());
        let shared = Rc::new(Self {
            desk: Rc::clone(&instance.desk),
            ended: Rc::clone(&ended),
            capacity,
            held: Cell::new(0),
            served: Cell::new(0),
            meter: Arc::clone(&instance.meter),
        });
        let task = async move {
            let fault = poll_fn(|context| {
                if let Some(fault) = ended.stop.borrow_mut().take() {
                    return Poll::Ready(fault);
                }
                *ended.driver.borrow_mut() = Some(context.waker().clone());
                instance.poll(context)
            })
            .await;
            // Set before the store is dropped, whose bodies would else end as if they were whole.
            *ended.fault.borrow_mut() = Some(fault.clone());
            drop(instance);
            for answer in ended.waiting.borrow_mut().drain(..) {
                answer.wake();
            }
            fault
        };
        (shared, task)
    }

    /// Whether one more call has room.
    pub fn has_room(&self) -> bool {
        // Calls whose client has left run on, and take their place still.
        let taken = self.held.get().max(self.desk.active.get());
        taken < self.capacity && self.ended.fault.borrow().is_none()
    }

    /// Calls begun so far.
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// Whether growth of its memory was refused.
    pub fn met_memory_limit(&self) -> bool {
        self.meter.refused().is_some()
    }

    /// Whether no call is held.
    pub fn is_idle(&self) -> bool {
        self.held.get() == 0
    }

    /// Ends the instance, with all calls in it.
    pub fn stop(&self, fault: Fault) {
        *self.ended.stop.borrow_mut() = Some(fault);
        if let Some(driver) = self.ended.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    /// Begins a call.
    pub fn begin(self: &Rc<Self>, request: http::Request<WasiBody>, request_number: u64) -> SharedCall {
        // A limit on one request's time must not add up over all; one that computes is not let off by the next.
        if !self.meter.is_computing() {
            self.meter.begin_call(request_number);
        }
        self.held.set(self.held.get() + 1);
        self.served.set(self.served.get() + 1);
        let answer = Arc::new(Answer::default());
        self.desk.put(Job { request, answer: Arc::clone(&answer) });
        self.ended.waiting.borrow_mut().push(Arc::clone(&answer));
        SharedCall { shared: Rc::clone(self), answer }
    }
}

impl SharedCall {
    /// Ready when the instance is at its end.
    pub fn poll(&self, context: &Context<'_>) -> Poll<Fault> {
        if let Some(fault) = &*self.shared.ended.fault.borrow() {
            return Poll::Ready(fault.clone());
        }
        self.answer.wake_on_change(context);
        Poll::Pending
    }

    /// The answer, once.
    pub fn take_head(&self) -> Option<Head> {
        self.answer.take()
    }

    /// Whether the answer has been given; what else the call does is the instance's own.
    pub fn is_idle(&self) -> bool {
        self.answer.was_given()
    }

    /// The instance that the call is in.
    pub fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }
}

impl Drop for SharedCall {
    fn drop(&mut self) {
        self.shared.held.set(self.shared.held.get().saturating_sub(1));
        self.shared.ended.waiting.borrow_mut().retain(|answer| !Arc::ptr_eq(answer, &self.answer));
    }
}

/// Polls `future` as guest code: counted by `meter`, shown by `pulse`.
pub(super) async fn metered<F: Future>(future: F, meter: &Meter, pulse: &Pulse, ticker: &Ticker) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        meter.begin_poll();
        let polled = ticker.during(pulse, || future.as_mut().poll(context));
        meter.end_poll();
        polled
    })
    .await
}

#[derive(Debug, thiserror::Error)]
#[error("the guest returned without an answer")]
struct NeverAnswered;

async fn drive_one(mut store: Store<State>, proxy: Proxy, desk: Rc<Desk>) -> wasmtime::Result<()> {
    let run = async |accessor: &Accessor<State>| -> wasmtime::Result<()> {
        loop {
            // No waker: whoever puts a job in polls the driver next.
            let job = poll_fn(|_| desk.jobs.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)).await;
            serve(accessor, &proxy, job).await?;
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            desk.end();
        }
    };
    store.run_concurrent(run).await?
}

async fn drive_many(mut store: Store<State>, proxy: Proxy, desk: Rc<Desk>) -> wasmtime::Result<()> {
    let run = async |accessor: &Accessor<State>| -> wasmtime::Result<()> {
        let mut calls = pin!(FuturesUnordered::new());
        poll_fn(|context| {
            loop {
                while let Some(job) = { desk.jobs.borrow_mut().pop_front() } {
                    calls.push(serve(accessor, &proxy, job));
                }
                match calls.as_mut().poll_next(context) {
                    Poll::Ready(Some(Ok(()))) => desk.end(),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) | Poll::Pending => {
                        *desk.driver.borrow_mut() = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    };
    store.run_concurrent(run).await?
}

/// What became of sending a request's body in, for the guest that asks.
type Transfer = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

/// Runs one call up to its answer.
async fn serve(accessor: &Accessor<State>, proxy: &Proxy, job: Job) -> wasmtime::Result<()> {
    let Job { request, answer } = job;
    match proxy {
        Proxy::P2(guest) => {
            let handle = guest.wasi_http_incoming_handler().func_handle();
            let call = accessor.with(|mut access| {
                let mut store = access.as_context_mut();
                store.set_epoch_deadline(1);
                let scheme = match request.uri().scheme_str() {
                    Some("https") => p2_types::Scheme::Https,
                    _ => p2_types::Scheme::Http,
                };
                let state = store.data_mut();
                state.hooks.receiving = true;
                let incoming = state.http().new_incoming_request(scheme, request);
                state.hooks.receiving = false;
                let sink = Arc::clone(&answer);
                let out = state.http().new_response_outparam_from_callback(move |response| {
                    sink.give(match response {
                        Ok(response) => Head::Response(response),
                        Err(code) => Head::Error(format!("{code:?}")),
                    });
                })?;
                handle.start_call_concurrent(store, (incoming?, out))
            })?;
            handle.finish_call_concurrent(accessor, call).await?;
        }
        Proxy::P3(guest) => {
            let handle = guest.wasi_http_handler().func_handle();
            let (call, transfer) = accessor.with(|mut access| {
                let mut store = access.as_context_mut();
                store.set_epoch_deadline(1);
                let state = store.data_mut();
                state.hooks.receiving = true;
                let (incoming, transfer) = p3::Request::from_http(&mut state.hooks, request);
                // Boxed so that its type does not hold the borrow of the hooks.
                let transfer: Transfer = Box::pin(transfer);
                state.hooks.receiving = false;
                let incoming = state.http().table.push(incoming)?;
                let call = handle.start_call_concurrent(store, (incoming,))?;
                wasmtime::error::Ok((call, transfer))
            })?;
            let (outcome,) = handle.finish_call_concurrent(accessor, call).await?;
            let head = match outcome {
                Ok(response) => accessor.with(|mut access| {
                    let response = access.data_mut().http().table.delete(response)?;
                    response.into_http(access.as_context_mut(), transfer).map(Head::Response)
                })?,
                Err(code) => Head::Error(format!("{code:?}")),
            };
            answer.give(head);
        }
    }
    if answer.was_given() { Ok(()) } else { Err(NeverAnswered.into()) }
}
