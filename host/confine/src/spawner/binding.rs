//! Binding the new addresses of a reading. Blocks where a Unix socket's folder is on a file system that does not answer.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use wasmhost_base::socket_file::{self, SocketFile};
use wasmhost_config::{LOW_PORTS, Listen};

/// New addresses that one reading may bring.
const NEW_LISTENERS_MAX: usize = 64;

/// What came of the new addresses of a reading.
#[derive(Default)]
pub(super) struct BoundListeners {
    /// Each new address, and its file if it has one; or why it cannot be had.
    pub(super) listeners: Vec<(Listen, Result<Option<SocketFile>, String>)>,
    /// The sockets, each with the number of its address there.
    pub(super) sockets: Vec<(usize, OwnedFd)>,
    pub(super) files: NewFiles,
}

/// Binds those of the addresses on which nobody listens yet. Blocks.
pub(super) fn bind_new(addresses: &[Listen], listening: &[Listen]) -> BoundListeners {
    let mut all = BoundListeners::default();
    for listen in addresses.iter().filter(|listen| !listening.contains(listen)) {
        let too_many =
            || io::Error::other(format!("a reload brings {NEW_LISTENERS_MAX} of them at most; reload once more"));
        let bound = if all.sockets.len() < NEW_LISTENERS_MAX { bind(listen) } else { Err(too_many()) };
        let bound = bound.map(|(socket, file)| {
            all.sockets.push((all.listeners.len(), socket));
            all.files.0.extend(file.clone());
            file
        });
        all.listeners.push((listen.clone(), bound.map_err(|error| error.to_string())));
    }
    all
}

/// Files of sockets that were bound for a reading. They are removed with it, unless they are kept.
#[derive(Debug, Default)]
pub(super) struct NewFiles(Vec<SocketFile>);

impl NewFiles {
    /// Somebody else removes them.
    pub(super) fn keep(&mut self) -> Vec<SocketFile> {
        std::mem::take(&mut self.0)
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        self.0.iter().for_each(SocketFile::remove);
    }
}

/// Binds an address. Whoever gets the socket sets its options and listens.
fn bind(listen: &Listen) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match listen {
        Listen::Tcp(address) => {
            let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, address).map_err(|error| match error {
                rustix::io::Errno::ACCESS => io::Error::other(LOW_PORTS),
                error => error.into(),
            })?;
            Ok((socket, None))
        }
        Listen::Unix(path) => {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            socket_file::remove_abandoned(path)?;
            rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path)?).map_err(|error| match error {
                rustix::io::Errno::ACCESS => io::Error::other(
                    "the host may make sockets only in folders in which it had one at its start; restart it",
                ),
                error => error.into(),
            })?;
            Ok((socket, Some(SocketFile::at(path)?)))
        }
        Listen::Inherited(_) => Err(io::Error::other("sockets are handed over at a start only; restart the host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_beyond_those_that_one_reading_may_bring_are_named_and_bound_by_the_next() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let address = |number: usize| Listen::Unix(folder.path().join(number.to_string()));
        let all: Vec<Listen> = (0..NEW_LISTENERS_MAX + 3).map(address).collect();
        let bound = bind_new(&all, &all[..1]);
        assert_eq!((bound.listeners.len(), bound.sockets.len()), (NEW_LISTENERS_MAX + 2, NEW_LISTENERS_MAX));
        let is_bound = |(_, bound): &(Listen, Result<_, String>)| bound.is_ok();
        assert!(bound.listeners[..NEW_LISTENERS_MAX].iter().all(is_bound));
        assert!(
            bound.listeners[NEW_LISTENERS_MAX..]
                .iter()
                .all(|(_, bound)| { bound.as_ref().is_err_and(|reason| reason.contains("reload once more")) })
        );
        let next = bind_new(&all, &all[..=NEW_LISTENERS_MAX]);
        assert!(next.listeners.len() == 2 && next.listeners.iter().all(is_bound));
        drop((bound, next));
        assert_eq!(std::fs::read_dir(folder.path())?.count(), 0, "nobody keeps them");
        Ok(())
    }
}
