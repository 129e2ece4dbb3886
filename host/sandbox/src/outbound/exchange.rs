//! One outgoing request, from resolving its name to the end of its response. It runs in its own task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{Attention, BodySent, Download, DownloadEnd, OutgoingUpload};
use super::connect;
use super::kept::{OpenConnection, hint_of};
use super::target::Target;
use super::worker::Outbound;
use crate::bounds::ConnectionUse;

/// How long resolving the name, TCP and TLS may take in sum, unless the guest sets a time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a response may take after the request was sent, unless the guest sets a time. As in wasmtime.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long an upstream may send nothing while the guest waits for the response's body, and may take nothing of the
/// request's body, unless the guest sets a time.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a response may stay unread if `--body-idle-timeout` is `none`.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(600);

/// On how many connections that were kept a request is tried before it gets a new one.
const KEPT_TRIED_MAX: usize = 2;

/// The response that a guest gets.
pub(super) type Response = http::Response<WasiBody>;

/// The times of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    connect: Duration,
    first_byte: Duration,
    between_bytes: Duration,
    unread: Duration,
}

impl Times {
    /// From what the guest has set, and from `--body-idle-timeout`.
    pub(super) fn of(options: Option<RequestOptions>, body_idle: Option<Duration>) -> Self {
        let options = options.unwrap_or_default();
        Self {
            connect: options.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            first_byte: options.first_byte_timeout.unwrap_or(FIRST_BYTE_TIMEOUT),
            between_bytes: options.between_bytes_timeout.unwrap_or(BETWEEN_BYTES_TIMEOUT),
            unread: body_idle.unwrap_or(UNREAD_TIMEOUT),
        }
    }
}

/// Sends `request` on behalf of `whose` (worker and request). `answer` gets the response, or the error. Returns when the
/// connection is closed, or kept for another request.
pub(super) async fn run(
    outbound: Arc<Outbound>,
    target: Target,
    request: http::Request<WasiBody>,
    (times, attention): (Times, Arc<Attention>),
    whose: (u16, u64),
    answer: oneshot::Sender<Result<Response, Error>>,
) -> Result<(), Error> {
    let Begun { response, mut open, keep_hint, sent } =
        match begin(&outbound, &target, request, (times, &attention), whose).await {
            Ok(begun) => begun,
            Err(error) => {
                // The guest may have dropped its request.
                let _ = answer.send(Err(error));
                return Ok(());
            }
        };
    if answer.send(Ok(response)).is_err() {
        return Ok(());
    }
    let is_lost = tokio::select! {
        biased;
        outcome = &mut open.driver => return ended(outcome, &sent),
        end = attention.ended() => {
            // (Whether all of the body was sent that was to be sent, hyper knows.)
            if end == DownloadEnd::Whole && sent.borrow().is_over() {
                if open.is_free().await {
                    outbound.kept().put(&target, open, keep_hint);
                }
                return Ok(());
            }
            false
        }
        () = attention.lost(times.unread, times.between_bytes) => true,
    };
    if !is_lost {
        // Without a sender, the connection ends when the rest of it has: the request's body may still be on its way.
        let driver = open.into_driver();
        tokio::select! {
            outcome = driver => return ended(outcome, &sent),
            () = attention.is_unwanted.notified() => return Ok(()),
            () = attention.lost(times.unread, times.between_bytes) => {}
        }
    }
    let ((worker, request), host, port) = (whose, &target.host, target.port);
    tracing::debug!(
        app = outbound.app(),
        worker,
        request,
        "nobody reads the response of {host}:{port}; its connection is closed"
    );
    Ok(())
}

/// What the end of a connection means for its request.
fn ended(outcome: Result<(), hyper::Error>, sent: &watch::Receiver<BodySent>) -> Result<(), Error> {
    match outcome {
        // What this costs the response, its body reports. Many upstreams end TLS without a word.
        Err(error) if matches!(*sent.borrow(), BodySent::CutOff(_)) => Err(Error::Hyper(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The task of one exchange. Dropping this aborts the task, unless the response was read: then the task ends by itself, when the
/// connection can be kept.
pub(super) struct AbortOnDrop {
    task: tokio::task::JoinHandle<Result<(), Error>>,
    attention: Arc<Attention>,
}

impl AbortOnDrop {
    pub(super) fn new(task: tokio::task::JoinHandle<Result<(), Error>>, attention: Arc<Attention>) -> Self {
        Self { task, attention }
    }

    /// Waits until the exchange has ended.
    pub(super) async fn join(self) -> Result<(), Error> {
        match self.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::ConnectionTerminated),
        }
    }
}

impl Future for AbortOnDrop {
    type Output = Result<Result<(), Error>, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        match self.attention.is_whole() {
            true => self.attention.is_unwanted.notify_one(),
            false => self.task.abort(),
        }
    }
}

/// An exchange whose response has begun.
struct Begun {
    response: Response,
    open: OpenConnection,
    /// For how long the upstream says that it keeps the connection.
    keep_hint: Option<Duration>,
    sent: watch::Receiver<BodySent>,
}

/// A request without an answer.
struct Unanswered {
    error: Error,
    /// It was the connection that failed.
    is_of_connection: bool,
    /// The request, if nothing of it was sent.
    unsent: Option<http::Request<OutgoingUpload>>,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self { error, is_of_connection: false, unsent: None }
    }
}

/// Runs the exchange up to the head of the response: on a connection that was kept, or else on a new one.
///
/// An upstream may close a connection that was kept while a request is on its way. A request of which nothing was sent is sent
/// again, and so is one without a body that does the same twice as once (RFC 9110, section 9.2.2); any other gets the error.
async fn begin(
    outbound: &Outbound,
    target: &Target,
    request: http::Request<WasiBody>,
    (times, attention): (Times, &Arc<Attention>),
    whose: (u16, u64),
) -> Result<Begun, Error> {
    let mut request = target.prepare(request)?.map(OutgoingUpload::new);
    for _ in 0..KEPT_TRIED_MAX {
        let Some(open) = outbound.kept().take(target) else { break };
        let copy = is_repeatable(&request).then(|| copy_of(&request));
        match send(open, request, times, attention).await {
            Ok(begun) => {
                outbound.count_request(ConnectionUse::Kept);
                return Ok(begun);
            }
            Err(Unanswered { unsent: Some(unsent), .. }) => request = unsent,
            Err(Unanswered { error, is_of_connection, .. }) => match copy.filter(|_| is_of_connection) {
                Some(copy) => {
                    request = copy;
                    break;
                }
                None => return Err(error),
            },
        }
    }
    let deadline = after(times.connect);
    let addresses = tokio::time::timeout_at(deadline, outbound.allowed_addresses(target, whose));
    let addresses = addresses.await.map_err(|_| Error::DnsTimeout)??;
    let connecting = connect::connect(target, &addresses, outbound.tls());
    let stream = tokio::time::timeout_at(deadline, connecting).await.map_err(|_| Error::ConnectionTimeout)??;
    let (sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    outbound.count_request(ConnectionUse::New);
    send(OpenConnection::new(sender, Box::pin(connection)), request, times, attention)
        .await
        .map_err(|failed| failed.error)
}

/// Sends a request on a connection, and waits for the head of the response.
async fn send(
    mut open: OpenConnection,
    request: http::Request<OutgoingUpload>,
    times: Times,
    attention: &Arc<Attention>,
) -> Result<Begun, Unanswered> {
    let sent = request.body().begin();
    let sending = open.sender.try_send_request(request);
    let late = late(sent.clone(), times);
    tokio::pin!(sending, late);
    let mut ended = None;
    let head = loop {
        tokio::select! {
            biased;
            head = &mut sending => break head,
            // The head may have arrived before the connection ended. If not, `sending` returns the error.
            outcome = &mut open.driver, if ended.is_none() => ended = Some(outcome),
            error = &mut late => return Err(error.into()),
        }
    };
    if let Some(outcome) = ended {
        open.driver = Box::pin(std::future::ready(outcome));
    }
    let head = head.map_err(|mut failed| {
        let unsent = failed.take_message();
        let error = failed.into_error();
        Unanswered { is_of_connection: !error.is_parse() && !error.is_user(), error: error.into(), unsent }
    })?;
    let keep_hint = hint_of(head.headers());
    let response =
        head.map(|incoming| Download::new(incoming, times.between_bytes, Arc::clone(attention)).boxed_unsync());
    Ok(Begun { response, open, keep_hint, sent })
}

/// Whether a request may be sent again although its upstream may have it already.
fn is_repeatable(request: &http::Request<OutgoingUpload>) -> bool {
    const IDEMPOTENT: [Method; 6] =
        [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE];
    IDEMPOTENT.contains(request.method()) && sends_no_body(request)
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
fn copy_of(request: &http::Request<OutgoingUpload>) -> http::Request<OutgoingUpload> {
    let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut copy = http::Request::new(OutgoingUpload::new(empty));
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

/// Returns when the upstream has taken nothing of the request's body for too long, or has not answered for too long
/// since all of the request was sent.
async fn late(mut sent: watch::Receiver<BodySent>, times: Times) -> Error {
    loop {
        let now = *sent.borrow_and_update();
        let (deadline, error) = match now {
            BodySent::GuestOwes => (None, Error::ConnectionWriteTimeout),
            BodySent::UpstreamOwes(since) => (since.checked_add(times.between_bytes), Error::ConnectionWriteTimeout),
            BodySent::All(since) | BodySent::CutOff(since) => {
                (since.checked_add(times.first_byte), Error::ConnectionReadTimeout)
            }
        };
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = sent.changed(), if !now.is_over() => {
                if changed.is_err() {
                    // The body was dropped; it has reported that first.
                    continue;
                }
            }
            () = over => return error,
        }
    }
}

/// This much later than now. Longer times than the clock can hold are cut.
fn after(time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + time.min(NEVER)
}
