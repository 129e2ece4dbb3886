//! Connections for the workers of a group that none of them can take now. They are held for a moment, in their order. Pure.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Connections that are held at once; further ones are closed, and their requests get 503.
const HELD_MAX: usize = 512;
/// For how long one of a client's request is held, beside the time that a worker has that is being replaced; then it is closed.
pub(super) const HELD_FOR_MAX: Duration = Duration::from_secs(1);
/// How often it is looked whether a worker can take them.
const AGAIN: Duration = Duration::from_millis(2);

/// What is held, and until when.
pub(super) struct HeldForwards<C> {
    waiting: VecDeque<(Instant, C)>,
    again_at: Instant,
}

impl<C> HeldForwards<C> {
    /// Nothing is held.
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), again_at: Instant::now() }
    }

    /// Gives this connection to a worker, behind those that are held, or holds it until then. `dispatch` gives back what no worker
    /// can take now.
    pub(super) fn take_in(
        &mut self,
        connection: C,
        (now, until): (Instant, Instant),
        mut dispatch: impl FnMut(C) -> Option<C>,
    ) {
        let left = if self.waiting.is_empty() { dispatch(connection) } else { Some(connection) };
        let Some(left) = left.filter(|_| self.waiting.len() < HELD_MAX) else { return };
        if self.waiting.is_empty() {
            self.again_at = now + AGAIN;
        }
        self.waiting.push_back((until, left));
    }

    /// When [`Self::try_again`] has something to do.
    pub(super) fn due_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.again_at)
    }

    /// Gives those that are held to workers, the oldest first, and closes those whose time is over.
    pub(super) fn try_again(&mut self, now: Instant, mut dispatch: impl FnMut(C) -> Option<C>) {
        self.again_at = now + AGAIN;
        while let Some((until, connection)) = self.waiting.pop_front() {
            if let Some(left) = dispatch(connection).filter(|_| now < until) {
                self.waiting.push_front((until, left));
                // Those behind it may wait for less long.
                self.waiting.retain(|(until, _)| now < *until);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody takes it.
    const NOBODY: fn(usize) -> Option<usize> = Some;

    fn soon(now: Instant) -> (Instant, Instant) {
        (now, now + HELD_FOR_MAX)
    }

    /// Those that workers take when all can.
    fn taken(held: &mut HeldForwards<usize>, now: Instant) -> Vec<usize> {
        let mut taken = Vec::new();
        held.try_again(now, |connection| {
            taken.push(connection);
            None
        });
        taken
    }

    #[test]
    fn what_nobody_can_take_now_is_given_in_its_order_as_soon_as_somebody_can() {
        let (mut held, now) = (HeldForwards::new(), Instant::now());
        assert_eq!(held.due_at(), None);
        held.take_in(1, soon(now), NOBODY);
        held.take_in(2, soon(now), |_| panic!("the first goes first"));
        assert_eq!(held.due_at(), Some(now + AGAIN));
        held.try_again(now + AGAIN, NOBODY);
        assert_eq!(held.due_at(), Some(now + 2 * AGAIN));
        assert_eq!(taken(&mut held, now + 2 * AGAIN), [1, 2]);
        assert_eq!(held.due_at(), None);
        held.take_in(3, soon(now), |_| None);
        assert_eq!(held.due_at(), None);
    }

    #[test]
    fn neither_too_many_are_held_nor_any_for_too_long() {
        let (mut held, now) = (HeldForwards::new(), Instant::now());
        for number in 0..HELD_MAX + 3 {
            held.take_in(number, soon(now), NOBODY);
        }
        let mut all = HeldForwards::new();
        std::mem::swap(&mut held, &mut all);
        assert_eq!(taken(&mut all, now), (0..HELD_MAX).collect::<Vec<_>>());
        held.take_in(1, soon(now), NOBODY);
        held.take_in(2, soon(now + AGAIN), NOBODY);
        held.try_again(now + HELD_FOR_MAX, NOBODY);
        assert_eq!(taken(&mut held, now + HELD_FOR_MAX), [2]);
    }

    #[test]
    fn one_that_may_wait_for_longer_does_so_and_keeps_nobody_longer() {
        let (mut held, now) = (HeldForwards::new(), Instant::now());
        held.take_in(1, (now, now + 30 * HELD_FOR_MAX), NOBODY);
        held.take_in(2, soon(now), NOBODY);
        held.try_again(now + HELD_FOR_MAX, NOBODY);
        assert_eq!(taken(&mut held, now + 2 * HELD_FOR_MAX), [1]);
    }
}
