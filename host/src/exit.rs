//! The program's exit codes. `wasmhost build` and `new --build` may end with their toolchain's instead.

/// A clean stop.
pub const CLEAN: u8 = 0;
/// Could not start, or gave up.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;

/// All of them, with what they mean. `--help` and `docs/REFERENCE.md` list the same.
pub const EXIT_CODES: [(u8, &str); 3] =
    [(CLEAN, "clean stop"), (FAILED, "could not start or gave up"), (USAGE, "wrong usage")];
