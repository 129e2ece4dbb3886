//! The control plane. [`primary`] starts and stops everything, and asks [`supervisor`] what to do when a worker ends and
//! [`balancer`] which worker gets a connection. [`process`] runs a worker in a separate process. [`loader`] turns a file into
//! what workers serve, [`admin`] shows what happens.

pub mod admin;
pub mod balancer;
pub mod board;
pub mod handle;
pub mod loader;
pub mod primary;
pub mod process;
pub mod shutdown;
pub mod supervisor;
