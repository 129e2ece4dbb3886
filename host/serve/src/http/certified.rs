//! What a guest sees of its client's certificate.

use http::HeaderMap;

use super::head::remove_all;
use super::link::Link;
use crate::net::{CERTIFICATE, SUBJECT};

/// Says whose the client's certificate is, where it has one that was verified, and takes away what the client itself says of
/// one.
pub(super) fn certify(headers: &mut HeaderMap, link: &Link) {
    if link.is_certified() {
        return;
    }
    remove_all(headers, |name| *name == CERTIFICATE || *name == SUBJECT);
    if let Some(client) = link.stream.client_certificate() {
        headers.insert(CERTIFICATE, client.certificate.clone());
        headers.insert(SUBJECT, client.subject.clone());
    }
}
