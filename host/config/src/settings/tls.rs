//! TLS of the addresses that the host listens on, and what belongs to it.

use crate::draft::{choice, names, put};
use crate::listener::{CERTIFICATES_MAX, ClientAuth, ListenerDraft, TlsFiles};
use crate::shown::{self, Shown};
use crate::{ListenerConfig, parse};

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
                |listener| {
                    files(listener, |tls| {
                        tls.certificates.iter().map(|files| files.chain.display().to_string()).collect()
                    })
                },
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
                |listener| {
                    files(listener, |tls| {
                        tls.certificates.iter().map(|files| files.key.display().to_string()).collect()
                    })
                },
            ),
        },
        Setting {
            name: "tls-ocsp",
            key: "tls.ocsp",
            form: Form::Text("FILE"),
            default: None,
            help: "An OCSP response in DER to staple to the certificate of --tls-cert at the same place (an empty value: none)",
            takes: FILES,
            of: listener_list(|draft| draft.ocsp.clear(), ListenerDraft::ocsp, |listener| files(listener, stapled)),
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

/// Files of a listener's TLS, if it has any.
fn files(listener: &ListenerConfig, of: fn(&TlsFiles) -> Vec<String>) -> Shown {
    let files = listener.tls.as_ref().map(|tls| of(tls)).unwrap_or_default();
    if files.is_empty() { Shown::Nothing } else { Shown::List(files) }
}

/// Each certificate's, where one has any.
fn stapled(tls: &TlsFiles) -> Vec<String> {
    if tls.certificates.iter().all(|files| files.ocsp.is_none()) {
        return Vec::new();
    }
    let file = |file: &std::path::PathBuf| file.display().to_string();
    tls.certificates.iter().map(|files| files.ocsp.as_ref().map(file).unwrap_or_default()).collect()
}
