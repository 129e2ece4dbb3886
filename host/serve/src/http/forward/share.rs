//! How many requests a worker may have under way to one group at once. A group whose workers do not answer leaves room for the
//! requests of other apps. Pure, but for reading the limit of descriptors.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use rustix::process::{Resource, getrlimit};

use wasmhost_config::Config;

/// Each group may have so many, however few connections a worker has: few connections do not spread evenly over workers.
const SHARE_MIN: usize = 16;

/// How many requests a worker may have under way to one group: three quarters of the connections that it has when they spread
/// evenly over workers, and of those that its descriptors allow (each such request takes two).
pub(crate) fn share_max(config: &Config) -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let by_descriptors = usize::try_from(descriptors / 2).unwrap_or(usize::MAX);
    let workers = usize::from(config.workers).max(1);
    share_of(config.limits.max_connections.map_or(by_descriptors, |max| max.div_ceil(workers).min(by_descriptors)))
}

fn share_of(connections: usize) -> usize {
    (connections / 4).saturating_mul(3).max(SHARE_MIN)
}

/// The requests that are under way to each group.
pub(crate) struct Shares {
    max: usize,
    /// As many as there are groups.
    under_way: RefCell<BTreeMap<Rc<str>, Rc<Cell<usize>>>>,
}

impl Shares {
    /// With `max` requests for each group.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, under_way: RefCell::default() }
    }

    /// Counts a request to this group; none: it has as many as it may.
    pub(super) fn take(&self, group: &Rc<str>) -> Option<ShareTaken> {
        let mut under_way = self.under_way.borrow_mut();
        let count = match under_way.get(group) {
            Some(count) => count,
            None => under_way.entry(Rc::clone(group)).or_default(),
        };
        if count.get() >= self.max {
            return None;
        }
        count.set(count.get() + 1);
        Some(ShareTaken(Rc::clone(count)))
    }
}

/// A request that is under way. Dropped, it is none any more.
pub(super) struct ShareTaken(Rc<Cell<usize>>);

impl Drop for ShareTaken {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_has_its_share_takes_nothing_from_another() {
        let shares = Shares::new(2);
        let [one, other]: [Rc<str>; 2] = ["one".into(), "other".into()];
        let (first, second) = (shares.take(&one), shares.take(&one));
        assert!(first.is_some() && second.is_some());
        assert!(shares.take(&one).is_none());
        assert!(shares.take(&other).is_some());
        drop(first);
        assert!(shares.take(&one).is_some());
    }

    #[test]
    fn a_share_is_three_quarters_and_never_next_to_nothing() {
        assert_eq!((share_of(1_000), share_of(1), share_of(usize::MAX)), (750, SHARE_MIN, usize::MAX / 4 * 3));
    }
}
