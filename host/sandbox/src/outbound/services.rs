//! Calls of other apps of the host. A request to the authority of a service goes to no socket: who has the apps of the worker
//! answers it ([`Services`], which `serve` gives to each worker). What is done for a call is charged to all requests that led
//! to it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Uri, Version, header};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::{mpsc, oneshot};
use wasmtime_wasi_http::{Error, WasiBody};

use super::charge::Charged;
use super::share::OutgoingPermit;
use crate::meter::CallChain;

/// How the names of all services end: the first is ours, the second is what components for Spin call. Neither is a name of
/// the domain name service, and nothing below them is ever looked up.
const DOMAINS: [&str; 2] = [".wasmhost.internal", ".spin.internal"];

/// Pieces of a response's body that may wait for the guest.
const PIECES_MAX: usize = 1;

/// Gives calls to the apps of a worker.
pub trait Services: Send + Sync {
    /// Has the app answer; called on the worker's thread. A call that is dropped is an error for its caller.
    fn call(&self, call: ServiceCall);
}

/// Where there are no other apps: an app that is tried, for example.
pub struct NoServices;

impl Services for NoServices {
    fn call(&self, call: ServiceCall) {
        call.split().1.fail(Error::DestinationNotFound);
    }
}

/// Runs what is done for a call. None: a request that led to it has used its CPU time.
pub fn charged<F: Future>(chain: &CallChain, task: F) -> impl Future<Output = Option<F::Output>> {
    Charged::to_all(task, chain.payers().to_vec())
}

/// What comes of a call.
type ServiceOutcome = Result<http::Response<WasiBody>, Error>;

/// A call of an app by another.
pub struct ServiceCall {
    /// Which app is called.
    app: Arc<str>,
    request: http::Request<WasiBody>,
    chain: Arc<CallChain>,
    answer: ServiceAnswer,
}

/// Where the answer to a call goes.
pub struct ServiceAnswer {
    head: oneshot::Sender<ServiceOutcome>,
    between_bytes: Option<Duration>,
    _permit: OutgoingPermit,
}

impl ServiceCall {
    pub(super) fn new(
        app: &Arc<str>,
        request: http::Request<WasiBody>,
        chain: Arc<CallChain>,
        between_bytes: Option<Duration>,
        permit: OutgoingPermit,
    ) -> Result<(Self, oneshot::Receiver<ServiceOutcome>), Error> {
        let request = prepared(request)?;
        let (head, answered) = oneshot::channel();
        let answer = ServiceAnswer { head, between_bytes, _permit: permit };
        Ok((Self { app: Arc::clone(app), request, chain, answer }, answered))
    }

    /// The app that is called.
    pub fn app(&self) -> &str {
        &self.app
    }

    /// What led to it.
    pub fn chain(&self) -> &Arc<CallChain> {
        &self.chain
    }

    /// The request, which knows its [`CallChain`], and where its answer goes.
    pub fn split(self) -> (http::Request<WasiBody>, ServiceAnswer) {
        let Self { mut request, chain, answer, .. } = self;
        request.extensions_mut().insert(chain);
        (request, answer)
    }
}

impl ServiceAnswer {
    /// Ready when the caller does not wait for the head any more.
    pub fn poll_left(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.head.poll_closed(context)
    }

    /// There is no response.
    pub fn fail(self, error: Error) {
        // The caller may have left.
        let _ = self.head.send(Err(error));
    }

    /// The response, all of whose body is here.
    pub fn whole(self, parts: http::response::Parts, bytes: Bytes) {
        let body = http_body_util::Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
        // The caller may have left.
        let _ = self.head.send(Ok(http::Response::from_parts(parts, body)));
    }

    /// The response's head. Its body follows, piece by piece.
    pub fn begin(self, parts: http::response::Parts) -> ServicePieces {
        let (pieces, came) = mpsc::channel(PIECES_MAX);
        let body = CalledBody { came, ended: false }.boxed_unsync();
        // The caller may have left.
        let _ = self.head.send(Ok(http::Response::from_parts(parts, body)));
        ServicePieces { pieces, between_bytes: self.between_bytes, _permit: self._permit }
    }
}

/// The body of a response on its way to the caller.
pub struct ServicePieces {
    pieces: mpsc::Sender<CallPiece>,
    /// How long the caller waits for the next.
    pub between_bytes: Option<Duration>,
    _permit: OutgoingPermit,
}

/// The caller does not read any more.
#[derive(Debug)]
pub struct CallerLeft;

enum CallPiece {
    Frame(Frame<Bytes>),
    End,
    Broken(Error),
}

impl ServicePieces {
    /// Waits until the caller has taken what came before.
    ///
    /// # Errors
    /// It reads no more.
    pub async fn room(&self) -> Result<(), CallerLeft> {
        self.pieces.reserve().await.map(drop).map_err(|_| CallerLeft)
    }

    /// Ready when the caller reads no more.
    pub async fn left(&self) {
        self.pieces.closed().await;
    }

    /// The next piece, for which there is room.
    pub fn frame(&self, frame: Frame<Bytes>) {
        let _ = self.pieces.try_send(CallPiece::Frame(frame));
    }

    /// That was all, or it is broken off, once there is room.
    pub async fn end(self, outcome: Result<(), Error>) {
        let last = outcome.map_or_else(CallPiece::Broken, |()| CallPiece::End);
        let _ = self.pieces.send(last).await;
    }
}

/// The body of a response, as the caller reads it.
struct CalledBody {
    came: mpsc::Receiver<CallPiece>,
    ended: bool,
}

impl http_body::Body for CalledBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let piece = std::task::ready!(self.came.poll_recv(context));
        self.ended = !matches!(piece, Some(CallPiece::Frame(_)));
        Poll::Ready(match piece {
            Some(CallPiece::Frame(frame)) => Some(Ok(frame)),
            Some(CallPiece::End) => None,
            Some(CallPiece::Broken(error)) => Some(Err(error)),
            // Who answered has ended in the middle of it.
            None => Some(Err(Error::ConnectionTerminated)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// The name by which a request calls a service; none: it is for another host.
pub(super) fn called(uri: &Uri) -> Option<&str> {
    // With a dot at its end, it is the same name (RFC 1034, section 3.1).
    let host = uri.host()?.trim_end_matches('.');
    DOMAINS.iter().find_map(|domain| {
        let at = host.len().checked_sub(domain.len())?;
        let (name, rest) = (host.get(..at)?, host.get(at..)?);
        rest.eq_ignore_ascii_case(domain).then_some(name)
    })
}

/// The request as the app that is called gets it: with `Host`, and a path.
fn prepared(request: http::Request<WasiBody>) -> Result<http::Request<WasiBody>, Error> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
    if authority.as_str().contains('@') {
        return Err(Error::HttpRequestUriInvalid);
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
    parts.headers.insert(header::HOST, host);
    parts.headers.remove(header::EXPECT);
    parts.version = Version::HTTP_11;
    Ok(http::Request::from_parts(parts, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Meter, SERVICE_DEPTH_MAX};

    #[test]
    fn services_are_known_by_the_ends_of_their_names() {
        for (uri, name) in [
            ("http://users.wasmhost.internal/a?b", Some("users")),
            ("https://USERS.WasmHost.Internal:80/", Some("USERS")),
            ("http://users.spin.internal/", Some("users")),
            ("http://a.b.wasmhost.internal/", Some("a.b")),
            ("http://users.wasmhost.internal./", Some("users")),
            ("http://users.SPIN.internal.:80/", Some("users")),
            ("http://.wasmhost.internal/", Some("")),
            ("http://wasmhost.internal/", None),
            ("http://users.internal/", None),
            ("http://users.wasmhost.internal.example.com/", None),
            ("http://wasmhost.internal@example.com/", None),
        ] {
            assert_eq!(called(&Uri::from_static(uri)), name, "{uri}");
        }
    }

    #[test]
    fn calls_are_nested_so_deep_and_no_deeper() {
        let mut chains = 0;
        let mut meter = Arc::new(Meter::of_test(Duration::from_secs(1)));
        while let Some(chain) = CallChain::behind(&meter, 1) {
            chains += 1;
            assert_eq!(chain.depth(), chains);
            meter = Arc::new(Meter::of_test(Duration::from_secs(1)));
            meter.begin_call(1);
            meter.is_led_to_by(Some(chain), false);
        }
        assert_eq!(chains, SERVICE_DEPTH_MAX);
    }

    #[test]
    fn what_is_done_for_a_call_is_charged_to_all_that_led_to_it() {
        let meters: [Arc<Meter>; 2] = std::array::from_fn(|_| Arc::new(Meter::of_test(Duration::from_millis(5))));
        meters[0].begin_call(7);
        let chain = CallChain::behind(&meters[0], 7).expect("a call");
        meters[1].begin_call(8);
        meters[1].is_led_to_by(Some(chain), false);
        let chain = CallChain::behind(&meters[1], 8).expect("a call within it");
        let busy = std::future::poll_fn(|_| {
            let began = std::time::Instant::now();
            while began.elapsed() < Duration::from_millis(1) {
                std::hint::spin_loop();
            }
            Poll::<()>::Pending
        });
        let mut task = std::pin::pin!(charged(&chain, busy));
        let mut polls = 0;
        while task.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending() {
            polls += 1;
            assert!(polls < 1_000, "it was never ended");
        }
        assert!(
            meters.iter().all(|meter| meter.cpu() > Duration::from_millis(4)),
            "{:?}",
            meters.each_ref().map(|meter| meter.cpu())
        );
        // Another request of the same instance does not pay for it.
        meters[0].begin_call(9);
        meters[0].is_led_to_by(None, false);
        assert_eq!(meters[0].chain().map(|chain| chain.depth()), None);
        let mut task = std::pin::pin!(charged(&chain, std::future::ready(())));
        let _ = task.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop()));
        assert_eq!(meters[0].cpu(), Duration::ZERO);
    }
}
