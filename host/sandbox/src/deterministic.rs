//! Time and chance for tests (`--deterministic SEED`): an app's random numbers come from a seed, and its clocks show no real
//! time. Each instance begins with the same numbers, at the same moment. A clock goes on by a microsecond whenever it is read,
//! and to the end of each wait for time. Waits take as long as they always do, and files keep their real times.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::time::Instant;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::clocks::{HostMonotonicClock, HostWallClock, WasiClocks, WasiClocksView};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::Host;
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};
use wasmtime_wasi::p3::bindings::clocks::monotonic_clock::HostWithStore;
use wasmtime_wasi::{WasiCtxBuilder, WasiView, async_trait};

use super::replacing::check_is_defined;

/// The interfaces as wasmtime-wasi names them; another name would define what no component imports.
const CLOCK_P2: &str = "wasi:clocks/monotonic-clock@0.2.12";
const CLOCK_P3: &str = "wasi:clocks/monotonic-clock@0.3.0";

/// What the clock of the date shows at first: 2025-01-01T00:00:00Z.
const FIRST_DATE: Duration = Duration::from_secs(1_735_689_600);

/// By how much reading a clock moves it: a guest that reads it until time has passed comes to an end.
const NANOSECONDS_PER_READING: u64 = 1_000;

/// The one clock of an instance: nanoseconds since it began.
#[derive(Clone, Default)]
pub(super) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn read(&self) -> u64 {
        self.0.fetch_add(NANOSECONDS_PER_READING, Relaxed)
    }

    fn go_on_to(&self, moment: u64) {
        self.0.fetch_max(moment, Relaxed);
    }

    fn after(&self, nanoseconds: u64) -> u64 {
        self.0.load(Relaxed).saturating_add(nanoseconds)
    }

    fn until(&self, moment: u64) -> u64 {
        moment.saturating_sub(self.0.load(Relaxed))
    }
}

impl HostMonotonicClock for TestClock {
    fn resolution(&self) -> u64 {
        NANOSECONDS_PER_READING
    }

    fn now(&self) -> u64 {
        self.read()
    }
}

impl HostWallClock for TestClock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(NANOSECONDS_PER_READING)
    }

    fn now(&self) -> Duration {
        FIRST_DATE.saturating_add(Duration::from_nanos(self.read()))
    }
}

/// The data of a store that may have such a clock.
pub(super) trait Timed: WasiView + 'static {
    /// The clock of an app whose time is that of a test.
    fn test_clock(&self) -> Option<&TestClock>;
}

/// Gives a new store the numbers of `seed`, and a clock.
pub(super) fn fix(wasi: &mut WasiCtxBuilder, seed: u64) -> TestClock {
    let clock = TestClock::default();
    wasi.secure_random(StdRng::seed_from_u64(seed))
        .insecure_random(StdRng::seed_from_u64(!seed))
        .insecure_random_seed(u128::from(seed))
        .monotonic_clock(clock.clone())
        .wall_clock(clock.clone());
    clock
}

/// Replaces the functions that wait for time, so that afterwards an instance's clock shows that it has passed.
pub(super) fn attach<S: Timed>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
    for call in ["subscribe-instant", "subscribe-duration"] {
        check_is_defined(linker, CLOCK_P2, call)?;
    }
    for call in ["wait-until", "wait-for"].into_iter().filter(|_| concurrent) {
        check_is_defined(linker, CLOCK_P3, call)?;
    }
    linker.allow_shadowing(true);
    let mut clock = linker.instance(CLOCK_P2)?;
    clock.func_wrap("subscribe-instant", |mut store: StoreContextMut<'_, S>, (when,): (u64,)| {
        let state = store.data_mut();
        Ok((match state.test_clock() {
            None => state.clocks().subscribe_instant(when)?,
            Some(clock) => {
                let nanoseconds = clock.until(when);
                wait(state, nanoseconds)?
            }
        },))
    })?;
    clock.func_wrap("subscribe-duration", |mut store: StoreContextMut<'_, S>, (nanoseconds,): (u64,)| {
        let state = store.data_mut();
        Ok((match state.test_clock() {
            None => state.clocks().subscribe_duration(nanoseconds)?,
            Some(_) => wait(state, nanoseconds)?,
        },))
    })?;
    if concurrent {
        let mut clock = linker.instance(CLOCK_P3)?;
        clock.func_wrap_concurrent("wait-until", |accessor, (when,): (u64,)| Box::pin(wait_until(accessor, when)))?;
        clock.func_wrap_concurrent("wait-for", |accessor, (nanoseconds,): (u64,)| {
            Box::pin(wait_for(accessor, nanoseconds))
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

async fn wait_until<S: Timed>(accessor: &Accessor<S>, when: u64) -> wasmtime::Result<()> {
    match test_clock(accessor) {
        None => {
            let clocks = accessor.with_getter::<WasiClocks>(S::clocks);
            <WasiClocks as HostWithStore<S>>::wait_until(&clocks, when).await
        }
        Some(clock) => {
            clock.wait(clock.until(when)).await;
            Ok(())
        }
    }
}

async fn wait_for<S: Timed>(accessor: &Accessor<S>, nanoseconds: u64) -> wasmtime::Result<()> {
    match test_clock(accessor) {
        None => {
            let clocks = accessor.with_getter::<WasiClocks>(S::clocks);
            <WasiClocks as HostWithStore<S>>::wait_for(&clocks, nanoseconds).await
        }
        Some(clock) => {
            clock.wait(nanoseconds).await;
            Ok(())
        }
    }
}

fn test_clock<S: Timed>(accessor: &Accessor<S>) -> Option<TestClock> {
    accessor.with(|mut access| access.data_mut().test_clock().cloned())
}

impl TestClock {
    /// Waits for so much real time, at least for one turn of the loop; then it has passed here, too.
    async fn wait(&self, nanoseconds: u64) {
        let until = self.after(nanoseconds);
        ClockWait { clock: self.clone(), until, end: end(nanoseconds) }.ready().await;
    }
}

/// A wait of a guest of wasi 0.2.
struct ClockWait {
    clock: TestClock,
    until: u64,
    end: WaitEnd,
}

enum WaitEnd {
    /// At once, after sockets had their turn: guests poll in a loop with a wait of no length.
    Now {
        yielded: bool,
    },
    At(Instant),
    Never,
}

fn end(nanoseconds: u64) -> WaitEnd {
    match Instant::now().checked_add(Duration::from_nanos(nanoseconds)) {
        _ if nanoseconds == 0 => WaitEnd::Now { yielded: false },
        Some(end) => WaitEnd::At(end),
        None => WaitEnd::Never,
    }
}

fn wait<S: Timed>(state: &mut S, nanoseconds: u64) -> wasmtime::Result<Resource<DynPollable>> {
    let Some(clock) = state.test_clock().cloned() else { wasmtime::bail!("an instance lost its clock") };
    let table = WasiView::ctx(state).table;
    let wait = table.push(ClockWait { until: clock.after(nanoseconds), clock, end: end(nanoseconds) })?;
    subscribe(table, wait)
}

#[async_trait]
impl Pollable for ClockWait {
    async fn ready(&mut self) {
        match &mut self.end {
            WaitEnd::Now { yielded: true } => {}
            WaitEnd::Now { yielded } => {
                *yielded = true;
                tokio::task::yield_now().await;
            }
            WaitEnd::At(end) => tokio::time::sleep_until(*end).await,
            WaitEnd::Never => std::future::pending().await,
        }
        self.clock.go_on_to(self.until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::tests::Host;

    /// A handler of wasi 0.2 whose start traps unless its clock goes on as that of a test does: by a microsecond a reading, and to
    /// the end of each wait.
    const READS_ITS_CLOCK: &str = r#"(component
        (import "wasi:http/types@0.2.0" (instance $types
            (export "incoming-request" (type (sub resource)))
            (export "response-outparam" (type (sub resource)))))
        (alias export $types "incoming-request" (type $request))
        (alias export $types "response-outparam" (type $out))
        (import "wasi:io/poll@0.2.0" (instance $poll
            (export "pollable" (type $p (sub resource)))
            (export "[method]pollable.block" (func (param "self" (borrow $p))))))
        (alias export $poll "pollable" (type $pollable))
        (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
            (alias outer 1 $pollable (type $p0))
            (export "pollable" (type $p (eq $p0)))
            (export "now" (func (result u64)))
            (export "subscribe-instant" (func (param "when" u64) (result (own $p))))
            (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
        (core func $now (canon lower (func $clock "now")))
        (core func $instant (canon lower (func $clock "subscribe-instant")))
        (core func $duration (canon lower (func $clock "subscribe-duration")))
        (core func $block (canon lower (func $poll "[method]pollable.block")))
        (core module $guest
            (import "" "now" (func $now (result i64)))
            (import "" "instant" (func $instant (param i64) (result i32)))
            (import "" "duration" (func $duration (param i64) (result i32)))
            (import "" "block" (func $block (param i32)))
            (func $is (param i64) (if (i64.ne (call $now) (local.get 0)) (then unreachable)))
            (func $start
                (call $is (i64.const 0))
                (call $is (i64.const 1000))
                (call $block (call $duration (i64.const 20000000)))
                (call $is (i64.const 20002000))
                (call $block (call $instant (i64.const 50000000)))
                (call $is (i64.const 50000000))
                (call $block (call $duration (i64.const 0)))
                (call $is (i64.const 50001000)))
            (start $start)
            (func (export "handle") (param i32 i32)))
        (core instance $guest (instantiate $guest (with "" (instance
            (export "now" (func $now)) (export "instant" (func $instant))
            (export "duration" (func $duration)) (export "block" (func $block))))))
        (func $handle (param "request" (own $request)) (param "response-out" (own $out))
            (canon lift (core func $guest "handle")))
        (instance $handler (export "handle" (func $handle)))
        (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

    #[test]
    fn the_clock_of_a_test_goes_on_when_it_is_read_and_when_the_guest_waits_and_others_show_the_time()
    -> Result<(), Box<dyn std::error::Error>> {
        let mut host = Host::new(1 << 30)?;
        for (seed, starts) in [(Some(5), true), (None, false)] {
            host.set_app(|app| app.deterministic = seed);
            let guest = host.link(READS_ITS_CLOCK).map_err(|problem| problem.reason)?;
            // Each instance has a clock that begins anew.
            for _ in 0..2 {
                assert_eq!(host.instance(&guest).is_ok(), starts, "{seed:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_wait_has_passed_afterwards_and_a_date_is_the_first_date_and_the_time_since() -> std::io::Result<()> {
        let clock = TestClock::default();
        tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(clock.wait(3_000_000));
        assert_eq!(HostMonotonicClock::now(&clock), 3_000_000);
        assert_eq!(HostWallClock::now(&clock), FIRST_DATE + Duration::from_nanos(3_001_000));
        Ok(())
    }
}
