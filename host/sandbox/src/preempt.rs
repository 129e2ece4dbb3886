//! What a tick (`epoch`) does to the guest that it falls into: the guest yields to its worker's event loop, or is stopped at
//! its CPU limit, or because the host holds too much for it. Before that it is seen where the guest is, if somebody wants to know.

use std::sync::Arc;

use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use super::epoch::Ticker;
use super::meter::{Meter, Tick};
use super::profile::Profiler;
use super::state::State;

/// Makes the guest of `store` yield at every tick and end at its CPU limit.
pub(super) fn preempt(store: &mut Store<State>, meter: Arc<Meter>, profiler: Arc<Profiler>, ticker: Arc<Ticker>) {
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(move |store: StoreContextMut<'_, State>| {
        let ticked = meter.tick();
        if profiler.is_on() {
            profiler.sample(&store, meter.app(), &ticked, ticker.period_ns());
        }
        match ticked.tick {
            Tick::Early | Tick::Yield if store.data().limiter.is_overspent() => Ok(UpdateDeadline::Interrupt),
            Tick::Early => Ok(UpdateDeadline::Continue(1)),
            // tokio defers the wake of `yield_now` until it has polled its driver, so sockets come first.
            Tick::Yield => Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now()))),
            Tick::Exceeded => Ok(UpdateDeadline::Interrupt),
        }
    });
}
