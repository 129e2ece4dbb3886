//! Where an outgoing request goes, and in which form.

use http::uri::Scheme;
use wasmtime_wasi_http::{Error, WasiBody};

/// Where a request goes, as its URI says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Target {
    pub(super) fn of(request: &http::Request<WasiBody>) -> Result<Self, Error> {
        let uri = request.uri();
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self { host, port, tls })
    }

    /// Brings the request into the form that an origin server expects (RFC 9112, section 3.2.1). `Host` is the authority
    /// that was checked, whatever the guest wrote.
    pub(super) fn prepare(&self, request: http::Request<WasiBody>) -> Result<http::Request<WasiBody>, Error> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let host = http::HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        // An empty path means `/` (RFC 9110, section 4.2.3), also in front of a query.
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        parts.headers.insert(http::header::HOST, host);
        parts.uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        Ok(http::Request::from_parts(parts, body))
    }
}
