//! Outgoing HTTP of guests, wasi 0.2 and 0.3 alike: one check of the destination, before and after its name is resolved,
//! and one connection for each request. (A connection pool and finer rules will live in this folder.)

mod body;
mod connect;
mod policy;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use self::policy::{Policy, Refusal};
use super::stdio::OutputBudget;
use crate::config::HostRule;

/// Outgoing requests of one worker at once; more are refused with `connection-limit-reached`.
const REQUESTS_MAX: usize = 256;
/// Refusals of a worker's outgoing requests that are told in one second.
const REFUSALS_TOLD_PER_SECOND: u64 = 10;
/// How long a connection may take where the guest sets no time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the head of a response may take, and a silence within its body, where the guest sets no time.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);

type Response = http::Response<WasiBody>;
type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
/// A request on its way: the response's head, and the future that carries the rest of the transfer.
pub(super) type Sending = Box<dyn Future<Output = Result<(Response, Transfer), Error>> + Send>;

/// Sends the requests of one worker's guests.
pub(super) struct Outbound {
    policy: Arc<Policy>,
    tls: Arc<tokio_rustls::rustls::ClientConfig>,
    permits: Arc<Semaphore>,
    refusals_told: Arc<OutputBudget>,
}

impl Outbound {
    pub(super) fn new(rules: &[HostRule]) -> Self {
        Self {
            policy: Arc::new(Policy::new(rules)),
            tls: connect::tls_config(),
            permits: Arc::new(Semaphore::new(REQUESTS_MAX)),
            refusals_told: Arc::new(OutputBudget::of(REFUSALS_TOLD_PER_SECOND)),
        }
    }

    /// Sends `request` on behalf of `whose` (worker and request).
    pub(super) fn send(
        &self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        whose: (u16, u64),
    ) -> Sending {
        let policy = Arc::clone(&self.policy);
        let tls = Arc::clone(&self.tls);
        let told = Arc::clone(&self.refusals_told);
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        Box::new(async move {
            let permit = permit.map_err(|_| Error::ConnectionLimitReached)?;
            let options = options.unwrap_or_default();
            let target = Target::of(&request)?;
            let connecting = async {
                let address = resolve(&policy, &target, whose, &told).await?;
                connect::connect(&target, address, tls).await
            };
            let limit = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
            let stream = tokio::time::timeout(limit, connecting).await.map_err(|_| Error::ConnectionTimeout)??;
            let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
            let request = target.prepare(request)?;
            // The connection is a task of its own, which ends with the transfer below (its handle aborts it).
            let connection = connect::AbortOnDrop(tokio::spawn(async move {
                let _permit = permit;
                connection.await
            }));
            let limit = options.first_byte_timeout.unwrap_or(RESPONSE_TIMEOUT);
            let head = tokio::time::timeout(limit, sender.send_request(request)).await;
            let head = head.map_err(|_| Error::ConnectionReadTimeout)??;
            let silence = options.between_bytes_timeout.unwrap_or(RESPONSE_TIMEOUT);
            let response = head.map(|incoming| body::Bounded::new(incoming, silence).boxed_unsync());
            let transfer: Transfer = Box::new(connection.join());
            Ok((response, transfer))
        })
    }
}

/// Where a request goes.
struct Target {
    host: String,
    port: u16,
    tls: bool,
}

impl Target {
    fn of(request: &http::Request<WasiBody>) -> Result<Self, Error> {
        let uri = request.uri();
        let tls = uri.scheme() == Some(&Scheme::HTTPS);
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        if host.is_empty() || port == 0 {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self { host, port, tls })
    }

    /// Puts the request into the form that an origin server gets (RFC 9112, section 3.2.1). `Host` is the authority that
    /// was checked, whatever the guest had written.
    fn prepare(&self, request: http::Request<WasiBody>) -> Result<http::Request<WasiBody>, Error> {
        let (mut parts, body) = request.into_parts();
        let authority = parts.uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        let host = http::HeaderValue::from_str(authority.as_str()).map_err(|_| Error::HttpRequestUriInvalid)?;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        parts.headers.insert(http::header::HOST, host);
        parts.uri = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        Ok(http::Request::from_parts(parts, body))
    }
}

/// The first allowed address of the target.
async fn resolve(
    policy: &Policy,
    target: &Target,
    whose: (u16, u64),
    told: &OutputBudget,
) -> Result<SocketAddr, Error> {
    let refused = |refusal: Refusal| {
        let (worker, request) = whose;
        let (host, port) = (&target.host, target.port);
        let (why, error) = match refusal {
            Refusal::Host => (String::new(), Error::HttpRequestDenied),
            Refusal::Address(address) => {
                (format!(": {address} is private, loopback or link-local"), Error::DestinationIpProhibited)
            }
        };
        let (admitted, left_out) = told.admit();
        if left_out > 0 {
            tracing::warn!(worker, lines = left_out, "refusals of outgoing requests were left out");
        }
        if admitted {
            tracing::warn!(
                worker,
                request,
                limit = "--allow-host",
                "outgoing request to {host}:{port} refused{why}; allow it with --allow-host {host}:{port}"
            );
        }
        error
    };
    policy.check_host(&target.host, target.port).map_err(refused)?;
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await.map_err(|error| {
        tracing::debug!(host = target.host, %error, "name not resolved");
        Error::DnsError { rcode: Some("name not resolved".to_owned()), info_code: None }
    })?;
    let mut refusal = None;
    for address in addresses {
        match policy.check_address(&target.host, address) {
            Ok(()) => return Ok(address),
            Err(reason) => refusal = Some(reason),
        }
    }
    Err(refusal.map_or(Error::DestinationNotFound, refused))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::HostPattern;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    const SHORT: Duration = Duration::from_millis(100);

    /// Sends a request to an upstream that says only `words` and then keeps its connection: the body, or the error.
    fn sent(scheme: &str, words: &'static [u8], options: RequestOptions) -> std::io::Result<Result<Bytes, Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            let upstream = tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await?;
                stream.read_exact(&mut [0; 1]).await?;
                stream.write_all(words).await?;
                std::future::pending::<std::io::Result<()>>().await
            });
            let host = HostPattern::Address(address.ip());
            let outbound = Outbound::new(&[HostRule { host, port: None }]);
            let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
            let mut request = http::Request::new(body);
            *request.uri_mut() = format!("{scheme}://{address}/").parse().map_err(std::io::Error::other)?;
            let sending = Box::into_pin(outbound.send(request, Some(options), (1, 1)));
            let receiving = async {
                let (response, _transfer) = sending.await?;
                response.into_body().collect().await.map(http_body_util::Collected::to_bytes)
            };
            let received = tokio::time::timeout(Duration::from_secs(10), receiving).await;
            upstream.abort();
            received.map_err(std::io::Error::other)
        })
    }

    #[test]
    fn a_handshake_that_does_not_end_is_given_up_at_the_time_to_connect() -> Outcome {
        let options = RequestOptions { connect_timeout: Some(SHORT), ..RequestOptions::default() };
        let outcome = sent("https", b"", options)?;
        assert!(matches!(outcome, Err(Error::ConnectionTimeout)), "{outcome:?}");
        Ok(())
    }

    #[test]
    fn a_response_that_does_not_come_is_given_up_at_the_time_to_its_first_byte() -> Outcome {
        let options = RequestOptions { first_byte_timeout: Some(SHORT), ..RequestOptions::default() };
        for words in [&b""[..], b"HTTP/1.1 200 OK\r\ncontent-le"] {
            let outcome = sent("http", words, options)?;
            assert!(matches!(outcome, Err(Error::ConnectionReadTimeout)), "{outcome:?}");
        }
        Ok(())
    }

    #[test]
    fn a_body_that_falls_silent_is_given_up_at_the_time_between_bytes() -> Outcome {
        let options = RequestOptions { between_bytes_timeout: Some(SHORT), ..RequestOptions::default() };
        let whole = sent("http", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfour", options)?;
        assert_eq!(whole.ok().as_deref(), Some(&b"four"[..]));
        let half = sent("http", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", options)?;
        assert!(matches!(half, Err(Error::ConnectionReadTimeout)), "{half:?}");
        Ok(())
    }
}
