//! The directory of bundles: their names, and which goes to make room. Files of other names, and those that are not regular or
//! another user's, are nobody's business here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use wasmhost_base::private_files;

/// How the name of a bundle begins and ends.
const BEGINNING: &str = "crash-";
const ENDING: &str = ".json";
/// What is behind the name of one that is being written.
const UNFINISHED: &str = ".new";
/// One that is not finished after so long was left by a host that was killed; another host may share the directory.
const UNFINISHED_FOR: Duration = Duration::from_secs(60);
/// Entries of the directory that are looked at.
const ENTRIES_MAX: usize = 100_000;
/// Longest bundle that is read.
const BUNDLE_BYTES_MAX: u64 = 64 << 20;

/// The name of a bundle: when, and the how manieth of the host, so that names stand in the order of time; the fault's kind, and
/// the app, whose name has no `@`.
pub(super) fn name(time: SystemTime, number: u64, kind: &str, app: &str) -> String {
    let time: String = humantime::format_rfc3339_millis(time).to_string();
    let time: String = time.chars().filter(|character| !matches!(character, '-' | ':')).collect();
    // (A worker process that was broken into may say anything.)
    let is_of_kind = |character: &char| character.is_ascii_lowercase() || *character == '-';
    let kind: String = kind.chars().filter(is_of_kind).take(32).collect();
    format!("{BEGINNING}{time}-{number:04}-{kind}@{app}{ENDING}")
}

/// The app of the bundle of this name; none: it is no bundle's.
fn app_of(name: &str) -> Option<&str> {
    let (facts, app) = name.strip_prefix(BEGINNING)?.strip_suffix(ENDING)?.split_once('@')?;
    let mut words = facts.splitn(3, '-');
    let (time, number) = (words.next()?, words.next()?);
    let is_time =
        time.len() > 8 && time.ends_with('Z') && time.bytes().next().is_some_and(|byte| byte.is_ascii_digit());
    let is_number = number.len() >= 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_time && is_number && words.next().is_some()).then_some(app)
}

/// Which bundles go, so that so many are left: of the app that has the most of them, the oldest. Pure; `names` are in order.
fn to_go<'n>(names: &[&'n str], left: usize) -> Vec<&'n str> {
    let mut by_app: BTreeMap<&str, Vec<&'n str>> = BTreeMap::new();
    for name in names.iter().rev() {
        by_app.entry(app_of(name).unwrap_or_default()).or_default().push(name);
    }
    let mut go = Vec::new();
    for _ in left..names.len() {
        // Each with its oldest at the end; of several that have as many, the one whose oldest is the oldest.
        let most = by_app
            .values_mut()
            .max_by(|one, other| one.len().cmp(&other.len()).then_with(|| other.last().cmp(&one.last())));
        go.extend(most.and_then(Vec::pop));
    }
    go
}

/// The directory.
#[derive(Debug)]
pub(super) struct CrashFolder(PathBuf);

impl CrashFolder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The names of its files for which this holds, of regular ones of this user alone.
    fn names(&self, is_one: impl Fn(&str) -> bool) -> io::Result<Vec<String>> {
        let own = rustix::process::geteuid().as_raw();
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.0)?.take(ENTRIES_MAX) {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            // (Of a link, it is the link's.)
            let is_ours = |found: fs::Metadata| found.is_file() && found.uid() == own;
            if is_one(&name) && entry.metadata().is_ok_and(is_ours) {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes the oldest, so that so many bundles are left at most.
    ///
    /// # Errors
    /// When the directory cannot be read, or a file not be removed.
    pub(super) fn make_room(&self, left: usize) -> io::Result<()> {
        let names = self.names(|name| app_of(name).is_some())?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in to_go(&names, left) {
            match fs::remove_file(self.0.join(name)) {
                // Another host that shares the directory was first, or its owner.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes what a host has left that was killed while it wrote.
    pub(super) fn remove_unfinished(&self, now: SystemTime) {
        let is_unfinished = |name: &str| name.strip_suffix(UNFINISHED).is_some_and(|name| app_of(name).is_some());
        for name in self.names(is_unfinished).unwrap_or_default() {
            let file = self.0.join(name);
            let changed = fs::symlink_metadata(&file).and_then(|found| found.modified());
            if changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|age| age >= UNFINISHED_FOR)) {
                // One that cannot be removed is in nobody's way.
                let _ = fs::remove_file(&file);
            }
        }
    }

    /// Puts a bundle in its place, whole and on the disk, or not at all.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.0.join(name);
        private_files::write(&file, bytes).inspect_err(|_| {
            // What of it there is takes room on a disk that may be full.
            let _ = fs::remove_file(self.0.join(format!("{name}{UNFINISHED}")));
        })
    }
}

/// What is in a bundle.
pub(super) fn read(file: &Path) -> io::Result<Vec<u8>> {
    // (A pipe would keep who opens it.)
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file: File = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    file.take(BUNDLE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_name_tells_its_app_and_names_stand_in_the_order_of_time() {
        let at = |ms: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
        let one = name(at(1_764_455_881_123), 7, "stack-overflow", "shop.eu-1_b");
        assert_eq!(one, "crash-20251129T223801.123Z-0007-stack-overflow@shop.eu-1_b.json");
        assert_eq!(app_of(&one), Some("shop.eu-1_b"));
        assert!(one < name(at(1_764_455_881_123), 8, "cpu", "a") && one < name(at(1_764_455_881_124), 1, "cpu", "a"));
        assert_eq!(app_of(&name(at(0), 10_000, "../Trap/x", "a")), Some("a"), "of a worker that lies");
        for other in ["crash-notes.json", "crash-1-2-trap@a.json", "notes.json", "crash-.json", "core", ""] {
            assert_eq!(app_of(other), None, "{other}");
        }
    }

    #[test]
    fn the_app_that_has_the_most_loses_its_oldest() {
        let named =
            |number: u64, app: &str| name(SystemTime::UNIX_EPOCH + Duration::from_secs(number), number, "cpu", app);
        let names = [named(1, "b"), named(2, "a"), named(3, "a"), named(4, "a"), named(5, "c")];
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(to_go(&names, 5), Vec::<&str>::new());
        assert_eq!(to_go(&names, 3), [names[1], names[2]]);
        assert_eq!(to_go(&names, 2), [names[1], names[2], names[0]], "of those that have as many, the oldest");
        assert_eq!(to_go(&names, 0).len(), 5);
    }

    #[test]
    fn only_bundles_of_this_user_are_counted_and_removed() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let folder = CrashFolder::new(dir.path().to_owned());
        let named = |number: u64| name(SystemTime::UNIX_EPOCH, number, "trap", "a");
        for number in 1..=3 {
            folder.write(&named(number), b"{}")?;
        }
        let mode = fs::metadata(dir.path().join(named(1)))?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join("crash-report.txt"), "mine")?;
        fs::create_dir(dir.path().join(named(4)))?;
        std::os::unix::fs::symlink("crash-report.txt", dir.path().join(named(5)))?;
        folder.make_room(1)?;
        let mut left: Vec<_> = fs::read_dir(dir.path())?.flatten().map(|entry| entry.file_name()).collect();
        left.sort();
        let mut expected = vec!["crash-report.txt".to_owned(), named(3), named(4), named(5)];
        expected.sort();
        assert_eq!(left, expected.into_iter().map(std::ffi::OsString::from).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn what_a_killed_host_left_goes_once_it_is_old() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let folder = CrashFolder::new(dir.path().to_owned());
        let unfinished = format!("{}{UNFINISHED}", name(SystemTime::UNIX_EPOCH, 1, "trap", "a"));
        fs::write(dir.path().join(&unfinished), b"{")?;
        fs::write(dir.path().join("other.json.new"), b"{")?;
        folder.remove_unfinished(SystemTime::now());
        assert!(dir.path().join(&unfinished).exists(), "a host may be writing it");
        folder.remove_unfinished(SystemTime::now() + UNFINISHED_FOR * 2);
        assert!(!dir.path().join(&unfinished).exists() && dir.path().join("other.json.new").exists());
        Ok(())
    }
}
