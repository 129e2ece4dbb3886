//! One request and its response: from hyper's request to an instance, and from the instance's answer to hyper's
//! response, with its line in the access log. `waits` holds its deadlines, `linger` what goes on after the response.

mod linger;
mod waits;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;

pub(super) use self::waits::Silence;

use wasmhost_base::log::access;
use wasmhost_sandbox::{Body, Fault, FaultKind, Head, WasiVersion};

use self::waits::{Deadline, Stop, Waiting};
use super::body::{Flow, ResponseBody, Start, Streaming, poll_given, start};
use super::buffers::Room;
use super::conn::Connection;
use super::head::{authority, check_demands, check_target, forwarded_scheme, remove_forwarded};
use super::pool::{Refusal, Seat};
use super::respond::{self, Failure};
use super::shared::WorkerShared;
use super::socket::framing::Framing;
use super::upload::{Flaw, RequestBody, Upload};
use crate::development::{Audience, Notice, Reason};
use crate::metrics::Refused;

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

/// The record of one request.
pub(super) struct Exchange {
    pub(super) number: u64,
    connection: Rc<Connection>,
    began: Instant,
    method: Method,
    /// The client speaks HTTP/1.0: a body without a length ends with the connection.
    is_old: bool,
    /// Kept for the access log only.
    path: Option<PathAndQuery>,
    upload: Arc<Upload>,
    /// Of the guest that answers, once there is one.
    version: Cell<Option<WasiVersion>>,
    status: Cell<u16>,
    bytes: Cell<u64>,
    cpu: Cell<Duration>,
    finished: Cell<bool>,
    /// Since when the guest has given no more of its body, and for when the alarm is set.
    silence: Cell<Option<(Instant, Deadline)>>,
    /// As much of the response waits for the client as may.
    full: Cell<bool>,
    /// It has an instance of its own, or a place in one.
    seated: Cell<bool>,
    /// The slot knows that this request's instance may wait for its client.
    held: Cell<bool>,
    /// Its instance serves others at once.
    shares: Cell<bool>,
    /// Its call goes on behind its response.
    lingers: Cell<bool>,
    /// Who asks; in development only, where it is told reasons.
    audience: Option<Audience>,
}

/// Answers one request. Never fails: every failure has an answer.
pub(super) async fn serve(connection: Rc<Connection>, request: Request<Incoming>) -> Response<ResponseBody> {
    let worker = Rc::clone(&connection.worker);
    let exchange = Rc::new(Exchange::new(&worker, connection, &request));
    worker.metrics.in_flight.change(1);
    #[cfg(feature = "fault-injection")]
    if let Some(response) = super::misdeeds::commit(&request) {
        return response;
    }
    wasmhost_base::inject::arm(request.headers());
    let is_head = request.method() == Method::HEAD;
    let version = request.version();
    let mut response = match exchange.notice(&worker) {
        Some(response) => response,
        None => match exchange.accept(&worker, request) {
            Ok(request) => exchange.run(&worker, request, is_head).await,
            Err(failure) => exchange.fail(failure, Reason::Status),
        },
    };
    exchange.connection.limit_requests(&mut response, version);
    response
}

impl Exchange {
    fn new(worker: &WorkerShared, connection: Rc<Connection>, request: &Request<Incoming>) -> Self {
        let began = Instant::now();
        Self {
            number: worker.next_request(),
            connection,
            began,
            method: request.method().clone(),
            is_old: request.version() < Version::HTTP_11,
            path: worker.config.access_log.then(|| request.uri().path_and_query().cloned()).flatten(),
            upload: Arc::new(Upload::new(began, request.body().is_end_stream(), worker.config.limits.body_rate_min)),
            version: Cell::new(None),
            status: Cell::new(0),
            bytes: Cell::new(0),
            cpu: Cell::new(Duration::ZERO),
            finished: Cell::new(false),
            silence: Cell::new(None),
            full: Cell::new(false),
            seated: Cell::new(false),
            held: Cell::new(false),
            shares: Cell::new(false),
            lingers: Cell::new(false),
            audience: worker.config.development.as_ref().map(|_| audience(request)),
        }
    }

    /// In development, what is told in the component's place.
    fn notice(&self, worker: &WorkerShared) -> Option<Response<ResponseBody>> {
        let (development, audience) = (worker.config.development.as_ref()?, self.audience?);
        let notice = Notice::read(development, audience)?;
        Some(self.answer(respond::notice(audience, &notice)))
    }

    /// Puts the request into the form that a guest sees: an absolute URI, true headers.
    fn accept(
        &self,
        worker: &WorkerShared,
        request: Request<Incoming>,
    ) -> Result<Request<Option<RequestBody>>, Failure> {
        wasmhost_base::inject::panic_at("head");
        let (mut parts, incoming) = request.into_parts();
        if self.connection.framing() == Framing::Ambiguous {
            return Err(Failure::BadRequest);
        }
        if parts.method == Method::CONNECT {
            return Err(Failure::NotImplemented);
        }
        check_demands(&parts.headers)?;
        check_target(&parts.uri, &parts.method)?;
        if !self.connection.trusted {
            remove_forwarded(&mut parts.headers);
        }
        let scheme = if self.connection.trusted { forwarded_scheme(&parts.headers) } else { Scheme::HTTP };
        let authority = authority(&parts.uri, &parts.headers, parts.version, &worker.authority)?;
        if parts.uri.authority().is_some() {
            // RFC 9112, section 3.2.2.
            let host = HeaderValue::try_from(authority.as_str()).map_err(|_| Failure::BadRequest)?;
            parts.headers.insert(header::HOST, host);
        }
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(scheme);
        uri.authority = Some(authority);
        uri.path_and_query =
            Some(parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(uri).map_err(|_| Failure::BadRequest)?;
        let max = worker.config.limits.body_max_bytes;
        if max.is_some_and(|max| incoming.size_hint().lower() > max) {
            self.tell_body_too_large();
            return Err(Failure::BodyTooLarge);
        }
        let body = (!self.upload.has_ended()).then(|| {
            // RFC 9110, section 10.1.1: the expectation of an older client is ignored, and it gets no `100 Continue`.
            let expects = !self.is_old && parts.headers.contains_key(header::EXPECT);
            RequestBody::new(incoming, Arc::clone(&self.upload), max, expects, &worker.buffers.requests)
        });
        Ok(Request::from_parts(parts, body))
    }

    /// Has an instance answer.
    async fn run(
        self: &Rc<Self>,
        worker: &Rc<WorkerShared>,
        request: Request<Option<RequestBody>>,
        is_head: bool,
    ) -> Response<ResponseBody> {
        let (parts, mut body) = request.into_parts();
        if let Some(body) = &mut body
            && let Err(stop) = self.gather(worker, body).await
        {
            return self.stop(None, stop);
        }
        let request = Request::from_parts(parts, body.map_or_else(Body::default, BodyExt::boxed_unsync));
        let alarm = &self.connection.request_alarm;
        let mut seat = match worker.slot.take(alarm, self.head_deadline()).await {
            Ok(seat) => seat,
            Err(Refusal::Shed(reason, after)) => {
                tracing::debug!(worker = worker.id.0, request = self.number, reason = reason.name(), "shed");
                let why = reason.flag().map(|flag| format!("; raise {flag} to allow more")).unwrap_or_default();
                let why = format!("no capacity: {}{why}", reason.name());
                return self.fail(Failure::NoCapacity(after), Reason::Text(&why));
            }
            Err(Refusal::Failed(fault)) => {
                return self.fail(Failure::Fault(fault.kind), Reason::Fault(&fault));
            }
        };
        self.version.set(seat.version());
        self.has_instance(true);
        self.shares.set(!seat.is_alone());
        seat.begin(request, self.number);
        wasmhost_base::inject::panic_at("exchange");
        let mut armed = None;
        let mut error_code = String::new();
        let outcome = poll_fn(|context| {
            let polled = seat.poll(context);
            // What the guest makes of a body that is not valid is not asked.
            if let Some(flaw) = self.flaw(context) {
                return Poll::Ready(Err(Stop::Flaw(flaw)));
            }
            if let Poll::Ready(fault) = polled {
                return Poll::Ready(Err(Stop::Fault(fault)));
            }
            match seat.take_head() {
                Some(Head::Response(response)) => {
                    let (parts, body) = response.into_parts();
                    let turn =
                        |context: &mut Context<'_>| if seat.is_idle() { Poll::Pending } else { seat.poll(context) };
                    let started = start(body, context, turn);
                    if let Some(flaw) = self.known_flaw() {
                        return Poll::Ready(Err(Stop::Flaw(flaw)));
                    }
                    Poll::Ready(started.map(|body| Some(Response::from_parts(parts, body))).map_err(Stop::Fault))
                }
                Some(Head::Error(code)) => {
                    let (worker, request) = (worker.id.0, self.number);
                    if let Some(count) = self.connection.worker.lines.error_code.admit(Instant::now()) {
                        tracing::warn!(worker, request, count, code, "the guest answered with an error code in place of a response (count: since the last such line)");
                    }
                    error_code = code;
                    Poll::Ready(Ok(None))
                }
                None => self.poll_for_head(&mut armed, Waiting::ForGuest, context).map(Err),
            }
        })
        .await;
        alarm.set(None);
        self.used(seat.cpu());
        match outcome {
            Ok(Some(response)) => {
                seat.answered();
                let may_read = !(seat.is_idle() && response.body().is_whole());
                if may_read && self.upload.wants_continue() {
                    // hyper sends `100 Continue` when it is asked for the body and the response has not begun.
                    tokio::task::yield_now().await;
                }
                self.status.set(response.status().as_u16());
                if response.status().is_informational() {
                    let detail = "the guest's answer has an informational status";
                    return self.fault(seat, &Fault::new(FaultKind::NeverAnswered, detail));
                }
                if is_head || has_no_body(response.status()) {
                    self.respond_without_body(response, seat, is_head).await
                } else {
                    self.respond(response, seat)
                }
            }
            Ok(None) => {
                seat.answered();
                self.linger(seat);
                self.fail(
                    Failure::GuestError,
                    Reason::Text(&format!("the guest answered with the error code {error_code}")),
                )
            }
            Err(stop) => self.stop(Some(seat), stop),
        }
    }

    /// Answers a request that is stopped before the response's headers.
    fn stop(&self, seat: Option<Seat>, stop: Stop) -> Response<ResponseBody> {
        match (stop, seat) {
            (Stop::Fault(fault), Some(seat)) => self.fault(seat, &fault),
            (Stop::Fault(fault), None) => self.fail(Failure::Fault(fault.kind), Reason::Fault(&fault)),
            (Stop::Flaw(flaw), seat) => {
                drop(seat);
                match flaw {
                    Flaw::TooLarge => {
                        self.tell_body_too_large();
                        self.fail(Failure::BodyTooLarge, Reason::Status)
                    }
                    Flaw::Invalid => self.fail(Failure::BadRequest, Reason::Status),
                }
            }
            (Stop::SlowClient(slow), seat) => {
                drop(seat);
                self.tell_slow_client(slow);
                self.fail(Failure::BodyTimeout, Reason::Status)
            }
        }
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

    fn tell_body_too_large(&self) {
        let worker = &self.connection.worker;
        if let Some(count) = worker.lines.body_max.admit(Instant::now()) {
            let (worker, request) = (worker.id.0, self.number);
            tracing::info!(worker, request, count, peer = %self.connection.peer, limit = "--body-max", "requests were refused because their body is too large (count: since the last such line); raise --body-max to allow it");
        }
    }

    /// Turns the guest's answer into hyper's.
    fn respond(self: &Rc<Self>, response: Response<Start>, seat: Seat) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        let promised = promised(&parts.headers);
        let body = match body {
            Start::Broken(error) => {
                let detail = format!("the guest's body began with an error: {error}");
                return self.fault(seat, &Fault::new(FaultKind::Unfinished, detail));
            }
            // Nothing of the response has been sent. hyper would close the connection without a word.
            Start::Partial(ahead, false, _)
                if ahead.is_empty() && self.is_p2() && seat.is_alone() && seat.is_idle() =>
            {
                return self.fault(seat, &Fault::new(FaultKind::Unfinished, super::body::NOT_FINISHED));
            }
            Start::Whole(bytes) if promised.is_some_and(|promised| promised != bytes.len() as u64) => {
                let detail = format!("the guest promised {} bytes and gave {}", promised.unwrap_or(0), bytes.len());
                return self.fault(seat, &Fault::new(FaultKind::Unfinished, detail));
            }
            Start::Whole(bytes) => {
                self.linger(seat);
                self.sent(bytes.len());
                self.finish(Ending::Whole);
                ResponseBody::whole(bytes)
            }
            Start::Partial(ahead, ended, inner) => {
                announce_trailers(&mut parts.headers, &ahead);
                let streaming = Streaming::new((ahead, ended, inner), seat, Rc::clone(self), promised);
                ResponseBody::Streaming(streaming)
            }
        };
        Response::from_parts(parts, body)
    }

    /// The same where the client gets no body. What the guest makes of one is read and thrown away, and so is what it
    /// promised of it (to HEAD a `Content-Length` tells of what GET would get: RFC 9110, section 8.6). A guest that does
    /// not come to its body's end is stopped, as if a client had left in the middle of it.
    async fn respond_without_body(
        &self,
        response: Response<Start>,
        mut seat: Seat,
        is_head: bool,
    ) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        let mut has_ended = true;
        match body {
            Start::Whole(bytes) => {
                if is_head && !has_no_body(parts.status) && promised(&parts.headers).is_none() {
                    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
                }
            }
            Start::Partial(ahead, ended, inner) => {
                announce_trailers(&mut parts.headers, &ahead);
                if !ended {
                    has_ended = match self.discard(&mut seat, inner).await {
                        Ok(has_ended) => has_ended,
                        Err(fault) => return self.fault(seat, &fault),
                    };
                }
            }
            // It was shorter or longer than promised, or not finished: nobody misses it.
            Start::Broken(_) => {}
        }
        if has_ended {
            self.linger(seat);
        } else {
            drop(seat);
        }
        self.finish(Ending::Whole);
        let body = if is_head { ResponseBody::Unsent } else { ResponseBody::whole(bytes::Bytes::new()) };
        Response::from_parts(parts, body)
    }

    /// Reads a body to its end, for [`DISCARD_MAX`] at most. Whether it came to it.
    ///
    /// # Errors
    /// The fault that the guest ended with meanwhile.
    async fn discard(&self, seat: &mut Seat, mut body: Body) -> Result<bool, Fault> {
        let alarm = self.connection.worker.alarms.alarm();
        alarm.set(Some(Instant::now() + DISCARD_MAX));
        let outcome = poll_fn(|context| {
            if !(seat.is_alone() && seat.is_idle())
                && let Poll::Ready(fault) = seat.poll(context)
            {
                return Poll::Ready(Err(fault));
            }
            match poll_given(&mut body, context) {
                Poll::Ready(Some(Ok(_))) => {
                    // After the others of this worker have had their turn.
                    context.waker().wake_by_ref();
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ok(true)),
                // The guest has returned: no more of it comes, or what comes is the host's own.
                Poll::Pending if seat.is_alone() && seat.is_idle() => return Poll::Ready(Ok(true)),
                Poll::Pending => {}
            }
            alarm.poll(context).map(|()| Ok(false))
        })
        .await;
        self.used(seat.cpu());
        outcome
    }

    /// The guest is at fault: its instance goes, and the host answers.
    fn fault(&self, seat: Seat, fault: &Fault) -> Response<ResponseBody> {
        seat.fail(self.number, fault);
        let failure = match fault.kind {
            FaultKind::Capacity => Failure::NoCapacity(self.connection.worker.config.capacity.queue_timeout),
            kind => Failure::Fault(kind),
        };
        self.fail(failure, Reason::Fault(fault))
    }

    /// Answers in the guest's place. The reason is told in development only.
    fn fail(&self, failure: Failure, reason: Reason<'_>) -> Response<ResponseBody> {
        if let Some(reason) = failure.refused() {
            self.connection.worker.metrics.refused(reason);
        }
        self.answer(match self.audience {
            Some(audience) => failure.response_with_reason(audience, reason),
            None => failure.response(),
        })
    }

    /// An answer of the host's own.
    fn answer(&self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        self.status.set(response.status().as_u16());
        self.sent(usize::try_from(response.body().size_hint().lower()).unwrap_or(0));
        self.finish(Ending::Whole);
        response
    }

    /// Whether the response's body is dropped because it was not whole in time.
    pub(super) fn is_overdue(&self) -> bool {
        self.connection.is_overdue()
    }

    /// The connection goes on with the response's body while hyper cannot write.
    pub(super) fn flows(&self, flow: Option<&Rc<RefCell<Flow>>>) {
        *self.connection.flow.borrow_mut() = flow.map(Rc::clone);
    }

    /// Where parts of responses are counted that their clients have not taken yet.
    pub(super) fn room(&self) -> &Arc<Room> {
        &self.connection.worker.buffers.responses
    }

    pub(super) fn is_p2(&self) -> bool {
        self.version.get() == Some(WasiVersion::P2)
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_add(bytes as u64));
    }

    pub(super) fn used(&self, cpu: Duration) {
        self.cpu.set(cpu);
    }

    /// A fault in a body that no instance stands behind any more.
    pub(super) fn failed_without_instance(&self, fault: &Fault) {
        let worker = &self.connection.worker;
        worker.metrics.faulted(fault.kind);
        tracing::warn!(
            worker = worker.id.0,
            request = self.number,
            fault = fault.kind.name(),
            limit = fault.flag(),
            detail = &*fault.detail,
            "a response was broken off"
        );
    }

    /// The response is over: counts it and logs it.
    pub(super) fn finish(&self, ending: Ending) {
        if self.finished.replace(true) {
            return;
        }
        let worker = &self.connection.worker;
        // A worker that stops drops its connections: it was not the client who left.
        let ending = if worker.stopping.get() && ending == Ending::ClientLeft { Ending::DrainDeadline } else { ending };
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(self.began);
        worker.metrics.in_flight.change(-1);
        worker.metrics.answered(self.status.get(), elapsed, self.cpu.get());
        match ending {
            Ending::ClientLeft => worker.metrics.client_left.add_one(),
            Ending::ClientSlow => worker.metrics.refused(Refused::SlowClient),
            Ending::Whole | Ending::Broken(_) | Ending::DrainDeadline => {}
        }
        if self.held.replace(false) {
            worker.slot.holds_no_more(self);
            self.connection.in_the_way.set(false);
        }
        if !self.lingers.get() {
            // What goes on in a shared instance is not known: it may read what was gathered.
            self.upload.let_go(!self.shares.get());
        }
        self.connection.request_ended(self.upload.has_ended(), now);
        if self.is_old && ending != Ending::Whole {
            self.connection.end_with_reset();
        }
        if worker.config.access_log {
            self.log(ending, elapsed);
        }
    }

    fn log(&self, ending: Ending, elapsed: Duration) {
        let ending = match ending {
            Ending::Whole => "whole",
            Ending::Broken(kind) => kind.name(),
            Ending::ClientLeft => "client-left",
            Ending::ClientSlow => "client-slow",
            Ending::DrainDeadline => "drain-deadline",
        };
        let line = access::Line {
            worker: self.connection.worker.id.0,
            request: self.number,
            peer: &self.connection.peer,
            method: self.method.as_str(),
            path: self.path.as_ref().map_or("", PathAndQuery::as_str),
            status: self.status.get(),
            bytes: self.bytes.get(),
            elapsed,
            cpu: self.cpu.get(),
            ending,
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

/// How long a guest may go on with a body that nobody gets, before the head is sent: its client waits for it.
const DISCARD_MAX: Duration = Duration::from_millis(100);

/// Who asks, in development.
fn audience(request: &Request<Incoming>) -> Audience {
    let named = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    let host = request.uri().authority().map(http::uri::Authority::as_str).or(named);
    Audience::of(request.headers(), host)
}

/// Whether an answer of this status never has a body (RFC 9110, sections 15.3.5 and 15.4.5).
fn has_no_body(status: StatusCode) -> bool {
    status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

/// What a response's `Content-Length` says.
fn promised(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Names trailers that are there already in a `Trailer` header (RFC 9110, section 6.6.2), without which hyper does not
/// send them.
fn announce_trailers(headers: &mut HeaderMap, ahead: &std::collections::VecDeque<http_body::Frame<bytes::Bytes>>) {
    let trailers = ahead.iter().find_map(http_body::Frame::trailers_ref);
    if let Some(trailers) = trailers
        && !headers.contains_key(header::TRAILER)
    {
        let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        if let Ok(value) = names.join(", ").parse() {
            headers.insert(header::TRAILER, value);
        }
    }
}
