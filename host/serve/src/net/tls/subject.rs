//! Who a client's certificate says it is, in the form in which guests see it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The header with the certificate itself (RFC 9440, section 2.2).
pub(crate) const CERTIFICATE: HeaderName = HeaderName::from_static("client-cert");
/// The header with its subject, as RFC 4514 writes a name.
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("client-cert-subject");

/// Largest certificate of a client, in bytes: it goes with each of its requests.
const CERTIFICATE_BYTES_MAX: usize = 12 * 1024;
/// Longest that both headers can be: the subject is a part of the certificate, of which a byte may take three.
pub(crate) const CERTIFICATE_FIELDS_BYTES_MAX: usize = 5 * CERTIFICATE_BYTES_MAX;

/// A client's certificate, which was verified.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    /// Its bytes, as RFC 9440 writes them: base64 between colons (RFC 8941, section 3.3.5).
    pub(crate) certificate: HeaderValue,
    /// Whose it is. Characters that may not stand in a field are written as `\` and two hexadecimal digits (RFC 4514,
    /// section 2.4).
    pub(crate) subject: HeaderValue,
}

impl ClientCertificate {
    /// Of this certificate.
    ///
    /// # Errors
    /// When it is none of X.509, or too large.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return Err(format!("the client's certificate has more than {CERTIFICATE_BYTES_MAX} bytes"));
        }
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        let subject = escaped(&parsed.subject().to_string());
        let encoded = format!(":{}:", STANDARD.encode(certificate));
        let value = |text: String| HeaderValue::try_from(text).map_err(|error| error.to_string());
        Ok(Self { certificate: value(encoded)?, subject: value(subject)? })
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("\\{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_stand_in_a_field_is_escaped() {
        assert_eq!(escaped("CN=a\r\nX-Admin: 1, O=é"), "CN=a\\0D\\0AX-Admin: 1, O=\\C3\\A9");
    }
}
