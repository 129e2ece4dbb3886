//! A request that is made once more, as a guest has had it: on one end of a pair of sockets whose other end a worker serves as
//! it serves what other workers forward, so that its head says what the guest is to see of its client.

use std::io;
use std::os::unix::net::UnixStream as OwnStream;
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use wasmhost_config::AppId;

use super::forward::connections::{GREETED_WITHIN, greeted};
use super::forward::introduction::{FIELD, Introduction};
use super::forward::socket::HEAD_BYTES_MAX;
use super::schedule_fields::OUTCOME;
use crate::net::{Peer, TlsVersion};

/// Fields of the connection and of the body that a guest has had: this request has its own.
const OF_CONNECTION: [HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// A request that is made once more.
#[derive(Debug, Clone)]
pub struct ReplayedRequest {
    /// For which app.
    pub app: AppId,
    /// Its method.
    pub method: Method,
    /// Path and query, as the guest is to see them.
    pub target: http::uri::PathAndQuery,
    /// Whether the client spoke TLS.
    pub is_encrypted: bool,
    /// Host, and port; empty: as the host fills them in.
    pub authority: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedAnswer {
    /// The status of the response.
    pub status: u16,
    /// The size of its body, as far as it came.
    pub body_bytes: u64,
    /// Its body came to its end.
    pub is_whole: bool,
    /// What the host says that has answered in the guest's place: `refused`, or `fault` and its kind.
    pub by_host: Option<String>,
}

impl ReplayedRequest {
    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let introduction = Introduction {
            app: self.app,
            stripped: 0,
            // It is told when the host answers in the guest's place.
            client: Peer::Schedule,
            // What is there of such fields, the guest has seen.
            trusted: true,
            has_host: true,
            tls: self.is_encrypted.then_some(TlsVersion::V13),
            http: Version::HTTP_11,
            is_certified: true,
            depth: 0,
            is_decided: false,
        };
        let mut request = Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone().into();
        let mut headers = self.headers.clone();
        OF_CONNECTION.iter().for_each(|name| drop(headers.remove(name)));
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(FIELD, introduction.value()?);
        if !headers.contains_key(header::HOST) {
            let authority = if self.authority.is_empty() { "localhost" } else { &self.authority };
            headers.insert(header::HOST, HeaderValue::from_str(authority).ok()?);
        }
        *request.headers_mut() = headers;
        Some(request)
    }

    /// Makes it on this socket, whose other end a worker is given. Takes as long as the app's limits let it take.
    ///
    /// # Errors
    /// When the worker does not take it, or ends the connection before there is a response.
    pub async fn run(&self, socket: OwnStream) -> io::Result<ReplayedAnswer> {
        socket.set_nonblocking(true)?;
        let stream = UnixStream::from_std(socket)?;
        tokio::time::timeout(GREETED_WITHIN, greeted(&stream)).await.map_err(|_| io::ErrorKind::TimedOut)??;
        let request = self.request().ok_or(io::ErrorKind::InvalidInput)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(io::Error::other)?;
            let (head, mut body) = response.into_parts();
            let (mut body_bytes, mut is_whole) = (0_u64, true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => {
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        body_bytes = body_bytes.saturating_add(length as u64);
                    }
                    Err(_) => {
                        is_whole = false;
                        break;
                    }
                }
            }
            let by_host = head.headers.get(OUTCOME).map(|said| String::from_utf8_lossy(said.as_bytes()).into_owned());
            Ok(ReplayedAnswer { status: head.status.as_u16(), body_bytes, is_whole, by_host })
        };
        let driven = async {
            // What went wrong with it, the exchange tells.
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        let (mut exchange, mut driven) = (pin!(exchange), pin!(driven));
        loop {
            tokio::select! {
                biased;
                ended = &mut exchange => return ended,
                () = &mut driven => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_is_the_guests_without_the_fields_of_its_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-note", "a"), ("content-length", "9"), ("connection", "keep-alive"), ("forwarded", "for=b")]
        {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let request = ReplayedRequest {
            app: AppId(0),
            method: Method::PUT,
            target: "/a?b=c".parse().expect("a target"),
            is_encrypted: true,
            authority: "a.test:8443".to_owned(),
            headers,
            body: Bytes::from_static(b"abc"),
        };
        let made = request.request().expect("a request");
        assert_eq!((made.method(), made.uri().to_string()), (&Method::PUT, "/a?b=c".to_owned()));
        let field = |name: &str| made.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(
            (field("x-note"), field("forwarded"), field("host")),
            (Some("a"), Some("for=b"), Some("a.test:8443"))
        );
        assert_eq!((field("content-length"), field("connection")), (None, Some("close")));
        let said = made.headers().get(FIELD).and_then(Introduction::read).expect("an introduction");
        assert!(said.trusted && said.tls.is_some() && said.client == Peer::Schedule);
    }
}
