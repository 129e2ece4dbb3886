//! Opens one outgoing connection, plain or with TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

use super::Target;

pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Mozilla's root certificates, no client certificate.
pub(super) fn tls_config() -> Arc<ClientConfig> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// Connects to `address`, which was checked, and with TLS to the target's name.
pub(super) async fn connect(
    target: &Target,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> Result<TokioIo<Box<dyn Stream>>, Error> {
    let stream = TcpStream::connect(address).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        std::io::ErrorKind::HostUnreachable | std::io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::Connect(error),
    })?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    if !target.tls {
        return Ok(TokioIo::new(Box::new(stream)));
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(Error::Tls)?;
    Ok(TokioIo::new(Box::new(stream)))
}

/// The task of one connection; it ends when this is dropped.
pub(super) struct AbortOnDrop(pub(super) tokio::task::JoinHandle<Result<(), hyper::Error>>);

impl AbortOnDrop {
    /// Waits for the end of the transfer.
    pub(super) async fn join(self) -> Result<(), Error> {
        match self.await {
            Ok(outcome) => outcome.map_err(Error::Hyper),
            Err(_) => Err(Error::ConnectionTerminated),
        }
    }
}

impl Future for AbortOnDrop {
    type Output = Result<Result<(), hyper::Error>, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
