//! The addresses on which the host listens, and how connections at each of them begin. Several addresses that are named in
//! one place (by flags and at the top of the file, or in a `[[listener]]`) have all settings of that place in common.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::acme::{AcmeDraft, AcmeSettings};
use super::draft::Folder;
use super::{Listen, encoding, parse};

/// An address on which the host listens, and how connections there begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerConfig {
    /// The address.
    pub listen: Listen,
    /// Clients speak TLS, with these files; none: they do not.
    pub tls: Option<Arc<TlsFiles>>,
    /// A balancer says in a PROXY header, before anything else, who the client is.
    pub has_proxy_header: bool,
    /// Each request is answered with a redirect to `https`.
    pub redirects: bool,
    /// The `Strict-Transport-Security` of its responses (RFC 6797, section 6.1).
    pub hsts: Option<Arc<str>>,
}

impl ListenerConfig {
    /// Whether both differ in their addresses only.
    pub(super) fn has_settings_of(&self, other: &Self) -> bool {
        Self { listen: other.listen.clone(), ..self.clone() } == *other
    }
}

/// The files of a listener's TLS. Only the spawner opens them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsFiles {
    /// One at least, unless one is to be had by ACME; the first is for clients that name no server, or one of which there is
    /// no certificate.
    pub certificates: Vec<CertificateFiles>,
    /// A certificate that is to be had by ACME, behind all others.
    pub acme: Option<AcmeSettings>,
    /// The roots of clients' certificates; none: clients are not asked for any.
    #[serde(with = "encoding::path_or_none")]
    pub client_ca: Option<PathBuf>,
    /// Whether clients need one.
    pub client_auth: ClientAuth,
}

/// A certificate, with its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFiles {
    /// The certificate, with those between it and a root, in PEM.
    #[serde(with = "encoding::path")]
    pub chain: PathBuf,
    /// Its private key, in PEM.
    #[serde(with = "encoding::path")]
    pub key: PathBuf,
    /// A stapled OCSP response, in DER.
    #[serde(with = "encoding::path_or_none")]
    pub ocsp: Option<PathBuf>,
}

impl TlsFiles {
    /// All of them.
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let paths =
            self.certificates.iter().flat_map(|files| [Some(&files.chain), Some(&files.key), files.ocsp.as_ref()]);
        let roots = self.acme.iter().map(|acme| &acme.ca_file).filter(|file| !file.as_os_str().is_empty());
        paths.chain([self.client_ca.as_ref()]).flatten().chain(roots)
    }
}

/// The certificates that these listeners have by ACME, each once.
pub fn acme_of(listeners: &[ListenerConfig]) -> Vec<&AcmeSettings> {
    let mut all: Vec<&AcmeSettings> = Vec::new();
    for acme in listeners.iter().filter_map(|listener| listener.tls.as_ref()?.acme.as_ref()) {
        if !all.contains(&acme) {
            all.push(acme);
        }
    }
    all
}

/// Whether clients need a certificate, where they are asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClientAuth {
    /// A client without one is refused in the handshake.
    #[default]
    Required,
    /// A client may have none; one that it has must be valid.
    Optional,
}

/// Most addresses that a host listens on; each costs descriptors in several processes.
pub(super) const LISTENERS_MAX: usize = 64;
/// Most certificates of a listener.
pub(super) const CERTIFICATES_MAX: usize = 256;

/// The settings of the addresses of one place, as far as they have been read.
#[derive(Debug, Clone)]
pub(super) struct ListenerDraft {
    pub(super) listens: Vec<Listen>,
    pub(super) chains: Vec<PathBuf>,
    pub(super) keys: Vec<PathBuf>,
    /// Empty: none for the certificate of this number.
    pub(super) ocsp: Vec<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_auth: ClientAuth,
    pub(super) acme: AcmeDraft,
    pub(super) has_proxy_header: bool,
    pub(super) redirects: bool,
    pub(super) hsts: Option<Arc<str>>,
    pub(super) folder: Folder,
    pub(super) has_inherited_socket: bool,
}

impl ListenerDraft {
    /// What holds where nothing is given.
    pub(super) fn new(folder: Folder, has_inherited_socket: bool) -> Self {
        Self {
            listens: Vec::new(),
            chains: Vec::new(),
            keys: Vec::new(),
            ocsp: Vec::new(),
            client_ca: None,
            client_auth: ClientAuth::Required,
            acme: AcmeDraft::default(),
            has_proxy_header: false,
            redirects: false,
            hsts: None,
            folder,
            has_inherited_socket,
        }
    }

    pub(super) fn listen(&mut self, text: &str) -> Result<(), String> {
        let listen = self.folder.listen(parse::listen(text)?);
        if matches!(listen, Listen::Inherited(_)) && !self.has_inherited_socket {
            return Err(
                "no socket was handed over: LISTEN_FDS is not set for this process (see sd_listen_fds(3))".to_owned()
            );
        }
        if !is_any_port(&listen) && self.listens.contains(&listen) {
            return Err(ALREADY.to_owned());
        }
        if self.listens.len() >= LISTENERS_MAX {
            return Err(too_many());
        }
        self.listens.push(listen);
        Ok(())
    }

    pub(super) fn chain(&mut self, text: &str) -> Result<(), String> {
        self.chains.push(self.folder.path(text)?);
        Ok(())
    }

    pub(super) fn key(&mut self, text: &str) -> Result<(), String> {
        self.keys.push(self.folder.path(text)?);
        Ok(())
    }

    pub(super) fn ocsp(&mut self, text: &str) -> Result<(), String> {
        self.ocsp.push(if text.is_empty() { PathBuf::new() } else { self.folder.path(text)? });
        Ok(())
    }

    /// No text is no file.
    pub(super) fn client_ca(&mut self, text: &str) -> Result<(), String> {
        self.client_ca = if text.is_empty() { None } else { Some(self.folder.path(text)?) };
        Ok(())
    }

    /// No text is no file.
    pub(super) fn acme_ca_file(&mut self, text: &str) -> Result<(), String> {
        let path = if text.is_empty() { PathBuf::new() } else { self.folder.path(text)? };
        let pem = if text.is_empty() { String::new() } else { parse::ca_file(&path)? };
        (self.acme.ca_file, self.acme.ca_pem) = (path, pem.into());
        Ok(())
    }

    /// No text is no field.
    pub(super) fn hsts(&mut self, text: &str) -> Result<(), String> {
        let is_field = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        let has_age = text.split(';').any(|part| {
            let age = part.trim().strip_prefix("max-age=").map(|age| age.trim_matches('"'));
            age.is_some_and(|age| !age.is_empty() && age.bytes().all(|byte| byte.is_ascii_digit()))
        });
        if !(text.is_empty() || is_field && has_age) {
            return Err("is no value of Strict-Transport-Security: write `max-age=SECONDS`, as in `max-age=31536000; includeSubDomains`".to_owned());
        }
        self.hsts = Some(text).filter(|text| !text.is_empty()).map(Arc::from);
        Ok(())
    }

    /// A key that says something of the addresses of this place; none: nothing is said of them.
    pub(super) fn says(&self) -> Option<&'static str> {
        let said = [
            ("tls.cert", !self.chains.is_empty()),
            ("tls.key", !self.keys.is_empty()),
            ("tls.client-ca", self.client_ca.is_some()),
            ("tls.ocsp", !self.ocsp.is_empty()),
            ("proxy-protocol", self.has_proxy_header),
            ("https-redirect", self.redirects),
            ("hsts", self.hsts.is_some()),
        ];
        said.into_iter().find(|(_, is_said)| *is_said).map(|(key, _)| key).or_else(|| self.acme.says())
    }

    /// Where clients connect when nothing is said.
    pub(super) fn listen_by_default(&mut self) {
        let local = Listen::Tcp(([127, 0, 0, 1], 8080).into());
        self.listens.push(if self.has_inherited_socket { Listen::Inherited(None) } else { local });
    }

    /// The listeners of this place.
    ///
    /// # Errors
    /// What its settings do not say together: the key that it is about, and why.
    pub(super) fn finish(self) -> Result<Vec<ListenerConfig>, (&'static str, String)> {
        let tls = self.tls()?.map(Arc::new);
        if self.redirects && tls.is_some() {
            let reason = "clients of this address speak TLS already; redirect those of another one";
            return Err(("https-redirect", reason.to_owned()));
        }
        if self.hsts.is_some() && tls.is_none() {
            let reason = "is for addresses whose clients speak TLS (RFC 6797, section 7.2); name `tls` here, or the proxy in front of the host says it";
            return Err(("hsts", reason.to_owned()));
        }
        let Self { listens, has_proxy_header, redirects, hsts, .. } = self;
        let listener =
            |listen| ListenerConfig { listen, tls: tls.clone(), has_proxy_header, redirects, hsts: hsts.clone() };
        Ok(listens.into_iter().map(listener).collect())
    }

    fn tls(&self) -> Result<Option<TlsFiles>, (&'static str, String)> {
        let Self { chains, keys, ocsp, client_ca, client_auth, .. } = self;
        let count = chains.len();
        if count != keys.len() {
            let reason = format!(
                "there are {count} certificates (`tls.cert`) and {} keys (`tls.key`): name one key for each certificate, in the same order",
                keys.len()
            );
            return Err((if count > keys.len() { "tls.cert" } else { "tls.key" }, reason));
        }
        if count > CERTIFICATES_MAX {
            return Err(("tls.cert", format!("there are {count} certificates, of {CERTIFICATES_MAX} at most")));
        }
        let acme = self.acme.finish()?;
        if count == 0 && !ocsp.is_empty() && acme.is_some() {
            return Err(("tls.ocsp", "is for certificates of `tls.cert`".to_owned()));
        }
        if count == 0 && acme.is_none() {
            let beside = [("tls.ocsp", !ocsp.is_empty()), ("tls.client-ca", client_ca.is_some())];
            return match beside.into_iter().find(|(_, is_there)| *is_there) {
                Some((key, _)) => Err((
                    key,
                    "has no effect without a certificate: name `tls.cert` and `tls.key`, or `tls.acme`".to_owned(),
                )),
                None => Ok(None),
            };
        }
        if !ocsp.is_empty() && ocsp.len() != count {
            let reason = format!(
                "there are {} OCSP responses for {count} certificates: name one for each in the same order, `\"\"` for none",
                ocsp.len()
            );
            return Err(("tls.ocsp", reason));
        }
        if *client_auth == ClientAuth::Optional && client_ca.is_none() {
            return Err((
                "tls.client-auth",
                "has no effect without `tls.client-ca`, the roots of clients' certificates".to_owned(),
            ));
        }
        let certificates = chains.iter().zip(keys).enumerate().map(|(number, (chain, key))| {
            let ocsp = ocsp.get(number).filter(|file| !file.as_os_str().is_empty()).cloned();
            CertificateFiles { chain: chain.clone(), key: key.clone(), ocsp }
        });
        Ok(Some(TlsFiles {
            certificates: certificates.collect(),
            acme,
            client_ca: client_ca.clone(),
            client_auth: *client_auth,
        }))
    }
}

/// What is wrong with an address that is named twice.
const ALREADY: &str = "is already listened on";

fn too_many() -> String {
    format!("is one too many; the host listens on {LISTENERS_MAX} addresses at most")
}

fn is_any_port(listen: &Listen) -> bool {
    matches!(listen, Listen::Tcp(address) if address.port() == 0)
}

/// Adds listeners of another place to those of the places before.
///
/// # Errors
/// An address that cannot be added, and why.
pub(super) fn add(all: &mut Vec<ListenerConfig>, more: Vec<ListenerConfig>) -> Result<(), (Listen, String)> {
    for listener in more {
        if let Some(other) = all.iter().find(|other| other.listen == listener.listen) {
            // By its address it is known what a listener is to be.
            match is_any_port(&listener.listen) {
                true if other.has_settings_of(&listener) => {}
                true => {
                    return Err((
                        listener.listen,
                        "is in two places with other settings: name a port in one of them".to_owned(),
                    ));
                }
                false => return Err((listener.listen, ALREADY.to_owned())),
            }
        }
        if all.len() >= LISTENERS_MAX {
            return Err((listener.listen, too_many()));
        }
        all.push(listener);
    }
    Ok(())
}
