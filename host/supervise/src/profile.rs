//! A profile of the host: what its workers have counted of their guests' stacks, as one document.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use wasmhost_sandbox::{StackBook, StackCounts, TICK};
use wasmhost_serve::worker::{SentProfile, WorkerId};

/// The format that this version writes; it changes if a field changes its meaning or is removed.
pub const FORMAT: u32 = 1;
/// Most different stacks; others are counted as one of each app.
const STACKS_MAX: usize = 40_000;
/// Longest file that a worker hands over, in bytes.
const PART_BYTES_MAX: u64 = 32 << 20;

/// What whoever asked hears: what was gathered, or why there is none.
pub(crate) type ProfileReply = oneshot::Sender<Result<GatheredProfile, String>>;

/// What a profile is to be of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProfileWish {
    /// Guests of this app; none: of all.
    pub(crate) app: Option<String>,
    pub(crate) duration: Duration,
    /// On this worker; none: on all.
    pub(crate) worker: Option<u16>,
}

/// The numbers of the revisions of each app.
pub(crate) type AppRevisions = BTreeMap<String, BTreeSet<u64>>;

/// What workers have handed over.
#[derive(Debug, Default)]
pub(crate) struct GatheredProfile {
    /// How long samples were taken.
    pub(crate) duration_ms: u64,
    /// The app that was asked for.
    pub(crate) app: Option<String>,
    /// Revisions that were served at the beginning or the end.
    pub(crate) revisions: AppRevisions,
    pub(crate) parts: Vec<(WorkerId, SentProfile)>,
    /// Workers that have ended meanwhile, or could not hand over what they had.
    pub(crate) lost: BTreeSet<WorkerId>,
}

/// A profile: guests' stacks, and for how much CPU time each was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostProfile {
    /// See [`FORMAT`].
    pub format: u32,
    /// How long samples were taken, in milliseconds.
    pub duration_ms: u64,
    /// The time between two ticks of a host that is not short of CPU, in microseconds: a sample is taken at each that falls into a guest.
    pub tick_us: u64,
    /// How many samples there are.
    pub samples: u64,
    /// The CPU time that they stand for, in microseconds: the sum of all stacks'.
    pub cpu_us: u64,
    /// Workers whose samples are in it.
    pub workers: Vec<u16>,
    /// Workers of which samples are missing: they ended meanwhile.
    pub lost: Vec<u16>,
    /// The apps that were asked for, by name, or all that have samples.
    pub apps: Vec<ProfiledApp>,
    /// Names of functions, to which those of stacks point: `module!function`, as far as that is known.
    pub functions: Vec<String>,
    /// The stacks, the most CPU time first.
    pub stacks: Vec<ProfiledStack>,
}

/// An app of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfiledApp {
    /// Its name.
    pub app: String,
    /// The revisions that were served at the beginning or the end.
    pub revisions: Vec<u64>,
    /// Samples of its guests.
    pub samples: u64,
    /// The CPU time that they stand for, in microseconds.
    pub cpu_us: u64,
}

/// A stack of a profile.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfiledStack {
    /// Of which app: its place in [`HostProfile::apps`].
    pub app: u32,
    /// Its functions, outermost first: their places in [`HostProfile::functions`].
    pub frames: Vec<u32>,
    /// Samples of it.
    pub samples: u64,
    /// The CPU time that they stand for, in microseconds.
    pub cpu_us: u64,
}

impl HostProfile {
    /// The stacks, with the names of their apps and functions.
    pub fn named(&self) -> impl Iterator<Item = (&str, Vec<&str>, &ProfiledStack)> {
        self.stacks.iter().filter_map(|stack| {
            let name = |frame: &u32| self.functions.get(*frame as usize).map(String::as_str);
            let frames: Option<Vec<&str>> = stack.frames.iter().map(name).collect();
            Some((self.apps.get(stack.app as usize)?.app.as_str(), frames?, stack))
        })
    }
}

impl GatheredProfile {
    /// Reads what was handed over, and adds it up. Blocks.
    pub(crate) fn added_up(self) -> HostProfile {
        let mut book = StackBook::new(STACKS_MAX);
        let (mut lost, mut workers) = (self.lost, Vec::new());
        for (worker, part) in self.parts {
            match part.read(PART_BYTES_MAX) {
                Ok(counts) => {
                    book.add(&counts);
                    workers.push(worker.0);
                }
                Err(error) => {
                    tracing::warn!(worker = worker.0, %error, "what a worker has counted for a profile cannot be read, and is left out");
                    lost.insert(worker);
                }
            }
        }
        workers.sort_unstable();
        let lost = lost.into_iter().map(|worker| worker.0).collect();
        let profile = HostProfile {
            format: FORMAT,
            duration_ms: self.duration_ms,
            tick_us: u64::try_from(TICK.as_micros()).unwrap_or(u64::MAX),
            workers,
            lost,
            ..HostProfile::default()
        };
        document(profile, book.into_counts(), self.app, &self.revisions)
    }
}

/// With what was counted. Pure.
fn document(profile: HostProfile, counts: StackCounts, asked: Option<String>, revisions: &AppRevisions) -> HostProfile {
    // (The app that was asked for is in it without samples, too.)
    let is_missing = |name: &String| !counts.apps.contains(name);
    let names = counts.apps.iter().cloned().chain(asked.filter(is_missing));
    let app = |app: String| ProfiledApp {
        revisions: revisions.get(&app).into_iter().flatten().copied().collect(),
        app,
        ..ProfiledApp::default()
    };
    let mut profile =
        HostProfile { apps: names.map(app).collect(), functions: counts.functions, stacks: Vec::new(), ..profile };
    for stack in counts.stacks {
        let (samples, cpu_us) = (stack.samples, stack.cpu_ns / 1_000);
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        if let Some(app) = profile.apps.get_mut(stack.app as usize) {
            add(&mut app.samples, samples);
            add(&mut app.cpu_us, cpu_us);
        }
        add(&mut profile.samples, samples);
        add(&mut profile.cpu_us, cpu_us);
        profile.stacks.push(ProfiledStack { app: stack.app, frames: stack.frames, samples, cpu_us });
    }
    profile
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn parts_of_workers_are_added_up_and_the_app_that_was_asked_for_is_in_it() {
        let part = |frames: &[&str], cpu_ns| {
            let mut book = StackBook::new(10);
            let frames = frames.iter().map(|name| book.function(name)).collect();
            book.count("a", frames, 1, cpu_ns);
            SentProfile::Here(Arc::new(book.into_counts()))
        };
        let gathered = GatheredProfile {
            duration_ms: 10,
            app: Some("b".to_owned()),
            revisions: BTreeMap::from([("a".to_owned(), BTreeSet::from([3, 4]))]),
            parts: vec![(WorkerId(2), part(&["main", "f"], 1_999)), (WorkerId(1), part(&["main", "f"], 2_001))],
            lost: BTreeSet::from([WorkerId(3)]),
        };
        let profile = gathered.added_up();
        assert_eq!((&*profile.workers, &*profile.lost), (&[1, 2][..], &[3][..]));
        assert_eq!((profile.samples, profile.cpu_us, profile.tick_us), (2, 4, 1_000));
        let of = |app: &str, revisions: &[u64], samples, cpu_us| ProfiledApp {
            app: app.to_owned(),
            revisions: revisions.to_vec(),
            samples,
            cpu_us,
        };
        assert_eq!(profile.apps, [of("a", &[3, 4], 2, 4), of("b", &[], 0, 0)]);
        let named: Vec<_> = profile.named().map(|(app, frames, stack)| (app, frames, stack.cpu_us)).collect();
        assert_eq!(named, [("a", vec!["main", "f"], 4)]);
    }
}
