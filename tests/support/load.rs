//! Clients that ask all the time while something changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use super::{Connection, TestResult, get};

/// [`under_load_of`] of `/`.
///
/// # Errors
/// As there.
pub fn under_load(address: SocketAddr, change: impl FnOnce() -> TestResult) -> Result<u64, Box<dyn std::error::Error>> {
    under_load_of(address, "/", change)
}

/// Has four clients ask for this path while `change` runs, two on new connections and two on kept ones, which they leave when an answer says
/// so. Each answer must be 200. How many there were.
///
/// # Errors
/// When a request failed, or `change` did.
pub fn under_load_of(
    address: SocketAddr,
    path: &str,
    change: impl FnOnce() -> TestResult,
) -> Result<u64, Box<dyn std::error::Error>> {
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let (is_over, answers) = (&is_over, &answers);
    thread::scope(|scope| {
        let client = move |number: usize| {
            let mut kept = Connection::open(address);
            while !is_over.load(Relaxed) {
                if number.is_multiple_of(2) {
                    assert_eq!(get(address, path).status, 200);
                } else {
                    let answer = kept.get(path);
                    assert_eq!(answer.status, 200);
                    if answer.header("connection") == Some("close") {
                        kept = Connection::open(address);
                    }
                }
                answers.fetch_add(1, Relaxed);
            }
        };
        let clients: Vec<_> = (0..4).map(|number| scope.spawn(move || client(number))).collect();
        let changed = change();
        is_over.store(true, Relaxed);
        for client in clients {
            client.join().map_err(|_| "a request failed")?;
        }
        changed
    })?;
    Ok(answers.load(Relaxed))
}
