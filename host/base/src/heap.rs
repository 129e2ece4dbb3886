//! Counts the host's own heap, in all and per thread, and gives free memory back to the system. Memories of guests are
//! mapped by wasmtime and are not in the heap. What the host keeps for the handles of guests is in it, and nothing else
//! counts that. `sandbox::memory` bounds it; `serve::pool::trim` asks for memory to be given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// Threads at once that may have a count of their own, which costs them no more than an addition: as many workers as
/// there may be, and some of each that are ending, loading, or stuck. All other threads share one.
const OWNERS: usize = 640;

/// One thread's count, on a cache line of its own. Written by its owner only (the last of them: by all threads without one),
/// read by any. It stands when its thread has ended, so that the sum is right, and the next owner goes on with it.
#[repr(align(128))]
struct HeapCount {
    /// Bytes that this thread allocated minus those that it freed, which any thread may have allocated.
    held: AtomicI64,
    /// The most that this was since memory was last given back.
    highest: AtomicI64,
    is_owned: AtomicBool,
}

static COUNTS: [HeapCount; OWNERS + 1] =
    [const { HeapCount { held: AtomicI64::new(0), highest: AtomicI64::new(0), is_owned: AtomicBool::new(false) } };
        OWNERS + 1];
/// So many of them have ever been owned: those behind hold nothing.
static USED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's of [`COUNTS`], while it has one. It has no destructor: an allocator's must not.
    static OWN: Cell<Option<&'static HeapCount>> = const { Cell::new(None) };
}

/// What all threads without a count of their own share.
const SHARED: &HeapCount = &COUNTS[OWNERS];

/// A thread's hold on a count of its own. Dropped at the thread's end, it leaves the count to another.
pub struct Owned {
    count: Option<&'static HeapCount>,
    /// It is this thread's.
    _not_send: PhantomData<*const ()>,
}

/// Gives this thread its own count, so that [`own_bytes`] works: for threads that run guests. It gets none if all are in
/// use, or if it has one already.
pub fn own() -> Owned {
    let is_new = matches!(OWN.try_with(Cell::get), Ok(None));
    let claim = |count: &&'static HeapCount| {
        // Acquires what the last owner counted.
        count.is_owned.compare_exchange(false, true, Acquire, Relaxed).is_ok()
    };
    let free = is_new.then(|| COUNTS[..OWNERS].iter().enumerate().find(|(_, count)| claim(count))).flatten();
    if let Some((index, count)) = free {
        USED.fetch_max(index + 1, Relaxed);
        count.highest.store(count.held.load(Relaxed), Relaxed);
        // What is allocated from here on is counted there.
        let _ = OWN.try_with(|own| own.set(Some(count)));
    }
    Owned { count: free.map(|(_, count)| count), _not_send: PhantomData }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(count) = self.count {
            let _ = OWN.try_with(|own| own.set(None));
            count.is_owned.store(false, Release);
        }
    }
}

#[inline]
fn count() -> &'static HeapCount {
    // Without variables of its own it is a thread at its end.
    OWN.try_with(Cell::get).ok().flatten().unwrap_or(SHARED)
}

#[inline]
fn add(bytes: i64) -> (&'static HeapCount, i64) {
    let own = count();
    let held = if std::ptr::eq(own, SHARED) {
        own.held.fetch_add(bytes, Relaxed).wrapping_add(bytes)
    } else {
        let held = own.held.load(Relaxed).wrapping_add(bytes);
        own.held.store(held, Relaxed);
        held
    };
    (own, held)
}

#[inline]
fn taken(bytes: i64) {
    let (own, held) = add(bytes);
    if held > own.highest.load(Relaxed) {
        own.highest.store(held, Relaxed);
    }
}

/// A layout's size never exceeds `isize::MAX`.
fn size(bytes: usize) -> i64 {
    bytes as i64
}

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

#[expect(unsafe_code, reason = "an allocator")]
// SAFETY: every call is the system allocator's own, with the arguments as given; counting allocates nothing and does not
// unwind.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract, which is the same.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            taken(size(layout.size()));
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            taken(size(layout.size()));
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) };
        add(-size(layout.size()));
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { System.realloc(block, layout, new_size) };
        if !moved.is_null() {
            taken(size(new_size) - size(layout.size()));
        }
        moved
    }
}

/// Bytes in use, by all threads.
pub fn used_bytes() -> u64 {
    let owned = COUNTS[..OWNERS].iter().take(USED.load(Relaxed));
    let sum = owned.chain([SHARED]).fold(0_i64, |sum, count| sum.wrapping_add(count.held.load(Relaxed)));
    u64::try_from(sum).unwrap_or(0)
}

/// Bytes that this thread took less those that it freed, which may have been taken by others: only differences mean
/// something. Always 0 for a thread without a count of its own ([`own`]).
pub fn own_bytes() -> i64 {
    OWN.try_with(Cell::get).ok().flatten().map_or(0, |own| own.held.load(Relaxed))
}

/// Has free pages of the heap given back to the system, if this thread has freed `least` bytes or more since it last held the
/// most. True when it was begun. It is done by a thread of its own: it takes 2.4 ms for each 10 MiB, of all threads'
/// heaps one after the other, and a thread waits for it only where it needs memory of its own heap meanwhile.
pub fn give_back(least: u64) -> bool {
    let count = count();
    let held = count.held.load(Relaxed);
    let freed = count.highest.load(Relaxed).saturating_sub(held);
    if u64::try_from(freed).unwrap_or(0) < least {
        return false;
    }
    count.highest.store(held, Relaxed);
    static TRIMMING: Aside = Aside::new();
    TRIMMING.run(trim);
    true
}

/// Runs a job in a thread of its own, in one at a time. Whoever asks while it runs has it run once more.
struct Aside(AtomicU8);

impl Aside {
    const IDLE: u8 = 0;
    const RUNS: u8 = 1;
    const RUNS_AND_AGAIN: u8 = 2;

    const fn new() -> Self {
        Self(AtomicU8::new(Self::IDLE))
    }

    fn run(&'static self, job: fn()) {
        let next = |state| Some(if state == Self::IDLE { Self::RUNS } else { Self::RUNS_AND_AGAIN });
        if self.0.fetch_update(SeqCst, SeqCst, next).is_ok_and(|before| before != Self::IDLE) {
            return;
        }
        let until_done = move || {
            loop {
                job();
                if self.0.compare_exchange(Self::RUNS, Self::IDLE, SeqCst, SeqCst).is_ok() {
                    return;
                }
                self.0.store(Self::RUNS, SeqCst);
            }
        };
        if std::thread::Builder::new().name("trim".to_owned()).spawn(until_done).is_err() {
            until_done();
        }
    }
}

/// Bytes at the end of a heap that glibc may keep, and those from which on a block is a mapping of its own. Left to
/// itself it takes larger ones for itself with each large block that is freed, up to 64 and 32 MiB, and keeps as much at
/// the end of each thread's heap, where trimming does not reach.
#[cfg(target_env = "gnu")]
const KEPT_AT_THE_END_BYTES: i32 = 2 << 20;
#[cfg(target_env = "gnu")]
const OWN_MAPPING_BYTES: i32 = 1 << 20;

/// Has the allocator give back by itself what is free at the end of a heap. For the beginning of a process.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "calls of the C library")]
pub fn keep_little() {
    // SAFETY: they set numbers of the allocator, under its own lock.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_AT_THE_END_BYTES);
        libc::mallopt(libc::M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
    }
}

/// Other C libraries do so.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "a call of the C library")]
fn trim() {
    // SAFETY: it may be called at any time, by any thread; it takes the allocator's own locks and moves nothing that is in
    // use.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give memory back by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    /// More than all other tests, which share the heap, take and free meanwhile. It is never touched, and takes no memory.
    const LARGE: usize = 8 << 30;

    #[test]
    fn what_is_taken_and_freed_is_counted_for_this_thread_and_in_sum() {
        let _own = own();
        let (own, all) = (own_bytes(), used_bytes());
        let block = Vec::<u8>::with_capacity(LARGE);
        assert!(own_bytes() - own >= size(LARGE));
        assert!(used_bytes() >= all.saturating_add(LARGE as u64 / 2));
        assert!(!give_back(1 << 20), "nothing was freed");
        drop(std::hint::black_box(block));
        assert!(own_bytes() - own < size(LARGE) / 2);
        assert!(give_back(1 << 20));
        assert!(!give_back(1 << 20), "once is enough");
    }

    #[test]
    fn what_another_thread_frees_is_off_its_own_count_and_the_sum_is_right() -> Result<(), Box<dyn std::error::Error>> {
        let _own = own();
        let block = Vec::<u8>::with_capacity(LARGE);
        let own = own_bytes();
        let freeing = std::thread::Builder::new().spawn(move || {
            let _own = super::own();
            let before = own_bytes();
            drop(std::hint::black_box(block));
            own_bytes() - before
        })?;
        assert!(freeing.join().map_err(|_| "a panic")? <= -size(LARGE));
        assert!(own_bytes() >= own, "it is the other thread's");
        Ok(())
    }

    /// More threads one after the other than there are counts, as workers that are replaced are.
    #[test]
    fn a_count_is_used_again_when_its_thread_has_ended() -> Result<(), Box<dyn std::error::Error>> {
        let counts = |taken: bool| {
            let _own = taken.then(own);
            let before = own_bytes();
            let block = Vec::<u8>::with_capacity(LARGE);
            let grown = own_bytes() - before;
            drop(std::hint::black_box(block));
            grown
        };
        for thread in 0..OWNERS + 100 {
            let grown = std::thread::Builder::new().spawn(move || counts(true))?.join().map_err(|_| "a panic")?;
            assert!(grown >= size(LARGE), "thread {thread} has no count of its own: {grown}");
        }
        let grown = std::thread::Builder::new().spawn(move || counts(false))?.join().map_err(|_| "a panic")?;
        assert_eq!(grown, 0, "a thread without a count of its own is charged nothing");
        Ok(())
    }

    #[test]
    fn a_job_runs_aside_one_at_a_time_and_once_more_for_those_who_ask_meanwhile()
    -> Result<(), Box<dyn std::error::Error>> {
        use std::sync::Mutex;
        use std::time::{Duration, Instant};
        static ASIDE: Aside = Aside::new();
        static GATE: Mutex<()> = Mutex::new(());
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
        fn job() {
            assert_eq!(AT_ONCE.fetch_add(1, SeqCst), 0);
            drop(GATE.lock());
            AT_ONCE.fetch_sub(1, SeqCst);
            RUNS.fetch_add(1, SeqCst);
        }
        {
            let _closed = GATE.lock()?;
            for _ in 0..10 {
                // Would never come back if it ran here.
                ASIDE.run(job);
            }
        }
        let began = Instant::now();
        while ASIDE.0.load(SeqCst) != Aside::IDLE && began.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(RUNS.load(SeqCst), 2);
        Ok(())
    }
}
