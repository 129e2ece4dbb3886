//! One request and its response: what is known of them, and their line in the access log.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{Method, Request, Version, header};
use http_body::Body;

use wasmhost_base::log::access;
use wasmhost_base::quota::Account;
use wasmhost_config::Limits;
use wasmhost_sandbox::{Fault, FaultKind, WasiVersion};

use super::deadline::Deadline;
use super::head::target_of;
use super::link::{Carrier, Link};
use super::respond::Failure;
use super::shared::WorkerShared;
use super::upload::{Flaw, Upload};
use crate::buffers::Buffers;
use crate::development::Audience;
use crate::metrics::Refused;
use crate::net::{TlsVersion, http_name};
use crate::pool::{Pool, TakeNotes};

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Whole,
    Broken(FaultKind),
    ClientLeft,
    /// It sent or read a body too slowly.
    ClientSlow,
    /// The host stopped, and could wait no longer.
    DrainDeadline,
}

impl Ending {
    /// Whether the guest or the host failed: a request's body that is not valid, or too large, is its client's.
    pub(super) fn is_of_the_host(self) -> bool {
        matches!(self, Self::Broken(kind) if !matches!(kind, FaultKind::BadBody | FaultKind::BodyTooLarge))
    }

    /// As the access log and traces name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Broken(kind) => kind.name(),
            Self::ClientLeft => "client-left",
            Self::ClientSlow => "client-slow",
            Self::DrainDeadline => "drain-deadline",
        }
    }
}

/// The record of one request.
pub(super) struct Exchange {
    pub(super) number: u64,
    pub(super) worker: Rc<WorkerShared>,
    /// Of the app that it is for.
    pub(super) pool: Rc<Pool>,
    pub(super) limits: Limits,
    pub(super) buffers: Rc<Buffers>,
    carrier: Rc<dyn Carrier>,
    pub(super) began: Instant,
    pub(super) notes: TakeNotes,
    method: Method,
    /// The client speaks HTTP/1.0: a body without a length ends with the connection.
    pub(super) is_old: bool,
    /// It came on a stream of HTTP/2.
    pub(super) is_on_stream: bool,
    /// What the client speaks.
    pub(super) protocol: Version,
    /// Kept for the access log and sampled traces only.
    pub(super) path: Option<PathAndQuery>,
    pub(super) upload: Arc<Upload>,
    /// Of the guest that answers, once there is one.
    pub(super) version: Cell<Option<WasiVersion>>,
    /// The revision that answers it, or had no instance for it; 0: none is counted with it.
    pub(super) revision: Cell<u64>,
    pub(super) status: Cell<u16>,
    bytes: Cell<u64>,
    cpu: Cell<Duration>,
    /// Why the host answers in the guest's place, if it does.
    pub(super) failure: Cell<Option<Failure>>,
    /// It is counted and logged here.
    is_counted: Cell<bool>,
    finished: Cell<bool>,
    /// Since when the guest has given no more of its body, and for when the alarm is set.
    pub(super) silence: Cell<Option<(Instant, Deadline)>>,
    /// As much of the response waits for the client as may.
    pub(super) full: Cell<bool>,
    /// It has an instance of its own, or a place in one.
    pub(super) has_lease: Cell<bool>,
    /// The pool knows that this request's instance may wait for its client.
    pub(super) held: Cell<bool>,
    /// Its instance serves others at once.
    pub(super) shares: Cell<bool>,
    /// Its call goes on behind its response.
    pub(super) lingers: Cell<bool>,
    /// Who asks; in development only, where it is told reasons.
    pub(super) audience: Option<Audience>,
}

impl Exchange {
    pub(super) fn new(carrier: Rc<dyn Carrier>, request: &Request<impl Body>, pool: Rc<Pool>) -> Self {
        let exchange = Self::uncounted(carrier, request, pool);
        exchange.count();
        exchange
    }

    /// Of a request that another worker counts and logs, unless it fails here.
    pub(super) fn uncounted(carrier: Rc<dyn Carrier>, request: &Request<impl Body>, pool: Rc<Pool>) -> Self {
        let worker = Rc::clone(&carrier.link().worker);
        let began = Instant::now();
        let limits = pool.limits();
        carrier.link().app.set(pool.id());
        carrier.link().idle.set(limits.body_idle_timeout);
        let protocol = carrier.link().http().unwrap_or(request.version());
        Self {
            limits,
            buffers: pool.buffers(),
            pool,
            number: worker.next_request(),
            carrier,
            began,
            notes: TakeNotes::default(),
            method: request.method().clone(),
            is_old: request.version() < Version::HTTP_11,
            is_on_stream: request.version() == Version::HTTP_2,
            protocol,
            path: worker.config.access_log.then(|| target_of(request.uri())).flatten(),
            upload: Arc::new(Upload::new(began, request.body().is_end_stream(), worker.config.limits.body_rate_min)),
            version: Cell::new(None),
            revision: Cell::new(0),
            status: Cell::new(0),
            bytes: Cell::new(0),
            cpu: Cell::new(Duration::ZERO),
            failure: Cell::new(None),
            is_counted: Cell::new(false),
            finished: Cell::new(false),
            silence: Cell::new(None),
            full: Cell::new(false),
            has_lease: Cell::new(false),
            held: Cell::new(false),
            shares: Cell::new(false),
            lingers: Cell::new(false),
            audience: worker.config.development.as_ref().map(|_| audience(request)),
            worker,
        }
    }

    /// Counts and logs it here.
    pub(super) fn count(&self) {
        if !self.is_counted.replace(true) {
            self.pool.begins(self.began);
        }
    }

    /// Whether the client may wait for `100 Continue`. The expectation of an older one is ignored (RFC 9110, section
    /// 10.1.1); and hyper has no way to say so in HTTP/2, where clients send the body after a moment all the same.
    pub(super) fn may_expect(&self) -> bool {
        !self.is_old && !self.is_on_stream
    }

    /// What the request and its connection know of each other.
    pub(super) fn link(&self) -> &Link {
        self.carrier.link()
    }

    /// What is wrong with the request's body. Another task may read it, in an instance that is shared or to pass it on: this
    /// one is woken when that finds a flaw, or begins to wait for the client.
    pub(super) fn flaw(&self, context: &Context<'_>) -> Option<Flaw> {
        if !self.upload.has_ended() {
            self.upload.watch(context);
        }
        self.upload.flaw()
    }

    /// What is known to be wrong with the request's body.
    pub(super) fn known_flaw(&self) -> Option<Flaw> {
        self.upload.flaw()
    }

    /// Where parts of responses are counted that their clients have not taken yet.
    pub(super) fn room(&self) -> &Arc<Account> {
        &self.buffers.responses
    }

    pub(super) fn is_p2(&self) -> bool {
        self.version.get() == Some(WasiVersion::P2)
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
    }

    /// Its target, if somebody wants to know it.
    pub(super) fn path(&self) -> Option<&PathAndQuery> {
        self.path.as_ref()
    }

    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// CPU time of the guest so far.
    pub(super) fn cpu(&self) -> Duration {
        self.cpu.get()
    }

    pub(super) fn used(&self, cpu: Duration) {
        self.cpu.set(cpu);
    }

    /// A fault in a body that no instance stands behind any more.
    pub(super) fn failed_without_instance(&self, fault: &Fault) {
        let worker = &self.worker;
        self.trace_fault(fault);
        self.pool.metrics.faulted(fault.kind);
        if self.pool.may_tell_fault() {
            tracing::warn!(
                worker = worker.id.0,
                app = &*self.pool.name(),
                request = self.number,
                fault = fault.kind.name(),
                limit = fault.flag(),
                detail = &*fault.detail,
                "a response was broken off"
            );
        }
    }

    /// The response is over: counts it and logs it.
    pub(super) fn finish(&self, ending: Ending) {
        if self.finished.replace(true) {
            return;
        }
        let worker = &self.worker;
        // A worker that stops drops its connections: it was not the client who left.
        let ending = if worker.stopping.get() && ending == Ending::ClientLeft { Ending::DrainDeadline } else { ending };
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.began);
        if self.is_counted.get() {
            self.record(ending, now, elapsed);
        }
        self.end_trace(ending);
        if self.held.replace(false) {
            self.pool.holds_no_more(self);
            self.link().in_the_way.set(false);
        }
        if !self.lingers.get() {
            // What goes on in a shared instance is not known: it may read what was gathered.
            self.upload.let_go(!self.shares.get());
        }
        self.carrier.request_ended(self.upload.has_ended(), now);
        if self.is_old && ending != Ending::Whole {
            self.carrier.end_with_reset();
        }
        if access::is_on() && self.is_counted.get() {
            self.log(ending, elapsed);
        }
    }

    fn record(&self, ending: Ending, now: Instant, elapsed: Duration) {
        let metrics = self.pool.metrics;
        self.pool.ends(now);
        metrics.answered(self.status.get(), elapsed, self.cpu.get());
        let has_failed = self.status.get() >= 500 || ending.is_of_the_host();
        metrics.revisions().answered(self.revision.get(), has_failed);
        match ending {
            Ending::ClientLeft => metrics.client_left.add_one(),
            Ending::ClientSlow => metrics.refused(Refused::SlowClient),
            Ending::Whole | Ending::Broken(_) | Ending::DrainDeadline => {}
        }
    }

    fn log(&self, ending: Ending, elapsed: Duration) {
        let line = access::Line {
            worker: self.worker.id.0,
            app: &self.pool.name(),
            request: self.number,
            peer: &self.link().client(),
            method: self.method.as_str(),
            path: self.path.as_ref().map_or("", PathAndQuery::as_str),
            protocol: http_name(self.protocol),
            tls: self.link().tls().map(TlsVersion::name),
            status: self.status.get(),
            bytes: self.bytes.get(),
            elapsed,
            cpu: self.cpu.get(),
            ending: ending.name(),
            trace: self.trace().and_then(|trace| trace.sampled()),
        };
        access::record(&line);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // hyper dropped the request before it had a response: the client has left.
        self.finish(Ending::ClientLeft);
    }
}

/// Who asks, in development.
fn audience<B>(request: &Request<B>) -> Audience {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(named);
    Audience::of(request.headers(), host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_breaks_off_is_no_failure_of_its_guest() {
        for (ending, expected) in [
            (Ending::Whole, false),
            (Ending::Broken(FaultKind::Trap), true),
            (Ending::Broken(FaultKind::Unfinished), true),
            (Ending::Broken(FaultKind::BadBody), false),
            (Ending::Broken(FaultKind::BodyTooLarge), false),
            (Ending::ClientLeft, false),
            (Ending::ClientSlow, false),
            (Ending::DrainDeadline, false),
        ] {
            assert_eq!(ending.is_of_the_host(), expected, "{ending:?}");
        }
    }
}
