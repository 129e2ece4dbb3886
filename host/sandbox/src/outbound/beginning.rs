//! An exchange up to the head of its response: on which connection its request is sent, and whether it is sent again.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

use wasmhost_base::hops;

use super::body::{Attention, BodySent, Download, OutgoingUpload};
use super::connect::{self, Connected};
use super::http2::{Processing, StreamMember};
use super::kept::{OpenConnection, hint_of};
use super::payers::Payer;
use super::places::AtPlace;
use super::target::{Destination, UpstreamPlace};
use super::times::{Times, after, late};
use super::worker::Outbound;
use crate::bounds::ConnectionUse;

/// The rest of a transfer, after the response's head.
pub(super) type OutgoingTransfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
/// A request that is being sent: it gives the response's head, and the future that runs the rest of the transfer.
pub(crate) type Sending = Box<dyn Future<Output = Result<(Response, OutgoingTransfer), Error>> + Send>;

/// On how many connections that were there a request is tried before it gets a new one.
const KEPT_TRIED_MAX: usize = 2;
/// On how many connections a request is tried in all.
const TRIED_MAX: usize = 4;

/// The response that a guest gets.
pub(super) type Response = http::Response<WasiBody>;

/// The connection of an exchange.
pub(super) enum OutgoingWay {
    /// HTTP/1.1: it has the connection alone.
    Alone(OpenConnection),
    /// HTTP/2.
    Shared(StreamMember),
}

/// An exchange whose response has begun.
pub(super) struct Begun {
    pub(super) response: Response,
    pub(super) way: OutgoingWay,
    /// For how long the upstream says that it keeps the connection.
    pub(super) keep_hint: Option<Duration>,
    pub(super) sent: watch::Receiver<BodySent>,
    pub(super) at: AtPlace,
    pub(super) turn: OwnedSemaphorePermit,
}

/// Why an exchange did not begin.
pub(super) enum NotBegun {
    With(Error),
    /// The request that pays has no more CPU time.
    NoCpuTime,
}

impl From<Error> for NotBegun {
    fn from(error: Error) -> Self {
        Self::With(error)
    }
}

/// A request without an answer.
struct Unanswered {
    failed: NotBegun,
    /// What the upstream has done with it.
    processing: Processing,
    /// The request, if nothing of it was sent.
    unsent: Option<http::Request<OutgoingUpload>>,
}

impl Unanswered {
    fn of(failed: NotBegun) -> Self {
        Self { failed, processing: Processing::Request, unsent: None }
    }

    fn by(mut failed: hyper::client::conn::TrySendError<http::Request<OutgoingUpload>>) -> Self {
        let unsent = failed.take_message();
        let error = failed.into_error();
        Self { processing: Processing::of(&error), failed: NotBegun::With(error.into()), unsent }
    }
}

/// A head, the connection that it came on, and what is known of the request's body.
type AnsweredHead = (http::Response<hyper::body::Incoming>, OutgoingWay, watch::Receiver<BodySent>);

/// An exchange up to the head of its response.
#[derive(Clone, Copy)]
pub(super) struct Beginning<'a> {
    pub(super) outbound: &'a Outbound,
    pub(super) destination: &'a Destination,
    pub(super) times: Times,
    pub(super) attention: &'a Arc<Attention>,
    /// Worker and request.
    pub(super) whose: (u16, u64),
}

impl Beginning<'_> {
    /// Runs the exchange up to the head of the response: on a connection that is there, or else on a new one.
    ///
    /// An upstream may close a connection that was kept while a request is on its way. A request of which nothing was sent is
    /// sent again, and so is one without a body of which the upstream says that it has done nothing (RFC 9113, section 8.7), or
    /// that does the same twice as once (RFC 9110, section 9.2.2); any other gets the error.
    pub(super) async fn begin(
        self,
        request: http::Request<WasiBody>,
        trail: HeaderValue,
        payer: &Arc<Payer>,
    ) -> Result<Begun, NotBegun> {
        let Self { outbound, destination, times, attention, whose } = self;
        let grant = outbound.grant(&destination.asked(request.method()), whose)?;
        let at = outbound.at(&UpstreamPlace { target: destination.target.clone(), grant });
        let turn = self.turn(&at).await?;
        let mut request = request.map(|body| OutgoingUpload::new(body, attention));
        request.headers_mut().insert(hops::FIELD, trail);
        let (mut may_use_kept, mut was_refused) = (KEPT_TRIED_MAX, false);
        for tried in 1.. {
            let there = match may_use_kept {
                0 => None,
                _ => at
                    .join(payer)
                    .map(OutgoingWay::Shared)
                    .or_else(|| outbound.kept().take(&at.place).map(OutgoingWay::Alone)),
            };
            let (way, connection) = match there {
                Some(way) => {
                    may_use_kept -= 1;
                    (way, ConnectionUse::Kept)
                }
                None => {
                    let deadline = after(times.connect);
                    // In a box: most requests are sent on a connection that is there.
                    Box::pin(self.open(&at, request.method(), payer, deadline)).await?
                }
            };
            let copy = sends_no_body(&request).then(|| head_of(&request));
            let emptied = |head: http::Request<()>| head.map(|()| OutgoingUpload::empty(attention));
            let unanswered = match self.send(way, request).await {
                Ok((head, way, sent)) => {
                    if connection == ConnectionUse::Kept {
                        outbound.count_request(ConnectionUse::Kept);
                    }
                    let keep_hint = hint_of(head.headers());
                    let download = |body| Download::new(body, times.between_bytes, Arc::clone(attention));
                    let response = head.map(|body| download(body).boxed_unsync());
                    return Ok(Begun { response, way, keep_hint, sent, at, turn });
                }
                Err(unanswered) => unanswered,
            };
            let again = match (unanswered.unsent, unanswered.processing) {
                (Some(unsent), _) => Some(unsent),
                // (An upstream that refuses it twice has its reasons.)
                (None, Processing::Unprocessed) if !std::mem::replace(&mut was_refused, true) => copy.map(emptied),
                (None, Processing::Connection) if connection == ConnectionUse::Kept => {
                    may_use_kept = 0;
                    copy.filter(is_repeatable).map(emptied)
                }
                (None, _) => None,
            };
            match again.filter(|_| tried < TRIED_MAX) {
                Some(again) => request = again,
                None => return Err(unanswered.failed),
            }
        }
        Err(NotBegun::With(Error::ConnectionTerminated))
    }

    /// Waits until the place may have one request more.
    async fn turn(&self, at: &AtPlace) -> Result<OwnedSemaphorePermit, Error> {
        let turns = Arc::clone(at.turns());
        if let Ok(turn) = Arc::clone(&turns).try_acquire_owned() {
            return Ok(turn);
        }
        match tokio::time::timeout_at(after(self.times.connect), turns.acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => {
                let target = &self.destination.target;
                self.outbound.tell("--outgoing-host-max", self.whose, || {
                    format!(
                        "outgoing request to {}:{} refused: as many as may be there at once were there for all its time to connect; \
                         raise --outgoing-host-max to allow more",
                        target.host, target.port
                    )
                });
                Err(Error::ConnectionLimitReached)
            }
        }
    }

    /// Opens a connection. Where it is not known whether it can be shared, requests wait for the one that finds out.
    async fn open(
        &self,
        at: &AtPlace,
        method: &Method,
        payer: &Arc<Payer>,
        deadline: Instant,
    ) -> Result<(OutgoingWay, ConnectionUse), NotBegun> {
        let Self { outbound, destination, .. } = self;
        let target = &destination.target;
        let mut turn = None;
        if target.tls && !at.speaks_http1() {
            turn = tokio::time::timeout_at(deadline, at.opening().acquire())
                .await
                .map_err(|_| Error::ConnectionTimeout)?
                .ok();
            if let Some(member) = at.join(payer) {
                return Ok((OutgoingWay::Shared(member), ConnectionUse::Kept));
            }
            if at.speaks_http1() {
                turn = None;
            }
        }
        let addresses = outbound.allowed_addresses(destination, &at.place.grant, method, self.whose);
        let addresses = tokio::time::timeout_at(deadline, addresses).await.map_err(|_| Error::DnsTimeout)??;
        let connecting = async {
            Ok::<OutgoingWay, Error>(match connect::connect(target, &addresses, outbound.tls()).await? {
                Connected::Http1(socket) => {
                    at.note_http1();
                    let (sender, connection) = hyper::client::conn::http1::handshake(socket).await?;
                    OutgoingWay::Alone(OpenConnection::new(sender, Box::pin(connection)))
                }
                Connected::Http2(socket) => OutgoingWay::Shared(at.share(socket, outbound.kept().room(), payer).await?),
            })
        };
        let connected = tokio::time::timeout_at(deadline, connecting).await.unwrap_or(Err(Error::ConnectionTimeout));
        drop(turn);
        if connected.is_err() {
            outbound.unreachable(destination);
        }
        let way = connected?;
        outbound.count_request(ConnectionUse::New);
        Ok((way, ConnectionUse::New))
    }

    /// Sends a request on a connection, and waits for the head of the response.
    async fn send(
        &self,
        way: OutgoingWay,
        mut request: http::Request<OutgoingUpload>,
    ) -> Result<AnsweredHead, Unanswered> {
        let form = match &way {
            OutgoingWay::Alone(_) => self.destination.for_http1(&mut request),
            OutgoingWay::Shared(_) => self.destination.for_http2(&mut request),
        };
        form.map_err(|error| Unanswered::of(error.into()))?;
        if matches!(way, OutgoingWay::Shared(_)) && sends_no_body(&request) && !request.body().is_end_stream() {
            // As hyper has it for HTTP/1.1.
            request = head_of(&request).map(|()| OutgoingUpload::empty(self.attention));
        }
        let sent = request.body().begin();
        let late = late(sent.clone(), self.times);
        tokio::pin!(late);
        match way {
            OutgoingWay::Alone(mut open) => {
                let sending = open.sender.try_send_request(request);
                tokio::pin!(sending);
                let mut ended = None;
                let head = loop {
                    tokio::select! {
                        biased;
                        head = &mut sending => break head,
                        // The head may have arrived before the connection ended. If not, `sending` returns the error.
                        outcome = &mut open.driver, if ended.is_none() => ended = Some(outcome),
                        error = &mut late => return Err(Unanswered::of(error.into())),
                    }
                };
                if let Some(outcome) = ended {
                    open.driver = Box::pin(std::future::ready(outcome));
                }
                Ok((head.map_err(Unanswered::by)?, OutgoingWay::Alone(open), sent))
            }
            OutgoingWay::Shared(member) => {
                let head = tokio::select! {
                    biased;
                    () = member.is_over() => return Err(Unanswered::of(NotBegun::NoCpuTime)),
                    head = member.send(request) => head.map_err(Unanswered::by)?,
                    error = &mut late => {
                        member.retire();
                        return Err(Unanswered::of(error.into()));
                    }
                };
                Ok((head, OutgoingWay::Shared(member), sent))
            }
        }
    }
}

/// Whether a request may be sent again although its upstream may have it already.
fn is_repeatable(request: &http::Request<()>) -> bool {
    const IDEMPOTENT: [Method; 6] =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
    IDEMPOTENT.contains(request.method())
}

/// Whether hyper sends no body with it: there is none, or one of unknown length with a method that needs none (guests of WASI
/// 0.3 say late that there is none).
fn sends_no_body(request: &http::Request<OutgoingUpload>) -> bool {
    let body = request.body();
    let needs_none = matches!(*request.method(), Method::GET | Method::HEAD) && body.size_hint().exact().is_none();
    let is_announced =
        [header::CONTENT_LENGTH, header::TRANSFER_ENCODING].iter().any(|name| request.headers().contains_key(name));
    body.is_end_stream() || (needs_none && !is_announced)
}

/// The same request, without a body.
fn head_of(request: &http::Request<OutgoingUpload>) -> http::Request<()> {
    let mut copy = http::Request::new(());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}
