//! Memory for the crate `brotli`, which takes all of it from its caller.

use alloc::boxed::Box;
use alloc::vec;

use brotli::enc::BrotliAlloc;
use brotli::{Allocator, SliceWrapper, SliceWrapperMut};

/// The global allocator.
#[derive(Clone, Copy, Default)]
pub(crate) struct Heap;

pub(crate) struct Piece<T>(Box<[T]>);

impl<T> Default for Piece<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> SliceWrapper<T> for Piece<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Piece<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Clone + Default> Allocator<T> for Heap {
    type AllocatedMemory = Piece<T>;

    fn alloc_cell(&mut self, length: usize) -> Piece<T> {
        Piece(vec![T::default(); length].into_boxed_slice())
    }

    fn free_cell(&mut self, _: Piece<T>) {}
}

impl BrotliAlloc for Heap {}
