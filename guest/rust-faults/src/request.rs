//! The incoming request: its head, its body, its trailers.

use verbs::{Headers, RequestHead};
use wasip2::http::types::{ErrorCode, IncomingBody, IncomingRequest, Method, Scheme, Trailers};
use wasip2::io::streams::{InputStream, StreamError};

use crate::response::PIECE_BYTES;

/// The fields of this name, in order.
pub fn fields(request: &IncomingRequest, name: &str) -> Headers {
    request.headers().get(name).into_iter().map(|value| (name.into(), value)).collect()
}

/// The whole head as text.
pub fn describe(request: &IncomingRequest) -> String {
    let head = RequestHead {
        method: method_name(request.method()),
        scheme: request.scheme().map(scheme_name),
        authority: request.authority(),
        path_with_query: request.path_with_query(),
        headers: request.headers().entries(),
    };
    head.to_text()
}

fn method_name(method: Method) -> String {
    let name = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => return name,
    };
    name.into()
}

fn scheme_name(scheme: Scheme) -> String {
    match scheme {
        Scheme::Http => "http".into(),
        Scheme::Https => "https".into(),
        Scheme::Other(name) => name,
    }
}

/// A request's body under way.
pub struct BodyReader {
    // In this order: a stream goes before the body it belongs to.
    pub stream: InputStream,
    body: IncomingBody,
}

impl BodyReader {
    pub fn new(body: IncomingBody) -> Self {
        Self { stream: body.stream().unwrap(), body }
    }

    pub fn of(request: &IncomingRequest) -> Self {
        Self::new(request.consume().unwrap())
    }

    /// Calls `take` with each piece, to the end.
    pub fn for_each(&self, mut take: impl FnMut(Vec<u8>)) -> Result<(), StreamError> {
        loop {
            match self.stream.blocking_read(PIECE_BYTES as u64) {
                Ok(piece) => take(piece),
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The trailers, once the body was read to its end.
    pub fn trailers(self) -> Result<Option<Trailers>, ErrorCode> {
        let Self { stream, body } = self;
        drop(stream);
        let trailers = IncomingBody::finish(body);
        trailers.subscribe().block();
        trailers.get().expect("the pollable said so").expect("asked for once")
    }
}
