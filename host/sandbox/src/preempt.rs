//! What a tick (`epoch`) does to the guest that it falls into: the guest yields to its worker's event loop, or is stopped at
//! its CPU limit, or because the host holds too much for it.

use std::sync::Arc;

use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use super::meter::{Meter, Tick};
use super::state::State;

/// Makes the guest of `store` yield at every tick and end at its CPU limit.
pub(super) fn preempt(store: &mut Store<State>, meter: Arc<Meter>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store: StoreContextMut<'_, State>| match meter.tick() {
        Tick::Early | Tick::Yield if store.data().limiter.is_overspent() => Ok(UpdateDeadline::Interrupt),
        Tick::Early => Ok(UpdateDeadline::Continue(1)),
        // tokio defers the wake of `yield_now` until it has polled its driver, so sockets come first.
        Tick::Yield => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
        Tick::Exceeded => Ok(UpdateDeadline::Interrupt),
    });
}
