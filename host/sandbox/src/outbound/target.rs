//! Where an outgoing request goes, and in which form.

use std::net::IpAddr;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, header};
use wasmhost_config::UpstreamScheme;
use wasmtime_wasi_http::{Error, WasiBody};

use super::policy::{AskedRequest, RuleGrant};

/// Where a request goes, as its URI says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// What requests have in common that may share a connection: where they go, and what allows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct UpstreamPlace {
    pub(super) target: Target,
    pub(super) grant: RuleGrant,
}

/// The address of a request.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) target: Target,
    authority: Authority,
    path: PathAndQuery,
}

impl Destination {
    /// That of a request: with a host that everybody reads in one way, and without user information.
    pub(super) fn of(request: &Request<WasiBody>) -> Result<Self, Error> {
        if *request.method() == Method::CONNECT {
            return Err(Error::HttpRequestMethodInvalid);
        }
        let uri = request.uri();
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let (host, port) = host_and_port(authority.as_str()).ok_or(Error::HttpRequestUriInvalid)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() || port == 0 || is_odd_address(&host) {
            return Err(Error::HttpRequestUriInvalid);
        }
        // An empty path means `/` (RFC 9110, section 4.2.3), also in front of a query.
        let path = match uri.path_and_query() {
            None => PathAndQuery::from_static("/"),
            Some(path) if path.as_str().starts_with('/') => path.clone(),
            // (As it is written; to show it adds a slash.)
            Some(path) => format!("/{}", path.as_str()).parse().map_err(|_| Error::HttpRequestUriInvalid)?,
        };
        Ok(Self { target: Target { host, port, tls }, authority: authority.clone(), path })
    }

    /// What it asks for, with this method.
    pub(super) fn asked<'a>(&'a self, method: &'a Method) -> AskedRequest<'a> {
        let Target { host, port, tls } = &self.target;
        let scheme = if *tls { UpstreamScheme::Https } else { UpstreamScheme::Http };
        AskedRequest { scheme, host, port: *port, method: method.as_str(), path: self.path.path() }
    }

    /// Brings the request into the form that an origin server expects in HTTP/1.1 (RFC 9112, section 3.2.1). `Host` is the
    /// authority that was checked, whatever the guest wrote.
    pub(super) fn for_http1<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        let host = http::HeaderValue::from_str(self.authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from(self.path.clone());
        Ok(())
    }

    /// The same for HTTP/2, which has the authority in the place of `Host` (RFC 9113, section 8.3.1).
    pub(super) fn for_http2<B>(&self, request: &mut Request<B>) -> Result<(), Error> {
        request.headers_mut().remove(header::HOST);
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.target.tls { Scheme::HTTPS } else { Scheme::HTTP });
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.path.clone());
        *request.uri_mut() = Uri::from_parts(parts).map_err(|_| Error::HttpRequestUriInvalid)?;
        Ok(())
    }
}

/// The host, in lower case and without brackets, and the port of an authority that is nothing but these (RFC 3986, section 3.2):
/// it is sent as it is, and must be read in the same way by whoever gets it.
fn host_and_port(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            (host.bytes().all(is_plain)).then_some((host, port))?
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => None,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            if digits.is_empty() {
                None
            } else {
                Some(digits.parse().ok()?)
            }
        }
        _ => return None,
    };
    Some((host.to_ascii_lowercase(), port))
}

/// Whether a host is an address in a form that only some take for one: `127.1`, `0x7f.0.0.1`, `0177.0.0.1`, `2130706433`,
/// `fe80::1%eth0`. Whoever takes it for a name, the C library for one, may yet reach the address.
fn is_odd_address(host: &str) -> bool {
    if host.parse::<IpAddr>().is_ok() {
        return false;
    }
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_hexadecimal =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let is_decimal = !last.is_empty() && last.bytes().all(|digit| digit.is_ascii_digit());
    is_hexadecimal || is_decimal || host.contains([':', '%'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    fn destination(uri: &str) -> Result<Destination, Error> {
        let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let mut request = Request::new(empty);
        *request.uri_mut() = uri.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        Destination::of(&request)
    }

    #[test]
    fn hosts_that_some_take_for_an_address_are_refused() {
        for host in [
            "127.1",
            "127.0.1",
            "0177.0.0.1",
            "0x7f.0.0.1",
            "0x7f000001",
            "2130706433",
            "127.0.0.01",
            "1.2.3.4.5",
            "256.0.0.1",
            "127.0.0.1.",
            "a.1",
            "0x",
            "[fe80::1%25eth0]",
            "user@a",
            "user:word@127.0.0.1",
            "",
        ] {
            let found = destination(&format!("http://{host}/"));
            assert!(matches!(found, Err(Error::HttpRequestUriInvalid)), "{host}: {found:?}");
        }
        for (host, expected) in [
            ("127.0.0.1", "127.0.0.1"),
            ("[::FFFF:127.0.0.1]", "::ffff:127.0.0.1"),
            ("A.test.", "a.test."),
            ("1a.test", "1a.test"),
            ("0xg", "0xg"),
        ] {
            let found = destination(&format!("http://{host}:81/")).map(|found| found.target);
            let target = Target { host: expected.to_owned(), port: 81, tls: false };
            assert_eq!(found.ok(), Some(target), "{host}");
        }
    }

    #[test]
    fn a_request_has_the_form_of_its_version_and_the_authority_that_was_checked() -> Result<(), Error> {
        let found = destination("https://a.test:444?b")?;
        let mut request = Request::new(());
        request.headers_mut().insert(header::HOST, http::HeaderValue::from_static("other.test"));
        found.for_http1(&mut request)?;
        assert_eq!(
            (request.uri().to_string().as_str(), &request.headers()["host"]),
            ("/?b", &"a.test:444".parse().unwrap())
        );
        found.for_http2(&mut request)?;
        assert_eq!(request.uri().to_string(), "https://a.test:444/?b");
        assert!(!request.headers().contains_key(header::HOST));
        Ok(())
    }
}
