//! Waiting on the monotonic clock, which lets other requests of this instance go on.

use std::time::Duration;

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
