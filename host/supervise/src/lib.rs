//! The control plane. [`primary`] starts and stops everything, and asks [`supervisor`] what to do when a worker ends,
//! [`balancer`] which worker gets a connection, and `apps` which app is loaded when. `backend` says what differs between
//! `threads` and [`process`]es as workers. `loader` turns a file into what workers serve, [`admin`] shows what happens.

pub mod admin;
mod apps;
mod backend;
pub mod balancer;
pub mod control;
pub mod crashes;
mod databases;
mod descriptors;
mod events;
pub mod host_status;
mod kept;
mod listening;
mod loader;
pub mod otlp;
pub mod primary;
pub mod process;
pub mod profile;
pub mod replay;
mod schedules;
mod service_manager;
pub mod shutdown;
mod stores;
pub mod supervisor;
mod threads;
mod traces;
pub mod upgrade;
