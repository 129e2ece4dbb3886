//! Answers a request: from hyper's request to an instance, and from the instance's answer to hyper's response.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version, header};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;

use wasmhost_config::CanaryRules;
use wasmhost_sandbox::{Body, Call, CallChain, Fault, FaultKind, Head};

use super::canary::is_chosen;
use super::certified::certify;
use super::compress::Compression;
use super::compressed::{Compressed, Encoder, TURN_BYTES};
use super::exchange::{Ending, Exchange};
use super::forward::forward;
use super::forward::introduction::{FIELD, Introduction};
use super::forward::trailers;
use super::head::{
    Framing, authority, check_demands, check_hops, check_method, check_single, check_target, forwarded_scheme, host,
    remove_unseen, target_of,
};
use super::lines::LineKind;
use super::link::{Carrier, Link};
use super::proof;
use super::proxied::Hop;
use super::request_body::RequestBody;
use super::respond::{self, Failure};
use super::response_body::ResponseBody;
use super::response_head::{has_no_body, promised};
use super::scheduled::tell_outcome;
use super::source::Came;
use super::streaming::{NOT_FINISHED, ResponseStart, Streaming, data_of, poll_given, start, wrong_length};
use super::upload::Flaw;
use super::waits::{Stop, Waiting};
use crate::development::{Notice, Reason, Thrown};
use crate::metrics::Shed;
use crate::net::{ListenerSetup, Peer};
use crate::pool::{Lease, Refusal, Route};

/// Answers one request, whose head was framed in this way. Never fails: every failure has an answer.
pub(crate) async fn serve(
    carrier: Rc<dyn Carrier>,
    request: Request<Came>,
    framing: Framing,
) -> Response<ResponseBody> {
    if let Some(setup) = carrier.link().setup() {
        let (asked, redirects) = (asked_for_proof(setup, carrier.link(), &request), setup.redirects);
        if asked.is_some() || redirects {
            let pool = carrier.link().worker.apps.no_app();
            let exchange = Rc::new(Exchange::new(carrier, &request, pool));
            return match asked {
                Some(proof) => exchange.prove(request, framing, proof),
                None => exchange.redirect(request, framing),
            };
        }
    }
    let route = route(carrier.link(), &request);
    serve_at(carrier, request, framing, route).await
}

/// [`serve`], where it is known which app the request is for.
pub(super) async fn serve_at(
    carrier: Rc<dyn Carrier>,
    request: Request<Came>,
    framing: Framing,
    route: Route,
) -> Response<ResponseBody> {
    let (pool, stripped) = match route {
        Route::Here { pool, stripped } => (pool, stripped),
        Route::Elsewhere(to) => {
            let exchange = Rc::new(Exchange::uncounted(carrier, &request, Rc::clone(&to.pool)));
            // In a box: hyper moves the future of each request, and few are forwarded.
            return Box::pin(forward(exchange, request, framing, &to)).await;
        }
    };
    let exchange = Rc::new(Exchange::new(carrier, &request, pool).traced(&request));
    #[cfg(feature = "fault-injection")]
    if let Some(response) = super::misdeeds::commit(&request) {
        return response.map(ResponseBody::whole);
    }
    wasmhost_base::inject::arm(request.headers());
    let is_head = request.method() == Method::HEAD;
    let mut response = match exchange.notice() {
        Some(response) => response,
        None if exchange.pool.files().is_some() => {
            // In a box: hyper moves the future of each request, and few apps have files.
            match Box::pin(exchange.file_answer(request, framing)).await {
                Ok(response) => response,
                Err(request) => match exchange.accept(request, framing, stripped) {
                    Ok(request) => Box::pin(exchange.run(request, is_head)).await,
                    Err(failure) => exchange.fail(failure, Reason::Status),
                },
            }
        }
        None => match exchange.accept(request, framing, stripped) {
            Ok(request) => exchange.run(request, is_head).await,
            Err(failure) => exchange.fail(failure, Reason::Status),
        },
    };
    if exchange.link().client() == Peer::Schedule {
        tell_outcome(response.headers_mut(), exchange.failure.get());
    }
    response
}

impl Exchange {
    /// Answers that the same is to be had with `https`.
    fn redirect(&self, request: Request<Came>, framing: Framing) -> Response<ResponseBody> {
        let (parts, _) = request.into_parts();
        let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = if target == "*" { "/" } else { target };
        let location = self.check(&parts, framing).and_then(|authority| {
            let location = format!("https://{}{target}", authority.host());
            HeaderValue::try_from(location).map_err(|_| Failure::BadRequest)
        });
        match location {
            Ok(location) => self.answer(respond::redirect(location)),
            Err(failure) => self.fail(failure, Reason::Status),
        }
    }

    /// Answers an authority that asks for proof.
    fn prove(&self, request: Request<Came>, framing: Framing, proof: String) -> Response<ResponseBody> {
        match self.check(&request.into_parts().0, framing) {
            Ok(_) => self.answer(respond::proof(proof)),
            Err(failure) => self.fail(failure, Reason::Status),
        }
    }

    /// In development, what is told in the component's place.
    fn notice(&self) -> Option<Response<ResponseBody>> {
        let (development, audience) = (self.worker.config.development.as_ref()?, self.audience?);
        let notice = Notice::read(development, &self.pool.name(), audience)?;
        Some(self.answer(respond::notice(audience, &notice)))
    }

    /// In development, the error that the guest's answer tells of.
    fn thrown(&self, headers: &mut HeaderMap) -> Option<Thrown> {
        let development = self.worker.config.development.as_ref()?;
        Thrown::take(headers, development.root(&self.pool.app()))
    }

    /// Puts the request into the form that a guest sees: an absolute URI, true headers.
    fn accept(
        &self,
        request: Request<Came>,
        framing: Framing,
        stripped: usize,
    ) -> Result<Request<Option<RequestBody>>, Failure> {
        wasmhost_base::inject::panic_at("head");
        let trusted = self.link().is_trusted();
        let (mut parts, incoming) = request.into_parts();
        if !self.link().has_host() {
            parts.headers.remove(header::HOST);
        }
        let authority = self.check(&parts, framing)?;
        let is_forwarded = self.link().peer == Peer::Front;
        if is_forwarded {
            trailers::take_announcement(&mut parts.headers);
        }
        remove_unseen(&mut parts.headers, trusted, self.link().client() == Peer::Schedule);
        certify(&mut parts.headers, self.link());
        let own = if self.link().is_encrypted() { Scheme::HTTPS } else { Scheme::HTTP };
        let said = if trusted { forwarded_scheme(&parts.headers) } else { None };
        if self.pool.app().forwarded_headers {
            let hop = Hop { client: self.link().client(), scheme: &own, authority: &authority };
            hop.tell(&mut parts.headers);
        }
        let scheme = said.unwrap_or(own);
        self.tell_trace(&mut parts, &scheme, &authority);
        if self.link().client() == Peer::App {
            self.pool.metrics.service_requests.add_one();
            let depth = self.link().depth();
            if is_forwarded && depth > 0 {
                parts.extensions.insert(CallChain::of_depth(depth));
            }
        }
        if self.pool.id().is_none() {
            // One that was forwarded is for an app of which this worker will hear in a moment.
            return Err(if is_forwarded { Failure::Unavailable(Duration::ZERO) } else { Failure::NotFound });
        }
        if parts.uri.authority().is_some() {
            // RFC 9112, section 3.2.2.
            let host = HeaderValue::try_from(authority.as_str()).map_err(|_| Failure::BadRequest)?;
            parts.headers.insert(header::HOST, host);
        }
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(scheme);
        uri.authority = Some(authority);
        let target = target_of(&parts.uri).unwrap_or_else(|| PathAndQuery::from_static("/"));
        uri.path_and_query = Some(if stripped == 0 { target } else { without_prefix(&target, stripped)? });
        parts.uri = Uri::from_parts(uri).map_err(|_| Failure::BadRequest)?;
        let max = self.limits.body_max_bytes;
        if max.is_some_and(|max| incoming.size_hint().lower() > max) {
            self.tell_body_too_large();
            return Err(Failure::BodyTooLarge);
        }
        let body = (!self.upload.has_ended()).then(|| {
            let expects = self.may_expect() && parts.headers.contains_key(header::EXPECT);
            let body = RequestBody::new(incoming, Arc::clone(&self.upload), max, expects, &self.buffers.requests);
            match (is_forwarded, self.is_on_stream) {
                (true, _) => body.forwarded(),
                (_, true) => body.on_stream(),
                (false, false) => body,
            }
        });
        Ok(Request::from_parts(parts, body))
    }

    /// Refuses what cannot be passed on. The authority that the request is for.
    pub(super) fn check(&self, parts: &http::request::Parts, framing: Framing) -> Result<Authority, Failure> {
        if framing == Framing::Ambiguous {
            return Err(Failure::BadRequest);
        }
        check_method(&parts.method)?;
        check_single(&parts.headers)?;
        check_demands(&parts.headers)?;
        check_hops(&parts.headers)?;
        check_target(&parts.uri, &parts.method)?;
        let version = if self.link().has_host() { parts.version } else { Version::HTTP_10 };
        authority(&parts.uri, &parts.headers, version, &self.worker.authority, &self.link().known_authority)
    }

    /// Has an instance answer.
    async fn run(self: &Rc<Self>, request: Request<Option<RequestBody>>, is_head: bool) -> Response<ResponseBody> {
        let worker = &self.worker;
        let (parts, mut body) = request.into_parts();
        let compression = Compression::of(self.pool.app().compress, &parts.headers);
        if let Some(body) = &mut body
            // In boxes, this one and others: hyper moves the future of each request, and few need them.
            && let Err(stop) = Box::pin(self.gather(body)).await
        {
            return self.stop(None, stop);
        }
        let request = Request::from_parts(parts, body.map_or_else(Body::default, BodyExt::boxed_unsync));
        let alarm = &self.link().request_alarm;
        let latest = self.head_deadline();
        let began_with = self.pool.revision();
        let mut lease = match worker.apps.take(&self.pool, alarm, latest, &self.notes).await {
            Ok(lease) => lease,
            Err(refusal) => return self.refused(refusal, began_with),
        };
        self.version.set(lease.version());
        self.revision.set(lease.revision());
        self.has_instance(true);
        self.shares.set(!lease.is_alone());
        if let Some(trace) = self.trace() {
            trace.guest_begins();
        }
        lease.begin(Call::Http(request), self.number);
        wasmhost_base::inject::panic_at("exchange");
        let mut armed = None;
        let mut error_code = String::new();
        let outcome = poll_fn(|context| {
            let polled = lease.poll(context);
            // What the guest makes of a body that is not valid is not asked.
            if let Some(flaw) = self.flaw(context) {
                return Poll::Ready(Err(Stop::Flaw(flaw)));
            }
            if let Poll::Ready(fault) = polled {
                return Poll::Ready(Err(Stop::Fault(fault)));
            }
            match lease.take_head() {
                Some(Head::Response(response)) => {
                    let (parts, body) = response.into_parts();
                    let turn =
                        |context: &mut Context<'_>| if lease.is_idle() { Poll::Pending } else { lease.poll(context) };
                    let started = start(body, context, turn);
                    if let Some(flaw) = self.known_flaw() {
                        return Poll::Ready(Err(Stop::Flaw(flaw)));
                    }
                    Poll::Ready(started.map(|body| Some(Response::from_parts(parts, body))).map_err(Stop::Fault))
                }
                Some(Head::Error(code)) => {
                    let (worker, request) = (worker.id.0, self.number);
                    if let Some(count) = self.worker.lines.admit(self.pool.id(), LineKind::ErrorCode) {
                        let app = &*self.pool.name();
                        tracing::warn!(worker, app, request, count, code, "the guest answered with an error code in place of a response (count: since the last such line)");
                    }
                    error_code = code;
                    Poll::Ready(Ok(None))
                }
                None => self.poll_for_head(&mut armed, Waiting::ForGuest, context).map(Err),
            }
        })
        .await;
        alarm.set(None);
        self.used(lease.cpu());
        match outcome {
            Ok(Some(mut response)) => {
                lease.answered();
                if let Some(trace) = self.trace() {
                    trace.guest_answers();
                }
                if let Some(thrown) = self.thrown(response.headers_mut()) {
                    drop(response);
                    self.linger(lease);
                    return self.fail(Failure::GuestError, Reason::Thrown(&thrown));
                }
                let may_read = !(lease.is_idle() && response.body().is_whole());
                if may_read && self.upload.wants_continue() {
                    // hyper sends `100 Continue` when it is asked for the body and the response has not begun.
                    tokio::task::yield_now().await;
                }
                self.status.set(response.status().as_u16());
                if response.status().is_informational() {
                    let detail = "the guest's answer has an informational status";
                    return self.fault(lease, &Fault::new(FaultKind::NeverAnswered, detail));
                }
                if is_head || has_no_body(response.status()) {
                    Box::pin(self.respond_without_body(response, lease, (compression, is_head))).await
                } else {
                    self.respond(response, lease, compression)
                }
            }
            Ok(None) => {
                lease.answered();
                self.linger(lease);
                self.fail(
                    Failure::GuestError,
                    Reason::Text(&format!("the guest answered with the error code {error_code}")),
                )
            }
            Err(stop) => self.stop(Some(lease), stop),
        }
    }

    /// Answers a request that gets no instance. `began_with`: the revision that was served when it came.
    fn refused(&self, refusal: Refusal, began_with: u64) -> Response<ResponseBody> {
        let (reason, after) = match refusal {
            Refusal::Shed(reason, after) => (reason, after),
            Refusal::Failed(fault) => {
                self.revision.set(self.pool.revision());
                return self.fail(Failure::Fault(fault.kind), Reason::Fault(&fault));
            }
        };
        match reason {
            // Its instances are too slow, or fault too often. (One that comes later says nothing of those before whom it came.)
            Shed::QueueTimeout | Shed::RequestTimeout | Shed::Down => self.revision.set(began_with),
            Shed::QueueFull | Shed::Memory | Shed::Loading | Shed::Unavailable => {}
        }
        let (worker, app) = (self.worker.id.0, &*self.pool.name());
        tracing::debug!(worker, app, request = self.number, reason = reason.name(), "shed");
        let way_out = reason.way_out().map(|text| format!("; {text}")).unwrap_or_default();
        let why = format!("no capacity: {}{way_out}", reason.name());
        let failure = match reason {
            Shed::Unavailable | Shed::Loading => Failure::Unavailable(after),
            Shed::QueueFull | Shed::QueueTimeout | Shed::RequestTimeout | Shed::Down | Shed::Memory => {
                Failure::NoCapacity(after)
            }
        };
        self.fail(failure, Reason::Text(&why))
    }

    /// Answers a request that is stopped before the response's headers.
    fn stop(&self, lease: Option<Lease>, stop: Stop) -> Response<ResponseBody> {
        match (stop, lease) {
            (Stop::Fault(fault), Some(lease)) => self.fault(lease, &fault),
            (Stop::Fault(fault), None) => self.fail(Failure::Fault(fault.kind), Reason::Fault(&fault)),
            (Stop::Flaw(flaw), lease) => {
                drop(lease);
                match flaw {
                    Flaw::TooLarge => {
                        self.tell_body_too_large();
                        self.fail(Failure::BodyTooLarge, Reason::Status)
                    }
                    Flaw::Invalid => {
                        self.tell_body_invalid();
                        self.fail(Failure::BadRequest, Reason::Status)
                    }
                }
            }
            (Stop::SlowClient(slow), lease) => {
                drop(lease);
                self.tell_slow_client(slow);
                self.fail(Failure::BodyTimeout, Reason::Status)
            }
        }
    }

    fn tell_body_too_large(&self) {
        let worker = &self.worker;
        if let Some(count) = worker.lines.admit(self.pool.id(), LineKind::BodyTooLarge) {
            let (worker, request, app) = (worker.id.0, self.number, &*self.pool.name());
            tracing::info!(worker, app, request, count, peer = %self.link().client(), limit = "--body-max", "requests were refused because their body is too large (count: since the last such line); raise --body-max to allow it");
        }
    }

    fn tell_body_invalid(&self) {
        let worker = &self.worker;
        if let Some(count) = worker.lines.admit(self.pool.id(), LineKind::BodyInvalid) {
            let (worker, request, app) = (worker.id.0, self.number, &*self.pool.name());
            let reason = self.upload.cause();
            tracing::info!(worker, app, request, count, peer = %self.link().client(), reason, "requests were refused because their body is not valid (count: since the last such line)");
        }
    }

    /// Turns the guest's answer into hyper's.
    fn respond(
        self: &Rc<Self>,
        response: Response<ResponseStart>,
        lease: Lease,
        compression: Compression,
    ) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        let promised = promised(&parts.headers);
        let body = match body {
            ResponseStart::Broken(error) => {
                let detail = format!("the guest's body began with an error: {error}");
                return self.fault(lease, &Fault::new(FaultKind::Unfinished, detail));
            }
            // Nothing of the response has been sent. hyper would close the connection without a word.
            ResponseStart::Partial(ahead, false, _)
                if ahead.is_empty() && self.is_p2() && lease.is_alone() && lease.is_idle() =>
            {
                return self.fault(lease, &Fault::new(FaultKind::Unfinished, NOT_FINISHED));
            }
            ResponseStart::Whole(bytes) if promised.is_some_and(|promised| promised != bytes.len() as u64) => {
                let detail = wrong_length(promised.unwrap_or(0), bytes.len() as u64);
                return self.fault(lease, &Fault::new(FaultKind::Unfinished, detail));
            }
            ResponseStart::Partial(ahead, true, _) if promised.is_some_and(|promised| data_of(&ahead) < promised) => {
                let detail = wrong_length(promised.unwrap_or(0), data_of(&ahead));
                return self.fault(lease, &Fault::new(FaultKind::Unfinished, detail));
            }
            ResponseStart::Whole(bytes) => {
                let is_long = bytes.len() > TURN_BYTES;
                let length = Some(bytes.len() as u64);
                let encoder = if is_long { self.encoder(compression, &mut parts, length) } else { None };
                if encoder.is_some() {
                    let pieces = (VecDeque::from([Frame::data(bytes)]), true, Body::default());
                    self.stream(pieces, lease, promised, encoder)
                } else {
                    self.linger(lease);
                    let bytes = if is_long { Ok(bytes) } else { self.compressed(compression, &mut parts, bytes) };
                    let Ok(bytes) = bytes else {
                        let reason = Reason::Text("the answer could not be compressed");
                        return self.fail(Failure::Fault(FaultKind::Unfinished), reason);
                    };
                    self.sent(bytes.len());
                    self.finish(Ending::Whole);
                    ResponseBody::whole(bytes)
                }
            }
            ResponseStart::Partial(ahead, ended, inner) => {
                announce_trailers(&mut parts.headers, &ahead);
                if self.link().peer == Peer::Front {
                    trailers::announce(&mut parts.headers);
                }
                let encoder = self.encoder(compression, &mut parts, promised);
                self.stream((ahead, ended, inner), lease, promised, encoder)
            }
        };
        Response::from_parts(parts, body)
    }

    /// A body that comes in pieces.
    fn stream(
        self: &Rc<Self>,
        pieces: (VecDeque<Frame<Bytes>>, bool, Body),
        lease: Lease,
        promised: Option<u64>,
        encoder: Option<Encoder>,
    ) -> ResponseBody {
        let streaming = Streaming::new(pieces, lease, Rc::clone(self), promised);
        match encoder {
            Some(encoder) => ResponseBody::Compressed(Box::new(Compressed::new(streaming, Rc::clone(self), encoder))),
            None => ResponseBody::Streaming(streaming),
        }
    }

    /// The same where the client gets no body. What the guest makes of one is read and thrown away, and so is what it
    /// promised of it (to HEAD a `Content-Length` tells of what GET would get: RFC 9110, section 8.6). A guest that does
    /// not come to its body's end is stopped, as if a client had left in the middle of it.
    async fn respond_without_body(
        &self,
        response: Response<ResponseStart>,
        mut lease: Lease,
        (compression, is_head): (Compression, bool),
    ) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        let mut has_ended = true;
        let whole = if let ResponseStart::Whole(bytes) = &body { Some(bytes.len() as u64) } else { None };
        let bytes = promised(&parts.headers).or(whole);
        let is_compressed = compression.settle(parts.status, &mut parts.headers, bytes);
        match body {
            ResponseStart::Whole(bytes) => {
                if is_head && !is_compressed && !has_no_body(parts.status) && promised(&parts.headers).is_none() {
                    parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
                }
            }
            ResponseStart::Partial(ahead, ended, inner) => {
                announce_trailers(&mut parts.headers, &ahead);
                if !ended {
                    has_ended = match self.discard(&mut lease, inner).await {
                        Ok(has_ended) => has_ended,
                        Err(fault) => return self.fault(lease, &fault),
                    };
                }
            }
            // It was shorter or longer than promised, or not finished: nobody misses it.
            ResponseStart::Broken(_) => {}
        }
        if has_ended {
            self.linger(lease);
        } else {
            drop(lease);
        }
        self.finish(Ending::Whole);
        let body = if is_head { ResponseBody::Unsent } else { ResponseBody::whole(Bytes::new()) };
        Response::from_parts(parts, body)
    }

    /// Reads a body to its end, for [`DISCARD_MAX`] at most. Whether it came to it.
    ///
    /// # Errors
    /// The fault that the guest ended with meanwhile.
    async fn discard(&self, lease: &mut Lease, mut body: Body) -> Result<bool, Fault> {
        let alarm = self.worker.alarms.alarm();
        alarm.set(Some(Instant::now() + DISCARD_MAX));
        let outcome = poll_fn(|context| {
            if !(lease.is_alone() && lease.is_idle())
                && let Poll::Ready(fault) = lease.poll(context)
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
                Poll::Pending if lease.is_alone() && lease.is_idle() => return Poll::Ready(Ok(true)),
                Poll::Pending => {}
            }
            alarm.poll(context).map(|()| Ok(false))
        })
        .await;
        self.used(lease.cpu());
        outcome
    }

    /// The guest is at fault: its instance goes, and the host answers.
    fn fault(&self, lease: Lease, fault: &Fault) -> Response<ResponseBody> {
        lease.fail(self.number, fault);
        let failure = match fault.kind {
            FaultKind::Capacity => Failure::NoCapacity(self.pool.queue_timeout()),
            kind => Failure::Fault(kind),
        };
        self.fail(failure, Reason::Fault(fault))
    }

    /// Answers in the guest's place. The reason is told in development only.
    pub(super) fn fail(&self, failure: Failure, reason: Reason<'_>) -> Response<ResponseBody> {
        self.count();
        self.failure.set(Some(failure));
        self.trace_failure(failure, &reason);
        if let Some(reason) = failure.refused() {
            self.pool.metrics.refused(reason);
        }
        self.answer(match self.audience {
            Some(audience) => failure.response_with_reason(audience, reason),
            None => failure.response(),
        })
    }

    /// An answer of the host's own.
    fn answer(&self, response: Response<Bytes>) -> Response<ResponseBody> {
        self.status.set(response.status().as_u16());
        self.sent(response.body().len());
        self.finish(Ending::Whole);
        response.map(ResponseBody::whole)
    }
}

/// The pool of the app that a request is for, and how much of its path the app does not see. Whether the request is valid is
/// not looked at. Where another worker forwards it, that one has found the app.
fn route<B>(link: &Link, request: &Request<B>) -> Route {
    let worker = &link.worker;
    let none = || Route::Here { pool: worker.apps.no_app(), stripped: 0 };
    if link.peer == Peer::Front {
        let introduction = request.headers().get(FIELD).and_then(Introduction::read);
        link.introduce(introduction.as_ref());
        let found = introduction.and_then(|found| Some((worker.apps.pool(found.app)?, found.stripped)));
        let route = found.map_or_else(none, |(pool, stripped)| Route::Here { pool, stripped });
        return or_canary(route, link, request);
    }
    let host = || host(request.uri(), request.headers()).unwrap_or_else(|| worker.authority.host());
    // `*`, as OPTIONS has it, is the whole server (RFC 9112, section 3.2.4).
    let path = Some(request.uri().path()).filter(|path| path.starts_with('/')).unwrap_or("/");
    or_canary(worker.apps.route(host, path).unwrap_or_else(none), link, request)
}

/// The same, or to a new revision of the app that gets a share of its requests.
fn or_canary<B>(route: Route, link: &Link, request: &Request<B>) -> Route {
    match route {
        Route::Here { pool, stripped } => {
            let chosen = |rules: &CanaryRules| is_chosen(rules, request.headers(), || link.lot());
            Route::Here { pool: link.worker.apps.or_canary(pool, chosen), stripped }
        }
        elsewhere @ Route::Elsewhere(_) => elsewhere,
    }
}

/// What a request is answered with that asks for proof that a host is the operator's; none: it asks for something else.
fn asked_for_proof<B>(setup: &ListenerSetup, link: &Link, request: &Request<B>) -> Option<String> {
    let proof = setup.proof.as_ref()?;
    let host = host(request.uri(), request.headers()).unwrap_or_else(|| link.worker.authority.host());
    proof::answer(proof, request.method(), host, request.uri().path())
}

/// A target without the beginning of its path.
fn without_prefix(target: &PathAndQuery, bytes: usize) -> Result<PathAndQuery, Failure> {
    let rest = target.as_str().get(bytes..).unwrap_or_default();
    let rest = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    PathAndQuery::try_from(rest).map_err(|_| Failure::BadRequest)
}

/// How long a guest may go on with a body that nobody gets, before the head is sent: its client waits for it.
const DISCARD_MAX: Duration = Duration::from_millis(100);

/// Names trailers that are there already in a `Trailer` header (RFC 9110, section 6.6.2), without which hyper does not
/// send them.
fn announce_trailers(headers: &mut HeaderMap, ahead: &VecDeque<Frame<Bytes>>) {
    let trailers = ahead.iter().find_map(Frame::trailers_ref);
    if let Some(trailers) = trailers
        && !headers.contains_key(header::TRAILER)
    {
        let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
        if let Ok(value) = names.join(", ").parse() {
            headers.insert(header::TRAILER, value);
        }
    }
}
