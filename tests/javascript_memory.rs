//! Does an instance of JavaScript stay small, as the build sets up the engine's garbage collector? `guest/packages.sh` has installed
//! the packages. It takes long, and runs in `.ci/long`.

use crate::javascript::FIRST_START_CEILING;
use crate::support::{Connection, Server, TestResult, command, facility};

const REQUESTS: u32 = 200_000;
/// What it may have at the end. Where the collector is as the engine has it, it has some 70 MB.
const BYTES_MAX: u64 = 40_000_000;

/// Runs `wasmhost` with these words, below the packages.
///
/// # Panics
/// When it fails.
fn wasmhost(words: &[&str], folder: &std::path::Path) {
    let output = command().current_dir(folder).args(words).output().expect("the binary starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test(needs(Packages))]
fn an_instance_of_the_template_stays_small_over_200000_requests() -> TestResult {
    let dir = tempfile::tempdir_in(facility::packages())?;
    wasmhost(&["new", "hello", "--lang", "js"], dir.path());
    let folder = dir.path().join("hello");
    wasmhost(&["build", "--no-install"], &folder);
    let component = folder.join("hello.wasm");
    let flags = ["--workers", "1", "--instances-per-worker", "1"];
    let server = Server::start_within(FIRST_START_CEILING, component.to_str().ok_or("a path in UTF-8")?, &flags);
    let bytes = || server.status()["instance_memory_bytes"].as_u64().unwrap_or(u64::MAX);
    let mut connection = Connection::open(server.address);
    let mut sizes = Vec::new();
    for asked in 1..=REQUESTS {
        let response = connection.get("/");
        assert_eq!(response.status, 200, "request {asked}: {}", response.text());
        if asked % (REQUESTS / 10) == 0 {
            sizes.push(bytes());
        }
    }
    println!("bytes of the instance after each tenth of {REQUESTS} requests: {sizes:?}");
    assert_eq!(server.sum("generation"), 1, "the first instance lives still");
    let (half, end) = (sizes[4], sizes[9]);
    assert!(end <= BYTES_MAX && end <= half, "{sizes:?}");
    Ok(())
}
