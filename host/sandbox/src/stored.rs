//! What remains of a loaded app's code when the app is asleep: the name of its entry in the cache, and what tells that the
//! entry is still the one that was checked. (`prepare` opens it again.)

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::cache::{is_entry_name, is_ours};

/// Checked code in the cache. Small, without an open file; what one process stored, another of the same program may open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCode {
    entry: OsString,
    identity: Identity,
}

/// What tells a file from others and from its own later versions. (The directory is this user's alone.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    size: u64,
    /// Seconds and nanoseconds of the last change of its content.
    modified: (i64, i64),
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl StoredCode {
    /// Of an open entry; none if the system does not tell what it is.
    pub(super) fn of(entry: &Path, file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self { entry: entry.as_os_str().to_owned(), identity: Identity::from(&metadata) })
    }

    /// Its entry, and whether that is still as it was.
    pub(super) fn reopen(&self) -> std::io::Result<(File, bool)> {
        let file = File::open(self.entry())?;
        let metadata = file.metadata()?;
        let is_same = Identity::from(&metadata) == self.identity && is_ours(&metadata);
        Ok((file, is_same))
    }

    /// Whether its name is that of an entry of the cache in this directory.
    pub fn is_entry_of(&self, dir: &Path) -> bool {
        let name = self.entry().file_name().and_then(|name| name.to_str());
        self.entry().parent() == Some(dir) && name.is_some_and(is_entry_name)
    }

    /// Whether its entry is still there.
    pub fn is_there(&self) -> bool {
        self.entry().exists()
    }

    /// The name of its entry.
    pub(super) fn entry(&self) -> &Path {
        Path::new(&self.entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare::compiled_in_test;
    use super::super::testing::app_of_test;
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const COMPONENT: &[u8] = br#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#;

    fn stored(folder: &Path) -> Result<(StoredCode, PathBuf), Box<dyn std::error::Error>> {
        let entry = folder.join("entry");
        let artifact = compiled_in_test(COMPONENT, &entry).map_err(|problem| problem.reason)?;
        Ok((artifact.stored().ok_or("it is in the cache")?, entry))
    }

    /// Changes a byte of the code.
    fn damage(entry: &Path) -> std::io::Result<()> {
        let file = File::options().write(true).open(entry)?;
        file.write_all_at(b"?", 200)
    }

    #[test]
    fn an_entry_that_is_as_it_was_is_not_checked_again() -> Outcome {
        let folder = tempfile::tempdir()?;
        let (stored, entry) = stored(folder.path())?;
        let modified = std::fs::metadata(&entry)?.modified()?;
        let passed_on: StoredCode = serde_json::from_slice(&serde_json::to_vec(&stored)?)?;
        let artifact = passed_on.open(&app_of_test())?;
        assert_eq!(artifact.stored(), Some(stored.clone()));
        assert_eq!(artifact.description.exports, ["wasi:http/incoming-handler@0.2.6"]);
        // With its old time, as nothing else but this test would set it.
        damage(&entry)?;
        File::options().write(true).open(&entry)?.set_modified(modified)?;
        assert!(stored.open(&app_of_test()).is_ok(), "it was hashed");
        Ok(())
    }

    #[test]
    fn an_entry_that_has_changed_is_checked_in_full() -> Outcome {
        let folder = tempfile::tempdir()?;
        let (stored, entry) = stored(folder.path())?;
        let later = SystemTime::now() + Duration::from_secs(5);
        File::options().write(true).open(&entry)?.set_modified(later)?;
        let again = stored.open(&app_of_test())?.stored().ok_or("it is in the cache")?;
        assert_ne!(again, stored);
        damage(&entry)?;
        let error = again.open(&app_of_test()).map(drop).err().ok_or("damaged code was opened")?;
        assert!(error.to_string().contains("its checksum is wrong"), "{error}");
        Ok(())
    }

    #[test]
    fn an_entry_that_others_can_write_is_not_used() -> Outcome {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir()?;
        let (stored, entry) = stored(folder.path())?;
        std::fs::set_permissions(&entry, std::fs::Permissions::from_mode(0o622))?;
        let error = stored.open(&app_of_test()).map(drop).err().ok_or("code of others was opened")?;
        assert!(error.to_string().contains("others can write"), "{error}");
        Ok(())
    }

    #[test]
    fn an_entry_that_is_gone_is_an_error_that_says_so() -> Outcome {
        let folder = tempfile::tempdir()?;
        let (stored, entry) = stored(folder.path())?;
        std::fs::remove_file(&entry)?;
        let error = stored.open(&app_of_test()).map(drop).err().ok_or("there is no file")?;
        assert!(error.to_string().contains(&format!("cannot be read from `{}`", entry.display())), "{error}");
        Ok(())
    }

    #[test]
    fn a_file_elsewhere_or_of_another_name_is_no_entry_of_a_cache() -> Outcome {
        let folder = tempfile::tempdir()?;
        let entry = format!("{}-engine-0.1.0-{}.cwasm", "a".repeat(64), "0".repeat(16));
        std::fs::create_dir(folder.path().join("below"))?;
        for (name, is) in [(&*entry, true), ("other", false), (&*format!("below/{entry}"), false)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "code")?;
            let stored = StoredCode::of(&path, &File::open(&path)?).ok_or("it is there")?;
            assert_eq!(stored.is_entry_of(folder.path()), is, "{name}");
        }
        Ok(())
    }
}
