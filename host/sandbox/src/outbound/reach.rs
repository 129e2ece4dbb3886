//! How far an address reaches: the public internet, this machine, a private network, or only the link. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// From where an address can be reached (IANA's special-purpose registries, RFC 6890 and its updates).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The public internet.
    Public,
    /// This machine.
    Loopback,
    /// A private network, a group, or nobody: reserved and documentation addresses.
    Private,
    /// The link: RFC 3927 and RFC 4291, section 2.5.6. Clouds serve credentials there.
    LinkLocal,
}

/// Metadata services of clouds that are not link-local: AWS (also that of EKS), Google, Oracle and Scaleway over IPv6, Alibaba, Oracle,
/// and Azure's, whose address looks public.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// `::ffff:a.b.c.d` is the same place as `a.b.c.d`.
pub(super) fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// How far an address reaches. One that carries an IPv4 address leads where that one leads, or nowhere public.
pub(super) fn reach(address: IpAddr) -> Reach {
    match canonical(address) {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match carried(address) {
            None => reach_v6(address),
            Some((within, Gateway::Translates)) => reach_v4(within),
            Some((within, Gateway::Local)) => match reach_v4(within) {
                Reach::Public => Reach::Private,
                reach => reach,
            },
        },
    }
}

/// Whether no name may lead to this address: it is link-local, or a metadata service of a cloud.
pub(super) fn is_never_by_name(address: IpAddr) -> bool {
    let address = canonical(address);
    let is_metadata = match address {
        IpAddr::V4(address) => METADATA_V4.contains(&address),
        IpAddr::V6(address) => {
            METADATA_V6.contains(&address) || carried(address).is_some_and(|(within, _)| METADATA_V4.contains(&within))
        }
    };
    is_metadata || reach(address) == Reach::LinkLocal
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b); // RFC 6598
    let protocol_assignments = (a, b, c) == (192, 0, 0); // RFC 6890
    let benchmarking = a == 198 && (b == 18 || b == 19); // RFC 2544
    let reserved = a >= 240; // RFC 1112, with the broadcast address
    if address.is_loopback() {
        Reach::Loopback
    } else if address.is_link_local() {
        Reach::LinkLocal
    } else if a == 0
        || address.is_private()
        || address.is_documentation()
        || address.is_multicast()
        || shared
        || protocol_assignments
        || benchmarking
        || reserved
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// Of one that carries no IPv4 address.
fn reach_v6(address: Ipv6Addr) -> Reach {
    let segments = address.segments();
    let first = segments[0];
    let unique_local = first & 0xfe00 == 0xfc00; // RFC 4193
    let link_local = first & 0xffc0 == 0xfe80; // RFC 4291
    let site_local = first & 0xffc0 == 0xfec0; // RFC 3879
    let documentation = (first == 0x2001 && segments[1] == 0xdb8) || first & 0xfff0 == 0x3ff0; // RFC 3849, RFC 9637
    let discard = first == 0x100 && segments[1..4] == [0, 0, 0]; // RFC 6666
    let link_local_group = address.is_multicast() && first & 0xf == 2; // RFC 4291, section 2.7
    if address.is_loopback() {
        Reach::Loopback
    } else if link_local || link_local_group {
        Reach::LinkLocal
    } else if address.is_unspecified()
        || address.is_multicast()
        || unique_local
        || site_local
        || documentation
        || discard
    {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// What stands between an address that carries an IPv4 address and that address.
enum Gateway {
    /// A gateway of the public internet: the address reaches as far as the one within.
    Translates,
    /// Something of the local network, or nothing any more: never public.
    Local,
}

/// The IPv4 address within an IPv6 address, as a gateway would find it.
fn carried(address: Ipv6Addr) -> Option<(Ipv4Addr, Gateway)> {
    let segments = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    let [first, second, third, fourth, fifth, _, g, h] = segments;
    let last = v4(g, h);
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        return Some((last, Gateway::Translates)); // NAT64, RFC 6052
    }
    if first == 0x2002 {
        return Some((v4(second, third), Gateway::Translates)); // 6to4, RFC 3056
    }
    if segments[..3] == [0x64, 0xff9b, 1] {
        // Local NAT64 (RFC 8215): its prefix may have 48, 56, 64 or 96 bits (RFC 6052, section 2.2), and none may lead
        // to where names may not.
        let [d, [_, e0]] = [fourth.to_be_bytes(), fifth.to_be_bytes()];
        let at_48 = v4(fourth, u16::from_be_bytes([e0, segments[5].to_be_bytes()[0]]));
        let at_64 = {
            let [[f0, f1], [g0, _]] = [segments[5].to_be_bytes(), g.to_be_bytes()];
            Ipv4Addr::new(e0, f0, f1, g0)
        };
        let at_56 = {
            let [f0, f1] = segments[5].to_be_bytes();
            Ipv4Addr::new(d[1], e0, f0, f1)
        };
        let forms = [last, at_48, at_56, at_64];
        let worst = forms.into_iter().find(|within| is_never_by_name(IpAddr::V4(*within)));
        return Some((worst.unwrap_or(last), Gateway::Local));
    }
    if segments[..6] == [0, 0, 0, 0, 0xffff, 0] {
        return Some((last, Gateway::Local)); // translated, RFC 2765
    }
    if segments[..6] == [0; 6] && !address.is_loopback() && !address.is_unspecified() {
        return Some((last, Gateway::Local)); // compatible, RFC 4291, section 2.5.5.1
    }
    if (first, second) == (0x2001, 0) {
        return Some((v4(!g, !h), Gateway::Local)); // Teredo, RFC 4380: the client's address, inverted
    }
    None
}
