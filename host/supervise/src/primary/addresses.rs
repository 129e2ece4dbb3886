//! PURE: what becomes of addresses on which the host listens and which the file of settings no longer names. While a new one
//! cannot be had, they go on; only those go whose sockets are in the way of the new one.

use std::net::{IpAddr, SocketAddr};

use wasmhost_config::Listen;

/// What becomes of the addresses that the file no longer names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct UnnamedAddresses {
    /// They are closed.
    pub(super) closed: Vec<Listen>,
    /// They go on until the host listens on all addresses of the file.
    pub(super) kept: Vec<Listen>,
    /// New addresses that can be had once `closed` are: to be tried again then.
    pub(super) again: Vec<Listen>,
}

impl UnnamedAddresses {
    /// `listening`: all on which the host listens; `named`: those of the file; `failed`: those of them that cannot be had now;
    /// `may_try_again`: whether they may be tried again by themselves.
    pub(super) fn decide(listening: &[Listen], named: &[Listen], failed: &[Listen], may_try_again: bool) -> Self {
        let unnamed = listening.iter().filter(|listen| !named.contains(listen)).cloned();
        let makes_room = |old: &Listen| may_try_again && failed.iter().any(|new| is_in_the_way(old, new));
        let (closed, kept): (Vec<_>, Vec<_>) = unnamed.partition(|old| failed.is_empty() || makes_room(old));
        let again = failed.iter().filter(|new| closed.iter().any(|old| is_in_the_way(old, new))).cloned().collect();
        Self { closed, kept, again }
    }
}

/// Whether a socket that listens on `old` keeps another from `new`: they have one port, and their hosts overlap. (`[::]` is
/// all hosts, of IPv4, too.)
fn is_in_the_way(old: &Listen, new: &Listen) -> bool {
    let (Listen::Tcp(old), Listen::Tcp(new)) = (old, new) else { return false };
    let is_all = |address: &SocketAddr| address.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    let (one, other) = (old.ip().to_canonical(), new.ip().to_canonical());
    let is_of_all = |one: IpAddr, other: IpAddr| one.is_unspecified() && one.is_ipv4() == other.is_ipv4();
    old.port() != 0
        && old.port() == new.port()
        && (one == other || is_all(old) || is_all(new) || is_of_all(one, other) || is_of_all(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tested = Result<(), std::net::AddrParseError>;

    fn tcp(addresses: &str) -> Result<Vec<Listen>, std::net::AddrParseError> {
        addresses.split_whitespace().map(|address| Ok(Listen::Tcp(address.parse()?))).collect()
    }

    #[test]
    fn old_addresses_go_on_until_all_new_ones_are_bound_unless_they_are_in_the_way() -> Tested {
        // Listening, named, failed, whether they may be tried again; closed, kept, again.
        let rows = [
            // All is bound.
            ("1.1.1.1:1 2.2.2.2:2", "2.2.2.2:2", "", true, "1.1.1.1:1", "", ""),
            ("1.1.1.1:1", "1.1.1.1:1", "", true, "", "", ""),
            ("1.1.1.1:1 3.3.3.3:3", "3.3.3.3:3", "", false, "1.1.1.1:1", "", ""),
            // Another socket has the new one.
            ("1.1.1.1:1", "1.1.1.1:2", "1.1.1.1:2", true, "", "1.1.1.1:1", ""),
            ("1.1.1.1:1", "1.1.1.2:1", "1.1.1.2:1", true, "", "1.1.1.1:1", ""),
            // Their own socket is in the way.
            ("1.1.1.1:1 2.2.2.2:2", "0.0.0.0:1", "0.0.0.0:1", true, "1.1.1.1:1", "2.2.2.2:2", "0.0.0.0:1"),
            ("0.0.0.0:1", "1.1.1.1:1 9.9.9.9:9", "1.1.1.1:1 9.9.9.9:9", true, "0.0.0.0:1", "", "1.1.1.1:1"),
            // It was tried again.
            ("1.1.1.1:1 2.2.2.2:2", "0.0.0.0:1", "0.0.0.0:1", false, "", "1.1.1.1:1 2.2.2.2:2", ""),
            // One that the file still names is in the way.
            ("1.1.1.1:1", "1.1.1.1:1 0.0.0.0:1", "0.0.0.0:1", true, "", "", ""),
        ];
        for (listening, names, failed, may_try_again, closed, kept, again) in rows {
            let found = UnnamedAddresses::decide(&tcp(listening)?, &tcp(names)?, &tcp(failed)?, may_try_again);
            let expected = UnnamedAddresses { closed: tcp(closed)?, kept: tcp(kept)?, again: tcp(again)? };
            assert_eq!(found, expected, "{listening} -> {names}");
        }
        Ok(())
    }

    #[test]
    fn sockets_are_in_the_way_of_those_with_their_port_whose_hosts_overlap() -> Tested {
        let rows = [
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("[::1]:1", "[::]:1", true),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1:1", true),
            ("[::1]:1", "0.0.0.0:1", false),
            ("127.0.0.1:1", "0.0.0.0:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:0", "0.0.0.0:0", false),
        ];
        for (one, other, expected) in rows {
            let all = tcp(&format!("{one} {other}"))?;
            assert_eq!(is_in_the_way(&all[0], &all[1]), expected, "{one} {other}");
            assert_eq!(is_in_the_way(&all[1], &all[0]), expected, "{other} {one}");
        }
        assert!(!is_in_the_way(&Listen::Unix("a".into()), &Listen::Unix("a".into())));
        Ok(())
    }
}
