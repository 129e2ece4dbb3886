//! The directory that keeps compiled components between runs. It belongs to this user alone (mode 0700). The name of an entry
//! has the component's content, the engine's compatibility and the build. An entry is written under another name and
//! renamed when it is whole. When all entries together are too large, the longest unused are removed. A cache that cannot
//! be used costs time, but never prevents a start.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, FileTimes, Metadata};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use wasmhost_config::{CacheChoice, Compilation};

use super::artifact::FORMAT;
use super::compile::UNFINISHED_PREFIX;
use super::hex::hex;

/// Endings of the entries' and the notes' names.
const ENDING: &str = "cwasm";
const NOTE_ENDING: &str = "known";

/// More notes than this for each entry, and this many on top, are too many: their components have gone or changed.
const NOTES_BY_ENTRY: usize = 2;
const NOTES_SPARED: usize = 1_000;

/// Beginning of the name of the file that shows whether the directory can be written.
const PROBE_PREFIX: &str = ".probe-";
/// Random characters in the name of a file that is not whole yet.
const RANDOM_CHARS: usize = 6;
/// Digits in base 16 of the content, and of other numbers, in the name of an entry or a note.
const CONTENT_DIGITS: usize = 64;
const NUMBER_DIGITS: usize = 16;
/// The use of an entry is noted again when the last note is this old: an app that falls asleep and wakes all the time does
/// not write each time.
const NOTED_EVERY: Duration = Duration::from_secs(600);
/// An unfinished file this old is nobody's any more: code is written in one go when it is compiled.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3_600);

/// Directories that this process has found writable, and cleaned of leftovers: the one or two that its settings have named.
static FOUND_GOOD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// An open cache directory.
pub(super) struct Cache {
    dir: PathBuf,
    max_bytes: u64,
}

/// Why there is no cache; a reason for a warning.
#[derive(Debug, thiserror::Error)]
pub(super) enum CacheError {
    #[error("neither XDG_CACHE_HOME nor HOME is set")]
    NoHome,
    #[error("`{0}` belongs to another user")]
    NotOurs(PathBuf),
    #[error("`{0}` can be written by other users (mode {1:o})")]
    TooOpen(PathBuf, u32),
    #[error("`{0}`: {1}")]
    Io(PathBuf, std::io::Error),
}

impl Cache {
    /// Opens the directory that `compilation` names, making it if need be; none when the cache is off.
    pub(super) fn open(compilation: &Compilation) -> Result<Option<Self>, CacheError> {
        let dir = match &compilation.cache {
            CacheChoice::Off => return Ok(None),
            CacheChoice::NoHome => return Err(CacheError::NoHome),
            CacheChoice::Dir(dir) => dir.clone(),
        };
        let io = |error| CacheError::Io(dir.clone(), error);
        make_dir(&dir).map_err(io)?;
        let metadata = std::fs::metadata(&dir).map_err(io)?;
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(CacheError::NotOurs(dir));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o022 != 0 {
            return Err(CacheError::TooOpen(dir, mode));
        }
        let mut found_good = FOUND_GOOD.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !found_good.contains(&dir);
        if is_new {
            // Shows a full or read-only disk now, with a warning, in the place of a failed write after a long compilation.
            tempfile::Builder::new().prefix(PROBE_PREFIX).rand_bytes(RANDOM_CHARS).tempfile_in(&dir).map_err(io)?;
            found_good.insert(dir.clone());
        }
        drop(found_good);
        let cache = Self { dir, max_bytes: compilation.cache_max_bytes };
        if is_new {
            cache.remove_leftovers();
        }
        Ok(Some(cache))
    }

    /// Removes files that a compilation which was killed left half written.
    fn remove_leftovers(&self) {
        let Ok(listing) = std::fs::read_dir(&self.dir) else { return };
        for item in listing.flatten() {
            let is_unfinished = item.file_name().to_str().is_some_and(is_unfinished_name);
            let age =
                item.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
            if is_unfinished && age.is_some_and(|age| age >= LEFTOVER_AFTER) {
                // Another host may have removed it just now.
                let _ = std::fs::remove_file(item.path());
            }
        }
    }

    /// Where the component of these bytes is kept.
    #[cfg(test)]
    pub(super) fn entry(&self, component: &[u8], compatibility: &str) -> PathBuf {
        use sha2::Digest;
        self.entry_of(&sha2::Sha256::digest(component), compatibility)
    }

    /// Where the component with this SHA-256 is kept for engines of this compatibility, by this build of the program.
    pub(super) fn entry_of(&self, digest: &[u8], compatibility: &str) -> PathBuf {
        self.dir.join(format!("{}{}", hex(digest), end_of_name(compatibility)))
    }

    /// Whether this is the name of an entry of this cache, for engines of this compatibility and by this build.
    pub(super) fn has(&self, entry: &Path, compatibility: &str) -> bool {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        entry.parent() == Some(&self.dir) && is_entry_name(name) && name.ends_with(&end_of_name(compatibility))
    }

    /// Where it is noted which entry belongs to a component's file with this device and inode.
    pub(super) fn note(&self, device: u64, inode: u64) -> PathBuf {
        self.dir.join(format!("{device:016x}-{inode:016x}.{NOTE_ENDING}"))
    }

    /// A new file that is to be renamed into the cache when it is whole.
    pub(super) fn unfinished(&self) -> std::io::Result<tempfile::NamedTempFile> {
        tempfile::Builder::new().prefix(UNFINISHED_PREFIX).rand_bytes(RANDOM_CHARS).tempfile_in(&self.dir)
    }

    /// Removes the longest unused entries above the cache's size, but not `keep`, which was just made; and the oldest notes
    /// where they are many more than entries.
    pub(super) fn shrink(&self, keep: &Path) {
        let Ok(listing) = std::fs::read_dir(&self.dir) else { return };
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        let mut notes: Vec<(SystemTime, PathBuf)> = Vec::new();
        for item in listing.flatten() {
            let name = item.file_name();
            let Some(name) = name.to_str() else { continue };
            // The user may keep other files there, compiled components among them.
            let (is_entry, is_note) = (is_entry_name(name), is_note_name(name));
            let Some(metadata) = (is_entry || is_note).then(|| item.metadata().ok()).flatten() else { continue };
            match (metadata.is_file(), metadata.accessed(), metadata.modified()) {
                (true, Ok(accessed), _) if is_entry => entries.push((accessed, metadata.len(), item.path())),
                (true, _, Ok(written)) if is_note => notes.push((written, item.path())),
                _ => {}
            }
        }
        if notes.len() > entries.len() * NOTES_BY_ENTRY + NOTES_SPARED {
            notes.sort();
            let surplus = notes.len() - entries.len();
            for (_, note) in notes.iter().take(surplus) {
                // Another host may have removed it just now.
                let _ = std::fs::remove_file(note);
            }
        }
        entries.sort();
        let mut size: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in entries {
            if size <= self.max_bytes {
                break;
            }
            if path != keep && std::fs::remove_file(&path).is_ok() {
                size = size.saturating_sub(bytes);
            }
        }
    }

    /// Notes that an open entry is used, unless that was noted lately; true if so. Its content's own time stays: it tells
    /// whether the entry is the one that was checked.
    pub(super) fn touch(file: &File, entry: &Path) -> bool {
        let noted = file.metadata().and_then(|metadata| metadata.accessed());
        if noted.is_ok_and(|noted| noted.elapsed().is_ok_and(|age| age < NOTED_EVERY)) {
            return false;
        }
        let outcome = file.set_times(FileTimes::new().set_accessed(SystemTime::now()));
        if let Err(error) = &outcome {
            tracing::debug!(entry = %entry.display(), %error, "cannot note the use of a cache entry");
        }
        outcome.is_ok()
    }
}

/// Whether nobody but this user, and root, can write to a file. (An entry is machine code, and a note names one.)
pub(super) fn is_ours(file: &Metadata) -> bool {
    file.uid() == rustix::process::geteuid().as_raw() && file.mode() & 0o022 == 0
}

/// What follows the content in the name of an entry.
fn end_of_name(compatibility: &str) -> String {
    format!("-{compatibility}-{}-{FORMAT:016x}.{ENDING}", env!("CARGO_PKG_VERSION"))
}

/// Lower case digits in base 16.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit))
}

/// Whether a file of this name is a note, as [`Cache::note`] makes it.
fn is_note_name(name: &str) -> bool {
    let parts = name.strip_suffix(NOTE_ENDING).and_then(|whole| whole.strip_suffix('.')?.split_once('-'));
    parts.is_some_and(|(device, inode)| is_hex(device, NUMBER_DIGITS) && is_hex(inode, NUMBER_DIGITS))
}

/// Whether a file of this name is an entry, of whatever engine and version: as [`Cache::entry_of`] makes it.
pub(super) fn is_entry_name(name: &str) -> bool {
    let parts = || {
        let whole = name.strip_suffix(ENDING)?.strip_suffix('.')?;
        let (content, rest) = whole.split_once('-')?;
        let (of, format) = rest.rsplit_once('-')?;
        Some((content, of, format))
    };
    parts().is_some_and(|(content, of, format)| {
        is_hex(content, CONTENT_DIGITS) && !of.is_empty() && is_hex(format, NUMBER_DIGITS)
    })
}

/// Whether a file of this name is one that this program has not finished.
fn is_unfinished_name(name: &str) -> bool {
    let random = [PROBE_PREFIX, UNFINISHED_PREFIX].iter().find_map(|prefix| name.strip_prefix(prefix));
    random.is_some_and(|random| random.len() == RANDOM_CHARS && random.bytes().all(|c| c.is_ascii_alphanumeric()))
}

/// Whether components that are compiled with these settings are kept.
///
/// # Errors
/// Why they are not, although the cache is not off.
pub fn has_cache(compilation: &Compilation) -> Result<bool, String> {
    Cache::open(compilation).map(|cache| cache.is_some()).map_err(|error| error.to_string())
}

/// Makes the directory, with mode 0700, if it is not there.
///
/// # Errors
/// What the system says.
pub fn make_dir(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_of_one_content_one_engine_and_one_build() {
        let cache = Cache { dir: PathBuf::from("/cache"), max_bytes: 0 };
        let entry = cache.entry(b"content", "engine");
        assert_eq!(cache.entry(b"content", "engine"), entry);
        assert_ne!(cache.entry(b"other", "engine"), entry);
        assert_ne!(cache.entry(b"content", "other"), entry);
        assert!(entry.display().to_string().contains(&format!("{FORMAT:016x}")), "{}", entry.display());
    }

    #[test]
    fn the_use_of_an_entry_is_noted_now_and_then_and_leaves_the_time_of_its_content() -> std::io::Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        let noted_last = |age: Duration| {
            let time = FileTimes::new().set_accessed(SystemTime::now() - age);
            file.as_file().set_times(time.set_modified(SystemTime::UNIX_EPOCH))
        };
        noted_last(NOTED_EVERY * 2)?;
        assert!(Cache::touch(file.as_file(), file.path()));
        assert!(!Cache::touch(file.as_file(), file.path()));
        noted_last(NOTED_EVERY / 2)?;
        assert!(!Cache::touch(file.as_file(), file.path()));
        assert_eq!(file.as_file().metadata()?.modified()?, SystemTime::UNIX_EPOCH);
        Ok(())
    }

    #[test]
    fn a_directory_is_probed_once_in_a_process() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let compilation = Compilation { cache: CacheChoice::Dir(dir.path().to_owned()), ..Compilation::default() };
        Cache::open(&compilation)?;
        let opened = std::fs::metadata(dir.path())?.modified()?;
        Cache::open(&compilation)?;
        assert_eq!(std::fs::metadata(dir.path())?.modified()?, opened, "a probe was written again");
        Ok(())
    }

    #[test]
    fn notes_that_are_many_more_than_entries_are_removed_the_oldest_first() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let cache = Cache { dir: dir.path().to_owned(), max_bytes: u64::MAX };
        std::fs::write(cache.entry(b"one", "engine-1"), "code")?;
        let write = |inode: u64| {
            let note = File::create(cache.note(7, inode))?;
            note.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(inode))
        };
        let count = || std::fs::read_dir(dir.path()).map(Iterator::count);
        let allowed = (NOTES_BY_ENTRY + NOTES_SPARED) as u64;
        (0..allowed).try_for_each(write)?;
        cache.shrink(Path::new("nothing"));
        assert_eq!(count()?, NOTES_BY_ENTRY + NOTES_SPARED + 1);
        write(allowed)?;
        cache.shrink(Path::new("nothing"));
        assert_eq!(count()?, 2);
        assert!(cache.note(7, allowed).exists() && cache.entry(b"one", "engine-1").exists());
        Ok(())
    }

    #[test]
    fn only_the_caches_own_files_are_removed() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let compilation = Compilation {
            cache: CacheChoice::Dir(dir.path().to_owned()),
            cache_max_bytes: 0,
            timeout: Duration::from_secs(1),
            memory_max_bytes: 1 << 30,
            ..Compilation::default()
        };
        let old = SystemTime::now() - 2 * LEFTOVER_AFTER;
        let cache = Cache { dir: dir.path().to_owned(), max_bytes: 0 };
        let own =
            [cache.entry(b"one", "engine-1"), dir.path().join(".probe-a1B2c3"), dir.path().join(".wasmhost-a1B2c3")];
        let foreign = ["app.cwasm", "0-engine-1-0.cwasm", ".probe-notes", ".wasmhost-state", ".probe-", "notes"];
        let foreign = foreign.map(|name| dir.path().join(name));
        for path in own.iter().chain(&foreign) {
            std::fs::write(path, "one byte at least")?;
            File::open(path)?.set_times(FileTimes::new().set_accessed(old).set_modified(old))?;
        }
        let cache = Cache::open(&compilation)?.ok_or("a cache")?;
        cache.shrink(Path::new("nothing"));
        assert!(own.iter().all(|path| !path.exists()), "{own:?}");
        assert!(foreign.iter().all(|path| path.exists()), "{foreign:?}");
        Ok(())
    }
}
