//! The faults a guest can commit by itself, without a word to the host.

use std::hint::{black_box, spin_loop};
use std::{mem, process};

use crate::query::{BadParameter, Query};

/// A way for a guest to end, or never to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Trap,
    Panic,
    Exit(i32),
    Loop,
    Alloc,
    Stack,
}

impl Fault {
    pub(crate) fn parse(name: &str, query: &Query<'_>) -> Result<Option<Fault>, BadParameter> {
        Ok(Some(match name {
            "trap" => Fault::Trap,
            "panic" => Fault::Panic,
            "exit" => Fault::Exit(query.number("code", 1)?),
            "loop" => Fault::Loop,
            "alloc" => Fault::Alloc,
            "stack" => Fault::Stack,
            _ => return Ok(None),
        }))
    }

    /// Does it.
    pub fn commit(self) -> ! {
        match self {
            Fault::Trap => trap(),
            Fault::Panic => panic!("as asked"),
            Fault::Exit(code) => process::exit(code),
            Fault::Loop => loop {
                spin_loop();
            },
            Fault::Alloc => exhaust_memory(),
            Fault::Stack => {
                black_box(descend(black_box(0)));
                unreachable!("the stack has an end")
            }
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// So that the tests of this crate build for the machine they run on.
#[cfg(not(target_arch = "wasm32"))]
fn trap() -> ! {
    process::abort()
}

/// Takes 1 MiB after another, until the host refuses and the allocator aborts. Nothing is written to it, so
/// that only the guest's memory grows, hardly the machine's.
fn exhaust_memory() -> ! {
    loop {
        mem::forget(black_box(Vec::<u8>::with_capacity(1 << 20)));
    }
}

/// Calls itself without end. What follows the call keeps it from becoming a loop; nothing lies in memory, so
/// that it is the host's stack that runs out and not the guest's.
#[inline(never)]
fn descend(depth: u64) -> u64 {
    if depth == u64::MAX {
        return depth;
    }
    descend(depth + 1).rotate_left(5) ^ depth
}
