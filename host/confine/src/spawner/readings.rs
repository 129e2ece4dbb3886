//! PURE: which readings of the file of settings the spawner keeps, and which component each app has had. A reading counts
//! once the primary has said that it follows it: what is lost on its way changes nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Components of one app that are known. The primary asks for an earlier one while a reading could not be followed for the
/// app; the oldest and the latest ones are kept.
const COMPONENTS_MAX: usize = 8;

/// The readings: of each, `T` is what the spawner goes by.
#[derive(Debug)]
pub(super) struct Readings<T> {
    /// The latest that the primary follows.
    held: (u64, T),
    /// A later one that was handed over, and of which the primary has said nothing yet.
    offered: Option<(u64, T)>,
    last: u64,
}

/// What became of readings when the primary said which one it follows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Followed<T> {
    /// It goes by the one that was offered from now on, in the place of this one.
    pub(super) replaced: Option<T>,
    /// This one was offered and is not followed: it was lost.
    pub(super) lost: Option<T>,
}

impl<T> Readings<T> {
    /// With the reading of the start, whose number is 0.
    pub(super) fn new(start: T) -> Self {
        Self { held: (0, start), offered: None, last: 0 }
    }

    /// What the primary goes by.
    pub(super) fn held(&self) -> &T {
        &self.held.1
    }

    /// Whether a reading of this number was handed over, of which the primary has said nothing yet.
    pub(super) fn is_offered(&self, number: u64) -> bool {
        self.offered.as_ref().is_some_and(|(offered, _)| *offered == number)
    }

    /// What was handed over, and of which the primary has said nothing yet.
    pub(super) fn offered(&self) -> Option<&T> {
        self.offered.as_ref().map(|(_, reading)| reading)
    }

    /// The number of the next reading.
    pub(super) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// A reading is handed over. (Of an earlier one that was, the primary has said that it has it not.)
    pub(super) fn offer(&mut self, number: u64, reading: T) {
        self.offered = Some((number, reading));
    }

    /// The primary follows the reading of this number. None: there is no such reading any more.
    pub(super) fn follows(&mut self, number: u64) -> Option<Followed<T>> {
        match self.offered.take() {
            Some((offered, reading)) if offered == number => {
                let (_, replaced) = std::mem::replace(&mut self.held, (offered, reading));
                Some(Followed { replaced: Some(replaced), lost: None })
            }
            offered if self.held.0 == number => {
                Some(Followed { replaced: None, lost: offered.map(|(_, reading)| reading) })
            }
            offered => {
                self.offered = offered;
                None
            }
        }
    }
}

/// Which component each app has had, by the number of the first reading that named it.
#[derive(Debug, Default)]
pub(super) struct Components(HashMap<String, Vec<Named>>);

/// A component of an app, named by the readings from `from` to before `until`.
#[derive(Debug)]
struct Named {
    from: u64,
    until: u64,
    file: PathBuf,
}

impl Components {
    /// The reading of this number names these components; all other apps are gone.
    pub(super) fn note<'a>(&mut self, reading: u64, apps: impl Iterator<Item = (&'a str, PathBuf)>) {
        let mut before = std::mem::take(&mut self.0);
        for (app, file) in apps {
            let mut all = before.remove(app).unwrap_or_default();
            if all.last().is_none_or(|latest| latest.file != file) {
                if let Some(latest) = all.last_mut() {
                    latest.until = reading;
                }
                all.push(Named { from: reading, until: u64::MAX, file });
                if all.len() > COMPONENTS_MAX {
                    all.remove(1);
                }
            }
            self.0.insert(app.to_owned(), all);
        }
    }

    /// The component that this reading named for an app.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn of(&self, app: &str, reading: u64) -> Result<&Path, String> {
        let all = self.0.get(app).ok_or("the settings name no such app")?;
        let named = all.iter().find(|named| (named.from..named.until).contains(&reading));
        named.map(|named| &*named.file).ok_or_else(|| {
            format!("which component reading {reading} of the file named is not known any more; reload (SIGHUP)")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_counts_once_the_primary_follows_it() {
        let mut readings = Readings::new("start");
        let first = readings.next();
        readings.offer(first, "first");
        assert_eq!(*readings.held(), "start", "it is on its way");
        assert!(readings.is_offered(first) && !readings.is_offered(0) && readings.offered() == Some(&"first"));
        assert_eq!(readings.follows(first), Some(Followed { replaced: Some("start"), lost: None }));
        assert_eq!((*readings.held(), readings.offered()), ("first", None));
        assert_eq!(readings.follows(first), Some(Followed { replaced: None, lost: None }), "said again");
        assert_eq!(readings.follows(0), None, "it is not kept");
    }

    #[test]
    fn a_reading_that_was_lost_changes_nothing() {
        let mut readings = Readings::new("start");
        let lost = readings.next();
        readings.offer(lost, "lost");
        // The primary asks anew, and says what it has.
        assert_eq!(readings.follows(0), Some(Followed { replaced: None, lost: Some("lost") }));
        assert_eq!(*readings.held(), "start");
        let next = readings.next();
        assert_ne!(next, lost);
        readings.offer(next, "next");
        assert_eq!(readings.follows(lost), None);
        assert_eq!(readings.follows(next).and_then(|followed| followed.replaced), Some("start"));
    }

    #[test]
    fn a_component_is_the_one_that_the_reading_named() {
        let mut components = Components::default();
        let named = |apps: &[(&'static str, &'static str)]| -> Vec<(&'static str, PathBuf)> {
            apps.iter().map(|(app, file)| (*app, PathBuf::from(*file))).collect()
        };
        components.note(0, named(&[("a", "a0.wasm"), ("b", "b.wasm")]).into_iter());
        components.note(3, named(&[("a", "a3.wasm"), ("b", "b.wasm")]).into_iter());
        for (reading, file) in [(0, "a0.wasm"), (2, "a0.wasm"), (3, "a3.wasm"), (9, "a3.wasm")] {
            assert_eq!(components.of("a", reading), Ok(Path::new(file)), "{reading}");
        }
        components.note(4, named(&[("a", "a3.wasm")]).into_iter());
        assert!(components.of("b", 0).is_err(), "it is gone");
        assert_eq!(components.of("a", 0), Ok(Path::new("a0.wasm")), "an app that could not follow");
    }

    #[test]
    fn of_many_components_those_in_between_are_forgotten_and_refused() {
        let mut components = Components::default();
        let files: Vec<PathBuf> = (0..20).map(|number| format!("{number}.wasm").into()).collect();
        for (reading, file) in (0..).zip(&files) {
            components.note(reading, [("a", file.clone())].into_iter());
        }
        assert!(components.of("a", 0).is_ok() && components.of("a", 19).is_ok() && components.of("a", 13).is_ok());
        assert!(components.of("a", 5).is_err_and(|reason| reason.contains("reading 5")));
        assert_eq!(components.0["a"].len(), COMPONENTS_MAX);
    }
}
