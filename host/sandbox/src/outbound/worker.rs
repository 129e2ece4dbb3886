//! What the outgoing requests of one app on a worker share: which destinations they may reach, the certificates that they
//! trust, the look-ups of names, the connections that are kept, and the count of requests.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use tokio_rustls::rustls::ClientConfig;
use wasmtime_wasi_http::Error;

use wasmhost_base::line_budget::LineBudget;
use wasmhost_base::quota::Account;
use wasmhost_config::App;

use super::connect;
use super::kept::KeptConnections;
use super::names::{LookUps, Names};
use super::policy::{Policy, PolicyRefusal};
use super::services::{ServiceCall, Services};
use super::target::Target;
use crate::bounds::{AppBounds, ConnectionUse, SharedBound};
use crate::meter::SERVICE_DEPTH_MAX;

/// Refusals of a worker's outgoing requests that are logged in one second.
const REFUSALS_LOGGED_PER_SECOND: u64 = 10;

/// What all outgoing requests of an app on one worker share. What costs memory is made for the first of them: most apps send
/// none.
pub(crate) struct Outbound {
    app: Arc<App>,
    policy: OnceLock<Policy>,
    tls: OnceLock<Arc<ClientConfig>>,
    /// What it shares with other apps.
    bounds: Arc<AppBounds>,
    look_ups: LookUps,
    kept: KeptConnections,
    /// What all apps of the worker look up names with; none if the system could not provide it.
    names: OnceLock<Option<Arc<Names>>>,
    refusals: LineBudget,
    services: Arc<dyn Services>,
    /// The apps that it may call, by the names that it calls them.
    called: Vec<(String, Arc<str>)>,
}

thread_local! {
    /// Of the worker that this thread is, once an app on it has looked up a name.
    static NAMES: RefCell<Weak<Names>> = const { RefCell::new(Weak::new()) };
}

/// What the worker that this thread is looks up names with.
fn names_of_this_thread() -> Option<Arc<Names>> {
    NAMES.with_borrow_mut(|known| {
        known.upgrade().or_else(|| {
            let made = Names::new().inspect_err(|error| {
                tracing::error!(%error, "guests of this worker cannot resolve names: no runtime for look-ups");
            });
            let made = Arc::new(made.ok()?);
            *known = Arc::downgrade(&made);
            Some(made)
        })
    })
}

impl Outbound {
    pub(crate) fn new(app: Arc<App>, bounds: Arc<AppBounds>, services: Arc<dyn Services>) -> Self {
        let called = app.services.iter().map(|service| (service.name.clone(), Arc::from(&*service.app))).collect();
        Self {
            called,
            services,
            app,
            look_ups: LookUps::of(bounds.account(SharedBound::NameLookUps)),
            kept: KeptConnections::of(bounds.account(SharedBound::KeptConnections)),
            bounds,
            names: OnceLock::new(),
            policy: OnceLock::new(),
            tls: OnceLock::new(),
            refusals: LineBudget::of(REFUSALS_LOGGED_PER_SECOND),
        }
    }

    /// The name of the app.
    pub(super) fn app(&self) -> &str {
        &self.app.name
    }

    /// The count of its requests.
    pub(super) fn requests(&self) -> &Arc<Account> {
        self.bounds.account(SharedBound::OutgoingRequests)
    }

    /// The connections that its requests have left open.
    pub(super) fn kept(&self) -> &KeptConnections {
        &self.kept
    }

    /// Counts a request that has a connection.
    pub(super) fn count_request(&self, connection: ConnectionUse) {
        self.bounds.count_request(connection);
    }

    /// What TLS connections are made with.
    pub(super) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(self.tls.get_or_init(|| connect::tls_config(&self.app.grants.ca_pem)))
    }

    fn names(&self) -> Option<&Names> {
        self.names.get_or_init(names_of_this_thread).as_deref()
    }

    fn policy(&self) -> &Policy {
        self.policy.get_or_init(|| Policy::new(&self.app.grants.allow_hosts))
    }

    /// The addresses of the target that the policy allows, at least one.
    pub(super) async fn allowed_addresses(&self, target: &Target, whose: (u16, u64)) -> Result<Vec<SocketAddr>, Error> {
        let refused = |refusal: &PolicyRefusal| self.refuse(refusal, target, whose);
        self.policy().check_host(&target.host, target.port).map_err(|refusal| refused(&refusal))?;
        let found = match self.names() {
            Some(names) => self.look_ups.addresses(names, &target.host).await,
            None => Err("the worker has no threads for name look-ups".into()),
        };
        let found = found.map_err(|error| {
            tracing::debug!(host = target.host, %error, "name not resolved");
            Error::DnsError { rcode: Some("name not resolved".to_owned()), info_code: None }
        })?;
        let mut allowed = Vec::with_capacity(found.len());
        let mut refusal = None;
        for address in found.iter().map(|address| SocketAddr::new(*address, target.port)) {
            match self.policy().check_address(&target.host, address) {
                Ok(()) => allowed.push(address),
                Err(reason) => refusal = Some(reason),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(refused(&refusal)),
            _ => Ok(allowed),
        }
    }

    /// The app that it calls by this name.
    pub(super) fn service(&self, name: &str, whose: (u16, u64)) -> Result<&Arc<str>, Error> {
        let found = self.called.iter().find(|(known, _)| known == name).map(|(_, app)| app);
        found.ok_or_else(|| {
            let text = format!(
                "a call of the service `{name}` was refused: the app has none of this name; write `services = [\"{name}\"]` (or `[\"{name}=APP\"]`) to allow it"
            );
            self.tell_refused(&text, "services", whose);
            Error::HttpRequestDenied
        })
    }

    /// Has another app answer.
    pub(super) fn call(&self, call: ServiceCall) {
        self.bounds.count_request(ConnectionUse::Service);
        self.services.call(call);
    }

    /// A call of this service would be one too many behind each other.
    pub(super) fn nested_too_deep(&self, name: &str, whose: (u16, u64)) -> Error {
        let text = format!(
            "a call of the service `{name}` was refused: calls of apps by apps are nested {SERVICE_DEPTH_MAX} deep at most; do they call each other in a circle?"
        );
        self.tell_refused(&text, "services", whose);
        Error::LoopDetected
    }

    fn tell_refused(&self, text: &str, limit: &'static str, (worker, request): (u16, u64)) {
        let (admitted, left_out) = self.refusals.admit();
        if left_out > 0 {
            tracing::warn!(app = self.app(), worker, lines = left_out, "refusals of outgoing requests were left out");
        }
        if admitted {
            tracing::warn!(app = self.app(), worker, request, limit, "{text}");
        }
    }

    /// Logs a refusal, with the flag that would allow the request. Returns the error for the guest.
    fn refuse(&self, refusal: &PolicyRefusal, target: &Target, whose: (u16, u64)) -> Error {
        self.tell_refused(&refusal.explain(&target.host, target.port), "--allow-host", whose);
        match refusal {
            PolicyRefusal::Host => Error::HttpRequestDenied,
            PolicyRefusal::Private(_) | PolicyRefusal::LinkLocal(_) => Error::DestinationIpProhibited,
        }
    }
}
