//! Verbs about bodies: taking the request's, sending one of a certain shape.

use std::fs;
use std::time::Duration;

use verbs::{Headers, Reply, body_size, chunk};
use wasip3::http::types::{Fields, Request, Response};
use wasip3::spawn_local;

use crate::request;
use crate::response::{self, BodySender, PIECE_BYTES};
use crate::wait;

/// The request's body back as it comes, then its trailers: the host moves it, and no byte passes through here.
pub fn echo(request: Request) -> Response {
    let mut headers = request::fields(&request, "content-type");
    headers.extend(request::fields(&request, "trailer")); // or HTTP/1.1 would leave the trailers out
    let (body, end) = request::consume(request);
    response::new(200, &headers, Some(body), end).unwrap()
}

/// How many bytes came, and which trailers.
pub async fn size(request: Request) -> Reply {
    let (body, end) = request::consume(request);
    let mut bytes = 0;
    request::for_each(body, |piece| bytes += piece.len() as u64).await;
    match end.await {
        Ok(trailers) => {
            let fields = trailers.map(|trailers| trailers.copy_all()).unwrap_or_default();
            Reply::text(200, body_size(bytes, &fields))
        }
        Err(error) => Reply::text(500, format!("error: {error:?}")),
    }
}

/// The request's body into a file; it is held whole in memory meanwhile.
pub async fn to_file(request: Request, path: &str) -> Reply {
    let (body, end) = request::consume(request);
    let mut content = Vec::new();
    request::for_each(body, |piece| content.extend_from_slice(piece)).await;
    if let Err(error) = end.await {
        return Reply::text(500, format!("error: {error:?}"));
    }
    match fs::write(path, content) {
        Ok(()) => Reply::text(200, "written"),
        Err(error) => Reply::text(403, error.to_string()),
    }
}

/// Chunks with a pause between them, until the client leaves.
pub fn stream(chunks: u64, bytes: usize, (pause, waits): (Duration, u32)) -> Response {
    let (response, mut sender) = start_text(Headers::new());
    spawn_local(async move {
        for index in 0..chunks {
            for _ in 0..if index > 0 { waits } else { 0 } {
                wait::time(pause / waits).await;
            }
            if sender.write(chunk(index, bytes)).await.is_err() {
                break;
            }
        }
        sender.finish(Ok(None)).await;
    });
    response
}

/// A whole response, and work that goes on after it.
pub fn linger(time: Duration) -> Response {
    let (response, mut sender) = start_text(Headers::new());
    spawn_local(async move {
        sender.write(b"done".to_vec()).await.ok();
        sender.finish(Ok(None)).await;
        wait::time(time).await;
        eprintln!("lingered");
    });
    response
}

/// A whole response, and then this.
pub fn then(rest: impl FnOnce() + 'static) -> Response {
    let (response, mut sender) = start_text(Headers::new());
    spawn_local(async move {
        sender.write(b"whole".to_vec()).await.ok();
        sender.finish(Ok(None)).await;
        rest();
    });
    response
}

/// So many bytes, whatever `content-length` says; the host's complaint is passed over.
pub fn of_length(declared: u64, actual: u64) -> Response {
    let (response, mut sender) = start_text(vec![("content-length".into(), declared.to_string().into())]);
    spawn_local(async move {
        let mut left = actual;
        while left > 0 {
            let bytes = left.min(PIECE_BYTES as u64);
            if sender.write(chunk(0, bytes as usize)).await.is_err() {
                break;
            }
            left -= bytes;
        }
        sender.finish(Ok(None)).await;
    });
    response
}

/// A body with trailers, which HTTP/1.1 wants to be announced.
pub fn with_trailers() -> Response {
    let (response, mut sender) = start_text(vec![("trailer".into(), b"x-checksum".to_vec())]);
    spawn_local(async move {
        sender.write(b"body".to_vec()).await.ok();
        let trailers = Fields::from_list(&[("x-checksum".into(), b"1234".to_vec())]).unwrap();
        sender.finish(Ok(Some(trailers))).await;
    });
    response
}

fn start_text(more: Headers) -> (Response, BodySender) {
    let mut headers = vec![("content-type".into(), b"text/plain".to_vec())];
    headers.extend(more);
    response::start(200, &headers).unwrap()
}
