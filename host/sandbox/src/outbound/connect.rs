//! Opens one outgoing connection, with or without TLS.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::Error;

use wasmhost_config::certificates;

use super::in_turns::InTurns;
use super::target::Target;

/// How long an address has to connect before the next one is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// How many attempts may be open at once: each has a descriptor.
pub(super) const ATTEMPTS_MAX: usize = 3;
/// How long so many attempts have before the oldest of them is closed for the next address.
const REPLACE_DELAY: Duration = Duration::from_secs(2);

/// An attempt to connect to one address.
type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

pub(super) trait OutgoingStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> OutgoingStream for T {}

/// A connection, as hyper takes it.
pub(super) type UpstreamSocket = TokioIo<Box<dyn OutgoingStream>>;

/// A connection to an upstream, and what is spoken on it.
pub(super) enum Connected {
    Http1(UpstreamSocket),
    /// Agreed by ALPN (RFC 9113, section 3.2).
    Http2(UpstreamSocket),
}

/// What is offered by ALPN (RFC 7301, section 6).
const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// Trusts Mozilla's root certificates, and those of `--ca-file`; no client certificate. Offers HTTP/2 and HTTP/1.1.
pub(super) fn tls_config(ca_pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    match certificates(ca_pem) {
        // Each was found usable when the flags were read.
        Ok(own) => drop(roots.add_parsable_certificates(own)),
        Err(error) => tracing::error!(error, "the certificates of --ca-file are not trusted"),
    }
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = [HTTP2, HTTP1].map(<[u8]>::to_vec).into();
    Arc::new(config)
}

/// Connects to one of `addresses`, which the caller has checked, and does the TLS handshake for the target's name. The
/// caller limits the time.
///
/// # Errors
/// The error of the first address that failed, or of the handshake.
pub(super) async fn connect(
    target: &Target,
    addresses: &[SocketAddr],
    tls: Arc<ClientConfig>,
) -> Result<Connected, Error> {
    let stream = connect_first(addresses).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        _ => Error::Connect(error),
    })?;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY not set");
    }
    if !target.tls {
        return Ok(Connected::Http1(TokioIo::new(Box::new(InTurns::new(stream)))));
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| {
        tracing::debug!(host = target.host, %error, "no TLS connection");
        tls_error(&error)
    })?;
    let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    let socket = TokioIo::new(Box::new(InTurns::new(stream)) as Box<dyn OutgoingStream>);
    Ok(if is_http2 { Connected::Http2(socket) } else { Connected::Http1(socket) })
}

/// Connects to the address that answers first ("happy eyeballs", RFC 8305): the next one is tried when one has failed,
/// or has not connected within [`ATTEMPT_DELAY`], or, beside [`ATTEMPTS_MAX`] others, within [`REPLACE_DELAY`]. The others
/// are closed.
async fn connect_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut waiting = alternating(addresses).into_iter();
    let mut attempts: VecDeque<Attempt> = VecDeque::with_capacity(ATTEMPTS_MAX);
    let mut first_error = None;
    loop {
        match waiting.next() {
            Some(address) => {
                if attempts.len() == ATTEMPTS_MAX {
                    attempts.pop_front();
                }
                attempts.push_back(Box::pin(TcpStream::connect(address)));
            }
            None if attempts.is_empty() => {
                return Err(first_error.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()));
            }
            None => {}
        }
        let pause = if attempts.len() < ATTEMPTS_MAX { ATTEMPT_DELAY } else { REPLACE_DELAY };
        tokio::select! {
            biased;
            attempt = ended(&mut attempts) => match attempt {
                Ok(stream) => return Ok(stream),
                Err(error) => first_error = first_error.or(Some(error)),
            },
            () = tokio::time::sleep(pause), if waiting.len() > 0 => {}
        }
    }
}

/// Waits for the first of these that ends, and takes it out.
async fn ended(attempts: &mut VecDeque<Attempt>) -> io::Result<TcpStream> {
    poll_fn(|context| {
        let outcome =
            attempts.iter_mut().enumerate().find_map(|(index, attempt)| match attempt.as_mut().poll(context) {
                Poll::Ready(outcome) => Some((index, outcome)),
                Poll::Pending => None,
            });
        let Some((index, outcome)) = outcome else { return Poll::Pending };
        drop(attempts.remove(index));
        Poll::Ready(outcome)
    })
    .await
}

/// The same addresses, of either family in turn, beginning with the first one's (RFC 8305, section 4).
fn alternating(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<SocketAddr>, Vec<SocketAddr>) =
        addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut ordered = Vec::with_capacity(addresses.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let before = ordered.len();
        ordered.extend(first.next());
        ordered.extend(second.next());
        if ordered.len() == before {
            return ordered;
        }
    }
}

/// The guest's error for a handshake that failed.
fn tls_error(error: &std::io::Error) -> Error {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Error::TlsCertificateError
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        Some(_) => Error::TlsProtocolError,
        // The connection broke; the upstream did not violate the protocol.
        None => Error::ConnectionTerminated,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    /// What a server does with each connection.
    enum Server {
        Tls(Box<ServerConfig>),
        /// It answers the handshake with these bytes and closes.
        Says(&'static [u8]),
    }

    /// An authority that the client trusts.
    fn authority() -> Outcome<CertifiedIssuer<'static, KeyPair>> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
    }

    fn trusting(authority: &CertifiedIssuer<'_, KeyPair>) -> Outcome<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone())?;
        Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
    }

    /// A server whose certificate was made with `params`, and signed by `authority` or else by itself.
    fn server(params: &CertificateParams, authority: Option<&CertifiedIssuer<'_, KeyPair>>) -> Outcome<Server> {
        let key = KeyPair::generate()?;
        let certificate = match authority {
            Some(authority) => params.signed_by(&key, authority)?,
            None => params.self_signed(&key)?,
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)?;
        Ok(Server::Tls(Box::new(config)))
    }

    fn named(name: &str) -> Outcome<CertificateParams> {
        Ok(CertificateParams::new(vec![name.to_owned()])?)
    }

    /// Connects to `server` as `host`, says `ping` and reads the answer. Bounded in time.
    fn answer(server: Server, host: &str, tls: Arc<ClientConfig>) -> Outcome<Result<String, Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let address = listener.local_addr()?;
            let serving = async move {
                let (mut stream, _) = listener.accept().await?;
                match server {
                    Server::Tls(config) => {
                        let mut stream = TlsAcceptor::from(Arc::from(config)).accept(stream).await?;
                        let mut asked = [0; 4];
                        stream.read_exact(&mut asked).await?;
                        stream.write_all(&asked.map(|byte| byte.to_ascii_uppercase())).await?;
                        stream.shutdown().await
                    }
                    Server::Says(bytes) => {
                        let mut hello = [0; 1];
                        stream.read_exact(&mut hello).await?;
                        stream.write_all(bytes).await
                    }
                }
            };
            // A client that refuses ends this with an error.
            let serving = tokio::spawn(serving);
            let target = Target { host: host.to_owned(), port: address.port(), tls: true };
            let asking = async {
                let Connected::Http1(socket) = connect(&target, &[address], tls).await? else {
                    return Err(Error::HttpProtocolError);
                };
                let mut stream = socket.into_inner();
                let mut answer = String::new();
                let asked = stream.write_all(b"ping").await;
                asked.map_err(Error::Connect)?;
                stream.read_to_string(&mut answer).await.map_err(Error::Connect)?;
                Ok(answer)
            };
            let answer = tokio::time::timeout(Duration::from_secs(10), asking).await?;
            serving.abort();
            Ok(answer)
        })
    }

    fn blocked<T>(test: impl Future<Output = T>) -> std::io::Result<T> {
        Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test))
    }

    #[test]
    fn families_alternate_and_none_is_lost() {
        let of = |texts: &[&str]| texts.iter().filter_map(|text| text.parse().ok()).collect::<Vec<SocketAddr>>();
        for (given, expected) in [
            (
                &["[::1]:1", "[::2]:1", "1.1.1.1:1", "1.1.1.2:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1"][..],
            ),
            (&["1.1.1.1:1", "1.1.1.2:1", "1.1.1.3:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "1.1.1.2:1", "1.1.1.3:1"]),
            (&["[::1]:1"], &["[::1]:1"]),
            (&[], &[]),
        ] {
            assert_eq!(alternating(&of(given)), of(expected));
        }
    }

    #[test]
    fn an_address_that_refuses_gives_way_to_the_next() -> Outcome {
        blocked(async {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let open = listener.local_addr()?;
            let closed = TcpListener::bind("127.0.0.2:0").await?.local_addr()?;
            assert_eq!(connect_first(&[closed, open]).await?.peer_addr()?, open);
            let error = connect_first(&[closed]).await.map(drop).map_err(|error| error.kind());
            assert_eq!(error, Err(io::ErrorKind::ConnectionRefused));
            assert!(connect_first(&[]).await.is_err());
            Ok(())
        })?
    }

    /// An address that does not answer: a backlog that is full drops further connections, so that they wait.
    async fn silent() -> Outcome<(TcpListener, SocketAddr, Vec<TcpStream>)> {
        let full = TcpSocket::new_v4()?;
        full.bind("127.0.0.3:0".parse()?)?;
        let full = full.listen(0)?;
        let silent = full.local_addr()?;
        let mut held = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(silent)).await {
            held.push(stream?);
            assert!(held.len() < 100, "the backlog is never full");
        }
        Ok((full, silent, held))
    }

    #[test]
    fn an_address_that_does_not_answer_gives_way_to_the_next_in_a_quarter_of_a_second() -> Outcome {
        blocked(async {
            let (_full, silent, _held) = silent().await?;
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let open = listener.local_addr()?;
            let began = std::time::Instant::now();
            assert_eq!(connect_first(&[silent, silent, open]).await?.peer_addr()?, open);
            let took = began.elapsed();
            assert!(took >= 2 * ATTEMPT_DELAY && took < Duration::from_millis(1_500), "{took:?}");
            Ok(())
        })?
    }

    #[test]
    fn few_addresses_are_tried_at_once() -> Outcome {
        blocked(async {
            let (_full, silent, _held) = silent().await?;
            let waiting = || {
                // Of `/proc/net/tcp`: to this address, and not answered yet (SYN_SENT).
                let to = format!(":{:04X} 02 ", silent.port());
                std::fs::read_to_string("/proc/net/tcp").map(|table| table.matches(&to).count())
            };
            let before = waiting()?;
            let attempt = tokio::spawn(async move { connect_first(&[silent; 8]).await.map(drop) });
            tokio::time::sleep(7 * ATTEMPT_DELAY).await;
            assert_eq!(waiting()? - before, ATTEMPTS_MAX);
            attempt.abort();
            Ok(())
        })?
    }

    #[test]
    fn a_trusted_certificate_of_the_right_name_connects() -> Outcome {
        let authority = authority()?;
        for (name, host) in [("localhost", "localhost"), ("127.0.0.1", "127.0.0.1"), ("*.a.test", "b.a.test")] {
            let server = server(&named(name)?, Some(&authority))?;
            assert_eq!(answer(server, host, trusting(&authority)?)?.ok().as_deref(), Some("PING"), "{name} as {host}");
        }
        Ok(())
    }

    #[test]
    fn a_certificate_that_cannot_be_trusted_is_refused_as_such() -> Outcome {
        let authority = authority()?;
        let stranger = self::authority()?;
        let mut expired = named("localhost")?;
        expired.not_after = (SystemTime::now() - Duration::from_secs(60)).into();
        let mut early = named("localhost")?;
        early.not_before = (SystemTime::now() + Duration::from_secs(3_600)).into();
        let localhost = named("localhost")?;
        for (what, server, host) in [
            ("self-signed", server(&localhost, None)?, "localhost"),
            ("of an unknown authority", server(&localhost, Some(&stranger))?, "localhost"),
            ("of another name", server(&named("other.test")?, Some(&authority))?, "localhost"),
            ("of a name, not of this address", server(&localhost, Some(&authority))?, "127.0.0.1"),
            ("expired", server(&expired, Some(&authority))?, "localhost"),
            ("not yet valid", server(&early, Some(&authority))?, "localhost"),
        ] {
            let answer = answer(server, host, trusting(&authority)?)?;
            assert!(matches!(answer, Err(Error::TlsCertificateError)), "{what}: {answer:?}");
        }
        Ok(())
    }

    #[test]
    fn mozillas_roots_do_not_trust_an_authority_of_ours() -> Outcome {
        let authority = authority()?;
        let answer = answer(server(&named("localhost")?, Some(&authority))?, "localhost", tls_config(""))?;
        assert!(matches!(answer, Err(Error::TlsCertificateError)), "{answer:?}");
        Ok(())
    }

    #[test]
    fn what_is_no_tls_is_told_from_an_alert_and_from_an_end() -> Outcome {
        let tls = trusting(&authority()?)?;
        let answer = |bytes| answer(Server::Says(bytes), "localhost", Arc::clone(&tls));
        let plain = answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
        assert!(matches!(plain, Err(Error::TlsProtocolError)), "{plain:?}");
        // A fatal alert: handshake_failure (RFC 8446, section 6.2).
        let alert = answer(&[21, 3, 3, 0, 2, 2, 40])?;
        assert!(matches!(alert, Err(Error::TlsAlertReceived { alert_id: Some(40), .. })), "{alert:?}");
        let end = answer(b"")?;
        assert!(matches!(end, Err(Error::ConnectionTerminated)), "{end:?}");
        Ok(())
    }
}
