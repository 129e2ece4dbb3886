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

/// The sockets that the service manager handed over, each with its name, until somebody takes them.
#[derive(Debug, Default)]
pub struct HandedOver {
    is_read: bool,
    sockets: Vec<(String, Bound)>,
}

impl HandedOver {
    /// Those of this name, or all; one at least.
    ///
    /// # Errors
    /// When there is none, or one is not a listening TCP or Unix stream socket.
    pub fn take(&mut self, name: Option<&str>) -> Result<Vec<Bound>, BindError> {
        if !self.is_read {
            self.is_read = true;
            self.sockets = inherited()?;
        }
        let there: Vec<String> = self.sockets.iter().map(|(name, _)| format!("`{name}`")).collect();
        let is_wanted = |of: &str| name.is_none_or(|name| name == of);
        let taken: Vec<Bound> =
            self.sockets.extract_if(.., |(name, _)| is_wanted(name)).map(|(_, socket)| socket).collect();
        match name {
            None if taken.is_empty() => Err(failed("no socket is left".to_owned())),
            Some(name) if taken.is_empty() => Err(BindError {
                address: format!("the inherited sockets of the name `{name}`"),
                reason: format!("there is none; there are: {}", there.join(", ")),
                hint: "write FileDescriptorName= into the socket unit; LISTEN_FDNAMES has the names (sd_listen_fds(3))"
                    .to_owned(),
            }),
            _ => Ok(taken),
        }
    }
}

fn failed(reason: String) -> BindError {
    BindError {
        address: "the inherited sockets".to_owned(),
        reason,
        hint: "LISTEN_FDS must count listening TCP or Unix stream sockets from descriptor 3 on, with LISTEN_PID set to this process (sd_listen_fds(3))".to_owned(),
    }
}

fn inherited() -> Result<Vec<(String, Bound)>, BindError> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut handed = listenfd::ListenFd::from_env();
    // The first is missed where there is none.
    let count = handed.len().max(1);
    let take = |number| {
        let name = names.next().unwrap_or_default().to_owned();
        if let Ok(Some(listener)) = handed.take_tcp_listener(number) {
            set_up(&listener)?;
            return Ok((name, Bound::Tcp(listener)));
        }
        let listener = handed.take_unix_listener(number)?.ok_or_else(|| io::Error::other("there is none"))?;
        listener.set_nonblocking(true)?;
        Ok((name, Bound::Unix(listener, None)))
    };
    let sockets: io::Result<Vec<(String, Bound)>> = (0..count).map(take).collect();
    sockets.map_err(|error| failed(error.to_string()))
}
