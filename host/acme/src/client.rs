//! Sends the requests of ACME: each on a connection of its own, with TLS, within bounds of time and size.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use wasmhost_config::certificates;

/// How long an address has to connect before the next one is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a request and its answer may take, with all that is before it.
const REQUEST_WITHIN: Duration = Duration::from_secs(30);
/// Largest answer: a chain of certificates has some kilobytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How many addresses of the authority are tried.
const ADDRESSES_MAX: usize = 4;
/// How much is shown of an answer that is no problem document.
const SHOWN_CHARS_MAX: usize = 200;
/// The longest that an authority has the host wait.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Asks authorities.
#[derive(Clone)]
pub(crate) struct AuthorityClient {
    tls: Arc<ClientConfig>,
    /// Until when the authority has asked the host to wait, in the last answer that was an error.
    retry_at: Arc<Mutex<Option<SystemTime>>>,
}

impl AuthorityClient {
    /// One that trusts Mozilla's root certificates, and these.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn new(ca_pem: &str) -> Result<Self, String> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        roots.add_parsable_certificates(certificates(ca_pem)?);
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), retry_at: Arc::default() })
    }

    /// Until when the authority has asked the host to wait.
    pub(crate) fn retry_at(&self) -> Option<SystemTime> {
        *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what an answer that is an error says of waiting.
    fn note(&self, headers: &HeaderMap) {
        let at = headers.get(RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now()));
        *self.retry_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

impl HttpClient for AuthorityClient {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.clone();
        Box::pin(async move {
            let asked = request.uri().to_string();
            let failed = |reason: String| Error::Other(format!("{asked}: {reason}").into());
            let answer = tokio::time::timeout(REQUEST_WITHIN, exchange(request, client.tls.clone()));
            let answer = answer.await.map_err(|_| failed(format!("no answer within {REQUEST_WITHIN:?}")))?;
            let (parts, body) = answer.map_err(|error| failed(error.to_string()))?.into_parts();
            if parts.status.is_client_error() || parts.status.is_server_error() {
                client.note(&parts.headers);
                // What is a problem document (RFC 8555, section 6.7) tells the reason itself.
                if serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&body).is_err() {
                    let text: String = String::from_utf8_lossy(&body).chars().take(SHOWN_CHARS_MAX).collect();
                    return Err(failed(format!("answered {}: {}", parts.status, text.escape_debug())));
                }
            }
            Ok(BytesResponse { parts, body: Box::new(body) })
        })
    }
}

/// One request and its answer.
async fn exchange(request: Request<BodyWrapper<Bytes>>, tls: Arc<ClientConfig>) -> Result<Response<Bytes>, AnyError> {
    let (mut parts, body) = request.into_parts();
    let uri = std::mem::take(&mut parts.uri);
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https")).ok_or("is no address of `https`")?;
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = connect(&name, uri.port_u16().unwrap_or(443)).await?;
    let name = ServerName::try_from(name).map_err(|_| "has no valid host")?;
    let stream = TlsConnector::from(tls).connect(name, stream).await?;
    parts.uri = Uri::from(uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    parts.headers.insert(HOST, HeaderValue::try_from(authority)?);
    parts.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut builder = hyper::client::conn::http1::Builder::new();
    let (mut sender, connection) = builder.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    let answering = async {
        let (parts, body) = sender.send_request(Request::from_parts(parts, body)).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        Ok::<_, AnyError>(Response::from_parts(parts, body))
    };
    let mut answering = std::pin::pin!(answering);
    tokio::select! {
        biased;
        answer = &mut answering => answer,
        ended = connection => {
            ended?;
            // What came before the end may be the whole answer.
            answering.await
        }
    }
}

/// Connects to the first of a host's addresses that takes the connection.
async fn connect(host: &str, port: u16) -> Result<TcpStream, AnyError> {
    let addresses: Vec<_> = tokio::net::lookup_host((host, port)).await?.take(ADDRESSES_MAX).collect();
    let mut first: Option<io::Error> = None;
    for address in addresses {
        let attempt = tokio::time::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
        match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => return Ok(stream),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()).into())
}

/// Until when to wait: a number of seconds, or a date (RFC 9110, section 10.2.3); [`RETRY_AFTER_MAX`] at most.
fn retry_after(value: &HeaderValue, now: SystemTime) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    let at = match text.parse() {
        Ok(seconds) => now.checked_add(Duration::from_secs(seconds)).unwrap_or(now + RETRY_AFTER_MAX),
        Err(_) => httpdate::parse_http_date(text).ok()?,
    };
    Some(at.min(now + RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_says_when_to_come_back_in_seconds_or_by_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let of = |text: &'static str| {
            retry_after(&HeaderValue::from_static(text), now).and_then(|at| at.duration_since(now).ok())
        };
        assert_eq!(of("120"), Some(Duration::from_secs(120)));
        assert_eq!(of("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!((of("99999999999999999999"), of("soon"), of("")), (None, None, None));
        assert_eq!(of("18446744073709551615"), Some(RETRY_AFTER_MAX));
    }
}
