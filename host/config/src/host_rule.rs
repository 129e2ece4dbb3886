//! Rules of `--allow-host`: how they are written, and what they are. Pure.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::host_name;

/// A rule of `--allow-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which port; none: any.
    pub port: Option<u16>,
    /// `:private`: the name may lead to loopback and private addresses. Always false for addresses and networks, which
    /// grant exactly what they say.
    pub private: bool,
}

/// Which hosts a rule allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPattern {
    /// `*`: every host.
    Any,
    /// A name, lower case.
    Name(String),
    /// An address, and every name that leads to it.
    Address(IpAddr),
    /// All addresses of a network, and every name that leads there.
    Network(#[serde(with = "super::encoding::network")] IpNet),
}

const HOST_RULE: &str = "write `HOST`, `HOST:PORT`, `ADDRESS/BITS` or `*`, and `:private` behind a name that leads to \
    private addresses";

pub(super) fn host_rule(text: &str) -> Result<HostRule, String> {
    if text.contains("://") {
        return Err(format!("is a URL, not a host; {HOST_RULE}"));
    }
    let (rest, private) = match text.strip_suffix(":private") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let (host, port) = host_and_port(rest)?;
    let host = host_pattern(host)?;
    if private && matches!(host, HostPattern::Address(_) | HostPattern::Network(_)) {
        return Err("an address needs no `:private`: it grants itself".to_owned());
    }
    Ok(HostRule { host, port, private })
}

/// Takes the port off. An IPv6 address has colons itself, so one with a port stands in brackets.
fn host_and_port(text: &str) -> Result<(&str, Option<u16>), String> {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok();
    if is_address(text.trim_matches(['[', ']'])) {
        return Ok((text, None));
    }
    match text.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok((host, Some(port))),
            _ => Err(format!("`{port}` is not a port; {HOST_RULE}")),
        },
        None => Ok((text, None)),
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
    match host {
        "*" => Ok(HostPattern::Any),
        "" => Err(format!("names no host; {HOST_RULE}")),
        host if host_name::check(host.strip_suffix('.').unwrap_or(host)).is_ok() => {
            Ok(HostPattern::Name(host.to_ascii_lowercase()))
        }
        host => Err(format!("`{host}` is not a host name; {HOST_RULE}")),
    }
}

/// As `--allow-host` takes it.
impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (HostPattern::Any, _) => f.write_str("*")?,
            (HostPattern::Name(name), _) => f.write_str(name)?,
            (HostPattern::Address(address), None) => write!(f, "{address}")?,
            (HostPattern::Address(address), Some(_)) => write!(f, "[{address}]")?,
            (HostPattern::Network(network), None) => write!(f, "{network}")?,
            (HostPattern::Network(network), Some(_)) => write!(f, "[{network}]")?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(if self.private { ":private" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_rules_tell_names_from_addresses_and_networks() {
        let rule = |host, port| Ok(HostRule { host, port, private: false });
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
        for wrong in ["", "https://a", "a:b", "a b", "a:0", ":80", "a/b", "10.0.0.0/33", "10.0.0.0/8:0"] {
            assert!(host_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_may_be_granted_private_addresses_and_an_address_grants_itself() {
        let rule = |host, port| Ok(HostRule { host, port, private: true });
        let name = |name: &str| HostPattern::Name(name.to_owned());
        assert_eq!(host_rule("db:private"), rule(name("db"), None));
        assert_eq!(host_rule("db.internal:5432:private"), rule(name("db.internal"), Some(5432)));
        assert_eq!(host_rule("*:private"), rule(HostPattern::Any, None));
        assert_eq!(host_rule("private").map(|rule| rule.private), Ok(false));
        for wrong in ["10.0.0.1:private", "10.0.0.0/8:private", "[::1]:80:private", ":private", "db:private:80"] {
            assert!(host_rule(wrong).is_err(), "{wrong}");
        }
    }
}
