//! What a guest gets to know of its client where no proxy in front of the host has said it: `Forwarded` (RFC 7239) and
//! `X-Forwarded-For`, `-Proto` and `-Host`, as a proxy would set them. Pure.

use std::fmt::Write as _;
use std::net::IpAddr;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::net::Peer;

const X_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the host knows of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hop<'a> {
    /// Who sent it.
    pub(super) client: Peer,
    /// How it came to the host; not what a proxy says of its own client.
    pub(super) scheme: &'a Scheme,
    /// For whom it is.
    pub(super) authority: &'a Authority,
}

impl Hop<'_> {
    /// Says so in the headers, of which those that the client had no right to set are gone. Where a proxy has said it, the
    /// proxy becomes the last one of its own list, and nothing else is added: two lists that disagree help nobody.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        let said = [header::FORWARDED, X_FOR, X_PROTO, X_HOST].map(|name| headers.contains_key(name));
        let is_first = said == [false; 4];
        if is_first || said[0] {
            append(headers, header::FORWARDED, self.element().as_bytes());
        }
        if (is_first || said[1])
            && let Some(ip) = self.ip()
        {
            append(headers, X_FOR, ip.to_string().as_bytes());
        }
        if is_first {
            append(headers, X_PROTO, self.scheme.as_str().as_bytes());
            append(headers, X_HOST, self.authority.as_str().as_bytes());
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        match self.client {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix | Peer::Front | Peer::Schedule | Peer::App => None,
        }
    }

    /// An element of `Forwarded`. A client of a Unix socket has no address (RFC 7239, section 6.2).
    fn element(&self) -> String {
        let mut element = String::with_capacity(128);
        // (To write to a string never fails.)
        let _ = match self.client {
            Peer::Tcp(address) => write!(element, "for=\"{address}\""),
            Peer::Unix | Peer::Front | Peer::Schedule | Peer::App => write!(element, "for=unknown"),
        };
        element.push_str(";host=");
        push_value(&mut element, self.authority.as_str());
        element.push_str(";proto=");
        element.push_str(self.scheme.as_str());
        element
    }
}

/// A value of `Forwarded`, in quotes if it is no token (RFC 9110, section 5.6).
fn push_value(element: &mut String, value: &str) {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !value.is_empty() && value.bytes().all(is_token) {
        element.push_str(value);
        return;
    }
    element.push('"');
    for character in value.chars() {
        if matches!(character, '"' | '\\') {
            element.push('\\');
        }
        element.push(character);
    }
    element.push('"');
}

/// Adds to a list, in one field: who looks for the client reads the first one.
fn append(headers: &mut HeaderMap, name: HeaderName, last: &[u8]) {
    let mut list = Vec::new();
    for value in headers.get_all(&name).iter().filter(|value| !value.is_empty()) {
        list.extend_from_slice(value.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(last);
    if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(list)) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The forwarded headers of a request that came with these.
    fn told(client: Peer, scheme: &Scheme, authority: &str, given: &[(&'static str, &'static str)]) -> Vec<String> {
        let authority = Authority::try_from(authority).expect("an authority");
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        Hop { client, scheme, authority: &authority }.tell(&mut headers);
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("text"));
        let mut lines: Vec<String> = headers.iter().map(line).filter(|line| line.contains("forwarded")).collect();
        lines.sort_unstable();
        lines
    }

    fn tcp(address: &str) -> Peer {
        Peer::at(address.parse().expect("an address"))
    }

    #[test]
    fn a_client_without_a_proxy_is_told_of() {
        for (client, scheme, authority, forwarded, ip) in [
            (
                "192.0.2.43:47011",
                Scheme::HTTP,
                "a.example",
                "for=\"192.0.2.43:47011\";host=a.example;proto=http",
                "192.0.2.43",
            ),
            (
                "[2001:db8:cafe::17]:4711",
                Scheme::HTTPS,
                "a.example:8443",
                "for=\"[2001:db8:cafe::17]:4711\";host=\"a.example:8443\";proto=https",
                "2001:db8:cafe::17",
            ),
            (
                "[::ffff:192.0.2.43]:1",
                Scheme::HTTPS,
                "[::1]:443",
                "for=\"192.0.2.43:1\";host=\"[::1]:443\";proto=https",
                "192.0.2.43",
            ),
        ] {
            assert_eq!(
                told(tcp(client), &scheme, authority, &[]),
                [
                    format!("forwarded: {forwarded}"),
                    format!("x-forwarded-for: {ip}"),
                    format!("x-forwarded-host: {authority}"),
                    format!("x-forwarded-proto: {scheme}"),
                ]
            );
        }
        assert_eq!(
            told(Peer::Unix, &Scheme::HTTP, "a.example", &[]),
            [
                "forwarded: for=unknown;host=a.example;proto=http",
                "x-forwarded-host: a.example",
                "x-forwarded-proto: http"
            ]
        );
    }

    #[test]
    fn a_proxy_that_has_told_of_its_client_becomes_the_last_of_its_list() {
        let proxy = tcp("10.0.0.1:2");
        let told = |given: &[(&'static str, &'static str)]| told(proxy, &Scheme::HTTP, "a.example", given);
        assert_eq!(
            told(&[("x-forwarded-for", "192.0.2.43"), ("x-forwarded-proto", "https")]),
            ["x-forwarded-for: 192.0.2.43, 10.0.0.1", "x-forwarded-proto: https"]
        );
        assert_eq!(
            told(&[
                ("x-forwarded-for", "192.0.2.43"),
                ("x-forwarded-for", ""),
                ("x-forwarded-for", "10.0.0.9, 10.0.0.8")
            ]),
            ["x-forwarded-for: 192.0.2.43, 10.0.0.9, 10.0.0.8, 10.0.0.1"]
        );
        assert_eq!(
            told(&[("forwarded", "for=192.0.2.43;proto=https"), ("forwarded", "for=\"[::1]\"")]),
            ["forwarded: for=192.0.2.43;proto=https, for=\"[::1]\", for=\"10.0.0.1:2\";host=a.example;proto=http"]
        );
        assert_eq!(told(&[("x-forwarded-proto", "https")]), ["x-forwarded-proto: https"]);
        assert_eq!(told(&[("x-forwarded-host", "b.example")]), ["x-forwarded-host: b.example"]);
    }

    #[test]
    fn bytes_of_a_proxy_that_are_no_text_stay() {
        let mut headers = HeaderMap::new();
        headers.insert(X_FOR, HeaderValue::from_bytes(b"a\xFF").expect("a value"));
        let authority = Authority::from_static("a.example");
        Hop { client: tcp("10.0.0.1:2"), scheme: &Scheme::HTTP, authority: &authority }.tell(&mut headers);
        assert_eq!(headers[X_FOR].as_bytes(), b"a\xFF, 10.0.0.1");
    }

    #[test]
    fn what_is_no_token_is_quoted() {
        for (value, written) in [
            ("a.example", "a.example"),
            ("", "\"\""),
            ("a:1", "\"a:1\""),
            ("a\"b\\c", "\"a\\\"b\\\\c\""),
            ("a;b=c", "\"a;b=c\""),
        ] {
            let mut element = String::new();
            push_value(&mut element, value);
            assert_eq!(element, written);
        }
    }
}
