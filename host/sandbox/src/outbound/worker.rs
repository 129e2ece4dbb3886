//! What the outgoing requests of one app on a worker share: which destinations they may reach, the certificates that they
//! trust, the look-ups of names, the connections that are kept, and the count of requests.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use tokio_rustls::rustls::ClientConfig;
use wasmtime_wasi_http::Error;

use rustix::net::{AddressFamily, SocketType};
use wasmhost_base::line_budget::LineBudget;
use wasmhost_base::quota::Account;
use wasmhost_config::{App, OutgoingLimits};

use super::connect;
use super::kept::KeptConnections;
use super::names::{LookUps, Names};
use super::places::{AtPlace, Places};
use super::policy::{AskedRequest, Policy, PolicyRefusal, RuleGrant};
use super::reach::{Reach, reach};
use super::services::{ServiceCall, Services};
use super::target::{Destination, UpstreamPlace};
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
    places: Places,
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
            look_ups: LookUps::of(bounds.account(SharedBound::NameLookUps)),
            kept: KeptConnections::of(bounds.account(SharedBound::KeptConnections)),
            places: Places::new(app.limits.outgoing.host_max),
            bounds,
            names: OnceLock::new(),
            policy: OnceLock::new(),
            tls: OnceLock::new(),
            refusals: LineBudget::of(REFUSALS_LOGGED_PER_SECOND),
            app,
        }
    }

    /// The name of the app.
    pub(super) fn app(&self) -> &str {
        &self.app.name
    }

    /// What it shares with other apps.
    pub(super) fn bounds(&self) -> &Arc<AppBounds> {
        &self.bounds
    }

    /// The count of its requests.
    pub(super) fn requests(&self) -> &Arc<Account> {
        self.bounds.account(SharedBound::OutgoingRequests)
    }

    /// The connections that its requests have left open.
    pub(super) fn kept(&self) -> &KeptConnections {
        &self.kept
    }

    /// What its requests to one place share.
    pub(super) fn at(&self, place: &UpstreamPlace) -> AtPlace {
        self.places.at(place)
    }

    /// The bounds of its requests.
    pub(super) fn limits(&self) -> &OutgoingLimits {
        &self.app.limits.outgoing
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

    /// The rules that allow a request, before its name is looked up.
    ///
    /// # Errors
    /// `HTTP-request-denied`, which the log explains.
    pub(super) fn grant(&self, asked: &AskedRequest<'_>, whose: (u16, u64)) -> Result<RuleGrant, Error> {
        self.policy().grant(asked).map_err(|refusal| self.refuse(&refusal, asked, whose))
    }

    /// The addresses of the destination that its grant allows, at least one. They are the ones to connect to: to look the name
    /// up once more could give others.
    ///
    /// # Errors
    /// `DNS-error`; `destination-IP-prohibited`, which the log explains; `connection-limit-reached`.
    pub(super) async fn allowed_addresses(
        &self,
        destination: &Destination,
        grant: &RuleGrant,
        method: &http::Method,
        whose: (u16, u64),
    ) -> Result<Vec<SocketAddr>, Error> {
        let target = &destination.target;
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
            let is_own = reach(address.ip()) == Reach::Public && is_own(address)?;
            match self.policy().check_address(grant, &target.host, address.ip(), is_own) {
                Ok(()) => allowed.push(address),
                Err(reason) => refusal = Some(reason),
            }
        }
        match refusal {
            Some(refusal) if allowed.is_empty() => Err(self.refuse(&refusal, &destination.asked(method), whose)),
            _ => Ok(allowed),
        }
    }

    /// The app that it calls by this name.
    pub(super) fn service(&self, name: &str, whose: (u16, u64)) -> Result<&Arc<str>, Error> {
        let found = self.called.iter().find(|(known, _)| known == name).map(|(_, app)| app);
        found.ok_or_else(|| {
            self.tell("services", whose, || {
                format!(
                    "a call of the service `{name}` was refused: the app has none of this name; write `services = [\"{name}\"]` (or `[\"{name}=APP\"]`) to allow it"
                )
            });
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
        self.tell("services", whose, || {
            format!(
                "a call of the service `{name}` was refused: calls of apps by apps are nested {SERVICE_DEPTH_MAX} deep at most; do they call each other in a circle?"
            )
        });
        Error::LoopDetected
    }

    /// None of the addresses could be reached.
    pub(super) fn unreachable(&self, destination: &Destination) {
        self.look_ups.forget(&destination.target.host);
    }

    /// Logs a refusal, with the flag that would allow the request. Returns the error for the guest.
    fn refuse(&self, refusal: &PolicyRefusal, asked: &AskedRequest<'_>, whose: (u16, u64)) -> Error {
        self.tell("--allow-host", whose, || refusal.explain(asked));
        match refusal {
            PolicyRefusal::Host | PolicyRefusal::Beyond { .. } => Error::HttpRequestDenied,
            PolicyRefusal::Private(_) | PolicyRefusal::LinkLocal(_) => Error::DestinationIpProhibited,
        }
    }

    /// Logs why a request was refused, and which flag would allow it.
    pub(super) fn tell(&self, limit: &str, (worker, request): (u16, u64), text: impl FnOnce() -> String) {
        let (admitted, left_out) = self.refusals.admit();
        if left_out > 0 {
            tracing::warn!(app = self.app(), worker, lines = left_out, "refusals of outgoing requests were left out");
        }
        if admitted {
            let text = text();
            tracing::warn!(app = self.app(), worker, request, limit, "{text}");
        }
    }
}

/// Whether an address is one of this machine: the system would send to it from itself. Nothing is sent. An address that the
/// system has no way to is nobody's.
///
/// # Errors
/// When the system has no descriptor left to ask with: nobody knows then.
fn is_own(address: SocketAddr) -> Result<bool, Error> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = match rustix::net::socket(family, SocketType::DGRAM, None) {
        Ok(socket) => socket,
        // The system speaks no such protocol.
        Err(rustix::io::Errno::AFNOSUPPORT) => return Ok(false),
        Err(error) => {
            tracing::debug!(%error, "whether an address is the host's could not be asked");
            return Err(Error::ConnectionLimitReached);
        }
    };
    let local = rustix::net::connect(&socket, &address).and_then(|()| rustix::net::getsockname(&socket));
    Ok(local.and_then(SocketAddr::try_from).is_ok_and(|local| local.ip() == address.ip()))
}
