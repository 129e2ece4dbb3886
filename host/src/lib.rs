//! wasmhost serves HTTP with a WASI HTTP component: one isolated instance on each core, healed when it breaks.
//!
//! The modules in reading order. A connection's way: [`listener`] accepts it, [`balancer`] chooses its worker,
//! [`worker`] serves it, with instances from [`sandbox`]. Beside it: [`primary`] starts and stops everything, and asks
//! [`supervisor`] what to do when a worker ends. `docs/ARCHITECTURE.md` is the long form.

pub mod cli;
pub mod commands;
pub mod config;
pub mod exit;
pub mod log;

pub mod build;
pub mod templates;

pub mod admin;
pub mod backoff;
pub mod board;
pub mod confine;
pub mod heap;
mod inject;
pub mod loader;
pub mod metrics;
pub mod panics;
pub mod primary;
pub mod shutdown;
pub mod socket_file;
pub mod spawner;
pub mod supervisor;
pub mod throttle;
pub mod vitals;
pub mod wire;

pub mod balancer;
pub mod clients;
pub mod intake;
pub mod listener;
pub mod worker;

pub mod development;
pub mod inspect;
pub mod sandbox;
