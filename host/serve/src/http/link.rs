//! What a request and the connection that carries it know of each other. A protocol has a [`Link`] for each request that can be
//! under way: HTTP/1.1 has one for each connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use http::{Response, Version, header};

use wasmhost_config::AppId;

use super::canary::lot_of;
use super::forward::introduction::Introduction;
use super::head::KnownAuthority;
use super::pace::{Late, Pace, Slow, SlowPart};
use super::shared::WorkerShared;
use crate::alarms::Alarm;
use crate::net::{ClientCertificate, ListenerSetup, Peer, Stream, TlsVersion};

/// How much of a response a client may have taken without the socket showing it: half of what the kernel queues beyond
/// the client's window (`TCP_NOTSENT_LOWAT`).
pub(crate) const UNSEEN_BYTES: u64 = 64 * 1024;

/// How much faster the patience with a client runs out that has not taken anything since the socket was first full.
const UNPROVEN_FACTOR: u32 = 8;

/// A connection, as the request on it knows it. Each protocol ends a request in its own way.
pub(crate) trait Carrier {
    /// What both know.
    fn link(&self) -> &Link;

    /// The answer has been given, to hyper at least. `upload_ended`: all of the request's body has come.
    fn request_ended(&self, upload_ended: bool, now: Instant);

    /// A body was broken off whose end is the connection's: an orderly one would make it look whole.
    fn end_with_reset(&self);
}

/// A response's body on its way, as its connection knows it.
pub(super) trait Transfer {
    /// Takes what the guest gives, while the client does not read.
    fn read_ahead(&mut self, context: &mut Context<'_>);

    /// Who has had the whole time of the response; nobody yet: sets the alarm for when to look again.
    fn who_is_late(&self) -> Option<Late>;
}

/// What is known of a client.
#[derive(Debug, Clone, Copy)]
struct ClientFacts {
    peer: Peer,
    /// It may set forwarded headers.
    trusted: bool,
    /// Its request names a host.
    has_host: bool,
    /// The TLS that it speaks.
    tls: Option<TlsVersion>,
    /// The version of HTTP that it speaks, where another worker has said so.
    http: Option<Version>,
    /// What its request says of its certificate another worker has said.
    is_certified: bool,
    /// How many requests of apps led to its request.
    depth: u8,
    /// Whether its trace is sampled the host has decided.
    is_decided: bool,
}

/// State that a connection shares with its present request, all on the worker's thread.
pub(crate) struct Link {
    pub(crate) worker: Rc<WorkerShared>,
    /// Who is at the other end.
    pub(crate) peer: Peer,
    /// None: it comes from an app of this worker.
    stream: Option<Rc<Stream>>,
    /// What is known of the client of the present request.
    client: Cell<ClientFacts>,
    /// Deadline of the request in progress.
    pub(crate) request_alarm: Alarm,
    /// When to look whether the whole response is late. hyper does not ask for more of a body while the socket is full, and
    /// goes on asking while it is not: the connection looks at the time itself.
    pub(crate) response_alarm: Alarm,
    /// Whom its last request was for, by `Host`.
    pub(super) known_authority: KnownAuthority,
    /// The app that the last request was for.
    pub(super) app: Cell<Option<AppId>>,
    /// How long the client may take nothing of the present response.
    pub(crate) idle: Cell<Option<Duration>>,
    /// Since when the client takes nothing of what is written.
    pub(crate) stalled: Cell<Option<Instant>>,
    /// How fast the client reads the present response, since it was first waited for.
    pub(crate) reading: Cell<Pace>,
    /// The present response's body.
    transfer: RefCell<Option<Rc<RefCell<dyn Transfer>>>>,
    /// The request has to let go of its instance: others wait for one.
    pub(crate) in_the_way: Cell<bool>,
    /// Why the connection ends, when its client is at fault.
    slow: Cell<Option<Slow>>,
    /// The guest's response was not whole in time.
    overdue: Cell<bool>,
}

impl Link {
    pub(crate) fn new(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) -> Self {
        Self::with(worker, Some(stream), peer)
    }

    /// Of an app of this worker that calls another.
    pub(super) fn of_app(worker: Rc<WorkerShared>) -> Self {
        Self::with(worker, None, Peer::App)
    }

    fn with(worker: Rc<WorkerShared>, stream: Option<Rc<Stream>>, peer: Peer) -> Self {
        let trusted = match peer {
            // Somebody speaks through it, and may say anything.
            _ if stream.as_ref().is_some_and(|stream| stream.is_unnamed()) => false,
            Peer::Tcp(address) => worker.config.trust_proxy.iter().any(|network| network.contains(&address.ip())),
            // Who can reach the socket's file is on this machine and was let in by its mode.
            Peer::Unix => !worker.config.trust_proxy.is_empty(),
            // It says so of each request.
            Peer::Front => false,
            Peer::Schedule | Peer::App => false,
        };
        let [request_alarm, response_alarm] = std::array::from_fn(|_| worker.alarms.alarm());
        Self {
            worker,
            peer,
            client: Cell::new(ClientFacts {
                peer,
                trusted,
                has_host: true,
                tls: stream.as_ref().and_then(|stream| stream.tls()),
                http: None,
                is_certified: false,
                depth: 0,
                is_decided: false,
            }),
            stream,
            request_alarm,
            response_alarm,
            known_authority: KnownAuthority::default(),
            app: Cell::new(None),
            idle: Cell::new(None),
            stalled: Cell::new(None),
            reading: Cell::default(),
            transfer: RefCell::default(),
            in_the_way: Cell::new(false),
            slow: Cell::new(None),
            overdue: Cell::new(false),
        }
    }

    /// How connections begin that come to the address of this one.
    pub(super) fn setup(&self) -> Option<&ListenerSetup> {
        self.stream.as_ref()?.setup()
    }

    /// Who the client's certificate says it is, if it has one.
    pub(super) fn client_certificate(&self) -> Option<Rc<ClientCertificate>> {
        self.stream.as_ref()?.client_certificate()
    }

    /// How many requests of apps led to the present one, where another worker forwards it.
    pub(super) fn depth(&self) -> u8 {
        self.client.get().depth
    }

    /// Whether this host has decided if the trace of the present request is sampled, where another worker forwards it.
    pub(super) fn is_decided(&self) -> bool {
        self.client.get().is_decided
    }

    /// Makes it ready for a request on another stream of its connection.
    pub(crate) fn renew(&self) {
        self.request_alarm.set(None);
        self.response_alarm.set(None);
        self.stalled.set(None);
        self.reading.set(Pace::default());
        self.transfers(None);
        self.in_the_way.set(false);
        self.slow.set(None);
        self.overdue.set(false);
    }

    /// The client of the present request.
    pub(crate) fn client(&self) -> Peer {
        self.client.get().peer
    }

    /// A number that is the same for all requests of a connection of a client.
    pub(super) fn lot(&self) -> u64 {
        match self.client() {
            // Another worker has the connection.
            Peer::Tcp(address) if self.peer == Peer::Front => lot_of(&address.to_string()),
            _ => self.stream.as_ref().map_or(0, |stream| stream.lot()),
        }
    }

    /// Whether the client of the present request may set forwarded headers.
    pub(super) fn is_trusted(&self) -> bool {
        self.client.get().trusted
    }

    /// False: the client of the present request named no host, and the worker that forwards it has filled one in.
    pub(super) fn has_host(&self) -> bool {
        self.client.get().has_host
    }

    /// Whether the client of the present request speaks TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls().is_some()
    }

    /// The TLS that the client of the present request speaks.
    pub(super) fn tls(&self) -> Option<TlsVersion> {
        self.client.get().tls
    }

    /// The HTTP that the client of the present request speaks, where that is not the request's own.
    pub(super) fn http(&self) -> Option<Version> {
        self.client.get().http
    }

    /// Whether another worker has said what the present request's head says of its client's certificate.
    pub(super) fn is_certified(&self) -> bool {
        self.client.get().is_certified
    }

    /// The worker that forwards the present request says this of its client.
    pub(super) fn introduce(&self, said: Option<&Introduction>) {
        self.client.set(match said {
            Some(said) => ClientFacts {
                peer: said.client,
                trusted: said.trusted,
                has_host: said.has_host,
                tls: said.tls,
                http: Some(said.http),
                is_certified: said.is_certified,
                depth: said.depth,
                is_decided: said.is_decided,
            },
            None => {
                let (has_host, is_certified, depth) = (true, false, 0);
                let is_decided = false;
                ClientFacts {
                    peer: self.peer,
                    trusted: false,
                    has_host,
                    tls: None,
                    http: None,
                    is_certified,
                    depth,
                    is_decided,
                }
            }
        });
    }

    /// Adds what responses have for the address that their requests came to.
    pub(crate) fn complete<B>(&self, response: &mut Response<B>) {
        let hsts = self.setup().and_then(|setup| setup.hsts.as_ref());
        // Over TLS only (RFC 6797, section 7.2).
        let is_encrypted = self.stream.as_ref().is_some_and(|stream| stream.tls().is_some());
        if let Some(hsts) = hsts.filter(|_| is_encrypted)
            && let http::header::Entry::Vacant(entry) = response.headers_mut().entry(header::STRICT_TRANSPORT_SECURITY)
        {
            entry.insert(hsts.clone());
        }
    }

    /// For how long the client has taken nothing, or how far it is behind a pace of `rate` bytes a second; none: it reads.
    /// Of a client that has taken nothing since the socket was first full, each moment counts as many: it may never have
    /// meant to read, while one that has shown that it reads is given time.
    pub(super) fn stalled_for(&self, now: Instant, rate: Option<u64>) -> Option<Duration> {
        let mut reading = self.reading.get();
        let mut stalled = now.duration_since(self.stalled.get()?);
        if reading.bytes <= UNSEEN_BYTES {
            stalled = stalled.saturating_mul(UNPROVEN_FACTOR);
        }
        reading.waited = reading.waited.saturating_add(stalled);
        Some(rate.map_or(stalled, |rate| stalled.max(reading.behind(rate))))
    }

    /// For how long the socket was full, in sum, while the present response was written.
    pub(super) fn waited_for_reader(&self, now: Instant) -> Duration {
        let stalled = self.stalled.get().map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        self.reading.get().waited.saturating_add(stalled)
    }

    /// Has the connection's task give up its request's instance.
    pub(super) fn make_way(&self) {
        self.in_the_way.set(true);
        self.response_alarm.wake();
    }

    /// The connection goes on with the response's body while hyper cannot write.
    pub(super) fn transfers(&self, transfer: Option<Rc<RefCell<dyn Transfer>>>) {
        *self.transfer.borrow_mut() = transfer;
    }

    /// Whether a response's body is on its way.
    pub(crate) fn is_transferring(&self) -> bool {
        self.transfer.borrow().is_some()
    }

    /// Takes of the response what the guest gives, while the client does not read.
    pub(crate) fn read_ahead(&self, context: &mut Context<'_>) {
        let transfer = self.transfer.borrow().clone();
        if let Some(transfer) = transfer {
            transfer.borrow_mut().read_ahead(context);
        }
    }

    /// Whether the present response is late, and the connection ends for the one whose time is over.
    pub(crate) fn is_response_late(&self) -> bool {
        self.response_alarm.set(None);
        let transfer = self.transfer.borrow().clone();
        match transfer.and_then(|transfer| transfer.borrow().who_is_late()) {
            Some(Late::Guest) => self.overdue.set(true),
            Some(Late::Client(of)) => self.end_for_body(Slow::Overdue, of),
            None => return false,
        }
        true
    }

    /// Whether the connection ends because its guest's response was not whole in time.
    pub(super) fn is_overdue(&self) -> bool {
        self.overdue.get()
    }

    /// The client is too slow, and the connection ends.
    pub(crate) fn end_for(&self, slow: Slow) {
        self.end_for_body(slow, if self.stalled.get().is_some() { SlowPart::Response } else { SlowPart::Request });
    }

    fn end_for_body(&self, slow: Slow, of: SlowPart) {
        self.slow.set(Some(slow));
        let (worker, app) = (&self.worker, self.app.get());
        worker.lines.slow(worker.id.0, (app, &worker.apps.name(app)), self.client(), slow, of);
    }

    /// Whether the connection ends because its client is slow.
    pub(super) fn has_slow_client(&self) -> bool {
        self.slow.get().is_some()
    }
}
