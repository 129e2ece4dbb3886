//! From the listener to a worker: accepts connections, and gives each to the worker that the balancer chooses.

use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use wasmhost_serve::clients::client_at;
use wasmhost_serve::listener::BACKLOG;
use wasmhost_serve::worker::inbox::{self, Accepted};
use wasmhost_serve::worker::{Peer, WorkerId};

use super::acceptors::Acceptors;
use super::division::{Division, FRONT};
use super::first_requests::{Arrived, FirstRequests};
use super::held::{HELD_FOR_MAX, HeldForwards};
use super::place::Place;
use super::state::Primary;
use crate::backend::{Backend, Worker};
use crate::balancer::{BelongsTo, Decision, WorkerView};

/// Connections that the primary accepts before it looks at anything else.
const ACCEPTS_A_TURN: usize = 64;
/// How long a connection that no worker can take waits before the workers are asked again.
pub(super) const DISPATCH_AGAIN: Duration = Duration::from_millis(2);
/// At most how long a host that stops goes on taking connections from its backlog before its workers drain.
const REST_WITHIN: Duration = Duration::from_secs(2);

/// A connection that no worker could take, and when the workers are asked again. Other events do not put that off.
pub(super) struct HeldConnection {
    incoming: Arrived,
    again_at: Instant,
}

impl HeldConnection {
    fn new(incoming: Arrived) -> Self {
        Self { incoming, again_at: Instant::now() + DISPATCH_AGAIN }
    }
}

/// What a host that stops still takes from its backlog: as many connections as a backlog holds, within [`REST_WITHIN`] and
/// the drain's time.
pub(super) struct Rest {
    until: Instant,
    left: usize,
}

impl Rest {
    pub(super) fn new(drain_timeout: Duration) -> Self {
        Self { until: Instant::now() + drain_timeout.min(REST_WITHIN), left: usize::try_from(BACKLOG).unwrap_or(0) }
    }
}

impl<B: Backend> Primary<B> {
    /// Gives a connection to a worker, and those that wait behind it; back when no worker can take it now.
    pub(super) fn take_in(
        &mut self,
        first: Arrived,
        acceptors: &mut Acceptors,
        first_requests: &FirstRequests,
    ) -> Option<HeldConnection> {
        let next = || acceptors.next_waiting().and_then(|connection| first_requests.admit(connection));
        a_turn(first, |incoming| self.dispatch(incoming), next).map(HeldConnection::new)
    }

    /// Before the listeners are closed: gives some of the connections that wait in their backlogs to workers. The kernel would
    /// reset them. True when they can be closed: none waits any more, or `rest` is at its end.
    pub(super) fn take_in_rest(
        &mut self,
        rest: &mut Rest,
        acceptors: &mut Acceptors,
        (first_requests, held): (&mut FirstRequests, &mut Option<HeldConnection>),
    ) -> bool {
        let is_over = Instant::now() >= rest.until;
        let mut first = held.take().map(|held| held.incoming);
        for _ in 0..ACCEPTS_A_TURN.min(rest.left) {
            let accepted = first.take().or_else(|| first_requests.next_of_rest());
            let Some(incoming) = accepted.or_else(|| acceptors.next_of_rest().map(Arrived::from)) else { break };
            if let Some(refused) = self.dispatch(incoming) {
                *held = Some(HeldConnection::new(refused));
                break;
            }
            rest.left -= 1;
        }
        if held.is_none() && !first_requests.has_waiting() && !acceptors.has_waiting() {
            return true;
        }
        if is_over || rest.left == 0 {
            tracing::warn!(
                max_connections = self.admission.max(),
                "connections that wait are closed unanswered: no worker could take them before the host stops"
            );
            return true;
        }
        false
    }

    /// A worker that takes clients' connections wants a connection to a worker of this group. Where none can take it for a
    /// while, it is closed, which tells the other side.
    pub(super) fn forward(&mut self, from: WorkerId, group: &str, socket: UnixStream) {
        let is_front = self.place_of(from).is_some_and(|place| place.division == FRONT);
        let division = self.divisions.iter().position(|division| division.group.as_deref() == Some(group));
        let Some(division) = division.filter(|_| is_front) else { return };
        let Some(permit) = self.divisions[division].admission.try_take() else { return };
        let connection =
            inbox::Connection { socket: Accepted::Unix(socket), peer: Peer::Front, listener: None, permit };
        self.with_held(division, |primary, held| {
            let now = Instant::now();
            // A worker that is being replaced has as long to finish its requests, and there may be no other.
            let is_replaced = primary.divisions[division].places.iter().any(|place| primary.places[*place].leaves);
            let until = now + HELD_FOR_MAX + if is_replaced { primary.config.drain_timeout } else { Duration::ZERO };
            held.take_in(connection.into(), (now, until), |incoming| primary.dispatch_in(division, incoming));
        });
    }

    /// When [`Self::forward_held`] has something to do.
    pub(super) fn held_due_at(&self) -> Option<Instant> {
        self.divisions.iter().filter_map(|division| division.held.due_at()).min()
    }

    /// Gives connections that are held to workers of groups that can take them now.
    pub(super) fn forward_held(&mut self) {
        let now = Instant::now();
        for division in 0..self.divisions.len() {
            self.with_held(division, |primary, held| {
                held.try_again(now, |incoming| primary.dispatch_in(division, incoming));
            });
        }
    }

    /// Acts on what is held for the workers of a division.
    pub(super) fn with_held(&mut self, division: usize, act: impl FnOnce(&mut Self, &mut HeldForwards<Arrived>)) {
        let mut held = std::mem::replace(&mut self.divisions[division].held, HeldForwards::new());
        act(self, &mut held);
        self.divisions[division].held = held;
    }

    /// Gives a client's connection to a worker, or back when none can take it now.
    fn dispatch(&mut self, incoming: Arrived) -> Option<Arrived> {
        self.dispatch_in(FRONT, incoming)
    }

    /// The same among the workers of this division.
    pub(super) fn dispatch_in(
        &mut self,
        division: usize,
        Arrived { mut connection, value }: Arrived,
    ) -> Option<Arrived> {
        let now = Instant::now();
        let Division { places, balancer, .. } = &mut self.divisions[division];
        let wanted = places.iter().filter_map(|place| self.places.get(*place)).filter(|place| place.is_wanted);
        let wanted: Vec<&Place<B>> = wanted.collect();
        let views: Vec<WorkerView> = wanted.iter().map(|place| place.view(now)).collect();
        let address = || match connection.peer {
            Peer::Tcp(address) => client_at(address, &[]).map(BelongsTo::Address),
            Peer::Unix | Peer::Front | Peer::Schedule | Peer::App => None,
        };
        let owner = value.map(BelongsTo::Value).or_else(address);
        let Decision::Dispatch { to, passed_over } = balancer.dispatch(self.config.balance, &views, owner) else {
            return Some(Arrived { connection, value });
        };
        let place = wanted[to];
        let Some(handle) = &place.handle else { return Some(Arrived { connection, value }) };
        connection.permit.assign(&place.scoreboard.metrics);
        if let Err(mut connection) = handle.try_send(connection) {
            connection.permit.unassign();
            return Some(Arrived { connection, value });
        }
        if let Some(late) = passed_over {
            wanted[late].scoreboard.metrics.passed_over.fetch_add(1, Relaxed);
        }
        None
    }
}

/// Dispatches `first` and those that come from `next`, [`ACCEPTS_A_TURN`] at most. Gives back the one that could not be
/// dispatched. Whatever it takes from `next` it dispatches: at the turn's end it has none in hand.
fn a_turn<C>(first: C, mut dispatch: impl FnMut(C) -> Option<C>, mut next: impl FnMut() -> Option<C>) -> Option<C> {
    let mut refused = dispatch(first);
    for _ in 1..ACCEPTS_A_TURN {
        if refused.is_some() {
            break;
        }
        match next() {
            Some(connection) => refused = dispatch(connection),
            None => break,
        }
    }
    refused
}

/// The next connection: the one that is held, at its moment, else a new one. Never ready without either.
pub(super) async fn next_connection(
    acceptors: &mut Acceptors,
    first_requests: &mut FirstRequests,
    held: &mut Option<HeldConnection>,
) -> Arrived {
    if let Some(waiting) = held {
        tokio::time::sleep_until(waiting.again_at.into()).await;
        if let Some(held) = held.take() {
            return held.incoming;
        }
    }
    loop {
        tokio::select! {
            incoming = first_requests.next() => return incoming,
            connection = acceptors.next() => {
                if let Some(incoming) = first_requests.admit(connection) {
                    return incoming;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_serve::worker::inbox::{Admission, PerClient};

    #[test]
    fn a_turn_accepts_no_connection_that_it_does_not_dispatch() {
        let (mut waiting, mut dispatched) = (1..200, Vec::new());
        let held = a_turn(
            0,
            |connection| {
                dispatched.push(connection);
                None
            },
            || waiting.next(),
        );
        assert_eq!(held, None, "workers are free, and none is held back");
        assert_eq!(dispatched, (0..64).collect::<Vec<_>>());
        assert_eq!(waiting.next(), Some(64), "the next one still waits in the backlog");
    }

    #[test]
    fn a_connection_that_no_worker_takes_ends_the_turn_and_is_given_back() {
        for room in 0..3 {
            let (mut waiting, mut left) = (1..10, room);
            let dispatch = |connection| match left {
                0 => Some(connection),
                _ => {
                    left -= 1;
                    None
                }
            };
            assert_eq!(a_turn(0, dispatch, || waiting.next()), Some(room));
            assert_eq!(waiting.next(), Some(room + 1), "no other was accepted");
        }
    }

    #[test]
    fn events_do_not_put_off_when_a_held_connection_is_tried_again() -> std::io::Result<()> {
        let (socket, _other) = UnixStream::pair()?;
        let permit = Admission::new(1, PerClient::Unbounded).try_take().ok_or(std::io::ErrorKind::Other)?;
        let mut held = Some(HeldConnection::new(
            inbox::Connection { socket: Accepted::Unix(socket), peer: Peer::Unix, listener: None, permit }.into(),
        ));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            let (mut acceptors, mut first_requests) =
                (Acceptors::default(), FirstRequests::new(None, Duration::ZERO, 0));
            for _ in 0..1_000 {
                // As the primary's loop does it, which begins to wait anew after each event.
                let event = tokio::time::sleep(DISPATCH_AGAIN / 2);
                tokio::select! {
                    biased;
                    () = event => {}
                    _ = next_connection(&mut acceptors, &mut first_requests, &mut held) => return Ok(()),
                }
            }
            Err(std::io::Error::other("the connection was never tried again"))
        })
    }
}
