//! Anonymous files that nobody can change any more: what one process of this program tells others that is too long for a
//! message.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

/// Longest content.
const BYTES_MAX: u64 = 64 << 20;
/// Against these, nobody can change what others have read or will read.
pub const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// How often, and after which pause, it is tried to seal a file.
const SEAL_TRIES: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_millis(20);

/// These bytes in such a file.
///
/// # Errors
/// When they are more than 64 MiB; what the system says.
pub fn seal(bytes: &[u8]) -> io::Result<OwnedFd> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > BYTES_MAX) {
        return Err(too_long());
    }
    let file = rustix::fs::memfd_create("wasmhost-sealed", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let file = File::from(file);
    file.write_all_at(bytes, 0)?;
    make_unchangeable(&file)?;
    Ok(file.into())
}

/// Lets nobody change a file in memory any more.
///
/// # Errors
/// What the system says.
pub fn make_unchangeable(file: impl AsFd) -> io::Result<()> {
    tried(SEAL_PAUSE, || rustix::fs::fcntl_add_seals(&file, SEALS))
}

/// The kernel refuses while it holds a page of the file for a moment: when it writes it to disk, moves it or looks at its use
/// (memfd_wait_for_pins in mm/memfd.c). It waits for that itself, but not for long.
fn tried(pause: Duration, mut seal: impl FnMut() -> Result<(), Errno>) -> io::Result<()> {
    for _ in 1..SEAL_TRIES {
        match seal() {
            Err(Errno::BUSY) => std::thread::sleep(pause),
            outcome => return Ok(outcome?),
        }
    }
    Ok(seal()?)
}

/// What is in such a file.
///
/// # Errors
/// When somebody could still change it, or it is too long; what the system says.
pub fn unseal(file: &OwnedFd) -> io::Result<Vec<u8>> {
    if !rustix::fs::fcntl_get_seals(file)?.contains(SEALS) {
        return Err(io::Error::other("the file is not sealed"));
    }
    let file = File::from(file.try_clone()?);
    let length = file.metadata()?.len();
    if length > BYTES_MAX {
        return Err(too_long());
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    // (Other processes share the file's position.)
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn too_long() -> io::Error {
    io::Error::other(format!("more than {} MiB are to be handed to another process", BYTES_MAX >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_the_kernel_holds_for_a_moment_is_sealed_then() {
        let after = |busy: u32, then: Result<(), Errno>| {
            let mut tries = 0;
            let outcome = tried(Duration::ZERO, || {
                tries += 1;
                if tries <= busy { Err(Errno::BUSY) } else { then }
            });
            (outcome.map_err(|error| error.raw_os_error()), tries)
        };
        assert_eq!(after(0, Ok(())), (Ok(()), 1));
        assert_eq!(after(SEAL_TRIES - 1, Ok(())), (Ok(()), SEAL_TRIES));
        assert_eq!(after(SEAL_TRIES, Ok(())), (Err(Some(Errno::BUSY.raw_os_error())), SEAL_TRIES));
        assert_eq!(after(2, Err(Errno::PERM)), (Err(Some(Errno::PERM.raw_os_error())), 3));
    }

    #[test]
    fn what_was_sealed_is_read_and_cannot_be_changed() -> io::Result<()> {
        let file = seal(b"text")?;
        assert_eq!(unseal(&file)?, b"text");
        assert!(File::from(file.try_clone()?).write_at(b"T", 0).is_err());
        Ok(())
    }

    #[test]
    fn a_file_that_somebody_could_still_change_is_refused() -> io::Result<()> {
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        assert!(unseal(&open).is_err());
        Ok(())
    }
}
