//! A collector of OpenTelemetry that keeps what it is sent, and an upstream that keeps the heads of its requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prost::Message as _;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};
use wasmhost_supervise::otlp::{ExportRequest, OtlpAttribute, OtlpSpanKind, OtlpValue, Span};

use super::CEILING;
use super::tls::Files;

/// What requests come over.
trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Got {
    /// `service.name` of its resource.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Got {
    /// The text or the number of an attribute.
    pub fn attribute(&self, name: &str) -> Option<String> {
        text_of(&self.span.attributes, name)
    }

    /// The number of its trace.
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    /// Its number.
    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    /// The number of the span that it is within; empty: it is within none.
    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// Whether it is of a request that was answered.
    pub fn is_server(&self) -> bool {
        self.span.kind() == OtlpSpanKind::Server
    }

    /// Whether it is of a request that was made.
    pub fn is_client(&self) -> bool {
        self.span.kind() == OtlpSpanKind::Client
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text_of(attributes: &[OtlpAttribute], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        OtlpValue::Text(text) => text.clone(),
        OtlpValue::Number(number) => number.to_string(),
    })
}

#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Got>>,
    heads: Mutex<Vec<String>>,
    /// The status of answers; 0: there are none.
    status: AtomicU16,
}

/// The collector. It lives as long as the process.
pub struct Collector {
    /// Where it listens.
    pub address: SocketAddr,
    kept: Arc<Kept>,
}

impl Collector {
    /// One that takes all.
    pub fn start() -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").expect("an address"))
    }

    /// One that takes all, here.
    pub fn at(listener: TcpListener) -> Self {
        Self::over(listener, None)
    }

    /// One that takes all over TLS, with this certificate.
    pub fn encrypted(files: &Files) -> Self {
        let chain = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
        let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
        let tls = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![chain], key).expect("TLS");
        Self::over(TcpListener::bind("127.0.0.1:0").expect("an address"), Some(Arc::new(tls)))
    }

    fn over(listener: TcpListener, tls: Option<Arc<ServerConfig>>) -> Self {
        let (address, kept) = (listener.local_addr().expect("an address"), Arc::<Kept>::default());
        kept.status.store(200, SeqCst);
        let keeper = Arc::clone(&kept);
        serve(listener, tls, move |stream| {
            while let Some((head, body)) = read_request(stream) {
                match keeper.status.load(SeqCst) {
                    200 => {
                        keeper.keep(&head, &body);
                        answer(stream, 200);
                    }
                    // It reads, and says nothing.
                    0 => {}
                    status => answer(stream, status),
                }
            }
        });
        Self { address, kept }
    }

    /// What `--otlp` says.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers with this status from now on; 0: with nothing.
    pub fn answers(&self, status: u16) {
        self.kept.status.store(status, SeqCst);
    }

    /// All spans so far.
    pub fn spans(&self) -> Vec<Got> {
        self.kept.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The heads of all messages that it took.
    pub fn heads(&self) -> Vec<String> {
        self.kept.heads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what it has is enough.
    #[track_caller]
    pub fn wait(&self, what: &str, is_enough: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let began = Instant::now();
        loop {
            let spans = self.spans();
            if is_enough(&spans) {
                return spans;
            }
            assert!(began.elapsed() < CEILING, "never came: {what}: {spans:#?}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits for the span of a request of this app with this path.
    #[track_caller]
    pub fn server_span(&self, service: &str, path: &str) -> Got {
        let is = |got: &&Got| {
            got.is_server() && got.service == service && got.attribute("url.path").as_deref() == Some(path)
        };
        let spans = self.wait(&format!("{service} {path}"), |spans| spans.iter().any(|got| is(&got)));
        spans.iter().find(is).cloned().expect("it is there")
    }
}

impl Kept {
    fn keep(&self, head: &str, body: &[u8]) {
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).push(head.to_owned());
        let message = ExportRequest::decode(body).expect("a message of OTLP");
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for of in message.resource_spans {
            let service = text_of(&of.resource.expect("a resource").attributes, "service.name").expect("a name");
            let scopes = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(scopes.map(|span| Got { service: service.clone(), span }));
        }
    }
}

/// An upstream that answers every request with `200`.
pub struct Upstream {
    /// Where it listens.
    pub address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Upstream {
    /// Begins to listen.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
        let (address, heads) = (listener.local_addr().expect("an address"), Arc::<Mutex<Vec<String>>>::default());
        let kept = Arc::clone(&heads);
        serve(listener, None, move |stream| {
            while let Some((head, _)) = read_request(stream) {
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(head);
                answer(stream, 200);
            }
        });
        Self { address, heads }
    }

    /// The values of a field in the last request.
    pub fn last(&self, field: &str) -> Vec<String> {
        let heads = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
        values(heads.last().expect("a request"), field)
    }
}

/// The values of a field in a head.
pub fn values(head: &str, field: &str) -> Vec<String> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case(field))
        .map(|(_, value)| value.trim().to_owned())
        .collect()
}

fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, each: impl Fn(&mut dyn Line) + Send + Sync + 'static) {
    let each = Arc::new(each);
    let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
    let run = move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (each, tls) = (Arc::clone(&each), tls.clone());
            let serve = move || match tls {
                None => each(&mut stream),
                Some(tls) => each(&mut StreamOwned::new(ServerConnection::new(tls).expect("TLS"), stream)),
            };
            thread("collector-connection").spawn(serve).expect("a thread");
        }
    };
    thread("collector").spawn(run).expect("a thread");
}

/// The head and the body of a request; none: the connection has ended.
fn read_request(stream: &mut dyn Line) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
            let length: usize =
                values(&head, "content-length").first().map_or(0, |length| length.parse().expect("a length"));
            while bytes.len() < end + 4 + length {
                let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
                bytes.extend_from_slice(&buffer[..read]);
            }
            return Some((head, bytes.split_off(end + 4)));
        }
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn answer(stream: &mut dyn Line, status: u16) {
    // The other side may have left.
    let _ = stream.write_all(format!("HTTP/1.1 {status} Status\r\ncontent-length: 0\r\n\r\n").as_bytes());
}
