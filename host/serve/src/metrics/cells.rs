//! Where is counted: numbers in memory that one thread writes and any may read, and how they are added up.

use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

/// What a row of a table counts in.
pub trait Summed {
    /// The sum of several.
    type Sum;
    /// The sum of none.
    const NONE: Self::Sum;
    /// Adds what it has to a sum.
    fn add_to(&self, sum: &mut Self::Sum);
}

macro_rules! summed_as_a_number {
    ($($cell:ty: $read:expr;)*) => {$(
        impl Summed for $cell {
            type Sum = u64;
            const NONE: u64 = 0;
            fn add_to(&self, sum: &mut u64) {
                let read: fn(&Self) -> u64 = $read;
                *sum = sum.wrapping_add(read(self));
            }
        }
    )*};
}

summed_as_a_number! {
    Count: Self::get;
    Level: |level| level.get().unsigned_abs();
    Flag: |flag| flag.get().into();
    AtomicU64: |number| number.load(Relaxed);
    AtomicUsize: |number| number.load(Relaxed) as u64;
}

impl<Cell: Summed<Sum = u64>, const N: usize> Summed for [Cell; N] {
    type Sum = [u64; N];
    const NONE: [u64; N] = [0; N];

    fn add_to(&self, sum: &mut [u64; N]) {
        for (sum, count) in sum.iter_mut().zip(self) {
            count.add_to(sum);
        }
    }
}

/// A count that one thread writes: reading and storing in two steps is cheaper than an atomic addition.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that goes up and down, written by one thread.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// Changes it by `amount`.
    pub fn change(&self, amount: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(amount), Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: usize) {
        self.0.store(i64::try_from(value).unwrap_or(i64::MAX), Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// Yes or no. A number, so that whatever another process writes in its place is a value.
#[derive(Debug, Default)]
pub struct Flag(AtomicU8);

impl Flag {
    /// Sets it.
    pub fn set(&self, value: bool) {
        self.0.store(value.into(), Relaxed);
    }

    /// Its value.
    pub fn get(&self) -> bool {
        self.0.load(Relaxed) != 0
    }

    /// Raises it, before anything that the thread reads from here on.
    pub fn raise(&self) {
        self.0.store(1, SeqCst);
    }

    /// Lowers it, after anything that the thread wrote so far (in that order for all); true when it was up.
    pub fn lower(&self) -> bool {
        self.0.load(SeqCst) != 0 && self.0.swap(0, SeqCst) != 0
    }
}

/// Upper bounds of the latency histogram's buckets, in seconds.
pub const LATENCY_BOUNDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];
/// One more for all above.
const BUCKETS: usize = LATENCY_BOUNDS.len() + 1;

/// How long something took.
#[derive(Debug, Default)]
pub struct Durations {
    /// How often, by bucket of [`LATENCY_BOUNDS`] (the last: above).
    buckets: [Count; BUCKETS],
    /// In sum, in microseconds.
    sum_us: Count,
}

impl Durations {
    /// Takes note of one.
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.buckets[bucket.unwrap_or(LATENCY_BOUNDS.len())].add_one();
        self.sum_us.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// [`Durations`] of several cells, in sum.
#[derive(Debug, Clone)]
pub struct DurationsSum {
    /// How often, by bucket of [`LATENCY_BOUNDS`] (the last: above).
    pub buckets: [u64; BUCKETS],
    /// In sum, in microseconds.
    pub sum_us: u64,
}

impl Summed for Durations {
    type Sum = DurationsSum;
    const NONE: DurationsSum = DurationsSum { buckets: [0; BUCKETS], sum_us: 0 };

    fn add_to(&self, sum: &mut DurationsSum) {
        self.buckets.add_to(&mut sum.buckets);
        self.sum_us.add_to(&mut sum.sum_us);
    }
}
