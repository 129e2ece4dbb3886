//! The socket in the data directory at which commands reach the host that has the file (`wasmhost kv`): of this user alone.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Its name in the data directory.
pub const SOCKET_NAME: &str = "kv.sock";

/// The directory, open, and a way to the socket in it: the path of a socket must be short (`sun_path`), and the directory's may
/// not be.
fn way(data_dir: &Path) -> io::Result<(File, PathBuf)> {
    let dir = File::open(data_dir)?;
    let way = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string()).join(SOCKET_NAME);
    Ok((dir, way))
}

/// Listens. What another host left behind, which was killed, is replaced; none is reached at one that is there.
///
/// # Errors
/// `AddrInUse` when a host listens; what the system says.
pub fn listen(data_dir: &Path) -> io::Result<UnixListener> {
    let (_dir, way) = way(data_dir)?;
    match UnixStream::connect(&way) {
        Ok(_) => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            if !std::fs::symlink_metadata(&way)?.file_type().is_socket() {
                return Err(io::Error::other("kv.sock is no socket: move it away"));
            }
            std::fs::remove_file(&way)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&way)?;
    std::fs::set_permissions(&way, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the host that listens.
///
/// # Errors
/// What the system says.
pub fn connect(data_dir: &Path) -> io::Result<UnixStream> {
    let (_dir, way) = way(data_dir)?;
    UnixStream::connect(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_host_left_is_replaced_and_a_host_that_listens_is_not() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let long = folder.path().join("d".repeat(200));
        std::fs::create_dir(&long)?;
        assert!(connect(&long).is_err());
        let first = listen(&long)?;
        connect(&long)?;
        assert_eq!(listen(&long).err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
        // (The file stays.)
        drop(first);
        assert!(connect(&long).is_err());
        let _second = listen(&long)?;
        connect(&long)?;
        let mode = long.join(SOCKET_NAME).metadata()?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        Ok(())
    }
}
