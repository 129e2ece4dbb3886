//! Plain hyper in the shape of wasmhost, to measure against: so many worker threads, each with a current-thread runtime
//! of its own, and one acceptor that hands connections to them round robin (or, with `--reuseport`, a listener a worker).
//! What it does not have is the guest, the limits and the repair: the difference is what those cost.
//!
//! With `--tls-cert` and `--tls-key` it speaks TLS by rustls, as wasmhost does: with ring, and with two tickets a session, which
//! any worker reads.
//!
//! `/` answers "Hello, World!", `/echo` the request's body as it comes, `/sleep?ms=N` after that time. Used by
//! `tests/bench/compare` and `tests/bench/edge`.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustix::net::SocketFlags;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use wasmhost_serve::listener::{bind_for_each, bind_tcp, listen};

/// Connections that may wait for a worker; as many as wasmhost's inbox holds.
const INBOX_MAX: usize = 1_024;

type Body = Either<Full<Bytes>, Incoming>;

/// Plain hyper, to measure wasmhost against.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0: any free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Worker threads [default: CPU cores].
    #[arg(long)]
    workers: Option<u16>,
    /// A listener a worker (SO_REUSEPORT) in the place of one acceptor.
    #[arg(long)]
    reuseport: bool,
    /// HTTP/2 with prior knowledge in the place of HTTP/1.1.
    #[arg(long)]
    http2: bool,
    /// Speak TLS with these certificates (PEM).
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The key of the first certificate (PEM).
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Threads beside the workers that only compute: what a looping guest is to wasmhost.
    #[arg(long, default_value_t = 0)]
    busy_threads: u16,
}

/// What connections speak.
#[derive(Clone)]
struct Protocol {
    is_http2: bool,
    tls: Option<TlsAcceptor>,
}

fn main() -> io::Result<()> {
    let args = Args::parse();
    let tls = args.tls_cert.as_deref().zip(args.tls_key.as_deref());
    let tls = tls.map(|(cert, key)| acceptor(cert, key, args.http2)).transpose()?;
    let protocol = Protocol { is_http2: args.http2, tls };
    let workers = args.workers.unwrap_or_else(|| u16::try_from(num_cpus::get()).unwrap_or(u16::MAX)).max(1);
    for number in 0..args.busy_threads {
        thread::Builder::new().name(format!("busy-{number}")).spawn(compute)?;
    }
    if args.reuseport {
        let (listeners, address) = bind_for_each(args.listen, workers).map_err(io::Error::other)?;
        listeners.iter().try_for_each(listen).map_err(io::Error::other)?;
        let threads = listeners
            .into_iter()
            .map(|listener| {
                let protocol = protocol.clone();
                spawn_worker(move || serve_own(listener, protocol))
            })
            .collect::<io::Result<Vec<_>>>()?;
        announce(&address)?;
        return threads
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked"))));
    }
    let listener = bind_tcp(args.listen, false)?;
    listener.set_nonblocking(false)?;
    let inboxes = (0..workers)
        .map(|_| {
            let (inbox, connections) = mpsc::channel(INBOX_MAX);
            let protocol = protocol.clone();
            spawn_worker(move || serve_inbox(connections, protocol)).map(|_| inbox)
        })
        .collect::<io::Result<Vec<_>>>()?;
    announce(&format!("http://{}", listener.local_addr()?))?;
    accept(&listener, &inboxes)
}

fn acceptor(cert: &Path, key: &Path, is_http2: bool) -> io::Result<TlsAcceptor> {
    let chain = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).map_err(io::Error::other)?;
    config.alpn_protocols = vec![if is_http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    config.ticketer = ring::Ticketer::new().map_err(io::Error::other)?;
    config.send_tls13_tickets = 2;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn announce(address: &dyn std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on {address}")?;
    out.flush()
}

fn compute() {
    loop {
        std::hint::spin_loop();
    }
}

/// Hands each connection to the next worker with room.
fn accept(listener: &TcpListener, inboxes: &[mpsc::Sender<TcpStream>]) -> io::Result<()> {
    let mut next = 0;
    loop {
        let mut connection: TcpStream =
            rustix::net::accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?.into();
        for _ in 0..inboxes.len() {
            next = (next + 1) % inboxes.len();
            match inboxes[next].try_send(connection) {
                Ok(()) => break,
                // All full: the last one's refusal drops the connection.
                Err(mpsc::error::TrySendError::Full(back) | mpsc::error::TrySendError::Closed(back)) => {
                    connection = back
                }
            }
        }
    }
}

fn spawn_worker<F: Future<Output = io::Result<()>>>(
    serve: impl FnOnce() -> F + Send + 'static,
) -> io::Result<thread::JoinHandle<io::Result<()>>> {
    thread::Builder::new().name("worker".to_owned()).spawn(|| {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        runtime.block_on(serve())
    })
}

async fn serve_inbox(mut connections: mpsc::Receiver<TcpStream>, protocol: Protocol) -> io::Result<()> {
    while let Some(stream) = connections.recv().await {
        serve_connection(tokio::net::TcpStream::from_std(stream)?, &protocol)?;
    }
    Ok(())
}

async fn serve_own(listener: TcpListener, protocol: Protocol) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        serve_connection(stream, &protocol)?;
    }
}

fn serve_connection(stream: tokio::net::TcpStream, protocol: &Protocol) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Protocol { is_http2, tls } = protocol.clone();
    tokio::task::spawn_local(async move {
        match tls {
            None => serve_http(stream, is_http2).await,
            Some(tls) => {
                if let Ok(stream) = tls.accept(stream).await {
                    serve_http(stream, is_http2).await;
                }
            }
        }
    });
    Ok(())
}

/// A client that leaves in the middle is its own affair.
async fn serve_http(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, is_http2: bool) {
    if is_http2 {
        let _ = http2::Builder::new(Tasks).serve_connection(TokioIo::new(stream), service_fn(answer)).await;
        return;
    }
    let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

/// Each stream has a task of its own.
#[derive(Clone)]
struct Tasks;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Tasks {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let response = match request.uri().path() {
        "/" => text("Hello, World!"),
        "/echo" => Response::new(Either::Right(request.into_body())),
        "/sleep" => {
            tokio::time::sleep(Duration::from_millis(milliseconds(request.uri().query()))).await;
            text("slept")
        }
        _ => {
            let mut response = text("not found");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    };
    Ok(response)
}

fn text(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from_static(text.as_bytes()))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// The parameter `ms`; 0 without one.
fn milliseconds(query: Option<&str>) -> u64 {
    let parameters = query.unwrap_or_default().split('&');
    parameters.filter_map(|pair| pair.strip_prefix("ms=")).find_map(|value| value.parse().ok()).unwrap_or(0)
}
