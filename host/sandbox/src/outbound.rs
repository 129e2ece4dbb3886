//! Outgoing HTTP requests of guests, for WASI 0.2 and 0.3. The destination is checked before its name is resolved and
//! again for each address. Connections are kept for further requests of the same app, and those of HTTP/2 are shared.

mod beginning;
mod body;
mod charge;
mod connect;
mod exchange;
mod fate;
mod http2;
mod in_turns;
mod kept;
mod names;
mod payers;
mod places;
mod policy;
mod reach;
mod requests;
mod services;
mod share;
mod target;
mod times;
mod traced;
mod worker;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{Extensions, HeaderMap};
use tokio::sync::oneshot;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use wasmhost_base::hops::{self, Trail};
use wasmhost_base::trace::RequestTrace;

use self::beginning::OutgoingTransfer;
pub(super) use self::beginning::Sending;
use self::body::Attention;
use self::charge::Charged;
use self::exchange::{AbortOnDrop, SentRequest};
pub(super) use self::fate::Unsent;
pub(super) use self::requests::mend;
pub use self::services::{CallerLeft, NoServices, ServiceAnswer, ServiceCall, ServicePieces, Services, charged};
use self::share::{InstanceRequests, OutgoingPermit};
use self::target::Destination;
use self::times::Times;
pub(super) use self::worker::Outbound;
use super::bounds::{AppBounds, KEPT_MAX, LOOK_UPS_MAX, REQUESTS_MAX};
use super::meter::{CallChain, Meter};

/// Descriptors that the outgoing requests of one worker take at most: each tries several addresses at once, and each look-up
/// of a name has a socket and a file; and the connections that are kept.
pub const DESCRIPTORS_MAX: usize = REQUESTS_MAX * connect::ATTEMPTS_MAX + 2 * LOOK_UPS_MAX + KEPT_MAX;

/// Sends the requests of one instance.
pub(super) struct Outgoing {
    outbound: Arc<Outbound>,
    requests: InstanceRequests,
    meter: Arc<Meter>,
    body_idle: Option<Duration>,
    /// Of what the instance was asked since it was last at rest.
    asked: AskedInstance,
}

/// What an instance was asked since it was last at rest, and what it asked of others. (Which of several requests at once asks,
/// nobody knows.)
#[derive(Default)]
struct AskedInstance {
    requests: u64,
    /// Outgoing ones.
    calls: u64,
    /// That of the request that has left hosts of ours most often.
    trail: Trail,
    /// It was logged that it makes too many calls.
    is_told: bool,
    /// Requests that it answers now.
    answering: usize,
    /// The trace of the last of them, if that began alone.
    trace: Option<Arc<RequestTrace>>,
}

impl Outgoing {
    /// For the instance that `meter` measures. A response that nobody reads for `body_idle` is closed.
    pub(super) fn new(outbound: &Arc<Outbound>, meter: &Arc<Meter>, body_idle: Option<Duration>) -> Self {
        Self {
            outbound: Arc::clone(outbound),
            requests: InstanceRequests::of(outbound.requests()),
            meter: Arc::clone(meter),
            body_idle,
            asked: AskedInstance::default(),
        }
    }

    /// What the app shares with others of the worker.
    pub(super) fn bounds(&self) -> &Arc<AppBounds> {
        self.outbound.bounds()
    }

    /// The instance is asked to answer a request with these fields, and what the host knows beside them.
    pub(super) fn begin_call(&mut self, headers: &HeaderMap, extensions: &Extensions) {
        let asked = &mut self.asked;
        asked.requests += 1;
        asked.trail.or(Trail::of(headers));
        asked.trace = if asked.answering == 0 { extensions.get::<Arc<RequestTrace>>().cloned() } else { None };
        asked.answering += 1;
    }

    /// One of its requests is answered.
    pub(super) fn end_call(&mut self) {
        self.asked.answering = self.asked.answering.saturating_sub(1);
    }

    /// The last request of the instance has ended.
    pub(super) fn rest(&mut self) {
        self.asked = AskedInstance::default();
    }

    /// Counts a call; whether it may be made.
    fn may_call(&mut self) -> bool {
        self.asked.calls += 1;
        let Some(max) = self.outbound.limits().calls_max else { return true };
        if self.asked.calls <= max.saturating_mul(self.asked.requests.max(1)) {
            return true;
        }
        if !std::mem::replace(&mut self.asked.is_told, true) {
            self.outbound.tell("--outgoing-calls-max", self.meter.whose(), || {
                format!("outgoing requests refused: the guest has made {max} for one of its own; raise --outgoing-calls-max to allow more")
            });
        }
        false
    }

    /// Sends `request`. It counts as a request from now on; all else happens when the result is polled.
    pub(super) fn send(&mut self, mut request: http::Request<WasiBody>, options: Option<RequestOptions>) -> Sending {
        match self.asked.trace.clone() {
            Some(trace) => {
                let span = traced::begin(&trace, &mut request);
                traced::until_answered(self.send_now(request, options), span)
            }
            None => self.send_now(request, options),
        }
    }

    fn send_now(&mut self, mut request: http::Request<WasiBody>, options: Option<RequestOptions>) -> Sending {
        let refused = |error| -> Sending { Box::new(std::future::ready(Err(error))) };
        if self.asked.requests == 0 {
            // For nobody's request: there is nothing that says how often it has gone round, and nobody who pays for it.
            self.outbound.tell("start", self.meter.whose(), || {
                "outgoing request refused: an instance asks others for a request, and not when it starts".to_owned()
            });
            return refused(Error::HttpRequestDenied);
        }
        if !self.may_call() {
            return refused(Error::ConnectionLimitReached);
        }
        let Some(trail) = self.asked.trail.next() else { return refused(Error::LoopDetected) };
        // A guest may ask for a great many at once: what is refused takes no more memory than the refusal.
        let Some(permit) = self.requests.take() else { return refused(Error::ConnectionLimitReached) };
        if let Some(name) = services::called(request.uri()) {
            let name = name.to_ascii_lowercase();
            request.headers_mut().insert(hops::FIELD, trail);
            return self.call(&name, request, options, permit);
        }
        let (outbound, meter) = (Arc::clone(&self.outbound), Arc::clone(&self.meter));
        let (times, whose) = (Times::of(options, outbound.limits(), self.body_idle), meter.whose());
        Box::new(async move {
            let destination = Destination::of(&request)?;
            let (answer, answered) = oneshot::channel();
            let attention = Attention::new();
            let sent = SentRequest {
                destination,
                request,
                trail,
                times,
                attention: Arc::clone(&attention),
                meter: Arc::clone(&meter),
                whose,
            };
            // (In a box from here on: it is large, and a task that is begun is copied several times.)
            let exchange = Charged::new(exchange::run(Arc::clone(&outbound), sent, answer), meter, whose.1);
            // The exchange runs in its own task. Dropping the transfer drops the handle, which aborts the task.
            let task = tokio::spawn(async move {
                let _permit = permit;
                exchange.await.flatten().unwrap_or_else(|| Err(over_cpu_limit(outbound.app(), whose)))
            });
            let task = AbortOnDrop::new(task, attention);
            match answered.await {
                Ok(answer) => {
                    let transfer: OutgoingTransfer = Box::new(async move {
                        // wasmtime-wasi-http looks once at once, and gives the guest an error in place of the response.
                        next_poll().await;
                        task.join().await
                    });
                    Ok((answer?, transfer))
                }
                // The task ended without an answer.
                Err(_) => Err(task.join().await.err().unwrap_or(Error::ConnectionTerminated)),
            }
        })
    }
}

impl Outgoing {
    /// Calls the app that this name stands for.
    fn call(
        &self,
        name: &str,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        permit: OutgoingPermit,
    ) -> Sending {
        let whose = self.meter.whose();
        let begun = self.outbound.service(name, whose).and_then(|app| {
            let chain =
                CallChain::behind(&self.meter, whose.1).ok_or_else(|| self.outbound.nested_too_deep(name, whose))?;
            let between_bytes = options.as_ref().and_then(|options| options.between_bytes_timeout);
            let (call, answered) = ServiceCall::new(app, request, chain, between_bytes, permit)?;
            self.outbound.call(call);
            Ok(answered)
        });
        let first_byte = options.as_ref().and_then(|options| options.first_byte_timeout);
        Box::new(async move {
            let answered = begun?;
            let answer = match first_byte {
                Some(limit) => tokio::time::timeout(limit, answered).await.map_err(|_| Error::ConnectionReadTimeout)?,
                None => answered.await,
            };
            // Who was to answer has ended: the host stops.
            let response = answer.unwrap_or(Err(Error::ConnectionTerminated))?;
            let transfer: OutgoingTransfer = Box::new(std::future::ready(Ok(())));
            Ok((response, transfer))
        })
    }
}

/// Ready when it is polled again, which it asks for. (`yield_now` has the event loop ask the system for events in between.)
async fn next_poll() {
    let mut polled = false;
    poll_fn(|context| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn over_cpu_limit(app: &str, (worker, request): (u16, u64)) -> Error {
    tracing::warn!(
        app,
        worker,
        request,
        limit = "--cpu-limit",
        "an outgoing request was stopped: the request that made it has used its CPU time; raise --cpu-limit to allow more"
    );
    Error::InternalError(Some("the request has used its CPU time (--cpu-limit)".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use std::pin::Pin;
    use std::task::Context;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::Sleep;

    use super::*;
    use wasmhost_config::{HostPattern, HostRule};

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const SHORT: Duration = Duration::from_millis(100);

    /// Sends a request with `body` to an upstream that serves its connection with `serve`. Returns the response's body, or
    /// the error.
    fn exchanged<Serving: Future<Output = std::io::Result<()>> + Send>(
        scheme: &str,
        body: impl FnOnce() -> WasiBody,
        options: RequestOptions,
        serve: impl FnOnce(TcpStream) -> Serving + Send + 'static,
    ) -> std::io::Result<Result<Bytes, Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let upstream = tokio::spawn(async move {
                let (stream, _) = listener.accept().await?;
                serve(stream).await
            });
            let rule = HostRule {
                scheme: None,
                host: HostPattern::Address(address.ip()),
                port: None,
                private: false,
                path: String::new(),
                methods: Vec::new(),
            };
            let mut app = crate::testing::app_of_test();
            app.grants.allow_hosts = vec![rule];
            let meter = Arc::new(Meter::of_test(Duration::from_secs(60)));
            let outbound = Arc::new(Outbound::new(Arc::new(app), AppBounds::alone(), Arc::new(NoServices)));
            let mut outgoing = Outgoing::new(&outbound, &meter, None);
            outgoing.begin_call(&HeaderMap::new(), &Extensions::new());
            let mut request = http::Request::new(body());
            // hyper sends no body of unknown length with GET.
            *request.method_mut() = http::Method::POST;
            *request.uri_mut() = format!("{scheme}://{address}/").parse().map_err(std::io::Error::other)?;
            let sending = Box::into_pin(outgoing.send(request, Some(options)));
            let receiving = async {
                let (response, _transfer) = sending.await?;
                response.into_body().collect().await.map(http_body_util::Collected::to_bytes)
            };
            let received = tokio::time::timeout(Duration::from_secs(10), receiving).await;
            upstream.abort();
            received.map_err(std::io::Error::other)
        })
    }

    /// Sends a request to an upstream that sends only `words` and then keeps its connection open.
    fn sent(scheme: &str, words: &'static [u8], options: RequestOptions) -> std::io::Result<Result<Bytes, Error>> {
        let body = || http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        exchanged(scheme, body, options, async move |mut stream| {
            stream.read_exact(&mut [0; 1]).await?;
            stream.write_all(words).await?;
            std::future::pending().await
        })
    }

    /// A body of `left` pieces of 64 KiB, with a pause before each.
    struct Pieces {
        left: usize,
        pause: Duration,
        next: Pin<Box<Sleep>>,
    }

    impl Pieces {
        fn body(left: usize, pause: Duration) -> WasiBody {
            Self { left, pause, next: Box::pin(tokio::time::sleep(pause)) }.boxed_unsync()
        }
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Error>>> {
            std::task::ready!(self.next.as_mut().poll(context));
            if self.left == 0 {
                return Poll::Ready(None);
            }
            self.left -= 1;
            let next = tokio::time::Instant::now() + self.pause;
            self.next.as_mut().reset(next);
            Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 1 << 16])))))
        }
    }

    #[test]
    fn the_time_to_the_first_byte_begins_when_the_request_was_sent() -> Outcome {
        let options = RequestOptions { first_byte_timeout: Some(3 * SHORT), ..RequestOptions::default() };
        let body = || Pieces::body(5, 2 * SHORT);
        let outcome = exchanged("http", body, options, async |mut stream| {
            let mut got = Vec::new();
            while !got.ends_with(b"\r\n0\r\n\r\n") {
                stream.read_buf(&mut got).await?;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour").await?;
            std::future::pending().await
        })?;
        assert!(matches!(&outcome, Ok(body) if body == "four"), "{outcome:?}");
        Ok(())
    }

    #[test]
    fn an_upstream_that_stops_taking_the_request_is_given_up() -> Outcome {
        let options = RequestOptions { between_bytes_timeout: Some(3 * SHORT), ..RequestOptions::default() };
        let body = || Pieces::body(usize::MAX, Duration::ZERO);
        let outcome = exchanged("http", body, options, async |stream| {
            let _held = stream;
            std::future::pending().await
        })?;
        assert!(matches!(outcome, Err(Error::ConnectionWriteTimeout)), "{outcome:?}");
        Ok(())
    }

    #[test]
    fn a_handshake_that_does_not_end_is_given_up_after_the_time_to_connect() -> Outcome {
        let options = RequestOptions { connect_timeout: Some(SHORT), ..RequestOptions::default() };
        let outcome = sent("https", b"", options)?;
        assert!(matches!(outcome, Err(Error::ConnectionTimeout)), "{outcome:?}");
        Ok(())
    }

    #[test]
    fn a_response_that_does_not_come_is_given_up_after_the_time_to_its_first_byte() -> Outcome {
        let options = RequestOptions { first_byte_timeout: Some(SHORT), ..RequestOptions::default() };
        for words in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-le"] {
            let outcome = sent("http", words, options)?;
            assert!(matches!(outcome, Err(Error::ConnectionReadTimeout)), "{outcome:?}");
        }
        Ok(())
    }

    #[test]
    fn a_body_that_falls_silent_is_given_up_after_the_time_between_bytes() -> Outcome {
        let options = RequestOptions { between_bytes_timeout: Some(SHORT), ..RequestOptions::default() };
        let whole = sent("http", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour", options)?;
        assert_eq!(whole.ok().as_deref(), Some(&b"four"[..]));
        let half = sent("http", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", options)?;
        assert!(matches!(half, Err(Error::ConnectionReadTimeout)), "{half:?}");
        Ok(())
    }
}
