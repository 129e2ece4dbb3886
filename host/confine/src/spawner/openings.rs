//! PURE: which component may be opened now. Each opening has a thread, which a file system that does not answer (a dead
//! mount) keeps for as long as it likes: such a thread is lost. So each app has one opening at a time, a file system that
//! keeps a thread gets no other one, and the last thread is for those that are known to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Threads that open components, lost ones included.
pub(super) const THREADS_MAX: usize = 16;
/// Openings at once on one file system.
const OPENINGS_ON_ONE_MAX: usize = 4;
/// File systems that are remembered for their answers.
const ANSWERING_MAX: usize = 64;

/// The openings that are under way.
#[derive(Debug, Default)]
pub(super) struct Openings {
    /// By app.
    running: BTreeMap<String, Running>,
    /// File systems, by the place where they are mounted, that answered when they were asked last.
    answering: BTreeSet<PathBuf>,
}

#[derive(Debug)]
struct Running {
    mount: PathBuf,
    /// Its time is over, and its thread lost until it ends after all.
    is_lost: bool,
}

impl Openings {
    /// Begins one for an app, of a file on the file system that is mounted at `mount`.
    ///
    /// # Errors
    /// Why it may not begin.
    pub(super) fn begin(&mut self, app: &str, mount: &Path) -> Result<(), String> {
        if self.running.contains_key(app) {
            return Err("an earlier opening of it has not ended yet: its file system does not answer".to_owned());
        }
        let of_mount = || self.running.values().filter(|running| running.mount == mount);
        if of_mount().any(|running| running.is_lost) {
            let at = mount.display();
            return Err(format!(
                "the file system at `{at}` does not answer: another component there is being opened still"
            ));
        }
        if of_mount().count() >= OPENINGS_ON_ONE_MAX {
            return Err(format!("{OPENINGS_ON_ONE_MAX} other components on its file system are being opened"));
        }
        let left = THREADS_MAX.saturating_sub(self.running.len());
        if left == 0 || (left == 1 && !self.answering.contains(mount)) {
            return Err("too many components are being opened, on file systems that do not answer".to_owned());
        }
        self.running.insert(app.to_owned(), Running { mount: mount.to_owned(), is_lost: false });
        Ok(())
    }

    /// That of an app has not ended in time.
    pub(super) fn is_late(&mut self, app: &str) {
        if let Some(running) = self.running.get_mut(app) {
            running.is_lost = true;
            self.answering.remove(&running.mount);
        }
    }

    /// That of an app has ended, in time or not.
    pub(super) fn ended(&mut self, app: &str) {
        if let Some(Running { mount, .. }) = self.running.remove(app) {
            if self.answering.len() >= ANSWERING_MAX {
                self.answering.pop_first();
            }
            self.answering.insert(mount);
        }
    }
}

/// Where the file system of a file is mounted: by the file's name alone, without asking it. `mounts`: the text of
/// `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
pub(super) fn mount_of(file: &Path, mounts: &str) -> PathBuf {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let above = points.filter(|point| file.starts_with(point));
    above.max_by_key(|point| point.components().count()).unwrap_or_else(|| "/".into())
}

/// Blanks and backslashes stand there as octal numbers.
fn unescaped(point: &str) -> PathBuf {
    let mut text = point.to_owned();
    for (escaped, plain) in [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")] {
        text = text.replace(escaped, plain);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_one_opening_at_a_time() {
        let mut openings = Openings::default();
        assert_eq!(openings.begin("a", Path::new("/")), Ok(()));
        assert!(openings.begin("a", Path::new("/other")).is_err());
        openings.ended("a");
        assert_eq!(openings.begin("a", Path::new("/")), Ok(()));
    }

    #[test]
    fn a_file_system_that_keeps_a_thread_gets_no_other() {
        let (mut openings, dead) = (Openings::default(), Path::new("/mnt/dead"));
        assert_eq!((openings.begin("a", dead), openings.begin("b", dead)), (Ok(()), Ok(())));
        openings.is_late("a");
        assert!(openings.begin("c", dead).is_err_and(|reason| reason.contains("/mnt/dead")));
        assert_eq!(openings.begin("d", Path::new("/")), Ok(()), "others go on");
        openings.ended("a");
        assert_eq!(openings.begin("c", dead), Ok(()), "it answers after all");
    }

    #[test]
    fn the_last_thread_is_for_a_file_system_that_answers() {
        let mut openings = Openings::default();
        let root = Path::new("/");
        assert_eq!(openings.begin("good", root), Ok(()));
        openings.ended("good");
        for number in 0..THREADS_MAX - 1 {
            let (app, mount) = (format!("app{number}"), format!("/mnt/{number}"));
            assert_eq!(openings.begin(&app, Path::new(&mount)), Ok(()), "{number}");
            openings.is_late(&app);
        }
        assert!(openings.begin("another", Path::new("/mnt/another")).is_err());
        assert_eq!(openings.begin("good", root), Ok(()));
        assert!(openings.begin("third", root).is_err(), "there is no thread");
    }

    #[test]
    fn the_place_of_a_file_system_is_known_by_the_name_alone() {
        let mounts = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / /mnt/a rw - nfs x rw\n31 22 0:41 / /mnt/a\\040b rw - nfs y rw\n";
        for (file, mount) in
            [("/srv/a.wasm", "/"), ("/mnt/a/b.wasm", "/mnt/a"), ("/mnt/a b/c.wasm", "/mnt/a b"), ("/mnt/ab", "/")]
        {
            assert_eq!(mount_of(Path::new(file), mounts), Path::new(mount), "{file}");
        }
        assert_eq!(mount_of(Path::new("/x"), ""), Path::new("/"));
    }
}
