//! A connection to a server: TCP, TLS, user and database, and whether the server is one that takes changes. Whoever connects bounds
//! the time.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wasmhost_base::redis_address::RedisAddress;

use super::refusal::refusal;
use crate::error::StoreError;

/// What moves the bytes of a connection; it ends with the connection.
pub(super) type ConnectionDriver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait ServerStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ServerStream for T {}

/// How a server is connected to.
pub(super) struct ServerDoor {
    address: RedisAddress,
    login: RedisConnectionInfo,
    tls: Option<Arc<ClientConfig>>,
    /// Questions that may wait in a connection to be written.
    questions_max: usize,
}

impl ServerDoor {
    /// To this server, with this password. Its certificate is checked with the roots of `ca_pem`, or with Mozilla's.
    ///
    /// # Errors
    /// When `ca_pem` has no certificate that can be a root.
    pub(super) fn new(
        address: RedisAddress,
        password: Option<&str>,
        ca_pem: Option<&str>,
        questions_max: usize,
    ) -> Result<Self, String> {
        let mut login = RedisConnectionInfo::default().set_db(i64::from(address.database)).set_skip_set_lib_name();
        if let Some(user) = &address.user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        let tls = if address.tls { Some(tls_config(ca_pem)?) } else { None };
        Ok(Self { address, login, tls, questions_max })
    }

    pub(super) fn address(&self) -> &RedisAddress {
        &self.address
    }

    /// Connects. The connection can be used while the driver is polled.
    ///
    /// # Errors
    /// `Refused` when the server cannot be reached, does not let us in, or takes no changes.
    pub(super) async fn connect(&self) -> Result<(MultiplexedConnection, ConnectionDriver), StoreError> {
        let failed = |what: &str, error: io::Error| StoreError::Refused { reason: format!("{what}: {error}") };
        let stream = self.stream().await.map_err(|error| failed("it cannot be reached", error))?;
        let config =
            AsyncConnectionConfig::new().set_response_timeout(None).set_pipeline_buffer_size(self.questions_max);
        let connected = MultiplexedConnection::new_with_config(&self.login, stream, config).await;
        let (mut connection, driver) = connected.map_err(|error| login_refused(&error))?;
        let mut driver: ConnectionDriver = Box::pin(driver);
        tokio::select! {
            checked = check(&mut connection) => checked?,
            () = &mut driver => return Err(failed("it cannot be reached", io::ErrorKind::ConnectionReset.into())),
        }
        Ok((connection, driver))
    }

    async fn stream(&self) -> io::Result<Box<dyn ServerStream>> {
        let stream = TcpStream::connect((&*self.address.host, self.address.port)).await?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.address.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
    }
}

fn tls_config(ca_pem: Option<&str>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match ca_pem {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|error| error.to_string())?;
                roots.add(certificate).map_err(|error| error.to_string())?;
            }
            if roots.is_empty() {
                return Err("it has no certificate in PEM".to_owned());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether the server takes changes. One whose access lists do not let us ask is found out by the first change.
async fn check(connection: &mut MultiplexedConnection) -> Result<(), StoreError> {
    // It would be refused while the server reads its data.
    let _: Value = ask(connection, &redis::cmd("PING")).await?;
    match redis::cmd("ROLE").query_async(connection).await {
        Ok(Value::Array(parts)) if parts.first() == Some(&Value::BulkString(b"slave".to_vec())) => {
            return Err(StoreError::Refused { reason: "it is a replica, which takes no changes".to_owned() });
        }
        _ => {}
    }
    let memory = redis::cmd("INFO").arg("memory").query_async::<String>(connection).await.unwrap_or_default();
    let policy = memory.lines().find_map(|line| line.strip_prefix("maxmemory_policy:"));
    if let Some(policy) = policy.filter(|policy| policy.starts_with("allkeys")) {
        tracing::warn!(
            policy = policy.trim_end(),
            "stores: when its memory is full, the server of a store will throw away parts of the store; hint: set its \
             maxmemory-policy to noeviction"
        );
    }
    Ok(())
}

async fn ask(connection: &mut MultiplexedConnection, command: &redis::Cmd) -> Result<Value, StoreError> {
    command.query_async(connection).await.map_err(|error| login_refused(&error))
}

/// An error before anything was asked of a store.
fn login_refused(error: &RedisError) -> StoreError {
    match refusal(error, false).told {
        StoreError::Refused { reason } => StoreError::Refused { reason },
        // The text of an error of the server has nothing that we sent.
        _ => StoreError::Refused { reason: format!("it cannot be used: {error}") },
    }
}
