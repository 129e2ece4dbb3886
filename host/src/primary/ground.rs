//! What the primary needs of the machine before it starts workers: an address, and to know how many connections the
//! process's descriptors bear.

use std::net::TcpListener;

use http::uri::Authority;

use crate::balancer::Balance;
use crate::clients::Clients;
use crate::config::{Config, Listen};
use crate::listener::{Address, BindError, Listener, bind_for_each};
use crate::worker::inbox::PerClient;

/// Descriptors that are not for clients: the log, the cache, event loops, outgoing connections in small number.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Descriptors that each worker needs for itself.
const DESCRIPTORS_A_WORKER: u64 = 16;

/// Binds what the configuration says: one listener, or with `--balance kernel` one for each worker.
pub(super) fn bind(config: &Config) -> Result<(Option<Listener>, Vec<TcpListener>, Address), BindError> {
    match (&config.listen, config.balance) {
        (Listen::Tcp(address), Balance::Kernel) => {
            let (listeners, address) = bind_for_each(*address, config.workers)?;
            Ok((None, listeners, address))
        }
        (listen, _) => {
            let listener = Listener::bind(listen)?;
            let address = listener.address().clone();
            Ok((Some(listener), Vec::new(), address))
        }
    }
}

pub(super) fn authority(address: &Address) -> Authority {
    let parsed = match address {
        Address::Tcp(address) => address.to_string().parse().ok(),
        Address::Unix(_) => None,
    };
    parsed.unwrap_or_else(|| Authority::from_static("localhost"))
}

/// Raises the soft limit on descriptors to the hard one, and tells how many connections they bear.
pub(super) fn max_connections(config: &Config) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit on descriptors stays as it is");
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let reserved = DESCRIPTORS_RESERVED + DESCRIPTORS_A_WORKER * u64::from(config.workers);
    let by_descriptors =
        usize::try_from(descriptors.saturating_sub(reserved).max(descriptors / 4).max(1)).unwrap_or(usize::MAX);
    match config.limits.max_connections {
        Some(asked) if asked > by_descriptors => {
            tracing::warn!(
                asked,
                descriptors,
                "--max-connections is lowered to {by_descriptors}, which the descriptors bear; raise their limit (ulimit -n, LimitNOFILE=)"
            );
            by_descriptors
        }
        Some(asked) => asked,
        None => by_descriptors,
    }
}

/// What is done about the connections of one client, where this process accepts.
pub(super) fn per_client(config: &Config) -> PerClient {
    match config.limits.max_connections_per_client {
        Some(max) => PerClient::Counted(Clients::new(max, &config.trust_proxy)),
        None => PerClient::Unbounded,
    }
}
