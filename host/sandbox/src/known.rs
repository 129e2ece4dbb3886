//! Notes in the cache's directory: which entry has the code of a component's file. A file that has not changed since it was
//! noted is neither read nor hashed again, and neither is its entry, also by later runs: an app that was compiled once starts
//! at the cost of some system calls.
//!
//! A note holds as long as the file's device, inode, size and both times of change are the same. Nobody can set the second of
//! these (`ctime`) at will. A file that changed just before it was read is not noted: it could change once more within one
//! tick of the file system's clock, with the same times. The entry is on the disk before a note names it, so that a power cut
//! leaves no note of an entry that is not whole. (Damage by the disk itself is not found this way, as with any program.)

use std::fs::{File, Metadata};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::cache::{Cache, is_ours};
use super::stored::{Identity, StoredCode};

/// A file that changed more recently than this, when it was opened, is not noted. File systems count time in steps of up to
/// two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(3);
/// Longer notes are not ours.
const NOTE_BYTES_MAX: u64 = 16 * 1024;

/// What tells a component's file from others and from its own other versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KnownComponent {
    file: Identity,
    /// Seconds and nanoseconds of the last change of the file or of what is known about it.
    changed: (i64, i64),
}

#[derive(Serialize, Deserialize)]
struct Note {
    component: KnownComponent,
    code: StoredCode,
}

impl KnownComponent {
    /// Of an open file that is about to be read.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { file: Identity::from(metadata), changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }

    fn note(&self, cache: &Cache) -> PathBuf {
        cache.note(self.file.device, self.file.inode)
    }

    /// The code that was noted for this file and for engines of one of these compatibilities.
    pub(super) fn find(&self, cache: &Cache, usable: &[&str]) -> Option<StoredCode> {
        let mut text = Vec::new();
        let note = File::open(self.note(cache)).ok().filter(|note| note.metadata().is_ok_and(|note| is_ours(&note)))?;
        note.take(NOTE_BYTES_MAX).read_to_end(&mut text).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        let is_usable = usable.iter().any(|compatibility| cache.has(note.code.entry(), compatibility));
        (note.component == *self && is_usable).then_some(note.code)
    }

    /// Notes where the code of this file is, which [`Self::is_settled`]; `entry`: the same, open. What goes wrong costs time at
    /// the next start only.
    pub(super) fn write(&self, cache: &Cache, code: StoredCode, entry: &File) {
        let note = Note { component: *self, code };
        let written = serde_json::to_vec(&note).map_err(std::io::Error::from).and_then(|text| {
            entry.sync_data()?;
            let mut file = cache.unfinished()?;
            file.write_all(&text)?;
            file.persist(self.note(cache)).map_err(|error| error.error)
        });
        if let Err(error) = written {
            tracing::debug!(entry = %note.code.entry().display(), %error, "cannot note the component of a cache entry");
        }
    }

    /// Whether the file, opened just now, has not changed for so long that any further change shows in its times.
    pub(super) fn is_settled(&self) -> bool {
        self.is_settled_at(SystemTime::now())
    }

    fn is_settled_at(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let changed = u64::try_from(self.changed.0).map(Duration::from_secs);
        changed.is_ok_and(|changed| since.checked_sub(changed).is_some_and(|age| age >= SETTLED_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare::compiled_in_test;
    use super::*;
    use wasmhost_config::{CacheChoice, Compilation};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const COMPONENT: &[u8] = br#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#;

    struct Files {
        folder: tempfile::TempDir,
        cache: Cache,
        component: PathBuf,
        code: StoredCode,
        entry: File,
    }

    fn files() -> Result<Files, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let compilation = Compilation { cache: CacheChoice::Dir(folder.path().to_owned()), ..Compilation::default() };
        let cache = Cache::open(&compilation)?.ok_or("a cache")?;
        let component = folder.path().join("app.wasm");
        std::fs::write(&component, COMPONENT)?;
        let entry = cache.entry(COMPONENT, "engine");
        let code = compiled_in_test(COMPONENT, &entry).map_err(|problem| problem.reason)?;
        let code = code.stored().ok_or("it is in the cache")?;
        Ok(Files { entry: File::open(&entry)?, folder, cache, component, code })
    }

    impl Files {
        /// As the file is now, but changed long ago.
        fn known(&self) -> std::io::Result<KnownComponent> {
            Ok(KnownComponent { changed: (1, 0), ..KnownComponent::of(&std::fs::metadata(&self.component)?) })
        }
    }

    #[test]
    fn a_file_that_was_noted_is_known_until_it_changes() -> Outcome {
        let files = files()?;
        let known = files.known()?;
        assert_eq!(known.find(&files.cache, &["engine"]), None);
        known.write(&files.cache, files.code.clone(), &files.entry);
        assert_eq!(known.find(&files.cache, &["engine"]), Some(files.code.clone()));
        assert_eq!(known.find(&files.cache, &["another"]), None, "of another engine");
        assert_eq!(KnownComponent { changed: (1, 1), ..known }.find(&files.cache, &["engine"]), None, "it was changed");
        std::fs::write(&files.component, b"(component )")?;
        assert_eq!(files.known()?.find(&files.cache, &["engine"]), None, "it has another size");
        Ok(())
    }

    #[test]
    fn a_note_that_others_can_write_counts_for_nothing() -> Outcome {
        use std::os::unix::fs::PermissionsExt;
        let files = files()?;
        let known = files.known()?;
        known.write(&files.cache, files.code.clone(), &files.entry);
        std::fs::set_permissions(known.note(&files.cache), std::fs::Permissions::from_mode(0o620))?;
        assert_eq!(known.find(&files.cache, &["engine"]), None);
        Ok(())
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_settled() -> Outcome {
        let files = files()?;
        let new = KnownComponent::of(&std::fs::metadata(&files.component)?);
        assert!(!new.is_settled());
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let known = files.known()?;
        assert_eq!([0, 1, 3, 4, 100].map(|now| known.is_settled_at(at(now))), [false, false, false, true, true]);
        Ok(())
    }

    #[test]
    fn a_note_that_names_a_file_outside_of_the_cache_or_is_damaged_is_no_note() -> Outcome {
        let files = files()?;
        let known = files.known()?;
        let outside = tempfile::tempdir()?;
        let name = files.code.entry().file_name().ok_or("a name")?;
        std::fs::copy(files.code.entry(), outside.path().join(name))?;
        let entry = File::open(outside.path().join(name))?;
        let code = StoredCode::of(&outside.path().join(name), &entry).ok_or("its identity")?;
        known.write(&files.cache, code, &entry);
        assert!(known.note(&files.cache).exists() && known.note(&files.cache).starts_with(files.folder.path()));
        assert_eq!(known.find(&files.cache, &["engine"]), None);
        known.write(&files.cache, files.code.clone(), &files.entry);
        let text = std::fs::read(known.note(&files.cache))?;
        std::fs::write(known.note(&files.cache), &text[..text.len() - 1])?;
        assert_eq!(known.find(&files.cache, &["engine"]), None);
        Ok(())
    }
}
