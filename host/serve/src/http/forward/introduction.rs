//! How a worker that forwards a request introduces its client to the worker of a group that serves it: in a field of the
//! request's head, which no client can set and no guest sees. Pure.

use http::{HeaderName, HeaderValue, Version};

use wasmhost_config::AppId;

use crate::net::{CERTIFICATE_FIELDS_BYTES_MAX, Peer, TlsVersion, http_name, http_named};

/// The field. Whoever has a request from a client takes it away.
pub(crate) const FIELD: HeaderName = HeaderName::from_static("x-wasmhost-client");

/// Stands for the version of TLS where there is none.
const NO_TLS: &str = "none";

/// Longest head beyond `--header-max` that an introduction, and a `Host` for a client that named none, make.
pub(crate) const INTRODUCTION_BYTES_MAX: usize = 1024 + CERTIFICATE_FIELDS_BYTES_MAX;
/// Fields that they add at most, with those of a client's certificate.
pub(crate) const INTRODUCTION_FIELDS_MAX: usize = 4;

/// What a worker that forwards knows of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Introduction {
    /// For which app it is.
    pub(crate) app: AppId,
    /// Bytes at the beginning of its path that the app does not see.
    pub(crate) stripped: usize,
    /// Its client.
    pub(crate) client: Peer,
    /// Whether the client may set forwarded headers.
    pub(crate) trusted: bool,
    /// The client named a host (HTTP/1.0 asks for none).
    pub(crate) has_host: bool,
    /// The TLS that the client speaks.
    pub(crate) tls: Option<TlsVersion>,
    /// The version of HTTP that the client speaks.
    pub(crate) http: Version,
    /// The worker that forwards has put into the head what it has verified of the client's certificate.
    pub(crate) is_certified: bool,
    /// How many requests of apps led to it.
    pub(crate) depth: u8,
    /// Whether its trace is sampled this host has decided, as its `traceparent` says.
    pub(crate) is_decided: bool,
}

impl Introduction {
    /// As it is written.
    pub(in crate::http) fn value(&self) -> Option<HeaderValue> {
        let Self { app, stripped, client, trusted, has_host, tls, http, is_certified, depth, is_decided } = self;
        let facts = [trusted, has_host, is_certified, is_decided].map(bool::to_string).join(" ");
        let spoken = format!("{} {}", tls.map_or(NO_TLS, TlsVersion::name), http_name(*http));
        HeaderValue::try_from(format!("{} {stripped} {facts} {spoken} {depth} {client}", app.0)).ok()
    }

    /// Reads it.
    pub(crate) fn read(value: &HeaderValue) -> Option<Self> {
        let mut words = value.to_str().ok()?.split(' ');
        let app = AppId(words.next()?.parse().ok()?);
        let stripped = words.next()?.parse().ok()?;
        let mut fact = || words.next()?.parse().ok();
        let (trusted, has_host, is_certified, is_decided) = (fact()?, fact()?, fact()?, fact()?);
        let tls = match words.next()? {
            NO_TLS => None,
            name => Some(TlsVersion::named(name)?),
        };
        let http = http_named(words.next()?)?;
        let depth = words.next()?.parse().ok()?;
        let client = match words.next()? {
            "unix" => Peer::Unix,
            "schedule" => Peer::Schedule,
            "app" => Peer::App,
            address => Peer::Tcp(address.parse().ok()?),
        };
        let read = Self { app, stripped, client, trusted, has_host, tls, http, is_certified, depth, is_decided };
        words.next().is_none().then_some(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_was_written() {
        let addresses = ["1.2.3.4:5", "[fe80::1]:65535"].map(|address| Peer::at(address.parse().expect("an address")));
        for client in addresses.into_iter().chain([Peer::Unix, Peer::Schedule, Peer::App]) {
            for (trusted, has_host, tls, http) in [
                (true, false, None, Version::HTTP_10),
                (false, true, Some(TlsVersion::V12), Version::HTTP_11),
                (false, true, Some(TlsVersion::V13), Version::HTTP_2),
            ] {
                let is_certified = trusted;
                let introduction = Introduction {
                    app: AppId(16_383),
                    stripped: 7,
                    client,
                    trusted,
                    has_host,
                    tls,
                    http,
                    is_certified,
                    depth: 3,
                    is_decided: !trusted,
                };
                let value = introduction.value().expect("a value");
                assert!(
                    value.len() + FIELD.as_str().len() + 300 < INTRODUCTION_BYTES_MAX - CERTIFICATE_FIELDS_BYTES_MAX
                );
                assert_eq!(Introduction::read(&value), Some(introduction));
            }
        }
    }

    #[test]
    fn what_is_no_introduction_is_none() {
        for text in [
            "",
            "1",
            "1 0 true true true true none HTTP/1.1 0",
            "1 0 true true true none HTTP/1.1 0 unix",
            "1 0 true true true true none 0 unix",
            "1 0 true true true true 1.1 HTTP/1.1 0 unix",
            "1 0 true true true true none HTTP/3 0 unix",
            "1 0 true true true true none HTTP/1.1 unix",
            "1 0 true true true true none HTTP/1.1 256 unix",
            "1 0 true true true true none HTTP/1.1 0 nobody",
            "1 0 true true true true none HTTP/1.1 0 unix more",
            "-1 0 true true true true none HTTP/1.1 0 unix",
        ] {
            assert_eq!(Introduction::read(&HeaderValue::from_static(text)), None, "{text}");
        }
    }
}
