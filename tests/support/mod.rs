//! What the tests have in common.

pub mod acme;
pub mod apps;
pub mod cgroup;
pub mod client;
pub mod collector;
pub mod control;
pub mod document;
pub mod facility;
pub mod harness;
pub mod hpack;
pub mod http2;
pub mod load;
pub mod neighbours;
pub mod ports;
pub mod pty;
pub mod redis;
pub mod run;
pub mod schema;
pub mod server;
pub mod tls;
pub mod wat;

use std::time::{Duration, Instant};

pub use client::{Connection, Response, get, request};
pub use control::Runtime;
pub use load::{under_load, under_load_of};
pub use neighbours::Neighbours;
pub use ports::{free_address, free_port};
pub use run::{Finished, run};
pub use server::{Server, command, message};

/// Ceiling of every wait; far above what a busy machine needs.
pub const CEILING: Duration = Duration::from_secs(20);

/// What a test ends with.
pub type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Asks again and again until `fact` holds.
///
/// # Panics
/// When it does not hold within the ceiling.
#[track_caller]
pub fn eventually(what: &str, fact: impl FnMut() -> bool) {
    eventually_within(CEILING, what, fact);
}

/// [`eventually`], for what takes longer than the ceiling of other waits.
#[track_caller]
pub fn eventually_within(ceiling: Duration, what: &str, mut fact: impl FnMut() -> bool) {
    let began = Instant::now();
    while !fact() {
        assert!(began.elapsed() < ceiling, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The numbers of the CPUs that this process may use.
pub fn cpus() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).expect("a list").trim();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    let ranges = list.split(',').map(|range| range.split_once('-').unwrap_or((range, range)));
    ranges.flat_map(|(first, last)| number(first)..=number(last)).collect()
}

/// Path of a prebuilt or rebuilt component (`hello.wasm`, `faults-p3.wasm`, `wat/trap.wat`); `WASMHOST_TEST_GUESTS` names
/// another folder for the built ones. An absolute path stays as it is.
pub fn guest(name: &str) -> String {
    if name.starts_with('/') {
        return name.to_owned();
    }
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../guest");
    let folder = match std::env::var("WASMHOST_TEST_GUESTS") {
        Ok(folder) if !name.starts_with("wat/") => folder,
        _ => own.to_owned(),
    };
    format!("{folder}/{name}")
}

/// The two builds of the guest whose path is the verb: wasi 0.2 and 0.3.
pub const FAULTS: [&str; 2] = ["faults.wasm", "faults-p3.wasm"];
