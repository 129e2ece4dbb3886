//! One outgoing request, from resolving its name to the end of its response. It runs in its own task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use super::body::{Attention, BodySent, Download, OutgoingUpload};
use super::connect;
use super::target::Target;
use super::worker::Outbound;

/// How long resolving the name, TCP and TLS may take in sum, unless the guest sets a time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a response may take after the request was sent, unless the guest sets a time. As in wasmtime.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long an upstream may send nothing while the guest waits for the response's body, and may take nothing of the
/// request's body, unless the guest sets a time.
const BETWEEN_BYTES_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a response may stay unread if `--body-idle-timeout` is `none`.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(600);

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
/// connection is closed.
pub(super) async fn run(
    outbound: Arc<Outbound>,
    target: Target,
    request: http::Request<WasiBody>,
    times: Times,
    whose: (u16, u64),
    answer: oneshot::Sender<Result<Response, Error>>,
) -> Result<(), Error> {
    match begin(&outbound, &target, request, times, whose).await {
        Ok(Begun { response, connection, attention, sent }) => {
            if answer.send(Ok(response)).is_err() {
                return Ok(());
            }
            tokio::select! {
                outcome = connection => match outcome {
                    // What this costs the response, its body reports. Many upstreams end TLS without a word.
                    Err(error) if matches!(*sent.borrow(), BodySent::CutOff(_)) => Err(Error::Hyper(error)),
                    Ok(()) | Err(_) => Ok(()),
                },
                () = attention.lost(times.unread, times.between_bytes) => {
                    let (worker, request) = whose;
                    let (host, port) = (&target.host, target.port);
                    tracing::debug!(app = outbound.app(), worker, request, "nobody reads the response of {host}:{port}; its connection is closed");
                    Ok(())
                }
            }
        }
        Err(error) => {
            // The guest may have dropped its request.
            let _ = answer.send(Err(error));
            Ok(())
        }
    }
}

/// The task of one exchange. Dropping this aborts the task.
pub(super) struct AbortOnDrop(pub(super) tokio::task::JoinHandle<Result<(), Error>>);

impl AbortOnDrop {
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
        Pin::new(&mut self.0).poll(context)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type OutgoingConnection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// An exchange whose response has begun.
struct Begun {
    response: Response,
    connection: OutgoingConnection,
    attention: Arc<Attention>,
    sent: watch::Receiver<BodySent>,
}

/// Runs the exchange up to the head of the response.
async fn begin(
    outbound: &Outbound,
    target: &Target,
    request: http::Request<WasiBody>,
    times: Times,
    whose: (u16, u64),
) -> Result<Begun, Error> {
    let request = target.prepare(request)?;
    let deadline = after(times.connect);
    let addresses = tokio::time::timeout_at(deadline, outbound.allowed_addresses(target, whose));
    let addresses = addresses.await.map_err(|_| Error::DnsTimeout)??;
    let connecting = connect::connect(target, &addresses, outbound.tls());
    let stream = tokio::time::timeout_at(deadline, connecting).await.map_err(|_| Error::ConnectionTimeout)??;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let mut connection: OutgoingConnection = Box::pin(connection);
    let (parts, body) = request.into_parts();
    let (upload, sent) = OutgoingUpload::new(body);
    let sending = sender.send_request(http::Request::from_parts(parts, upload));
    let late = late(sent.clone(), times);
    tokio::pin!(sending, late);
    let mut ended = None;
    let head = loop {
        tokio::select! {
            biased;
            head = &mut sending => break head?,
            // The head may have arrived before the connection ended. If not, `sending` returns the error.
            outcome = &mut connection, if ended.is_none() => ended = Some(outcome),
            error = &mut late => return Err(error),
        }
    };
    if let Some(outcome) = ended {
        connection = Box::pin(std::future::ready(outcome));
    }
    let attention = Attention::new();
    let response =
        head.map(|incoming| Download::new(incoming, times.between_bytes, Arc::clone(&attention)).boxed_unsync());
    Ok(Begun { response, connection, attention, sent })
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
