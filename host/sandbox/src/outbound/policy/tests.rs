//! Tables, and properties against lists of networks that are written down a second time here.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;

const LINK_LOCAL: [&str; 23] = [
    "169.254.0.0/16",
    "168.63.129.16/32",
    "100.100.100.200/32",
    "192.0.0.192/32",
    "fe80::/10",
    "fd00:ec2::254/128",
    "fd20:ce::254/128",
    "ff02::/16",
    "ff12::/16",
    "ff22::/16",
    "ff32::/16",
    "ff42::/16",
    "ff52::/16",
    "ff62::/16",
    "ff72::/16",
    "ff82::/16",
    "ff92::/16",
    "ffa2::/16",
    "ffb2::/16",
    "ffc2::/16",
    "ffd2::/16",
    "ffe2::/16",
    "fff2::/16",
];
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1/128"];
const PRIVATE: [&str; 25] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::/96",
    "::ffff:0:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/32",
    "2001:db8::/32",
    "3ff0::/20",
    "3fff::/20",
    "fc00::/7",
    "fec0::/10",
    "ff00::/8",
    "ff05::2/128",
];

fn rule(host: HostPattern, port: Option<u16>, private: bool) -> HostRule {
    HostRule { scheme: None, host, port, private, path: String::new(), methods: Vec::new() }
}

/// A GET of the root.
fn asked(host: &str, port: u16) -> AskedRequest<'_> {
    AskedRequest { scheme: UpstreamScheme::Http, host, port, method: "GET", path: "/" }
}

impl Policy {
    fn check_host(&self, host: &str, port: u16) -> Result<(), PolicyRefusal> {
        self.grant(&asked(host, port)).map(drop)
    }

    fn check_at(&self, host: &str, address: SocketAddr) -> Result<(), PolicyRefusal> {
        let grant = self.grant(&asked(host, address.port()))?;
        self.check_address(&grant, host, address.ip(), false)
    }
}

fn name(name: &str) -> HostPattern {
    HostPattern::Name(name.to_owned())
}

/// `address`, or a network.
fn granted(text: &str) -> HostPattern {
    match text.parse() {
        Ok(address) => HostPattern::Address(address),
        Err(_) => HostPattern::Network(text.parse().unwrap_or_default()),
    }
}

fn policy(rules: &[HostRule]) -> Policy {
    Policy::new(rules)
}

fn at(text: &str) -> SocketAddr {
    let ip: IpAddr = text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    (ip, 80).into()
}

fn is_in(address: IpAddr, networks: &[&str]) -> bool {
    networks.iter().filter_map(|network| network.parse::<IpNet>().ok()).any(|network| network.contains(&address))
}

/// Every way of carrying an IPv4 address in another one that a gateway or the system would follow.
fn forms(address: Ipv4Addr) -> [IpAddr; 10] {
    let [a, b, c, d] = address.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let v6 = |segments: [u16; 8]| IpAddr::V6(Ipv6Addr::from(segments));
    let (b16, c16, d16) = (u16::from(b), u16::from(c), u16::from(d));
    [
        IpAddr::V4(address),
        v6([0, 0, 0, 0, 0, 0xffff, high, low]),
        v6([0x64, 0xff9b, 0, 0, 0, 0, high, low]),
        v6([0x2002, high, low, 0, 0, 0, 0, 1]),
        v6([0, 0, 0, 0, 0xffff, 0, high, low]),
        v6([0x2001, 0, 0x808, 0x808, 0, 0, !high, !low]),
        v6([0x64, 0xff9b, 1, 0, 0, 0, high, low]),
        v6([0x64, 0xff9b, 1, high, c16, d16 << 8, 0, 0]),
        v6([0x64, 0xff9b, 1, u16::from(a), b16, u16::from_be_bytes([c, d]), 0, 0]),
        v6([0x64, 0xff9b, 1, 0, u16::from(a), u16::from_be_bytes([b, c]), d16 << 8, 0]),
    ]
}

#[test]
fn nothing_is_allowed_without_a_rule() {
    assert_eq!(policy(&[]).check_host("example.com", 443), Err(PolicyRefusal::Host));
    assert_eq!(policy(&[]).check_host("8.8.8.8", 443), Err(PolicyRefusal::Host));
}

#[test]
fn a_rule_with_a_port_allows_that_port_only() {
    let policy = policy(&[rule(name("example.com"), Some(443), false)]);
    assert_eq!(policy.check_host("example.com", 443), Ok(()));
    assert_eq!(policy.check_host("example.com.", 443), Ok(()));
    assert_eq!(policy.check_host("example.com", 80), Err(PolicyRefusal::Host));
    assert_eq!(policy.check_host("www.example.com", 443), Err(PolicyRefusal::Host));
}

#[test]
fn a_name_and_the_star_reach_public_addresses_only() {
    for host in [HostPattern::Any, name("third.party.example")] {
        let policy = policy(&[rule(host, None, false)]);
        let private = [
            "127.0.0.1",
            "127.8.8.8",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "224.0.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "::1",
            "::",
            "fc00::1",
            "fd12::1",
            "ff05::1",
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
            let refusal = policy.check_at("third.party.example", at(text));
            assert!(matches!(refusal, Err(PolicyRefusal::Private(_))), "{text}: {refusal:?}");
        }
        for text in [
            "169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "::ffff:169.254.169.254",
            "100.100.100.200",
        ] {
            let refusal = policy.check_at("third.party.example", at(text));
            assert!(matches!(refusal, Err(PolicyRefusal::LinkLocal(_))), "{text}: {refusal:?}");
        }
        for text in ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "2002:808:808::1"] {
            assert_eq!(policy.check_at("third.party.example", at(text)), Ok(()), "{text}");
        }
    }
}

#[test]
fn loopback_and_private_addresses_need_an_explicit_grant() {
    let marked = policy(&[rule(name("db.internal"), None, true)]);
    for text in ["10.0.0.5", "127.0.0.1", "fd12::1", "::ffff:10.0.0.1"] {
        assert_eq!(marked.check_at("db.internal", at(text)), Ok(()), "{text}");
        assert!(marked.check_at("other.internal", at(text)).is_err(), "{text}");
    }
    for grant in ["10.0.0.0/8", "10.0.0.5", "::ffff:10.0.0.5"] {
        let by_address = policy(&[rule(name("db.internal"), None, false), rule(granted(grant), Some(80), false)]);
        assert_eq!(by_address.check_at("db.internal", at("10.0.0.5")), Ok(()), "{grant}");
        assert_eq!(by_address.check_host("10.0.0.5", 80), Ok(()), "{grant}");
        assert_eq!(by_address.check_at("10.0.0.5", at("10.0.0.5")), Ok(()), "{grant}");
        assert!(by_address.check_at("db.internal", at("11.0.0.5")).is_ok(), "{grant}: public");
        assert!(by_address.check_at("db.internal", at("192.168.0.5")).is_err(), "{grant}");
        assert!(by_address.check_at("db.internal", ([10, 0, 0, 5], 81).into()).is_err(), "{grant}");
    }
    let star = policy(&[rule(HostPattern::Any, None, false)]);
    assert_eq!(star.check_host("127.0.0.1", 80), Ok(()));
    assert!(star.check_at("127.0.0.1", at("127.0.0.1")).is_err());
}

#[test]
fn localhost_leads_to_this_machine_and_not_to_others() {
    for host in ["localhost", "app.localhost", "localhost."] {
        let policy = policy(&[rule(name(host), None, false)]);
        for text in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.1.1.1"] {
            assert_eq!(policy.check_at(host, at(text)), Ok(()), "{host} {text}");
        }
        for text in ["10.0.0.1", "169.254.169.254", "0.0.0.0"] {
            assert!(policy.check_at(host, at(text)).is_err(), "{host} {text}");
        }
    }
    let star = policy(&[rule(HostPattern::Any, None, false)]);
    assert!(star.check_at("localhost", at("127.0.0.1")).is_err());
    let like_it = policy(&[rule(name("notlocalhost"), None, false)]);
    assert!(like_it.check_at("notlocalhost", at("127.0.0.1")).is_err());
}

#[test]
fn a_link_local_address_is_reached_when_it_is_asked_for_and_granted_as_an_address() {
    for grant in ["169.254.169.254", "169.254.0.0/16", "169.254.169.0/24"] {
        let policy = policy(&[rule(granted(grant), None, false), rule(HostPattern::Any, None, true)]);
        assert_eq!(policy.check_at("169.254.169.254", at("169.254.169.254")), Ok(()), "{grant}");
        assert!(policy.check_at("third.party.example", at("169.254.169.254")).is_err(), "{grant}");
    }
    for grant in ["0.0.0.0/0", "128.0.0.0/1", "169.254.0.0/15"] {
        let policy = policy(&[rule(granted(grant), None, false)]);
        assert_eq!(policy.check_host("169.254.169.254", 80), Ok(()), "{grant}");
        assert!(policy.check_at("169.254.169.254", at("169.254.169.254")).is_err(), "{grant}");
    }
}

#[test]
fn a_refusal_names_the_flag_that_allows_it() {
    let private = PolicyRefusal::Private(at("10.0.0.5").ip());
    for (refusal, host, flag) in [
        (&PolicyRefusal::Host, "example.com", "--allow-host example.com:80"),
        (&private, "db.internal", "--allow-host db.internal:80:private"),
        (&private, "10.0.0.5", "--allow-host 10.0.0.5:80"),
        (&PolicyRefusal::Private(at("::1").ip()), "::1", "--allow-host [::1]:80"),
        (&PolicyRefusal::LinkLocal(at("fe80::1").ip()), "a.example", "--allow-host [fe80::1]:80"),
    ] {
        let text = refusal.explain(&asked(host, 80));
        assert!(text.ends_with(flag), "{text}");
    }
    let asked = AskedRequest { scheme: UpstreamScheme::Https, method: "PUT", path: "/v1/%61", ..asked("::1", 443) };
    let text = PolicyRefusal::Beyond { is_plain: true }.explain(&asked);
    assert!(text.ends_with("--allow-host \"https://[::1]:443/v1/a PUT\""), "{text}");
    let text = PolicyRefusal::Beyond { is_plain: false }.explain(&asked);
    assert!(text.contains("`..`") && text.ends_with("--allow-host [::1]:443"), "{text}");
}

/// A rule with scheme, methods and path.
fn narrow(host: HostPattern, scheme: Option<UpstreamScheme>, path: &str, methods: &[&str]) -> HostRule {
    let methods = methods.iter().map(|method| (*method).to_owned()).collect();
    HostRule { scheme, path: path.to_owned(), methods, ..rule(host, None, false) }
}

#[test]
fn a_rule_covers_its_scheme_its_methods_and_the_paths_below_its_own() {
    use UpstreamScheme::{Http, Https};
    let policy = policy(&[
        narrow(name("a.test"), Some(Https), "/v1/", &["GET", "POST"]),
        narrow(granted("10.0.0.0/8"), None, "/status", &[]),
    ]);
    type Row<'a> = (UpstreamScheme, &'a str, &'a str, &'a str, bool);
    let rows: [Row<'_>; 17] = [
        (Https, "a.test", "GET", "/v1/a", true),
        (Https, "a.test", "POST", "/v1/", true),
        (Https, "a.test", "GET", "/%76%31/a", true),
        (Https, "a.test", "PUT", "/v1/a", false),
        (Https, "a.test", "get", "/v1/a", false),
        (Http, "a.test", "GET", "/v1/a", false),
        (Https, "a.test", "GET", "/", false),
        (Https, "a.test", "GET", "/v1", false),
        (Https, "a.test", "GET", "/v1/../secret", false),
        (Https, "a.test", "GET", "/v1/%2e%2e/secret", false),
        (Https, "a.test", "GET", "/v1//../../secret", false),
        (Https, "a.test", "GET", "/v1/..%2fsecret", false),
        (Https, "a.test", "GET", "/v1/..;/secret", false),
        (Https, "a.test", "GET", "//v1/", false),
        (Http, "10.1.2.3", "PUT", "/status/a", true),
        (Http, "10.1.2.3", "PUT", "/stat", false),
        (Http, "11.1.2.3", "PUT", "/status", false),
    ];
    for (scheme, host, method, path, is_granted) in rows {
        let asked = AskedRequest { scheme, host, port: 8080, method, path };
        let found = policy.grant(&asked);
        assert_eq!(found.is_ok(), is_granted, "{asked:?}: {found:?}");
    }
}

#[test]
fn names_below_another_are_granted_and_that_one_is_not() {
    for pattern in ["example.com", "example.com."] {
        let policy = policy(&[rule(HostPattern::Below(pattern.to_owned()), None, false)]);
        for (host, expected) in [
            ("a.example.com", true),
            ("a.b.example.com.", true),
            ("example.com", false),
            (".example.com", false),
            ("aexample.com", false),
            ("a.example.com.evil.test", false),
        ] {
            assert_eq!(policy.check_host(host, 80).is_ok(), expected, "{host}");
        }
    }
    let here = policy(&[rule(HostPattern::Below("localhost".to_owned()), None, false)]);
    assert_eq!(here.check_at("a.localhost", at("127.0.0.1")), Ok(()));
    assert!(here.check_at("a.localhost", at("10.0.0.1")).is_err());
}

#[test]
fn what_one_rule_grants_of_a_host_another_does_not() {
    let private = HostRule { private: true, ..narrow(name("a.test"), None, "/private", &[]) };
    let policy = policy(&[private, narrow(name("a.test"), None, "/public", &[])]);
    let of = |path| policy.grant(&AskedRequest { path, ..asked("a.test", 80) });
    let (Ok(private), Ok(public)) = (of("/private"), of("/public")) else { panic!("both are granted") };
    assert_ne!(private, public, "they share no connection");
    assert_eq!(policy.check_address(&private, "a.test", at("10.0.0.1").ip(), false), Ok(()));
    assert!(policy.check_address(&public, "a.test", at("10.0.0.1").ip(), false).is_err());
}

#[test]
fn a_public_address_of_this_machine_needs_a_grant_as_loopback_does() {
    let host = "a.test";
    let check = |rules: &[HostRule]| {
        let policy = policy(rules);
        let grant = policy.grant(&asked(host, 80))?;
        policy.check_address(&grant, host, at("93.184.215.14").ip(), true)
    };
    let (by_name, star) = (rule(name(host), None, false), rule(HostPattern::Any, None, false));
    assert!(check(&[by_name.clone(), star]).is_err());
    assert_eq!(check(&[rule(name(host), None, true)]), Ok(()));
    assert_eq!(check(&[by_name, rule(granted("93.184.215.14"), None, false)]), Ok(()));
}

fn any_rule_with_a_name() -> impl Strategy<Value = HostRule> {
    let host =
        prop_oneof![Just(HostPattern::Any), Just(name("a.example")), Just(name("localhost")), Just(name("b.example")),];
    let port = prop_oneof![Just(None), Just(Some(80)), Just(Some(443))];
    (host, port, any::<bool>()).prop_map(|(host, port, private)| rule(host, port, private))
}

fn any_granting_rule() -> impl Strategy<Value = HostRule> {
    let address = any::<IpAddr>().prop_map(HostPattern::Address);
    let network = (any::<Ipv4Addr>(), 0_u8..=32)
        .prop_map(|(address, bits)| HostPattern::Network(IpNet::new(address.into(), bits).unwrap_or_default()));
    prop_oneof![address, network].prop_map(|host| rule(host, None, false))
}

/// Addresses of which many are special.
fn any_address() -> impl Strategy<Value = IpAddr> {
    let within = |networks: &'static [&'static str]| {
        (proptest::sample::select(networks), any::<u128>()).prop_map(|(network, bits)| {
            match network.parse::<IpNet>().unwrap_or_default() {
                IpNet::V4(network) => {
                    let host = u32::try_from(bits & u128::from(u32::MAX)).unwrap_or(0) & u32::from(network.hostmask());
                    IpAddr::V4(Ipv4Addr::from(u32::from(network.network()) | host))
                }
                IpNet::V6(network) => {
                    IpAddr::V6(Ipv6Addr::from(u128::from(network.network()) | bits & u128::from(network.hostmask())))
                }
            }
        })
    };
    let plain = prop_oneof![any::<IpAddr>(), within(&LINK_LOCAL), within(&LOOPBACK), within(&PRIVATE)];
    (plain, 0_usize..10).prop_map(|(address, form)| match address {
        IpAddr::V4(address) => forms(address)[form],
        IpAddr::V6(_) => address,
    })
}

/// The address behind all forms, as the lists see it.
fn leads_to(address: IpAddr, networks: &[&str]) -> bool {
    let address = address.to_canonical();
    if is_in(address, networks) {
        return true;
    }
    let IpAddr::V6(v6) = address else { return false };
    let bits = u128::from(v6);
    let low = |shift: u32| Ipv4Addr::from(u32::try_from((bits >> shift) & u128::from(u32::MAX)).unwrap_or(0));
    let nat64 = is_in(address, &["64:ff9b::/96"]) && is_in(low(0).into(), networks);
    let six_to_four = is_in(address, &["2002::/16"]) && is_in(low(80).into(), networks);
    nat64 || six_to_four
}

proptest! {
    #[test]
    fn no_name_leads_to_a_link_local_address_in_any_form_whatever_is_granted(
        names in proptest::collection::vec(any_rule_with_a_name(), 0..4),
        grants in proptest::collection::vec(any_granting_rule(), 0..4),
        within in proptest::sample::select(&["169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"][..]),
        bits in any::<u32>(),
        form in 0_usize..10,
    ) {
        let Ok(IpNet::V4(network)) = within.parse::<IpNet>() else { return Err(TestCaseError::fail("no network")) };
        let address = Ipv4Addr::from(u32::from(network.network()) | bits & u32::from(network.hostmask()));
        let own = rule(HostPattern::Address(address.into()), None, false);
        let rules: Vec<HostRule> = names.into_iter().chain(grants).chain([own]).collect();
        let policy = Policy::new(&rules);
        for host in ["a.example", "localhost", "b.example", "c.example"] {
            let checked = policy.check_at(host, (forms(address)[form], 80).into());
            prop_assert!(checked.is_err(), "{host} {address} as {}", forms(address)[form]);
        }
    }

    #[test]
    fn a_name_reaches_exactly_what_the_lists_leave(
        names in proptest::collection::vec(any_rule_with_a_name(), 1..4),
        address in any_address(),
    ) {
        let policy = Policy::new(&names);
        for host in ["a.example", "b.example"] {
            prop_assume!(policy.check_host(host, 80).is_ok());
            let marked = names.iter().any(|rule| {
                rule.private && rule.port != Some(443) && [HostPattern::Any, name(host)].contains(&rule.host)
            });
            let never = leads_to(address, &LINK_LOCAL) || forms_of_link_local(address);
            let not_public = leads_to(address, &LOOPBACK) || leads_to(address, &PRIVATE);
            let expected = !never && (marked || !not_public);
            prop_assert_eq!(policy.check_at(host, (address, 80).into()).is_ok(), expected, "{} {}", host, address);
        }
    }
}

/// Whether an address is one of the forms of an IPv4 address that no name may lead to.
fn forms_of_link_local(address: IpAddr) -> bool {
    let IpAddr::V6(v6) = address else { return false };
    let o = v6.octets();
    let candidates = [
        [o[12], o[13], o[14], o[15]],
        [!o[12], !o[13], !o[14], !o[15]],
        [o[6], o[7], o[9], o[10]],
        [o[7], o[9], o[10], o[11]],
        [o[9], o[10], o[11], o[12]],
    ];
    let networks: [(&str, &[usize]); 4] =
        [("::ffff:0:0:0/96", &[0]), ("::/96", &[0]), ("2001::/32", &[1]), ("64:ff9b:1::/48", &[0, 2, 3, 4])];
    networks.iter().any(|(network, which)| {
        is_in(address, &[network])
            && which.iter().any(|index| is_in(IpAddr::V4(Ipv4Addr::from(candidates[*index])), &LINK_LOCAL))
    })
}
