//! The listeners that the primary accepts on. None of them can starve another: the one that had a connection goes last the
//! next time.

use std::io;
use std::time::{Duration, Instant};

use wasmhost_config::Listen;
use wasmhost_serve::acceptor::{Acceptor, next_of};
use wasmhost_serve::worker::inbox::Connection;

use crate::upgrade::{HostSocket, SocketUse};

/// At most how long an address that is given up is still accepted on, for the connections that wait in its backlog.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// A listener.
pub(super) struct Door {
    acceptor: Acceptor,
    listen: Listen,
    /// It is given up: closed as soon as no connection waits, and then at the latest.
    close_at: Option<Instant>,
}

impl Door {
    /// Of this address, as the settings name it.
    pub(super) fn new(acceptor: Acceptor, listen: Listen) -> Self {
        Self { acceptor, listen, close_at: None }
    }
}

/// All of them, the next to be looked at first.
#[derive(Default)]
pub(super) struct Acceptors(Vec<Door>);

impl Acceptors {
    pub(super) fn new(doors: Vec<Door>) -> Self {
        Self(doors)
    }

    /// The next connection; never ready without a listener. May be dropped at any moment.
    pub(super) async fn next(&mut self) -> Connection {
        let (index, connection) = next_of(&mut self.0, |door| &mut door.acceptor).await;
        self.0.rotate_left(index + 1);
        connection
    }

    /// A connection that waits already, if the host takes one more.
    pub(super) fn next_waiting(&mut self) -> Option<Connection> {
        self.first_of(Acceptor::next_waiting)
    }

    /// A connection that waits, before the listeners are closed, if the host may take one more.
    pub(super) fn next_of_rest(&mut self) -> Option<Connection> {
        self.first_of(Acceptor::next_of_rest)
    }

    fn first_of(&mut self, look: fn(&mut Acceptor) -> Option<Connection>) -> Option<Connection> {
        let (index, connection) = first(self.0.iter_mut().map(|door| look(&mut door.acceptor)))?;
        self.0.rotate_left(index + 1);
        Some(connection)
    }

    /// Whether a connection waits at any.
    pub(super) fn has_waiting(&self) -> bool {
        self.0.iter().any(|door| door.acceptor.has_waiting())
    }

    /// Lets go of those that a service manager handed over: what waits there stays, for whoever is handed them next.
    pub(super) fn leave_handed_over(&mut self) {
        self.0.retain(|door| !matches!(door.listen, Listen::Inherited(_)));
    }

    /// Their sockets once more, for another host; without those that are given up.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn sockets(&self) -> io::Result<Vec<HostSocket>> {
        let socket = |door: &Door| {
            let listener = door.acceptor.listener();
            let used = SocketUse::Clients(door.listen.clone());
            Ok(HostSocket { used, socket: listener.duplicate()?, file: listener.file().cloned() })
        };
        self.0.iter().filter(|door| door.close_at.is_none()).map(socket).collect()
    }

    /// Lets go of those of these addresses: what waits there stays, for the host that has them, too.
    pub(super) fn leave(&mut self, taken: &[Listen]) {
        self.0.retain(|door| !taken.contains(&door.listen));
    }

    /// One more.
    pub(super) fn add(&mut self, door: Door) {
        self.0.push(door);
    }

    /// The addresses of all that are not given up.
    pub(super) fn listening(&self) -> Vec<Listen> {
        self.0.iter().filter(|door| door.close_at.is_none()).map(|door| door.listen.clone()).collect()
    }

    /// Gives up those of these addresses.
    pub(super) fn give_up(&mut self, closed: &[Listen]) {
        let is_closed = |door: &&mut Door| door.close_at.is_none() && closed.contains(&door.listen);
        for door in self.0.iter_mut().filter(is_closed) {
            door.close_at = Some(Instant::now() + CLOSED_WITHIN);
        }
    }

    /// Closes those that are given up and at which no connection waits.
    pub(super) fn close_given_up(&mut self) {
        let is_over = |door: &Door, at: Instant| Instant::now() >= at || !door.acceptor.has_waiting();
        self.0.retain(|door| !door.close_at.is_some_and(|at| is_over(door, at)));
    }

    /// Whether one is given up that is still there.
    pub(super) fn has_given_up(&self) -> bool {
        self.0.iter().any(|door| door.close_at.is_some())
    }

    /// Closes all.
    pub(super) fn close(&mut self) {
        self.0.clear();
    }
}

/// The first that there is, and its position. Looks no further.
fn first<T>(looks: impl Iterator<Item = Option<T>>) -> Option<(usize, T)> {
    looks.enumerate().find_map(|(index, found)| Some((index, found?)))
}
