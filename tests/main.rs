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
mod balancing;
mod cli;
mod connections;
mod counting;
mod dev;
mod environment;
#[cfg(feature = "fault-injection")]
mod host_faults;
mod host_resources;
mod inspect;
mod isolation;
mod languages;
mod limits;
mod loading;
mod outgoing;
mod processes;
mod programs;
mod projects;
mod protocol;
mod recovery;
mod reload;
mod serving;
mod sharing;
mod shutdown;
mod streaming;
mod table;
mod tidy;
