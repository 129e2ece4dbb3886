//! One call of a guest: what it is asked to do, how that enters an instance, how it runs there, and where its answer is stored.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};

use wasmtime::component::{Accessor, Resource};
use wasmtime::{AsContextMut, Store, StoreContextMut};
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{WasiBody, WasiHttpView, p2, p3};

use super::meter::CallChain;
use super::state::State;

/// What an instance is asked to do.
pub enum Call {
    /// To answer a request. The URI has scheme and authority.
    Http(http::Request<WasiBody>),
}

impl Call {
    /// The requests that led to it, where another app makes it.
    pub(super) fn take_chain(&mut self) -> Option<Arc<CallChain>> {
        let Self::Http(request) = self;
        request.extensions_mut().remove()
    }
}

/// What a guest answered.
pub enum Head {
    /// A response, whose body follows.
    Response(http::Response<WasiBody>),
    /// An error code in the place of a response.
    Error(String),
}

/// Where a call's answer is left: by the driver (or a host function within it), for the one who waits for it.
#[derive(Default)]
pub(super) struct Answer(Mutex<AnswerState>);

#[derive(Default)]
struct AnswerState {
    head: Option<Head>,
    given: bool,
    waker: Option<Waker>,
}

impl Answer {
    pub(super) fn give(&self, head: Head) {
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

    pub(super) fn wake(&self) {
        let waker = self.0.lock().unwrap_or_else(PoisonError::into_inner).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn was_given(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).given
    }

    pub(super) fn take(&self) -> Option<Head> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).head.take()
    }

    pub(super) fn wake_on_change(&self, context: &Context<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waker = Some(context.waker().clone());
    }
}

pub(super) struct Job {
    pub(super) call: Call,
    pub(super) answer: Arc<Answer>,
}

/// Calls on their way into an instance. Used on the worker's thread only: by the driver, which takes, and by the
/// instance's holder, who puts in.
#[derive(Default)]
pub(super) struct Desk {
    pub(super) jobs: RefCell<VecDeque<Job>>,
    /// Calls taken and not yet answered.
    pub(super) active: Cell<usize>,
    /// Nothing is left running, of calls that were answered either. Kept where an instance is shared.
    pub(super) quiet: Cell<bool>,
    /// The driver, when it waits for a job in a task of its own.
    pub(super) driver: RefCell<Option<Waker>>,
}

impl Desk {
    pub(super) fn put(&self, job: Job) {
        self.active.set(self.active.get() + 1);
        self.quiet.set(false);
        self.jobs.borrow_mut().push_back(job);
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
    }

    pub(super) fn end(&self) {
        self.active.set(self.active.get().saturating_sub(1));
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the guest returned without an answer")]
pub(super) struct NeverAnswered;

/// What became of sending a request's body in, for the guest that asks.
type CallTransfer = Pin<Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>>;

/// Puts a request, and the place for its answer, into a store, for a guest of wasi 0.2.
fn arguments_p2(
    mut store: StoreContextMut<'_, State>,
    request: http::Request<WasiBody>,
    answer: &Arc<Answer>,
) -> wasmtime::Result<(Resource<HostIncomingRequest>, Resource<HostResponseOutparam>)> {
    store.set_epoch_deadline(1);
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let state = store.data_mut();
    state.hooks.outgoing.begin_call(request.headers(), request.extensions());
    state.hooks.receiving = true;
    let incoming = state.http().new_incoming_request(scheme, request);
    state.hooks.receiving = false;
    let sink = Arc::clone(answer);
    let out = state.http().new_response_outparam_from_callback(move |response| {
        sink.give(match response {
            Ok(response) => Head::Response(response),
            Err(code) => Head::Error(format!("{code:?}")),
        });
    })?;
    Ok((incoming?, out))
}

/// Runs one call to its end, in a store without concurrency.
pub(super) async fn serve_plain(
    store: &mut Store<State>,
    guest: &p2::bindings::Proxy,
    job: Job,
) -> wasmtime::Result<()> {
    let Job { call, answer } = job;
    match call {
        Call::Http(request) => {
            let handle = guest.wasi_http_incoming_handler().func_handle();
            let arguments = arguments_p2(store.as_context_mut(), request, &answer)?;
            handle.call_async(store, arguments).await?;
        }
    }
    if answer.was_given() { Ok(()) } else { Err(NeverAnswered.into()) }
}

/// Runs one call up to its answer.
pub(super) async fn serve(accessor: &Accessor<State>, proxy: &Proxy, job: Job) -> wasmtime::Result<()> {
    let Job { call, answer } = job;
    match call {
        Call::Http(request) => serve_http(accessor, proxy, request, &answer).await?,
    }
    if answer.was_given() { Ok(()) } else { Err(NeverAnswered.into()) }
}

/// Has a guest of either version answer a request.
async fn serve_http(
    accessor: &Accessor<State>,
    proxy: &Proxy,
    request: http::Request<WasiBody>,
    answer: &Arc<Answer>,
) -> wasmtime::Result<()> {
    match proxy {
        Proxy::P2(guest) => {
            let handle = guest.wasi_http_incoming_handler().func_handle();
            let call = accessor.with(|mut access| {
                let arguments = arguments_p2(access.as_context_mut(), request, answer)?;
                handle.start_call_concurrent(access.as_context_mut(), arguments)
            })?;
            handle.finish_call_concurrent(accessor, call).await?;
        }
        Proxy::P3(guest) => {
            let handle = guest.wasi_http_handler().func_handle();
            let (call, transfer) = accessor.with(|mut access| {
                let mut store = access.as_context_mut();
                store.set_epoch_deadline(1);
                let state = store.data_mut();
                state.hooks.outgoing.begin_call(request.headers(), request.extensions());
                state.hooks.receiving = true;
                let (incoming, transfer) = p3::Request::from_http(&mut state.hooks, request);
                // Boxed so that its type does not hold the borrow of the hooks.
                let transfer: CallTransfer = Box::pin(transfer);
                state.hooks.receiving = false;
                let incoming = state.http().table.push(incoming)?;
                let call = handle.start_call_concurrent(store, (incoming,))?;
                wasmtime::error::Ok((call, transfer))
            })?;
            let (outcome,) = handle.finish_call_concurrent(accessor, call).await?;
            let head = match outcome {
                Ok(response) => accessor.with(|mut access| {
                    let number = response.rep();
                    let response = access.data_mut().http().table.delete(response)?;
                    let response = response.into_http(access.as_context_mut(), transfer)?;
                    access.data_mut().last_made.returned(number);
                    wasmtime::error::Ok(Head::Response(response))
                })?,
                Err(code) => Head::Error(format!("{code:?}")),
            };
            answer.give(head);
        }
    }
    Ok(())
}
