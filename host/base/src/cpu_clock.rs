//! CPU time of threads and processes other than the one that asks, and the clock that all processes share.

use std::time::Duration;

/// Now, in microseconds of `CLOCK_MONOTONIC`, which processes of one machine share.
pub fn now_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// The CPU time of a thread of this process, or of another process of this machine, by its number. None when there is neither.
pub fn cpu_time(number: u64) -> Option<Duration> {
    let number = i32::try_from(number).ok().filter(|number| *number > 0)?;
    // A number that is neither a thread of this process nor a process is refused.
    read(clock_of(number, true)).or_else(|| read(clock_of(number, false)))
}

/// The number of a CPU clock (clock_getcpuclockid(3), and `CPUCLOCK_*` in Linux's posix-timers_types.h): what the scheduler counts of
/// a thread or a process.
fn clock_of(number: i32, is_thread: bool) -> libc::clockid_t {
    const SCHEDULER: i32 = 2;
    const OF_THREAD: i32 = 4;
    (!number << 3) | SCHEDULER | if is_thread { OF_THREAD } else { 0 }
}

#[expect(unsafe_code, reason = "clocks of others have no safe call")]
fn read(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`, which is there, and knows any number of a clock or refuses it.
    let outcome = unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).ok().filter(|_| outcome == 0)?;
    Some(Duration::new(seconds, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// What a thread has used that runs `work`, by its number, before and after it.
    fn used(work: impl FnOnce() + Send + 'static) -> std::io::Result<Duration> {
        let thread = std::thread::Builder::new().name("used".to_owned()).spawn(move || {
            let number = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs().into();
            let before = cpu_time(number);
            work();
            Some(cpu_time(number)?.saturating_sub(before?))
        })?;
        thread.join().ok().flatten().ok_or_else(|| std::io::Error::other("no clock"))
    }

    #[test]
    fn a_thread_that_computes_uses_cpu_time_and_one_that_sleeps_does_not() -> std::io::Result<()> {
        let began = Instant::now();
        let computes = used(|| {
            let own = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
            while own().tv_nsec < 60_000_000 && own().tv_sec == 0 {}
        })?;
        assert!(computes >= Duration::from_millis(50) && computes <= began.elapsed(), "{computes:?}");
        let sleeps = used(|| std::thread::sleep(Duration::from_millis(60)))?;
        assert!(sleeps < Duration::from_millis(40), "{sleeps:?}");
        Ok(())
    }

    #[test]
    fn another_process_has_a_clock_until_it_is_gone() -> std::io::Result<()> {
        let mut child = std::process::Command::new("sleep").arg("60").spawn()?;
        let number = u64::from(child.id());
        let time = cpu_time(number);
        child.kill()?;
        child.wait()?;
        assert!(time.is_some_and(|time| time < Duration::from_secs(5)), "{time:?}");
        assert_eq!((cpu_time(number), cpu_time(0), cpu_time(u64::MAX)), (None, None, None));
        Ok(())
    }
}
