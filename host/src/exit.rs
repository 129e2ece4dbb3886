//! The program's exit codes besides 0, a clean stop. `wasmhost build` and `new --build` may end with their toolchain's instead.

/// Could not start, or gave up.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage.
pub(crate) const USAGE: u8 = 2;
/// `wasmhost replay`: the guest faulted again.
pub(crate) const FAULTED: u8 = 3;
