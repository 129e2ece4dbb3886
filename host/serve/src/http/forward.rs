//! Forwards requests for apps of groups, from the worker that has their client's connection to a worker of the group. That one
//! has all to do with the app: limits, instances, counts, the access log. This side counts and logs what fails here.

pub(crate) mod connections;
pub(crate) mod introduction;
mod patience;
mod response;
pub(crate) mod share;
pub(super) mod socket;
pub(crate) mod trailers;
mod upload;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;

use wasmhost_base::trace::DecidedHere;
use wasmhost_sandbox::{CallChain, Fault, FaultKind};

use self::connections::ForwardLine;
use self::introduction::{FIELD, Introduction};
use self::patience::{LOOK_AGAIN_MIN, Patience, SLACK};
use self::response::ForwardedBody;
use self::share::ShareTaken;
use self::upload::{ForwardedUpload, Gate};
use super::certified::certify;
use super::exchange::{Ending, Exchange};
use super::head::Framing;
use super::lines::LineKind;
use super::request_body::RequestBody;
use super::respond::Failure;
use super::response_body::ResponseBody;
use super::response_head::{KEEP_ALIVE, has_no_body, promised, remove_hop_by_hop};
use super::source::Came;
use crate::development::Reason;
use crate::pool::Elsewhere;

/// After which time a client may ask again whose app has no worker.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Connections that are opened for one request, while those before end before it is sent.
const OPENS_MAX: usize = 2;

/// Answers a request whose app is in a group.
pub(super) async fn forward(
    exchange: Rc<Exchange>,
    request: Request<Came>,
    framing: Framing,
    to: &Elsewhere,
) -> Response<ResponseBody> {
    let is_head = request.method() == Method::HEAD;
    // A client that does not read is the group's to judge.
    exchange.link().idle.set(exchange.limits.body_idle_timeout.map(|idle| idle.saturating_add(SLACK)));
    let Some(share) = exchange.worker.shares.take(&to.group) else {
        let worker = &exchange.worker;
        if let Some(count) = worker.lines.admit(exchange.pool.id(), LineKind::GroupFull) {
            tracing::warn!(
                worker = worker.id.0,
                group = &*to.group,
                app = &*exchange.pool.name(),
                count,
                "three quarters of the worker's connections wait for the group; further requests for it get 503 (count: since the last such line)"
            );
        }
        return exchange.fail(Failure::NoCapacity(ASK_AGAIN), Reason::Text("too many requests wait for its group"));
    };
    let request = match exchange.prepare(request, framing, to) {
        Ok(request) => request,
        Err(failure) => return exchange.fail(failure, Reason::Status),
    };
    match exchange.send(request, &to.group).await {
        Ok((response, line)) => exchange.pass_on(response, line, share, is_head),
        Err(NotForwarded::NoWorker(error)) => {
            let worker = &exchange.worker;
            if let Some(count) = worker.lines.admit(exchange.pool.id(), LineKind::NoWorker) {
                tracing::warn!(worker = worker.id.0, group = &*to.group, app = &*exchange.pool.name(), count, %error, "no worker of the group takes requests, which get 503 (count: since the last such line)");
            }
            exchange.fail(Failure::Unavailable(ASK_AGAIN), Reason::Text("no worker of its group takes requests"))
        }
        Err(NotForwarded::Late) => {
            exchange.note_late(FaultKind::Wall, &to.group);
            exchange
                .fail(Failure::Fault(FaultKind::Wall), Reason::Text("the worker of its group did not answer in time"))
        }
        Err(NotForwarded::Failed(detail)) => {
            let fault = Fault::new(FaultKind::NeverAnswered, detail);
            exchange.count();
            exchange.failed_without_instance(&fault);
            exchange.fail(Failure::Fault(fault.kind), Reason::Fault(&fault))
        }
    }
}

/// Why there is no response.
enum NotForwarded {
    /// Nothing of the request was sent.
    NoWorker(std::io::Error),
    /// The request may have been served.
    Failed(String),
    /// The worker of the group did not end the request, though its time is over.
    Late,
}

impl Exchange {
    /// Puts the request into the form in which it goes to a worker of the group.
    fn prepare(
        &self,
        request: Request<Came>,
        framing: Framing,
        to: &Elsewhere,
    ) -> Result<Request<ForwardedUpload>, Failure> {
        let (mut parts, incoming) = request.into_parts();
        self.check(&parts, framing)?;
        let expects = self.may_expect() && parts.headers.contains_key(header::EXPECT);
        let has_host = parts.headers.contains_key(header::HOST);
        let link = self.link();
        let introduction = Introduction {
            app: to.app,
            stripped: to.stripped,
            client: link.client(),
            trusted: link.is_trusted(),
            has_host,
            tls: link.tls(),
            http: self.protocol,
            is_certified: link.client_certificate().is_some() || link.is_trusted(),
            depth: parts.extensions.get::<Arc<CallChain>>().map_or(0, |chain| chain.depth()),
            is_decided: parts.extensions.get::<DecidedHere>().is_some(),
        };
        let headers = &mut parts.headers;
        certify(headers, link);
        headers.insert(FIELD, introduction.value().ok_or(Failure::BadRequest)?);
        if !has_host {
            let own = HeaderValue::try_from(self.worker.authority.as_str()).map_err(|_| Failure::BadRequest)?;
            headers.insert(header::HOST, own);
        }
        // What is said of the client's connection is not so of the next one (RFC 9110, section 7.6.1).
        headers.remove(header::CONNECTION);
        headers.remove(KEEP_ALIVE);
        if !self.may_expect() {
            headers.remove(header::EXPECT);
        }
        // (What has no length on a stream of HTTP/2 goes in chunks.)
        let is_stream = self.is_on_stream && !self.upload.has_ended() && !headers.contains_key(header::CONTENT_LENGTH);
        if is_stream || headers.contains_key(header::TRANSFER_ENCODING) {
            trailers::announce(headers);
        }
        if self.is_on_stream {
            // A client of HTTP/2 takes trailers, whether it says so or not.
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        parts.version = Version::HTTP_11;
        let gate = expects.then(Arc::<Gate>::default);
        let body = (!self.upload.has_ended())
            .then(|| RequestBody::new(incoming, Arc::clone(&self.upload), None, false, &self.buffers.requests))
            .map(|body| if self.is_on_stream { body.on_stream() } else { body });
        Ok(Request::from_parts(parts, ForwardedUpload::new(body, gate)))
    }

    /// Sends it, and waits for the head of the response. What was sent is not sent again.
    async fn send(
        &self,
        mut request: Request<ForwardedUpload>,
        group: &Rc<str>,
    ) -> Result<(Response<Incoming>, ForwardLine), NotForwarded> {
        let connections = &self.worker.connections;
        let mut idle = connections.take_idle(group);
        let mut opens_left = OPENS_MAX;
        loop {
            opens_left -= usize::from(idle.is_none());
            let mut line = match idle.take() {
                Some(line) => line,
                None => connections.open(&self.worker.crash, group).await.map_err(NotForwarded::NoWorker)?,
            };
            request.body_mut().line = Rc::clone(&line.state);
            let (informational, gate) = (line.state.request_begins(), request.body().gate.clone());
            hyper::ext::on_informational(&mut request, move |response| {
                informational.fetch_add(1, Relaxed);
                if let Some(gate) = gate.as_ref().filter(|_| response.status() == StatusCode::CONTINUE) {
                    gate.open();
                }
            });
            let answer = self.in_time(line.sender.try_send_request(request)).await;
            match answer.ok_or(NotForwarded::Late)? {
                // (101 ends HTTP on a connection, and no worker of this host sends it.)
                Ok(response) if response.status().is_informational() => {
                    let detail = "the worker of the group answered with an informational status";
                    return Err(NotForwarded::Failed(detail.to_owned()));
                }
                Ok(response) => {
                    line.state.head_came();
                    return Ok((response, line));
                }
                Err(mut error) => match error.take_message() {
                    // The connection had ended meanwhile.
                    Some(unsent) if opens_left > 0 => request = unsent,
                    Some(_) => return Err(NotForwarded::NoWorker(std::io::Error::other(error.into_error()))),
                    None => {
                        let error = error.into_error();
                        let detail = format!("the worker of the group ended before it answered: {error}");
                        return Err(NotForwarded::Failed(detail));
                    }
                },
            }
        }
    }

    /// Waits for what a worker of a group answers; none: it is late.
    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let (patience, sent) = (self.patience(), Instant::now());
        // The time until here is nobody's, as that in which an app is loaded.
        self.notes.loading.set(sent.saturating_duration_since(self.began));
        let left = |now| patience.head_left(now - sent, self.upload.waited(now));
        let at = |now: Instant, left: Option<Duration>| left.and_then(|left| now.checked_add(left.max(LOOK_AGAIN_MIN)));
        let alarm = &self.link().request_alarm;
        alarm.set(at(sent, left(sent)));
        let mut answer = pin!(answer);
        let answered = poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(Some(answer));
            }
            while alarm.poll(context).is_ready() {
                let now = Instant::now();
                match left(now) {
                    Some(Duration::ZERO) => return Poll::Ready(None),
                    left => alarm.set(at(now, left)),
                }
            }
            Poll::Pending
        })
        .await;
        alarm.set(None);
        answered
    }

    fn patience(&self) -> Patience {
        Patience::new(&self.limits, self.pool.queue_timeout())
    }

    /// A worker of this group has not kept to the app's limits.
    fn note_late(&self, kind: FaultKind, group: &str) {
        let worker = &self.worker;
        self.pool.metrics.faulted(kind);
        if let Some(count) = worker.lines.admit(self.pool.id(), LineKind::GroupLate) {
            tracing::warn!(
                worker = worker.id.0,
                group,
                app = &*self.pool.name(),
                fault = kind.name(),
                count,
                "a worker of the group did not end a request when its time was over, and is not waited for any longer (count: since the last such line)"
            );
        }
    }

    /// Gives the response to the client.
    fn pass_on(
        self: &Rc<Self>,
        response: Response<Incoming>,
        line: ForwardLine,
        share: ShareTaken,
        is_head: bool,
    ) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        self.status.set(parts.status.as_u16());
        // `Connection: close` holds for the client's, too: the worker of the group does not know where a next request would
        // begin, or it ends.
        remove_hop_by_hop(&mut parts.headers);
        trailers::take_announcement(&mut parts.headers);
        if is_head || has_no_body(parts.status) {
            self.keep(line);
            self.finish(Ending::Whole);
            let body = if is_head { ResponseBody::Unsent } else { ResponseBody::whole(bytes::Bytes::new()) };
            return Response::from_parts(parts, body);
        }
        let promised = promised(&parts.headers);
        let body = ForwardedBody::new(body, (line, share), Rc::clone(self), promised);
        Response::from_parts(parts, ResponseBody::Forwarded(Box::pin(body)))
    }

    /// The response has come whole: the connection waits for its next request, if the request has gone whole.
    fn keep(&self, line: ForwardLine) {
        if self.upload.has_ended() {
            self.worker.connections.keep(line);
        } else {
            self.worker.connections.let_go(line);
        }
    }
}
