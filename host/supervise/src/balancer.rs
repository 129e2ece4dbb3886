//! Chooses the worker that gets the next connection. Pure: the primary shows it what each worker looks like at that
//! moment, in the order of their numbers, and carries out the [`Decision`].

use std::hash::{BuildHasher as _, RandomState};

use wasmhost_config::Balance;
use wasmhost_serve::clients::Client;

/// One worker, as seen at the moment of the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerView {
    /// Its number.
    pub number: u16,
    /// Its thread runs and takes connections.
    pub alive: bool,
    /// Connections that its inbox can still take.
    pub inbox_room: usize,
    /// For how many microseconds its loop has been held up; 0 when it turned just now.
    pub late_us: u64,
    /// Its instances answer (false: the slot is down after faults in a row).
    pub healthy: bool,
    /// Connections that it holds, those in its inbox included.
    pub connections: usize,
}

/// A worker whose loop has not turned for longer is passed over while another is ready. Several ticks long, so that a
/// healthy worker in the middle of a burst is not passed over, and far below what a person notices.
pub const LATE_AFTER_US: u64 = 15_000;

impl WorkerView {
    fn can_take(&self) -> bool {
        self.alive && self.inbox_room > 0
    }

    fn is_ready(&self) -> bool {
        self.can_take() && self.healthy && self.late_us < LATE_AFTER_US
    }
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Give it to a worker.
    Dispatch {
        /// The worker's index.
        to: usize,
        /// The worker whose turn it was, when it was not ready.
        passed_over: Option<usize>,
    },
    /// No worker can take it now: leave it in the listener's backlog and ask again.
    Wait,
}

/// By what a connection belongs to a worker, with [`Balance::Client`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BelongsTo {
    /// Its client's address.
    Address(Client),
    /// A number for a value in its first request.
    Value(u64),
}

/// The turn, and which worker a client belongs to.
#[derive(Debug, Default)]
pub struct Balancer {
    next: usize,
    /// Of this run of the host: no client can tell which worker it will have.
    belonging: RandomState,
}

impl Balancer {
    /// Chooses among `workers`: the next ready one in turn; when none is ready, the healthy and then the least late one
    /// that has room. With [`Balance::Client`], that of `owner`, if it is known.
    pub fn dispatch(&mut self, balance: Balance, workers: &[WorkerView], owner: Option<BelongsTo>) -> Decision {
        if let (Balance::Client, Some(owner)) = (balance, owner) {
            return self.dispatch_to_own(workers, owner);
        }
        let count = workers.len();
        let in_turn = (0..count).map(|step| (self.next + step) % count);
        let first_of = |candidates: &mut dyn Iterator<Item = usize>| match balance {
            Balance::RoundRobin | Balance::Client | Balance::Kernel => candidates.next(),
            Balance::LeastConnections => candidates.min_by_key(|&index| workers[index].connections),
        };
        let due = first_of(&mut in_turn.clone());
        let chosen = first_of(&mut in_turn.filter(|&index| workers[index].is_ready())).or_else(|| {
            (0..count)
                .map(|step| (self.next + step) % count)
                .filter(|&index| workers[index].can_take())
                .min_by_key(|&index| (!workers[index].healthy, workers[index].late_us))
        });
        match chosen {
            Some(to) => {
                self.next = (to + 1) % count;
                Decision::Dispatch { to, passed_over: due.filter(|&due| due != to) }
            }
            None => Decision::Wait,
        }
    }

    /// Rendezvous hashing: the worker with the highest weight for this owner. When workers come or go, only clients of those have another
    /// one. A busy worker keeps its clients; one that cannot take a connection, or is down, is replaced by the next in weight.
    fn dispatch_to_own(&self, workers: &[WorkerView], owner: BelongsTo) -> Decision {
        let weight = |worker: &WorkerView| self.belonging.hash_one((owner, worker.number));
        let takers = (0..).zip(workers).filter(|(_, worker)| worker.can_take());
        let own = takers.max_by_key(|(_, worker)| (worker.healthy, weight(worker)));
        own.map_or(Decision::Wait, |(to, _)| Decision::Dispatch { to, passed_over: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const READY: WorkerView =
        WorkerView { number: 1, alive: true, inbox_room: 10, late_us: 0, healthy: true, connections: 0 };

    fn decisions(balance: Balance, workers: &[WorkerView], times: usize) -> Vec<Decision> {
        let mut balancer = Balancer::default();
        (0..times).map(|_| balancer.dispatch(balance, workers, None)).collect()
    }

    /// The indices of those who got the connections; none where one waits.
    fn picks(balance: Balance, workers: &[WorkerView], times: usize) -> Vec<Option<usize>> {
        let to = |decision| match decision {
            Decision::Dispatch { to, .. } => Some(to),
            Decision::Wait => None,
        };
        decisions(balance, workers, times).into_iter().map(to).collect()
    }

    #[test]
    fn ready_workers_take_turns() {
        let expected = [0, 1, 2, 0, 1].map(Some);
        assert_eq!(picks(Balance::RoundRobin, &[READY; 3], 5), expected);
    }

    #[test]
    fn a_late_or_full_or_down_or_dead_worker_is_passed_over() {
        let late = WorkerView { late_us: LATE_AFTER_US, ..READY };
        let full = WorkerView { inbox_room: 0, ..READY };
        let down = WorkerView { healthy: false, ..READY };
        let dead = WorkerView { alive: false, ..READY };
        let workers = [late, READY, full, down, dead];
        assert_eq!(picks(Balance::RoundRobin, &workers, 3), [Some(1); 3]);
    }

    #[test]
    fn a_worker_is_named_that_was_passed_over_in_its_turn() {
        let late = WorkerView { late_us: LATE_AFTER_US, ..READY };
        let passed = |balance, workers: &[WorkerView], times| -> Vec<Option<usize>> {
            let named = |decision| match decision {
                Decision::Dispatch { passed_over, .. } => passed_over,
                Decision::Wait => None,
            };
            decisions(balance, workers, times).into_iter().map(named).collect()
        };
        assert_eq!(passed(Balance::RoundRobin, &[READY; 2], 4), [None; 4]);
        // Turn and turn about: after the second worker it is the first one's turn again.
        assert_eq!(passed(Balance::RoundRobin, &[late, READY], 3), [Some(0); 3]);
        assert_eq!(passed(Balance::RoundRobin, &[READY, late, READY], 4), [None, Some(1), None, Some(1)]);
        let with = |connections| WorkerView { connections, ..late };
        assert_eq!(passed(Balance::LeastConnections, &[READY, with(0)], 2), [None, Some(1)]);
        assert_eq!(passed(Balance::LeastConnections, &[READY, with(9)], 2), [None, None]);
        // Nobody is ready, and the one whose turn it is gets it all the same.
        assert_eq!(passed(Balance::RoundRobin, &[late; 2], 2), [None; 2]);
    }

    #[test]
    fn when_none_is_ready_the_least_late_gets_it_and_a_down_one_last() {
        let late = |late_us| WorkerView { late_us, ..READY };
        let down = WorkerView { healthy: false, ..READY };
        let workers = [late(90_000), down, late(30_000)];
        assert_eq!(picks(Balance::RoundRobin, &workers, 2), [Some(2); 2]);
        assert_eq!(picks(Balance::RoundRobin, &[down], 1), [Some(0)]);
    }

    #[test]
    fn with_no_room_anywhere_the_connection_waits() {
        let full = WorkerView { inbox_room: 0, ..READY };
        assert_eq!(picks(Balance::RoundRobin, &[full; 2], 1), [None]);
        assert_eq!(picks(Balance::RoundRobin, &[], 1), [None]);
    }

    #[test]
    fn least_connections_takes_the_emptiest() {
        let with = |connections| WorkerView { connections, ..READY };
        let workers = [with(3), with(1), with(2)];
        assert_eq!(picks(Balance::LeastConnections, &workers, 1), [Some(1)]);
    }

    #[test]
    fn a_client_keeps_its_worker_whatever_others_do_and_has_another_one_only_while_that_cannot_take_it() {
        let mut balancer = Balancer::default();
        let mut own = |workers: &[WorkerView], client: u32| {
            let owner = BelongsTo::Address(Client::from(std::net::Ipv4Addr::from_bits(client)));
            match balancer.dispatch(Balance::Client, workers, Some(owner)) {
                Decision::Dispatch { to, passed_over: None } => Some(workers[to].number),
                _ => None,
            }
        };
        let numbered = |number| WorkerView { number, ..READY };
        let four = [1, 2, 3, 4].map(numbered);
        let of: Vec<Option<u16>> = (0..1_000).map(|client| own(&four, client)).collect();
        for number in 1..=4 {
            let share = of.iter().filter(|of| **of == Some(number)).count();
            assert!((150..350).contains(&share), "{number}: {share} of 1,000");
        }
        let busy = four.map(|worker| WorkerView { late_us: 1_000_000, ..worker });
        let fewer = [1, 2, 4].map(numbered);
        let mut with_one_down = four;
        with_one_down[1].healthy = false;
        let mut with_one_full = four;
        with_one_full[1].inbox_room = 0;
        for (client, of) in (0..).zip(&of) {
            assert_eq!(own(&busy, client), *of, "a busy worker keeps its clients");
            assert_eq!((own(&fewer, client) == *of, *of == Some(3)), (*of != Some(3), *of == Some(3)));
            for workers in [&with_one_down, &with_one_full] {
                assert_eq!(own(workers, client) == *of, *of != Some(2));
            }
        }
        assert_eq!(own(&four.map(|worker| WorkerView { alive: false, ..worker }), 1), None);
    }

    proptest! {
        #[test]
        fn round_robin_over_ready_workers_differs_by_at_most_one(workers in 1_usize..20, connections in 0_usize..2_000) {
            let views = vec![READY; workers];
            let mut counts = vec![0_usize; workers];
            for decision in picks(Balance::RoundRobin, &views, connections) {
                match decision {
                    Some(index) => counts[index] += 1,
                    None => prop_assert!(false),
                }
            }
            let spread = counts.iter().max().zip(counts.iter().min()).map(|(max, min)| max - min);
            prop_assert!(spread.is_some_and(|spread| spread <= 1));
        }
    }
}
