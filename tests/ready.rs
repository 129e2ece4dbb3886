//! Is an instance ready before it is asked for (`--isolation request`), made while the worker had nothing else to do?

use std::time::{Duration, Instant};

use crate::support::{Server, TestResult, eventually, get, guest};

/// hello.wat, whose every instance computes for so many turns before it is ready.
fn slow_to_start(turns: u32) -> String {
    let text = std::fs::read_to_string(guest("wat/hello.wat")).expect("a text");
    let (before, after) = text.split_once("    (global $result").expect("its guest's module");
    let start = format!(
        "(func $slow (local $left i32) (local.set $left (i32.const {turns}))
           (loop $turn (br_if $turn (local.tee $left (i32.sub (local.get $left) (i32.const 1))))))
         (start $slow)"
    );
    format!("{before}{start}\n    (global $result{after}")
}

#[test]
fn no_request_waits_for_an_instance_while_some_are_ready() -> TestResult {
    // Kept ready by each worker (`READY_AHEAD`).
    const READY: u64 = 4;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("slow.wat");
    std::fs::write(&file, slow_to_start(100_000_000))?;
    let flags = ["--workers", "1", "--isolation", "request", "--queue-timeout", "20s"];
    let server = Server::start(file.to_str().ok_or("a path in UTF-8")?, &flags);
    let ask = || {
        let began = Instant::now();
        assert_eq!(get(server.address, "/").text(), "Hello, World!");
        began.elapsed()
    };
    let mut best = Duration::MAX;
    for round in 0..3 {
        eventually("all are ready", || server.sum("instances") == READY);
        assert_eq!(server.sum("generation"), READY + round, "one for each that was used, and made ahead");
        best = best.min(ask());
        eventually("another takes its place, unasked", || server.sum("generation") == READY + round + 1);
    }
    eventually("all are ready", || server.sum("instances") == READY);
    // More at once than are ready: some have to wait for theirs to be made.
    let slowest = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..2 * READY).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("a client")).max().expect("some")
    });
    assert!(best * 4 < slowest, "with an instance ready {best:?}, without {slowest:?}");
    Ok(())
}
