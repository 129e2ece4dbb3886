//! What a worker knows of the addresses on which the host listens: how a connection that came to one of them begins.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use http::HeaderValue;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};

use wasmhost_config::acme::AcmeProof;
use wasmhost_config::tls::HostTls;
use wasmhost_config::{Listen, ListenerConfig};

use super::tls;

/// The number of an address on which the host listens; an address keeps it over reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListenerId(pub u16);

/// What the primary says of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerRow {
    /// Its number.
    pub id: ListenerId,
    /// Its address, as the settings name it.
    pub listen: Listen,
    /// Its clients speak TLS.
    pub speaks_tls: bool,
    /// And may speak HTTP/2 on it.
    pub speaks_http2: bool,
    /// Its connections begin with a PROXY header.
    pub has_proxy_header: bool,
    /// Each request is answered with a redirect to `https`.
    pub redirects: bool,
    /// The `Strict-Transport-Security` of its responses.
    pub hsts: Option<Arc<str>>,
}

impl ListenerRow {
    /// Of this listener, which has this number. `speaks_http2`: the host does.
    pub fn new(id: ListenerId, listener: &ListenerConfig, speaks_http2: bool) -> Self {
        let ListenerConfig { listen, tls, has_proxy_header, redirects, hsts } = listener.clone();
        Self { id, listen, speaks_tls: tls.is_some(), speaks_http2, has_proxy_header, redirects, hsts }
    }
}

/// How connections that came to an address begin.
#[derive(Clone, Default)]
pub(crate) struct ListenerSetup {
    /// They begin with a PROXY header, which names the client.
    pub(crate) has_proxy_header: bool,
    /// They begin with TLS, or go on with it.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// Each request is answered with a redirect to `https`.
    pub(crate) redirects: bool,
    /// The `Strict-Transport-Security` of responses that have none.
    pub(crate) hsts: Option<HeaderValue>,
    /// What authorities are told that ask for proof, which they do without TLS.
    pub(crate) proof: Option<Arc<AcmeProof>>,
}

/// All listeners of a host, by number.
#[derive(Clone, Default)]
pub struct Listeners {
    known: BTreeMap<ListenerId, Arc<ListenerSetup>>,
    /// They speak TLS, and what is needed for it did not come: they are given up.
    lacking: Vec<ListenerId>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.known.keys()).finish()
    }
}

impl Listeners {
    /// Of these rows, with what is needed for TLS.
    ///
    /// # Errors
    /// When what is needed for TLS cannot be used.
    pub fn new(rows: &[ListenerRow], tls: &HostTls) -> Result<Self, String> {
        let mut all = Self::default();
        let proof = tls.proof.clone().map(Arc::new);
        for row in rows {
            let material = tls.listeners.iter().find(|(listen, _)| *listen == row.listen);
            let tls = match (row.speaks_tls, material) {
                (false, _) => None,
                (true, Some((_, material))) => Some(tls::server_config(material, &tls.ticket_keys, row.speaks_http2)?),
                (true, None) => {
                    all.lacking.push(row.id);
                    continue;
                }
            };
            let hsts = row.hsts.as_deref().and_then(|value| HeaderValue::from_str(value).ok());
            let proof = proof.clone().filter(|_| tls.is_none());
            let (has_proxy_header, redirects) = (row.has_proxy_header, row.redirects);
            all.known.insert(row.id, Arc::new(ListenerSetup { has_proxy_header, tls, redirects, hsts, proof }));
        }
        Ok(all)
    }

    /// These in the place of others. At addresses that are given up connections begin as they did before.
    pub(crate) fn after(self: Arc<Self>, before: &Self) -> Arc<Self> {
        if self.lacking.is_empty() {
            return self;
        }
        let mut all = Self::clone(&self);
        for id in all.lacking.drain(..) {
            if let Some(setup) = before.get(id) {
                all.known.insert(id, Arc::clone(setup));
            }
        }
        Arc::new(all)
    }

    /// How connections of this listener begin; none: it is not known (any more).
    pub(crate) fn get(&self, id: ListenerId) -> Option<&Arc<ListenerSetup>> {
        self.known.get(&id)
    }
}
