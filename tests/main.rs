//! End to end tests: every one starts the real binary on a free port and speaks to it over the wire. A file for each
//! question; `support` has the server, the client and the wait.

#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on panics, and says why"
)]

mod support;

mod abandoned;
mod admin;
mod attacks;
mod balancing;
mod body_max;
mod cli;
#[cfg(feature = "fault-injection")]
mod confinement;
mod connections;
mod counting;
mod crowding;
mod dev;
mod environment;
mod fairness;
mod fuzz;
#[cfg(feature = "fault-injection")]
mod host_faults;
mod host_resources;
mod hostile_guests;
mod inspect;
mod isolation;
mod javascript;
mod languages;
mod limits;
mod loading;
mod machine;
mod outgoing;
mod overload;
mod processes;
mod programs;
mod projects;
mod protocol;
mod proxies;
mod recovery;
mod reload;
mod serving;
mod sharing;
mod shutdown;
mod smuggling;
mod streaming;
mod table;
mod tidy;
