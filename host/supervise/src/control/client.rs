//! The side of who asks a host that runs: which hosts there are, and a request and its answer.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use wasmhost_config::control::{directories, name_of, owner_of_sockets};

use crate::admin::ADMIN_ADDRESS;

/// Largest answer: the status of a thousand apps.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Longest line.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Sockets in one directory that are looked at.
const HOSTS_MAX: usize = 1_000;

/// A host that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundHost {
    /// What commands call it.
    pub name: String,
    /// Its socket.
    pub socket: PathBuf,
    /// Whose process must be at its other end; none: whoever is there, since the socket itself was named.
    pub owner: Option<u32>,
}

/// Why a host was not asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens on the socket.
    #[error("no host listens on `{0}`")]
    Gone(PathBuf),
    /// This user may not.
    #[error("the socket `{0}` is another user's")]
    Forbidden(PathBuf),
    /// Somebody else has taken the place of a host.
    #[error("behind the socket `{0}` is a process of another user")]
    Foreign(PathBuf),
    /// A host answers there, but not to commands.
    #[error("`{0}` is the admin address of a host, and no control socket")]
    Admin(PathBuf),
    /// It was asked and did not answer as it should.
    #[error("the host behind `{0}` gave no answer: {1}")]
    NoAnswer(PathBuf, String),
}

/// An answer of a host.
#[derive(Debug)]
pub struct ControlAnswer {
    /// Of HTTP.
    pub status: StatusCode,
    /// JSON, or a sentence.
    pub body: Bytes,
}

/// The hosts of this user whose sockets are found, by name. Some may have ended without removing theirs.
pub fn hosts() -> Vec<FoundHost> {
    let mut found = Vec::new();
    let uid = rustix::process::geteuid().as_raw();
    for directory in directories(uid) {
        let Some(owner) = owner_of_sockets(&directory, uid) else { continue };
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        for entry in entries.flatten().take(HOSTS_MAX) {
            let socket = entry.path();
            if let Some(name) = name_of(&socket) {
                found.push(FoundHost { name: name.to_owned(), socket, owner: Some(owner) });
            }
        }
    }
    found.sort_by(|one, other| (&one.name, &one.socket).cmp(&(&other.name, &other.socket)));
    found.dedup();
    found
}

/// Asks a host. Blocks, for `patience` at most. It needs no event loop.
///
/// # Errors
/// When there is none, or it gives no answer in time.
pub fn ask(host: &FoundHost, method: Method, path: &str, patience: Duration) -> Result<ControlAnswer, ControlError> {
    let socket = host.socket.as_path();
    let no_answer = |error: &dyn std::fmt::Display| ControlError::NoAnswer(socket.to_owned(), error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| no_answer(&error))?;
    runtime.block_on(async {
        let asked = tokio::time::timeout(patience, exchange(host, method, path));
        match asked.await {
            Ok(answer) => answer,
            Err(_) => Err(no_answer(&format!("not within {} s", patience.as_secs()))),
        }
    })
}

/// Asks a host for lines, and passes on each as it comes, until the host ends them or `take` wants no more. Blocks: the first may
/// take `patience`, and others whatever they take. Needs no event loop.
///
/// # Errors
/// When there is no host, it gives no answer in time, or breaks off.
pub fn follow(
    host: &FoundHost,
    path: &str,
    patience: Duration,
    mut take: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<ControlAnswer, ControlError> {
    let socket = host.socket.as_path();
    let no_answer = |error: &dyn std::fmt::Display| ControlError::NoAnswer(socket.to_owned(), error.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| no_answer(&error))?;
    runtime.block_on(async {
        let begun = tokio::time::timeout(patience, begin(host, Method::GET, path)).await;
        let response = begun.map_err(|_| no_answer(&format!("not within {} s", patience.as_secs())))??;
        let (status, mut body) = (response.status(), response.into_body());
        let mut line = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| no_answer(&error))?;
            for part in frame.data_ref().map_or(&[][..], |data| data).split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if status != StatusCode::OK || !line.ends_with(b"\n") {
                    if line.len() > LINE_BYTES_MAX {
                        return Err(no_answer(&"a line is too long"));
                    }
                    continue;
                }
                if take(&std::mem::take(&mut line)).is_break() {
                    return Ok(ControlAnswer { status, body: Bytes::new() });
                }
            }
        }
        Ok(ControlAnswer { status, body: line.into() })
    })
}

async fn exchange(host: &FoundHost, method: Method, path: &str) -> Result<ControlAnswer, ControlError> {
    let response = begin(host, method, path).await?;
    Ok(ControlAnswer { status: response.status(), body: body_of(host, response).await? })
}

/// The body of an answer.
pub(crate) async fn body_of(host: &FoundHost, response: Response<Incoming>) -> Result<Bytes, ControlError> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
    let body = body.map_err(|error| ControlError::NoAnswer(host.socket.clone(), error.to_string()))?;
    Ok(body.to_bytes())
}

/// Connects, asks, and waits for the head of the answer.
async fn begin(host: &FoundHost, method: Method, path: &str) -> Result<Response<Incoming>, ControlError> {
    send(host, Request::builder().method(method).uri(path)).await
}

/// The same for a connection that is to go on with another protocol (RFC 9110, section 7.8).
pub(crate) async fn begin_upgrade(
    host: &FoundHost,
    method: Method,
    path: &str,
    protocol: &str,
) -> Result<Response<Incoming>, ControlError> {
    let request = Request::builder().method(method).uri(path);
    send(host, request.header(header::CONNECTION, "upgrade").header(header::UPGRADE, protocol)).await
}

async fn send(host: &FoundHost, request: request::Builder) -> Result<Response<Incoming>, ControlError> {
    let socket = host.socket.as_path();
    let stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::Gone(socket.to_owned()),
        io::ErrorKind::PermissionDenied => ControlError::Forbidden(socket.to_owned()),
        _ => ControlError::NoAnswer(socket.to_owned(), error.to_string()),
    })?;
    if let Some(owner) = host.owner {
        let there = stream.peer_cred().map_err(|error| ControlError::NoAnswer(socket.to_owned(), error.to_string()))?;
        if there.uid() != owner && there.uid() != 0 {
            return Err(ControlError::Foreign(socket.to_owned()));
        }
    }
    let answer = async {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer, or breaks, which the answer tells.
        tokio::spawn(connection.with_upgrades());
        let request = request.header(header::HOST, "wasmhost").body(Empty::<Bytes>::new())?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sender.send_request(request).await?)
    };
    let answer = answer.await.map_err(|error| ControlError::NoAnswer(socket.to_owned(), error.to_string()))?;
    if answer.headers().contains_key(ADMIN_ADDRESS) { Err(ControlError::Admin(socket.to_owned())) } else { Ok(answer) }
}
