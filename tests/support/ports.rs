//! Ports for programs that bind them later.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many ports this process has looked at: none is given twice.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// A port that is free on all addresses, and that the system gives to nobody who has not asked for it: below the range
/// that it takes ports from (`net.ipv4.ip_local_port_range`), so that no client of another test gets it meanwhile. Tests
/// are processes that begin at other places of the range.
///
/// # Panics
/// When none of 10,000 is free.
#[track_caller]
pub fn free_port() -> u16 {
    let first = std::process::id() % 1_000 * 10;
    let mut ports = (0..10_000).map(|_| 20_000 + (first + LOOKED_AT.fetch_add(1, Relaxed)) % 10_000);
    ports.find_map(|port| u16::try_from(port).ok().filter(|port| is_free(*port))).expect("a free port")
}

/// [`free_port`], on 127.0.0.1.
#[track_caller]
pub fn free_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Without IPv6, it is free on that.
fn is_free(port: u16) -> bool {
    let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    let is_taken = |ip| TcpListener::bind((ip, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
    !all.into_iter().any(is_taken)
}
