//! What the trace of a request says of it.

use std::sync::Arc;

use http::Request;
use http::uri::{Authority, Scheme};

use wasmhost_base::trace::{DecidedHere, RequestEnd, RequestTrace, SpanAttributes};
use wasmhost_sandbox::{Fault, FaultKind};

use super::exchange::{Ending, Exchange};
use super::head::target_of;
use super::respond::Failure;
use crate::development::Reason;
use crate::net::{Peer, http_name};

impl Exchange {
    /// Begins the trace of a request for an app, if requests are traced.
    pub(super) fn traced<B>(mut self, request: &Request<B>) -> Self {
        let Some(tracer) = &self.worker.tracer else { return self };
        if self.pool.id().is_some() {
            let link = self.link();
            let is_decided = link.is_decided() || request.extensions().get::<DecidedHere>().is_some();
            let counts = link.is_trusted() || is_decided;
            let trace = tracer.begin(request.headers(), counts, || Arc::from(&*self.pool.name()), self.began);
            if trace.sampled().is_some() && self.path.is_none() {
                self.path = target_of(request.uri());
            }
            self.notes.trace = Some(Arc::new(trace));
        }
        self
    }

    /// Its trace.
    pub(super) fn trace(&self) -> Option<&Arc<RequestTrace>> {
        self.notes.trace.as_ref()
    }

    /// Says to the guest, in the head of the request, in which trace it runs.
    pub(super) fn tell_trace(&self, parts: &mut http::request::Parts, scheme: &Scheme, authority: &Authority) {
        if let Some(trace) = self.trace() {
            let is_sampled = trace.sampled().is_some();
            if is_sampled {
                trace.note("url.scheme", scheme.as_str());
                trace.note("server.address", authority.host());
            }
            trace.tell_guest(&mut parts.headers);
            // For its outgoing requests.
            if is_sampled || self.pool.app().calls_others() {
                parts.extensions.insert(Arc::clone(trace));
            }
        }
    }

    /// It ends with this fault. (A body that is not valid, or too large, is its client's.)
    pub(super) fn trace_fault(&self, fault: &Fault) {
        let is_of_the_host = !matches!(fault.kind, FaultKind::BadBody | FaultKind::BodyTooLarge);
        if let Some(trace) = self.trace().filter(|_| is_of_the_host) {
            trace.fails(fault.kind.name(), &fault.detail);
        }
    }

    /// The host answers in the guest's place. (What the client did wrong is no error of the server.)
    pub(super) fn trace_failure(&self, failure: Failure, reason: &Reason<'_>) {
        let Some(trace) = self.trace().filter(|_| failure.status().is_server_error()) else { return };
        let kind = match failure {
            Failure::Fault(kind) => kind.name(),
            Failure::GuestError => "error-code",
            Failure::NoCapacity(_) => "no-capacity",
            Failure::Unavailable(_) => "unavailable",
            _ => "refused",
        };
        match reason {
            Reason::Fault(fault) => trace.fails(kind, &fault.detail),
            Reason::Text(text) => trace.fails(kind, text),
            Reason::Thrown(thrown) => trace.fails(kind, &thrown.what),
            Reason::Status => trace.fails(kind, ""),
        }
    }

    /// It has ended.
    pub(super) fn end_trace(&self, ending: Ending) {
        let Some(trace) = self.trace().filter(|trace| trace.sampled().is_some()) else { return };
        let mut attributes: SpanAttributes = Vec::with_capacity(8);
        if let Some(path) = self.path() {
            attributes.push(("url.path".into(), path.path().into()));
        }
        let protocol = http_name(self.protocol);
        attributes.push(("network.protocol.version".into(), protocol.strip_prefix("HTTP/").unwrap_or(protocol).into()));
        if let Peer::Tcp(address) = self.link().client() {
            attributes.push(("client.address".into(), (&*address.ip().to_string()).into()));
        }
        let status = self.status.get();
        if status > 0 {
            attributes.push(("http.response.status_code".into(), u64::from(status).into()));
        }
        match ending {
            Ending::Broken(kind) if ending.is_of_the_host() => trace.fails(kind.name(), "the response was broken off"),
            _ if status >= 500 => trace.fails(&status.to_string(), "the guest answered with it"),
            _ => {}
        }
        attributes.push(("wasmhost.ending".into(), ending.name().into()));
        attributes.push(("wasmhost.worker".into(), u64::from(self.worker.id.0).into()));
        attributes.push(("wasmhost.request".into(), self.number.into()));
        if self.revision.get() > 0 {
            attributes.push(("wasmhost.revision".into(), self.revision.get().into()));
        }
        trace.end(RequestEnd { attributes, method: self.method().clone(), cpu: self.cpu() });
    }
}
