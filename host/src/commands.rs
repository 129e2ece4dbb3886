//! What `wasmhost` can be told to do: a file each.

pub mod compile;
pub mod completions;
pub mod inspect;
pub mod serve;
