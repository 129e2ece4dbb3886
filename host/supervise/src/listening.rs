//! Unseals how connections begin at the host's addresses. The primary does it for threads, and each process for itself.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use wasmhost_base::sealed::unseal;
use wasmhost_config::tls::HostTls;
use wasmhost_serve::worker::{ListenerRow, Listeners};

/// How connections begin at these addresses; `tls`: what is needed for TLS, sealed, the latest first.
///
/// # Errors
/// When that is not what the spawner makes.
pub(crate) fn opened<'a>(rows: &[ListenerRow], tls: impl Iterator<Item = &'a OwnedFd>) -> io::Result<Arc<Listeners>> {
    let mut all = HostTls::default();
    for sealed in tls {
        let HostTls { listeners, ticket_keys, proof } = serde_json::from_slice(&unseal(sealed)?)?;
        all.proof = all.proof.or(proof);
        all.listeners.extend(listeners);
        if all.ticket_keys.is_empty() {
            all.ticket_keys = ticket_keys;
        }
    }
    Listeners::new(rows, &all).map(Arc::new).map_err(io::Error::other)
}
