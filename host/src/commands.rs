//! What `wasmhost` can be told to do: a file each.

pub(crate) mod build;
pub(crate) mod compile;
pub(crate) mod completions;
pub(crate) mod componentize;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod events;
pub(crate) mod hosts;
pub(crate) mod inspect;
pub(crate) mod kv;
pub(crate) mod logs;
pub(crate) mod new;
pub(crate) mod output;
pub(crate) mod plain;
pub(crate) mod profile;
pub(crate) mod replay;
pub(crate) mod revisions;
pub(crate) mod serve;
pub(crate) mod top;
pub(crate) mod upgrade;
pub(crate) mod wit;
