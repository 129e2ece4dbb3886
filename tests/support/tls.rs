//! Certificates of the tests' own, and clients that speak TLS.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair, PublicKeyData,
};
use time::{Duration as Span, OffsetDateTime};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion, version,
};

use super::{CEILING, Response};

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, in files.
#[derive(Debug, Clone)]
pub struct Files {
    /// The chain.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Files {
    /// The two as flags.
    pub fn flags(&self) -> [String; 4] {
        let text = |path: &Path| path.display().to_string();
        ["--tls-cert".to_owned(), text(&self.cert), "--tls-key".to_owned(), text(&self.key)]
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("a certificate"))
    }

    /// Its certificate in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate with these parameters for this key; in PEM.
    pub fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> String {
        params.signed_by(key, &self.0).expect("a certificate").pem()
    }

    /// A certificate for these servers, valid for so many days from now, as `NAME.pem` and `NAME.key` in a folder.
    pub fn server(&self, folder: &Path, name: &str, servers: &[&str], days: i64) -> Files {
        let names: Vec<String> = servers.iter().map(|server| (*server).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Span::days(400);
        params.not_after = now + Span::days(days) + Span::hours(if days < 0 { -1 } else { 1 });
        self.write(folder, name, params)
    }

    /// A certificate for a client with this name.
    pub fn client(&self, folder: &Path, name: &str, common: &str) -> Files {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Tests");
        params.distinguished_name.push(DnType::CommonName, common);
        self.write(folder, name, params)
    }

    fn write(&self, folder: &Path, name: &str, params: CertificateParams) -> Files {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let files = Files { cert: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        fs::write(&files.cert, certificate.pem()).expect("a file");
        fs::write(&files.key, key.serialize_pem()).expect("a file");
        files
    }

    /// How a client speaks that trusts this authority; `client`: with this certificate.
    pub fn trusted(&self, versions: &[&'static SupportedProtocolVersion], client: Option<&Files>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        Arc::new(match client {
            None => builder.with_no_client_auth(),
            Some(files) => {
                use tokio_rustls::rustls::pki_types::pem::PemObject;
                let chain = CertificateDer::from_pem_file(&files.cert).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
                builder.with_client_auth_cert(vec![chain], key).expect("a certificate with its key")
            }
        })
    }
}

/// Both versions.
pub const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS12, &version::TLS13];

/// A connection that speaks TLS.
pub struct TlsClient {
    /// What is read and written.
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl TlsClient {
    /// Connects, and shakes hands with a server of this name.
    ///
    /// # Errors
    /// What went wrong with the handshake.
    pub fn open(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        Self::open_behind(address, config, name, b"")
    }

    /// [`Self::open`], with these bytes before TLS.
    ///
    /// # Errors
    /// What went wrong with the handshake.
    pub fn open_behind(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        name: &str,
        before: &[u8],
    ) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect_timeout(&address, CEILING)?;
        socket.write_all(before)?;
        socket.set_read_timeout(Some(CEILING))?;
        socket.set_write_timeout(Some(CEILING))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The names of the server's certificate, as text of its bytes.
    pub fn certificate(&self) -> Vec<u8> {
        let certificates = self.stream.conn.peer_certificates().unwrap_or_default();
        certificates.first().map(|certificate| certificate.to_vec()).unwrap_or_default()
    }

    /// Whether an earlier session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Sends a GET and reads its answer.
    ///
    /// # Errors
    /// What the connection says.
    pub fn get(&mut self, path: &str, fields: &str) -> std::io::Result<Response> {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n").as_bytes())
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// What the connection says.
    pub fn ask(&mut self, bytes: &[u8]) -> std::io::Result<Response> {
        self.stream.write_all(bytes)?;
        self.stream.flush()?;
        self.response()
    }

    /// Reads an answer whose length is declared.
    ///
    /// # Errors
    /// What the connection says.
    pub fn response(&mut self) -> std::io::Result<Response> {
        let mut part = [0; 16 * 1024];
        loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                let mut lines = head.split("\r\n");
                let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
                let headers: Vec<(String, String)> = lines
                    .filter_map(|line| line.split_once(": "))
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                    .collect();
                let length = headers.iter().find(|(name, _)| name == "content-length");
                let length: usize = length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0);
                if self.buffer.len() >= end + 4 + length {
                    let body = self.buffer[end + 4..end + 4 + length].to_vec();
                    self.buffer.drain(..end + 4 + length);
                    let status = status.ok_or(std::io::ErrorKind::InvalidData)?;
                    return Ok(Response { status, headers, body, trailers: Vec::new(), whole: true });
                }
            }
            match self.stream.read(&mut part)? {
                0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend_from_slice(&part[..read]),
            }
        }
    }
}
