//! Who a client's certificate says it is, in the form in which guests see it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::{AttributeTypeAndValue, FromDer, RelativeDistinguishedName, X509Certificate, X509Name};

/// The header with the certificate itself (RFC 9440, section 2.2).
pub(crate) const CERTIFICATE: HeaderName = HeaderName::from_static("client-cert");
/// The header with its subject, as RFC 4514 writes a name.
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("client-cert-subject");
/// Fields that say whose a certificate is, with RFC 9440's chain, which the host does not send.
const CERTIFICATE_FIELDS: [&str; 3] = ["client-cert", "client-cert-chain", "client-cert-subject"];

/// Whether a field says whose a client's certificate is, also for guests that take `_` for `-` (as CGI does).
pub(crate) fn is_of_certificate(name: &HeaderName) -> bool {
    let name = name.as_str();
    let is_same = |own: &&str| {
        let same = |(own, given): (u8, u8)| own == given || (own == b'-' && given == b'_');
        own.len() == name.len() && own.bytes().zip(name.bytes()).all(same)
    };
    name.starts_with("client") && CERTIFICATE_FIELDS.iter().any(is_same)
}

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
        let subject = text_of(parsed.subject());
        let encoded = format!(":{}:", STANDARD.encode(certificate));
        let value = |text: String| HeaderValue::try_from(text).map_err(|error| error.to_string());
        Ok(Self { certificate: value(encoded)?, subject: value(subject)? })
    }
}

/// A name as RFC 4514 writes it, but in the certificate's own order: that of other programs.
fn text_of(name: &X509Name<'_>) -> String {
    let attribute = |attribute: &AttributeTypeAndValue<'_>| {
        let kind = attribute.attr_type();
        let kind = oid2abbrev(kind, oid_registry()).map_or_else(|_| kind.to_id_string(), str::to_owned);
        match attribute.as_str() {
            Ok(value) => format!("{kind}={}", escaped(value)),
            // Of a type that is no text: its bytes (section 2.4).
            Err(_) => {
                let bytes = attribute.attr_value().data.iter().map(|byte| format!("{byte:02X}"));
                format!("{kind}=#{}", bytes.collect::<String>())
            }
        }
    };
    let relative = |name: &RelativeDistinguishedName<'_>| name.iter().map(attribute).collect::<Vec<_>>().join("+");
    name.iter_rdn().map(relative).collect::<Vec<_>>().join(", ")
}

/// A value in which nothing can be taken for the name's own signs (RFC 4514, section 2.4), or may not stand in a field.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'=' | b'>' | b'\\' => out.extend(['\\', char::from(byte)]),
            b'#' if at == 0 => out.push_str("\\#"),
            b' ' if at == 0 || at == last => out.push_str("\\ "),
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
        assert_eq!(escaped("a\r\nX-Admin: 1, O=é"), "a\\0D\\0AX-Admin: 1\\, O\\=\\C3\\A9");
        assert_eq!(escaped("#a\\0A#\" "), "\\#a\\\\0A#\\\"\\ ");
    }
}
