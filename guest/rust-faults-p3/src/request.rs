//! The incoming request: its head, its body, its trailers.

use verbs::{Headers, RequestHead};
use wasip3::http::types::{Method, Request, Scheme};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult};
use wasip3::wit_future;

use crate::response::{End, PIECE_BYTES};

/// The fields of this name, in order.
pub fn fields(request: &Request, name: &str) -> Headers {
    request.get_headers().get(name).into_iter().map(|value| (name.into(), value)).collect()
}

/// The body, and how it will have ended.
pub fn consume(request: Request) -> (StreamReader<u8>, FutureReader<End>) {
    let (_, taken) = wit_future::new(|| Ok(())); // the guest has no complaint of the body
    Request::consume_body(request, taken)
}

/// Calls `take` with each piece, to the end.
pub async fn for_each(mut body: StreamReader<u8>, mut take: impl FnMut(&[u8])) {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    loop {
        let (result, read) = body.read(piece).await;
        take(&read);
        if result == StreamResult::Dropped {
            return;
        }
        piece = read;
        piece.clear();
    }
}

/// The whole head as text.
pub fn describe(request: &Request) -> String {
    let head = RequestHead {
        method: method_name(request.get_method()),
        scheme: request.get_scheme().map(scheme_name),
        authority: request.get_authority(),
        path_with_query: request.get_path_with_query(),
        headers: request.get_headers().copy_all(),
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
