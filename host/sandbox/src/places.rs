//! Places for instances: how many there may be in a process at once, and a count by guest, so that one guest cannot take the
//! last of them from the others.
//!
//! A place is taken before an instance is made and given back when its store is dropped. All workers of the process count
//! here. The counts may be wrong for a moment by what other workers are just taking, but every change is taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::portions::may_take;

/// The places of one engine.
#[derive(Debug)]
pub(super) struct Places {
    max: u64,
    taken: AtomicU64,
    /// Guests that have some.
    holders: AtomicU64,
}

impl Places {
    /// So many.
    pub(super) fn new(max: u32) -> Arc<Self> {
        Arc::new(Self { max: max.into(), taken: AtomicU64::new(0), holders: AtomicU64::new(0) })
    }
}

/// The places that one guest has.
#[derive(Debug)]
pub(super) struct GuestPlaces {
    all: Arc<Places>,
    held: AtomicU64,
}

/// A place for one instance, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<GuestPlaces>);

impl GuestPlaces {
    /// For a guest that has none.
    pub(super) fn new(all: &Arc<Places>) -> Arc<Self> {
        Arc::new(Self { all: Arc::clone(all), held: AtomicU64::new(0) })
    }

    /// Most places of all guests together.
    pub(super) fn max(&self) -> u64 {
        self.all.max
    }

    /// Takes one; none when all are taken, or the few that are left are for guests that have less.
    pub(super) fn take(self: &Arc<Self>) -> Option<Place> {
        let all = &self.all;
        let own = self.held.fetch_add(1, Relaxed);
        if own == 0 {
            all.holders.fetch_add(1, Relaxed);
        }
        let within = |taken: u64| may_take(all.max, taken, 1, own, all.holders.load(Relaxed)).then_some(taken + 1);
        if all.taken.fetch_update(Relaxed, Relaxed, within).is_ok() {
            return Some(Place(Arc::clone(self)));
        }
        self.let_go();
        None
    }

    fn let_go(&self) {
        if self.held.fetch_sub(1, Relaxed) == 1 {
            self.all.holders.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.all.taken.fetch_sub(1, Relaxed);
        self.0.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_guest_may_have_all_places_and_each_comes_back_once() {
        let all = Places::new(2);
        let guest = GuestPlaces::new(&all);
        let held = (guest.take(), guest.take());
        assert!(held.0.is_some() && held.1.is_some() && guest.take().is_none());
        drop(held);
        assert_eq!([&all.taken, &all.holders, &guest.held].map(|count| count.load(Relaxed)), [0; 3]);
        assert!(guest.take().is_some());
    }

    #[test]
    fn a_guest_that_takes_what_it_can_leaves_some_to_others() {
        let all = Places::new(100);
        let [greedy, modest] = [(); 2].map(|()| GuestPlaces::new(&all));
        let first = modest.take();
        let taken: Vec<Place> = std::iter::from_fn(|| greedy.take()).collect();
        assert_eq!(taken.len(), 74, "all but the last quarter");
        let rest: Vec<Place> = std::iter::from_fn(|| modest.take()).collect();
        assert_eq!(rest.len(), 25);
        drop((first, taken, rest));
        assert_eq!([&all.taken, &all.holders].map(|count| count.load(Relaxed)), [0; 2]);
    }
}
