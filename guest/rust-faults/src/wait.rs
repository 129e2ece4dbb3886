//! Waiting on the monotonic clock, which lets the host do something else.

use std::time::Duration;

use verbs::FOR_EVER_NS;
use wasip2::clocks::monotonic_clock::subscribe_duration;

pub fn time(time: Duration) {
    nanoseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

pub fn nanoseconds(time: u64) {
    subscribe_duration(time).block();
}

pub fn for_ever() -> ! {
    loop {
        nanoseconds(FOR_EVER_NS);
    }
}
