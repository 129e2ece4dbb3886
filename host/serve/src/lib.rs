//! The data plane. A connection's way: [`listener`] accepts it, [`intake`] asks whether there is room for it, [`worker`] serves
//! it with instances from the sandbox. What happens is counted in [`metrics`], in memory ([`vitals`]) that the control plane
//! reads.

pub mod clients;
pub mod development;
pub mod intake;
pub mod listener;
pub mod metrics;
pub mod vitals;
pub mod worker;
