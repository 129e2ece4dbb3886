//! The connection to a collector: one request after another on it (OTLP 1.x, "OTLP/HTTP"), within bounds of time and size.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use wasmhost_config::{Collector, CollectorHeader, certificates};

/// How long a request and its answer may take, with the connection and the look-up of the name before it.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// The longest that a collector has the host wait.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

type ExchangeError = Box<dyn Error + Send + Sync>;

/// What a collector answered.
#[derive(Debug)]
pub(super) struct CollectorAnswer {
    pub(super) status: StatusCode,
    /// How long it asks to be left alone.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Where spans are sent.
pub(super) struct CollectorLine {
    collector: Collector,
    headers: HeaderMap,
    tls: Option<Arc<ClientConfig>>,
    open: Option<OpenLine>,
}

/// A connection, and the task that moves its bytes.
struct OpenLine {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Drop for OpenLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait CollectorStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> CollectorStream for T {}

impl CollectorLine {
    /// To this collector, with these headers. Its certificate comes from Mozilla's roots or from those of `ca_pem`. Nothing is
    /// opened yet.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(super) fn new(collector: Collector, own: &[CollectorHeader], ca_pem: &str) -> Result<Self, ExchangeError> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::try_from(collector.authority())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("wasmhost/", env!("CARGO_PKG_VERSION"))));
        for header in own {
            headers.insert(HeaderName::try_from(&*header.name)?, HeaderValue::try_from(&*header.value)?);
        }
        let tls = if collector.tls {
            let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            roots.add_parsable_certificates(certificates(ca_pem)?);
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let config = config.with_safe_default_protocol_versions()?;
            Some(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
        } else {
            None
        };
        Ok(Self { collector, headers, tls, open: None })
    }

    /// As the settings name it.
    pub(super) fn url(&self) -> &str {
        &self.collector.url
    }

    /// Sends a message, and waits for the answer.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) async fn send(&mut self, message: Bytes) -> Result<CollectorAnswer, String> {
        let answer = tokio::time::timeout(REQUEST_WITHIN, self.exchange(message)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| words(&*error)),
            Err(_) => Err(format!("no answer within {REQUEST_WITHIN:?}")),
        };
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn exchange(&mut self, message: Bytes) -> Result<CollectorAnswer, ExchangeError> {
        let mut open = match self.open.take().filter(|open| !open.sender.is_closed()) {
            Some(open) => open,
            None => self.connect().await?,
        };
        open.sender.ready().await?;
        let mut request = Request::new(Full::new(message));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.collector.path.parse()?;
        request.headers_mut().clone_from(&self.headers);
        let (parts, body) = open.sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        self.open = Some(open);
        Ok(CollectorAnswer { status: parts.status, retry_after: retry_after(&parts.headers), body })
    }

    async fn connect(&self) -> Result<OpenLine, ExchangeError> {
        let Collector { host, port, .. } = &self.collector;
        let stream = TcpStream::connect((&**host, *port)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn CollectorStream> = match &self.tls {
            Some(tls) => {
                let name = ServerName::try_from(host.clone())?;
                Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?)
            }
            None => Box::new(stream),
        };
        let mut builder = http1::Builder::new();
        let (sender, connection) = builder.max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async move {
            // What it costs, whoever waits for an answer hears.
            let _ = connection.await;
        });
        Ok(OpenLine { sender, task })
    }
}

/// A number of seconds (RFC 9110, section 10.2.3; dates are not read), [`RETRY_AFTER_MAX`] at most.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

/// An error with all that caused it.
fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
