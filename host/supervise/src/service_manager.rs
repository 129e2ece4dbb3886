//! What a service manager, such as systemd, hears of the host (sd_notify(3)): when it is ready, reloads, and stops, and that it
//! still lives. The messages are a few words in a datagram; a library for them connects for each, which a confined process may not.

use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// When a message that the manager had no room for is sent again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often, and after which pause, the manager is told of another main process, if it has no room for messages.
const HAND_OVER_TRIES: u32 = 50;
const HAND_OVER_PAUSE: Duration = Duration::from_millis(10);

/// What a start or a stop may take beyond the times that the settings give it.
const SLACK: Duration = Duration::from_secs(30);

/// What the host is doing, as far as a service manager wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceState {
    /// It serves.
    Ready,
    /// It serves, while it follows a `SIGHUP`.
    Reloading,
    /// It takes no more connections; it stops within this time.
    Stopping(Duration),
}

/// The line to the service manager; without one, it does nothing.
#[derive(Default)]
pub(crate) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// How long the manager waits for a sign of life, and when the next is sent.
    watchdog: Option<(Duration, Instant)>,
    told: Option<ServiceState>,
    /// When to tell again what could not be told.
    again_at: Option<Instant>,
    /// Another host is the service's main process, from which alone the manager hears.
    is_silent: bool,
}

impl ServiceManager {
    /// Connects with the manager that started this process, if it says where it listens (`NOTIFY_SOCKET`). Before the process
    /// confines itself. What the variables say that nobody can follow is logged, and the host starts all the same.
    pub(crate) fn connect() -> Self {
        let Ok(name) = env::var("NOTIFY_SOCKET") else { return Self::default() };
        let socket = match connected(&name) {
            Ok(socket) => socket,
            Err(error) => {
                tracing::warn!(
                    "the service manager does not hear of this host: no connection to NOTIFY_SOCKET `{name}`: {error}"
                );
                return Self::default();
            }
        };
        let (usec, pid) = (env::var("WATCHDOG_USEC").ok(), env::var("WATCHDOG_PID").ok());
        let period = watchdog(usec.as_deref(), pid.as_deref(), std::process::id());
        Self { socket: Some(socket), watchdog: period.map(|period| (period, Instant::now())), ..Self::default() }
    }

    /// Says nothing until [`Self::is_main`].
    pub(crate) fn be_silent(&mut self) {
        self.is_silent = true;
    }

    /// The manager hears from this process from now on.
    pub(crate) fn is_main(&mut self) {
        if std::mem::take(&mut self.is_silent) {
            self.told = None;
        }
    }

    /// Tells the manager that this process is the main one of the service, and nothing more after that.
    pub(crate) fn hands_over(&mut self, pid: u32) {
        for _ in 0..HAND_OVER_TRIES {
            if self.send(&format!("MAINPID={pid}")) {
                break;
            }
            std::thread::sleep(HAND_OVER_PAUSE);
        }
        *self = Self::default();
    }

    /// The start may take so long: a component may have to be compiled.
    pub(crate) fn starts(&mut self, within: Duration) {
        self.send(&format!("STATUS=loading\n{}", extend(within)));
    }

    /// Tells what the host is doing, once.
    pub(crate) fn tell(&mut self, state: ServiceState) {
        if self.socket.is_none()
            || self.is_silent
            || self.told == Some(state)
            || self.again_at.is_some_and(|at| Instant::now() < at)
        {
            return;
        }
        let is_told = self.send(&message(state, monotonic_us()));
        if is_told {
            self.told = Some(state);
        }
        self.again_at = (!is_told).then(|| Instant::now() + AGAIN);
    }

    /// Tells that the host follows a `SIGHUP`, also during another reload: the manager waits for a word that is later than its
    /// signal (`Type=notify-reload`, systemd.service(5)).
    pub(crate) fn reloads(&mut self) {
        self.told = None;
        self.tell(ServiceState::Reloading);
    }

    /// When to call [`Self::is_due`].
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at).into_iter().chain(self.again_at).min()
    }

    /// Sends a sign of life, if it is time for one. (What could not be told is told by the next [`Self::tell`].)
    pub(crate) fn is_due(&mut self) {
        let now = Instant::now();
        if let Some((period, at)) = self.watchdog.filter(|(_, at)| *at <= now) {
            self.send("WATCHDOG=1");
            self.watchdog = Some((period, at.max(now) + period / 3));
        }
    }

    /// Whether the manager took it.
    fn send(&mut self, message: &str) -> bool {
        let Some(socket) = self.socket.as_ref().filter(|_| !self.is_silent) else { return true };
        match socket.send(message.as_bytes()) {
            Ok(_) => true,
            Err(error) if !is_gone(&error) => false,
            Err(error) => {
                tracing::warn!("the service manager hears no more of this host: {error}");
                *self = Self::default();
                true
            }
        }
    }
}

/// Whether nobody will ever hear it. (Else it has not read the last ones yet, or the system has no memory just now.)
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, NotConnected, NotFound};
    matches!(error.kind(), ConnectionRefused | ConnectionReset | NotConnected | NotFound)
}

/// A path, or `@` and a name that is in no file system (unix(7)).
fn connected(name: &str) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The time within which the manager wants a sign of life from this process (sd_watchdog_enabled(3)).
fn watchdog(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    let is_for_another = pid.is_some_and(|pid| pid.trim().parse() != Ok(own));
    let period = usec?.trim().parse().ok().map(Duration::from_micros)?;
    (!is_for_another && !period.is_zero()).then_some(period)
}

fn extend(within: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", within.saturating_add(SLACK).as_micros())
}

fn message(state: ServiceState, monotonic_us: u64) -> String {
    match state {
        ServiceState::Ready => "READY=1\nSTATUS=serving".to_owned(),
        ServiceState::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}\nSTATUS=reloading"),
        ServiceState::Stopping(within) => format!("STOPPING=1\nSTATUS=draining\n{}", extend(within)),
    }
}

fn monotonic_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_is_wanted_of_the_process_that_the_variables_name() {
        let period = |usec, pid| watchdog(usec, pid, 7);
        assert_eq!(period(Some("3000000"), None), Some(Duration::from_secs(3)));
        assert_eq!(period(Some("3000000"), Some("7")), Some(Duration::from_secs(3)));
        for (usec, pid) in [
            (None, Some("7")),
            (Some("3000000"), Some("8")),
            (Some("3000000"), Some("")),
            (Some("0"), None),
            (Some("3s"), None),
        ] {
            assert_eq!(period(usec, pid), None, "{usec:?} {pid:?}");
        }
    }

    #[test]
    fn what_a_manager_has_no_room_for_is_told_later_and_once() -> io::Result<()> {
        let (manager, host) = UnixDatagram::pair()?;
        host.set_nonblocking(true)?;
        while host.send(b"x").is_ok() {}
        let mut told = ServiceManager { socket: Some(host), ..ServiceManager::default() };
        told.tell(ServiceState::Ready);
        assert!(told.told.is_none() && told.due_at().is_some());
        manager.set_nonblocking(true)?;
        let mut text = [0; 99];
        while manager.recv(&mut text).is_ok() {}
        told.again_at = Some(Instant::now());
        told.tell(ServiceState::Ready);
        told.tell(ServiceState::Ready);
        let length = manager.recv(&mut text)?;
        assert!(text[..length].starts_with(b"READY=1\n") && told.due_at().is_none());
        assert_eq!(manager.recv(&mut text).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        Ok(())
    }

    #[test]
    fn each_signal_to_reload_is_answered_also_during_a_reload() -> io::Result<()> {
        let (manager, host) = UnixDatagram::pair()?;
        manager.set_nonblocking(true)?;
        let mut told = ServiceManager { socket: Some(host), ..ServiceManager::default() };
        let mut times = Vec::new();
        for _ in 0..2 {
            told.reloads();
            told.tell(ServiceState::Reloading);
            let mut text = [0; 99];
            let length = manager.recv(&mut text)?;
            let text = String::from_utf8_lossy(&text[..length]).into_owned();
            times
                .extend(text.lines().nth(1).and_then(|line| line.strip_prefix("MONOTONIC_USEC=")?.parse::<u64>().ok()));
            assert_eq!(manager.recv(&mut [0; 99]).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        }
        assert!(times.len() == 2 && times.is_sorted(), "{times:?}");
        Ok(())
    }

    #[test]
    fn a_manager_that_is_gone_is_told_nothing_more() -> io::Result<()> {
        let (manager, host) = UnixDatagram::pair()?;
        drop(manager);
        let mut told = ServiceManager { socket: Some(host), ..ServiceManager::default() };
        told.tell(ServiceState::Ready);
        assert!(told.socket.is_none() && told.due_at().is_none());
        Ok(())
    }
}
