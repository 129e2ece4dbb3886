//! How many connections each client has, for `--max-connections-per-client`. A client is an IPv4 address or an IPv6
//! network of /64, which is what one subscriber gets. Only clients that have a connection are kept, so that there are
//! never more entries than connections.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;

/// Who a connection is counted for.
pub type Client = IpAddr;

/// The connections of all clients, as whoever accepts counts them. Locked when a connection begins and when it ends.
#[derive(Debug)]
pub struct Clients {
    /// Most connections of one.
    max: usize,
    /// Networks of proxies, which bring the connections of many.
    exempt: Vec<IpNet>,
    open: Mutex<HashMap<Client, usize>>,
}

impl Clients {
    /// Of `max` connections each, but for those of the networks `exempt`.
    pub fn new(max: usize, exempt: &[IpNet]) -> Self {
        Self { max, exempt: exempt.to_vec(), open: Mutex::default() }
    }

    /// Who a connection from this address is counted for; nobody, when it is of a network that is exempt.
    pub fn client_at(&self, address: SocketAddr) -> Option<Client> {
        client_at(address, &self.exempt)
    }

    /// Counts one more connection of `client`, if it may have one.
    pub fn admit(&self, client: Client) -> bool {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(client).or_default();
        let is_admitted = *count < self.max;
        if is_admitted {
            *count += 1;
        }
        is_admitted
    }

    /// Connections of `client` have ended.
    pub fn release(&self, client: Client, ended: usize) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&client) {
            *count = count.saturating_sub(ended);
            if *count == 0 {
                open.remove(&client);
            }
        }
    }
}

/// Who a connection from this address is counted for; nobody, when it is of one of the networks `exempt`.
pub fn client_at(address: SocketAddr, exempt: &[IpNet]) -> Option<Client> {
    let address = address.ip().to_canonical();
    if exempt.iter().any(|network| network.contains(&address)) {
        return None;
    }
    Some(match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(text.parse().ok()?, 1))
    }

    #[test]
    fn a_client_has_so_many_connections_and_is_forgotten_with_the_last() {
        let clients = Clients::new(2, &[]);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        assert!(clients.admit(one) && clients.admit(one) && clients.admit(other));
        assert!(!clients.admit(one));
        clients.release(one, 1);
        assert!(clients.admit(one));
        clients.release(one, 2);
        clients.release(other, 1);
        clients.release(other, 1);
        assert!(clients.open.lock().is_ok_and(|open| open.is_empty()));
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits_but_no_proxy() {
        let exempt: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().filter_map(|text| text.parse().ok()).collect();
        let clients = Clients::new(1, &exempt);
        let client =
            |text: &str| at(text).and_then(|address| clients.client_at(address)).map(|client| client.to_string());
        assert_eq!(client("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(client("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(client("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
        assert_eq!(client("10.1.2.3"), None);
        assert_eq!(client("::ffff:10.1.2.3"), None);
        assert_eq!(client("fd00::1"), None);
    }
}
