//! What the primary has of TLS: it passes keys on, and does not read them.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use wasmhost_config::tls::CertificateFacts;
use wasmhost_confine::spawner::TlsReading;

/// What the spawner has read of TLS.
#[derive(Clone)]
pub(super) struct HeldTls {
    pub(super) number: u64,
    pub(super) facts: Vec<CertificateFacts>,
    pub(super) sealed: Arc<OwnedFd>,
}

impl From<TlsReading> for HeldTls {
    fn from(TlsReading { number, facts, sealed }: TlsReading) -> Self {
        Self { number, facts, sealed: Arc::new(sealed) }
    }
}
