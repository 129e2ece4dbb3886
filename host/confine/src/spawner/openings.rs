//! PURE: which component may be opened now, and which file systems the way to it asks. Each opening has a thread, which a file system that does not answer (a dead
//! mount) keeps for as long as it likes: such a thread is lost. So each app has one opening at a time, a file system that
//! keeps a thread gets no other one, and the last thread is for those that are known to answer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};

/// Threads that open components, lost ones included.
pub(super) const THREADS_MAX: usize = 16;
/// Openings at once on one file system: no fewer than the primary asks for at once, so that none is refused where the file
/// system answers.
pub const OPENINGS_ON_ONE_MAX: usize = 8;
/// File systems that are remembered for their answers.
const ANSWERING_MAX: usize = 64;
/// Symbolic links on the way to one file: as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

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
    /// Begins one for an app, of a file that is looked for from the file system on that is mounted at `mount`.
    ///
    /// # Errors
    /// Why it may not begin.
    pub(super) fn begin(&mut self, app: &str, mount: &Path) -> Result<(), String> {
        if self.running.contains_key(app) {
            return Err("an earlier opening of it has not ended yet: its file system does not answer".to_owned());
        }
        self.may_ask(app, mount)?;
        self.running.insert(app.to_owned(), Running { mount: mount.to_owned(), is_lost: false });
        Ok(())
    }

    /// That of an app is about to ask another file system, to which a link has led it. What becomes of it counts for that one.
    ///
    /// # Errors
    /// Why it may not.
    pub(super) fn goes_over(&mut self, app: &str, mount: &Path) -> Result<(), String> {
        self.may_ask(app, mount)?;
        if let Some(running) = self.running.get_mut(app) {
            mount.clone_into(&mut running.mount);
        }
        Ok(())
    }

    /// Whether an opening for this app may ask the file system that is mounted there.
    fn may_ask(&self, app: &str, mount: &Path) -> Result<(), String> {
        let others = || self.running.iter().filter(|(other, _)| *other != app).map(|(_, running)| running);
        let of_mount = || others().filter(|running| running.mount == mount);
        if of_mount().any(|running| running.is_lost) {
            let at = mount.display();
            return Err(format!(
                "the file system at `{at}` does not answer: another component there is being opened still"
            ));
        }
        if of_mount().count() >= OPENINGS_ON_ONE_MAX {
            return Err(format!("{OPENINGS_ON_ONE_MAX} other components on its file system are being opened"));
        }
        let left = THREADS_MAX.saturating_sub(others().count());
        if left == 0 || (left == 1 && !self.answering.contains(mount)) {
            return Err("too many components are being opened, on file systems that do not answer".to_owned());
        }
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

/// Follows the way to a file as the kernel does, link by link, and says before each step which file system it asks next.
/// `read_link` reads a symbolic link; `goes_over`: another file system is asked from here on. A file that is not there is for
/// whoever opens it.
///
/// # Errors
/// What `goes_over` says.
pub(super) fn follow(
    file: &Path,
    mounts: &str,
    read_link: impl Fn(&Path) -> io::Result<PathBuf>,
    mut goes_over: impl FnMut(&Path) -> Result<(), String>,
) -> Result<(), String> {
    let mut at = mount_of(file, mounts);
    let (mut here, mut links) = (PathBuf::from("/"), 0);
    let mut left: Vec<PathBuf> = Vec::new();
    let push = |left: &mut Vec<PathBuf>, path: &Path| {
        left.extend(path.components().rev().map(|part| PathBuf::from(part.as_os_str())));
    };
    push(&mut left, file);
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::RootDir) => here = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                here.pop();
            }
            Some(Component::Normal(name)) => {
                let next = here.join(name);
                let mount = mount_of(&next, mounts);
                // (The way leads over those above, which its name shows already.)
                if mount != at && !file.starts_with(&next) {
                    goes_over(&mount)?;
                    at = mount;
                }
                match read_link(&next) {
                    Ok(_) if links == LINKS_MAX => return Ok(()),
                    Ok(target) => {
                        links += 1;
                        push(&mut left, &target);
                    }
                    // It is no link.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => here = next,
                    Err(_) => return Ok(()),
                }
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Ok(())
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
    fn what_becomes_of_an_opening_counts_for_the_file_system_to_which_a_link_has_led_it() {
        let (mut openings, root, dead) = (Openings::default(), Path::new("/"), Path::new("/mnt/dead"));
        assert_eq!((openings.begin("linked", root), openings.goes_over("linked", dead)), (Ok(()), Ok(())));
        openings.is_late("linked");
        assert_eq!(openings.begin("other", root), Ok(()), "that one answers");
        assert!(openings.goes_over("other", dead).is_err_and(|reason| reason.contains("/mnt/dead")));
        openings.ended("other");
        for number in 0..OPENINGS_ON_ONE_MAX {
            assert_eq!(openings.begin(&number.to_string(), root), Ok(()));
            assert_eq!(openings.goes_over(&number.to_string(), Path::new("/mnt/a")), Ok(()));
        }
        assert_eq!(openings.begin("more", root), Ok(()));
        assert!(openings.goes_over("more", Path::new("/mnt/a")).is_err(), "there are enough");
    }

    #[test]
    fn the_way_to_a_file_is_followed_link_by_link_and_no_file_system_asked_before_it_is_said() {
        const MOUNTS: &str =
            "22 1 8:1 / / rw - ext4 x rw\n30 22 0:40 / /mnt/a rw - nfs x rw\n31 22 0:41 / /mnt/b rw - nfs y rw\n";
        let links = BTreeMap::from([
            ("/srv/app.wasm", "/mnt/a/now/app.wasm"),
            ("/mnt/a/now", "../b/v2"),
            ("/mnt/a/b", "/mnt/b"),
            ("/srv/plain", "other/app.wasm"),
            ("/srv/loop", "loop"),
        ]);
        for (file, expected) in [
            ("/srv/app.wasm", vec!["/mnt/a", "/mnt/b"]),
            ("/mnt/a/b/app.wasm", vec!["/mnt/b"]),
            ("/mnt/a/app.wasm", vec![]),
            ("/srv/plain", vec![]),
            ("/srv/loop", vec![]),
        ] {
            let said = std::cell::RefCell::new(vec![mount_of(Path::new(file), MOUNTS)]);
            let read_link = |path: &Path| {
                let mount = mount_of(path, MOUNTS);
                let is_on_its_way = Path::new(file).starts_with(path);
                assert!(
                    said.borrow().last() == Some(&mount) || is_on_its_way,
                    "{file}: {} was not said",
                    mount.display()
                );
                match links.get(path.to_str().unwrap_or_default()) {
                    Some(target) => Ok(PathBuf::from(target)),
                    None => Err(rustix::io::Errno::INVAL.into()),
                }
            };
            let goes_over = |mount: &Path| {
                said.borrow_mut().push(mount.to_owned());
                Ok(())
            };
            assert_eq!(follow(Path::new(file), MOUNTS, read_link, goes_over), Ok(()), "{file}");
            let said: Vec<_> = said.into_inner().split_off(1);
            assert_eq!(said, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{file}");
        }
        let read_link = |path: &Path| match path.ends_with("link") {
            true => Ok(PathBuf::from("/mnt/a/x")),
            false => Err(rustix::io::Errno::INVAL.into()),
        };
        let refused = follow(Path::new("/srv/link"), MOUNTS, read_link, |_| Err("no".to_owned()));
        assert_eq!(refused, Err("no".to_owned()));
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
