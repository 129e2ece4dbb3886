//! TLS of the addresses that the host listens on, and what belongs to it.

use std::path::PathBuf;

use crate::acme::DIRECTORY;
use crate::draft::{names, put};
use crate::listener::{CERTIFICATES_MAX, CertificateFiles, ClientAuth, ListenerDraft};
use crate::parse::{self, choice};
use crate::shown::{self, Shown};
use crate::{AcmeSettings, ListenerConfig};

use super::entry::{Form, Group, Setting, Takes, listener, listener_list};

const CLIENT_AUTHS: &[(&str, ClientAuth)] = &[("required", ClientAuth::Required), ("optional", ClientAuth::Optional)];

/// A list of files.
const FILES: Takes = Takes::Lines { most: CERTIFICATES_MAX, beyond: "at most" };

pub(super) const GROUP: Group = Group {
    heading: "TLS",
    settings: &[
        Setting {
            name: "tls-cert",
            key: "tls.cert",
            form: Form::Text("FILE"),
            default: None,
            help: "Speak TLS 1.2 and 1.3 on the addresses to listen on, with the certificate (and those between it and a root) in this PEM file. Several, each with its --tls-key, for several names: the client's SNI chooses, the first is the default. Files that change are read again within 10 s, and at SIGHUP",
            takes: FILES,
            of: listener_list(
                |draft| draft.chains.clear(),
                ListenerDraft::chain,
                |listener| files(listener, |certificate| Some(&certificate.chain)),
            ),
        },
        Setting {
            name: "tls-key",
            key: "tls.key",
            form: Form::Text("FILE"),
            default: None,
            help: "The private key of the certificate of --tls-cert at the same place, in PEM. Only one process of the host opens it, and passes it on to workers in sealed memory",
            takes: FILES,
            of: listener_list(
                |draft| draft.keys.clear(),
                ListenerDraft::key,
                |listener| files(listener, |certificate| Some(&certificate.key)),
            ),
        },
        Setting {
            name: "tls-ocsp",
            key: "tls.ocsp",
            form: Form::Text("FILE"),
            default: None,
            help: "An OCSP response in DER to staple to the certificate of --tls-cert at the same place (an empty value: none)",
            takes: FILES,
            of: listener_list(
                |draft| draft.ocsp.clear(),
                ListenerDraft::ocsp,
                |listener| files(listener, |certificate| certificate.ocsp.as_ref()),
            ),
        },
        Setting {
            name: "tls-client-ca",
            key: "tls.client-ca",
            form: Form::Text("FILE"),
            default: None,
            help: "Ask clients for a certificate that one of the roots in this PEM file has signed. The guest sees it in the header `client-cert` (RFC 9440), and its subject in `client-cert-subject`, which clients cannot set",
            takes: Takes::One,
            of: listener(ListenerDraft::client_ca, |listener| {
                let file = listener.tls.as_ref().and_then(|tls| tls.client_ca.as_ref());
                file.map_or(Shown::Nothing, |file| shown::path(file))
            }),
        },
        Setting {
            name: "tls-client-auth",
            key: "tls.client-auth",
            form: Form::Choice("WHEN", || names(CLIENT_AUTHS)),
            default: Some("required"),
            help: "Whether a client needs a certificate of --tls-client-ca: required, or optional (then the headers are absent without one)",
            takes: Takes::One,
            of: listener(
                |draft, text| put(&mut draft.client_auth, choice(text, CLIENT_AUTHS)),
                |listener| {
                    let tls = listener.tls.as_ref().filter(|tls| tls.client_ca.is_some());
                    tls.map_or(Shown::Nothing, |tls| shown::choice(tls.client_auth, CLIENT_AUTHS))
                },
            ),
        },
        Setting {
            name: "tls-acme",
            key: "tls.acme.domains",
            form: Form::Text("DOMAIN"),
            default: None,
            help: "Have an authority give a certificate for these names by ACME (RFC 8555), and renew it. Needs --tls-acme-agree-to-terms, --data-dir, and an address without TLS to which port 80 of these names leads. Several with commas, or by several flags",
            takes: Takes::Commas,
            of: listener_list(
                |draft| draft.acme.domains.clear(),
                |draft, text| draft.acme.domain(text),
                |listener| acme(listener, |acme| shown::list(acme.domains.iter().cloned())),
            ),
        },
        Setting {
            name: "tls-acme-agree-to-terms",
            key: "tls.acme.agree-to-terms",
            form: Form::Switch,
            default: None,
            help: "Agree to the authority's terms of service, without which it gives no certificate",
            takes: Takes::One,
            of: listener(
                |draft, text| put(&mut draft.acme.agrees, parse::switch(text)),
                |listener| acme(listener, |_| Shown::Switch(true)),
            ),
        },
        Setting {
            name: "tls-acme-contact",
            key: "tls.acme.contact",
            form: Form::Text("URL"),
            default: None,
            help: "Where the authority reaches you, as in mailto:ops@example.com",
            takes: Takes::One,
            of: listener(
                |draft, text| draft.acme.contact(text),
                |listener| acme(listener, |acme| acme.contact.clone().map_or(Shown::Nothing, Shown::Text)),
            ),
        },
        Setting {
            name: "tls-acme-directory",
            key: "tls.acme.directory",
            form: Form::Text("URL"),
            default: Some(DIRECTORY),
            help: "The authority: the address of its directory",
            takes: Takes::One,
            of: listener(
                |draft, text| draft.acme.directory(text),
                |listener| acme(listener, |acme| Shown::Text(acme.directory.clone())),
            ),
        },
        Setting {
            name: "tls-acme-ca-file",
            key: "tls.acme.ca-file",
            form: Form::Text("FILE"),
            default: None,
            help: "Root certificates in PEM that the authority's own server is trusted by besides Mozilla's, for an authority within a company",
            takes: Takes::One,
            of: listener(ListenerDraft::acme_ca_file, |listener| acme(listener, |acme| shown::path(&acme.ca_file))),
        },
        Setting {
            name: "https-redirect",
            key: "https-redirect",
            form: Form::Switch,
            default: None,
            help: "Answer each request with a redirect (308) to the same address with https, on its default port. For an address without TLS; in a file, write it below a [[listener]]",
            takes: Takes::One,
            of: listener(
                |draft, text| put(&mut draft.redirects, parse::switch(text)),
                |listener| Shown::Switch(listener.redirects),
            ),
        },
        Setting {
            name: "hsts",
            key: "hsts",
            form: Form::Text("VALUE"),
            default: None,
            help: "Add `Strict-Transport-Security` with this value to responses over TLS that have none, as in `max-age=31536000; includeSubDomains`",
            takes: Takes::One,
            of: listener(ListenerDraft::hsts, |listener| {
                listener.hsts.as_ref().map_or(Shown::Nothing, |value| Shown::Text(value.to_string()))
            }),
        },
    ],
};

/// What is said of the certificate that a listener has by ACME, if it has one.
fn acme(listener: &ListenerConfig, shown: fn(&AcmeSettings) -> Shown) -> Shown {
    listener.tls.as_ref().and_then(|tls| tls.acme.as_ref()).map_or(Shown::Nothing, shown)
}

/// A file of each certificate of a listener, empty for one without; nothing where none has one.
fn files(listener: &ListenerConfig, of: fn(&CertificateFiles) -> Option<&PathBuf>) -> Shown {
    let certificates = listener.tls.iter().flat_map(|tls| &tls.certificates);
    if certificates.clone().all(|certificate| of(certificate).is_none()) {
        return Shown::Nothing;
    }
    Shown::List(certificates.map(|each| of(each).map(|file| file.display().to_string()).unwrap_or_default()).collect())
}
