//! One route as it is written in `wasmhost.toml`: what it matches, or what is wrong with it and what to write.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::host_name;

/// Longest path of a route, in bytes.
const PATH_BYTES_MAX: usize = 1_024;
/// Most segments of a route's path, without the `*` at its end.
const SEGMENTS_MAX: usize = 64;

const WANTED: &str = "write `HOST`, `HOST/PATH` or `/PATH`: `shop.example.com`, `*.example.com/api/*`, `/healthz`";

/// What a route matches, in one form: two routes that match the same requests are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct RoutePattern {
    pub(super) host: HostPart,
    pub(super) path: PathPart,
}

/// Which hosts; names are in lower case and have no dot at their end, addresses are as Rust writes them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum HostPart {
    Any,
    /// All hosts with one label or more in front of this name.
    Below(String),
    Exact(String),
}

/// Which paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum PathPart {
    /// This path, and all that go on with a `/` behind it; empty: all paths.
    Below(String),
    Exact(String),
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            HostPart::Any => f.write_str("*")?,
            HostPart::Below(name) => write!(f, "*.{name}")?,
            HostPart::Exact(host) => f.write_str(host)?,
        }
        match &self.path {
            PathPart::Below(path) => write!(f, "{path}/*"),
            PathPart::Exact(path) => f.write_str(path),
        }
    }
}

impl RoutePattern {
    /// Of any host and all paths.
    pub(super) fn is_all(&self) -> bool {
        self.host == HostPart::Any && self.path == PathPart::Below(String::new())
    }

    /// Reads a route.
    ///
    /// # Errors
    /// Says what is wrong, and what to write instead; without the route itself.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(format!("is empty; {WANTED}"));
        }
        if let Some(blank) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            let (shown, encoded) = (blank.escape_default(), percent_encoded(blank));
            let shown = if blank == ' ' { "a space".to_owned() } else { format!("`{shown}`") };
            return Err(format!("holds {shown}; leave it out, or in a path write what clients send: `{encoded}`"));
        }
        let (host, path) = match text.find('/') {
            Some(at) => text.split_at(at),
            None => (text, "/*"),
        };
        if host.ends_with(':') && path.starts_with("//") {
            return Err(format!("begins with a scheme, but a route is of every listener; leave `{host}//` out"));
        }
        match text.chars().find(|c| matches!(c, '?' | '#')) {
            Some('?') => Err("holds `?`, but queries do not count for a route; end it before the `?`".to_owned()),
            Some(_) => {
                Err("holds `#`, but clients do not send what follows it; end the route before the `#`".to_owned())
            }
            None => Ok(Self { host: host_part(host)?, path: path_part(path)? }),
        }
    }
}

/// As a client sends it in a path (RFC 3986, section 2.1).
fn percent_encoded(character: char) -> String {
    let mut bytes = [0; 4];
    character.encode_utf8(&mut bytes).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn host_part(text: &str) -> Result<HostPart, String> {
    if text.is_empty() || text == "*" {
        return Ok(HostPart::Any);
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("holds an IPv6 address without brackets; write `[{text}]`"));
    }
    let (address, behind) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or((Some(rest), ""), |(address, behind)| (Some(address), behind)),
        None => (None, text),
    };
    if let Some(at) = behind.find(':') {
        let port = behind.get(at..).unwrap_or_default();
        return Err(format!("holds a port, but ports belong to `listen`; leave `{}` out", port.escape_debug()));
    }
    if let Some(address) = address {
        let address = address.parse::<Ipv6Addr>().ok().filter(|_| behind.is_empty() && text.ends_with(']'));
        let wrong = || "the host is not an IPv6 address in brackets; write it as in `[::1]`".to_owned();
        return address.map(|address| HostPart::Exact(format!("[{address}]"))).ok_or_else(wrong);
    }
    let host = text.strip_suffix('.').unwrap_or(text);
    let (name, is_below) = match host.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (host, false),
    };
    if name.contains('*') {
        return Err(
            "in a host, `*` stands for all of it or for its first labels; write `*` or `*.example.com`".to_owned()
        );
    }
    host_name::check(name)?;
    let name = name.to_ascii_lowercase();
    // Such a host is an address or nothing (URL standard, "ends in a number").
    let is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    match (is_number, is_below) {
        (true, true) => Err("no host is below an IPv4 address; leave `*.` out".to_owned()),
        (true, false) if name.parse::<Ipv4Addr>().is_err() => {
            Err("the host ends in a number and is not an IPv4 address; write one, as in `192.0.2.1`, or a name"
                .to_owned())
        }
        (_, true) => Ok(HostPart::Below(name)),
        (_, false) => Ok(HostPart::Exact(name)),
    }
}

/// Of a text that begins with `/`.
fn path_part(text: &str) -> Result<PathPart, String> {
    let (path, is_below) = match text.strip_suffix("/*") {
        Some(path) => (path, true),
        None => (text, false),
    };
    if path.contains('*') {
        return Err("in a path, `*` is only for the end, as a whole segment; write `/api/*`".to_owned());
    }
    if let Some(other) = path.chars().find(|c| !c.is_ascii()) {
        let encoded = percent_encoded(other);
        return Err(format!("`{other}` is not ASCII; in a path write what clients send: `{encoded}`"));
    }
    if path.len() > PATH_BYTES_MAX {
        return Err(format!("the path has {} characters; write at most {PATH_BYTES_MAX}", path.len()));
    }
    let segments = path.split('/').skip(1);
    let count = segments.clone().count();
    if count > SEGMENTS_MAX {
        return Err(format!("the path has {count} segments; write at most {SEGMENTS_MAX}"));
    }
    // Clients resolve these two before they send a path, also when they are encoded (URL standard, "dot segment").
    let is_dots = |segment: &str| matches!(segment.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..");
    if let Some(dots) = segments.clone().find(|segment| is_dots(segment)) {
        return Err(format!("the path has the segment `{dots}`, which clients do not send; write the path without it"));
    }
    Ok(if is_below { PathPart::Below(path.to_owned()) } else { PathPart::Exact(path.to_owned()) })
}
