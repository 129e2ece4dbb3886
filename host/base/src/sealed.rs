//! Anonymous files that nobody can change any more: what one process of this program tells others that is too long for a
//! message.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, SealFlags};

/// Longest content.
const BYTES_MAX: u64 = 64 << 20;
/// Against these, nobody can change what others have read or will read.
const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

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
    rustix::fs::fcntl_add_seals(&file, SEALS)?;
    Ok(file.into())
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
