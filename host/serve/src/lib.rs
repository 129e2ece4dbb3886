//! The data plane. A connection's way: `net` accepts it and hands it to a worker, `http1` or `http2` speaks HTTP on it, `http`
//! answers its requests with instances from a `pool`. The last three run in a [`worker`]. What happens is counted in [`metrics`], in
//! memory ([`scoreboard`]) that the control plane reads.
//!
//! Each of these folders uses only those that stand before it here: `net`, `pool`, `http`, `http1` and `http2`, `worker`.

mod alarms;
mod buffers;
mod coding;
mod crash;
pub mod development;
mod elements;
mod fault_report;
mod files;
mod http;
mod http1;
mod http2;
mod instance_fault;
pub mod metrics;
mod net;
mod pool;
mod preface;
mod protocol;
mod reported;
pub mod scoreboard;
mod turns;
pub mod worker;
mod worker_id;

pub use self::net::{acceptor, clients, first_request, listener};
