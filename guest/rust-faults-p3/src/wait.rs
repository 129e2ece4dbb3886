//! Waiting on the monotonic clock, which lets other requests of this instance go on.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use verbs::FOR_EVER_NS;
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::ErrorCode;
use wasip3::wit_future;

pub async fn time(time: Duration) {
    nanoseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)).await;
}

pub async fn nanoseconds(time: u64) {
    wait_for(time).await;
}

pub async fn for_ever() -> ! {
    loop {
        nanoseconds(FOR_EVER_NS).await;
    }
}

/// Waits for a future that nobody ever resolves: not even a clock will wake this task.
pub async fn for_nothing() -> ! {
    let (_writer, never) = wit_future::new::<Result<(), ErrorCode>>(|| Ok(()));
    never.await.ok();
    unreachable!("nobody writes it")
}

/// Runs all at once, to the end of the last; the outcomes in the order of the ends.
pub async fn all<T: 'static>(tasks: impl Iterator<Item = impl Future<Output = T> + 'static>) -> Vec<T> {
    let outcomes = Rc::new(RefCell::new(Vec::new()));
    // Of the type that `spawn_local` has in use already, to keep the guest small.
    let boxed = tasks.map(|task| -> Pin<Box<dyn Future<Output = ()>>> {
        let outcomes = Rc::clone(&outcomes);
        Box::pin(async move {
            let outcome = task.await;
            outcomes.borrow_mut().push(outcome);
        })
    });
    let mut running: FuturesUnordered<_> = boxed.collect();
    while running.next().await.is_some() {}
    drop(running);
    outcomes.take()
}
