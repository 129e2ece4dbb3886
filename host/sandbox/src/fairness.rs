//! PURE: in which order those who wait for the CPU of a worker get it. Apps get equal shares of CPU time, however many calls
//! each has waiting; the calls of one app run first come, first served.
//!
//! Each app has a virtual time, which grows by the CPU time that the app uses while others wait (stride scheduling,
//! Waldspurger and Weihl 1995). The app with the least virtual time is next. The queue's clock is the virtual time of the
//! app that was next last; an app that comes back starts there, so it cannot save up what it did not use.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// How much CPU time (nanoseconds) the calls of an app that do not wait in the queue may use: in one turn of the worker's loop, and more
/// than the app that is next while others wait. With more, its calls have to wait in the queue, too.
pub(super) const FREE_NS: u64 = 4_000_000;

/// The least that a call is charged for having run, so that each moves the order on.
const CHARGE_MIN_NS: u64 = 1_000;

/// What one app has used of a worker's CPU, and waits for. Kept by its instances.
pub(super) struct AppTime {
    app: u32,
    virtual_ns: Cell<u64>,
    /// Its entries in the queue, and how many of these are short: no tick has interrupted them yet.
    waiting: Cell<usize>,
    short: Cell<usize>,
    /// A turn of the loop, and what was used in it without waiting.
    free: Cell<(u64, u64)>,
}

impl AppTime {
    /// Of an app with this key, which no other app of the worker has.
    pub(super) fn new(app: u32) -> Self {
        Self { app, virtual_ns: Cell::new(0), waiting: Cell::new(0), short: Cell::new(0), free: Cell::new((0, 0)) }
    }

    /// The app's key.
    pub(super) const fn app(&self) -> u32 {
        self.app
    }

    /// Adds what a call used that did not wait: the sum in this turn of the loop, in nanoseconds.
    pub(super) fn use_free(&self, turn: u64, spent_ns: u64) -> u64 {
        let sum = self.free_ns(turn).saturating_add(spent_ns);
        self.free.set((turn, sum));
        sum
    }

    fn free_ns(&self, turn: u64) -> u64 {
        let (of_turn, spent_ns) = self.free.get();
        if of_turn == turn { spent_ns } else { 0 }
    }

    /// Its place in the order; the key decides between equals.
    fn place(&self) -> (u64, u32) {
        (self.virtual_ns.get(), self.app)
    }
}

/// Those who wait, each with what the caller stores for it. As many as ask; the caller's bound is that of its instances.
pub(super) struct FairQueue<T> {
    /// Of the apps that have something waiting, by virtual time.
    apps: BTreeMap<(u64, u32), VecDeque<FairnessEntry<T>>>,
    clock_ns: u64,
    last: Ticket,
    len: usize,
}

/// The number of an entry; later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

struct FairnessEntry<T> {
    ticket: Ticket,
    app: Rc<AppTime>,
    is_short: bool,
    stored: T,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { apps: BTreeMap::new(), clock_ns: 0, last: Ticket(0), len: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Whether nobody waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A number that no entry has.
    pub(super) const fn ticket(&mut self) -> Ticket {
        self.last = Ticket(self.last.0.wrapping_add(1));
        self.last
    }

    /// Puts a call of `app` behind the others of this app. It is short if no tick has interrupted it yet.
    pub(super) fn join(&mut self, app: &Rc<AppTime>, is_short: bool, stored: T) -> Ticket {
        if app.waiting.get() == 0 {
            app.virtual_ns.set(app.virtual_ns.get().max(self.clock_ns));
        }
        let ticket = self.ticket();
        app.waiting.set(app.waiting.get().saturating_add(1));
        app.short.set(app.short.get().saturating_add(usize::from(is_short)));
        self.len = self.len.saturating_add(1);
        let entry = FairnessEntry { ticket, app: Rc::clone(app), is_short, stored };
        self.apps.entry(app.place()).or_default().push_back(entry);
        ticket
    }

    /// What is stored for an entry, while it waits.
    pub(super) fn stored(&mut self, app: &AppTime, ticket: Ticket) -> Option<&mut T> {
        let calls = self.apps.get_mut(&app.place())?;
        let at = calls.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
        calls.get_mut(at).map(|entry| &mut entry.stored)
    }

    /// Takes an entry out, if it still waits.
    pub(super) fn leave(&mut self, app: &AppTime, ticket: Ticket) -> Option<T> {
        let calls = self.apps.get_mut(&app.place())?;
        let at = calls.binary_search_by_key(&ticket, |entry| entry.ticket).ok()?;
        let entry = calls.remove(at)?;
        if calls.is_empty() {
            self.apps.remove(&app.place());
        }
        Some(self.removed(entry).1)
    }

    /// Takes out whoever is next.
    pub(super) fn next(&mut self) -> Option<(Ticket, T)> {
        let mut first = self.apps.first_entry()?;
        self.clock_ns = first.key().0;
        let entry = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        entry.map(|entry| self.removed(entry))
    }

    fn removed(&mut self, entry: FairnessEntry<T>) -> (Ticket, T) {
        let FairnessEntry { ticket, app, is_short, stored } = entry;
        self.len = self.len.saturating_sub(1);
        app.waiting.set(app.waiting.get().saturating_sub(1));
        app.short.set(app.short.get().saturating_sub(usize::from(is_short)));
        (ticket, stored)
    }

    /// A call of `app` has run, whether or not it waited before. Costs nothing while nobody waits: then nothing has to be
    /// shared.
    pub(super) fn charge(&mut self, app: &AppTime, spent_ns: u64) {
        if self.is_empty() {
            return;
        }
        let calls = self.apps.remove(&app.place());
        let from = app.virtual_ns.get().max(self.clock_ns);
        app.virtual_ns.set(from.saturating_add(spent_ns.max(CHARGE_MIN_NS)));
        if let Some(calls) = calls {
            self.apps.insert(app.place(), calls);
        }
    }

    /// Whether short calls of `app` have to wait in this turn of the loop: some of them do already, or the
    /// app has had [`FREE_NS`], in this turn or more than another app that waits.
    pub(super) fn is_closed_to(&self, app: &AppTime, turn: u64) -> bool {
        let is_ahead = || self.len > app.waiting.get() && app.virtual_ns.get() > self.clock_ns.saturating_add(FREE_NS);
        app.short.get() > 0 || app.free_ns(turn) >= FREE_NS || is_ahead()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SLICE_NS: u64 = 1_000_000;

    fn app(key: u32) -> Rc<AppTime> {
        Rc::new(AppTime::new(key))
    }

    /// Gives so many slices, each to whoever is next, who then waits again: how many each app got.
    fn serve(queue: &mut FairQueue<Rc<AppTime>>, slices: usize) -> HashMap<u32, usize> {
        let mut got = HashMap::new();
        for _ in 0..slices {
            let (_, app) = queue.next().expect("somebody waits");
            *got.entry(app.app()).or_default() += 1;
            queue.charge(&app, SLICE_NS);
            queue.join(&app, false, Rc::clone(&app));
        }
        got
    }

    #[test]
    fn one_call_of_an_app_gets_as_much_as_a_hundred_of_another() {
        let (crowd, single) = (app(1), app(2));
        let mut queue = FairQueue::default();
        for _ in 0..100 {
            queue.join(&crowd, false, Rc::clone(&crowd));
        }
        queue.join(&single, false, Rc::clone(&single));
        assert_eq!(serve(&mut queue, 1_000), HashMap::from([(1, 500), (2, 500)]));
    }

    #[test]
    fn an_app_that_was_idle_has_saved_nothing_up() {
        let (busy, idle) = (app(1), app(2));
        let mut queue = FairQueue::default();
        for _ in 0..3 {
            queue.join(&busy, false, Rc::clone(&busy));
        }
        serve(&mut queue, 10_000);
        queue.join(&idle, false, Rc::clone(&idle));
        assert_eq!(serve(&mut queue, 100), HashMap::from([(1, 50), (2, 50)]));
    }

    #[test]
    fn what_an_app_used_while_nobody_waited_is_not_held_against_it() {
        let (busy, other) = (app(1), app(2));
        let mut queue = FairQueue::default();
        for _ in 0..10_000 {
            queue.charge(&busy, SLICE_NS);
        }
        queue.join(&other, false, Rc::clone(&other));
        queue.join(&busy, false, Rc::clone(&busy));
        assert_eq!(serve(&mut queue, 100), HashMap::from([(1, 50), (2, 50)]));
    }

    #[test]
    fn calls_of_one_app_run_in_the_order_in_which_they_came_and_those_that_left_do_not() {
        let one = app(1);
        let mut queue = FairQueue::default();
        let tickets: Vec<_> = (0..5).map(|number| queue.join(&one, false, number)).collect();
        assert_eq!(queue.stored(&one, tickets[3]), Some(&mut 3));
        assert_eq!(queue.leave(&one, tickets[0]), Some(0));
        assert_eq!(queue.leave(&one, tickets[2]), Some(2));
        assert_eq!(queue.leave(&one, tickets[2]), None);
        let order: Vec<_> = std::iter::from_fn(|| queue.next()).map(|(_, number)| number).collect();
        assert_eq!(order, [1, 3, 4]);
        assert!(queue.is_empty() && queue.apps.is_empty(), "who does not wait takes no room");
    }

    #[test]
    fn new_calls_run_freely_until_their_app_has_had_its_part_of_a_turn() {
        let (one, other) = (app(1), app(2));
        let mut queue = FairQueue::default();
        assert!(one.use_free(7, FREE_NS - 1) < FREE_NS && !queue.is_closed_to(&one, 7));
        one.use_free(7, 1);
        assert!(queue.is_closed_to(&one, 7) && !queue.is_closed_to(&other, 7), "each app has a part");
        assert!(!queue.is_closed_to(&one, 8), "in each turn");
        let computing = queue.join(&one, false, ());
        assert!(!queue.is_closed_to(&one, 8), "a new call need not wait behind one that computes");
        let begun = queue.join(&one, true, ());
        assert!(queue.is_closed_to(&one, 8), "nor pass one that has to wait");
        queue.leave(&one, begun);
        queue.charge(&one, 2 * FREE_NS);
        assert!(!queue.is_closed_to(&one, 8), "there is nobody to share with");
        queue.join(&other, false, ());
        assert!(queue.is_closed_to(&one, 8), "it had more than the one that waits");
        queue.leave(&one, computing);
        assert!(queue.is_closed_to(&one, 8));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join {
            app: usize,
            is_short: bool,
        },
        Leave {
            which: usize,
        },
        /// Whoever is next uses so much, and waits again or not.
        Run {
            spent_ns: u64,
            again: bool,
        },
        /// A call that did not wait.
        Free {
            app: usize,
            spent_ns: u64,
        },
    }

    const APPS: usize = 5;

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..APPS, any::<bool>()).prop_map(|(app, is_short)| Step::Join { app, is_short }),
            any::<usize>().prop_map(|which| Step::Leave { which }),
            (0..=SLICE_NS, any::<bool>()).prop_map(|(spent_ns, again)| Step::Run { spent_ns, again }),
            (0..APPS, 0..=SLICE_NS).prop_map(|(app, spent_ns)| Step::Free { app, spent_ns }),
        ]
    }

    proptest! {
        /// Over any sequence.
        #[test]
        fn the_first_of_the_app_with_the_least_virtual_time_is_next_and_nobody_is_lost(steps in proptest::collection::vec(step(), 1..400)) {
            let apps: Vec<_> = (0..APPS).map(|key| app(key as u32)).collect();
            let mut queue = FairQueue::default();
            // Who waits, in the order in which they came.
            let mut waiting: Vec<(Ticket, usize, bool)> = Vec::new();
            for step in steps {
                match step {
                    Step::Join { app, is_short } => {
                        waiting.push((queue.join(&apps[app], is_short, app), app, is_short));
                    }
                    Step::Leave { which } if !waiting.is_empty() => {
                        let (ticket, app, _) = waiting.remove(which % waiting.len());
                        prop_assert_eq!(queue.leave(&apps[app], ticket), Some(app));
                    }
                    Step::Leave { .. } => {}
                    Step::Run { spent_ns, again } => {
                        let Some((ticket, app)) = queue.next() else {
                            prop_assert!(waiting.is_empty());
                            continue;
                        };
                        let first = waiting.iter().position(|(_, of, _)| *of == app).expect("it waits");
                        prop_assert_eq!(waiting.remove(first).0, ticket, "the first of its app");
                        let least = waiting.iter().map(|(_, of, _)| apps[*of].virtual_ns.get()).min();
                        prop_assert!(least.is_none_or(|least| apps[app].virtual_ns.get() <= least));
                        queue.charge(&apps[app], spent_ns);
                        if again {
                            waiting.push((queue.join(&apps[app], false, app), app, false));
                        }
                    }
                    Step::Free { app, spent_ns } => queue.charge(&apps[app], spent_ns),
                }
                for (key, app) in apps.iter().enumerate() {
                    let own: Vec<_> = waiting.iter().filter(|(_, of, _)| *of == key).collect();
                    prop_assert_eq!(app.waiting.get(), own.len());
                    prop_assert_eq!(app.short.get(), own.iter().filter(|(_, _, is_short)| *is_short).count());
                }
                prop_assert_eq!(queue.len, waiting.len());
            }
        }

        /// Apps that always have calls waiting, however many, whose slices are of any length: after any number of slices no
        /// two shares differ by more than the longest slice, and none is passed over for longer than the others need to
        /// catch up.
        #[test]
        fn shares_of_apps_that_always_wait_differ_by_a_slice(
            calls in proptest::collection::vec(1_usize..50, 2..8),
            slices in proptest::collection::vec(1_u64..=SLICE_NS, 1..500),
        ) {
            let apps: Vec<_> = (0..calls.len()).map(|key| app(key as u32)).collect();
            let mut queue = FairQueue::default();
            for (app, calls) in apps.iter().zip(&calls) {
                for _ in 0..*calls {
                    queue.join(app, false, Rc::clone(app));
                }
            }
            let mut used = vec![0_u64; apps.len()];
            for spent_ns in slices {
                let (_, app) = queue.next().expect("all wait");
                used[app.app() as usize] += spent_ns.max(CHARGE_MIN_NS);
                queue.charge(&app, spent_ns);
                queue.join(&app, false, Rc::clone(&app));
                let (least, most) = (used.iter().min().expect("some"), used.iter().max().expect("some"));
                prop_assert!(most - least <= SLICE_NS, "{used:?}");
            }
        }

        /// With slices of one length, an app with calls waiting is passed over no more often than there are other apps.
        #[test]
        fn nobody_is_passed_over_for_more_turns_than_there_are_other_apps(
            calls in proptest::collection::vec(1_usize..50, 2..8),
            turns in 1_usize..300,
        ) {
            let apps: Vec<_> = (0..calls.len()).map(|key| app(key as u32)).collect();
            let mut queue = FairQueue::default();
            for (app, calls) in apps.iter().zip(&calls) {
                for _ in 0..*calls {
                    queue.join(app, false, Rc::clone(app));
                }
            }
            let mut passed_over = vec![0; apps.len()];
            for _ in 0..turns {
                let (_, app) = queue.next().expect("all wait");
                passed_over.iter_mut().for_each(|times| *times += 1);
                passed_over[app.app() as usize] = 0;
                prop_assert!(passed_over.iter().all(|times| *times < apps.len()), "{passed_over:?}");
                queue.charge(&app, SLICE_NS);
                queue.join(&app, false, Rc::clone(&app));
            }
        }
    }
}
