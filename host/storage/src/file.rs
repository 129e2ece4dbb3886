//! The file that all stores of a host are in: where it is and who may read it. It is opened before the host confines itself, and
//! never again: the engine gets copies of this descriptor.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use redb::Database;
use redb::backends::FileBackend;
use rustix::fs::OFlags;

use crate::error::OpenError;

/// Its name in the data directory.
pub const FILE_NAME: &str = "stores.redb";

/// The opened file. Nobody owns it yet: that takes [`Embedded::start`](crate::Embedded::start).
#[derive(Debug)]
pub struct StoreFile {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
}

impl StoreFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file in a data directory; makes both, if they are not there, so that only this user can enter the directory
    /// (0700) and read the file (0600). A file that others can read is closed to them.
    ///
    /// # Errors
    /// `Io`.
    pub fn open(data_dir: &Path) -> Result<Self, OpenError> {
        let path = data_dir.join(FILE_NAME);
        match open(data_dir, &path) {
            Ok(file) => Ok(Self { path, file }),
            Err(source) => Err(OpenError::Io { file: path, source }),
        }
    }
}

fn open(data_dir: &Path, path: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(data_dir)?;
    let file = match open_existing(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make(data_dir, path)?;
            open_existing(path)?
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() == 0 {
        // (The engine would make an empty one of it. What we make is never empty.)
        return Err(io::Error::other(
            "it is empty, so what was stored is lost: restore it from a backup, or remove it to begin anew",
        ));
    }
    if metadata.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    // The name of a new file survives a power cut only once its directory is on the disk.
    File::open(data_dir)?.sync_all()?;
    Ok(file)
}

fn open_existing(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

/// Makes an empty file of stores, which appears whole: the engine takes what it has made in part for the file of others.
fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    // Only this user can read it.
    let new = tempfile::Builder::new().prefix("new-stores-").tempfile_in(data_dir)?;
    let backend = FileBackend::new(new.as_file().try_clone()?).map_err(io::Error::other)?;
    drop(Database::builder().create_with_backend(backend).map_err(io::Error::other)?);
    new.as_file().sync_all()?;
    match new.persist_noclobber(path) {
        // Another process was faster; whose it is the lock decides.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(|_| ()).map_err(|error| error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_can_read_what_is_made_here() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let data = folder.path().join("a/data");
        StoreFile::open(&data)?;
        let mode = |path: &Path| path.metadata().map(|metadata| metadata.permissions().mode() & 0o777);
        assert_eq!((mode(&data)?, mode(&data.join(FILE_NAME))?), (0o700, 0o600));
        std::fs::set_permissions(data.join(FILE_NAME), Permissions::from_mode(0o644))?;
        StoreFile::open(&data)?;
        assert_eq!(mode(&data.join(FILE_NAME))?, 0o600);
        Ok(())
    }

    #[test]
    fn a_file_that_has_lost_its_content_is_not_taken_for_a_new_one() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(FILE_NAME);
        std::fs::write(&file, "")?;
        let error = StoreFile::open(folder.path()).expect_err("an empty file").to_string();
        assert!(error.contains("it is empty") && error.contains("backup"), "{error}");
        assert_eq!(std::fs::metadata(&file)?.len(), 0);
        Ok(())
    }

    #[test]
    fn links_and_other_things_are_not_opened() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let other = folder.path().join("other");
        std::fs::write(&other, "mine")?;
        std::os::unix::fs::symlink(&other, folder.path().join(FILE_NAME))?;
        let error = StoreFile::open(folder.path()).expect_err("a link").to_string();
        assert!(error.contains(FILE_NAME) && error.contains("hint: "), "{error}");
        std::fs::remove_file(folder.path().join(FILE_NAME))?;
        std::fs::create_dir(folder.path().join(FILE_NAME))?;
        assert!(StoreFile::open(folder.path()).is_err());
        assert_eq!(std::fs::read(&other)?, b"mine");
        Ok(())
    }
}
