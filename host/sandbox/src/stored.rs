//! What remains of a loaded app's code when the app is asleep: the name of its entry in the cache, and what tells that the
//! entry is still the one that was checked. Waking an app opens the entry again, and hashes it only if it has changed.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use wasmhost_config::App;

use super::cache::Cache;
use super::prepare::Artifact;
use super::source::{LoadError, Problem};

/// Checked code in the cache. Small, without an open file; what one process stored, another of the same program may open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCode {
    entry: OsString,
    identity: Identity,
}

/// What tells a file from others and from its own later versions. (The directory is this user's alone.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
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

    /// Opens the code of `app` again. An entry that has changed since it was checked is checked in full; then
    /// [`Artifact::stored`] differs from this. Takes some system calls, and reads little.
    ///
    /// # Errors
    /// When the entry is gone or no longer whole. The app has to be loaded anew then, with [`Artifact::prepare`].
    pub fn open(&self, app: &App) -> Result<Artifact, LoadError> {
        self.try_open().map_err(|problem| LoadError::new(&app.component, problem))
    }

    fn try_open(&self) -> Result<Artifact, Problem> {
        let gone = |error: std::io::Error| {
            Problem::new(
                format!("its compiled code cannot be read from `{}`: {error}", self.entry.display()),
                "the component has to be compiled again; raise --cache-max if the cache is too small for all apps",
            )
        };
        let entry = Path::new(&self.entry);
        let file = File::open(entry).map_err(gone)?;
        if Self::of(entry, &file).as_ref() != Some(self) {
            return Artifact::of_entry(file, entry);
        }
        Cache::touch(&file, entry);
        Artifact::trusted(file, self.clone())
    }
}
