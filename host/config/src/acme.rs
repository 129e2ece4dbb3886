//! Certificates that an authority gives by ACME (RFC 8555): what is said of one, which file it is kept in, and what an authority
//! that asks for proof is told. The process that gets them (`wasmhost_acme`), the spawner and the workers agree by this file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::KeyPair;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::{encoding, host_name};

/// The authority that is asked where nothing is said: Let's Encrypt.
pub const DIRECTORY: &str = "https://acme-v02.api.letsencrypt.org/directory";
/// The port of `https`.
const HTTPS: u16 = 443;
/// Most names of one certificate: what Let's Encrypt allows.
pub(super) const DOMAINS_MAX: usize = 100;
/// Longest address of an authority or contact, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// The directory in `data-dir`.
const FOLDER: &str = "acme";
/// Bytes of a domain in the name of its file; a file's name has 255 at most.
const STEM_BYTES_MAX: usize = 200;

/// A certificate that is to be had by ACME.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeSettings {
    /// Its names, in lower case; one at least, a hundred at most.
    pub domains: Vec<String>,
    /// Where the authority reaches the operator: a URL, such as `mailto:ops@example.com`.
    pub contact: Option<String>,
    /// The address of the authority's directory (RFC 8555, section 7.1.1): of `https`.
    pub directory: String,
    /// The file of roots that the authority is trusted by besides Mozilla's; empty: none.
    #[serde(with = "encoding::path")]
    pub ca_file: PathBuf,
    /// What is in it.
    pub ca_pem: Arc<str>,
}

impl AcmeSettings {
    /// The file in which the certificate is kept, with the chain above it and its key, below `data-dir`. It follows from the
    /// first name and the authority, so that the certificate goes on while one with more names is ordered.
    pub fn file(&self, data_dir: &Path) -> PathBuf {
        let first = self.domains.first().map_or("", String::as_str);
        let hash = digest(&SHA256, format!("{}\n{first}", self.directory).as_bytes());
        let hash: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let stem = first.get(..STEM_BYTES_MAX).unwrap_or(first);
        folder(data_dir).join(format!("{stem}-{hash}.pem"))
    }

    /// The port of the authority.
    pub fn port(&self) -> u16 {
        // (It was checked.)
        port_of(&self.directory).unwrap_or(HTTPS)
    }
}

/// Where all of it is kept, below `data-dir`.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}

/// The file of the key by which the authorities know the host, below `data-dir`.
pub fn account_file(data_dir: &Path) -> PathBuf {
    folder(data_dir).join("account.pem")
}

/// The port of an address of `https`.
///
/// # Errors
/// What is wrong with it, and what is expected.
fn port_of(url: &str) -> Result<u16, String> {
    let expected = || format!("must be the `https` address of an authority's directory, as in `{DIRECTORY}`");
    let is_url = url.len() <= TEXT_BYTES_MAX && url.bytes().all(|byte| byte.is_ascii_graphic());
    let rest = url.strip_prefix("https://").filter(|_| is_url).ok_or_else(expected)?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // An address of version 6 has colons of its own, in brackets.
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    if host.is_empty() || host.contains('@') {
        return Err(expected());
    }
    match port {
        None => Ok(HTTPS),
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(expected),
    }
}

/// What is said of a certificate, as far as it has been read.
#[derive(Debug, Clone)]
pub(super) struct AcmeDraft {
    pub(super) domains: Vec<String>,
    contact: Option<String>,
    directory: String,
    pub(super) ca_file: PathBuf,
    pub(super) ca_pem: Arc<str>,
    pub(super) agrees: bool,
}

impl Default for AcmeDraft {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            contact: None,
            directory: DIRECTORY.to_owned(),
            ca_file: PathBuf::new(),
            ca_pem: "".into(),
            agrees: false,
        }
    }
}

impl AcmeDraft {
    pub(super) fn domain(&mut self, text: &str) -> Result<(), String> {
        let name = text.trim().to_ascii_lowercase();
        if name.starts_with("*.") {
            return Err("is a wildcard, for which authorities ask for a record in DNS (DNS-01), which the host cannot make: name each host, or have another program write the files of `tls.cert` and `tls.key`".to_owned());
        }
        host_name::check(&name)?;
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err("is an address; certificates are ordered for names, as in `example.com`".to_owned());
        }
        if self.domains.len() >= DOMAINS_MAX {
            return Err(format!("is one too many: a certificate has {DOMAINS_MAX} names at most"));
        }
        if !self.domains.contains(&name) {
            self.domains.push(name);
        }
        Ok(())
    }

    /// No text is no contact.
    pub(super) fn contact(&mut self, text: &str) -> Result<(), String> {
        let is_url = text.split_once(':').is_some_and(|(scheme, rest)| {
            !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !rest.is_empty()
        });
        let is_fit = is_url && text.len() <= TEXT_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !(text.is_empty() || is_fit) {
            return Err("must be a URL, as in `mailto:ops@example.com`".to_owned());
        }
        self.contact = Some(text.to_owned()).filter(|text| !text.is_empty());
        Ok(())
    }

    pub(super) fn directory(&mut self, text: &str) -> Result<(), String> {
        port_of(text)?;
        text.clone_into(&mut self.directory);
        Ok(())
    }

    /// A key that is given; none: nothing is said.
    pub(super) fn says(&self) -> Option<&'static str> {
        let said = [
            ("tls.acme.domains", !self.domains.is_empty()),
            ("tls.acme.contact", self.contact.is_some()),
            ("tls.acme.directory", self.directory != DIRECTORY),
            ("tls.acme.ca-file", !self.ca_file.as_os_str().is_empty()),
            ("tls.acme.agree-to-terms", self.agrees),
        ];
        said.into_iter().find(|(_, is_said)| *is_said).map(|(key, _)| key)
    }

    /// All of it; none where nothing is said.
    ///
    /// # Errors
    /// The key that is missing, and why it is needed.
    pub(super) fn finish(&self) -> Result<Option<AcmeSettings>, (&'static str, String)> {
        let Some(said) = self.says() else { return Ok(None) };
        if self.domains.is_empty() {
            let reason =
                "has no effect without `tls.acme.domains`, the names for which a certificate is ordered".to_owned();
            return Err((said, reason));
        }
        if !self.agrees {
            let reason = format!(
                "a certificate by ACME needs your agreement to the terms of the authority (`{}` names them): read them, and write `agree-to-terms = true` beside `domains`",
                self.directory
            );
            return Err(("tls.acme.domains", reason));
        }
        let Self { domains, contact, directory, ca_file, ca_pem, .. } = self.clone();
        Ok(Some(AcmeSettings { domains, contact, directory, ca_file, ca_pem }))
    }
}

/// What is told to an authority that asks one of these hosts for proof over HTTP (RFC 8555, section 8.3). It is no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcmeProof {
    /// The hosts for which certificates are ordered, in lower case.
    pub hosts: Vec<String>,
    /// The thumbprint of the account's key (RFC 7638).
    pub thumbprint: String,
}

/// The thumbprint of a key of ECDSA on P-256 in PEM (RFC 7638, section 3; RFC 7518, section 6.2).
///
/// # Errors
/// What is wrong with it.
pub fn thumbprint(pem: &str) -> Result<String, String> {
    let key = KeyPair::from_pem(pem).map_err(|error| format!("is no private key ({error})"))?;
    // SEC 1, section 2.3.3: a four, and both coordinates.
    let [4, point @ ..] = key.public_key_raw() else { return Err("is no key of ECDSA on P-256".to_owned()) };
    let (x, y) = point.split_at_checked(32).filter(|(_, y)| y.len() == 32).ok_or("is no key of ECDSA on P-256")?;
    let [x, y] = [x, y].map(|coordinate| BASE64_URL_SAFE_NO_PAD.encode(coordinate));
    let jwk = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
    Ok(BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, jwk.as_bytes())))
}

/// A new key of ECDSA on P-256, in PEM.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_key() -> io::Result<String> {
    KeyPair::generate().map(|key| key.serialize_pem()).map_err(io::Error::other)
}

/// A certificate for these names that nobody trusts, and its key, in PEM: so that TLS can be spoken before there is another.
///
/// # Errors
/// When it cannot be made.
pub(super) fn placeholder(names: &[String]) -> Result<(String, String), String> {
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authoritys_port_is_that_of_its_address() {
        let port = |url: &str| port_of(url).ok();
        assert_eq!(port(DIRECTORY), Some(443));
        assert_eq!(port("https://localhost:14000/dir"), Some(14_000));
        assert_eq!((port("https://[::1]:8/d"), port("https://[::1]")), (Some(8), Some(443)));
        for wrong in ["", "http://a/", "https://", "https://a:0/", "https://a:x/", "https://u@a/", "https://a b/"] {
            assert_eq!(port(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_is_of_one_name_and_one_authority_and_of_no_others() -> Result<(), (&'static str, String)> {
        let file = |domains: &[&str], directory: &str| -> Result<PathBuf, (&'static str, String)> {
            let mut draft = AcmeDraft { agrees: true, ..AcmeDraft::default() };
            domains.iter().try_for_each(|name| draft.domain(name)).map_err(|reason| ("domains", reason))?;
            draft.directory(directory).map_err(|reason| ("directory", reason))?;
            Ok(draft.finish()?.map(|settings| settings.file(Path::new("/data"))).unwrap_or_default())
        };
        let one = file(&["a.test"], DIRECTORY)?;
        let shown = one.display().to_string();
        assert!(shown.starts_with("/data/acme/a.test-") && shown.ends_with(".pem") && shown.len() == 30, "{shown}");
        assert_eq!(one, file(&["A.test", "b.test"], DIRECTORY)?);
        assert_ne!(one, file(&["b.test", "a.test"], DIRECTORY)?);
        assert_ne!(one, file(&["a.test"], "https://ca.test/")?);
        let long = [vec!["a".repeat(63); 3].join("."), "b".repeat(61)].join(".");
        let name = file(&[&long], DIRECTORY)?.file_name().map_or(0, std::ffi::OsStr::len);
        assert_eq!(name, 200 + 1 + 8 + 4);
        Ok(())
    }

    #[test]
    fn wildcards_and_addresses_are_no_domains() {
        let mut draft = AcmeDraft::default();
        for (wrong, words) in [("*.a.test", "DNS-01"), ("127.0.0.1", "is an address"), ("a b", "cannot stand")] {
            assert!(draft.domain(wrong).is_err_and(|reason| reason.contains(words)), "{wrong}");
        }
        assert!(draft.contact("ops@example.com").is_err() && draft.contact("mailto:ops@example.com").is_ok());
    }

    /// A key that `openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt` made.
    const EXAMPLE: &str = "-----BEGIN PRIVATE KEY-----\n\
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMC+KPUpBXehyLzpb\n\
1n/f/FfFrgdH4ukvCvycjZpBA/ShRANCAAQC9RtoXSuzGUeXUY7jNRk5+xt3aXCD\n\
ulAGaOvSmfKKaDb5m6vzB8OcnwtyaEjqsuwn2EKXqAKXVDIg/vXCuQKJ\n\
-----END PRIVATE KEY-----\n\
";

    #[test]
    fn a_thumbprint_is_that_of_the_public_key() -> Result<(), Box<dyn std::error::Error>> {
        // By Python's hashlib, of the coordinates that `openssl ec -text` shows.
        assert_eq!(thumbprint(EXAMPLE)?, "v4noYRwHtzT3ky_EY0mPYMixKOo25IHz_WkmnjEPIBY");
        assert_ne!(thumbprint(&new_key()?)?, thumbprint(&new_key()?)?);
        assert!(thumbprint("no key").is_err());
        Ok(())
    }
}
