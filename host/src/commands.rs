//! What `wasmhost` can be told to do: a file each.

pub mod build;
pub mod compile;
pub mod completions;
pub mod componentize;
pub mod dev;
pub mod inspect;
pub mod new;
pub mod serve;
pub mod wit;
