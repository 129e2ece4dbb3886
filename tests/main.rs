//! End to end tests: every one starts the real binary on a free port and speaks to it over the wire. A file for each
//! question; `support` has the server, the client and the wait. `#[test]` is the attribute of `tests/attribute`, in all
//! files: a test names what it needs of the machine, and `support::harness` runs it or reports that it was left out.

#![allow(
    unreachable_pub,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test that cannot go on panics, and says why"
)]

#[macro_use]
extern crate wasmhost_test_attribute;

mod support;

mod abandoned;
mod acme;
mod addresses;
mod admin;
mod admin_access;
mod apps;
mod attacks;
mod balancing;
mod body_max;
mod capabilities;
mod circles;
mod cli;
mod compiling;
mod compression;
mod configuration;
mod confinement;
mod connections;
mod control;
mod counting;
mod crash_dir;
mod crowding;
mod dashboard;
mod debugging;
mod deploy;
mod deterministic;
mod dev;
mod dev_apps;
mod dev_compiling;
mod differences;
mod draining;
mod environment;
mod events;
mod fairness;
mod fuzz;
mod groups;
mod grpc;
mod host_faults;
mod host_resources;
mod hostile_guests;
mod http2;
mod http2_floods;
mod http2_rules;
mod http2_slow;
mod inspect;
mod isolation;
mod javascript;
mod javascript_corners;
mod javascript_memory;
mod javascript_workers;
mod kv;
mod languages;
mod limits;
mod loading;
mod log_level;
mod logs;
mod low_ports;
mod machine;
mod monitoring;
mod names;
mod openapi;
mod opening;
mod outage;
mod outgoing;
mod outgoing_addresses;
mod outgoing_bounds;
mod outgoing_http2;
mod outgoing_kept;
mod overload;
mod packages;
mod processes;
mod profile;
mod programs;
mod projects;
mod protocol;
mod proxies;
mod proxy_protocol;
mod ready;
mod recovery;
mod reference;
mod reload;
mod reloading;
mod restart;
mod revisions;
mod scale;
mod schedules;
mod secrets;
mod service_manager;
mod services;
mod serving;
mod settings;
mod sharing;
mod shutdown;
mod slow_clients;
mod smuggling;
mod sockets;
mod sqlite;
mod starting;
mod startup;
mod static_files;
mod stores;
mod stores_server;
mod streaming;
mod streams;
mod table;
mod tidy;
mod tls;
mod tls_workers;
mod top;
mod traces;
mod upgrade;

fn main() -> std::process::ExitCode {
    support::harness::main()
}
