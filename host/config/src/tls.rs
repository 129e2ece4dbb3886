//! What is in the files of a listener's TLS: read, checked, and ready to be handed to the processes that speak TLS. Only the
//! spawner reads them (and `wasmhost config check`, which tells what is wrong with them).

use std::fmt;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use x509_parser::asn1_rs::{Enumerated, Sequence};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::acme::{self, AcmeProof, AcmeSettings};
use super::env_file::open_regular;
use super::listener::{CertificateFiles, ClientAuth, ListenerConfig, TlsFiles, acme_of};
use super::{Listen, parse};

/// Largest file of TLS.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// How long before a certificate's end the operator hears of it.
pub const EXPIRY_WARNING: Duration = Duration::from_hours(14 * 24);

/// What a process needs to speak TLS for a listener. It holds private keys.
#[derive(Serialize, Deserialize)]
pub struct TlsMaterial {
    /// The first is for clients that name no server, or one of which there is no certificate.
    pub identities: Vec<ServerIdentity>,
    /// The roots of clients' certificates in PEM; empty: clients are not asked for any.
    pub client_roots: String,
    /// Whether clients need one.
    pub client_auth: ClientAuth,
}

/// A certificate with its key.
#[derive(Serialize, Deserialize)]
pub struct ServerIdentity {
    /// The certificate, and those between it and a root, in PEM.
    pub chain: String,
    /// Its private key, in PEM.
    pub key: String,
    /// A stapled OCSP response, in DER; empty: none.
    pub ocsp: Vec<u8>,
    /// Which servers it is for: names in lower case, with `*.` before those of which it is for all one level below.
    pub names: Vec<String>,
}

impl fmt::Debug for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys are for nobody's log.
        f.debug_struct("TlsMaterial").field("identities", &self.identities.len()).finish_non_exhaustive()
    }
}

/// What the operator sees of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// Its file.
    pub file: String,
    /// Which servers it is for.
    pub names: Vec<String>,
    /// Its end, in seconds since 1970 (UTC).
    pub not_after: i64,
    /// Nobody trusts it: clients get it until there is one by ACME.
    pub is_placeholder: bool,
}

impl CertificateFacts {
    /// How long it is still valid, in whole days; less than none: since when it is not.
    pub fn days_left(&self, now: SystemTime) -> i64 {
        (self.not_after - seconds(now)).div_euclid(24 * 60 * 60)
    }

    /// Whether it ends within [`EXPIRY_WARNING`].
    pub fn ends_soon(&self, now: SystemTime) -> bool {
        let warning = i64::try_from(EXPIRY_WARNING.as_secs()).unwrap_or(i64::MAX);
        self.not_after.saturating_sub(seconds(now)) < warning
    }
}

/// Seconds since 1970 (UTC).
pub fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_secs()).ok()).unwrap_or(0)
}

/// What becomes of certificates that have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedCertificates {
    /// They are an error: a host does not start with them.
    Refuse,
    /// They go on, since the host serves with them already; the log says so.
    Accept,
}

/// Reads and checks the files of a listener's TLS. Blocks. `data_dir`: where certificates by ACME are kept.
///
/// # Errors
/// Which file cannot be used, why, and what to do.
fn read(
    files: &TlsFiles,
    data_dir: Option<&Path>,
    now: SystemTime,
    ended: EndedCertificates,
) -> Result<(TlsMaterial, Vec<CertificateFacts>), String> {
    let mut identities = Vec::new();
    let mut facts = Vec::new();
    for files in &files.certificates {
        let found = read_identity(files)?;
        found.check(files, seconds(now), ended)?;
        facts.push(found.facts(&files.chain, false));
        identities.push(found.identity);
    }
    if let Some((acme, data_dir)) = files.acme.as_ref().zip(data_dir) {
        let file = acme.file(data_dir);
        let (found, is_placeholder) = match read_acme(acme, data_dir)? {
            Some(found) => (found, false),
            None => {
                let (chain, key) = acme::placeholder(&acme.domains)?;
                (identity(chain, key, &file, &file)?, true)
            }
        };
        facts.push(found.facts(&file, is_placeholder));
        identities.push(found.identity);
    }
    let client_roots = match &files.client_ca {
        Some(file) => parse::ca_file(file).map_err(|reason| format!("`{}` {reason}", file.display()))?,
        None => String::new(),
    };
    Ok((TlsMaterial { identities, client_roots, client_auth: files.client_auth }, facts))
}

/// A certificate that was read, and from when to when it is valid, in seconds since 1970 (UTC).
pub struct FoundIdentity {
    /// With its key.
    pub identity: ServerIdentity,
    /// From when on it is valid.
    pub not_before: i64,
    /// Its end.
    pub not_after: i64,
}

impl FoundIdentity {
    fn facts(&self, file: &Path, is_placeholder: bool) -> CertificateFacts {
        let names = self.identity.names.clone();
        CertificateFacts { file: file.display().to_string(), names, not_after: self.not_after, is_placeholder }
    }

    fn check(&self, files: &CertificateFiles, now: i64, ended: EndedCertificates) -> Result<(), String> {
        let chain_file = files.chain.display();
        if self.not_after < now && ended == EndedCertificates::Refuse {
            let days = (now - self.not_after) / (24 * 60 * 60);
            return Err(format!("the certificate `{chain_file}` ended {days} days ago: renew it"));
        }
        if self.not_before > now {
            return Err(format!("the certificate `{chain_file}` is not valid yet: check this machine's clock"));
        }
        Ok(())
    }
}

fn read_identity(files: &CertificateFiles) -> Result<FoundIdentity, String> {
    let (chain, key) = (read_text(&files.chain)?, read_text(&files.key)?);
    let mut found = identity(chain, key, &files.chain, &files.key)?;
    found.identity.ocsp = files.ocsp.as_deref().map(read_ocsp).transpose()?.unwrap_or_default();
    Ok(found)
}

/// Reads the certificate that is kept of one by ACME; none: there is none yet. Blocks.
///
/// # Errors
/// Why it cannot be used, and what to do.
pub fn read_acme(acme: &AcmeSettings, data_dir: &Path) -> Result<Option<FoundIdentity>, String> {
    let file = acme.file(data_dir);
    if !exists(&file) {
        return Ok(None);
    }
    let text = read_text(&file)?;
    let found = identity(text.clone(), text, &file, &file);
    found.map(Some).map_err(|reason| format!("{reason}. Remove `{}`, and another one is ordered", file.display()))
}

/// Whether something is there. (What cannot be looked at is told of when it is opened.)
fn exists(file: &Path) -> bool {
    std::fs::symlink_metadata(file).map_or_else(|error| error.kind() != std::io::ErrorKind::NotFound, |_| true)
}

/// A certificate in PEM, with those between it and a root, and its key: whether they belong together. The files are named in
/// messages.
///
/// # Errors
/// What is wrong with which, and what to do.
pub fn identity(chain: String, key: String, chain_file: &Path, key_file: &Path) -> Result<FoundIdentity, String> {
    let (chain_file, key_file) = (chain_file.display(), key_file.display());
    let certificates = certificates(&chain).map_err(|reason| format!("`{chain_file}` {reason}"))?;
    let Some(first) = certificates.first() else {
        return Err(format!(
            "`{chain_file}` holds no certificate; it must hold one in PEM, from `-----BEGIN CERTIFICATE-----` on, and behind it those between it and a root"
        ));
    };
    let (names, not_before, not_after) = facts_of(first).map_err(|reason| format!("`{chain_file}`: {reason}"))?;
    let private = private_key(&key).map_err(|reason| format!("`{key_file}` {reason}"))?;
    let provider = ring::default_provider();
    CertifiedKey::from_der(certificates, private, &provider).map_err(|error| match error {
        tokio_rustls::rustls::Error::InconsistentKeys(_) => format!(
            "the key `{key_file}` is not that of the certificate `{chain_file}`: name the two that belong together, the server's certificate first in its file"
        ),
        error => format!("`{key_file}` cannot be used as a private key ({error}); RSA of 2048 to 4096 bits, ECDSA (P-256, P-384) and Ed25519 can"),
    })?;
    let identity = ServerIdentity { chain, key, ocsp: Vec::new(), names };
    Ok(FoundIdentity { identity, not_before, not_after })
}

/// The certificates of a chain in PEM.
///
/// # Errors
/// Which one is damaged.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate();
    all.map(|(number, found)| {
        found.map_err(|error| format!("has a certificate that is damaged ({}: {error})", number + 1))
    })
    .collect()
}

/// The private key in PEM.
///
/// # Errors
/// What is there instead.
pub fn private_key(pem: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        if pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || pem.contains("Proc-Type: 4,ENCRYPTED") {
            return "is encrypted; the host has nobody to ask for the password: decrypt it (`openssl pkey -in key.pem -out plain.pem`) and protect the file by its mode".to_owned();
        }
        match error {
            pem::Error::NoItemsFound => "holds no private key; it must hold one in PEM, from `-----BEGIN PRIVATE KEY-----` on".to_owned(),
            error => format!("is damaged: {error}"),
        }
    })
}

/// The names of a certificate, and from when to when it is valid.
fn facts_of(certificate: &CertificateDer<'_>) -> Result<(Vec<String>, i64, i64), String> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|error| format!("no certificate of X.509: {error}"))?;
    let alternative = parsed.subject_alternative_name().map_err(|error| format!("its names are damaged: {error}"))?;
    let names = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        // A client that asks for an address names no server (RFC 6066, section 3).
        _ => None,
    });
    let validity = parsed.validity();
    Ok((names.collect(), validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// What to do where the operator's files are root's.
const DENIED: &str =
    "; the host's user must be able to read it (systemd: LoadCredential=, or a group; docs/DEPLOY.md shows both)";

fn read_ocsp(file: &Path) -> Result<Vec<u8>, String> {
    let bytes = read_bytes(file)?;
    check_ocsp(&bytes).map_err(|reason| format!("`{}` {reason}", file.display()))?;
    Ok(bytes)
}

/// Checks that an OCSP response is one, and whole (RFC 6960, section 4.2.1): clients end a handshake that staples anything
/// else.
fn check_ocsp(bytes: &[u8]) -> Result<(), String> {
    let whole = Sequence::from_der(bytes).ok().filter(|(behind, _)| behind.is_empty());
    let status =
        whole.and_then(|(_, response)| Enumerated::from_der(&response.content).ok().map(|(_, status)| status.0));
    match status {
        Some(0) => Ok(()),
        Some(status) => {
            Err(format!("is an OCSP response without an answer (status {status}): ask the responder again"))
        }
        None => {
            Err("is no whole OCSP response; it must be one in DER, as `openssl ocsp -respout` writes it".to_owned())
        }
    }
}

fn read_bytes(file: &Path) -> Result<Vec<u8>, String> {
    let shown = file.display();
    let mut bytes = Vec::new();
    let opened = open_regular(file).map_err(|reason| {
        let way_out = if reason.contains("Permission denied") { DENIED } else { "" };
        format!("`{shown}` {reason}{way_out}")
    })?;
    opened
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("`{shown}` cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(format!("`{shown}` has more than 1 MiB, too much for a certificate or a key"));
    }
    Ok(bytes)
}

fn read_text(file: &Path) -> Result<String, String> {
    let is_none = |_| {
        format!(
            "`{}` is no text; certificates and keys must be in PEM (`openssl x509 -inform der -in cert.der -out cert.pem`)",
            file.display()
        )
    };
    String::from_utf8(read_bytes(file)?).map_err(is_none)
}

/// What all listeners of a host need to speak TLS. One process hands it to the others in sealed memory.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HostTls {
    /// By address.
    pub listeners: Vec<(Listen, TlsMaterial)>,
    /// With the first, session tickets are made; with the others, those are read that were made before.
    pub ticket_keys: Vec<TicketKey>,
    /// What authorities are told that ask for proof; none: no certificate is ordered.
    pub proof: Option<AcmeProof>,
}

impl HostTls {
    /// Reads and checks the files of all listeners. Blocks. `data_dir`: where certificates by ACME are kept.
    ///
    /// # Errors
    /// All that is wrong, by listener.
    pub fn read(
        listeners: &[ListenerConfig],
        data_dir: Option<&Path>,
        now: SystemTime,
        ended: EndedCertificates,
    ) -> Result<(Self, Vec<CertificateFacts>), Vec<String>> {
        let (mut all, mut facts, mut wrong) = (Self::default(), Vec::new(), Vec::new());
        for (listener, files) in listeners.iter().filter_map(|listener| Some((listener, listener.tls.as_deref()?))) {
            match read(files, data_dir, now, ended) {
                Ok((material, of_files)) => {
                    all.listeners.push((listener.listen.clone(), material));
                    facts.extend(of_files.into_iter().filter(|found| !facts.contains(found)).collect::<Vec<_>>());
                }
                Err(reason) if wrong.contains(&reason) => {}
                Err(reason) => wrong.push(reason),
            }
        }
        match data_dir.map(|data_dir| read_proof(listeners, data_dir)).transpose() {
            Ok(proof) => all.proof = proof.flatten(),
            Err(reason) => wrong.push(reason),
        }
        if wrong.is_empty() { Ok((all, facts)) } else { Err(wrong) }
    }
}

/// What authorities are told that ask for proof; none: no certificate is ordered, or there is no account's key yet.
fn read_proof(listeners: &[ListenerConfig], data_dir: &Path) -> Result<Option<AcmeProof>, String> {
    let file = acme::account_file(data_dir);
    let hosts: Vec<String> = acme_of(listeners).into_iter().flat_map(|acme| acme.domains.clone()).collect();
    if hosts.is_empty() || !exists(&file) {
        return Ok(None);
    }
    let thumbprint = acme::thumbprint(&read_text(&file)?).map_err(|reason| {
        let file = file.display();
        format!("`{file}` {reason}. Remove it, and the host has another account with the authorities")
    })?;
    Ok(Some(AcmeProof { hosts, thumbprint }))
}

/// A key with which session tickets are made and read (RFC 5077, section 4).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketKey {
    /// Stands before each ticket that is made with it.
    pub name: [u8; 16],
    /// The key itself.
    pub secret: [u8; 32],
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").finish_non_exhaustive()
    }
}

impl TicketKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> std::io::Result<Self> {
        let random = ring::default_provider().secure_random;
        let (mut name, mut secret) = ([0; 16], [0; 32]);
        let filled = random.fill(&mut name).and_then(|()| random.fill(&mut secret));
        filled.map_err(|_| std::io::Error::other("the system gives no random bytes"))?;
        Ok(Self { name, secret })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_of_ocsp_is_whole_and_has_an_answer() {
        let whole = [0x30, 0x05, 0x0a, 1, 0, 0xa0, 0];
        assert_eq!(check_ocsp(&whole), Ok(()));
        for cut in 0..whole.len() {
            assert!(check_ocsp(&whole[..cut]).is_err_and(|error| error.contains("no whole OCSP response")), "{cut}");
        }
        for other in [&[&whole[..], &[0]].concat()[..], b"-----BEGIN CERTIFICATE-----", &[0x30, 0]] {
            assert!(check_ocsp(other).is_err_and(|error| error.contains("no whole OCSP response")), "{other:?}");
        }
        assert!(check_ocsp(&[0x30, 3, 0x0a, 1, 6]).is_err_and(|error| error.contains("status 6")));
    }
}
