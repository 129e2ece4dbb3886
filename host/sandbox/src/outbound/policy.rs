//! Which requests a guest may send, and to which addresses. Pure: what is asked and what was resolved in, a decision out.
//!
//! Whoever runs a domain decides where its names lead. So a rule with a name, or `*`, reaches public addresses only;
//! loopback and private addresses need an explicit grant. No grant of a name reaches link-local addresses or the
//! metadata services of clouds, which hand out credentials: they have to be written as addresses.

use std::net::IpAddr;

use wasmhost_config::{HostPattern, HostRule, UpstreamScheme, covers, plain_path};

use super::reach::{Reach, canonical, is_never_by_name, reach};

/// The rules of `--allow-host`.
#[derive(Debug)]
pub(super) struct Policy {
    rules: Vec<HostRule>,
}

/// What a guest asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedRequest<'a> {
    pub(super) scheme: UpstreamScheme,
    /// Lower case; an IPv6 address without brackets.
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) method: &'a str,
    /// As it is sent, without its query.
    pub(super) path: &'a str,
}

/// The rules that apply to a request, by their places: those that allow its host, and those with addresses, which allow it
/// where it leads there. Requests with the same grant may share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct RuleGrant(Box<[usize]>);

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PolicyRefusal {
    /// No rule allows the host and port.
    Host,
    /// Rules allow the host and port, but none this scheme, method and path.
    Beyond {
        /// Readers take the path for the same one. No rule with a path covers one that is not.
        is_plain: bool,
    },
    /// The host is allowed, but this address of it is private, or of this machine, and no rule grants it.
    Private(IpAddr),
    /// The host is allowed, but this address of it is link-local or a cloud's metadata service.
    LinkLocal(IpAddr),
}

impl PolicyRefusal {
    /// What happened to the request, and the flag that would allow it; for the log.
    pub(super) fn explain(&self, asked: &AskedRequest<'_>) -> String {
        let AskedRequest { scheme, host, port, method, path } = asked;
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let at = format!("{}:{port}", bracketed(host));
        let begin = format!("outgoing request to {at} refused");
        match self {
            Self::Host => format!("{begin}; allow it with --allow-host {at}"),
            Self::Beyond { is_plain: true } => {
                let path = plain_path(path).unwrap_or_default();
                if !(is_shown(&path) && is_shown(method)) {
                    return format!(
                        "{begin}: no grant of this host covers its path and method, which are too long or too odd to be shown; \
                         look at what the guest asks for"
                    );
                }
                let url = format!("{}://{at}{path}", scheme.name());
                format!(
                    "{begin}: no grant of this host covers the request; allow it with --allow-host \"{url} {method}\""
                )
            }
            Self::Beyond { is_plain: false } => format!(
                "{begin}: its path can be read in more than one way (`..`, `//`, `%2F`, `%25`), which no grant with a path \
                 covers; send a plain path, or allow all paths with --allow-host {at}"
            ),
            Self::Private(address) => {
                let advice = if host.parse::<IpAddr>().is_ok() { at } else { format!("{at}:private") };
                format!(
                    "{begin}: {address} is a loopback or private address, or one of this machine; allow it with --allow-host {advice}"
                )
            }
            Self::LinkLocal(address) => format!(
                "{begin}: {address} is a link-local address or a cloud's metadata service, which no name may lead to; \
                 a request to the address itself is allowed with --allow-host {}:{port}",
                bracketed(&address.to_string())
            ),
        }
    }
}

/// Whether guests' text may stand in a command that people copy: short, and without what a shell reads otherwise.
fn is_shown(text: &str) -> bool {
    text.len() <= 200 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._~-%".contains(&byte))
}

impl Policy {
    pub(super) fn new(rules: &[HostRule]) -> Self {
        Self { rules: rules.to_vec() }
    }

    /// Before the name is resolved: the rules that can allow this request. A host written as an address is checked as such.
    ///
    /// # Errors
    /// When no rule allows it.
    pub(super) fn grant(&self, asked: &AskedRequest<'_>) -> Result<RuleGrant, PolicyRefusal> {
        let address = asked.host.parse::<IpAddr>().ok();
        let allows = |rule: &HostRule| names(rule, asked.host) || address.is_some_and(|address| holds(rule, address));
        let mut plain = None;
        let mut applies = |rule: &HostRule| {
            allows_port(rule, asked.port)
                && rule.scheme.is_none_or(|scheme| scheme == asked.scheme)
                && (rule.methods.is_empty() || rule.methods.iter().any(|method| method == asked.method))
                && (rule.path.is_empty()
                    || plain
                        .get_or_insert_with(|| plain_path(asked.path))
                        .as_deref()
                        .is_some_and(|plain| covers(&rule.path, plain)))
        };
        let by_place = self.rules.iter().enumerate();
        let applying: Box<[usize]> = by_place
            .filter(|(_, rule)| (is_of_addresses(rule) || allows(rule)) && applies(rule))
            .map(|(place, _)| place)
            .collect();
        if applying.iter().any(|place| self.rules.get(*place).is_some_and(allows)) {
            return Ok(RuleGrant(applying));
        }
        let is_there = self.rules.iter().any(|rule| allows(rule) && allows_port(rule, asked.port));
        match is_there {
            true => Err(PolicyRefusal::Beyond { is_plain: plain_path(asked.path).is_some() }),
            false => Err(PolicyRefusal::Host),
        }
    }

    /// After the name is resolved: whether this address of the host may be connected to. `is_own`: it is one of this machine,
    /// though it looks public.
    ///
    /// # Errors
    /// When the address is not public and not granted.
    pub(super) fn check_address(
        &self,
        grant: &RuleGrant,
        host: &str,
        address: IpAddr,
        is_own: bool,
    ) -> Result<(), PolicyRefusal> {
        let mut rules = grant.0.iter().filter_map(|place| self.rules.get(*place));
        if is_never_by_name(address) {
            let is_written_as_address = host.parse::<IpAddr>().is_ok();
            let granted = is_written_as_address && rules.any(|rule| holds_link_local(rule, address));
            return if granted { Ok(()) } else { Err(PolicyRefusal::LinkLocal(address)) };
        }
        let reach = if is_own { Reach::Loopback } else { reach(address) };
        let may_reach = |rule: &HostRule| {
            let by_name = rule.private || (reach == Reach::Loopback && names_this_machine(&rule.host));
            holds(rule, address) || (by_name && names(rule, host))
        };
        if reach == Reach::Public || rules.any(may_reach) { Ok(()) } else { Err(PolicyRefusal::Private(address)) }
    }
}

/// Whether a rule is about addresses, by whichever name they are reached.
fn is_of_addresses(rule: &HostRule) -> bool {
    matches!(rule.host, HostPattern::Address(_) | HostPattern::Network(_))
}

/// Whether a rule with a name, or `*`, allows this host.
fn names(rule: &HostRule, host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match &rule.host {
        HostPattern::Any => true,
        HostPattern::Name(name) => name.trim_end_matches('.') == host,
        HostPattern::Below(name) => {
            let above = host.strip_suffix(name.trim_end_matches('.')).and_then(|above| above.strip_suffix('.'));
            above.is_some_and(|above| !above.is_empty())
        }
        HostPattern::Address(_) | HostPattern::Network(_) => false,
    }
}

/// Whether a rule with an address or a network grants this address.
fn holds(rule: &HostRule, address: IpAddr) -> bool {
    let address = canonical(address);
    match rule.host {
        HostPattern::Address(allowed) => canonical(allowed) == address,
        HostPattern::Network(network) => network.contains(&address),
        HostPattern::Any | HostPattern::Name(_) | HostPattern::Below(_) => false,
    }
}

/// Whether a rule grants this link-local address. A network has to be link-local as a whole: one such as `0.0.0.0/0` was not
/// written with metadata services in mind.
fn holds_link_local(rule: &HostRule, address: IpAddr) -> bool {
    let is_whole = match rule.host {
        HostPattern::Network(network) => is_never_by_name(network.network()) && is_never_by_name(network.broadcast()),
        _ => true,
    };
    is_whole && holds(rule, address)
}

fn allows_port(rule: &HostRule, port: u16) -> bool {
    rule.port.is_none_or(|allowed| allowed == port)
}

/// `localhost` and names below it are nobody else's (RFC 6761, section 6.3): who allows one means this machine.
fn names_this_machine(host: &HostPattern) -> bool {
    matches!(host, HostPattern::Name(name) | HostPattern::Below(name) if {
        let name = name.trim_end_matches('.');
        name == "localhost" || name.ends_with(".localhost")
    })
}

#[cfg(test)]
mod tests;
