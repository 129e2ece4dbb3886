//! The future that a store lives in, the *driver*. It takes calls from a [`Desk`], runs them, and waits for the next; it ends
//! only with a fault. It contains no time limits: while a guest holds the store, nothing else in the driver runs. To stop a
//! call, the driver is dropped, and the store with it.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use futures_util::stream::{FuturesUnordered, Stream};
use wasmtime::component::Accessor;
use wasmtime_wasi_http::handler::Proxy;
use wasmtime_wasi_http::p2;

use super::call::{Desk, Job, serve, serve_plain};
use super::state::{GuestStore, State};

pub(super) type Driver = Pin<Box<dyn Future<Output = wasmtime::Result<()>>>>;

/// How an instance takes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// One at a time, of a component of wasi 0.2 that uses no concurrency.
    Plain,
    /// One at a time.
    One,
    /// So many at once.
    Many(usize),
}

/// Makes the driver of an instance that takes its calls from `desk`.
pub(super) fn driver(store: GuestStore, proxy: Proxy, calls: Calls, desk: Rc<Desk>) -> Driver {
    match (calls, proxy) {
        (Calls::Plain, Proxy::P2(guest)) => Box::pin(drive_plain(store, guest, desk)),
        (Calls::Plain | Calls::One, proxy) => Box::pin(drive_one(store, proxy, desk)),
        (Calls::Many(_), proxy) => Box::pin(drive_many(store, proxy, desk)),
    }
}

/// The driver of an instance without concurrency.
async fn drive_plain(mut store: GuestStore, guest: p2::bindings::Proxy, desk: Rc<Desk>) -> wasmtime::Result<()> {
    while let Some(store) = store.get() {
        let job = next_job(&desk).await;
        serve_plain(store, &guest, job).await?;
        store.data_mut().end_call(0);
        store.data_mut().rest();
        desk.end();
    }
    Ok(())
}

// No waker: whoever puts a job in polls the driver next.
async fn next_job(desk: &Desk) -> Job {
    poll_fn(|_| desk.jobs.borrow_mut().pop_front().map_or(Poll::Pending, Poll::Ready)).await
}

/// The driver of an instance that may leave work running when a call has ended.
async fn drive_one(mut store: GuestStore, proxy: Proxy, desk: Rc<Desk>) -> wasmtime::Result<()> {
    let run = async |accessor: &Accessor<State>| -> wasmtime::Result<()> {
        loop {
            let job = next_job(&desk).await;
            serve(accessor, &proxy, job).await?;
            poll_fn(|context| accessor.poll_no_interesting_tasks(context)).await;
            accessor.with(|mut access| {
                access.data_mut().end_call(0);
                access.data_mut().rest();
            });
            desk.end();
        }
    };
    let Some(store) = store.get() else { return Ok(()) };
    store.run_concurrent(run).await?
}

/// The driver of an instance with several calls at once.
async fn drive_many(mut store: GuestStore, proxy: Proxy, desk: Rc<Desk>) -> wasmtime::Result<()> {
    let run = async |accessor: &Accessor<State>| -> wasmtime::Result<()> {
        let mut calls = pin!(FuturesUnordered::new());
        poll_fn(|context| {
            loop {
                while let Some(job) = { desk.jobs.borrow_mut().pop_front() } {
                    calls.push(serve(accessor, &proxy, job));
                }
                match calls.as_mut().poll_next(context) {
                    Poll::Ready(Some(Ok(()))) => {
                        desk.end();
                        accessor.with(|mut access| access.data_mut().end_call(desk.active.get()));
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) | Poll::Pending => {
                        let no_work = calls.is_empty() && accessor.poll_no_interesting_tasks(context).is_ready();
                        if !desk.quiet.replace(no_work) && no_work {
                            accessor.with(|mut access| access.data_mut().rest());
                        }
                        *desk.driver.borrow_mut() = Some(context.waker().clone());
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    };
    let Some(store) = store.get() else { return Ok(()) };
    store.run_concurrent(run).await?
}
