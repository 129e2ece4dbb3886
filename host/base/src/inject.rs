//! Bugs of the host and shortages of the machine on demand of a test, at named points. Built with the feature
//! `fault-injection` only; without it, nothing here does anything.
//!
//! A point is armed for the present thread by a header (`X-Wasmhost-Inject: POINT`) of a request to the worker or to the
//! admin page, and goes off at the next pass: each worker and the primary run in one thread each, of either kind.

/// Header whose value names the point.
#[cfg(feature = "fault-injection")]
const HEADER: &str = "x-wasmhost-inject";

/// The point at which the thread of all guests' clock panics; it has no requests to arm it by.
#[cfg(feature = "fault-injection")]
const TICKER: &str = "ticker";

#[cfg(feature = "fault-injection")]
thread_local! {
    static ARMED: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

#[cfg(feature = "fault-injection")]
static TICKER_ARMED: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// Arms what a request's head asks for.
#[cfg(feature = "fault-injection")]
pub fn arm(headers: &http::HeaderMap) {
    if let Some(point) = headers.get(HEADER).and_then(|point| point.to_str().ok()) {
        TICKER_ARMED.store(point == TICKER, std::sync::atomic::Ordering::SeqCst);
        ARMED.set(point.to_owned());
    }
}

/// Arms nothing.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn arm(_: &http::HeaderMap) {}

/// Whether `point` is armed; it no longer is then.
#[cfg(feature = "fault-injection")]
pub fn goes_off(point: &str) -> bool {
    if point == TICKER {
        return TICKER_ARMED.swap(false, std::sync::atomic::Ordering::SeqCst);
    }
    ARMED.with_borrow_mut(|armed| {
        let is_armed = armed == point;
        if is_armed {
            armed.clear();
        }
        is_armed
    })
}

/// Nothing is armed.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn goes_off(_: &str) -> bool {
    false
}

/// For how many instances a pool is made, at most: few, with `WASMHOST_INJECT=small-pool` in the environment.
#[cfg(feature = "fault-injection")]
pub fn pool_max() -> u32 {
    if std::env::var_os("WASMHOST_INJECT").is_some_and(|what| what == "small-pool") { 2 } else { u32::MAX }
}

/// No bound.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn pool_max() -> u32 {
    u32::MAX
}

/// Panics where a screen is drawn, with `WASMHOST_INJECT=screen` in the environment.
#[cfg(feature = "fault-injection")]
#[expect(clippy::panic, reason = "that is what it is for")]
pub fn break_screen() {
    if std::env::var_os("WASMHOST_INJECT").is_some_and(|what| what == "screen") {
        panic!("injected: screen");
    }
}

/// Does nothing.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn break_screen() {}

/// Whether the worker of this number is to die at each start: the second, with `WASMHOST_INJECT=dead-worker` in the
/// environment.
#[cfg(feature = "fault-injection")]
pub fn dies_at_start(worker: u16) -> bool {
    worker == 2 && std::env::var_os("WASMHOST_INJECT").is_some_and(|what| what == "dead-worker")
}

/// None does.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn dies_at_start(_: u16) -> bool {
    false
}

/// Whether a host cannot open what it keeps: with `WASMHOST_INJECT=no-data` in the environment.
#[cfg(feature = "fault-injection")]
pub fn cannot_open_data() -> bool {
    std::env::var_os("WASMHOST_INJECT").is_some_and(|what| what == "no-data")
}

/// It can.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn cannot_open_data() -> bool {
    false
}

/// Panics where `point` is armed.
#[cfg(feature = "fault-injection")]
#[expect(clippy::panic, reason = "what is tested is a panic of the host")]
pub fn panic_at(point: &str) {
    if goes_off(point) {
        panic!("injected by a test at `{point}`");
    }
}

/// Does nothing.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn panic_at(_: &str) {}

/// How long something waits that waits for so long: a second at most, with `WASMHOST_INJECT=hasty` in the environment.
#[cfg(feature = "fault-injection")]
pub fn hastened(wait: std::time::Duration) -> std::time::Duration {
    let is_hasty = std::env::var_os("WASMHOST_INJECT").is_some_and(|what| what == "hasty");
    if is_hasty { wait.min(std::time::Duration::from_secs(1)) } else { wait }
}

/// As long.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub fn hastened(wait: std::time::Duration) -> std::time::Duration {
    wait
}
