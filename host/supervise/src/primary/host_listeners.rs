//! Numbers the host's addresses, and sends workers how connections begin there, with what TLS needs. The spawner
//! looks at the files of TLS again and again; what has changed is handed on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use wasmhost_config::{Config, Listen, ListenerConfig};
use wasmhost_confine::spawner::TlsLook;
use wasmhost_serve::worker::{ListenerId, ListenerRow};

use super::held_tls::HeldTls;
use crate::backend::Backend;

/// How often the files of TLS are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// What is known of the host's addresses.
pub(super) struct HostListeners<L> {
    /// By number. An address keeps its number when it goes.
    pub(super) known: Vec<Listen>,
    /// As the settings have them now.
    pub(super) settings: Vec<ListenerConfig>,
    pub(super) tls: Option<HeldTls>,
    /// Addresses that are given up and speak TLS, with what they need for it.
    pub(super) tls_of_kept: Vec<(Listen, Arc<OwnedFd>)>,
    /// What the workers know that take clients' connections.
    pub(super) told: L,
    /// What those of groups know, to whom no client comes.
    pub(super) none: L,
    pub(super) looks: mpsc::Sender<io::Result<TlsLook>>,
    /// When the files are looked at next; none: they are being looked at.
    pub(super) look_at: Option<Instant>,
    /// What was wrong with the files, and when that was told.
    pub(super) wrong_told: Option<(String, Instant)>,
    pub(super) soon_told: Option<Instant>,
}

impl<L> HostListeners<L> {
    /// Of the settings of the start, and the end at which looks at the files are heard.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new<B: Backend<Listeners = L>>(
        config: &Config,
        tls: Option<HeldTls>,
        backend: &B,
    ) -> io::Result<(Self, mpsc::Receiver<io::Result<TlsLook>>)> {
        let (looks, looked) = mpsc::channel(1);
        let mut known = Vec::new();
        let rows = rows(&mut known, &config.listeners, speaks_http2(config));
        let told = backend.listeners(rows, sealed(tls.as_ref(), &[]))?;
        let none = backend.listeners(Vec::new(), Vec::new())?;
        let look_at = Some(Instant::now() + LOOK_EVERY);
        let all = Self {
            known,
            settings: config.listeners.clone(),
            tls,
            tls_of_kept: Vec::new(),
            told,
            none,
            looks,
            look_at,
            wrong_told: None,
            soon_told: None,
        };
        Ok((all, looked))
    }

    /// The number of an address, and whether its clients speak TLS.
    pub(super) fn number(&self, listen: &Listen) -> (ListenerId, bool) {
        let number = self.known.iter().position(|known| known == listen).and_then(|number| u16::try_from(number).ok());
        let speaks_tls = self.settings.iter().any(|listener| listener.listen == *listen && listener.tls.is_some());
        // (One that is not known has no connections.)
        (ListenerId(number.unwrap_or(u16::MAX)), speaks_tls)
    }

    /// Those whose clients begin with the head of a request that can be read: no TLS, and no balancer that names the client first.
    pub(super) fn with_readable_heads(&self) -> Vec<ListenerId> {
        let readable = self.settings.iter().filter(|listener| listener.tls.is_none() && !listener.has_proxy_header);
        readable.map(|listener| self.number(&listener.listen).0).collect()
    }

    /// When the files of TLS are to be looked at; none: there are none, or they are being looked at.
    pub(super) fn look_at(&self) -> Option<Instant> {
        self.look_at.filter(|_| self.tls.is_some())
    }
}

/// What workers are given for TLS: the latest, and what addresses need that are given up, each once.
pub(super) fn sealed(latest: Option<&HeldTls>, of_kept: &[(Listen, Arc<OwnedFd>)]) -> Vec<Arc<OwnedFd>> {
    let mut all: Vec<Arc<OwnedFd>> = latest.iter().map(|tls| Arc::clone(&tls.sealed)).collect();
    for (_, tls) in of_kept {
        if !all.iter().any(|known| Arc::ptr_eq(known, tls)) {
            all.push(Arc::clone(tls));
        }
    }
    all
}

pub(super) fn speaks_http2(config: &Config) -> bool {
    config.limits.http2_streams_max > 0
}

/// What workers are told of these listeners. Those that have no number yet get one.
pub(super) fn rows(known: &mut Vec<Listen>, settings: &[ListenerConfig], speaks_http2: bool) -> Vec<ListenerRow> {
    let row = |listener: &ListenerConfig| {
        let number = known.iter().position(|known| *known == listener.listen).unwrap_or_else(|| {
            known.push(listener.listen.clone());
            known.len() - 1
        });
        // (Some sixty addresses at a time: a host that has had more of them keeps from these that connections begin.)
        u16::try_from(number).ok().map(|number| ListenerRow::new(ListenerId(number), listener, speaks_http2))
    };
    settings.iter().filter_map(row).collect()
}
