//! Watching files by looking at them again and again (polling). This works on every file system, on network mounts and in
//! containers, notices files that were replaced by renaming or deleted and created again, and takes some milliseconds a look.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files that are looked at; those beyond are not watched.
const FILES_MAX: usize = 20_000;
/// Folders within folders, deeper than which none is looked into.
const DEPTH_MAX: usize = 32;

/// A look may take this part of the time at most.
const LOOKS_SHARE: u32 = 20;
/// Files that changed count as saved when nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(120);
/// For files that never rest, the wait ends here.
const QUIET_WITHIN: Duration = Duration::from_secs(2);

/// What tells that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    bytes: u64,
    modified: (i64, i64),
    inode: u64,
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { bytes: metadata.len(), modified: (metadata.mtime(), metadata.mtime_nsec()), inode: metadata.ino() }
    }
}

/// Files and their state.
pub type Snapshot = BTreeMap<PathBuf, Stamp>;

/// Looks at files, and all below folders but what `ignores` says. Links to files are followed, those to folders not.
pub fn look(watched: &[PathBuf], ignores: impl Fn(&Path) -> bool) -> Snapshot {
    let mut found = Snapshot::new();
    let mut open: Vec<(PathBuf, usize)> = Vec::new();
    for path in watched {
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => open.push((path.clone(), 0)),
            Ok(metadata) => {
                found.insert(path.clone(), Stamp::of(&metadata));
            }
            // It is not there: so is the snapshot.
            Err(_) => {}
        }
    }
    while let Some((folder, depth)) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if found.len() >= FILES_MAX {
                return found;
            }
            let Ok(kind) = entry.file_type() else { continue };
            if ignores(&path) {
                continue;
            }
            if kind.is_dir() && depth < DEPTH_MAX {
                open.push((path, depth + 1));
            } else if let Ok(metadata) = path.metadata()
                && metadata.is_file()
            {
                found.insert(path, Stamp::of(&metadata));
            }
        }
    }
    found
}

/// Files that are in one snapshot only, or differ, in order.
pub fn changed(before: &Snapshot, after: &Snapshot) -> Vec<PathBuf> {
    let gone_or_other = before.iter().filter(|(path, stamp)| after.get(*path) != Some(stamp));
    let new = after.iter().filter(|(path, _)| !before.contains_key(*path));
    let mut changed: Vec<PathBuf> = gone_or_other.chain(new).map(|(path, _)| path.clone()).collect();
    changed.sort();
    changed
}

/// Waits until what `look` sees differs from `seen` and rests; none when `is_over`. Looks so often; less often where a look takes
/// long. Blocks.
pub fn next_change(
    seen: &Snapshot,
    every: Duration,
    look: impl Fn() -> Snapshot,
    is_over: impl Fn() -> bool,
) -> Option<Snapshot> {
    loop {
        if is_over() {
            return None;
        }
        let began = Instant::now();
        let now = look();
        if now != *seen {
            return Some(settled(now, look));
        }
        std::thread::sleep(every.max(began.elapsed() * LOOKS_SHARE));
    }
}

fn settled(mut now: Snapshot, look: impl Fn() -> Snapshot) -> Snapshot {
    let began = Instant::now();
    while began.elapsed() < QUIET_WITHIN {
        std::thread::sleep(QUIET);
        let next = look();
        if next == now {
            break;
        }
        now = next;
    }
    now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_change_a_file_is_seen_and_what_is_ignored_is_not() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().to_owned();
        let path = |name: &str| root.join(name);
        std::fs::create_dir_all(path("src/deep"))?;
        std::fs::create_dir(path("target"))?;
        std::fs::write(path("src/deep/a"), "1")?;
        let snapshot = || look(std::slice::from_ref(&root), |path| path.ends_with("target"));
        let mut before = snapshot();
        let mut expect = |what: &str, names: &[&str]| {
            let after = snapshot();
            let names: Vec<PathBuf> = names.iter().map(|name| path(name)).collect();
            assert_eq!(changed(&before, &after), names, "{what}");
            before = after;
        };
        expect("nothing", &[]);
        std::fs::write(path("src/deep/a"), "22")?;
        expect("another size", &["src/deep/a"]);
        std::fs::write(path("src/b"), "1")?;
        expect("a new file", &["src/b"]);
        std::fs::write(path("src/new"), "2")?;
        std::fs::rename(path("src/new"), path("src/b"))?;
        expect("another file of the same name and size", &["src/b"]);
        std::fs::remove_file(path("src/b"))?;
        expect("a file that has gone", &["src/b"]);
        std::fs::write(path("target/c"), "1")?;
        expect("what is ignored", &[]);
        std::os::unix::fs::symlink(&root, path("loop"))?;
        expect("a link to a folder", &[]);
        Ok(())
    }
}
