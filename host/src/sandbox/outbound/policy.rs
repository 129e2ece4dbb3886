//! Which destinations a guest may reach. Pure: names and addresses in, a decision out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{HostPattern, HostRule};

/// The rules of `--allow-host`.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<HostRule>,
}

/// Why a destination is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No rule names the host and port.
    Host,
    /// The host is allowed by `*` only, and this address of it is not public.
    Address(IpAddr),
}

impl Policy {
    pub(super) fn new(rules: &[HostRule]) -> Self {
        Self { rules: rules.to_vec() }
    }

    /// Before the name is resolved: whether any rule can allow this host. A host written as an address is checked as such.
    pub(super) fn check_host(&self, host: &str, port: u16) -> Result<(), Refusal> {
        let address = host.parse::<IpAddr>().ok();
        let any = self.matching(host, port).next().is_some();
        let by_address = address.is_some_and(|address| self.names_address(address, port));
        if any || by_address { Ok(()) } else { Err(Refusal::Host) }
    }

    /// After the name is resolved: whether this address of the host may be connected to.
    pub(super) fn check_address(&self, host: &str, address: SocketAddr) -> Result<(), Refusal> {
        let named = self.matching(host, address.port()).any(|rule| rule.host != HostPattern::Any);
        if named || is_public(address.ip()) || self.names_address(address.ip(), address.port()) {
            Ok(())
        } else {
            Err(Refusal::Address(address.ip()))
        }
    }

    fn matching<'a>(&'a self, host: &'a str, port: u16) -> impl Iterator<Item = &'a HostRule> {
        let host = host.trim_end_matches('.');
        self.rules.iter().filter(move |rule| {
            let host_matches = match &rule.host {
                HostPattern::Any => true,
                HostPattern::Name(name) => name.trim_end_matches('.') == host,
                HostPattern::Address(address) => {
                    host.parse::<IpAddr>().is_ok_and(|host| canonical(host) == canonical(*address))
                }
            };
            host_matches && rule.port.is_none_or(|allowed| allowed == port)
        })
    }

    fn names_address(&self, address: IpAddr, port: u16) -> bool {
        self.rules.iter().any(|rule| {
            matches!(rule.host, HostPattern::Address(allowed) if canonical(allowed) == canonical(address))
                && rule.port.is_none_or(|allowed| allowed == port)
        })
    }
}

/// `::ffff:a.b.c.d` is the same place as `a.b.c.d`.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Whether an address is one of the public internet (IANA's special-purpose registries, RFC 6890 and its updates).
fn is_public(address: IpAddr) -> bool {
    match canonical(address) {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let protocol_assignments = (a, b, c) == (192, 0, 0); // RFC 6890
    let benchmarking = a == 198 && (b == 18 || b == 19); // RFC 2544
    let reserved = a >= 240; // RFC 1112, with the broadcast address
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || shared
        || protocol_assignments
        || benchmarking
        || reserved)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let first = segments[0];
    let unique_local = first & 0xfe00 == 0xfc00; // RFC 4193
    let link_local = first & 0xffc0 == 0xfe80; // RFC 4291
    let site_local = first & 0xffc0 == 0xfec0; // RFC 3879
    let documentation = (first == 0x2001 && segments[1] == 0xdb8) || first & 0xfff0 == 0x3ff0; // RFC 3849, RFC 9637
    let discard = first == 0x100 && segments[1..4] == [0, 0, 0]; // RFC 6666
    // Addresses that carry an IPv4 address lead where that one leads: NAT64 (RFC 6052), 6to4 (RFC 3056), compatible.
    let [.., g, h] = segments;
    let [g, h] = [g.to_be_bytes(), h.to_be_bytes()];
    let last = Ipv4Addr::new(g[0], g[1], h[0], h[1]);
    let nat64 = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let local_nat64 = segments[..3] == [0x64, 0xff9b, 1]; // RFC 8215
    let compatible = segments[..6] == [0; 6];
    let translated = segments[..6] == [0, 0, 0, 0, 0xffff, 0]; // RFC 2765
    let teredo = first == 0x2001 && segments[1] == 0; // RFC 4380
    let [b, c] = [segments[1].to_be_bytes(), segments[2].to_be_bytes()];
    let six_to_four = first == 0x2002;
    let within = Ipv4Addr::new(b[0], b[1], c[0], c[1]);
    !(address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || unique_local
        || link_local
        || site_local
        || documentation
        || discard
        || local_nat64
        || compatible
        || translated
        || teredo
        || (nat64 && !is_public_v4(last))
        || (six_to_four && !is_public_v4(within)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[(HostPattern, Option<u16>)]) -> Policy {
        let rules: Vec<HostRule> =
            rules.iter().map(|(host, port)| HostRule { host: host.clone(), port: *port }).collect();
        Policy::new(&rules)
    }

    fn address(text: &str) -> SocketAddr {
        let ip: IpAddr = text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        (ip, 80).into()
    }

    #[test]
    fn nothing_is_allowed_without_a_rule() {
        assert_eq!(policy(&[]).check_host("example.com", 443), Err(Refusal::Host));
    }

    #[test]
    fn a_rule_with_a_port_allows_that_port_only() {
        let policy = policy(&[(HostPattern::Name("example.com".into()), Some(443))]);
        assert_eq!(policy.check_host("example.com", 443), Ok(()));
        assert_eq!(policy.check_host("example.com", 80), Err(Refusal::Host));
        assert_eq!(policy.check_host("www.example.com", 443), Err(Refusal::Host));
    }

    #[test]
    fn the_star_reaches_public_addresses_only() {
        let policy = policy(&[(HostPattern::Any, None)]);
        let private = [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.8",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "::ffff:0:127.0.0.1",
            "2001:0:7f00:1::1",
            "::7f00:1",
            "2001:db8::1",
        ];
        for text in private {
            assert!(policy.check_address("rebound.example", address(text)).is_err(), "{text}");
        }
        for text in ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"] {
            assert_eq!(policy.check_address("example.com", address(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn a_private_address_is_allowed_when_it_or_its_host_is_named() {
        let by_name = policy(&[(HostPattern::Name("db.internal".into()), None)]);
        assert_eq!(by_name.check_address("db.internal", address("10.0.0.5")), Ok(()));
        let localhost = HostPattern::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let by_address = policy(&[(HostPattern::Any, None), (localhost, Some(80))]);
        assert_eq!(by_address.check_address("anything.example", address("127.0.0.1")), Ok(()));
        assert!(by_address.check_address("anything.example", address("127.0.0.2")).is_err());
        assert!(policy(&[(HostPattern::Any, None)]).check_host("127.0.0.1", 80).is_ok());
        assert!(policy(&[(HostPattern::Any, None)]).check_address("127.0.0.1", address("127.0.0.1")).is_err());
    }
}
