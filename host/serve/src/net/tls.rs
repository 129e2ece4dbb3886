//! TLS towards clients, by rustls: which certificate a client gets, who its own certificate says it is, and how sessions are
//! resumed. `session` speaks TLS on a socket, `tickets` makes session tickets, `handshakes` bounds handshakes.

pub(crate) mod handshakes;
pub(crate) mod session;
pub(crate) mod subject;
mod tickets;

use std::collections::HashMap;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use wasmhost_config::tls::{ServerIdentity, TicketKey, TlsMaterial};
use wasmhost_config::{ClientAuth, certificates, tls};

use self::tickets::Tickets;

/// The names of protocols that a client may choose from (RFC 7301, section 6).
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// How a listener speaks TLS; `speaks_http2`: clients may choose HTTP/2.
///
/// # Errors
/// What of it cannot be used. (It was checked when it was read.)
pub(super) fn server_config(
    material: &TlsMaterial,
    tickets: &[TicketKey],
    speaks_http2: bool,
) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let resolver = Arc::new(Certificates::new(&material.identities)?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = if material.client_roots.is_empty() {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for root in certificates(&material.client_roots)? {
            roots.add(root).map_err(|error| error.to_string())?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = match material.client_auth {
            ClientAuth::Required => verifier,
            ClientAuth::Optional => verifier.allow_unauthenticated(),
        };
        builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
    };
    let mut config = builder.with_cert_resolver(resolver);
    let protocols = [HTTP2, HTTP1].into_iter().filter(|name| speaks_http2 || *name != HTTP2);
    config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
    // Sessions are resumed by any worker, since all have the keys of tickets; none keeps them.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    // A session that is resumed keeps the client's certificate, or that it has none, from wherever it began: where clients
    // are asked for one, each handshake is a whole one.
    if material.client_roots.is_empty() {
        config.ticketer = Arc::new(Tickets::new(tickets.to_vec()));
    }
    // Two, as browsers use them: one is used once (RFC 8446, appendix C.4).
    config.send_tls13_tickets = 2;
    Ok(Arc::new(config))
}

/// The certificates of a listener, by the names of servers.
#[derive(Debug)]
struct Certificates {
    /// Names in lower case, `*.` before those that stand for all one level below. Of one name there may be several, of
    /// different kinds of keys.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(identities: &[ServerIdentity]) -> Result<Self, String> {
        let mut found = Self { by_name: HashMap::new(), default: Vec::new() };
        let provider = ring::default_provider();
        let mut first_names: Option<&[String]> = None;
        for identity in identities {
            let chain = tls::certificates(&identity.chain)?;
            let key = tls::private_key(&identity.key)?;
            let mut certified = CertifiedKey::from_der(chain, key, &provider).map_err(|error| error.to_string())?;
            certified.ocsp = Some(identity.ocsp.clone()).filter(|response| !response.is_empty());
            let certified = Arc::new(certified);
            for name in &identity.names {
                found.by_name.entry(name.clone()).or_default().push(Arc::clone(&certified));
            }
            // With the first, others of its names that have keys of another kind.
            if *first_names.get_or_insert(&identity.names) == identity.names {
                found.default.push(certified);
            }
        }
        Ok(found)
    }

    /// Those for this server (RFC 6125, section 6.4.3: a wildcard stands for one label).
    fn of(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let by_wildcard = || self.by_name.get(&format!("*.{}", name.split_once('.')?.1));
        self.by_name.get(&name).or_else(by_wildcard).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = hello.server_name().map_or(&*self.default, |name| self.of(name));
        let fits = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(hello.signature_schemes()).is_some();
        all.iter().find(fits).or_else(|| all.first()).cloned()
    }
}
