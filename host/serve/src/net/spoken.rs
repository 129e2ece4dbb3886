//! What a client speaks, by its name in the access log, and in what workers tell each other. Pure.

use http::Version;

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsVersion {
    V12,
    V13,
}

impl TlsVersion {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V12 => "1.2",
            Self::V13 => "1.3",
        }
    }

    /// The one with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::V12, Self::V13].into_iter().find(|version| version.name() == name)
    }
}

/// The name of a version of HTTP, as other servers write it in their access logs.
pub(crate) fn http_name(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// The version of HTTP with this name.
pub(crate) fn http_named(name: &str) -> Option<Version> {
    [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2].into_iter().find(|version| http_name(*version) == name)
}
