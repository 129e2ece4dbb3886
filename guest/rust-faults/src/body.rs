//! Verbs about bodies: taking the request's, sending one of a certain shape.

use std::fs;
use std::time::Duration;

use verbs::{Headers, Reply, body_size, chunk};
use wasip2::http::types::{Fields, IncomingRequest, ResponseOutparam};

use crate::request::{self, BodyReader};
use crate::response::{self, BodySender, PIECE_BYTES};
use crate::wait;

/// The request's body back as it comes, then its trailers. What breaks on the way in breaks off the way out.
pub fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let mut headers = request::fields(request, "content-type");
    headers.extend(request::fields(request, "trailer")); // or HTTP/1.1 would leave the trailers out
    let reader = BodyReader::of(request);
    let sender = BodySender::start(out, response::head(200, &headers).unwrap());
    if sender.copy(&reader.stream).is_ok()
        && let Ok(trailers) = reader.trailers()
    {
        sender.finish(trailers);
    }
}

/// How many bytes came, and which trailers.
pub fn size(request: &IncomingRequest) -> Reply {
    let reader = BodyReader::of(request);
    let mut bytes = 0;
    if let Err(error) = reader.for_each(|piece| bytes += piece.len() as u64) {
        return Reply::text(500, format!("error: {error:?}"));
    }
    match reader.trailers() {
        Ok(trailers) => {
            let fields = trailers.map(|trailers| trailers.entries()).unwrap_or_default();
            Reply::text(200, body_size(bytes, &fields))
        }
        Err(error) => Reply::text(500, format!("error: {error:?}")),
    }
}

/// The request's body into a file; it is held whole in memory meanwhile.
pub fn to_file(request: &IncomingRequest, path: &str) -> Reply {
    let mut content = Vec::new();
    if let Err(error) = BodyReader::of(request).for_each(|piece| content.extend(piece)) {
        return Reply::text(500, format!("error: {error:?}"));
    }
    match fs::write(path, content) {
        Ok(()) => Reply::text(200, "written"),
        Err(error) => Reply::text(403, error.to_string()),
    }
}

/// Chunks with a pause between them, until the client leaves.
pub fn stream(out: ResponseOutparam, chunks: u64, bytes: usize, (pause, waits): (Duration, u32)) {
    let sender = start_text(out, Headers::new());
    for index in 0..chunks {
        if index > 0 {
            (0..waits).for_each(|_| wait::time(pause / waits));
        }
        if sender.write(&chunk(index, bytes)).and_then(|()| sender.flush()).is_err() {
            return;
        }
    }
    sender.finish(None);
}

/// So many bytes, whatever `content-length` says; the host's complaint is passed over.
pub fn of_length(out: ResponseOutparam, declared: u64, actual: u64) {
    let sender = start_text(out, vec![("content-length".into(), declared.to_string().into())]);
    let piece = chunk(0, PIECE_BYTES);
    let mut left = actual;
    while left > 0 {
        let bytes = left.min(PIECE_BYTES as u64);
        if sender.write(&piece[..bytes as usize]).is_err() {
            break;
        }
        left -= bytes;
    }
    sender.finish(None);
}

/// A body with trailers, which HTTP/1.1 wants to be announced.
pub fn with_trailers(out: ResponseOutparam) {
    let sender = start_text(out, vec![("trailer".into(), b"x-checksum".to_vec())]);
    if sender.write(b"body").is_ok() {
        let trailers = Fields::from_list(&[("x-checksum".into(), b"1234".to_vec())]).unwrap();
        sender.finish(Some(trailers));
    }
}

fn start_text(out: ResponseOutparam, more: Headers) -> BodySender {
    let mut headers = vec![("content-type".into(), b"text/plain".to_vec())];
    headers.extend(more);
    BodySender::start(out, response::head(200, &headers).unwrap())
}
