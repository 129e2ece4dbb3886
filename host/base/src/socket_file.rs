//! The file of a Unix socket that this host has bound: which file it is, so that the host removes this file and no other.
//! The primary makes one when it binds. The spawner, which alone may remove files once the host is confined, keeps it.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::path_encoding;

/// A path, and which file stood there when the host had bound it: its device and inode, and, since a file system may use
/// an inode again, the time it was made at, where the file system keeps that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFile {
    #[serde(with = "path_encoding")]
    path: PathBuf,
    device: u64,
    inode: u64,
    made: Option<SystemTime>,
}

impl SocketFile {
    /// The file that stands at `path` now. To be called right after binding.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        // The file itself, not what it links to.
        let metadata = std::fs::symlink_metadata(path)?;
        Ok(Self { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino(), made: metadata.created().ok() })
    }

    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if the same one still stands at its path: another host may have put its own socket there since.
    pub fn remove(&self) {
        if Self::at(&self.path).is_ok_and(|now| now == *self) {
            // It may have gone just now.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes the Unix socket at `path`, if there is one and nobody listens on it: a program that was killed has left it.
///
/// # Errors
/// When it cannot be removed.
pub fn remove_abandoned(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket {
        let found = SocketFile::at(path)?;
        // Another host may have put its own socket there just now.
        if is_abandoned(path) && SocketFile::at(path).is_ok_and(|now| now == found) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Whether nobody listens on a Unix socket. One whose backlog is full is somebody's; it is not waited for.
fn is_abandoned(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        connect(&socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?, &address)
    });
    connected == Err(rustix::io::Errno::CONNREFUSED)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_file_is_removed_and_what_took_its_place_is_not() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("socket");
        // Held open, so that its inode is not given to the next.
        let _listener = UnixListener::bind(&path)?;
        let own = SocketFile::at(&path)?;
        std::fs::rename(&path, dir.path().join("elsewhere"))?;
        let _successor = UnixListener::bind(&path)?;
        own.remove();
        assert!(path.exists(), "a successor's socket");
        std::fs::rename(dir.path().join("elsewhere"), &path)?;
        own.remove();
        assert!(!path.exists(), "its own");
        own.remove();
        Ok(())
    }

    #[test]
    fn a_file_is_named_to_another_process_whatever_its_path() -> io::Result<()> {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(std::ffi::OsStr::from_bytes(b"\xff"));
        let _listener = UnixListener::bind(&path)?;
        let own = SocketFile::at(&path)?;
        assert_eq!(serde_json::from_slice::<SocketFile>(&serde_json::to_vec(&own)?)?, own);
        Ok(())
    }

    #[test]
    fn a_link_to_the_file_is_another_file() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, moved) = (dir.path().join("socket"), dir.path().join("moved"));
        let _listener = UnixListener::bind(&path)?;
        let own = SocketFile::at(&path)?;
        std::fs::rename(&path, &moved)?;
        std::os::unix::fs::symlink(&moved, &path)?;
        own.remove();
        assert!(path.is_symlink() && moved.exists());
        Ok(())
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_removed_and_another_is_not() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let (path, file) = (dir.path().join("socket"), dir.path().join("file"));
        let listener = UnixListener::bind(&path)?;
        std::fs::write(&file, "text")?;
        for path in [&path, &file] {
            remove_abandoned(path)?;
            assert!(path.exists(), "{}", path.display());
        }
        drop(listener);
        remove_abandoned(&path)?;
        assert!(!path.exists());
        remove_abandoned(&path)
    }
}
