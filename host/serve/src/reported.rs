//! What workers hand to the primary that may be too long for a message: within the process as it is, and else in a sealed file.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use wasmhost_base::sealed::{seal, unseal};

/// Something on its way to the primary.
#[derive(Debug)]
pub enum Reported<T> {
    /// From a worker of this process.
    Here(Arc<T>),
    /// From another process: a sealed file of JSON.
    Sealed(OwnedFd),
}

impl<T: Serialize + DeserializeOwned + Clone> Reported<T> {
    /// For another process.
    ///
    /// # Errors
    /// What the system says.
    pub fn sealed(sent: &T) -> io::Result<OwnedFd> {
        seal(&serde_json::to_vec(sent)?)
    }

    /// Reads it; `max_bytes` long at most, since a worker's process may have been broken into. Blocks.
    ///
    /// # Errors
    /// When it is something else; what the system says.
    pub fn read(self, max_bytes: u64) -> io::Result<T> {
        match self {
            Self::Here(sent) => Ok(Arc::unwrap_or_clone(sent)),
            Self::Sealed(file) => {
                let bytes = rustix::fs::fstat(&file)?.st_size;
                if u64::try_from(bytes).map_or(true, |bytes| bytes > max_bytes) {
                    return Err(io::Error::other("what a worker reports is too long"));
                }
                Ok(serde_json::from_slice(&unseal(&file)?)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_reaches_another_process_and_is_no_longer_than_may_be() -> io::Result<()> {
        let report = vec!["a".repeat(1_000)];
        let sent = || Reported::sealed(&report).map(Reported::<Vec<String>>::Sealed);
        assert_eq!(sent()?.read(1 << 20)?, report);
        assert!(sent()?.read(1_000).is_err());
        assert!(Reported::<Vec<String>>::Sealed(seal(b"{}")?).read(1 << 20).is_err());
        Ok(())
    }
}
