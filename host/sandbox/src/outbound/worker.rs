//! What all outgoing requests of one worker share: which destinations they may reach, the look-ups of names, the certificates
//! that they trust, and the count of them.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use wasmtime_wasi_http::Error;

use wasmhost_config::Grants;

use super::connect;
use super::names::Names;
use super::policy::{Policy, Refusal};
use super::share::WorkerRequests;
use super::target::Target;
use crate::line_budget::LineBudget;

/// Refusals of a worker's outgoing requests that are logged in one second.
const REFUSALS_LOGGED_PER_SECOND: u64 = 10;

/// What all outgoing requests of one worker share.
pub(crate) struct Outbound {
    policy: Policy,
    pub(super) tls: Arc<ClientConfig>,
    /// None if the system could not provide it.
    names: Option<Names>,
    pub(super) requests: Arc<WorkerRequests>,
    refusals: LineBudget,
}

impl Outbound {
    pub(crate) fn new(grants: &Grants) -> Self {
        let names = Names::new();
        if let Err(error) = &names {
            tracing::error!(%error, "guests of this worker cannot resolve names: no runtime for look-ups");
        }
        Self {
            policy: Policy::new(&grants.allow_hosts),
            tls: connect::tls_config(&grants.ca_pem),
            names: names.ok(),
            requests: Arc::default(),
            refusals: LineBudget::of(REFUSALS_LOGGED_PER_SECOND),
        }
    }

    /// The addresses of the target that the policy allows, at least one.
    pub(super) async fn allowed_addresses(&self, target: &Target, whose: (u16, u64)) -> Result<Vec<SocketAddr>, Error> {
        let refused = |refusal: &Refusal| self.refuse(refusal, target, whose);
        self.policy.check_host(&target.host, target.port).map_err(|refusal| refused(&refusal))?;
        let found = match &self.names {
            Some(names) => names.addresses(&target.host).await,
            None => Err("the worker has no threads for name look-ups".into()),
        };
        let found = found.map_err(|error| {
            tracing::debug!(host = target.host, %error, "name not resolved");
            Error::DnsError { rcode: Some("name not resolved".to_owned()), info_code: None }
        })?;
        let mut allowed = Vec::with_capacity(found.len());
        let mut refusal = None;
        for address in found.iter().map(|address| SocketAddr::new(*address, target.port)) {
            match self.policy.check_address(&target.host, address) {
                Ok(()) => allowed.push(address),
                Err(reason) => refusal = Some(reason),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(refused(&refusal)),
            _ => Ok(allowed),
        }
    }

    /// Logs a refusal, with the flag that would allow the request. Returns the error for the guest.
    fn refuse(&self, refusal: &Refusal, target: &Target, (worker, request): (u16, u64)) -> Error {
        let (admitted, left_out) = self.refusals.admit();
        if left_out > 0 {
            tracing::warn!(worker, lines = left_out, "refusals of outgoing requests were left out");
        }
        if admitted {
            let text = refusal.explain(&target.host, target.port);
            tracing::warn!(worker, request, limit = "--allow-host", "{text}");
        }
        match refusal {
            Refusal::Host => Error::HttpRequestDenied,
            Refusal::Private(_) | Refusal::LinkLocal(_) => Error::DestinationIpProhibited,
        }
    }
}
