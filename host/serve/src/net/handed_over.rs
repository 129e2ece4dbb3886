//! Sockets that a service manager hands over (sd_listen_fds(3)).

use std::io;
use std::os::fd::{BorrowedFd, RawFd};

use super::bind::{BindError, Bound, set_up};

/// Sockets that a service manager may hand over.
const HANDED_OVER_MAX: RawFd = 4_096;

/// Keeps the sockets that the service manager handed over, whether one of them is served or not, from the processes that
/// this one starts: a guest that broke out of a worker could accept its clients' connections. To be called before any
/// process is started.
pub fn keep_handed_over() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<RawFd>().ok());
    if number("LISTEN_PID").and_then(|pid| u32::try_from(pid).ok()) != Some(std::process::id()) {
        return;
    }
    let first = number("LISTEN_FDS_FIRST_FD").filter(|first| *first >= 0).unwrap_or(3);
    let end = first.saturating_add(number("LISTEN_FDS").unwrap_or(0).min(HANDED_OVER_MAX));
    for descriptor in first..end {
        #[expect(unsafe_code, reason = "a descriptor is named by its number")]
        // SAFETY: it is borrowed for one call, which changes no more than a flag of it. Where there is none of this number,
        // the call fails.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        // Why it cannot be used, if it is to be, is told when it is.
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC);
    }
}

/// The sockets that the service manager handed over; one at least.
///
/// # Errors
/// When there is none, or one is not a listening TCP or Unix stream socket.
pub fn handed_over() -> Result<Vec<Bound>, BindError> {
    let failed = |reason: String| {
        BindError {
        address: "the inherited sockets".to_owned(),
        reason,
        hint: "LISTEN_FDS must count listening TCP or Unix stream sockets from descriptor 3 on, with LISTEN_PID set to this process (sd_listen_fds(3))".to_owned(),
    }
    };
    let mut handed = listenfd::ListenFd::from_env();
    // The first is missed where there is none.
    let count = handed.len().max(1);
    let take = |number| {
        if let Ok(Some(listener)) = handed.take_tcp_listener(number) {
            set_up(&listener)?;
            return Ok(Bound::Tcp(listener));
        }
        let listener = handed.take_unix_listener(number)?.ok_or_else(|| io::Error::other("there is none"))?;
        listener.set_nonblocking(true)?;
        Ok(Bound::Unix(listener, None))
    };
    let sockets: io::Result<Vec<Bound>> = (0..count).map(take).collect();
    sockets.map_err(|error| failed(error.to_string()))
}
