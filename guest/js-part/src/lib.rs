//! What the native parts of the JavaScript runtime have in common: what a component without `std`, and so without its imports, has to
//! bring itself, and what a coder of compressed data does with its input and output.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

mod coder;

pub use coder::{Code, Coder, Damaged, Step};

#[cfg(target_family = "wasm")]
#[global_allocator]
static MEMORY: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[cfg(target_family = "wasm")]
#[panic_handler]
fn trap(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// What the host allocates arguments with, which `std` would bring.
///
/// # Safety
/// As the canonical ABI has it: `old` is null, or a block of so many bytes and this alignment.
#[cfg(target_family = "wasm")]
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn reallocate(old: *mut u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    use alloc::alloc::{Layout, alloc, realloc};

    if old_length == 0 && length == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: the caller keeps to the same.
    let made = unsafe {
        if old_length == 0 {
            alloc(Layout::from_size_align_unchecked(length, align))
        } else {
            realloc(old, Layout::from_size_align_unchecked(old_length, align), length)
        }
    };
    if made.is_null() {
        core::arch::wasm32::unreachable();
    }
    made
}

// memcmp and its kin, which the compiler calls.
#[cfg(target_os = "wasi")]
#[link(name = "c")]
unsafe extern "C" {}
