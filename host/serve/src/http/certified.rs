//! What a guest sees of its client's certificate.

use http::HeaderMap;

use super::head::remove_all;
use super::link::Link;
use crate::net::{CERTIFICATE, SUBJECT, is_of_certificate};

/// Says whose the client's certificate is, where it has one that was verified, and takes away what the client itself says of
/// one. (A proxy that is trusted may say it of its own client: RFC 9440, section 2.)
pub(super) fn certify(headers: &mut HeaderMap, link: &Link) {
    let certificate = link.client_certificate();
    if link.is_certified() || (link.is_trusted() && certificate.is_none()) {
        return;
    }
    remove_all(headers, is_of_certificate);
    if let Some(client) = certificate {
        headers.insert(CERTIFICATE, client.certificate.clone());
        headers.insert(SUBJECT, client.subject.clone());
    }
}
