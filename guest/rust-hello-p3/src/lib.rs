//! The smallest guest for wasi 0.3: every request gets "Hello, World!".
//!
//! Copy this folder to start a guest of your own. The body is written by a task of its own, since the host
//! reads it only after `handle` has returned the response.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Hello;

impl Guest for Hello {
    async fn handle(_request: Request) -> Result<Response, ErrorCode> {
        let headers = Fields::new();
        headers.append("content-type", b"text/plain").unwrap();
        let (mut body, body_reader) = wit_stream::new();
        let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
        let (response, _sent) = Response::new(headers, Some(body_reader), trailers_reader);
        spawn_local(async move {
            body.write_all(b"Hello, World!".to_vec()).await;
            drop(body); // the end of the body
            drop(trailers); // the default of above: no trailers
        });
        Ok(response)
    }
}

wasip3::http::service::export!(Hello);
