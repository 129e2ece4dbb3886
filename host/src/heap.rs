//! The host's own heap: how much of it is in use, by all threads and by this one, and giving back to the system what is
//! free in it. What wasmtime maps for guests' memories is not in it; what the host keeps for guests' handles is, and
//! nothing else counts that. (`sandbox::limits` bounds it, `worker::trim` gives back.)

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

/// Threads that have a count of their own, which costs them no more than an addition. Workers are among the first that
/// start; threads beyond these share one.
const OWNERS: usize = if cfg!(test) { 4_096 } else { 64 };

/// One thread's count, on a cache line of its own. Written by its owner only (the last of them: by all other threads), read
/// by any. It stands when its thread has ended, so that the sum is right.
#[repr(align(128))]
struct Count {
    /// Bytes that were taken less those that were freed, whoever had taken them.
    held: AtomicI64,
    /// The most that this was since memory was last given back.
    highest: AtomicI64,
}

static COUNTS: [Count; OWNERS + 1] =
    [const { Count { held: AtomicI64::new(0), highest: AtomicI64::new(0) } }; OWNERS + 1];
static OWNED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// This thread's of [`COUNTS`]. It has no destructor: an allocator's must not.
    static OWN: Cell<Option<&'static Count>> = const { Cell::new(None) };
}

/// What all threads beyond the owners share.
const SHARED: &Count = &COUNTS[OWNERS];

#[inline]
fn own() -> &'static Count {
    match OWN.try_with(Cell::get) {
        Ok(Some(own)) => own,
        _ => own_of_new_thread(),
    }
}

#[cold]
fn own_of_new_thread() -> &'static Count {
    let own = COUNTS.get(OWNED.fetch_add(1, Relaxed)).unwrap_or(SHARED);
    // Without variables of its own it is a thread at its end.
    let _ = OWN.try_with(|variable| variable.set(Some(own)));
    own
}

#[inline]
fn add(bytes: i64) -> (&'static Count, i64) {
    let own = own();
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
    let sum = COUNTS.iter().fold(0_i64, |sum, count| sum.wrapping_add(count.held.load(Relaxed)));
    u64::try_from(sum).unwrap_or(0)
}

/// Bytes that this thread took less those that it freed, which may have been taken by others: only differences mean
/// something.
pub fn own_bytes() -> i64 {
    own().held.load(Relaxed)
}

/// Gives free pages of the heap back to the system, if this thread has freed `least` bytes or more since it last held the
/// most. Takes some milliseconds for each 10 MiB that are given back. True when it was done.
pub fn give_back(least: u64) -> bool {
    let count = own();
    let held = count.held.load(Relaxed);
    let freed = count.highest.load(Relaxed).saturating_sub(held);
    if u64::try_from(freed).unwrap_or(0) < least {
        return false;
    }
    count.highest.store(held, Relaxed);
    trim();
    true
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
        let block = Vec::<u8>::with_capacity(LARGE);
        let own = own_bytes();
        let freeing = std::thread::Builder::new().spawn(move || {
            let before = own_bytes();
            drop(std::hint::black_box(block));
            own_bytes() - before
        })?;
        assert!(freeing.join().map_err(|_| "a panic")? <= -size(LARGE));
        assert!(own_bytes() >= own, "it is the other thread's");
        Ok(())
    }
}
