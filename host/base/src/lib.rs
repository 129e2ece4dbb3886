//! What every crate of the host may use, and which uses none of ours.

pub mod backoff;
pub mod cpu_clock;
pub mod descriptor_table;
pub mod file_watch;
pub mod heap;
pub mod hops;
pub mod inject;
pub mod line_budget;
pub mod log;
pub mod panics;
pub mod path_encoding;
pub mod portions;
pub mod private_files;
pub mod quota;
pub mod redis_address;
pub mod resident;
pub mod sealed;
pub mod socket_file;
pub mod throttle;
pub mod trace;
pub mod trace_context;
pub mod wire;
pub mod woken;
