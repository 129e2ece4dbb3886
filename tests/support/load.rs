//! Clients that ask all the time while something changes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use super::{Connection, TestResult};

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
    let ((), answers, failed) = counted_under_load(address, path, |_, _| change())?;
    if failed == 0 { Ok(answers) } else { Err(format!("{failed} of {answers} requests failed").into()) }
}

/// [`under_load_of`] of `/`.
///
/// # Errors
/// As there.
pub fn under_load(address: SocketAddr, change: impl FnOnce() -> TestResult) -> Result<u64, Box<dyn std::error::Error>> {
    under_load_of(address, "/", change)
}

/// Clients that ask again and again until they are told to stop.
struct Load<'a> {
    is_over: &'a AtomicBool,
    answers: &'a AtomicU64,
    /// Answers that were no 200, or not whole.
    failed: &'a AtomicU64,
}

impl Load<'_> {
    /// On kept connections, or a new one for each request. An answer that does not come panics.
    fn ask(&self, address: SocketAddr, path: &str, keeps: bool) {
        let mut connection = Connection::open(address);
        while !self.is_over.load(Relaxed) {
            if !keeps {
                connection = Connection::open(address);
            }
            let response = connection.get(path);
            self.answers.fetch_add(1, Relaxed);
            if response.status != 200 || !response.whole {
                self.failed.fetch_add(1, Relaxed);
            }
            if response.header("connection") == Some("close") || !response.whole {
                connection = Connection::open(address);
            }
        }
    }
}

/// What `work` gives (it sees both counts) while four clients ask for `path`, two on kept connections; how many answers they got, and how many failed.
///
/// # Errors
/// When a client got no answer, or `work` failed.
pub fn counted_under_load<T>(
    address: SocketAddr,
    path: &str,
    work: impl FnOnce(&AtomicU64, &AtomicU64) -> Result<T, Box<dyn std::error::Error>>,
) -> Result<(T, u64, u64), Box<dyn std::error::Error>> {
    let (is_over, answers, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let worked = thread::scope(|scope| {
        let (is_over, answers, failed) = (&is_over, &answers, &failed);
        let clients: Vec<_> = [true, true, false, false]
            .map(|keeps| scope.spawn(move || Load { is_over, answers, failed }.ask(address, path, keeps)))
            .into();
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(answers, failed)));
        is_over.store(true, Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client got no answer")?;
        }
        worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok((worked, answers.into_inner(), failed.into_inner()))
}
