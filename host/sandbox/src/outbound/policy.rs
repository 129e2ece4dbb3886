//! Which destinations a guest may reach. Pure: names and addresses in, a decision out.
//!
//! Whoever runs a domain decides where its names lead. So a rule with a name, or `*`, reaches public addresses only;
//! loopback and private addresses need an explicit grant. No grant of a name reaches link-local addresses or the
//! metadata services of clouds, which hand out credentials: they have to be written as addresses.

use std::net::{IpAddr, SocketAddr};

use wasmhost_config::{HostPattern, HostRule};

use super::reach::{Reach, canonical, is_never_by_name, reach};

/// The rules of `--allow-host`.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<HostRule>,
}

/// Why a destination is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PolicyRefusal {
    /// No rule allows the host and port.
    Host,
    /// The host is allowed, but this address of it is loopback or private and no rule grants it.
    Private(IpAddr),
    /// The host is allowed, but this address of it is link-local or a cloud's metadata service.
    LinkLocal(IpAddr),
}

impl PolicyRefusal {
    /// What happened to a request for `host` and `port`, and the flag that would allow it; for the log.
    pub(super) fn explain(&self, host: &str, port: u16) -> String {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let at = format!("{}:{port}", bracketed(host));
        let begin = format!("outgoing request to {at} refused");
        match self {
            Self::Host => format!("{begin}; allow it with --allow-host {at}"),
            Self::Private(address) if host.parse::<IpAddr>().is_ok() => {
                format!("{begin}: {address} is a loopback or private address; allow it with --allow-host {at}")
            }
            Self::Private(address) => {
                format!("{begin}: {address} is a loopback or private address; allow it with --allow-host {at}:private")
            }
            Self::LinkLocal(address) => format!(
                "{begin}: {address} is a link-local address or a cloud's metadata service, which no name may lead to; \
                 a request to the address itself is allowed with --allow-host {}:{port}",
                bracketed(&address.to_string())
            ),
        }
    }
}

impl Policy {
    pub(super) fn new(rules: &[HostRule]) -> Self {
        Self { rules: rules.to_vec() }
    }

    /// Before the name is resolved: whether any rule can allow this host. A host written as an address is checked as such.
    ///
    /// # Errors
    /// When no rule allows it.
    pub(super) fn check_host(&self, host: &str, port: u16) -> Result<(), PolicyRefusal> {
        let address = host.parse::<IpAddr>().ok();
        let any = self.matching(host, port).next().is_some();
        let by_address = address.is_some_and(|address| self.grants_address(address, port));
        if any || by_address { Ok(()) } else { Err(PolicyRefusal::Host) }
    }

    /// After the name is resolved: whether this address of the host may be connected to.
    ///
    /// # Errors
    /// When the address is not public and not granted.
    pub(super) fn check_address(&self, host: &str, address: SocketAddr) -> Result<(), PolicyRefusal> {
        let (ip, port) = (address.ip(), address.port());
        let reach = reach(ip);
        if is_never_by_name(ip) {
            let is_written_as_address = host.parse::<IpAddr>().is_ok();
            let granted = is_written_as_address && self.grants_link_local(ip, port);
            return if granted { Ok(()) } else { Err(PolicyRefusal::LinkLocal(ip)) };
        }
        let by_name = || {
            self.matching(host, port)
                .any(|rule| rule.private || (reach == Reach::Loopback && names_this_machine(&rule.host)))
        };
        if reach == Reach::Public || self.grants_address(ip, port) || by_name() {
            Ok(())
        } else {
            Err(PolicyRefusal::Private(ip))
        }
    }

    /// The rules with a name, or `*`, that allow this host.
    fn matching<'a>(&'a self, host: &'a str, port: u16) -> impl Iterator<Item = &'a HostRule> {
        let host = host.trim_end_matches('.');
        self.rules.iter().filter(move |rule| {
            let host_matches = match &rule.host {
                HostPattern::Any => true,
                HostPattern::Name(name) => name.trim_end_matches('.') == host,
                HostPattern::Address(_) | HostPattern::Network(_) => false,
            };
            host_matches && allows_port(rule, port)
        })
    }

    /// Whether a rule with an address or a network grants this address.
    fn grants_address(&self, address: IpAddr, port: u16) -> bool {
        let address = canonical(address);
        self.rules.iter().any(|rule| {
            let matches = match rule.host {
                HostPattern::Address(allowed) => canonical(allowed) == address,
                HostPattern::Network(network) => network.contains(&address),
                HostPattern::Any | HostPattern::Name(_) => false,
            };
            matches && allows_port(rule, port)
        })
    }

    /// Whether a rule grants this link-local address. A network has to be link-local as a whole: one such as `0.0.0.0/0`
    /// was not written with metadata services in mind.
    fn grants_link_local(&self, address: IpAddr, port: u16) -> bool {
        let address = canonical(address);
        self.rules.iter().any(|rule| {
            let matches = match rule.host {
                HostPattern::Address(allowed) => canonical(allowed) == address,
                HostPattern::Network(network) => {
                    network.contains(&address)
                        && is_never_by_name(network.network())
                        && is_never_by_name(network.broadcast())
                }
                HostPattern::Any | HostPattern::Name(_) => false,
            };
            matches && allows_port(rule, port)
        })
    }
}

fn allows_port(rule: &HostRule, port: u16) -> bool {
    rule.port.is_none_or(|allowed| allowed == port)
}

/// `localhost` and names below it are nobody else's (RFC 6761, section 6.3): who allows one means this machine.
fn names_this_machine(host: &HostPattern) -> bool {
    matches!(host, HostPattern::Name(name) if {
        let name = name.trim_end_matches('.');
        name == "localhost" || name.ends_with(".localhost")
    })
}

#[cfg(test)]
mod tests;
