//! The host that this one takes over from, as this one sees it: the sockets that it hands over, and the line to it.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};

use wasmhost_base::wire::{self, Descriptor, cut};
use wasmhost_config::Listen;
use wasmhost_serve::listener::{BindError, Bound};

use super::{FromSuccessor, HostSocket, SocketUse, SteeredState, TAKES_OVER, ToSuccessor};

/// Sockets that a host has at most: one of each worker for some addresses.
const SOCKETS_MAX: usize = 65_536;

/// Why a host cannot take over.
#[derive(Debug, thiserror::Error)]
pub enum PredecessorError {
    /// Standard input is something else.
    #[error("standard input is not a line to a host, though {TAKES_OVER} is set: {0}")]
    NotAHost(io::Error),
    /// The old host goes on.
    #[error("the host that runs goes on, and this one ends")]
    GoesOn,
}

/// The line to the host that this one takes over from, and what that one has handed over.
#[derive(Debug)]
pub struct Predecessor {
    line: OwnedFd,
    sockets: Vec<HostSocket>,
    taken: Vec<Listen>,
    steered: SteeredState,
}

impl Predecessor {
    /// The one at the other end of standard input, if this process was started to take over. Waits for its sockets.
    ///
    /// # Errors
    /// When there is none, or it has changed its mind.
    pub fn at_stdin() -> Result<Option<Self>, PredecessorError> {
        if std::env::var_os(TAKES_OVER).is_none() {
            return Ok(None);
        }
        let line = io::stdin().as_fd().try_clone_to_owned().map_err(PredecessorError::NotAHost)?;
        let kind = rustix::net::sockopt::socket_type(&line);
        kind.map_err(|error| PredecessorError::NotAHost(error.into()))?;
        let mut sockets = Vec::new();
        while sockets.len() < SOCKETS_MAX {
            match next(&line).map_err(PredecessorError::NotAHost)? {
                Some((ToSuccessor::Socket(used, file), mut descriptors)) => {
                    let socket = descriptors.take(Descriptor::Listener(0)).map_err(PredecessorError::NotAHost)?;
                    sockets.push(HostSocket { used, socket, file });
                }
                Some((ToSuccessor::AllSockets(steered), _)) => {
                    return Ok(Some(Self { line, sockets, taken: Vec::new(), steered }));
                }
                Some(_) | None => return Err(PredecessorError::GoesOn),
            }
        }
        Err(PredecessorError::NotAHost(io::Error::other("it hands over more sockets than a host has")))
    }

    /// Tells it why this host does not start.
    pub fn tell_failure(line: &OwnedFd, reason: &str) {
        // It may be gone.
        let _ = wire::send(line.as_fd(), &FromSuccessor::Failed(cut(reason)), &[]);
    }

    /// The line, once more.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn line(&self) -> io::Result<OwnedFd> {
        self.line.try_clone()
    }

    /// The line, the addresses whose sockets were taken, and what an operator has changed.
    pub(crate) fn into_parts(self) -> (OwnedFd, Vec<Listen>, SteeredState) {
        (self.line, self.taken, self.steered)
    }

    /// Whether it has a socket of an address.
    pub(crate) fn has(&self, listen: &Listen) -> bool {
        let is_of =
            |used: &SocketUse| matches!(used, SocketUse::Clients(of) | SocketUse::Worker(of, _) if of == listen);
        self.sockets.iter().any(|socket| is_of(&socket.used))
    }

    fn take(&mut self, is_it: impl Fn(&SocketUse) -> bool) -> Vec<HostSocket> {
        self.sockets.extract_if(.., |socket| is_it(&socket.used)).collect()
    }

    /// The sockets of an address. None: it has none.
    ///
    /// # Errors
    /// When one cannot be used.
    pub(crate) fn take_address(&mut self, listen: &Listen) -> Result<Vec<Bound>, BindError> {
        let found = self.take(|used| matches!(used, SocketUse::Clients(of) if of == listen));
        self.note_taken(listen, !found.is_empty());
        found.into_iter().map(|socket| Bound::handed_over(socket.socket, socket.file, &listen.to_string())).collect()
    }

    /// The sockets of workers at an address, in the order of their places. None: it has none.
    pub(crate) fn take_of_workers(&mut self, listen: &Listen) -> Vec<TcpListener> {
        let mut found = self.take(|used| matches!(used, SocketUse::Worker(of, _) if of == listen));
        found.sort_by_key(|socket| if let SocketUse::Worker(_, place) = &socket.used { *place } else { 0 });
        self.note_taken(listen, !found.is_empty());
        found.into_iter().map(|socket| TcpListener::from(socket.socket)).collect()
    }

    fn note_taken(&mut self, listen: &Listen, is_taken: bool) {
        if is_taken {
            self.taken.push(listen.clone());
        }
    }

    /// That of the admin page at this address.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn take_admin(&mut self, listen: &Listen) -> Result<Option<Bound>, BindError> {
        let found = self.take(|used| matches!(used, SocketUse::Admin(of) if of == listen)).pop();
        found.map(|socket| Bound::handed_over(socket.socket, socket.file, &listen.to_string())).transpose()
    }

    /// That of commands, if its file is one of these.
    ///
    /// # Errors
    /// When it cannot be used.
    pub(crate) fn take_control(&mut self, is_own: impl Fn(&Path) -> bool) -> Result<Option<Bound>, BindError> {
        let found = self.take(|used| matches!(used, SocketUse::Control)).pop();
        let found = found.filter(|socket| socket.file.as_ref().is_some_and(|file| is_own(file.path())));
        found.map(|socket| Bound::handed_over(socket.socket, socket.file, "the control socket")).transpose()
    }

    /// That of `wasmhost kv` in this data directory.
    pub(crate) fn take_stores(&mut self, data_dir: &Path) -> Option<OwnedFd> {
        let found = self.take(|used| matches!(used, SocketUse::Stores(of) if of == data_dir)).pop();
        found.map(|socket| socket.socket)
    }
}

impl HostSocket {
    /// A descriptor and what it is for, as they are sent.
    pub(crate) fn message(&self) -> (ToSuccessor, [wire::Sent<'_>; 1]) {
        let word = ToSuccessor::Socket(self.used.clone(), self.file.clone());
        (word, [(Descriptor::Listener(0), self.socket.as_fd())])
    }
}

/// The next word; waits for it, as long as the other process lives.
fn next(line: &OwnedFd) -> io::Result<Option<(ToSuccessor, wire::Descriptors)>> {
    loop {
        match wire::receive(line.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(line, PollFlags::IN)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            received => return received,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_to_the_addresses_that_they_are_of_and_each_once() -> Result<(), Box<dyn std::error::Error>> {
        let listen = |text: &str| text.parse().map(Listen::Tcp);
        let (one, two) = (listen("127.0.0.1:0")?, listen("127.0.0.1:1")?);
        let mut predecessor = Predecessor {
            line: wire::pair()?.0,
            sockets: Vec::new(),
            taken: Vec::new(),
            steered: SteeredState::default(),
        };
        let mut ports = Vec::new();
        for used in [
            SocketUse::Worker(one.clone(), 1),
            SocketUse::Clients(one.clone()),
            SocketUse::Worker(one.clone(), 0),
            SocketUse::Admin(two.clone()),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            ports.push(listener.local_addr()?.port());
            predecessor.sockets.push(HostSocket { used, socket: listener.into(), file: None });
        }
        assert!(predecessor.take_address(&two)?.is_empty());
        let port =
            |bound: &Bound| if let Bound::Tcp(tcp) = bound { tcp.local_addr().map(|at| at.port()).ok() } else { None };
        assert_eq!(predecessor.take_address(&one)?.iter().map(port).collect::<Vec<_>>(), [Some(ports[1])]);
        assert!(predecessor.take_address(&one)?.is_empty());
        let of_workers = predecessor.take_of_workers(&one);
        let of_workers: Result<Vec<u16>, _> =
            of_workers.iter().map(|tcp| tcp.local_addr().map(|at| at.port())).collect();
        assert_eq!(of_workers?, [ports[2], ports[0]]);
        assert!(predecessor.take_admin(&one)?.is_none() && predecessor.take_admin(&two)?.is_some());
        assert_eq!(predecessor.into_parts().1, [one.clone(), one]);
        Ok(())
    }
}
