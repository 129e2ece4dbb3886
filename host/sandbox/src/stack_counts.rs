//! PURE: counts of guests' stacks, each function named once, within bounds.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

/// Most different functions; others are counted as [`OTHER`].
const FUNCTIONS_MAX: usize = 20_000;
/// Stands for a function, or for whole stacks, for which there was no room.
const OTHER: &str = "[other]";

/// Counted stacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackCounts {
    /// Names of apps, to which [`CountedStack::app`] points.
    pub apps: Vec<String>,
    /// Names of functions, to which [`CountedStack::frames`] point.
    pub functions: Vec<String>,
    /// The stacks; those for which there was no room are one, of [`Self::OTHER`] alone.
    pub stacks: Vec<CountedStack>,
}

/// A stack, and how often it was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountedStack {
    /// Of which app.
    pub app: u32,
    /// Its functions, outermost first.
    pub frames: Vec<u32>,
    /// Samples of it.
    pub samples: u64,
    /// The CPU time that these stand for, in nanoseconds.
    pub cpu_ns: u64,
}

impl StackCounts {
    /// The name of what has no name of its own, for want of room.
    pub const OTHER: &'static str = OTHER;
}

/// NumberedNames, each with its number.
#[derive(Debug, Default)]
struct NumberedNames {
    all: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl NumberedNames {
    /// The number of a name; that of [`OTHER`] where there are as many as `max`.
    fn number(&mut self, name: &str, max: usize) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let name = if self.all.len() < max { name } else { OTHER };
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(name.to_owned()).or_insert(next);
        if number == next {
            self.all.push(name.to_owned());
        }
        number
    }
}

/// Counts stacks, so many different ones at most.
#[derive(Debug)]
pub struct StackBook {
    stacks_max: usize,
    apps: NumberedNames,
    functions: NumberedNames,
    /// By app and functions.
    counts: HashMap<(u32, Box<[u32]>), StackCount>,
}

#[derive(Debug, Clone, Copy, Default)]
struct StackCount {
    samples: u64,
    cpu_ns: u64,
}

impl StackBook {
    /// With room for so many different stacks, besides one of each app for those for which there is no room.
    pub fn new(stacks_max: usize) -> Self {
        Self { stacks_max, apps: NumberedNames::default(), functions: NumberedNames::default(), counts: HashMap::new() }
    }

    /// The number of a function, for [`Self::count`].
    pub fn function(&mut self, name: &str) -> u32 {
        self.functions.number(name, FUNCTIONS_MAX)
    }

    /// Counts `samples` of a stack of an app, which stand for so many nanoseconds of CPU time. `frames`: its functions, outermost
    /// first.
    pub fn count(&mut self, app: &str, frames: Box<[u32]>, samples: u64, cpu_ns: u64) {
        let app = self.apps.number(app, usize::MAX);
        let has_room = self.counts.len() < self.stacks_max;
        let mut key = (app, frames);
        if !has_room && !self.counts.contains_key(&key) {
            key.1 = Box::new([self.functions.number(OTHER, usize::MAX)]);
        }
        let count = self.counts.entry(key).or_default();
        count.samples = count.samples.saturating_add(samples);
        count.cpu_ns = count.cpu_ns.saturating_add(cpu_ns);
    }

    /// Counts what was counted elsewhere. What does not fit together in it is left out: it may come from a process that was
    /// broken into.
    pub fn add(&mut self, other: &StackCounts) {
        let functions: Vec<u32> = other.functions.iter().map(|name| self.function(name)).collect();
        for stack in &other.stacks {
            let frames = stack.frames.iter().map(|frame| functions.get(*frame as usize).copied());
            let frames: Option<Box<[u32]>> = frames.collect();
            if let (Some(app), Some(frames)) = (other.apps.get(stack.app as usize), frames) {
                self.count(app, frames, stack.samples, stack.cpu_ns);
            }
        }
    }

    /// What was counted, the most CPU time first.
    pub fn into_counts(self) -> StackCounts {
        let stacks = self.counts.into_iter().map(|((app, frames), StackCount { samples, cpu_ns })| CountedStack {
            app,
            frames: frames.into(),
            samples,
            cpu_ns,
        });
        let mut stacks: Vec<CountedStack> = stacks.collect();
        stacks.sort_by(|one, other| (other.cpu_ns, one.app, &one.frames).cmp(&(one.cpu_ns, other.app, &other.frames)));
        StackCounts { apps: self.apps.all, functions: self.functions.all, stacks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(counts: &StackCounts) -> Vec<String> {
        let stacks = counts.stacks.iter().map(|stack| {
            let frames: Vec<&str> = stack.frames.iter().map(|frame| &*counts.functions[*frame as usize]).collect();
            format!("{} {} {} {}", counts.apps[stack.app as usize], frames.join(";"), stack.samples, stack.cpu_ns)
        });
        stacks.collect()
    }

    fn count(book: &mut StackBook, app: &str, frames: &[&str], cpu_ns: u64) {
        let frames = frames.iter().map(|name| book.function(name)).collect();
        book.count(app, frames, 1, cpu_ns);
    }

    #[test]
    fn same_stacks_are_counted_together_and_those_without_room_as_one() {
        let mut book = StackBook::new(2);
        count(&mut book, "a", &["main", "f"], 10);
        count(&mut book, "a", &["main", "g"], 1);
        count(&mut book, "a", &["main", "f"], 20);
        count(&mut book, "a", &["main", "h"], 3);
        count(&mut book, "a", &["main", "i"], 4);
        count(&mut book, "b", &["main", "f"], 2);
        assert_eq!(shown(&book.into_counts()), ["a main;f 2 30", "a [other] 2 7", "b [other] 1 2", "a main;g 1 1"]);
    }

    #[test]
    fn what_workers_counted_is_added_up_and_what_points_nowhere_is_left_out() {
        let mut one = StackBook::new(10);
        count(&mut one, "a", &["main", "f"], 10);
        let mut other = StackBook::new(10);
        count(&mut other, "b", &["f"], 5);
        count(&mut other, "a", &["main", "f"], 1);
        let mut broken = StackCounts { apps: vec!["a".to_owned()], ..StackCounts::default() };
        broken.stacks.push(CountedStack { frames: vec![7], samples: 1, ..CountedStack::default() });
        broken.stacks.push(CountedStack { app: 9, samples: 1, ..CountedStack::default() });
        let mut all = StackBook::new(10);
        for counts in [one.into_counts(), other.into_counts(), broken] {
            all.add(&counts);
        }
        assert_eq!(shown(&all.into_counts()), ["a main;f 2 11", "b f 1 5"]);
    }

    #[test]
    fn functions_have_bounds_of_their_own() {
        let mut names = NumberedNames::default();
        let numbers: Vec<u32> = ["f", "g", "h", "i", "f"].iter().map(|name| names.number(name, 2)).collect();
        assert_eq!((numbers, names.all), (vec![0, 1, 2, 2, 0], vec!["f".into(), "g".into(), OTHER.to_owned()]));
    }
}
