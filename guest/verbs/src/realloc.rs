//! The memory that a guest gives the host to put results in, and a way to give none.

#[cfg(target_arch = "wasm32")]
use std::alloc::{Layout, alloc, handle_alloc_error, realloc};
#[cfg(target_arch = "wasm32")]
use std::hint::spin_loop;
#[cfg(target_arch = "wasm32")]
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// The next call of [`cabi_realloc`] does not return.
static NEVER: AtomicBool = AtomicBool::new(false);

/// From now on the host gets no memory: what it calls for it loops.
pub fn loop_in_realloc() {
    NEVER.store(true, Ordering::Relaxed);
}

/// What the host calls for memory (the component model's `realloc`), in the place of libc's, which is a weak symbol.
///
/// # Safety
/// As the component model says: either `old_pointer` is null, or it has `old_bytes` bytes that this function gave.
#[cfg(target_arch = "wasm32")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cabi_realloc(old_pointer: *mut u8, old_bytes: usize, align: usize, bytes: usize) -> *mut u8 {
    while NEVER.load(Ordering::Relaxed) {
        spin_loop();
    }
    if bytes == 0 {
        return ptr::without_provenance_mut(align);
    }
    // SAFETY: the host gives sizes and alignments of types of the component model.
    let layout = unsafe { Layout::from_size_align_unchecked(bytes, align) };
    let block = if old_bytes == 0 {
        // SAFETY: there are bytes.
        unsafe { alloc(layout) }
    } else {
        // SAFETY: as this function's caller promises.
        unsafe { realloc(old_pointer, Layout::from_size_align_unchecked(old_bytes, align), bytes) }
    };
    if block.is_null() { handle_alloc_error(layout) } else { block }
}
