//! Counting what is bounded and shared: a [`Quota`] is how much there is, an [`Account`] what one holder (an app, a guest) has
//! of it, a [`Claim`] what was taken for one thing, until it is dropped. Who may take how much when little is left is decided
//! by [`portions`](super::portions).
//!
//! Any thread may count here. The counts may be wrong for a moment by what other threads are just taking, but every change
//! is taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::portions::{equal_part, may_take};
use super::throttle::Throttle;

/// At most one log line of an account in this time; each time is counted.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// How much there is of something, for all that share it.
#[derive(Debug)]
pub struct Quota {
    max: u64,
    used: AtomicU64,
    /// Accounts that have some.
    holders: AtomicU64,
    /// Accounts that have none now may want some.
    others_may_come: AtomicBool,
}

impl Quota {
    /// So much.
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: AtomicU64::new(0),
            holders: AtomicU64::new(0),
            others_may_come: AtomicBool::new(false),
        })
    }

    /// How much there is in all.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// How much is not taken.
    pub fn free(&self) -> u64 {
        self.max.saturating_sub(self.used.load(Relaxed))
    }

    /// Whether room is kept for one who has nothing yet. Else one who is alone may take all.
    pub fn keep_room_for_others(&self, is: bool) {
        self.others_may_come.store(is, Relaxed);
    }

    /// Whether an account that has `own` already may take so much, while `used` is in use and so many accounts have some.
    fn may_take(&self, used: u64, amount: u64, own: u64, holders: u64) -> bool {
        let holders = holders.saturating_add(self.others_may_come.load(Relaxed).into());
        may_take(self.max, used, amount, own, holders)
    }
}

/// Who an account is of, for the log and the metrics.
#[derive(Debug)]
pub struct Label {
    /// The app.
    pub app: Arc<str>,
    /// The number of the worker whose apps share the quota.
    pub worker: u16,
    /// What is shared.
    pub what: &'static str,
    /// How often the app got nothing, or had to wait, because it had its part.
    pub shortages: &'static AtomicU64,
}

/// What one holder has of a quota.
#[derive(Debug)]
pub struct Account {
    quota: Arc<Quota>,
    held: AtomicU64,
    label: Option<Label>,
    told: Throttle,
}

impl Account {
    /// Of a holder that has nothing. With a label it is counted and logged when it gets no more.
    pub fn new(quota: &Arc<Quota>, label: Option<Label>) -> Arc<Self> {
        Arc::new(Self { quota: Arc::clone(quota), held: AtomicU64::new(0), label, told: Throttle::new(LINE_EVERY) })
    }

    /// What it has a part of.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// How much it has of it.
    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    /// Whether more was taken than there is (which [`Claim::grow_anyhow`] allows), and more than an equal part by this one.
    pub fn is_beyond_part(&self) -> bool {
        let Quota { max, used, holders, .. } = &*self.quota;
        used.load(Relaxed) > *max && self.held() > equal_part(*max, holders.load(Relaxed))
    }

    /// Takes so much; none when there is not so much left, or what is left is for holders that have less.
    pub fn take(self: &Arc<Self>, amount: u64) -> Option<Claim> {
        let mut claim = Claim::none_of(self);
        claim.grow(amount).then_some(claim)
    }

    /// The holder gets no more for now: this is counted, and logged once in a while.
    pub fn note_shortage(&self) {
        let Some(Label { app, worker, what, shortages }) = &self.label else { return };
        shortages.fetch_add(1, Relaxed);
        if let Some(count) = self.told.admit(Instant::now()) {
            tracing::warn!(
                app = &**app,
                worker,
                bound = what,
                count,
                "the app has its part of what the apps of a worker share: {what} (count: since the last such line)"
            );
        }
    }

    fn add(&self, amount: u64) -> u64 {
        let own = self.held.fetch_add(amount, Relaxed);
        if own == 0 && amount > 0 {
            self.quota.holders.fetch_add(1, Relaxed);
        }
        own
    }

    fn remove(&self, amount: u64) {
        if amount > 0 && self.held.fetch_sub(amount, Relaxed) == amount {
            self.quota.holders.fetch_sub(1, Relaxed);
        }
    }
}

/// What was taken of a quota by an account. Dropped, it gives all of it back.
#[derive(Debug)]
pub struct Claim {
    account: Arc<Account>,
    amount: u64,
}

impl Claim {
    /// Nothing yet.
    pub fn none_of(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), amount: 0 }
    }

    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Who it is counted for.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Whether it may grow, by one at least.
    pub fn may_grow(&self) -> bool {
        let Account { quota, held, .. } = &*self.account;
        let (own, holders) = (held.load(Relaxed), quota.holders.load(Relaxed));
        quota.may_take(quota.used.load(Relaxed), 1, own, holders.saturating_add((own == 0).into()))
    }

    /// Takes so much more, if the account may have it.
    pub fn grow(&mut self, amount: u64) -> bool {
        let quota = &self.account.quota;
        let own = self.account.add(amount);
        // This one is among them already.
        let holders = quota.holders.load(Relaxed);
        let within = |used: u64| quota.may_take(used, amount, own, holders).then_some(used.saturating_add(amount));
        let is_taken = quota.used.fetch_update(Relaxed, Relaxed, within).is_ok();
        if is_taken {
            self.amount += amount;
        } else {
            self.account.remove(amount);
        }
        is_taken
    }

    /// Takes so much more, whether there is room for it or not: it is there already.
    pub fn grow_anyhow(&mut self, amount: u64) {
        self.account.add(amount);
        self.account.quota.used.fetch_add(amount, Relaxed);
        self.amount += amount;
    }

    /// Gives so much back, or all of it where that is less.
    pub fn shrink(&mut self, amount: u64) {
        let amount = amount.min(self.amount);
        self.amount -= amount;
        self.account.quota.used.fetch_sub(amount, Relaxed);
        self.account.remove(amount);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shrink(self.amount);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn accounts<const COUNT: usize>(quota: &Arc<Quota>) -> [Arc<Account>; COUNT] {
        std::array::from_fn(|_| Account::new(quota, None))
    }

    fn all_of(account: &Arc<Account>) -> Vec<Claim> {
        std::iter::from_fn(|| account.take(1)).collect()
    }

    #[test]
    fn who_has_more_than_an_equal_part_is_known_once_there_is_too_little() {
        let quota = Quota::new(100);
        let [greedy, modest] = accounts(&quota);
        let [mut much, mut little] = [&greedy, &modest].map(Claim::none_of);
        much.grow_anyhow(100);
        assert!(!greedy.is_beyond_part(), "it is all there is, and no more");
        little.grow_anyhow(50);
        assert!(greedy.is_beyond_part() && !modest.is_beyond_part());
        much.shrink(60);
        assert!(!greedy.is_beyond_part(), "there is room again");
    }

    #[test]
    fn a_single_holder_may_have_all_and_each_comes_back_once() {
        let quota = Quota::new(2);
        let [account] = accounts(&quota);
        let claims = all_of(&account);
        assert_eq!(claims.len(), 2);
        drop(claims);
        assert_eq!([&quota.used, &quota.holders, &account.held].map(|count| count.load(Relaxed)), [0; 3]);
        assert!(account.take(1).is_some());
    }

    #[test]
    fn a_holder_that_takes_what_it_can_leaves_some_to_others() {
        let quota = Quota::new(100);
        let [greedy, modest] = accounts(&quota);
        let first = modest.take(1);
        let taken = all_of(&greedy);
        assert_eq!(taken.len(), 74, "all but the last quarter");
        let rest = all_of(&modest);
        assert_eq!(rest.len(), 25);
        drop((first, taken, rest));
        assert_eq!([&quota.used, &quota.holders].map(|count| count.load(Relaxed)), [0; 2]);
    }

    #[test]
    fn one_who_has_nothing_yet_finds_room_where_it_is_kept() {
        let quota = Quota::new(8);
        quota.keep_room_for_others(true);
        let [greedy, modest] = accounts(&quota);
        let taken = all_of(&greedy);
        assert_eq!(taken.len(), 6);
        assert!(!Claim::none_of(&greedy).may_grow() && Claim::none_of(&modest).may_grow());
        assert_eq!(all_of(&modest).len(), 2);
        quota.keep_room_for_others(false);
        assert_eq!(all_of(&greedy).len(), 2, "alone it may have all");
    }

    #[test]
    fn what_is_there_already_is_counted_beyond_the_bound() {
        let quota = Quota::new(1_000);
        let [account] = accounts(&quota);
        let [mut one, mut two] = std::array::from_fn(|_| Claim::none_of(&account));
        one.grow_anyhow(600);
        assert!(two.may_grow());
        two.grow_anyhow(600);
        assert!(!one.may_grow() && !two.may_grow() && quota.free() == 0);
        one.shrink(1_000);
        assert!(one.may_grow() && one.amount() == 0);
        drop(two);
        assert_eq!(quota.free(), 1_000);
    }

    #[test]
    fn a_shortage_is_counted_for_its_app() {
        let shortages: &AtomicU64 = Box::leak(Box::default());
        let label = Label { app: "shop".into(), worker: 1, what: "things", shortages };
        let account = Account::new(&Quota::new(1), Some(label));
        account.note_shortage();
        account.note_shortage();
        assert_eq!(shortages.load(Relaxed), 2);
    }

    proptest! {
        #[test]
        fn the_counts_are_the_sums_of_the_claims(steps in prop::collection::vec((0..3_usize, 0..40_u64, 0..4_u8), 0..300)) {
            let quota = Quota::new(100);
            let accounts: [_; 3] = accounts(&quota);
            let mut claims: Vec<(usize, Claim)> = Vec::new();
            for (whose, amount, what) in steps {
                match what {
                    0 => drop(claims.pop()),
                    1 => claims.iter_mut().for_each(|(_, claim)| claim.shrink(amount)),
                    _ => claims.extend(accounts[whose].take(amount).map(|claim| (whose, claim))),
                }
                let sum = |is: &dyn Fn(usize) -> bool| -> u64 {
                    claims.iter().filter(|(whose, _)| is(*whose)).map(|(_, claim)| claim.amount()).sum()
                };
                prop_assert_eq!(quota.used.load(Relaxed), sum(&|_| true));
                let held: [u64; 3] = std::array::from_fn(|index| sum(&|whose| whose == index));
                prop_assert_eq!(held, [0, 1, 2].map(|index: usize| accounts[index].held()));
                prop_assert_eq!(quota.holders.load(Relaxed), held.iter().filter(|held| **held > 0).count() as u64);
                prop_assert!(quota.used.load(Relaxed) <= 100);
            }
        }
    }
}
