//! Memory, without std and the imports that it brings. A call leaves nothing behind, so what is taken lies side by side, and
//! all of it is free again when the last piece is.

#![cfg(target_family = "wasm")]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size, unreachable};
use core::cell::Cell;
use core::ptr::with_exposed_provenance_mut;

const PAGE_BYTES: usize = 65536;

unsafe extern "C" {
    /// Where the linker says that memory is free from.
    static __heap_base: u8;
}

struct Pile {
    /// How many pieces are in use.
    pieces: Cell<usize>,
    /// Where the next one lies; 0 before the first.
    top: Cell<usize>,
}

#[global_allocator]
static MEMORY: Pile = Pile { pieces: Cell::new(0), top: Cell::new(0) };

// SAFETY: there is one thread.
unsafe impl Sync for Pile {}

impl Pile {
    /// Makes the memory reach to `end`.
    fn reach(&self, end: usize) {
        let now = memory_size(0) * PAGE_BYTES;
        if end > now && memory_grow(0, (end - now).div_ceil(PAGE_BYTES)) == usize::MAX {
            unreachable();
        }
        self.top.set(end);
    }
}

// SAFETY: pieces lie one behind the other, so none overlaps another that is in use.
unsafe impl GlobalAlloc for Pile {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let free = if self.pieces.get() == 0 { (&raw const __heap_base).addr() } else { self.top.get() };
        let at = free.next_multiple_of(layout.align());
        let Some(end) = at.checked_add(layout.size()) else { unreachable() };
        self.reach(end);
        self.pieces.set(self.pieces.get() + 1);
        with_exposed_provenance_mut(at)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {
        self.pieces.set(self.pieces.get() - 1);
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let at = piece.addr();
        // The last one grows where it is.
        if at + layout.size() == self.top.get() {
            let Some(end) = at.checked_add(size) else { unreachable() };
            self.reach(end);
            return piece;
        }
        // SAFETY: a new piece, and the caller's; both have the smaller of the sizes.
        unsafe {
            let made = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            made.copy_from_nonoverlapping(piece, layout.size().min(size));
            self.dealloc(piece, layout);
            made
        }
    }
}

/// What arguments are allocated with, which `std` would bring.
///
/// # Safety
/// As the canonical ABI has it: `old` is null, or a piece of so many bytes and this alignment.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn reallocate(old: *mut u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    if old_length == 0 && length == 0 {
        return core::ptr::without_provenance_mut(align);
    }
    // SAFETY: the caller keeps to the same.
    unsafe {
        let layout = Layout::from_size_align_unchecked(old_length, align);
        if old_length == 0 {
            MEMORY.alloc(Layout::from_size_align_unchecked(length, align))
        } else {
            MEMORY.realloc(old, layout, length)
        }
    }
}
