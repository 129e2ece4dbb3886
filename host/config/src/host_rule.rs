//! Rules of `--allow-host`: how they are written, and what they are. Pure.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::host_name;
use super::plain_path::plain_path;

/// A rule of `--allow-host`: `[SCHEME://]HOST[:PORT][:private][/PATH] [METHOD ...]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRule {
    /// Which scheme; none: both.
    pub scheme: Option<UpstreamScheme>,
    /// Which hosts.
    pub host: HostPattern,
    /// Which port; none: any.
    pub port: Option<u16>,
    /// `:private`: the name may lead to loopback and private addresses. Always false for addresses and networks, which
    /// grant exactly what they say.
    pub private: bool,
    /// Which paths: this one and those below it, as [`plain_path`] writes it; empty: every path.
    pub path: String,
    /// Which methods; empty: every one.
    pub methods: Vec<String>,
}

/// How an upstream is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpstreamScheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl UpstreamScheme {
    /// As URLs write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port of URLs that name none (RFC 9110, section 4.2).
    pub const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Which hosts a rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// A name, lower case.
    Name(String),
    /// `*.NAME`: every name below this one, lower case, and not this one itself.
    Below(String),
    /// An address, and every name that leads to it.
    Address(IpAddr),
    /// All addresses of a network, and every name that leads there.
    Network(#[serde(with = "super::encoding::network")] IpNet),
}

const HOST_RULE: &str = "write `[SCHEME://]HOST[:PORT][:private][/PATH] [METHOD ...]`; HOST is a name, `*.NAME`, an address, a \
    network as ADDRESS/BITS, or `*`";

pub(super) fn host_rule(text: &str) -> Result<HostRule, String> {
    let mut words = text.split_ascii_whitespace();
    let target = words.next().unwrap_or_default();
    let methods = words.map(method).collect::<Result<Vec<String>, String>>()?;
    let (scheme, rest) = match target.split_once("://") {
        None => (None, target),
        Some(("http", rest)) => (Some(UpstreamScheme::Http), rest),
        Some(("https", rest)) => (Some(UpstreamScheme::Https), rest),
        Some((other, _)) => return Err(format!("`{other}` is not a scheme of outgoing requests; {HOST_RULE}")),
    };
    let (authority, path) = rest.split_at(authority_length(rest));
    let (authority, private) = match authority.strip_suffix(":private") {
        Some(authority) => (authority, true),
        None => (authority, false),
    };
    let (host, port) = host_and_port(authority)?;
    let host = host_pattern(host)?;
    if private && matches!(host, HostPattern::Address(_) | HostPattern::Network(_)) {
        return Err("an address needs no `:private`: it grants itself".to_owned());
    }
    // As in a URL.
    let port = match port {
        Ports::Unsaid => scheme.map(UpstreamScheme::port),
        Ports::Any => None,
        Ports::One(port) => Some(port),
    };
    Ok(HostRule { scheme, host, port, private, path: path_prefix(path)?, methods })
}

/// Where the path begins. The slash of a network belongs to its address.
fn authority_length(text: &str) -> usize {
    let bracketed = if text.starts_with('[') { text.find(']').unwrap_or(0) } else { 0 };
    let Some(slash) = text[bracketed..].find('/').map(|slash| bracketed + slash) else { return text.len() };
    let bits = text[slash + 1..].bytes().take_while(u8::is_ascii_digit).count();
    if bits == 0 || text[..slash].parse::<IpAddr>().is_err() {
        return slash;
    }
    let behind = slash + 1 + bits;
    behind + text[behind..].find('/').unwrap_or(text.len() - behind)
}

fn method(word: &str) -> Result<String, String> {
    let is_one = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_');
    match is_one && word != "CONNECT" {
        true => Ok(word.to_owned()),
        false => Err(format!("`{word}` is not a method of outgoing requests, as `GET`; {HOST_RULE}")),
    }
}

fn path_prefix(path: &str) -> Result<String, String> {
    match path {
        "" | "/" => Ok(String::new()),
        path if path.ends_with(":private") => Err(format!("`:private` stands in front of the path; {HOST_RULE}")),
        path => plain_path(path).ok_or_else(|| {
            format!("`{path}` is not a path that a grant can begin with: no `.`, `..`, `//`, `?`, `%2F` or `%25`")
        }),
    }
}

/// Which port is written.
enum Ports {
    Unsaid,
    Any,
    One(u16),
}

/// Takes the port off. An IPv6 address has colons itself, so one with a port stands in brackets.
fn host_and_port(text: &str) -> Result<(&str, Ports), String> {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    if is_address(text.trim_matches(['[', ']'])) {
        return Ok((text, Ports::Unsaid));
    }
    match text.rsplit_once(':') {
        Some((host, "*")) => Ok((host, Ports::Any)),
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, Ports::One(port))),
            _ => Err(format!("`{port}` is not a port; {HOST_RULE}")),
        },
        None => Ok((text, Ports::Unsaid)),
    }
}

fn host_pattern(host: &str) -> Result<HostPattern, String> {
    let plain = host.trim_matches(['[', ']']);
    if let Ok(address) = plain.parse::<IpAddr>() {
        return Ok(HostPattern::Address(address));
    }
    if let Ok(network) = plain.parse::<IpNet>() {
        return Ok(HostPattern::Network(network.trunc()));
    }
    let is_name = |name: &str| host_name::check(name.strip_suffix('.').unwrap_or(name)).is_ok();
    match (host, host.strip_prefix("*.")) {
        ("*", _) => Ok(HostPattern::Any),
        ("", _) => Err(format!("names no host; {HOST_RULE}")),
        (_, Some(name)) if is_name(name) => Ok(HostPattern::Below(name.to_ascii_lowercase())),
        (name, None) if is_name(name) => Ok(HostPattern::Name(name.to_ascii_lowercase())),
        _ => Err(format!("`{host}` is not a host name; {HOST_RULE}")),
    }
}

/// As `--allow-host` takes it.
impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{}://", scheme.name())?;
        }
        let is_alone = self.port.is_none() && self.scheme.is_none() && self.path.is_empty();
        match &self.host {
            HostPattern::Any => f.write_str("*")?,
            HostPattern::Name(name) => f.write_str(name)?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::Address(address) if is_alone => write!(f, "{address}")?,
            HostPattern::Address(address) => write!(f, "[{address}]")?,
            HostPattern::Network(network) if is_alone => write!(f, "{network}")?,
            HostPattern::Network(network) => write!(f, "[{network}]")?,
        }
        match (self.port, self.scheme) {
            (Some(port), _) => write!(f, ":{port}")?,
            (None, Some(_)) => f.write_str(":*")?,
            (None, None) => {}
        }
        f.write_str(if self.private { ":private" } else { "" })?;
        f.write_str(&self.path)?;
        self.methods.iter().try_for_each(|method| write!(f, " {method}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With no word of scheme, path and methods.
    fn plain(host: HostPattern, port: Option<u16>, private: bool) -> HostRule {
        HostRule { scheme: None, host, port, private, path: String::new(), methods: Vec::new() }
    }

    #[test]
    fn host_rules_tell_names_from_addresses_and_networks() {
        let rule = |host, port| Ok(plain(host, port, false));
        let name = |name: &str| HostPattern::Name(name.to_owned());
        assert_eq!(host_rule("*"), rule(HostPattern::Any, None));
        assert_eq!(host_rule("*:443"), rule(HostPattern::Any, Some(443)));
        assert_eq!(host_rule("API.example.com:8443"), rule(name("api.example.com"), Some(8443)));
        let address = |text: &str| text.parse().map(HostPattern::Address);
        assert_eq!(address("::1").map(|host| host_rule("::1") == rule(host, None)), Ok(true));
        assert_eq!(address("::1").map(|host| host_rule("[::1]:80") == rule(host, Some(80))), Ok(true));
        let network = |text: &str| text.parse().map(HostPattern::Network);
        assert_eq!(network("10.0.0.0/8").map(|host| host_rule("10.1.2.3/8") == rule(host, None)), Ok(true));
        assert_eq!(network("10.0.0.0/8").map(|host| host_rule("10.0.0.0/8:53") == rule(host, Some(53))), Ok(true));
        assert_eq!(network("fd00::/8").map(|host| host_rule("fd00::/8") == rule(host, None)), Ok(true));
        assert_eq!(network("fd00::/8").map(|host| host_rule("[fd00::/8]:80") == rule(host, Some(80))), Ok(true));
        for wrong in
            ["", "a:b", "a b", "a:0", ":80", "/b", "10.0.0.0/33", "10.0.0.0/8:0", "10.0.0.0/8a", "*a", "a.*.b", "*."]
        {
            assert!(host_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_may_be_granted_private_addresses_and_an_address_grants_itself() {
        let rule = |host, port| Ok(plain(host, port, true));
        let name = |name: &str| HostPattern::Name(name.to_owned());
        assert_eq!(host_rule("db:private"), rule(name("db"), None));
        assert_eq!(host_rule("db.internal:5432:private"), rule(name("db.internal"), Some(5432)));
        assert_eq!(host_rule("*:private"), rule(HostPattern::Any, None));
        assert_eq!(host_rule("private").map(|rule| rule.private), Ok(false));
        for wrong in ["10.0.0.1:private", "10.0.0.0/8:private", "[::1]:80:private", ":private", "db:private:80"] {
            assert!(host_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rule_may_name_scheme_path_and_methods() {
        use UpstreamScheme::{Http, Https};
        let below = |name: &str| HostPattern::Below(name.to_owned());
        let name = |name: &str| HostPattern::Name(name.to_owned());
        let (a, network) = ("10.0.0.1".parse(), "10.0.0.0/8".parse());
        let (Ok(a), Ok(network)) = (a.map(HostPattern::Address), network.map(HostPattern::Network)) else { panic!() };
        type Row<'a> = (&'a str, Option<UpstreamScheme>, HostPattern, Option<u16>, bool, &'a str, &'a [&'a str]);
        let rows: [Row<'_>; 14] = [
            (
                "https://*.Example.com:443/v1/ GET POST",
                Some(Https),
                below("example.com"),
                Some(443),
                false,
                "/v1/",
                &["GET", "POST"],
            ),
            ("https://a", Some(Https), name("a"), Some(443), false, "", &[]),
            ("http://a/", Some(Http), name("a"), Some(80), false, "", &[]),
            ("http://a:*/b", Some(Http), name("a"), None, false, "/b", &[]),
            ("a/b", None, name("a"), None, false, "/b", &[]),
            ("a GET", None, name("a"), None, false, "", &["GET"]),
            ("*.a:8080:private/b%2Ec", None, below("a"), Some(8080), true, "/b.c", &[]),
            ("https://* PURGE", Some(Https), HostPattern::Any, Some(443), false, "", &["PURGE"]),
            ("10.0.0.1/b", None, a.clone(), None, false, "/b", &[]),
            ("[10.0.0.1]/8", None, a.clone(), None, false, "/8", &[]),
            ("10.0.0.1:80/8", None, a, Some(80), false, "/8", &[]),
            ("10.0.0.0/8/b", None, network.clone(), None, false, "/b", &[]),
            ("[10.0.0.0/8]/b", None, network.clone(), None, false, "/b", &[]),
            ("http://10.0.0.0/8:53/b GET", Some(Http), network, Some(53), false, "/b", &["GET"]),
        ];
        for (text, scheme, host, port, private, path, methods) in rows {
            let methods = methods.iter().map(|method| (*method).to_owned()).collect();
            let expected = HostRule { scheme, host, port, private, path: path.to_owned(), methods };
            assert_eq!(host_rule(text).as_ref(), Ok(&expected), "{text}");
            assert_eq!(host_rule(&expected.to_string()), Ok(expected), "{text}, written again");
        }
        for wrong in [
            "ftp://a",
            "HTTPS://a",
            "://a",
            "https://",
            "https:///b",
            "a/../b",
            "a/%2e%2e/b",
            "a//b",
            "a/b?c",
            "a/b%2Fc",
            "a get",
            "a CONNECT",
            "a/b:private",
            "https://user@a",
            "a/b/. GET",
            "a GET,POST",
        ] {
            assert!(host_rule(wrong).is_err(), "{wrong}");
        }
    }
}
